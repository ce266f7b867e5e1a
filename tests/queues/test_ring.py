"""A queue's ring: what passes through it, what passes it by, and what becomes of both when somebody breaks off."""

from __future__ import annotations

import mmap
import os
import pickle
import struct
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import users

from manyhands._queue_pipe import ring_of
from manyhands.connection import wait
from scripts import printed, until

# Through the ring, but for the longest one, which passes in pieces.
MIXED = [
    1,
    b"a" * 10_000,
    "two",
    b"b" * 3_000_000,
    users.TOO_LONG,
    3.0,
    bytearray(b"c" * 200_000),
    {"d": [4]},
    b"",
    b"e" * 5000,
]
NOTE = struct.pack("!i", -3) + b"\n"


def test_items_of_all_lengths_come_in_order(context: Any, make_bounded: Any) -> None:
    q = make_bounded()
    child = context.Process(target=users.put_all, args=(q, MIXED * 2))
    child.start()
    got = [q.get() for _ in MIXED * 2]
    assert [type(item) for item in got] == [type(item) for item in MIXED * 2]
    assert got == MIXED * 2
    child.join()
    assert q.empty()
    assert wait([q._reader], 0) == []


def test_what_one_process_put_another_gets_by_itself_from_the_pipe(context: Any) -> None:
    q, answers = context.Queue(), context.SimpleQueue()
    for item in MIXED:
        q.put(item)
    child = context.Process(target=users.receive_some, args=(q._reader, len(MIXED), answers))
    child.start()
    assert answers.get() == MIXED
    child.join()
    assert q.empty()


def test_a_limit_holds_for_what_is_in_the_ring(context: Any) -> None:
    q = context.Queue()
    q.put(b"x" * 10_000)
    assert len(pickle.loads(q._reader.recv_bytes(20_000))) == 10_000
    q.put(b"x" * 10_000)
    with pytest.raises(OSError, match="bad message length"):
        q._reader.recv_bytes(9_000)


@pytest.mark.parametrize("late", [False, True])
def test_who_sends_through_wrappers_and_who_does_not_keep_their_order(context: Any, late: bool) -> None:
    """As when a subclass puts a wrapper around a connection after the queue has been used."""
    q = context.Queue()
    for item in range(3):
        q.put(item)
    q._ends = False
    q.put("slowly")
    until(lambda: not q._buffer)
    q._ends = None
    q.put("fast")
    if late:
        q._ends = False
    assert [q.get() for _ in range(5)] == [0, 1, 2, "slowly", "fast"]
    assert not q._poll()


def test_without_a_reader_nothing_waits_and_all_is_there_in_the_end(context: Any) -> None:
    q = context.Queue()
    items = [b"%d" % i * 3000 for i in range(5000)]
    for item in items:
        q.put(item)
    assert [q.get() for _ in items] == items
    assert q.empty()


def test_several_producers_and_consumers_of_long_items_lose_none(context: Any) -> None:
    q, answers = context.Queue(), context.SimpleQueue()
    items = [bytes([i]) * (400_000 + i) for i in range(40)]
    producers = [context.Process(target=users.put_all, args=(q, items)) for _ in range(2)]
    consumers = [context.Process(target=users.get_lengths_until_none, args=(q, answers)) for _ in range(2)]
    for child in producers + consumers:
        child.start()
    for child in producers:
        child.join()
    for _ in consumers:
        q.put(None)
    got = sorted(length for _ in consumers for length in answers.get())
    assert got == sorted(len(item) for item in items * 2)
    for child in consumers:
        child.join()


def test_a_ring_that_is_read_stays_small(context: Any) -> None:
    q = context.Queue()
    for _ in range(20_000):
        q.put(b"x" * 3000)
        q.get()
    assert os.fstat(ring_of(q._reader)._share()).st_blocks * 512 <= 2 << 20


def test_a_queue_goes_without_memory_where_there_is_none(tmp_path: Path, method: str) -> None:
    assert printed(
        tmp_path,
        """
        import resource, sys
        import manyhands
        from manyhands._queue_pipe import ring_of

        def child(q, answers):
            answers.put([q.get() for _ in range(3)])

        if __name__ == "__main__":
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            context = manyhands.get_context(sys.argv[1])
            answers = context.Queue()
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
            q = context.Queue()
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            print(ring_of(q._reader), ring_of(answers._reader) is None)
            process = context.Process(target=child, args=(q, answers))
            process.start()
            for item in (1, "two", b"x" * 300_000):
                q.put(item)
            got = answers.get()
            process.join()
            print(got[:2], len(got[2]))
        """,
        method,
    ) == ["None False", "[1, 'two'] 300000"]


def test_a_queue_whose_descriptor_was_closed_cannot_be_sent(tmp_path: Path) -> None:
    assert printed(
        tmp_path,
        """
        import os
        import manyhands
        from manyhands._queue_pipe import ring_of

        def child(q):
            pass

        if __name__ == "__main__":
            context = manyhands.get_context("spawn")
            q = context.Queue()
            os.close(ring_of(q._reader)._share())
            try:
                context.Process(target=child, args=(q,)).start()
            except OSError as error:
                print(error.strerror.partition(":")[0])
            q.put(1)
            print(q.get())
        """,
    ) == ["could not send this queue to another process", "1"]


def test_a_note_too_many_is_no_item(context: Any) -> None:
    """As a process leaves it that is killed while it puts or gets."""
    q = context.Queue()
    q.put(1)
    assert q.get() == 1
    for _ in range(2):
        os.write(q._writer.fileno(), NOTE)
        assert q.empty()
        os.write(q._writer.fileno(), NOTE * 2)
        q.put("first")
        q.put("second")
        assert [q.get(), q.get()] == ["first", "second"]
        assert wait([q._reader], 0) == []
        os.write(q._writer.fileno(), NOTE)
        assert users.nonblocking(q) == "empty"


def test_a_wait_goes_on_though_a_note_tells_of_nothing(context: Any) -> None:
    q, got = context.Queue(), []
    q.put(1)
    assert q.get() == 1
    getter = threading.Thread(target=lambda: got.append(q.get()))
    getter.start()
    os.write(q._writer.fileno(), NOTE * 2)
    q.put("item")
    getter.join()
    assert got == ["item"]


@pytest.mark.parametrize(("at", "value"), [(128, 1 << 62), (128, 7), (256, 1 << 40), (4096, 0xFFFF_FFF0)])
def test_memory_that_was_overwritten_is_an_error(context: Any, at: int, value: int) -> None:
    q = context.Queue()
    q.put("item")
    with mmap.mmap(ring_of(q._reader)._share(), 8192) as memory:
        struct.pack_into("<Q", memory, at, value)
    with pytest.raises(OSError, match="use a new queue"):
        q.get(timeout=10)


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_who_is_told_that_there_is_an_item_finds_one(context: Any, kind: str) -> None:
    """An executor waits for several things, and must not be kept by a queue that turns out to be empty."""
    q = getattr(context, kind)()
    count = 5000
    producers = [context.Process(target=users.put_numbered, args=(q, who, count)) for who in range(3)]
    for child in producers:
        child.start()
    got = []
    for _ in range(3 * count):
        assert wait([q._reader], 60)
        got.append(q.get(block=False) if kind == "Queue" else q._reader.recv())
    assert sorted(got) == [(who, number) for who in range(3) for number in range(count)]
    for child in producers:
        child.join()
    assert wait([q._reader], 0) == []


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_what_is_sent_by_the_pipe_itself_comes_after_what_is_in_the_ring(context: Any, kind: str) -> None:
    """As a subclass does that has copied the standard library's put()."""
    q = getattr(context, kind)()
    q.put("first")

    def send() -> None:
        with q._wlock:
            q._writer.send(b"x" * 200_000)  # waits for a reader
        q._writer.send_bytes(pickle.dumps("third"))

    sender = threading.Thread(target=send)
    sender.start()
    get = q.get
    if kind == "Queue":
        for _ in range(2):
            q._sem.acquire()
    assert [get(), len(get()), get()] == ["first", 200_000, "third"]
    sender.join()


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_who_receives_from_the_pipe_beside_who_gets_takes_other_items(context: Any, kind: str) -> None:
    q = getattr(context, kind)()
    count, got = 60, []
    items = [bytes([number]) * 300_000 for number in range(count)]
    putter = threading.Thread(target=users.put_all, args=(q, items))
    putter.start()

    def receive() -> None:
        for _ in range(count // 2):
            with q._rlock:
                got.append(q._reader.recv())

    receiver = threading.Thread(target=receive)
    receiver.start()
    got.extend([q.get() for _ in range(count // 2)])
    receiver.join()
    putter.join()
    assert sorted(item[:1] for item in got) == [item[:1] for item in items]
    assert q.empty()


def test_a_closed_simple_queue_is_closed_for_what_is_in_memory_too(context: Any) -> None:
    q = context.SimpleQueue()
    q.put(1)
    q.put(2)
    assert q.get() == 1
    q.close()
    for refused in (q.get, lambda: q.put(3)):
        with pytest.raises(OSError, match="closed"):
            refused()


def test_who_holds_a_queue_s_locks_can_use_it(context: Any) -> None:
    q = context.Queue()
    for number in range(3):
        q.put(number)
    with q._wlock:
        assert [q.get_nowait() for _ in range(3)] == [0, 1, 2]
        assert q.empty()
        assert users.nonblocking(q) == "empty"
    os.write(q._writer.fileno(), NOTE)
    q.put("last")
    os.write(q._writer.fileno(), NOTE)
    got = []
    with q._rlock:
        while q._reader.poll(0):
            got.append(q._reader.recv())
    assert got == ["last"]


def test_a_writer_that_was_killed_with_the_lock_keeps_nobody_from_seeing_that_there_is_nothing(context: Any) -> None:
    q, ready = context.Queue(), context.SimpleQueue()
    q.put(1)
    assert q.get() == 1
    child = context.Process(target=users.hold, args=(q._wlock, ready))
    child.start()
    ready.get()
    os.write(q._writer.fileno(), NOTE)
    child.kill()
    child.join()
    assert users.nonblocking(q) == "empty"
    assert wait([q._reader], 0) == []


def test_an_end_of_a_queue_s_pipe_is_not_sent_over_a_connection(context: Any) -> None:
    a, _ = context.Pipe()
    with pytest.raises(RuntimeError, match="make a Pipe"):
        a.send(context.Queue()._reader)


def test_a_closed_queue_lets_go_of_its_memory(context: Any) -> None:
    for make in (context.Queue, context.SimpleQueue):
        q = make()
        q.put(b"x" * 100_000)
        q.get()
        ring = weakref.ref(ring_of(q._reader))
        q.close()
        assert ring() is None


def test_a_limited_address_space_is_left_to_others(tmp_path: Path) -> None:
    assert printed(
        tmp_path,
        """
        import resource
        import manyhands
        from manyhands._queue_pipe import ring_of

        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, resource.RLIM_INFINITY))
        q = manyhands.Queue()
        print(ring_of(q._reader))
        q.put(b"x" * 100_000)
        print(len(q.get()))
        """,
    ) == ["None", "100000"]
