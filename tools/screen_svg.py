"""Draws what a program shows in a terminal: `python tools/screen_svg.py OUT.svg SECONDS COLUMNS ROWS COMMAND ...`.

The command runs in a terminal of that size for so many seconds, then gets a `q`. What the screen showed before that is the
picture. `2-14` for SECONDS makes a film of what it showed from the second on to the fourteenth, which repeats; `2-14,5:s,8:?`
types an `s` five seconds after the beginning and a `?` three later. Only what ratatui writes is understood: moves of
the cursor, colours, clearing.
"""

from __future__ import annotations

import codecs
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
# Seconds without anything written after which a screen is whole.
_SETTLED = 0.03

Cell = tuple[str, str, bool, bool, bool]  # letter, colour, bold, dim, reversed


def _recorded(
    seconds: float, columns: int, rows: int, command: list[str], keys: list[tuple[float, str]]
) -> list[tuple[float, str]]:
    """What it wrote and when."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color")
        os.environ.pop("NO_COLOR", None)
        os.execvp(command[0], command)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    began, written = time.monotonic(), list[tuple[float, bytes]]()
    keys = [*keys, (seconds, "q")]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while keys:
        due, key = keys[0]
        left = began + due - time.monotonic()
        if left <= 0:
            os.write(fd, key.encode())
            keys.pop(0)
        elif select.select([fd], [], [], left)[0]:
            written.append((time.monotonic() - began, os.read(fd, 65536)))
    os.waitpid(pid, 0)
    return [(at, decoder.decode(some)) for at, some in written]


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


def _svg(frames: list[tuple[float, list[list[Cell]]]], length: float, title: str) -> str:
    """A picture of what was shown from which moment on; of several, a film of so many seconds."""
    cells = frames[0][1]
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
    for y in range(rows):
        # A line is drawn once for as long as it stays, and again when it comes back.
        shown: list[tuple[float, list[Cell]]] = []
        for since, screen_then in frames:
            if not shown or shown[-1][1] != screen_then[y]:
                shown.append((since, screen_then[y]))
        ends = [since for since, _ in shown[1:]] + [length]
        for (since, row), end in zip(shown, ends, strict=True):
            line = _line(row, 34 + y * _HIGH)
            if len(shown) == 1 or not line:
                parts += line
                continue
            values, times = [("visible", since), ("hidden", end)], [since / length, end / length]
            if since > 0:
                values.insert(0, ("hidden", 0))
                times.insert(0, 0)
            # Where nothing moves it is the first screen.
            parts.append('<g visibility="hidden">' if since > 0 else "<g>")
            parts.append(
                f'<animate attributeName="visibility" calcMode="discrete" dur="{length:.2f}s" repeatCount="indefinite"'
                f' values="{";".join(value for value, _ in values)}" keyTimes="{";".join(f"{time:.4f}" for time in times)}"/>'
            )
            parts += [*line, "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _line(row: list[Cell], top: int) -> list[str]:
    parts, at, columns = [], 0, len(row)
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
    return parts


def _frames(
    written: list[tuple[float, str]], first: float, columns: int, rows: int
) -> list[tuple[float, list[list[Cell]]]]:
    """What was shown from `first` on, each time that it changed; a change that is still being written is none."""
    moments = [at for at, _ in written if at > first]
    moments = [at for at, after in zip(moments, [*moments[1:], float("inf")], strict=True) if after - at > _SETTLED]
    frames: list[tuple[float, list[list[Cell]]]] = []
    for moment in [first, *moments]:
        shown = screen("".join(some for at, some in written if at <= moment), columns, rows)
        if not frames or frames[-1][1] != shown:
            frames.append((moment - first, shown))
    return frames


def main() -> None:
    """Write the picture."""
    out, times, columns, rows, *command = sys.argv[1:]
    times, *typed = times.split(",")
    keys = [(float(at), key) for at, _, key in (one.partition(":") for one in typed)]
    first, _, last = times.partition("-")
    size = int(columns), int(rows)
    written = _recorded(float(last or first), *size, command, keys)
    title = " ".join([os.path.basename(command[0]), *command[1:2]])
    if last:
        film = _svg(_frames(written, float(first), *size), float(last) - float(first), title)
    else:
        film = _svg([(0, screen("".join(some for _, some in written), *size))], 1, title)
    with open(out, "w", encoding="utf-8") as file:
        file.write(film)


if __name__ == "__main__":
    main()
