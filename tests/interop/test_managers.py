"""A manager's two sides, one of them a plain Python with the standard library's multiprocessing.

Always: the plain side is a process that never imports manyhands, so it shows what travels between the two.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import manyhands
from manyhands import managers

KEY = b"between us"

SERVER = """
    import sys
    from multiprocessing.managers import SyncManager
    import multiprocessing
    multiprocessing.current_process().authkey = b"between us"
    class Counter:
        count = 0
        def add(self, n=1):
            self.count += n
            return self.count
        def fail(self):
            raise LookupError("nothing there")
    SyncManager.register("Counter", Counter)
    manager = SyncManager(address=eval(sys.argv[1]), authkey=b"between us", serializer=sys.argv[2])
    server = manager.get_server()
    print(repr(server.address), flush=True)
    assert "manyhands" not in sys.modules
    server.serve_forever()
"""

CLIENT = """
    import queue, sys
    from multiprocessing.managers import SyncManager
    import multiprocessing
    multiprocessing.current_process().authkey = b"between us"
    SyncManager.register("Counter")
    manager = SyncManager(address=eval(sys.argv[1]), authkey=b"between us", serializer=sys.argv[2])
    manager.connect()
    counter = manager.Counter()
    assert (counter.add(), counter.add(2)) == (1, 3)
    print("counter")
    if sys.argv[2] == "pickle":
        try:
            counter.fail()
        except LookupError as error:
            assert str(error) == "'nothing there'" or error.args == ("nothing there",)
        items, box = manager.list([1]), manager.dict(a=1)
        items.append(box)
        assert type(items[1]).__module__ == "multiprocessing.managers", type(items[1])
        items[1]["b"] = 2
        assert box.copy() == {"a": 1, "b": 2}
        assert sorted(box) == ["a", "b"]            # an iterator's proxy
        names = manager.Namespace(name="Bob")
        assert str(names) == "Namespace(name='Bob')"
        letters = manager.Queue()
        try:
            letters.get_nowait()
        except queue.Empty:
            pass
        with manager.Lock():
            pass
        assert manager.Event().wait(0.01) is False
        data = b"x" * 3_000_000
        items.append(data)
        assert items[-1] == data
        try:
            items._callmethod("no_such")
        except Exception as error:
            assert type(error).__module__ + "." + type(error).__name__ in (
                "multiprocessing.managers.RemoteError", "builtins.AttributeError"), error
        print("objects")
        with manager.Pool(1) as pool:
            result = pool.apply_async(pow, (2, 3))   # a result that stays in the server
            assert result.get(30) == 8
            try:
                pool.apply_async(__import__("time").sleep, (5,)).get(0.05)
            except multiprocessing.TimeoutError:
                pass
        print("pool")
    assert "manyhands" not in sys.modules
"""


class Counter:
    """The same on our side."""

    count = 0

    def add(self, n: int = 1) -> int:
        self.count += n
        return self.count

    def fail(self) -> None:
        raise LookupError("nothing there")


class Ours(managers.SyncManager):
    """With the plain side's type."""


Ours.register("Counter", Counter)


@pytest.fixture(autouse=True)
def _one_key() -> Iterator[None]:
    """Proxies that arrive inside of values know no key but their process's."""
    process = manyhands.current_process()
    before = process.authkey
    process.authkey = KEY
    yield
    process.authkey = before


def plain_pythons() -> list[str]:
    """This Python, and others that MANYHANDS_PLAIN_PYTHONS names, separated by colons."""
    return [sys.executable, *filter(None, os.environ.get("MANYHANDS_PLAIN_PYTHONS", "").split(":"))]


@pytest.fixture(params=plain_pythons())
def plain(request: pytest.FixtureRequest) -> str:
    """A Python for the plain side."""
    return str(request.param)


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Where the server is to listen."""
    return str(tmp_path / "socket") if request.param == "unix" else ("127.0.0.1", 0)


def program(folder: Path, source: str) -> str:
    path = folder / "plain.py"
    path.write_text(textwrap.dedent(source))
    return str(path)


@contextmanager
def plain_server(plain: str, folder: Path, address: Any, serializer: str) -> Iterator[Any]:
    """The address of a server in a plain Python, for a while."""
    command = [plain, program(folder, SERVER), repr(address), serializer]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield eval(server.stdout.readline())
        finally:
            server.kill()


@pytest.mark.parametrize("serializer", ["pickle", "xmlrpclib"])
def test_our_proxies_of_a_plain_server(plain: str, tmp_path: Path, address: Any, serializer: str) -> None:
    with plain_server(plain, tmp_path, address, serializer) as where:
        manager = Ours(address=where, authkey=KEY, serializer=serializer)
        manager.connect()
        counter = manager.Counter()
        assert (counter.add(), counter.add(2)) == (1, 3)
        if serializer == "xmlrpclib":
            return
        with pytest.raises(LookupError, match="nothing there"):
            counter.fail()
        items, box = manager.list([1]), manager.dict(a=1)
        items.append(box)
        inner = items[1]
        assert type(inner) is managers.DictProxy
        inner["b"] = 2
        assert (box.copy(), sorted(box)) == ({"a": 1, "b": 2}, ["a", "b"])
        with pytest.raises(managers.RemoteError, match="AttributeError"):
            items._callmethod("no_such")
        data = b"x" * 3_000_000
        items.append(data)
        assert items[-1] == data
        with manager.Pool(1) as pool:
            result = pool.apply_async(pow, (2, 3))
            assert result.get(30) == 8
        # The standard library's module was not needed for it on our side.
        assert type(result).__name__ == "AutoProxy[AsyncResult]"


@pytest.mark.parametrize("serializer", ["pickle", "xmlrpclib"])
def test_plain_proxies_of_our_server(plain: str, tmp_path: Path, address: Any, serializer: str) -> None:
    with Ours(address=address, authkey=KEY, serializer=serializer) as manager:
        command = [plain, program(tmp_path, CLIENT), repr(manager.address), serializer]
        done = subprocess.run(command, capture_output=True, text=True, timeout=40)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.split() == (["counter", "objects", "pool"] if serializer == "pickle" else ["counter"])


def test_a_plain_client_with_a_wrong_key_is_refused(plain: str, tmp_path: Path, address: Any) -> None:
    with Ours(address=address, authkey=KEY) as manager:
        source = CLIENT.replace("between us", "wrong")
        done = subprocess.run(
            [plain, program(tmp_path, source), repr(manager.address), "pickle"],
            capture_output=True,
            text=True,
            timeout=40,
        )
        assert "AuthenticationError" in done.stderr
        assert manager.list([1])[:] == [1]


def test_our_client_with_a_wrong_key_is_refused_by_a_plain_server(plain: str, tmp_path: Path, address: Any) -> None:
    from manyhands import AuthenticationError

    with plain_server(plain, tmp_path, address, "pickle") as where:
        with pytest.raises(AuthenticationError):
            Ours(address=where, authkey=b"wrong").connect()
