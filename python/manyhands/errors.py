"""What can go wrong, as exceptions that say what to do.

The standard library's own (``ProcessError``, ``TimeoutError``, ...) are in
``manyhands.context``; here are those it has no name for, and the making of
exceptions from what a worker reported.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

from .context import ProcessError

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, ClassVar

__all__ = [
    "BrokenPool",
    "ExceptionWithTraceback",
    "MaybeEncodingError",
    "OwnerDied",
    "PoolTerminated",
    "RemoteError",
    "RemoteTraceback",
    "SoftTimeLimitExceeded",
    "TaskExited",
    "TimeLimitExceeded",
    "WorkerDied",
    "WorkerOutOfMemory",
]


class WorkerDied(ProcessError, RuntimeError):
    """The process that was running this task died; other tasks are not concerned.

    Attributes: ``pid`` (int), ``exitcode`` (int, ``-N`` for signal N),
    ``signal_name`` (``"SIGKILL"``, or None if it was not killed by a signal),
    ``task_index`` (int: which part of the call, counted in tasks of ``chunksize``
    items), ``function`` (str: what it was running).

    Differs: the standard library waits for ever for the task's result
    (python/cpython#66587).
    """

    def __init__(
        self,
        message: str,
        pid: int | None = None,
        exitcode: int | None = None,
        signal_name: str | None = None,
        task_index: int | None = None,
        function: str | None = None,
    ) -> None:
        super().__init__(message, pid, exitcode, signal_name, task_index, function)
        self.pid = pid
        self.exitcode = exitcode
        self.signal_name = signal_name
        self.task_index = task_index
        self.function = function

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> Any:
        # Whatever it is here, where it is unpickled `concurrent.futures` may not be loaded.
        kind = self._kind
        return (kind or type(self), self.args, self.__dict__) if kind else super().__reduce__()

    # The kind that one is which is a `BrokenProcessPool` too.
    _kind: ClassVar[type[WorkerDied] | None] = None


class WorkerOutOfMemory(WorkerDied):
    """The kernel killed the worker because memory ran out, as far as its counters tell.

    They are the control group's (``memory.events``), or the machine's where there is none. Use fewer workers,
    smaller tasks, or ``max_memory=``, which gives the task a MemoryError instead.
    """


class TimeLimitExceeded(WorkerDied):
    """The task took longer than its ``task_timeout`` and went on when it was asked to end, so its worker was killed."""


class SoftTimeLimitExceeded(Exception):
    """Raised inside a call that takes longer than its ``task_timeout``: clean up and leave.

    It is raised in the midst of whatever Python code is being run, once; what holds the interpreter for long, such as
    a loop in an extension, hears of it afterwards. If the call leaves by it, the caller gets it too.
    """


class OwnerDied(ProcessError, RuntimeError):
    """The process that held this lock was killed; the lock is free again.

    One of those who wait for it gets this instead of the lock, and knows by it that what the lock guards may be left
    half-changed. ``pid`` (int) is the process that died. From `Condition.wait` it comes with the lock taken.

    Differs: the standard library waits for ever (python/cpython#88304). A process that ends in an orderly way while
    it holds a lock leaves it locked, as there, and another process may release it.
    """

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message, pid)
        self.pid = pid

    def __str__(self) -> str:
        return str(self.args[0])


class BrokenPool(ProcessError, RuntimeError):
    """The pool cannot run tasks: its workers end before they are ready, or none starts.

    Differs: the standard library starts workers again and again, and waits for ever.
    """


class PoolTerminated(ProcessError, RuntimeError):
    """The pool was terminated before the task was done.

    Differs: the standard library waits for ever for such a result.
    """


class RemoteError(ProcessError, RuntimeError):
    """A task raised an exception that could not be unpickled here.

    The text says what was raised, the cause is its traceback in the worker.
    Differs: the standard library's pool hangs (python/cpython#103061).
    """


class TaskExited(ProcessError, RuntimeError):
    """A task raised SystemExit or KeyboardInterrupt; the worker goes on.

    ``exception`` is what was raised. It is wrapped so that it does not end the
    caller's program. Differs: the standard library's worker ends and the caller waits for ever.
    """

    def __init__(self, message: str, exception: BaseException | None = None) -> None:
        super().__init__(message, exception)
        self.exception = exception

    def __str__(self) -> str:
        return str(self.args[0])


class RemoteTraceback(Exception):
    """The cause of an exception from a worker: its traceback there, as text."""

    __module__ = "manyhands.pool"

    def __init__(self, tb: str) -> None:
        self.tb = tb

    def __str__(self) -> str:
        return self.tb


class ExceptionWithTraceback:
    """An exception that carries its traceback as text when it is pickled."""

    __module__ = "manyhands.pool"

    def __init__(self, exc: BaseException, tb: Any) -> None:
        self.exc = exc
        self.tb = _quoted(_formatted(exc, tb))
        _forget_frames(self.exc)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_exc, (self.exc, self.tb)


def rebuild_exc(exc: BaseException, tb: str) -> BaseException:
    """Put the exception of a worker together with its traceback there."""
    _give_cause(exc, RemoteTraceback(tb))
    return exc


# An exception's class may forbid assignments (a frozen dataclass does); what is every exception's is ours to set.


def _forget_frames(exc: BaseException) -> None:
    BaseException.__dict__["__traceback__"].__set__(exc, None)


def _give_cause(exc: BaseException, cause: BaseException) -> None:
    BaseException.__dict__["__cause__"].__set__(exc, cause)


class MaybeEncodingError(Exception):
    """A result or an exception that could not be pickled.

    ``exc`` is the repr of why, ``value`` that of what.
    """

    __module__ = "manyhands.pool"

    def __init__(self, exc: object, value: object) -> None:
        self.exc = _shown(exc)
        self.value = _shown(value)
        super().__init__(self.exc, self.value)

    def __str__(self) -> str:
        return f"Error sending result: '{self.value}'. Reason: '{self.exc}'"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


def _shown(value: object) -> str:
    """The repr of a value, whatever its ``__repr__`` does."""
    if isinstance(value, str):
        return value
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def _quoted(text: str) -> str:
    return f'\n"""\n{text}"""'


def _formatted(exc: BaseException, tb: TracebackType | None) -> str:
    import traceback  # which takes long to import, and most programs raise nothing

    return "".join(traceback.format_exception(type(exc), exc, tb))


# The engine calls what follows, in the worker ...


def _describe(exc: BaseException) -> str:
    """The traceback of ``exc`` as text; lets go of the frames."""
    try:
        text = _formatted(exc, exc.__traceback__)
    except Exception:  # a __str__ or __cause__ of the user's that raises
        text = f"{type(exc).__module__}.{type(exc).__qualname__}: {_shown(exc)}\n"
    _forget_frames(exc)
    # Names of files may hold what UTF-8 cannot say.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _unsendable(why: BaseException, value: object) -> MaybeEncodingError:
    error = MaybeEncodingError(why, value)
    error.__traceback__ = why.__traceback__
    return error


# ... and in the caller.


def _from_worker(text: str, exc: Any) -> BaseException:
    """What to raise for an exception that a task raised."""
    cause = RemoteTraceback(_quoted(text))
    if isinstance(exc, KeyboardInterrupt):
        # Ctrl-C goes to the whole process group: if that is what the worker got,
        # this process is about to get it too, and raises it here.
        import time

        time.sleep(0.1)
    if isinstance(exc, SystemExit | KeyboardInterrupt):
        raised = repr(exc)
        exc = TaskExited(f"the task raised {raised}, which ends a program but not a pool's worker", exc)
    elif not isinstance(exc, BaseException):
        exc = RemoteError(f"the task raised something that unpickled as {_shown(exc)}")
    error: BaseException = exc
    _give_cause(error, cause)
    return error


def _is_from_handler(trace: TracebackType | None) -> bool:
    """Whether an exception with this traceback was raised by a signal handler, in the midst of other work."""
    import threading

    if threading.current_thread() is not threading.main_thread():
        return False  # where none runs
    codes = {_code(_signal.getsignal(number)) for number in _signal.valid_signals()} - {None}
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _code(handler: Any) -> Any:
    """The code that a signal handler runs first; None: none that is Python."""
    import functools

    while isinstance(handler, functools.partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    if not hasattr(function, "__code__"):
        function = type(handler).__call__  # of an object that can be called, if it is one
    return getattr(function, "__code__", None)


def _undecodable(text: str, why: BaseException) -> RemoteError:
    """What to raise for an exception that cannot be unpickled here."""
    what = text.strip().splitlines()[-1] if text.strip() else "an exception"
    error = RemoteError(f"the task raised {what}; that exception could not be unpickled here: {_shown(why)}")
    error.__cause__ = RemoteTraceback(_quoted(text))
    return error


def _worker_died(pid: int, exitcode: int, index: int, function: object, cause: str) -> WorkerDied:
    name = getattr(function, "__qualname__", None) or _shown(function)
    how, signal_name = _ending(exitcode)
    kind, why = _CAUSES.get(cause or signal_name or "", (WorkerDied, ""))
    message = f"worker process {pid} {how}{why} while it ran task {index} of {name}(); the pool replaced it"
    return _also_broken(kind)(message, pid, exitcode, signal_name, index, name)


# What the engine found out of a death, or the signal that tells it by itself.
_CAUSES = {
    "time": (TimeLimitExceeded, " because the task took longer than its task_timeout"),
    "memory": (
        WorkerOutOfMemory,
        " by the kernel because memory ran out (fewer workers, smaller tasks or max_memory help)",
    ),
    "SIGXCPU": (WorkerDied, " because it used up its processor time"),
}


def _also_broken(kind: type[WorkerDied]) -> type[WorkerDied]:
    """The same kind as one that programs for `concurrent.futures` catch; only they have loaded that."""
    import sys

    if "concurrent.futures.process" not in sys.modules:
        return kind
    from . import _broken

    return _broken.also_broken(kind)


def _ending(exitcode: int) -> tuple[str, str | None]:
    """How a process ended, in words, and the name of the signal that killed it."""
    if exitcode >= 0:
        return f"exited with code {exitcode}", None
    import signal

    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"was killed by {name}", name


def _owner_died(pid: int) -> OwnerDied:
    message = (
        f"process {pid} was killed while it held this lock; the lock is free again, what it guards may be half-changed"
    )
    return OwnerDied(message, pid)


def _terminated(message: str) -> PoolTerminated:
    return PoolTerminated(message)


def _broken(reason: str, cause: str | None) -> BrokenPool:
    if not cause:
        reason += ': the main module may start a pool when it is imported (put that under `if __name__ == "__main__":`)'
    error = BrokenPool(reason)
    if cause:
        error.__cause__ = RemoteTraceback(_quoted(cause))
    return error
