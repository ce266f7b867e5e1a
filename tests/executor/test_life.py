"""An executor's life: workers on demand, their death, shutting down, being forgotten, the program's end."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import signal
import sys
import threading
import time
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import deeds
import pytest

import manyhands
from scripts import printed, run, until, wait_for_end


def test_workers_are_started_on_demand(context: Any, method: str) -> None:
    with manyhands.ProcessPoolExecutor(3, context) as executor:
        assert len(executor._processes) == 0
        for _ in range(4):
            executor.submit(deeds.pid).result()
        assert len(executor._processes) == (3 if method == "fork" else 1)
        list(executor.map(deeds.pid, range(2)))
        assert len(executor._processes) == (3 if method == "fork" else 2)
        list(executor.map(deeds.pid, range(100)))
        assert len(executor._processes) == 3


def test_as_many_calls_as_workers_run_at_once(context: Any, tmp_path: Path) -> None:
    go, started = tmp_path / "go", [tmp_path / str(n) for n in range(3)]
    with manyhands.ProcessPoolExecutor(3, context) as executor:
        futures = [executor.submit(deeds.touch_and_wait, str(one), str(go)) for one in started]
        for one in started:
            deeds.wait_for(str(one))
        go.touch()
        assert [future.result() for future in futures] == [str(go)] * 3


def test_initializer_runs_in_every_worker(context: Any) -> None:
    with manyhands.ProcessPoolExecutor(2, context, deeds.initialise, ("a", 1)) as executor:
        futures = [executor.submit(deeds.get_initialised) for _ in range(20)]
        assert [future.result() for future in futures] == [["a", 1]] * 20


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_are_replaced_after_max_tasks(method: str) -> None:
    context = manyhands.get_context(method)
    with manyhands.ProcessPoolExecutor(2, context, max_tasks_per_child=3) as executor:
        pids = list(executor.map(deeds.pid, range(13)))
        assert all(pids.count(one) <= 3 for one in set(pids))
        assert executor.submit(deeds.square, 3).result() == 9
        assert not executor._broken


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_have_grown_are_replaced(method: str) -> None:
    context = manyhands.get_context(method)
    with manyhands.ProcessPoolExecutor(2, context, max_memory_per_child=32 << 20) as executor:
        pids = list(executor.map(deeds.hoard, [20 << 20] * 12))
        assert len(set(pids)) >= 3
        assert executor.submit(deeds.square, 3).result() == 9
        assert not executor._broken


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_idle_workers_leave_and_come_back(method: str) -> None:
    context = manyhands.get_context(method)
    with manyhands.ProcessPoolExecutor(2, context, idle_timeout=0.1) as executor:
        for _ in range(3):
            assert list(executor.map(deeds.square, range(50))) == [n * n for n in range(50)]
            until(lambda: not executor._crew.pids())
        futures = [executor.submit(deeds.square, n) for n in range(50)]
        assert [future.result() for future in concurrent.futures.as_completed(futures, 30)]
        for n in range(20):
            assert executor.submit(deeds.square, n).result(30) == n * n
            time.sleep(0.01 * n)
        assert not executor._broken


def test_neither_forks_beside_threads() -> None:
    fork = manyhands.get_context("fork")
    for options in ({"max_memory_per_child": 1 << 30}, {"idle_timeout": 1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} has workers forked beside threads"):
            manyhands.ProcessPoolExecutor(2, fork, **options)  # type: ignore[arg-type]
        executor = manyhands.ProcessPoolExecutor(2, **options)  # type: ignore[arg-type]
        assert executor._mp_context.get_start_method() == "spawn"
        executor.shutdown()


def test_a_worker_that_dies_breaks_the_executor_and_says_how(context: Any, tmp_path: Path) -> None:
    executor = manyhands.ProcessPoolExecutor(2, context)
    started = tmp_path / "started"
    other = executor.submit(deeds.touch_and_hang, str(started))
    deeds.wait_for(str(started))
    future = executor.submit(deeds.die)
    queued = [executor.submit(deeds.touch_and_hang, str(started)) for _ in range(20)]
    for one in (future, other, *queued):
        with pytest.raises(BrokenProcessPool) as caught:
            one.result()
        error = caught.value
        assert isinstance(error, manyhands.WorkerDied)
        assert isinstance(error, manyhands.BrokenProcessPool)
        assert (error.exitcode, error.signal_name, error.function) == (-9, "SIGKILL", "die")
        assert f"worker process {error.pid} was killed by SIGKILL while it ran die()" in str(error)
    with pytest.raises(BrokenProcessPool):
        executor.submit(deeds.square, 1)
    with pytest.raises(BrokenProcessPool):
        executor.map(deeds.square, [1])
    assert "was killed by SIGKILL" in executor._broken
    executor.shutdown()
    with pytest.raises(BrokenProcessPool):
        executor.submit(deeds.square, 1)


def test_an_idle_worker_that_dies_breaks_the_executor_though_nobody_waits(executor: Any) -> None:
    pid = executor.submit(deeds.pid).result()
    os.kill(pid, signal.SIGTERM)
    until(lambda: executor._broken)
    with pytest.raises(BrokenProcessPool, match=f"worker process {pid} was killed by SIGTERM"):
        executor.submit(deeds.square, 1)


def test_those_who_watch_hear_of_a_death(executor: Any) -> None:
    future = executor.submit(deeds.die)
    assert concurrent.futures.wait([future]).done == {future}
    with pytest.raises(BrokenProcessPool):
        future.result()


def test_a_map_hears_of_a_death(executor: Any) -> None:
    with pytest.raises(BrokenProcessPool):
        list(executor.map(deeds.die_of, range(50)))


def test_an_initializer_that_fails_breaks_the_executor(context: Any) -> None:
    with manyhands.ProcessPoolExecutor(2, context, deeds.fail_to_initialise) as executor:
        # A worker may be quicker to fail than this is to submit.
        with pytest.raises(BrokenProcessPool, match="initializer .*nothing to initialise with") as caught:
            executor.submit(deeds.square, 1).result()
        assert "fail_to_initialise" in str(caught.value.__cause__)
        with pytest.raises(BrokenProcessPool):
            executor.submit(deeds.square, 1)


def test_an_initializer_that_fails_is_logged(tmp_path: Path, method: str) -> None:
    source = f"""
        import manyhands
        def initialise():
            raise LookupError("nothing to initialise with")
        if __name__ == "__main__":
            with manyhands.ProcessPoolExecutor(1, manyhands.get_context({method!r}), initialise) as executor:
                print(type(executor.submit(id, 1).exception()).__name__)
    """
    done = run(tmp_path, source)
    assert (done.returncode, done.stdout) == (0, "BrokenProcessPool\n")
    assert done.stderr.startswith("Exception in initializer:\nTraceback")
    assert done.stderr.count("LookupError") == 2  # its source line, and the exception: once


def test_nothing_is_taken_after_shutdown(executor: Any) -> None:
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(deeds.square, 1)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(deeds.square, [1])
    executor.shutdown()


def test_shutdown_waits_for_all_that_was_accepted(context: Any) -> None:
    executor = manyhands.ProcessPoolExecutor(2, context)
    futures = [executor.submit(time.sleep, 0.002) for _ in range(50)]
    values = executor.map(deeds.square, range(50))
    processes = executor._processes
    executor.shutdown()
    assert all(process.exitcode == 0 for process in processes.values())
    assert all(future.done() for future in futures)
    assert list(values) == [x * x for x in range(50)]


def test_shutdown_without_wait_returns_at_once(context: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    executor = manyhands.ProcessPoolExecutor(2, context)
    future = executor.submit(deeds.wait_for, str(go))
    values = executor.map(deeds.square, range(20))
    processes, thread = executor._processes, executor._executor_manager_thread
    executor.shutdown(wait=False)
    assert not future.done()
    go.touch()
    thread.join()
    for process in processes.values():
        process.join()
    assert future.result() == str(go)
    assert list(values) == [x * x for x in range(20)]


def test_shutdown_cancels_what_was_not_begun(context: Any, tmp_path: Path) -> None:
    go, started = tmp_path / "go", tmp_path / "started"
    executor = manyhands.ProcessPoolExecutor(1, context)
    running = executor.submit(deeds.touch_and_wait, str(started), str(go))
    deeds.wait_for(str(started))
    queued = [executor.submit(deeds.square, x) for x in range(1000)]
    heard = threading.Event()
    queued[5].add_done_callback(lambda _: heard.set())
    values = executor.map(deeds.square, range(1000))
    executor.shutdown(wait=False, cancel_futures=True)
    heard.wait()
    assert all(future.cancelled() for future in queued)
    with pytest.raises(CancelledError):
        next(values)
    go.touch()
    executor.shutdown()
    assert running.result() == str(go)


@pytest.mark.parametrize(("end", "number"), [("terminate_workers", -15), ("kill_workers", -9)])
def test_workers_can_be_ended_at_once(context: Any, tmp_path: Path, end: str, number: int) -> None:
    started = tmp_path / "started"
    executor = manyhands.ProcessPoolExecutor(1, context)
    running = executor.submit(deeds.touch_and_hang, str(started))
    deeds.wait_for(str(started))
    queued = [executor.submit(deeds.square, 1) for _ in range(5)]
    processes = executor._processes
    getattr(executor, end)()
    with pytest.raises(BrokenProcessPool):
        running.result()
    assert all(future.cancelled() for future in queued)
    for process in processes.values():
        process.join()
        assert process.exitcode == number
    with pytest.raises(RuntimeError):
        executor.submit(deeds.square, 1)
    executor.shutdown()
    getattr(executor, end)()  # again, to no effect


def test_a_forgotten_executor_does_its_work_and_ends(context: Any) -> None:
    executor = manyhands.ProcessPoolExecutor(2, context)
    futures = [executor.submit(deeds.square, x) for x in range(20)]
    values = executor.map(deeds.square, range(20))
    processes, thread = executor._processes, executor._executor_manager_thread
    del executor
    gc.collect()
    thread.join()
    for process in processes.values():
        assert process.exitcode == 0
    assert [future.result() for future in futures] == list(values) == [x * x for x in range(20)]


def test_an_executor_that_was_never_used_leaves_nothing(context: Any) -> None:
    threads = threading.active_count()
    with manyhands.ProcessPoolExecutor(2, context):
        pass
    manyhands.ProcessPoolExecutor(2, context)
    assert threading.active_count() == threads


def test_a_callback_may_shut_down(executor: Any) -> None:
    heard = threading.Event()

    def end(_: object) -> None:
        executor.shutdown()
        heard.set()

    executor.submit(deeds.square, 1).add_done_callback(end)
    heard.wait()


def test_a_program_s_end_waits_for_its_calls(tmp_path: Path, method: str) -> None:
    source = f"""
        import os, time, manyhands
        def speak(word):
            time.sleep(0.1)
            os.write(1, word.encode() + b"\\n")
        if __name__ == "__main__":
            executor = manyhands.ProcessPoolExecutor(2, manyhands.get_context({method!r}))
            executor.submit(speak, "apple")
            other = manyhands.ProcessPoolExecutor(2, manyhands.get_context({method!r}))
            other.submit(speak, "apple")
            other.shutdown(wait=False)
            forgotten = manyhands.ProcessPoolExecutor(2, manyhands.get_context({method!r}))
            forgotten.submit(speak, "apple")
            del forgotten
    """
    assert printed(tmp_path, source) == ["apple"] * 3


def test_nothing_is_taken_at_the_program_s_end(tmp_path: Path) -> None:
    source = """
        import atexit, manyhands
        @atexit.register
        def submit():
            for executor in (used, unused):
                try:
                    executor.submit(id, 1)
                except RuntimeError as error:
                    print(error)
        used, unused = manyhands.ProcessPoolExecutor(1), manyhands.ProcessPoolExecutor(1)
        used.submit(id, 1).result()
    """
    assert printed(tmp_path, source) == ["cannot schedule new futures after interpreter shutdown"] * 2


def test_ctrl_c_ends_a_wait(tmp_path: Path) -> None:
    source = """
        import os, signal, threading, time, manyhands
        executor = manyhands.ProcessPoolExecutor(1)
        future = executor.submit(time.sleep, 1000)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            future.result()
        except KeyboardInterrupt:
            print("interrupted")
        executor.kill_workers()
    """
    assert printed(tmp_path, source) == ["interrupted"]


def test_workers_end_with_a_program_that_is_killed(tmp_path: Path) -> None:
    source = """
        import os, signal, time, manyhands
        executor = manyhands.ProcessPoolExecutor(2)
        executor.submit(time.sleep, 1000)
        executor.submit(time.sleep, 1000)
        print(*executor._processes, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = run(tmp_path, source)
    assert done.returncode == -signal.SIGKILL
    for pid in done.stdout.split():
        wait_for_end(int(pid))


def test_a_forked_child_is_told_that_the_executor_is_its_parent_s(tmp_path: Path) -> None:
    source = """
        import os, sys, warnings, manyhands
        warnings.simplefilter("ignore")
        executor = manyhands.ProcessPoolExecutor(1)
        done, quiet = executor.submit(pow, 2, 3), executor.submit(pow, 3, 3)
        done.result()
        if os.fork() == 0:
            for use in (lambda: executor.submit(pow, 2, 3), done.result, quiet.result):
                try:
                    print(use(), flush=True)
                except RuntimeError as error:
                    print(type(error).__name__, flush=True)
            sys.exit()
        os.wait()
        print(quiet.result(), flush=True)
    """
    assert printed(tmp_path, source)[-1] == "27"
    assert printed(tmp_path, source)[:2] == ["RuntimeError", "8"]


def test_the_package_does_not_import_it_before_it_is_asked_for(tmp_path: Path) -> None:
    source = """
        import sys, manyhands
        print("concurrent.futures" in sys.modules, "manyhands.executor" in sys.modules)
        manyhands.ProcessPoolExecutor
        print("concurrent.futures.process" in sys.modules)
    """
    assert printed(tmp_path, source) == ["False False", "False"]


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_an_executor_leaves_no_descriptor(context: Any) -> None:
    from scripts import descriptors

    def use() -> None:
        with manyhands.ProcessPoolExecutor(2, context) as executor:
            list(executor.map(deeds.square, range(10)))

    use()
    before = descriptors()
    for _ in range(3):
        use()
    gc.collect()
    assert descriptors() <= before
