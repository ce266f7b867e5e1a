"""What was measured, as text: a table for each figure, or a line for each figure where two peers are compared.

Not here: what the ratios are (`results`), the picture (`picture`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benches.machine import CALM
from benches.peers import OURS
from benches.results import Row

NOT_YET = "not there yet"


def world(found: dict[str, Any]) -> str:
    """Where the figures were measured."""
    lines = [
        f"CPython {found['python']}, Linux {found['kernel']}, {found['cores']} cores; "
        f"medians of {found['rounds']} rounds (fastest..slowest), every measurement in a fresh process",
        ", ".join(f"{name} {version}" for name, version in found["packages"].items()),
    ]
    if found["quick"]:
        lines.append("quick: a tenth of the calls that the names tell")
    if found["free"] < CALM:
        lines.append(f"THIS MACHINE IS BUSY: plain loops get {found['free']:.2f} of its cores")
    return "\n".join(lines)


def value(row: Row, peer: str, figure: str, rounds: int) -> tuple[str, str]:
    """The median and the spread of a cell as text, or what happened instead."""
    cell = row.peers.get(peer)
    if cell is None:
        return (NOT_YET if peer == OURS else "-"), ""
    if cell.error:
        return ("WRONG" if cell.wrong else cell.error.partition(" (")[0].partition(":")[0]), cell.error
    unit, median, values = row.unit(figure), row.median(peer, figure), cell.values.get(figure, [])
    if median is None:
        return "", ""
    ends = sorted(values, reverse=unit.more_is_better)
    few = f" ({len(values)} of {rounds} rounds)" if len(values) < rounds else ""
    return unit.show(median), f"{unit.show(ends[0])}..{unit.show(ends[-1])}{few}"


def ratio(found: float | None) -> str:
    """How many times better, three digits."""
    return "" if found is None else f"{found:.3g}" if found < 1000 else f"{found:.0f}"


def aligned(lines: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Lines of cells in columns: the first to the left, numbers to the right, the last as it is."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    texts = []
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:-1], widths[1:-1], strict=True))]
        texts.append((indent + "   ".join([*cells, line[-1]])).rstrip())
    return texts


def of_row(row: Row, shown: Sequence[str], rounds: int) -> str:
    """A table for each figure of a row: peer, median, times better than the standard library, spread."""
    texts = []
    for figure in row.figures:
        base, lines = row.baseline(figure), [["", "median", "against stdlib", "fastest..slowest"]]
        ranked = sorted(shown, key=lambda name: -(row.times_better(name, base, figure) or 0.0))
        for peer in ranked if base else shown:
            if peer in row.peers or peer == OURS:
                median, spread = value(row, peer, figure, rounds)
                lines.append([peer, median, ratio(row.times_better(peer, base, figure)), spread])
        texts += ["", row.title(figure), *aligned(lines, "  ")]
        other = row.best_other(figure)
        times = row.times_better(OURS, other, figure)
        if times is not None:
            texts.append(f"  manyhands / best other ({other}): {ratio(times)} times as good")
    return "\n".join(texts)


def of_rows(rows: Sequence[Row], shown: Sequence[str], rounds: int) -> str:
    """What `results.together` put together: a row's tables, or those of a curve."""
    return of_curve(rows, shown, rounds) if rows[0].curve else of_row(rows[0], shown, rounds)


def of_curve(rows: Sequence[Row], shown: Sequence[str], rounds: int) -> str:
    """A table for each figure of a curve: a line for each peer, the medians with 1, 2, 4 and more workers."""
    texts = []
    for figure in rows[0].figures:
        # Who has a cell somewhere is merely not measured with more.
        lines = [
            [peer, *(value(row, peer, figure, rounds)[0] if peer in row.peers else "-" for row in rows), ""]
            for peer in shown
            if any(peer in row.peers for row in rows)
        ]
        lines.insert(0, ["workers", *(str(row.workers) for row in rows), ""])
        texts += ["", rows[0].curve_title(figure), *aligned(lines, "  ")]
    return "\n".join(texts)


def side_by_side(rows: Sequence[Row], first: str, second: str, rounds: int) -> str:
    """One line for each figure, for two peers, with how many times better the second is."""
    lines = [["", first, second, "times better"]]
    for row in rows:
        for figure in row.figures:
            cells = [
                " ".join(filter(None, [m, f"({s})" if s else ""])) for m, s in _both(row, first, second, figure, rounds)
            ]
            lines.append([row.title(figure), *cells, ratio(row.times_better(second, first, figure)).rjust(12)])
    return "\n".join(aligned(lines))


def _both(row: Row, first: str, second: str, figure: str, rounds: int) -> list[tuple[str, str]]:
    return [value(row, peer, figure, rounds) for peer in (first, second)]
