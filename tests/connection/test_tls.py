"""Connections through TLS: messages, both at once, and who is not let in."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import random
import signal
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import certificates
from manyhands import AuthenticationError, connection
from manyhands.connection import Client, Connection, Listener, Pipe, XmlClient, XmlListener, wait

KEY = b"a key"


@pytest.fixture(scope="module", autouse=True)
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    certificates.write(tmp_path_factory.mktemp("certificates"))
    yield
    del os.environ[certificates.VARIABLE]


def meet(listener: Any, connect: Any) -> tuple[Any, Any]:
    """What accept() returned or raised, and what connect() did, at the same time."""
    outcomes: dict[str, Any] = {}

    def attempt(name: str, call: Any) -> None:
        try:
            outcomes[name] = call()
        except Exception as error:
            outcomes[name] = error

    thread = threading.Thread(target=attempt, args=("client", connect))
    thread.start()
    attempt("listener", listener.accept)
    thread.join()
    return outcomes["listener"], outcomes["client"]


def say(end: Any, data: bytes) -> None:
    """Sends bytes that are no whole message."""
    end._session.write(data)
    end.poll(0)  # looks, and sends what was made meanwhile


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    """Both ends of a connection over TCP."""
    with Listener(("localhost", 0), authkey=KEY, ssl_context=certificates.server()) as listener:
        ours, theirs = meet(
            listener, lambda: Client(listener.address, authkey=KEY, ssl_context=certificates.client())
        )  # fmt: skip
    assert isinstance(ours, Connection) and isinstance(theirs, Connection)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("family", ["AF_INET", "AF_UNIX"])
@pytest.mark.parametrize("authkey", [None, KEY], ids=["open", "key"])
def test_objects_and_bytes_travel_in_both_directions(family: str, authkey: bytes | None) -> None:
    with Listener(family=family, authkey=authkey, ssl_context=certificates.server()) as listener:
        ours, theirs = meet(
            listener,
            lambda: Client(
                listener.address,
                authkey=authkey,
                ssl_context=certificates.client(),
                server_hostname="localhost",
            ),
        )
        with ours, theirs:
            for sender, receiver in [(ours, theirs), (theirs, ours)]:
                for message in [b"", b"x", b"x" * 20_000]:
                    sender.send_bytes(message)
                    assert receiver.recv_bytes() == message
                sender.send({"a": [1, 2.5, None]})
                assert receiver.recv() == {"a": [1, 2.5, None]}
                sender.send_bytes(b"0123456789", 2, 5)
                room = bytearray(8)
                assert (receiver.recv_bytes_into(room, 1), bytes(room)) == (5, b"\0" + b"23456" + b"\0\0")


def test_nothing_of_a_message_is_to_be_read_on_its_way() -> None:
    with Listener(("localhost", 0), ssl_context=certificates.server()) as listener:
        seen = bytearray()

        def between() -> Any:
            """Lets the bytes of both through, and keeps a copy."""
            inner, outer = socket.create_connection(listener.address), socket.socket()
            outer.bind(("localhost", 0))
            outer.listen()
            address.append(outer.getsockname())
            ready.set()
            client, _ = outer.accept()

            def pump(source: socket.socket, target: socket.socket) -> None:
                with contextlib.suppress(OSError):  # one end closes first
                    while data := source.recv(65536):
                        seen.extend(data)
                        target.sendall(data)
                    target.shutdown(socket.SHUT_WR)

            pumps = [threading.Thread(target=pump, args=pair) for pair in [(client, inner), (inner, client)]]
            for thread in pumps:
                thread.start()
            for thread in pumps:
                thread.join()
            for sock in (client, inner, outer):
                sock.close()

        address: list[Any] = []
        ready = threading.Event()
        man = threading.Thread(target=between)
        man.start()
        ready.wait()
        ours, theirs = meet(
            listener,
            lambda: Client(address[0], ssl_context=certificates.client(), server_hostname="localhost"),
        )
        with ours, theirs:
            theirs.send_bytes(b"the secret " * 100)
            assert ours.recv_bytes() == b"the secret " * 100
        man.join()
        assert len(seen) > 2000 and b"secret" not in seen


def test_messages_longer_than_all_buffers_cross_each_other(ends: tuple[Connection, Connection]) -> None:
    message = os.urandom(1 << 20) * 24
    came = []
    senders = [threading.Thread(target=end.send_bytes, args=(message,)) for end in ends]
    receivers = [threading.Thread(target=lambda end=end: came.append(end.recv_bytes())) for end in ends]
    for thread in senders + receivers:
        thread.start()
    for thread in senders + receivers:
        thread.join()
    assert came == [message, message]


def test_threads_that_send_at_once_mix_no_messages(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends

    def send(letter: bytes) -> None:
        for size in range(0, 40_000, 1000):
            ours.send_bytes(letter * size)

    threads = [threading.Thread(target=send, args=(bytes([65 + n]),)) for n in range(4)]
    for thread in threads:
        thread.start()
    messages = [theirs.recv_bytes() for _ in range(4 * 40)]
    for thread in threads:
        thread.join()
    assert all(len(set(message)) <= 1 for message in messages)
    assert sorted(map(len, messages)) == sorted(list(range(0, 40_000, 1000)) * 4)


def test_poll_and_wait_know_of_what_is_decrypted_already(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    assert not theirs.poll() and not theirs.poll(0.01) and wait([theirs], 0.01) == []
    ours.send_bytes(b"one")
    ours.send_bytes(b"two")
    assert theirs.poll(10) and wait([theirs, theirs], 0) == [theirs, theirs]
    assert theirs.recv_bytes() == b"one"
    # Both came at once, and nothing is left in the socket.
    assert wait([theirs], 10) == [theirs] and theirs.poll()
    assert theirs.recv_bytes() == b"two"
    plain, other = Pipe()
    with plain, other:
        assert wait([theirs, plain], 0.01) == []
        other.send(1)
        assert wait([theirs, plain], 10) == [plain]
        ours.send_bytes(b"three")
        while theirs not in (ready := wait([theirs, plain], 10)):
            pass
        assert ready == [theirs, plain]
    ours.close()
    assert theirs.recv_bytes() == b"three"
    assert theirs.poll(10) and wait([theirs], 10) == [theirs]


def test_the_end_is_an_end_signed_or_not(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    ours.close()
    with pytest.raises(EOFError):
        theirs.recv()
    with pytest.raises(EOFError):
        theirs.recv_bytes()
    with pytest.raises(OSError, match="handle is closed"):
        ours.send(1)


@pytest.mark.parametrize("begun", [False, True], ids=["between", "inside"])
def test_a_killed_sender_is_an_end(begun: bool) -> None:
    with Listener(("localhost", 0), ssl_context=certificates.server()) as listener:
        pid = os.fork()
        if not pid:
            end: Any = Client(listener.address, ssl_context=certificates.client())
            if begun:
                say(end, (1000).to_bytes(4, "big") + b"only this")
            os.kill(os.getpid(), signal.SIGKILL)
        with listener.accept() as ours:
            os.waitpid(pid, 0)
            with pytest.raises(OSError if begun else EOFError, match="got end of file" if begun else None):
                ours.recv()


def test_a_client_that_only_sends_and_closes_loses_nothing() -> None:
    message = os.urandom(1 << 20) * 8
    with Listener(("localhost", 0), ssl_context=certificates.server()) as listener:
        pid = os.fork()
        if not pid:
            with Client(listener.address, ssl_context=certificates.client()) as end:
                end.send_bytes(message)
            os._exit(0)
        with listener.accept() as ours:
            assert ours.recv_bytes() == message
            with pytest.raises(EOFError):
                ours.recv()
        assert os.waitpid(pid, 0)[1] == 0


def test_a_reset_is_one_connections_own_affair(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    with socket.socket(fileno=os.dup(theirs.fileno())) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs._carrier.close()  # type: ignore[attr-defined]
    plain, other = Pipe()
    with plain, other:
        other.send(1)
        while ours not in (ready := wait([ours, plain], 10)):
            pass
        assert ready == [ours, plain] and ours.poll()
    with pytest.raises((ConnectionResetError, EOFError)):
        ours.recv()


def test_a_message_over_the_limit_is_refused(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    ours.send_bytes(b"x" * 1000)
    with pytest.raises(OSError, match="bad message length"):
        theirs.recv_bytes(999)


def test_a_signal_while_waiting_loses_nothing(ends: tuple[Connection, Connection]) -> None:
    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    ours, theirs = ends
    say(ours, (6).to_bytes(4, "big") + b"abc")
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Alarm):
            theirs.recv_bytes()
    finally:
        signal.signal(signal.SIGALRM, before)
    say(ours, b"def")
    assert theirs.recv_bytes() == b"abcdef"


def test_a_connection_stays_in_its_process(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    with pytest.raises(TypeError, match="cannot pickle a TLS connection: .* connect anew"):
        pickle.dumps(ours)
    pid = os.fork()
    if not pid:
        try:
            ours.send(1)
        except OSError as error:
            ours.close()
            os._exit(0 if "connect anew" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    ours.send("still here")
    assert theirs.recv() == "still here"


def test_objects_travel_as_xml() -> None:
    with XmlListener(("localhost", 0), authkey=KEY, ssl_context=certificates.server()) as listener:
        ours, theirs = meet(
            listener, lambda: XmlClient(listener.address, authkey=KEY, ssl_context=certificates.client())
        )  # fmt: skip
        theirs.send([1, "two"])
        assert wait([ours], 10) == [ours] and ours.recv() == [1, "two"]
        ours.close()
        theirs.close()


# ---- signals ----


@contextlib.contextmanager
def alarms(handler: Any, seconds: float) -> Iterator[None]:
    """Has a signal come after so many seconds; the handler may set the next one."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_handler_may_send_while_the_thread_receives(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    beats = 0

    def beat(*_: object) -> None:
        nonlocal beats
        beats += 1
        ours.send_bytes(b"beat")
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    def feed() -> None:
        for _ in range(500):
            theirs.send_bytes(b"x" * 10_000)
            time.sleep(0.0005)

    def drain() -> None:
        while theirs.recv_bytes() != b"last":
            pass

    threads = [threading.Thread(target=call) for call in (feed, drain)]
    for thread in threads:
        thread.start()
    with alarms(beat, 0.001):
        for _ in range(500):
            assert len(ours.recv_bytes()) == 10_000
    ours.send_bytes(b"last")
    for thread in threads:
        thread.join()
    assert beats > 10


def test_what_a_handler_raises_ends_a_poll(ends: tuple[Connection, Connection]) -> None:
    def ring(*_: object) -> None:
        raise TimeoutError("enough")

    ours, theirs = ends
    with alarms(ring, 0.05), pytest.raises(TimeoutError, match="enough"):
        ours.poll(20)
    theirs.send_bytes(b"still there")
    assert ours.recv_bytes() == b"still there"


def test_a_handler_that_would_wait_for_its_own_thread_is_refused(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    told: list[str] = []

    def receive(*_: object) -> None:
        try:
            ours.recv_bytes()
        except OSError as error:
            told.append(str(error))
        theirs.send_bytes(b"for the first one")

    with alarms(receive, 0.05):
        assert ours.recv_bytes() == b"for the first one"
    assert len(told) == 1 and "in the midst of another call" in told[0]


def test_calls_that_signals_interrupt_again_and_again_break_nothing(ends: tuple[Connection, Connection]) -> None:
    class Alarm(Exception):
        pass

    armed, stop = False, threading.Event()
    chance = random.Random(7)

    def ring(*_: object) -> None:
        if armed:
            raise Alarm

    def feed() -> None:
        number = 0
        while not stop.is_set():
            theirs.send_bytes(b"%d," % number * 3000)
            number += 1
        theirs.send_bytes(b"last")

    ours, theirs = ends
    feeder = threading.Thread(target=feed)
    feeder.start()
    interrupted, last = 0, -1
    with alarms(ring, 0):
        while interrupted < 300:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 3e-4))
            try:
                armed = True
                message = ours.recv_bytes() if chance.random() < 0.7 else None
                if message is None:
                    ours.poll(0)
                armed = False
            except Alarm:
                armed = False
                interrupted += 1
                continue
            if message is not None:
                number = int(message.partition(b",")[0])
                # One that was whole as the signal came may go with the call; none is torn.
                assert message == b"%d," % number * 3000 and number > last
                last = number
    stop.set()
    while ours.recv_bytes() != b"last":
        pass
    feeder.join()


# ---- who is not let in ----


def refused(client_context: Any, server_context: Any, key: bytes = KEY, **options: Any) -> tuple[Any, Any]:
    with Listener(("localhost", 0), authkey=KEY, ssl_context=server_context) as listener:
        return meet(listener, lambda: Client(listener.address, authkey=key, ssl_context=client_context, **options))


def test_a_listener_that_nobody_vouches_for_is_not_talked_to() -> None:
    for certificate, trusts in [("stranger", True), ("server", False)]:
        theirs, ours = refused(certificates.client(trusts=trusts), certificates.server(certificate))
        assert isinstance(ours, ssl.SSLCertVerificationError)
        assert "load_verify_locations" in ours.__notes__[0]
        assert isinstance(theirs, AuthenticationError)


def test_a_listener_of_another_name_is_not_talked_to() -> None:
    theirs, ours = refused(certificates.client(), certificates.server(), server_hostname="elsewhere.example")
    assert isinstance(ours, ssl.SSLCertVerificationError) and "Hostname mismatch" in str(ours)
    assert isinstance(theirs, AuthenticationError)


def test_a_client_without_the_certificate_that_is_wanted_is_not_let_in() -> None:
    theirs, ours = refused(certificates.client(), certificates.server(wants=True))
    assert isinstance(theirs, AuthenticationError) and "load_cert_chain" in str(theirs)
    assert isinstance(ours, (OSError, EOFError))
    theirs, ours = refused(certificates.client("stranger"), certificates.server(wants=True))
    assert isinstance(theirs, AuthenticationError)
    assert isinstance(ours, (OSError, EOFError))
    theirs, ours = refused(certificates.client("client"), certificates.server(wants=True))
    theirs.close()
    ours.close()


def test_the_key_is_asked_for_through_tls_too() -> None:
    theirs, ours = refused(certificates.client(), certificates.server(), key=b"another")
    assert isinstance(theirs, AuthenticationError) and isinstance(ours, AuthenticationError)


def test_one_end_without_tls_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT", 0.3)
    theirs, ours = refused(None, certificates.server())
    assert isinstance(theirs, AuthenticationError) and "does it have an ssl_context?" in str(theirs)
    assert isinstance(ours, (OSError, EOFError))
    theirs, ours = refused(certificates.client(), None)
    assert isinstance(ours, ssl.SSLError) and "does it have an ssl_context?" in ours.__notes__[0]
    assert isinstance(theirs, (AuthenticationError, OSError, EOFError))


def test_a_listener_without_a_certificate_says_so() -> None:
    theirs, ours = refused(certificates.client(), certificates.server(None))
    assert isinstance(theirs, AuthenticationError) and "has no certificate" in str(theirs)
    assert isinstance(ours, ssl.SSLError)


@pytest.mark.parametrize("says", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a hello"])
def test_who_says_nothing_does_not_keep_others_out(monkeypatch: pytest.MonkeyPatch, says: bytes) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT", 0.2)
    with Listener(("localhost", 0), ssl_context=certificates.server()) as listener:
        with socket.create_connection(listener.address) as silent:
            silent.sendall(says)
            with pytest.raises(AuthenticationError, match=r"did not finish the handshake within 0\.2 s"):
                listener.accept()
            assert silent.recv(1) == b""


def openssl() -> Any:
    """The library that the ssl module has loaded."""
    import _ssl

    return ctypes.CDLL(_ssl.__file__)


@pytest.mark.parametrize("asks_back", [0, 1])
def test_who_only_renews_keys_is_given_up(monkeypatch: pytest.MonkeyPatch, asks_back: int) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT", 0.5)
    with Listener(("localhost", 0), authkey=KEY, ssl_context=certificates.server()) as listener:
        pid = os.fork()
        if not pid:
            try:
                sock = certificates.client().wrap_socket(
                    socket.create_connection(listener.address), server_hostname="localhost"
                )
                # Behind the object's head and the socket that it belongs to.
                session: Any = sock
                handle = ctypes.c_void_p.from_address(id(session._sslobj) + 3 * ctypes.sizeof(ctypes.c_void_p))
                library = openssl()
                library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
                library.SSL_do_handshake.argtypes = [ctypes.c_void_p]
                while library.SSL_key_update(handle, asks_back) == 1 and library.SSL_do_handshake(handle) == 1:
                    pass
            finally:
                os._exit(0)
        began = time.monotonic()
        with pytest.raises((AuthenticationError, OSError)):
            listener.accept()
        assert time.monotonic() - began < 20
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_who_goes_away_in_the_handshake_is_an_end() -> None:
    with Listener(("localhost", 0), ssl_context=certificates.server()) as listener:
        socket.create_connection(listener.address).close()
        with pytest.raises(EOFError, match="in the TLS handshake"):
            listener.accept()


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 5000, bytes(range(256)) * 20])
def test_junk_is_refused(junk: bytes) -> None:
    with Listener(("localhost", 0), ssl_context=certificates.server()) as listener:
        with socket.create_connection(listener.address) as stranger:
            stranger.sendall(junk)
            with pytest.raises(AuthenticationError, match="no TLS with the other end"):
                listener.accept()


def test_a_record_that_was_changed_on_its_way_is_an_error(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    os.write(ours.fileno(), b"\x17\x03\x03\x00\x20" + b"?" * 32)
    with pytest.raises(ssl.SSLError):
        theirs.recv()


def test_what_makes_no_sense_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"ssl_context should be an ssl\.SSLContext, not True"):
        Listener(ssl_context=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"ssl_context should be an ssl\.SSLContext, not 'cert\.pem'"):
        Client(("localhost", 1), ssl_context="cert.pem")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"give a server's, as of ssl\.create_default_context\(ssl\.Purpose\.CLIENT_AUTH"
    ):
        Listener(ssl_context=certificates.client())
    with pytest.raises(
        ValueError, match=r"give a client's, as of ssl\.create_default_context\(ssl\.Purpose\.SERVER_AUTH"
    ):
        Client(("localhost", 1), ssl_context=certificates.server())
    with pytest.warns(DeprecationWarning, match="PROTOCOL_TLS is deprecated"):
        either = ssl.SSLContext(ssl.PROTOCOL_TLS)
    with pytest.raises(ValueError, match="ssl_context is no server's"):
        Listener(ssl_context=either)
    with pytest.raises(ValueError, match="server_hostname is for ssl_context"):
        Client(("localhost", 1), server_hostname="localhost")
    with Listener(str(tmp_path / "socket")) as listener:
        with pytest.raises(ValueError, match="give server_hostname, or a context with check_hostname = False"):
            Client(listener.address, ssl_context=certificates.client())
