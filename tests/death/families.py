"""A program with a family of every kind of process, for tests that end it: `families.py METHOD FOLDER rest|load|leave`.

It prints "ready" and its segment's name when all of them are at work.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any, NoReturn

import manyhands
from manyhands.connection import Listener
from manyhands.shared_memory import SharedMemory


def same(value: Any) -> Any:
    return value


def compute(_: object = None) -> NoReturn:
    """Never gives the interpreter's signals, or anybody else, a chance to be waited for."""
    while True:
        pass


def sleep(_: object = None) -> None:
    signal.pause()


def nest(method: str, folder: str, load: bool) -> None:
    """A worker that has workers."""
    pool = manyhands.get_context(method).Pool(1)
    pool.map(same, range(10))
    with open(os.path.join(folder, "nested"), "x"):
        pass
    if load:
        pool.map(compute, range(2), 1)
    signal.pause()


def have_everything(method: str, folder: str, load: bool) -> None:
    context = manyhands.get_context(method)
    pool = context.Pool(2)
    pool.map(same, range(10))
    executor = manyhands.ProcessPoolExecutor(1, mp_context=context)
    executor.submit(nest, method, folder, load)
    table = context.Manager().dict(a=1)
    queue = context.Queue()
    for _ in range(20):
        queue.put(b"x" * 100_000)  # more than a pipe takes: a thread is about to write the rest
    segment = SharedMemory(create=True, size=1000)
    listener = Listener(family="AF_UNIX")
    while not os.path.exists(os.path.join(folder, "nested")):
        time.sleep(0.005)
    if load:
        pool.map_async(compute, range(8), 1)
    print("ready", segment.name, flush=True)
    while load:
        table["a"] = queue.get()
        queue.put(table["a"])
    signal.pause()
    assert listener  # it stays open till here


def leave_by_handler(method: str) -> None:
    """A program that is asked to end, and does so as `sys.exit` does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    context = manyhands.get_context(method)
    with context.Pool(2) as pool, context.Manager() as manager:
        table = manager.dict(a=1)
        pool.map(same, range(10))
        print("ready", "-", flush=True)
        pool.map(sleep, range(4), 1)
        table["a"] = 2


if __name__ == "__main__":
    method, folder, what = sys.argv[1:]
    if what == "leave":
        leave_by_handler(method)
    else:
        have_everything(method, folder, what == "load")
