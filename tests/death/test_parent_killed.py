"""A program that is killed, or asked to end: all of its family ends with it, and nothing of it stays.

How long that took is printed (`pytest -rP`): a fraction of a second, where processors are free.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts import is_running, until

pytestmark = pytest.mark.timeout(60)

PROGRAM = Path(__file__).parent / "families.py"


class Family:
    """A running program, and all processes that it has started, themselves or by others."""

    def __init__(self, folder: Path, method: str, what: str) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self._mark = uuid.uuid4().hex
        self.head = subprocess.Popen(
            [sys.executable, str(PROGRAM), method, str(folder), what],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(self.temporary), "MANYHANDS_FAMILY": self._mark},
        )

    def wait_until_ready(self) -> Path:
        """Returns where its segment is."""
        assert self.head.stdout is not None
        words = self.head.stdout.readline().split()
        if not words:
            raise AssertionError(self.head.communicate()[1])
        return Path("/dev/shm", words[1])

    def members(self) -> set[int]:
        """Those that run, the program included."""
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (process / "environ").read_bytes():
                    found.add(int(process.name))
            except OSError:
                continue  # it ended, or is none of ours
        return {pid for pid in found if is_running(pid)}

    def wait_for_end(self) -> tuple[str, str]:
        """Waits until none of them runs; what they had to say."""
        known = self.members()
        until(lambda: not any(map(is_running, known)))
        until(lambda: not self.members())
        return self.head.communicate()

    def end(self) -> None:
        for pid in self.members():
            os.kill(pid, signal.SIGKILL)
        self.head.communicate()


@pytest.fixture
def family(tmp_path: Path, method: str) -> Iterator[Callable[[str], Family]]:
    """Starts a program; what is left of it in the end is killed."""
    started: list[Family] = []

    def start(what: str) -> Family:
        started.append(Family(tmp_path, method, what))
        return started[0]

    yield start
    for each in started:
        each.end()


@pytest.mark.parametrize(
    ("number", "what"), [(signal.SIGKILL, "rest"), (signal.SIGKILL, "load"), (signal.SIGTERM, "load")]
)
def test_a_family_ends_with_its_program_and_leaves_nothing(
    family: Callable[[str], Family],
    number: signal.Signals,
    what: str,
) -> None:
    program = family(what)
    segment = program.wait_until_ready()
    assert segment.exists()
    # The pool's two, the executor's, which has one of its own, the manager, the tracker, and the program itself.
    assert len(program.members()) >= 7
    program.head.send_signal(number)
    began = time.monotonic()
    _, errors = program.wait_for_end()
    print(f"the last one was gone after {time.monotonic() - began:.3f} s")
    assert program.head.returncode == -number
    # The segment was the program's to remove, so it is told of; nobody else has anything to say.
    assert errors.count("\n") == 2, errors
    assert "1 leaked shared_memory objects" in errors
    assert not segment.exists()
    assert list(program.temporary.iterdir()) == []


def test_a_program_that_is_asked_to_end_may_do_so_in_order(
    family: Callable[[str], Family],
) -> None:
    program = family("leave")
    program.wait_until_ready()
    program.head.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, errors = program.wait_for_end()
    print(f"the last one was gone after {time.monotonic() - began:.3f} s")
    assert (program.head.returncode, errors) == (3, "")
    assert list(program.temporary.iterdir()) == []
