"""What a worker does beside its calls: how many there are, where they run, what they keep, what they do at their end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import work

import manyhands
from scripts import until

# ---- how many ----


def test_a_pool_grows_while_calls_run(context: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with context.Pool(1) as pool:
        calls = [pool.apply_async(work.meet, (str(tmp_path / "here"), 3, str(gate))) for _ in range(3)]
        pool.resize(3)  # the calls wait for each other, so that all three have to run at once
        assert len({call.get(30) for call in calls}) == 3
        assert len(pool._crew.pids()) == 3


def test_a_pool_shrinks_and_loses_no_call(context: Any) -> None:
    with context.Pool(4) as pool:
        before = set(pool.map(work.pid, range(400), 1))
        calls = [pool.apply_async(work.sleepy_same, (0.002, n)) for n in range(300)]
        pool.resize(1)
        assert [call.get(30) for call in calls] == list(range(300))
        until(lambda: len(pool._crew.pids()) == 1)
        assert set(pool.map(work.pid, range(50), 1)) <= before


def test_a_busy_worker_leaves_when_its_call_is_done(context: Any, tmp_path: Path) -> None:
    gates = [tmp_path / f"gate{n}" for n in range(2)]
    with context.Pool(2) as pool:
        calls = [
            pool.apply_async(work.note_and_wait, (str(tmp_path / f"began{n}"), n, str(gates[n]))) for n in range(2)
        ]
        until(lambda: all((tmp_path / f"began{n}").exists() for n in range(2)))
        pool.resize(1)
        for gate in gates:
            gate.touch()
        assert [call.get(30) for call in calls] == [None, None]
        until(lambda: len(pool._crew.pids()) == 1)
        assert pool.apply(work.square, (3,)) == 9


def test_sizes_change_again_and_again(context: Any) -> None:
    with context.Pool(2) as pool:
        values = pool.imap(work.square, range(600))
        got = []
        for n, value in enumerate(values):
            got.append(value)
            if n % 60 == 0:
                pool.resize(1 + n // 60 % 4)
        assert got == [n * n for n in range(600)]
        pool.close()
        pool.join()


def test_a_killed_worker_of_a_resized_pool_is_replaced(context: Any) -> None:
    with context.Pool(1) as pool:
        pool.resize(2)
        with pytest.raises(manyhands.WorkerDied):
            pool.apply(work.killed)
        pool.map(work.pid, range(100), 1)
        until(lambda: (pool.apply(work.square, (2,)), len(pool._crew.pids()) == 2)[1])


def test_bad_sizes_are_refused() -> None:
    with manyhands.Pool(1) as pool:
        for bad, error in ((0, ValueError), (-1, ValueError), ("2", TypeError), (1.5, TypeError)):
            with pytest.raises(error):
                pool.resize(bad)
        assert pool.apply(work.square, (3,)) == 9
    with pytest.raises(ValueError, match="not running"):
        pool.resize(2)
    with manyhands.pool.ThreadPool(1) as threads, pytest.raises(NotImplementedError, match="make another pool"):
        threads.resize(2)


# ---- what it keeps, and its end ----


def test_state_is_for_one_worker_and_its_calls(context: Any) -> None:
    manyhands.worker_state()["of the program"] = 1
    with context.Pool(2, work.set_up, ("ready",)) as pool:
        seen = pool.map(work.count_calls, range(200), 1)
    assert {mark for _, mark, _ in seen} == {"ready"}
    assert {keys for _, _, keys in seen} == {("calls", "mark")}
    for pid in {pid for pid, _, _ in seen}:
        assert pid != os.getpid()
    assert manyhands.worker_state().pop("of the program") == 1


def test_worker_exit_runs_last_in_each_worker(context: Any, tmp_path: Path) -> None:
    exits = tmp_path / "exits"
    with context.Pool(2, work.set_up, (str(exits),), worker_exit=work.note_exit) as pool:
        pids = set(pool.map(work.pid, range(100), 1)) | set(pool._crew.pids())
        pool.close()
        pool.join()
    assert sorted(exits.read_text().split()) == sorted(map(str, pids))


def test_workers_that_are_replaced_or_too_many_have_their_exit(context: Any, tmp_path: Path) -> None:
    exits = tmp_path / "exits"
    with context.Pool(1, work.set_up, (str(exits),), maxtasksperchild=1, worker_exit=work.note_exit) as pool:
        first = pool.apply(work.pid)
        until(lambda: pool.apply(work.pid) != first and exits.exists() and str(first) in exits.read_text().split())
        pool.close()
        pool.join()
    exits.unlink()
    with context.Pool(3, work.set_up, (str(exits),), worker_exit=work.note_exit) as pool:
        pool.map(work.pid, range(50), 1)
        pool.resize(1)
        until(lambda: exits.exists() and len(exits.read_text().split()) == 2)


def test_terminated_and_killed_workers_have_none(context: Any, tmp_path: Path) -> None:
    exits = tmp_path / "exits"
    with context.Pool(2, work.set_up, (str(exits),), worker_exit=work.note_exit) as pool:
        with pytest.raises(manyhands.WorkerDied):
            pool.apply(work.killed)
        calls = [pool.apply_async(time.sleep, (60,)) for _ in range(2)]
        until(lambda: all(call._handle.has_begun() for call in calls))
    pool.join()
    assert not exits.exists()


def test_an_exit_that_raises_is_reported_and_holds_nothing_up(
    context: Any, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with context.Pool(1, worker_exit=work.raise_at_exit) as pool:
        assert pool.apply(work.square, (3,)) == 9
        pool.close()
        pool.join()
    # The fork server writes where stderr was when it was started.
    assert "no orderly end" in capfd.readouterr().err or method == "forkserver"


# ---- where ----


def test_workers_are_pinned_and_a_successor_gets_the_place(context: Any) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    with context.Pool(2, cpu_ids=[allowed[0], allowed[-1:]]) as pool:
        places = dict(pool.map(work.pid_and_processors, range(200), 1))
        assert set(places.values()) <= {(allowed[0],), (allowed[-1],)}
        victim = next(iter(places))
        os.kill(victim, 9)
        until(lambda: victim not in (pool.apply(work.pid), *pool._crew.pids()))
        after = dict(pool.map(work.pid_and_processors, range(200), 1))
        for pid, place in places.items():
            if pid != victim and pid in after:
                assert after[pid] == place
        assert set(after.values()) <= {(allowed[0],), (allowed[-1],)}


def test_more_workers_than_places_begin_again(context: Any) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    with context.Pool(3, cpu_ids=[[allowed[0]]]) as pool:
        assert {place for _, place in pool.map(work.pid_and_processors, range(50), 1)} == {(allowed[0],)}


def test_native_threads_are_capped(context: Any) -> None:
    with context.Pool(1, threads_per_worker=3) as pool:
        assert pool.apply(os.getenv, ("OMP_NUM_THREADS",)) == "3"
        assert pool.apply(os.getenv, ("OPENBLAS_NUM_THREADS",)) == "3"


def test_bad_options_are_refused_with_what_is_accepted() -> None:
    for options, error, text in (
        ({"worker_exit": 3}, TypeError, "worker_exit must be a callable"),
        ({"cpu_ids": [10_000]}, ValueError, r"which are \[0"),
        ({"cpu_ids": [[]]}, ValueError, "each worker needs processors"),
        ({"cpu_ids": []}, ValueError, "cpu_ids is empty"),
        ({"cpu_ids": 3}, TypeError, "must be a list of processors"),
        ({"cpu_ids": "01"}, TypeError, "must be a list of processors"),
        ({"threads_per_worker": 0}, ValueError, "at least 1"),
        ({"threads_per_worker": "2"}, TypeError, "str"),
    ):
        with pytest.raises(error, match=text):
            manyhands.Pool(1, **options)  # type: ignore[arg-type]
