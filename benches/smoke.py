"""A smoke benchmark: manyhands' Pool against the standard library's, in one run.

Every measurement is made in a fresh process, the two take turns, results are checked, and the table
shows medians over the rounds with their spread. The figures also go to build/bench-smoke.json.

    smoke.py [--rounds N] [--quick] [--only WORKLOAD]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = ("multiprocessing", "manyhands")
# What is measured: workload, start method, which figure, what the table calls it.
DEFAULT = "the default"
FIGURES = [
    ("apply", DEFAULT, "median", "Pool.apply there and back, median"),
    ("apply", DEFAULT, "p99", "Pool.apply there and back, 99th percentile"),
    ("map", DEFAULT, "a call", "Pool.map of {calls:,} calls, chunksize=1, a call"),
    *(
        ("start", method, figure, text)
        for method in ("fork", "forkserver", "spawn")
        for figure, text in (
            ("made", f"Pool(2) by {method}: made"),
            ("first result", f"Pool(2) by {method}: first result"),
            ("stop", f"Pool(2) by {method}: terminate and join"),
        )
    ),
]


def seconds(value: float) -> str:
    """A duration with three digits and its unit."""
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if value < limit:
            return f"{value * factor:.3g} {unit}" if value * factor < 100 else f"{value * factor:.0f} {unit}"
    return f"{value:.3g} s"


def measure(peer: str, workload: str, method: str, quick: bool) -> dict[str, float]:
    """One measurement, in a process of its own."""
    command = [sys.executable, "-W", "ignore", str(HERE / "workloads.py"), peer, workload, method]
    done = subprocess.run(
        command + ["--quick"] * quick, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )
    if done.returncode or not done.stdout:
        raise SystemExit(f"smoke: {workload} by {method} with {peer} failed:\n{done.stdout}{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(progress: str, began: float) -> None:
    """A progress line, rewritten in place on a terminal; sparse lines elsewhere."""
    line = f"  {progress} · {time.monotonic() - began:.0f} s"
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
    elif "multiprocessing" in line:
        print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (default 5)")
    parser.add_argument("--quick", action="store_true", help="fewer calls and two rounds: does it work at all")
    parser.add_argument("--only", choices=["apply", "map", "start"])
    parser.add_argument("--output", type=Path, default=HERE.parent / "build" / "bench-smoke.json")
    options = parser.parse_args()
    rounds = 2 if options.quick else options.rounds
    import multiprocessing

    default = multiprocessing.get_context().get_start_method()
    figures = [figure for figure in FIGURES if options.only in (None, figure[0])]
    runs = list(dict.fromkeys((workload, method) for workload, method, _, _ in figures))
    found: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    began = time.monotonic()
    for number in range(1, rounds + 1):
        for workload, method in runs:
            # The two take turns in going first.
            for peer in PEERS if number % 2 else PEERS[::-1]:
                show(f"round {number} of {rounds} · {workload} · {peer}", began)
                real = default if method == DEFAULT else method
                found.setdefault((peer, workload, method), []).append(measure(peer, workload, real, options.quick))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)

    world = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
        "default start method": default,
        "rounds": rounds,
        "quick": options.quick,
    }
    print(
        f"Python {world['python']}, Linux {world['kernel']}, {world['cores']} cores, start method {default} where "
        f"none is named;\nmedian of {rounds} rounds (fastest..slowest), each measured in a fresh process.\n"
    )
    rows = [["", "standard library", "manyhands", "times faster"]]
    report: list[dict[str, Any]] = []
    for workload, method, figure, text in figures:
        cells, medians = [], []
        for peer in PEERS:
            values = sorted(one[figure] for one in found[peer, workload, method])
            medians.append(statistics.median(values))
            cells.append(f"{seconds(medians[-1])} ({seconds(values[0])}..{seconds(values[-1])})")
        name = text.format(calls=5_000 if options.quick else 50_000)
        rows.append([name, *cells, f"{medians[0] / medians[1]:.1f}"])
        report.append({"what": name, **dict(zip(PEERS, medians, strict=True)), "ratio": medians[0] / medians[1]})
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("   ".join(cells))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"world": world, "figures": report}, indent=2) + "\n")


if __name__ == "__main__":
    main()
