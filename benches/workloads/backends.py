"""`joblib.Parallel` on its own backends and on ours: many small calls, some work, few calls again and again, an array.

Always: with the arguments that a program gives by default, so joblib sizes the batches and maps large arrays.
"""

from __future__ import annotations

import statistics
import time

from benches.calls import at, ready, same
from benches.peer import Peer
from benches.workload import RATE, SECONDS, WORKERS, Workload, check_all, fewer
from benches.workloads.small import MANY, rate
from benches.workloads.uneven import SHARES, efficiency

AGAIN = 30
# Numbers of 8 bytes: 64 MiB.
MAPPED = 1 << 23
READERS = 100


def again(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """A `Parallel` of 8 calls, as a program has it in a loop; the median of those after the first two."""
    items, times = list(range(8)), []
    with peer.start("joblib", method, WORKERS) as crew:
        for _ in range(2 + fewer(AGAIN, quick)):
            begun = time.perf_counter()
            answers = crew.map(same, items)
            times.append(time.perf_counter() - begun)
            check_all(answers, items, "answers")
    return {"": statistics.median(times[2:])}


def mapped(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """One array of 64 MiB as an argument of 100 calls: joblib writes it once, and workers map it."""
    import numpy

    array, indices = numpy.arange(fewer(MAPPED, quick), dtype=float), list(range(READERS))
    with peer.start("joblib", method, WORKERS) as crew:
        crew.map_work(ready, list(range(40)))
        begun = time.perf_counter()
        answers = crew.map_bound(at, array, indices)
        took = time.perf_counter() - begun
    check_all(answers, [float(index) for index in indices], "numbers")
    return {"": took}


NEEDS = ("joblib.map",)
WORKLOADS = (
    Workload("Parallel of 20,000 trivial calls", "joblib", rate("map", MANY, "joblib"), {"": RATE}, NEEDS),
    Workload(
        "Parallel of 200 calls of 10 ms",
        "joblib",
        efficiency(lambda quick: [0.01] * (40 if quick else 200), "joblib"),
        SHARES,
        ("joblib.map_work",),
    ),
    Workload("Parallel of 8 trivial calls, again", "joblib", again, {"": SECONDS}, NEEDS),
    Workload(
        "Parallel of 100 calls that read one array of 64 MiB", "joblib", mapped, {"": SECONDS}, ("joblib.map_bound",)
    ),
)
