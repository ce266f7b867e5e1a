"""joblib's backend `manyhands`: what joblib's own backends do, and what they do not."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chores
import pytest

import manyhands
from scripts import until

joblib = pytest.importorskip("joblib")
np = pytest.importorskip("numpy")

import manyhands.joblib as ours  # noqa: E402

Parallel, delayed = joblib.Parallel, joblib.delayed


@pytest.fixture(autouse=True)
def _end_of_workers() -> Iterator[None]:
    """Ends the workers that are kept between calls."""
    yield
    kept = ours._shared.pool
    if kept is not None:
        assert ours._shared.users == 0
        ours._shared.discard(kept)
    assert not [name for name in os.listdir("/dev/shm") if f"folder_{os.getpid()}_" in name]


@pytest.fixture(params=[None, "fork", "forkserver"])
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """Calls go to our backend, with each start method."""
    with joblib.parallel_config(backend="manyhands", n_jobs=2, start_method=request.param):
        yield


@pytest.mark.usefixtures("backend")
def test_values_come_in_order_and_workers_are_kept() -> None:
    assert Parallel()(delayed(chores.square)(n) for n in range(200)) == [n * n for n in range(200)]
    first = set(Parallel()(delayed(os.getpid)() for _ in range(50)))
    assert os.getpid() not in first
    assert set(Parallel()(delayed(os.getpid)() for _ in range(50))) <= first | set(ours._shared.pool._crew.pids())


@pytest.mark.usefixtures("backend")
def test_lambdas_and_local_functions_are_sent() -> None:
    offset = 3
    assert Parallel()(delayed(lambda n: n + offset)(n) for n in range(5)) == [3, 4, 5, 6, 7]


@pytest.mark.usefixtures("backend")
def test_exceptions_come_with_their_traceback_and_the_backend_goes_on() -> None:
    with pytest.raises(ValueError, match="bad 3") as caught:
        Parallel()(delayed(chores.fail_at)(3, n) for n in range(10))
    assert "chores.py" in str(caught.value.__cause__)
    assert Parallel()(delayed(chores.square)(n) for n in range(3)) == [0, 1, 4]


@pytest.mark.usefixtures("backend")
def test_a_worker_that_dies_raises_and_the_backend_goes_on() -> None:
    with pytest.raises(manyhands.WorkerDied):
        Parallel()(delayed(os._exit)(3) for _ in range(2))
    assert Parallel()(delayed(chores.square)(n) for n in range(3)) == [0, 1, 4]


@pytest.mark.usefixtures("backend")
def test_large_inputs_are_memory_mapped_once_for_all() -> None:
    array = np.arange(500_000.0)
    seen = Parallel(max_nbytes="1M")(delayed(chores.kind_and_sum)(array) for _ in range(6))
    assert {(kind, total) for kind, total, _ in seen} == {("memmap", array.sum())}
    assert len({file for _, _, file in seen}) == 1
    seen = Parallel(max_nbytes=None)(delayed(chores.kind_and_sum)(array) for _ in range(2))
    assert {kind for kind, _, _ in seen} == {"ndarray"}
    small = np.arange(10.0)
    assert Parallel()(delayed(chores.kind_and_sum)(small) for _ in range(2))[0][0] == "ndarray"


def test_inputs_that_are_memory_maps_already_stay_so(tmp_path: Path) -> None:
    file = tmp_path / "data.npy"
    np.save(file, np.arange(1000.0))
    mapped = np.load(file, mmap_mode="r")
    with joblib.parallel_config(backend="manyhands", n_jobs=2):
        seen = Parallel()(delayed(chores.kind_and_sum)(mapped) for _ in range(4))
    assert {(kind, name) for kind, _, name in seen} == {("memmap", str(file))}


@pytest.mark.usefixtures("backend")
def test_nested_calls_use_threads_and_end() -> None:
    assert Parallel()(delayed(chores.nested)(n) for n in range(6)) == [list(range(n)) for n in range(6)]


def test_results_are_generated_one_by_one() -> None:
    with joblib.parallel_config(backend="manyhands", n_jobs=2):
        values = Parallel(return_as="generator")(delayed(chores.square)(n) for n in range(20))
        assert next(values) == 0
        assert list(values) == [n * n for n in range(1, 20)]
        unordered = Parallel(return_as="generator_unordered")(delayed(chores.square)(n) for n in range(20))
        assert sorted(unordered) == [n * n for n in range(20)]


def test_joblibs_timeout_ends_the_calls() -> None:
    with joblib.parallel_config(backend="manyhands", n_jobs=2):
        began = set(Parallel()(delayed(os.getpid)() for _ in range(20)))
        with pytest.raises(multiprocessing.TimeoutError):
            Parallel(timeout=0.2)(delayed(time.sleep)(60) for _ in range(2))
        assert not began & set(Parallel()(delayed(os.getpid)() for _ in range(20)))


def test_options_of_pools_are_options_of_the_backend(tmp_path: Path) -> None:
    died = str(tmp_path / "died")
    with joblib.parallel_config(backend="manyhands", n_jobs=2, retries=1, task_timeout=30):
        assert Parallel()(delayed(chores.die_once)(died, n) for n in range(2)) == [0, 1]
    with joblib.parallel_config(backend="manyhands", n_jobs=2, initializer=os.putenv, initargs=("MARK", "7")):
        assert Parallel()(delayed(chores.from_environment)("MARK") for _ in range(2)) == ["7", "7"]


def test_kept_workers_that_are_idle_leave_and_come_back() -> None:
    with joblib.parallel_config(backend="manyhands", n_jobs=2, idle_timeout=0.1):
        for _ in range(2):
            assert Parallel()(delayed(chores.square)(n) for n in range(20)) == [n * n for n in range(20)]
            until(lambda: ours._shared.pool is not None and not ours._shared.pool._crew.pids())


def test_native_libraries_share_the_processors() -> None:
    with joblib.parallel_config(backend="manyhands", n_jobs=2, inner_max_num_threads=3):
        assert set(Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(4))) == {"3"}
    with joblib.parallel_config(backend="manyhands", n_jobs=2):
        share = str(max(manyhands.cpu_count() // 2, 1))
        assert set(Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(4))) == {share}


def test_calls_of_several_threads_are_kept_apart() -> None:
    answers: dict[int, Any] = {}

    def call(number: int) -> None:
        with joblib.parallel_config(backend="manyhands", n_jobs=2 + number % 2):
            answers[number] = Parallel()(delayed(chores.square)(n) for n in range(100 * number))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: [n * n for n in range(100 * number)] for number in range(4)}


def test_one_job_and_none_stay_in_this_process() -> None:
    for n_jobs in (1, None):
        with joblib.parallel_config(backend="manyhands", n_jobs=n_jobs):
            assert set(Parallel()(delayed(os.getpid)() for _ in range(3))) == {os.getpid()}
    backend = ours.Backend()
    assert backend.effective_n_jobs(-1) == manyhands.cpu_count()
    assert backend.effective_n_jobs(-1000) == 1
    with pytest.raises(ValueError, match="n_jobs == 0"):
        backend.effective_n_jobs(0)


def test_options_that_do_not_exist_are_refused_with_those_that_do() -> None:
    with pytest.raises(TypeError, match="'retires' is no option.*retries, start_method"):
        joblib.parallel_config(backend="manyhands", retires=2)
    with pytest.raises(TypeError, match="'retires' is no option"):
        Parallel(n_jobs=2, backend="manyhands", retires=2)(delayed(abs)(n) for n in range(2))
    with pytest.raises(ValueError, match="cannot find context for .thread."):
        Parallel(n_jobs=2, backend="manyhands", start_method="thread")(delayed(abs)(n) for n in range(2))


# What is defined in the main module, which has no guard: with joblib's own backend such programs run.
PROGRAM = """
import manyhands.joblib
from joblib import Parallel, delayed, parallel_config

class Point:
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return type(self) is type(other) and self.x == other.x

class Refused(Exception):
    pass

def move(point):
    if point.x == 13:
        raise Refused("thirteen")
    return Point(point.x + 1)

print("begins")
with parallel_config(backend="manyhands", n_jobs=2):
    assert Parallel()(delayed(move)(Point(n)) for n in range(5)) == [Point(n + 1) for n in range(5)]
    try:
        Parallel()(delayed(move)(Point(n)) for n in (12, 13))
    except Refused as error:
        print(type(error).__name__, error)
"""


def test_a_program_without_a_guard_runs_once(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    ran = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert ran.stdout == "begins\nRefused thirteen\n", ran.stderr
    assert ran.stderr == ""


def test_without_joblib_the_import_says_what_to_install() -> None:
    program = "import sys; sys.modules['joblib'] = None; import manyhands.joblib"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert "pip install --upgrade joblib" in ran.stderr


def test_scikit_learn_runs_on_it() -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score

    x, y = make_classification(400, random_state=0)
    search = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1.0, 10.0]}, cv=3)
    expected = search.fit(x, y).cv_results_["mean_test_score"]
    search.n_jobs = 2
    with joblib.parallel_config(backend="manyhands"):
        assert (search.fit(x, y).cv_results_["mean_test_score"] == expected).all()
        assert len(cross_val_score(LogisticRegression(), x, y, cv=4, n_jobs=2)) == 4
