"""A manager's life: starting, connecting, ending, and the deaths of either side."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import manyhands
import shared
from manyhands import connection, managers, util
from manyhands.connection import Client, Connection
from scripts import descriptors, printed, run, wait_for_end


def test_a_manager_starts_once_and_is_over_after_shutdown(context: Any) -> None:
    manager = managers.SyncManager(ctx=context)
    with pytest.raises(AssertionError, match="server not yet started"):
        manager.list()
    manager.start()
    process = manager._process
    with pytest.raises(manyhands.ProcessError, match="Already started server"):
        manager.start()
    with pytest.raises(manyhands.ProcessError, match="Already started server"):
        manager.get_server()
    manager.shutdown()
    assert process.exitcode == 0
    manager.shutdown()  # twice does nothing
    manager.join()
    for again in (manager.start, manager.get_server, manager.__enter__):
        with pytest.raises(manyhands.ProcessError, match="Manager has shut down"):
            again()


def test_the_initializer_runs_in_the_server(context: Any, tmp_path: Path) -> None:
    manager = shared.Manager(ctx=context)
    manager.start(shared.note, (str(tmp_path / "pid"),))
    with manager:
        assert (tmp_path / "pid").read_text() == str(manager.Counter().pid())
    with pytest.raises(TypeError, match="initializer must be a callable"):
        shared.Manager(ctx=context).start("no function")  # type: ignore[arg-type]


@pytest.mark.parametrize("initializer", [shared.never_ready, shared.die_early])
def test_a_server_that_ends_before_it_is_ready_is_an_error(context: Any, initializer: Any) -> None:
    with pytest.raises(EOFError, match="before it was ready"):
        shared.Manager(ctx=context).start(initializer)


def test_another_object_connects_with_the_key(forked: Any) -> None:
    items = forked.list([1])
    other = managers.SyncManager(address=forked.address, authkey=bytes(forked._authkey))
    other.connect()
    assert other._number_of_objects() == 1
    assert other.list([2])[:] == [2]
    assert items[:] == [1]


def test_a_wrong_key_opens_nothing(forked: Any) -> None:
    other = managers.SyncManager(address=forked.address, authkey=b"wrong")
    with pytest.raises(manyhands.AuthenticationError):
        other.connect()
    assert forked.list([1])[:] == [1]


@pytest.mark.parametrize("key", ["text", None, 7])
def test_a_key_that_is_not_bytes_is_refused(key: Any) -> None:
    with pytest.raises(TypeError):
        managers.Server({}, None, key, "pickle")


def test_nobody_at_the_address_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        managers.SyncManager(address=str(tmp_path / "none"), authkey=b"k").connect()


@pytest.mark.parametrize("serializer", ["pickle", "xmlrpclib"])
@pytest.mark.parametrize("address", [None, ("localhost", 0)], ids=["unix", "tcp"])
def test_both_serializers_over_both_families(serializer: str, address: Any) -> None:
    with shared.Manager(address=address, serializer=serializer) as manager:
        counter = manager.Counter()
        assert (counter.add(), counter.add(2)) == (1, 3)
        assert manager._number_of_objects() == 1


def test_an_unknown_serializer_is_refused() -> None:
    with pytest.raises(KeyError):
        managers.SyncManager(serializer="smoke signals")


def test_a_server_in_this_process_serves(tmp_path: Path) -> None:
    manager = shared.Manager(address=str(tmp_path / "socket"), authkey=b"key")
    server = manager.get_server()
    assert server.address == manager.address

    def serve() -> None:
        with pytest.raises(SystemExit):
            server.serve_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        manager.connect()
        assert manager.Counter().add() == 1
    finally:
        server.stop_event.set()
        thread.join()
        Client(server.address).close()  # the one that accepts looks up, and ends, if it has not yet
        server.listener.close()
        manyhands.current_process()._manager_server = None  # type: ignore[attr-defined]


def test_a_server_that_is_killed_is_an_error_for_its_proxies(context: Any) -> None:
    manager = shared.Manager(ctx=context)
    manager.start()
    counter = manager.Counter()
    with pytest.raises((EOFError, OSError)):
        counter.die()
    with pytest.raises((EOFError, OSError)):
        counter.add()
    process = manager._process
    manager.shutdown()
    assert process.exitcode == -signal.SIGKILL


def test_a_server_that_does_not_end_by_itself_is_ended(context: Any) -> None:
    manager = shared.Manager(ctx=context, shutdown_timeout=0.2)
    manager.start()
    process = manager._process
    os.kill(process.pid, signal.SIGSTOP)
    manager.shutdown()
    assert process.exitcode == -signal.SIGKILL


@pytest.fixture
def rung_again_and_again() -> Iterator[None]:
    """A program with a timer of its own, whose signals interrupt every system call that waits."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("serializer", ["pickle", "xmlrpclib"])
def test_signals_do_not_put_off_the_end_of_a_stuck_server(rung_again_and_again: None, serializer: str) -> None:
    manager = shared.Manager(ctx=manyhands.get_context("fork"), serializer=serializer, shutdown_timeout=0.2)
    manager.start()
    process = manager._process
    os.kill(process.pid, signal.SIGSTOP)
    manager.shutdown()
    assert process.exitcode == -signal.SIGKILL


def test_a_stuck_server_that_nobody_can_connect_to_any_more_is_ended() -> None:
    manager = shared.Manager(ctx=manyhands.get_context("fork"), shutdown_timeout=0.2)
    manager.start()
    process = manager._process
    os.kill(process.pid, signal.SIGSTOP)
    with contextlib.ExitStack() as waiting:
        with pytest.raises(BlockingIOError):
            while True:
                sock = waiting.enter_context(socket.socket(socket.AF_UNIX))
                sock.setblocking(False)
                sock.connect(manager.address)
        manager.shutdown()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_server_that_had_to_be_killed_leaves_no_file(context: Any, how: int) -> None:
    manager = shared.Manager(ctx=context, shutdown_timeout=0.2)
    manager.start()
    address = Path(manager.address)
    assert address.is_socket()
    os.kill(manager._process.pid, how)
    manager.shutdown()
    assert not address.exists()
    # The folder is the server's own, unless this process had one before.
    assert not address.parent.exists() or str(address.parent) == util.get_temp_dir()


def test_a_server_at_the_address_of_one_that_died_can_be_used(tmp_path: Path) -> None:
    def started() -> managers.SyncManager:
        manager = managers.SyncManager(str(tmp_path / "socket"), b"key", ctx=manyhands.get_context("fork"))
        manager.start()
        return manager

    first = started()
    user = managers.SyncManager(first.address, b"key")
    user.connect()
    kept = user.list([1])  # as long as there is a proxy, so is this thread's connection
    assert kept[:] == [1]
    first._process.kill()
    first._process.join()
    os.unlink(first.address)
    with started():
        items = user.list([2])
        with pytest.raises((EOFError, OSError)):
            items[:]  # finds that the connection is gone
        assert items[:] == [2]
    first.shutdown()


def test_the_server_ignores_interrupts(context: Any) -> None:
    with context.Manager() as manager:
        os.kill(manager._process.pid, signal.SIGINT)
        assert manager.list([1])[:] == [1]


def test_a_client_that_is_killed_disturbs_nobody(context: Any) -> None:
    with context.Manager() as manager:
        lock, ready = manager.Lock(), manager.Event()
        child = context.Process(target=shared.hold_lock, args=(lock, ready))
        child.start()
        ready.wait()
        child.kill()
        child.join()
        assert not lock.acquire(False)  # a lock of threading's, held by nobody that lives: as in the standard library
        lock.release()
        assert lock.acquire(False)


def test_what_cannot_be_pickled_is_an_error_on_either_side(context: Any) -> None:
    with shared.Manager(ctx=context) as manager:
        counter = manager.Counter()
        with pytest.raises(Exception, match="[Pp]ickle"):
            counter.add(lambda: None)
        with pytest.raises(managers.RemoteError, match="Unserializable"):
            counter.secret()
        with pytest.raises(managers.RemoteError, match="Unserializable"):
            counter.unpicklable_error()
        assert counter.add() == 1


def test_a_method_that_exits_ends_only_its_own_connection(context: Any) -> None:
    with shared.Manager(ctx=context) as manager:
        counter, other = manager.Counter(), manager.Counter()
        with pytest.raises(EOFError):
            counter.leave()
        assert manager._number_of_objects() == 2
        assert (counter.add(), other.add()) == (1, 1)


def test_a_proxy_to_an_object_that_is_gone_is_an_error(forked: Any) -> None:
    items = forked.list([1])
    token = items._token
    items._callmethod("__len__")
    gone = managers.Token("list", token.address, "abcdef")
    with pytest.raises(managers.RemoteError, match="KeyError"):
        managers.ListProxy(gone, "pickle", authkey=forked._authkey)
    stale = managers.ListProxy(gone, "pickle", authkey=forked._authkey, incref=False)
    with pytest.raises(managers.RemoteError, match="KeyError"):
        stale.append(2)
    assert "__str__()' failed" in str(stale)
    assert items[:] == [1]


def test_an_unregistered_type_is_an_error(forked: Any) -> None:
    with pytest.raises(managers.RemoteError, match="KeyError"):
        forked._create("sandwich")
    assert forked._number_of_objects() == 0


def test_an_exception_in_a_constructor_comes_back(context: Any) -> None:
    with shared.Manager(ctx=context) as manager:
        with pytest.raises(managers.RemoteError, match="TypeError"):
            manager.Counter(1, 2, 3)


def raw(manager: Any) -> socket.socket:
    """A socket at the manager's server that has proved nothing."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(manager.address)
    return sock


@pytest.mark.parametrize(
    "bytes_", [b"", b"\0", b"\0\0\0\x05hi", b"\xff\xff\xff\xff" * 3, b"\x7f\xff\xff\xff", b"GET / HTTP/1.0\r\n\r\n"]
)
def test_who_proves_nothing_is_let_go_and_told_nothing(forked: Any, bytes_: bytes) -> None:
    with raw(forked) as sock:
        sock.sendall(bytes_)
        sock.shutdown(socket.SHUT_WR)
        heard = b""
        with contextlib.suppress(ConnectionResetError):  # it was closed while there was more to read
            while piece := sock.recv(4096):
                heard += piece
        assert b"#CHALLENGE#" in heard
        assert b"Traceback" not in heard
    assert forked.list([1])[:] == [1]


def test_silent_connections_do_not_keep_out_who_has_the_key() -> None:
    manager = managers.SyncManager(("localhost", 0), b"key", ctx=manyhands.get_context("fork"))
    manager.start(shared.few_descriptors)
    with manager, contextlib.ExitStack() as silent:
        for _ in range(60):
            silent.enter_context(socket.create_connection(manager.address))
        assert manager.list([1])[:] == [1]


def test_who_is_silent_for_too_long_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT", 0.2)  # the server's too: it is forked
    with manyhands.get_context("fork").Manager() as manager:
        with raw(manager) as sock:
            while sock.recv(4096):
                pass
        # The limit was for the handshake alone.
        items = manager.list([1])
        assert items[:] == [1]
        time.sleep(0.4)
        assert items[:] == [1]


@pytest.mark.parametrize("bytes_", [b"\0\0\0\x05hi", b"\xff\xff\xff\xff" * 3, b"\xff\xff\xff\x00", b"\0\0\0\x04junk"])
def test_a_malformed_request_ends_its_own_connection_at_most(forked: Any, bytes_: bytes) -> None:
    items = forked.list([1])
    for method, args in [("accept_connection", ("test",)), (None, None)]:
        with Client(forked.address, authkey=forked._authkey) as conn:
            if method:
                managers.dispatch(conn, None, method, args)
            os.write(conn.fileno(), bytes_)
            with socket.socket(fileno=os.dup(conn.fileno())) as sock:
                sock.shutdown(socket.SHUT_WR)
            try:
                kind, _ = conn.recv()
                assert kind == "#TRACEBACK"
            except (EOFError, OSError):
                pass
    assert items[:] == [1]


@pytest.mark.parametrize("request_", [None, 7, (), ("a", "b", "c"), (None, "no_such", (), {}), ([], "append", (), {})])
def test_a_request_that_makes_no_sense_gets_an_answer(forked: Any, request_: Any) -> None:
    with Client(forked.address, authkey=forked._authkey) as conn:
        managers.dispatch(conn, None, "accept_connection", ("test",))
        for _ in range(2):
            conn.send(request_)
            kind, text = conn.recv()
            assert (kind, "Traceback" in text) == ("#TRACEBACK", True)
    with Client(forked.address, authkey=forked._authkey) as conn:
        conn.send(request_)
        assert conn.recv()[0] == "#TRACEBACK"


@pytest.mark.parametrize("answer", [None, 7, ("#RETURN",), ("#NOBODY KNOWS", 1), ("#TRACEBACK", 7), ("#ERROR", 7)])
def test_an_answer_that_makes_no_sense_is_an_error(answer: Any) -> None:
    class Server:
        def send(self, request: Any) -> None:
            pass

        def recv(self) -> Any:
            return answer

    with pytest.raises((managers.RemoteError, ValueError, TypeError)):
        managers.dispatch(Server(), None, "dummy")


@pytest.mark.parametrize("size", [1, 200, 3000, 50_000])
def test_requests_that_arrive_together_are_all_answered_in_order(forked: Any, size: int) -> None:
    items = forked.list()
    ident = items._token.id
    requests: list[Any] = [(ident, "append", ((number, "x" * size),), {}) for number in range(50)]
    requests[20] = (ident, "no_such", (), {})  # the engine leaves that one to the server's Python
    requests.append((ident, "__len__", (), {}))
    written = b"".join(struct.pack("!i", len(one)) + one for one in map(pickle.dumps, requests))
    with Client(forked.address, authkey=forked._authkey) as conn:
        managers.dispatch(conn, None, "accept_connection", ("test",))
        writer = threading.Thread(target=write_all, args=(conn.fileno(), written))
        writer.start()
        answers = [conn.recv() for _ in requests]
        writer.join()
    assert [kind for kind, _ in answers] == ["#RETURN"] * 20 + ["#TRACEBACK"] + ["#RETURN"] * 30
    assert answers[-1][1] == 49
    assert [number for number, *_ in items[:]] == [number for number in range(50) if number != 20]


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def test_a_server_that_says_more_than_it_was_asked_is_not_asked_again() -> None:
    ours, theirs = socket.socketpair()
    answer = pickle.dumps(("#RETURN", 1))
    with theirs, Connection(ours.detach()) as conn:
        theirs.sendall((struct.pack("!i", len(answer)) + answer) * 2)
        with pytest.raises(OSError, match="more than it was asked"):
            managers.dispatch(conn, None, "dummy")
        assert conn.closed


def test_a_server_that_dies_inside_an_answer_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    with theirs, Connection(ours.detach()) as conn:
        theirs.sendall(struct.pack("!i", 100) + b"half")
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match="end of file"):
            managers.dispatch(conn, None, "dummy")


def test_the_server_ends_when_the_process_that_started_it_is_killed(tmp_path: Path, method: str) -> None:
    done = run(
        tmp_path,
        """
        import os, signal, sys
        import manyhands
        if __name__ == "__main__":
            manager = manyhands.get_context(sys.argv[1]).Manager()
            print(manager._process.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        method,
    )
    wait_for_end(int(done.stdout))


def test_a_program_that_forgets_its_manager_ends_well(tmp_path: Path, method: str) -> None:
    assert printed(
        tmp_path,
        """
        import sys
        import manyhands
        if __name__ == "__main__":
            manager = manyhands.get_context(sys.argv[1]).Manager()
            items = manager.list([1])
            print(items)
        """,
        method,
    ) == ["[1]"]


def test_calls_and_proxies_leave_no_descriptors(forked: Any) -> None:
    def use() -> None:
        items = forked.list([1])
        items.append(2)
        assert len(items) == 2

    use()
    server = forked._process.pid

    def settled() -> int:
        last = -1
        while (now := descriptors(server)) != last:
            last = now
            time.sleep(0.1)
        return last

    before, server_before = descriptors(), settled()
    for _ in range(20):
        use()
    assert descriptors() == before
    deadline = time.monotonic() + 10
    while descriptors(server) > server_before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert descriptors(server) <= server_before


def test_errors_of_a_queue_are_queues_own(forked: Any) -> None:
    letters = forked.Queue(maxsize=1)
    with pytest.raises(queue.Empty):
        letters.get_nowait()
    letters.put_nowait(1)
    with pytest.raises(queue.Full):
        letters.put_nowait(2)


def test_a_timeout_in_a_pools_result_is_ours(forked: Any) -> None:
    with forked.Pool(1) as pool:
        result = pool.apply_async(time.sleep, (5,))
        with pytest.raises(manyhands.TimeoutError):
            result.get(0.05)
