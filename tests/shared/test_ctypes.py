"""ctypes objects in shared memory, and the heap they lie in."""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import sharers

import manyhands
from manyhands import heap, sharedctypes
from scripts import descriptors, printed


def test_children_write_what_the_parent_reads(context: Any) -> None:
    raw, value = context.RawValue("i", 21), context.Value("d", 1.25)
    array, text = context.Array("h", [1, 2, 3]), context.RawArray(ctypes.c_longlong, 2)
    text[:] = [5, 6]
    assert sharers.exit_code(context, sharers.double, raw, value, array, text) == 0
    assert (raw.value, value.value, array[:], list(text)) == (42, 2.5, [2, 4, 6], [10, 12])
    assert (len(array), array[-1], array[0:2]) == (3, 6, [2, 4])


def test_structures_have_their_fields(context: Any) -> None:
    point = context.Value(sharers.Point, 3, 1.5)
    assert sharers.exit_code(context, sharers.move, point) == 0
    assert (point.x, point.y) == (4, 3.0)
    other = sharedctypes.copy(point.get_obj())
    point.x = 9
    assert other.x == 4
    assert type(point).__name__ == "SynchronizedPoint"


def test_a_value_and_its_lock_count_right(context: Any) -> None:
    number = context.Value("q", 0)
    children = [context.Process(target=sharers.add, args=(number, 1000)) for _ in range(2)]
    for child in children:
        child.start()
    sharers.add(number, 1000)
    for child in children:
        child.join()
    assert number.value == 3000


def test_strings_have_a_value_and_raw_bytes() -> None:
    text = manyhands.Array("c", b"hello\0rest")
    assert (text.value, text.raw) == (b"hello", b"hello\0rest")
    text.value = b"hi"
    assert text.raw == b"hi\0lo\0rest"


def test_the_lock_can_be_chosen() -> None:
    lock = manyhands.Lock()
    assert manyhands.Value("i", lock=lock).get_lock() is lock
    assert isinstance(manyhands.Array("i", 3, lock=False), ctypes.Array)
    assert manyhands.Value("i", lock=None).get_lock().acquire()
    for what in ("nothing", 5):
        with pytest.raises(AttributeError, match="has no method 'acquire'"):
            manyhands.Value("i", lock=what)
    with pytest.raises(AssertionError, match="already synchronized"):
        sharedctypes.synchronized(manyhands.Value("i"))


def test_bad_types_and_sizes_are_refused() -> None:
    with pytest.raises(TypeError):
        manyhands.RawValue("no such letter")
    with pytest.raises(TypeError):
        manyhands.RawValue("i", "text")
    with pytest.raises(ValueError):
        manyhands.RawArray("i", -1)
    with pytest.raises(TypeError):
        manyhands.RawArray("i", 2.5)
    for size, error in ((-1, ValueError), (2**63, OverflowError)):
        with pytest.raises(error):
            heap.BufferWrapper(size)
    with pytest.raises(OSError, match=r"could not (map|create)"):
        heap.BufferWrapper(2**61)


def test_what_is_new_is_zero_whatever_lay_there_before() -> None:
    first = manyhands.RawArray("B", [255] * 1000)
    del first
    assert not any(manyhands.RawArray("B", 1000))


def test_pickling_needs_a_child_that_is_being_started() -> None:
    from manyhands.reduction import ForkingPickler

    for obj in (manyhands.Value("i"), manyhands.RawValue("i"), manyhands.Array("i", 2)):
        with pytest.raises(RuntimeError, match="should only be shared between processes through inheritance"):
            ForkingPickler.dumps(obj)
    with pytest.raises((TypeError, ValueError, RuntimeError, pickle.PicklingError)):
        pickle.dumps(manyhands.RawValue("i"))


def test_the_heap_gives_back_what_it_got() -> None:
    gc.collect()
    before = descriptors()
    blocks = [heap.BufferWrapper(n * 37) for n in range(1, 400)]
    for number, block in enumerate(blocks):
        view = block.create_memoryview()
        view[:] = bytes([number % 256]) * len(view)
    for number, block in enumerate(blocks):
        assert set(block.create_memoryview()) == {number % 256}
    big = heap.BufferWrapper(64 << 20)
    assert descriptors() > before
    del blocks, block, view, big
    gc.collect()
    whole = heap.BufferWrapper._heap
    assert sum(arena.size for arena in whole._arenas) < 16 << 20


def test_a_forked_child_cuts_from_arenas_of_its_own() -> None:
    kept = manyhands.RawArray("i", [7] * 10)
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            mine = [manyhands.RawArray("i", [8] * 10) for _ in range(100)]
            os.write(write, b"y" if all(list(one) == [8] * 10 for one in mine) else b"n")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 1) == b"y"
    assert list(kept) == [7] * 10
    os.close(read)
    os.close(write)


def test_a_small_or_missing_dev_shm_is_no_matter(tmp_path: Path) -> None:
    """Nothing that is made lies there."""
    lines = printed(
        tmp_path,
        """
        import manyhands

        if __name__ == "__main__":
            kept = [manyhands.Array("d", 100_000), manyhands.Value("i"), manyhands.Barrier(2), manyhands.Lock()]
            print("/dev/shm" in open("/proc/self/maps").read())
        """,
    )
    assert lines == ["False"]
