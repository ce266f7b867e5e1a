"""What the rest of the package leans on: its log, finalizers, locks that survive a fork, exit.

Always: at exit finalizers run by priority, daemonic children are terminated, the others joined.
Not here: anything about one kind of object; nothing of this module waits for more than a child's end.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
from _thread import _local, allocate_lock
from _weakref import ref

from . import _engine, process

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

__all__ = [
    "sub_debug", "debug", "info", "sub_warning", "get_logger",
    "log_to_stderr", "get_temp_dir", "register_after_fork",
    "is_exiting", "Finalize", "ForkAwareThreadLock", "ForkAwareLocal",
    "close_all_fds_except", "SUBDEBUG", "SUBWARNING",
]  # fmt: skip

# ---- the log ----

NOTSET = 0
SUBDEBUG = 5
DEBUG = 10
INFO = 20
SUBWARNING = 25

# The standard library's name, so that programs which configure its logger configure ours.
LOGGER_NAME = "multiprocessing"
DEFAULT_LOGGING_FORMAT = "[%(levelname)s/%(processName)s] %(message)s"

_logger: logging.Logger | None = None
_log_to_stderr = False


def sub_debug(msg: object, *args: object) -> None:
    """Log below DEBUG, if anybody asked for a logger."""
    if _logger:
        _logger.log(SUBDEBUG, msg, *args, stacklevel=2)


def debug(msg: object, *args: object) -> None:
    """Log at DEBUG, if anybody asked for a logger."""
    if _logger:
        _logger.log(DEBUG, msg, *args, stacklevel=2)


def info(msg: object, *args: object) -> None:
    """Log at INFO, if anybody asked for a logger."""
    if _logger:
        _logger.log(INFO, msg, *args, stacklevel=2)


def sub_warning(msg: object, *args: object) -> None:
    """Log between INFO and WARNING, if anybody asked for a logger."""
    if _logger:
        _logger.log(SUBWARNING, msg, *args, stacklevel=2)


def get_logger() -> logging.Logger:
    """Return the package's logger, a logging.Logger, which propagates nothing.  Differs: none."""
    global _logger
    import logging

    with logging._lock:  # type: ignore[attr-defined]
        if not _logger:
            _logger = logging.getLogger(LOGGER_NAME)
            _logger.propagate = False
            # Exit functions run last in, first out: ours goes before logging's own.
            atexit.unregister(_exit_function)
            atexit.register(_exit_function)
    return _logger


def log_to_stderr(level: int | str | None = None) -> logging.Logger:
    """Let the package's logger print to stderr, from `level` on; return it.  Differs: none."""
    global _log_to_stderr
    import logging

    logger = get_logger()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(DEFAULT_LOGGING_FORMAT))
    logger.addHandler(handler)
    if level:
        logger.setLevel(level)
    _log_to_stderr = True
    return logger


# ---- addresses, temporary files ----

abstract_sockets_supported = sys.platform in ("linux", "android")


def is_abstract_socket_namespace(address: str | bytes | None) -> bool:
    """Return whether a Unix socket's address, str or bytes, has no place in the file system."""
    if not address:
        return False
    if isinstance(address, bytes):
        return address[0] == 0
    if isinstance(address, str):
        return address[0] == "\0"
    raise TypeError(f"address type of {address!r} unrecognized: a str or bytes is needed")


def _remove_temp_dir(rmtree: Callable[[str], object], tempdir: str, forget: Callable[[str], object]) -> None:
    rmtree(tempdir)
    forget(tempdir)
    owner = process.current_process()
    if owner is not None:  # None when the interpreter takes its modules apart
        owner._config["tempdir"] = None


def get_temp_dir() -> str:
    """Return the path of a folder which is this family's own and goes at exit.  Differs: none."""
    tempdir = process.current_process()._config.get("tempdir")
    if tempdir is None:
        import shutil
        import tempfile

        from . import resource_tracker

        try:
            made = tempfile.mkdtemp(prefix="pymp-")
        except OSError as error:
            from . import _shortage

            raise _shortage.no_folder(error) from None
        info("created temp directory %s", made)
        # What they need is held here: at exit its modules may be gone before the folder.
        Finalize(None, _remove_temp_dir, args=(shutil.rmtree, made, resource_tracker._forget_folder), exitpriority=-100)
        resource_tracker._note_folder(made)  # should this process be killed
        process.current_process()._config["tempdir"] = made
        return made
    return str(tempdir)


# ---- what a child does first ----

_afterfork_registry: dict[int, tuple[ref[Any], Callable[[Any], object]]] = {}  # in the order of registration
_afterfork_counter = itertools.count()


def register_after_fork(obj: Any, func: Callable[[Any], object]) -> None:
    """Call func(obj) in every child that gets `obj` by a fork, in the order of registration."""
    number = next(_afterfork_counter)

    # Bound here, because at exit the module's own names may be gone.
    def forget(_: ref[Any], drop: Callable[..., Any] = _afterfork_registry.pop) -> None:
        drop(number, None)

    _afterfork_registry[number] = ref(obj, forget), func


def _run_after_forkers() -> None:
    for reference, func in list(_afterfork_registry.values()):
        obj = reference()
        if obj is None:
            continue
        try:
            func(obj)
        except Exception as error:
            info("after forker raised exception %s", error)


# ---- finalizers ----

_finalizer_registry: dict[tuple[int | None, int], Finalize] = {}
_finalizer_counter = itertools.count()


class Finalize:
    """A callback for when an object goes, or at exit, or when called: whichever comes first, once.

    obj -- what is watched, None for nothing but the exit
    exitpriority -- int, higher ones run earlier at exit; None: not at exit
    """

    def __init__(
        self,
        obj: Any,
        callback: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        exitpriority: int | None = None,
    ) -> None:
        if exitpriority is not None and not isinstance(exitpriority, int):
            raise TypeError(f"Exitpriority ({exitpriority!r}) must be None or int, not {type(exitpriority)!s}")
        if obj is not None:
            self._weakref: Any = ref(obj, self)
        elif exitpriority is None:
            raise ValueError("Without object, exitpriority cannot be None: the callback would never be called")
        self._callback = callback
        self._args = args
        self._kwargs = kwargs or {}
        self._key = (exitpriority, next(_finalizer_counter))
        self._pid = os.getpid()
        _finalizer_registry[self._key] = self

    def __call__(
        self,
        wr: object = None,
        # Bound here, because at exit the module's own names may be gone.
        _finalizer_registry: dict[tuple[int | None, int], Finalize] = _finalizer_registry,
        sub_debug: Callable[..., None] = sub_debug,
        getpid: Callable[[], int] = os.getpid,
    ) -> Any:
        """Run the callback, unless it has run, was cancelled, or belongs to another process."""
        if _finalizer_registry.pop(self._key, None) is None:
            sub_debug("finalizer no longer registered")
            return None
        try:
            if self._pid != getpid():
                sub_debug("finalizer ignored because different process")
                return None
            sub_debug("finalizer calling %s with args %s and kwargs %s", self._callback, self._args, self._kwargs)
            return self._callback(*self._args, **self._kwargs)
        finally:
            self._forget()

    def _forget(self) -> None:
        self._weakref = None
        self._callback = self._args = self._kwargs = self._key = None  # type: ignore[assignment]

    def cancel(self) -> None:
        """Never call the callback."""
        if _finalizer_registry.pop(self._key, None) is not None:
            self._forget()

    def still_active(self) -> bool:
        """Return whether the callback may still be called."""
        return self._key in _finalizer_registry

    def __repr__(self) -> str:
        reference = getattr(self, "_weakref", None)
        if reference is None or reference() is None or self._key is None:
            return f"<{type(self).__name__} object, dead>"
        words = [f"callback={getattr(self._callback, '__name__', self._callback)}"]
        if self._args:
            words.append(f"args={self._args}")
        if self._kwargs:
            words.append(f"kwargs={self._kwargs}")
        if self._key[0] is not None:
            words.append(f"exitpriority={self._key[0]}")
        return f"<{type(self).__name__} object, {', '.join(words)}>"


def _run_finalizers(minpriority: int | None = None) -> None:
    """Run the finalizers that have a priority, of at least `minpriority`, the highest and youngest first."""
    if _finalizer_registry is None:
        return  # type: ignore[unreachable]  # the interpreter has taken this module apart
    # One atomic copy: a collection or another thread may change the registry meanwhile.
    keys = [
        key
        for key in list(_finalizer_registry)
        if key[0] is not None and (minpriority is None or key[0] >= minpriority)
    ]
    for key in sorted(keys, reverse=True):
        finalizer = _finalizer_registry.get(key)
        if finalizer is None:
            continue
        sub_debug("calling %s", finalizer)
        try:
            finalizer()
        except Exception:
            import traceback

            traceback.print_exc()
    if minpriority is None:
        _finalizer_registry.clear()


# ---- exit ----

_exiting = False


def is_exiting() -> bool:
    """Return whether this process is shutting down."""
    return _exiting or _exiting is None


def _exit_function(
    # Bound here, because at exit the module's own names may be gone.
    info: Callable[..., None] = info,
    debug: Callable[..., None] = debug,
    _run_finalizers: Callable[..., None] = _run_finalizers,
    active_children: Callable[[], list[process.BaseProcess]] = process.active_children,
    current_process: Callable[[], process.BaseProcess | None] = process.current_process,
) -> None:
    """Finalize, terminate the daemonic children, wait for the others: what happens at exit, once."""
    global _exiting
    if _exiting:
        return
    _exiting = True
    info("process shutting down")
    debug('running all "atexit" finalizers with priority >= 0')
    _run_finalizers(0)
    if current_process() is not None:
        # What `os.fork` made of a program has inherited its Process objects, but not its children.
        mine = [child for child in active_children() if child._parent_pid == os.getpid()]
        for child in mine:
            if child.daemon and child._popen is not None:
                info("calling terminate() for daemon %s", child.name)
                child._popen.terminate()
        for child in mine:
            info("calling join() for process %s", child.name)
            child.join()
    debug('running the remaining "atexit" finalizers')
    _run_finalizers()


atexit.register(_exit_function)

# ---- things that survive a fork ----


class ForkAwareThreadLock:
    """A threading.Lock that is free in a child, whoever held it in the parent."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release
        register_after_fork(self, ForkAwareThreadLock._at_fork_reinit)

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *args: Any) -> None:
        return self._lock.__exit__(*args)


class ForkAwareLocal(_local):
    """A threading.local that is empty in a child, also in one that a program forks by itself.

    Differs: there, such a child shares connections to a manager with its parent (python/cpython#101320).
    """

    def __init__(self) -> None:
        register_after_fork(self, _empty)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def _empty(local: ForkAwareLocal) -> None:
    local.__dict__.clear()


def _empty_all() -> None:
    for reference, func in list(_afterfork_registry.values()):
        local = reference()
        if func is _empty and local is not None:
            _empty(local)


os.register_at_fork(after_in_child=_empty_all)


# ---- descriptors and standard streams ----

try:
    MAXFD = os.sysconf("SC_OPEN_MAX")
except (OSError, ValueError):
    MAXFD = 256


def close_all_fds_except(fds: Iterable[int]) -> None:
    """Close every descriptor that is not in `fds`, a list of ints."""
    kept = sorted([*fds, -1, MAXFD])
    if kept[-1] != MAXFD:
        raise AssertionError(f"fd too large: {kept[-1]}, this process may have {MAXFD}")
    for low, high in itertools.pairwise(kept):
        os.closerange(low + 1, high)


def close_fds(*fds: int) -> None:
    """Close each of the descriptors given."""
    for fd in fds:
        os.close(fd)


_spare_stdin: Any = None  # for a forked child: a stdin that is yet to be opened
_fresh_stdin: Any = None  # a stdin that reads nothing, and that nobody has had


def _close_stdin() -> None:
    """Read nothing from the parent's stdin: two readers would each get half."""
    global _spare_stdin, _fresh_stdin
    spare, fresh, _spare_stdin, _fresh_stdin = _spare_stdin, _fresh_stdin, None, None
    if sys.stdin is None or sys.stdin is fresh:
        return
    try:
        sys.stdin.close()
    except (OSError, ValueError):
        pass
    try:
        fd = os.open(os.devnull, os.O_RDONLY)
        try:
            if spare is None:
                sys.stdin = open(fd, encoding="utf-8", closefd=False)  # noqa: SIM115 (it stays open)
            else:
                spare.buffer.raw.__init__(fd, closefd=False)
                sys.stdin = spare
        except BaseException:
            os.close(fd)
            raise
    except (OSError, ValueError):
        pass


def _prepare_stdin() -> None:
    """Make, but for its descriptor, the stdin of children about to be forked.

    Made once here, it need not be made in each of them, where every page that is touched has to be copied.
    """
    global _spare_stdin
    if _spare_stdin is not None or sys.stdin is None:
        return
    try:
        fd = os.open(os.devnull, os.O_RDONLY)
        try:
            _spare_stdin = open(fd, encoding="utf-8", closefd=False)  # noqa: SIM115 (of its own it has nothing to close)
        finally:
            os.close(fd)
    except (OSError, ValueError):
        pass  # then the child tries


def _flush_std_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError):
            pass  # None, or closed


# ---- the way to the resource tracker ----


class _TrackerPipe:
    """The writing end of the pipe to a resource tracker, which need not have been started yet.

    A family's is made before its first child and goes to every child.  So the tracker may be started late,
    or never, by whichever process first has something to register, and serves all of them.
    """

    def __init__(self) -> None:
        self._lock = ForkAwareThreadLock()
        self.fd: int | None = None
        self._file: tuple[int, int] | None = None

    def ensure(self) -> int:
        """Return the descriptor; make the pipe if there is none, or if the program has closed this end."""
        with self._lock:
            if self.fd is None or not self.is_open():
                read, write = os.pipe()
                os.close(read)
                self.adopt(write)
                return write
            return self.fd

    def adopt(self, fd: int) -> None:
        """Use `fd` from now on."""
        self._file = self._identity(fd)
        self.fd = fd

    def is_open(self) -> bool:
        """Return whether the number is still the pipe's: a program may close whatever it does not know."""
        return self.fd is not None and self._file == self._identity(self.fd)

    def close(self) -> None:
        """Close the descriptor, unless it is somebody else's by now."""
        if self.fd is not None and self.is_open():
            os.close(self.fd)
        self.fd = None

    @staticmethod
    def _identity(fd: int) -> tuple[int, int] | None:
        try:
            stat = os.fstat(fd)
        except OSError:
            return None
        return stat.st_dev, stat.st_ino


_tracker_pipe = _TrackerPipe()

# ---- starting a program ----


def _args_from_interpreter_flags() -> list[str]:
    """Return the command-line options, a list of str, that give another Python this one's flags."""
    flags = sys.flags
    if sys._xoptions or flags.dev_mode or flags.bytes_warning:
        # Rare, and a matter of the Python's version. Late, because it takes longer to import than all of ours.
        import subprocess

        return list(subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]
    letters = {
        "O": flags.optimize,
        "d": flags.debug,
        "B": flags.dont_write_bytecode,
        "S": flags.no_site,
        "v": flags.verbose,
        "q": flags.quiet,
        "I": flags.isolated,
        "E": flags.ignore_environment and not flags.isolated,
        "s": flags.no_user_site and not flags.isolated,
        "P": flags.safe_path and not flags.isolated,
    }
    args = ["-" + letter * int(count) for letter, count in letters.items() if count]
    return args + ["-W" + option for option in sys.warnoptions]


def spawnv_passfds(path: str | bytes, args: Iterable[str | bytes], passfds: Iterable[int]) -> int:
    """Start the program at `path` with `args`, open descriptors being 0 to 2 and `passfds`; return its pid.

    Raises OSError, with the path, if the program cannot be started.
    """
    argv = [os.fsencode(arg) for arg in args]
    return _engine.spawn(os.fsencode(path), argv, None, sorted(map(int, passfds)))


def _cleanup_tests() -> None:
    """Stop and forget everything this package keeps running: for test-suites, after the last test."""
    from . import forkserver

    process._cleanup()
    forkserver._forkserver._stop()
    tracker = sys.modules.get(f"{__package__}.resource_tracker")
    if tracker is not None:
        tracker._resource_tracker._stop()
    _run_finalizers()
    from test import support  # type: ignore[import-not-found]

    support.gc_collect()
    support.reap_children()
