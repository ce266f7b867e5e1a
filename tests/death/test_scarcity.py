"""Pools that run out of something, descriptors or memory: errors or another way, no hang and no crash.

The limits hold for a whole process, so each test is a program of its own.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import run

pytestmark = pytest.mark.timeout(90)

HEAD = f"""
import contextlib, os, resource, signal, sys, threading, time
import functools
sys.path.insert(0, {str(Path(__file__).parents[1] / "pool")!r})
import manyhands, work

def exhaust():
    "Takes all descriptors that are left, under a low limit."
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return taken

def refused(call, *args):
    try:
        call(*args)
    except MemoryError:
        return True
    raise AssertionError("that should not have fit into memory")

if __name__ == "__main__":
    context = manyhands.get_context("fork")
"""


def printed(folder: Path, body: str) -> str:
    """What a program prints that has to end well."""
    indented = "".join(f"    {line}\n" for line in body.strip("\n").splitlines())
    done = run(folder, HEAD + indented)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_a_pool_that_can_never_replace_its_workers_breaks(tmp_path: Path) -> None:
    out = printed(
        tmp_path,
        """
with context.Pool(2) as pool:
    pool.map(abs, range(4))
    taken = exhaust()
    for pid in pool._crew.pids():
        os.kill(pid, signal.SIGKILL)
    try:
        pool.apply_async(abs, (1,)).get()
    except manyhands.BrokenPool as error:
        for descriptor in taken:
            os.close(descriptor)
        print(error)
""",
    )
    assert re.search("no worker process could be started.*Too many open files", out)


def test_a_worker_is_replaced_once_that_is_possible_again(tmp_path: Path) -> None:
    out = printed(
        tmp_path,
        """
with context.Pool(2) as pool:
    pool.map(abs, range(4))
    taken, done = exhaust(), threading.Event()
    for pid in pool._crew.pids():
        os.kill(pid, signal.SIGKILL)
    pool.apply_async(abs, (-1,), callback=lambda _: done.set())
    time.sleep(0.1)
    for descriptor in taken:
        os.close(descriptor)
    print(done.wait(30))
""",
    )
    assert out == "True"


def test_a_pool_whose_workers_are_away_bears_a_shortage(tmp_path: Path) -> None:
    out = printed(
        tmp_path,
        """
with context.Pool(2, idle_timeout=0.1) as pool:
    while pool._crew.pids():
        time.sleep(0.01)
    taken = exhaust()
    result = pool.apply_async(abs, (-1,))
    time.sleep(2.5)
    assert not result.ready()
    for descriptor in taken:
        os.close(descriptor)
    print(result.get(30), pool.map(abs, [-2]))
""",
    )
    assert out == "1 [2]"


def test_without_room_for_arenas_everything_is_streamed(tmp_path: Path) -> None:
    out = printed(
        tmp_path,
        """
work.allow_memory(3 << 30)
with context.Pool(2, maxtasksperchild=5) as pool:
    for size in (0, 1, 16 << 10, (16 << 10) + 1, 64 << 10, (128 << 10) + 1, 3 << 20):
        data = os.urandom(size)
        for kind in (bytes, bytearray):
            assert pool.map(work.same, [kind(data)] * 6, 1) == [kind(data)] * 6
            assert pool.map(functools.partial(work.length, kind(data)), [data] * 6, 1) == [size] * 6
print("the same")
""",
    )
    assert out == "the same"


def test_workers_killed_in_the_midst_of_streams_lose_only_their_tasks(tmp_path: Path) -> None:
    out = printed(
        tmp_path,
        """
work.allow_memory(3 << 30)
with context.Pool(2) as pool:
    over = threading.Event()
    def kill():
        while not over.wait(0.03):
            for pid in pool._crew.pids()[:1]:
                with contextlib.suppress(ProcessLookupError):  # it was replaced this moment
                    os.kill(pid, signal.SIGKILL)
    killer = threading.Thread(target=kill)
    killer.start()
    done = died = 0
    while died < 10:
        results = pool.imap(functools.partial(work.length, b"x" * 1_000_000), [b"y" * 2_000_000] * 8)
        for _ in range(8):
            try:
                assert next(results) == 2_000_000
                done += 1
            except manyhands.WorkerDied:
                died += 1
    over.set()
    killer.join()
print("all told")
""",
    )
    assert out == "all told"


def test_what_does_not_fit_into_a_worker_is_an_error_of_the_call(tmp_path: Path) -> None:
    out = printed(
        tmp_path,
        """
work.allow_memory(3 << 30)
with context.Pool(1, work.allow_memory, (100 << 20,)) as pool:
    pid = pool.apply(os.getpid)
    assert refused(pool.apply, len, (b"x" * (200 << 20),))
    assert refused(pool.map, functools.partial(work.length, b"x" * (200 << 20)), [b""], 1)
    assert refused(pool.apply, bytes, (200 << 20,))
    assert pool.apply(os.getpid) == pid
print("alive")
""",
    )
    assert out == "alive"


@pytest.mark.parametrize("arenas", [True, False])
def test_what_does_not_fit_into_the_caller_is_an_error_of_the_call(tmp_path: Path, arenas: bool) -> None:
    out = printed(
        tmp_path,
        f"""
if not {arenas}:
    work.allow_memory(1 << 30)
with context.Pool(1) as pool:
    assert pool.apply(abs, (-1,)) == 1
    work.allow_memory(300 << 20)
    assert refused(pool.apply, bytes, (400 << 20,))
    assert refused(pool.apply, len, ("x" * (200 << 20),))  # bytes would go without a copy
    assert pool.apply(abs, (-1,)) == 1
print("alive")
""",
    )
    assert out == "alive"
