"""Threads that do a pool's work: what `ThreadPool` has where `Pool` has the engine's crew of processes.

A job is one call of the user's, cut into tasks; workers take tasks from one queue and settle their part of the job.
Always: every job ends in a value or an exception, also when the pool is terminated; a worker keeps nothing of a
task it has done.  Callbacks are called one at a time, before their job is done.
Not here: the pool's interface (`pool`).
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, starmap
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

from . import errors

__all__: list[str] = []

# How many tasks of a stream are drawn ahead of the workers, beside two for each of them.
_AHEAD = 32


class Job:
    """What a pool was asked to do in one call.  The methods are those of the engine's jobs."""

    def __init__(
        self, crew: ThreadCrew, expected: int | None, callback: Any = None, error_callback: Any = None
    ) -> None:
        self._crew = crew
        self._changed = threading.Condition(threading.Lock())
        self._expected = expected
        self._settled = 0
        self._begun = 0
        self._parts: dict[int, Any] = {}
        self._failure: BaseException | None = None
        self._finishing = False
        self._done = False
        self._cancelled = False
        self._callbacks = (callback, error_callback)
        self._watchers: list[Callable[[], object]] = []
        self._sizes: dict[
            int, int
        ] = {}  # items of tasks that are under way, if somebody wants to know how many are done
        self._items_done = 0

    # What the caller asks.

    def ready(self) -> bool:
        """Whether the value is there."""
        return self._done

    def successful(self) -> bool:
        """Whether the job ended without an exception."""
        return self._failure is None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the value is there, `timeout` seconds at most; return whether it is."""
        if not self._done:
            with self._changed:
                self._changed.wait_for(self.ready, timeout)
        return self._done

    def fail(self, error: BaseException) -> None:
        """End with an exception, for a job that was deferred."""
        self.give_up(error)

    def count(self, index: int, items: int) -> None:
        """Task `index` is of so many items."""
        self._sizes[index] = items

    def progress(self) -> int:
        """Return how many items are done."""
        return self._items_done

    def watch(self, watcher: Callable[[], object]) -> bool:
        """Have `watcher()` called by the thread that completes it; False: it is done already."""
        with self._changed:
            if not self._done:
                self._watchers.append(watcher)
            return not self._done

    def value(self) -> Any:
        """Return the value or raise the exception; only when ready."""
        if self._failure is not None:
            try:
                raise self._failure
            finally:
                self = None  # type: ignore[assignment]  # the traceback must not keep the job, which keeps it
        return self._assembled()

    def cancel(self) -> None:
        """Begin no more of its tasks."""
        self._cancelled = True

    def abort(self, force: bool) -> bool:
        """Cancel it, if there is anything of it that no thread has begun; return whether there was."""
        if force:
            raise ValueError("a thread cannot be killed: force is for pools of processes")
        with self._changed:
            if self._done or self._finishing or self._begun == self._expected:
                return False
            self._cancelled = True
        self.give_up(_cancelled())
        return True

    def begins(self) -> bool:
        """A thread begins one of its tasks, unless it was cancelled."""
        with self._changed:
            self._begun += not self._cancelled
            return not self._cancelled

    def hurry(self) -> None:
        """Do nothing: only a stream waits for its reader."""

    # What the workers tell.

    def settle(self, index: int, value: Any, failure: BaseException | None) -> None:
        """Take in what became of the task `index`."""
        with self._changed:
            if self._done:
                return  # given up meanwhile
            self._settled += 1
            self._items_done += self._sizes.pop(index, 0)
            self._take_in(index, value, failure)
            complete = self._complete()
            is_awaited = bool(self._watchers) and self._here()
        if complete:
            self._finish()
        elif is_awaited:
            self._tell_watchers()

    def expect(self, count: int) -> None:
        """There are `count` tasks, no more."""
        with self._changed:
            self._expected = count
            complete = self._complete()
        if complete:
            self._finish()

    def give_up(self, failure: BaseException) -> None:
        """End with an exception, whatever is still under way."""
        with self._changed:
            if self._done or self._finishing:
                return
            self._finishing = True
            self._abandon(failure)
        self._finish()

    def _complete(self) -> bool:
        """Whether this is the moment in which the last part came."""
        if self._finishing or self._expected != self._settled:
            return False
        self._finishing = True
        return True

    def _finish(self) -> None:
        callback, error_callback = self._callbacks
        self._callbacks = (None, None)
        call = callback if self._failure is None else error_callback
        if call is not None:
            argument = self._assembled() if self._failure is None else self._failure
            with self._crew.callbacks:
                try:
                    call(argument)
                except BaseException as error:
                    _unraisable(error, call)
        with self._changed:
            self._done = True
            self._changed.notify_all()
        self._tell_watchers()
        self._crew.forget(self)

    def _tell_watchers(self) -> None:
        with self._changed:
            watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher()

    # How parts are kept.

    def _take_in(self, index: int, value: Any, failure: BaseException | None) -> None:
        if failure is None:
            self._parts[index] = value
        elif self._failure is None:
            self._failure = failure

    def _abandon(self, failure: BaseException) -> None:
        if self._failure is None:
            self._failure = failure

    def _here(self) -> bool:
        """Whether there is something for a reader before all is done."""
        return False

    def _assembled(self) -> Any:
        return self._parts[0]


class MapJob(Job):
    """A job whose parts are lists of values; its value is all of them in one."""

    def _assembled(self) -> Any:
        return [value for index in sorted(self._parts) for value in self._parts[index]]


class StreamJob(Job):
    """A job whose values are taken one by one, in order or as they come."""

    def __init__(self, crew: ThreadCrew, ordered: bool, window: int | None) -> None:
        super().__init__(crew, None)
        # How many tasks at most are drawn whose values were not taken.
        self._window = window
        self._ordered = ordered
        self._arrived: deque[Any] = deque()
        self._opened: Iterator[Any] = iter(())
        self._taken = 0
        self._waiting = 0
        self._given_up: BaseException | None = None
        # Where the thread that draws the input sleeps, and how many tasks have to be settled to wake it.
        self._thirsty = threading.Condition(self._changed._lock)  # type: ignore[attr-defined]
        self._wake_at = 0

    def _take_in(self, index: int, value: Any, failure: BaseException | None) -> None:
        if self._ordered:
            self._parts[index] = (value, failure)
        else:
            self._arrived.append((value, failure))
        if self._waiting and self._here():
            self._changed.notify_all()
        if self._settled == self._wake_at:
            self._thirsty.notify()

    def _abandon(self, failure: BaseException) -> None:
        self._given_up = failure
        self._thirsty.notify()

    def cancel(self) -> None:
        super().cancel()
        with self._changed:
            self._thirsty.notify()

    def _here(self) -> bool:
        if self._ordered:
            return self._taken in self._parts
        return bool(self._arrived)

    def watch_next(self, watcher: Callable[[], object]) -> bool:
        """Have `watcher()` called when there may be something to take; False: there is already."""
        with self._changed:
            is_late = self._done or self._here() or self._ended()
            if not is_late:
                self._watchers.append(watcher)
            return not is_late

    def next(self, timeout: float | None = None) -> tuple[Any] | tuple[()] | None:
        """Return the next value as (value,); () at the end, None when `timeout` seconds passed."""
        while True:
            for value in self._opened:
                return (value,)
            with self._changed:
                if not self._here() and not self._await(timeout):
                    return None
                if self._here():
                    value, failure = self._parts.pop(self._taken) if self._ordered else self._arrived.popleft()
                    self._taken += 1
                    if self._window is not None:
                        self._thirsty.notify()
                elif self._given_up is not None and self._taken != self._expected:
                    self._expected = self._taken  # there is nothing after it
                    raise self._given_up
                else:
                    return ()
            if failure is not None:
                raise failure
            self._opened = iter(value)

    def _await(self, timeout: float | None) -> bool:
        self._waiting += 1
        try:
            return self._changed.wait_for(lambda: self._here() or self._ended(), timeout)
        finally:
            self._waiting -= 1

    def _ended(self) -> bool:
        return self._given_up is not None or self._taken == self._expected

    def room(self, drawn: int, ahead: int) -> bool:
        """Wait, if `ahead` of the `drawn` tasks are not done, until half of them are; False: draw no more."""
        with self._changed:
            if drawn - self._settled >= ahead:
                self._wake_at = drawn - ahead // 2
                self._thirsty.wait_for(lambda: self._finishing or self._cancelled or self._settled >= self._wake_at)
            window = self._window
            if window is not None:
                self._thirsty.wait_for(
                    lambda: self._finishing or self._cancelled or self._crew.hurrying or drawn - self._taken < window
                )
            return not (self._finishing or self._cancelled)

    def hurry(self) -> None:
        """Draw the rest without waiting for the reader."""
        with self._changed:
            self._thirsty.notify()


class ThreadCrew:
    """The threads of one pool and their queue.  The methods are those of the engine's crew."""

    def __init__(self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        self.callbacks = threading.RLock()
        self._initializer = initializer
        self._initargs = initargs
        self._tasks: SimpleQueue[Any] = SimpleQueue()
        self._lock = threading.Lock()
        self._jobs: set[Job] = set()
        self._workers = 0
        self._closed = False
        # The pool is being joined: no input waits for its reader.
        self.hurrying = False
        self._over: Callable[[], BaseException] | None = None
        self._pid = os.getpid()

    # In a worker's thread.

    def enroll(self) -> None:
        """One more worker will `serve`."""
        self._workers += 1

    def serve(self) -> None:
        """Be a worker, until there is no more to do."""
        if self._initializer is not None:
            try:
                self._initializer(*self._initargs)
            except BaseException as error:
                self._lose_worker(error)
                return
        while True:
            task = self._tasks.get()
            if task is None:
                return
            task()
            # It must not live on while this thread waits for another.
            del task

    def _lose_worker(self, error: BaseException) -> None:
        with self._lock:
            self._workers -= 1
            if self._workers:
                return
        text = errors._describe(error)
        reason = "the pool cannot run tasks: its initializer raised an exception in every worker"
        self._end(lambda: errors._broken(reason, text))

    # In the caller's.

    def _begin(self, job: Job) -> None:
        if not self.is_ours():
            raise RuntimeError("this pool's threads are in the parent process: make a pool in the child")
        with self._lock:
            if not self._closed:
                self._jobs.add(job)
                return
        # The pool was running a moment ago, or its workers could not start.
        raise self._over() if self._over is not None else ValueError("Pool not running")

    def forget(self, job: Job) -> None:
        """The job is done."""
        with self._lock:
            self._jobs.discard(job)
            self._dismiss_if_idle()

    def apply(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwds: dict[str, Any], terms: None = None
    ) -> Any:
        """Call function(*args, **kwds) in a worker and wait for its value."""
        job = self.apply_async(function, args, kwds)
        job.wait()
        try:
            return job.value()
        finally:
            del job

    def apply_async(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwds: dict[str, Any],
        callback: Any = None,
        error_callback: Any = None,
        terms: None = None,
    ) -> Job:
        """Start function(*args, **kwds) in a worker."""
        job = Job(self, 1, callback, error_callback)
        self._begin(job)
        self._tasks.put(_Task(job, 0, lambda: function(*args, **kwds)))
        return job

    def defer(
        self, function: Callable[..., Any], callback: Any = None, error_callback: Any = None, terms: None = None
    ) -> Job:
        """Make a job whose call is started by `launch`, or that is told by its `fail` why it is not."""
        return Job(self, 1, callback, error_callback)

    def launch(self, job: Job, function: Callable[..., Any], args: tuple[Any, ...], kwds: dict[str, Any]) -> None:
        """Start the call of a job that was deferred, unless it was cancelled meanwhile."""
        if job.ready():
            return
        try:
            self._begin(job)
        except Exception as error:  # the pool is over
            job.fail(error)
            return
        self._tasks.put(_Task(job, 0, lambda: function(*args, **kwds)))

    def map(
        self,
        function: Callable[..., Any],
        iterable: Iterable[Any],
        length: int | None,
        chunksize: int | None,
        starred: bool,
        callback: Any = None,
        error_callback: Any = None,
        waits: bool = False,
        terms: None = None,
        counts: bool = False,
    ) -> MapJob:
        """Call `function` with each item; the value is the list of values."""
        items = list(iterable)
        if chunksize is None:
            chunksize = max(1, -(-len(items) // (max(self._workers, 1) * 4)))
        count = -(-len(items) // chunksize)
        job = MapJob(self, count, callback, error_callback)
        self._begin(job)
        if not count:
            job.expect(0)
        for index in range(count):
            part = items[index * chunksize : (index + 1) * chunksize]
            if counts:
                job.count(index, len(part))
            self._tasks.put(_Task(job, index, _mapped(function, part, starred)))
        return job

    def stream(
        self,
        function: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        ordered: bool,
        buffersize: int | None = None,
        terms: None = None,
        buffer_bytes: int | None = None,
        counts: bool = False,
    ) -> StreamJob:
        """Call `function` with each item; the values are taken one by one."""
        if buffer_bytes is not None:
            raise ValueError("buffer_bytes counts values as pickled, and threads pickle nothing: give buffersize")
        iterator = iter(iterable)
        window = None if buffersize is None else max(1, buffersize // chunksize)
        job = StreamJob(self, ordered, window)
        self._begin(job)
        # A thread of its own: the input may itself be waiting for this pool's workers.
        feeder = threading.Thread(
            target=self._feed, args=(job, function, iterator, chunksize, counts), name="manyhands-feeder", daemon=True
        )
        feeder.start()
        return job

    def _feed(
        self, job: StreamJob, function: Callable[..., Any], iterator: Iterator[Any], chunksize: int, counts: bool
    ) -> None:
        drawn = 0
        while job.room(drawn, self._workers * 2 + _AHEAD):
            try:
                part = list(islice(iterator, chunksize))
            except BaseException as error:
                # What was drawn for this part goes with it, as in the standard library.
                job.settle(drawn, None, error)
                drawn += 1
                break
            if not part:
                break
            if counts:
                job.count(drawn, len(part))
            self._tasks.put(_Task(job, drawn, _mapped(function, part, False)))
            drawn += 1
            del part
        job.expect(drawn)

    def attend(self) -> None:
        """Do nothing: workers settle their jobs themselves."""

    def close(self) -> None:
        """Take no more jobs; the workers end when those accepted are done."""
        with self._lock:
            self._closed = True
            self._dismiss_if_idle()

    def _dismiss_if_idle(self) -> None:
        if self._closed and not self._jobs:
            for _ in range(self._workers):
                self._tasks.put(None)

    def hurry(self) -> None:
        """Let no input wait for its reader any more."""
        self.hurrying = True
        with self._lock:
            jobs = list(self._jobs)
        for job in jobs:
            job.hurry()

    def terminate(self) -> None:
        """Give up all jobs; workers end after the task that they have begun."""
        self._end(lambda: errors._terminated("the pool was terminated before the task was done"))

    def _end(self, why: Callable[[], BaseException]) -> None:
        with self._lock:
            self._closed = True
            self._over = self._over or why
            jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
            job.give_up(self._over())
        with self._lock:
            self._dismiss_if_idle()

    def is_ours(self) -> bool:
        """Whether this process has the threads."""
        return os.getpid() == self._pid


def _mapped(function: Callable[..., Any], part: list[Any], starred: bool) -> Callable[[], list[Any]]:
    return lambda: list((starmap if starred else map)(function, part))


def _cancelled() -> BaseException:
    from concurrent.futures import CancelledError

    return CancelledError("the call was cancelled")


class _Task:
    """A part of a job, to be called by a worker."""

    __slots__ = ("_call", "_index", "_job")

    def __init__(self, job: Job, index: int, call: Callable[[], Any]) -> None:
        self._job = job
        self._index = index
        self._call = call

    def __call__(self) -> None:
        job = self._job
        if not job.begins():
            job.give_up(errors._terminated("the call was given up before the task was begun"))
            return
        try:
            value = self._call()
        except (SystemExit, KeyboardInterrupt) as error:
            text = f"the task raised {error!r}, which ends a program but not a pool's worker"
            failure: BaseException = errors.TaskExited(text, error)
            failure.__cause__ = error
        except BaseException as error:
            failure = error
        else:
            job.settle(self._index, value, None)
            return
        try:
            job.settle(self._index, None, failure)
        finally:
            # The exception's traceback holds this frame, and this frame would hold the exception.
            del failure


def _unraisable(error: BaseException, where: object) -> None:
    """Report an exception that there is nobody to raise to."""
    sys.unraisablehook(
        SimpleNamespace(
            exc_type=type(error), exc_value=error, exc_traceback=error.__traceback__, err_msg=None, object=where
        )
    )
