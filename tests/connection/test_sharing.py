"""Connections and descriptors that travel to other processes: with a child's start, and later."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from typing import Any

import peers
import pytest

import manyhands
from manyhands import reduction
from manyhands.connection import Pipe
from scripts import descriptors


def test_a_connection_is_an_argument_of_a_child(context: Any) -> None:
    a, b = context.Pipe()
    child = context.Process(target=peers.echo, args=(b,))
    child.start()
    b.close()
    for message in ("text", b"x" * 3_000_000, None):
        a.send(message)
        if message is not None:
            assert a.recv() == message
    with pytest.raises(EOFError):
        a.recv()
    a.close()
    child.join()
    assert child.exitcode == 0


def test_a_connection_is_sent_over_a_connection(context: Any, sharer: Any) -> None:
    a, b = context.Pipe()
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=peers.forward, args=(b,))
    child.start()
    with a, b, reader:
        a.send(writer)
        writer.close()
        assert reader.recv() == ("from", True)
        assert (reader.readable, reader.writable) == (True, False)
        with pytest.raises(EOFError):
            reader.recv()
    child.join()


def test_a_socket_is_sent_over_a_connection(sharer: Any) -> None:
    a, b = Pipe()
    one, other = socket.socketpair()
    with a, b, one, other:
        a.send(one)
        with b.recv() as copy:
            copy.sendall(b"over the copy")
        assert other.recv(100) == b"over the copy"


def test_what_was_shared_is_fetched_once(sharer: Any) -> None:
    reading, writing = os.pipe()
    shared = reduction.DupFd(writing)
    os.close(writing)
    fd = pickle.loads(pickle.dumps(shared)).detach()
    os.write(fd, b"x")
    os.close(fd)
    assert os.read(reading, 10) == b"x"
    assert os.read(reading, 10) == b""
    os.close(reading)


@pytest.mark.filterwarnings("ignore")
def test_what_is_not_shared_any_more_is_an_error_and_the_next_is_served(
    sharer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported = threading.Event()
    monkeypatch.setattr("sys.excepthook", lambda *_: reported.set())
    reading, writing = os.pipe()
    shared = reduction.DupFd(writing)
    os.close(shared.detach())
    with pytest.raises((EOFError, ConnectionResetError)):
        shared.detach()
    assert reported.wait(10)
    os.close(reduction.DupFd(writing).detach())
    os.close(reading)
    os.close(writing)


def test_stopping_closes_what_nobody_fetched() -> None:
    from manyhands import resource_sharer

    before = descriptors()
    for _ in range(5):
        reduction.DupFd(0)
    resource_sharer.stop(timeout=10)
    resource_sharer.stop(timeout=10)
    assert descriptors() == before
    os.close(reduction.DupFd(0).detach())
    resource_sharer.stop(timeout=10)
    assert descriptors() == before


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_can_share_too(sharer: Any) -> None:
    context = manyhands.get_context("fork")
    reduction.DupFd(0)  # the sharer's thread runs in this process

    a, b = context.Pipe()
    child = context.Process(target=share_in_child, args=(b,))
    child.start()
    b.close()
    with a, a.recv() as end:
        assert end.recv() == "from a pipe of the child's"
        a.send("fetched")
    child.join()
    assert child.exitcode == 0


def share_in_child(end: Any) -> None:
    from manyhands import resource_sharer

    mine, theirs = Pipe()
    mine.send("from a pipe of the child's")
    end.send(theirs)
    end.recv()
    resource_sharer.stop(timeout=10)


@pytest.mark.parametrize("count", [1, 2, 250])
def test_descriptors_go_through_a_socket(count: int) -> None:
    one, other = socket.socketpair()
    with one, other:
        reduction.sendfds(one, [0] * count)
        fds = reduction.recvfds(other, count)
        assert len(fds) == count
        for fd in fds:
            os.close(fd)
        one.close()
        with pytest.raises(EOFError):
            reduction.recvfds(other, 1)


def test_bytes_where_descriptors_were_expected_are_refused() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.send(b"x")
        with pytest.raises(RuntimeError):
            reduction.recvfds(other, 1)


def test_a_handle_goes_over_a_connection() -> None:
    a, b = Pipe()
    with a, b:
        assert reduction.HAVE_SEND_HANDLE
        reduction.send_handle(a, 0, os.getpid())
        os.close(reduction.recv_handle(b))
        a.send("and the connection goes on")
        assert b.recv() == "and the connection goes on"
