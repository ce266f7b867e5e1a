"""What the demo shows: a progress line while it works, aligned tables, numbers a reader can take in."""

from __future__ import annotations

import shutil
import sys
import time


class Progress:
    """One line that says how far the work is: rewritten in place on a terminal, sparse lines elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._began = time.monotonic()
        self._told = 0.0

    def show(self, text: str, *, milestone: bool = False) -> None:
        """Shows `text`; where there is no terminal only milestones, and whatever comes 30 s after the last line."""
        now = time.monotonic()
        line = f"  {text} · {now - self._began:.0f} s"
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]:<{width}}", end="", flush=True)
        elif milestone or now - self._told > 30:
            self._told = now
            print(line, flush=True)

    def clear(self) -> None:
        """Removes the line, so that something lasting can be printed."""
        if self._terminal:
            print("\r\033[K", end="", flush=True)


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Aligns rows under headings: the first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    lines = []
    for row in [headings, ["-" * width for width in widths], *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  " + "   ".join(cells).rstrip())
    return "\n".join(lines)


def seconds(value: float) -> str:
    """A duration with three digits and its unit."""
    for limit, factor, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if value < limit:
            return f"{_three(value * factor)} {unit}"
    return f"{_three(value)} s"


def size(value: float) -> str:
    """A number of bytes with its unit (powers of 1024)."""
    if not value:
        return "0"
    for limit, unit in ((2**20, "KiB"), (2**30, "MiB"), (2**40, "GiB")):
        if value < limit:
            return f"{_three(value / limit * 1024)} {unit}"
    return f"{value / 2**40:.1f} TiB"


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
