"""Functions that the executor's tests run in workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def square(x: int) -> int:
    return x * x


def total(*args: Any, **kwds: Any) -> Any:
    return args, kwds


def pid(_: object = None) -> int:
    return os.getpid()


def fail(message: str) -> None:
    raise ValueError(message)


def fail_at(x: int, bad: int) -> int:
    if x == bad:
        raise ValueError(x)
    return x


def leave(code: int) -> None:
    sys.exit(code)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_of(_: object) -> None:
    die()


def wait_for(path: str) -> str:
    """Returns once there is a file."""
    while not Path(path).exists():
        time.sleep(0.005)
    return path


def touch_and_wait(started: str, path: str) -> str:
    Path(started).touch()
    return wait_for(path)


def touch_and_hang(started: str) -> None:
    Path(started).touch()
    time.sleep(1000)


def a_lambda() -> Any:
    return lambda: None


_initialised: list[Any] = []


def initialise(*args: Any) -> None:
    _initialised.extend(args)


def get_initialised() -> list[Any]:
    return _initialised


def fail_to_initialise() -> None:
    raise LookupError("nothing to initialise with")


class Unreadable:
    """Can be pickled, but not unpickled."""

    def __reduce__(self) -> Any:
        return fail, ("cannot be unpickled",)


def unreadable() -> Unreadable:
    return Unreadable()


class Stubborn(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__(one)


def be_stubborn() -> None:
    raise Stubborn(1, 2)


def nested(x: int) -> int:
    import manyhands

    with manyhands.ProcessPoolExecutor(1) as executor:
        return executor.submit(square, x).result()


kept: list[bytes] = []


def hoard(size: int) -> int:
    """Keep so many bytes for good."""
    kept.append(b"\1" * size)
    return os.getpid()
