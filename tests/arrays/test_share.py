"""`Pool.share`: one copy of an object for all workers and calls, for as long as somebody needs it."""

from __future__ import annotations

import functools
import gc
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import handlers
import pytest

import manyhands

numpy = pytest.importorskip("numpy", reason="numpy is not installed")

MIB = 1 << 20


def shared_here() -> int:
    """How many objects this process keeps for workers; what is garbage, perhaps another test's, is collected first."""
    gc.collect()
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += "memfd:manyhands shared object" in os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass
    return count


def shared_there(pids: list[int]) -> int:
    """How many mappings of such objects workers have."""
    return sum(Path(f"/proc/{pid}/maps").read_text().count("memfd:manyhands shared object") for pid in pids)


def until(fact: Callable[[], bool]) -> None:
    """Waits for a fact; the test's time limit ends a wait in vain."""
    while not fact():
        time.sleep(0.01)


def test_handle_is_the_object_in_every_kind_of_call(context: Any) -> None:
    array = numpy.arange(MIB)
    with context.Pool(2) as pool, pool.share({"array": array, "names": ["a", "b"]}) as shared:
        assert shared.nbytes > array.nbytes
        for value in (
            pool.apply(handlers.same, (shared,)),
            pool.map(handlers.same, [shared])[0],
            pool.apply(handlers.same, (), {"value": shared}),
            pool.starmap(handlers.first, [(shared, 1)])[0],
            pool.apply_async(handlers.same, (shared,)).get(),
            next(pool.imap(handlers.same, [shared])),
            pool.map(functools.partial(handlers.first, shared), [1])[0],
            pool.map(handlers.same, [[(1, shared)]] * 5)[4][0][1],
        ):
            assert value["names"] == ["a", "b"]
            assert numpy.array_equal(value["array"], array)


@pytest.mark.timeout(120)
def test_workers_have_one_copy_between_them(method: str) -> None:
    array = numpy.ones(16 * MIB)  # 128 MiB
    with manyhands.get_context(method).Pool(3) as pool:
        pool.map(functools.partial(handlers.touch_and_pss, numpy.ones(1)), range(6), chunksize=1)  # numpy is loaded
        before: dict[int, int] = {}
        until(lambda: before.update(pool.map(handlers.pss, range(6), chunksize=1)) or len(before) == 3)
        with pool.share(array) as shared:
            after: dict[int, int] = {}
            until(
                lambda: (
                    after.update(pool.starmap(handlers.touch_and_pss, [(shared, n) for n in range(6)], chunksize=1))
                    or len(after) == 3
                )
            )
            taken = sum(handlers.pss_of(pid) for pid in after) - sum(before.values())
        assert taken > 0.9 * array.nbytes  # they have read all of it,
        assert taken < 1.3 * array.nbytes  # and no three copies


def test_object_is_unpickled_once_in_each_worker(context: Any) -> None:
    with context.Pool(1) as pool, pool.share([handlers.Picky(), bytes(MIB)]) as shared:
        assert [pool.apply(handlers.times_unpickled, (shared, n)) for n in range(3)] == [1, 1, 1]
        assert pool.starmap(handlers.times_unpickled, [(shared, n) for n in range(5)]) == [1] * 5
        seen = pool.starmap(handlers.identity, [(shared, n) for n in range(5)])
        assert len(set(seen)) == 1


def test_arrays_can_only_be_read_and_lie_in_the_shared_memory(context: Any) -> None:
    with context.Pool(1) as pool, pool.share(numpy.zeros(MIB)) as shared:
        with pytest.raises(ValueError, match="read-only"):
            pool.apply(handlers.write, (shared, 0, 1.0))
        assert "manyhands shared object" in pool.apply(handlers.where, (shared,))
        here = shared.get()
        assert not here.flags.writeable
        assert "manyhands shared object" in handlers.where(here)


@pytest.mark.timeout(120)
def test_writes_to_a_shared_tensor_stay_with_their_worker() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = torch.ones(MIB)
    with manyhands.get_context("forkserver").Pool(1) as pool, pool.share(tensor) as shared:
        pool.apply(handlers.write, (shared, 0, 5.0))
        assert float(pool.apply(handlers.same, (shared,))[0]) == 5
        assert "manyhands shared object" in pool.apply(handlers.where, (shared,))
        assert float(shared.get()[0]) == float(tensor[0]) == 1


def test_what_a_call_changes_in_an_object_is_its_workers_alone() -> None:
    original = ["begin"]
    with manyhands.Pool(1) as pool, pool.share(original) as shared:
        assert pool.apply(handlers.append, (shared, 1)) == ["begin", 1]
        assert pool.apply(handlers.append, (shared, 2)) == ["begin", 1, 2]
        assert shared.get() == original == ["begin"]


@pytest.mark.parametrize("way", ["close", "with", "forgotten"])
def test_memory_is_given_back_also_by_workers_that_have_nothing_to_do(way: str, context: Any) -> None:
    before = shared_here()
    with context.Pool(2) as pool:
        pids = [process.pid for process in pool._pool]
        shared = pool.share(numpy.ones(MIB))
        assert shared_here() == before + 1
        until(
            lambda: pool.starmap(handlers.touch_and_pss, [(shared, n) for n in range(4)], 1) and shared_there(pids) == 2
        )
        if way == "close":
            shared.close()
        elif way == "with":
            with shared:
                pass
        else:
            del shared
            gc.collect()
        assert shared_here() == before
        until(lambda: shared_there(pids) == 0)  # without another call


def test_call_on_its_way_keeps_an_object_that_was_closed(tmp_path: Path, context: Any) -> None:
    before = shared_here()
    gate = str(tmp_path / "gate")
    with context.Pool(1) as pool:
        shared = pool.share(numpy.ones(MIB))
        results = [pool.apply_async(handlers.total_after, (gate, shared)) for _ in range(3)]
        mapped = pool.map_async(functools.partial(handlers.total_after, array=shared), [gate] * 3)
        shared.close()
        assert shared.closed
        Path(gate).touch()
        assert [result.get() for result in results] == [MIB] * 3
        assert mapped.get() == [MIB] * 3
        del results, mapped
        until(lambda: shared_here() == before)


def test_worker_in_a_dead_ones_place_has_the_object_too(context: Any) -> None:
    with context.Pool(1) as pool, pool.share(numpy.ones(MIB)) as shared:
        for _ in range(2):
            with pytest.raises(manyhands.WorkerDied):
                pool.apply(handlers.die, (shared,))
            assert pool.apply(handlers.same, (shared,)).sum() == MIB


def test_task_that_is_run_again_has_the_object_too(tmp_path: Path, context: Any) -> None:
    with context.Pool(1) as pool:
        shared = pool.share(numpy.ones(MIB))
        result = pool.apply_async(handlers.die_once, (str(tmp_path / "first"), shared), retries=1)
        shared.close()
        assert result.get() == MIB


def test_tasks_behind_one_that_died_have_the_object_too(tmp_path: Path) -> None:
    with manyhands.get_context("fork").Pool(1) as pool:
        shared = pool.share(numpy.ones(MIB))
        deadly = pool.apply_async(handlers.die, (shared,))
        later = [pool.apply_async(handlers.same, ([shared, n],)) for n in range(5)]
        shared.close()
        with pytest.raises(manyhands.WorkerDied):
            deadly.get()
        assert [(result.get()[0].sum(), result.get()[1]) for result in later] == [(MIB, n) for n in range(5)]


def test_executor_shares_too(context: Any) -> None:
    with manyhands.ProcessPoolExecutor(2, mp_context=context) as executor:
        with executor.share(numpy.ones(MIB)) as shared:
            assert executor.submit(handlers.same, shared).result().sum() == MIB
            assert [array.sum() for array in executor.map(handlers.same, [shared] * 4)] == [MIB] * 4
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.share([1])


def test_things_of_every_size_are_shared() -> None:
    values = [None, 5, "text", b"", bytes(MIB), bytearray(MIB), "x" * MIB, list(range(100_000)), {"a": {1, 2}}]
    arrays = [numpy.full(MIB // 4, n) for n in range(200)]
    with manyhands.get_context("fork").Pool(2) as pool:
        for value in values:
            with pool.share(value) as shared:
                back = pool.apply(handlers.same, (shared,))
                assert back == value
                assert type(back) is type(value)
        with pool.share(arrays) as shared:
            assert pool.apply(handlers.same, ([shared, 1],))[0][199][5] == 199


def test_several_objects_go_in_one_call(context: Any) -> None:
    with context.Pool(2) as pool:
        handles = [pool.share(numpy.full(MIB, n)) for n in range(5)]
        assert [array[0] for array in pool.apply(handlers.same, (handles,))] == [0, 1, 2, 3, 4]
        for handle in handles:
            handle.close()


def test_handle_is_a_generic_type_and_says_what_it_is() -> None:
    assert str(manyhands.Shared[int]) == "manyhands.Shared[int]"
    with manyhands.Pool(1) as pool, pool.share([1]) as shared:
        assert type(shared) is manyhands.Shared
        assert f"{shared.nbytes} bytes" in repr(shared)


def test_threads_share_at_once() -> None:
    with manyhands.get_context("fork").Pool(2) as pool:
        wrong: list[object] = []

        def work(number: int) -> None:
            for _ in range(10):
                with pool.share(numpy.full(1 << 17, number)) as shared:
                    got = pool.apply(handlers.same, (shared,))
                    if int(got[0]) != number:
                        wrong.append(got)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_map_that_has_not_drawn_its_items_needs_the_handle_still() -> None:
    gate = threading.Event()
    with manyhands.get_context("fork").Pool(1) as pool:
        shared = pool.share([1])

        def items() -> Iterator[Any]:
            yield shared
            gate.wait()
            yield shared

        drawn = pool.imap(handlers.same, items())
        assert next(drawn) == [1]
        shared.close()
        gate.set()
        with pytest.raises(ValueError, match="closed"):
            next(drawn)


# ---- bad input ----


def test_handle_that_was_closed_says_so() -> None:
    with manyhands.Pool(1) as pool:
        shared = pool.share([1])
        shared.close()
        shared.close()
        assert "closed" in repr(shared)
        for use in (lambda: pool.apply(handlers.same, (shared,)), shared.get):
            with pytest.raises(ValueError, match="closed: share the object again"):
                use()


def test_handle_of_a_pool_that_has_ended_says_so() -> None:
    with manyhands.Pool(1) as pool:
        shared = pool.share([1])
    pool.join()
    assert "ended" in repr(shared)
    with pytest.raises(ValueError, match="the pool of this shared object has ended"):
        shared.get()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.share([1])
    with manyhands.Pool(1) as other, pytest.raises(ValueError, match="has ended"):
        other.apply(handlers.same, (shared,))


def test_handle_of_another_pool_is_refused_and_both_pools_stay_usable() -> None:
    with manyhands.Pool(1) as pool, manyhands.Pool(1) as other:
        shared = pool.share([1])
        for call in (
            lambda: other.apply(handlers.same, (shared,)),
            lambda: other.map(handlers.same, [1, shared]),
            lambda: other.map(functools.partial(handlers.first, shared), [1]),
        ):
            with pytest.raises(ValueError, match="belongs to another pool"):
                call()
        assert other.apply(handlers.same, (1,)) == 1
        assert pool.apply(handlers.same, (shared,)) == [1]


def test_handle_is_pickled_in_calls_alone() -> None:
    queue = manyhands.SimpleQueue()
    with manyhands.Pool(1) as pool, pool.share([1]) as shared:
        for use in (pickle.dumps, queue.put):
            with pytest.raises(TypeError, match="in the calls of its pool alone"):
                use(shared)
        with pytest.raises(TypeError, match="in the calls of its pool alone"):
            pool.share([shared])
        process = manyhands.get_context("spawn").Process(target=handlers.same, args=(shared,))
        with pytest.raises(TypeError, match="in the calls of its pool alone"):
            process.start()
    queue.close()


def test_handle_is_no_result() -> None:
    with manyhands.Pool(1) as pool, pytest.raises(manyhands.pool.MaybeEncodingError, match="calls of its pool alone"):
        pool.apply(handlers.share_in_worker, (1,))


def test_forked_child_cannot_send_a_handle() -> None:
    context = manyhands.get_context("fork")
    queue = context.SimpleQueue()
    with context.Pool(1) as pool, pool.share([1]) as shared:
        child = context.Process(target=handlers.try_to_send, args=(shared, queue))
        child.start()
        assert "belongs to the process that shared it" in queue.get()
        child.join()
        assert pool.apply(handlers.same, (shared,)) == [1]
    queue.close()


def test_what_cannot_be_pickled_raises_at_once_and_leaves_nothing() -> None:
    before = shared_here()
    with manyhands.Pool(1) as pool:
        with pytest.raises(TypeError, match="lock"):
            pool.share([numpy.ones(MIB), threading.Lock()])
        assert shared_here() <= before
        assert pool.apply(handlers.same, (1,)) == 1


def test_what_cannot_be_unpickled_raises_in_each_call() -> None:
    with manyhands.Pool(1) as pool, pool.share(handlers.Picky(refuse=True)) as shared:
        for _ in range(2):
            with pytest.raises(LookupError, match="refused"):
                pool.apply(handlers.same, (shared,))
        assert pool.apply(handlers.same, (1,)) == 1


def test_threads_need_no_sharing() -> None:
    with manyhands.pool.ThreadPool(1) as pool, pytest.raises(ValueError, match="pass the object itself"):
        pool.share([1])


def test_shortage_of_descriptors_is_told() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with manyhands.Pool(1) as pool:
        pool.apply(handlers.same, (1,))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(OSError, match="ulimit -n"):
                pool.share(numpy.ones(MIB))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with pool.share(numpy.ones(MIB)) as shared:
            assert pool.apply(handlers.same, (shared,)).sum() == MIB
