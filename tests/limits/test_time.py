"""Calls that take too long: asked to end, then killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import limited
import pytest

from manyhands import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerDied
from scripts import until


@pytest.mark.parametrize("function", [limited.sleep, limited.spin])
def test_a_call_is_asked_to_end_and_its_worker_lives(context: Any, function: Any) -> None:
    with context.Pool(1, task_timeout=0.3, task_grace=20) as pool:
        before = pool._crew.pids()
        with pytest.raises(SoftTimeLimitExceeded, match=r"longer than its task_timeout of 0\.3 s"):
            pool.apply(function, (30,))
        assert pool.apply(limited.square, (3,)) == 9
        assert pool._crew.pids() == before


def test_a_call_may_clean_up(context: Any) -> None:
    with context.Pool(1, task_timeout=0.3, task_grace=20) as pool:
        assert pool.apply(limited.be_polite, (30,)) == "cleaned up"


def test_a_call_that_does_not_listen_is_ended(context: Any) -> None:
    with context.Pool(1, task_timeout=0.3, task_grace=0.3) as pool:
        before = pool._crew.pids()
        words = (
            r"was killed by SIGKILL because the task took longer than its task_timeout while it ran task 0 of be_deaf"
        )
        with pytest.raises(TimeLimitExceeded, match=words) as caught:
            pool.apply(limited.be_deaf, (60,))
        assert (caught.value.signal_name, caught.value.pid) == ("SIGKILL", before[0])
        assert isinstance(caught.value, WorkerDied)
        assert pool.apply(limited.square, (3,)) == 9
        assert pool._crew.pids() != before


def test_without_grace_nobody_is_asked(context: Any) -> None:
    with context.Pool(1, task_timeout=0.3, task_grace=0) as pool, pytest.raises(TimeLimitExceeded):
        pool.apply(limited.be_polite, (60,))


def test_a_worker_that_is_stopped_is_ended(context: Any) -> None:
    with context.Pool(1, task_timeout=0.3, task_grace=0.3) as pool:
        with pytest.raises(TimeLimitExceeded):
            pool.apply(limited.stop_self)
        assert pool.apply(limited.square, (3,)) == 9


def test_each_item_of_a_chunk_has_its_own_time(context: Any) -> None:
    with context.Pool(1, task_timeout=2, task_grace=0) as pool:
        assert pool.map(limited.sleep, [0.4] * 8, 8) == [0.4] * 8
        assert pool.starmap(limited.sleep, [(0.01,)] * 8, 4) == [0.01] * 8
        with pytest.raises(TimeLimitExceeded):
            pool.map(limited.sleep, [0.01, 60, 0.01], 3)


def test_calls_in_time_are_left_alone(context: Any) -> None:
    """Neither now nor later: the limit of one call is not that of the next."""
    with context.Pool(2, task_timeout=0.5, task_grace=0.2) as pool:
        assert pool.map(limited.square, range(5_000), 1) == [x * x for x in range(5_000)]
        assert list(pool.imap(limited.sleep, [0.2] * 8)) == [0.2] * 8


def test_a_call_has_a_limit_of_its_own(context: Any) -> None:
    with context.Pool(1) as pool:
        with pytest.raises(SoftTimeLimitExceeded):
            pool.apply(limited.sleep, (30,), task_timeout=0.2)
        assert pool.apply_async(limited.be_polite, (30,), task_timeout=0.2).get(30) == "cleaned up"
        assert list(pool.imap(limited.be_polite, [0, 30], task_timeout=0.3)) == ["done", "cleaned up"]
        assert pool.apply(limited.sleep, (0.4,)) == 0.4
    with context.Pool(1, task_timeout=0.2) as pool:
        assert pool.apply(limited.sleep, (0.6,), task_timeout=30) == 0.6
        assert pool.apply(limited.sleep, (0.6,), task_timeout=float("inf")) == 0.6


def test_tasks_behind_one_that_took_too_long_are_run(context: Any) -> None:
    with context.Pool(1, task_timeout=0.4, task_grace=0) as pool:
        late = pool.apply_async(limited.sleep, (60,))
        behind = [pool.apply_async(limited.square, (x,)) for x in range(30)]
        with pytest.raises(TimeLimitExceeded):
            late.get(30)
        assert [result.get(30) for result in behind] == [x * x for x in range(30)]


def test_another_death_is_not_called_one_by_time(context: Any, tmp_path: Path) -> None:
    with context.Pool(1, task_timeout=60) as pool:
        here = tmp_path / "here"
        result = pool.apply_async(limited.announce_and_sleep, (str(here), 60))
        until(lambda: here.exists() and here.read_text())
        os.kill(int(here.read_text()), signal.SIGKILL)
        with pytest.raises(WorkerDied) as caught:
            result.get(30)
        assert not isinstance(caught.value, TimeLimitExceeded)


def test_a_child_that_a_limited_task_forks_is_not_limited(context: Any) -> None:
    """It comes back from the task, has no timers, and must not touch the worker's."""
    with context.Pool(1, task_timeout=20, task_grace=5) as pool:
        assert pool.apply(limited.fork_and_come_back, (0.1,)) == 0
        assert pool.apply(limited.square, (3,)) == 9


def test_processor_time_is_limited_for_each_call(context: Any) -> None:
    with context.Pool(1, cpu_time=1) as pool:
        # More in all, and less each: process_time counts from the worker's beginning.
        for upto in (0.6, 1.2, 1.8):
            assert pool.apply(limited.burn, (upto,)) == "done"
        assert pool.apply(limited.sleep, (1.5,)) == 1.5
        with pytest.raises(WorkerDied, match="SIGXCPU because it used up its processor time") as caught:
            pool.apply(limited.burn, (60,))
        assert caught.value.signal_name == "SIGXCPU"
        assert pool.apply(limited.square, (3,)) == 9


def test_the_thread_pool_has_no_limits() -> None:
    from manyhands.pool import ThreadPool

    with ThreadPool(1) as pool:
        with pytest.raises(ValueError, match="threads cannot be killed"):
            pool.apply(limited.square, (1,), task_timeout=1)
        with pytest.raises(TypeError):
            ThreadPool(1, task_timeout=1)  # type: ignore[call-arg]


def test_a_limit_costs_nothing_that_is_left_behind(context: Any) -> None:
    with context.Pool(1, task_timeout=60, cpu_time=60) as pool:
        before = len(os.listdir(f"/proc/{pool.apply(os.getpid)}/fd"))
        pool.map(limited.square, range(2_000), 1)
        assert len(os.listdir(f"/proc/{pool.apply(os.getpid)}/fd")) == before
