"""Calls, values and items in asyncio: what an `await` of one costs.

Always: the event loop does nothing else, and each peer has the way that its documentation shows: an await, a future of
`run_in_executor`, a callback that tells the loop; where there is none, a thread that waits (`asyncio.to_thread`). The other end of a queue is a daemon, so that a wrong answer ends the measurement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benches.calls import same
from benches.peer import Crew, Peer
from benches.workload import RATE, SECONDS, WORKERS, Workload, check, check_all, fewer
from benches.workloads.channels import echo_queue, get_all, put_all
from benches.workloads.small import TRIPS

CALLS = 1_000
GATHERED = 5_000
VALUES = 10_000
ITEMS = 10_000
# How many items may wait in a queue: a put may have to wait too.
PLACES = 100


def in_loop(use: Callable[[Crew, bool], Awaitable[dict[str, float]]]) -> Any:
    """The measure of what is done with workers inside of a running loop."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        async def main(crew: Crew) -> dict[str, float]:
            await crew.begin()
            try:
                return await use(crew, quick)
            finally:
                await crew.end()

        with peer.start("asyncio", method, WORKERS) as crew:
            return asyncio.run(main(crew))

    return measure


async def round_trips(crew: Any, quick: bool) -> dict[str, float]:
    """One call after the other, each of them awaited."""
    calls = fewer(CALLS, quick)
    for number in range(50):
        check(await crew.awaited(same, number), number, "answer")
    times = []
    for number in range(calls):
        begun = time.perf_counter()
        answer = await crew.awaited(same, number)
        times.append(time.perf_counter() - begun)
        check(answer, number, "answer")
    times.sort()
    return {"median": times[calls // 2], "99th percentile": times[calls * 99 // 100]}


async def gathered(crew: Any, quick: bool) -> dict[str, float]:
    """Many calls at once, awaited together."""
    items = list(range(fewer(GATHERED, quick)))
    await asyncio.gather(*(crew.awaited(same, item) for item in items[:100]))
    begun = time.perf_counter()
    answers = await asyncio.gather(*(crew.awaited(same, item) for item in items))
    took = time.perf_counter() - begun
    check_all(answers, items, "answers")
    return {"": len(items) / took}


async def values(crew: Any, quick: bool) -> dict[str, float]:
    """The values of many calls in order, by `async for`."""
    items = list(range(fewer(VALUES, quick)))
    check_all([found async for found in crew.values(same, items[:100])], items[:100], "values")
    begun = time.perf_counter()
    answers = [found async for found in crew.values(same, items)]
    took = time.perf_counter() - begun
    check_all(answers, items, "values")
    return {"": len(items) / took}


def queue_trips(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """An int there and back over two queues, the other end a process that waits as ever."""
    context, trips = peer.context(method), fewer(CALLS, quick)
    question, answer = context.Queue(PLACES), context.Queue(PLACES)

    async def main() -> float:
        await peer.aput(question, -1)
        check(await peer.aget(answer), -1, "answer")
        begun = time.perf_counter()
        for number in range(trips):
            await peer.aput(question, number)
            check(await peer.aget(answer), number, "answer")
        return (time.perf_counter() - begun) / trips

    child = context.Process(target=echo_queue, args=(question, answer, trips + 1), daemon=True)
    child.start()
    took = asyncio.run(main())
    child.join()
    return {"": took}


def items_in(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """Ints that a process puts into a queue, awaited here."""
    context, count = peer.context(method), fewer(ITEMS, quick)
    queue, ready = context.Queue(PLACES), context.Barrier(2)

    async def main() -> tuple[float, list[Any]]:
        begun = time.perf_counter()
        found = [await peer.aget(queue) for _ in range(count)]
        return time.perf_counter() - begun, found

    child = context.Process(target=put_all, args=(queue, 7, count, ready), daemon=True)
    child.start()
    ready.wait()
    took, found = asyncio.run(main())
    child.join()
    check_all(found, [7] * count, "items")
    return {"": count / took}


def items_out(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """Ints that are put here, each put awaited, and taken by a process."""
    context, count = peer.context(method), fewer(ITEMS, quick)
    queue, answers, ready = context.Queue(PLACES), context.SimpleQueue(), context.Barrier(2)

    async def main() -> None:
        for number in range(count):
            await peer.aput(queue, number)

    child = context.Process(target=get_all, args=(queue, count, ready, answers), daemon=True)
    child.start()
    ready.wait()
    begun = time.perf_counter()
    asyncio.run(main())
    total = answers.get()
    took = time.perf_counter() - begun
    child.join()
    check(total, sum(range(count)), "sum at the consumer")
    return {"": count / took}


CALL, QUEUE = ("asyncio.awaited",), ("awaited_queue",)
WORKLOADS = (
    Workload("a call, awaited", "asyncio", in_loop(round_trips), TRIPS, CALL),
    Workload("5,000 calls, awaited together", "asyncio", in_loop(gathered), {"": RATE}, CALL),
    Workload("async for over 10,000 values", "asyncio", in_loop(values), {"": RATE}, ("asyncio.values",)),
    Workload("Queue(100), awaited ping-pong", "asyncio", queue_trips, {"": SECONDS}, QUEUE),
    Workload("Queue(100), ints of a process, each awaited", "asyncio", items_in, {"": RATE}, QUEUE),
    Workload("Queue(100), ints to a process, each put awaited", "asyncio", items_out, {"": RATE}, QUEUE),
)
