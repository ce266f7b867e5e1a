"""Connections whose other end is a plain Python: it must not notice, in either role."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import manyhands
from manyhands.connection import Client, Listener

PEER = Path(__file__).with_name("plain.py")


@contextmanager
def peer(python: str, role: str, where: str, key: str) -> Iterator[subprocess.Popen[str]]:
    """The other end, which has to end by itself."""
    command = [python, "-I", str(PEER), role, where, key]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def talk_first(end: Any) -> None:
    end.send({"from": "manyhands"})
    end.send_bytes(b"m" * 70_000)
    end.send_bytes(b"")


def hear(end: Any) -> None:
    assert end.recv()["from"] == "plain"
    assert end.recv_bytes() == b"b" * 70_000
    assert end.recv_bytes() == b""


HEARD = "{'from': 'manyhands'} [70000, 0]"


@pytest.mark.parametrize("key", ["-", "secret"], ids=["open", "key"])
@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET"])
def test_a_plain_listener_accepts_us(plain: str, family: str, key: str) -> None:
    with peer(plain, "listen", family, key) as process:
        assert process.stdout
        address = ast.literal_eval(process.stdout.readline())
        with Client(address, authkey=None if key == "-" else key.encode()) as end:
            hear(end)
            talk_first(end)
            with pytest.raises(EOFError):
                end.recv()
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out.strip(), err) == (0, HEARD, "")


@pytest.mark.parametrize("key", ["-", "secret"], ids=["open", "key"])
@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET"])
def test_a_plain_client_reaches_us(plain: str, family: str, key: str) -> None:
    with Listener(family=family, authkey=None if key == "-" else key.encode()) as listener:
        with peer(plain, "call", repr(listener.address), key) as process:
            with listener.accept() as end:
                talk_first(end)
                hear(end)
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out.strip(), err) == (0, HEARD, "")


def test_a_plain_listener_refuses_our_wrong_key(plain: str) -> None:
    with peer(plain, "listen", "AF_UNIX", "secret") as process:
        assert process.stdout
        address = ast.literal_eval(process.stdout.readline())
        with pytest.raises(manyhands.AuthenticationError, match="rejected"):
            Client(address, authkey=b"wrong")
        _, err = process.communicate(timeout=30)
    assert "AuthenticationError: digest received was wrong" in err


def test_a_plain_client_with_a_wrong_key_is_refused(plain: str) -> None:
    with Listener(authkey=b"secret") as listener:
        with peer(plain, "call", repr(listener.address), "wrong") as process:
            with pytest.raises(manyhands.AuthenticationError, match="wrong"):
                listener.accept()
            _, err = process.communicate(timeout=30)
    assert "AuthenticationError: digest sent was rejected" in err
