"""Queues between processes: `Queue`, `JoinableQueue`, and the plainer `SimpleQueue`.

Always: what was put by one process is got in that order; `put` never waits for a reader to come, only for a free
place of a bounded queue; no process waits at its exit for a reader that is gone.
Not here: pipes (`connection`), locks (`synchronize`); the bytes are moved by the engine.
"""

from __future__ import annotations

import errno
import itertools
import os
import queue
import threading
import time
import types
import weakref
from collections import deque
from collections.abc import Callable
from queue import Empty as Empty
from queue import Full as Full
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from . import _engine, context
from ._queue_pipe import Writer, have, new_pipe, ring_of
from .connection import Connection
from .errors import OwnerDied
from .synchronize import SEM_VALUE_MAX, BoundedSemaphore, Lock, Semaphore, _Surviving
from .util import Finalize, debug, info, is_exiting, register_after_fork

__all__ = ["Queue", "SimpleQueue", "JoinableQueue"]

if TYPE_CHECKING:
    from .context import BaseContext

_T = TypeVar("_T")

_ForkingPickler = context.reduction.ForkingPickler


class _OwnShutDown(Exception):
    """The queue was shut down: nothing can be put, and nothing is left to get."""


_OwnShutDown.__name__ = _OwnShutDown.__qualname__ = "ShutDown"
# CPython 3.13 has a name for it, and programs catch that one.
ShutDown: type[Exception] = getattr(queue, "ShutDown", _OwnShutDown)

_sentinel: Any = object()  # in a buffer: the feeder ends here

# What a queue that was shut down has told its other users.
_OPEN, _DRAINING, _SHUT = range(3)
# A message that no pickle is: whoever gets it learns that the queue was shut down.
_LAST = b"\0"
_last_entry = _engine.Pickled(_LAST)  # the same, in a buffer
# How many items a feeder looks at together.
_BATCH = 256
# How long a feeder that has to end may take before the pipe is made larger, in seconds.
_SOON = 0.05
# How often one who waits for a free place looks whether the queue was shut down.
_LOOK = 0.25
# How long one who waits for items of a queue that was shut down goes on when none comes, in seconds: who had put them may
# have been killed before they were sent.
_SETTLED = 1.0


def _is_item(entry: object) -> bool:
    return entry is not _sentinel


def _is_dropped(phase: Any) -> bool:
    """Return whether a queue was shut down at once, so that what is in it is nobody's any more."""
    return phase is not None and phase._semlock._get_value() >= _SHUT


def _once(act: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls act() the first time it is called, whichever thread that is."""
    called = threading.Lock()

    def once() -> None:
        if called.acquire(False):
            act()

    return once


class Queue(Generic[_T]):
    """A queue that any number of processes and threads put into and get from.

    maxsize -- int, how many items it holds; 0 and less: as many as semaphores can count
    ctx -- the context whose locks it uses; `Queue()` of a context gives its own

    A child gets the queue as an argument, or by inheritance; it can be pickled for nothing else.

    Differs: while there is room, put() itself pickles the item and lays it into shared memory, or writes it to the pipe;
    it waits at most 2 ms for a reader who is reading to make room.  The thread starts only when there is more.  Exit waits for nobody when no process is left that could read.  `shutdown` is
    there on every Python.
    """

    # Objects unpickled by subclasses that know nothing of it cannot be shut down.
    _phase: Any = None

    def __init__(self, maxsize: int = 0, *, ctx: BaseContext) -> None:
        if maxsize <= 0:
            maxsize = SEM_VALUE_MAX
        self._maxsize = maxsize
        self._rlock = ctx.Lock()
        self._wlock = ctx.Lock()
        self._reader, self._writer = new_pipe(self._rlock, self._wlock)
        self._opid = os.getpid()
        self._sem = ctx.BoundedSemaphore(maxsize)
        self._phase = ctx.Semaphore(_OPEN)
        self._ignore_epipe = False  # for executors, who tear queues down
        self._reset()
        register_after_fork(self, Queue._after_fork)

    def __getstate__(self) -> tuple[Any, ...]:
        context.assert_spawning(self)
        return (
            self._ignore_epipe, self._maxsize, self._reader, self._writer,
            self._rlock, self._wlock, self._sem, self._opid, self._phase,
        )  # fmt: skip

    def __setstate__(self, state: Any) -> None:
        (
            self._ignore_epipe, self._maxsize, self._reader, self._writer,
            self._rlock, self._wlock, self._sem, self._opid, *rest,
        ) = state  # fmt: skip
        if rest:
            (self._phase,) = rest
        self._reset()

    def _after_fork(self) -> None:
        debug("Queue._after_fork()")
        self._reset(after_fork=True)

    def _reset(self, after_fork: bool = False) -> None:
        if after_fork:
            self._notempty._at_fork_reinit()
        else:
            self._notempty: Any = threading.Condition(threading.Lock())
        # Guarded by _notempty; the feeder takes an item out when it is in the pipe, not before.
        self._buffer: deque[Any] = deque()
        self._thread: threading.Thread | None = None
        self._jointhread: Finalize | None = None
        self._joincancelled = False
        self._closed = False
        self._used = False  # whether this process has put something
        self._close: Finalize | None = None
        self._send_bytes = self._writer.send_bytes
        self._recv_bytes = self._reader.recv_bytes
        self._poll = self._reader.poll
        # The engine's half: made when it is first needed, because subclasses may yet put wrappers around what it
        # is made of.  False: they did, and all goes through these.
        self._ends: Any = None
        # Those who wait in event loops, once there is one.
        self._waiters: Any = None

    def _engine_ends(self) -> Any:
        """Return the engine's half of this queue, or False."""
        if self._ends is None:
            ours = (
                have(self._reader, self._writer, self._rlock, self._wlock)
                and type(self._sem) is BoundedSemaphore
                and type(self._phase) is Semaphore
                # A subclass that has a feeder of its own has its own way to pickle.
                and type(self)._start_thread is Queue._start_thread
            )
            self._ends = ours and _engine.QueueEnds(
                self._reader, self._writer, self._rlock._semlock, self._wlock._semlock,
                self._sem._semlock, self._maxsize, self._phase._semlock, ring_of(self._reader),
            )  # fmt: skip
        return self._ends

    # ---- putting ----

    def put(self, obj: _T, block: bool = True, timeout: float | None = None) -> None:
        """Put an item into the queue; wait for a free place, at most `timeout` seconds (None: for ever).

        Raises queue.Full when there is no place in time, or at once with block=False; ValueError when this
        process has closed the queue, queue.ShutDown after shutdown().
        An item that cannot be pickled is reported by `_on_queue_feeder_error`: by default it prints a traceback.
        """
        if self._closed:
            self._check_open()
        ends = self._ends
        # What the feeder holds goes first, and then this item too is the feeder's.
        if ends and not self._buffer:
            left = ends.put(obj)
            if left is None:
                self._used = True
                return
            if left is not True and left is not False:
                self._leave(obj, left)
                return
        self._claim(block, timeout)
        self._post(obj)

    def _claim(self, block: bool, timeout: float | None) -> None:
        """Take a place for an item, or raise what put() raises."""
        self._check_open()
        if self._is_shut():
            raise ShutDown
        if self._sem.acquire(False):
            return
        if not block:
            raise Full
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _LOOK if deadline is None else min(_LOOK, deadline - time.monotonic())
            if left > 0 and self._sem.acquire(True, left):
                break
            if self._is_shut():
                raise ShutDown
            if left <= 0:
                raise Full
        if self._is_shut():
            self._sem.release()
            raise ShutDown

    def _post(self, obj: _T) -> None:
        """Send an item that has a place, or leave it to the feeder."""
        ends = self._engine_ends()
        if not ends or self._buffer:
            self._leave_to_feeder(obj)
            return
        left = ends.post(obj)
        if left is None:
            self._used = True
        else:
            self._leave(obj, left)

    def _leave(self, obj: _T, left: Any) -> None:
        """Deal with an item that could not be sent at once: pickled, or the exception that pickling raised."""
        if type(left) is _engine.Pickled:
            self._leave_to_feeder(left)
            return
        try:
            raise left
        except Exception as error:
            self._on_queue_feeder_error(error, obj)
        self._refused()

    def _leave_to_feeder(self, entry: Any) -> None:
        self._used = True
        with self._notempty:
            if self._thread is None:
                try:
                    self._start_thread()
                except BaseException:
                    if entry is not _last_entry:
                        self._sem.release()
                    raise
            self._buffer.append(entry)
            self._notempty.notify()

    def _put_with_place(self, obj: _T) -> None:
        """Put an item for which `_claim` has taken a place."""
        self._post(obj)

    def _places(self) -> Any:
        """Return what the feeder releases when an item that had a place will not be sent.

        It must not refer to the queue, which would then never be forgotten.
        """
        return self._sem

    def _refused(self) -> None:
        """An item that had a place will not be sent: for queues that count more than places."""

    def put_nowait(self, obj: _T) -> None:
        """put(obj, block=False)"""
        return self.put(obj, False)

    # ---- getting ----

    def get(self, block: bool = True, timeout: float | None = None) -> _T:
        """Take the oldest item out of the queue; wait for one, at most `timeout` seconds (None: for ever).

        Raises queue.Empty when there is none in time, or at once with block=False; ValueError when this
        process has closed the queue, queue.ShutDown when it was shut down and is empty; and what unpickling the
        item raises.
        """
        if self._closed:
            self._check_open()
        ends = self._ends
        if ends is None:
            ends = self._engine_ends()
        if not ends:
            return self._get_slowly(block, timeout)
        item = ends.get(block, timeout)
        if item is not ends and item is not _engine.QueueEnds:
            return item  # type: ignore[no-any-return]
        return self._get_last(ends, item, block, timeout)

    def _get_last(self, ends: Any, item: Any, block: bool, timeout: float | None) -> _T:
        """Go on with get() when it has met the end of a queue that was shut down."""
        began = changed = time.monotonic()
        left = self.qsize()
        while True:
            if item is _engine.QueueEnds:
                raise ShutDown
            if item is not ends:
                return item  # type: ignore[no-any-return]
            # This message is for all who wait, and stays behind what was sent meanwhile.
            self._send_last()
            before, left = left, self.qsize()
            if left:  # another process has yet to send what it put before
                now = time.monotonic()
                if not block or (timeout is not None and now >= began + timeout):
                    raise Empty
                if left != before:
                    changed = now
                elif now >= changed + _SETTLED:
                    raise ShutDown
                time.sleep(0.001)
            item = ends.get(block, None if timeout is None else max(began + timeout - time.monotonic(), 0))

    def _get_slowly(self, block: bool, timeout: float | None) -> _T:
        """get() with what a subclass has put in the place of the connections or locks."""
        deadline = None if timeout is None else time.monotonic() + timeout
        data: Any = _LAST
        while data == _LAST:
            if self._is_shut() and not self.qsize():
                raise ShutDown
            data = self._receive(block, deadline)
            if data == _LAST:
                self._send_last()
        # Others may get while this item is unpickled.
        item: _T = _ForkingPickler.loads(data)
        return item

    def _receive(self, block: bool, deadline: float | None) -> Any:
        """Take a message out of the pipe, and give its place back."""
        if block and deadline is None:
            with self._rlock:
                data = self._recv_bytes()
        else:
            left = None if deadline is None else deadline - time.monotonic()
            if not self._rlock.acquire(block, left if block else None):
                raise Empty
            try:
                left = deadline - time.monotonic() if block and deadline is not None else 0
                if not self._poll(max(left, 0)):
                    raise Empty
                data = self._recv_bytes()
            finally:
                self._rlock.release()
        if data != _LAST:
            self._sem.release()
        return data

    def get_nowait(self) -> _T:
        """get(block=False)"""
        return self.get(False)

    # ---- in asyncio ----

    async def aget(self) -> _T:
        """Take the oldest item out of the queue, in a coroutine of asyncio: ``item = await queue.aget()``.

        No thread waits meanwhile. Those of one event loop get items in the order in which they came. Who is cancelled
        has taken nothing. Raises what get() raises; ``asyncio.wait_for(queue.aget(), seconds)`` limits the wait.

        Differs: new.
        """
        return await self._awaited().get(self)  # type: ignore[no-any-return]

    async def aput(self, obj: _T) -> None:
        """Put an item into the queue, in a coroutine of asyncio: ``await queue.aput(item)``.

        While a bounded queue is full, one thread waits for places for all who await one; they get them in the order in
        which they came. Who is cancelled has put nothing. Raises what put() raises.

        Differs: new.
        """
        await self._awaited().put(self, obj)

    def _awaited(self) -> Any:
        if self._waiters is None:
            from ._awaiting import Waiters

            self._waiters = Waiters()
        return self._waiters

    # ---- looking ----

    def qsize(self) -> int:
        """Return how many items were put and not got: by the time it is known it may be another number."""
        if self._is_dropped():
            return 0
        return self._maxsize - self._sem._semlock._get_value()

    def empty(self) -> bool:
        """Return whether get() would wait.  Items that a feeder still holds do not count.

        Raises OSError when this process has used and closed the queue.
        """
        if self._phase is not None and self._is_shut():
            return not self.qsize()
        return not self._poll()

    def full(self) -> bool:
        """Return whether put() would wait."""
        return self._sem._semlock._is_zero()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")

    # ---- shutting down, for all processes ----

    def shutdown(self, immediate: bool = False) -> None:
        """End the queue in all processes: put() raises queue.ShutDown, get() does once the queue is empty.

        immediate -- also drop what is in it; JoinableQueue counts what was dropped as done

        On Pythons before 3.13, which have no queue.ShutDown, it is manyhands.queues.ShutDown.
        Differs: the standard library's multiprocessing queues have no shutdown; it is as in `queue.Queue`.
        """
        self._check_open()
        if self._phase is None:
            raise NotImplementedError(f"{type(self).__name__} was unpickled without what shutdown() needs")
        # Those who send look at it too: what they still hold is dropped by them.
        self._phase._semlock._raise_to(_SHUT if immediate else _DRAINING)
        self._send_last()

    def _send_last(self) -> None:
        ends = self._engine_ends()
        if not ends:
            with self._wlock:
                self._send_bytes(_LAST)
        elif self._buffer or not ends.send_now(_LAST):
            self._leave_to_feeder(_last_entry)

    def _is_shut(self) -> bool:
        return self._phase is not None and not self._phase._semlock._is_zero()

    def _is_dropped(self) -> bool:
        return _is_dropped(self._phase)

    # ---- ending, for this process ----

    def close(self) -> None:
        """Say that this process will neither put nor get any more; what it has put will be delivered."""
        self._closed = True
        self._ends = None
        if self._waiters is not None:
            self._waiters.wake()
        close = self._close
        if close:
            self._close = None
            close()
        elif self._used:
            self._reader.close()
            self._writer.close()

    def join_thread(self) -> None:
        """After close(): wait until what this process has put is in the pipe.

        It does not wait when no process is left that could read.
        """
        debug("Queue.join_thread()")
        if not self._closed:
            raise AssertionError(f"Queue {self!r} not closed")
        if self._jointhread:
            self._jointhread()

    def cancel_join_thread(self) -> None:
        """Let this process exit without waiting for its items to be delivered: they may be lost."""
        debug("Queue.cancel_join_thread()")
        self._joincancelled = True
        if self._jointhread is not None:
            self._jointhread.cancel()

    def _terminate_broken(self) -> None:
        """Close a queue whose readers are dead, for executors."""
        self._reader.close()
        self.close()
        self.join_thread()

    # ---- the feeder: a thread that sends what did not fit into the pipe ----

    def _start_thread(self) -> None:
        debug("Queue._start_thread()")
        self._buffer.clear()
        ends = self._engine_ends()
        reader_close = _once(self._reader.close)
        self._thread = threading.Thread(
            target=Queue._feed,
            args=(
                self._buffer, self._notempty,
                *((ends.send_all, None) if ends else (self._send_bytes, self._wlock)),
                reader_close, self._writer.close,
                self._ignore_epipe, self._on_queue_feeder_error, self._places(), self._phase,
            ),
            name="QueueFeederThread",
            daemon=True,
        )  # fmt: skip
        try:
            self._thread.start()
        except BaseException:  # no thread starts any more when the interpreter ends
            self._thread = None
            raise
        if not self._joincancelled:
            self._jointhread = Finalize(
                self._thread,
                Queue._finalize_join,
                [weakref.ref(self._thread), reader_close, self._writer],
                exitpriority=-5,
            )
        self._close = Finalize(self, Queue._finalize_close, [self._buffer, self._notempty], exitpriority=10)

    @staticmethod
    def _finalize_join(
        thread_ref: weakref.ref[threading.Thread],
        let_go_of_reader: Callable[[], object] | None = None,
        writer: Any = None,
    ) -> None:
        debug("joining queue thread")
        if let_go_of_reader is not None:
            # Nobody reads in this process any more.  If it was the last that could, the feeder's write fails
            # now instead of waiting for ever.
            let_go_of_reader()
        thread = thread_ref()
        if thread is None:
            debug("... queue thread already dead")
            return
        # Somebody may wait for this process to end before he reads: let the pipe take as much as it may.
        size = 1 << 16
        thread.join(_SOON)
        while thread.is_alive() and type(writer) is Writer and not writer.closed:
            size *= 2
            if not _engine.grow_pipe(writer, size):
                break
            thread.join(_SOON)
        thread.join()
        debug("... queue thread joined")

    @staticmethod
    def _finalize_close(buffer: deque[Any], notempty: threading.Condition) -> None:
        debug("telling queue thread to quit")
        with notempty:
            buffer.append(_sentinel)
            notempty.notify()

    @staticmethod
    def _feed(
        buffer: deque[Any],
        notempty: threading.Condition,
        send_bytes: Callable[[Any], Any],
        writelock: Any,
        reader_close: Callable[[], object],
        writer_close: Callable[[], object],
        ignore_epipe: bool,
        onerror: Callable[[Exception, Any], object],
        queue_sem: Any,
        phase: Any = None,
    ) -> None:
        """Send what is in the buffer until the sentinel comes: the feeder's main function.

        writelock -- None: send_bytes() takes a list of items and returns how many are off its hands
        """
        debug("starting thread to feed data to pipe")
        while True:
            with notempty:
                while not buffer:
                    notempty.wait()
                entries = list(itertools.islice(buffer, 1 if writelock else _BATCH))
            if entries[0] is _sentinel:
                debug("feeder thread got sentinel -- exiting")
                reader_close()
                writer_close()
                return
            sent = 1
            try:
                if writelock is None:
                    sent = send_bytes(list(itertools.takewhile(_is_item, entries)))
                elif not _is_dropped(phase):
                    data = _ForkingPickler.dumps(entries[0])
                    with writelock:
                        send_bytes(data)
            except Exception as error:
                broken = getattr(error, "errno", 0) == errno.EPIPE
                if broken and (ignore_epipe or _sentinel in buffer):
                    info("queue thread ends: nobody is left to read what was put")
                    return
                if is_exiting():
                    # The interpreter may have taken apart what this thread needs.
                    info("error in queue thread: %s", error)
                    return
                first = entries[0]
                if first is not _last_entry:
                    # The item is gone, so its place is free.
                    queue_sem.release()
                    onerror(error, first.item() if type(first) is _engine.Pickled else first)
                del first
            del entries
            for _ in range(sent):
                buffer.popleft()

    @staticmethod
    def _on_queue_feeder_error(e: Exception, obj: Any) -> None:
        """Report that an item, `obj`, could not be sent because of `e`.  Executors override it."""
        import traceback

        traceback.print_exc()

    __class_getitem__: ClassVar[Any] = classmethod(types.GenericAlias)


class JoinableQueue(Queue[_T]):
    """A queue whose users say when they are done with an item, so that others can wait for it.

    Differs: an item that could not be pickled does not keep join() waiting; otherwise as `Queue`.
    """

    def __init__(self, maxsize: int = 0, *, ctx: BaseContext) -> None:
        super().__init__(maxsize, ctx=ctx)
        self._unfinished_tasks = ctx.Semaphore(0)
        self._cond = ctx.Condition()

    def __getstate__(self) -> tuple[Any, ...]:
        return (*super().__getstate__(), self._cond, self._unfinished_tasks)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[:-2])
        self._cond, self._unfinished_tasks = state[-2:]

    def put(self, obj: _T, block: bool = True, timeout: float | None = None) -> None:
        """Put an item into the queue, as Queue.put() does; join() waits for it to be done."""
        self._claim(block, timeout)
        self._put_with_place(obj)

    def _put_with_place(self, obj: _T) -> None:
        # First: who gets the item may be done with it before this call returns.  Without the lock: join() waits for
        # the last task to be done, whenever it was put.
        self._unfinished_tasks.release()
        try:
            self._post(obj)
        except BaseException:
            self._refused()
            raise

    def _refused(self) -> None:
        self._tally().count_done()

    def _tally(self) -> _Tally:
        return _Tally(self._unfinished_tasks, self._cond, self._sem, self._maxsize, self._phase)

    def _places(self) -> Any:
        return self._tally()

    def shutdown(self, immediate: bool = False) -> None:
        """End the queue in all processes, as Queue.shutdown() does; join() no longer waits for what was dropped."""
        super().shutdown(immediate)
        if immediate:
            self._tally().tell()

    def task_done(self) -> None:
        """Say that the work on an item that was got is done.

        Raises ValueError when called more often than items were put.  Differs: none.
        """
        self._tally().count_done()

    def join(self) -> None:
        """Wait until all items that were put are done.  Differs: none."""
        with _Surviving(self._cond):
            # Whoever counts the last one may be killed before it says so: look again now and then.
            while self._tally().left():
                try:
                    self._cond.wait(1.0)
                except OwnerDied:
                    pass  # the lock is ours


class _Tally:
    """The tasks of a JoinableQueue that are to be done; it refers to what is shared, not to the queue."""

    def __init__(self, unfinished: Any, cond: Any, places: Any, maxsize: int, phase: Any) -> None:
        self._unfinished = unfinished
        self._cond = cond
        self._places = places
        self._maxsize = maxsize
        self._phase = phase

    def left(self) -> int:
        """Return how many tasks are not done; those that were dropped before anybody got them do not count."""
        unfinished: int = self._unfinished._semlock._get_value()
        if _is_dropped(self._phase):
            free: int = self._places._semlock._get_value()
            return max(unfinished - (self._maxsize - free), 0)
        return unfinished

    def count_done(self) -> None:
        """Count a task as done, and wake who waits for the last one."""
        with _Surviving(self._cond):
            if not self._unfinished.acquire(False):
                raise ValueError("task_done() called too many times")
            if not self.left():
                self._cond.notify_all()

    def tell(self) -> None:
        """Wake who waits, if nothing is left to wait for."""
        with _Surviving(self._cond):
            if not self.left():
                self._cond.notify_all()

    def release(self) -> None:
        """Give back what an item took that will not be sent: its place, and the task."""
        self._places.release()
        self.count_done()


class SimpleQueue(Generic[_T]):
    """A pipe with a lock at each end, and shared memory beside it: put() waits when both are full.

    ctx -- the context whose locks it uses; `SimpleQueue()` of a context gives its own

    Differs: none.
    """

    def __init__(self, *, ctx: BaseContext) -> None:
        self._rlock = ctx.Lock()
        self._wlock = ctx.Lock()
        self._reader, self._writer = new_pipe(self._rlock, self._wlock)
        self._poll = self._reader.poll

    def close(self) -> None:
        """Close this process's ends."""
        self._reader.close()
        self._writer.close()

    def empty(self) -> bool:
        """Return whether get() would wait.  Raises OSError when closed."""
        return not self._poll()

    def __getstate__(self) -> tuple[Any, ...]:
        context.assert_spawning(self)
        return self._reader, self._writer, self._rlock, self._wlock

    def __setstate__(self, state: Any) -> None:
        self._reader, self._writer, self._rlock, self._wlock = state
        self._poll = self._reader.poll

    def get(self) -> _T:
        """Wait for an item and return it.

        Raises EOFError when no process is left that could put one, OSError when closed.
        """
        reader: Any = self._reader
        if have(reader, self._writer, self._rlock, self._wlock):
            taken: _T = _engine.take_object(reader, reader.parts())
            return taken
        with self._rlock:
            data = self._reader.recv_bytes()
        # Others may get while this item is unpickled.
        item: _T = _ForkingPickler.loads(data)
        return item

    def put(self, obj: _T) -> None:
        """Send an item; wait while the pipe is full.  Raises what pickling it raises, OSError when closed."""
        writer = self._writer
        if have(self._reader, writer, self._rlock, self._wlock):
            _engine.put_object(writer, self._wlock._semlock, ring_of(writer), obj)
            return
        data = _ForkingPickler.dumps(obj)
        with self._wlock:
            self._writer.send_bytes(data)

    __class_getitem__: ClassVar[Any] = classmethod(types.GenericAlias)
