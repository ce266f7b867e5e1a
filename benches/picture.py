"""What was measured, as pictures: for each group of workloads a bar for each peer, against the standard library; and
of curves a line for each peer, from 1 worker to the most.

Always: the axis of bars is logarithmic and 1 is the standard library; to the right is better, for times as for rates.
A peer that failed has its word instead of a bar, one without a ratio its figure. Ours comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benches.peers import BASELINES, OURS, PEERS
from benches.results import Results, Row, together
from benches.workload import Unit

# Colours that people with weak colour vision can tell apart as well; ours is the only strong one.
PALETTE = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#aa3377", "#bb9977", "#88aa99", "#997700", "#6655aa", "#999999")
OTHERS = [peer.name for peer in PEERS if peer.name not in (*BASELINES, OURS)]
COLOURS = dict(zip(OTHERS, PALETTE, strict=False)) | {BASELINES[0]: "#555555", BASELINES[1]: "#aaaaaa", OURS: "#ee3322"}
MARKERS = {OURS: "o"} | dict(zip([*BASELINES, *OTHERS], "sDv^<>pPX*hd", strict=False))
BAR, GAP = 0.15, 0.22  # inches
PANEL, BETWEEN = 2.3, 0.75  # heights, in inches, of a curve's panel and of what is below it


def draw(results: Results, folder: Path) -> list[Path]:
    """Writes an SVG for each group that has something to compare; returns where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    # The same figures make the same file, and text stays text.
    mpl.rcParams.update({"svg.hashsalt": "benches", "svg.fonttype": "none", "font.size": 8})
    for group in dict.fromkeys(row.group for row in results.rows):
        rows = [row for row in results.rows if row.group == group]
        shown = [row for row in rows if not row.curve and _comparable(row)]
        curves = [points for points in together(rows) if points[0].curve and len(points) > 1]
        for found, kind, figure in ((shown, "", _figure), (curves, "-workers", _curves)):
            if found:
                path = folder / f"bench-{group}{kind}.svg"
                figure(results, found, group).savefig(path, metadata={"Date": None})
                paths.append(path)
    return paths


def _comparable(row: Row) -> bool:
    return any(row.baseline(figure) for figure in row.figures) and len(row.peers) > 1


def _figure(results: Results, rows: Sequence[Row], group: str) -> Figure:
    # Where each start method has a row, one figure is enough for a look: the first.
    lines = [(row, figure) for row in rows for figure in list(row.figures)[: 1 if row.method else None]]
    bars = sum(len(row.peers) for row, _ in lines)
    head, foot = 0.55, 0.75
    height = bars * BAR + len(lines) * GAP + head + foot
    drawing = Figure(figsize=(9, height), layout="none")
    axes = drawing.add_axes((0.36, foot / height, 0.56, 1 - (head + foot) / height))
    at, ticks = 0.0, []
    for row, figure in lines:
        base = row.baseline(figure)
        top = at
        known = {name: row.times_better(name, base, figure) for name in row.peers}
        for name in sorted(known, key=lambda name: (name != OURS, -(known[name] or 0.0))):
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
    _headed(drawing, results, group)
    return drawing


def _curves(results: Results, curves: Sequence[Sequence[Row]], group: str) -> Figure:
    """Two panels a line, one for each figure of each curve."""
    panels = [(points, figure) for points in curves for figure in points[0].figures]
    lines, head, foot = -(-len(panels) // 2), 0.85, 0.55
    height = head + lines * (PANEL + BETWEEN) + foot
    drawing = Figure(figsize=(9, height), layout="none")
    handles: dict[str, Line2D] = {}
    for at, (points, figure) in enumerate(panels):
        bottom = height - head - (at // 2 + 1) * PANEL - at // 2 * BETWEEN
        axes = drawing.add_axes((0.08 + at % 2 * 0.48, bottom / height, 0.41, PANEL / height))
        for name in {name: None for row in points for name in row.peers}:
            known = [(row.workers, median) for row in points if (median := row.median(name, figure))]
            ours = name == OURS
            style = {
                "linewidth": 2.0 if ours else 1.0,
                "marker": MARKERS.get(name, "o"),
                "markersize": 4 if ours else 3,
            }
            # A colour alone is not enough to tell ten lines apart.
            (handles[name],) = axes.plot(*_columns(known), color=COLOURS.get(name, "#999999"), zorder=2 + ours, **style)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        counts = [row.workers for row in points]
        axes.set_xticks(counts, [str(count) for count in counts], minor=False)
        unit = points[0].unit(figure)
        axes.yaxis.set_major_formatter(lambda value, _, unit=unit: unit.show(value))
        axes.yaxis.set_minor_formatter(lambda value, _, unit=unit, axes=axes: _between(unit, value, axes))
        axes.tick_params(axis="y", which="both", labelsize=6.5)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(_wrapped(points[0].curve_title(figure), 60), fontsize=8, loc="left")
        axes.set_xlabel("workers", fontsize=7, labelpad=1)
    names = sorted(handles, key=lambda name: name != OURS)
    drawing.legend([handles[name] for name in names], names, loc="lower center", ncols=6, frameon=False, fontsize=7)
    _headed(drawing, results, group)
    return drawing


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _between(unit: Unit, value: float, axes: Axes) -> str:
    """A word for a minor tick, where an axis spans so little that the major ones are too few to read it by."""
    low, high = axes.get_ylim()
    wanted = "" if high / low > 30 else "25" if high / low > 5 else "23456789"
    return unit.show(value) if f"{value:e}"[0] in wanted else ""


def _headed(drawing: Figure, results: Results, group: str) -> None:
    world, height = results.world, drawing.get_figheight()
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
        error = row.peers[name].error
        word = "hung" if (error or "").startswith("hung") else "failed" if error else "no figure"
        if median is not None:
            word = row.unit(figure).show(median)
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
