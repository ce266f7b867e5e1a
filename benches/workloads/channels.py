"""What moves objects between processes, measured: queues, pipes, a manager's dict, named shared memory.

Each measure takes a context and a share of the items (1, or less in a quick run), and returns seconds an item or a
round trip or bytes a second; it checks what arrived.
Not here: locks (`sync`).
"""

from __future__ import annotations

import time
from typing import Any

from benches.peer import Peer
from benches.workload import BANDWIDTH, RATE, SECONDS, Unit, Workload, check
from benches.workloads.sync import Measure, in_context

ITEMS = 30_000
LARGE = 200
TRIPS = 3_000
SIDES = 2


def put_all(queue: Any, item: Any, count: int, begun: Any) -> None:
    """A producer: puts `item` so often."""
    begun.wait()
    for _ in range(count):
        queue.put(item)


def get_all(queue: Any, count: int, begun: Any, answers: Any) -> None:
    """A consumer: takes `count` items and says how many bytes or what sum that was."""
    begun.wait()
    answers.put(sum(item if isinstance(item, int) else len(item) for item in (queue.get() for _ in range(count))))


def through(kind: str, item: Any, count: int, sides: int = 1) -> Measure:
    """Items, or bytes, a second from `sides` producers to as many consumers, all of them children."""
    worth = item if isinstance(item, int) else len(item)

    def measure(context: Any, share: float) -> float:
        queue, answers, begun = getattr(context, kind)(), context.SimpleQueue(), context.Barrier(2 * sides + 1)
        each = int(count * share) // sides
        children = [context.Process(target=put_all, args=(queue, item, each, begun)) for _ in range(sides)]
        children += [context.Process(target=get_all, args=(queue, each, begun, answers)) for _ in range(sides)]
        for child in children:
            child.start()
        begun.wait()
        at = time.perf_counter()
        totals = [answers.get() for _ in range(sides)]
        took = time.perf_counter() - at
        for child in children:
            child.join()
        check(totals, [worth * each] * sides, "sums at the consumers")
        return each * sides * (1 if isinstance(item, int) else worth) / took

    return measure


def echo_queue(question: Any, answer: Any, trips: int) -> None:
    """The other end of a ping-pong over queues."""
    for _ in range(trips):
        answer.put(question.get())


def ping_pong(kind: str) -> Measure:
    """Seconds for an int there and back over two queues."""

    def measure(context: Any, share: float) -> float:
        question, answer = getattr(context, kind)(), getattr(context, kind)()
        trips = int(TRIPS * share)
        child = context.Process(target=echo_queue, args=(question, answer, trips + 1))
        child.start()
        question.put(-1)
        check(answer.get(), -1, "answer")
        at = time.perf_counter()
        for number in range(trips):
            question.put(number)
            check(answer.get(), number, "answer")
        took = time.perf_counter() - at
        child.join()
        return took / trips

    return measure


def echo_pipe(end: Any, trips: int) -> None:
    """The other end of a ping-pong over a pipe."""
    for _ in range(trips):
        end.send(end.recv())


def pipe(size: int, count: int) -> Measure:
    """Seconds for so many bytes, or for an int where that is 0, there and back over a duplex pipe."""

    def measure(context: Any, share: float) -> float:
        item = b"x" * size if size else 1
        trips = max(int(count * share), 2)
        here, there = context.Pipe()
        child = context.Process(target=echo_pipe, args=(there, trips + 1))
        child.start()
        here.send(item)
        check(here.recv() == item, True, "answer")
        at = time.perf_counter()
        for _ in range(trips):
            here.send(item)
            back = here.recv()
        took = time.perf_counter() - at
        child.join()
        check(back == item, True, "answer")
        return took / trips

    return measure


def managed(change: bool) -> Measure:
    """Seconds to set, or to get, a value in a manager's dict."""

    def measure(context: Any, share: float) -> float:
        trips = int(TRIPS * share)
        with context.Manager() as manager:
            shared = manager.dict()
            shared["key"] = 0
            at = time.perf_counter()
            for number in range(trips):
                if change:
                    shared["key"] = number
                else:
                    shared["key"]
            took = time.perf_counter() - at
            check(shared["key"], trips - 1 if change else 0, "value")
        return took / trips

    return measure


SEGMENT = 1 << 20


def named(attach: bool) -> Any:
    """The measure of named shared memory of 1 MB: made and removed, or attached to and let go; seconds."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        module, times, filling = peer.shared_memory(), 20 if quick else 200, b"\1" * SEGMENT
        ours = module.SharedMemory(create=True, size=SEGMENT)
        try:
            ours.buf[7] = 42
            begun = time.perf_counter()
            for _ in range(times):
                one = module.SharedMemory(ours.name) if attach else module.SharedMemory(create=True, size=SEGMENT)
                if not attach:
                    one.buf[:] = filling  # a segment that nobody writes to is of no use
                check(one.buf[7], 42 if attach else 1, "byte")
                one.close()
                if not attach:
                    one.unlink()
            took = time.perf_counter() - begun
        finally:
            ours.close()
            ours.unlink()
        return {"": took / times}

    return measure


KB, MB = b"x" * 1024, b"x" * (1 << 20)
MEASURES: dict[str, tuple[str, Unit, Measure]] = {
    "Queue 1 to 1, ints": ("Queue", RATE, through("Queue", 1, ITEMS)),
    "Queue 2 to 2, ints": ("Queue several_ends", RATE, through("Queue", 1, ITEMS, SIDES)),
    "Queue 1 to 1, 1 KB": ("Queue large_items", BANDWIDTH, through("Queue", KB, ITEMS)),
    "Queue 2 to 2, 1 KB": ("Queue large_items several_ends", BANDWIDTH, through("Queue", KB, ITEMS, SIDES)),
    "Queue 1 to 1, 1 MB": ("Queue large_items", BANDWIDTH, through("Queue", MB, LARGE)),
    "Queue 2 to 2, 1 MB": ("Queue large_items several_ends", BANDWIDTH, through("Queue", MB, LARGE, SIDES)),
    "Queue ping-pong": ("Queue", SECONDS, ping_pong("Queue")),
    "SimpleQueue 1 to 1, ints": ("SimpleQueue", RATE, through("SimpleQueue", 1, ITEMS)),
    "SimpleQueue 2 to 2, ints": ("SimpleQueue", RATE, through("SimpleQueue", 1, ITEMS, SIDES)),
    "SimpleQueue 1 to 1, 1 KB": ("SimpleQueue", BANDWIDTH, through("SimpleQueue", KB, ITEMS)),
    "SimpleQueue 2 to 2, 1 KB": ("SimpleQueue", BANDWIDTH, through("SimpleQueue", KB, ITEMS, SIDES)),
    "SimpleQueue 1 to 1, 1 MB": ("SimpleQueue", BANDWIDTH, through("SimpleQueue", MB, LARGE)),
    "SimpleQueue 2 to 2, 1 MB": ("SimpleQueue", BANDWIDTH, through("SimpleQueue", MB, LARGE, SIDES)),
    "SimpleQueue ping-pong": ("SimpleQueue", SECONDS, ping_pong("SimpleQueue")),
    "Pipe ping-pong, an int": ("Pipe", SECONDS, pipe(0, TRIPS)),
    "Pipe ping-pong, 1 KB": ("Pipe", SECONDS, pipe(len(KB), TRIPS)),
    "Pipe ping-pong, 1 MB": ("Pipe", SECONDS, pipe(len(MB), LARGE)),
    "Pipe ping-pong, 64 MB": ("Pipe", SECONDS, pipe(64 << 20, 10)),
    "manager's dict, set": ("Manager", SECONDS, managed(True)),
    "manager's dict, get": ("Manager", SECONDS, managed(False)),
}
NAMED = {
    "SharedMemory of 1 MB, create, fill and unlink": named(attach=False),
    "SharedMemory of 1 MB, attach and close": named(attach=True),
}
WORKLOADS = (
    *(
        Workload(name, "channels", in_context(measure), {"": unit}, tuple(needs.split()))
        for name, (needs, unit, measure) in MEASURES.items()
    ),
    *(Workload(name, "channels", measure, {"": SECONDS}, ("SharedMemory",)) for name, measure in NAMED.items()),
)
