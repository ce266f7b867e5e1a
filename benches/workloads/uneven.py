"""Real work in tasks: how much of the workers' time is work.

Always: work is what the threads that did it had of a core, so a core given to another program does not count as work
done; 1.0 would be every worker busy with tasks all the time. Where that cannot be had, because a long task comes late,
a second figure is the share of what can. An answer tells its task, so one lost or out of order is noticed.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benches.calls import labour
from benches.peer import Peer
from benches.workload import SHARE, WORKERS, Workload, Wrong, check_all

# Tasks of 1 to 10 µs, of 10 to 100 µs and so on, up to those of 1 to 10 s: 20 s of work.
MIXED = (20_000, 10_000, 4_000, 800, 100, 10, 2)
SHARES = {"share of the workers' time": SHARE, "of the best that their order allows": SHARE}


def pareto(tasks: int, total: float) -> list[float]:
    """So many task times that add up to `total`, short ones first: few long ones are half of the work."""
    weights = [(1 - (number + 0.5) / tasks) ** (-1 / 1.5) for number in range(tasks)]
    return [weight * total / sum(weights) for weight in weights]


def mixed(counts: Iterable[int]) -> list[float]:
    """So many task times from each power of ten, from 1 µs on: evenly by their logarithm, in an order that is always
    the same and such that workers can end together."""
    times = [
        10.0 ** (power - 6 + (number + 0.5) / count) for power, count in enumerate(counts) for number in range(count)
    ]
    random.Random(0).shuffle(times)
    return times


def in_order_bound(times: Sequence[float], workers: int) -> float:
    """The share of the workers' time that is work if whoever is free takes the next task, and nothing else takes time.

    Nobody who gives tasks out in this order can have more. Raises ValueError for no workers or no work.
    """
    if workers < 1 or not sum(times) > 0 or min(times) < 0:
        raise ValueError(f"needs a worker and work, not {workers} workers and {sum(times)} s in {len(times)} tasks")
    free_at = [0.0] * workers
    for seconds in times:
        heapq.heapreplace(free_at, free_at[0] + seconds)
    return sum(times) / (max(free_at) * workers)


def efficiency(times: Callable[[bool], list[float]], kind: str = "pool") -> Any:
    """The measure of one `map` over task times: work done / (time it took × workers)."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        asked = times(quick)
        with peer.start(kind, method, WORKERS) as crew:
            crew.map_work(labour, [(number, 0.001) for number in range(20)])
            begun = time.perf_counter()
            answers = crew.map_work(labour, list(enumerate(asked)))
            took = time.perf_counter() - begun
        check_all((number for number, _ in answers), list(range(len(asked))), "tasks")
        worked = [seconds for _, seconds in answers]
        if any(done < wanted for done, wanted in zip(worked, asked, strict=True)):
            raise Wrong("wrong answers: a task that did not work as long as it was asked to")
        share = sum(worked) / (took * WORKERS)
        return dict(zip(SHARES, (share, share / in_order_bound(asked, WORKERS)), strict=True))

    return measure


def shares(name: str, group: str, times: Callable[[bool], list[float]]) -> Workload:
    """The workload of one `map` over task times."""
    return Workload(name, group, efficiency(times), SHARES, ("pool.map_work",))


WORKLOADS = (
    shares("400 Pareto task times, sorted, default chunks", "work", lambda quick: pareto(400, 0.8 if quick else 4.0)),
    shares("200 tasks of 10 ms, default chunks", "work", lambda quick: [0.01] * (40 if quick else 200)),
    shares(
        "34,912 tasks of 1 µs to 10 s, mixed, default chunks",
        "scale",
        lambda quick: mixed(count // 10 if quick else count for count in MIXED),
    ),
)
