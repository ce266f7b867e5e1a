"""Tasks that die, take too long or want too much."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from manyhands import SoftTimeLimitExceeded


def square(x: int) -> int:
    return x * x


def square_slowly(x: int) -> int:
    time.sleep(0.0005)
    return x * x


def same(value: Any) -> Any:
    return value


def die_until(folder: str, times: int, value: Any = "done") -> Any:
    """Is killed the first so many times that it is begun, and returns `value` then."""
    begun = len(os.listdir(folder))
    Path(folder, str(os.getpid())).touch()
    if begun < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def spoil_and_die(array: Any, folder: str) -> Any:
    """Writes to its argument, and is killed the first time."""
    total = array.sum()
    array[:] = 0
    if not os.listdir(folder):
        Path(folder, "begun").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return total


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_self_on(task: tuple[int, set[int]]) -> int:
    index, doomed = task
    if index in doomed:
        os.kill(os.getpid(), signal.SIGKILL)
    return index


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def announce_and_sleep(path: str, seconds: float) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)


def spin(seconds: float) -> str:
    """Runs Python code for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"


def be_polite(seconds: float) -> str:
    """Cleans up when it is asked to end."""
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "done"


def be_deaf(seconds: float) -> str:
    """Goes on whatever it is asked."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(end - time.monotonic())
        except SoftTimeLimitExceeded:
            pass
    return "done"


def stop_self() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def allocate(megabytes: int) -> int:
    return len(bytearray(megabytes << 20))


def burn(seconds: float) -> str:
    """Uses so much processor time."""
    while time.process_time() < seconds:
        pass
    return "done"


def fork_and_come_back(seconds: float) -> int:
    """A child of the task comes back from it, and takes longer than the task may; how it ended."""
    pid = os.fork()
    if pid == 0:
        time.sleep(seconds)
        return 0
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
