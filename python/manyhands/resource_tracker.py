"""The resource tracker: a small process that outlives its family and removes the names it left behind.

Every process of a family has the writing end of one pipe, over which names are registered and taken off.
The tracker itself is started late, by whichever process has the first name to register: that one opens the
pipe's reading end anew, and the lock on it, which the tracker keeps, lets only one tracker be.  When the last
of them is gone, however it went, the tracker reads the end of the file: it says what was left, and removes it.
So a family that is killed leaves no segment in `/dev/shm`, and no folder with sockets.

Always: only what a process of the family has *made* is removed; what was merely opened by name belongs to
another family, whose own tracker sees to it.  The tracker ignores the signals that end its family.
Not here: locks, which have no names unless somebody asks for one.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable

from . import _engine, spawn, util

__all__ = ["ensure_running", "register", "unregister"]

_IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# One message: what a pipe takes whole, however many write to it at once.
_LONGEST = 512


def cleanup_noop(name: str) -> None:
    """Fail: probes are never registered."""
    raise RuntimeError("noop should never be registered or cleaned up")


# How what is left of each kind is removed.
_CLEANUP_FUNCS: dict[str, Callable[[str], None]] = {
    "noop": cleanup_noop,
    "semaphore": _engine.sem_unlink,
    "shared_memory": _engine.shm_unlink,
}


class ReentrantCallError(RuntimeError):
    """A finalizer called the tracker while this thread was in the middle of doing so."""


class ResourceTracker:
    """The tracker as its family sees it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0  # of calls that hold the lock, in the thread that holds it
        self._pipe = util._TrackerPipe()
        self._seen = False  # running, by this process or the one it was forked from
        self._pid: int | None = None  # the tracker's, in the process that started it
        self._exitcode: int | None = None

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1
        if self._depth > 1:
            # A garbage collection ran a finalizer in the middle of what follows.
            self.__exit__()
            raise ReentrantCallError("Reentrant call into the multiprocessing resource tracker")

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        self._lock.release()

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # another thread of the parent may have held it
        self._depth = 0

    @property
    def _fd(self) -> int | None:
        """The pipe's writing end."""
        return self._pipe.fd

    def _stop(self) -> None:
        """Let the tracker end, if this process started one, and wait for its exit code."""
        with self:
            self._pipe.close()
            if not self._seen and self._exitcode is None:
                self._exitcode = 0  # none was needed, where the standard library's children start one
            self._seen = False
            pid, self._pid = self._pid, None
            if pid is not None:
                self._exitcode = _reap(pid)

    def getfd(self) -> int | None:
        """Return the descriptor that children are to inherit, an int; start the tracker if there is none."""
        self.ensure_running()
        return self._fd

    def ensure_running(self) -> None:
        """Start the tracker if there is none, or if it was killed.  Any process of the family may call this."""
        with self:
            if self._check_alive():
                self._seen = True
                return
            if self._seen:
                self._seen = False
                pid, self._pid = self._pid, None
                # None where another process started it; not dead if it is this end that was closed.
                if pid is not None and self._pipe.is_open():
                    _reap(pid)
                self._exitcode = None
                warnings.warn(
                    "resource_tracker: process died unexpectedly, relaunching.  Some resources might leak.",
                    stacklevel=2,
                )
            self._start()
            self._seen = True

    def _claim(self) -> int | None:
        """Return the pipe's reading end for a new tracker, None if there is one already."""
        try:
            read = os.open(f"/proc/self/fd/{self._pipe.ensure()}", os.O_RDONLY)
        except OSError:
            # No /proc, or this process is another user by now: it gets a tracker of its own.
            read, write = os.pipe()
            self._pipe.close()
            self._pipe.adopt(write)
        try:
            fcntl.flock(read, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(read)
            return None
        return read

    def _start(self) -> None:
        read = self._claim()
        if read is None:
            return
        try:
            program = f"{spawn._finding_us()}from {__package__}.resource_tracker import main; main({read})"
            command = [spawn.get_executable(), *util._args_from_interpreter_flags(), "-c", program]
            # Blocked until it has said that it ignores them: the mask is inherited.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED_SIGNALS)
            try:
                pid = util.spawnv_passfds(command[0], command, [read])
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        finally:
            os.close(read)
        self._pid = pid

    def _check_alive(self) -> bool:
        """Return whether somebody reads from the pipe."""
        if self._fd is None or not self._pipe.is_open():
            return False
        # Not by a write: where nobody reads, that may raise SIGPIPE.
        poll = select.poll()
        poll.register(self._fd, 0)
        return not poll.poll(0)

    def register(self, name: str, rtype: str) -> None:
        """Have `name`, a str, removed when the family is gone; `rtype` is a key of _CLEANUP_FUNCS."""
        self._send("REGISTER", name, rtype)

    def unregister(self, name: str, rtype: str) -> None:
        """Take `name` off: it was removed."""
        self._send("UNREGISTER", name, rtype)

    def _borrow(self, name: str, rtype: str) -> None:
        """Have `name` mentioned if it is not taken off, and left alone: another family made it."""
        self._send("BORROW", name, rtype)

    def _send(self, command: str, name: str, rtype: str) -> None:
        try:
            self.ensure_running()
        except ReentrantCallError:
            # It may work all the same, if the tracker runs.
            warnings.warn(
                "ResourceTracker called reentrantly for resource cleanup, which is unsupported. "
                f"The {rtype} object {name!r} might leak.",
                stacklevel=2,
            )
            if not self._check_alive():
                return  # called in the middle of its start: there is nothing to write to
        if "\n" in name:
            raise ValueError(f"the resource tracker takes no name with a line break: {name!r}")
        message = f"{command}:{name}:{rtype}\n".encode()
        if len(message) > _LONGEST:
            raise ValueError(f"msg too long: a message to the resource tracker has at most {_LONGEST} bytes")
        sent = os.write(self._pipe.ensure(), message)
        if sent != len(message):
            raise AssertionError(f"{sent} of {len(message)} bytes reached the resource tracker")


def _note_folder(path: str) -> None:
    """Have a temporary folder removed when the family is gone, if a tracker can be had and told."""
    try:
        register(path, "folder")
    except (OSError, ValueError):
        return  # it goes at exit, in any case
    _folders.add(path)


def _forget_folder(path: str) -> None:
    """Take a folder off that was removed; no tracker is started for it."""
    if path in _folders:
        _folders.discard(path)
        if _resource_tracker._check_alive():
            unregister(path, "folder")


def _reap(pid: int) -> int | None:
    """Wait for the end of a child; return its exit code, None if somebody else has fetched it."""
    try:
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)
    except (ChildProcessError, ValueError):
        return None


_resource_tracker = ResourceTracker()
_folders: set[str] = set()  # temporary folders that the tracker knows
_resource_tracker._pipe = util._tracker_pipe
ensure_running = _resource_tracker.ensure_running
register = _resource_tracker.register
unregister = _resource_tracker.unregister
getfd = _resource_tracker.getfd
os.register_at_fork(after_in_child=_resource_tracker._after_fork)


# ---- the tracker's side ----


def main(fd: int) -> None:
    """Be the tracker: read messages from the pipe until nobody can write any, then remove what is left.

    Exits with 0 if nothing was left, 1 if something was, 2 if that could not be removed, 3 if there were
    messages that made no sense.
    """
    # A terminal that is closed must not end it before the family has.
    for number in (*_IGNORED_SIGNALS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED_SIGNALS)
    for stream in (sys.stdin, sys.stdout):
        try:
            stream.close()
        except Exception:
            pass
    left = _Left()
    with open(fd, "rb") as messages:
        for message in messages:
            left.note(message)
    sys.exit(left.remove())


def _is_there(name: str) -> bool:
    """Return whether a segment still has its name: its own family may have removed it."""
    return os.path.exists("/dev/shm/" + name.lstrip("/"))


def _remove_folder(path: str) -> None:
    """Remove what a process that was killed had made for its sockets, and nothing but that."""
    import shutil

    if os.path.basename(path).startswith("pymp-"):
        shutil.rmtree(path, ignore_errors=True)


class _Left:
    """What is registered and was not taken off, by kind."""

    def __init__(self) -> None:
        # Of folders, and of what tests register, nothing is said: it is no fault of the program's.
        self._remove: dict[str, Callable[[str], None]] = {
            **_CLEANUP_FUNCS,
            "dummy": lambda name: None,
            "folder": _remove_folder,
        }
        self._made: dict[str, set[str]] = {rtype: set() for rtype in self._remove}
        self._borrowed: dict[str, set[str]] = {rtype: set() for rtype in self._remove}
        self._code = 0

    def note(self, message: bytes) -> None:
        try:
            command, _, rest = message.rstrip(b"\n").decode().partition(":")
            name, _, rtype = rest.rpartition(":")
            if rtype not in self._remove:
                raise ValueError(f"Cannot register {name} for automatic cleanup: unknown resource type {rtype}")
            if command == "REGISTER":
                self._made[rtype].add(name)
            elif command == "BORROW":
                self._borrowed[rtype].add(name)
            elif command == "UNREGISTER":
                if name in self._borrowed[rtype]:
                    self._borrowed[rtype].remove(name)
                    self._made[rtype].discard(name)
                else:
                    self._made[rtype].remove(name)
            elif command != "PROBE":
                raise RuntimeError(f"unrecognized command {command!r}")
        except Exception:
            self._code = 3
            sys.excepthook(*sys.exc_info())

    def remove(self) -> int:
        """Warn of what is left and remove it; return the exit code."""
        for rtype, remove in self._remove.items():
            made = self._made[rtype]
            names = made | set(filter(_is_there, self._borrowed[rtype]))
            if not names:
                continue
            if rtype != "folder":
                self._code = 1
            if rtype not in ("dummy", "folder"):
                warnings.warn(
                    f"resource_tracker: There appear to be {len(names)} leaked {rtype} objects to clean up at "
                    f"shutdown: {names}",
                    stacklevel=2,
                )
            for name in made:
                try:
                    remove(name)
                except Exception as error:
                    self._code = 2
                    warnings.warn(f"resource_tracker: {name!r}: {error}", stacklevel=2)
        return self._code
