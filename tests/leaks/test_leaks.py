"""What a pool takes it gives back: descriptors, mappings, threads, processes, files."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "pool"))
import pytest
import work

from manyhands import WorkerDied
from scripts import until


def holdings() -> dict[str, int]:
    gc.collect()
    with open("/proc/self/maps") as maps:
        mapped = sum("manyhands" in line for line in maps)
    return {"fds": len(os.listdir("/proc/self/fd")), "mappings": mapped, "threads": threading.active_count()}


def use(context: Any) -> None:
    with context.Pool(3) as pool:
        assert pool.map(work.square, range(50), 1) == [x * x for x in range(50)]
        assert pool.apply_async(work.same, (b"x" * 300_000,)).get() == b"x" * 300_000
        with pytest.raises(WorkerDied):
            pool.apply(work.kill_self)


def test_pools_leave_nothing_behind(context: Any) -> None:
    use(context)  # what is made once, for good: a fork server, imports
    before = holdings()
    for _ in range(5):
        use(context)
    until(lambda: holdings() == before)


def test_deaths_leave_nothing_behind(context: Any) -> None:
    with context.Pool(2) as pool:
        with pytest.raises(WorkerDied):
            pool.apply(work.kill_self)
        pool.map(work.square, range(10), 1)
        pool.apply_async(work.square, (1,)).get()
        before = holdings()
        for _ in range(20):
            with pytest.raises(WorkerDied):
                pool.apply(work.kill_self)
            pool.map(work.square, range(10), 1)
        # The last ones may still be cleared away; one thing kept for each death would be 20.
        until(lambda: all(count - before[what] < 10 for what, count in holdings().items()))


def test_a_worker_has_no_descriptors_of_its_siblings(context: Any) -> None:
    mine = _fd_count(None)
    with context.Pool(5) as pool:
        counts = set(pool.map(_fd_count, range(50), 1))
    assert len(counts) == 1
    # Two bells, the lifeline, its parent, the memory of results, and its mailbox, where manyhands top finds what it runs.
    assert max(counts) <= mine + 6


def _fd_count(_: object) -> int:
    return len(os.listdir("/proc/self/fd"))
