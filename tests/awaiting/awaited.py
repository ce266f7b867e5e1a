"""What workers and children do for the tests of asyncio."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any


def square(x: int) -> int:
    return x * x


def fail(x: object) -> None:
    raise LookupError(f"no {x}")


def announce_and_sleep(path: str, seconds: float) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)


def be_killed(_: object = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail_at(bad: int, x: int) -> int:
    if x == bad:
        raise LookupError(f"no {x}")
    return x


def wait_for(path: str, x: int) -> int:
    """Return x once there is a file, 0 at once."""
    while x and not Path(path).exists():
        time.sleep(0.005)
    return x


def put_when_asked(asked: Any, queue: Any, items: list[Any]) -> None:
    asked.wait()
    for item in items:
        queue.put(item)


def take(queue: Any, count: int, given: Any) -> None:
    given.send([queue.get() for _ in range(count)])
