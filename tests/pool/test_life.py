"""A pool's life: initializers, replacement, closing, terminating, being forgotten."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from typing import Any

import pytest
import work

from manyhands.errors import PoolTerminated
from scripts import until


def test_initializer_runs_in_every_worker(context: Any) -> None:
    with context.Pool(2, work.initialise, ("a", 1)) as pool:
        assert pool.map(work.get_initialised, range(20), 1) == [["a", 1]] * 20


def test_workers_are_daemons_with_names(pool: Any) -> None:
    assert all(worker.daemon and "PoolWorker" in worker.name for worker in pool._pool)
    assert {worker.pid for worker in pool._pool} == set(pool._crew.pids())


def test_workers_are_replaced_after_max_tasks(context: Any) -> None:
    with context.Pool(2, maxtasksperchild=3) as pool:
        pids = pool.map(work.pid, range(30), 1)
    assert all(pids.count(one) <= 3 for one in set(pids))
    assert len(set(pids)) >= 10


def test_close_alone_lets_idle_workers_go(context: Any) -> None:
    pool = context.Pool(2)
    assert pool.map(work.square, range(4)) == [0, 1, 4, 9]
    pool.close()
    until(lambda: all(worker.exitcode == 0 for worker in pool._pool))
    pool.join()


def test_close_lets_everything_accepted_finish(context: Any) -> None:
    pool = context.Pool(2)
    results = [pool.apply_async(work.square, (x,)) for x in range(500)]
    mapped = pool.map_async(work.square, range(500), 1)
    pool.close()
    pool.join()
    assert [result.get() for result in results] == [x * x for x in range(500)]
    assert mapped.get() == [x * x for x in range(500)]
    assert all(worker.exitcode == 0 for worker in pool._pool)


def test_close_lets_a_forgotten_imap_finish(context: Any, tmp_path: Any) -> None:
    pool = context.Pool(2)
    pool.imap_unordered(_touch, [str(tmp_path / str(x)) for x in range(100)])
    pool.close()
    pool.join()
    assert len(list(tmp_path.iterdir())) == 100


def _touch(path: str) -> None:
    with open(path, "x"):
        pass


def test_terminate_ends_running_and_queued_tasks(context: Any, tmp_path: Any) -> None:
    pool = context.Pool(2)
    results = [pool.apply_async(work.wait_for, (str(tmp_path / "never"),)) for _ in range(10)]
    stream = pool.imap(work.wait_for, [str(tmp_path / "never")] * 10)
    pool.terminate()
    pool.join()
    for result in results:
        with pytest.raises(PoolTerminated):
            result.get(30)
    with pytest.raises(PoolTerminated):
        next(stream)


def test_terminate_ends_a_worker_that_ignores_sigterm(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manyhands.pool._GRACE", 0.3)
    pool = context.Pool(1, _ignore_sigterm)
    assert pool.apply(work.square, (1,)) == 1
    pid = pool._crew.pids()[0]
    pool.terminate()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def _ignore_sigterm() -> None:
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _handle_sigterm() -> None:
    import signal

    signal.signal(signal.SIGTERM, lambda *_: None)


def _block_sigterm() -> None:
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


@pytest.mark.parametrize("deafen", [_ignore_sigterm, _handle_sigterm, _block_sigterm])
def test_terminate_lets_idle_workers_leave_whatever_they_do_with_sigterm(context: Any, deafen: Any) -> None:
    pool = context.Pool(1, deafen)
    assert pool.map(work.square, range(4), 1) == [0, 1, 4, 9]
    (worker,) = pool._pool
    pool.terminate()
    assert worker.exitcode == 0, "it left by itself, nobody killed it"


def test_terminate_takes_back_what_a_deaf_worker_has_not_begun(context: Any, tmp_path: Any) -> None:
    pool = context.Pool(1, _handle_sigterm)
    here, gate = str(tmp_path / "here"), str(tmp_path / "gate")
    pool.apply_async(work.touch_and_wait, ((here, gate),))
    queued = [pool.apply_async(_touch, (str(tmp_path / f"queued{x}"),)) for x in range(3)]
    until((tmp_path / "here").exists)
    workers = list(pool._pool)
    pool._crew.terminate()
    (tmp_path / "gate").touch()
    pool.terminate()
    for result in queued:
        with pytest.raises(PoolTerminated):
            result.get(30)
    assert [worker.exitcode for worker in workers] == [0]
    assert not list(tmp_path.glob("queued*"))


def test_leaving_the_with_block_terminates(context: Any) -> None:
    with context.Pool(2) as pool:
        pids = pool._crew.pids()
    assert pool._state == "TERMINATE"
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_forgotten_pool_warns_and_ends_its_workers(context: Any) -> None:
    pool = context.Pool(2)
    pids = pool._crew.pids()
    pool.apply_async(work.square, (1,)).get()
    reference = weakref.ref(pool)
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del pool
        gc.collect()
    assert reference() is None
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_results_keep_no_references(pool: Any) -> None:
    class Local:
        pass

    item = Payload()
    reference = weakref.ref(item)
    assert pool.map(work.pid, [item])
    del item
    gc.collect()
    assert reference() is None


class Payload:
    """Something that can be weakly referenced."""


def test_failures_are_collected(pool: Any) -> None:
    def fail() -> weakref.ref[Any]:
        witness = Payload()
        result = pool.apply_async(work.fail, (1,))
        try:
            result.get()
        except ValueError as error:
            witness.error = error  # type: ignore[attr-defined]
        return weakref.ref(witness)

    reference = fail()
    gc.collect()
    assert reference() is None, "the result, its exception and the frames form a cycle that can be collected"


def test_more_workers_than_tasks_and_more_tasks_than_workers(context: Any) -> None:
    with context.Pool(6) as pool:
        assert pool.map(work.square, [1, 2]) == [1, 4]
    with context.Pool(1) as pool:
        assert pool.map(work.square, range(1000), 1) == [x * x for x in range(1000)]


def test_pools_side_by_side(context: Any) -> None:
    with context.Pool(1) as one, context.Pool(1) as other:
        mine = one.map_async(work.square, range(100), 1)
        yours = other.map_async(work.square, range(100, 200), 1)
        assert yours.get() == [x * x for x in range(100, 200)]
        assert mine.get() == [x * x for x in range(100)]


def test_a_fork_of_the_owner_cannot_use_the_pool_and_does_not_harm_it(pool: Any) -> None:
    assert pool.apply(work.square, (2,)) == 4
    child = os.fork()
    if child == 0:
        try:
            pool.apply(work.square, (1,))
        except RuntimeError as error:
            os._exit(0 if "belongs to the parent" in str(error) else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pool.map(work.square, range(100), 1) == [x * x for x in range(100)]


def test_a_child_forked_while_a_result_is_decoded_is_told_so(pool: Any, tmp_path: Any) -> None:
    result = pool.apply_async(work.return_slow, ((str(tmp_path), 42),))
    decoded = pool.apply_async(work.square, (3,))
    result.wait()
    assert decoded.get() == 9
    decoder = threading.Thread(target=result.get)
    decoder.start()
    until((tmp_path / "begun").exists)
    child = os.fork()
    if child == 0:
        try:
            assert decoded.get() == 9
            result.get()
        except RuntimeError as error:
            os._exit(0 if "belongs to the parent" in str(error) else 2)
        finally:
            os._exit(3)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        (tmp_path / "gate").touch()
        decoder.join()
    assert result.get() == 42


def test_idle_pool_makes_no_wake_ups(context: Any) -> None:
    def switches(pid: int) -> int:
        total = 0
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status") as status:
                total += sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt"))
        return total

    with context.Pool(2) as pool:
        pool.map_async(work.square, range(100)).get()
        pids = pool._crew.pids()

        def is_quiet() -> bool:
            before = [switches(pid) for pid in pids]
            time.sleep(1)
            return all(switches(pid) - count <= 1 for pid, count in zip(pids, before, strict=True))

        until(is_quiet)  # it may have something to clear up first


def test_a_worker_that_two_threads_find_exited_is_let_go_of_once(pool: Any) -> None:
    class Exited:
        exitcode = 0

        def join(self) -> None:
            pool._staff.processes.remove(self)  # as the other thread does

    pool._staff.processes.append(Exited())
    pool._staff.let_go_of_exited()
    assert len(pool._staff.processes) == 2
