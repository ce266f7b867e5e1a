"""Real work in tasks: how much of the workers' time is work.

Always: work is what the threads that did it had of a core, so a core given to another program does not count as work
done; 1.0 would be every worker busy with tasks all the time.
"""

from __future__ import annotations

import time
from typing import Any

from benches.calls import burn
from benches.peer import Peer
from benches.workload import SHARE, WORKERS, Workload, Wrong


def pareto(tasks: int, total: float) -> list[float]:
    """So many task times that add up to `total`, short ones first: few long ones are half of the work."""
    weights = [(1 - (number + 0.5) / tasks) ** (-1 / 1.5) for number in range(tasks)]
    return [weight * total / sum(weights) for weight in weights]


def efficiency(times: Any) -> Any:
    """The measure of one `map` over task times: work done / (time it took × workers)."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        asked = times(quick)
        with peer.start("pool", method, WORKERS) as crew:
            crew.map_work(burn, [0.001] * 20)
            begun = time.perf_counter()
            worked = crew.map_work(burn, asked)
            took = time.perf_counter() - begun
        if len(worked) != len(asked) or any(done < wanted for done, wanted in zip(worked, asked, strict=True)):
            raise Wrong("wrong answers: a task that did not work as long as it was asked to")
        return {"": sum(worked) / (took * WORKERS)}

    return measure


WORKLOADS = (
    Workload(
        "400 Pareto task times, sorted, default chunks: share of the workers' time",
        "work",
        efficiency(lambda quick: pareto(400, 0.8 if quick else 4.0)),
        {"": SHARE},
        ("pool.map_work",),
    ),
    Workload(
        "200 tasks of 10 ms, default chunks: share of the workers' time",
        "work",
        efficiency(lambda quick: [0.01] * (40 if quick else 200)),
        {"": SHARE},
        ("pool.map_work",),
    ),
)
