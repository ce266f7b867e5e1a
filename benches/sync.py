"""Locks and their like, measured: what they cost uncontended, and round trips between two processes.

Each measure takes a context and returns seconds.
Not here: what moves objects (`channels`), how the measures are run and shown (`primitives`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

CALLS = 50_000
TRIPS = 2_000


def uncontended(kind: str) -> Callable[[Any], float]:
    """Seconds for one acquire and release that nobody else wants."""

    def measure(context: Any) -> float:
        lock = getattr(context, kind)()
        acquire, release = lock.acquire, lock.release
        begun = time.perf_counter()
        for _ in range(CALLS):
            acquire()
            release()
        return (time.perf_counter() - begun) / CALLS

    return measure


def with_statement(context: Any) -> float:
    """Seconds for a `with` over a free lock."""
    lock = context.Lock()
    begun = time.perf_counter()
    for _ in range(CALLS):
        with lock:
            pass
    return (time.perf_counter() - begun) / CALLS


def value(context: Any) -> float:
    """Seconds to read and write a Value's number."""
    number = context.Value("i", 0)
    begun = time.perf_counter()
    for _ in range(CALLS):
        number.value += 1
    return (time.perf_counter() - begun) / CALLS


def made(context: Any) -> float:
    """Seconds to make a lock and let it go."""
    begun = time.perf_counter()
    for _ in range(TRIPS):
        context.Lock()
    return (time.perf_counter() - begun) / TRIPS


def there_and_back(
    parts: Callable[[Any], tuple[Any, ...]], here: Callable[..., None], there: Callable[..., None]
) -> Any:
    """Seconds for a round trip between this process and a child."""

    def measure(context: Any) -> float:
        shared = parts(context)
        child = context.Process(target=there, args=shared)
        child.start()
        here(*shared)  # the child is up
        begun = time.perf_counter()
        for _ in range(TRIPS):
            here(*shared)
        took = (time.perf_counter() - begun) / TRIPS
        child.join()
        return took

    return measure


def repeat(step: Callable[..., None]) -> Callable[..., None]:
    """What the child does: its half, as often as the parent does its own."""

    def loop(*shared: Any) -> None:
        for _ in range(TRIPS + 1):
            step(*shared)

    return loop


def ask(question: Any, answer: Any) -> None:
    """The parent's half, with two semaphores."""
    question.release()
    answer.acquire()


def reply(question: Any, answer: Any) -> None:
    """The child's half."""
    question.acquire()
    answer.release()


def call(question: Any, answer: Any) -> None:
    """The parent's half, with two events."""
    question.set()
    answer.wait()
    answer.clear()


def hear(question: Any, answer: Any) -> None:
    """The child's half."""
    question.wait()
    question.clear()
    answer.set()


def turn(mine: int) -> Callable[..., None]:
    """Waits until it is our turn, and hands it on: one half of a round trip over a condition."""

    def take(condition: Any, whose: Any) -> None:
        with condition:
            while whose.value != mine:
                condition.wait()
            whose.value = 1 - mine
            condition.notify()

    return take


def meet(barrier: Any) -> None:
    """Both halves over a barrier."""
    barrier.wait()


MEASURES: dict[str, Callable[[Any], float]] = {
    "Lock, acquire and release": uncontended("Lock"),
    "RLock, acquire and release": uncontended("RLock"),
    "Semaphore, acquire and release": uncontended("Semaphore"),
    "with Lock": with_statement,
    "Value += 1": value,
    "Lock()": made,
    "Semaphore round trip": there_and_back(lambda c: (c.Semaphore(0), c.Semaphore(0)), ask, repeat(reply)),
    "Event round trip": there_and_back(lambda c: (c.Event(), c.Event()), call, repeat(hear)),
    "Condition round trip": there_and_back(lambda c: (c.Condition(), c.RawValue("i", 0)), turn(0), repeat(turn(1))),
    "Barrier": there_and_back(lambda c: (c.Barrier(2),), meet, repeat(meet)),
}
