"""Draws what a program shows in a terminal: `python tools/screen_svg.py OUT.svg SECONDS COLUMNS ROWS COMMAND ...`.

The command runs in a terminal of that size for so many seconds, then gets a `q`. What the screen showed before that is the
picture. Only what ratatui writes is understood: moves of the cursor, colours, clearing.
"""

from __future__ import annotations

import fcntl
import html
import os
import pty
import re
import select
import struct
import sys
import termios
import time
import unicodedata

_BLACK = ["#1e1e1e", "#e5534b", "#57ab5a", "#c69026", "#539bf5", "#b083f0", "#39c5cf", "#c9d1d9"]
_BRIGHT = ["#636e7b", "#ff938a", "#6bc46d", "#daaa3f", "#6cb6ff", "#dcbdfb", "#56d4dd", "#ffffff"]
_GROUND, _INK = "#161b22", "#d0d7de"
_WIDE, _HIGH = 8.4, 18

Cell = tuple[str, str, bool, bool, bool]  # letter, colour, bold, dim, reversed


def _recorded(seconds: float, columns: int, rows: int, command: list[str]) -> str:
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color")
        os.environ.pop("NO_COLOR", None)
        os.execvp(command[0], command)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    end, written = time.monotonic() + seconds, b""
    while (left := end - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0]:
            written += os.read(fd, 65536)
    os.write(fd, b"q")
    os.waitpid(pid, 0)
    return written.decode(errors="replace")


def screen(text: str, columns: int, rows: int) -> list[list[Cell]]:
    """What a terminal of that size shows once this was written to it."""
    blank: Cell = (" ", _INK, False, False, False)
    cells = [[blank] * columns for _ in range(rows)]
    x = y = 0
    colour, bold, dim, turned = _INK, False, False, False
    for match in re.finditer(r"\x1b\[([0-9;?]*)([a-zA-Z])|\x1b.|([^\x1b])", text, re.DOTALL):
        values, kind, letter = match.groups()
        if letter is not None:
            if letter == "\r":
                x = 0
            elif letter == "\n":
                y += 1
            elif x < columns and y < rows:
                cells[y][x] = (letter, colour, bold, dim, turned)
                x += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        elif kind == "H":
            row, _, column = values.partition(";")
            y, x = int(row or 1) - 1, int(column or 1) - 1
        elif kind == "J":
            cells = [[blank] * columns for _ in range(rows)]
        elif kind == "m":
            numbers = [int(value or 0) for value in values.split(";")]
            at = 0
            while at < len(numbers):
                number = numbers[at]
                if number == 0:
                    colour, bold, dim, turned = _INK, False, False, False
                elif number in (1, 2):
                    bold, dim = bold or number == 1, dim or number == 2
                elif number == 22:
                    bold = dim = False
                elif number in (7, 27):
                    turned = number == 7
                elif 30 <= number <= 37:
                    colour = _BLACK[number - 30]
                elif 90 <= number <= 97:
                    colour = _BRIGHT[number - 90]
                elif number == 39:
                    colour = _INK
                elif number in (38, 48) and numbers[at + 1 : at + 2] == [5]:
                    if number == 38:
                        colour = (_BLACK + _BRIGHT)[numbers[at + 2]] if numbers[at + 2] < 16 else _INK
                    at += 2
                at += 1
    return cells


def _svg(cells: list[list[Cell]], title: str) -> str:
    columns, rows = len(cells[0]), len(cells)
    width, height = columns * _WIDE + 24, rows * _HIGH + 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-size="14"'
        " font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\">",
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{width:.0f}" height="{height}" rx="8" fill="{_GROUND}"/>',
        *(f'<circle cx="{18 + 18 * at}" cy="16" r="5.5" fill="{fill}"/>' for at, fill in enumerate(_BLACK[1:4])),
        f'<text x="{width / 2:.0f}" y="21" text-anchor="middle" fill="#8b949e" font-size="13">{html.escape(title)}</text>',
    ]
    for y, row in enumerate(cells):
        top, at = 34 + y * _HIGH, 0
        while at < columns:
            style = row[at][1:]
            end = at
            while end < columns and row[end][1:] == style:
                end += 1
            run = "".join(cell[0] for cell in row[at:end])
            colour, bold, dim, turned = style
            left, wide = 12 + at * _WIDE, (end - at) * _WIDE
            ink = colour
            if turned:
                parts.append(f'<rect x="{left:.1f}" y="{top}" width="{wide:.1f}" height="{_HIGH}" fill="{colour}"/>')
                ink = _GROUND
            if run.strip():
                more = (' font-weight="700"' if bold else "") + (' opacity="0.6"' if dim else "")
                # Each run begins where its cell is, and is as long as its cells, whatever the font.
                parts.append(
                    f'<text x="{left:.1f}" y="{top + 13.5:.1f}" textLength="{wide:.1f}" fill="{ink}"{more}'
                    f' xml:space="preserve">{html.escape(run)}</text>'
                )
            at = end
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Write the picture."""
    out, seconds, columns, rows, *command = sys.argv[1:]
    size = int(columns), int(rows)
    written = _recorded(float(seconds), *size, command)
    title = " ".join([os.path.basename(command[0]), *command[1:2]])
    with open(out, "w", encoding="utf-8") as file:
        file.write(_svg(screen(written, *size), title))


if __name__ == "__main__":
    main()
