"""How the workloads of many workers and many tasks reckon: bounds, paces, growth; and that they notice what is lost."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benches.__main__ import rows_of
from benches.catalogue import load
from benches.peers import OURS
from benches.results import Cell, Results, Row, together
from benches.tables import of_rows
from benches.workloads.scale import BATCH, COUNTS, Tap, growth
from benches.workloads.uneven import MIXED, in_order_bound, mixed, pareto

Harness = Callable[..., tuple[subprocess.CompletedProcess[str], Results]]


def test_tasks_in_order_keep_all_busy_unless_a_long_one_comes_last() -> None:
    assert in_order_bound([1.0] * 4, 2) == 1.0
    assert in_order_bound([1.0, 1.0, 2.0], 2) == 4 / 6
    assert in_order_bound([2.0, 1.0, 1.0], 2) == 1.0
    assert in_order_bound([3.0], 4) == 0.25
    assert in_order_bound([0.0, 5.0], 1) == 1.0


def test_sorted_pareto_times_bound_the_share_of_two_workers() -> None:
    assert in_order_bound(pareto(400, 4.0), 2) == pytest.approx(0.9486, abs=0.00005)


@pytest.mark.parametrize(("times", "workers"), [([], 2), ([1.0], 0), ([0.0], 2), ([1.0, -1.0, 3.0], 2)])
def test_no_work_or_no_worker_has_no_bound(times: list[float], workers: int) -> None:
    with pytest.raises(ValueError, match="needs a worker and work"):
        in_order_bound(times, workers)


def test_mixed_times_are_as_many_of_each_size_as_asked_for_and_workers_can_end_together() -> None:
    times = mixed(MIXED)
    assert len(times) == sum(MIXED) == 34_912
    for power, count in enumerate(MIXED):
        assert sum(10.0 ** (power - 6) <= seconds < 10.0 ** (power - 5) for seconds in times) == count
    assert times == mixed(MIXED) != sorted(times)
    assert in_order_bound(times, 2) > 0.999
    assert 15 < sum(times) < 25


def test_a_tap_gives_all_that_fits_its_time_and_says_how_many() -> None:
    fast = Tap(2_500, 1.0, 1e-6)
    assert list(fast) == list(range(2_500)) and fast.given == 2_500
    slow = Tap(1_000_000, 1.0, 1e-4)
    assert list(slow) == list(range(10_000 + BATCH)) and slow.given == 10_000 + BATCH
    assert len(list(Tap(1_000_000, 1.0, 5.0))) == BATCH, "the slowest peer has something to do"


def test_a_tap_closes_when_its_reader_turns_out_to_be_slow() -> None:
    tap = Tap(1_000_000, 1.0, 1e-9)
    drawn = iter(tap)
    assert len(list(itertools.islice(drawn, 2_500))) == 2_500 and tap.given is None
    tap.pace = 1.0
    assert len(list(drawn)) == 500 and tap.given == 3_000


def test_growth_is_from_a_twentieth_of_the_tasks_to_the_most_after_it() -> None:
    samples = [(1, 10.0, 1.0), (4, 90.0, 2.0), (5, 100.0, 3.0), (50, 180.0, 3.0), (100, 120.0, 2.5)]
    assert growth(samples, 100) == (80.0, 0.0)
    assert growth([(60, 7.0, 7.0), (100, 5.0, 9.0)], 100) == (0.0, 2.0), "the first one, where none came as early"
    with pytest.raises(ValueError, match="1 samples"):
        growth([(1, 2.0, 3.0)], 100)


def test_a_curve_has_a_point_for_each_count_and_leaves_out_who_cannot_have_so_many() -> None:
    peers, workloads = load()
    curves = [rows for rows in together(rows_of(workloads, peers)) if rows[0].curve]
    assert len(curves) == 3
    for rows in curves:
        assert tuple(row.workers for row in rows) == COUNTS
        assert len({(row.curve, row.group, tuple(row.figures)) for row in rows}) == 1
        assert all({"multiprocessing", OURS} <= row.peers.keys() for row in rows)
        assert [row.workers for row in rows if "ray" in row.peers] == [1, 2, 4, 8, 16]


def test_rows_of_a_curve_are_shown_together() -> None:
    def point(curve: str, workers: int) -> Row:
        return Row(f"{curve} {workers}", "scale", None, {"": "1/s"}, {"a": Cell({"": [5.0]})}, curve, workers)

    one, two, other, alone = point("c", 1), point("c", 2), point("d", 1), point("", 2)
    assert list(together([one, two, other, alone, alone])) == [[one, two], [other], [alone], [alone]]
    assert list(together([])) == []
    two.peers["b"] = Cell(error="hung (more than 2 s)")
    title, header, first, second = of_rows([one, two], ["a", "b", "absent"], 1).strip().splitlines()
    assert (title, header.split()) == ("c", ["workers", "1", "2"])
    assert first.split() == ["a", "5", "/s", "5", "/s"]
    assert second.split() == ["b", "-", "hung"]


def test_the_standard_library_is_measured_with_many_workers(harness: Harness) -> None:
    done, results = harness("--peers", "multiprocessing", "--rounds", "1", "--only", "16 workers")
    assert done.returncode == 0, done.stdout
    assert [row.workers for row in results.rows] == [16, 16, 16]
    (share,) = results.rows[0].peers["multiprocessing"].values["share of the ideal"]
    assert 0 < share <= 1
    assert done.stdout.count("\n  multiprocessing") == 5, "one table for each figure of each curve"


def test_a_stream_that_loses_or_swaps_tasks_is_wrong(harness: Harness) -> None:
    done, results = harness(
        "--peers", "loser,swapper,multiprocessing", "--rounds", "1", "--only", "generator", also="streams"
    )
    assert done.returncode == 1
    unordered, row = results.rows
    assert list(unordered.peers) == ["multiprocessing"] and not unordered.peers["multiprocessing"].error
    assert row.peers["loser"].wrong and "wrong answers at" in (row.peers["loser"].error or "")
    assert row.peers["swapper"].wrong and "wrong answers at" in (row.peers["swapper"].error or "")
    figures = row.peers["multiprocessing"].values
    assert figures["tasks"][0] >= BATCH and figures["growth of the parent"][0] >= 0


def test_mixed_tasks_that_come_back_out_of_order_are_wrong(harness: Harness) -> None:
    done, results = harness("--peers", "swapper,honest", "--rounds", "1", "--only", "200 tasks of 10 ms")
    assert done.returncode == 1
    (row,) = results.rows
    assert row.peers["swapper"].error == "wrong tasks at 0: got 39 instead of 0"
    share, best = (row.peers["honest"].values[figure][0] for figure in row.figures)
    assert 0 < share < 1 and share == pytest.approx(best), "tasks of one length can all be in time"


def test_curves_and_bars_are_drawn(tmp_path: Path) -> None:
    picture = pytest.importorskip("benches.picture", reason="matplotlib is not here", exc_type=ImportError)

    def point(workers: int, cells: dict[str, Cell]) -> Row:
        return Row(f"waits {workers}", "scale", None, {"": "1/s"}, cells, "waits", workers)

    failed = {"multiprocessing": Cell(error="hung (more than 2 s)"), OURS: Cell({"": [9.0]})}
    curve = [point(1, {"multiprocessing": Cell({"": [1.0]}), OURS: Cell({"": [2.0]})}), point(2, failed)]
    none = {"multiprocessing": Cell({"wake-ups": [0.0], "core": [2.0]}), OURS: Cell({"wake-ups": [0.0], "core": [1.0]})}
    bars = Row("idle", "scale", None, {"core": "seconds a second", "wake-ups": "a second"}, none)
    world = {"python": "3.13.0", "kernel": "6.1-x", "cores": 2, "rounds": 1}
    drawn = picture.draw(Results(world, [*curve, bars]), tmp_path)
    assert [path.name for path in drawn] == ["bench-scale.svg", "bench-scale-workers.svg"]
    bars_drawn, curve_drawn = (path.read_text() for path in drawn)
    assert "idle: core" in bars_drawn and "manyhands: 0 a second" in bars_drawn
    assert "waits" in curve_drawn and "multiprocessing" in curve_drawn and "manyhands" in curve_drawn
