"""`ProcessPoolExecutor`: the executor of `concurrent.futures`, on the engine of our pools.

A future is quiet until somebody looks at it in the standard library's way: then the thread that waits in its
`result` works for the pool meanwhile, and nobody else hears of it. As soon as its condition is asked for, by `wait`,
`as_completed` or a callback, the executor's thread sets it.
Always: a future's outcome is set once, and what its job knows and what it says itself are the same to whoever asks.
"""

from __future__ import annotations

import collections
import itertools
import operator
import os
import threading
import time
import weakref
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError, _base

from . import _engine, _limits, _seats, _shortage, _stacks  # noqa: F401
from ._executor_worker import work
from .context import _usable_processors
from .errors import RemoteTraceback as _RemoteTraceback
from .errors import _ending, _give_cause, _quoted, _shown

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, ParamSpec, TypeVar

    from ._broken import BrokenProcessPool as BrokenProcessPool
    from ._engine import Shared

    _P = ParamSpec("_P")
    _R = TypeVar("_R")  # what a call returns

__all__ = ["BrokenProcessPool", "ProcessPoolExecutor"]

# How long workers of a broken executor may take to follow SIGTERM before they are killed.
_GRACE = 5.0
_PENDING, _FINISHED = _base.PENDING, _base.FINISHED
_CALLED_OFF = (_base.CANCELLED, _base.CANCELLED_AND_NOTIFIED)
# What a future has from the moment when somebody looks at it.
_OBSERVED = ("_condition", "_waiters", "_done_callbacks")
# Held while a future turns from quiet to observed, or from pending to done while it is quiet.
_quiet = threading.RLock()
os.register_at_fork(after_in_child=_quiet._at_fork_reinit)  # type: ignore[attr-defined]


def __getattr__(name: str) -> Any:
    if name == "BrokenProcessPool":  # loaded when it is asked for: see there
        from ._broken import BrokenProcessPool

        return BrokenProcessPool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


class _Future(Future):  # type: ignore[type-arg]  # a Future[_R] of the interpreter's would be another class
    """The future of one call to an executor."""

    _state: str = _PENDING
    _result: Any = None
    _exception: BaseException | None = None
    # None: its outcome is set.
    _job: _engine.Job | None
    # It has a condition; turns true with `_quiet` held.
    _is_observed = False

    def __init__(self, job: _engine.Job) -> None:
        self._job = job

    def __getattr__(self, name: str) -> Any:
        if name not in _OBSERVED:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        self._observe()
        return self.__dict__[name]

    def _observe(self) -> None:
        """Have the executor's thread set the outcome, which somebody is about to wait for."""
        job = self._job
        if job is not None and not job.watch(self._hear):
            self._hear()
        with _quiet:
            if not self._is_observed:
                self._waiters: list[Any] = []
                self._done_callbacks: list[Any] = []
                self._condition = threading.Condition()
                self._is_observed = True

    def _hear(self) -> None:
        """Set the outcome, which is there."""
        job = self._job
        if job is not None:
            outcome = job.outcome()
            assert outcome is not None
            self._conclude(job, outcome)

    def _conclude(self, job: _engine.Job, outcome: tuple[Any, ...]) -> None:
        """Set the outcome, unless that was done: `(value, None)`, `(None, exception)`, or `()` for cancelled."""
        with _quiet:
            if not self._is_observed:
                if self._job is job:
                    if outcome:
                        self._result, self._exception = outcome
                        self._state = _FINISHED
                    else:
                        self._state = _base.CANCELLED_AND_NOTIFIED
                    self._job = None
                return
        if not outcome:
            super().cancel()
            with self._condition:
                if self._state == _base.CANCELLED:
                    self.set_running_or_notify_cancel()
        else:
            try:
                if outcome[1] is None:
                    self.set_result(outcome[0])
                else:
                    self.set_exception(outcome[1])
            except InvalidStateError:
                pass  # another thread was faster
        self._job = None

    def _wait(self, timeout: float | None) -> None:
        """Wait for the outcome of a quiet future."""
        job = self._job
        if job is not None and not self._is_observed:
            outcome = job.outcome(timeout)
            if outcome is None:
                raise TimeoutError
            self._conclude(job, outcome)

    def cancel(self) -> bool:
        """Cancel the call, unless a worker has begun it; return whether it is cancelled.

        Differs: a call that is on its way to a worker is cancelled as well.
        """
        job = self._job
        if job is not None:
            if job.withdraw():
                self._conclude(job, ())
                return True
            if not job.ready():
                return False
            self._hear()
        return self._state in _CALLED_OFF

    def cancelled(self) -> bool:
        """Whether the call was cancelled."""
        return self.done() and self._state in _CALLED_OFF

    def running(self) -> bool:
        """Whether a worker runs the call."""
        job = self._job
        return job is not None and job.has_begun()

    def done(self) -> bool:
        """Whether the call was cancelled or has ended."""
        job = self._job
        if job is None:
            return True
        if self._is_observed:
            return super().done()
        if not job.ready():
            return False
        self._hear()
        return True

    def result(self, timeout: float | None = None) -> Any:
        """Return what the call returned, or raise what it raised.

        ``timeout``: seconds to wait at most; then TimeoutError. CancelledError when it was cancelled.
        """
        try:
            if self._job is not None:
                self._wait(timeout)
            if self._state == _FINISHED and self._exception is None:
                return self._result
            return super().result(timeout)
        finally:
            # Break a reference cycle with the exception in self._exception
            self = None  # type: ignore[assignment]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, or None. ``timeout`` and CancelledError as for `result`."""
        self._wait(timeout)
        return super().exception(timeout)


class _NoQueue:
    """What `_call_queue` is for those who wait for its thread: there is none, as calls go straight to a worker."""

    def join_thread(self) -> None:
        """Return at once."""


class _Staff:
    """Starts an executor's workers, and knows them as `Process` objects, by process id.

    It holds no reference to the executor, so that a forgotten one can be collected.
    """

    def __init__(self, ctx: Any, *orders: Any) -> None:
        self.ctx = ctx
        # What a worker is told beside its seat.
        self.orders = orders
        self.processes: dict[int, Any] = {}

    def start(self, seat: _engine.Seat) -> Any:
        """Start one worker at `seat`; the parent's copies of the seat are closed."""
        for pid, process in list(self.processes.items()):
            if process.exitcode is not None:
                process.join()
                self.processes.pop(pid, None)
        try:
            process = self.ctx.Process(target=work, args=(seat, *self.orders))
            process.start()
        finally:
            seat.close()
        self.processes[process.pid] = process
        return process


def _manage(crew: _engine.Crew, staff: _Staff) -> None:
    """What an executor's thread does: hears the workers while nobody waits, and sees them off."""
    crew.tend()
    crew.join(_GRACE)
    for process in list(staff.processes.values()):
        process.join()


def _retire(crew: _engine.Crew) -> None:
    """Take no more calls; workers and thread end when those accepted are done."""
    crew.close()
    crew.stop_tending()


_executors: weakref.WeakSet[ProcessPoolExecutor] = weakref.WeakSet()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_is_exiting = False


def _python_exit() -> None:
    global _is_exiting
    _is_exiting = True
    for executor in list(_executors):
        executor._is_ready = False
        _retire(executor._crew)
    for thread in list(_threads):
        thread.join()


# Called before the interpreter joins threads: those of executors, which are no daemons, have to be told first.
threading._register_atexit(_python_exit)  # type: ignore[attr-defined]


class ProcessPoolExecutor(Executor):
    """Runs calls in worker processes, with the interface of `concurrent.futures`.

    ``max_workers``: int, workers at most, at least 1; None: as many as the machine has processors.
    ``mp_context``: a context of `manyhands.get_context`; None: the default one, or that of spawn when
    ``max_tasks_per_child`` or one of the two below is given. ``initializer(*initargs)`` runs first in each worker.
    ``max_tasks_per_child``: int, calls after which a worker is replaced; None: never. ``max_memory_per_child``: int, bytes
    of memory of its own by which a worker may grow before it is replaced, and ``idle_timeout``: float, seconds
    after which one leaves that has nothing to do, until there is more to do: as for `manyhands.Pool`.

    A worker is started when a call finds no idle one; with the start method fork, all are at the first call.

    Raises ValueError or TypeError for an argument of the wrong kind.

    Differs: `BrokenProcessPool` says which worker died, how, and what it was running; what cannot be unpickled breaks
    nothing but its own future; a context of the standard library's is taken as ours of the same start method.
    """

    _call_queue = _NoQueue()

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        idle_timeout: float | None = None,
    ) -> None:
        if max_workers is None:
            max_workers = _usable_processors()
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if mp_context is None or type(mp_context).__module__ == "multiprocessing.context":
            from . import get_context

            method = None if mp_context is None else mp_context.get_start_method()
            # Who replaces workers does so beside threads.
            replaces = not (max_tasks_per_child is max_memory_per_child is idle_timeout is None)
            mp_context = get_context(method or ("spawn" if replaces else None))
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        forks = mp_context.get_start_method(allow_none=False) == "fork"
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if forks:
                raise ValueError(
                    "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method;"
                    " supply a different mp_context."
                )
        max_growth = _limits.max_memory_per_child(max_memory_per_child)
        idle_timeout = _limits.idle_timeout(idle_timeout)
        if forks and not (max_growth is idle_timeout is None):
            name = "idle_timeout" if max_growth is None else "max_memory_per_child"
            raise ValueError(
                f"{name} has workers forked beside threads with the start method 'fork'; supply a different mp_context"
            )
        self._idle_timeout = idle_timeout
        self._max_workers = max_workers
        self._mp_context = mp_context
        self._safe_to_dynamically_spawn_children = not forks
        self._initializer = initializer
        self._initargs = initargs
        self._max_tasks_per_child = max_tasks_per_child
        self._shutdown_lock = threading.Lock()
        self._shutdown_thread = False
        self._executor_manager_thread: threading.Thread | None = None
        # All workers are there, and calls are taken: nothing to look at before the next one.
        self._is_ready = False
        _stacks.listen()
        self._staff = _Staff(mp_context, initializer, initargs, max_growth)
        self._processes: dict[int, Any] | None = self._staff.processes
        try:
            self._crew = _engine.Crew(
                max_workers, max_tasks_per_child, self._staff.start, True, not forks, idle_timeout=idle_timeout
            )
        except OSError as error:
            raise _shortage.told(error, f"could not make an executor of {max_workers} workers") from None
        weakref.finalize(self, _retire, self._crew).atexit = False
        _executors.add(self)

    @property
    def _broken(self) -> str | bool:
        """Why nothing more can be run, or False."""
        error = self._crew.over()
        return False if error is None else str(error)

    def _prepare(self, calls: int) -> None:
        """See to it that there are workers for so many more calls, and that they are taken; else raise."""
        with self._shutdown_lock:
            error = self._crew.over()
            if error is not None:
                raise error
            if self._shutdown_thread:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if _is_exiting:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            while calls > 0:
                # Forking beside a thread of ours would be unwise, so then all are started before it is.
                grows = self._safe_to_dynamically_spawn_children
                offered = self._crew.grow(calls) if grows else self._crew.offer()
                if offered is None:
                    break
                seat, offer = offered
                try:
                    process = self._staff.start(seat)
                except BaseException as failure:
                    self._crew.decline(offer, repr(failure))
                    raise
                self._crew.enroll(offer, process)
                calls -= grows
            if self._executor_manager_thread is None:
                thread = threading.Thread(target=_manage, args=(self._crew, self._staff), name="manyhands-executor")
                try:
                    thread.start()
                except RuntimeError:
                    raise _shortage.no_thread("could not start the executor's thread") from None
                self._executor_manager_thread = thread
                _threads.add(thread)
            # With an idle_timeout workers leave at any time.
            self._is_ready = self._idle_timeout is None and len(self._staff.processes) >= self._max_workers

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_R]:
        """Start ``fn(*args, **kwargs)`` in a worker; return its `concurrent.futures.Future` at once.

        What cannot be pickled is the future's exception. Raises `BrokenProcessPool` after a worker died,
        RuntimeError after `shutdown`.
        """
        if not self._is_ready:
            self._prepare(1)
        return _Future(self._crew.submit(fn, args, kwargs))

    def map(
        self,
        fn: Callable[..., _R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[_R]:
        """Call ``fn`` with an item of each iterable, in the workers; return an iterator over the values, in order.

        ``timeout``: seconds from now after which the iterator raises TimeoutError. ``chunksize``: int, items in one
        task. ``buffersize``: int, how many tasks at most have values that were not taken yet; the iterables are
        then drawn as values are taken, by the thread that takes them; None: they are read here.

        Raises ValueError or TypeError for an argument of the wrong kind. An exception of a call is raised in its
        value's place, and what no worker has begun is cancelled.

        Differs: ``buffersize`` is there on every version of Python, not only from 3.14 on.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        deadline = None if timeout is None else timeout + time.monotonic()
        if buffersize is not None:
            return self._map_buffered(fn, iterables, deadline, chunksize, buffersize)
        starred = len(iterables) != 1
        items = list(zip(*iterables, strict=False)) if starred else list(iterables[0])
        if not items:
            return iter(())
        if not self._is_ready:
            self._prepare(-(-len(items) // chunksize))
        job = self._crew.stream(fn, items, chunksize, True, None, starred)
        return _values(job, deadline)

    def _map_buffered(
        self, fn: Any, iterables: tuple[Iterable[Any], ...], deadline: float | None, chunksize: int, buffersize: int
    ) -> Iterator[Any]:
        calls: Iterator[Any] = zip(*iterables, strict=False)
        if chunksize > 1:
            fn, calls = _run_chunk, _chunked(fn, calls, chunksize)
        futures = collections.deque(self.submit(fn, *args) for args in itertools.islice(calls, buffersize))
        executor = weakref.ref(self)

        def results() -> Iterator[Any]:
            try:
                while futures:
                    ours = executor()
                    args = None if ours is None else next(calls, None)
                    if ours is not None and args is not None:
                        futures.append(ours.submit(fn, *args))
                    del ours, args
                    # No reference to the future or to its value is kept.
                    yield _result_or_cancel(futures.popleft(), deadline)
            finally:
                for future in futures:
                    future.cancel()

        return results() if chunksize == 1 else _flattened(results())

    def share(self, obj: _R) -> Shared[_R]:
        """Publish an object once for all workers and calls of this executor: see manyhands.pool.Pool.share.

        Raises RuntimeError after shutdown, else what that raises.
        """
        try:
            shared: Shared[_R] = self._crew.share(obj)
        except OSError as error:
            raise _shortage.told(error, "could not share an object") from None
        return shared

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; workers end when those accepted are done. It may be called again.

        ``wait``: return when that is so. ``cancel_futures``: cancel calls that no worker has begun.
        """
        with self._shutdown_lock:
            self._shutdown_thread = True
            self._is_ready = False
            thread = self._executor_manager_thread
        self._crew.close()
        if cancel_futures:
            self._crew.cancel()
        self._crew.stop_tending()
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join()
        self._processes = None

    def terminate_workers(self) -> None:
        """Shut down at once: cancel what was not begun, and end the workers by SIGTERM.

        The futures of calls that ran raise `BrokenProcessPool`. Differs: there on every version of Python, not only
        from 3.14 on.
        """
        self._end_workers("terminate")

    def kill_workers(self) -> None:
        """Like `terminate_workers`, by SIGKILL."""
        self._end_workers("kill")

    def _end_workers(self, operation: str) -> None:
        processes = list((self._processes or {}).values())
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            getattr(process, operation)()


_first = operator.itemgetter(0)


def _values(job: _engine.Job, deadline: float | None) -> Iterator[Any]:
    """The values of a map, one by one. None of them is kept."""
    try:
        if deadline is None:
            yield from map(_first, iter(job.next, ()))
            return
        while (taken := job.next(deadline - time.monotonic())) != ():
            if taken is None:
                raise TimeoutError
            value = [taken[0]]
            del taken
            yield value.pop()
    finally:
        job.cancel()


def _chunked(fn: Any, calls: Iterator[Any], size: int) -> Iterator[tuple[Any, list[Any]]]:
    while chunk := list(itertools.islice(calls, size)):
        yield fn, chunk


def _run_chunk(fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> list[Any]:
    return [fn(*args) for args in chunk]


def _flattened(lists: Iterator[list[Any]]) -> Iterator[Any]:
    """The items of the lists, one by one. None of them is kept."""
    for values in lists:
        values.reverse()
        while values:
            yield values.pop()


def _result_or_cancel(future: Future[Any], deadline: float | None) -> Any:
    try:
        return future.result(None if deadline is None else deadline - time.monotonic())
    finally:
        future.cancel()
        del future


# The engine calls what follows, to make what a future raises.


def _from_worker(text: str, exc: Any) -> BaseException:
    """What to raise for an exception that a call raised."""
    if not isinstance(exc, BaseException):
        return _undecodable(text, TypeError(f"it unpickled as {_shown(exc)}"))
    error: BaseException = exc
    _give_cause(error, _RemoteTraceback(_quoted(text)))
    return error


def _undecodable(text: str, why: BaseException) -> BaseException:
    """What to raise for an exception that cannot be unpickled here."""
    return _broken(f"the call raised {_last_line(text)}; that could not be unpickled here: {_shown(why)}", text)


def _unread(text: str) -> BaseException:
    """What to raise for a call that a worker could not unpickle."""
    return _broken(f"the call could not be unpickled by the worker: {_last_line(text)}", text)


def _unreadable(why: BaseException) -> BaseException:
    """What to raise for a value that cannot be unpickled here."""
    error = _broken(f"what the call returned could not be unpickled here: {_shown(why)}", None)
    error.__cause__ = why
    return error


def _broken_by_death(pid: int, exitcode: int, running: str | None, text: str | None) -> BaseException:
    """What to raise once a worker died; ``text`` is the traceback of its initializer."""
    from ._broken import BrokenProcessPool

    how, signal_name = _ending(exitcode)
    if text:
        message = f"the initializer of worker process {pid} raised {_last_line(text)}"
    elif running is None:
        message = f"worker process {pid} {how} while it had nothing to run"
    else:
        message = f"worker process {pid} {how} while it ran {running}()"
    message += "; the executor is broken, and what it had not done is lost"
    error = BrokenProcessPool(message, pid, exitcode, signal_name, None, running)
    if text:
        error.__cause__ = _RemoteTraceback(_quoted(text))
    return error


def _broken(reason: str, text: str | None) -> BaseException:
    from ._broken import BrokenProcessPool

    error = BrokenProcessPool(reason)
    if text:
        error.__cause__ = _RemoteTraceback(_quoted(text))
    return error


def _terminated(message: str) -> BaseException:
    return _broken(message, None)


def _cancelled() -> BaseException:
    return CancelledError()


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "an exception"
