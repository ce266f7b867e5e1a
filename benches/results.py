"""What was measured: rows of a workload and a start method, with a cell for each peer, kept in a JSON file.

Always: raw values are kept, each of them; medians and ratios are reckoned from them when they are shown. The file is
written whole beside its place and renamed, so a run that is cut short leaves what it had.
Not here: measuring (`turns`), showing (`tables`, `picture`).
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benches.peers import BASELINES, OURS
from benches.workload import UNITS, WORKERS, Unit


@dataclass
class Cell:
    """One peer's values, in the order of the rounds, for each figure of the workload; or why there are none."""

    values: dict[str, list[float]] = field(default_factory=dict)
    error: str | None = None
    # The error is a wrong answer, not a failure to give one.
    wrong: bool = False
    seconds: float = 0.0

    def add(self, figures: dict[str, float]) -> None:
        """Another round's figures."""
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)


@dataclass
class Row:
    """A workload, for one start method where it names one; of a curve the point for so many workers."""

    workload: str
    group: str
    method: str | None
    figures: dict[str, str]
    peers: dict[str, Cell] = field(default_factory=dict)
    curve: str = ""
    workers: int = WORKERS

    def title(self, figure: str) -> str:
        """What a reader calls this figure of the row."""
        by = f" by {self.method}" if self.method else ""
        return f"{self.workload}{by}{': ' * bool(figure)}{figure}"

    def curve_title(self, figure: str) -> str:
        """What a reader calls this figure of the curve that the row is a point of."""
        return f"{self.curve}{': ' * bool(figure)}{figure}"

    def unit(self, figure: str) -> Unit:
        """The unit of a figure."""
        return UNITS[self.figures[figure]]

    def median(self, peer: str, figure: str) -> float | None:
        """The median of a peer's values; None if it has none, or failed in any round."""
        cell = self.peers.get(peer)
        if cell is None or cell.error or not cell.values.get(figure):
            return None
        return statistics.median(cell.values[figure])

    def times_better(self, peer: str, other: str | None, figure: str) -> float | None:
        """How many times better `peer` is than `other`: 2 is half the time or twice the rate; None if unknown."""
        ours, theirs = self.median(peer, figure), self.median(other, figure) if other else None
        if not ours or not theirs:
            return None
        return ours / theirs if self.unit(figure).more_is_better else theirs / ours

    def baseline(self, figure: str) -> str | None:
        """The standard library's own package that ratios of this row are taken to."""
        return next((name for name in BASELINES if self.median(name, figure) is not None), None)

    def best_other(self, figure: str) -> str | None:
        """The best peer that is not manyhands."""
        found = {name: self.median(name, figure) for name in self.peers if name != OURS}
        known = {name: value for name, value in found.items() if value is not None}
        if not known:
            return None
        return (max if self.unit(figure).more_is_better else min)(known, key=known.__getitem__)


def together(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """What is shown as one: a row alone, or the points of a curve that stand one after the other."""
    group: list[Row] = []
    for row in rows:
        if group and not (row.curve and row.curve == group[-1].curve):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


@dataclass
class Results:
    """Everything of one run."""

    world: dict[str, Any]
    rows: list[Row] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Puts the file in place, whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(json.dumps(asdict(self), indent=1) + "\n")
        beside.replace(path)

    @classmethod
    def read(cls, path: Path) -> Results:
        """What `write` wrote."""
        found = json.loads(path.read_text())
        rows = []
        for row in found["rows"]:
            cells = {name: Cell(**cell) for name, cell in row.pop("peers").items()}
            rows.append(Row(**row, peers=cells))
        return cls(found["world"], rows)

    def failures(self, peers: Iterable[str] | None = None) -> list[tuple[str, str, Cell]]:
        """Row, peer and cell of what failed."""
        return [
            (row.title(""), name, cell)
            for row in self.rows
            for name, cell in row.peers.items()
            if cell.error and (peers is None or name in peers)
        ]
