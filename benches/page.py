"""What was measured, as a page: for each group of workloads a table and its pictures.

    python -m benches.page docs/benchmarks.md build/bench.json [MORE.json...]

Always: no figure is typed by hand, and the page says where and when it was measured; what was measured in less than
three rounds is refused, and so is what was measured on a busy machine, unless `--busy` says that its ratios are wanted
all the same: the page then says how busy it was. Groups that were not measured again stay on the page as they were,
with where and when that was.
Not here: measuring, the pictures (`picture`), which lie in `pictures` beside the page.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from benches import tables
from benches.machine import CALM
from benches.peers import OURS
from benches.results import Results, Row, together

LEAST_ROUNDS = 3
HEAD = """# Benchmarks

Every workload of `make bench`, with manyhands, the standard library and the best of the other peers that have what it
needs: medians, with the fastest and the slowest round in brackets; *times* is how many times better manyhands is, so
more than 1 is better for times as for rates. Each with its own defaults, and with no argument that the standard
library does not have. What the figures mean, and what bounds them, is in [where time goes](design/performance.md);
[CONTRIBUTING](../CONTRIBUTING.md) says how to measure them on another machine.

Written by `python -m benches.page`.
"""


def page(found: list[Results], pictures: Path, before: str = "") -> str:
    """The whole page, for what was found; `before` is the page as it was."""
    groups = read(before)
    for results in found:
        world = tables.world(results.world)
        for group in dict.fromkeys(row.group for row in results.rows):
            rows = [row for row in results.rows if row.group == group]
            lines = list(_section(rows, results.world["rounds"]))
            for kind in ("", "-workers"):
                picture = pictures / f"bench-{group}{kind}.svg"
                if picture.exists():
                    lines += [f"![{group}: each peer against the standard library](pictures/{picture.name})", ""]
            groups[group] = world, "\n".join(lines).strip()
    parts, last = [HEAD], None
    for group, (world, text) in groups.items():
        if world != last:
            parts += ["", "```", world, "```", ""]
        parts += [f"## {group.capitalize()}", "", text, ""]
        last = world
    return "\n".join(parts).rstrip() + "\n"


def read(text: str) -> dict[str, tuple[str, str]]:
    """The groups of a page, with where each was measured, and its text."""
    found, world = {}, ""
    for part in re.split(r"^(?=```\n|## )", text, flags=re.MULTILINE):
        if part.startswith("## "):
            title, _, body = part.partition("\n")
            found[title.removeprefix("## ").lower()] = world, body.strip()
        elif part.startswith("```\nCPython "):
            world = part.removeprefix("```\n").removesuffix("\n")
    return found


def _section(rows: list[Row], rounds: int) -> Iterator[str]:
    bars = [points[0] for points in together(rows) if not points[0].curve]
    if bars:
        yield "| | manyhands | standard library | times | best other peer | | times |"
        yield "|---|---:|---:|---:|---|---:|---:|"
        for row in bars:
            yield from (_line(row, figure, rounds) for figure in row.figures)
        yield ""
    for points in together(rows):
        if points[0].curve:
            yield from _curve(points)


def _line(row: Row, figure: str, rounds: int) -> str:
    base = row.baseline(figure)
    others = {name: row.median(name, figure) for name in row.peers if name not in (OURS, base)}
    known = {name: value for name, value in others.items() if value is not None}
    best = (max if row.unit(figure).more_is_better else min)(known, key=known.__getitem__) if known else None

    def shown(peer: str | None) -> str:
        return " ".join(f"{m} ({s})" if s else m for m, s in [tables.value(row, peer, figure, rounds)]) if peer else ""

    times = [tables.ratio(row.times_better(OURS, peer, figure)) for peer in (base, best)]
    cells = [row.title(figure), shown(OURS), shown(base), times[0], best or "", shown(best), times[1]]
    return f"| {' | '.join(cells)} |"


def _curve(points: list[Row]) -> Iterator[str]:
    for figure in points[0].figures:
        peers = dict.fromkeys(peer for row in points for peer in row.peers)
        yield f"| {points[0].curve_title(figure)}: workers | {' | '.join(str(row.workers) for row in points)} |"
        yield f"|---|{'---:|' * len(points)}"
        for peer in peers:
            cells = [tables.value(row, peer, figure, 0)[0] if peer in row.peers else "" for row in points]
            yield f"| {peer} | {' | '.join(cells)} |"
        yield ""


def load(path: Path, busy: bool = False) -> Results:
    """What a run left, if it is worth telling."""
    if not path.exists():
        raise SystemExit(f"there is no {path}: run 'make bench' first")
    results = Results.read(path)
    if results.world["quick"] or results.world["rounds"] < LEAST_ROUNDS:
        raise SystemExit(f"{path} is of a quick run: run 'make bench' with {LEAST_ROUNDS} rounds or more")
    if results.world["free"] < CALM and not busy:
        raise SystemExit(
            f"{path} was measured on a busy machine: run 'make bench' again when it is idle, or say --busy if only "
            "ratios matter"
        )
    return results


def main() -> int:
    """Writes the page."""
    parser = argparse.ArgumentParser(prog="benches.page", description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, help="the Markdown file")
    parser.add_argument("results", type=Path, nargs="+", help="JSON files of `make bench`")
    parser.add_argument("--busy", action="store_true", help="take what was measured on a busy machine too, and say so")
    chosen = parser.parse_args()
    found = [load(path, chosen.busy) for path in chosen.results]
    before = chosen.page.read_text() if chosen.page.exists() else ""
    chosen.page.write_text(page(found, chosen.page.parent / "pictures", before))
    return 0


if __name__ == "__main__":
    sys.exit(main())
