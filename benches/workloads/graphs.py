"""Calls that need each other's results, and calls that go before others.

Always: a graph is handed over call by call, as a program that makes one does; where a package takes no futures as
arguments, the program waits for each argument before it makes the call. What has no priorities is measured all the
same: an urgent call waits there for its turn.
"""

from __future__ import annotations

import time
from typing import Any

from benches.calls import add, rest, same
from benches.peer import Peer
from benches.workload import RATE, SECONDS, WORKERS, Workload, check, check_all, fewer

LEAVES = 1_024
CHAIN = 500
WAITING = 200


def tree(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """A sum by pairs: 1,024 leaves and 1,023 calls of two results each."""
    leaves = fewer(LEAVES, quick)
    with peer.start("pool", method, WORKERS) as crew:
        linked: Any = crew.linked  # type: ignore[attr-defined]
        value: Any = crew.value  # type: ignore[attr-defined]
        check(value(linked(add, linked(same, 1), linked(same, 2))), 3, "sum")
        begun, calls = time.perf_counter(), leaves
        level = [linked(same, number) for number in range(leaves)]
        while len(level) > 1:
            pairs = [linked(add, *level[at : at + 2]) for at in range(0, len(level) - 1, 2)]
            calls += len(pairs)
            level = [*pairs, *level[len(level) & ~1 :]]
        total = value(level[0])
        took = time.perf_counter() - begun
    check(total, leaves * (leaves - 1) // 2, "sum")
    return {"": calls / took}


def chain(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """500 calls, each of them with the result of the one before."""
    calls = fewer(CHAIN, quick)
    with peer.start("pool", method, WORKERS) as crew:
        linked: Any = crew.linked  # type: ignore[attr-defined]
        value: Any = crew.value  # type: ignore[attr-defined]
        check(value(linked(add, linked(same, 1), linked(same, 2))), 3, "sum")
        begun = time.perf_counter()
        last = linked(same, 0)
        for number in range(1, calls):
            last = linked(add, last, number)
        total = value(last)
        took = time.perf_counter() - begun
    check(total, calls * (calls - 1) // 2, "sum")
    return {"": took / calls}


def urgent(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """The answer to an urgent call behind 200 that wait 10 ms each."""
    items = list(range(fewer(WAITING, quick)))
    with peer.start("pool", method, WORKERS) as crew:
        check_all(crew.map(same, items[:20]), items[:20], "answers")
        answers = crew.queue_up(rest, items)  # type: ignore[attr-defined]
        time.sleep(0.05)  # the first ones run, and workers have been handed others
        begun = time.perf_counter()
        answer = crew.urgent(same, 7)  # type: ignore[attr-defined]
        took = time.perf_counter() - begun
        check(answer, 7, "answer")
        check_all(answers(), items, "answers")
    return {"": took}


LINKED = ("pool.linked",)
WORKLOADS = (
    Workload("2,047 calls that add up 1,024 results by pairs", "graph", tree, {"": RATE}, LINKED),
    Workload("a chain of 500 calls, a call", "graph", chain, {"": SECONDS}, LINKED),
    Workload("an urgent call behind 200 of 10 ms", "graph", urgent, {"": SECONDS}, ("pool.urgent",)),
)
