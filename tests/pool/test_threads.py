"""Threads that share a pool: whoever sleeps is woken, and an input that waits holds up nobody else."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import work

from scripts import printed, until

pytestmark = pytest.mark.timeout(60)


def test_an_input_may_wait_for_what_comes_of_it(pool: Any) -> None:
    found: queue.Queue[int | None] = queue.Queue()
    found.put(0)
    seen = []
    for value in pool.imap_unordered(work.same, iter(found.get, None)):
        seen.append(value)
        found.put(value + 1 if value < 50 else None)
    assert seen == list(range(51))


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What an input waits for; open at the end, so that no thread stays behind."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_an_input_that_waits_holds_up_nobody(pool: Any, gate: threading.Event) -> None:
    def waiting() -> Iterator[int]:
        gate.wait()
        yield 1

    first = pool.apply_async(work.square, (3,))
    results = pool.imap(work.same, waiting())
    assert first.get() == 9
    assert pool.map(work.square, range(50)) == [x * x for x in range(50)]
    assert list(pool.imap(work.square, range(50))) == [x * x for x in range(50)]
    pool.apply_async(work.same, (1,), callback=lambda _: gate.set())
    assert list(results) == [1]


def test_a_pool_whose_input_waits_can_be_terminated(context: Any, gate: threading.Event) -> None:
    def waiting() -> Iterator[int]:
        yield 1
        gate.wait()

    pool = context.Pool(1)
    results = pool.imap(work.same, waiting())
    assert next(results) == 1
    pool.terminate()
    pool.join()


def test_an_input_may_use_the_pool(pool: Any) -> None:
    def nested(depth: int) -> Iterator[int]:
        if depth == 0:
            yield 1
        else:
            yield from pool.map(work.same, nested(depth - 1))

    assert pool.map(work.same, nested(8)) == [1]
    chain: Any = range(10)
    for _ in range(8):
        chain = pool.imap(work.same, chain)
    assert list(chain) == list(range(10))


def test_a_map_draws_its_input_in_the_thread_that_called_it(pool: Any) -> None:
    # A cursor refuses to be used in any other thread.
    query = "with recursive n(x) as (select 0 union all select x + 1 from n where x < 1999) select x from n"
    rows = sqlite3.connect(":memory:").execute(query)
    stop = threading.Event()

    def others() -> None:
        while not stop.is_set():
            assert pool.apply_async(work.same, (1,)).get() == 1

    threads = [threading.Thread(target=others) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert pool.map(work.same, rows, 1) == [(x,) for x in range(2000)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_map_starts_while_all_others_wait_for_a_long_task(pool: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    long = pool.apply_async(work.wait_for, (str(gate),))
    time.sleep(0.2)  # now the tending thread waits for that task
    begun = pool.map_async(work.square, range(10))
    until(begun.ready)
    assert begun.get() == [x * x for x in range(10)]
    gate.touch()
    long.get()


def test_threads_use_a_pool_that_is_closed_or_terminated_meanwhile(context: Any) -> None:
    for end in ("close", "terminate"):
        pool = context.Pool(2, maxtasksperchild=20)
        wrong: list[BaseException] = []
        begun = threading.Barrier(5)

        def use(pool: Any = pool, wrong: Any = wrong, begun: Any = begun) -> None:
            begun.wait()
            try:
                while True:
                    assert pool.map(work.square, range(20), 1) == [x * x for x in range(20)]
                    assert list(pool.imap(work.square, iter(range(20)))) == [x * x for x in range(20)]
                    assert pool.apply(work.square, (3,)) == 9
            except (ValueError, RuntimeError):
                pass  # the pool is over
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        begun.wait()
        time.sleep(0.1)
        getattr(pool, end)()
        pool.join()
        for thread in threads:
            thread.join()
        assert not wrong


def test_a_child_of_os_fork_exits_quietly_beside_a_pool_in_use(tmp_path: Path) -> None:
    source = """
        import os, sys, warnings
        import manyhands

        if __name__ == "__main__":
            warnings.simplefilter("ignore")  # of 3.12 on, about forks beside threads
            with manyhands.get_context("fork").Pool(2) as pool:
                results = [pool.apply_async(abs, (x,)) for x in range(2000)]
                for i in range(20):
                    child = os.fork()
                    if child == 0:
                        for use in (pool.apply, pool.map, pool.map_async, pool.imap):
                            try:
                                use(abs, [1])
                            except RuntimeError as error:
                                assert "belongs to the parent" in str(error)
                            else:
                                raise AssertionError(use)
                        if i % 2:
                            pool.terminate()
                        del pool, results
                        sys.exit(7)
                    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
                print(sum(result.get() for result in results))
            pool.join()
    """
    assert printed(tmp_path, source) == [str(sum(range(2000)))]


def test_threads_that_first_use_a_pool_at_once_have_one_tender(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make = threading.Thread.__init__

    def make_slowly(thread: threading.Thread, *args: Any, **options: Any) -> None:
        if options.get("name") == "manyhands-tender":
            time.sleep(0.3)  # whoever would make a second one has the time to
        make(thread, *args, **options)

    monkeypatch.setattr(threading.Thread, "__init__", make_slowly)
    pool = context.Pool(1)
    begun = threading.Barrier(4)

    def use() -> None:
        begun.wait()
        assert pool.apply_async(work.square, (3,)).get() == 9

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [thread.name for thread in threading.enumerate()].count("manyhands-tender") == 1
    pool.close()
    pool.join()


def test_a_thread_that_cannot_be_started_leaves_the_pool_usable(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = context.Pool(1)
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            pool.apply_async(work.square, (1,))
    called = threading.Event()
    pool.apply_async(work.square, (2,), callback=lambda _: called.set())
    assert called.wait(30)
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            pool.imap(work.square, (x for x in range(3)))
    assert pool.imap(work.square, (x for x in range(3))).next(timeout=30) == 0
    pool.terminate()
    pool.join()


def test_a_child_of_os_fork_may_close_and_join_a_pool_in_use(tmp_path: Path) -> None:
    source = """
        import os, sys, threading, warnings
        import manyhands

        def use():
            while not stop.is_set():
                pool.map(abs, range(2000), chunksize=1)

        if __name__ == "__main__":
            warnings.simplefilter("ignore")  # of 3.12 on, about forks beside threads
            stop = threading.Event()
            with manyhands.get_context("fork").Pool(2) as pool:
                threads = [threading.Thread(target=use) for _ in range(2)]
                for thread in threads:
                    thread.start()
                for _ in range(300):
                    child = os.fork()
                    if child == 0:
                        pool.close()
                        try:
                            pool.join()
                        except AssertionError:
                            os._exit(7)  # the workers are no children of this process
                        os._exit(8)
                    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
                stop.set()
                for thread in threads:
                    thread.join()
            pool.join()
            print("done")
    """
    assert printed(tmp_path, source) == ["done"]
