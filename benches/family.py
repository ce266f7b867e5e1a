"""A whole program with everything that this package starts: what `stress_family.py` kills as a whole, or in part.

    family.py METHOD [--once]

Starts a manager, a pool, an executor of which one worker has a pool of its own and one fills a queue, a segment of shared memory and, with
forkserver, the server; says "ready" and works until it is killed; with `--once` for a while, and ends in an orderly way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import Any

MARK = "MANYHANDS_STRESS_MARK"


def marked(mark: str) -> set[int]:
    """The living processes that were started with this mark in their environment, or forked from one."""
    found, wanted = set(), f"{MARK}={mark}".encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/environ", "rb") as file:
                    words = file.read().split(b"\0")
                with open(f"/proc/{name}/stat") as file:
                    state = file.read().rpartition(")")[2].split()[0]
                if wanted in words and state not in "ZX":
                    found.add(int(name))
    return found


def square(number: int) -> int:
    time.sleep(0.0005)
    return number * number


def have_a_pool(method: str, told: Any) -> None:
    """A process whose pool works until it is killed; says so once the pool has given something."""
    import manyhands

    with manyhands.get_context(method).Pool(2) as pool:
        for number, value in enumerate(pool.imap_unordered(square, iter(int, 1))):
            assert value == 0
            if number == 3:
                told.send("ready")


def have_a_pool_once(method: str) -> None:
    """The same for a while."""
    import manyhands

    with manyhands.get_context(method).Pool(1) as pool:
        assert pool.map(square, range(20)) == [n * n for n in range(20)]


def produce(items: Any, most: int) -> None:
    """Puts numbers in order, with some weight."""
    for number in range(most):
        items.put((number, bytes(100)))


def echo(connection: Any, other: Any) -> None:
    """Gives a long message back, while signals cut its writes short."""
    other.close()  # a forked child has it too, and would never see the end
    message = connection.recv_bytes()
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    connection.send_bytes(message)
    signal.setitimer(signal.ITIMER_REAL, 0)


def once(method: str) -> None:
    """Everything, and its end."""
    import manyhands
    from manyhands.shared_memory import SharedMemory

    context = manyhands.get_context(method)
    segment = SharedMemory(create=True, size=4096)
    nested = context.Process(target=have_a_pool_once, args=(method,))
    nested.start()
    ours, theirs = context.Pipe()
    mirror = context.Process(target=echo, args=(theirs, ours))
    mirror.start()
    theirs.close()
    ours.send_bytes(bytes(4 << 20))  # it takes more than one write, and more than one read
    assert len(ours.recv_bytes()) == 4 << 20
    mirror.join()
    with context.Manager() as manager, context.Pool(2) as pool:
        shared = manager.dict()
        items = context.Queue()
        producer = context.Process(target=produce, args=(items, 300))
        producer.start()
        arrays = pool.map_async(bytes, [300_000] * 6, chunksize=1)
        for number, value in enumerate(pool.imap(square, range(100))):
            shared[number] = value
        assert dict(shared) == {n: n * n for n in range(100)}
        assert [len(array) for array in arrays.get()] == [300_000] * 6
        assert [items.get(timeout=10)[0] for _ in range(300)] == list(range(300))
        producer.join()
    nested.join()
    segment.close()
    segment.unlink()


_items: Any = None


def take_items(items: Any) -> None:
    """The initializer of the executor's workers."""
    global _items
    _items = items


def produce_for_ever() -> None:
    produce(_items, sys.maxsize)


def for_ever(method: str) -> None:
    """Everything, until the end comes from outside. No bare process: such a one may outlive its parent."""
    import manyhands
    from manyhands.shared_memory import SharedMemory

    context = manyhands.get_context(method)
    segment = SharedMemory(create=True, size=4096)
    ours, theirs = context.Pipe()
    manager, pool, items = context.Manager(), context.Pool(2), context.Queue(1000)
    executor = manyhands.ProcessPoolExecutor(2, context, take_items, (items,))
    executor.submit(have_a_pool, method, theirs)
    executor.submit(produce_for_ever)
    shared = manager.dict()
    assert ours.recv() == "ready"
    print("ready", flush=True)
    for number, value in enumerate(pool.imap_unordered(square, iter(int, 1))):
        shared[number % 10] = value
        items.get()
        segment.buf[0] = number % 256


if __name__ == "__main__":
    if "--once" in sys.argv:
        once(sys.argv[1])
        print("fine", flush=True)
    else:
        for_ever(sys.argv[1])
