"""What makes programs of the standard library hang, leak or fail, by its issue tracker: each as a program, run on both.

On the standard library a program must not end well within some seconds: if one does, the issue is solved, or the program
does not show it any more. Here it has to.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAMS = sorted(path.stem for path in (Path(__file__).parent / "hangs").glob("*.py") if path.stem != "subject")
# How long the standard library gets, and ours, in seconds.
PATIENCE = 4
LIMIT = 40
# Solved in releases later than those that are tested with here.
SOLVED = {"executor_of_few_tasks": (3, 13, 14)}


def test_the_page_lists_every_program() -> None:
    page = (Path(__file__).parents[2] / "docs" / "hangs.md").read_text()
    assert sorted(line.rpartition("`")[0].rpartition("`")[2] for line in page.splitlines() if ".py` |" in line) == [
        f"{program}.py" for program in PROGRAMS
    ]


def ends_well(program: str, package: str, limit: float) -> bool:
    """Runs a program in a session of its own, which is ended with it."""
    path = Path(__file__).parent / "hangs" / f"{program}.py"
    command = [sys.executable, path, package]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            out, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            out = b""
        # Not all at once: the standard library's tracker, which does not react to SIGTERM, removes what they leave.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            end = time.monotonic() + 5
            while time.monotonic() < end:
                os.killpg(process.pid, 0)
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGKILL)
    return out == b"fine\n"


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_ends_well_here(program: str) -> None:
    assert ends_well(program, "manyhands", LIMIT)


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_does_not_on_the_standard_library(program: str) -> None:
    if sys.version_info[:3] >= SOLVED.get(program, (9,)):
        pytest.skip("solved in this release")
    assert not ends_well(program, "multiprocessing", PATIENCE)
