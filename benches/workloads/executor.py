"""Trivial calls to an executor: `submit` and its future's result, and `map`."""

from __future__ import annotations

from benches.workload import RATE, Workload
from benches.workloads.small import MANY, TRIPS, rate, round_trips

WORKLOADS = (
    Workload(
        "executor, submit and its result", "executor", round_trips("executor", "submit"), TRIPS, ("executor.submit",)
    ),
    Workload(
        "executor, map of 20,000 trivial calls",
        "executor",
        rate("map_one", MANY, "executor"),
        {"": RATE},
        ("executor.map_one",),
    ),
    Workload(
        "executor, 20,000 submit, then all results",
        "executor",
        rate("many", MANY, "executor"),
        {"": RATE},
        ("executor.many",),
    ),
)
