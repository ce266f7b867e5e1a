"""Futures in the hands of others: `wait`, `as_completed`, callbacks, asyncio; and their cancelling."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import time
import weakref
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import deeds
import pytest

import manyhands


def test_as_completed_gives_each_once(executor: Any) -> None:
    futures = [executor.submit(deeds.square, x) for x in range(100)]
    futures[7].result()  # one is done before anybody looks
    assert sorted(f.result() for f in concurrent.futures.as_completed(futures)) == [x * x for x in range(100)]


def test_wait_knows_done_from_not_done(executor: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    slow, fast = executor.submit(deeds.wait_for, str(go)), executor.submit(deeds.square, 3)
    done, pending = concurrent.futures.wait([slow, fast], return_when="FIRST_COMPLETED")
    assert (done, pending) == ({fast}, {slow})
    go.touch()
    assert concurrent.futures.wait([slow, fast]).not_done == set()
    bad = executor.submit(deeds.fail, "x")
    assert concurrent.futures.wait([bad, slow], return_when="FIRST_EXCEPTION").done >= {bad}


def test_callbacks_are_called_once_and_in_order(executor: Any) -> None:
    called: list[Any] = []
    ready = threading.Event()
    future = executor.submit(deeds.square, 3)
    future.add_done_callback(called.append)
    future.add_done_callback(lambda _: 1 / 0)  # is logged, and stops nobody
    future.add_done_callback(lambda future: called.append(future.result()) or ready.set())
    assert future.result() == 9
    ready.wait()
    assert called == [future, 9]
    future.add_done_callback(called.append)  # at once
    assert called == [future, 9, future]


def test_a_callback_is_called_though_nobody_waits_or_keeps_the_future(executor: Any) -> None:
    heard = threading.Event()
    executor.submit(deeds.square, 3).add_done_callback(lambda _: heard.set())
    heard.wait()


def test_a_callback_may_use_the_executor(executor: Any) -> None:
    answers: list[int] = []
    heard = threading.Event()

    def go_on(future: Any) -> None:
        answers.append(executor.submit(deeds.square, future.result()).result())
        heard.set()

    executor.submit(deeds.square, 3).add_done_callback(go_on)
    heard.wait()
    assert answers == [81]


def test_asyncio_awaits_calls(executor: Any) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, deeds.square, x) for x in range(50)]
        with pytest.raises(ValueError, match="on purpose"):
            await loop.run_in_executor(executor, deeds.fail, "on purpose")
        wrapped = asyncio.wrap_future(executor.submit(deeds.square, 50))
        return [*await asyncio.gather(*calls), await wrapped]

    assert asyncio.run(main()) == [x * x for x in range(51)]


def test_asyncio_cancels_what_is_queued(context: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"

    async def main(executor: Any) -> None:
        loop = asyncio.get_running_loop()
        first = loop.run_in_executor(executor, deeds.wait_for, str(go))
        queued = [executor.submit(deeds.square, x) for x in range(5)]
        wrapped = [asyncio.wrap_future(future) for future in queued]
        for one in wrapped:
            one.cancel()
        await asyncio.sleep(0)
        go.touch()
        await first
        assert all(future.cancelled() for future in queued)

    with manyhands.ProcessPoolExecutor(1, context) as executor:
        executor.submit(deeds.square, 1).result()
        asyncio.run(main(executor))


def test_many_threads_may_wait_for_one_future(executor: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    future = executor.submit(deeds.wait_for, str(go))
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(future.result())) for _ in range(4)]
    threads.append(threading.Thread(target=lambda: answers.append(len(concurrent.futures.wait([future]).done))))
    for thread in threads:
        thread.start()
    go.touch()
    for thread in threads:
        thread.join()
    assert sorted(map(str, answers)) == sorted([str(go)] * 4 + ["1"])


def test_a_future_that_nobody_looks_at_is_done_all_the_same(executor: Any) -> None:
    future = executor.submit(deeds.square, 3)
    while not future.done():
        time.sleep(0.005)
    assert future._state == "FINISHED"
    assert future.result(0) == 9


@pytest.fixture
def busy(context: Any, tmp_path: Path) -> Any:
    """An executor whose only worker is busy, the future of that, and the file that it waits for."""
    go, started = tmp_path / "go", tmp_path / "started"
    with manyhands.ProcessPoolExecutor(1, context) as executor:
        running = executor.submit(deeds.touch_and_wait, str(started), str(go))
        deeds.wait_for(str(started))
        yield executor, running, go
        go.touch()


def test_a_queued_call_is_cancelled_and_a_running_one_not(busy: Any, tmp_path: Path) -> None:
    executor, running, go = busy
    trace = tmp_path / "trace"
    queued = [executor.submit(deeds.touch_and_wait, str(trace), str(go)) for _ in range(20)]
    assert running.running()
    assert not queued[0].running()
    assert not running.cancel()
    assert all(future.cancel() and future.cancel() for future in queued)
    assert all(future.cancelled() and future.done() and not future.running() for future in queued)
    with pytest.raises(CancelledError):
        queued[0].result()
    with pytest.raises(CancelledError):
        queued[1].exception()
    go.touch()
    assert running.result() == str(go)
    assert executor.submit(deeds.square, 2).result() == 4
    assert not trace.exists()


def test_those_who_wait_hear_of_a_cancel(busy: Any) -> None:
    executor, _, _ = busy
    quiet, watched = executor.submit(deeds.square, 1), executor.submit(deeds.square, 2)
    heard: list[Any] = []
    watched.add_done_callback(heard.append)

    def wait(future: Any) -> None:
        try:
            future.result()
        except CancelledError:
            heard.append("cancelled")

    threads = [threading.Thread(target=wait, args=(future,)) for future in (quiet, watched)]
    for thread in threads:
        thread.start()
    assert quiet.cancel()
    assert watched.cancel()
    for thread in threads:
        thread.join()
    assert len(heard) == 3
    assert concurrent.futures.wait([quiet, watched]).not_done == set()
    assert set(concurrent.futures.as_completed([quiet, watched])) == {quiet, watched}


def test_wait_hears_of_a_cancel(busy: Any) -> None:
    executor, _, _ = busy
    future = executor.submit(deeds.square, 1)
    timer = threading.Timer(0.05, future.cancel)
    timer.start()
    assert concurrent.futures.wait([future]).done == {future}
    timer.join()


def test_a_map_that_is_closed_cancels_the_rest(busy: Any, tmp_path: Path) -> None:
    executor, _, go = busy
    trace = tmp_path / "trace"
    values = executor.map(deeds.touch_and_wait, [str(trace)] * 20, [str(go)] * 20, timeout=0)
    with pytest.raises(TimeoutError):
        next(values)
    go.touch()
    assert executor.submit(deeds.square, 2).result() == 4
    assert not trace.exists()


def test_a_future_and_its_value_are_collected(executor: Any) -> None:
    future = executor.submit(set, [1])
    value, found = weakref.ref(future.result()), weakref.ref(future)
    del future
    assert (value(), found()) == (None, None)
    watched = executor.submit(set, [1])
    concurrent.futures.wait([watched])
    value, found = weakref.ref(watched.result()), weakref.ref(watched)
    del watched
    while found() or value():  # the executor's thread may be about to let go of it
        gc.collect()
        time.sleep(0.005)


def test_an_exception_makes_no_cycle(executor: Any) -> None:
    gc.collect()
    gc.disable()
    try:
        future = executor.submit(deeds.fail, "x")
        found = weakref.ref(future)
        try:
            future.result()
        except ValueError:
            pass
        del future
        assert found() is None
    finally:
        gc.enable()
