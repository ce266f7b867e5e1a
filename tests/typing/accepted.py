"""Programs as users write them: what type checkers have to accept, and the types that they have to find.

Never run: `test_typing.py` gives this file to mypy, and pyright where there is one.
"""

from __future__ import annotations

import ctypes
import threading
from contextvars import ContextVar
from typing import assert_type

import manyhands
import manyhands as mp
from manyhands import connection, managers, pool, queues, shared_memory, sharedctypes, synchronize
from manyhands.context import BaseContext, ForkContext, SpawnContext


def square(x: int) -> int:
    return x * x


def power(base: float, exponent: int) -> float:
    return base**exponent


def work(items: queues.Queue[str], lock: synchronize.Lock) -> None:
    with lock:
        items.put("done")


class Worker(mp.Process):
    def __init__(self, number: int) -> None:
        super().__init__(name=f"worker {number}", daemon=True)
        self.number = number

    def run(self) -> None:
        print(self.number, mp.current_process().name)


def processes() -> None:
    items: queues.Queue[str] = mp.Queue()
    process = mp.Process(target=work, args=(items, mp.Lock()), kwargs={}, daemon=True)
    process.start()
    process.join(timeout=1.5)
    assert_type(process.exitcode, int | None)
    assert_type(process.pid, int | None)
    assert_type(process.sentinel, int)
    assert_type(process.is_alive(), bool)
    process.terminate()
    process.interrupt()
    process.close()
    Worker(3).start()
    for child in mp.active_children():
        child.kill()
    parent = mp.parent_process()
    if parent is not None:
        print(parent.pid)
    assert_type(mp.cpu_count(), int)


def pools() -> None:
    with mp.Pool(4, initializer=print, initargs=("hello",), maxtasksperchild=10) as workers:
        with workers.share([1, 2]) as shared:
            assert_type(shared, mp.Shared[list[int]])
            assert_type(shared.get(), list[int])
            workers.apply(print, (shared, mp.shared_array((2, 3), "f4", fill=1)))
        assert_type(workers.map(square, range(10)), list[int])
        assert_type(workers.map(str, [1, 2], chunksize=1), list[str])
        assert_type(workers.starmap(power, [(1.0, 2), (2.0, 3)]), list[float])
        assert_type(workers.apply(square, (3,)), int)
        result = workers.apply_async(power, (2.0, 3), callback=print, error_callback=print)
        assert_type(result, pool.ApplyResult[float])
        assert_type(result.get(timeout=1), float)
        assert_type(result.ready(), bool)
        assert_type(workers.map_async(square, [1]).get(), list[int])
        assert_type(workers.starmap_async(power, [(1.0, 2)]).get(), list[float])
        for value in workers.imap(square, range(3), chunksize=2, buffersize=8):
            assert_type(value, int)
        assert_type(workers.imap_unordered(square, range(3)).next(timeout=1), int)
    try:
        workers.map(square, [1])
    except mp.WorkerDied as death:
        assert_type(death.exitcode, int | None)
    except (mp.BrokenPool, mp.PoolTerminated, mp.TimeoutError, mp.ProcessError):
        pass
    threads = pool.ThreadPool(2)
    assert_type(threads.map(square, [1]), list[int])
    threads.close()
    threads.join()
    waiting: list[pool.AsyncResult[int]] = [threads.apply_async(square, (n,)) for n in range(3)]
    print(sum(result.get() for result in waiting))


def exchange() -> None:
    bounded: queues.JoinableQueue[tuple[int, str]] = mp.JoinableQueue(maxsize=3)
    bounded.put((1, "one"), timeout=2)
    number, word = bounded.get(block=False)
    assert_type(number, int)
    assert_type(word, str)
    bounded.task_done()
    bounded.join()
    bounded.shutdown(immediate=True)
    simple: queues.SimpleQueue[bytes] = mp.SimpleQueue()
    assert_type(simple.get(), bytes)
    left, right = mp.Pipe()
    assert_type(left, connection.Connection)
    left.send({"any": "thing"})
    if right.poll(1.0):
        print(right.recv(), right.recv_bytes(100))
    with connection.Listener(("localhost", 0), authkey=b"key") as listener, listener.accept() as peer:
        peer.send_bytes(b"hello")
    with connection.Client("/run/user/socket", authkey=b"key") as peer:
        connection.wait([peer, left], timeout=0)


def locks() -> None:
    lock, again = mp.Lock(), mp.RLock()
    assert_type(lock.acquire(timeout=1.0), bool)
    lock.release()
    assert_type(lock.locked(), bool)
    with again, mp.Semaphore(2), mp.BoundedSemaphore(2):
        pass
    condition = mp.Condition(again)
    with condition:
        condition.wait_for(lambda: True, timeout=1)
        condition.notify_all()
    event = mp.Event()
    event.set()
    assert_type(event.wait(1), bool)
    assert_type(event.is_set(), bool)
    barrier = mp.Barrier(2, action=print, timeout=3)
    assert_type(barrier.wait(), int)


def shared() -> None:
    number = mp.Value(ctypes.c_int, 3)
    assert_type(number, sharedctypes.Synchronized[int])
    with number.get_lock():
        number.value += 1
    assert_type(mp.Value(ctypes.c_double, 0.5, lock=False), ctypes.c_double)
    array = mp.Array(ctypes.c_double, [1.0, 2.0])
    assert_type(array, sharedctypes.SynchronizedArray[float])
    print(array[0], len(array), mp.Value("i", 1).value, mp.Array("d", 5)[2])
    raw = mp.RawArray(ctypes.c_int, 5)
    raw[0] = 1
    segment = shared_memory.SharedMemory(create=True, size=100, track=True)
    segment.buf[:5] = b"hello"
    assert_type(segment.name, str)
    segment.close()
    segment.unlink()
    numbers = shared_memory.ShareableList([1, 2, 3])
    assert_type(numbers[0], int)
    numbers[1] = 5
    print(len(numbers), numbers.count(2), numbers.shm.name)


class Counter:
    def __init__(self) -> None:
        self.count = 0


class OurManager(managers.BaseManager):
    pass


OurManager.register("Counter", Counter)


def managed() -> None:
    with mp.Manager() as manager:
        words = manager.list(["a"])
        words.append("b")
        assert_type(words[0], str)
        words += ["c"]
        words.sort(key=len)
        ages = manager.dict({"a": 1})
        ages["b"] = 2
        ages.update(c=3)
        assert_type(ages.get("a"), int | None)
        assert_type(ages.copy(), dict[str, int])
        primes = manager.set([2, 3])
        primes.add(5)
        assert_type(5 in primes, bool)
        value = manager.Value("i", 1)
        value.value += 1
        assert_type(value.get(), int)
        names = manager.Namespace(x=1)
        names.y = names.x
        event: threading.Event = manager.Event()
        event.set()
        with manager.Lock():
            manager.Queue(3).put(1)
        assert_type(manager.Pool(2).map(square, [1]), list[int])
    with managers.SharedMemoryManager() as memory:
        assert_type(memory.SharedMemory(10).size, int)
        assert_type(memory.ShareableList(["a"])[0], str)
    ours = OurManager(address=("localhost", 0), authkey=b"key")
    ours.start()
    ours.shutdown()


async def awaiting() -> None:
    with mp.Pool(2) as workers:
        assert_type(await workers.apply_async(square, (1,)), int)
        assert_type(await workers.map_async(square, [1]), list[int])
        async for value in workers.imap_unordered(square, [1]):
            assert_type(value, int)
    items: queues.Queue[str] = mp.Queue()
    await items.aput("a")
    assert_type(await items.aget(), str)


def what_people_asked_for(request: ContextVar[str]) -> None:
    workers = mp.Pool(
        2,
        worker_exit=work_done,
        cpu_ids=[0, 1],
        threads_per_worker=1,
        forward_logging=True,
        context_vars=[request],
    )
    workers.resize(4)
    assert_type(workers.map(square, [1], progress_bar=True, progress_bar_options={"desc": "x"}), list[int])
    assert_type(workers.apply(square, (workers.apply_async(square, (2,)),), priority=3), int)
    manyhands.worker_state()["calls"] = 1


def work_done() -> None: ...


def contexts(ctx: BaseContext | None = None) -> None:
    spawn = mp.get_context("spawn")
    assert_type(spawn, SpawnContext)
    assert_type(mp.get_context("fork"), ForkContext)
    assert_type(mp.get_context(), BaseContext)
    spawn.Process(target=square, args=(1,)).start()
    with spawn.Pool(2) as workers:
        assert_type(workers.map(square, [1]), list[int])
    (ctx or spawn).Queue().put(1)
    mp.set_start_method("forkserver", force=True)
    assert_type(mp.get_start_method(), str | None)
    assert_type(mp.get_all_start_methods(), list[str])
    mp.set_forkserver_preload(["collections"])
    mp.set_executable("/usr/bin/python3")
    mp.log_to_stderr().setLevel(mp.SUBDEBUG)
    mp.get_logger().warning("careful")


if __name__ == "__main__":
    manyhands.install()
    mp.freeze_support()
    processes()
