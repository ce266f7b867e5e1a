"""Locks, queues, pipes and managers against the standard library's, in one run.

    primitives.py [--rounds N] [--only PART]

Each figure is measured in turn with both packages, start method fork, each time in a fresh process; the table shows
medians, fastest and slowest, and how many times faster (below 1: slower) manyhands is. One measure alone, as one
number of seconds, for `strace -c` and its like:

    primitives.py --measure NAME --package manyhands
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import channels
import sync

MEASURES: dict[str, Callable[[Any], float]] = sync.MEASURES | channels.MEASURES
PACKAGES = ("multiprocessing", "manyhands")


def measured(package: str, name: str) -> float:
    """One measurement in a process of its own, in seconds."""
    command = [sys.executable, "-W", "ignore", __file__, "--measure", name, "--package", package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"primitives: {name} with {package} failed:\n{done.stdout}{done.stderr}")
    return float(done.stdout)


def main() -> None:
    """Measures both packages in turn, so that both see the same machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (default 5)")
    parser.add_argument("--only", default="", metavar="PART", help="figures whose name has this in it")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "build" / "bench-primitives.json")
    parser.add_argument("--measure", choices=MEASURES, metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("--package", choices=PACKAGES, default="manyhands", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(MEASURES[options.measure](importlib.import_module(options.package).get_context("fork")))
        return
    names = [name for name in MEASURES if options.only.lower() in name.lower()]
    if not names:
        parser.error(f"no figure has {options.only!r} in its name; there are: {', '.join(MEASURES)}")
    print(
        f"CPython {sys.version.split()[0]}, fork, medians of {options.rounds} rounds (fastest..slowest), microseconds"
    )
    print(f"{'':32}{'standard library':>28}{'manyhands':>28}{'times faster':>14}")
    report, began = [], time.monotonic()
    for name in names:
        found: dict[str, list[float]] = {package: [] for package in PACKAGES}
        for number in range(options.rounds):
            for package in PACKAGES if number % 2 else PACKAGES[::-1]:
                found[package].append(measured(package, name) * 1e6)
        medians = [statistics.median(found[package]) for package in PACKAGES]
        cells = [f"{statistics.median(v):.4g} ({min(v):.4g}..{max(v):.4g})" for v in found.values()]
        print(f"{name:32}{cells[0]:>28}{cells[1]:>28}{medians[0] / medians[1]:14.2f}", flush=True)
        report.append({"what": name, **{package: found[package] for package in PACKAGES}})
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"python": sys.version.split()[0], "microseconds": report}, indent=2) + "\n")
    print(f"{len(names)} figures in {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
