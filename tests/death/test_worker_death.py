"""Workers that die: their running task raises WorkerDied, nothing else is lost."""

from __future__ import annotations

import os
import pickle
import signal
from typing import Any

import pytest
import work

import manyhands
from manyhands import WorkerDied
from scripts import until, wait_for_end


def test_the_killed_task_says_how_who_and_which(pool: Any) -> None:
    with pytest.raises(WorkerDied, match=r"SIGKILL while it ran task 0 of kill_self\(\)") as caught:
        pool.apply(work.kill_self)
    died = caught.value
    assert (died.exitcode, died.signal_name, died.task_index, died.function) == (-9, "SIGKILL", 0, "kill_self")
    assert isinstance(died.pid, int)
    assert isinstance(died, manyhands.ProcessError)


def test_a_worker_that_exits_in_a_task(pool: Any) -> None:
    with pytest.raises(WorkerDied, match="exited with code 7") as caught:
        pool.apply(work.exit_hard, (7,))
    assert (caught.value.exitcode, caught.value.signal_name) == (7, None)


@pytest.mark.parametrize("doomed", [{0}, {5, 50}, {99}, set(range(0, 100, 10))])
def test_exactly_the_killed_tasks_fail(pool: Any, doomed: set[int]) -> None:
    results = pool.imap(work.kill_self_on, [(index, doomed) for index in range(100)])
    for index in range(100):
        if index in doomed:
            with pytest.raises(WorkerDied) as caught:
                next(results)
            assert caught.value.task_index == index
        else:
            assert next(results) == index


def test_a_map_with_a_killed_task_raises_and_the_pool_goes_on(pool: Any) -> None:
    with pytest.raises(WorkerDied):
        pool.map(work.kill_self_on, [(index, {3}) for index in range(20)], 1)
    assert pool.map(work.square, range(100), 1) == [x * x for x in range(100)]


def test_every_worker_killed_at_once_while_idle(pool: Any) -> None:
    before = set(pool._crew.pids())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert pool.map(work.square, range(100), 1) == [x * x for x in range(100)]
    assert not before & set(pool._crew.pids())


def test_a_dead_idle_worker_is_replaced_while_nobody_waits(pool: Any) -> None:
    pool.apply_async(work.square, (1,)).get()  # from now on somebody tends the pool
    victim = pool._crew.pids()[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in pool._crew.pids() and len(pool._crew.pids()) == 2)


def test_tasks_queued_behind_the_killed_one_are_unharmed(context: Any, tmp_path: Any) -> None:
    with context.Pool(1) as pool:
        gate = str(tmp_path / "gate")
        running = pool.apply_async(work.touch_and_wait, ((str(tmp_path / "here"), gate),))
        queued = [pool.apply_async(work.square, (x,)) for x in range(50)]
        large = pool.apply_async(work.same, (b"x" * (1 << 20),))
        until(lambda: (tmp_path / "here").exists() and (tmp_path / "here").read_text())
        os.kill(int((tmp_path / "here").read_text()), signal.SIGKILL)
        with pytest.raises(WorkerDied):
            running.get(30)
        assert [result.get(30) for result in queued] == [x * x for x in range(50)]
        assert large.get(30) == b"x" * (1 << 20)


KINDS = {
    "in its frame": lambda: [{"a": 1}, "b" * 200],
    "its bytes in a block": lambda: [f"{number}" * 40 for number in range(5000)],
    "a buffer in a block": lambda: b"x" * (1 << 20),
    "bytes in its frame, buffers in blocks": lambda: [work.Table(b"2" * (1 << 20)), work.Table(b"3" * (1 << 18))],
    "bytes and a buffer in blocks": lambda: [b"y" * 100_000, work.Table(b"4" * (1 << 18))],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_was_handed_to_a_worker_that_dies_is_whole(context: Any, tmp_path: Any, kind: str) -> None:
    """However its payload travelled, it goes to the next worker as it was."""
    with context.Pool(1) as pool:
        running = pool.apply_async(work.touch_and_wait, ((str(tmp_path / "here"), str(tmp_path / "gate")),))
        until(lambda: (tmp_path / "here").exists() and (tmp_path / "here").read_text())
        value = KINDS[kind]()
        queued = [pool.apply_async(work.same, (value,)) for _ in range(2)]
        before = pickle.dumps(value, 5)
        if not isinstance(value, bytes) and isinstance(value[-1], work.Table):
            value[-1][0] = 9  # what was handed over is not looked at again
        os.kill(int((tmp_path / "here").read_text()), signal.SIGKILL)
        with pytest.raises(WorkerDied):
            running.get(30)
        assert [pickle.dumps(result.get(30), 5) == before for result in queued] == [True, True]


def test_a_callback_hears_of_the_death(pool: Any) -> None:
    heard: list[BaseException] = []
    pool.apply_async(work.kill_self, error_callback=heard.append).wait()
    assert [isinstance(error, WorkerDied) for error in heard] == [True]


def test_the_error_of_a_death_pickles(pool: Any) -> None:
    with pytest.raises(WorkerDied) as caught:
        pool.apply(work.kill_self)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.exitcode, copy.pid) == (str(caught.value), -9, caught.value.pid)


def test_idle_workers_end_when_their_parent_is_killed(method: str, tmp_path: Any) -> None:
    import subprocess
    import sys

    script = tmp_path / "owner.py"
    script.write_text(
        "import sys, time, manyhands\n"
        "if __name__ == '__main__':\n"
        f"    pool = manyhands.get_context({method!r}).Pool(2)\n"
        "    pool.map(abs, range(10))\n"
        "    print(*pool._crew.pids(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    assert len(pids) == 2
    owner.kill()
    owner.wait()
    owner.stdout.close()
    for pid in pids:
        wait_for_end(pid)


OWNER = """
import os, signal, sys, manyhands
sys.path.insert(0, {work!r})
import work

def forks(folder):
    child = os.fork()
    if child == 0:
        work.wait_for(folder + "/gate")
        open(folder + "/done", "x").close()
        os._exit(0)
    work.touch_and_wait((folder + "/here", folder + "/never"))

def initialises(folder):
    work.touch_and_wait((folder + "/here", folder + "/never"))

def is_deaf(folder):
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    work.touch_and_wait((folder + "/here", folder + "/never"))

if __name__ == "__main__":
    folder = sys.argv[1]
    pool = manyhands.get_context({method!r}).Pool(1, *{initializer})
    if os.fork() == 0:  # another child, to which the pool means nothing
        work.wait_for(folder + "/gate")
        os._exit(0)
    result = pool.apply_async({task}, (folder,))
    work.wait_for(folder + "/here")
    print("working", flush=True)
    result.get()
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("task", ["forks", "is_deaf", "initialises"])
def test_a_worker_in_a_task_ends_when_its_parent_is_killed(method: str, task: str, tmp_path: Any) -> None:
    import subprocess
    import sys

    script = tmp_path / "owner.py"
    initializer = "(initialises, (folder,))" if task == "initialises" else "()"
    script.write_text(
        OWNER.format(work=os.path.dirname(work.__file__), method=method, task=task, initializer=initializer)
    )
    owner = subprocess.Popen([sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    try:
        assert owner.stdout.readline() == "working\n"
        until(lambda: (tmp_path / "here").read_text())
        worker = int((tmp_path / "here").read_text())
        owner.kill()
        owner.wait()
        wait_for_end(worker)
        assert not (tmp_path / "done").exists()
    finally:
        owner.kill()
        owner.wait()
        (tmp_path / "gate").touch()
        (tmp_path / "never").touch()
        owner.stdout.close()
    if task == "forks":
        until((tmp_path / "done").exists)  # what the task forked is not the pool's, and lives on
