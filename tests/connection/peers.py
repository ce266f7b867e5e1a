"""What children do at the other end of a connection."""

from __future__ import annotations

import os
import signal
import struct
from typing import Any

from manyhands import connection


class Number(int):
    """Looks like a number, and is not one."""


class Text(str):
    """Looks like a string, and is not one."""


class Pair(tuple):  # type: ignore[type-arg]
    """Looks like a tuple, and is not one."""


def echo(end: Any) -> None:
    """Sends back what comes, until None."""
    while (message := end.recv()) is not None:
        end.send(message)


def forward(end: Any) -> None:
    """Receives a connection and says something over that."""
    with end.recv() as other:
        other.send(("from", os.getpid() != os.getppid()))


def die_in_a_message(end: Any) -> None:
    """Announces 1,000 bytes, writes 10, and is killed."""
    os.write(end.fileno(), struct.pack("!i", 1000) + b"0123456789")
    os.kill(os.getpid(), signal.SIGKILL)


def listen_and_forget(address: str) -> None:
    """A forked child that inherits a listener ends."""


def call(address: Any, authkey: bytes | None) -> None:
    """Connects and says who we are."""
    with connection.Client(address, authkey=authkey) as end:
        end.send(os.getpid())
        end.recv()
