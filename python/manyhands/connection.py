"""Connections: objects and bytes between two processes, over a pipe, a Unix socket or TCP.

Always: the frames and the handshake are the standard library's, so either end may be a plain Python.  Until the
other end has proved that it knows the key, no message of more than 256 bytes is read and nothing is unpickled.
Not here: the transfer itself, which is the engine's (`_engine.send_message`, `recv_message`), what is said in the
handshake (`_handshake`), and how long it may take (`_patience`).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _engine, _handshake, context, reduction, util
from .context import AuthenticationError as AuthenticationError
from .context import BufferTooShort as BufferTooShort

if TYPE_CHECKING:
    import ssl

    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["Client", "Listener", "Pipe", "wait"]

# A program may have put another module in reduction's place (context.reducer).
_ForkingPickler = context._default_context.reducer.ForkingPickler

# The handshake's names are here in the standard library, and programs and its tests find them here.
deliver_challenge = _handshake.deliver_challenge
answer_challenge = _handshake.answer_challenge
_create_response = _handshake._create_response
_verify_challenge = _handshake._verify_challenge
_get_digest_name_and_payload = _handshake._get_digest_name_and_payload
MESSAGE_LENGTH = _handshake.MESSAGE_LENGTH
_CHALLENGE, _WELCOME, _FAILURE = _handshake._CHALLENGE, _handshake._WELCOME, _handshake._FAILURE
if sys.version_info < (3, 12):
    CHALLENGE, WELCOME, FAILURE = _CHALLENGE, _WELCOME, _FAILURE

BUFSIZE = 8192
CONNECTION_TIMEOUT = 20.0  # seconds
# How long the handshake may take who has connected to a listener: a peer that is silent must not keep out all others.
HANDSHAKE_TIMEOUT = 30.0  # seconds

default_family = "AF_UNIX"
families = ["AF_INET", "AF_UNIX"]


def __getattr__(name: str) -> Any:
    # Modules that only some connections need: a child that has a pipe starts without them.
    if name in ("socket", "tempfile", "struct", "selectors"):
        from importlib import import_module

        return import_module(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _init_timeout(timeout: float = CONNECTION_TIMEOUT) -> float:
    return time.monotonic() + timeout


def _check_timeout(t: float) -> bool:
    return time.monotonic() > t


# ---- addresses ----


def arbitrary_address(family: str) -> Any:
    """Return an address that is free, for a listener of this family."""
    if family == "AF_INET":
        return ("localhost", 0)
    if family == "AF_UNIX":
        import tempfile

        return tempfile.mktemp(prefix="sock-", dir=util.get_temp_dir())
    raise ValueError(f"unrecognized family {family!r}: it is 'AF_INET' or 'AF_UNIX'")


def _validate_family(family: str) -> None:
    """Raise ValueError for a family that this system does not have."""
    if family == "AF_PIPE":
        raise ValueError(f"Family {family} is not recognized.")
    import socket

    if not hasattr(socket, family):
        raise ValueError(f"Family {family} is not recognized.")


def address_type(address: Any) -> str:
    """Return the family, a str, of an address: a tuple (host, port), or a str that is a path or abstract.

    Raises ValueError for anything else.
    """
    if type(address) is tuple:
        return "AF_INET"
    if type(address) is str and address.startswith("\\\\"):
        return "AF_PIPE"
    if type(address) is str or util.is_abstract_socket_namespace(address):
        return "AF_UNIX"
    raise ValueError(f"address type of {address!r} unrecognized")


# ---- one end ----


class _ConnectionBase:
    """What every connection offers; a subclass says how bytes are moved."""

    _handle: int | None = None
    # Whether what has come may be in here already, so that the descriptor does not say it all.
    _reads_ahead = False

    def __init__(self, handle: int, readable: bool = True, writable: bool = True) -> None:
        handle = handle.__index__()
        if handle < 0:
            raise ValueError(f"invalid handle: {handle} is not a file descriptor")
        if not readable and not writable:
            raise ValueError("at least one of `readable` and `writable` must be True")
        self._handle = handle
        self._readable = readable
        self._writable = writable

    def __del__(self) -> None:
        if self._handle is not None:
            self._close()

    # How bytes are moved.

    def _close(self) -> None:
        raise NotImplementedError

    def _send_bytes(self, buf: Any) -> None:
        raise NotImplementedError

    def _send_pickle(self, obj: Any) -> None:
        self._send_bytes(_ForkingPickler.dumps(obj))

    def _recv_bytes(self, maxsize: int | None = None) -> bytes | None:
        raise NotImplementedError

    def _recv_object(self) -> Any:
        message = self._recv_bytes()
        if message is None:
            self._bad_message_length()
        assert message is not None
        return _ForkingPickler.loads(message)

    def _poll(self, timeout: float | None) -> bool:
        raise NotImplementedError

    # What may be done.

    def _check_closed(self) -> None:
        if self._handle is None:
            raise OSError("handle is closed")

    def _check_readable(self) -> None:
        if not self._readable:
            raise OSError("connection is write-only")

    def _check_writable(self) -> None:
        if not self._writable:
            raise OSError("connection is read-only")

    def _bad_message_length(self) -> None:
        # What follows is the middle of a message: nothing more can be read.
        if self._writable:
            self._readable = False
        else:
            self.close()
        raise OSError("bad message length")

    @property
    def closed(self) -> bool:
        """Whether the connection is closed."""
        return self._handle is None

    @property
    def readable(self) -> bool:
        """Whether the connection can receive."""
        return self._readable

    @property
    def writable(self) -> bool:
        """Whether the connection can send."""
        return self._writable

    def fileno(self) -> int:
        """Return the file descriptor, an int.  Raises OSError when closed.  Differs: none."""
        self._check_closed()
        return self._handle  # type: ignore[return-value]

    def close(self) -> None:
        """Close the connection; more than once does nothing.  Differs: none."""
        if self._handle is not None:
            try:
                self._close()
            finally:
                self._handle = None

    def send_bytes(self, buf: ReadableBuffer, offset: int = 0, size: int | None = None) -> None:
        """Send bytes as one message.  Differs: a buffer that is not contiguous can be sent.

        buf -- bytes or another object with the buffer protocol
        offset, size -- int, in bytes: which part; the rest by default

        Raises ValueError for a part outside the buffer; OSError when closed, read-only, or (BrokenPipeError) when
        the other end is closed.
        """
        self._check_closed()
        self._check_writable()
        data: Any = buf if type(buf) is bytes else _as_bytes(buf)
        if offset or size is not None:
            data = memoryview(data)[_part(len(data), offset, size)]
        self._send_bytes(data)

    def send(self, obj: Any) -> None:
        """Send an object, pickled.  Raises what pickling raises, and as `send_bytes`.  Differs: none."""
        self._check_closed()
        self._check_writable()
        self._send_pickle(obj)

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive one message, bytes; wait for it.

        maxlength -- int: a longer message raises OSError, and no other can be received then

        Raises EOFError when the other end is closed and nothing is left; OSError for a message that is cut off.
        Differs: a length below zero, which no end sends, raises OSError; memory is set aside as bytes arrive, not for
        what is announced.
        """
        self._check_closed()
        self._check_readable()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        message = self._recv_bytes(maxlength)
        if message is None:
            self._bad_message_length()
        return message  # type: ignore[return-value]

    def recv_bytes_into(self, buf: WriteableBuffer, offset: int = 0) -> int:
        """Receive one message into a writable buffer; return its length in bytes.

        offset -- int, bytes from the buffer's beginning

        Raises BufferTooShort, whose args[0] is the message, bytes, if it does not fit; and as `recv_bytes`.
        Differs: none.
        """
        self._check_closed()
        self._check_readable()
        with memoryview(buf) as view:
            size = view.nbytes
            if offset < 0:
                raise ValueError("negative offset")
            if offset > size:
                raise ValueError("offset too large")
            message = self._recv_bytes()
            if message is None:
                self._bad_message_length()
            assert message is not None
            if size < offset + len(message):
                raise BufferTooShort(message)
            if message:
                with view.cast("B") as room:
                    room[offset : offset + len(message)] = message
            return len(message)

    def recv(self) -> Any:
        """Receive an object; wait for it.  Never receive from whom you do not trust: unpickling runs code.

        Raises what unpickling raises, and as `recv_bytes`.  Differs: none.
        """
        self._check_closed()
        self._check_readable()
        return self._recv_object()

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether a message, or the end of the stream, can be received within `timeout` seconds.

        timeout -- float; None: wait without end.  Raises OSError when closed or write-only.  Differs: none.
        """
        self._check_closed()
        self._check_readable()
        return self._poll(timeout)

    def __enter__(self) -> _ConnectionBase:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()


def _as_bytes(buf: Any) -> Any:
    """Return a view of a buffer as bytes; a copy where they do not lie in one piece."""
    view = memoryview(buf)
    if view.nbytes == 0:
        return b""
    if not view.c_contiguous:
        return view.tobytes()
    return view.cast("B")


def _part(length: int, offset: int, size: int | None) -> slice:
    if offset < 0:
        raise ValueError("offset is negative")
    if length < offset:
        raise ValueError("buffer length < offset")
    if size is None:
        return slice(offset, length)
    if size < 0:
        raise ValueError("size is negative")
    if offset + size > length:
        raise ValueError("buffer length < offset + size")
    return slice(offset, offset + size)


class Connection(_ConnectionBase):
    """One end of a pipe or socket.

    handle -- int, the file descriptor, which is the connection's from now on
    readable, writable -- bool

    It can be sent to another process, as an argument of a new one or over a connection.  Differs: none.
    """

    def _close(self, _close: Callable[[int], None] = os.close) -> None:
        _close(self._handle)  # type: ignore[arg-type]

    def _send_bytes(self, buf: Any, _send: Callable[..., None] = _engine.send_message) -> None:
        _send(self._handle, buf, 0, len(buf))

    def _send_pickle(self, obj: Any) -> None:
        if _ForkingPickler is reduction.ForkingPickler:
            _engine.send_object(self._handle, obj)  # type: ignore[arg-type]  # checked by the caller
        else:
            super()._send_pickle(obj)

    def _recv_bytes(
        self, maxsize: int | None = None, _recv: Callable[..., bytes | None] = _engine.recv_message
    ) -> bytes | None:
        return _recv(self._handle, maxsize)

    def _recv_object(self) -> Any:
        if _ForkingPickler is reduction.ForkingPickler:
            return _engine.recv_object(self, self._handle)  # type: ignore[arg-type]  # checked by the caller
        return super()._recv_object()

    def _poll(self, timeout: float | None) -> bool:
        return _engine.poll_message(self._handle, timeout)  # type: ignore[arg-type]  # checked by the caller


# A name that the standard library has on Windows alone, and that programs look for.
PipeConnection = None


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Return two connected ends.

    duplex -- bool: both send and receive, over a Unix socket pair; else the first only receives and the second
    only sends, over a pipe.  Differs: none.
    """
    if duplex:
        one, other = _engine.socket_pair()
        return Connection(one), Connection(other)
    one, other = os.pipe()
    return Connection(one, writable=False), Connection(other, readable=False)


# ---- many at once ----


def _fileno(obj: Any) -> int:
    fd = obj
    if not isinstance(fd, int):
        try:
            fd = int(obj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(
                f"Invalid file object: {obj!r}; wait takes connections, sockets, sentinels: what has a fileno()"
            ) from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Return those of the objects that are ready, in their order; wait until one is.

    object_list -- connections, sockets, processes' sentinels: ints, or objects with fileno()
    timeout -- float, seconds; below zero is zero; None: wait without end

    A closed end is ready.  Raises ValueError for what cannot be waited for.  Differs: an object may be given twice.
    """
    objects = list(object_list)
    fds = [_fileno(obj) for obj in objects]
    if any(getattr(obj, "_reads_ahead", False) for obj in objects):
        from . import _tls

        return _tls.wait(objects, fds, timeout)
    ready = set(_engine.wait_readable(fds, timeout))
    return [obj for obj, fd in zip(objects, fds, strict=True) if fd in ready]


# ---- listeners and clients ----


class Listener:
    """Waits for connections at an address.

    address -- (host, port), or a path or abstract name, str; None: one that is free
    family -- 'AF_INET' or 'AF_UNIX'; None: what the address says
    backlog -- int, how many may wait to be accepted
    authkey -- bytes that both ends have to know; None: anybody may connect
    ssl_context -- a server's ssl.SSLContext, with a certificate: everything goes through TLS; None: nothing does.
        Its num_tickets is set to 0, as no session is resumed

    Raises OSError when the address cannot be had; TypeError for a key that is not bytes or a context that is none;
    ValueError for a client's context.

    Differs: an empty key is a key on every version; whose handshake takes longer than 30 s is refused; TLS.
    """

    def __init__(
        self,
        address: Any = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._listener: SocketListener | None = None
        self._ssl_context = None if ssl_context is None else _checked(ssl_context, server_side=True)
        if authkey is not None and not isinstance(authkey, bytes):
            raise TypeError("authkey should be a byte string")
        family = family or (address and address_type(address)) or default_family
        _validate_family(family)
        address = address or arbitrary_address(family)
        self._listener = SocketListener(address, family, backlog)
        self._authkey = authkey

    def accept(self) -> Any:
        """Wait for a connection and return it, a `Connection`.

        Raises AuthenticationError when the other end does not know the key, is slow to say so, or speaks no TLS that
        `ssl_context` accepts; EOFError or OSError when it goes away meanwhile; OSError when the listener is closed.
        """
        if self._listener is None:
            raise OSError("listener is closed")
        connection = self._listener.accept()
        if self._ssl_context is not None:
            from . import _tls

            try:
                return _tls.accepted(connection, self._ssl_context, self._authkey, HANDSHAKE_TIMEOUT)
            except BaseException:
                connection.close()
                raise
        if self._authkey is not None:
            try:
                from . import _patience

                with _patience.hurried(connection, HANDSHAKE_TIMEOUT) as hurried:
                    deliver_challenge(hurried, self._authkey)
                    answer_challenge(hurried, self._authkey)
            except BaseException:
                connection.close()
                raise
        return connection

    def close(self) -> None:
        """Accept no more; a Unix socket's file goes.  More than once does nothing.  Differs: none."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    @property
    def address(self) -> Any:
        """Where this listener is to be found: (host, port) or a str."""
        return self._open()._address

    @property
    def last_accepted(self) -> Any:
        """The address of the last that connected; None before the first."""
        return self._open()._last_accepted

    def _open(self) -> SocketListener:
        if self._listener is None:
            raise AttributeError("the listener is closed, and has no address any more")
        return self._listener

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()


def Client(
    address: Any,
    family: str | None = None,
    authkey: bytes | None = None,
    *,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
) -> Connection:
    """Connect to a listener and return the connection.

    address -- (host, port), or a path or abstract name, str
    authkey -- bytes, the listener's key
    ssl_context -- a client's ssl.SSLContext: connect through TLS, to a listener that has one too; None: do not
    server_hostname -- str, whom the listener's certificate has to name; None: the address's host

    Raises OSError when nobody listens; ssl.SSLError, which is one, when the listener's certificate is not accepted or
    it speaks no TLS; AuthenticationError when the keys differ; TypeError for a key that is not bytes or a context
    that is none; ValueError for a server's context, or where there is no name to check.  Differs: TLS.
    """
    if ssl_context is not None:
        _checked(ssl_context, server_side=False)
    elif server_hostname is not None:
        raise ValueError("server_hostname is for ssl_context, which is not given")
    family = family or address_type(address)
    _validate_family(family)
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError("authkey should be a byte string")
    connection = SocketClient(address)
    if ssl_context is not None:
        from . import _tls

        return _tls.connected(connection, ssl_context, authkey, server_hostname or _tls.host(address))
    if authkey is not None:
        try:
            answer_challenge(connection, authkey)
            deliver_challenge(connection, authkey)
        except BaseException as error:
            connection.close()
            if type(error) is EOFError:
                error.add_note(
                    "the listener hung up in the handshake: does it speak TLS, so that ssl_context is needed here?"
                )
            raise
    return connection


def _checked(context: Any, *, server_side: bool) -> Any:
    """Return an SSL context if it is one, and for this side."""
    import ssl

    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"ssl_context should be an ssl.SSLContext, not {context!r}")
    side, purpose = ("server", "CLIENT_AUTH") if server_side else ("client", "SERVER_AUTH")
    if context.protocol != (ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT):
        raise ValueError(
            f"ssl_context is no {side}'s: give a {side}'s, as of ssl.create_default_context(ssl.Purpose.{purpose})"
        )
    if server_side:
        # A ticket for another session, of which there is none, would lie unread with a client that only sends; when it
        # closes or is killed, the kernel would then reset the connection, and what is still on its way be lost.
        context.num_tickets = 0
    return context


class SocketListener:
    """A listening socket: what a `Listener` has inside."""

    def __init__(self, address: Any, family: str, backlog: int = 1) -> None:
        import socket

        self._socket = socket.socket(getattr(socket, family))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setblocking(True)
            self._socket.bind(address)
            self._socket.listen(backlog)
            self._address = self._socket.getsockname()
        except BaseException:
            self._socket.close()
            raise
        self._family = family
        self._last_accepted: Any = None
        self._unlink: util.Finalize | None = None
        if family == "AF_UNIX" and not util.is_abstract_socket_namespace(address):
            # The path goes with this object or at exit, but never in a forked child: Finalize knows its process.
            self._unlink = util.Finalize(self, _remove, args=(address,), exitpriority=0)

    def accept(self) -> Connection:
        """Wait for a connection and return it."""
        sock, self._last_accepted = self._socket.accept()
        sock.setblocking(True)
        return Connection(sock.detach())

    def close(self) -> None:
        """Close the socket and remove its file."""
        try:
            self._socket.close()
        finally:
            unlink, self._unlink = self._unlink, None
            if unlink is not None:
                unlink()


def _remove(path: str, _unlink: Callable[[str], None] = os.unlink) -> None:
    try:
        _unlink(path)
    except FileNotFoundError:
        pass  # the user removed it, or the folder it was in


def SocketClient(address: Any) -> Connection:
    """Connect to a socket that listens at `address`."""
    import socket

    with socket.socket(getattr(socket, address_type(address))) as sock:
        sock.setblocking(True)
        sock.connect(address)
        return Connection(sock.detach())


# ---- XML instead of pickles ----


class ConnectionWrapper:
    """A connection whose objects are written and read by other functions than pickle's.

    dumps -- callable: object to bytes; loads -- callable: bytes to object
    """

    def __init__(self, conn: Any, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]) -> None:
        self._conn = conn
        self._dumps = dumps
        self._loads = loads
        self._reads_ahead = getattr(conn, "_reads_ahead", False)
        for name in ("fileno", "close", "poll", "recv_bytes", "send_bytes"):
            setattr(self, name, getattr(conn, name))

    def send(self, obj: Any) -> None:
        """Send an object."""
        self._conn.send_bytes(self._dumps(obj))

    def recv(self) -> Any:
        """Receive an object."""
        return self._loads(self._conn.recv_bytes())


def _xml_dumps(obj: Any) -> bytes:
    import xmlrpc.client

    return xmlrpc.client.dumps((obj,), None, None, None, True).encode("utf-8")


def _xml_loads(s: bytes) -> Any:
    import xmlrpc.client

    (obj,), _ = xmlrpc.client.loads(s.decode("utf-8"))
    return obj


class XmlListener(Listener):
    """A listener whose connections speak XML: what XML-RPC can say, and no code is run by what arrives."""

    def accept(self) -> ConnectionWrapper:
        """Wait for a connection and return it."""
        return ConnectionWrapper(Listener.accept(self), _xml_dumps, _xml_loads)


def XmlClient(*args: Any, **kwds: Any) -> ConnectionWrapper:
    """Connect to an XmlListener: as `Client`."""
    return ConnectionWrapper(Client(*args, **kwds), _xml_dumps, _xml_loads)


# ---- pickling ----


def reduce_connection(conn: Connection) -> tuple[Any, ...]:
    """Say how a connection is pickled: its descriptor travels as a duplicate."""
    return rebuild_connection, (reduction.DupFd(conn.fileno()), conn.readable, conn.writable)


def rebuild_connection(df: Any, readable: bool, writable: bool) -> Connection:
    """Make a connection of what `reduce_connection` sent."""
    return Connection(df.detach(), readable, writable)


reduction.register(Connection, reduce_connection)
