"""Feeds what Python's face reads of other processes with mutated bytes: frames, pickles, queues, handshakes, managers.

    python fuzz/python_decoders.py                       every target, 5,000 executions each
    python fuzz/python_decoders.py --runs 200000 frames  one of them, for longer
    python fuzz/python_decoders.py --seed 7              other bytes; the same seed is the same bytes

Always: what does not fit is an exception of a kind that is expected there. A crash, a hang, another exception, a value
that pickle would not give, or memory for what was only announced ends the run with status 1 and the bytes in hex.
Not here: what can be read without an interpreter (`crates/manyhands-fuzz`).
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import manyhands
from manyhands import _engine, connection
from manyhands.connection import Client, Connection
from manyhands.managers import BaseManager

# What a pickle that is none may raise: the unpickler's own errors, and those of whatever it was brought to call.
UNPICKLING = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError, ImportError,
    MemoryError, OverflowError,
)  # fmt: skip
KEY = b"the key"
# So much more than at the beginning is not to be had: an announced length that was believed would show.
ROOM = 1 << 30
# What a reader waits for whose peer has announced more than it sends.
PATIENCE = 0.05

VALUES: list[Any] = [
    None, True, 0, -1, 2**31, -(2**63), 2**70, 1.5, "", "text", "\u20ac" * 9, b"", b"bytes" * 30, (), (1,), (1, 2), (1, 2, 3),
    (1, 2, 3, "four", None), [1, 2, 3], [1.5, 2.5], [], ["a", "b", "a"], {"key": 1, "other": [1, (2, {"key": "key"})]},
    {1: 2}, [[[[[[]]]]]], ("get", (1, 2), {}), [b"x" * 50, "y" * 90], {"a": None, "b": True, "c": 0.0},
]  # fmt: skip


def mutated(dice: random.Random, data: bytes) -> bytes:
    """Returns `data` with some bytes changed, added, left out or repeated."""
    found = bytearray(data)
    for _ in range(dice.choice((0, 1, 1, 1, 2, 3, 6))):
        at = dice.randrange(len(found) + 1)
        what = dice.randrange(6)
        if what == 0 and at < len(found):
            found[at] = dice.randrange(256)
        elif what == 1 and at < len(found):
            found[at] ^= 1 << dice.randrange(8)
        elif what == 2:
            found.insert(at, dice.randrange(256))
        elif what == 3:
            del found[at : at + dice.randrange(1, 5)]
        elif what == 4:
            found[at:at] = found[at : at + dice.randrange(1, 20)]
        elif at + 4 <= len(found):
            found[at : at + 4] = dice.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4)))
    return bytes(found[:5000])


def framed(payload: bytes) -> bytes:
    """Returns a message of these bytes, as connections send it."""
    return struct.pack("!i", len(payload)) + payload


class TooSlow(Exception):
    """The alarm: a reader waits for what was announced and will not come."""


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Ends what takes longer by TooSlow."""

    def ring(*_: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same, also where a number is none."""
    return type(one) is type(other) and repr(one) == repr(other)


# ---- the targets: each is given dice, and returns the bytes that it is about and what to do with them ----

Attempt = tuple[bytes, Callable[[], None]]


def plain(dice: random.Random) -> Attempt:
    """Tasks' arguments and results, as they are written by hand."""
    value = dice.choice(VALUES)
    honest = _engine.dumps(value)[0]
    payload = mutated(dice, honest)
    # A pickle is CPython's to read; an empty payload is none of either.
    payload = bytes([payload[0] & 0x7F]) + payload[1:] if payload else b"\0"
    buffers = [b"buffer"] * dice.randrange(2)

    def attempt() -> None:
        if honest[0] < 0x80 and honest[0] != 7:
            assert same(_engine.loads_payload(honest, []), value)
        with suppress(ValueError):
            repr(_engine.loads_payload(payload, buffers))

    return payload, attempt


def objects(dice: random.Random) -> Attempt:
    """Pickles on a connection: what is read by hand is what the unpickler says."""
    pickled = mutated(dice, pickle.dumps(dice.choice(VALUES), dice.randrange(2, 6)))
    safe = b"c" not in pickled and b"\x93" not in pickled  # nothing is imported

    def attempt() -> None:
        one, other = socket.socketpair()
        with other, Connection(one.detach()) as end:
            other.sendall(framed(pickled))
            try:
                expected: Any = (pickle.loads(pickled),) if safe else None
            except UNPICKLING:
                expected = None
            try:
                found: Any = (end.recv(),) if safe else None
            except UNPICKLING:
                found = None
            if not safe:
                assert end.recv_bytes() == pickled
            assert same(expected, found), f"{found!r} and not {expected!r}"

    return pickled, attempt


def frames(dice: random.Random) -> Attempt:
    """Lengths and pieces of messages on a stream that ends."""
    lengths = [0, 1, 5, 4092, 4093, 2**31 - 1, -1, -2, -(2**31)]
    stream = b""
    for _ in range(dice.randrange(1, 5)):
        if dice.random() < 0.5:
            stream += framed(dice.randbytes(dice.choice((0, 1, 40, 4092, 5000))))
        else:
            stream += struct.pack("!i", dice.choice(lengths))
            stream += struct.pack("!Q", dice.choice((0, 5, 2**40, 2**63, 2**64 - 1))) * dice.randrange(2)
    stream = mutated(dice, stream)
    limit = dice.choice((None, 0, 3, 4092, 2**31))
    way = dice.randrange(3)

    def attempt() -> None:
        one, other = socket.socketpair()
        with Connection(one.detach()) as end:
            with other:
                other.sendall(stream)
            with suppress(OSError, EOFError):  # BufferTooShort is raised for what is only long
                while True:
                    assert end.poll(0)
                    if way == 0:
                        found = end.recv_bytes(limit)
                        assert limit is None or len(found) <= limit
                    elif way == 1:
                        with suppress(connection.BufferTooShort):
                            end.recv_bytes_into(bytearray(1000), dice.randrange(1000))
                    else:
                        if _engine.recv_within(end.fileno(), limit, 5.0) is None:
                            break  # refused for its length

    return stream, attempt


def handshake(dice: random.Random) -> Attempt:
    """A handshake with somebody who does not know the key, at either end."""
    challenge = (
        b"#CHALLENGE#"
        + dice.choice((b"{sha256}", b"{md5}", b"", b"{sha3_384}", b"{none}"))
        + dice.randbytes(dice.choice((20, 40, 16, 0)))
    )
    said = [
        b"#WELCOME#",
        challenge,
        dice.randbytes(16),
        b"{sha256}" + dice.randbytes(32),
        b"#FAILURE#",
        pickle.dumps(Trap()),
    ]
    messages = [mutated(dice, dice.choice(said)) for _ in range(dice.randrange(1, 5))]
    stream = b"".join(map(framed, messages))
    stream = stream if dice.random() < 0.8 else mutated(dice, stream)
    delivers = dice.random() < 0.7

    def attempt() -> None:
        one, other = socket.socketpair()
        with Connection(one.detach()) as end, other:
            other.sendall(stream)
            other.shutdown(socket.SHUT_WR)
            try:
                if delivers:
                    connection.deliver_challenge(end, KEY)
                    raise AssertionError("somebody without the key is let in")
                # A challenge is answered whoever asks: that says nothing of the key.
                connection.answer_challenge(end, KEY)
            except (manyhands.AuthenticationError, OSError, EOFError):
                pass

    return stream, attempt


class Trap:
    """Leaves a mark where it is unpickled."""

    sprung = False

    def __reduce__(self) -> Any:
        return spring, ()


def spring() -> None:
    """Leaves the mark."""
    Trap.sprung = True


def queues(dice: random.Random) -> Attempt:
    """What a stranger writes into a queue's pipe."""
    pickled = pickle.dumps(dice.choice(VALUES))
    stream = dice.choice((framed(mutated(dice, pickled)), mutated(dice, framed(pickled)), dice.randbytes(3)))
    simple = dice.random() < 0.5

    def attempt() -> None:
        queue: Any = manyhands.SimpleQueue() if simple else manyhands.Queue()
        os.write(queue._writer.fileno(), stream)
        try:
            with alarm(PATIENCE):
                for _ in range(3):
                    queue.get() if simple else queue.get(timeout=PATIENCE / 2)
        except (TooSlow, manyhands.queues.Empty, OSError, *UNPICKLING):
            pass
        finally:
            queue.close()

    return stream, attempt


class Served:
    """What the manager of the target `managers` has: an answer."""

    def answer(self, number: int = 41) -> int:
        """Returns one more."""
        return number + 1


class Manager(BaseManager):
    """A manager with one type."""


Manager.register("Served", Served)


class Managers:
    """Requests of a client that knows the key, and is broken."""

    def __init__(self) -> None:
        self.manager = Manager(authkey=KEY)
        self.manager.start()
        self.proxy: Any = self.manager.Served()  # type: ignore[attr-defined]
        self.asked = 0

    def __call__(self, dice: random.Random) -> Attempt:
        ident = self.proxy._token.id
        requests = [
            (ident, "answer", (1,), {}), (ident, "answer", (), {"number": 2}), (ident, "nothing", (), {}),
            ("", "answer", (), {}), (None, "dummy", (), {}), (None, "number_of_objects", (), {}), (1, 2), None,
            (None, "accept_connection", ("name",), {}), (None, "create", ("Served",), {}), (None, "incref", (ident,), {}),
            (ident, "answer", "no tuple", {}), (ident, 7, (), {}), ([], "answer", (), {}),
        ]  # fmt: skip
        sent = [pickle.dumps(dice.choice(requests)) for _ in range(dice.randrange(1, 4))]
        sent = [mutated(dice, request) if dice.random() < 0.7 else request for request in sent]
        # What ends the server is no attack but a request.
        sent = [request for request in sent if b"shutdown" not in request]
        stream = b"".join(map(framed, sent))
        stream = stream if dice.random() < 0.8 else mutated(dice, stream)
        takes_over = dice.random() < 0.5

        def attempt() -> None:
            with Client(self.manager.address, authkey=KEY) as client:
                if takes_over:
                    client.send((None, "accept_connection", ("client",), {}))
                    client.recv()
                with socket.socket(fileno=os.dup(client.fileno())) as raw:
                    with suppress(BrokenPipeError, ConnectionResetError):
                        raw.sendall(stream)
                        raw.shutdown(socket.SHUT_WR)
                    with suppress(EOFError, OSError):
                        while client.poll(5):
                            client.recv_bytes()
            self.asked += 1
            if self.asked % 20 == 0:
                assert self.proxy.answer() == 42, "the server answers others wrongly"

        return stream, attempt


TARGETS: dict[str, Callable[[], Callable[[random.Random], Attempt]]] = {
    "plain": lambda: plain,
    "objects": lambda: objects,
    "frames": lambda: frames,
    "handshake": lambda: handshake,
    "queues": lambda: queues,
    "managers": Managers,
}
# Those that take a thousand times as long for each execution.
SLOW = {"queues": 50, "managers": 20}


def descriptors() -> int:
    """Returns how many descriptors are open."""
    return len(os.listdir("/proc/self/fd"))


def fuzz(name: str, runs: int, seed: int) -> int:
    """Runs one target; returns how many executions that were. Raises SystemExit with what was found."""
    target = TARGETS[name]()
    before = descriptors()
    for number in range(runs):
        data, attempt = target(random.Random(f"{name} {seed} {number}"))
        try:
            with alarm(30):
                attempt()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            print(f"{name}: execution {number} of seed {seed}: {error!r} for {data.hex()}", file=sys.stderr)
            raise SystemExit(1) from error
        assert not Trap.sprung, f"{name}: something was unpickled before its sender was known: {data.hex()}"
    assert descriptors() <= before + 2, f"{name}: {descriptors() - before} descriptors were left open"
    if isinstance(target, Managers):
        assert target.proxy.answer() == 42
        target.proxy = None
        target.manager.shutdown()
    return runs


def main() -> None:
    """Runs what the command line says."""
    options = argparse.ArgumentParser(description="Mutated bytes for what Python's face reads.")
    options.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default")
    options.add_argument("--runs", type=int, default=5000, help="executions of each (slow ones have a part of them)")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    if not hasattr(_engine, "loads_payload"):
        sys.exit("this manyhands is older than this program: build it first (make wheel)")
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    total = 0
    for name in chosen.targets or TARGETS:
        began = time.monotonic()
        runs = fuzz(name, max(1, chosen.runs // SLOW.get(name, 1)), chosen.seed)
        total += runs
        print(f"{name:10} {runs:9,} executions, {runs / (time.monotonic() - began):8,.0f}/s", flush=True)
    print(f"{'total':10} {total:9,} executions, nothing found")


if __name__ == "__main__":
    main()
