"""The fork server: a small process that forks a child whenever it is asked, and says how the child ended.

Requests travel over a private socket pair, which the server's family inherits and nobody else can reach:
one message a child, with the descriptors the child gets.  The server answers on a socket of that child's
own: first its pid (and a pidfd), later, when the child has ended, its exit code, and nothing else.

Always: the server has one thread, runs nothing of the user's but the modules to preload, ends when the
last process that could ask is gone, and is replaced when it was killed.
Not here: what the child reads and runs (`spawn`), the child as its parent sees it (`popen_forkserver`).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import struct
import sys

from . import _engine, process, spawn, util

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, NoReturn

__all__ = ["ensure_running", "get_inherited_fds", "connect_to_new_process", "set_forkserver_preload"]

MAXFDS_TO_SEND = 253  # the kernel's limit for one message

_REQUEST = struct.Struct("=8sq")  # a mark, the number of descriptors
_MARK = b"mh-fork1"
_PID = struct.Struct("=q")  # the child's pid; negative: the error number of a fork that failed
_STATUS = struct.Struct("=i")  # the exit code, or minus the signal
_OWN_FDS = 5  # of a request: data, status, the asker's lifeline, the requests' socket, the server's sentinel
_TRIES = 3


class ForkServer:
    """The fork server as those see it who ask for children."""

    def __init__(self) -> None:
        self._lock = util.ForkAwareThreadLock()
        self._forget()
        self._inherited_fds: list[int] | None = None
        self._preload_modules = ["__main__"]

    def _forget(self) -> None:
        self._child: _engine.Child | None = None  # the engine's Child, in the process that started the server
        self._owner: int | None = None
        self._requests: int | None = None
        self._sentinel: int | None = None
        self._forkserver_pid: int | None = None

    def _adopt(self, requests: int, sentinel: int, pid: int) -> None:
        self._requests, self._sentinel, self._forkserver_pid = requests, sentinel, pid

    def _drop(self) -> _engine.Child | None:
        """Let go of the server, which ends when nobody holds it any more; return its Child if it is ours."""
        if self._requests is None or self._sentinel is None:
            return None
        process._close_quietly(self._requests)
        process._close_quietly(self._sentinel)
        child = self._child if self._owner == os.getpid() else None
        self._forget()
        return child

    def _stop(self) -> None:
        """Stop the server and wait for its end, if this process started one."""
        with self._lock:
            child = self._drop()
            if child is not None:
                child.wait(None)
                child.close()

    def set_forkserver_preload(self, modules_names: Iterable[str]) -> None:
        """Let the server import these modules, a list of str, before it forks; '__main__' is the main program.

        A server that runs already stays as it is.  Differs: none.
        """
        if isinstance(modules_names, str) or not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        self._preload_modules = list(modules_names)
        with self._lock:
            if self._owner != os.getpid():
                self._drop()  # an ancestor's server, with that one's modules

    def get_inherited_fds(self) -> list[int] | None:
        """Return the descriptors that came with this process, a list; None if no fork server forked it."""
        return self._inherited_fds

    def ensure_running(self) -> None:
        """Make sure that there is a server: the family's, or a new one in place of one that ended."""
        with self._lock:
            self._ensure_running()

    def connect_to_new_process(self, fds: Sequence[int]) -> tuple[_engine.Child, int]:
        """Ask for a child which gets `fds`; return its engine's Child, and the pipe's end it reads from.

        The caller writes the pickled preparation and process object to the pipe and closes it; if nothing
        is written, the child ends without having run anything.
        Raises ValueError for too many descriptors, OSError when the server could not fork.
        """
        if len(fds) > MAXFDS_TO_SEND - _OWN_FDS:
            raise ValueError(
                f"too many fds: {len(fds)} go with this process, a fork server's child takes "
                f"{MAXFDS_TO_SEND - _OWN_FDS}; send fewer, or use spawn"
            )
        with self._lock:
            for _ in range(_TRIES):
                self._ensure_running()
                answer = self._ask(fds)
                if answer is not None:
                    return answer
                child = self._drop()
                if child is not None:
                    child.wait(None)
        raise RuntimeError(
            f"the fork server ended {_TRIES} times before it had forked; its stderr says why, "
            "or set_forkserver_preload() imports a module that ends the process"
        )

    def _ensure_running(self) -> None:
        if self._requests is not None and self._sentinel is not None:
            if not _engine.wait_readable([self._sentinel], 0):
                return
            child = self._drop()
            if child is not None:
                child.wait(None)  # reaped

        told: dict[str, Any] = {}
        if self._preload_modules:
            data = spawn.get_preparation_data("ignore")
            told = {
                "main_path": data.get("init_main_from_path"),
                "main_name": data.get("init_main_from_name"),
                "sys_path": data["sys_path"],
                "installed": data["installed"],
            }
        requests, theirs = _engine.socket_pair()
        try:
            words = "".join(f", {name}={value!r}" for name, value in told.items())
            program = (
                f"{spawn._finding_us()}from {__package__}.forkserver import main; "
                f"main({theirs}, {self._preload_modules!r}{words})"
            )
            command = spawn._followed([spawn.get_executable(), *util._args_from_interpreter_flags(), "-c", program])
            # Ctrl-C is none of its business, from its beginning on; its children see to themselves.
            mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGINT,))
            try:
                pid = util.spawnv_passfds(command[0], command, [theirs])
            finally:
                _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        except BaseException:
            os.close(requests)
            raise
        finally:
            os.close(theirs)
        from .popen_fork import _own

        self._child = _own(pid)
        self._owner = os.getpid()
        # A duplicate: forked children lose what is registered as the parent's alone.
        self._adopt(requests, os.dup(self._child.sentinel), pid)

    def _ask(self, fds: Sequence[int]) -> tuple[_engine.Child, int] | None:
        """Send one request; return the Child and the writing end, or None if the server is gone."""
        if self._requests is None or self._sentinel is None:
            return None
        status, theirs = _engine.socket_pair()
        data, write = os.pipe()
        try:
            try:
                own = [data, theirs, process._own_lifeline(), self._requests, self._sentinel]
                _engine.send_fds(self._requests, _REQUEST.pack(_MARK, len(fds)), own + list(fds))
            finally:
                os.close(data)
                os.close(theirs)
            ready = _engine.wait_readable([status, self._sentinel], None)
            answer, pidfds = _engine.recv_fds(status, _PID.size, 1) if status in ready else (b"", [])
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        except BaseException:
            os.close(status)
            os.close(write)
            raise
        if len(answer) == _PID.size:
            (pid,) = _PID.unpack(answer)
            if pid > 0:
                return _engine.Child.remote(pid, pidfds[0] if pidfds else -1, status), write
        os.close(status)
        os.close(write)
        if answer:
            raise OSError(-pid, f"the fork server could not fork: {os.strerror(-pid)}")
        return None


# ---- the server's side ----


def main(
    requests: int,
    preload: list[str],
    main_path: str | None = None,
    sys_path: list[str] | None = None,
    main_name: str | None = None,
    installed: bool = False,
) -> None:
    """Be the fork server: import what is to be preloaded, then fork on request until nobody can ask."""
    if installed:
        from ._install import install

        install()
    _preload(preload, main_path, main_name, sys_path)
    # What each child needs, so that none has to import it; no threading, as its hook takes a fifth of a fork.
    from . import _pool_worker, popen_forkserver, reduction  # noqa: F401

    util._close_stdin()
    util._fresh_stdin = sys.stdin  # so that no child has to open its own
    _Server(requests).serve()


def _preload(modules: list[str], main_path: str | None, main_name: str | None, sys_path: list[str] | None) -> None:
    if sys_path is not None:
        sys.path[:] = sys_path
    for name in modules:
        try:
            if name != "__main__":
                __import__(name)
            elif main_path is not None or main_name is not None:
                current: Any = process.current_process()
                current._inheriting = True
                try:
                    if main_name is not None:
                        spawn._fixup_main_from_name(main_name)
                    elif main_path is not None:
                        spawn.import_main_path(main_path)
                finally:
                    del current._inheriting
        except ImportError:
            pass  # a hint, no more: a child that needs the module says so itself
        except (Exception, SystemExit) as error:
            # The main program fails again in each child, which then tells it once.
            if name != "__main__":
                process._complain(f"the fork server could not preload {name}: {type(error).__name__}: {error}\n")
    util._flush_std_streams()  # or every child would write what is buffered


class _Server:
    """The loop of the fork server, and its children that have not ended."""

    def __init__(self, requests: int) -> None:
        import gc

        self._requests = requests
        self._statuses: dict[int, int] = {}  # by pid: where its exit code is awaited
        self._wake, self._alarm = os.pipe()
        for fd in (self._wake, self._alarm):
            os.set_blocking(fd, False)
        gc.freeze()  # what is here now stays: children need not copy its pages to count references

    def serve(self) -> NoReturn:
        # A handler, though it does nothing: only then does the signal end a wait and write to the pipe. And SIGINT is
        # blocked, not only ignored: so one that comes to a child which has just been forked waits until it is heeded.
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGINT,))
        self._handlers = {
            number: _signal.signal(number, handler)
            for number, handler in ((_signal.SIGCHLD, lambda *_: None), (_signal.SIGINT, _signal.SIG_IGN))
        }
        _signal.set_wakeup_fd(self._alarm, warn_on_full_buffer=False)
        while True:
            ready = _engine.wait_readable([self._requests, self._wake], None)
            if self._wake in ready:
                self._drain()
                self._reap()
            if self._requests in ready:
                message, fds = _engine.recv_fds(self._requests, _REQUEST.size, MAXFDS_TO_SEND)
                if not message:
                    raise SystemExit  # the family is gone
                self._answer(message, fds)

    def _drain(self) -> None:
        room = 4096
        try:
            while len(os.read(self._wake, room)) == room:
                pass
        except BlockingIOError:
            pass

    def _reap(self) -> None:
        while self._statuses:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            to_parent = self._statuses.pop(pid, None)
            if to_parent is not None:
                try:
                    os.write(to_parent, _STATUS.pack(os.waitstatus_to_exitcode(status)))
                except OSError:
                    pass  # the parent is gone
                os.close(to_parent)

    def _answer(self, message: bytes, fds: list[int]) -> None:
        if len(message) != _REQUEST.size or _REQUEST.unpack(message) != (_MARK, len(fds) - _OWN_FDS):
            util.close_fds(*fds)  # the asker sees its end of file
            return
        to_parent = fds[1]
        try:
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 0) or -1
        if pid == 0:
            from .popen_fork import _run_and_leave

            _run_and_leave(lambda: self._become_child(fds))
        pidfds = []
        if pid > 0:
            self._statuses[pid] = to_parent
            try:
                pidfds.append(os.pidfd_open(pid))
            except (AttributeError, OSError):
                pass
        try:
            _engine.send_fds(to_parent, _PID.pack(pid), pidfds)
        except OSError:
            pass  # the parent is gone: its child reads nothing and ends
        if pid > 0:
            fds.remove(to_parent)
        util.close_fds(*fds, *pidfds)

    def _become_child(self, fds: list[int]) -> int:
        """In the child: be rid of all that is the server's, then run what the parent sends."""
        _signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            _signal.signal(number, handler)
        data, to_parent, lifeline, requests, sentinel, *inherited = fds
        util.close_fds(to_parent, self._requests, self._wake, self._alarm, *self._statuses.values())
        self._statuses.clear()
        _forkserver._adopt(requests, sentinel, os.getppid())
        _forkserver._inherited_fds = inherited
        return spawn._main(data, lifeline)


_forkserver = ForkServer()
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload
