"""numpy arrays through a pool: they arrive as they were, can be written to, and their memory comes back."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chores
import pytest

import manyhands

numpy = pytest.importorskip("numpy", reason="numpy is not installed")

MIB = 1 << 20
BIG = 1 << 18  # items of 8 bytes: past every limit under which buffers are pickled in band


def arrays() -> dict[str, Any]:
    """Arrays of every kind, by name."""
    grid = numpy.arange(BIG, dtype=numpy.float64).reshape(512, -1)
    record = numpy.zeros(BIG // 8, dtype=[("id", "<i8"), ("at", "<f8", (2,)), ("tag", "S5")])
    record["id"] = numpy.arange(len(record))
    record["tag"] = b"word"
    dates = numpy.arange("2020-01-01", "2022-01-01", dtype="datetime64[m]")
    return {
        "small": numpy.arange(7),
        "big": grid,
        "fortran": numpy.asfortranarray(grid),
        "transposed": grid.T,
        "sliced": grid[::2, ::3],
        "reversed": grid[::-1],
        "broadcast": numpy.broadcast_to(numpy.arange(64), (4096, 64)),
        "no items": numpy.empty((0, 5), dtype=numpy.float32),
        "no dimensions": numpy.array(3.5),
        "bytes": numpy.full(3 * MIB + 1, 7, dtype=numpy.uint8),
        "big endian": numpy.arange(BIG, dtype=">i4"),
        "complex": numpy.ones(BIG, dtype=numpy.complex128) * 1j,
        "bool": numpy.arange(BIG) % 3 == 0,
        "structured": record,
        "dates": dates,
        "text": numpy.array(["a", "bcd", ""] * 50_000),
        "objects": numpy.array([None, {"a": 1}, [1, 2], "text"] * 20_000, dtype=object),
        "masked": numpy.ma.masked_array(grid, mask=grid > 1000),
    }


def assert_same(mine: Any, theirs: Any) -> None:
    assert type(mine) is type(theirs)
    assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
    assert numpy.array_equal(mine, theirs)
    assert (numpy.ma.getmaskarray(mine) == numpy.ma.getmaskarray(theirs)).all()


def test_array_of_every_kind_goes_and_comes_unchanged(context: Any) -> None:
    with context.Pool(2) as pool:
        for name, array in arrays().items():
            there_and_back = pool.apply(chores.same, (array,))
            assert_same(there_and_back, array)
            assert there_and_back.flags.writeable, name
        kinds = list(arrays().values())
        for back, array in zip(pool.map(chores.same, kinds), kinds, strict=True):
            assert_same(back, array)


def test_array_of_every_size_goes_and_comes_unchanged() -> None:
    """Through every limit at which buffers take another way: in the pickle, beside it, in the arena."""
    with manyhands.get_context("fork").Pool(1) as pool:
        for size in sorted(
            {1, 100, *(max(1, (1 << shift) // 8 + by) for shift in range(12, 25) for by in (-100, 0, 100))}
        ):
            array = numpy.arange(size, dtype=numpy.float64)
            for each in (array, numpy.asfortranarray(array.reshape(1, -1).repeat(2, axis=0)), array.astype("i1")):
                assert_same(pool.apply(chores.same, (each,)), each)


def test_order_of_an_array_is_kept() -> None:
    grid = arrays()["big"]
    with manyhands.get_context("fork").Pool(1) as pool:
        for array in (grid, numpy.asfortranarray(grid)):
            _, _, c_order, f_order, writable, total = pool.apply(chores.describe, (array,))
            assert (c_order, f_order) == (array.flags.c_contiguous, array.flags.f_contiguous)
            assert writable
            assert total == array.sum()
            back = pool.apply(chores.same, (array,))
            assert (back.flags.c_contiguous, back.flags.f_contiguous) == (c_order, f_order)


def test_worker_writes_to_its_own_copy(context: Any) -> None:
    array = numpy.arange(BIG)
    with context.Pool(1) as pool:
        doubled = pool.apply(chores.double_in_place, (array,))
        assert numpy.array_equal(array, numpy.arange(BIG))
        assert numpy.array_equal(doubled, numpy.arange(BIG) * 2)
        doubled[:] = 0  # ours alone
        assert numpy.array_equal(pool.apply(chores.double_in_place, (array,)), numpy.arange(BIG) * 2)


def test_array_bound_to_a_function_is_fresh_for_each_task() -> None:
    double = functools.partial(chores.double_and_sum, numpy.ones(BIG))
    with manyhands.get_context("fork").Pool(1) as pool:
        assert pool.map(double, range(4), chunksize=1) == [2 * BIG] * 4
        assert pool.map(double, range(4), chunksize=2) == [2 * BIG, 4 * BIG] * 2


def test_results_outlive_the_pool_and_each_other() -> None:
    with manyhands.Pool(2) as pool:
        results = pool.map(chores.make_array, [MIB, 3 * MIB, MIB, 2 * MIB])
        views = [array[10:20] for array in results]
    pool.join()
    del results
    assert all((view == 1).all() for view in views)
    views[0][:] = 9
    assert (views[1] == 1).all()


def test_read_only_array_is_read_only_in_the_worker_as_with_pickle() -> None:
    import pickle

    array = numpy.arange(BIG)
    array.setflags(write=False)
    expected = pickle.loads(pickle.dumps(array, protocol=5)).flags.writeable
    with manyhands.Pool(1) as pool:
        small = pool.apply(chores.describe, (array[:3].copy(),))
        assert small[4]
        assert pool.apply(chores.describe, (array,))[4] in (expected, False)
        assert pool.apply(chores.describe, (array,))[5] == array.sum()


def test_two_arguments_that_are_one_array_stay_one() -> None:
    array = numpy.arange(BIG)
    with manyhands.Pool(1) as pool:
        first, second = pool.apply(chores.same, ((array, array),))
    assert first is second


def test_forked_child_has_an_array_as_it_was_though_the_parent_writes_and_lets_go() -> None:
    context = manyhands.get_context("fork")
    ours, theirs = context.Pipe()
    with context.Pool(1) as pool:
        array = pool.apply(chores.make_array, (MIB,))
        beside = pool.apply(chores.make_array, (MIB,))
        child = context.Process(target=chores.tell_when_asked, args=(theirs, [array, beside]))
        child.start()
        array[:] = 5
        del beside
        for _ in range(4):  # where the memory was used again, this would be in it
            assert pool.apply(chores.double_in_place, (numpy.full(MIB, 8, numpy.uint8),))[0] == 16
        ours.send("look")
        assert ours.recv() == [(1, 1), (1, 1)]
        ours.send("write")
        assert ours.recv() == [(99, 99), (99, 99)]
        assert chores.least_and_most(array) == (5, 5)
        child.join()
        assert child.exitcode == 0


def test_child_that_a_task_forks_has_the_arguments_as_they_were() -> None:
    array = numpy.ones(MIB, numpy.uint8)
    with manyhands.get_context("fork").Pool(1) as pool:
        assert pool.apply(chores.fork_and_write, (array,)) == (1, 1)


@pytest.mark.timeout(120)
def test_forks_cost_a_bounded_amount_of_memory() -> None:
    context = manyhands.get_context("fork")
    with context.Pool(1) as pool:
        before = shared_here()
        for _ in range(30):
            array = pool.apply(chores.make_array, (8 * MIB,))
            child = context.Process(target=chores.least_and_most, args=(array,))
            child.start()
            child.join()
            assert chores.least_and_most(array) == (1, 1)
            del array
        assert shared_here() - before < 80 * MIB  # of 240


def refilled(frames: int) -> Iterator[Any]:
    """One buffer, filled anew for each item, as a camera's driver does."""
    frame = numpy.empty(BIG, dtype=numpy.uint8)
    for number in range(frames):
        frame[:] = number
        yield frame


def test_each_task_has_what_a_buffer_held_when_it_was_drawn(tmp_path: Path) -> None:
    """Also the tasks behind one that takes long, which another worker takes over."""
    gate = tmp_path / "gate"
    with manyhands.get_context("fork").Pool(2, chores.keep, (str(gate),)) as pool:
        seen = []
        for least, most in pool.imap_unordered(chores.range_but_zero_waits, refilled(20)):
            assert least == most
            seen.append(int(least))
            if len(seen) == 19:
                assert 0 not in seen
                gate.touch()
    assert sorted(seen) == list(range(20))


def test_each_task_has_what_a_buffer_held_though_the_worker_before_it_died(tmp_path: Path) -> None:
    with manyhands.get_context("fork").Pool(1) as pool:
        frames = refilled(3)
        deadly = pool.apply_async(chores.die_when_there, (str(tmp_path / "gate"),))
        later = [pool.apply_async(chores.least_and_most, (frame,)) for frame in frames]
        (tmp_path / "gate").touch()
        with pytest.raises(manyhands.WorkerDied):
            deadly.get()
        assert [result.get() for result in later] == [(0, 0), (1, 1), (2, 2)]


def shared_here() -> int:
    """Bytes of the shared memory of which this process has descriptors."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if "memfd:manyhands-results" in os.readlink(f"/proc/self/fd/{name}"):
                total += os.stat(f"/proc/self/fd/{name}").st_blocks * 512
    return total


def resident_here() -> int:
    return chores.resident()


@pytest.mark.timeout(120)
def test_memory_of_large_arrays_is_given_back(method: str) -> None:
    """Maps of arrays of 8 MB, again and again: neither here nor in the workers does memory grow."""
    array = numpy.ones(MIB, dtype=numpy.float64)
    with manyhands.get_context(method).Pool(2) as pool:

        def round_of_maps(times: int) -> tuple[int, int]:
            for _ in range(times):
                for back in pool.imap(chores.double_in_place, [array] * 6):
                    assert back[0] == 2 and back[-1] == 2
                    del back
                sizes = [back.nbytes for back in pool.map(chores.same, [array] * 4)]
                assert sizes == [8 * MIB] * 4
            return resident_here(), max(pool.map(chores.resident, range(8), chunksize=1))

        here, there = round_of_maps(3)
        here_later, there_later = round_of_maps(12)  # 120 arrays, 960 MB each way
    assert here_later - here < 48 * MIB
    assert there_later - there < 48 * MIB


def test_results_that_are_kept_do_not_stop_the_pool() -> None:
    """More results are alive than an arena holds: the rest comes another way."""
    with manyhands.Pool(2) as pool:
        kept = pool.map(chores.make_array, [8 * MIB] * 40)
    assert sum(int(array[-1]) for array in kept) == 40


def test_numbers_and_generators_of_numpys_travel(context: Any) -> None:
    with context.Pool(1) as pool:
        assert pool.apply(chores.same, (numpy.float32(1.5),)) == numpy.float32(1.5)
        generator = numpy.random.default_rng(7)
        assert pool.apply(chores.same, (generator,)).integers(1 << 30) == numpy.random.default_rng(7).integers(1 << 30)
        assert pool.map(chores.add, [(numpy.int64(1), 2)]) == [3]
