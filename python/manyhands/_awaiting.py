"""Waiting in asyncio: for results and values of pools, for items and places of queues.

Always: no thread waits for a call, and none polls; who is cancelled leaves nothing behind, neither a call that nobody
wants nor a place that nobody uses.
Not here: waiting in threads, which is the engine's.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
import weakref
from collections import deque
from queue import Empty, Full

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .queues import Queue

__all__: list[str] = []

# How often one who waits for a place of a full queue looks whether it was shut down, or whether nobody waits any more.
_LOOK = 0.05


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _call(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    """Wake, from any thread, who awaits `future`."""
    try:
        loop.call_soon_threadsafe(_wake, future)
    except RuntimeError:
        pass  # the loop was closed: nobody waits any more


def _watcher() -> tuple[asyncio.Future[None], Callable[[], None]]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    return future, functools.partial(_call, loop, future)


def _abort(handle: Any) -> None:
    try:
        handle.abort(True)
    except ValueError:
        handle.abort(False)  # threads cannot be killed


# ---- pools ----


async def value_of(result: Any, handle: Any) -> Any:
    """Return what `result.get()` returns, once it is there."""
    while not handle.ready():
        future, call = _watcher()
        if not handle.watch(call):
            break
        try:
            await future
        except asyncio.CancelledError:
            _abort(handle)
            raise
    return result.get()


async def next_of(handle: Any) -> Any:
    """Return what `handle.next()` returns, once it is there."""
    while (taken := handle.next(0)) is None:
        future, call = _watcher()
        if not handle.watch_next(call):
            continue
        try:
            await future
        except asyncio.CancelledError:
            _abort(handle)
            raise
    return taken


# ---- queues ----


class Waiters:
    """Those who wait for a queue in the event loops of this process."""

    def __init__(self) -> None:
        # Who reads has one loop's turn: an event loop hears a descriptor for one of them at a time.
        self._turns: weakref.WeakKeyDictionary[Any, asyncio.Lock] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._readers: set[Callable[[], None]] = set()
        self._writers: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._doorman: threading.Thread | None = None

    def wake(self) -> None:
        """Have all readers look again: the queue was closed here."""
        for call in list(self._readers):
            call()

    async def get(self, queue: Queue[Any]) -> Any:
        """Take the oldest item out of `queue`, once there is one."""
        loop = asyncio.get_running_loop()
        turn = self._turns.get(loop)
        if turn is None:
            turn = self._turns[loop] = asyncio.Lock()
        async with turn:
            since: float | None = None
            left = 0
            while True:
                try:
                    return queue.get_nowait()
                except Empty:
                    pass
                if not queue._is_shut():
                    await self._readable(queue)
                    continue
                # Another process has yet to send what it has put, unless it was killed before it could.
                from . import queues

                now, before, left = time.monotonic(), left, queue.qsize()
                if since is None or left != before:
                    since = now
                elif now >= since + queues._SETTLED:
                    raise queues.ShutDown
                await asyncio.sleep(0.005)

    async def _readable(self, queue: Queue[Any]) -> None:
        """Wait until something is in the queue's pipe, for whoever is first."""
        future, call = _watcher()
        loop = future.get_loop()
        # One of our own: the program may have this loop listen to the queue's for itself.
        fd = os.dup(queue._reader.fileno())
        try:
            loop.add_reader(fd, _wake, future)
            self._readers.add(call)
            try:
                await future
            finally:
                self._readers.discard(call)
                loop.remove_reader(fd)
        finally:
            os.close(fd)

    async def put(self, queue: Queue[Any], obj: Any) -> None:
        """Put `obj` into `queue`, once there is a place for it."""
        if not self._writers:
            try:
                queue.put_nowait(obj)
                return
            except Full:
                pass
        future, _ = _watcher()
        with self._lock:
            self._writers.append((future.get_loop(), future))
            if self._doorman is None:
                doorman = threading.Thread(
                    target=self._keep_the_door, args=(queue,), name="manyhands-doorman", daemon=True
                )
                doorman.start()
                self._doorman = doorman
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                queue._sem.release()  # the place came in the same moment
            raise
        queue._put_with_place(obj)

    def _keep_the_door(self, queue: Queue[Any]) -> None:
        """Wait for places, and give them to who waits longest: what the one thread does while anybody waits."""
        while True:
            with self._lock:
                while self._writers and self._writers[0][1].done():
                    self._writers.popleft()
                if not self._writers:
                    self._doorman = None
                    return
            error: BaseException | None = None
            try:
                queue._claim(True, _LOOK)
            except Full:
                continue
            except BaseException as raised:
                error = raised
            with self._lock:
                loop, future = self._writers.popleft()
            try:
                loop.call_soon_threadsafe(_settle, queue, future, error)
            except RuntimeError:  # the loop was closed
                if error is None:
                    queue._sem.release()


def _settle(queue: Queue[Any], future: asyncio.Future[None], error: BaseException | None) -> None:
    """Give a place, or the reason why there is none, to who awaits it."""
    if error is not None:
        if not future.done():
            future.set_exception(error)
    elif future.done():
        queue._sem.release()  # cancelled meanwhile
    else:
        future.set_result(None)
