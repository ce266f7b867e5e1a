"""`breakpoint()` in a child: pdb at the program's terminal, one process at a time.

Always: a terminal is locked while its prompt is shown and no longer, on the terminal's own file, so that other programs
there wait too and the kernel frees it when whoever has it dies; what a child's stdin, PYTHONBREAKPOINT or another hook say
comes first.
Not here: who installs the hook (`process`), debuggers that follow children by themselves (`spawn._followed`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pdb
import struct
import subprocess
import sys
import time

from . import process, util

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

__all__ = ["stop"]

_TIOCGDEV = 0x80045432  # which device a terminal is, for it is opened as /dev/tty
_GLANCE = 0.05
_CALM = 6  # glances at a terminal that is free, one after the other, before a newcomer takes it

# Line editing takes echo and more from the terminal. This gives it back when the process at the prompt dies there: `read`
# fails at the end of a pipe that nobody has open. It does nothing once the terminal is another job's, a shell's say.
_KEEPER = (
    'exec 3<&2 2>/dev/null; trap "" INT QUIT TERM HUP; '
    'saved=$(stty -g <&3) || exit; echo; read -r _ || stty "$saved" <&3'
)


def stop(frame: FrameType, *args: Any, **kwargs: Any) -> Any:
    """Stop at the next line of `frame`, as pdb.set_trace does.

    header -- str, said before; commands -- list of str, what pdb does first, from Python 3.14
    Raises RuntimeError where no terminal is.
    """
    if not sys.flags.ignore_environment and os.environ.get("PYTHONBREAKPOINT"):
        # It was set in this process. What it names takes its caller for the place to stop at, which is here this once.
        sys.breakpointhook = sys.__breakpointhook__
        return breakpoint(*args, **kwargs)
    _set_trace(frame, *args, **kwargs)
    return None


def _set_trace(frame: FrameType, *, header: str | None = None, **kwargs: Any) -> None:
    if _reads_nothing(sys.stdin):
        debugger: pdb.Pdb = _Debugger(_terminal(), header)
    else:
        debugger = pdb.Pdb()
        if header is not None:
            debugger.message(header)
    # From here on each call is traced, so it is the last one.
    debugger.set_trace(frame, **kwargs)


def _reads_nothing(stdin: Any) -> bool:
    """Whether a stdin is what children get: none, or the null device."""
    if stdin is None:
        return True
    try:
        return os.fstat(stdin.fileno()).st_rdev == os.stat(os.devnull).st_rdev
    except (AttributeError, OSError, ValueError):
        return False


class _Terminal:
    """The terminal: how it is opened, and the file to lock."""

    def __init__(self, path: str) -> None:
        self.path = path
        with self.opened() as fd:
            try:
                device = struct.unpack("I", fcntl.ioctl(fd, _TIOCGDEV, bytes(4)))[0]
            except OSError:
                device = os.fstat(fd).st_rdev  # a kernel that does not say
        # /dev/tty is one file for all terminals of the machine.
        names = [f"/dev/pts/{os.minor(device)}", *(f"/proc/self/fd/{number}" for number in range(3))]
        # After a change of users it may not be ours to open by its name: then we wait for all of them.
        self.lock_path = next((name for name in names if _device(name) == device and os.access(name, os.R_OK)), path)
        self.is_everything = all(_device(f"/proc/self/fd/{number}") == device for number in range(2))

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        fd = os.open(self.path, os.O_RDWR | os.O_NOCTTY)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def locked(self, *, is_back: bool) -> Iterator[None]:
        """Have the terminal to oneself, at once if it was ours a moment ago."""
        fd = os.open(self.lock_path, os.O_RDONLY | os.O_NOCTTY)
        try:
            if not _takes(fd):
                if is_back:
                    fcntl.flock(fd, fcntl.LOCK_EX)
                else:
                    _wait_for_calm(fd)
            try:
                yield
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)  # closing it does not do that if somebody forked meanwhile
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def streams(self) -> Iterator[tuple[Any, Any, bool]]:
        """Yield a stdin, a stdout, and whether lines can be edited: that is possible on descriptors 0 and 1 alone."""
        if self.is_everything:
            stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
            # Not closed: another thread may be about to print to it.
            stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
            with _kept(self):
                yield stdin, stdout, True
            stdout.flush()
            return
        with (
            self.opened() as fd,
            open(fd, encoding="utf-8", errors="replace", closefd=False) as stdin,
            open(fd, "w", encoding="utf-8", errors="replace", closefd=False) as stdout,
        ):
            yield stdin, stdout, False


def _terminal() -> _Terminal:
    """Return the controlling terminal, or the one that this process had as stdin, stdout or stderr."""
    try:
        return _Terminal("/dev/tty")
    except OSError as error:
        for number in range(3):
            if os.isatty(number):
                return _Terminal(f"/proc/self/fd/{number}")
        who = process.current_process()
        why = "it has none" if error.errno == errno.ENXIO else error.strerror
        raise RuntimeError(
            f"breakpoint() in {who.name} (pid {os.getpid()}) found no terminal for the debugger: {why}; run the program "
            "from a terminal, or set PYTHONBREAKPOINT=0 to pass over breakpoints, PYTHONBREAKPOINT=module.function to have "
            "another debugger called"
        ) from None


def _device(path: str) -> int | None:
    try:
        return os.stat(path).st_rdev
    except OSError:
        return None


def _takes(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for_calm(fd: int) -> None:
    """Take the terminal when nobody has wanted it for a while.

    Who steps from line to line lets go of it while a line runs, for the line may wait for a process that waits here, and is
    back in no time.
    """
    free = 0
    while free < _CALM:
        if free:
            fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(_GLANCE)
        free = free + 1 if _takes(fd) else 0


@contextlib.contextmanager
def _kept(terminal: _Terminal) -> Iterator[None]:
    """Have the terminal's settings restored should this process die meanwhile."""
    keeper = None
    try:
        with terminal.opened() as fd:
            keeper = subprocess.Popen(["sh", "-c", _KEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=fd)
        assert keeper.stdout is not None
        keeper.stdout.read(1)
    except OSError:
        pass  # no shell: then it is as with any program that is killed at its prompt
    try:
        yield
    finally:
        if keeper is not None:
            keeper.communicate(b"\n")


class _Debugger(pdb.Pdb):
    """A pdb that has the terminal while it prompts, and ends with the call that it was opened in."""

    def __init__(self, terminal: _Terminal, header: str | None) -> None:
        # nosigint: a Ctrl-C is for the whole program, which is about to end, so nothing is opened by it.
        super().__init__(skip=[f"{__package__}.*"], nosigint=True)
        self._terminal = terminal
        self._header = header
        self._name = process.current_process().name
        self._has_turn = self._had_turn = self._is_interrupted = False
        self.prompt = f"(Pdb {self._name}) "

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Have the terminal; who has it already keeps it."""
        if self._has_turn:
            yield
            return
        with self._terminal.locked(is_back=self._had_turn):
            util._flush_std_streams()
            before = sys.stdin, sys.stdout
            try:
                with self._terminal.streams() as (self.stdin, self.stdout, self.use_rawinput):
                    # What is evaluated at the prompt prints to it.
                    sys.stdin, sys.stdout = self.stdin, self.stdout
                    self._has_turn = True
                    if not self._had_turn:
                        self._say_who()
                    yield
            finally:
                sys.stdin, sys.stdout = before
                self._has_turn = False
        if self._is_interrupted:
            raise KeyboardInterrupt

    def _say_who(self) -> None:
        self._had_turn = True
        self.message(f"{self._name}, pid {os.getpid()}:")
        if self._header is not None:
            self.message(self._header)

    def cmdloop(self, intro: Any = None) -> None:
        """Prompt until a command lets the code go on; a Ctrl-C does too, for it ends the program elsewhere."""
        try:
            super().cmdloop(intro)
        except KeyboardInterrupt:
            self._is_interrupted = True

    # Where pdb prints and prompts.

    def interaction(self, *args: Any, **kwargs: Any) -> None:
        with self._turn():
            super().interaction(*args, **kwargs)

    def user_call(self, *args: Any) -> None:
        with self._turn():
            super().user_call(*args)

    def user_line(self, *args: Any) -> None:
        with self._turn():
            super().user_line(*args)

    def user_exception(self, *args: Any) -> None:
        with self._turn():
            super().user_exception(*args)

    def user_return(self, frame: FrameType, return_value: Any) -> None:
        """The end of a function; from one that this package has called there is nothing to step back into."""
        with self._turn():
            super().user_return(frame, return_value)
        caller = frame.f_back
        ours = caller is None or str(caller.f_globals.get("__name__")).startswith(f"{__package__}.")
        if ours and not self.quitting:
            self.set_continue()
