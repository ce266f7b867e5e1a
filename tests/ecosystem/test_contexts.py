"""Libraries that take a context or a pool's map: torch, scipy, pandas, tqdm, cloudpickle, logging."""

from __future__ import annotations

import importlib
import io
import logging
import logging.handlers
from typing import Any

import chores
import pytest

import manyhands


def need(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed")


# ---- torch ----


@pytest.mark.timeout(200)  # importing torch takes its time, in each worker
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchs_dataloader_loads_in_our_processes(context: Any) -> None:
    need("torch")
    from torch.utils.data import DataLoader

    loader = DataLoader(
        chores.numbered_items(),
        batch_size=8,
        num_workers=2,
        multiprocessing_context=context,
        persistent_workers=True,
    )
    for _ in range(2):
        batches = list(loader)
        assert [int(numbers[0]) for _, numbers in batches] == list(range(0, 64, 8))
        assert all(bool((rows[:, -1] == numbers).all()) for rows, numbers in batches)
    del loader


@pytest.mark.timeout(200)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchs_tensors_travel_through_our_pool_and_share_memory_with_our_processes(context: Any) -> None:
    torch = need("torch")
    importlib.import_module("torch.multiprocessing")  # registers how tensors are pickled

    with context.Pool(1) as pool:
        assert torch.equal(pool.apply(chores.double_tensor, (torch.arange(10),)), torch.arange(10) * 2)
        big = torch.ones(1 << 20)
        assert pool.apply(chores.double_tensor, (big,)).sum() == 2 << 20
    shared = torch.zeros(100).share_memory_()
    child = context.Process(target=chores.fill_tensor, args=(shared,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert bool((shared == 7).all())


# ---- scipy ----


@pytest.mark.timeout(120)
def test_scipys_differential_evolution_uses_our_map(context: Any) -> None:
    optimize = need("scipy.optimize")
    options: dict[str, Any] = {"seed": 1, "updating": "deferred", "maxiter": 30, "popsize": 6, "tol": 0}
    bounds = [(0.0, 2.0)] * 3
    with context.Pool(2) as pool:
        with_us = optimize.differential_evolution(chores.rosenbrock, bounds, workers=pool.map, **options)
    alone = optimize.differential_evolution(chores.rosenbrock, bounds, **options)
    assert (with_us.x == alone.x).all()
    assert with_us.nfev == alone.nfev


def test_scipys_brute_uses_our_map() -> None:
    optimize = need("scipy.optimize")
    with manyhands.Pool(2) as pool:
        best = optimize.brute(chores.rosenbrock, [(0, 2)] * 2, Ns=5, finish=None, workers=pool.map)
    assert best.tolist() == [1.0, 1.0]


# ---- pandas ----


def test_pandas_frames_travel(context: Any) -> None:
    pandas = need("pandas")
    frame = chores.make_frame(100_000)
    frame["day"] = pandas.date_range("2024-01-01", periods=len(frame), freq="min")
    frame["kind"] = pandas.Categorical(frame["key"])
    with context.Pool(2) as pool:
        pandas.testing.assert_frame_equal(pool.apply(chores.same, (frame,)), frame)
        parts = [frame[["key", "value", "count"]].iloc[i::4] for i in range(4)]
        summed = pandas.concat(pool.map(chores.summarise, parts)).groupby(level=0).sum()
        made = pool.map(chores.make_frame, [10, 50_000])
    pandas.testing.assert_frame_equal(summed, chores.summarise(frame[["key", "value", "count"]]))
    assert [len(each) for each in made] == [10, 50_000]
    made[1].loc[:, "value"] = 0.0  # what came back can be written to
    assert made[1]["value"].sum() == 0


# ---- tqdm, cloudpickle, logging ----


def test_tqdm_counts_over_imap(context: Any) -> None:
    tqdm = need("tqdm")
    tqdm.tqdm.monitor_interval = 0  # no thread of its own in the test runner, which forks
    shown = io.StringIO()
    with context.Pool(2) as pool:
        for make in (pool.imap, pool.imap_unordered):
            bar = tqdm.tqdm(make(chores.square, range(50)), total=50, file=shown)
            assert sorted(bar) == [x * x for x in range(50)]
            assert bar.n == 50
    assert "50/50" in shown.getvalue()


def test_tqdms_lock_is_taken_by_our_processes() -> None:
    tqdm = need("tqdm")
    tqdm.tqdm.monitor_interval = 0
    lock = manyhands.RLock()
    before = tqdm.tqdm.get_lock()
    tqdm.tqdm.set_lock(lock)
    try:
        with manyhands.get_context("fork").Pool(2, initializer=tqdm.tqdm.set_lock, initargs=(lock,)) as pool:
            assert pool.map(chores.square, range(5)) == [0, 1, 4, 9, 16]
    finally:
        tqdm.tqdm.set_lock(before)


def test_functions_written_by_cloudpickle_run_in_workers(context: Any) -> None:
    cloudpickle = need("cloudpickle")
    with context.Pool(2) as pool:
        pickled = [cloudpickle.dumps(lambda n=n: n + 40) for n in range(4)]
        assert pool.map(chores.call_pickled, pickled) == [40, 41, 42, 43]


def test_logging_through_our_queue(context: Any) -> None:
    queue = context.Queue()
    records: list[logging.LogRecord] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    listener = logging.handlers.QueueListener(queue, Collect())
    listener.start()
    children = [context.Process(target=chores.log_to, args=(queue, f"line {n}"), name=f"Child-{n}") for n in range(3)]
    try:
        for child in children:
            child.start()
        for child in children:
            child.join()
    finally:
        listener.stop()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert sorted(record.getMessage() for record in records) == [f"line {n} from a child" for n in range(3)]
    assert {record.processName for record in records} == {"Child-0", "Child-1", "Child-2"}
    assert {record.process for record in records} == {child.pid for child in children}
    queue.close()
    queue.join_thread()
