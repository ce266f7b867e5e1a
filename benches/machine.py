"""The machine of a run: what it is, and whether it had its cores to itself.

A ratio survives a busy machine, a share of the workers' time and a round trip between sleeping cores do not.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import time
from typing import Any

from benches.calls import burn

# Below this the figures say more about the neighbours than about the peers.
CALM = 0.9


def world(packages: dict[str, str], rounds: int, quick: bool) -> dict[str, Any]:
    """What a reader of figures has to know about where they come from."""
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
        "rounds": rounds,
        "quick": quick,
        "packages": packages,
        "free": round(free(0.1 if quick else 0.5), 2),
    }


def free(seconds: float) -> float:
    """The share of all cores that plain loops, one for each core, are given: 1.0 on an idle machine."""
    cores = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        pool.map(burn, [0.001] * cores, chunksize=1)
        begun = time.perf_counter()
        worked = pool.map(burn, [seconds] * cores, chunksize=1)
        took = time.perf_counter() - begun
        pool.close()
        pool.join()
    return min(sum(worked) / (took * cores), 1.0)
