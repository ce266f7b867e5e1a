"""Calls of proxies that a signal handler ends: the next call is not spoilt, and what they were about is not lost."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import manyhands
import shared
from manyhands import managers


@contextmanager
def interrupted(error: type[BaseException] = KeyboardInterrupt) -> Iterator[None]:
    """A block that waits, until a signal's handler raises `error`."""

    def ring(*_: Any) -> None:
        raise error("rung")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(error, match="rung"):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


KINDS = [("pickle", None), ("pickle", ("localhost", 0)), ("xmlrpclib", None)]


@pytest.fixture(params=KINDS, ids=["pickle-unix", "pickle-tcp", "xml-unix"])
def any_manager(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A SyncManager with each serializer, over each family."""
    serializer, address = request.param
    context = manyhands.get_context("fork")
    with managers.SyncManager(address=address, serializer=serializer, ctx=context) as manager:
        yield manager


@pytest.mark.parametrize("error", [KeyboardInterrupt, LookupError, TimeoutError, EOFError])
@pytest.mark.parametrize("serializer", ["pickle", "xmlrpclib"])
def test_an_interrupted_call_does_not_spoil_the_next(serializer: str, error: type[BaseException]) -> None:
    with shared.Manager(serializer=serializer, ctx=manyhands.get_context("fork")) as manager:
        counter = manager.Counter()
        counter.add()
        with interrupted(error):
            counter.sleep(20)
        assert counter.add() == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_half_of_a_request_does_not_spoil_the_next(forked: Any, error: type[BaseException]) -> None:
    box = forked.dict(a=1)
    assert box["a"] == 1
    server = forked._process.pid
    os.kill(server, signal.SIGSTOP)
    try:
        with interrupted(error):
            box.update(b=b"x" * 5_000_000)
    finally:
        os.kill(server, signal.SIGCONT)
    assert (box["a"], "b" in box) == (1, False)


def test_what_an_interrupted_get_took_is_given_back(any_manager: Any) -> None:
    letters = any_manager.Queue()
    with interrupted():
        letters.get()
    letters.put("first")
    letters.put("second")
    # The second may be had while the first is on its way back.
    assert {letters.get(True, 10), letters.get(True, 10)} == {"first", "second"}


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_what_an_interrupted_acquire_acquired_is_released(any_manager: Any, kind: str) -> None:
    lock = getattr(any_manager, kind)()
    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            enough.wait()

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    try:
        with interrupted():
            lock.acquire()
    finally:
        enough.set()
        other.join()
    assert lock.acquire(True, 10)
    lock.release()


@pytest.mark.parametrize("kind", ["RLock", "Condition"])
def test_a_lock_that_its_owner_alone_could_release_goes_with_the_owner(context: Any, kind: str) -> None:
    with context.Manager() as manager:
        lock, ready = getattr(manager, kind)(), manager.Event()
        child = context.Process(target=shared.hold_lock, args=(lock, ready))
        child.start()
        ready.wait()
        assert not lock.acquire(False)
        child.kill()
        child.join()
        assert lock.acquire(True, 10)
        lock.release()


@pytest.mark.parametrize("cut", [b"\0\0\1\0half of a request", b"\xff\xff\xff\xfe"], ids=["cut off", "no length"])
@pytest.mark.parametrize("serializer", ["pickle", "xmlrpclib"])
def test_a_request_that_is_cut_off_is_answered_once(serializer: str, cut: bytes) -> None:
    with managers.SyncManager(serializer=serializer, ctx=manyhands.get_context("fork")) as manager:
        values = manager.dict(a=1)
        with manyhands.connection.Client(manager.address, authkey=manager._authkey) as client:
            end = client
            if serializer == "xmlrpclib":
                end = manyhands.connection.ConnectionWrapper(
                    client, manyhands.connection._xml_dumps, manyhands.connection._xml_loads
                )
            end.send((None, "accept_connection", ("broken",), {}))
            assert end.recv()[0] == "#RETURN"
            with socket.socket(fileno=os.dup(client.fileno())) as raw:
                raw.sendall(cut)
                raw.shutdown(socket.SHUT_WR)
            assert end.recv()[0] == "#TRACEBACK"
            with pytest.raises(EOFError):  # and not the same again, for ever
                end.recv()
        assert values["a"] == 1
