"""Locks and semaphores: who holds them, who waits, how long, and what another process sees."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import holders
import pytest
from holders import exit_code, started, until

import manyhands
from manyhands import _engine
from scripts import descriptors, printed


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_processes_that_count_with_a_lock_miscount_nothing(context: Any, kind: str) -> None:
    lock, number = getattr(context, kind)(), context.RawValue("i")
    children = [started(context, holders.count_up, lock, number, 3000) for _ in range(3)]
    holders.count_up(lock, number, 3000)
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert number.value == 12000
    assert lock._semlock._get_value() == 1


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_threads_of_one_process_exclude_each_other(kind: str) -> None:
    lock, number = getattr(manyhands, kind)(), manyhands.RawValue("i")
    threads = [threading.Thread(target=holders.count_up, args=(lock, number, 2000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert number.value == 8000


def test_a_lock_is_held_and_free_for_all_to_see(context: Any, tmp_path: Path) -> None:
    lock, rlock = context.Lock(), context.RLock()
    assert (repr(lock), repr(rlock)) == ("<Lock(owner=None)>", "<RLock(None, 0)>")
    assert not lock.locked()
    assert not rlock.locked()
    with lock, rlock, rlock:
        assert (repr(lock), repr(rlock)) == ("<Lock(owner=MainProcess)>", "<RLock(MainProcess, 2)>")
        assert lock.locked()
        assert rlock.locked()
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.extend((repr(lock), repr(rlock))))
        thread.start()
        thread.join()
        assert seen == ["<Lock(owner=SomeOtherThread)>", "<RLock(SomeOtherThread, nonzero)>"]
        for one, said in ((lock, "<Lock(owner=SomeOtherProcess)>"), (rlock, "<RLock(SomeOtherProcess, nonzero)>")):
            assert exit_code(context, holders.holder_elsewhere, one, str(tmp_path / "said")) == 0
            assert (tmp_path / "said").read_text() == said
    thread = threading.Thread(target=lambda: lock.acquire(), name="Tom")
    thread.start()
    thread.join()
    assert repr(lock) == "<Lock(owner=SomeOtherThread)>"
    lock.release()


def test_semaphores_say_how_many_are_left(context: Any) -> None:
    semaphore, bounded = context.Semaphore(3), context.BoundedSemaphore(2)
    assert (repr(semaphore), repr(bounded)) == (
        "<Semaphore(value=3)>",
        "<BoundedSemaphore(value=2, maxvalue=2)>",
    )
    semaphore.acquire()
    semaphore.release()
    semaphore.release()
    assert semaphore.get_value() == 4
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        bounded.release()
    assert bounded.get_value() == 2


def test_a_lock_may_be_released_by_another_process_and_a_recursive_one_may_not(context: Any) -> None:
    lock, rlock = context.Lock(), context.RLock()
    lock.acquire()
    rlock.acquire()
    assert exit_code(context, holders.release, lock) == 0
    assert lock.acquire(timeout=10)
    assert exit_code(context, holders.fail_to_release, rlock) == 5
    rlock.release()
    assert exit_code(context, holders.take_without_waiting, rlock) == 1


def test_a_forked_child_does_not_hold_what_its_parent_holds() -> None:
    context = manyhands.get_context("fork")
    rlock = context.RLock()
    with rlock:
        assert rlock._semlock._is_mine()
        assert exit_code(context, holders.take_without_waiting, rlock) == 0
        assert exit_code(context, holders.fail_to_release, rlock) == 5


def test_what_was_not_taken_cannot_be_released() -> None:
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        manyhands.Lock().release()
    with pytest.raises(AssertionError, match="attempt to release recursive lock not owned by thread"):
        manyhands.RLock().release()


@pytest.mark.parametrize("make", [manyhands.Lock, manyhands.RLock, lambda: manyhands.Semaphore(1)])
def test_time_outs_are_kept(make: Any) -> None:
    lock = make()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    for args, least in [
        ((False,), 0),
        ((0,), 0),
        ((True, 0), 0),
        ((True, -5), 0),
        ((False, 9), 0),
        ((True, 0.15), 0.15),
    ]:
        begun = time.monotonic()
        assert lock.acquire(*args) is False
        assert time.monotonic() - begun >= least
    assert lock.acquire(block=False, timeout=None) is False
    assert lock.acquire(timeout=0.01) is False


def test_bad_arguments_are_refused() -> None:
    lock = manyhands.Lock()
    lock.acquire()
    with pytest.raises(TypeError):
        lock.acquire(True, "soon")
    with pytest.raises(ValueError, match="NaN"):
        lock.acquire(True, float("nan"))
    with pytest.raises(TypeError):
        lock.acquire(True, 1, 2)
    with pytest.raises(OSError, match="Invalid argument"):
        manyhands.Semaphore(-1)
    with pytest.raises(OverflowError):
        manyhands.Semaphore(2**31)
    with pytest.raises(TypeError):
        manyhands.Semaphore("3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unrecognized kind"):
        _engine.SemLock(7, 0, 1)
    semaphore = manyhands.Semaphore(2**31 - 1)
    with pytest.raises(ValueError, match="too many times"):
        semaphore.release()


def test_a_signal_handler_runs_at_once_and_its_exception_ends_the_wait() -> None:
    lock = manyhands.Lock()
    lock.acquire()
    ran: list[float] = []

    def handler(number: int, frame: object) -> None:
        ran.append(time.monotonic())
        if len(ran) == 2:
            raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            lock.acquire(timeout=30)
        assert 0.15 < time.monotonic() - begun < 10
        assert ran[0] - begun < 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert lock._semlock._is_mine()
    lock.release()
    assert lock.acquire(False)


def test_locks_go_to_children_of_children(context: Any, method: str) -> None:
    lock, number = context.Lock(), context.RawValue("i")
    assert exit_code(context, holders.hand_on, method, lock, number, 2) == 0
    assert number.value == 3


def test_a_lock_of_one_start_method_in_a_child_of_another() -> None:
    for method in ("spawn", "forkserver"):
        lock = manyhands.get_context("fork").Lock()
        process = manyhands.get_context(method).Process(target=holders.release, args=(lock,))
        with pytest.raises(RuntimeError, match="A SemLock created in a fork context is being shared"):
            process.start()
        lock = manyhands.get_context(method).Lock()
        lock.acquire()
        assert exit_code(manyhands.get_context("fork"), holders.release, lock) == 0


def test_pickling_needs_a_child_that_is_being_started() -> None:
    import pickle

    for made in (manyhands.Lock(), manyhands.Event(), manyhands.Condition(), manyhands.Barrier(2)):
        with pytest.raises(RuntimeError, match="should only be shared between processes through inheritance"):
            pickle.dumps(made)


def test_ten_thousand_locks_cost_ten_descriptors_and_leave_none(context: Any) -> None:
    before = descriptors()
    locks = [context.Lock() for _ in range(10_000)]
    assert descriptors() - before <= 11
    assert len({lock._semlock.handle for lock in locks}) == 10_000
    number = context.RawValue("i")
    # From the first board to the last: each goes along once.
    assert exit_code(context, holders.take_many, locks[::50], number) == 0
    assert number.value == 200
    del locks
    gc.collect()
    assert descriptors() - before <= 4


def test_a_place_is_used_again_only_while_nobody_else_can_have_it() -> None:
    context = manyhands.get_context("fork")
    first = context.Lock()
    place = first._semlock.handle
    del first
    second = context.Lock()
    assert second._semlock.handle == place  # never left this process
    child = started(context, holders.sleep_for_ever)
    del second
    third = context.Lock()
    child.kill()
    child.join()
    assert third._semlock.handle != place  # the child had it


def test_a_killed_child_leaves_no_file_and_no_torn_lock(context: Any) -> None:
    lock, number = context.Lock(), context.RawValue("i")
    holders_killed = 0
    for _ in range(15):
        before = number.value
        child = started(context, holders.work_and_be_killed, lock, number)
        until(lambda before=before: number.value > before)
        child.kill()
        child.join()
        was_held = "SomeOtherProcess" in repr(lock)  # it was killed while it held it, and the word says so
        try:
            lock.acquire()
        except manyhands.OwnerDied:
            assert was_held
            holders_killed += 1
        else:
            assert not was_held
            lock.release()
    with lock:
        pass
    assert holders_killed <= 15


def test_a_name_leads_to_the_lock_as_long_as_its_maker_lives(tmp_path: Path) -> None:
    lines = printed(
        tmp_path,
        """
        import os, sys
        import manyhands
        from manyhands import _engine

        def main():
            lock = manyhands.get_context("spawn").Lock()
            semlock = lock._semlock
            found = _engine.SemLock._rebuild(None, semlock.kind, semlock.maxvalue, semlock.name)
            lock.acquire()
            print(found._is_zero(), found.acquire(False), semlock.name == semlock.name)
            try:
                _engine.SemLock._rebuild(None, semlock.kind, 5, semlock.name)
            except ValueError as error:
                print("up to 1" in str(error))
            pid = os.fork()
            if not pid:
                other = _engine.SemLock._rebuild(None, semlock.kind, semlock.maxvalue, semlock.name)
                other.release()
                os._exit(0)
            os.waitpid(pid, 0)
            print(lock.acquire(timeout=10))
            name = semlock.name
            del semlock, lock
            try:
                _engine.SemLock._rebuild(None, 1, 1, name)
            except FileNotFoundError as error:
                print(name in str(error))

        if __name__ == "__main__":
            main()
        """,
    )
    assert lines == ["True False True", "True", "True", "True"]


def test_named_locks_are_made_once() -> None:
    from manyhands._multiprocessing import SemLock, sem_unlink

    name = f"/manyhands-test-{os.getpid()}"
    made = SemLock(1, 0, 10, name, False)
    try:
        assert made.name == name
        with pytest.raises(FileExistsError):
            SemLock(1, 0, 10, name, False)
        found = SemLock._rebuild(None, 1, 10, name)
        found.release()
        assert made.acquire(False)
    finally:
        sem_unlink(name)
    with pytest.raises(FileNotFoundError):
        sem_unlink(name)
    assert SemLock(1, 0, 10, name, True).name is None


def test_what_is_no_lock_is_refused() -> None:
    read, write = os.pipe()
    with pytest.raises(OSError, match="not shared memory of manyhands"):
        _engine.SemLock(1, 0, 1, board=os.dup(read))
    memory = _engine.memory("test", 131072)
    with pytest.raises(ValueError, match="begins with"):
        _engine.SemLock(1, 0, 1, board=memory)
    fd, cell = manyhands.Event()._event._share()
    with pytest.raises(ValueError, match="neither a lock nor a semaphore"):
        _engine.SemLock(1, 0, 1, board=fd, cell=cell)
    for wrong in (0, 1023, 1024, 2**32 - 1):
        with pytest.raises(ValueError, match="cell"):
            _engine.SemLock(1, 0, 1, board=fd, cell=wrong)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
@pytest.mark.parametrize("call", [lambda made: made.acquire(None), lambda made: made.acquire(block=None)])
def test_whether_to_wait_is_any_truth_value(context: Any, kind: str, call: Any) -> None:
    made = getattr(context, kind)()
    answers = []
    thread = threading.Thread(target=made.acquire)  # a recursive lock is to be somebody else's
    thread.start()
    thread.join()
    asker = threading.Thread(target=lambda: answers.append(call(made)), daemon=True)
    asker.start()
    asker.join(20)
    assert answers == [False]
    assert made.acquire([]) is False
    with pytest.raises(ZeroDivisionError):
        made.acquire(holders.Undecided())


@pytest.mark.parametrize("arguments", [(True, "x"), (False, "x"), (True, [])])
@pytest.mark.parametrize("value", [0, 1])
def test_a_timeout_is_a_number_whether_it_is_needed_or_not(value: int, arguments: tuple[Any, ...]) -> None:
    made = manyhands.Semaphore(value)
    with pytest.raises(TypeError, match="must be real number"):
        made.acquire(*arguments)
    assert made.get_value() == value


def test_a_descriptor_that_is_no_longer_ours_is_neither_closed_nor_sent(tmp_path: Path) -> None:
    """A daemon closes what it does not know; then the numbers are those of its own files."""
    lines = printed(
        tmp_path,
        """
        import gc, os
        import manyhands

        def take(lock):
            with lock:
                print("taken", flush=True)

        if __name__ == "__main__":
            context = manyhands.get_context("spawn")
            lock = context.Lock()
            os.closerange(3, 1000)
            mine = [open(__file__) for _ in range(20)]
            try:
                context.Process(target=take, args=(lock,)).start()
            except OSError as error:
                print("closed its descriptor" in str(error))
            with lock:
                print("still a lock")
            later = context.Lock()
            child = context.Process(target=take, args=(later,))
            child.start()
            child.join()
            del lock, later, child
            gc.collect()
            print({os.path.samestat(os.fstat(file.fileno()), os.stat(__file__)) for file in mine})
            for file in mine:
                file.close()
        """,
    )
    assert lines == ["True", "still a lock", "taken", "{True}"]


def test_a_family_that_is_killed_leaves_no_name(tmp_path: Path) -> None:
    """There is none to leave: nothing of it lies in /dev/shm, and no tracker has to see to it."""
    lines = printed(
        tmp_path,
        """
        import os, sys
        import manyhands

        def look(*shared):
            here = [line.split()[-1] for line in open("/proc/self/maps") if "/dev/shm" in line]
            print(here, "manyhands.resource_tracker" in sys.modules, flush=True)

        if __name__ == "__main__":
            for method in ("spawn", "forkserver"):
                c = manyhands.get_context(method)
                shared = [c.Lock(), c.Condition(), c.Event(), c.Barrier(2), c.Value("i"), c.Array("d", 3)]
                child = c.Process(target=look, args=shared)
                child.start()
                child.join()
                look()
        """,
    )
    assert lines == ["[] False"] * 4
