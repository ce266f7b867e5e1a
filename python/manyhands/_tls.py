"""Connections through TLS: the frames of a plain one, in records that only the two ends can read.

Always: the protocol is the `ssl` module's, and the bytes are moved by the engine, so that one thread may send while
another receives.  What is sent before the other end has proved who it is, is the handshake.
Not here: who listens and who connects (`connection`), managers' contexts (`_manager_tls`).
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NoReturn

from . import _engine, _handshake
from .connection import Connection, _ConnectionBase
from .context import AuthenticationError

__all__ = ["TlsConnection", "accepted", "connected", "host", "wait"]

# Bytes that are taken from the socket at once, and encrypted at once: as many as it is good for, and no more in memory.
_SOME = 1 << 18
# The most that one record holds.
_RECORD = 1 << 14
# As `connection` frames messages: see `manyhands_os::frame`.
_LONGEST = 0x7FFFFFFF
_HEADER, _LONG_HEADER = 4, 12


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
        # First of all what may fail: without a descriptor there is nothing to close.
        self._session = context.wrap_bio(
            incoming, outgoing, server_side=server_side, server_hostname=server_hostname
        )  # fmt: skip
        super().__init__(carrier.fileno())
        self._carrier = carrier
        self._incoming, self._outgoing = incoming, outgoing
        self._owner = os.getpid()
        self._deadline = deadline
        self._spoken = False
        # The session and what lies on both sides of it: held for no wait.
        self._mutex = threading.Lock()
        # Who sends a message, or only what the session has to say: the records go out in the order they were made.
        self._sending = threading.Lock()
        self._unsent = b""
        self._cut = False
        # Who receives a message.
        self._receiving = threading.Lock()
        self._plain = bytearray()

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
        # A child of its maker must not say goodbye in its name, nor can one who is in the middle of a message.
        if self._owner == os.getpid() and self._sending.acquire(blocking=False):
            try:
                with suppress(OSError), self._mutex:
                    self._session.unwrap()
                with suppress(OSError):
                    self._flushed(0.0)
            finally:
                self._sending.release()
        self._carrier.close()

    # ---- records ----

    def _left(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def _flush(self) -> None:
        """Send the records that were made; for the holder of `_sending`."""
        while not self._flushed(self._left()):
            if self._left() == 0.0:
                raise BlockingIOError("the time is up")

    def _flushed(self, timeout: float | None) -> bool:
        """Send some of the records that were made, if the socket takes them in time; whether none are left."""
        if not self._unsent:
            with self._mutex:
                self._unsent = self._outgoing.read()
        if self._unsent:
            self._unsent = self._unsent[_engine.send_some(self.fileno(), self._unsent, timeout) :]
        return not self._unsent and not self._outgoing.pending

    def _take(self, timeout: float | None) -> bool:
        """Take what has come from the socket; False when nothing does in time."""
        came = _engine.recv_some(self.fileno(), _SOME, timeout)
        if came is None:
            return False
        with self._mutex:
            self._spoken = True
            if came:
                self._incoming.write(came)
            else:
                self._incoming.write_eof()
        return True

    def _answer(self) -> None:
        """Send what the session has to say by itself, if nobody sends and as far as the socket takes it: who receives
        must not wait for the other end to do so.  Whoever sends next sends the rest first."""
        if self._sending.acquire(blocking=False):
            try:
                self._flushed(0.0)
            finally:
                self._sending.release()

    def _shake_hands(self) -> None:
        """Agree on keys.  Raises ssl.SSLError when there is no agreement, EOFError when the other end goes away."""
        while True:
            try:
                with self._mutex:
                    self._session.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            except ssl.SSLEOFError:
                raise EOFError("the other end closed the connection in the TLS handshake") from None
            except ssl.SSLError:
                with suppress(OSError):
                    self._answer()  # the alert that says why
                raise
            with self._sending:
                self._flush()
            if done:
                return
            if not self._take(self._left()):
                raise BlockingIOError("the time is up")

    # ---- messages ----

    def _send_bytes(self, buf: Any) -> None:  # type: ignore[override]
        size = len(buf)
        if size > _LONGEST:
            header = b"\xff\xff\xff\xff" + size.to_bytes(8, "big")
        else:
            header = size.to_bytes(4, "big")
        with self._sending, memoryview(buf) as view:
            if self._cut:
                raise OSError("an earlier message was interrupted on its way: nothing more can be sent")
            self._flush()
            self._cut = True
            piece, rest = header + view[:_SOME], view[_SOME:]
            while piece:
                with self._mutex:
                    written = self._session.write(piece)
                self._flush()
                piece = piece[written:]
                if not piece:
                    piece, rest = bytes(rest[:_SOME]), rest[_SOME:]
            self._cut = False

    def _recv_bytes(self, maxsize: int | None = None) -> bytes | None:  # type: ignore[override]
        with self._receiving:
            plain = self._plain
            # What has come of a message stays until it is whole: a wait that is interrupted loses nothing.
            self._gather(_HEADER)
            header, size = _HEADER, int.from_bytes(plain[:_HEADER], "big", signed=True)
            if size == -1:
                self._gather(_LONG_HEADER)
                header, size = _LONG_HEADER, int.from_bytes(plain[_HEADER:_LONG_HEADER], "big")
            if size < 0 or (maxsize is not None and size > maxsize):
                return None
            self._gather(header + size)
            with memoryview(plain) as view:
                message = bytes(view[header : header + size])
            del plain[: header + size]
            return message

    _send_pickle = _ConnectionBase._send_pickle
    _recv_object = _ConnectionBase._recv_object

    def _poll(self, timeout: float | None) -> bool:
        end = None if timeout is None else time.monotonic() + timeout
        # Another thread receives what comes: it is ready for us only if that one leaves something.
        if not self._receiving.acquire(
            timeout=-1 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX)
        ):
            return False
        try:
            return bool(self._plain) or self._more(None if end is None else max(end - time.monotonic(), 0.0))
        except EOFError:
            return True
        finally:
            self._receiving.release()

    def hung_up(self) -> bool:
        """Return whether the other end has closed its side, and left nothing to be received."""
        with self._receiving:
            try:
                if not self._plain:
                    self._more(0.0)
            except (EOFError, OSError):
                return True
            return False

    def _gather(self, size: int) -> None:
        """Have so many bytes at hand; for the holder of `_receiving`."""
        while len(self._plain) < size:
            try:
                in_time = self._more(self._left())
            except EOFError:
                if self._plain:
                    raise OSError("got end of file during message") from None
                raise
            if not in_time:
                raise BlockingIOError("the time is up")

    def _more(self, timeout: float | None) -> bool:
        """Decrypt some more bytes; False when none come in time.  Raises EOFError at the end."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            came = None
            with self._mutex:
                try:
                    came = self._session.read(_RECORD)
                except ssl.SSLWantReadError:
                    pass
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    came = b""
                speaks = self._outgoing.pending
            if speaks:
                self._answer()
            if came:
                self._plain += came
                return True
            if came is not None:
                raise EOFError
            if not self._take(None if end is None else max(end - time.monotonic(), 0.0)):
                return False


# ---- both sides ----


def accepted(carrier: Connection, context: ssl.SSLContext, authkey: bytes | None, seconds: float) -> TlsConnection:
    """Make a connection through TLS of one that a listener has accepted; the whole handshake may take so many seconds.

    Raises AuthenticationError for whoever is not let in, EOFError or OSError when he goes away; he is hung up on.
    """
    # A ticket for another session, of which there is none, would lie unread with a client that only sends; when it
    # closes or is killed, the kernel would then reset the connection, and what is still on its way be lost.
    context.num_tickets = 0
    try:
        connection = TlsConnection(carrier, context, server_side=True, deadline=time.monotonic() + seconds)
        connection._shake_hands()
        if authkey is not None:
            _handshake.deliver_challenge(connection, authkey)
            _handshake.answer_challenge(connection, authkey)
    except ssl.SSLError as error:
        carrier.close()
        raise AuthenticationError(f"no TLS with the other end: {_explained(error)}") from error
    except BlockingIOError:
        carrier.close()
        silent = "" if connection._spoken else ": it said nothing, does it have an ssl_context?"
        raise AuthenticationError(f"the other end did not finish the handshake within {seconds:g} s{silent}") from None
    except BaseException:
        carrier.close()
        raise
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
