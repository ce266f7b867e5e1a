"""Many trivial calls to a pool: what handing over a task costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benches.calls import add, same
from benches.peer import Peer
from benches.workload import RATE, SECONDS, WORKERS, Workload, Wrong, check, check_all, fewer

CALLS = 3_000
TRIVIAL = 200_000
SINGLE = 50_000
MANY = 20_000
# The first so many calls tell how long all would take; a peer is given what it does in so many seconds.
PROBE = 2_000
LONG = 3.0


def round_trips(kind: str, call: str) -> Any:
    """The measure of single calls there and back: median and 99th percentile."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        calls = fewer(CALLS, quick)
        with peer.start(kind, method, WORKERS) as crew:
            there_and_back = getattr(crew, call)
            for number in range(50):
                check(there_and_back(same, number), number, "answer")
            times = []
            for number in range(calls):
                begun = time.perf_counter()
                answer = there_and_back(same, number)
                times.append(time.perf_counter() - begun)
                check(answer, number, "answer")
        times.sort()
        return {"median": times[calls // 2], "99th percentile": times[calls * 99 // 100]}

    return measure


def paced(call: Callable[[list[Any]], Any], items: list[Any]) -> tuple[float, list[Any], list[Any]]:
    """Calls a second, the answers, and the items: fewer of them for a peer that would take long for all."""
    first = items[:PROBE]
    begun = time.perf_counter()
    list(call(first))
    took = time.perf_counter() - begun
    items = items[: max(PROBE, int(PROBE * LONG / took))]
    begun = time.perf_counter()
    answers = list(call(items))
    return len(items) / (time.perf_counter() - begun), answers, items


def rate(call: str, count: int, kind: str = "pool") -> Any:
    """The measure of a call that takes a list and returns the answers in order: calls a second."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        items = list(range(fewer(count, quick)))
        with peer.start(kind, method, WORKERS) as crew:
            check_all(getattr(crew, call)(same, items[:100]), items[:100], "answers")
            found, answers, items = paced(lambda some: getattr(crew, call)(same, some), items)
        check_all(answers, items, "answers")
        return {"": found}

    return measure


def starmap(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """`starmap` of two arguments, default chunks."""
    items = [(number, 1) for number in range(fewer(TRIVIAL, quick))]
    with peer.start("pool", method, WORKERS) as crew:
        check_all(crew.starmap(add, items[:100]), [number + 1 for number, _ in items[:100]], "answers")
        found, answers, items = paced(lambda some: crew.starmap(add, some), items)
    check_all(answers, [number + 1 for number, _ in items], "answers")
    return {"": found}


def unordered(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """`imap_unordered`, every item a task of its own: each answer once, in any order."""
    items = list(range(fewer(SINGLE, quick)))
    with peer.start("pool", method, WORKERS) as crew:
        if sorted(crew.imap_unordered(same, items[:100])) != items[:100]:
            raise Wrong("wrong answers of the first 100 items")
        found, answers, items = paced(lambda some: crew.imap_unordered(same, some), items)
    check_all(sorted(answers), items, "answers")
    return {"": found}


TRIPS = {"median": SECONDS, "99th percentile": SECONDS}
WORKLOADS = (
    Workload("apply, there and back", "pool", round_trips("pool", "apply"), TRIPS, ("pool.apply",), smoke=True),
    Workload("map, 200,000 trivial calls, default chunks", "pool", rate("map", TRIVIAL), {"": RATE}, ("pool.map",)),
    Workload(
        "map, 50,000 trivial calls, chunksize=1",
        "pool",
        rate("map_one", SINGLE),
        {"": RATE},
        ("pool.map_one",),
        smoke=True,
    ),
    Workload("starmap, 200,000 trivial calls, default chunks", "pool", starmap, {"": RATE}, ("pool.starmap",)),
    Workload("imap, 50,000 trivial calls", "pool", rate("imap", SINGLE), {"": RATE}, ("pool.imap",)),
    Workload("imap_unordered, 50,000 trivial calls", "pool", unordered, {"": RATE}, ("pool.imap_unordered",)),
    Workload("20,000 apply_async or submit, then all results", "pool", rate("many", MANY), {"": RATE}, ("pool.many",)),
)
