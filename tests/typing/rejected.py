"""Mistakes as users make them: each line that ends in `# wrong: CODE` is one that type checkers have to report.

Never run. CODE is mypy's; of pyright any report for the line will do. A line without the mark is right.
"""

from __future__ import annotations

import ctypes

import manyhands as mp
from manyhands import managers, pool, queues


def square(x: int) -> int:
    return x * x


def processes() -> None:
    mp.Process(target=3)  # wrong: arg-type
    mp.Process(target=square, args=5)  # wrong: arg-type
    mp.Process(square, (1,))  # wrong: arg-type
    mp.Process(target=square, daemon="yes")  # wrong: arg-type
    mp.Process(target=square).join("1")  # wrong: arg-type
    mp.Process(target=square).exitcode = 3  # wrong: misc
    mp.Process(target=square).stop()  # wrong: attr-defined


def pools() -> None:
    workers = mp.Pool("4")  # wrong: arg-type
    workers.map(square, ["a"])  # wrong: arg-type
    workers.map(square, 10)  # wrong: arg-type
    print(workers.map(square, [1])[0].upper())  # wrong: attr-defined
    workers.starmap(square, [1])  # wrong: list-item
    later: pool.AsyncResult[str] = workers.apply_async(square, (1,))  # wrong: arg-type
    workers.imap(square, [1], buffersize="many")  # wrong: arg-type
    workers.imap(square, [1], 1, 2)  # wrong: call-arg
    workers.submit(square, 1)  # wrong: attr-defined
    print(later)


def exchange() -> None:
    numbers: queues.Queue[int] = mp.Queue()
    numbers.put("one")  # wrong: arg-type
    word: str = numbers.get()  # wrong: assignment
    numbers.get(timeout="soon")  # wrong: arg-type
    left, right = mp.Pipe()
    left.send_bytes("text")  # wrong: arg-type
    middle, left, right = mp.Pipe()  # wrong: misc
    print(word, right, middle)


def shared() -> None:
    number = mp.Value(ctypes.c_int, 1)
    number.value = "one"  # wrong: assignment
    mp.Lock().acquire(waiting=True)  # wrong: call-arg
    mp.Barrier()  # wrong: call-arg
    mp.Event().put(1)  # wrong: attr-defined
    with mp.Manager() as manager:
        words: managers.ListProxy[str] = manager.list(["a"])
        words.append(1)  # wrong: arg-type
        manager.Value("i", 1).value = "one"  # wrong: assignment


async def awaiting() -> None:
    with mp.Pool(2) as workers:
        value: str = await workers.apply_async(square, (1,))  # wrong: arg-type
        print(value)
        async for text in workers.imap(square, [1]):
            text.upper()  # wrong: attr-defined
        workers.map(square, [1], progress_bar="yes")  # wrong: arg-type
        workers.resize("all")  # wrong: arg-type
    mp.Pool(1, threads_per_worker="one")  # wrong: arg-type


def contexts() -> None:
    mp.get_context(3)  # wrong: call-overload
    mp.get_context("spawn").Pool(processes="all")  # wrong: arg-type
    mp.set_start_method(method=1)  # wrong: arg-type
    mp.install("now")  # wrong: call-arg
    print(mp.no_such_name)  # wrong: attr-defined
