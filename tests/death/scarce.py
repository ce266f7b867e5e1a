"""A program that runs out of something: `scarce.py CASE METHOD`, a line of JSON for each thing that it tries then.

Always: a pool is made before, and used while the thing is scarce and again when it is not.  Where it runs (a namespace of
mounts, a control group) is the test's doing (`test_shortages.py`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import manyhands
from manyhands import connection, executor, managers, queues, shared_memory, sharedctypes, synchronize  # noqa: F401

LARGE = 16 << 20
context: Any = None
CASES: dict[str, Callable[[], contextlib.AbstractContextManager[Callable[[], None]]]] = {}


def case(make: Callable[[], Iterator[Callable[[], None]]]) -> None:
    """Notes a generator that makes something scarce, yields what is to be tried, and makes it plenty again."""
    CASES[make.__name__] = contextlib.contextmanager(make)


def attempt(name: str, act: Callable[[], object]) -> None:
    """Prints what a user sees of it."""
    try:
        act()
        seen = "works"
    except Exception as error:
        seen = "".join(f"{type(error).__name__}: {error}".splitlines())
    print(json.dumps([name, seen]), flush=True)


def same(value: Any) -> Any:
    return value


def allocate(size: int) -> int:
    return len(b"x" * size)


def make_pool() -> None:
    with context.Pool(2) as pool:
        assert pool.map(same, range(10)) == list(range(10))


def run_process() -> None:
    process = context.Process(target=same, args=(1,), name="Process-1")
    process.start()
    process.join()
    assert process.exitcode == 0


def make_segment(size: int = 1000) -> None:
    segment = shared_memory.SharedMemory(create=True, size=size)
    segment.buf[:] = b"x" * size  # a bus error where that is not there
    segment.close()
    segment.unlink()


def make_manager() -> None:
    with context.Manager() as manager:
        assert manager.list([1])[:] == [1]


def make_listener() -> None:
    connection.Listener(family="AF_UNIX").close()


def make_queue() -> None:
    queue = context.Queue()
    queue.put(1)
    assert queue.get() == 1


def at_most(what: int, limit: int) -> Callable[[], None]:
    """Sets a limit; what is returned lifts it."""
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (limit, hard))
    return lambda: resource.setrlimit(what, (soft, hard))


@case
def descriptors() -> Iterator[Callable[[], None]]:
    """None left."""
    if context.get_start_method() == "forkserver":
        run_process()  # the server is there
    used = len(os.listdir("/proc/self/fd"))
    restore = at_most(resource.RLIMIT_NOFILE, used + 20)
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))

    def tries() -> None:
        attempt("`Pool(2)`", make_pool)
        attempt("`Process(...).start()`", run_process)
        attempt("`Pipe()`", context.Pipe)
        attempt("`SharedMemory(create=True)`", make_segment)

    yield tries
    for fd in taken:
        os.close(fd)
    restore()


@case
def processes() -> Iterator[Callable[[], None]]:
    """No more than there are; the limit does not hold for root."""
    os.setgid(65534)
    os.setuid(65534)
    restore = at_most(resource.RLIMIT_NPROC, 1)

    def tries() -> None:
        attempt("`Pool(2)`", make_pool)
        attempt("`Process(...).start()`", run_process)
        attempt("`Manager()`", make_manager)
        attempt("`pool.apply_async(...)`, the first", lambda: old.apply_async(same, (1,)).get(60))

    yield tries
    restore()


@case
def file_size() -> Iterator[Callable[[], None]]:
    """1 MiB."""
    restore = at_most(resource.RLIMIT_FSIZE, 1 << 20)

    def tries() -> None:
        attempt("`Pool(2)`, large arrays", lambda: (make_pool(), use_large()))
        attempt("`SharedMemory(create=True, size=2_000_000)`", lambda: make_segment(2_000_000))

    yield tries
    restore()


@case
def address_space() -> Iterator[Callable[[], None]]:
    """300 MiB more than there is."""
    pages = int(open("/proc/self/statm").read().split()[0])
    restore = at_most(resource.RLIMIT_AS, pages * resource.getpagesize() + (300 << 20))

    def tries() -> None:
        attempt(
            "`pool.apply(...)`, a list of 200 MiB",
            lambda: old.apply(len, ([chr(65 + n) * (4 << 20) for n in range(50)],)),
        )
        attempt("`Pool(2)`", make_pool)

    yield tries
    restore()


@case
def small_shm() -> Iterator[Callable[[], None]]:
    """64 MiB, by the test."""
    global LARGE
    LARGE = 80 << 20

    def tries() -> None:
        attempt("`Pool(2)`, large arrays, `Queue()`, `Lock()`", use_everything)
        attempt("`SharedMemory(create=True, size=100_000_000)`", lambda: make_segment(100_000_000))
        kept = shared_memory.SharedMemory(create=True, size=40_000_000)
        attempt("`SharedMemory(create=True, size=40_000_000)`, the second", lambda: make_segment(40_000_000))
        kept.close()
        kept.unlink()

    yield tries


@case
def no_shm() -> Iterator[Callable[[], None]]:
    """By the test."""

    def tries() -> None:
        attempt("`Pool(2)`, large arrays, `Queue()`, `Lock()`", use_everything)
        attempt("`SharedMemory(create=True)`", make_segment)

    yield tries


@case
def read_only_files() -> Iterator[Callable[[], None]]:
    """By the test."""

    def tries() -> None:
        attempt("`Pool(2)`, large arrays, `Queue()`, `Lock()`", use_everything)
        attempt("`Listener()`", make_listener)
        attempt("`Manager()`", make_manager)

    yield tries


@case
def no_pidfds() -> Iterator[Callable[[], None]]:
    """As before Linux 5.3, or in old containers."""
    refuse(434, 438, 424)  # pidfd_open, pidfd_getfd, pidfd_send_signal
    with contextlib.suppress(OSError):
        os.pidfd_open(os.getpid())
        raise AssertionError("it was not refused")

    def tries() -> None:
        attempt("`Pool(2)`, large arrays, `Queue()`, `Lock()`", use_everything)
        attempt("`Process(...).start()`", run_process)
        attempt("`Manager()`", make_manager)
        attempt("a worker that is killed", lambda: lose_worker())

    yield tries


@case
def memory() -> Iterator[Callable[[], None]]:
    """A control group of 200 MiB, by the test."""
    yield lambda: attempt("a call that takes 400 MiB", lambda: old.apply(allocate, (400 << 20,)))


def refuse(*calls: int) -> None:
    """Has the kernel answer ENOSYS to these calls, here and in all children."""
    load, equal, ret = 0x20, 0x15, 0x06
    program = [struct.pack("HBBI", load, 0, 0, 0)]  # the call's number
    program += [struct.pack("HBBI", equal, len(calls) - at, 0, number) for at, number in enumerate(calls)]
    program += [struct.pack("HBBI", ret, 0, 0, 0x7FFF0000), struct.pack("HBBI", ret, 0, 0, 0x00050000 | errno.ENOSYS)]
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for words in ((38, 1, 0, 0, 0), (22, 2, ctypes.addressof(header), 0, 0)):  # no new privileges; the filter
        if libc.prctl(words[0], *map(ctypes.c_ulong, words[1:])):
            raise OSError(ctypes.get_errno(), "prctl refused it")


def use_large() -> None:
    with context.Pool(1) as pool:
        assert pool.apply(same, (b"x" * LARGE,)) == b"x" * LARGE


def use_everything() -> None:
    make_pool()
    use_large()
    make_queue()
    with context.Lock(), context.Value("i").get_lock():
        pass


def lose_worker() -> None:
    with context.Pool(1) as pool:
        try:
            pool.apply(os.kill, (pool.apply(os.getpid), signal.SIGKILL))
        except manyhands.WorkerDied:
            assert pool.apply(same, (1,)) == 1
            return
        raise AssertionError("it lives")


if __name__ == "__main__":
    name, method = sys.argv[1:]
    context = manyhands.get_context(method)
    old = context.Pool(2)
    assert old.map(same, range(10)) == list(range(10))
    with CASES[name]() as tries:
        tries()
        attempt("the old pool", lambda: old.map(same, range(100)))
    size = LARGE if name != "memory" else 1 << 20
    attempt("the old pool afterwards", lambda: [old.map(same, range(100)), old.apply(len, (b"x" * size,))])
    if name != "processes":
        attempt("a new one", make_pool)
    old.terminate()
    old.join()
