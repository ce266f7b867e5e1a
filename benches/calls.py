"""What workloads call in workers: a module that every start method, and every peer, can import.

Always: a function returns something from which the caller can tell whether it got the right argument; and nothing
is imported here but `time`, and `os` which every interpreter has, because a worker that starts as a new one imports this.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def same(value: int) -> int:
    """Trivial on purpose: what is measured is the way there and back."""
    return value


def add(first: int, second: int) -> int:
    """Trivial, of two arguments."""
    return first + second


def burn(seconds: float) -> float:
    """Keeps a core busy until this thread has had so much of it; says how much that was.

    By the thread's clock: time that the machine gave to others is not work, nor is a peer's helper thread's.
    """
    clock = time.thread_time
    begun = clock()
    while clock() - begun < seconds:
        for _ in range(200):
            pass
    return clock() - begun


def labour(job: tuple[int, float]) -> tuple[int, float]:
    """`burn`, with a number that tells the task."""
    number, seconds = job
    return number, burn(seconds)


def rest(number: int) -> int:
    """Waits 10 ms and uses no core."""
    time.sleep(0.01)
    return number


def who(_: int) -> int:
    """The process that this ran in; takes so long that others get the next."""
    time.sleep(0.01)
    return os.getpid()


def field(record: dict[str, Any]) -> int:
    """A small dict in, an int out."""
    return record["id"] * 2 + len(record["name"])


def length(data: bytes) -> int:
    """Bytes in, an int out, that tells the item too."""
    return len(data) + data[0] + data[-1]


def touch(array: Any) -> float:
    """Reads a number from each page of an array: one that was mapped, not copied, must be read too."""
    return float(array[::512].sum())


def grow(job: tuple[int, int]) -> Any:
    """An array of `job[0]` numbers that are all `job[1]`."""
    import numpy

    return numpy.full(job[0], float(job[1]))


def twice(array: Any) -> Any:
    """An array in, as large an array out."""
    return array * 2


def at(array: Any, index: int) -> float:
    """One number of a large array."""
    return float(array[index])


def ready(number: int) -> int:
    """Waits 10 ms, so that others get the next, in a worker that has numpy from then on."""
    import numpy  # noqa: F401

    return rest(number)


def look(value: Any) -> float:
    """Reads something from each page of a large object: bytes, an array, or a table with the column "x"."""
    if isinstance(value, bytes):
        return float(sum(memoryview(value)[::4096]))
    return touch(value if hasattr(value, "dtype") else value["x"].to_numpy())


def back(value: Any) -> Any:
    """A large object in, read, and the same object out."""
    look(value)
    return value


_kept: Any = None


def keep(function: Any, value: Any) -> None:
    """An initializer: the worker has from now on what `of_kept` needs."""
    global _kept
    _kept = function, value


def of_kept(item: Any) -> Any:
    """`function(value, item)` of what the worker was given by `keep`."""
    function, value = _kept
    return function(value, item)
