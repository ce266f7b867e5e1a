"""Managers through TLS: the same objects and proxies, in every process that has a context."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import certificates
import manyhands
import shared
from manyhands import AuthenticationError, ProcessError, _manager_tls, connection, managers
from manyhands.managers import BaseManager, SharedMemoryManager, SyncManager

# This process's own: it is what a proxy that comes from elsewhere is opened with.
KEY = bytes(manyhands.current_process().authkey)


class Remote(BaseManager):
    """A manager of the user's own."""


Remote.register("counter", shared.Counter)


@pytest.fixture(scope="module", autouse=True)
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    certificates.write(tmp_path_factory.mktemp("certificates"))
    yield
    del os.environ[certificates.VARIABLE]


@pytest.fixture
def manager(context: Any) -> Iterator[SyncManager]:
    """One that is reached over the network, under each start method."""
    made = SyncManager(("localhost", 0), KEY, ctx=context, ssl_context=certificates.both())
    with made:
        yield made


def append(items: Any, value: Any) -> None:
    items.append(value)


def test_a_started_manager_and_its_proxies_go_through_tls(manager: SyncManager) -> None:
    items = manager.list([1])
    items.append({"a": 2})
    assert list(items) == [1, {"a": 2}] and items._getvalue() == [1, {"a": 2}]
    assert type(items._tls.connection).__name__ == "TlsConnection"
    nested = manager.list([manager.dict(a=1)])
    assert nested[0].copy() == {"a": 1}
    with pytest.raises(IndexError):
        items[7]
    with pytest.raises(managers.RemoteError):
        items._callmethod("no such method")


def test_a_proxy_goes_to_children_with_what_it_needs(manager: SyncManager, context: Any) -> None:
    items = manager.list()
    child = context.Process(target=append, args=(items, "from a child"))
    child.start()
    child.join()
    assert child.exitcode == 0
    with context.Pool(1) as pool:
        pool.apply(append, (items, "from a pool"))
    assert list(items) == ["from a child", "from a pool"]


def test_what_a_queue_gave_to_a_caller_who_is_gone_is_given_back(manager: SyncManager) -> None:
    items = manager.Queue()
    token = items._token  # type: ignore[attr-defined]
    caller = connection.Client(manager.address, authkey=KEY, ssl_context=certificates.client("client"))
    managers.dispatch(caller, None, "accept_connection", ("caller",))
    caller.send((token.id, "get", (), {}))
    with socket.socket(fileno=os.dup(caller.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
    caller.close()
    items.put("kept")
    assert items.get(timeout=30) == "kept"


@pytest.mark.parametrize("serializer", ["pickle", "xmlrpclib"])
def test_a_server_of_ones_own_is_found_from_elsewhere(serializer: str, context: Any) -> None:
    maker = Remote(("localhost", 0), KEY, serializer, ssl_context=certificates.both(), ctx=context)
    maker.start()
    try:
        user = Remote(maker.address, KEY, serializer, ssl_context=certificates.client("client"))
        user.connect()
        counter = user.counter()  # type: ignore[attr-defined]
        assert counter.add(2) == 2
        del counter
    finally:
        maker.shutdown()


def test_a_proxy_whose_context_cannot_travel_says_so() -> None:
    with SyncManager(("localhost", 0), KEY, ssl_context=certificates.both()) as maker:
        user = SyncManager(maker.address, KEY, ssl_context=certificates.client("client"))
        user.connect()
        items = user.list([1])
        data = pickle.dumps(items)
        assert list(pickle.loads(data)) == [1]  # this process knows the server
        way = _manager_tls._ways.pop(maker.address)
        with pytest.raises(ProcessError, match="did not travel with it: connect a manager to that address"):
            pickle.loads(data)
        _manager_tls.remember(maker.address, way)


def test_who_has_no_certificate_or_no_tls_is_not_let_in(manager: SyncManager) -> None:
    for stranger in [
        SyncManager(manager.address, KEY, ssl_context=certificates.client("stranger")),
        SyncManager(manager.address, KEY, ssl_context=certificates.client()),
        SyncManager(manager.address, b"another key", ssl_context=certificates.client("client")),
    ]:
        with pytest.raises((OSError, EOFError, AuthenticationError)):
            stranger.connect()
    # Who fails changes nothing for who does not.
    assert manager.list([1])[0] == 1


def test_who_speaks_no_tls_is_told_what_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT", 0.3)  # the server's too: it is forked
    fork = manyhands.get_context("fork")
    with SyncManager(("localhost", 0), KEY, ctx=fork, ssl_context=certificates.both()) as manager:
        with pytest.raises(EOFError) as told:
            SyncManager(manager.address, KEY).connect()
        assert "does it speak TLS, so that ssl_context is needed here?" in told.value.__notes__[0]


def test_a_silent_stranger_keeps_nobody_waiting(manager: SyncManager) -> None:
    with socket.create_connection(manager.address):
        assert manager.list([1])[0] == 1


class Holder:
    """An object in a server that uses proxies to that very server."""

    def put(self, proxy: Any, value: Any) -> None:
        proxy.append(value)


Remote.register("holder", Holder)
Remote.register("list", list, managers.ListProxy)


def test_an_object_in_a_server_uses_proxies_to_it(context: Any) -> None:
    with Remote(("localhost", 0), KEY, ctx=context, ssl_context=certificates.both()) as manager:
        items, holder = manager.list(), manager.holder()  # type: ignore[attr-defined]
        holder.put(items, 1)
        assert items[0] == 1


def test_a_server_is_known_by_its_other_name_too(manager: SyncManager) -> None:
    host, port = manager.address
    other = SyncManager(("localhost", port), KEY, ssl_context=certificates.client("client"))
    assert host != "localhost"
    other.connect()
    nested = manager.list([manager.list([5])])
    items: Any = managers.ListProxy(
        managers.Token("list", other.address, nested._token.id), "pickle", other, KEY  # type: ignore[attr-defined]
    )  # fmt: skip
    assert list(items[0]) == [5]


def test_a_server_without_tls_takes_anothers_place(context: Any) -> None:
    with context.Pool(1) as pool:
        first = SyncManager(("localhost", 0), KEY, ctx=context, ssl_context=certificates.both())
        first.start()
        address = first.address
        assert pool.apply(first_item, (first.list([1]),)) == 1
        first.shutdown()
        with SyncManager(address, KEY, ctx=context) as second:
            items = second.list([2])
            assert pool.apply(first_item, (items,)) == 2 and items[0] == 2


def first_item(items: Any) -> Any:
    return items[0]


def test_a_server_for_all_addresses_proves_the_name_that_it_is_asked_for() -> None:
    manager = SyncManager(("", 0), KEY, ssl_context=certificates.both(), server_hostname="localhost")
    with manager:
        assert manager.list([1])[0] == 1
    local = SyncManager(None, KEY, ssl_context=certificates.both(), server_hostname="localhost")
    with local:
        assert local.list([1])[0] == 1
    with pytest.raises(ValueError, match="server_hostname is for ssl_context"):
        SyncManager(server_hostname="localhost")


def test_a_shutdown_writes_to_no_socket_but_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = managers._patience.client  # type: ignore[attr-defined]
    others: list[Any] = []

    @contextlib.contextmanager
    def client(*args: Any) -> Iterator[Any]:
        with connect(*args) as made:
            yield made
        others.extend(socket.socketpair())

    manager = SyncManager(("localhost", 0), KEY, ssl_context=certificates.both())
    manager.start()
    monkeypatch.setattr(managers._patience, "client", client)  # type: ignore[attr-defined]
    manager.shutdown()
    assert len(others) == 2
    for sock in others:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
    for sock in others:
        sock.close()


def test_segments_end_with_a_manager_that_speaks_tls() -> None:
    with SharedMemoryManager(("localhost", 0), KEY, ssl_context=certificates.both()) as manager:
        segment = manager.SharedMemory(100)
        assert os.path.exists(f"/dev/shm/{segment.name}")
        segment.close()
    assert not os.path.exists(f"/dev/shm/{segment.name}")


def test_a_server_that_is_stopped_does_not_keep_shutdown_waiting() -> None:
    manager = SyncManager(("localhost", 0), KEY, ssl_context=certificates.both(), shutdown_timeout=0.2)
    manager.start()
    process = manager._process
    os.kill(process.pid, signal.SIGSTOP)
    manager.shutdown()
    assert process.exitcode == -signal.SIGKILL


def test_what_is_no_context_is_refused() -> None:
    with pytest.raises(TypeError, match=r"an ssl\.SSLContext or a function f\(server_side=\.\.\.\), not True"):
        BaseManager(ssl_context=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"give a function f\(server_side=\.\.\.\) that returns either"):
        BaseManager(("localhost", 0), KEY, ssl_context=certificates.server()).start()
    with pytest.raises(ValueError, match="give a client's"):
        BaseManager(("localhost", 1), KEY, ssl_context=certificates.server()).connect()
    with pytest.raises(ValueError, match="give a server's"):
        BaseManager(("localhost", 0), KEY, ssl_context=certificates.client()).get_server()
    with pytest.raises(TypeError, match=r"should be an ssl\.SSLContext, not None"):
        BaseManager(("localhost", 0), KEY, ssl_context=nothing).start()


def nothing(server_side: bool) -> Any:
    """Makes no context."""
