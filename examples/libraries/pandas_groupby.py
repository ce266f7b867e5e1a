"""A group-by-apply of pandas, its groups done by a pool.

pip install manyhands pandas
"""

from __future__ import annotations

import multiprocessing

import numpy as np
import pandas as pd
from comparing import compare

import manyhands

rng = np.random.default_rng(0)
frame = pd.DataFrame({"city": rng.integers(0, 40, 400_000), "x": rng.random(400_000), "y": rng.random(400_000)})


def summary(group: pd.DataFrame) -> pd.Series:
    """Something that pandas has no fast path for: a median by bootstrap, and a fit."""
    draw = np.random.default_rng(1)
    medians = [np.median(draw.choice(group["x"].to_numpy(), 2000)) for _ in range(40)]
    slope = np.polyfit(group["x"], group["y"], 3)[0]
    return pd.Series({"low": np.quantile(medians, 0.05), "high": np.quantile(medians, 0.95), "slope": slope})


def plain() -> pd.DataFrame:
    return frame.groupby("city")[["x", "y"]].apply(summary)


def pooled(pool) -> pd.DataFrame:
    names, groups = zip(*frame.groupby("city")[["x", "y"]], strict=True)
    return pd.DataFrame(pool.map(summary, groups, chunksize=1), index=pd.Index(names, name="city"))


def with_pool(package):
    def run():
        with package.Pool(2) as pool:
            return pooled(pool)

    return run


if __name__ == "__main__":
    compare(
        "group-by-apply, 40 groups of 10,000 rows",
        {
            "pandas alone": plain,
            "multiprocessing.Pool(2)": with_pool(multiprocessing),
            "manyhands.Pool(2)": with_pool(manyhands),
        },
        same=lambda a, b: bool(np.allclose(a, b)),
    )
