"""Results and futures as arguments of calls."""

from __future__ import annotations

import concurrent.futures
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
import work

import manyhands


def test_a_result_as_an_argument_stands_for_its_value(pool: Any) -> None:
    first = pool.apply_async(work.square, (2,))
    second = pool.apply_async(work.square, (3,))
    both = pool.apply_async(work.total, (first, second, 5), {"more": first})
    assert both.get(30) == ((4, 9, 5), {"more": 4})
    assert pool.apply(work.total, (both,)) == ((((4, 9, 5), {"more": 4}),), {})
    assert pool.apply_async(sum, (pool.map_async(work.square, range(10)),)).get(30) == 285


def test_a_long_chain_and_a_wide_fan_are_run(pool: Any) -> None:
    last = pool.apply_async(work.same, (0,))
    for _ in range(300):
        last = pool.apply_async(work.add_one, (last,))
    assert last.get(30) == 300
    parts = [pool.apply_async(work.square, (n,)) for n in range(200)]
    assert pool.apply_async(work.total, tuple(parts)).get(30)[0] == tuple(n * n for n in range(200))


def test_one_worker_is_enough_for_a_graph(context: Any) -> None:
    """A call that waits takes no worker."""
    with context.Pool(1) as pool:
        last = pool.apply_async(work.sleepy_same, (0.1, 1))
        waiting = [pool.apply_async(work.add_one, (last,)) for _ in range(20)]
        assert [call.get(30) for call in waiting] == [2] * 20


def test_a_failure_is_passed_on_and_the_call_is_not_run(pool: Any, tmp_path: Path) -> None:
    failing = pool.apply_async(work.fail, (7,))
    heard: list[BaseException] = []
    note = tmp_path / "note"
    call = pool.apply_async(work.note, (str(note), failing), error_callback=heard.append)
    with pytest.raises(ValueError, match="no 7"):
        call.get(30)
    assert [str(error) for error in heard] == ["no 7"]
    assert not note.exists()
    died = pool.apply_async(work.add_one, (pool.apply_async(work.killed),))
    with pytest.raises(manyhands.WorkerDied):
        died.get(30)


def test_futures_of_any_kind_and_other_pools_are_waited_for(context: Any) -> None:
    with context.Pool(1) as pool, context.Pool(1) as other, manyhands.ProcessPoolExecutor(1, context) as ours:
        plain: concurrent.futures.Future[int] = concurrent.futures.Future()
        call = pool.apply_async(work.total, (plain, other.apply_async(work.square, (3,)), ours.submit(work.square, 4)))
        assert not call.ready()
        plain.set_result(1)
        assert call.get(30) == ((1, 9, 16), {})
        failing: concurrent.futures.Future[int] = concurrent.futures.Future()
        failing.set_exception(LookupError("gone"))
        with pytest.raises(LookupError, match="gone"):
            pool.apply(work.same, (failing,))


def test_a_call_that_waits_is_cancelled(pool: Any) -> None:
    never: concurrent.futures.Future[int] = concurrent.futures.Future()
    call = pool.apply_async(work.same, (never,))
    assert call.cancel() is True
    assert call.ready()
    with pytest.raises(CancelledError):
        call.get(0)
    never.set_result(1)
    assert call.cancel() is False
    source = pool.apply_async(work.sleepy_same, (0.5, 1))
    behind = pool.apply_async(work.same, (source,))
    assert source.cancel(force=True)
    with pytest.raises(CancelledError):
        behind.get(30)


def test_a_closed_pool_runs_the_calls_that_wait(context: Any) -> None:
    plain: concurrent.futures.Future[int] = concurrent.futures.Future()
    with context.Pool(1) as pool:
        call = pool.apply_async(work.add_one, (plain,))
        behind = pool.apply_async(work.add_one, (call,))
        pool.close()
        with pytest.raises(ValueError, match="not running"):
            pool.apply_async(work.add_one, (plain,))
        plain.set_result(1)
        pool.join()
        assert (call.get(0), behind.get(0)) == (2, 3)


def test_a_terminated_pool_gives_up_the_calls_that_wait(context: Any) -> None:
    never: concurrent.futures.Future[int] = concurrent.futures.Future()
    with context.Pool(1) as pool:
        call = pool.apply_async(work.add_one, (never,))
        behind = pool.apply_async(work.add_one, (call,))
        pool.terminate()
        for lost in (call, behind):
            with pytest.raises(manyhands.PoolTerminated):
                lost.get(30)
        never.set_result(1)
    pool.join()


def test_a_result_inside_of_an_object_is_refused_with_advice(pool: Any) -> None:
    first = pool.apply_async(work.square, (2,))
    with pytest.raises(TypeError, match="give it as an argument of a call of its own"):
        pool.apply(work.same, ([first],))
    assert pool.apply(work.same, ([first.get(30)],)) == [4]


def test_threads_have_graphs_too() -> None:
    with manyhands.pool.ThreadPool(2) as pool:
        first = pool.apply_async(work.sleepy_same, (0.05, 2))
        second = pool.apply_async(work.add_one, (first,))
        assert second.get(30) == 3
        never: concurrent.futures.Future[int] = concurrent.futures.Future()
        call = pool.apply_async(work.same, (never,))
        assert call.cancel()
        with pytest.raises(CancelledError):
            call.get(30)
        never.set_result(1)
        late = pool.apply_async(work.same, (pool.apply_async(work.sleepy_same, (0.1, 5)),))
        pool.close()
        pool.join()
        assert late.get(0) == 5
