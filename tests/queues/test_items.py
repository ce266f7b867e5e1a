"""What goes into a queue comes out: order, bounds, time-outs, kinds of items, classes derived from it."""

from __future__ import annotations

import os
import pickle
import queue
import threading
import time
from collections import defaultdict
from typing import Any

import pytest
import users

from manyhands import queues

ITEMS: list[Any] = [
    None, 0, -(2**70), 1.5, "", "text ☃", b"", b"x" * 4000, b"x" * 4091, b"x" * 4092, b"x" * 4093, b"x" * 5000,
    [1, [2]], {"a": {1, 2}}, (1,), bytes(range(256)) * 300, bytearray(b"ab"), bytes(3_000_000), True, os.getcwd,
]  # fmt: skip


def test_items_arrive_in_order_and_as_they_were(context: Any, make: Any) -> None:
    inbox, outbox = make(), make()
    child = context.Process(target=users.echo, args=(inbox, outbox))
    child.start()
    for item in ITEMS[1:]:
        inbox.put(item)
        assert outbox.get() == item
    if hasattr(inbox, "qsize"):  # SimpleQueue's put() waits while the pipe is full
        for item in ITEMS[1:]:
            inbox.put(item)
        assert [outbox.get() for _ in ITEMS[1:]] == ITEMS[1:]
    inbox.put(None)
    child.join()
    assert child.exitcode == 0


def test_each_producers_items_stay_in_order(context: Any, make: Any) -> None:
    q, count = make(), 3000
    children = [context.Process(target=users.put_numbered, args=(q, who, count)) for who in range(3)]
    for child in children:
        child.start()
    seen = defaultdict(list)
    for _ in range(3 * count):
        who, number = q.get()
        seen[who].append(number)
    assert dict(seen) == {who: list(range(count)) for who in range(3)}
    for child in children:
        child.join()


def test_each_item_goes_to_one_consumer(context: Any, make: Any) -> None:
    q, found = make(), context.SimpleQueue()
    children = [context.Process(target=users.get_until_none, args=(q, found)) for _ in range(3)]
    for child in children:
        child.start()
    for number in range(3000):
        q.put(number)
    for _ in children:
        q.put(None)
    assert sum(found.get() for _ in children) == 3000
    for child in children:
        child.join()


def test_each_threads_items_stay_in_order(context: Any, make_bounded: Any) -> None:
    q = make_bounded()
    child = context.Process(target=users.put_from_threads, args=(q, 4, 1500))
    child.start()
    seen = defaultdict(list)
    for _ in range(4 * 1500):
        who, number = q.get()
        seen[who].append(number)
    assert dict(seen) == {who: list(range(1500)) for who in range(4)}
    child.join()


def test_put_does_not_wait_for_a_reader(make_bounded: Any) -> None:
    q = make_bounded()
    items = [bytes([number % 256]) * 1000 for number in range(2000)]
    for item in items:
        q.put(item)
    assert q.qsize() == 2000
    assert [q.get() for _ in items] == items
    assert q.qsize() == 0
    q.close()
    q.join_thread()


def test_a_bound_is_kept(make_bounded: Any) -> None:
    q = make_bounded(2)
    q.put(1)
    assert not q.full()
    q.put(2)
    assert (q.full(), q.qsize()) == (True, 2)
    began = time.monotonic()
    with pytest.raises(queue.Full):
        q.put(3, timeout=0.2)
    assert time.monotonic() - began >= 0.2
    for refused in (
        lambda: q.put_nowait(3),
        lambda: q.put(3, False),
        lambda: q.put(3, True, 0),
        lambda: q.put(3, timeout=-1),
    ):
        with pytest.raises(queue.Full):
            refused()
    assert q.get() == 1
    q.put_nowait(3)
    assert [q.get(), q.get()] == [2, 3]
    assert not q.full()


def test_a_place_that_comes_free_is_taken_at_once(make_bounded: Any) -> None:
    q = make_bounded(1)
    q.put(1)
    waiter = threading.Thread(target=q.put, args=(2,))
    waiter.start()
    assert q.get() == 1
    assert q.get(timeout=10) == 2
    waiter.join()


def test_an_empty_queue_says_so(make_bounded: Any) -> None:
    q = make_bounded()
    assert q.empty()
    for refused in (
        q.get_nowait,
        lambda: q.get(False),
        lambda: q.get(True, 0),
        lambda: q.get(timeout=-1),
        lambda: q.get(0),
    ):
        with pytest.raises(queue.Empty):
            refused()
    began = time.monotonic()
    with pytest.raises(queue.Empty):
        q.get(timeout=0.2)
    assert time.monotonic() - began >= 0.2
    q.put(1)
    assert not q.empty()


def test_simple_queues_say_whether_they_are_empty(context: Any) -> None:
    q = context.SimpleQueue()
    assert q.empty()
    q.put(None)
    assert not q.empty()
    assert q.get() is None
    q.close()
    for refused in (q.empty, q.get, lambda: q.put(1)):
        with pytest.raises(OSError, match="closed"):
            refused()


def test_a_closed_queue_refuses(make_bounded: Any) -> None:
    for use in (False, True):
        q = make_bounded()
        if use:
            q.put(1)
        with pytest.raises(AssertionError, match="not closed"):
            q.join_thread()
        q.close()
        q.join_thread()
        for refused in (q.get, lambda: q.put(1), q.get_nowait, lambda: q.put_nowait(1)):  # noqa: B023
            with pytest.raises(ValueError, match="is closed"):
                refused()
        if use:
            with pytest.raises(OSError, match="is closed"):
                q.empty()
        else:
            assert q.empty()
        q.close()


def test_what_cannot_be_pickled_gives_its_place_back(context: Any, capfd: Any) -> None:
    q = context.Queue(1)
    q.put(users.Unpicklable())
    q.put("fine")
    assert q.qsize() == 1
    assert q.get() == "fine"
    assert "not for sending" in capfd.readouterr().err
    noting = users.Noting(1, ctx=context)
    thing = users.Unpicklable()
    noting.put(thing)
    noting.put(1)
    assert noting.refused == [(ValueError, thing)]
    assert noting.get() == 1


def test_what_cannot_be_pickled_is_done_for_those_who_join(context: Any) -> None:
    q = context.JoinableQueue()
    q._on_queue_feeder_error = lambda e, obj: None
    q.put(users.Unpicklable())
    q.join()
    with pytest.raises(ValueError):
        q.task_done()


def test_what_cannot_be_pickled_is_an_error_of_a_simple_queue(context: Any) -> None:
    q = context.SimpleQueue()
    with pytest.raises(ValueError, match="not for sending"):
        q.put(users.Unpicklable())
    q.put(1)
    assert q.get() == 1


def test_what_cannot_be_unpickled_is_an_error_and_gone(make: Any) -> None:
    q = make()
    q.put(users.Unloadable())
    q.put(1)
    with pytest.raises(ValueError, match="no number"):
        q.get()
    assert q.get() == 1


def test_what_the_feeder_cannot_pickle_is_reported_too(context: Any, make_bounded: Any) -> None:
    q, told = make_bounded(10), []
    q._on_queue_feeder_error = lambda e, obj: told.append(type(e))
    q.put(users.TOO_LONG)  # what follows is the feeder's
    q.put(users.Unpicklable())
    q.put(b"y" * 200_000)
    q.put("last")
    assert [q.get()[:1], q.get()[:1], q.get()] == [b"x", b"y", "last"]
    assert (told, q.qsize()) == ([ValueError], 0)
    if hasattr(q, "join"):
        for _ in range(3):
            q.task_done()
        q.join()


def test_what_a_subclass_leaves_in_the_buffer_is_sent(context: Any) -> None:
    q = context.Queue()
    with q._notempty:
        q._start_thread()
        q._buffer.append([1])
        q._notempty.notify()
    assert q._sem.acquire()
    assert q.get() == [1]


def test_tasks_are_counted(context: Any) -> None:
    q = context.JoinableQueue()
    workers = [context.Process(target=users.work, args=(q,), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(20):
        q.put(number)
    q.join()
    assert (q.qsize(), q._unfinished_tasks.get_value()) == (0, 0)
    for worker in workers:
        worker.terminate()
        worker.join()
    with pytest.raises(ValueError, match="too many times"):
        q.task_done()
    q.join()


def test_a_queue_goes_only_to_a_child_that_is_being_started(make: Any) -> None:
    with pytest.raises(RuntimeError, match="inheritance"):
        pickle.dumps(make())


def test_an_inherited_queue_is_passed_on(context: Any, make: Any) -> None:
    q = make()
    child = context.Process(target=_pass_on, args=(context, q))
    child.start()
    assert q.get() == "from a grandchild"
    child.join()
    assert child.exitcode == 0


def _pass_on(context: Any, q: Any) -> None:
    child = context.Process(target=users.put_all, args=(q, ["from a grandchild"]))
    child.start()
    child.join()


@pytest.mark.parametrize("cls", [users.Wrapping, users.OldState])
def test_derived_classes_work_in_children(context: Any, cls: Any) -> None:
    q, big = cls(ctx=context), b"x" * 300_000
    child = context.Process(target=users.put_all, args=(q, [1, big, 2]))
    child.start()
    assert [q.get(timeout=20), q.get(), q.get()] == [1, big, 2]
    child.join()
    assert q.qsize() == 0
    assert users.nonblocking(q) == "empty"
    q.put("here")
    assert q.get() == "here"


def test_a_feeder_of_ones_own_pickles_in_its_own_way(context: Any) -> None:
    q = users.OwnFeeder(ctx=context)
    child = context.Process(target=users.put_and_stay, args=(q, 1, told := context.SimpleQueue()))
    child.start()
    assert q.get() == ("mine", 1)
    told.put("got it")
    child.join()


def test_classes_can_be_subscripted() -> None:
    assert queues.Queue[int].__origin__ is queues.Queue
    assert queues.SimpleQueue[int].__origin__ is queues.SimpleQueue


def test_bytes_can_be_read_and_written_below(context: Any) -> None:
    """Libraries wait for `_reader`, and some read from it."""
    from manyhands.connection import wait
    from manyhands.reduction import ForkingPickler

    q = context.SimpleQueue()
    assert wait([q._reader], 0) == []
    q.put([1])
    assert wait([q._reader], 10) == [q._reader]
    with q._rlock:
        assert ForkingPickler.loads(q._reader.recv_bytes()) == [1]
    with q._wlock:
        q._writer.send([2])
    assert q.get() == [2]
