"""Writes the README's figures from what `make demo` and `make bench-smoke` left in build/.

    figures.py README.md

Always: no figure is typed by hand, and each table says on what it was measured and how to repeat it.
Refuses figures of a machine that was busy with something else: they would tell nothing.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BUILD = Path(__file__).parent.parent / "build"
PEERS = ("multiprocessing", "manyhands")
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


def load(name: str, made_by: str) -> dict[str, Any]:
    """What a measurement left behind."""
    path = BUILD / name
    if not path.exists():
        raise SystemExit(f"there is no {path}: run '{made_by}' first")
    found: dict[str, Any] = json.loads(path.read_text())
    if found["world"].get("quick") or found["world"]["rounds"] < 3:
        raise SystemExit(f"{path} is of a quick run: run '{made_by}' first")
    if min(found["world"].get(share, 1) for share in ("cores of the plain loop", "free")) < 0.9:
        raise SystemExit(f"{path} was measured on a busy machine: run '{made_by}' again when it is idle")
    return found


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def seconds(value: float) -> str:
    """A duration in the unit that fits it."""
    factor, unit = (1e6, "µs") if value < 1e-3 else (1e3, "ms")
    return f"{value * factor:.3g} {unit}" if value * factor < 100 else f"{value * factor:.0f} {unit}"


def compared(rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    """The lines of the smoke benchmark: what, standard library, manyhands, how many times faster."""
    for row in rows:
        for figure, unit in row["figures"].items():
            if figure in ("made", "stop"):
                continue
            medians = [statistics.median(row["peers"][peer]["values"][figure]) for peer in PEERS]
            # A rate reads as the time of one call.
            theirs, ours = [1 / median if unit == "1/s" else median for median in medians]
            by = f" by {row['method']}" if row["method"] else ""
            what = f"{row['workload']}{by}{': ' * bool(figure)}{figure}{', a call' * (unit == '1/s')}"
            yield [what, seconds(theirs), seconds(ours), f"{theirs / ours:.1f}"]


def figures() -> str:
    """The whole section."""
    parse, smoke = load("demo-parse.json", "make demo"), load("bench-smoke.json", "make bench-smoke")
    keep = [0, 1, 3, 4, 5, 7]  # way, median, speed-up, cores busy, start, memory
    bench = list(compared(smoke["rows"]))
    for found in (parse, smoke):
        found["world"]["kernel"] = found["world"]["kernel"].partition("-")[0]
    world = "CPython {python}, {cores} cores, Linux {kernel}, medians of {rounds} interleaved rounds in fresh processes"
    return f"""## Measured

Parsing all source files of the standard library with `ast` (`make demo`; {world.format(**parse["world"])}):

{markdown([parse["headings"][i] for i in keep], [[row[i] for i in keep] for row in parse["rows"]])}
Small tasks, and the start of a pool of two (`make bench-smoke`; {world.format(**smoke["world"])}):

{markdown(["", "standard library", "manyhands", "times faster"], bench)}"""


def main() -> None:
    """Rewrites the part of the README between the marks."""
    path = Path(sys.argv[1])
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}{figures()}{END}{after}")


if __name__ == "__main__":
    main()
