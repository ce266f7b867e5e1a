"""What comes from an end that is broken, hostile or dead: an exception that says so, never a hang."""

from __future__ import annotations

import hmac
import os
import pickle
import resource
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import peers
import pytest

import manyhands
from manyhands import connection
from manyhands.connection import Client, Listener, Pipe
from scripts import descriptors


@pytest.mark.parametrize("frame", [b"\xff\xff\xff\xfe", b"\x80\0\0\0", b"\xff" * 12], ids=["-2", "lowest", "2**64-1"])
def test_a_length_that_cannot_be_is_refused(raw: Any, frame: bytes) -> None:
    end, other = raw
    other.sendall(frame)
    with pytest.raises(OSError, match="bad message length"):
        end.recv_bytes()
    assert not end.readable


@pytest.mark.parametrize(
    "frame", [b"\0", b"\0\0\0\x05hell", b"\xff\xff\xff\xff\0\0", struct.pack("!iQ", -1, 1 << 40) + b"x"]
)
def test_a_message_that_is_cut_off_is_an_error(raw: Any, frame: bytes) -> None:
    end, other = raw
    other.sendall(frame)
    other.close()
    with pytest.raises(OSError, match="got end of file during message"):
        end.recv()


@pytest.mark.parametrize("frame", [b"", b"\0\0\0\x05"])
def test_a_stream_that_ends_before_a_message_is_eoferror(raw: Any, frame: bytes) -> None:
    end, other = raw
    other.sendall(frame)
    other.close()
    with pytest.raises(EOFError):
        end.recv()


def test_an_announced_length_takes_no_memory(raw: Any) -> None:
    end, other = raw
    other.sendall(struct.pack("!iQ", -1, 1 << 46) + bytes(1000))
    other.close()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), limits[1]))
    try:
        with pytest.raises(OSError, match="got end of file during message"):
            end.recv_bytes()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.parametrize("message", [b"", b"not a pickle", pickle.dumps([1, 2, 3])[:-3], b"cnowhere\nnothing\n."])
def test_a_message_that_is_no_pickle_is_the_unpicklers_error(raw: Any, message: bytes) -> None:
    end, other = raw
    other.sendall(struct.pack("!i", len(message)) + message)
    with pytest.raises((EOFError, pickle.UnpicklingError, ImportError, ValueError, IndexError)):
        end.recv()
    other.sendall(b"\0\0\0\x02hi")
    assert end.recv_bytes() == b"hi"


def test_a_peer_that_is_killed_in_a_message_is_noticed(context: Any) -> None:
    a, b = Pipe()
    child = context.Process(target=peers.die_in_a_message, args=(b,))
    child.start()
    b.close()
    with a, pytest.raises(OSError, match="got end of file during message"):
        a.recv()
    child.join()


# ---- the handshake ----

KEY = b"the key"


def drain(end: socket.socket) -> None:
    """Reads until the other end is closed; who closes with something unread resets the stream."""
    with suppress(ConnectionResetError):
        while end.recv(1000):
            pass


@contextmanager
def accepting(authkey: bytes | None = KEY, family: str = "AF_UNIX") -> Iterator[tuple[Any, list[Any]]]:
    """A listener that accepts once, in a thread; what came of it is in the list when the block has ended."""
    outcome: list[Any] = []

    def accept(listener: Listener) -> None:
        try:
            with listener.accept() as end:
                outcome.append(end.recv())
        except Exception as error:
            outcome.append(error)

    with Listener(family=family, authkey=authkey) as listener:
        thread = threading.Thread(target=accept, args=(listener,))
        thread.start()
        yield listener.address, outcome
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize("family", connection.families)
def test_who_has_another_key_is_refused_on_both_ends(family: str) -> None:
    with accepting(family=family) as (address, outcome):
        with pytest.raises(manyhands.AuthenticationError, match="rejected"):
            Client(address, authkey=b"another key")
    assert isinstance(outcome[0], manyhands.AuthenticationError)


def test_who_has_no_key_is_refused() -> None:
    with accepting() as (address, outcome):
        with Client(address) as end:
            assert end.recv_bytes().startswith(b"#CHALLENGE#")
            end.send("let me in")
            assert end.recv_bytes() == b"#FAILURE#"
    assert isinstance(outcome[0], manyhands.AuthenticationError)


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_nothing_unauthenticated_is_unpickled(tmp_path: Any) -> None:
    mark = tmp_path / "mark"
    with accepting() as (address, outcome):
        with Client(address) as end:
            end.recv_bytes()
            end.send(Trap(str(mark)))
            end.recv_bytes()
    assert isinstance(outcome[0], manyhands.AuthenticationError)
    assert not mark.exists()


@pytest.mark.parametrize(
    "answer",
    [
        struct.pack("!i", 257) + bytes(257),
        struct.pack("!iQ", -1, 1 << 40),
        struct.pack("!i", -5),
        struct.pack("!i", 100) + bytes(50),
        b"",
        struct.pack("!i", 16) + bytes(16),
        struct.pack("!i", 40) + b"{sha256}" + bytes(32),
        struct.pack("!i", 13) + b"{sha256}short",
        struct.pack("!i", 12) + b"{none}answer",
        struct.pack("!i", 0),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["long", "huge", "negative", "cut", "closed", "md5", "sha256", "short", "unknown", "empty", "http"],
)
def test_a_wrong_answer_to_the_challenge_is_refused(answer: bytes) -> None:
    before = descriptors()
    with accepting() as (address, outcome):
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(address)
            other.sendall(answer)
            other.shutdown(socket.SHUT_WR)
            drain(other)
    assert isinstance(outcome[0], (manyhands.AuthenticationError, EOFError, OSError))
    assert descriptors() == before


@pytest.mark.parametrize(
    "said",
    [
        struct.pack("!i", 1000) + bytes(1000),
        struct.pack("!i", 5) + b"hello",
        struct.pack("!i", 11) + b"#CHALLENGE#",
        struct.pack("!i", 41) + b"#CHALLENGE#" + b"{shake}" + bytes(23),
        b"",
    ],
    ids=["long", "no challenge", "too short", "unknown digest", "closed"],
)
def test_a_client_refuses_a_wrong_challenge(said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0manyhands-test-{os.getpid()}")
        listener.listen()

        def serve() -> None:
            end, _ = listener.accept()
            with end:
                end.sendall(said)
                end.shutdown(socket.SHUT_WR)
                drain(end)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises((manyhands.AuthenticationError, EOFError, OSError)):
            Client(f"\0manyhands-test-{os.getpid()}", authkey=KEY)
        thread.join()


def test_a_silent_peer_does_not_keep_out_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT", 0.1)
    with Listener(authkey=KEY, backlog=2) as listener:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(listener.address)
            with pytest.raises(manyhands.AuthenticationError, match="no proof of the key within 0.1 s"):
                listener.accept()
        thread = threading.Thread(target=lambda: Client(listener.address, authkey=KEY).close())
        thread.start()
        with listener.accept() as end:
            thread.join()
            # The limit was for the handshake alone.
            with pytest.raises(EOFError):
                end.recv()


def test_a_peer_that_drips_bytes_does_not_keep_out_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT", 0.3)
    with Listener(authkey=KEY) as listener, socket.socket(socket.AF_UNIX) as slow:
        slow.connect(listener.address)

        def drip() -> None:
            with suppress(OSError):  # it was refused
                for byte in struct.pack("!i", 255) + bytes(255):
                    slow.send(bytes([byte]))
                    threading.Event().wait(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(manyhands.AuthenticationError, match="no proof of the key within 0.3 s"):
            listener.accept()
        thread.join()


def test_signals_do_not_prolong_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT", 0.3)
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        with Listener(authkey=KEY) as listener, socket.socket(socket.AF_UNIX) as silent:
            silent.connect(listener.address)
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
            with pytest.raises(manyhands.AuthenticationError, match="no proof of the key within 0.3 s"):
                listener.accept()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_connection_may_be_silent_after_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT", 0.1)
    with Listener(authkey=KEY) as listener:

        def late() -> None:
            with Client(listener.address, authkey=KEY) as end:
                threading.Event().wait(0.3)
                end.send("late")

        thread = threading.Thread(target=late)
        thread.start()
        with listener.accept() as end:
            assert end.recv() == "late"
        thread.join()


@pytest.mark.parametrize("digest", ["md5", "sha256", "sha384", "sha3_256", "sha3_384"])
def test_every_allowed_digest_is_understood(digest: str) -> None:
    a, b = Pipe()
    with a, b:
        thread = threading.Thread(target=connection.answer_challenge, args=(b, KEY))
        thread.start()
        connection.deliver_challenge(a, KEY, digest)
        thread.join()


def test_an_old_ends_challenge_is_answered_the_old_way() -> None:
    challenge = os.urandom(20)
    assert connection._create_response(KEY, challenge) == hmac.new(KEY, challenge, "md5").digest()


@pytest.mark.parametrize("key", ["text", 5, bytearray(b"key")])
def test_a_key_that_is_not_bytes_is_refused(key: Any, tmp_path: Any) -> None:
    with pytest.raises(TypeError, match="byte string"):
        Listener(str(tmp_path / "socket"), authkey=key)
    assert not (tmp_path / "socket").exists()
    with pytest.raises(TypeError, match="byte string"):
        Client(str(tmp_path / "socket"), authkey=key)
    for act in (connection.deliver_challenge, connection.answer_challenge):
        with pytest.raises(ValueError, match="Authkey must be bytes"):
            act(None, key)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Client(5),
        lambda: Client(b"path"),
        lambda: Client(r"\\.\pipe\name"),
        lambda: Listener(family="AF_NOTHING"),
        lambda: Listener(r"\\.\pipe\name"),
        lambda: connection.arbitrary_address("AF_NOTHING"),
    ],
)
def test_an_address_or_family_that_is_none_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        call()


def test_nobody_listening_is_an_oserror(tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError):
        Client(str(tmp_path / "socket"))
    with socket.socket() as unused:
        unused.bind(("localhost", 0))
        with pytest.raises(ConnectionRefusedError):
            Client(unused.getsockname())
