"""Locks whose holder was killed: one waiter is told, and the lock goes on."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from typing import Any

import holders
import pytest
from holders import started, until

import manyhands
from manyhands import OwnerDied

LOCKS = ["Lock", "RLock"]


def killed_holder(context: Any, lock: Any) -> Any:
    """A process that was killed while it held `lock`."""
    ready = context.Event()
    child = started(context, holders.take_and_be_killed, lock, ready)
    assert ready.wait(30)
    child.kill()
    child.join()
    return child


@pytest.mark.parametrize("kind", LOCKS)
def test_one_who_waits_is_told_and_the_lock_is_free(context: Any, kind: str) -> None:
    lock = getattr(context, kind)()
    child = killed_holder(context, lock)
    began = time.monotonic()
    with pytest.raises(OwnerDied, match=f"process {child.pid} was killed while it held this lock") as caught:
        lock.acquire()
    assert time.monotonic() - began < 5
    assert caught.value.pid == child.pid
    with lock:
        assert not lock.acquire(False) if kind == "Lock" else lock.acquire(False)
        if kind == "RLock":
            lock.release()
    assert lock.acquire(timeout=1)
    lock.release()


@pytest.mark.parametrize("kind", LOCKS)
def test_one_who_already_waits_is_told(context: Any, kind: str) -> None:
    lock, ready = getattr(context, kind)(), context.Event()
    child = started(context, holders.take_and_be_killed, lock, ready)
    assert ready.wait(30)
    threading.Timer(0.3, child.kill).start()
    with pytest.raises(OwnerDied), lock:
        raise AssertionError("the lock was taken")
    child.join()


def test_exactly_one_of_several_is_told(context: Any) -> None:
    lock, outcomes = context.Lock(), context.Queue()
    ready = context.Event()
    child = started(context, holders.take_and_be_killed, lock, ready)
    assert ready.wait(30)
    waiters = [started(context, holders.take_after_death, lock, outcomes) for _ in range(3)]
    time.sleep(0.3)
    child.kill()
    came = [outcomes.get(timeout=30) for _ in waiters]
    assert sorted(came, key=str) == sorted([child.pid, None, None], key=str)
    for process in [child, *waiters]:
        process.join()


@pytest.mark.parametrize("kind", LOCKS)
def test_who_asks_again_and_again_without_waiting_is_told(context: Any, kind: str) -> None:
    lock = getattr(context, kind)()
    killed_holder(context, lock)
    with pytest.raises(OwnerDied):
        until(lambda: lock.acquire(False))
    assert lock.acquire(False)
    lock.release()


def test_a_wait_with_a_limit_is_told_or_too_short(context: Any) -> None:
    lock = context.Lock()
    killed_holder(context, lock)
    with pytest.raises(OwnerDied):
        while not lock.acquire(timeout=0.02):
            pass


@pytest.mark.parametrize("kind", LOCKS)
def test_an_orderly_end_leaves_the_lock_locked(context: Any, kind: str) -> None:
    """As in the standard library: another process may release a Lock."""
    lock = getattr(context, kind)()
    child = started(context, holders.take_and_leave, lock)
    child.join()
    assert child.exitcode == 0
    assert not lock.acquire(timeout=0.5)
    assert not lock.acquire(False)
    if kind == "Lock":
        lock.release()
        assert lock.acquire(False)
        lock.release()


def test_leaving_without_an_end_is_a_death(context: Any) -> None:
    lock = context.Lock()
    started(context, holders.take_and_leave_at_once, lock).join()
    with pytest.raises(OwnerDied):
        lock.acquire(timeout=30)


def test_a_condition_whose_lock_was_lost_can_be_used(context: Any) -> None:
    condition = context.Condition()
    killed_holder(context, condition)
    with pytest.raises(OwnerDied), condition:
        raise AssertionError("the lock was taken")
    with condition:
        assert condition.wait(0.05) is False


def test_wait_takes_the_lock_and_tells_of_the_death(context: Any) -> None:
    condition, ready = context.Condition(), context.Event()
    with condition:
        child = started(context, holders.take_again_and_be_killed, condition, ready)
        threading.Thread(target=lambda: (ready.wait(30), child.kill())).start()
        with pytest.raises(OwnerDied):
            condition.wait(30)
        condition.notify()  # the lock is ours: `with` gives it back
    child.join()
    assert condition.acquire(timeout=1)
    condition.release()


def test_a_living_holder_is_left_alone(context: Any) -> None:
    lock, ready, go = context.Lock(), context.Event(), context.Event()
    child = started(context, holders.take_and_say, lock, ready, go)
    assert ready.wait(30)
    assert not lock.acquire(timeout=0.5)
    os.kill(child.pid, signal.SIGSTOP)
    assert not lock.acquire(timeout=0.5)
    os.kill(child.pid, signal.SIGCONT)
    go.set()
    child.join()


def test_the_error_is_an_error_of_this_package_and_travels() -> None:
    error = OwnerDied("somebody died", 5)
    assert isinstance(error, manyhands.ProcessError)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.pid) == ("somebody died", 5)
