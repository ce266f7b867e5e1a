"""`shared_array`: one memory for all processes that have the array, however they got it."""

from __future__ import annotations

import copy
import functools
import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import handlers
import pytest

import manyhands

numpy = pytest.importorskip("numpy", reason="numpy is not installed")

MIB = 1 << 20


def arrays_here() -> int:
    """How many shared arrays' memory this process has descriptors of."""
    inodes = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if "memfd:manyhands array" in os.readlink(f"/proc/self/fd/{name}"):
                inodes.add(os.stat(f"/proc/self/fd/{name}").st_ino)
        except OSError:
            pass
    return len(inodes)


# ---- in one process ----


def test_array_is_zero_and_as_it_was_asked_for() -> None:
    array = manyhands.shared_array((3, 4))
    assert isinstance(array, numpy.ndarray)
    assert isinstance(array, manyhands.SharedArray)
    assert (array.shape, array.dtype, array.flags.c_contiguous) == ((3, 4), numpy.float64, True)
    assert array.flags.writeable
    assert (array == 0).all()
    assert manyhands.shared_array(5, "i4", fill=7).tolist() == [7] * 5
    assert manyhands.shared_array((2, 3), order="F").flags.f_contiguous
    assert manyhands.shared_array([2, 0]).shape == (2, 0)
    assert manyhands.shared_array(()).shape == ()
    assert manyhands.shared_array(2, "M8[s]", fill=numpy.datetime64(5, "s")).tolist()[0].second == 5
    assert manyhands.shared_array(2, [("a", "i4"), ("b", "S3")])["b"].tolist() == [b"", b""]


def test_views_are_shared_and_what_is_computed_is_not() -> None:
    array = manyhands.shared_array((4, 6), fill=1.0)
    for view in (
        array,
        array[1],
        array[:, ::2],
        array.T,
        array.reshape(-1),
        array[::-1],
        array[None],
        array[array.shape[0] :],
    ):
        assert type(view) is manyhands.SharedArray
        assert view.shared
    for value in (
        array + 1,
        array.copy(),
        array[[0, 1]],
        array[array > 0],
        -array,
        numpy.sqrt(array),
        copy.deepcopy(array),
    ):
        assert type(value) is numpy.ndarray
    assert not array.astype("i4").shared
    assert array.sum() == 24
    assert array.max(axis=0).tolist() == [1] * 6
    array += 1
    assert array.shared
    assert numpy.add(array, 1, out=array) is array


def test_memory_goes_with_the_last_array() -> None:
    before = arrays_here()
    array = manyhands.shared_array(MIB)
    view = array[5:]
    del array
    assert arrays_here() == before + 1
    assert view.sum() == 0
    del view
    gc.collect()
    assert arrays_here() == before


def test_other_picklers_have_its_values() -> None:
    array = manyhands.shared_array((2, 3), fill=2.0)
    for value in (pickle.loads(pickle.dumps(array)), pickle.loads(pickle.dumps(array[:, 1:], 2)), copy.copy(array)):
        assert type(value) is numpy.ndarray
        value[:] = 5
    assert (array == 2).all()


# ---- between processes ----


def test_processes_write_to_the_same_array(context: Any) -> None:
    array = manyhands.shared_array((3, 4))
    child = context.Process(target=handlers.write, args=(array, (1, 2), 5.0))
    child.start()
    child.join()
    part = context.Process(target=handlers.write, args=(array[2, ::-2], 0, 6.0))
    part.start()
    part.join()
    assert (child.exitcode, part.exitcode) == (0, 0)
    assert (array[1, 2], array[2, 3], array.sum()) == (5, 6, 11)


def test_pools_calls_write_to_the_same_array(context: Any) -> None:
    array = manyhands.shared_array(100, int)
    with context.Pool(2) as pool:
        pool.starmap(handlers.write, [(array, n, n) for n in range(50)])
        pool.map(functools.partial(handlers.write, array[50:], value=1), range(50))
        assert array.tolist() == [*range(50), *[1] * 50]
        array[:] = 3
        assert pool.apply(handlers.same, (array.sum(),)) == 300
        assert "memfd:manyhands array" in pool.apply(handlers.where, (array[7:],))


def test_initializer_gets_the_same_array(context: Any) -> None:
    array = manyhands.shared_array(10)
    with context.Pool(1, handlers.write, (array, 3, 4.0)) as pool:
        pool.apply(handlers.same, (1,))
        assert array[3] == 4


def test_queue_and_pipe_bring_the_same_array(context: Any) -> None:
    array = manyhands.shared_array(10)
    queue, told = context.Queue(), context.Event()
    child = context.Process(target=handlers.write_when_told, args=(queue, told))
    child.start()
    queue.put(array[4:])
    told.wait()
    child.join()
    assert array.tolist() == [0] * 4 + [7] * 6
    ours, theirs = context.Pipe()
    ours.send(array)
    assert numpy.shares_memory(theirs.recv(), array)
    queue.close()
    queue.join_thread()


def test_what_comes_back_is_the_array_that_went(context: Any) -> None:
    array = manyhands.shared_array((4, 5), fill=1.0)
    with context.Pool(1) as pool:
        back = pool.apply(handlers.same, (array[1:, ::2],))
    assert back.shared
    assert numpy.shares_memory(back, array)
    assert (back.shape, back.strides) == ((3, 3), array[1:, ::2].strides)
    back[...] = 9
    assert array[1, 0] == 9


def test_layout_and_writability_arrive(context: Any) -> None:
    array = manyhands.shared_array((4, 6), "f4", order="F")
    array[...] = numpy.arange(24).reshape(4, 6)
    locked = array[1:, ::-1]
    locked.flags.writeable = False
    with context.Pool(1) as pool:
        for value in (array, array.T, locked, array[:0], array[2], manyhands.shared_array(())):
            described = pool.apply(handlers.describe, (value,))
            assert described == ("SharedArray", value.dtype, value.shape, value.strides, value.flags.writeable)
            assert (pool.apply(handlers.same, (value,)) == value).all()


def test_call_on_its_way_keeps_an_array_that_its_sender_let_go(tmp_path: Path, context: Any) -> None:
    before = arrays_here()
    gate = str(tmp_path / "gate")
    with context.Pool(1) as pool:
        results = [
            pool.apply_async(handlers.total_after, (gate, manyhands.shared_array(MIB, fill=float(n)))) for n in range(3)
        ]
        gc.collect()
        Path(gate).touch()
        assert [result.get() for result in results] == [0, MIB, 2 * MIB]
        del results
        while arrays_here() > before:  # the next answer has the last one's arrays let go
            pool.apply(handlers.same, (1,))


def test_array_outlives_a_killed_process(context: Any) -> None:
    array = manyhands.shared_array(10, fill=1.0)
    with context.Pool(1) as pool:
        with pytest.raises(manyhands.WorkerDied):
            pool.apply(handlers.die, (array,))
        pool.apply(handlers.write, (array, 2, 5.0))
    assert array[2] == 5


def test_array_of_a_worker_comes_while_the_worker_has_it() -> None:
    with manyhands.Pool(1) as pool:
        pool.apply(handlers.keep, (10,))
        array = pool.apply(handlers.kept)
        pool.apply(handlers.write_kept, (3, 5.0))
        assert array[3] == 5
    pool.join()
    assert array[3] == 5


def test_array_that_nobody_kept_says_so() -> None:
    with manyhands.Pool(1) as pool, pytest.raises(OSError, match="the sender has to keep it until it has arrived"):
        pool.apply(manyhands.shared_array, (10,))
        raise AssertionError("a worker keeps its last result") from None


def test_what_is_no_shared_array_is_refused() -> None:
    from manyhands import arrays

    read, write = os.pipe()
    status = os.fstat(read)
    for where, file, words in (
        ((os.getpid(), read), (0, 0), "it is gone"),
        ((os.getpid(), 10**6), (0, 0), "No such file"),
        ((2**22 + 5, 0), (0, 0), "No such file"),
    ):
        with pytest.raises(OSError, match=words):
            arrays._descriptor(where, file, 10)
    with open("/proc/self/exe", "rb"), pytest.raises(OSError):
        arrays._descriptor((os.getpid(), read), (status.st_dev, status.st_ino), 10)
    os.close(read)
    os.close(write)
    unsealed = os.memfd_create("unsealed")
    os.truncate(unsealed, 100)
    with pytest.raises(OSError, match="could be made shorter"):
        arrays._descriptor((os.getpid(), unsealed), arrays._identity(unsealed), 10)
    os.close(unsealed)


# ---- bad input ----


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"shape": -1}, ValueError, "no negative length"),
        ({"shape": (3, -4)}, ValueError, "no negative length"),
        ({"shape": 2.5}, TypeError, "an int or a sequence of ints, not 2.5"),
        ({"shape": "ab"}, TypeError, "an int or a sequence of ints"),
        ({"shape": 3, "dtype": object}, TypeError, "texts of a fixed length"),
        ({"shape": 3, "dtype": [("a", object)]}, TypeError, "texts of a fixed length"),
        ({"shape": 3, "dtype": "nonsense"}, TypeError, "nonsense"),
        ({"shape": 3, "order": "K"}, ValueError, 'order must be "C" or "F"'),
        ({"shape": 3, "fill": "text"}, ValueError, "text"),
        ({"shape": 1 << 62}, OSError, "36,893,488,147,419,103,232 bytes"),
        ({"shape": 1 << 50}, OSError, "Cannot allocate memory; ask for less"),
    ],
)
def test_bad_input_is_told_and_leaves_nothing(arguments: Any, error: type[Exception], words: str) -> None:
    before = arrays_here()
    with pytest.raises(error, match=words.replace("(", r"\(")):
        manyhands.shared_array(**arguments)
    gc.collect()
    assert arrays_here() == before


def test_without_numpy_it_says_what_to_install() -> None:
    script = """
import sys
sys.modules["numpy"] = None
import manyhands
assert "manyhands.arrays" not in sys.modules
try:
    manyhands.shared_array(3)
except ModuleNotFoundError as error:
    assert "pip install numpy" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_import_of_the_package_loads_neither_numpy_nor_this() -> None:
    script = """
import sys, manyhands, manyhands.pool
manyhands.Pool(1).terminate()
assert not {"numpy", "manyhands.arrays"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
