"""One measurement: one job, run one way, in a Python process of its own.

A fresh process each time, so that no way profits or suffers from what another one left behind:
imported modules, grown heaps, warm pools. Prints `progress N` lines and at last one line of JSON.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import pickle
import statistics
import sys
import time
from typing import Any

import jobs
from ways import WAYS

CALLS = 300


def descendants(pid: int) -> list[int]:
    """The process ids of all children of `pid`, and of theirs."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it ended while we looked
            parents.setdefault(parent, []).append(int(name))
    found, open_ends = [], [pid]
    while open_ends:
        children = parents.get(open_ends.pop(), [])
        found += children
        open_ends += children
    return found


def memory(pids: list[int]) -> int:
    """Bytes that these processes hold, pages shared by several counted once between them (PSS)."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024
        except OSError:
            continue
    return total


def processor_seconds(pids: list[int]) -> float:
    """Processor time that these processes and their ended children have used so far."""
    ticks = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as file:
                ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:15]))
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(way: str, job: str, items: list[Any], workers: int, method: str | None) -> dict[str, Any]:
    """Runs the job once and returns what it took and what it answered."""
    function = {"parse": jobs.survey, "wait": jobs.ask}[job]
    gc.collect()
    began = time.perf_counter()
    crew_manager = WAYS[way](workers, method)
    with crew_manager as crew:
        crew.call(jobs.nothing, 0)
        started = time.perf_counter()
        pids = [os.getpid(), *descendants(os.getpid())]
        before = processor_seconds(pids)

        results, told = [], time.perf_counter()
        work_began = time.perf_counter()
        for result in crew.spread(function, items):
            results.append(result)
            if time.perf_counter() - told > 0.2:
                told = time.perf_counter()
                print("progress", len(results), flush=True)
        worked = time.perf_counter() - work_began

        pids = [os.getpid(), *descendants(os.getpid())]
        busy = processor_seconds(pids) - before
        held = memory(pids)

        calls = []
        for _ in range(CALLS):
            call_began = time.perf_counter()
            crew.call(jobs.nothing, 0)
            calls.append(time.perf_counter() - call_began)
    results.sort()
    moved = 0
    if way in ("stdlib", "manyhands"):
        moved = sum(len(pickle.dumps(value, 5)) for value in (*items, *results))
    answers = [(name, definitions, nodes) for name, definitions, nodes in results] if job == "parse" else results
    return {
        "seconds": worked,
        "start": started - began if way != "plain" else 0.0,
        "call": statistics.median(calls),
        "busy": busy / worked,
        "memory": held,
        "moved": moved,
        "count": len(results),
        "definitions": sum(max(result[1], 0) for result in results) if job == "parse" else 0,
        "nodes": sum(max(result[2], 0) for result in results) if job == "parse" else 0,
        "unparsed": sum(result[1] < 0 for result in results) if job == "parse" else 0,
        "digest": hashlib.sha256(repr(answers).encode()).hexdigest(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("job", choices=["parse", "wait"])
    parser.add_argument("workers", type=int)
    parser.add_argument("--start-method")
    options = parser.parse_args()
    # The items come over standard input, so that each way starts from the same list.
    found = measure(
        options.way,
        options.job,
        [tuple(i) if isinstance(i, list) else i for i in json.load(sys.stdin)],
        options.workers,
        options.start_method,
    )
    print(json.dumps(found), flush=True)
