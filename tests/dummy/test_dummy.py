"""The package's names on threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import manyhands.dummy as dummy
from manyhands.dummy import connection


def test_a_process_is_a_thread() -> None:
    got: list[Any] = []
    process = dummy.Process(target=lambda *args, **kwds: got.append((args, kwds)), args=(1,), kwargs={"x": 2})
    assert process.exitcode is None
    process.start()
    process.join()
    assert (process.exitcode, got) == (0, [((1,), {"x": 2})])
    assert isinstance(process, threading.Thread)


def test_children_are_those_of_the_calling_thread() -> None:
    go = threading.Event()
    process = dummy.Process(target=go.wait)
    process.start()
    assert process in dummy.active_children()
    inside: list[Any] = []
    other = threading.Thread(target=lambda: inside.append(dummy.active_children()))
    other.start()
    other.join()
    assert inside == [[]]
    go.set()
    process.join()
    assert process not in dummy.active_children()


def test_only_its_maker_starts_a_process() -> None:
    process = dummy.Process(target=print)
    raised: list[Any] = []

    def start() -> None:
        try:
            process.start()
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert len(raised) == 1


def test_a_pipe_carries_the_objects_themselves() -> None:
    a, b = dummy.Pipe()
    thing = object()
    with a, b:
        a.send(thing)
        assert b.poll(0)
        assert b.recv() is thing
        assert not b.poll()
        assert not b.poll(0.01)
        timer = threading.Timer(0.02, a.send_bytes, [b"x"])
        timer.start()
        assert b.poll(None)
        assert b.recv_bytes() == b"x"
        timer.join()


def test_a_client_meets_its_listener() -> None:
    assert connection.families == [None]
    with connection.Listener(backlog=2) as listener:
        client = connection.Client(listener.address)
        end = listener.accept()
        client.send("to")
        end.send("fro")
        assert (end.recv(), client.recv()) == ("to", "fro")
    assert listener.address is None


def test_a_manager_is_the_module() -> None:
    manager = dummy.Manager()
    assert manager is dummy
    assert (manager.dict(a=1), manager.list("ab")) == ({"a": 1}, ["a", "b"])
    namespace = manager.Namespace(name="Bob", _hidden=1)
    assert repr(namespace) == "Namespace(name='Bob')"
    manager.shutdown()


def test_shared_values_are_plain_ones() -> None:
    value = dummy.Value("i", 3)
    value.value += 1
    assert value.value == 4
    assert repr(value) == "<Value('i', 4)>"
    assert list(dummy.Array("i", range(3))) == [0, 1, 2]


def test_every_name_is_there() -> None:
    import multiprocessing.dummy

    assert set(multiprocessing.dummy.__all__) <= set(dummy.__all__)
    assert all(hasattr(dummy, name) for name in dir(multiprocessing.dummy) if not name.startswith("__"))


@pytest.mark.parametrize("processes", [None, 2])
def test_a_pool_is_a_pool_of_threads(processes: int | None) -> None:
    from manyhands.pool import ThreadPool

    with dummy.Pool(processes) as pool:
        assert type(pool) is ThreadPool
        assert pool.map(len, ["a", "bb"]) == [1, 2]
