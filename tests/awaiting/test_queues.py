"""Queues in coroutines: items and places that are awaited."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import awaited
import pytest

import manyhands
from manyhands.queues import ShutDown


@pytest.fixture(params=["Queue", "JoinableQueue"])
def make(request: pytest.FixtureRequest, context: Any) -> Any:
    """The context's factory of each kind of queue."""
    return getattr(context, request.param)


async def soon(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_items_of_a_process_are_awaited(make: Any, context: Any) -> None:
    queue, asked = make(), context.Event()
    process = context.Process(target=awaited.put_when_asked, args=(asked, queue, list(range(300))))
    process.start()

    async def main() -> list[Any]:
        first = asyncio.ensure_future(queue.aget())
        await asyncio.sleep(0.05)
        assert not first.done()
        asked.set()
        return [await first] + [await queue.aget() for _ in range(299)]

    assert asyncio.run(main()) == list(range(300))
    process.join()


def test_places_are_awaited(make: Any, context: Any) -> None:
    queue = make(2)
    reader, writer = context.Pipe(False)
    process = context.Process(target=awaited.take, args=(queue, 100, writer))

    async def main() -> None:
        await queue.aput(0)
        await queue.aput(1)
        third = asyncio.ensure_future(queue.aput(2))
        await asyncio.sleep(0.1)
        assert not third.done()
        assert queue.full()
        process.start()
        await third
        for item in range(3, 100):
            await queue.aput(item)

    asyncio.run(main())
    assert reader.recv() == list(range(100))
    process.join()


def test_those_who_wait_get_their_turn_in_order(make: Any) -> None:
    queue = make(1)

    async def main() -> None:
        takers = [asyncio.ensure_future(queue.aget()) for _ in range(20)]
        await asyncio.sleep(0.02)
        for item in range(20):
            await queue.aput(item)
        assert await asyncio.gather(*takers) == list(range(20))
        putters = [asyncio.ensure_future(queue.aput(item)) for item in range(20)]
        await asyncio.sleep(0.02)
        assert [await queue.aget() for _ in range(20)] == list(range(20))
        await asyncio.gather(*putters)

    asyncio.run(main())


def test_who_is_cancelled_has_taken_and_put_nothing(make: Any) -> None:
    queue = make(1)

    async def main() -> None:
        for _ in range(5):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(queue.aget(), 0.02)
        await queue.aput("first")
        for _ in range(5):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(queue.aput("never"), 0.02)
        assert await queue.aget() == "first"
        await soon(queue.empty)
        await queue.aput("second")  # the place was not lost
        assert await queue.aget() == "second"
        assert queue.qsize() == 0

    asyncio.run(main())


def test_places_and_cancellations_that_meet_lose_nothing(make: Any) -> None:
    queue = make(1)

    async def main() -> None:
        put = 0
        for item in range(100):
            await queue.aput(item)
            waiting = asyncio.ensure_future(queue.aput("late"))
            await asyncio.sleep(0)
            assert await queue.aget() == item
            if item % 3:
                await asyncio.sleep(0.0005 * (item % 5))
            waiting.cancel()
            try:
                await waiting
                put += 1
                assert await queue.aget() == "late"
            except asyncio.CancelledError:
                pass
        assert queue.qsize() == 0
        await queue.aput(1)

    asyncio.run(main())


def test_loops_of_several_threads_share_a_queue() -> None:
    queue: Any = manyhands.Queue(3)
    got: list[int] = []

    async def take() -> None:
        while (item := await queue.aget()) is not None:
            got.append(item)

    threads = [threading.Thread(target=lambda: asyncio.run(take())) for _ in range(3)]
    for thread in threads:
        thread.start()

    async def put() -> None:
        for item in range(300):
            await queue.aput(item)
        for _ in threads:
            await queue.aput(None)

    asyncio.run(put())
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(300))


def test_the_thread_at_the_door_ends_when_nobody_waits() -> None:
    queue: Any = manyhands.Queue(1)

    async def main() -> None:
        await queue.aput(1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(queue.aput(x) for x in range(10))), 0.05)
        assert sum("doorman" in thread.name for thread in threading.enumerate()) <= 1
        await soon(lambda: not any("doorman" in thread.name for thread in threading.enumerate()))

    asyncio.run(main())


def test_closing_and_shutting_down_wake_those_who_wait(make: Any) -> None:
    async def main() -> None:
        queue = make(1)
        taker = asyncio.ensure_future(queue.aget())
        await asyncio.sleep(0.02)
        queue.close()
        with pytest.raises(ValueError, match="closed"):
            await taker
        with pytest.raises(ValueError, match="closed"):
            await queue.aput(1)
        queue = make(1)
        taker = asyncio.ensure_future(queue.aget())
        await asyncio.sleep(0.02)
        queue.shutdown()
        with pytest.raises(ShutDown):
            await taker
        queue = make(1)
        await queue.aput(1)
        putter = asyncio.ensure_future(queue.aput(2))
        await asyncio.sleep(0.02)
        queue.shutdown()
        with pytest.raises(ShutDown):
            await putter
        assert await queue.aget() == 1
        with pytest.raises(ShutDown):
            await queue.aget()

    asyncio.run(main())


def test_a_joinable_queue_counts_what_was_put() -> None:
    queue: Any = manyhands.JoinableQueue(1)

    async def main() -> None:
        await queue.aput(1)
        putter = asyncio.ensure_future(queue.aput(2))
        await asyncio.sleep(0.02)
        assert (await queue.aget(), await queue.aget()) == (1, 2)
        await putter

    asyncio.run(main())
    queue.task_done()
    queue.task_done()
    queue.join()
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()
