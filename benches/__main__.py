"""The command line: every workload against every peer that has what it needs.

    python -m benches [--only PART] [--peers A,B] [--rounds N] [--quick] [--smoke] [--list]

Prints a table for each figure as soon as it is measured, keeps all values in build/bench.json, draws docs/pictures
where matplotlib is at hand. The exit status is 1 if an answer was wrong, or if manyhands or the standard library
failed; others that hang or fail cost their cells.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from benches import fresh, machine, tables
from benches.catalogue import load
from benches.peer import Peer
from benches.peers import BASELINES, OURS
from benches.results import Cell, Results, Row, together
from benches.turns import ROOT, Measure, in_a_fresh_process, take
from benches.workload import Workload

SMOKE = (BASELINES[0], OURS)


def options() -> argparse.Namespace:
    """What the caller wants."""
    parser = argparse.ArgumentParser(prog="benches", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", metavar="PART", help="a group, or workloads with this in their names; several by commas"
    )
    parser.add_argument("--peers", metavar="A,B", help="these peers only, by name")
    parser.add_argument("--rounds", type=_counted, help="how often everything is measured (default 5; quick: 2)")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: does it work at all")
    parser.add_argument(
        "--smoke", action="store_true", help="the few workloads of CI, manyhands and the standard library"
    )
    parser.add_argument(
        "--limit", type=float, default=120.0, help="seconds that one measurement may take (default 120)"
    )
    parser.add_argument("--output", type=Path, help="the JSON file (default build/bench.json)")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw what was measured there")
    parser.add_argument("--also", action="append", default=[], metavar="MODULE", help="peers and workloads of your own")
    parser.add_argument("--list", action="store_true", help="name workloads and peers, and measure nothing")
    return parser.parse_args()


def _counted(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


def choose(chosen: argparse.Namespace) -> tuple[dict[str, Peer], list[Workload]]:
    """The peers that are wanted and the workloads that are wanted; an unknown name ends the program."""
    peers, workloads = load(chosen.also)
    names = chosen.peers.split(",") if chosen.peers else [*(SMOKE if chosen.smoke else peers)]
    unknown = [name for name in names if name not in peers]
    if unknown:
        raise SystemExit(f"benches: no peer is called {', '.join(unknown)}; there are {', '.join(peers)}")
    # Nothing between two commas is in every name, and would measure everything.
    parts = [""] if chosen.only is None else [*filter(None, map(str.strip, chosen.only.lower().split(",")))]
    groups = {one.group for one in workloads}
    found = [
        workload
        for workload in workloads
        if any(part == workload.group if part in groups else part in workload.name.lower() for part in parts)
        and (workload.smoke or not chosen.smoke)
    ]
    if not found:
        raise SystemExit(
            f"benches: no workload has {chosen.only!r} in its name; groups: {', '.join(sorted(groups))}; see --list"
        )
    return {name: peers[name] for name in names}, found


def present(peers: dict[str, Peer]) -> dict[str, str]:
    """The versions of the peers that are here; a line for each that is not."""
    versions = {}
    for name, peer in peers.items():
        version = peer.installed()
        if version is None:
            print(f"{name} is not installed here ({peer.distribution}): left out", file=sys.stderr)
        else:
            versions[name] = version
    return versions


def rows_of(workloads: Iterable[Workload], peers: dict[str, Peer]) -> list[Row]:
    """What is to be measured: a row for each workload and start method, a cell for each peer that offers it."""
    rows = []
    for workload in workloads:
        for method in workload.methods or (None,):
            units = {name: unit.name for name, unit in workload.figures.items()}
            cells = {
                name: Cell() for name, peer in peers.items() if peer.offers(workload.needs, method, workload.workers)
            }
            if cells:
                row = Row(workload.name, workload.group, method, units, cells, workload.curve, workload.workers)
                rows.append(row)
    return rows


def show(text: str) -> None:
    """A progress line, rewritten in place on a terminal, a line of its own elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def run(results: Results, rows: list[Row], measure: Measure, output: Path, versions: dict[str, str]) -> None:
    """Measures row after row; what is measured is in the file from then on, and on the screen when its row, or the
    curve that it belongs to, is done."""
    rounds, began, two = results.world["rounds"], time.monotonic(), len(versions) == 2
    last = {id(group[-1]): group for group in together(rows)}
    for at, row in enumerate(rows, 1):
        results.rows.append(row)
        results.write(output)
        for step, (number, peer, _) in enumerate(take(row, rounds, measure)):
            if step % 2:
                results.write(output)
            elif sys.stderr.isatty() or peer == next(iter(row.peers)):
                elapsed = time.monotonic() - began
                name = f"{row.title('')} · round {number + 1} of {rounds} · {peer}"
                show(f"[{elapsed // 60:.0f}:{elapsed % 60:02.0f}] {at} of {len(rows)} · {name}")
        if id(row) in last and (not two or row.curve):
            show("") if sys.stderr.isatty() else None
            print(tables.of_rows(last[id(row)], list(versions), rounds), flush=True)
    if sys.stderr.isatty():
        show("")


def main() -> int:
    """Chooses, measures, shows."""
    chosen = options()
    peers, workloads = choose(chosen)
    if chosen.list:
        for row in rows_of(workloads, peers):
            print(f"{row.group:10}{row.title('')}: {', '.join(row.peers)}")
        return 0
    versions = present(peers)
    rows = rows_of(workloads, {name: peers[name] for name in versions})
    rounds = chosen.rounds or (2 if chosen.quick else 5)
    output = chosen.output or ROOT / "build" / ("bench-smoke.json" if chosen.smoke else "bench.json")
    world = machine.world(versions, rounds, chosen.quick)
    results = Results(world)
    print(tables.world(world), flush=True)
    fresh.adopt_orphans()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what ends us ends what we have started
    measure = in_a_fresh_process(chosen.quick, chosen.limit, chosen.also)
    status = 0
    try:
        run(results, rows, measure, output, versions)
    except KeyboardInterrupt:
        print(f"\ncut short; what was measured is in {output}", file=sys.stderr)
        status = 130
    if len(versions) == 2:
        single = [row for row in results.rows if not row.curve]
        if single:
            print(f"\n{tables.side_by_side(single, *versions, rounds)}")
    for title, name, cell in results.failures():
        print(f"FAILED {name}, {title}: {cell.error}")
    if chosen.pictures:
        draw(results, chosen.pictures)
    if status:
        return status
    serious = [cell for _, name, cell in results.failures() if cell.wrong or name in (*BASELINES, OURS)]
    return int(bool(serious))


def draw(results: Results, folder: Path) -> None:
    """The pictures, where they can be drawn."""
    try:
        from benches import picture
    except ImportError as error:
        print(f"no pictures: {error}", file=sys.stderr)
        return
    for path in picture.draw(results, folder):
        print(f"drawn: {path}")


if __name__ == "__main__":
    sys.exit(main())
