"""The peers take turns: which is measured when, and what becomes of one that fails, hangs or takes long.

Always: within a round each peer of a row is measured once, and the round after begins with the next peer, so a machine
that slows down for a while slows all. A cell that failed or hung is not tried again: it costs its one limit. One that
took long is not repeated, and its table says so.
Not here: the process of a measurement (`fresh`), what is kept of it (`results`).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches import fresh
from benches.results import Cell, Row
from benches.workload import UNNAMED

ROOT = Path(__file__).parent.parent
# A measurement that takes longer than this is not repeated.
LONG = 20.0


@dataclass(frozen=True)
class Outcome:
    """What came of one measurement."""

    figures: dict[str, float]
    error: str | None = None
    wrong: bool = False
    seconds: float = 0.0


Measure = Callable[[str, Row], Outcome]


def order(peers: Sequence[str], turn: int) -> list[str]:
    """The peers of a round: every round begins with the next one."""
    at = turn % len(peers) if peers else 0
    return [*peers[at:], *peers[:at]]


def take(row: Row, rounds: int, measure: Measure) -> Iterator[tuple[int, str, Cell]]:
    """Measures all peers of a row so many rounds; yields round, peer and cell before and after each measurement."""
    peers = list(row.peers)
    for number in range(rounds):
        for peer in order(peers, number):
            cell = row.peers[peer]
            if cell.error or cell.seconds > LONG:
                continue
            yield number, peer, cell
            outcome = measure(peer, row)
            cell.seconds = max(cell.seconds, outcome.seconds)
            if outcome.error:
                cell.error, cell.wrong = outcome.error, outcome.wrong
            else:
                cell.add(outcome.figures)
            yield number, peer, cell


def in_a_fresh_process(quick: bool, limit: float, also: Sequence[str] = ()) -> Measure:
    """The real measure: `benches.one` in a new process for each measurement."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    # A program's modules are compiled once; or every worker that imports one would compile it, and be timed so.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def measure(peer: str, row: Row) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            answer = Path(folder) / "answer"
            command = [sys.executable, "-W", "ignore", "-m", "benches.one", peer, row.workload, row.method or UNNAMED]
            command += ["--to", str(answer), *(f"--also={name}" for name in also), *["--quick"] * quick]
            begun = time.monotonic()
            ended = fresh.run(command, limit, environment)
            took = time.monotonic() - begun
            if ended.status is None:
                return Outcome({}, f"hung (more than {limit:.0f} s)", seconds=took)
            try:
                found: dict[str, Any] = json.loads(answer.read_text())
            except (OSError, ValueError):
                last = (ended.output.strip().splitlines() or ["it said nothing"])[-1]
                return Outcome({}, f"ended with status {ended.status}: {last}", seconds=took)
        return Outcome(found.get("figures", {}), found.get("error"), found.get("wrong", False), took)

    return measure
