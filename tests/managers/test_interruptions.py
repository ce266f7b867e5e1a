"""Calls of proxies that a signal handler ends: the next call is not spoilt, and what they were about is not lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import manyhands
import shared


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
