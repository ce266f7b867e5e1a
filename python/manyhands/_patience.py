"""How long a stranger may keep us: connections of which all has to be said by one moment.

Always: neither signals nor bytes that drip in put that moment off.  Who is given up for his silence gets no more
than a closed connection.
Not here: what is said (`_handshake`), connections that have proved that they know the key (`connection`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import _engine
from .connection import Connection, ConnectionWrapper, _ConnectionBase, address_type
from .context import AuthenticationError

__all__ = ["Hurried", "client", "hang_up", "hurried"]


class Hurried(Connection):
    """A socket that does not block, lent by its owner: all that is sent and received has to be done by one moment.

    Signals do not put that off, nor do bytes that drip in.  Raises BlockingIOError when it is not done.
    """

    def __init__(self, handle: int, deadline: float) -> None:
        super().__init__(handle)
        self._deadline = deadline

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _close(self) -> None:  # type: ignore[override]
        """The owner does it."""

    def _send_bytes(self, buf: Any) -> None:  # type: ignore[override]
        _engine.send_within(self._handle, bytes(buf), self._left())  # type: ignore[arg-type]

    def _recv_bytes(self, maxsize: int | None = None) -> bytes | None:  # type: ignore[override]
        return _engine.recv_within(self._handle, maxsize, self._left())  # type: ignore[arg-type]

    _send_pickle = _ConnectionBase._send_pickle
    _recv_object = _ConnectionBase._recv_object


@contextmanager
def hurried(connection: Any, seconds: float) -> Iterator[Any]:
    """Let the handshake that the block makes, over what is yielded, take no longer."""
    if type(connection) not in (Connection, ConnectionWrapper):
        yield connection  # somebody else's kind: how it moves bytes is its own business
        return
    fd = connection.fileno()
    os.set_blocking(fd, False)
    try:
        yield Hurried(fd, time.monotonic() + seconds)
    except BlockingIOError:
        raise AuthenticationError(f"the other end gave no proof of the key within {seconds:g} s") from None
    os.set_blocking(fd, True)  # not in a `finally`: whose handshake failed is closed


@contextmanager
def client(address: Any, seconds: float) -> Iterator[Hurried]:
    """Connect to a socket that listens at `address`; that, and what the block says, may take no longer."""
    import socket

    deadline = time.monotonic() + seconds
    with socket.socket(getattr(socket, address_type(address))) as sock:
        while True:
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                sock.connect(address)
                break
            except BlockingIOError:  # too many wait at a Unix socket already
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        yield Hurried(sock.fileno(), deadline)


def hang_up(connection: Any) -> None:
    """Let whoever waits for the other end of a socket find that it is closed."""
    import socket

    sock = socket.socket(fileno=connection.fileno())
    try:
        sock.shutdown(socket.SHUT_RDWR)
    finally:
        sock.detach()
