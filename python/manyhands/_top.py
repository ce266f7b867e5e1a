"""`manyhands top`: a view of every pool of this user, in the terminal, as text or as JSON.

Not here: looking and drawing (the engine), which fields the JSON has (`docs/top.md`).
"""

from __future__ import annotations

import os
import sys

from . import _engine
from ._command_line import Wrong, answer

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from types import FrameType

__all__: list[str] = []

HELP = """\
usage: manyhands top [--once] [--json] [--interval S] [--stuck-after S] [--pid PID]

Shows every pool of this user: its workers, what each runs and for how long, rates, queues, bytes, memory and deaths.

  --once           show it once, as text, and exit; so does an output that is no terminal
  --json           show it once, as JSON: one object in one line
  --interval S     look every S seconds (0.1 to 3600, by default 1, and 0.25 with --once or --json); rates are over this time
  --stuck-after S  call a task stuck that has run for S seconds while its worker uses no processor (by default 5)
  --pid PID        show the pools of this process alone
  -h, --help       show this and exit

Keys: q quits, s sorts, p pauses, ? explains.
"""
_LEAST, _MOST = 0.1, 3600.0


def main(words: list[str]) -> int:
    """Run the command with these arguments; return its exit status."""
    return answer(_main, words)


def _main(words: list[str]) -> int:
    once = as_json = False
    interval: float | None = None
    stuck_after = 5.0
    pid: int | None = None
    while words:
        word = words.pop(0)
        if word in ("-h", "--help"):
            print(HELP, end="")
            return 0
        name, given, value = word.partition("=")
        if word == "--once":
            once = True
        elif word == "--json":
            as_json = True
        elif name in ("--interval", "--stuck-after", "--pid"):
            if not given:
                if not words:
                    raise Wrong(f"{name} needs a value: manyhands top {name} {'4711' if name == '--pid' else '2'}")
                value = words.pop(0)
            if name == "--interval":
                interval = _seconds(name, value, _LEAST)
            elif name == "--stuck-after":
                stuck_after = _seconds(name, value, 0.0)
            else:
                pid = _process(value)
        else:
            raise Wrong(
                f"top does not know {word!r}; it takes --once, --json, --interval S, --stuck-after S and --pid PID"
            )

    shown = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if once or as_json or not shown:
        width = None if as_json else _width(shown)
        text = _engine.top_look(pid, interval or 0.25, stuck_after, width)
        try:
            print(text, end="\n" if as_json else "", flush=True)
        except BrokenPipeError:
            # Whoever read has enough; nothing is to be said about it when the interpreter ends, either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    import signal

    # The terminal is given back also when the command is asked to end.
    signal.signal(signal.SIGTERM, _leave)
    try:
        _engine.top_show(pid, interval or 1.0, stuck_after, not os.environ.get("NO_COLOR"))
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        raise Wrong(
            f"this terminal cannot be used ({error}); manyhands top --once shows the same as plain text"
        ) from None
    return 0


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _width(shown: bool) -> int:
    if not shown and "COLUMNS" not in os.environ:
        return 120
    import shutil

    return max(20, shutil.get_terminal_size((120, 24)).columns)


def _seconds(name: str, text: str, least: float) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not least <= seconds <= _MOST:
        raise Wrong(f"{name} takes seconds, {least:g} to {_MOST:g}, and not {text!r}")
    return seconds


def _process(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 31:
        raise Wrong(f"--pid takes the number of a process, and not {text!r}")
    pid = int(text)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        raise Wrong(f"there is no process {pid}") from None
    except PermissionError:
        raise Wrong(f"process {pid} belongs to another user: its pools are not yours to see") from None
    return pid
