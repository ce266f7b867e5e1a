"""Runs CPython's own suite against manyhands, on the classes that apply so far, and says what failed.

    run.py path/to/conformance.py [--full]

The runner reads the suite that is installed with this Python. `classes.txt` lists the classes that
apply, `expected.txt` the failures that are known and why; anything else that fails fails here.
A Python without an installed test package (many distributions leave it out) is told so and passes.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def words(path: Path) -> list[str]:
    """The lines of a list, without comments."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def main() -> int:
    """Runs the suite and returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runner", type=Path)
    parser.add_argument("--full", action="store_true", help="all classes, also those that do not apply yet")
    parser.add_argument("--method", default="all")
    options = parser.parse_args()
    if importlib.util.find_spec("test") is None or importlib.util.find_spec("test._test_multiprocessing") is None:
        print(f"{sys.executable} has no installed test package: CPython's suite is not run")
        return 0
    command = [sys.executable, str(options.runner), "--package", "manyhands", "--method", options.method]
    command += ["-j", str(min(2, os.cpu_count() or 1)), "--expected", str(HERE / "expected.txt")]
    if not options.full:
        for name in words(HERE / "classes.txt"):
            command += ["-k", name]
    # The runner limits every class and every test; this is for the runner itself.
    return subprocess.run(command, timeout=1500).returncode


if __name__ == "__main__":
    sys.exit(main())
