"""What was measured, as pictures: for each group of workloads a bar for each peer, against the standard library.

Always: the axis is logarithmic and 1 is the standard library; to the right is better, for times as for rates. A peer
that failed has its word instead of a bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benches.peers import BASELINES, OURS, PEERS
from benches.results import Results, Row

# Colours that people with weak colour vision can tell apart as well; ours is the only strong one.
PALETTE = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#aa3377", "#bb9977", "#88aa99", "#997700", "#6655aa", "#999999")
OTHERS = [peer.name for peer in PEERS if peer.name not in (*BASELINES, OURS)]
COLOURS = dict(zip(OTHERS, PALETTE, strict=False)) | {BASELINES[0]: "#555555", BASELINES[1]: "#aaaaaa", OURS: "#ee3322"}
BAR, GAP = 0.15, 0.22  # inches


def draw(results: Results, folder: Path) -> list[Path]:
    """Writes an SVG for each group that has something to compare; returns where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    # The same figures make the same file, and text stays text.
    mpl.rcParams.update({"svg.hashsalt": "benches", "svg.fonttype": "none", "font.size": 8})
    for group in dict.fromkeys(row.group for row in results.rows):
        shown = [row for row in results.rows if row.group == group and _comparable(row)]
        if shown:
            path = folder / f"bench-{group}.svg"
            _figure(results, shown, group).savefig(path, metadata={"Date": None})
            paths.append(path)
    return paths


def _comparable(row: Row) -> bool:
    return any(row.baseline(figure) for figure in row.figures) and len(row.peers) > 1


def _figure(results: Results, rows: Sequence[Row], group: str) -> Figure:
    # One figure of a workload is enough for a look: its first.
    lines = [(row, next(iter(row.figures))) for row in rows]
    bars = sum(len(row.peers) for row in rows)
    head, foot = 0.55, 0.75
    height = bars * BAR + len(lines) * GAP + head + foot
    drawing = Figure(figsize=(9, height), layout="none")
    axes = drawing.add_axes((0.36, foot / height, 0.56, 1 - (head + foot) / height))
    at, ticks = 0.0, []
    for row, figure in lines:
        base = row.baseline(figure)
        top = at
        known = {name: row.times_better(name, base, figure) for name in row.peers}
        for name in sorted(known, key=lambda name: -(known[name] or 0.0)):
            _bar(axes, row, name, figure, known[name], at)
            at += BAR
        ticks.append(((top + at - BAR) / 2, _wrapped(row.title(figure))))
        axes.axhline(at - BAR / 2 + GAP / 2, color="#dddddd", linewidth=0.6)
        at += GAP
    axes.set_xscale("log")
    axes.axvline(1, color="#555555", linewidth=0.8)
    axes.set_ylim(at - GAP / 2 - BAR / 2, -BAR)
    low, high = axes.get_xlim()
    axes.set_xlim(low / 1.5, high * 6)  # room for the words behind the bars
    axes.set_yticks([where for where, _ in ticks], [text for _, text in ticks])
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("times as good as the standard library (1)")
    world = results.world
    quick = ", quick" if world.get("quick") else ""
    drawing.text(0.01, 1 - 0.2 / height, f"{group}: manyhands and its peers", fontsize=11, weight="bold", va="center")
    drawing.text(
        0.01,
        1 - 0.4 / height,
        f"CPython {world['python']}, {world['cores']} cores, Linux {world['kernel'].partition('-')[0]}, "
        f"medians of {world['rounds']} rounds{quick}; make bench",
        color="#555555",
        va="center",
    )
    return drawing


def _bar(axes: Axes, row: Row, name: str, figure: str, times: float | None, at: float) -> None:
    ours = name == OURS
    style = {
        "va": "center",
        "fontsize": 6.5,
        "weight": "bold" if ours else "normal",
        "color": COLOURS[OURS] if ours else "#333333",
    }
    median = row.median(name, figure)
    if times is None or median is None:
        word = (
            "hung"
            if (row.peers[name].error or "").startswith("hung")
            else "failed"
            if row.peers[name].error
            else "no ratio"
        )
        axes.text(1.05, at, f"{name}: {word}", **{**style, "style": "italic"})
        return
    axes.barh(at, times - 1, left=1, height=BAR * 0.85, color=COLOURS.get(name, "#999999"))
    axes.text(max(times, 1.0) * 1.05, at, f"{name}  {row.unit(figure).show(median)}", **style)


def _wrapped(text: str, width: int = 44) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
