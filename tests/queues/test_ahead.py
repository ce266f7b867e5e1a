"""What one reader of a queue has read of the next item, and who else reads: by itself, by threads, by other processes."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import threading
from typing import Any

import pytest
import users

from manyhands.connection import wait

KINDS = ["Queue", "SimpleQueue"]
# Short ones, pickled by hand or not.
ITEMS = [1, "two", b"3" * 4000, (), {"four": [5]}, None, "six" * 1000, 7.0, b""]


@pytest.fixture(params=KINDS)
def filled(context: Any, request: pytest.FixtureRequest) -> Any:
    q = getattr(context, request.param)()
    for item in ITEMS:
        q.put(item)
    assert q.get() == ITEMS[0]
    return q


def test_who_receives_from_the_pipe_himself_gets_what_is_next(filled: Any) -> None:
    for i, item in enumerate(ITEMS[1:]):
        assert filled._reader.poll()
        match i % 3:
            case 0:
                assert filled._reader.recv() == item
            case 1:
                assert pickle.loads(filled._reader.recv_bytes()) == item
            case 2:
                assert filled.get() == item
    assert not filled._reader.poll()


def test_a_queue_is_ready_as_long_as_it_has_items(filled: Any) -> None:
    for item in ITEMS[1:]:
        assert wait([filled._reader], 0) == [filled._reader]
        assert not filled.empty()
        assert filled.get() == item
    assert wait([filled._reader], 0) == []
    assert filled.empty()


@pytest.mark.parametrize("pipe_alone", [False, True])
def test_another_process_goes_on_where_one_stopped(context: Any, filled: Any, pipe_alone: bool) -> None:
    answers = context.SimpleQueue()
    target, given = (users.receive_some, filled._reader) if pipe_alone else (users.get_some, filled)
    child = context.Process(target=target, args=(given, 3, answers))
    child.start()
    assert answers.get() == ITEMS[1:4]
    child.join()
    assert [filled.get() for _ in ITEMS[4:]] == ITEMS[4:]


def test_a_reader_that_is_killed_between_items_harms_nobody(context: Any, filled: Any) -> None:
    answers = context.SimpleQueue()
    child = context.Process(target=users.get_some_and_stay, args=(filled, 2, answers))
    child.start()
    assert answers.get() == ITEMS[1:3]
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert [filled.get() for _ in ITEMS[3:]] == ITEMS[3:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_length_that_came_without_its_message_keeps_nobody_from_waiting(context: Any, kind: str) -> None:
    q = getattr(context, kind)()
    q.put(1)
    message = pickle.dumps("late")
    # As a stranger might: the beginning of the next message's length, then the rest of it, then the message.
    os.write(q._writer.fileno(), struct.pack("!i", len(message))[:2])
    assert q.get() == 1
    assert q.empty()
    if kind == "Queue":
        q._sem.acquire()
    answers: list[Any] = []
    getter = threading.Thread(target=lambda: answers.append(q.get()))
    getter.start()
    os.write(q._writer.fileno(), struct.pack("!i", len(message))[2:])
    os.write(q._writer.fileno(), message)
    getter.join()
    assert answers == ["late"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_ends_after_a_length_is_an_error(context: Any, kind: str) -> None:
    q = getattr(context, kind)()
    q.put(1)
    os.write(q._writer.fileno(), struct.pack("!i", 5))
    assert q.get() == 1
    q._writer.close()
    with pytest.raises((OSError, EOFError)):
        q.get()


def test_threads_of_several_processes_share_a_queue(context: Any) -> None:
    q, answers = context.Queue(), context.SimpleQueue()
    children = [context.Process(target=users.get_by_threads, args=(q, 3, answers)) for _ in range(2)]
    for child in children:
        child.start()
    for number in range(2000):
        q.put(number)
    for _ in range(6):
        q.put(None)
    got = sorted(number for _ in range(6) for number in answers.get())
    assert got == list(range(2000))
    for child in children:
        child.join()
    assert q.empty()
