"""What moves objects between processes, measured: queues, pipes, and a manager's dict.

Each measure takes a context and returns seconds an item or a round trip; it checks what arrived.
Not here: locks (`sync`), how the measures are run and shown (`primitives`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Measure = Callable[[Any], float]

ITEMS = 30_000
LARGE = 200
TRIPS = 3_000
SIDES = 2


def put_all(queue: Any, items: list[Any]) -> None:
    """A producer."""
    for item in items:
        queue.put(item)


def get_all(queue: Any, count: int, begun: Any, answers: Any) -> None:
    """A consumer: takes `count` items and says how many bytes or what sum that was."""
    begun.wait()
    answers.put(sum(item if isinstance(item, int) else len(item) for item in (queue.get() for _ in range(count))))


def through(kind: str, item: Any, count: int, sides: int = 1) -> Measure:
    """Seconds an item from `sides` producers to as many consumers, all of them children."""

    def measure(context: Any) -> float:
        queue, answers, begun = getattr(context, kind)(), context.SimpleQueue(), context.Barrier(2 * sides + 1)
        each = count // sides
        worth = item if isinstance(item, int) else len(item)

        def produce(queue: Any) -> None:
            begun.wait()
            put_all(queue, [item] * each)

        children = [context.Process(target=produce, args=(queue,)) for _ in range(sides)]
        children += [context.Process(target=get_all, args=(queue, each, begun, answers)) for _ in range(sides)]
        for child in children:
            child.start()
        begun.wait()
        at = time.perf_counter()
        totals = [answers.get() for _ in range(sides)]
        took = time.perf_counter() - at
        for child in children:
            child.join()
        assert totals == [worth * each] * sides
        return took / (each * sides)

    return measure


def echo_queue(question: Any, answer: Any, trips: int) -> None:
    """The other end of a ping-pong over queues."""
    for _ in range(trips):
        answer.put(question.get())


def ping_pong(kind: str) -> Measure:
    """Seconds for an int there and back over two queues."""

    def measure(context: Any) -> float:
        question, answer = getattr(context, kind)(), getattr(context, kind)()
        child = context.Process(target=echo_queue, args=(question, answer, TRIPS + 1))
        child.start()
        question.put(-1)
        assert answer.get() == -1
        at = time.perf_counter()
        for number in range(TRIPS):
            question.put(number)
            assert answer.get() == number
        took = time.perf_counter() - at
        child.join()
        return took / TRIPS

    return measure


def echo_pipe(end: Any, trips: int) -> None:
    """The other end of a ping-pong over a pipe."""
    for _ in range(trips):
        end.send(end.recv())


def pipe(item: Any, trips: int) -> Measure:
    """Seconds for an object there and back over a duplex pipe."""

    def measure(context: Any) -> float:
        here, there = context.Pipe()
        child = context.Process(target=echo_pipe, args=(there, trips + 1))
        child.start()
        here.send(item)
        assert here.recv() == item
        at = time.perf_counter()
        for _ in range(trips):
            here.send(item)
            back = here.recv()
        took = time.perf_counter() - at
        child.join()
        assert back == item
        return took / trips

    return measure


def managed(change: bool) -> Measure:
    """Seconds to set, or to get, a value in a manager's dict."""

    def measure(context: Any) -> float:
        with context.Manager() as manager:
            shared = manager.dict()
            shared["key"] = 0
            at = time.perf_counter()
            for number in range(TRIPS):
                if change:
                    shared["key"] = number
                else:
                    shared["key"]
            took = time.perf_counter() - at
            assert shared["key"] == (TRIPS - 1 if change else 0)
        return took / TRIPS

    return measure


MEASURES: dict[str, Measure] = {
    "Queue 1 to 1, an int": through("Queue", 1, ITEMS),
    "Queue 2 to 2, an int": through("Queue", 1, ITEMS, SIDES),
    "Queue 1 to 1, 1 KB": through("Queue", b"x" * 1024, ITEMS),
    "Queue 1 to 1, 1 MB": through("Queue", b"x" * (1 << 20), LARGE),
    "SimpleQueue 1 to 1, an int": through("SimpleQueue", 1, ITEMS),
    "SimpleQueue 2 to 2, an int": through("SimpleQueue", 1, ITEMS, SIDES),
    "SimpleQueue 1 to 1, 1 MB": through("SimpleQueue", b"x" * (1 << 20), LARGE),
    "Queue ping-pong": ping_pong("Queue"),
    "SimpleQueue ping-pong": ping_pong("SimpleQueue"),
    "Pipe ping-pong, an int": pipe(1, TRIPS),
    "Pipe ping-pong, 1 MB": pipe(b"x" * (1 << 20), LARGE),
    "manager's dict, set": managed(True),
    "manager's dict, get": managed(False),
}
