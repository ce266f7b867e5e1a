"""`manyhands trace`: runs a program and writes a timeline of its pools, for Perfetto or as a page of its own.

The command makes memory for events, tells the program in the environment where it is, and waits. Pools and workers of
the program, and of all that it starts, write there what happens; when it has ended, however it did, the timeline is made.
Always: nothing is written but the files that were asked for, and these only when they are whole.
Not here: what the events are (`engine/trace.rs`, `_trace_log`), the files' forms (`_trace_files`).
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
usage: manyhands trace [OPTION ...] OUT.json PROGRAM [ARGUMENT ...]
       manyhands trace [OPTION ...] OUT.json -m MODULE [ARGUMENT ...]

Runs a program as manyhands run does, and writes what each worker did when: as OUT.json for https://ui.perfetto.dev, or as
a page for any browser if the name is OUT.html.

  --html OUT.html    write the page too
  --events N         keep N events at most (1000 to 100000000, by default 1000000; a task has two, of 64 bytes each)
  --start-method M   how processes start where the program does not say: fork, spawn or forkserver
  -h, --help         show this and exit

The exit status is the program's.
"""
VARIABLE = "MANYHANDS_TRACE"
_LEAST, _MOST, _DEFAULT = 1_000, 100_000_000, 1_000_000


def main(words: list[str]) -> int:
    """Run the command with these arguments; return the program's exit status."""
    return answer(_main, words)


def _main(words: list[str]) -> int:
    events = _DEFAULT
    pages: list[str] = []
    method: str | None = None
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word in ("-h", "--help"):
            print(HELP, end="")
            return 0
        name, given, value = word.partition("=")
        if name not in ("--html", "--events", "--start-method"):
            raise Wrong(f"trace does not know {word!r}; it takes --html OUT.html, --events N and --start-method M")
        if not given:
            if not words:
                raise Wrong(f"{name} needs a value; manyhands trace --help says which")
            value = words.pop(0)
        if name == "--html":
            pages.append(_place(value))
        elif name == "--events":
            events = _number(value)
        else:
            if value not in ("fork", "spawn", "forkserver"):
                raise Wrong(f"--start-method takes fork, spawn or forkserver, and not {value!r}")
            method = value
    if not words:
        raise Wrong("the name of the file is missing: manyhands trace OUT.json PROGRAM")
    out = words.pop(0)
    if not out.endswith((".json", ".html")):
        raise Wrong(
            f"the timeline goes to a file whose name ends in .json (for Perfetto) or .html (for a browser), and {out!r}"
            " does not: manyhands trace OUT.json PROGRAM"
        )
    _place(out)
    if not words:
        raise Wrong(f"a program is missing: manyhands trace {out} PROGRAM, or manyhands trace {out} -m MODULE")
    if words[0].startswith("-") and words[0] != "-m":
        raise Wrong(f"options of trace go before {out}, and {words[0]!r} comes after it")
    if words[0] != "-m" and not os.path.exists(words[0]):
        raise Wrong(f"there is no program {words[0]!r} in {os.getcwd()}")

    try:
        memory = _engine.trace_memory(events)
    except OSError as error:
        raise Wrong(f"there is no memory for {events} events ({error}); --events takes fewer") from None
    options = [] if method is None else ["--start-method", method]
    status = _run([*options, *words], memory)

    from . import _trace_files, _trace_log

    timeline = _trace_log.read(memory, " ".join(words))
    os.close(memory)
    for place in [out, *pages]:
        write = _trace_files.write_page if place.endswith(".html") else _trace_files.write_json
        try:
            write(timeline, place)
        except OSError as error:
            print(f"manyhands: could not write {place}: {error.strerror}", file=sys.stderr)
            status = status or 1
            continue
        print(f"manyhands: {timeline.summary()}: {place}", file=sys.stderr)
    return status


def _number(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    if not _LEAST <= number <= _MOST:
        raise Wrong(f"--events takes a number from {_LEAST} to {_MOST}, and not {text!r}")
    return number


def _place(path: str) -> str:
    """A file that can be written, as far as can be told before; better now than after hours."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise Wrong(f"there is no folder {folder} for {path!r}")
    if os.path.isdir(path):
        raise Wrong(f"{path!r} is a folder; the timeline needs the name of a file")
    if not os.access(folder, os.W_OK):
        raise Wrong(f"{folder} may not be written to; choose another place for {path!r}")
    return path


def _run(words: list[str], memory: int) -> int:
    """Run the program to its end; return its exit status, as a shell has it."""
    import signal
    import subprocess

    # Through /proc, so that nobody has to inherit the descriptor.
    environment = {**os.environ, VARIABLE: f"/proc/{os.getpid()}/fd/{memory}"}
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    command = [sys.executable, *flags, "-m", "manyhands", "run", *words]
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _: FrameType | None) -> None:
        if process is not None:
            process.send_signal(number)

    # The terminal sends its signals to the program as well; the others are for it too.
    handlers = {signal.SIGINT: signal.SIG_IGN, signal.SIGQUIT: signal.SIG_IGN}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    for number in (signal.SIGTERM, signal.SIGHUP):
        before[number] = signal.signal(number, pass_on)

    def as_before() -> None:
        for number in handlers:
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)

    try:
        # The program is to have its own signals, as if it had been started alone. This process has one thread.
        process = subprocess.Popen(command, env=environment, preexec_fn=as_before)
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
