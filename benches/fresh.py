"""A program in a process of its own, with a limit, and nothing of it left when it is over.

Always: orphans of the program become our children (Linux's "subreaper"), so what outlives it is known by its process
id; it gets a moment to end by itself, then it is killed. So the process that uses this has no other children.
Not here: what is run (`one`), in which order (`turns`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass

from benches.killing import descendants

PR_SET_CHILD_SUBREAPER = 36
# How long helpers (a forkserver, a resource tracker, a cluster's daemons) may take to notice that it is over.
GRACE = 3.0


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit status, None if it ran past its limit; and the end of what it wrote."""

    status: int | None
    output: str


def adopt_orphans() -> None:
    """From now on processes below us whose parents end become our children."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"could not become the parent of orphans: {os.strerror(number)}")


def run(command: list[str], limit: float, environment: dict[str, str]) -> Ended:
    """Runs a program to its end or its limit, and then ends what it left."""
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        # A file and not a pipe: whoever is left behind with a pipe in hand would have us wait.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
        status: int | None = None
        try:
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if status is None:
                # Its session is its group: pool workers are in it, unless a peer gave them one of their own.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            sweep(0.0 if status is None else GRACE)
        output.seek(max(output.tell() - 4000, 0))
        return Ended(status, output.read())


def sweep(grace: float) -> int:
    """Waits so long for all that is still below us, then kills it; returns how many had to be killed."""
    until, killed = time.monotonic() + grace, 0
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        left = descendants(os.getpid())
        if not left or time.monotonic() > until + 10.0:  # what SIGKILL does not end, the next measurement must bear
            return killed
        if time.monotonic() >= until:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
        time.sleep(0.01)
