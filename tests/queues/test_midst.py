"""What comes in the midst of a put or a get: a signal, a close, the queue's end, or another's death."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import users

from manyhands import queues
from scripts import printed, until


def test_nobody_waits_for_an_item_whose_sender_was_killed_before_it_was_sent(context: Any) -> None:
    q = context.Queue()
    q.put(users.TOO_LONG)
    until(lambda: q._wlock.locked())  # the feeder has begun: the child's item stays with the child
    child = context.Process(target=users.put_and_be_killed, args=(q, b"x" * 200_000))
    child.start()
    child.join()
    q.get()
    assert q.qsize() == 1
    q.shutdown()
    for get in (q.get_nowait, lambda: q.get(timeout=0.05)):
        with pytest.raises((queue.Empty, queues.ShutDown)):
            get()
    with pytest.raises(queues.ShutDown):
        q.get()


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_a_get_does_not_read_from_what_has_the_number_of_its_closed_end(kind: str) -> None:
    import manyhands

    context = manyhands.get_context("fork")
    q, answers = getattr(context, kind)(), []
    if kind == "Queue":
        q.put("so that the queue has been used")
        q.get()

    def get() -> None:
        try:
            answers.append(q.get())
        except Exception as error:
            answers.append(type(error))

    getter = threading.Thread(target=get)
    getter.start()
    time.sleep(0.2)  # it waits by now, in all likelihood
    number = q._reader.fileno()
    q.close()
    pairs = [context.Pipe() for _ in range(5)]  # one of them gets the number
    assert any(number in (a.fileno(), b.fileno()) for a, b in pairs)
    for a, b in pairs:
        a.send("to b")
        b.send("to a")
    getter.join()
    assert answers == [OSError]
    assert all((a.recv(), b.recv()) == ("to a", "to b") for a, b in pairs)


@pytest.mark.parametrize("act", ["get", "put"])
def test_one_interrupt_ends_a_wait_in_the_midst_of_a_long_item_and_the_others_are_told(
    tmp_path: Path, act: str
) -> None:
    """The other side is stopped half-way; the signal comes once, before handlers may run."""
    assert printed(
        tmp_path,
        """
        import os, signal, sys, threading, time
        import manyhands

        def produce(q):
            q.put(b"x" * 30_000_000)
            time.sleep(600)

        context = manyhands.get_context("fork")
        q = context.SimpleQueue()
        act = {"get": q.get, "put": lambda: q.put(b"x" * 30_000_000)}[sys.argv[1]]
        other = context.Process(target=produce if sys.argv[1] == "get" else time.sleep, args=(q,) if sys.argv[1] == "get" else (600,))
        other.start()
        if sys.argv[1] == "get":
            while q.empty():
                time.sleep(0.01)
            os.kill(other.pid, signal.SIGSTOP)

        def interrupt():
            while sys.argv[1] == "put" and q.empty():
                time.sleep(0.01)  # nothing has begun to pass
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        try:
            act()
        except KeyboardInterrupt:
            print("interrupted")
        try:
            act()
        except OSError as error:
            print(str(error).partition(": ")[2])
        other.kill()
        other.join()
        """,
        act,
    ) == ["interrupted", "use a new queue"]


@pytest.mark.parametrize("immediate", [False, True])
def test_a_queue_with_half_an_item_in_it_can_be_shut_down(context: Any, immediate: bool) -> None:
    q = context.Queue()
    producer = context.Process(target=users.put_all, args=(q, [users.TOO_LONG]))
    producer.start()
    until(lambda: not q.empty())
    os.kill(producer.pid, signal.SIGSTOP)
    consumer = context.Process(target=q.get)
    consumer.start()
    until(lambda: q._rlock.locked())
    time.sleep(0.1)  # it is inside the item
    consumer.kill()
    consumer.join()
    with pytest.raises(OSError, match="use a new queue"):
        q.get()
    q.shutdown(immediate)
    producer.kill()
    producer.join()


def test_who_sends_lets_go_of_its_items_when_the_queue_is_shut_down_at_once(context: Any, make_bounded: Any) -> None:
    q = make_bounded()
    q.put("got and done")
    q.get()
    if hasattr(q, "task_done"):
        q.task_done()
    items = [b"x" * 3000] * 50 + [users.TOO_LONG] + [b"x" * 3000] * 50
    child = context.Process(target=users.put_all, args=(q, items))
    child.start()
    until(lambda: q.qsize() == len(items))
    q.shutdown(immediate=True)
    child.join()
    assert child.exitcode == 0
    assert q.qsize() == 0
    with pytest.raises(queues.ShutDown):
        q.get()
    if hasattr(q, "join"):
        q.join()


def test_a_task_that_was_got_has_to_be_done_though_the_queue_was_shut_down_at_once(context: Any) -> None:
    q = context.JoinableQueue()
    for item in range(3):
        q.put(item)
    assert q.get() == 0
    q.shutdown(immediate=True)
    joined = threading.Thread(target=q.join)
    joined.start()
    joined.join(0.2)
    assert joined.is_alive()
    q.task_done()
    joined.join()


def test_all_learn_of_a_shutdown_though_one_is_killed_when_it_has_to_tell_them(context: Any) -> None:
    q, answers = context.Queue(), context.SimpleQueue()
    victim = context.Process(target=users.get_and_die_of_the_end, args=(q,))
    victim.start()
    other = context.Process(target=users.tell_what_get_raises, args=(q, answers))
    other.start()
    time.sleep(0.3)  # both wait by now, in all likelihood
    os.kill(other.pid, signal.SIGSTOP)
    q.shutdown()
    victim.join()
    os.kill(other.pid, signal.SIGCONT)
    assert answers.get() == "ShutDown"
    other.join()


def test_a_put_that_is_interrupted_takes_neither_a_place_nor_a_task(make_bounded: Any) -> None:
    q = make_bounded(1)
    with pytest.raises(KeyboardInterrupt):
        q.put(users.StopsPutting())
    assert q.qsize() == 0
    if hasattr(q, "join"):
        q.join()
    q.put("there is room", block=False)
    assert q.get() == "there is room"


def test_an_item_that_takes_long_to_pickle_does_not_hold_back_those_before_it(context: Any) -> None:
    q, answers, allowed = context.Queue(), context.SimpleQueue(), context.Event()
    q.put(users.TOO_LONG)  # from now on the feeder sends
    q.put("a")
    q.put("b")
    q.put(users.WaitsInPickling(allowed))
    child = context.Process(target=users.get_then_allow, args=(q, 3, allowed, answers))
    child.start()
    assert answers.get()[1:] == ["a", "b"]
    assert answers.get() == "the last one"
    child.join()
