"""Python functions on the groups of a polars frame, done by a pool.

polars has threads of its own, which a forked child must not use: so the start method is forkserver or spawn.

    pip install manyhands polars
"""

from __future__ import annotations

import multiprocessing

import numpy as np
import polars as pl
from comparing import compare

import manyhands

METHOD = "forkserver"


def table() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame({"city": rng.integers(0, 30, 1_500_000), "x": rng.random(1_500_000)})


def score(group: pl.DataFrame) -> pl.DataFrame:
    """Python's own arithmetic, which polars cannot do by itself."""
    total = 0.0
    for value in group["x"].to_list():
        total = (total + value) * 0.999 if value > 0.5 else total - value
    return pl.DataFrame({"city": group["city"][:1], "score": [total]})


def plain(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("city", maintain_order=True).map_groups(score)


def pooled(frame: pl.DataFrame, package) -> pl.DataFrame:
    with package.get_context(METHOD).Pool(2) as pool:
        return pl.concat(pool.map(score, frame.partition_by("city", maintain_order=True), chunksize=1))


if __name__ == "__main__":
    frame = table()
    compare(
        "map_groups, 30 groups of 50,000 rows",
        {
            "polars alone": lambda: plain(frame),
            "multiprocessing, forkserver": lambda: pooled(frame, multiprocessing),
            "manyhands, forkserver": lambda: pooled(frame, manyhands),
        },
        same=lambda a, b: a.equals(b),
    )
