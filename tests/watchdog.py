"""A process that ends the test runner when a test neither ends nor lets itself be ended.

pytest-timeout's signal comes first and gives a traceback; but a call that never runs signal handlers
would swallow it. The watchdog gives every test a grace beyond its limit, then asks for the
tracebacks of all threads (SIGUSR1, by faulthandler), and kills the runner and all it started.

Run as a program it watches: lines of "PID GRACE NAME" on standard input start a watch, an empty line
ends it, the end of the input ends the watchdog.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

GRACE = 30.0


class Watchdog:
    """The runner's end."""

    def __init__(self, config: pytest.Config) -> None:
        # pytest captures file descriptor 2, so the tracebacks go to a copy of the real one.
        self._errors = os.fdopen(os.dup(2), "w")
        faulthandler.register(signal.SIGUSR1, file=self._errors, all_threads=True)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, stderr=self._errors, start_new_session=True
        )

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def watch(self, name: str, limit: float) -> None:
        """From now on the test `name` has `limit` seconds, and the grace."""
        self._say(f"{os.getpid()} {limit + GRACE} {name}\n".replace("\n", " ").strip() + "\n")

    def rest(self) -> None:
        """The test has ended."""
        self._say("\n")

    def dismiss(self) -> None:
        """The session has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def family(pid: int) -> list[int]:
    """A process and everything below it."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def end(pid: int, name: str) -> None:
    """Ends the runner and its children, with tracebacks first."""
    print(f"\nwatchdog: {name} hangs and does not react to its time limit; ending the test run", file=sys.stderr)
    processes = family(pid)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGUSR1)
    time.sleep(2)
    for process in processes:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)


def main() -> None:
    """Watches until the input ends."""
    text, pending = "", None
    while True:
        left = None if pending is None else max(0.0, pending[1] - time.monotonic())
        if not select.select([0], [], [], left)[0]:
            assert pending is not None
            end(pending[0], pending[2])
            return
        piece = os.read(0, 65536)
        if not piece:
            return
        text += piece.decode(errors="replace")
        *lines, text = text.split("\n")
        for line in lines:
            if line:
                pid, limit, name = line.split(" ", 2)
                pending = (int(pid), time.monotonic() + float(limit), name)
            else:
                pending = None


if __name__ == "__main__":
    main()
