"""The seeds: fourteen programs of five authors, run unmodified by `manyhands run`.

Always: a program passes when it exits with 0, writes nothing to stderr, and prints the expected
lines, in any order but for the last one where the parent waits for its children first.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
# Unbuffered, even plain Python prints a line and its end in two writes, and lines mix.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
EXPECTED = {
    "000_q3_process": ["Process 1"],
    "000_q5_pool": [],
    "000_q6_four_processes": [f"Process {n} says: {n}" for n in range(4)],
    "001_q3_process": ["This is a child process running.", "Main process finished."],
    "001_q5_pool": ["Squares: [1, 4, 9, 16, 25]"],
    "001_q6_four_processes": [*(f"Process printing number: {n}" for n in range(1, 5)), "All processes finished."],
    "002_q3_process": ["Process ID: PID, Number: 42"],
    "002_q5_pool": ["Result: [1, 4, 9, 16, 25]"],
    "002_q6_four_processes": [f"Process ID: PID, Number: {n}" for n in range(1, 5)],
    "003_q5_pool": ["[1, 4, 9, 16, 25]"],
    "003_q6_four_processes": [
        *(f"Process {n}: Printing number {n}" for n in range(1, 5)),
        "All processes have finished.",
    ],
    "004_q3_process": ["Worker process is running."],
    "004_q5_pool": ["[1, 4, 9, 16, 25]"],
    "004_q6_four_processes": [str(n) for n in range(4)],
}


def lines_of(text: str) -> list[str]:
    """The lines of an output, process ids masked."""
    return [re.sub(r"(?<=Process ID: )\d+", "PID", line) for line in text.splitlines() if line]


def run(*command: str | os.PathLike[str], limit: float = 30) -> list[str]:
    """Runs a program that has to end well and silently; its lines."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=ENVIRONMENT)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    return lines_of(done.stdout)


def test_every_program_has_an_expectation() -> None:
    assert [program.stem for program in PROGRAMS] == sorted(EXPECTED)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_seed_prints_what_its_author_meant(program: Path, method: str, tmp_path: Path) -> None:
    # The first author left the data to the reader.
    source = program.read_text().replace("data_list)", "range(1000))")
    copy = tmp_path / program.name
    copy.write_text(source)
    lines = run(sys.executable, "-m", "manyhands", "run", "--start-method", method, copy)
    expected = EXPECTED[program.stem]
    assert sorted(lines) == sorted(expected)
    if expected and expected[-1].startswith(("Main", "All")):
        assert lines[-1] == expected[-1], "the parent did not wait for its children"


def test_seed_runs_by_the_installed_command(tmp_path: Path) -> None:
    command = Path(sys.executable).parent / "manyhands"
    program = next(program for program in PROGRAMS if program.stem == "001_q5_pool")
    assert run(command, "run", program) == EXPECTED["001_q5_pool"]
