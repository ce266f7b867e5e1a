"""Programs that end while a thread of theirs, or of a pool's, is in the user's own code: they end well all the same.

Up to CPython 3.13 such a thread is ended in the midst of it, and its stack unwound through what called that code.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import printed

PROGRAM = """
import sys, threading, time
import manyhands

inside = threading.Event()

def wait():
    inside.set()
    while True:
        time.sleep(0.001)

class Slow:
    def __reduce__(self):
        wait()

def one_by_one():
    yield 1
    wait()
    yield 2

class Starred:
    def __iter__(self):
        wait()

class Restored:
    def __reduce__(self):
        return restore, ()

def restore():
    if threading.current_thread() is not threading.main_thread():
        wait()

def same(x):
    return x

context = manyhands.get_context("fork")
pool = context.Pool(1)
reader, writer = context.Pipe(duplex=False)
queue = context.SimpleQueue()
uses = {
    "imap": lambda: pool.imap(same, one_by_one()),  # a thread of the pool draws it
    "map": lambda: pool.map(same, one_by_one()),
    "chunks": lambda: pool.map(same, one_by_one(), 10),
    "starmap": lambda: pool.starmap(same, iter([Starred(), Starred()]), 1),
    "iter": lambda: pool.map(same, Starred()),
    "argument": lambda: pool.apply(same, (Slow(),)),
    "send": lambda: writer.send(Slow()),
    "put": lambda: queue.put(Slow()),
    "get": lambda: (queue.put(Restored()), queue.get()),
}
threading.Thread(target=uses[sys.argv[1]], daemon=True).start()
inside.wait()
print("ends")
"""


@pytest.mark.parametrize("use", ["imap", "map", "chunks", "starmap", "iter", "argument", "send", "put", "get"])
def test_a_program_ends_well_while_a_thread_is_in_its_code(tmp_path: Path, use: str) -> None:
    assert printed(tmp_path, PROGRAM, use, limit=20) == ["ends"]
