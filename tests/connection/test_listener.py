"""Listeners and clients: addresses, accepting, closing, in every family; XML in place of pickles."""

from __future__ import annotations

import gc
import os
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import peers
import pytest

from manyhands.connection import Client, Listener, XmlClient, XmlListener, address_type, families
from scripts import descriptors

ADDRESSES = ["AF_INET", "AF_UNIX", "abstract"]


def listening(kind: str, **options: Any) -> Listener:
    if kind == "abstract":
        return Listener(f"\0manyhands-{os.getpid()}", **options)
    return Listener(family=kind, **options)


@pytest.mark.parametrize("authkey", [None, b"key", b""], ids=["open", "key", "empty"])
@pytest.mark.parametrize("kind", ADDRESSES)
def test_a_child_connects(context: Any, kind: str, authkey: bytes | None) -> None:
    with listening(kind, authkey=authkey) as listener:
        assert listener.last_accepted is None
        child = context.Process(target=peers.call, args=(listener.address, authkey))
        child.start()
        with listener.accept() as end:
            assert end.recv() == child.pid
            end.send(None)
        if kind == "AF_INET":
            assert listener.last_accepted[0] == "127.0.0.1"
        child.join()
        assert child.exitcode == 0


def test_the_family_is_read_off_the_address() -> None:
    assert [address_type(address) for address in [("host", 1), "/path", "\0name", b"\0name"]] == [
        "AF_INET", "AF_UNIX", "AF_UNIX", "AF_UNIX",
    ]  # fmt: skip


@pytest.mark.parametrize("family", families)
def test_a_closed_listener_accepts_nobody(family: str) -> None:
    listener = Listener(family=family)
    listener.close()
    listener.close()
    with pytest.raises(OSError, match="listener is closed"):
        listener.accept()


def test_the_file_of_a_socket_goes_with_its_listener() -> None:
    for end in (lambda listener: listener.close(), lambda listener: None):
        listener: Any = Listener(family="AF_UNIX")
        path = Path(listener.address)
        assert path.is_socket()
        end(listener)
        del listener
        gc.collect()
        assert not path.exists()


def test_a_file_that_is_gone_already_is_no_error() -> None:
    listener = Listener(family="AF_UNIX")
    os.unlink(listener.address)
    listener.close()


def test_a_forked_child_leaves_the_parents_socket_alone() -> None:
    import manyhands

    with Listener(family="AF_UNIX") as listener:
        child = manyhands.get_context("fork").Process(target=peers.listen_and_forget, args=("",))
        child.start()
        child.join()
        assert Path(listener.address).is_socket()


@pytest.mark.parametrize("family", families)
def test_an_address_in_use_is_an_oserror_and_leaks_nothing(family: str) -> None:
    with Listener(family=family) as listener:
        before = descriptors()
        with pytest.raises(OSError, match="in use"):
            Listener(listener.address)
        assert descriptors() == before
        # The first one's file is still there.
        thread = threading.Thread(target=lambda: Client(listener.address).close())
        thread.start()
        listener.accept().close()
        thread.join()


def test_as_many_wait_as_the_backlog_lets() -> None:
    with Listener(family="AF_UNIX", backlog=8) as listener:
        clients = [Client(listener.address) for _ in range(8)]
        for i, client in enumerate(clients):
            client.send(i)
        accepted = [listener.accept() for _ in clients]
        assert sorted(end.recv() for end in accepted) == list(range(8))
        for end in accepted + clients:
            end.close()


def test_xml_takes_the_place_of_pickles() -> None:
    with XmlListener(authkey=b"key") as listener:
        got: list[Any] = []

        def call() -> None:
            end = XmlClient(listener.address, authkey=b"key")
            end.send([1, "two", {"three": 3.0}])
            got.append(end.recv())
            end.close()

        thread = threading.Thread(target=call)
        thread.start()
        end = listener.accept()
        assert end.recv() == [1, "two", {"three": 3.0}]
        end.send(True)
        thread.join()
        end.close()
        assert got == [True]


def test_xml_refuses_what_it_cannot_say() -> None:
    from manyhands.connection import ConnectionWrapper, Pipe, _xml_dumps, _xml_loads

    a, b = Pipe()
    with a, b:
        with pytest.raises(TypeError):
            ConnectionWrapper(a, _xml_dumps, _xml_loads).send(datetime)
        a.send_bytes(b"<not xml")
        with pytest.raises(Exception, match=r"token|tag|syntax|unclosed"):
            ConnectionWrapper(b, _xml_dumps, _xml_loads).recv()
