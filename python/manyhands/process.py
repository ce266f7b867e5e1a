"""Processes as Python objects: start, join, terminate, look at the exit code.

Always: `_current_process` is this process, `_children` are those it started and has not
seen die, and a child owns fresh ones of both before any of the user's code runs.
Not here: how a child comes to life (`popen_*`), which way is chosen (`context`).
"""

from __future__ import annotations

import itertools
import os
import sys
from _weakrefset import WeakSet

from . import _engine

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from .popen_fork import Popen

__all__ = ["BaseProcess", "current_process", "active_children", "parent_process"]

try:
    ORIGINAL_DIR: str | None = os.path.abspath(os.getcwd())
except OSError:
    ORIGINAL_DIR = None  # started in a folder that is gone: relative paths stay as they are


def current_process() -> BaseProcess:
    """Return the object of the process that asks.  Differs: none."""
    return _current_process


def active_children() -> list[BaseProcess]:
    """Return a list of this process's children that are alive; reaps the others.  Differs: none."""
    _cleanup()
    return list(_children)


def parent_process() -> BaseProcess | None:
    """Return the object of the process that started this one, None in the first.  Differs: none."""
    return _parent_process


def _cleanup() -> None:
    for child in list(_children):
        popen = child._popen
        if popen is not None and popen.poll() is not None:
            _children.discard(child)


class BaseProcess:
    """A function that runs, or will run, in a process of its own.

    target -- callable, run in the child as target(*args, **kwargs); or override run()
    name -- str; by default the class's name and the numbers of its ancestors: Process-1:2
    daemon -- bool; None takes it from the process that creates this one

    Raises TypeError for a target that is not callable.
    Differs: the standard library finds that out in the child.
    """

    _start_method: str | None = None
    _identity: tuple[int, ...]
    _config: dict[str, Any]
    # Whether a child that is no copy of this process has the main module.
    _imports_main = True
    _parent_pid: int | None
    _popen: Popen | None
    _sentinel: int

    def _Popen(self, process_obj: Any) -> Popen:
        raise NotImplementedError(
            f"{type(self).__name__} has no start method: take Process from manyhands or from a context of get_context()"
        )

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: bool | None = None,
    ) -> None:
        if group is not None:
            raise AssertionError("a process's group has to be None, it is there for threading's sake")
        if target is not None and not callable(target):
            raise TypeError(
                f"a process's target has to be callable, got {type(target).__name__}: {target!r:.80}; "
                "write target=f, args=(1,) instead of target=f(1)"
            )
        self._identity = (*_current_process._identity, next(_process_counter))
        self._config = _current_process._config.copy()
        self._parent_pid = os.getpid()
        self._parent_name = _current_process.name
        self._popen = None
        self._closed = False
        self._target = target
        self._args = tuple(args)
        self._kwargs = dict(kwargs)
        self._name = name or f"{type(self).__name__}-{':'.join(map(str, self._identity))}"
        if daemon is not None:
            self.daemon = daemon
        _dangling.add(self)

    def _check_closed(self) -> None:
        try:
            closed = self._closed
        except AttributeError:
            raise RuntimeError(f"{type(self).__name__}.__init__() did not call super().__init__()") from None
        if closed:
            raise ValueError("process object is closed")

    def _require_child(self, act: str) -> None:
        """Check that this process is the one that may `act` on the child."""
        if self._parent_pid != os.getpid():
            raise AssertionError(
                f"can only {act} a child process: {self._name} was created by process {self._parent_pid}, "
                f"this is {os.getpid()}"
            )

    def run(self) -> None:
        """What happens in the child; subclasses may override it.  Differs: none."""
        if self._target:
            self._target(*self._args, **self._kwargs)

    def start(self) -> None:
        """Start the child.  To be called once, by the process that created the object.

        Raises AssertionError when started twice, elsewhere, or by a daemonic process; what pickle
        raises when the target or its arguments cannot be sent (spawn, forkserver); OSError when the
        kernel refuses.  After an exception there is no child.
        """
        self._check_closed()
        if self._popen is not None:
            raise AssertionError(f"cannot start a process twice: {self._name} has run; create another Process")
        self._require_child("start")
        if _current_process._config.get("daemon"):
            raise AssertionError("daemonic processes are not allowed to have children")
        _cleanup()
        try:
            self._popen = self._Popen(self)
        except OSError as error:
            from . import _shortage  # there by now: with `popen_fork`

            raise _shortage.told(error, f"could not start {self._name}") from None
        self._sentinel = self._popen.sentinel
        # The target may refer back to this object: let go of it, so that no cycle is left.
        for name in ("_target", "_args", "_kwargs"):
            self.__dict__.pop(name, None)
        _children.add(self)

    def _signalled(self, act: str) -> Popen:
        self._check_closed()
        if self._popen is None:
            # AttributeError, because programs written for the standard library catch it.
            raise AttributeError(f"can only {act} a started process: call {self._name}.start() first")
        return self._popen

    def interrupt(self) -> None:
        """Send SIGINT, which raises KeyboardInterrupt in the child's main thread.

        One that is not caught ends the child with exit code 1.
        Differs: on every version, new in 3.14; the child prints no traceback of it, as a Ctrl-C in a terminal reaches all.
        """
        self._signalled("interrupt").interrupt()

    def terminate(self) -> None:
        """Send SIGTERM to the child; nothing if it has ended.  Differs: none."""
        self._signalled("terminate").terminate()

    def kill(self) -> None:
        """Send SIGKILL to the child; nothing if it has ended.  Differs: none."""
        self._signalled("kill").kill()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the child has ended, at most `timeout` seconds; 0 and less only look.

        Raises AssertionError for a process that was not started, or not by this process.
        Differs: none.
        """
        self._check_closed()
        self._require_child("join")
        if self._popen is None:
            raise AssertionError(f"can only join a started process: call {self._name}.start() first")
        if self._popen.wait(timeout) is not None:
            _children.discard(self)

    def is_alive(self) -> bool:
        """Return whether the child runs.  Differs: none."""
        self._check_closed()
        if self is _current_process:
            return True
        self._require_child("test")
        if self._popen is None:
            return False
        if self._popen.poll() is None:
            return True
        _children.discard(self)
        return False

    def close(self) -> None:
        """Give back the descriptors kept for the child; the object is of no use afterwards.

        Raises ValueError while the child runs.  Differs: none.
        """
        if self._popen is not None:
            if self._popen.poll() is None:
                raise ValueError(
                    "Cannot close a process while it is still running. You should first call join() or terminate()."
                )
            self._popen.close()
            self._popen = None
            del self._sentinel
            _children.discard(self)
        self._closed = True

    @property
    def name(self) -> str:
        """The process's name, a str; it means nothing to the system."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        if not isinstance(name, str):
            raise AssertionError(f"a process's name has to be a string, got {type(name).__name__}")
        self._name = name
        if self is _current_process:
            _make_known(self)

    @property
    def daemon(self) -> bool:
        """Whether the child is terminated when this process ends; to be set before start()."""
        daemonic: bool = self._config.get("daemon", False)
        return daemonic

    @daemon.setter
    def daemon(self, daemonic: bool) -> None:
        if self._popen is not None:
            raise AssertionError("the process has already started: set daemon before start()")
        self._config["daemon"] = daemonic

    @property
    def authkey(self) -> bytes:
        """The key, bytes, by which processes of one family recognise each other."""
        key: bytes = self._config["authkey"]
        return key

    @authkey.setter
    def authkey(self, authkey: bytes) -> None:
        self._config["authkey"] = AuthenticationString(authkey)

    @property
    def exitcode(self) -> int | None:
        """None while the child runs or was not started; then its exit status, -N if signal N ended it."""
        self._check_closed()
        return None if self._popen is None else self._popen.poll()

    @property
    def ident(self) -> int | None:
        """The process's number, None before start()."""
        self._check_closed()
        if self is _current_process:
            return os.getpid()
        return None if self._popen is None else self._popen.pid

    pid = ident

    @property
    def sentinel(self) -> int:
        """A descriptor that turns readable when the child ends, for select and its like."""
        self._check_closed()
        try:
            return self._sentinel
        except AttributeError:
            raise ValueError("process not started") from None

    def __repr__(self) -> str:
        exitcode = None
        if self is _current_process:
            status = "started"
        elif self._closed:
            status = "closed"
        elif self._parent_pid != os.getpid():
            status = "unknown"
        elif self._popen is None:
            status = "initial"
        else:
            exitcode = self._popen.poll()
            status = "started" if exitcode is None else "stopped"
        words = [type(self).__name__, f"name={self._name!r}"]
        if self._popen is not None:
            words.append(f"pid={self._popen.pid}")
        words += [f"parent={self._parent_pid}", status]
        if exitcode is not None:
            words.append(f"exitcode={_exitcode_name(exitcode)}")
        if self.daemon:
            words.append("daemon")
        return f"<{' '.join(words)}>"

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        """Become this process, run, and return the exit status.  Called once, in the child."""
        from . import context, util

        global _children, _current_process, _parent_process, _process_counter

        try:
            if self._start_method is not None:
                context._force_start_method(self._start_method)
            _process_counter = itertools.count(1)
            _children = set()
            util._close_stdin()
            if sys.breakpointhook is sys.__breakpointhook__ and not os.environ.get("PYTHONBREAKPOINT"):
                sys.breakpointhook = _breakpoint
            before, _current_process = _current_process, self
            _parent_process = _ParentProcess(self._parent_name, self._parent_pid, parent_sentinel)
            threading: Any = sys.modules.get("threading")  # not imported for this: few programs of one thread have it
            if getattr(threading, "_HAVE_THREAD_NATIVE_ID", False) and hasattr(threading, "_main_thread"):
                threading.main_thread()._set_native_id()
            try:
                self._after_fork()
            finally:
                # Not earlier: finalizers of what it holds have to be forgotten before it goes.
                del before
            _make_known(self)
            util.info("child process calling self.run()")
            self.run()
            exitcode = 0
        except SystemExit as stop:
            exitcode = _status_of(stop)
        except KeyboardInterrupt:
            # Ctrl-C reaches the whole family: the program says so, once, and not each of its children too.
            exitcode = 1
        except BaseException:
            import traceback

            exitcode = 1
            _complain(f"Process {self.name}:\n{traceback.format_exc()}")
        finally:
            threading = sys.modules.get("threading")  # the target may have imported it
            if threading is not None:
                threading._shutdown()
            util.info("process exiting with exitcode %s", exitcode)
            util._flush_std_streams()
        return exitcode

    @staticmethod
    def _after_fork() -> None:
        from . import util

        util._finalizer_registry.clear()
        util._run_after_forkers()
        _neighbours().after_fork()


class AuthenticationString(bytes):
    """An authentication key: bytes that refuse to be pickled except to a child that is being started."""

    def __reduce__(self) -> tuple[Any, ...]:
        from .context import get_spawning_popen

        if get_spawning_popen() is None:
            raise TypeError(
                "Pickling an AuthenticationString object is disallowed for security reasons; "
                "a child receives the key when it is started"
            )
        return AuthenticationString, (bytes(self),)


class _ParentProcess(BaseProcess):
    """The process that started this one, seen from the child."""

    def __init__(self, name: str, pid: int | None, sentinel: int | None) -> None:
        self._identity = ()
        self._name = name
        self._pid = pid
        self._parent_pid = None
        self._popen = None
        self._closed = False
        if sentinel is not None:
            self._sentinel = sentinel
        self._config = {}

    def is_alive(self) -> bool:
        """Return whether the parent runs."""
        return not _engine.wait_readable([self._sentinel], 0)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the parent has ended, at most `timeout` seconds."""
        _engine.wait_readable([self._sentinel], timeout)

    @property
    def ident(self) -> int | None:
        """The parent's number."""
        return self._pid

    pid = ident


class _MainProcess(BaseProcess):
    """The process that was not started by this package."""

    def __init__(self) -> None:
        self._identity = ()
        self._name = "MainProcess"
        self._parent_pid = None
        self._popen = None
        self._closed = False
        # Every descendant gets a copy.
        self._config = {"authkey": AuthenticationString(os.urandom(32)), "semprefix": "/mp"}

    def close(self) -> None:
        """Do nothing: the main process holds nothing for itself."""


_parent_process: BaseProcess | None = None
_current_process: BaseProcess = _MainProcess()
_process_counter = itertools.count(1)
_children: set[BaseProcess] = set()
_dangling: WeakSet[BaseProcess] = WeakSet()  # every Process not yet collected: tests look here for leaks
_lifeline: tuple[int, int, int | None] | None = None  # whose, the end to look at, the end to hold


def _own_lifeline() -> int:
    """Return a descriptor that turns readable when this process ends, for its children.

    It is opened once and stays open; a forked child opens its own for its children.
    """
    global _lifeline
    if _lifeline is None or _lifeline[0] != os.getpid():
        try:
            _lifeline = (os.getpid(), os.pidfd_open(os.getpid()), None)
        except (AttributeError, OSError):
            # An old Python, kernel or container profile: the end of a pipe that only this process holds.
            read, write = os.pipe()
            _lifeline = (os.getpid(), read, write)
            os.register_at_fork(after_in_child=lambda: _close_quietly(write))
    return _lifeline[1]


def _close_quietly(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass


def _neighbours() -> Any:
    from . import _neighbours

    return _neighbours


def _breakpoint(*args: Any, **kwargs: Any) -> Any:
    """What `breakpoint()` calls in a child: its stdin is empty, so pdb has to find the terminal."""
    from . import _debugger

    return _debugger.stop(sys._getframe(1), *args, **kwargs)


def _make_known(process: BaseProcess) -> None:
    _neighbours().introduce(process)


def _status_of(stop: SystemExit) -> int:
    """Return the exit status that a SystemExit asks for; what is neither number nor None goes to stderr."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return int(stop.code)  # True is 1
    _complain(f"{stop.code}\n")
    return 1


def _complain(text: str) -> None:
    """Write to stderr, if there is one that can be written to: the exit status has to survive it."""
    try:
        sys.stderr.write(text)
    except (AttributeError, OSError, ValueError):
        pass


def _exitcode_name(exitcode: int) -> int | str:
    if exitcode < 0:
        import signal

        try:
            return f"-{signal.Signals(-exitcode).name}"
        except ValueError:
            pass
    return exitcode
