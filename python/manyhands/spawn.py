"""What an interpreter that was started for one process does first, and what it has to be told for that.

Always: a child has the parent's path, arguments, folder, start method and main module before the process
object is unpickled.  Not here: starting the interpreter (`popen_spawn_posix`, `forkserver`).
"""

from __future__ import annotations

import os
import sys
from _signal import SIG_DFL, SIG_UNBLOCK, SIGINT, pthread_sigmask, signal  # type: ignore[import-not-found]

from . import _install, _neighbours, context, process, util

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "_main", "freeze_support", "set_executable", "get_executable",
    "get_preparation_data", "get_command_line", "import_main_path",
]  # fmt: skip

WINEXE = False
WINSERVICE = False

_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


_python_exe: bytes | None


def set_executable(exe: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None) -> None:
    """Set the path, str or bytes, of the Python that children run.  Differs: none."""
    global _python_exe
    _python_exe = exe if exe is None else os.fsencode(exe)


def get_executable() -> Any:
    """Return the path, bytes, of the Python that children run."""
    return _python_exe


set_executable(sys.executable)


def is_forking(argv: list[str]) -> bool:
    """Return whether a command line is that of a child."""
    return len(argv) >= 2 and argv[1] == "--multiprocessing-fork"


def freeze_support() -> None:
    """In a frozen program that was executed to be a child: be it, and exit."""
    if is_forking(sys.argv):
        words = (word.split("=") for word in sys.argv[2:])
        told: dict[str, Any] = {name: None if value == "None" else int(value) for name, value in words}
        spawn_main(**told)
        sys.exit()


def get_command_line(**kwds: Any) -> list[Any]:
    """Return the command line, a list of str and bytes, of a child that is told `kwds`, names and numbers."""
    if getattr(sys, "frozen", False):
        return [sys.executable, "--multiprocessing-fork", *(f"{name}={value!r}" for name, value in kwds.items())]
    told = ", ".join(f"{name}={value!r}" for name, value in kwds.items())
    program = f"{_finding_us()}from {__package__}.spawn import spawn_main; spawn_main({told})"
    return [get_executable(), *util._args_from_interpreter_flags(), "-c", program, "--multiprocessing-fork"]


def _followed(command: list[Any]) -> list[Any]:
    """Return the command line of a child, changed so that a debugger that follows children is told of this one.

    That of VS Code and PyCharm, pydevd, follows by functions of its own in place of `os.fork`, which is what we call, and of
    what starts programs in the standard library, which we do not call.
    """
    pydevd = sys.modules.get("_pydev_bundle.pydev_monkey")
    if pydevd is None or getattr(os.fork, "__name__", None) != "new_fork":  # as it is when it is to follow
        return command
    if not getattr(pydevd, "_get_apply_arg_patching", lambda: True)():
        return command
    command = pydevd.patch_args([os.fsdecode(word) for word in command])
    pydevd.send_process_created_message()
    return command


def _finding_us() -> str:
    """Return code that lets an interpreter with whatever flags import this very package."""
    # At the end of the path: what lies beside this package must not hide the standard library.
    return f"import sys; sys.path.append({_FOLDER!r}); "


def spawn_main(
    pipe_handle: int,
    parent_pid: int | None = None,
    tracker_fd: int | None = None,
    parent_sentinel: int | None = None,
) -> None:
    """Be the child that the command line asks for, and exit with its status."""
    if not is_forking(sys.argv):
        raise AssertionError(f"not the command line of a child: {sys.argv}")
    if tracker_fd is not None:
        util._tracker_pipe.adopt(tracker_fd)
    if parent_sentinel is None:
        parent_sentinel = os.dup(pipe_handle)
    _load_pickle()
    sys.exit(_main(pipe_handle, parent_sentinel))


def _load_pickle() -> None:
    """Import `_pickle`, in an interpreter that has one thread yet, without all that `functools` imports.

    `_pickle` takes `partial` from it, nothing else, and that is `_functools`' own; importing `functools`, and
    with it `collections`, takes as long as the rest of this package.
    """
    if "functools" in sys.modules or "threading" in sys.modules:
        return
    from _functools import partial  # type: ignore[import-not-found]

    stand_in: Any = type(sys)("functools")
    stand_in.partial = partial
    sys.modules["functools"] = stand_in
    try:
        import _pickle  # noqa: F401
    except (AttributeError, ImportError):
        pass  # it has learned to want more: then it is imported as usual
    finally:
        del sys.modules["functools"]


def _main(fd: int, parent_sentinel: int) -> int:
    """Read the preparation and the process object from a pipe, run it, return its exit status."""
    from _pickle import load

    with open(fd, "rb") as from_parent:
        if not from_parent.peek(1):
            return 1  # the parent changed its mind, or is gone
        current: Any = process.current_process()
        current._inheriting = True
        try:
            preparation = load(from_parent)
            if not preparation.get("deaf"):
                pthread_sigmask(SIG_UNBLOCK, (SIGINT,))  # from here on it is heeded
            prepare(preparation)
            self = load(from_parent)
        except KeyboardInterrupt:
            # Ctrl-C reaches the whole family: the program says so, and not each child that was about to start too.
            signal(SIGINT, SIG_DFL)
            os.kill(os.getpid(), SIGINT)
            raise
        finally:
            del current._inheriting
    return int(self._bootstrap(parent_sentinel))


def _check_not_importing_main() -> None:
    if getattr(process.current_process(), "_inheriting", False):
        raise RuntimeError("""
        An attempt has been made to start a new process before the
        current process has finished its bootstrapping phase.

        This probably means that you are not using fork to start your
        child processes and you have forgotten to use the proper idiom
        in the main module:

            if __name__ == '__main__':
                freeze_support()
                ...

        The "freeze_support()" line can be omitted if the program
        is not going to be frozen to produce an executable.

        To fix this issue, refer to the "Safe importing of main module"
        section in https://docs.python.org/3/library/multiprocessing.html
        """)


def get_preparation_data(name: str) -> dict[str, Any]:
    """Return what a child called `name` has to know before it can unpickle its process object, a dict.

    Raises RuntimeError in a child that is itself still being prepared: a main module without a guard.
    """
    _check_not_importing_main()
    data: dict[str, Any] = {
        "installed": _install.installed(),
        "log_to_stderr": util._log_to_stderr,
        "authkey": process.current_process().authkey,
        "standard_authkey": _neighbours.authkey(),
        "name": name,
        "sys_path": [process.ORIGINAL_DIR if entry == "" else entry for entry in sys.path],
        "sys_argv": sys.argv,
        "orig_dir": process.ORIGINAL_DIR,
        "start_method": context._default_context.get_start_method(),
    }
    try:
        data["dir"] = os.getcwd()
    except OSError:
        pass  # this folder is gone: the child stays where it starts
    if util._logger is not None:
        data["log_level"] = util._logger.getEffectiveLevel()

    # The main module is imported by name if it has one, run from its file if it has that, or left alone.
    main = sys.modules["__main__"]
    main_name = getattr(getattr(main, "__spec__", None), "name", None)
    if main_name is not None:
        data["init_main_from_name"] = main_name
    else:
        path = getattr(main, "__file__", None)
        if path is not None and path.startswith("<"):
            path = None  # "<stdin>": there is nothing that a child could run
        if path is not None:
            if not os.path.isabs(path) and process.ORIGINAL_DIR is not None:
                path = os.path.join(process.ORIGINAL_DIR, path)
            data["init_main_from_path"] = os.path.normpath(path)
    return data


class _KeptFd:
    """A descriptor on its way to a spawned child, where it has the same number."""

    # Here, because this module is in the child anyway.
    def __init__(self, fd: int) -> None:
        self.fd = fd

    def detach(self) -> int:
        return self.fd


old_main_modules: list[Any] = []


def prepare(data: dict[str, Any]) -> None:
    """Make this process what `get_preparation_data` said in the parent."""
    if data.get("installed"):
        _install.install()
    if "tracker" in data:
        util._tracker_pipe.adopt(data["tracker"].detach())
    if "name" in data:
        process.current_process().name = data["name"]
    if "authkey" in data:
        process.current_process().authkey = data["authkey"]
    if "standard_authkey" in data:
        _neighbours.share_authkey(data["standard_authkey"])
    if data.get("log_to_stderr"):
        util.log_to_stderr()
    if "log_level" in data:
        util.get_logger().setLevel(data["log_level"])
    if "sys_path" in data:
        sys.path = data["sys_path"]
    if "sys_argv" in data:
        sys.argv = data["sys_argv"]
    if "dir" in data:
        os.chdir(data["dir"])
    if "orig_dir" in data:
        process.ORIGINAL_DIR = data["orig_dir"]
    if "start_method" in data:
        context._default_context.set_start_method(data["start_method"], force=True)
    if "init_main_from_name" in data:
        _fixup_main_from_name(data["init_main_from_name"])
    elif "init_main_from_path" in data:
        _fixup_main_from_path(data["init_main_from_path"])


def _fixup_main_from_name(name: str) -> None:
    """Let the module called `name` be the main module, unless it is main alone: a package's __main__."""
    if name == "__main__" or name.endswith(".__main__"):
        return
    if getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None) == name:
        return  # the fork server has it already
    import runpy

    _replace_main(lambda: runpy.run_module(name, run_name="__mp_main__", alter_sys=True))


def _fixup_main_from_path(path: str) -> None:
    """Let the program at `path` be the main module, unless it is main alone: IPython's start script."""
    if os.path.splitext(os.path.basename(path))[0] == "ipython":
        return  # https://github.com/ipython/ipython/issues/4698
    if getattr(sys.modules["__main__"], "__file__", None) == path:
        return  # the fork server has it already
    source = _read_source(path)
    if source is not None:
        _replace_main(lambda: _run_source(source, path))
        return
    import runpy

    _replace_main(lambda: runpy.run_path(path, run_name="__mp_main__"))


def _read_source(path: str) -> bytes | None:
    """Return the program, None if it is no source: a folder, an archive, or compiled, all for runpy."""
    import io

    try:
        with io.open_code(path) as file:
            source = file.read()
    except (OSError, ValueError):
        return None
    return None if b"\0" in source else source


def _run_source(source: bytes, path: str) -> dict[str, Any]:
    """Do what runpy.run_path does with a program's source: runpy itself takes long to import."""
    main = type(sys)("__mp_main__")
    main.__dict__.update(__file__=path, __cached__=None, __loader__=None, __package__="", __spec__=None)
    before = sys.modules.get("__mp_main__")
    argv0, sys.argv[0] = sys.argv[0], path
    sys.modules["__mp_main__"] = main
    try:
        exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)
    finally:
        sys.argv[0] = argv0
        if before is None:
            del sys.modules["__mp_main__"]
        else:
            sys.modules["__mp_main__"] = before
    return main.__dict__


def _replace_main(run: Callable[[], dict[str, Any]]) -> None:
    """Run the main module under the name that tells its guard to do nothing; make it __main__."""
    old_main_modules.append(sys.modules["__main__"])
    main = type(sys)("__mp_main__")
    main.__dict__.update(run())
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main


def import_main_path(main_path: str) -> None:
    """Let the program at `main_path` be the main module of this process."""
    _fixup_main_from_path(main_path)


def __getattr__(name: str) -> Any:
    if name == "reduction":
        return context.reduction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
