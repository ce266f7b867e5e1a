"""Pipes, and the functions that children run at their other end (`peers`)."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands import resource_sharer
from manyhands.connection import Connection, Pipe

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=[True, False], ids=["duplex", "one-way"])
def pipe(request: pytest.FixtureRequest) -> Iterator[tuple[Connection, Connection]]:
    """(receiving end, sending end), of both kinds of pipe."""
    receiver, sender = Pipe(request.param)
    yield receiver, sender
    receiver.close()
    sender.close()


@pytest.fixture
def raw() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection, and the other end as a socket that anything can be written to."""
    ours, theirs = socket.socketpair()
    connection = Connection(ours.detach())
    yield connection, theirs
    connection.close()
    theirs.close()


@pytest.fixture
def sharer() -> Iterator[Any]:
    """The resource sharer, stopped when the test ends: its thread would disturb later forks."""
    yield resource_sharer
    resource_sharer.stop(timeout=10)
