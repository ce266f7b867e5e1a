"""The Python examples run, and those that answer questions 3, 5 and 6 print what the seeds' programs print.

The Rust examples are tested by `examples/rust/tests`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
# Of each question: the lines, and whether these are all of them. Numbers that differ from run to run are N.
EXPECTED: dict[str, tuple[list[str], bool]] = {
    "q1_what_and_why": (["a worker is a process of its own: true"], False),
    "q2_threads_or_processes": (["after a thread added 1, the counter here is 1"], False),
    "q3_process": (
        [
            "Process 1",
            "This is a child process running.",
            "Main process finished.",
            "Process ID: N, Number: 42",
            "Worker process is running.",
        ],
        True,
    ),
    "q4_what_a_pool_is": ([], False),
    "q5_pool": (
        [
            "Squares: [1, 4, 9, 16, 25]",
            "Result: [1, 4, 9, 16, 25]",
            "[1, 4, 9, 16, 25]",
            "[1, 4, 9, 16, 25]",
        ],
        True,
    ),
    "q6_four_processes": (
        [
            *(f"Process {n} says: {n}" for n in range(4)),
            *(f"Process printing number: {n}" for n in range(1, 5)),
            "All processes finished.",
            *(f"Process ID: N, Number: {n}" for n in range(1, 5)),
            *(f"Process {n}: Printing number {n}" for n in range(1, 5)),
            "All processes have finished.",
            *(str(n) for n in range(4)),
        ],
        True,
    ),
}
ALSO = {
    "q2_threads_or_processes": [
        "after a process added 1 to its own, the counter here still is 1",
        "and so does the pool, with a new worker: 42",
    ],
}


@pytest.mark.parametrize("question", EXPECTED)
def test_example_prints_what_it_promises(question: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / "python" / f"{question}.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    lines = [re.sub(r"(?<=Process ID: )\d+", "N", line) for line in done.stdout.splitlines()]
    expected, all_of_them = EXPECTED[question]
    if all_of_them:
        assert sorted(lines) == sorted(expected)
    else:
        assert not set(expected + ALSO.get(question, [])) - set(lines)
    if question == "q6_four_processes":
        # Groups do not mix: each is waited for before the next begins.
        numbers = [i for i, line in enumerate(lines) if line.startswith("Process printing")]
        assert max(numbers) < lines.index("All processes finished.") < lines.index("All processes have finished.")
    if question == "q2_threads_or_processes":
        assert any(line.startswith("a process crashed, and this one goes on: ") for line in lines)


def test_demo_runs_and_its_four_ways_agree() -> None:
    command = [sys.executable, "demo", "--every", "60", "--rounds", "1", "--questions", "32"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55)
    assert (done.returncode, done.stderr) == (0, "")
    for text in ("plain loop", "threads", "processes, stdlib Pool", "processes, manyhands", "All four ways agree"):
        assert text in done.stdout
