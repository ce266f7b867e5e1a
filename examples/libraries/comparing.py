"""Timing one piece of work done in several ways, in turns, with the answers compared."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

# EXAMPLES_ROUNDS=1 is for seeing whether it works at all.
ROUNDS = int(os.environ.get("EXAMPLES_ROUNDS", "3"))


def compare(what: str, ways: dict[str, Callable[[], Any]], same: Callable[[Any, Any], bool] | None = None) -> None:
    """Print the median time of each way, and fail if one of them has another answer than the first."""
    same = same or (lambda a, b: bool(a == b))
    times: dict[str, list[float]] = {name: [] for name in ways}
    expected = None
    print(f"{what}, {ROUNDS} rounds in turns")
    for number in range(ROUNDS):
        order = list(ways)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            began = time.perf_counter()
            answer = ways[name]()
            times[name].append(time.perf_counter() - began)
            if expected is None:
                expected = answer
            if not same(expected, answer):
                raise SystemExit(f"{name} has another answer: {answer!r}, not {expected!r}")
    base = statistics.median(next(iter(times.values())))
    for name, seen in times.items():
        median = statistics.median(seen)
        print(f"  {name:<34} {median:7.2f} s  ({min(seen):.2f} to {max(seen):.2f})  {base / median:5.2f} x")
