"""Ctrl-C in a terminal, in each call that waits: one KeyboardInterrupt in the program, and not a word from its children.

A program is given a terminal of its own, and Ctrl-C is typed there, so the kernel sends SIGINT to all of its processes.
How long each call took to end is printed (`pytest -rP`).
"""

from __future__ import annotations

import os
import pty
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import is_running, run, until

pytestmark = pytest.mark.timeout(120)

PROGRAM = Path(__file__).parent / "waits.py"
NAMES = re.findall(r"^@call\ndef (\w+)", PROGRAM.read_text(), re.MULTILINE)
# What is the same however a child was started, and what is not.
OF_CHILDREN = [name for name in NAMES if name.startswith(("pool_", "executor_", "process_", "rlock_", "manager_"))]
OF_ONE = [name for name in NAMES if name not in OF_CHILDREN]
# Far above what it takes, so that a busy machine does not matter; a wait that does not end for a signal takes minutes.
LIMIT = 1.0


def is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def session(leader: int) -> list[int]:
    """The processes that run in a session."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int((process / "stat").read_text().rpartition(")")[2].split()[3]) == leader:
                found.append(int(process.name))
        except OSError:
            continue  # it ended
    return [pid for pid in found if is_running(pid)]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The user's end of a terminal, and the program's."""
    user, program = pty.openpty()
    yield user, program
    os.close(user)
    os.close(program)


def interrupted_in(names: list[str], method: str, terminal: tuple[int, int]) -> dict[str, float]:
    """Types Ctrl-C in each of the calls; the seconds until it had ended."""
    user, theirs = terminal
    program = subprocess.Popen(
        [sys.executable, str(PROGRAM), method, *names],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    took: dict[str, float] = {}
    try:
        assert program.stdout is not None
        for name in names:
            assert program.stdout.readline() == "waiting\n", name
            until(lambda: all(is_asleep(program.pid) and not time.sleep(0.002) for _ in range(4)))
            began = time.monotonic()
            os.write(user, b"\x03")
            told = program.stdout.readline()
            assert told.startswith("interrupted "), (name, told)
            took[name] = float(told.split()[1]) - began
        _, errors = program.communicate()
        assert (program.returncode, errors) == (0, "")
        until(lambda: not session(program.pid))
    finally:
        for pid in session(program.pid):
            os.kill(pid, signal.SIGKILL)
        program.communicate()
    return took


def tell(took: dict[str, float]) -> None:
    slowest = max(took, key=took.__getitem__)
    median = statistics.median(took.values())
    print(f"{len(took)} calls: {median * 1000:.1f} ms in the median, {took[slowest] * 1000:.1f} ms in {slowest}")
    assert {name: time for name, time in took.items() if time > LIMIT} == {}


def test_ctrl_c_ends_each_wait_for_children_at_once(method: str, terminal: Any) -> None:
    tell(interrupted_in(OF_CHILDREN, method, terminal))


def test_ctrl_c_ends_each_wait_for_others_at_once(terminal: Any) -> None:
    tell(interrupted_in(OF_ONE, "fork", terminal))


NEW_CHILD = """
import ctypes, os, signal, sys, time
import manyhands

def sleep():
    time.sleep(600)

if __name__ == "__main__":
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gate, opener = os.pipe()
    os.dup2(gate, 0)
    # In the child it waits for that pipe before fork() has returned.
    libc = ctypes.CDLL(None)
    wait = ctypes.cast(libc.getchar, ctypes.c_void_p)
    getattr(libc, "__register_atfork")(None, None, wait, None)
    child = manyhands.get_context("fork").Process(target=sleep)
    child.start()
    while open(f"/proc/{child.pid}/stat").read().rpartition(")")[2].split()[0] != "S":
        pass
    try:
        os.killpg(0, signal.SIGINT)
        time.sleep(600)
    except KeyboardInterrupt:
        os.write(opener, b"here you are")
    child.join()
    print(child.exitcode)
"""

NEW_CHILD_OF_A_SERVER = """
import os, signal, sys, time
import manyhands

def sleep():
    time.sleep(600)

if __name__ == "__main__":
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    context = manyhands.get_context("forkserver")
    context.set_forkserver_preload(["gate"])
    child = context.Process(target=sleep)
    child.start()
    while not os.path.exists("waiting"):
        time.sleep(0.01)
    try:
        os.killpg(0, signal.SIGINT)
        time.sleep(600)
    except KeyboardInterrupt:
        open("open", "x").close()
    child.join()
    print(child.exitcode)
"""

GATE = """
import os, time

def wait():
    open("waiting", "x").close()
    while not os.path.exists("open"):
        time.sleep(0.01)

os.register_at_fork(after_in_child=wait)
"""


def test_an_interrupt_is_not_lost_on_a_child_whose_fork_is_not_complete(tmp_path: Path) -> None:
    done = run(tmp_path, NEW_CHILD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_an_interrupt_is_not_lost_on_a_child_that_the_fork_server_has_just_forked(tmp_path: Path) -> None:
    (tmp_path / "gate.py").write_text(GATE)
    done = run(tmp_path, NEW_CHILD_OF_A_SERVER, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{-signal.SIGINT}\n", "")
