"""Calls that are not wanted any more."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import limited
import pytest

from scripts import until


def test_a_queued_call_is_cancelled_and_a_running_one_is_not(context: Any, tmp_path: Path) -> None:
    with context.Pool(1) as pool:
        here = tmp_path / "here"
        running = pool.apply_async(limited.announce_and_sleep, (str(here), 1.5))
        until(here.exists)
        queued = pool.apply_async(limited.square, (2,))
        behind = pool.apply_async(limited.square, (3,))
        assert queued.cancel() is True
        assert queued.ready()
        assert not queued.successful()
        with pytest.raises(CancelledError):
            queued.get(0)
        assert queued.cancel() is False
        assert running.cancel() is False
        assert running.get(30) is None
        assert behind.get(30) == 9
        assert behind.cancel() is False


def test_a_running_call_is_cancelled_by_force(context: Any, tmp_path: Path) -> None:
    with context.Pool(1) as pool:
        here = tmp_path / "here"
        running = pool.apply_async(limited.announce_and_sleep, (str(here), 60))
        until(lambda: here.exists() and here.read_text())
        behind = [pool.apply_async(limited.square, (x,)) for x in range(20)]
        assert running.cancel(force=True) is True
        with pytest.raises(CancelledError):
            running.get(30)
        assert [result.get(30) for result in behind] == [x * x for x in range(20)]
        assert int(here.read_text()) not in pool._crew.pids()


def test_force_takes_no_retry_and_no_restart(context: Any, tmp_path: Path) -> None:
    with context.Pool(1, retries=5, max_restarts=0) as pool:
        here = tmp_path / "here"
        running = pool.apply_async(limited.announce_and_sleep, (str(here), 60))
        until(lambda: here.exists() and here.read_text())
        assert running.cancel(force=True)
        with pytest.raises(CancelledError):
            running.get(30)
        assert pool.apply(limited.square, (3,)) == 9


def test_a_callback_hears_of_it(context: Any, tmp_path: Path) -> None:
    with context.Pool(1) as pool:
        here = tmp_path / "here"
        running = pool.apply_async(limited.announce_and_sleep, (str(here), 1))
        until(here.exists)
        heard: list[BaseException] = []
        queued = pool.apply_async(limited.square, (2,), error_callback=heard.append)
        assert queued.cancel()
        until(lambda: heard)
        assert isinstance(heard[0], CancelledError)
        running.get(30)


def test_a_map_is_cancelled_and_draws_no_more(context: Any) -> None:
    drawn = []

    def endless() -> Iterator[float]:
        for number in itertools.count():
            drawn.append(number)
            yield 0.05

    with context.Pool(2) as pool:
        results = pool.imap(limited.sleep, endless())
        assert next(results) == 0.05
        assert results.cancel()
        with pytest.raises((CancelledError, StopIteration)):
            while True:
                next(results)
        count = len(drawn)
        time.sleep(0.3)
        assert len(drawn) == count
        assert pool.apply(limited.square, (3,)) == 9


@pytest.mark.parametrize("force", [False, True])
def test_a_map_that_is_cancelled_ends(context: Any, force: bool) -> None:
    with context.Pool(2) as pool:
        result = pool.map_async(limited.sleep, [0.5] * 200, 1)
        until(lambda: result._handle.has_begun())
        assert result.cancel(force)
        began = time.monotonic()
        with pytest.raises(CancelledError):
            result.get(30)
        assert time.monotonic() - began < 10
        assert pool.map(limited.square, range(50)) == [x * x for x in range(50)]


def test_cancelling_races_with_the_end_of_calls(context: Any) -> None:
    """Whatever cancel() says is what get() does."""
    with context.Pool(2) as pool:
        for force in [False, True] * 60:
            result = pool.apply_async(limited.sleep, (0.001,))
            time.sleep(0.0007)
            others = [pool.apply_async(limited.square, (x,)) for x in range(4)]
            if result.cancel(force):
                with pytest.raises(CancelledError):
                    result.get(30)
            else:
                assert result.get(30) == 0.001
            assert [other.get(30) for other in others] == [0, 1, 4, 9]


def test_threads_can_cancel_what_is_queued() -> None:
    from manyhands.pool import ThreadPool

    with ThreadPool(1) as pool:
        running = pool.apply_async(limited.sleep, (0.5,))
        until(lambda: running._handle._begun)
        queued = pool.apply_async(limited.square, (2,))
        assert queued.cancel()
        with pytest.raises(CancelledError):
            queued.get(0)
        assert not running.cancel()
        with pytest.raises(ValueError, match="a thread cannot be killed"):
            running.cancel(force=True)
        assert running.get(30) == 0.5
        assert pool.apply(limited.square, (3,)) == 9
