"""Calls that go before others."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import work

import manyhands
from scripts import until


@pytest.fixture
def busy(context: Any, tmp_path: Path) -> Iterator[tuple[Any, Path, Path]]:
    """A pool whose one worker waits for a gate, the gate, and the file in which calls note that they began."""
    gate, order = tmp_path / "gate", tmp_path / "order"
    with context.Pool(1) as pool:
        pool.apply_async(work.note_and_wait, (str(order), "first", str(gate)))
        until(order.exists)
        yield pool, gate, order
    pool.join()


def test_higher_priorities_begin_first_and_equals_in_their_order(busy: Any) -> None:
    pool, gate, order = busy
    note = functools.partial(pool.apply_async, work.note)
    calls = [note((str(order), f"a{n}")) for n in range(5)]
    calls.append(note((str(order), "low"), priority=-1))
    calls += [note((str(order), f"b{n}")) for n in range(5)]
    calls += [note((str(order), f"high{n}"), priority=7) for n in range(3)]
    calls.append(note((str(order), "highest"), priority=8))
    gate.touch()
    for call in calls:
        call.get(30)
    assert order.read_text().split() == [
        "first", "highest", "high0", "high1", "high2", *(f"a{n}" for n in range(5)), *(f"b{n}" for n in range(5)), "low",
    ]  # fmt: skip


def test_a_call_goes_before_a_map_that_is_under_way(busy: Any) -> None:
    pool, gate, order = busy
    mapped = pool.map_async(functools.partial(work.note, str(order)), range(100), 1)
    call = pool.apply_async(work.note, (str(order), "call"), priority=1)
    gate.touch()
    call.get(30)
    mapped.get(30)
    assert order.read_text().split()[:3] == ["first", "call", "0"]


@pytest.mark.parametrize("is_prompt", [True, False], ids=["list", "generator"])
def test_a_map_goes_before_calls_that_wait(busy: Any, is_prompt: bool) -> None:
    pool, gate, order = busy
    calls = [pool.apply_async(work.note, (str(order), f"call{n}")) for n in range(30)]
    items = [f"item{n}" for n in range(20)]
    values = pool.imap(
        functools.partial(work.note, str(order)), items if is_prompt else (item for item in items), priority=3
    )
    if not is_prompt:
        until(lambda: pool._crew.has_work())
    gate.touch()
    assert list(values) == [None] * 20
    for call in calls:
        call.get(30)
    began = order.read_text().split()
    # It is drawn by a thread, which may come when some of the calls have begun.
    assert began.index("item0") < 20
    assert [name for name in began if name.startswith("call")] == [f"call{n}" for n in range(30)]


def test_of_two_maps_the_higher_one_is_done_first(busy: Any) -> None:
    pool, gate, order = busy
    low = pool.map_async(functools.partial(work.note, str(order)), [f"low{n}" for n in range(50)], 1)
    high = pool.map_async(functools.partial(work.note, str(order)), [f"high{n}" for n in range(50)], 1, priority=1)
    gate.touch()
    low.get(30)
    high.get(30)
    began = order.read_text().split()
    assert [name for name in began if name.startswith("high")] == [f"high{n}" for n in range(50)]
    # Some of the lower one may be handed out in the moment in which the other's next items are being drawn.
    assert began.index("high49") < 70


def test_a_call_that_is_run_again_keeps_its_priority(context: Any, tmp_path: Path) -> None:
    order = tmp_path / "order"
    with context.Pool(1, retries=1) as pool:
        calls = [pool.apply_async(work.note_and_die_once, (str(order), str(tmp_path / "died")), priority=2)]
        calls += [pool.apply_async(work.note, (str(order), f"a{n}")) for n in range(10)]
        calls.append(pool.apply_async(work.note, (str(order), "high"), priority=1))
        for call in calls:
            call.get(30)
    began = order.read_text().split()
    assert began.count("dies") == 2
    assert began.index("high") < began.index("a1")


def test_priorities_among_many_workers_lose_nothing(context: Any) -> None:
    with context.Pool(3) as pool:
        calls = [pool.apply_async(work.square, (n,), priority=n % 7 - 3) for n in range(3000)]
        values = pool.imap_unordered(work.square, itertools.islice(itertools.count(), 2000), 3, priority=2)
        mapped = pool.map(work.square, range(1000), priority=-3)
        assert sorted(values) == [n * n for n in range(2000)]
        assert [call.get(30) for call in calls] == [n * n for n in range(3000)]
        assert mapped == [n * n for n in range(1000)]


def test_bad_priorities_are_refused() -> None:
    with manyhands.Pool(1) as pool:
        for bad, error in (("high", TypeError), (1.5, TypeError), (1 << 31, ValueError)):
            with pytest.raises(error):
                pool.apply(work.square, (1,), priority=bad)
    with manyhands.pool.ThreadPool(1) as threads, pytest.raises(ValueError, match="priority is for pools of processes"):
        threads.apply_async(work.square, (1,), priority=1)
