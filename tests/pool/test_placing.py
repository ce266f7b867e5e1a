"""Which worker a task goes to: never one that does not get to it, while another is idle."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import work

from scripts import until

pytestmark = pytest.mark.timeout(60)


def _one_is_slow(folder: str) -> None:
    """Whichever worker comes first is not ready before a file appears."""
    try:
        os.close(os.open(f"{folder}/slow", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    work.wait_for(f"{folder}/gate")


def test_no_task_waits_for_a_worker_that_is_not_ready(context: Any, tmp_path: Path) -> None:
    with context.Pool(2, _one_is_slow, (str(tmp_path),)) as pool:
        until((tmp_path / "slow").exists)
        assert pool.map(work.square, range(2), 1) == [0, 1]
        assert pool.map(work.square, range(100), 1) == [x * x for x in range(100)]
        assert pool.apply(work.square, (3,)) == 9
        (first,) = set(pool.map(work.pid, range(10), 1))
        (tmp_path / "gate").touch()
        until(lambda: set(pool.map(work.pid, range(100), 1)) - {first})


def test_tasks_given_before_any_worker_is_ready_wait_for_the_first_that_is(context: Any, tmp_path: Path) -> None:
    with context.Pool(2, _one_is_slow, (str(tmp_path),)) as pool:
        results = [pool.apply_async(work.square, (x,)) for x in range(10)]
        assert [result.get() for result in results] == [x * x for x in range(10)]
        (tmp_path / "gate").touch()


def test_no_task_waits_for_a_worker_that_was_stopped(pool: Any) -> None:
    pids = pool._crew.pids()
    until(lambda: set(pool.map(work.pid, range(50), 1)) == set(pids))
    for victim in pids:
        os.kill(victim, signal.SIGSTOP)
        try:
            assert set(pool.map(work.pid, range(20), 1)) == set(pids) - {victim}
            results = [pool.apply_async(work.pid) for _ in range(20)]
            assert {result.get() for result in results} == set(pids) - {victim}
        finally:
            os.kill(victim, signal.SIGCONT)
        until(lambda victim=victim: victim in pool.map(work.pid, range(50), 1))
