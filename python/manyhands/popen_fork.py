"""A child by fork, and what every kind of child is to its parent: wait, signal, reap.

Always: the engine's `Child` says what became of the child, once and for all threads; a process that
inherited this object by a fork may signal the child but never waits for it.
Not here: fresh interpreters (`popen_spawn_posix`), the fork server (`popen_forkserver`).
"""

from __future__ import annotations

import atexit
import os
import sys
from _signal import (  # type: ignore[import-not-found]
    SIG_BLOCK,
    SIG_SETMASK,
    SIGINT,
    SIGKILL,
    SIGTERM,
    pthread_sigmask,
)

from . import _engine, _shortage, process, util  # noqa: F401 (for when nothing can be read any more)

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

__all__ = ["Popen"]


class Popen:
    """A started child.  `pid` is its number, `sentinel` a descriptor that turns readable when it ends."""

    method = "fork"

    def __init__(self, process_obj: process.BaseProcess) -> None:
        util._flush_std_streams()  # or the child would write what is buffered a second time
        self._owner = os.getpid()
        self._launch(process_obj)

    def _adopt(self, child: _engine.Child) -> None:
        """Take the engine's Child as this object's."""
        self._child = child
        self.pid = child.pid
        self.sentinel = child.sentinel

    def duplicate_for_child(self, fd: int) -> int:
        """Return what names, in the child, a descriptor of the parent's."""
        return fd

    @property
    def returncode(self) -> int | None:
        """The exit code if it is known already, else None."""
        return self.poll()

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code, -N for signal N, or None while the child runs; flag 0 waits."""
        if os.getpid() != self._owner:
            return None
        return self._child.poll() if flag == os.WNOHANG else self._child.wait(None)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait at most `timeout` seconds, None is for ever, for the child to end; return the exit code or None."""
        if os.getpid() != self._owner:
            return None
        if timeout is not None and timeout <= 0:
            return self._child.poll()
        return self._child.wait(timeout)

    def _send_signal(self, sig: int) -> None:
        if os.getpid() == self._owner:
            self._child.signal(sig)
            return
        try:
            os.kill(self.pid, sig)
        except ProcessLookupError:
            pass

    def interrupt(self) -> None:
        """Send SIGINT to the child."""
        self._send_signal(SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM to the child."""
        self._send_signal(SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the child."""
        self._send_signal(SIGKILL)

    def close(self) -> None:
        """Give back the descriptors; the exit code stays known."""
        self._child.close()

    def _launch(self, process_obj: process.BaseProcess) -> None:
        lifeline = process._own_lifeline()
        # A child that makes a segment tells its family's tracker, or its end would be the segment's.
        util._tracker_pipe.ensure()
        util._prepare_stdin()

        def fork(mask: Any) -> int:
            pid = os.fork()
            if not pid:
                _run_and_leave(lambda: process_obj._bootstrap(parent_sentinel=lifeline), mask)
            return pid

        self._begin(fork)

    def _begin(self, start: Callable[[Any], int]) -> None:
        """Have `start` start a child, which is given the mask of signals to go back to, and adopt it.

        A Ctrl-C meanwhile comes to both when they are ready for it: a child has not even an interpreter at first, or one
        that forgets the signals which it had before its fork was complete.
        """
        mask = pthread_sigmask(SIG_BLOCK, (SIGINT,))
        try:
            self._adopt(_own(start(mask)))
        except BaseException:
            pthread_sigmask(SIG_SETMASK, mask)
            raise
        try:
            pthread_sigmask(SIG_SETMASK, mask)
        except BaseException:
            # Nobody would know of it.
            self.kill()
            self.wait()
            self.close()
            raise


def _own(pid: int) -> _engine.Child:
    """Return the engine's Child for a process just started; if there cannot be one, there is no child either."""
    try:
        return _engine.Child.own(pid)
    except BaseException:
        os.kill(pid, SIGKILL)
        os.waitpid(pid, 0)
        raise


def _run_and_leave(bootstrap: Callable[[], int], mask: Any = None) -> NoReturn:
    """In a forked child: run, do what is due at exit, and end here; the frames above are the parent's."""
    code = 1
    try:
        if mask is not None:
            pthread_sigmask(SIG_SETMASK, mask)
        atexit._clear()  # the parent's exit functions are the parent's
        atexit.register(util._exit_function)
        code = bootstrap()
    except SystemExit as stop:
        code = process._status_of(stop)
    except KeyboardInterrupt:
        pass  # the program says so
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            atexit._run_exitfuncs()
            util._flush_std_streams()
            _engine.leave_locks()
        finally:
            os._exit(code & 0xFF)
