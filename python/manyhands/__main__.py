"""The command: `manyhands run program.py`, `top`, `trace`, `doctor` and `stacks PID`.

Always: a program that is run finds itself as under plain Python (its __main__, sys.argv, sys.path[0]), only that
`multiprocessing` is manyhands.  Not here: how that is done (`_install`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["main"]

_HELP = """\
usage: manyhands run [--start-method fork|spawn|forkserver] PROGRAM [ARGUMENT ...]
       manyhands run [--start-method fork|spawn|forkserver] -m MODULE [ARGUMENT ...]
       manyhands top [--once] [--json] [--interval S] [--pid PID]
       manyhands trace [--html OUT.html] OUT.json PROGRAM [ARGUMENT ...]
       manyhands doctor
       manyhands stacks PID

run: runs a Python program unmodified with `multiprocessing` being manyhands, in the program and in all
processes that it starts. PROGRAM is a script, or a folder or zip file with a __main__.py.

  -m MODULE            run a module or package, as python -m does
  --start-method M     how processes start where the program does not say: fork, spawn or forkserver
  -h, --help           show this and exit
  --version            show the version and exit

top: shows every pool of this user in the terminal: its workers, what each runs and for how long, rates, queues, memory and
deaths. manyhands top --help says more.

trace: runs a program as run does, and writes a timeline of its pools and workers that https://ui.perfetto.dev opens, or a
page for any browser. manyhands trace --help says more.

doctor: checks this machine (limits, /dev/shm, kernel, control groups, interpreter) and says what will be slow or fail,
and what helps. It exits with 1 if something will fail.

stacks: prints the Python stacks of process PID and of all that it has started, as far as they have pools or are workers
of one, and who holds and awaits which lock.

`python -m manyhands` is the same command.
"""

_COMMANDS = (
    "manyhands run PROGRAM, manyhands top, manyhands trace OUT.json PROGRAM, manyhands doctor, or manyhands stacks PID"
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command with `arguments`, a list of str, by default those of this process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words.pop(0) if words else None
    if command in ("-h", "--help"):
        print(_HELP, end="")
        return 0
    if command == "--version":
        from . import __version__

        print(f"manyhands {__version__}")
        return 0
    if command is None:
        return _fail(f"a command is missing: {_COMMANDS}")
    if command == "doctor":
        if words:
            return _fail(f"doctor takes no arguments, and {words[0]!r} is one")
        from ._doctor import report

        return report()
    if command == "stacks":
        if len(words) != 1 or not words[0].isdigit():
            return _fail("stacks takes the number of one process: manyhands stacks PID")
        from ._stacks import report as report_on

        return report_on(int(words[0]))
    if command == "top":
        from ._top import main as top

        return top(words)
    if command == "trace":
        from ._trace import main as trace

        return trace(words)
    if command != "run":
        return _fail(f"there is no command {command!r}: {_COMMANDS}")
    return _run(words)


def _fail(text: str) -> int:
    print(f"manyhands: {text}\nmanyhands --help says more", file=sys.stderr)
    return 2


def _run(words: list[str]) -> int:
    method: str | None = None
    module: str | None = None
    program: str | None = None
    while words:
        word = words.pop(0)
        if word in ("-h", "--help"):
            print(_HELP, end="")
            return 0
        if word == "--start-method" or word.startswith("--start-method="):
            _, given, method = word.partition("=")
            if not given:
                if not words:
                    return _fail("--start-method needs one of fork, spawn, forkserver")
                method = words.pop(0)
        elif word == "-m":
            if not words:
                return _fail("-m needs the name of a module")
            module = words.pop(0)
            break
        elif word.startswith("-m") and len(word) > 2:
            module = word[2:]
            break
        elif word == "--":
            program = words.pop(0) if words else None
            break
        elif word.startswith("-") and word != "-":
            return _fail(f"there is no option {word}; options of Python go before -m manyhands")
        else:
            program = word
            break
    if module is None and program is None:
        return _fail("a program is missing: manyhands run PROGRAM, or manyhands run -m MODULE")
    if program is not None and not os.path.exists(program):
        return _fail(f"there is no program {program!r} in {os.getcwd()}")

    from . import context
    from ._install import install

    if method is not None:
        try:
            # The default, not a choice already made: the program may still set its own.
            context._default_context._default_context = context._default_context.get_context(method)
        except ValueError as error:
            return _fail(str(error))
    install()
    if module is not None:
        return _run_module(module, words)
    return _run_program(str(program), words)


def _run_module(module: str, words: list[str]) -> int:
    _prepare([module, *words], os.getcwd())
    return _guarded(lambda: _runpy()._run_module_as_main(module))


def _run_program(program: str, words: list[str]) -> int:
    from pkgutil import get_importer

    if os.path.isdir(program) or type(get_importer(program)).__name__ == "zipimporter":
        _prepare([program, *words], program, always=True)
        return _guarded(lambda: _runpy()._run_module_as_main("__main__", False))

    main = _prepare([program, *words], os.path.dirname(os.path.realpath(program)))
    main.__file__ = os.path.abspath(program)
    main.__cached__ = None
    main.__loader__ = _loader_of(main.__file__)
    try:
        code = _code_of(program)
    except OSError as error:
        return _fail(f"could not read {program!r}: {error.strerror}")
    except (SyntaxError, ValueError):
        return _guarded(None, sys.exc_info())
    return _guarded(lambda: exec(code, main.__dict__))


def _prepare(argv: list[str], folder: str, always: bool = False) -> Any:
    """Make this process what Python makes it before it runs a program; return a fresh main module."""
    sys.argv[:] = argv
    # The folder that the command itself came from gives way to the program's.
    if not sys.flags.safe_path:
        sys.path[0] = folder
    elif always:
        sys.path.insert(0, folder)
    main: Any = type(sys)("__main__")
    main.__builtins__ = sys.modules["builtins"]
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    return main


def _runpy() -> Any:
    import runpy

    return runpy


def _loader_of(path: str) -> Any:
    from importlib.machinery import SourceFileLoader, SourcelessFileLoader

    return (SourcelessFileLoader if path.endswith(".pyc") else SourceFileLoader)("__main__", path)


def _code_of(program: str) -> Any:
    from io import open_code

    with open_code(program) as file:
        if program.endswith(".pyc"):
            import marshal
            from importlib.util import MAGIC_NUMBER

            head = file.read(16)
            if head[:4] != MAGIC_NUMBER:
                raise ValueError(f"{program} was compiled by another version of Python")
            return marshal.load(file)
        return compile(file.read(), program, "exec", dont_inherit=True)


def _guarded(run: Callable[[], object] | None, failed: Any = None) -> int:
    """Run the program; its traceback does not begin with our frames."""
    try:
        if run is not None:
            run()
            return 0
    except Exception:
        failed = sys.exc_info()
    kind, error, trace = failed
    ours = {_guarded.__code__.co_filename, "<frozen runpy>", getattr(sys.modules.get("runpy"), "__file__", None)}
    while trace is not None and trace.tb_frame.f_code.co_filename in ours:
        trace = trace.tb_next
    sys.excepthook(kind, error.with_traceback(trace), trace)
    return 1


if __name__ == "__main__":
    sys.exit(main())
