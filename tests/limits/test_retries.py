"""Tasks that are run again when their worker died, and pools that give up."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import limited
import pytest

from manyhands import BrokenPool, TimeLimitExceeded, WorkerDied


def fresh(folder: Path, name: str) -> str:
    (folder / name).mkdir()
    return str(folder / name)


def test_a_task_whose_worker_died_is_run_again(context: Any, tmp_path: Path) -> None:
    with context.Pool(2, retries=2) as pool:
        folder = fresh(tmp_path, "twice")
        assert pool.apply(limited.die_until, (folder, 2)) == "done"
        assert len(os.listdir(folder)) == 3


def test_a_task_that_dies_once_too_often_is_lost(context: Any, tmp_path: Path) -> None:
    with context.Pool(2, retries=2) as pool:
        folder = fresh(tmp_path, "thrice")
        with pytest.raises(WorkerDied):
            pool.apply(limited.die_until, (folder, 3))
        assert len(os.listdir(folder)) == 3
        assert pool.apply(limited.square, (3,)) == 9


def test_without_retries_nothing_is_run_twice(context: Any, tmp_path: Path) -> None:
    with context.Pool(2) as pool:
        folder = fresh(tmp_path, "once")
        with pytest.raises(WorkerDied):
            pool.apply(limited.die_until, (folder, 1))
        assert len(os.listdir(folder)) == 1


def test_a_call_has_retries_of_its_own(context: Any, tmp_path: Path) -> None:
    with context.Pool(2, retries=5) as pool:
        with pytest.raises(WorkerDied):
            pool.apply(limited.die_until, (fresh(tmp_path, "none"), 1), retries=0)
    with context.Pool(2) as pool:
        assert pool.apply(limited.die_until, (fresh(tmp_path, "apply"), 1), retries=1) == "done"
        result = pool.apply_async(limited.die_until, (fresh(tmp_path, "async"), 1), retries=1)
        assert result.get(30) == "done"
        tasks = [(fresh(tmp_path, f"map{n}"), n % 2, n) for n in range(6)]
        assert pool.starmap(limited.die_until, tasks, 1, retries=1) == list(range(6))


def test_large_arguments_are_run_again_as_they_were(context: Any, tmp_path: Path) -> None:
    """Whatever the first worker did to them, and however they had been sent."""
    numpy = pytest.importorskip("numpy")
    with context.Pool(1, retries=1) as pool:
        for size in (10, 100_000, 5_000_000):
            array = numpy.ones(size)
            assert pool.apply(limited.spoil_and_die, (array, fresh(tmp_path, str(size)))) == size
            assert array.sum() == size


def test_every_item_of_a_map_is_right_though_workers_are_killed_all_the_time(context: Any) -> None:
    with context.Pool(3, retries=1000) as pool:
        result = pool.map_async(limited.square_slowly, range(3_000), 10)
        kills = 0
        while not result.ready():
            # A new one first has to import what it is to run: give it the time.
            result.wait(0.1)
            for pid in pool._crew.pids()[:1]:
                try:
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
                except ProcessLookupError:
                    pass
        assert result.get() == [x * x for x in range(3_000)]
        assert kills > 0


def test_queued_tasks_are_no_retries(context: Any, tmp_path: Path) -> None:
    """What was behind the killed task loses none of its tries."""
    with context.Pool(1, retries=1) as pool:
        first = pool.apply_async(limited.die_until, (fresh(tmp_path, "first"), 1))
        second = pool.apply_async(limited.die_until, (fresh(tmp_path, "second"), 1))
        assert [first.get(30), second.get(30)] == ["done", "done"]


def test_a_pool_whose_workers_die_too_often_gives_up(context: Any) -> None:
    with context.Pool(2, max_restarts=3, max_seconds=60) as pool:
        died = 0
        with pytest.raises(BrokenPool, match=r"more workers died than it may replace \(3 in 60 s\)"):
            for _ in range(10):
                try:
                    pool.apply(limited.kill_self)
                except WorkerDied:
                    died += 1
        assert died in (3, 4)  # the last death is that of its task, and the end of the pool
        with pytest.raises(BrokenPool):
            pool.apply(limited.square, (1,))
    pool.join()


def test_everything_that_waits_learns_that_the_pool_gave_up(context: Any, tmp_path: Path) -> None:
    with context.Pool(1, max_restarts=0) as pool:
        dying = pool.apply_async(limited.kill_self)
        waiting = [pool.apply_async(limited.square, (x,)) for x in range(20)]
        with pytest.raises((WorkerDied, BrokenPool)):
            dying.get(30)
        for result in waiting:
            with pytest.raises(BrokenPool):
                result.get(30)


def test_deaths_that_are_far_apart_are_borne(context: Any) -> None:
    with context.Pool(1, max_restarts=1, max_seconds=0.2) as pool:
        for _ in range(4):
            with pytest.raises(WorkerDied):
                pool.apply(limited.kill_self)
            time.sleep(0.3)
        assert pool.apply(limited.square, (2,)) == 4


def test_an_orderly_end_is_no_death(context: Any) -> None:
    with context.Pool(2, maxtasksperchild=1, max_restarts=0) as pool:
        assert pool.map(limited.square, range(12), 1) == [x * x for x in range(12)]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"retries": -1}, ValueError, "retries must be 0 or more"),
        ({"retries": 1.5}, TypeError, "float"),
        ({"task_timeout": 0}, ValueError, "task_timeout must be more than 0"),
        ({"task_timeout": -1}, ValueError, "task_timeout must be 0 seconds or more"),
        ({"task_timeout": float("nan")}, ValueError, "task_timeout"),
        ({"task_timeout": "1"}, TypeError, "task_timeout must be a number of seconds, not str"),
        ({"task_timeout": 1, "task_grace": -1}, ValueError, "task_grace"),
        ({"max_memory": 0}, ValueError, "max_memory"),
        ({"max_memory": "1G"}, TypeError, "str"),
        ({"cpu_time": 0}, ValueError, "cpu_time"),
        ({"max_memory": 1 << 63}, ValueError, "max_memory"),
        ({"cpu_time": 1e-10}, ValueError, "cpu_time"),
        ({"cpu_time": 1e20}, ValueError, "cpu_time"),
        ({"max_restarts": 1, "max_seconds": 0}, ValueError, "max_seconds must be more than 0"),
        ({"max_restarts": -1}, ValueError, "max_restarts"),
        ({"max_restarts": 1, "max_seconds": -1}, ValueError, "max_seconds"),
    ],
)
def test_bad_options_are_refused_before_a_worker_starts(
    context: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        context.Pool(1, **options)


def test_bad_options_of_a_call_are_refused(context: Any) -> None:
    with context.Pool(1) as pool:
        with pytest.raises(ValueError, match="retries"):
            pool.apply(limited.square, (1,), retries=-1)
        with pytest.raises(TypeError, match="task_timeout"):
            pool.map(limited.square, [1], task_timeout="soon")
        assert pool.apply(limited.square, (2,)) == 4


def test_a_death_by_time_is_not_run_again(context: Any, tmp_path: Path) -> None:
    with context.Pool(1, retries=3, task_timeout=0.2, task_grace=0) as pool:
        began = time.monotonic()
        with pytest.raises(TimeLimitExceeded):
            pool.apply(limited.sleep, (30,))
        assert time.monotonic() - began < 15


def test_a_death_is_a_broken_pool_for_programs_that_know_executors(context: Any) -> None:
    from concurrent.futures.process import BrokenProcessPool

    with context.Pool(1) as pool:
        with pytest.raises(BrokenProcessPool) as caught:
            pool.apply(limited.kill_self)
        assert isinstance(caught.value, WorkerDied)
        assert type(caught.value).__name__ == "WorkerDied"
        again = pickle.loads(pickle.dumps(caught.value))
        assert type(again) is WorkerDied
        assert (str(again), again.pid, again.exitcode) == (str(caught.value), caught.value.pid, -9)
