"""Large objects that are no plain array: there and back, and one of them for many calls.

Always: each object that goes there and back is one of its own, and both sides read something of each of its pages; what
came back is compared as a whole with what went, beside the clock. Of an object for many calls each reads one number.
Workers that are there have imported the library before the clock runs; those of a pool that is made for the object have
to do so within it, as they start within it.
Not here: arrays by the hundred (`bulk`), all types one by one (`benches.arrays`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benches.calls import at, back, look, ready
from benches.peer import Peer
from benches.workload import SECONDS, WORKERS, Workload, Wrong, check, check_all, fewer

SIZE = 64 << 20
TRIPS = 5
READERS, SENT = 100, 10


def strided(size: int, number: int) -> Any:
    """Every second number of an array of twice the size."""
    import numpy

    return numpy.arange(number, number + size // 4, dtype=float)[::2]


def arrow(size: int, number: int) -> Any:
    """A table with one column."""
    import numpy
    import pyarrow

    return pyarrow.table({"x": numpy.arange(number, number + size // 8, dtype=float)})


def polars(size: int, number: int) -> Any:
    """A frame with one column."""
    import numpy
    import polars
    import pyarrow  # noqa: F401  (with it, columns are sent as they are)

    return polars.DataFrame({"x": numpy.arange(number, number + size // 8, dtype=float)})


def data(size: int, number: int) -> bytes:
    """Bytes that are all the same."""
    return bytes([number + 1]) * size


def equal(first: Any, second: Any) -> bool:
    """Whether all of two objects is the same."""
    if type(first) is not type(second):
        return False
    if hasattr(first, "dtype"):
        return first.shape == second.shape and bool((first == second).all())
    return bool(first.equals(second)) if hasattr(first, "equals") else bool(first == second)


def there_and_back(make: Callable[[int, int], Any]) -> Any:
    """The measure of an object that is the argument and the result of a call: the median of five calls."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        size, times = fewer(SIZE, quick) // 16 * 16, []
        objects = [make(size, number) for number in range(TRIPS + 1)]
        with peer.start("pool", method, WORKERS) as crew:
            crew.map_large(back, [make(1 << 16, number) for number in range(20)])  # every worker has the library
            for number, value in enumerate(objects):
                begun = time.perf_counter()
                found = crew.call(back, value)
                seen = look(found)
                took = time.perf_counter() - begun
                check(seen, look(value), "sum of what came back")
                if not equal(found, value):
                    raise Wrong("what came back is not what went")
                del found
                if number:  # the first one warms up
                    times.append(took)
        return {"": statistics.median(times)}

    return measure


def for_many(call: str, count: int) -> Any:
    """The measure of `at(array, index)` for one array of 64 MiB and so many indices, by a crew's method."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        import numpy

        array, indices = numpy.arange(fewer(SIZE, quick) // 8, dtype=float), list(range(fewer(count, quick)))
        with peer.start("pool", method, WORKERS) as crew:
            check_all(crew.map_work(ready, list(range(40))), list(range(40)), "answers")
            begun = time.perf_counter()
            answers = getattr(crew, call)(at, array, indices)
            took = time.perf_counter() - begun
        check_all(answers, [float(index) for index in indices], "numbers")
        return {"": took}

    return measure


# polars and Arrow have threads, which a forked child must not use.
SPAWN, EITHER = ("spawn",), ("fork", "spawn")
KINDS = {"numpy [::2]": strided, "an Arrow table": arrow, "a polars frame": polars, "bytes": data}
WORKLOADS = (
    *(
        Workload(
            f"{kind} of 64 MiB, there and back", "objects", there_and_back(make), {"": SECONDS}, ("pool.call",), SPAWN
        )
        for kind, make in KINDS.items()
    ),
    Workload(
        "64 MiB for 100 calls, shared once",
        "objects",
        for_many("map_shared", READERS),
        {"": SECONDS},
        ("pool.map_shared",),
        EITHER,
    ),
    Workload(
        "64 MiB for 10 calls, an argument of each",
        "objects",
        for_many("map_sent", SENT),
        {"": SECONDS},
        ("pool.map_sent",),
        EITHER,
    ),
)
