"""Conditions, events and barriers: who is woken, exactly once, and what a killed waiter does to the others."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import holders
import pytest
from holders import started, until

import manyhands


def waiting(condition: Any) -> int:
    return int(condition._sleeping_count.get_value() - condition._woken_count.get_value())


@pytest.mark.parametrize("lock", ["Lock", "RLock"])
def test_as_many_are_woken_as_are_notified(context: Any, lock: str) -> None:
    condition = context.Condition(getattr(context, lock)())
    ready, woken = context.Semaphore(0), context.Semaphore(0)
    children = [started(context, holders.wait_for, condition, ready, woken) for _ in range(3)]
    thread = threading.Thread(target=holders.wait_for, args=(condition, ready, woken))
    thread.start()
    for _ in range(4):
        assert ready.acquire(timeout=30)
    until(lambda: waiting(condition) == 4)
    assert not woken.acquire(False)
    with condition:
        condition.notify(2)
        assert not woken.acquire(timeout=0.05)  # the lock is ours
    assert woken.acquire(timeout=30)
    assert woken.acquire(timeout=30)
    assert not woken.acquire(timeout=0.1)
    assert waiting(condition) == 2
    assert repr(condition).endswith(", 2)>")
    with condition:
        condition.notify_all()
    for _ in range(2):
        assert woken.acquire(timeout=30)
    for child in children:
        child.join()
        assert child.exitcode == 0
    thread.join()
    assert waiting(condition) == 0
    with condition:
        condition.notify(9)  # nobody there


def test_who_waits_longest_is_notified_first() -> None:
    condition, order = manyhands.Condition(), []

    def wait(number: int) -> None:
        with condition:
            order.append(("waits", number))
            condition.wait()
            order.append(("woken", number))

    threads = []
    for number in range(6):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        until(lambda: waiting(condition) == len(threads))
    for number in range(6):
        with condition:
            condition.notify()
        until(lambda number=number: ("woken", number) in order)
    for thread in threads:
        thread.join()
    assert [number for what, number in order if what == "woken"] == list(range(6))


def test_a_wait_whose_time_is_up_takes_nobodys_notification() -> None:
    condition, woken = manyhands.Condition(), []

    def patient() -> None:
        with condition:
            woken.append(condition.wait(30))

    for _ in range(30):
        woken.clear()
        thread = threading.Thread(target=patient)
        thread.start()
        until(lambda: waiting(condition) == 1)
        with condition:
            assert condition.wait(0.001) is False
            condition.notify()
        thread.join()
        assert woken == [True]


def test_a_depth_is_given_back_and_taken_again() -> None:
    condition = manyhands.Condition()
    with condition, condition, condition:
        other = threading.Thread(target=lambda: (condition.acquire(), condition.notify(), condition.release()))
        other.start()
        assert condition.wait(30) is True
        other.join()
        assert condition._lock._semlock._count() == 3


def test_who_does_not_hold_the_lock_can_neither_wait_nor_notify() -> None:
    condition = manyhands.Condition()
    with pytest.raises(AssertionError, match="must acquire"):
        condition.wait(0)
    with pytest.raises(AssertionError, match="lock is not owned"):
        condition.notify()
    with pytest.raises(AssertionError, match="lock is not owned"):
        condition.notify_all()


def test_wait_for_returns_the_predicates_last_word() -> None:
    condition = manyhands.Condition()
    with condition:
        assert condition.wait_for(lambda: 7) == 7
        begun = time.monotonic()
        assert condition.wait_for(lambda: 0, timeout=0.1) == 0
        assert time.monotonic() - begun >= 0.1


def test_a_killed_waiter_neither_keeps_the_notifier_nor_takes_the_notification(context: Any) -> None:
    condition = context.Condition()
    ready, woken = context.Semaphore(0), context.Semaphore(0)
    doomed = started(context, holders.be_killed_while_waiting, condition, ready)
    assert ready.acquire(timeout=30)
    doomed.join(30)
    assert doomed.exitcode == -signal.SIGKILL
    assert waiting(condition) == 1  # it waited first
    alive = started(context, holders.wait_for, condition, ready, woken)
    assert ready.acquire(timeout=30)
    until(lambda: waiting(condition) == 2)
    with condition:
        condition.notify()
    assert woken.acquire(timeout=30)
    alive.join()
    assert waiting(condition) == 0


def test_an_interrupted_wait_holds_the_lock_again() -> None:
    condition = manyhands.Condition()

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with condition:
            with pytest.raises(KeyboardInterrupt):
                condition.wait(30)
            assert condition._lock._semlock._is_mine()
    finally:
        signal.signal(signal.SIGALRM, old)
    assert waiting(condition) == 0


def test_an_event_wakes_all_who_wait(context: Any) -> None:
    event, ready = context.Event(), context.Semaphore(0)
    children = [started(context, holders.wait_for_event, event, ready) for _ in range(3)]
    for _ in range(3):
        assert ready.acquire(timeout=30)
    assert not event.is_set()
    assert event.wait(0.05) is False
    event.set()
    event.set()
    assert event.is_set()
    assert event.wait(0) is True
    for child in children:
        child.join()
        assert child.exitcode == 1
    event.clear()
    assert not event.is_set()
    assert event.wait(0) is False
    assert repr(event).endswith(" unset>")


def test_who_waits_while_an_event_is_set_and_cleared_has_seen_it() -> None:
    event, seen = manyhands.Event(), []
    for _ in range(100):
        seen.clear()
        thread = threading.Thread(target=lambda: seen.append(event.wait(30)))
        thread.start()
        time.sleep(0.001)
        while thread.is_alive():  # it may not have begun to wait at the first time
            event.set()
            event.clear()
        thread.join()
        assert seen == [True]


def test_setting_an_event_waits_for_nobody(context: Any) -> None:
    event, ready = context.Event(), context.Semaphore(0)
    doomed = started(context, holders.wait_for_event, event, ready)
    assert ready.acquire(timeout=30)
    os.kill(doomed.pid, signal.SIGSTOP)
    event.set()
    event.clear()
    event.set()
    doomed.kill()
    doomed.join()
    assert event.wait(0)


def test_a_barrier_lets_nobody_pass_before_all_are_there(context: Any) -> None:
    barrier, met = context.Barrier(3), context.Semaphore(0)
    children = [started(context, holders.meet, barrier, met, 20) for _ in range(2)]
    for turn in range(20):
        assert met.get_value() <= 2 * turn
        barrier.wait(30)
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert met.get_value() == 40
    assert (barrier.n_waiting, barrier.broken, barrier.parties) == (0, False, 3)


def test_a_barrier_that_one_does_not_reach_is_broken_for_all(context: Any) -> None:
    barrier, met = context.Barrier(3), context.Semaphore(0)
    child = started(context, holders.meet, barrier, met, 1)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(1)
    child.join(30)
    assert child.exitcode == 1
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken


@pytest.mark.parametrize("timeout", ["soon", float("nan")])
def test_a_time_out_that_is_none_is_refused(timeout: Any) -> None:
    condition = manyhands.Condition()
    with condition:
        with pytest.raises((TypeError, ValueError)):
            condition.wait(timeout)
        assert condition._lock._semlock._is_mine()
    with pytest.raises((TypeError, ValueError)):
        manyhands.Event().wait(timeout)


def three_meet(context: Any, barrier: Any, ready: Any) -> None:
    """A barrier of three lets this process and two new ones pass."""
    others = [started(context, holders.wait_at, barrier, ready) for _ in range(2)]
    assert barrier.wait(30) in range(3)
    for other in others:
        other.join()
        assert other.exitcode == 0


def test_a_barrier_breaks_when_one_who_waits_there_is_killed(context: Any) -> None:
    barrier, ready = context.Barrier(3), context.Semaphore(0)
    child = started(context, holders.wait_at, barrier, ready)
    assert ready.acquire(timeout=30)
    until(lambda: barrier.n_waiting == 1)
    threading.Timer(0.2, child.kill).start()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(30)
    child.join()
    assert barrier.broken
    assert barrier.n_waiting == 0
    barrier.reset()
    three_meet(context, barrier, ready)


def test_one_killed_on_its_way_out_does_not_keep_the_next_round(context: Any) -> None:
    """Its seat is taken, though it has passed."""
    barrier, ready = context.Barrier(2), context.Semaphore(0)
    child = started(context, holders.wait_at, barrier, ready)
    assert ready.acquire(timeout=30)
    until(lambda: barrier.n_waiting == 1)
    os.kill(child.pid, signal.SIGSTOP)
    assert barrier.wait(30) == 1  # it does not see that it may go
    child.kill()
    child.join()
    another = started(context, holders.wait_at, barrier, ready)
    assert barrier.wait(30) in range(2)
    another.join()
    assert another.exitcode == 0


def test_many_rounds_with_parties_that_are_killed(context: Any) -> None:
    barrier, outcomes = context.Barrier(3), context.Queue()
    for _ in range(5):
        children = [started(context, holders.wait_twice, barrier, outcomes) for _ in range(2)]
        until(lambda: barrier.n_waiting == 2)
        children[0].kill()
        children[0].join()
        # The third is not let through in its place, whoever sees it first.
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait(30)
        assert outcomes.get(timeout=30) == "broken"
        until(lambda: barrier.n_waiting == 1)
        last = started(context, holders.wait_at, barrier, context.Semaphore(0))
        assert barrier.wait(30) in range(3)
        assert outcomes.get(timeout=30) in range(3)
        for child in (children[1], last):
            child.join()
            assert child.exitcode == 0


def test_parties_that_are_all_dead_are_nobody(context: Any) -> None:
    barrier, ready = context.Barrier(3), context.Semaphore(0)
    dead = []
    for number in range(2):
        dead.append(started(context, holders.wait_at, barrier, ready))
        until(lambda number=number: barrier.n_waiting == number + 1)
    for child in dead:
        os.kill(child.pid, signal.SIGSTOP)  # the second does not see the first one's death
    for child in dead:
        child.kill()
        child.join()
    three_meet(context, barrier, ready)
