"""Locks and their like, measured: what they cost uncontended, and round trips between two processes.

Each measure takes a context and a share of the calls (1, or less in a quick run), and returns seconds.
Not here: what moves objects (`channels`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benches.peer import Peer
from benches.workload import SECONDS, Workload, check

Measure = Callable[[Any, float], float]

CALLS = 50_000
TRIPS = 2_000


def uncontended(kind: str) -> Measure:
    """Seconds for one acquire and release that nobody else wants."""

    def measure(context: Any, share: float) -> float:
        lock = getattr(context, kind)()
        acquire, release = lock.acquire, lock.release
        calls = int(CALLS * share)
        begun = time.perf_counter()
        for _ in range(calls):
            acquire()
            release()
        took = time.perf_counter() - begun
        check(acquire(False), True, "state of the lock at the end")
        return took / calls

    return measure


def with_statement(context: Any, share: float) -> float:
    """Seconds for a `with` over a free lock."""
    lock, calls = context.Lock(), int(CALLS * share)
    begun = time.perf_counter()
    for _ in range(calls):
        with lock:
            pass
    took = time.perf_counter() - begun
    check(lock.acquire(False), True, "state of the lock at the end")
    return took / calls


def value(context: Any, share: float) -> float:
    """Seconds to read and write a Value's number."""
    number, calls = context.Value("i", 0), int(CALLS * share)
    begun = time.perf_counter()
    for _ in range(calls):
        number.value += 1
    took = time.perf_counter() - begun
    check(number.value, calls, "sum")
    return took / calls


def made(context: Any, share: float) -> float:
    """Seconds to make a lock and let it go."""
    locks = int(TRIPS * share)
    begun = time.perf_counter()
    for _ in range(locks):
        context.Lock()
    return (time.perf_counter() - begun) / locks


def there_and_back(
    parts: Callable[[Any], tuple[Any, ...]], here: Callable[..., None], there: Callable[..., None]
) -> Measure:
    """Seconds for a round trip between this process and a child."""

    def measure(context: Any, share: float) -> float:
        shared, trips = parts(context), int(TRIPS * share)
        child = context.Process(target=repeat, args=(there, trips + 1, *shared))
        child.start()
        here(*shared)  # the child is up
        begun = time.perf_counter()
        for _ in range(trips):
            here(*shared)
        took = (time.perf_counter() - begun) / trips
        child.join()
        check(child.exitcode, 0, "exit code of the other side")
        return took

    return measure


def repeat(step: Callable[..., None], times: int, *shared: Any) -> None:
    """What the child does: its half, as often as the parent does its own."""
    for _ in range(times):
        step(*shared)


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


MEASURES: dict[str, tuple[str, Measure]] = {
    "Lock, acquire and release": ("Lock", uncontended("Lock")),
    "RLock, acquire and release": ("RLock", uncontended("RLock")),
    "Semaphore, acquire and release": ("Semaphore", uncontended("Semaphore")),
    "with Lock": ("Lock", with_statement),
    "Value += 1": ("Value", value),
    "Lock()": ("Lock", made),
    "Semaphore round trip": (
        "Semaphore Process",
        there_and_back(lambda c: (c.Semaphore(0), c.Semaphore(0)), ask, reply),
    ),
    "Event round trip": ("Event", there_and_back(lambda c: (c.Event(), c.Event()), call, hear)),
    "Condition round trip": (
        "Condition",
        there_and_back(lambda c: (c.Condition(), c.RawValue("i", 0)), turn(0), turn(1)),
    ),
    "Barrier": ("Barrier", there_and_back(lambda c: (c.Barrier(2),), meet, meet)),
}


def in_context(measure: Measure) -> Callable[[Peer, str, bool], dict[str, float]]:
    """The measure of a workload, from one that needs a context only."""
    return lambda peer, method, quick: {"": measure(peer.context(method), 0.1 if quick else 1.0)}


WORKLOADS = tuple(
    Workload(name, "sync", in_context(measure), {"": SECONDS}, tuple(needs.split()))
    for name, (needs, measure) in MEASURES.items()
)
