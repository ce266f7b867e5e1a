"""Prints what `cargo bench` measured of the engine, each figure beside the floor of its group.

    floors.py STAMP

Reads what criterion leaves in the target folder: what one step, or one of its elements, took, as median and as the
fastest of the readings. The fastest is what to look at on a machine that others use too. Shown is what was measured
since the file STAMP was touched, in groups whose floor was.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

UNITS = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)]


@dataclass
class Figure:
    """One measured figure, in nanoseconds."""

    group: str
    name: str
    median: float
    fastest: float
    measured: float

    @property
    def is_floor(self) -> bool:
        """Whether the others of its group stand on it."""
        return self.name.startswith("floor: ")


def read(folder: Path) -> Figure:
    """What criterion keeps in one figure's folder."""
    about, estimates, sample = (
        json.loads((folder / name).read_text()) for name in ("benchmark.json", "estimates.json", "sample.json")
    )
    elements = (about["throughput"] or {}).get("Elements", 1)
    fastest = min(time / steps for time, steps in zip(sample["times"], sample["iters"], strict=True))
    median = estimates["median"]["point_estimate"]
    measured = (folder / "sample.json").stat().st_mtime
    return Figure(about["group_id"], about["function_id"], median / elements, fastest / elements, measured)


def shown(ns: float) -> str:
    """A duration in the unit that fits it."""
    unit, size = [(unit, size) for unit, size in UNITS if ns >= size or size == 1.0][-1]
    value = ns / size
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def rows(figures: list[Figure]) -> list[list[str]]:
    """The table's lines: groups in the order in which they were measured, floors first."""
    lines = []
    for floor in sorted((figure for figure in figures if figure.is_floor), key=lambda floor: floor.measured):
        lines.append([floor.group, floor.name, shown(floor.median), "", shown(floor.fastest), ""])
        others = [one for one in figures if one.group == floor.group and not one.is_floor]
        for one in sorted(others, key=lambda one: one.measured):
            ratios = [
                f"{ratio:.{1 if ratio < 10 else 0}f}"
                for ratio in (one.median / floor.median, one.fastest / floor.fastest)
            ]
            lines.append(["", one.name, shown(one.median), ratios[0], shown(one.fastest), ratios[1]])
    return lines


def main() -> None:
    """Prints the table."""
    began = Path(sys.argv[1]).stat().st_mtime
    target = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("target_dir.py"))], capture_output=True, text=True, check=True
    ).stdout.strip()
    figures = [read(path.parent) for path in Path(target, "criterion").glob("*/*/new/sample.json")]
    table = rows([figure for figure in figures if figure.measured >= began])
    if not table:
        raise SystemExit("nothing was measured together with its floor")
    table.insert(0, ["", "", "median", "floors", "fastest", "floors"])
    busy = " ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"\n{os.cpu_count()} cores, Linux {platform.release()}, load averages {busy}\n")
    widths = [max(len(line[column]) for line in table) for column in range(6)]
    for line in table:
        padded = [
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(padded).rstrip())


if __name__ == "__main__":
    main()
