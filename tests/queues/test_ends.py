"""How a queue ends: shut down for all, closed by one, its users exiting or killed."""

from __future__ import annotations

import gc
import os
import queue
import signal
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import users

from manyhands import queues
from scripts import descriptors, printed, run, wait_for_end

# ---- shutdown ----


def test_a_queue_that_was_shut_down_gives_what_it_has(context: Any, make_bounded: Any) -> None:
    q = make_bounded()
    q.put(1)
    q.put(users.TOO_LONG)
    q.shutdown()
    for refused in (lambda: q.put(2), lambda: q.put_nowait(2), lambda: q.put(2, timeout=1)):
        with pytest.raises(queues.ShutDown):
            refused()
    assert not q.empty()
    assert (q.get(), len(q.get(timeout=10))) == (1, len(users.TOO_LONG))
    for _ in range(3):
        for refused in (q.get, q.get_nowait, lambda: q.get(timeout=1)):
            with pytest.raises(queues.ShutDown):
                refused()
    assert q.empty()
    q.shutdown()


def test_an_immediate_shutdown_drops_what_is_there(make_bounded: Any) -> None:
    q = make_bounded()
    for item in [1, 2, users.TOO_LONG, 3]:
        q.put(item)
    q.shutdown(immediate=True)
    with pytest.raises(queues.ShutDown):
        q.get()
    assert q.qsize() == 0
    if hasattr(q, "join"):
        q.join()


def test_all_who_wait_learn_of_a_shutdown(context: Any) -> None:
    q, full, answers = context.Queue(), context.Queue(1), context.SimpleQueue()
    full.put(1)
    children = [context.Process(target=users.wait_in_get, args=(q, answers)) for _ in range(3)]
    children += [context.Process(target=users.wait_in_put, args=(full, answers)) for _ in range(2)]
    for child in children:
        child.start()
    time.sleep(0.3)  # most of them wait by now; those that do not must learn it too
    q.shutdown()
    full.shutdown()
    assert [answers.get() for _ in children] == ["shut down"] * 5
    for child in children:
        child.join()


def test_the_name_of_the_exception_is_pythons_where_it_has_one() -> None:
    assert queues.ShutDown is getattr(queue, "ShutDown", queues.ShutDown)
    assert queues.ShutDown.__name__ == "ShutDown"


def test_a_queue_unpickled_without_it_cannot_be_shut_down(context: Any) -> None:
    q = users.OldState(ctx=context)
    twin = users.OldState.__new__(users.OldState)
    twin.__setstate__(queues.Queue.__reduce_ex__ and (
        False, q._maxsize, q._reader, q._writer, q._rlock, q._wlock, q._sem, q._opid,
    ))  # fmt: skip
    twin.put(1)
    assert q.get() == 1
    with pytest.raises(NotImplementedError):
        twin.shutdown()


# ---- exit ----


@pytest.mark.parametrize("size", [10, 100_000, 20_000_000])
def test_what_was_put_is_delivered_though_the_putter_exits(context: Any, make_bounded: Any, size: int) -> None:
    q = make_bounded()
    child = context.Process(target=users.put_all, args=(q, [b"x" * size, "last"]))
    child.start()
    assert len(q.get()) == size
    assert q.get() == "last"
    child.join()
    assert child.exitcode == 0


def test_exit_with_undelivered_items_does_not_wait_when_nobody_can_read(tmp_path: Path, method: str) -> None:
    assert printed(
        tmp_path,
        """
        import sys
        import manyhands
        if __name__ == "__main__":
            q = manyhands.get_context(sys.argv[1]).Queue()
            for _ in range(3):
                q.put(b"x" * 20_000_000)
            print("bye")
        """,
        method,
    ) == ["bye"]


def test_join_thread_does_not_wait_when_nobody_can_read(context: Any, make_bounded: Any) -> None:
    q = make_bounded()
    q.put(users.TOO_LONG)
    q.close()
    q.join_thread()


def test_a_child_ends_when_its_reader_was_killed(tmp_path: Path, method: str) -> None:
    """The child has put more than fits into the pipe; its parent, the only reader, is killed."""
    done = run(
        tmp_path,
        """
        import os, signal, sys, time
        import manyhands
        def child(q):
            q.put(b"x" * 30_000_000)
        if __name__ == "__main__":
            context = manyhands.get_context(sys.argv[1])
            q = context.Queue()
            p = context.Process(target=child, args=(q,))
            p.start()
            while not q._poll(0.1):
                pass
            print(p.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        method,
    )
    wait_for_end(int(done.stdout))


def test_cancel_join_thread_lets_a_child_go(context: Any, make_bounded: Any) -> None:
    q = make_bounded()
    child = context.Process(target=_put_and_cancel, args=(q,))
    child.start()
    child.join()
    assert child.exitcode == 0


def _put_and_cancel(q: Any) -> None:
    q.cancel_join_thread()
    q.put(users.TOO_LONG)


def test_a_forgotten_queue_delivers_and_ends_its_thread(context: Any) -> None:
    q = context.Queue()
    reader = q._reader
    q.put(users.TOO_LONG)
    thread, gone = q._thread, weakref.ref(q)
    data = reader.recv_bytes()
    assert len(data) > len(users.TOO_LONG)
    del q
    gc.collect()
    assert gone() is None
    if thread is not None:
        thread.join(10)
        assert not thread.is_alive()


def test_queues_leave_no_descriptors(context: Any, make: Any) -> None:
    def use() -> None:
        q = make()
        q.put(1)
        assert q.get() == 1

    use()
    gc.collect()
    before = descriptors()
    for _ in range(10):
        use()
    gc.collect()
    assert descriptors() <= before


# ---- deaths ----


def test_a_consumer_killed_while_it_waits_harms_nobody(context: Any, make: Any) -> None:
    q, ready = make(), context.SimpleQueue()
    for _ in range(5):
        child = context.Process(target=users.wait_for_items, args=(q, ready))
        child.start()
        pid = ready.get()
        time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        child.join()
        q.put("item")
        assert q.get() == "item"


def test_a_producer_killed_while_the_pipe_is_full_harms_nobody(context: Any, make: Any) -> None:
    q = make()
    for _ in range(3):
        child = context.Process(target=users.put_for_ever, args=(q,))
        child.start()
        while len(q.get()) != 2000:
            pass
        time.sleep(0.05)  # the pipe is full by now, in all likelihood
        child.kill()
        child.join()
        while not q.empty():
            assert len(q.get()) == 2000
        putter = threading.Thread(target=q.put, args=("alive",))
        putter.start()
        assert q.get() == "alive"
        putter.join()


def test_no_writer_left_is_the_end_of_a_simple_queue(context: Any) -> None:
    q = context.SimpleQueue()
    q.put(1)
    q._writer.close()
    assert q.get() == 1
    with pytest.raises(EOFError):
        q.get()


def test_interrupts_reach_those_who_wait(context: Any, make: Any) -> None:
    class Alarm(Exception):
        pass

    def ring(*_: Any) -> None:
        raise Alarm

    q = make()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Alarm):
            q.get()
        q.put("still here")
        assert q.get() == "still here"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_interrupted_put_into_a_full_queue_takes_no_place(make_bounded: Any) -> None:
    class Alarm(Exception):
        pass

    def ring(*_: Any) -> None:
        raise Alarm

    q = make_bounded(1)
    q.put(1)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Alarm):
            q.put(2)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert q.get() == 1
    q.put(3, block=False)
    assert q.get() == 3


def test_garbage_in_the_pipe_is_an_error(context: Any) -> None:
    for bytes_ in (b"\xff\xff\xff\x00", b"\xff\xff\xff\xff" * 3, b"\0\0\0\x04junk"):
        q = context.SimpleQueue()
        os.write(q._writer.fileno(), bytes_)
        with pytest.raises(Exception, match="length|pickle|load|memory"):
            q.get()
    q = context.SimpleQueue()
    os.write(q._writer.fileno(), b"\0\0\0\x10half")
    q._writer.close()
    with pytest.raises(OSError, match="end of file"):
        q.get()


@pytest.mark.parametrize("held", ["_rlock", "_wlock"])
def test_a_lock_of_a_queue_whose_holder_was_killed_is_free_again(context: Any, make: Any, held: str) -> None:
    q, ready = make(), context.SimpleQueue()
    child = context.Process(target=users.hold, args=(getattr(q, held), ready))
    child.start()
    os.kill(ready.get(), signal.SIGKILL)
    child.join()
    for item in (1, b"x" * 3000, 2):
        q.put(item)
        assert q.get() == item


def test_a_producer_killed_inside_a_long_item_is_an_error_for_those_who_get(context: Any, make: Any) -> None:
    q, found = make(), context.SimpleQueue()
    producer = context.Process(target=users.put_all, args=(q, ["first", bytes(50_000_000)]))
    producer.start()
    assert q.get() == "first"
    assert q._reader.poll(20)  # the long one is on its way, and more than fits
    others = [context.Process(target=users.get_and_tell, args=(q, found)) for _ in range(2)]
    os.kill(producer.pid, signal.SIGSTOP)
    for other in others:
        other.start()
    os.kill(producer.pid, signal.SIGKILL)
    producer.join()
    assert [found.get() for _ in others] == ["got end of file during message"] * 2
    for other in others:
        other.join()


def test_killed_producers_and_consumers_harm_nobody_else(context: Any, make: Any) -> None:
    """Kills at any moment: no item is torn, and those who live go on or are told to take a new queue."""
    q = make()

    def exchange(turn: int) -> None:
        for _ in range(20):
            if turn % 2:
                assert len(q.get(*() if not hasattr(q, "qsize") else (True, 20))) == 2000
            else:
                q.put(b"x" * 2000)

    for turn in range(12):
        target = users.put_for_ever if turn % 2 else users.get_for_ever
        child = context.Process(target=target, args=(q,))
        child.start()
        try:
            exchange(turn)
            time.sleep(turn * 0.0007)
            child.kill()
            child.join()
            while not q.empty():
                assert len(q.get()) == 2000
        except OSError as wreck:
            # One was killed with half an item moved: nobody can make that whole, but everybody is told.
            if "use a new queue" not in str(wreck):
                raise
            child.kill()
            child.join()
            q = make()


@pytest.mark.parametrize("size", [300_000, 900_000])
def test_a_process_with_large_items_ends_before_anybody_reads_them(context: Any, make_bounded: Any, size: int) -> None:
    q = make_bounded()
    child = context.Process(target=users.put_all, args=(q, [bytes(size // 3)] * 3))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert [len(q.get(timeout=20)) for _ in range(3)] == [size // 3] * 3
