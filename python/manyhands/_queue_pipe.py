"""The pipe of a queue, and the memory beside it that most items pass through.

Always: an end of the pipe brings the memory and the locks along, to every process that gets it when it starts; the pipe
is readable as long as there are items.
Not here: queues (`queues`); how items pass (the engine).
"""

from __future__ import annotations

import errno
import time
import weakref
from typing import Any

from . import _engine, context, reduction
from .connection import Connection, Pipe, reduce_connection
from .synchronize import Lock
from .util import debug

_ForkingPickler = context.reduction.ForkingPickler


class Reader(Connection):
    """The end of a queue's pipe that is read from.

    Whoever gets an item may read with it how long the next one is, and notes that in the readers' lock, and items may
    wait in the queue's ring; so whoever receives from the pipe himself has to look there first.
    """

    # The readers' lock, the writers', and the ring, if there is one.
    _shares: tuple[Any, Any, Any]

    def parts(self) -> tuple[_engine.SemLock, _engine.SemLock, _engine.QueueRing | None]:
        rlock, wlock, ring = self._shares
        return rlock._semlock, wlock._semlock, ring

    def _recv_bytes(self, maxsize: int | None = None) -> bytes | None:  # type: ignore[override]
        return _engine.recv_queued(self, maxsize, self.parts())

    def _recv_object(self) -> Any:
        if context.reduction.ForkingPickler is _ForkingPickler:
            return _engine.recv_queued_object(self, self.parts())
        return super()._recv_object()

    def _poll(self, timeout: float | None) -> bool:
        """Return whether there is a message: a process that was killed may have left what tells of none."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while super()._poll(timeout):
            if not _engine.queue_is_empty(self, self.parts()):
                return True
            if deadline is not None:
                timeout = max(deadline - time.monotonic(), 0)
        return False


def _reduce_reader(reader: Reader) -> Any:
    if context.get_spawning_popen() is None:
        return reduce_connection(reader)  # its locks go nowhere else than to a child
    return _rebuild_reader, (*reduce_connection(reader), reader._shares)


def _rebuild_reader(make: Any, arguments: Any, shares: Any) -> Any:
    return shared(make(*arguments), *shares)


reduction.register(Reader, _reduce_reader)


def shared(reader: Any, rlock: Any, wlock: Any, ring: _engine.QueueRing | None = None) -> Any:
    """Return the end of a queue's pipe whose users share these; unpickled, it was a plain connection."""
    if type(reader) is Connection and type(rlock) is type(wlock) is Lock:
        reader.__class__ = Reader
        reader._shares = rlock, wlock, ring  # type: ignore[attr-defined]
    return reader


def new_pipe(rlock: Any, wlock: Any) -> tuple[Connection, Connection]:
    """Return both ends of a pipe for a queue with these locks, and memory beside it: see `ring_of`."""
    reader, writer = Pipe(duplex=False)
    return shared(reader, rlock, wlock, _new_ring()), writer


def ring_of(reader: Any) -> _engine.QueueRing | None:
    """Return the memory beside the pipe that `reader` is an end of, if there is any."""
    return reader._shares[2] if type(reader) is Reader else None


def _new_ring() -> _engine.QueueRing | None:
    """Return memory for items to pass through, None where there is none to be had: then all go through the pipe."""
    try:
        return _engine.QueueRing()
    except OSError as error:
        debug("a queue goes without shared memory: %s", error)
        return None


def _reduce_ring(ring: _engine.QueueRing) -> Any:
    context.assert_spawning(ring)
    fd = ring._share()
    if fd is None:
        raise OSError(
            errno.EBADF,
            "could not send this queue to another process: the program has closed its descriptor, as os.closerange() "
            "does; make queues after that",
        )
    # Several pickles for one child may have it: it goes along once.
    sent = context.get_spawning_popen().__dict__.setdefault("_rings_sent", {})
    if fd not in sent:
        sent[fd] = reduction.DupFd(fd)
    return _rebuild_ring, (sent[fd],)


# What came with this process, by the number of the descriptor that it came as: each is mapped once.
_rings: weakref.WeakValueDictionary[int, _engine.QueueRing] = weakref.WeakValueDictionary()


def _rebuild_ring(df: Any) -> _engine.QueueRing:
    fd: int = df.detach()
    ring = _rings.get(fd)
    if ring is None or ring._share() is None:
        ring = _rings[fd] = _engine.QueueRing(fd)
    return ring


reduction.register(_engine.QueueRing, _reduce_ring)
