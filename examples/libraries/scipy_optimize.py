"""scipy's differential evolution, its population evaluated by a pool: `workers=pool.map`.

pip install manyhands scipy
"""

from __future__ import annotations

import numpy as np
from comparing import compare
from scipy.optimize import differential_evolution

import manyhands

BOUNDS = [(-5.0, 5.0)] * 6


def cost(point: np.ndarray) -> float:
    """Rastrigin's function, and some work beside it: a cost that takes some milliseconds."""
    for _ in range(300):
        np.sort(np.sin(np.arange(400.0)))
    return float(10 * len(point) + np.sum(point**2 - 10 * np.cos(2 * np.pi * point)))


def minimum(workers) -> list[float]:
    found = differential_evolution(
        cost, BOUNDS, workers=workers, updating="deferred", maxiter=8, popsize=10, rng=1, polish=False
    )
    return [round(float(found.fun), 9), found.nfev]


def with_pool() -> list[float]:
    with manyhands.Pool(2) as pool:
        return minimum(pool.map)


if __name__ == "__main__":
    compare(
        "differential_evolution, 6 dimensions",
        {
            "one process": lambda: minimum(1),
            "workers=2 (scipy's, multiprocessing)": lambda: minimum(2),
            "workers=manyhands.Pool(2).map": with_pool,
        },
    )
