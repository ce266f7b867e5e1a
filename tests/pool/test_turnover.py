"""Workers that are replaced because they have grown, and workers that leave because they have nothing to do."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import work

import manyhands
from manyhands import shared_memory
from scripts import until

MB = 1 << 20


def workers(pool: Any) -> int:
    return len(pool._crew.pids())


# ---- those that have grown ----


def test_a_worker_that_has_grown_is_replaced_and_no_call_is_lost(context: Any) -> None:
    with context.Pool(2, max_memory_per_child=64 * MB) as pool:
        calls = [pool.apply_async(work.hoard_and_tell, (n, 20 * MB)) for n in range(24)]
        told = [call.get(60) for call in calls]
    assert [n for n, _ in told] == list(range(24))
    pids = [pid for _, pid in told]
    # Four calls are too much. What a worker had begun of its next ones when that was seen, it does.
    assert len(set(pids)) >= 4
    assert max(pids.count(pid) for pid in set(pids)) <= 6


def test_growth_in_maps_is_seen_after_each_chunk(context: Any) -> None:
    with context.Pool(1, max_memory_per_child=32 * MB) as pool:
        told = pool.starmap(work.hoard_and_tell, [(n, 20 * MB) for n in range(12)], 2)
        assert [n for n, _ in told] == list(range(12))
        assert len({pid for _, pid in told}) >= 3
        told = list(pool.imap(work.knot_and_tell, [MB] * 50))
        assert len(told) == 50


def test_what_is_given_and_returned_does_not_count(context: Any) -> None:
    data = b"\1" * (48 * MB)
    with context.Pool(1, max_memory_per_child=32 * MB) as pool:
        told = [pool.apply(work.take_and_give, (data,)) for _ in range(5)]
    assert len({pid for pid, _ in told}) == 1
    assert all(len(given) == len(data) for _, given in told)


def test_what_is_shared_does_not_count(context: Any) -> None:
    table = shared_memory.SharedMemory(create=True, size=96 * MB)
    try:
        table.buf[:] = b"\1" * len(table.buf)
        with context.Pool(1, max_memory_per_child=32 * MB) as pool:
            shared = pool.share(work.View(b"\1" * (96 * MB)))
            pids = {pool.apply(work.touch_all, (shared,)) for _ in range(5)}
            pids |= {pool.apply(work.touch_segment, (table.name,)) for _ in range(5)}
        assert len(pids) == 1
    finally:
        table.close()
        table.unlink()


def test_what_was_there_before_the_first_call_does_not_count(context: Any) -> None:
    mine = b"\1" * (96 * MB)  # a fork has it too
    with context.Pool(1, work.hoard_and_tell, (0, 96 * MB), max_memory_per_child=32 * MB) as pool:
        assert len({pool.apply(work.pid) for _ in range(20)}) == 1
    assert len(mine) == 96 * MB


def test_what_the_allocator_keeps_does_not_count(context: Any) -> None:
    names = {f"name {n}": [str(n)] * 3 for n in range(200_000)}
    with context.Pool(1, max_memory_per_child=24 * MB) as pool:
        assert len({pool.apply(work.count_and_tell, (names,)) for _ in range(6)}) == 1


def test_garbage_is_collected_first(context: Any) -> None:
    with context.Pool(1, max_memory_per_child=64 * MB) as pool:
        assert len({pool.apply(work.knot_and_tell, (24 * MB,)) for _ in range(20)}) == 1


def test_a_worker_that_has_grown_has_its_exit(context: Any, tmp_path: Path) -> None:
    exits = tmp_path / "exits"
    with context.Pool(1, work.set_up, (str(exits),), worker_exit=work.note_exit, max_memory_per_child=8 * MB) as pool:
        _, pid = pool.apply(work.hoard_and_tell, (0, 20 * MB))
        until(lambda: pool.apply(work.pid) != pid)
        until(lambda: exits.exists() and str(pid) in exits.read_text().split())


# ---- those that are idle ----


@pytest.fixture
def sleepy(context: Any) -> Iterator[Any]:
    """A pool of three workers that leave soon."""
    with context.Pool(3, idle_timeout=0.1) as pool:
        yield pool
    pool.join()


def test_idle_workers_leave_and_come_back(sleepy: Any) -> None:
    for _ in range(2):
        until(lambda: workers(sleepy) == 0)
        assert sleepy.apply(work.square, (3,)) == 9
        assert workers(sleepy) >= 1
    until(lambda: workers(sleepy) == 0)
    assert "pool_size=0" in repr(sleepy)
    # Nobody waits for these.
    here = threading.Event()
    sleepy.apply_async(work.square, (4,), callback=lambda _: here.set())
    assert here.wait(30)
    until(lambda: workers(sleepy) == 0)
    assert sleepy.map(work.square, range(100)) == [n * n for n in range(100)]
    until(lambda: workers(sleepy) == 0)
    assert list(sleepy.imap(work.square, range(100))) == [n * n for n in range(100)]
    until(lambda: workers(sleepy) == 0)
    assert list(sleepy.imap(work.square, iter(range(50)))) == [n * n for n in range(50)]


def test_as_many_come_back_as_there_is_to_do(sleepy: Any, tmp_path: Path) -> None:
    until(lambda: workers(sleepy) == 0)
    gate = tmp_path / "gate"
    calls = [sleepy.apply_async(work.meet, (str(tmp_path / "here"), 3, str(gate))) for _ in range(3)]
    assert len({call.get(60) for call in calls}) == 3  # all three ran at once
    until(lambda: workers(sleepy) == 0)
    assert sleepy.apply(work.square, (3,)) == 9
    assert workers(sleepy) <= 2  # a second one comes where the first does not get to it for 50 ms


def test_who_works_stays_and_the_others_leave(sleepy: Any) -> None:
    call = sleepy.apply_async(work.sleepy_same, (1.5, "done"))
    until(lambda: workers(sleepy) == 1)
    assert not call.ready()
    assert call.get(30) == "done"


def test_a_pool_that_is_used_keeps_its_worker(context: Any) -> None:
    with context.Pool(1, idle_timeout=1) as pool:
        pids = set()
        for _ in range(30):
            pids.add(pool.apply(work.pid))
            time.sleep(0.05)
    assert len(pids) == 1


def test_input_that_comes_slowly_is_drawn_though_all_have_left(sleepy: Any) -> None:
    def slowly() -> Iterator[int]:
        for n in range(4):
            time.sleep(0.3)
            yield n

    assert list(sleepy.imap(work.square, slowly())) == [0, 1, 4, 9]


def test_calls_that_come_as_workers_leave_are_not_lost(context: Any) -> None:
    moments = random.Random(20261126)
    with context.Pool(2, idle_timeout=0.02) as pool:
        for n in range(60):
            assert pool.apply_async(work.square, (n,)).get(30) == n * n
            time.sleep(moments.uniform(0, 0.05))


def test_a_pool_without_workers_is_closed_and_ended(context: Any, tmp_path: Path) -> None:
    with context.Pool(2, idle_timeout=0.05) as pool:
        until(lambda: workers(pool) == 0)
        call = pool.apply_async(work.square, (5,))
        pool.close()
        pool.join()
        assert call.get(0) == 25
    with context.Pool(2, idle_timeout=0.05) as pool:
        until(lambda: workers(pool) == 0)
        pool.close()
        pool.join()
    with context.Pool(2, idle_timeout=0.05) as pool:
        until(lambda: workers(pool) == 0)
    pool.join()


def test_a_worker_that_is_killed_while_others_left_is_no_hang(sleepy: Any) -> None:
    until(lambda: workers(sleepy) == 0)
    with pytest.raises(manyhands.WorkerDied):
        sleepy.apply(work.killed)
    assert sleepy.map(work.square, range(20), 1) == [n * n for n in range(20)]


def test_idle_workers_have_their_exit_and_leave_no_process(context: Any, tmp_path: Path) -> None:
    exits = tmp_path / "exits"
    with context.Pool(2, work.set_up, (str(exits),), worker_exit=work.note_exit, idle_timeout=0.1) as pool:
        pids = set(pool._crew.pids()) | set(pool.map(work.pid, range(50), 1))
        until(lambda: workers(pool) == 0)
        until(lambda: exits.exists() and {int(pid) for pid in exits.read_text().split()} >= pids)
        for pid in pids:
            until(lambda pid=pid: not os.path.exists(f"/proc/{pid}"))  # type: ignore[misc]


def test_sizes_are_changed_while_workers_are_away(sleepy: Any) -> None:
    until(lambda: workers(sleepy) == 0)
    sleepy.resize(5)
    assert sleepy.map(work.square, range(50), 1) == [n * n for n in range(50)]
    until(lambda: workers(sleepy) == 0)
    sleepy.resize(1)
    assert sleepy.map(work.square, range(50), 1) == [n * n for n in range(50)]
    assert workers(sleepy) <= 1


def test_a_call_beside_a_long_one_has_a_worker_come(sleepy: Any, tmp_path: Path) -> None:
    until(lambda: workers(sleepy) == 0)
    gate = tmp_path / "gate"
    first = sleepy.apply_async(work.note_and_wait, (str(tmp_path / "began"), 0, str(gate)))
    until(lambda: (tmp_path / "began").exists())
    until(lambda: workers(sleepy) == 1)
    sleepy.apply_async(gate.touch)
    first.get(30)


@pytest.mark.parametrize("large", [False, True])
def test_a_map_has_as_many_come_as_a_pool_whose_workers_stayed(context: Any, tmp_path: Path, large: bool) -> None:
    data = b"\1" * (20 * MB if large else 1)  # of large ones a worker has one at a time
    tasks_each = None if large else 1
    with context.Pool(3, maxtasksperchild=tasks_each, idle_timeout=0.1) as pool:
        for way in ("map", "imap"):
            until(lambda: workers(pool) == 0)
            (tmp_path / way).mkdir()
            items = [(str(tmp_path / way / "here"), 3, data)] * 3
            met = pool.map(work.meet_heavily, items, 1) if way == "map" else pool.imap(work.meet_heavily, iter(items))
            assert len(set(met)) == 3  # they wait for each other


def test_no_more_come_than_there_is_to_do_while_others_leave_slowly(context: Any) -> None:
    with context.Pool(4, worker_exit=work.leave_slowly, idle_timeout=0.2) as pool:
        pool.map(work.pid, range(50), 1)
        first = set(pool._crew.pids())
        seen = set()

        def one_left() -> bool:
            seen.update(pool._crew.pids())
            return len(pool._crew.pids()) < 4

        until(one_left)  # the others are about to
        pool.apply(work.pid)
        ended = time.monotonic() + 0.5
        while time.monotonic() < ended:
            seen.update(pool._crew.pids())
            time.sleep(0.01)
        assert len(seen - first) <= 1


def test_the_only_worker_that_stayed_is_stopped(sleepy: Any, context: Any) -> None:
    with context.Pool(2, idle_timeout=1) as pool:
        until(lambda: workers(pool) == 0)
        pid = pool.apply(work.pid)
        os.kill(pid, signal.SIGSTOP)
        try:
            assert pool.apply_async(work.pid).get(30) != pid
        finally:
            os.kill(pid, signal.SIGCONT)


def test_workers_come_while_a_callback_takes_long(sleepy: Any, tmp_path: Path) -> None:
    until(lambda: workers(sleepy) == 0)
    inside, over = threading.Event(), threading.Event()

    def callback(_: object) -> None:
        inside.set()
        over.wait(60)

    sleepy.apply_async(work.pid, callback=callback)
    assert inside.wait(30)
    calls = [sleepy.apply_async(work.meet, (str(tmp_path / "here"), 3, "")) for _ in range(3)]
    until(lambda: len(list(tmp_path.glob("here-*"))) == 3)
    over.set()
    assert len({call.get(30) for call in calls}) == 3


# ---- bad input ----


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_memory_per_child": 200_000}, ValueError, "is that KiB"),
        ({"max_memory_per_child": 0}, ValueError, "max_memory_per_child must be a number of bytes"),
        ({"max_memory_per_child": -1}, ValueError, "max_memory_per_child must be a number of bytes"),
        ({"max_memory_per_child": "64M"}, TypeError, "str"),
        ({"max_memory_per_child": 1e9}, TypeError, "float"),
        ({"idle_timeout": 0}, ValueError, "idle_timeout must be more than 0 seconds"),
        ({"idle_timeout": -1}, ValueError, "idle_timeout must be 0 seconds or more"),
        ({"idle_timeout": "1"}, TypeError, "idle_timeout must be a number of seconds"),
        ({"idle_timeout": True}, TypeError, "idle_timeout must be a number of seconds"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        manyhands.Pool(1, **options)
    with pytest.raises(error, match=text):
        manyhands.ProcessPoolExecutor(1, **options)


def test_for_ever_is_no_limit(context: Any) -> None:
    with context.Pool(1, idle_timeout=float("inf")) as pool:
        assert pool.apply(work.square, (3,)) == 9
