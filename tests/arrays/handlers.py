"""Functions that the tests of arrays run in workers; libraries are imported only in use."""

from __future__ import annotations

import os
import time
from typing import Any


def same(value: Any) -> Any:
    return value


def first(*values: Any) -> Any:
    return values[0]


def mapping_at(address: int, pid: int | None = None) -> str:
    """What is mapped at an address of a process: a file's name, "" for memory of its own."""
    with open(f"/proc/{pid or 'self'}/maps") as maps:
        for line in maps:
            words = line.split(maxsplit=5)
            start, end = (int(bound, 16) for bound in words[0].split("-"))
            if start <= address < end:
                return words[5].strip() if len(words) > 5 else ""
    raise AssertionError(f"nothing is mapped at {address:#x}")


def address_of(value: Any) -> int:
    """Where an object's items lie."""
    if hasattr(value, "__array_interface__"):
        return int(value.__array_interface__["data"][0])
    kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
    if kind == "pyarrow.Table":
        return int(value.column(0).chunk(0).buffers()[1].address)
    if kind == "pyarrow.RecordBatch":
        return int(value.column(0).buffers()[1].address)
    if kind == "pyarrow.ChunkedArray":
        return int(value.chunk(0).buffers()[1].address)
    if kind == "pandas.DataFrame":
        return address_of(value.iloc[:, 0].to_numpy())
    if kind == "polars.DataFrame":
        return address_of(value.to_series(0))
    if kind == "polars.Series":
        return address_of(value.to_numpy(allow_copy=False))
    if kind.startswith("torch."):
        return int(value.data_ptr())
    raise AssertionError(f"where does a {kind} lie?")


def where(value: Any) -> str:
    """The mapping that an object's items lie in."""
    return mapping_at(address_of(value))


def make(maker: Any, *args: Any) -> Any:
    return maker(*args)


def pss_of(pid: int) -> int:
    """A process's proportional share of what it has mapped, in bytes."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        (line,) = (line for line in file if line.startswith("Pss:"))
    return 1024 * int(line.split()[1])


def pss(_: object = None) -> tuple[int, int]:
    """This process, and its share of memory."""
    time.sleep(0.2)  # so that other workers get a task too
    return os.getpid(), pss_of(os.getpid())


def touch_and_pss(array: Any, _: object) -> tuple[int, int]:
    """Reads all of an array, then as `pss`."""
    assert float(array.sum()) == array.size
    return pss()


def identity(value: Any, _: object) -> tuple[int, int]:
    return os.getpid(), id(value)


def append(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def write(array: Any, index: Any, value: Any) -> None:
    array[index] = value


def write_when_told(queue: Any, told: Any) -> None:
    array = queue.get()
    array[...] = 7
    told.set()


def describe(array: Any) -> tuple[Any, ...]:
    return type(array).__name__, array.dtype, array.shape, array.strides, array.flags.writeable


def total_after(path: str, array: Any) -> float:
    """The sum of an array, once there is such a file."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return float(array.sum())


def die(*_: Any) -> None:
    os.kill(os.getpid(), 9)


def die_once(path: str, array: Any) -> float:
    """Is killed the first time, and has the sum of the array afterwards."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return float(array.sum())
    die()
    raise AssertionError


def try_to_send(handle: Any, queue: Any) -> None:
    """In a child: what a handle that it inherited says when it is pickled."""
    import pickle

    try:
        pickle.dumps(handle)
    except Exception as error:
        queue.put(f"{type(error).__name__}: {error}")


def share_in_worker(_: object) -> Any:
    """A handle of a pool of the worker's own, which is no result."""
    import manyhands

    with manyhands.ProcessPoolExecutor(1) as executor:
        return executor.share([1])


class Picky:
    """Counts how often it is unpickled, and refuses when it is told to."""

    def __init__(self, refuse: bool = False) -> None:
        self.refuse = refuse

    def __reduce__(self) -> Any:
        return rebuild_picky, (self.refuse,)


unpickled = 0


def rebuild_picky(refuse: bool) -> Picky:
    global unpickled
    if refuse:
        raise LookupError("refused")
    unpickled += 1
    return Picky()


def times_unpickled(_: object, __: object) -> int:
    return unpickled


_kept: list[Any] = []


def keep(length: int) -> None:
    """Keeps a shared array."""
    import manyhands

    _kept[:] = [manyhands.shared_array(length)]


def kept() -> Any:
    return _kept[0]


def write_kept(index: int, value: float) -> None:
    _kept[0][index] = value
