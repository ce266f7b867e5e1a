"""Programs of their own for tests: what a whole process prints and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path


def run(
    folder: Path, source: str, *arguments: str, limit: float = 40, **options: object
) -> subprocess.CompletedProcess[str]:
    """Runs a program under this Python and returns what it printed; past `limit` seconds it is an error."""
    program = folder / "program.py"
    program.write_text(textwrap.dedent(source))
    command = [sys.executable, str(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, **options)  # type: ignore[call-overload,no-any-return]


def until(claim: Callable[[], object]) -> None:
    """Waits for a fact; the test's own limit ends the wait."""
    while not claim():
        time.sleep(0.005)


def printed(folder: Path, source: str, *arguments: str, limit: float = 40) -> list[str]:
    """The lines of a program that has to end well and write nothing to stderr."""
    done = run(folder, source, *arguments, limit=limit)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie. It may be reaped while we look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_end(pid: int) -> None:
    """Waits until a process that is no child of ours has ended; the test's own limit ends the wait."""
    while is_running(pid):
        time.sleep(0.01)


def descriptors(pid: int | str = "self") -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
