"""Every call that waits, one after the other, in a program that is interrupted in each: `waits.py METHOD CALL...`.

It says "waiting" when it is about to wait, and "interrupted" and when once the wait has ended, each in a line.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import manyhands
from manyhands import connection
from manyhands.connection import Client, Listener

Call = Callable[[], object]
Making = contextlib.AbstractContextManager[Call]

context: Any = None
CALLS: dict[str, Callable[[], Making]] = {}


def call(make: Callable[[], Iterator[Call]]) -> Callable[[], Iterator[Call]]:
    """Notes a generator that makes what is needed, yields the call, and clears up."""
    CALLS[make.__name__] = contextlib.contextmanager(make)
    return make


def sleep(_: object = None) -> None:
    time.sleep(600)


def same(value: Any) -> Any:
    return value


def hold(lock: Any, held: Any) -> None:
    with lock:
        held.set()
        sleep()


# ---- pools and executors ----


@contextlib.contextmanager
def pool() -> Iterator[Any]:
    with context.Pool(2) as pool:
        pool.map(same, range(4), 1)
        yield pool
    pool.join()


@contextlib.contextmanager
def executor() -> Iterator[Any]:
    executor = manyhands.ProcessPoolExecutor(2, mp_context=context)
    assert executor.submit(same, 1).result() == 1
    try:
        yield executor
    finally:
        executor.kill_workers()


@call
def pool_map() -> Iterator[Call]:
    with pool() as p:
        yield lambda: p.map(sleep, range(8), 1)


@call
def pool_starmap() -> Iterator[Call]:
    with pool() as p:
        yield lambda: p.starmap(sleep, [()] * 8, 1)


@call
def pool_apply() -> Iterator[Call]:
    with pool() as p:
        yield lambda: p.apply(sleep)


@call
def pool_imap_next() -> Iterator[Call]:
    with pool() as p:
        yield lambda: next(p.imap(sleep, range(8)))


@call
def pool_imap_unordered_next() -> Iterator[Call]:
    with pool() as p:
        yield lambda: next(p.imap_unordered(sleep, range(8)))


@call
def pool_result_get() -> Iterator[Call]:
    with pool() as p:
        yield p.apply_async(sleep).get


@call
def pool_result_get_timeout() -> Iterator[Call]:
    with pool() as p:
        result = p.apply_async(sleep)
        yield lambda: result.get(600)


@call
def pool_result_wait() -> Iterator[Call]:
    with pool() as p:
        yield p.map_async(sleep, range(8), 1).wait


@call
def pool_join() -> Iterator[Call]:
    with pool() as p:
        p.map_async(sleep, range(8), 1)
        p.close()
        yield p.join


@call
def executor_result() -> Iterator[Call]:
    with executor() as e:
        yield e.submit(sleep).result


@call
def executor_map_next() -> Iterator[Call]:
    with executor() as e:
        yield lambda: next(e.map(sleep, range(8)))


@call
def executor_shutdown() -> Iterator[Call]:
    with executor() as e:
        e.submit(sleep)
        yield e.shutdown


@call
def executor_wait() -> Iterator[Call]:
    with executor() as e:
        future = e.submit(sleep)
        yield lambda: futures.wait([future])


# ---- processes ----


@call
def process_join() -> Iterator[Call]:
    process = context.Process(target=sleep)
    process.start()
    yield process.join
    process.join()


@call
def process_join_timeout() -> Iterator[Call]:
    process = context.Process(target=sleep)
    process.start()
    yield lambda: process.join(600)
    process.join()


# ---- queues ----


@call
def queue_get() -> Iterator[Call]:
    yield context.Queue().get


@call
def queue_get_timeout() -> Iterator[Call]:
    queue = context.Queue()
    yield lambda: queue.get(timeout=600)


@call
def queue_put() -> Iterator[Call]:
    queue = context.Queue(1)
    queue.put(1)
    yield lambda: queue.put(2)


@call
def simple_queue_get() -> Iterator[Call]:
    yield context.SimpleQueue().get


@call
def simple_queue_put() -> Iterator[Call]:
    queue = context.SimpleQueue()
    yield lambda: [queue.put(b"x" * 100_000) for _ in itertools.count()]


@call
def joinable_queue_join() -> Iterator[Call]:
    queue = context.JoinableQueue()
    queue.put(1)
    queue.get()
    yield queue.join


# ---- locks ----


@call
def lock_acquire() -> Iterator[Call]:
    lock = context.Lock()
    lock.acquire()
    yield lock.acquire


@call
def lock_acquire_timeout() -> Iterator[Call]:
    lock = context.Lock()
    lock.acquire()
    yield lambda: lock.acquire(timeout=600)


@call
def rlock_acquire() -> Iterator[Call]:
    """One that another process has."""
    lock, held = context.RLock(), context.Event()
    process = context.Process(target=hold, args=(lock, held))
    process.start()
    held.wait()
    yield lock.acquire
    process.join()


@call
def semaphore_acquire() -> Iterator[Call]:
    yield context.Semaphore(0).acquire


@call
def bounded_semaphore_acquire() -> Iterator[Call]:
    semaphore = context.BoundedSemaphore(1)
    semaphore.acquire()
    yield semaphore.acquire


@call
def event_wait() -> Iterator[Call]:
    yield context.Event().wait


@call
def condition_wait() -> Iterator[Call]:
    condition = context.Condition()
    with condition:
        yield condition.wait


@call
def condition_wait_for() -> Iterator[Call]:
    condition = context.Condition()
    with condition:
        yield lambda: condition.wait_for(lambda: False)


@call
def barrier_wait() -> Iterator[Call]:
    yield context.Barrier(2).wait


# ---- connections ----


@call
def connection_recv() -> Iterator[Call]:
    ours, theirs = context.Pipe()
    yield ours.recv
    theirs.close()


@call
def connection_recv_bytes() -> Iterator[Call]:
    ours, theirs = context.Pipe(duplex=False)
    yield ours.recv_bytes
    theirs.close()


@call
def connection_poll() -> Iterator[Call]:
    ours, theirs = context.Pipe()
    yield lambda: ours.poll(None)
    theirs.close()


@call
def connection_send() -> Iterator[Call]:
    ours, theirs = context.Pipe()
    yield lambda: ours.send_bytes(b"x" * (16 << 20))
    theirs.close()


@call
def connection_wait() -> Iterator[Call]:
    ours, theirs = context.Pipe()
    yield lambda: connection.wait([ours])
    theirs.close()


@call
def listener_accept() -> Iterator[Call]:
    with Listener() as listener:
        yield listener.accept


@call
def client_handshake() -> Iterator[Call]:
    """One whose listener does not answer."""
    with Listener() as listener:
        yield lambda: Client(listener.address, authkey=b"key")


# ---- managers ----


@call
def manager_queue_get() -> Iterator[Call]:
    with context.Manager() as manager:
        yield manager.Queue().get


@call
def manager_lock_acquire() -> Iterator[Call]:
    with context.Manager() as manager:
        lock = manager.Lock()
        lock.acquire()
        yield lock.acquire


@call
def manager_event_wait() -> Iterator[Call]:
    with context.Manager() as manager:
        yield manager.Event().wait


def main() -> None:
    global context
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # from now on this is what Ctrl-C is for
    signal.signal(signal.SIGINT, signal.default_int_handler)
    context = manyhands.get_context(sys.argv[1])
    for name in sys.argv[2:]:
        with CALLS[name]() as wait:
            try:
                os.write(1, b"waiting\n")
                wait()
                told = f"{name} returned"
            except KeyboardInterrupt:
                told = f"interrupted {time.monotonic()}"
            # Not while another one may come: this one has reached all of the group by now.
            os.write(1, f"{told}\n".encode())


if __name__ == "__main__":
    main()
