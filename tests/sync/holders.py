"""What children do with locks and their like, and how a test starts them and waits for facts."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import manyhands


class Undecided:
    def __bool__(self) -> bool:
        return bool(1 // 0)


def count_up(lock: Any, number: Any, times: int) -> None:
    for _ in range(times):
        with lock:
            number.value += 1  # a raw value: read, add, write


def take_and_say(lock: Any, ready: Any, go: Any) -> None:
    lock.acquire()
    ready.set()
    go.wait()


def release(lock: Any) -> None:
    lock.release()


def fail_to_release(lock: Any) -> None:
    try:
        lock.release()
    except AssertionError:
        raise SystemExit(5) from None


def take_without_waiting(lock: Any) -> None:
    raise SystemExit(int(lock.acquire(False)))


def holder_elsewhere(lock: Any, path: str) -> None:
    with open(path, "w") as file:
        file.write(repr(lock))


def wait_for(condition: Any, ready: Any, woken: Any) -> None:
    with condition:
        ready.release()
        condition.wait()
        woken.release()


def wait_for_event(event: Any, ready: Any) -> None:
    ready.release()
    raise SystemExit(int(event.wait(30)))


def be_killed_while_waiting(condition: Any, ready: Any) -> None:
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()
    with condition:
        ready.release()
        condition.wait()


def meet(barrier: Any, met: Any, times: int) -> None:
    for _ in range(times):
        barrier.wait(30)
        met.release()


def hand_on(method: str, lock: Any, number: Any, depth: int) -> None:
    import manyhands

    with lock:
        number.value += 1
    if depth:
        child = manyhands.get_context(method).Process(target=hand_on, args=(method, lock, number, depth - 1))
        child.start()
        child.join()
        raise SystemExit(child.exitcode)


def work_and_be_killed(lock: Any, number: Any) -> None:
    while True:
        with lock:
            number.value += 1


def take_many(locks: list[Any], number: Any) -> None:
    for lock in locks:
        with lock:
            number.value += 1


def sleep_for_ever() -> None:
    time.sleep(600)


def started(context: Any, *args: Any) -> Any:
    target, *rest = args
    child = context.Process(target=target, args=tuple(rest))
    child.start()
    return child


def exit_code(context: Any, *args: Any) -> int:
    child = started(context, *args)
    child.join(40)
    assert not child.is_alive()
    return int(child.exitcode)


def until(true: Any) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)


def take_and_be_killed(lock: Any, ready: Any) -> None:
    lock.acquire()
    ready.set()
    time.sleep(60)


def take_and_leave(lock: Any) -> None:
    lock.acquire()


def take_and_leave_at_once(lock: Any) -> None:
    lock.acquire()
    os._exit(0)


def take_after_death(lock: Any, outcomes: Any) -> None:
    """Takes the lock, and says what came of it: None, or the process whose death was told."""
    try:
        lock.acquire()
    except manyhands.OwnerDied as error:
        outcomes.put(error.pid)
        return
    outcomes.put(None)
    lock.release()


def take_again_and_be_killed(condition: Any, ready: Any) -> None:
    """Notifies a waiter, and is killed before it gives the lock back."""
    with condition:
        condition.notify()
        ready.set()
        time.sleep(60)


def wait_at(barrier: Any, ready: Any) -> None:
    ready.release()
    barrier.wait()


def wait_twice(barrier: Any, outcomes: Any) -> None:
    """Waits at a barrier, and says what came of it, twice."""
    for _ in range(2):
        try:
            outcomes.put(barrier.wait())
        except threading.BrokenBarrierError:
            outcomes.put("broken")
            barrier.reset()
