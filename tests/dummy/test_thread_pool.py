"""Pools of threads: the results of `Pool`, without processes; what is under way when a pool ends."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import manyhands
from manyhands.errors import BrokenPool, PoolTerminated, TaskExited
from manyhands.pool import Pool, ThreadPool


@pytest.fixture(params=[1, 4])
def pool(request: pytest.FixtureRequest) -> Iterator[ThreadPool]:
    """A pool of one thread, and of four."""
    with ThreadPool(request.param) as pool:
        yield pool
    pool.join()


def square(x: int) -> int:
    return x * x


def fail(x: Any) -> None:
    raise LookupError(x)


def test_a_thread_pool_is_a_pool(pool: ThreadPool) -> None:
    assert isinstance(pool, Pool)
    assert "state=RUN" in repr(pool)
    with pytest.raises(NotImplementedError):
        pool.__reduce__()


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_maps_keep_the_order(pool: ThreadPool, count: int, chunksize: int | None) -> None:
    expected = [square(x) for x in range(count)]
    assert pool.map(square, range(count), chunksize) == expected
    assert pool.map_async(square, iter(range(count)), chunksize).get() == expected
    assert pool.starmap(pow, [(x, 2) for x in range(count)], chunksize) == expected
    assert list(pool.imap(square, iter(range(count)), chunksize or 1)) == expected
    assert sorted(pool.imap_unordered(square, range(count), chunksize or 1)) == expected


def test_arguments_are_not_pickled(pool: ThreadPool) -> None:
    thing = threading.Lock()
    assert pool.apply(lambda x, y: (x, y), (thing,), {"y": 1}) == (thing, 1)


def test_an_exception_reaches_the_caller(pool: ThreadPool) -> None:
    with pytest.raises(LookupError, match="5"):
        pool.apply(fail, (5,))
    with pytest.raises(LookupError):
        pool.map(fail, range(10))
    result = pool.apply_async(fail, (6,))
    for _ in range(2):
        with pytest.raises(LookupError, match="6"):
            result.get()
    assert not result.successful()
    assert pool.apply(square, (3,)) == 9


def test_exit_in_a_call_ends_no_thread(pool: ThreadPool) -> None:
    for _ in range(5):
        with pytest.raises(TaskExited):
            pool.apply(sys.exit, (3,))
    assert pool.map(square, range(4)) == [0, 1, 4, 9]


def test_callbacks_run_before_the_result_is_ready(pool: ThreadPool) -> None:
    seen: list[Any] = []
    for _ in range(50):
        result = pool.apply_async(square, (3,), callback=seen.append)
        result.wait()
        assert seen.pop() == 9
    failed = pool.map_async(fail, [1], error_callback=seen.append)
    failed.wait()
    assert isinstance(seen.pop(), LookupError)


def test_a_callback_that_raises_harms_nobody(pool: ThreadPool, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: reported.append(info.exc_type))
    assert pool.apply_async(square, (3,), callback=fail).get() == 9
    assert reported == [LookupError]
    assert pool.apply(square, (2,)) == 4


def test_time_outs_are_the_packages_own(pool: ThreadPool) -> None:
    go = threading.Event()
    result = pool.apply_async(go.wait)
    with pytest.raises(manyhands.TimeoutError):
        result.get(0.01)
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    stream = pool.imap(go.wait, [None])
    with pytest.raises(manyhands.TimeoutError):
        stream.next(0.01)
    go.set()
    assert result.get() is True
    assert stream.next() is True
    with pytest.raises(StopIteration):
        stream.next()


def broken_input(good: int) -> Iterator[int]:
    yield from range(good)
    raise LookupError("input")


def test_input_that_fails_yields_what_came_before(pool: ThreadPool) -> None:
    stream = pool.imap(square, broken_input(7), 2)
    assert list(itertools.islice(stream, 6)) == [0, 1, 4, 9, 16, 25]
    with pytest.raises(LookupError):
        next(stream)
    with pytest.raises(LookupError):
        pool.map(square, broken_input(3))


def test_a_stream_may_feed_another_of_the_same_pool(pool: ThreadPool) -> None:
    assert list(pool.imap(square, pool.imap(square, range(300)))) == [x**4 for x in range(300)]


def test_endless_input_is_drawn_as_it_is_needed(pool: ThreadPool) -> None:
    go = threading.Event()
    drawn = itertools.count()

    def wait(_: int) -> None:
        go.wait()

    stream = pool.imap(wait, drawn)
    while not pool._crew._tasks.qsize():
        time.sleep(0.001)
    time.sleep(0.05)
    assert next(drawn) < 100
    go.set()
    next(stream)


def test_nothing_of_a_task_is_kept(pool: ThreadPool) -> None:
    class Thing:
        pass

    things = [Thing() for _ in range(10)]
    left = [weakref.ref(thing) for thing in things]
    pool.map(id, things)
    list(pool.imap(id, things))
    with pytest.raises(LookupError):
        pool.apply(fail, (things[0],))
    del things
    deadline = time.monotonic() + 10
    while any(ref() for ref in left) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert not any(ref() for ref in left)


def test_closing_lets_accepted_calls_finish() -> None:
    pool = ThreadPool(2)
    results = [pool.apply_async(square, (x,)) for x in range(100)]
    stream = pool.imap(square, range(1000))
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.apply(square, (1,))
    with pytest.raises(ValueError):
        pool.__enter__()
    pool.join()
    assert [result.get() for result in results] == [square(x) for x in range(100)]
    assert len(list(stream)) == 1000
    assert not any(thread.is_alive() for thread in pool._pool)


def test_terminating_ends_what_is_not_done() -> None:
    pool = ThreadPool(1)
    go = threading.Event()
    running = pool.apply_async(go.wait)
    waiting = pool.map_async(square, range(10_000))
    stream = pool.imap(square, itertools.count())
    pool.terminate()
    for result in (running, waiting):
        with pytest.raises(PoolTerminated):
            result.get(10)
    with pytest.raises(PoolTerminated):
        list(stream)
    go.set()
    pool.join()


def test_a_running_pool_cannot_be_joined(pool: ThreadPool) -> None:
    with pytest.raises(ValueError, match="still running"):
        pool.join()


def test_a_forgotten_pool_warns_and_ends() -> None:
    pool = ThreadPool(2)
    threads = list(pool._pool)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_an_initializer_runs_in_every_thread() -> None:
    ran: list[Any] = []
    with ThreadPool(3, lambda *args: ran.append((threading.current_thread(), args)), ("x",)) as pool:
        pool.map(square, range(3))
        while len(ran) < 3:
            time.sleep(0.001)
        assert {thread for thread, _ in ran} == set(pool._pool)


def test_a_pool_whose_threads_cannot_start_says_so() -> None:
    with ThreadPool(2, fail, ("no",)) as pool:
        with pytest.raises(BrokenPool) as raised:
            pool.map(square, range(10))
        assert "LookupError" in str(raised.value.__cause__)


@pytest.mark.parametrize("processes", [0, -1])
def test_a_pool_has_a_thread(processes: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ThreadPool(processes)
    with pytest.raises(TypeError):
        ThreadPool(1, 5)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_the_parents_threads() -> None:
    with ThreadPool(2) as pool:
        pid = os.fork()
        if not pid:
            try:
                pool.map(square, range(3))
            except RuntimeError:
                os._exit(7)
            os._exit(8)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
