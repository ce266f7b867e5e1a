"""Functions and classes that the libraries' tests run in workers; only numpy is imported, and only in use."""

from __future__ import annotations

import logging
import logging.handlers
import os
import subprocess
import time
from typing import Any

from manyhands.pool import Pool


def square(x: int) -> int:
    return x * x


def same(x: Any) -> Any:
    return x


def pid(_: object = None) -> int:
    return os.getpid()


def fail(x: object) -> None:
    raise LookupError(f"no {x}")


def die(_: object = None) -> None:
    os.kill(os.getpid(), 9)


def pause_and_pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


kept: list[Any] = []


def keep(*values: Any) -> None:
    """An initializer: its arguments are there for `get_kept`."""
    kept.extend(values)


def get_kept(_: object = None) -> list[Any]:
    return kept


def describe(array: Any) -> tuple[Any, ...]:
    """What a worker sees of an array: dtype, shape, strides, order, writability, and a sum if it has one."""
    total = array.sum() if array.dtype.kind in "iuf" else None
    flags = array.flags
    return array.dtype, array.shape, flags.c_contiguous, flags.f_contiguous, flags.writeable, total


def double_in_place(array: Any) -> Any:
    """Writes to the array that came, and returns it."""
    array *= 2
    return array


def double_and_sum(array: Any, _: object) -> float:
    return float(double_in_place(array).sum())


def least_and_most(array: Any) -> tuple[int, int]:
    return int(array.min()), int(array.max())


def tell_when_asked(connection: Any, arrays: list[Any]) -> None:
    """Says what is in the arrays, then writes to them and says it again."""
    assert connection.recv() == "look"
    connection.send([least_and_most(array) for array in arrays])
    assert connection.recv() == "write"
    for array in arrays:
        array[:] = 99
    connection.send([least_and_most(array) for array in arrays])


def fork_and_write(array: Any) -> tuple[int, int]:
    """What is in the array after a forked child wrote to it."""
    child = os.fork()
    if child == 0:
        array[:] = 99
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return least_and_most(array)


def wait_for(path: str) -> None:
    """Until there is such a file."""
    while not os.path.exists(path):
        time.sleep(0.01)


def range_but_zero_waits(array: Any) -> tuple[int, int]:
    """Of an array of zeros only once there is the file that was kept."""
    if array[0] == 0:
        wait_for(kept[0])
    return least_and_most(array)


def die_when_there(path: str) -> None:
    wait_for(path)
    die()


def add(pair: tuple[Any, Any]) -> Any:
    first, second = pair
    return first + second


def make_array(size: int) -> Any:
    import numpy

    return numpy.ones(size, dtype=numpy.uint8)


def resident(_: object = None) -> int:
    """This process's resident memory in bytes, without what it shares with others."""
    with open("/proc/self/smaps_rollup") as file:
        return 1024 * sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


def summarise(frame: Any) -> Any:
    return frame.groupby("key").sum()


def rosenbrock(x: Any) -> float:
    return float(sum(100.0 * (x[1:] - x[:-1] ** 2.0) ** 2.0 + (1 - x[:-1]) ** 2.0))


def log_to(queue: Any, text: str) -> None:
    """Logs one line through a handler that puts records into `queue`."""
    logger = logging.getLogger("chores")
    logger.handlers = [logging.handlers.QueueHandler(queue)]
    logger.setLevel(logging.INFO)
    logger.info("%s from %s", text, "a child")


def call_pickled(pickled: bytes) -> Any:
    """Runs a function that cloudpickle wrote."""
    import pickle

    return pickle.loads(pickled)()


def put_under_lock(value: Any) -> None:
    """Uses the lock and the queue that `keep` was given."""
    lock, queue = kept
    with lock:
        queue.put(value)


def send_pipe_end(queue: Any, told: Any) -> None:
    """Sends a descriptor as the standard library does, and waits until it has arrived."""
    from multiprocessing import resource_sharer

    read, write = os.pipe()
    os.write(write, b"from the child")
    os.close(write)
    queue.put(resource_sharer.DupFd(read))
    os.close(read)
    told.wait(30)
    resource_sharer.stop()


def read_pipe_end(queue: Any) -> None:
    with open(queue.get().detach(), "rb") as file:
        assert file.read() == b"to the child"


def standard_key() -> bytes:
    import multiprocessing.process

    return bytes(multiprocessing.process.current_process().authkey)


def make_frame(rows: int) -> Any:
    """A pandas frame with numbers, text and dates."""
    import numpy
    import pandas

    return pandas.DataFrame(
        {
            "key": [f"k{i % 5}" for i in range(rows)],
            "value": numpy.arange(rows, dtype=float),
            "count": numpy.arange(rows),
        }
    )


def numbered_items() -> Any:
    """A torch dataset whose item i is (i, i, ..., i) and i."""
    import torch

    rows = torch.arange(64).repeat_interleave(1000).reshape(64, 1000).float()
    return torch.utils.data.TensorDataset(rows, torch.arange(64))


def double_tensor(tensor: Any) -> Any:
    import torch

    torch.set_num_threads(1)  # the threads that a forked child's torch believes to have did not come along
    return tensor * 2


def fill_tensor(tensor: Any) -> None:
    """Writes to a tensor in shared memory."""
    tensor.fill_(7)


class Corridor:
    """An environment for gymnasium: a walk of five steps."""

    def __new__(cls) -> Any:
        import gymnasium
        import numpy

        class Env(gymnasium.Env[Any, Any]):
            observation_space = gymnasium.spaces.Box(0.0, 10.0, (4,), numpy.float32)
            action_space = gymnasium.spaces.Discrete(2)

            def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
                super().reset(seed=seed)
                self.at = 0
                return numpy.zeros(4, numpy.float32), {}

            def step(self, action: Any) -> Any:
                self.at += int(action)
                return numpy.full(4, self.at, numpy.float32), float(self.at), self.at >= 5, False, {"pid": os.getpid()}

        return Env()


class Reduced:
    """What only a pool's own reducers can pickle."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        raise TypeError("not without the pool's reducers")


def reduce(reduced: Reduced) -> Any:
    return str, (f"reduced {reduced.number}",)


def pair(a: Any, b: Any) -> Any:
    return a, b


class ReducingPool(Pool):
    """A pool as joblib makes them."""

    def __init__(self, *args: Any, **kwds: Any) -> None:
        self._forward_reducers = {Reduced: reduce}
        super().__init__(*args, **kwds)


class ForeignPool(Pool):
    """A pool as torch makes them."""

    def _repopulate_pool(self) -> None:
        raise AssertionError("there are no queues to serve")


def fail_at(bad: int, n: int) -> int:
    if n == bad:
        raise ValueError(f"bad {n}")
    return n


def kind_and_sum(array: Any) -> tuple[str, float, str | None]:
    """What an input is, its sum, and the file that it is mapped from."""
    return type(array).__name__, float(array.sum()), getattr(array, "filename", None) and str(array.filename)


def nested(n: int) -> list[int]:
    from joblib import Parallel, delayed

    return Parallel(n_jobs=2)(delayed(abs)(-m) for m in range(n))  # type: ignore[no-any-return]


def die_once(died: str, n: int) -> int:
    if not os.path.exists(died):
        with open(died, "w"):
            pass
        os._exit(3)
    return n


def from_environment(name: str) -> str:
    """The value that a child of this process would see."""
    return subprocess.run(["printenv", name], capture_output=True, text=True, check=False).stdout.strip()
