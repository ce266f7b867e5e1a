"""Large and bulky things to and from workers: arrays, dicts, bytes.

Always: each array is one of its own, so a peer that keeps what it has seen has nothing to keep; the receiver reads
every page, so mapping without reading is not measured as receiving.
"""

from __future__ import annotations

import time
from typing import Any

from benches.calls import at, field, grow, length, same, touch, twice
from benches.peer import Peer
from benches.workload import BANDWIDTH, RATE, SECONDS, WORKERS, Workload, check_all, fewer

ARRAYS = 200
# Numbers of 8 bytes: 8 MB, 256 MB, 100 MB.
SMALLER, GIANT, BOUND = 1 << 20, 1 << 25, 100 << 17
PAGE = 512


def _arrays(count: int) -> list[Any]:
    return [grow((SMALLER, number)) for number in range(count)]


def arrays_in(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """8 MB arrays in, a number out."""
    count = fewer(ARRAYS, quick)
    with peer.start("pool", method, WORKERS) as crew:
        crew.map_large(touch, _arrays(2))
        arrays = _arrays(count)
        begun = time.perf_counter()
        answers = crew.map_large(touch, arrays)
        took = time.perf_counter() - begun
    check_all(answers, [float(number * SMALLER // PAGE) for number in range(count)], "sums")
    return {"": count * SMALLER * 8 / took}


def arrays_out(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """A number in, 8 MB arrays out."""
    count = fewer(ARRAYS, quick)
    jobs = [(SMALLER, number) for number in range(count)]
    with peer.start("pool", method, WORKERS) as crew:
        crew.map_large(grow, jobs[:2])
        begun = time.perf_counter()
        sums = [touch(array) for array in crew.map_large(grow, jobs)]
        took = time.perf_counter() - begun
    check_all(sums, [float(number * SMALLER // PAGE) for number in range(count)], "sums")
    return {"": count * SMALLER * 8 / took}


def arrays_both(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """8 MB arrays in and 8 MB arrays out; bytes of both ways."""
    count = fewer(ARRAYS, quick)
    with peer.start("pool", method, WORKERS) as crew:
        crew.map_large(twice, _arrays(2))
        arrays = _arrays(count)
        begun = time.perf_counter()
        sums = [touch(array) for array in crew.map_large(twice, arrays)]
        took = time.perf_counter() - begun
    check_all(sums, [float(2 * number * SMALLER // PAGE) for number in range(count)], "sums")
    return {"": 2 * count * SMALLER * 8 / took}


def giant_in(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """One array of 256 MB in, a number out."""
    numbers = fewer(GIANT, quick)
    with peer.start("pool", method, WORKERS) as crew:
        crew.call(touch, grow((SMALLER, 1)))
        array = grow((numbers, 3))
        begun = time.perf_counter()
        answer = crew.call(touch, array)
        took = time.perf_counter() - begun
    check_all([answer], [float(touch(array))], "sum")
    return {"": took}


def giant_out(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """A number in, one array of 256 MB out."""
    numbers = fewer(GIANT, quick)
    with peer.start("pool", method, WORKERS) as crew:
        crew.call(grow, (SMALLER, 1))
        begun = time.perf_counter()
        array = crew.call(grow, (numbers, 3))
        answer = touch(array)
        took = time.perf_counter() - begun
    check_all([answer, array.size, float(array.sum())], [float(-(-numbers // PAGE) * 3), numbers, numbers * 3.0], "sum")
    return {"": took}


def bound(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """100 MB bound to the function, 200 tasks."""
    import numpy

    shared, indices = numpy.arange(fewer(BOUND, quick), dtype=float), list(range(200))
    with peer.start("pool", method, WORKERS) as crew:
        crew.map(same, indices[:20])
        begun = time.perf_counter()
        answers = crew.map_bound(at, shared, indices)
        took = time.perf_counter() - begun
    check_all(answers, [float(index) for index in indices], "numbers")
    return {"": took}


def _mapped(function: Any, make: Any, count: int) -> Any:
    """The measure of one `map`, default chunks, over items that are made one by one."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        items = [make(number) for number in range(fewer(count, quick))]
        expected = [function(item) for item in items]
        with peer.start("pool", method, WORKERS) as crew:
            crew.map(function, items[:100])
            begun = time.perf_counter()
            answers = crew.map(function, items)
            took = time.perf_counter() - begun
        check_all(answers, expected, "answers")
        return {"": len(items) / took}

    return measure


def _record(number: int) -> dict[str, Any]:
    return {"id": number, "name": f"name {number}", "score": number / 3, "tags": ["a", "b"]}


def _data(number: int) -> bytes:
    return bytes([number % 251]) * 10_240


MAP, LARGE = ("pool.map",), ("pool.map_large",)
WORKLOADS = (
    Workload("200 arrays of 8 MB in, a number out", "bulk", arrays_in, {"": BANDWIDTH}, LARGE),
    Workload("a number in, 200 arrays of 8 MB out", "bulk", arrays_out, {"": BANDWIDTH}, LARGE),
    Workload("200 arrays of 8 MB in and out", "bulk", arrays_both, {"": BANDWIDTH}, LARGE),
    Workload("one array of 256 MB in", "bulk", giant_in, {"": SECONDS}, ("pool.call",)),
    Workload("one array of 256 MB out", "bulk", giant_out, {"": SECONDS}, ("pool.call",)),
    Workload("100 MB bound to the function, 200 tasks", "bulk", bound, {"": SECONDS}, ("pool.map_bound",)),
    Workload("map, 20,000 small dicts, default chunks", "bulk", _mapped(field, _record, 20_000), {"": RATE}, MAP),
    Workload("map, 20,000 bytes of 10 KB, default chunks", "bulk", _mapped(length, _data, 20_000), {"": RATE}, MAP),
)
