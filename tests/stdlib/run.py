"""Runs CPython's own suite against manyhands, with every start method, and says what failed.

    run.py path/to/conformance.py [--suite S] [--method M] [-k PATTERN ...]

The runner reads the suite that is installed with this Python. `expected.txt`, for executors `expected-futures.txt`,
lists the failures that are known and why; anything else that fails is run once more by itself, as CPython's own test runs do (`--rerun`), and fails
here if it fails again. What passed at the second try only is named.
A Python without an installed test package (many distributions leave it out) is told so and passes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# The runner limits every class and every test; this is for the runner itself, in seconds.
LIMIT = 1500
SUITES = ["multiprocessing", "main_handling", "futures"]
EXECUTOR = "manyhands:ProcessPoolExecutor"
# What the runner calls a test that is to be counted as a failure.
BAD = {"fail", "error", "hung", "crashed", "notrun", "xpass"}


def runs(runner: Path, suite: str, arguments: list[str]) -> tuple[int, list[str]]:
    """Calls the runner; returns its exit status and the tests that failed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        expected = HERE / ("expected-futures.txt" if suite == "futures" else "expected.txt")
        command = [sys.executable, str(runner), "--package", "manyhands", "--expected", str(expected)]
        command += ["--suite", suite, *(["--executor", EXECUTOR] if suite == "futures" else [])]
        status = subprocess.run([*command, "--json", str(report), *arguments], timeout=LIMIT).returncode
        tests = json.loads(report.read_text())["tests"] if report.exists() else {}
    return status, [name for name, test in tests.items() if test["counted"] in BAD]


def main() -> int:
    """Runs the suites and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runner", type=Path)
    parser.add_argument("--suite", action="append", choices=SUITES)
    parser.add_argument("--method", default="all")
    parser.add_argument("-k", action="append", default=[], metavar="PATTERN")
    options = parser.parse_args()
    if importlib.util.find_spec("test") is None or importlib.util.find_spec("test._test_multiprocessing") is None:
        print(f"{sys.executable} has no installed test package: CPython's suite is not run")
        return 0
    at_a_time = ["-j", str(min(2, os.cpu_count() or 1))]
    chosen = [word for pattern in options.k for word in ("-k", pattern)]
    worst = 0
    for suite in options.suite or SUITES:
        part = ["--method", options.method]
        status, failed = runs(options.runner, suite, [*part, *at_a_time, *chosen])
        if status and failed:
            print(f"once more, one after the other: {', '.join(failed)}", flush=True)
            status, again = runs(options.runner, suite, [*part, *(word for name in failed for word in ("-k", name))])
            for name in sorted(set(failed) - set(again)):
                print(f"passed at the second try only: {name}", flush=True)
        worst = max(worst, status)
    return worst


if __name__ == "__main__":
    sys.exit(main())
