"""Results and values of pools in coroutines: awaited, iterated over, cancelled."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import threading
import time
from concurrent.futures import CancelledError as CallCancelled
from pathlib import Path
from typing import Any

import awaited
import pytest

import manyhands
from scripts import until


async def seen(path: Path) -> int:
    """Wait for a file and return the number in it; other tasks get their turn in any case."""
    await asyncio.sleep(0)
    while not (path.exists() and path.read_text()):
        await asyncio.sleep(0.005)
    return int(path.read_text())


def test_results_are_awaited_and_gathered(context: Any) -> None:
    async def main(pool: Any) -> None:
        assert await pool.apply_async(awaited.square, (7,)) == 49
        calls = [pool.apply_async(awaited.square, (x,)) for x in range(500)]
        assert await asyncio.gather(*calls) == [x * x for x in range(500)]
        assert await calls[3] == 9  # again
        assert await pool.map_async(awaited.square, range(100)) == [x * x for x in range(100)]
        assert await pool.starmap_async(pow, [(2, 3), (3, 2)]) == [8, 9]

    with context.Pool(2) as pool:
        asyncio.run(main(pool))


def test_other_tasks_run_while_one_awaits(context: Any, tmp_path: Path) -> None:
    """The loop is not blocked: a task of it opens the gate that the call waits for."""

    async def main(pool: Any) -> None:
        call = pool.apply_async(awaited.wait_for, (str(tmp_path / "gate"), 5))

        async def open_it() -> None:
            await asyncio.sleep(0.05)
            (tmp_path / "gate").touch()

        assert await asyncio.gather(call, open_it()) == [5, None]

    with context.Pool(1) as pool:
        asyncio.run(main(pool))


def test_several_tasks_await_one_result_which_has_a_callback(context: Any, tmp_path: Path) -> None:
    heard = []

    async def main(pool: Any) -> None:
        call = pool.apply_async(awaited.wait_for, (str(tmp_path / "gate"), 5), {}, heard.append)

        async def look() -> int:
            value: int = await call
            return value + len(heard)

        tasks = [asyncio.create_task(look()) for _ in range(5)]
        await asyncio.sleep(0.05)
        (tmp_path / "gate").touch()
        assert await asyncio.gather(*tasks) == [6] * 5  # the callback was called first

    with context.Pool(1) as pool:
        asyncio.run(main(pool))
    assert heard == [5]


def test_exceptions_and_deaths_are_raised(context: Any) -> None:
    async def main(pool: Any) -> None:
        with pytest.raises(LookupError, match="no 3") as caught:
            await pool.apply_async(awaited.fail, (3,))
        assert "awaited.py" in str(caught.value.__cause__)
        with pytest.raises(manyhands.WorkerDied):
            await pool.apply_async(awaited.be_killed)
        assert await pool.apply_async(awaited.square, (2,)) == 4
        with pytest.raises((TypeError, AttributeError)):
            await pool.apply_async(awaited.square, (threading.Lock(),))

    with context.Pool(1) as pool:
        asyncio.run(main(pool))


def test_cancelling_the_task_ends_the_worker_that_runs_the_call(context: Any, tmp_path: Path) -> None:
    async def main(pool: Any) -> None:
        here = tmp_path / "here"
        call = pool.apply_async(awaited.announce_and_sleep, (str(here), 60))
        waiting = asyncio.ensure_future(call)
        pid = await seen(here)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(CallCancelled):
            call.get(30)
        assert await pool.apply_async(awaited.square, (3,)) == 9
        assert pid not in pool._crew.pids()

    with context.Pool(1) as pool:
        asyncio.run(main(pool))


def test_a_timeout_ends_the_call_and_shield_does_not(context: Any, tmp_path: Path) -> None:
    async def main(pool: Any) -> None:
        call = pool.apply_async(awaited.wait_for, (str(tmp_path / "gate"), 1))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(call), 0.05)
        (tmp_path / "gate").touch()
        assert await call == 1
        call = pool.apply_async(awaited.wait_for, (str(tmp_path / "never"), 1))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call, 0.05)
        assert await pool.apply_async(awaited.square, (3,)) == 9

    with context.Pool(1) as pool:
        asyncio.run(main(pool))


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_values_are_iterated_over(context: Any, name: str) -> None:
    async def main(pool: Any) -> None:
        values = [value async for value in getattr(pool, name)(awaited.square, range(2000), 7)]
        assert (values if name == "imap" else sorted(values)) == [x * x for x in range(2000)]
        assert [value async for value in getattr(pool, name)(awaited.square, [])] == []

    with context.Pool(2) as pool:
        asyncio.run(main(pool))


def test_values_come_one_by_one_while_others_wait(context: Any, tmp_path: Path) -> None:
    async def main(pool: Any) -> None:
        gate = tmp_path / "gate"
        got = []
        async for value in pool.imap(functools.partial(awaited.wait_for, str(gate)), [0, 1, 2]):
            got.append(value)
            gate.touch()  # after the first value
        assert got == [0, 1, 2]

    with context.Pool(2) as pool:
        asyncio.run(main(pool))


def test_iteration_goes_on_after_an_exception(context: Any) -> None:
    async def main(pool: Any) -> None:
        values = pool.imap(functools.partial(awaited.fail_at, 2), range(4))
        assert [await anext(values), await anext(values)] == [0, 1]
        with pytest.raises(LookupError, match="no 2"):
            await anext(values)
        assert await anext(values) == 3
        with pytest.raises(StopAsyncIteration):
            await anext(values)

    with context.Pool(2) as pool:
        asyncio.run(main(pool))


def test_cancelling_an_iteration_draws_and_runs_no_more(context: Any, tmp_path: Path) -> None:
    async def main(pool: Any) -> None:
        values = pool.imap(functools.partial(awaited.wait_for, str(tmp_path / "never")), range(1, 100))
        task = asyncio.ensure_future(anext(values))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await pool.apply_async(awaited.square, (3,)) == 9

    with context.Pool(2) as pool:
        asyncio.run(main(pool))


def test_a_pool_that_is_terminated_wakes_those_who_await(context: Any, tmp_path: Path) -> None:
    async def main(pool: Any) -> None:
        here = tmp_path / "here"
        call = asyncio.ensure_future(pool.apply_async(awaited.announce_and_sleep, (str(here), 60)))
        values = asyncio.ensure_future(anext(pool.imap(awaited.square, [1])))
        await seen(here)
        await asyncio.to_thread(pool.terminate)
        with pytest.raises(manyhands.PoolTerminated):
            await call
        with pytest.raises(manyhands.PoolTerminated):
            await values

    with context.Pool(1) as pool:
        asyncio.run(main(pool))


def test_no_thread_is_added_for_those_who_await(tmp_path: Path) -> None:
    async def main(pool: Any) -> None:
        await pool.apply_async(awaited.square, (1,))
        before = threading.active_count()
        calls = [pool.apply_async(awaited.wait_for, (str(tmp_path / "gate"), 1)) for _ in range(50)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0.05)
        assert threading.active_count() == before
        (tmp_path / "gate").touch()
        assert await asyncio.gather(*tasks) == [1] * 50

    with manyhands.Pool(2) as pool:
        asyncio.run(main(pool))


def test_a_loop_that_ended_meanwhile_harms_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def leave(call: Any) -> None:
        asyncio.shield(call)
        await asyncio.sleep(0.01)

    with manyhands.Pool(1) as pool:
        call = pool.apply_async(awaited.wait_for, (str(tmp_path / "gate"), 1))
        loop = asyncio.new_event_loop()
        task = loop.create_task(leave(call))
        loop.run_until_complete(task)
        loop.close()
        (tmp_path / "gate").touch()
        assert call.get(30) == 1
        assert pool.apply(awaited.square, (3,)) == 9
    assert "Event loop is closed" not in capsys.readouterr().err


def test_outside_of_asyncio_it_says_so() -> None:
    with manyhands.Pool(1) as pool:
        call = pool.apply_async(time.sleep, (0.2,))
        with pytest.raises(RuntimeError, match="no running event loop"):
            call.__await__().send(None)
        call.get(30)


def test_awaited_results_are_let_go(tmp_path: Path) -> None:
    async def main(pool: Any) -> None:
        for x in range(50):
            await pool.apply_async(awaited.square, (x,))

    with manyhands.Pool(1) as pool:
        asyncio.run(main(pool))
        gc.collect()
        until(lambda: not [one for one in gc.get_objects() if type(one) is manyhands.pool.ApplyResult])


# ---- threads ----


def test_threads_are_awaited_too(tmp_path: Path) -> None:
    async def main(pool: Any) -> None:
        calls = [pool.apply_async(awaited.square, (x,)) for x in range(50)]
        assert await asyncio.gather(*calls) == [x * x for x in range(50)]
        assert [value async for value in pool.imap(awaited.square, range(50))] == [x * x for x in range(50)]
        unordered = [value async for value in pool.imap_unordered(awaited.square, range(50), 3)]
        assert sorted(unordered) == [x * x for x in range(50)]
        with pytest.raises(LookupError):
            await pool.apply_async(awaited.fail, (1,))
        gate = tmp_path / "gate"
        call = pool.apply_async(awaited.wait_for, (str(gate), 1))
        values = pool.imap(functools.partial(awaited.wait_for, str(gate)), [1, 2])
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call, 0.05)
        first = asyncio.ensure_future(anext(values))
        await asyncio.sleep(0.05)
        gate.touch()
        assert await first == 1
        assert await anext(values) == 2

    with manyhands.pool.ThreadPool(2) as pool:
        asyncio.run(main(pool))


def test_the_executor_is_asyncios(context: Any) -> None:
    async def main(executor: Any) -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, awaited.square, 5) == 25
        assert await asyncio.wrap_future(executor.submit(os.getpid)) != os.getpid()

    with manyhands.ProcessPoolExecutor(1, context) as executor:
        asyncio.run(main(executor))
