"""How CPython's suite is run: what fails twice fails, what passes at the second try is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parents[1] / "stdlib" / "run.py"
# Stands for the runner: "flaky" fails the first time, "broken" always, as long as they are chosen.
RUNNER = """
import argparse, json, pathlib, sys
parser = argparse.ArgumentParser()
for name in ("package", "expected", "json", "suite", "method"):
    parser.add_argument("--" + name)
parser.add_argument("-j")
parser.add_argument("-k", action="append")
options = parser.parse_args()
seen = pathlib.Path(__file__).with_name("seen")
outcome = {"good": "pass", "flaky": "pass" if seen.exists() else "hung", "broken": "error"}
seen.touch()
tests = {name: {"counted": outcome[name]} for name in options.k or outcome}
pathlib.Path(options.json).write_text(json.dumps({"tests": tests}))
sys.exit(any(test["counted"] != "pass" for test in tests.values()))
"""


def run(folder: Path, *names: str) -> tuple[int, str]:
    runner = folder / "runner.py"
    runner.write_text(RUNNER)
    chosen = [word for name in names for word in ("-k", name)]
    command = [sys.executable, str(RUN), str(runner), "--suite", "multiprocessing", *chosen]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    return done.returncode, done.stdout


def test_what_fails_twice_fails(tmp_path: Path) -> None:
    status, said = run(tmp_path)
    assert status == 1
    assert "once more, one after the other: flaky, broken" in said
    assert "passed at the second try only: flaky" in said


def test_what_passes_at_the_second_try_is_named(tmp_path: Path) -> None:
    assert run(tmp_path, "good", "flaky") == (
        0,
        "once more, one after the other: flaky\npassed at the second try only: flaky\n",
    )


def test_what_passes_is_run_once(tmp_path: Path) -> None:
    assert run(tmp_path, "good") == (0, "")
