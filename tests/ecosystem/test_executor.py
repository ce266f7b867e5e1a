"""The standard library's ProcessPoolExecutor on our contexts."""

from __future__ import annotations

import multiprocessing.context
import os
from concurrent.futures import ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import chores
import pytest


def test_context_counts_as_a_context_of_the_standard_librarys(context: Any) -> None:
    assert isinstance(context, multiprocessing.context.BaseContext)


def test_executor_runs_calls_in_our_processes(context: Any) -> None:
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        assert list(executor.map(chores.square, range(20), chunksize=3)) == [x * x for x in range(20)]
        done, _ = wait([executor.submit(chores.pid) for _ in range(4)])
        assert os.getpid() not in {future.result() for future in done}
        for process in executor._processes.values():
            assert type(process) is context.Process


def test_exception_of_a_call_comes_back_with_its_traceback(context: Any) -> None:
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        future = executor.submit(chores.fail, "luck")
        with pytest.raises(LookupError, match="no luck") as caught:
            future.result()
    assert "chores.py" in str(caught.value.__cause__)


def test_death_of_a_worker_breaks_the_executor_and_leaves_nobody_waiting(context: Any) -> None:
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        futures = [executor.submit(chores.pause_and_pid, 0.01) for _ in range(3)] + [executor.submit(chores.die)]
        assert isinstance(futures[-1].exception(), BrokenProcessPool)
        assert len(list(as_completed(futures))) == 4
        with pytest.raises(BrokenProcessPool):
            executor.submit(chores.square, 2)


def test_initializer_runs_in_each_worker(context: Any) -> None:
    with ProcessPoolExecutor(1, mp_context=context, initializer=chores.keep, initargs=("a", 1)) as executor:
        assert executor.submit(chores.get_kept).result() == ["a", 1]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_worker_is_replaced_after_its_tasks(method: str) -> None:
    import manyhands

    context: Any = manyhands.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=2) as executor:
        pids = [executor.submit(chores.pid).result() for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_our_lock_and_queue_reach_the_executors_workers(context: Any) -> None:
    lock, queue = context.Lock(), context.SimpleQueue()
    with ProcessPoolExecutor(1, mp_context=context, initializer=chores.keep, initargs=(lock, queue)) as executor:
        executor.submit(chores.square, 2).result()
        with lock:
            executor.submit(chores.put_under_lock, "late")
            assert queue.empty()
        assert queue.get() == "late"
    queue.close()
