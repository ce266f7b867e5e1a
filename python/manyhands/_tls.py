"""Connections through TLS: the frames of a plain one, in records that only the two ends can read.

Always: the protocol is the `ssl` module's, and the bytes are moved by the engine, so that one thread may send while
another receives.  What is sent before the other end has proved who it is, is the handshake.
Not here: who listens and who connects (`connection`), managers' contexts (`_manager_tls`).
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NoReturn

from . import _engine, _handshake
from .connection import Connection, _ConnectionBase
from .context import AuthenticationError

__all__ = ["TlsConnection", "accepted", "connected", "host", "wait"]


class TlsConnection(Connection):
    """A connection whose bytes are encrypted.

    carrier -- the plain connection over a socket that it goes through, which is this one's from now on
    context -- ssl.SSLContext; server_side -- bool; server_hostname -- str, or None
    deadline -- the moment, of time.monotonic(), until which all must be done; None: there is none

    It belongs to the process that made it: its keys are there, so it cannot be pickled, and a forked child can only
    close it.  Messages that have come may be in memory already while the descriptor is not readable: `poll` and
    `connection.wait` know, `select` does not.  An end of the stream that is not signed, because the other process was
    killed or somebody cut the line, is an EOFError between messages as a signed one is.
    """

    _reads_ahead = True

    def __init__(
        self,
        carrier: Connection,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        deadline: float | None = None,
    ) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session: Any = context.wrap_bio(
            incoming, outgoing, server_side=server_side, server_hostname=server_hostname
        )  # fmt: skip
        # What is in C: between its calls no handler of a signal runs.
        self._session = session
        self._stream = _engine.TlsStream(session._sslobj, incoming, outgoing)
        self._owner = os.getpid()
        self._deadline = deadline
        self._carrier = carrier
        # At last, as from now on there is something to close.
        super().__init__(carrier.fileno())

    def _check_closed(self) -> None:
        super()._check_closed()
        if self._owner != os.getpid():
            raise OSError(
                "a TLS connection belongs to the process that made it: connect anew in this one, process "
                f"{os.getpid()} is not {self._owner}"
            )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "cannot pickle a TLS connection: its keys belong to this process; connect anew in the other one"
        )

    def _close(self) -> None:  # type: ignore[override]
        if self._carrier.closed:
            return
        # A child of its maker must not say goodbye in its name.
        if self._owner == os.getpid():
            with suppress(OSError):
                self._stream.say_goodbye(self._handle)  # type: ignore[arg-type]  # nothing but close() removes it
        self._carrier.close()

    def _left(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def _shake_hands(self) -> None:
        self._stream.shake_hands(self.fileno(), self._left())

    def _send_bytes(self, buf: Any) -> None:  # type: ignore[override]
        self._stream.send(self.fileno(), buf, self._left())

    def _recv_bytes(self, maxsize: int | None = None) -> bytes | None:  # type: ignore[override]
        return self._stream.recv(self.fileno(), maxsize, self._left())

    _send_pickle = _ConnectionBase._send_pickle
    _recv_object = _ConnectionBase._recv_object

    def _poll(self, timeout: float | None) -> bool:
        return self._stream.poll(self.fileno(), timeout)

    def hung_up(self) -> bool:
        """Return whether the other end has closed its side, and left nothing to be received."""
        return self._stream.hung_up(self.fileno())


# ---- both sides ----


def accepted(carrier: Connection, context: ssl.SSLContext, authkey: bytes | None, seconds: float) -> TlsConnection:
    """Make a connection through TLS of one that a listener has accepted; the whole handshake may take so many seconds.

    Raises AuthenticationError for whoever is not let in, EOFError or OSError when he goes away.  The carrier is then
    still the caller's, to close.
    """
    connection = None
    try:
        connection = TlsConnection(carrier, context, server_side=True, deadline=time.monotonic() + seconds)
        connection._shake_hands()
        if authkey is not None:
            _handshake.deliver_challenge(connection, authkey)
            _handshake.answer_challenge(connection, authkey)
    except ssl.SSLError as error:
        raise AuthenticationError(f"no TLS with the other end: {_explained(error)}") from error
    except BlockingIOError:
        silent = (
            ""
            if connection is not None and connection._stream.spoken
            else ": it said nothing, does it have an ssl_context?"
        )
        raise AuthenticationError(f"the other end did not finish the handshake within {seconds:g} s{silent}") from None
    connection._deadline = None
    return connection


def connected(
    carrier: Connection,
    context: ssl.SSLContext,
    authkey: bytes | None,
    server_hostname: str | None,
    deadline: float | None = None,
) -> TlsConnection:
    """Make a connection through TLS of one to a listener that has a certificate; all may be said until `deadline`.

    Raises ssl.SSLError when there is no TLS with the listener, AuthenticationError when it has another key.
    """
    try:
        if context.check_hostname and not server_hostname:
            raise ValueError(
                "the certificate is to be checked against a name, and the address has none: give server_hostname, or "
                "a context with check_hostname = False"
            )
        connection = TlsConnection(
            carrier, context, server_side=False, server_hostname=server_hostname, deadline=deadline
        )  # fmt: skip
        connection._shake_hands()
        if authkey is not None:
            _handshake.answer_challenge(connection, authkey)
            _handshake.deliver_challenge(connection, authkey)
    except ssl.SSLError as error:
        carrier.close()
        error.add_note(_explained(error))
        raise
    except BaseException:
        carrier.close()
        raise
    return connection


def host(address: Any) -> str | None:
    """Return the host's name in an address, None where there is none."""
    return address[0] if isinstance(address, tuple) else None


# By OpenSSL's reasons, which users see as they are: what is behind them most likely.
_REASONS = {
    "WRONG_VERSION_NUMBER": "the other end does not speak TLS: does it have an ssl_context?",
    "HTTP_REQUEST": "the other end is a browser, or another that speaks HTTP",
    "NO_SHARED_CIPHER": "this listener's ssl_context has no certificate, most likely: load_cert_chain() gives it one",
    "CERTIFICATE_VERIFY_FAILED": "this ssl_context does not trust that certificate: load_verify_locations() tells it of "
    "the authority that signed it",
    "TLSV1_ALERT_UNKNOWN_CA": "the other end does not trust this one's certificate: its ssl_context needs the "
    "authority that signed it (load_verify_locations())",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client has to have a certificate, and has none (load_cert_chain())",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the listener wants a certificate of this end: load_cert_chain() gives "
    "ssl_context one",
}  # fmt: skip


def _explained(error: ssl.SSLError) -> str:
    """Return what an error of OpenSSL means for who uses connections."""
    reason = _REASONS.get(error.reason or "")
    return f"{error}; {reason}" if reason else str(error)


def wait(objects: list[Any], fds: list[int], timeout: float | None) -> list[Any]:
    """Do what `connection.wait` does where some of the objects read ahead."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        at_hand = {id(obj) for obj in _ahead(objects) if obj.poll(0)}
        left = None if end is None else max(end - time.monotonic(), 0.0)
        readable = set(_engine.wait_readable(fds, 0.0 if at_hand else left))
        # That a descriptor of theirs is readable may mean half of a record: the next time round shows.
        ready = [
            obj
            for obj, fd in zip(objects, fds, strict=True)
            if (id(obj) in at_hand if getattr(obj, "_reads_ahead", False) else fd in readable)
        ]
        if ready or not readable:
            return ready


def _ahead(objects: Iterable[Any]) -> list[Any]:
    return [obj for obj in objects if getattr(obj, "_reads_ahead", False)]
