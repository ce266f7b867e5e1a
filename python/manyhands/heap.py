"""Blocks of memory that processes share, cut from arenas: for `sharedctypes`, and for a barrier's numbers.

Always: an arena has no name, so nothing is left behind by a process that is killed, and `/dev/shm` may be
small or missing; a process cuts blocks only from arenas of its own, and frees only blocks of its own.
Not here: what lies in a block.
"""

from __future__ import annotations

import bisect
import mmap
import os
import sys
import threading
from collections import defaultdict
from typing import Any

from . import _engine, reduction, util

__all__ = ["BufferWrapper"]


class Arena:
    """A piece of memory that children share.  `buffer` is its mmap, `fd` its descriptor."""

    def __init__(self, size: int, fd: int = -1) -> None:
        self.size = size
        self.fd = _engine.memory("manyhands heap", size) if fd == -1 else fd
        if fd == -1:
            util.Finalize(self, os.close, (self.fd,))
        try:
            self.buffer = mmap.mmap(self.fd, size)
        except OSError as error:
            text = f"could not map {size:,} bytes of shared memory: {error.strerror}; make smaller objects"
            raise OSError(error.errno, text) from None


def reduce_arena(a: Arena) -> tuple[Any, ...]:
    """Send an arena to a child, once however many of its blocks go there."""
    return rebuild_arena, (a.size, reduction._dup_once(a.fd))


def rebuild_arena(size: int, dupfd: Any) -> Arena:
    """Map an arena that came from another process."""
    return Arena(size, dupfd.detach())


reduction.register(Arena, reduce_arena)


_Block = tuple[Arena, int, int]


class Heap:
    """Cuts blocks from arenas, and takes them back.

    A block is (arena, start, stop).  Free blocks are known by length, by where they start and by where they
    stop, so that one given back joins its free neighbours.
    """

    _alignment = 8
    _DISCARD_FREE_SPACE_LARGER_THAN = 4 * 1024**2
    _DOUBLE_ARENA_SIZE_UNTIL = 4 * 1024**2

    def __init__(self, size: int = mmap.PAGESIZE) -> None:
        self._lock = threading.Lock()
        self._size = size  # of the next arena
        self._begin()

    def _begin(self) -> None:
        self._lastpid = os.getpid()
        self._lengths: list[int] = []  # of the free blocks, sorted
        self._len_to_seq: dict[int, list[_Block]] = {}  # a length: its free blocks
        self._start_to_block: dict[tuple[Arena, int], _Block] = {}  # (arena, start): the free block there
        self._stop_to_block: dict[tuple[Arena, int], _Block] = {}  # (arena, stop): the free block there
        # An arena: the (start, stop) in use.
        self._allocated_blocks: defaultdict[Arena, set[tuple[int, int]]] = defaultdict(set)
        self._arenas: list[Arena] = []
        self._pending_free_blocks: list[_Block] = []  # given back while the lock was held
        self._n_mallocs = 0
        self._n_frees = 0

    @staticmethod
    def _roundup(n: int, alignment: int) -> int:
        return -(-n // alignment) * alignment

    def malloc(self, size: int) -> _Block:
        """Return a block of at least `size` bytes.

        Raises ValueError for a negative size, OverflowError for one that no process can have.
        """
        if size < 0:
            raise ValueError(f"Size {size:n} out of range")
        if size >= sys.maxsize:
            raise OverflowError(f"Size {size:n} too large")
        if os.getpid() != self._lastpid:
            # A child begins anew: the parent goes on cutting from its own arenas.
            self._lock = threading.Lock()
            self._begin()
        with self._lock:
            self._n_mallocs += 1
            self._free_pending_blocks()
            size = self._roundup(max(size, 1), self._alignment)
            arena, start, stop = self._take(size)
            if start + size < stop:
                self._add_free_block((arena, start + size, stop))
            self._allocated_blocks[arena].add((start, start + size))
            return arena, start, start + size

    def free(self, block: _Block) -> None:
        """Take a block back that malloc() gave out in this process; raises ValueError in another one."""
        if os.getpid() != self._lastpid:
            raise ValueError(f"My pid ({os.getpid():n}) is not last pid {self._lastpid:n}")
        # The garbage collector may call this while this very thread holds the lock: then the block waits.
        if not self._lock.acquire(False):
            self._pending_free_blocks.append(block)
            return
        try:
            self._free_pending_blocks()
            self._free(block)
        finally:
            self._lock.release()

    def _free_pending_blocks(self) -> None:
        while True:
            try:
                block = self._pending_free_blocks.pop()
            except IndexError:
                return
            self._free(block)

    def _free(self, block: _Block) -> None:
        self._n_frees += 1
        self._add_free_block(block)
        arena, start, stop = block
        in_use = self._allocated_blocks[arena]
        in_use.remove((start, stop))
        if not in_use:
            self._discard_arena(arena)

    def _take(self, size: int) -> _Block:
        """Return a free block of at least `size`, no longer free; from a new arena if there is none."""
        place = bisect.bisect_left(self._lengths, size)
        if place == len(self._lengths):
            return self._new_arena(size)
        block = self._len_to_seq[self._lengths[place]][-1]
        self._remove_free_block(block)
        return block

    def _new_arena(self, size: int) -> _Block:
        length = self._roundup(max(self._size, size), mmap.PAGESIZE)
        # Ever larger ones, so that many blocks do not need many arenas.
        if self._size < self._DOUBLE_ARENA_SIZE_UNTIL:
            self._size *= 2
        util.info("allocating a new mmap of length %d", length)
        arena = Arena(length)
        self._arenas.append(arena)
        return arena, 0, length

    def _discard_arena(self, arena: Arena) -> None:
        """Let go of an arena that is all free, if it is large; small ones are used again."""
        if arena.size < self._DISCARD_FREE_SPACE_LARGER_THAN:
            return
        self._remove_free_block((arena, 0, arena.size))
        del self._allocated_blocks[arena]
        self._arenas.remove(arena)

    def _add_free_block(self, block: _Block) -> None:
        arena, start, stop = block
        before = self._stop_to_block.get((arena, start))
        if before is not None:
            self._remove_free_block(before)
            start = before[1]
        after = self._start_to_block.get((arena, stop))
        if after is not None:
            self._remove_free_block(after)
            stop = after[2]
        block = arena, start, stop
        length = stop - start
        if length in self._len_to_seq:
            self._len_to_seq[length].append(block)
        else:
            self._len_to_seq[length] = [block]
            bisect.insort(self._lengths, length)
        self._start_to_block[arena, start] = block
        self._stop_to_block[arena, stop] = block

    def _remove_free_block(self, block: _Block) -> None:
        arena, start, stop = block
        del self._start_to_block[arena, start]
        del self._stop_to_block[arena, stop]
        length = stop - start
        blocks = self._len_to_seq[length]
        blocks.remove(block)
        if not blocks:
            del self._len_to_seq[length]
            del self._lengths[bisect.bisect_left(self._lengths, length)]


class BufferWrapper:
    """A block of `size` bytes that goes to children, and back to the heap when this object goes.

    Raises ValueError for a negative size, OverflowError for one that no process can have.
    """

    _heap = Heap()

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"Size {size:n} out of range")
        if size >= sys.maxsize:
            raise OverflowError(f"Size {size:n} too large")
        heap = BufferWrapper._heap
        block = heap.malloc(size)
        self._state = (block, size)
        util.Finalize(self, heap.free, args=(block,))

    def create_memoryview(self) -> memoryview:
        """Return the block as a memoryview, writable."""
        (arena, start, _), size = self._state
        return memoryview(arena.buffer)[start : start + size]
