"""The functions that benchmarks run in workers, and one measurement each in a process of its own.

A module beside the benchmark, so that the start methods spawn and forkserver find the functions by
importing it. Run as a program it makes one measurement and prints it as one line of JSON:

    workloads.py PEER WORKLOAD METHOD [--quick]
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from typing import Any

WORKERS = 2


def same(value: int) -> int:
    """Trivial on purpose: what is measured is the way there and back."""
    return value


def apply(package: Any, method: str, quick: bool) -> dict[str, float]:
    """`Pool.apply` there and back: median and 99th percentile, in seconds."""
    calls = 300 if quick else 3000
    with package.get_context(method).Pool(WORKERS) as pool:
        for number in range(50):
            assert pool.apply(same, (number,)) == number
        times = []
        for number in range(calls):
            began = time.perf_counter()
            answer = pool.apply(same, (number,))
            times.append(time.perf_counter() - began)
            assert answer == number
    times.sort()
    return {"median": times[calls // 2], "p99": times[calls * 99 // 100]}


def map_small(package: Any, method: str, quick: bool) -> dict[str, float]:
    """`Pool.map` of 50,000 trivial calls with chunksize=1: seconds a call."""
    calls = 5_000 if quick else 50_000
    items = list(range(calls))
    with package.get_context(method).Pool(WORKERS) as pool:
        pool.map(same, range(100), chunksize=1)
        began = time.perf_counter()
        answers = pool.map(same, items, chunksize=1)
        took = time.perf_counter() - began
    assert answers == items
    return {"a call": took / calls}


def start(package: Any, method: str, quick: bool) -> dict[str, float]:
    """A pool's life: until `Pool(2)` returns, until the first result, until it is stopped; in seconds."""
    context = package.get_context(method)
    if method == "forkserver":
        # The server starts once in a program's life; here it is the workers' start that counts.
        with context.Pool(1) as pool:
            pool.apply(same, (0,))
    began = time.perf_counter()
    pool = context.Pool(WORKERS)
    made = time.perf_counter()
    assert pool.apply(same, (1,)) == 1
    first = time.perf_counter()
    assert pool.map(same, range(10)) == list(range(10))
    stopping = time.perf_counter()
    pool.terminate()
    pool.join()
    stopped = time.perf_counter()
    return {"made": made - began, "first result": first - began, "stop": stopped - stopping}


WORKLOADS = {"apply": apply, "map": map_small, "start": start}


def main() -> None:
    """Makes one measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=["multiprocessing", "manyhands"])
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("method")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    package = importlib.import_module(options.peer)
    print(json.dumps(WORKLOADS[options.workload](package, options.method, options.quick)))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
