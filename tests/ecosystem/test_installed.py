"""Libraries that know only `multiprocessing`, in programs that put manyhands in its place."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from scripts import printed

INSTALL = "import manyhands; manyhands.install()\n"


def need(*names: str) -> None:
    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


def test_import_as_and_install_name_the_same(tmp_path: Path) -> None:
    program = """
        import manyhands as multiprocessing
        ours = {name: getattr(multiprocessing, name) for name in multiprocessing.__all__ if name != "install"}
        pools, queues = [], []
        from manyhands import pool as one, queues as two, connection as three
        multiprocessing.install()
        import multiprocessing, multiprocessing.pool, multiprocessing.queues, multiprocessing.connection
        assert multiprocessing.__name__ == "manyhands"
        for name, value in ours.items():
            assert getattr(multiprocessing, name) == value, name
        assert (multiprocessing.pool, multiprocessing.queues, multiprocessing.connection) == (one, two, three)
        assert isinstance(multiprocessing.get_context("spawn"), multiprocessing.context.BaseContext)
        print("same")
    """
    assert printed(tmp_path, program) == ["same"]


@pytest.mark.every_method
def test_executor_without_a_context_is_ours(tmp_path: Path, method: str) -> None:
    program = f"""
        import manyhands; manyhands.install()
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        if __name__ == "__main__":
            multiprocessing.set_start_method({method!r})
            with ProcessPoolExecutor(2) as executor:
                print(list(executor.map(abs, [-1, -2, -3])), type(list(executor._processes.values())[0]).__module__)
    """
    assert printed(tmp_path, program) == ["[1, 2, 3] manyhands.context"]


JOBLIB = """
import os
import manyhands; manyhands.install()
from joblib import Parallel, delayed
import numpy

def work(i, array):
    return i, os.getpid(), float(array.sum())

def fill(array, i):
    array[i] = os.getpid()

def fail(i):
    raise LookupError(f"no {{i}}")

if __name__ == "__main__":
    array = numpy.ones(1_000_000)
    with Parallel(n_jobs=2, backend={backend!r}) as parallel:
        done = parallel(delayed(work)(i, array) for i in range(8))
        assert [i for i, _, _ in done] == list(range(8)), done
        assert all(total == 1e6 for _, _, total in done)
        assert os.getpid() not in {{pid for _, pid, _ in done}}
        shared = numpy.memmap({shared!r}, dtype="i8", mode="w+", shape=4)
        parallel(delayed(fill)(shared, i) for i in range(4))
        assert all(pid not in (0, os.getpid()) for pid in shared), shared
        try:
            parallel(delayed(fail)(i) for i in range(2))
        except LookupError as error:
            print(error.args[0][:2])
    assert sorted(Parallel(n_jobs=2, backend={backend!r}, return_as="list")(delayed(abs)(-i) for i in range(50))) == list(range(50))
    print("done")
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblibs_backend_runs(tmp_path: Path, backend: str) -> None:
    need("joblib", "numpy")
    if backend == "threading":
        program = JOBLIB.replace("assert os.getpid() not in", "assert {{os.getpid()}} ==")
        program = program.replace("all(pid not in (0, os.getpid())", "all(pid == os.getpid()")
    else:
        program = JOBLIB
    source = program.format(backend=backend, shared=str(tmp_path / "shared"))
    assert printed(tmp_path, source) == ["no", "done"]


@pytest.mark.timeout(120)
def test_joblib_with_our_context(tmp_path: Path) -> None:
    need("joblib")
    program = """
        import os
        import manyhands; manyhands.install()
        from joblib import Parallel, delayed, parallel_config
        if __name__ == "__main__":
            for method in ("fork", "spawn", "forkserver"):
                with parallel_config(backend="multiprocessing", context=manyhands.get_context(method)):
                    print(Parallel(n_jobs=2)(delayed(abs)(-i) for i in range(5)))
    """
    assert printed(tmp_path, program) == ["[0, 1, 2, 3, 4]"] * 3


@pytest.mark.timeout(180)
@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_scikit_learn_computes_the_same_with_two_jobs(tmp_path: Path, backend: str) -> None:
    need("sklearn", "joblib", "numpy")
    program = f"""
        import manyhands; manyhands.install()
        from joblib import parallel_config
        from sklearn.datasets import make_classification
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, cross_val_score
        if __name__ == "__main__":
            X, y = make_classification(400, 12, random_state=3)
            with parallel_config(backend={backend!r}):
                scores = cross_val_score(LogisticRegression(), X, y, cv=4, n_jobs=2)
                search = GridSearchCV(LogisticRegression(), {{"C": [0.1, 1.0]}}, cv=3, n_jobs=2).fit(X, y)
                forest = RandomForestClassifier(10, random_state=1, n_jobs=2).fit(X, y)
            assert (scores == cross_val_score(LogisticRegression(), X, y, cv=4)).all()
            assert search.best_params_ == GridSearchCV(LogisticRegression(), {{"C": [0.1, 1.0]}}, cv=3).fit(X, y).best_params_
            assert forest.score(X, y) > 0.9
            print("same")
    """
    assert printed(tmp_path, program, limit=150) == ["same"]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("shared_memory", [True, False])
def test_gymnasiums_vector_environment_steps_in_our_processes(tmp_path: Path, method: str, shared_memory: bool) -> None:
    """Its `context` is a start method's name, so that only `install` brings it to us."""
    need("gymnasium", "numpy")
    program = f"""
        import manyhands; manyhands.install()
        import os, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import chores
        import gymnasium
        if __name__ == "__main__":
            envs = gymnasium.vector.AsyncVectorEnv(
                [chores.Corridor] * 2, shared_memory={shared_memory}, context={method!r}
            )
            envs.reset(seed=1)
            for step in range(1, 5):
                observations, rewards, _, _, info = envs.step([1, 1])
                assert observations.tolist() == [[step] * 4] * 2
                assert rewards.tolist() == [step, step]
            assert os.getpid() not in info["pid"]
            assert all(type(process).__module__ == "manyhands.context" for process in envs.processes)
            envs.close()
            print("closed")
    """
    assert printed(tmp_path, program) == ["closed"]


@pytest.mark.timeout(200)
def test_torch_multiprocessing_is_ours(tmp_path: Path) -> None:
    need("torch")
    program = """
        import manyhands; manyhands.install()
        import torch
        import torch.multiprocessing as mp
        def double(tensor):
            torch.set_num_threads(1)
            return tensor * 2
        def fill(rank, tensor):
            tensor[rank] = rank + 1
        if __name__ == "__main__":
            context = mp.get_context("forkserver")
            assert type(context).__module__ == "manyhands.context", type(context)
            with context.Pool(1) as pool:
                print(pool.map(double, [torch.ones(2), torch.zeros(2)])[0].tolist())
            with mp.Pool(1) as pool:
                print(pool.map(double, [torch.ones(2), torch.zeros(2)])[0].tolist())
            queue, tensor = context.Queue(), torch.arange(3)
            queue.put(tensor)
            print(queue.get().tolist())
            shared = torch.zeros(2).share_memory_()
            mp.spawn(fill, args=(shared,), nprocs=2)
            print(shared.tolist())
    """
    assert printed(tmp_path, program, limit=170) == ["[2.0, 2.0]", "[2.0, 2.0]", "[0, 1, 2]", "[1.0, 2.0]"]
