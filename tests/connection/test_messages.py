"""Messages between two ends: whole, in order, of every size; what is refused before anything is sent."""

from __future__ import annotations

import array
import gc
import os
import pickle
import signal
import socket
import threading
import time
from typing import Any

import peers
import pytest

import manyhands
from manyhands.connection import Connection, Pipe, wait
from scripts import descriptors

SIZES = [0, 1, 3, 4096, 16384, 16385, 65536, 1 << 20, (1 << 20) + 1, 5_000_000]


def in_thread(work: Any, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=args)
    thread.start()
    return thread


@pytest.mark.parametrize("size", SIZES)
def test_a_message_arrives_bit_for_bit(pipe: Any, size: int) -> None:
    receiver, sender = pipe
    message = os.urandom(size)
    thread = in_thread(sender.send_bytes, message)
    assert receiver.recv_bytes() == message
    thread.join()


def test_messages_keep_their_order_and_boundaries(pipe: Any) -> None:
    receiver, sender = pipe
    for i in range(100):
        sender.send_bytes(b"x" * i)
    assert [len(receiver.recv_bytes()) for _ in range(100)] == list(range(100))
    assert not receiver.poll()


def test_objects_are_pickled() -> None:
    a, b = Pipe()
    with a, b:
        value = {"list": [1, 2.5, None], "bytes": b"\0" * 100, "set": {1, 2}}
        a.send(value)
        assert b.recv() == value


PLAIN = [
    None, True, False, 0, 1, 255, 256, 65535, 65536, -1, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**63, 10**30,
    0.0, -0.0, 1e300, float("inf"), "", "a", "ä\u20ac\U0001f600", "\ud800", "x" * 255, "x" * 256, "\x00" * 5000,
    b"", b"a" * 255, b"a" * 256, b"a" * 5000, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((), ((),), (((("deep",),),),)),
    tuple(range(100)), ("id", "__setitem__", ("key", 1), {}), ({}, {}), [], [1], {"a": 1}, ("x" * 4000, "y" * 4000, "z"),
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: repr(value)[:30])
def test_plain_values_are_what_they_were_for_any_python(value: Any) -> None:
    one, other = Pipe()
    one.send(value)
    pickled = other.recv_bytes()
    assert repr(pickle.loads(pickled)) == repr(value)
    assert type(pickle.loads(pickled)) is type(value)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        one.send_bytes(pickle.dumps(value, protocol))
        found = other.recv()
        assert repr(found) == repr(value)
        assert type(found) is type(value)


def test_what_only_looks_plain_is_pickled() -> None:
    one, other = Pipe()
    for value in (peers.Number(3), (peers.Number(3),), peers.Text("text"), peers.Pair((1, 2))):
        one.send(value)
        found = other.recv()
        assert found == value
        assert type(found) is type(value)
    same: dict[str, int] = {}
    one.send((same, same))
    first, second = other.recv()
    assert first is second


@pytest.mark.parametrize(
    "pickled",
    [
        b"", b"\x80", b"\x80\x04", b"\x80\x04.", b"\x80\x04K", b"\x80\x04K\x01", b"\x80\x63K\x01.", b"\x80\x04X\xff\xff\xff\xffa.",
        b"\x80\x04\x8c\x05abc.", b"\x80\x04\x95\xff\0\0\0\0\0\0\0K\x01.", b"\x80\x04\x86.", b"\x80\x04K\x01\x86.",
        b"\x80\x04t.", b"\x80\x04K\x01(\x85.", b"\x80\x04\x94.", b"\x80\x04\x8c\x01\xff.", b"\x80\x04h\x07.", b"\0",
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_pickle_is_told_as_pickle_tells_it(pickled: bytes) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011
        pickle.loads(pickled)
    one, other = Pipe()
    one.send_bytes(pickled)
    with pytest.raises(expected.type) as found:
        other.recv()
    assert str(found.value) == str(expected.value)
    one.send("the next")
    assert other.recv() == "the next"


def test_an_object_that_cannot_be_pickled_sends_nothing() -> None:
    a, b = Pipe()
    with a, b:
        with pytest.raises(Exception, match="pickle"):
            a.send(lambda: None)
        assert not b.poll()


@pytest.mark.parametrize(
    "buffer",
    [array.array("i", range(9)), memoryview(b"abcdefgh")[::2], bytearray(b"xyz"), array.array("d"), memoryview(b"")],
    ids=["ints", "strided", "bytearray", "empty", "nothing"],
)
def test_any_buffer_can_be_sent(pipe: Any, buffer: Any) -> None:
    receiver, sender = pipe
    sender.send_bytes(buffer)
    assert receiver.recv_bytes() == memoryview(buffer).tobytes()


@pytest.mark.parametrize(("offset", "size"), [(0, None), (2, None), (6, None), (0, 0), (1, 3), (6, 0)])
def test_a_part_of_a_buffer_is_sent(pipe: Any, offset: int, size: int | None) -> None:
    receiver, sender = pipe
    sender.send_bytes(b"abcdef", offset, size)
    assert receiver.recv_bytes() == b"abcdef"[offset : None if size is None else offset + size]


@pytest.mark.parametrize(("offset", "size"), [(-1, None), (7, None), (0, -1), (0, 7), (4, 3)])
def test_a_part_outside_the_buffer_is_refused(pipe: Any, offset: int, size: int | None) -> None:
    receiver, sender = pipe
    with pytest.raises(ValueError):
        sender.send_bytes(b"abcdef", offset, size)
    assert not receiver.poll()


def test_a_message_is_received_into_a_buffer(pipe: Any) -> None:
    receiver, sender = pipe
    numbers = array.array("i", [0] * 4)
    sender.send_bytes(array.array("i", [7, 8]))
    assert receiver.recv_bytes_into(numbers, numbers.itemsize) == 2 * numbers.itemsize
    assert list(numbers) == [0, 7, 8, 0]
    sender.send_bytes(b"")
    assert receiver.recv_bytes_into(numbers) == 0


def test_a_message_that_does_not_fit_comes_with_the_exception(pipe: Any) -> None:
    receiver, sender = pipe
    room = bytearray(4)
    sender.send_bytes(b"too long")
    with pytest.raises(manyhands.BufferTooShort) as raised:
        receiver.recv_bytes_into(room)
    assert raised.value.args == (b"too long",)
    assert room == bytes(4)
    sender.send_bytes(b"next")
    assert receiver.recv_bytes() == b"next"


@pytest.mark.parametrize("offset", [-1, 5])
def test_an_offset_outside_the_buffer_reads_nothing(pipe: Any, offset: int) -> None:
    receiver, sender = pipe
    sender.send_bytes(b"kept")
    with pytest.raises(ValueError):
        receiver.recv_bytes_into(bytearray(4), offset)
    assert receiver.recv_bytes() == b"kept"


def test_a_message_longer_than_allowed_ends_receiving() -> None:
    a, b = Pipe()
    with a, b:
        a.send_bytes(b"12345")
        with pytest.raises(OSError, match="bad message length"):
            b.recv_bytes(4)
        assert (b.closed, b.readable, b.writable) == (False, False, True)
        b.send_bytes(b"still possible")
        assert a.recv_bytes(14) == b"still possible"
    receiver, sender = Pipe(False)
    with receiver, sender:
        sender.send_bytes(b"12345")
        with pytest.raises(OSError, match="bad message length"):
            receiver.recv_bytes(4)
        assert receiver.closed


def test_ends_of_a_one_way_pipe_know_their_way() -> None:
    receiver, sender = Pipe(duplex=False)
    with receiver, sender:
        assert (receiver.readable, receiver.writable) == (True, False)
        assert (sender.readable, sender.writable) == (False, True)
        with pytest.raises(OSError, match="read-only"):
            receiver.send(1)
        for use in (sender.recv, sender.recv_bytes, sender.poll, lambda: sender.recv_bytes_into(bytearray(1))):
            with pytest.raises(OSError, match="write-only"):
                use()


def test_a_closed_connection_refuses_everything() -> None:
    a, b = Pipe()
    b.close()
    a.close()
    a.close()
    assert a.closed
    for use in (a.fileno, a.recv, a.poll, lambda: a.send(1), lambda: a.send_bytes(b"")):
        with pytest.raises(OSError, match="closed"):
            use()


def test_the_end_of_the_stream_is_ready_and_is_eoferror(pipe: Any) -> None:
    receiver, sender = pipe
    sender.send(1)
    sender.close()
    assert receiver.recv() == 1
    assert receiver.poll()
    assert wait([receiver], 5) == [receiver]
    with pytest.raises(EOFError):
        receiver.recv()


def test_sending_to_a_closed_end_is_a_broken_pipe(pipe: Any) -> None:
    receiver, sender = pipe
    receiver.close()
    with pytest.raises(BrokenPipeError):
        sender.send_bytes(b"x" * 100)


def test_poll_waits_for_a_message_and_no_longer(pipe: Any) -> None:
    receiver, sender = pipe
    assert not receiver.poll()
    assert not receiver.poll(-1)
    before = time.monotonic()
    assert not receiver.poll(0.05)
    assert time.monotonic() - before >= 0.05
    timer = threading.Timer(0.05, sender.send_bytes, [b"here"])
    timer.start()
    assert receiver.poll(None)
    timer.join()
    # Looking takes nothing away.
    assert receiver.poll()
    assert receiver.recv_bytes() == b"here"


@pytest.mark.parametrize("handle", [-1, -7])
def test_a_number_below_zero_is_no_handle(handle: int) -> None:
    with pytest.raises(ValueError, match="handle"):
        Connection(handle)


def test_a_connection_has_some_direction() -> None:
    with pytest.raises(ValueError):
        Connection(0, readable=False, writable=False)


def test_a_forgotten_connection_gives_its_descriptor_back() -> None:
    gc.collect()  # what other tests have forgotten
    before = descriptors()
    for _ in range(10):
        Pipe()
    gc.collect()
    assert descriptors() == before


def test_a_large_message_survives_signals() -> None:
    seen = []
    previous = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        a, b = Pipe()
        with a, b:
            message = os.urandom(1 << 20) * 16
            received: list[bytes] = []

            def read() -> None:
                time.sleep(0.05)
                received.append(b.recv_bytes())

            thread = in_thread(read)
            a.send_bytes(message)
            thread.join()
            assert received == [message]
            thread = in_thread(a.send_bytes, message)
            assert b.recv_bytes() == message
            thread.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert seen


@pytest.mark.parametrize("blocked", ["recv", "poll", "wait", "send"])
def test_an_exception_in_a_signal_handler_ends_the_wait(blocked: str) -> None:
    class Enough(Exception):
        pass

    def stop(*_: object) -> None:
        raise Enough

    a, b = Pipe()
    uses = {
        "recv": a.recv,
        "poll": lambda: a.poll(None),
        "wait": lambda: wait([a]),
        "send": lambda: a.send_bytes(bytes(16 << 20)),
    }
    previous = signal.signal(signal.SIGALRM, stop)
    try:
        with a, b:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Enough):
                uses[blocked]()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_other_threads_run_while_one_receives() -> None:
    a, b = Pipe()
    with a, b:
        got: list[Any] = []
        thread = in_thread(lambda: got.append(a.recv()))
        b.send("x")
        thread.join()
        assert got == ["x"]


def test_short_messages_of_many_writers_do_not_mix() -> None:
    receiver, sender = Pipe(False)
    with receiver, sender:
        writers = [in_thread(lambda k=k: [sender.send_bytes(bytes([k]) * 500) for _ in range(200)]) for k in range(4)]
        messages = [receiver.recv_bytes() for _ in range(800)]
        for writer in writers:
            writer.join()
    assert all(len(message) == 500 and len(set(message)) == 1 for message in messages)


# ---- wait ----


def test_wait_gives_what_is_ready_in_the_order_given(context: Any) -> None:
    a, b = Pipe()
    one, other = socket.socketpair()
    process = context.Process(target=peers.listen_and_forget, args=("",))
    process.start()
    with a, b, one, other:
        assert wait([a, one], 0) == []
        b.send(1)
        other.send(b"x")
        process.join()
        assert wait([process.sentinel, one, a, one.fileno()]) == [process.sentinel, one, a, one.fileno()]
        assert wait([b, a], 5) == [a]


def test_wait_takes_time_outs() -> None:
    assert wait([], 0) == wait([], -1) == []
    a, b = Pipe()
    with a, b:
        before = time.monotonic()
        assert wait([a], 0.05) == []
        assert time.monotonic() - before >= 0.05


@pytest.mark.parametrize("thing", ["text", object(), -1, 1.5])
def test_wait_refuses_what_it_cannot_wait_for(thing: Any) -> None:
    with pytest.raises(ValueError, match="Invalid file"):
        wait([thing], 0)


def test_wait_refuses_a_closed_connection() -> None:
    a, b = Pipe()
    a.close()
    b.close()
    with pytest.raises(OSError, match="closed"):
        wait([a], 0)
