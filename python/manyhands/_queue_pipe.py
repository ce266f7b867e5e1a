"""The pipe of a queue, and the memory beside it that most items pass through.

Always: an end of the pipe brings the memory and the locks along, to every process that gets it when it starts; the pipe
is readable as long as there are items.
Not here: queues (`queues`); how items pass (the engine).
"""

from __future__ import annotations

import errno
import time
from typing import Any

from . import _engine, context, reduction
from .connection import Connection, Pipe, reduce_connection
from .synchronize import Lock
from .util import debug

__all__ = ["Reader", "Writer", "have", "new_pipe", "ring_of"]

_ForkingPickler = context.reduction.ForkingPickler


class _End(Connection):
    """An end of a queue's pipe, with what its processes share."""

    # The readers' lock, the writers', and the ring, if there is one.
    _shares: tuple[Any, Any, _engine.QueueRing | None]

    def close(self) -> None:
        """Close this end, and let go of the memory beside the pipe."""
        super().close()
        self._shares = (*self._shares[:2], None)


class Reader(_End):
    """The end of a queue's pipe that is read from.

    Whoever gets an item may read with it how long the next one is, and notes that in the readers' lock, and items may
    wait in the queue's ring; so whoever receives from the pipe himself has to look there first.
    """

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


class Writer(_End):
    """The end of a queue's pipe that is written to: what is sent by it itself comes after what is in the ring."""

    def _send_bytes(self, buf: Any) -> None:  # type: ignore[override]
        self._mark()
        super()._send_bytes(buf)

    def _send_pickle(self, obj: Any) -> None:
        self._mark()
        super()._send_pickle(obj)

    def _mark(self) -> None:
        _, wlock, ring = self._shares
        if ring is not None:
            ring.mark(wlock._semlock)


def _reduce_end(end: _End) -> Any:
    if context.get_spawning_popen() is not None:
        return _rebuild_end, (type(end), reduce_connection(end), end._shares)
    if end._shares[2] is not None:
        raise RuntimeError(
            "an end of a queue's pipe goes to a child as an argument of its process only: most items do not pass through "
            "the pipe. Send the items, or make a Pipe()"
        )
    return reduce_connection(end)  # its locks go nowhere else than to a child


def _rebuild_end(kind: type[_End], made_by: tuple[Any, Any], shares: Any) -> Any:
    make, arguments = made_by
    return _shared(make(*arguments), kind, *shares)


reduction.register(Reader, _reduce_end)
reduction.register(Writer, _reduce_end)


def _shared(end: Any, kind: type[_End], rlock: Any, wlock: Any, ring: _engine.QueueRing | None) -> Any:
    if type(end) is Connection and type(rlock) is type(wlock) is Lock:
        end.__class__ = kind
        end._shares = rlock, wlock, ring  # type: ignore[attr-defined]
    return end


def new_pipe(rlock: Any, wlock: Any) -> tuple[Connection, Connection]:
    """Return both ends of a pipe for a queue with these locks, and memory beside it: see `ring_of`."""
    reader, writer = Pipe(duplex=False)
    ring = _new_ring()
    return _shared(reader, Reader, rlock, wlock, ring), _shared(writer, Writer, rlock, wlock, ring)


def ring_of(end: Any) -> _engine.QueueRing | None:
    """Return the memory beside the pipe that `end` is one of, if there is any."""
    return end._shares[2] if isinstance(end, _End) else None


def have(reader: Any, writer: Any, rlock: Any, wlock: Any) -> bool:
    """Return whether these ends and locks are ours, and belong to each other: subclasses replace some of them."""
    return (
        type(reader) is Reader
        and type(writer) is Writer
        and reader._shares[0] is writer._shares[0] is rlock
        and reader._shares[1] is writer._shares[1] is wlock
    )


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
    return _rebuild_ring, (reduction._dup_once(fd),)


# What came with this process, by the number of the descriptor that it came as.  They stay, because several objects that
# are unpickled name the same number.
_rings: dict[int, _engine.QueueRing] = {}


def _rebuild_ring(df: Any) -> _engine.QueueRing:
    fd: int = df.detach()
    ring = _rings.get(fd)
    if ring is None or ring._share() is None:
        ring = _rings[fd] = _engine.QueueRing(fd)
    return ring


reduction.register(_engine.QueueRing, _reduce_ring)
