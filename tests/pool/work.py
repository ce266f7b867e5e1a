"""Functions that the pool's tests run in workers."""

from __future__ import annotations

import dataclasses
import mmap
import os
import pathlib
import pickle
import resource
import signal
import sys
import time
from typing import Any


def square(x: int) -> int:
    return x * x


def same(x: Any) -> Any:
    return x


def total(*args: Any, **kwds: Any) -> Any:
    return args, kwds


def pid(_: object = None) -> int:
    return os.getpid()


def fail(x: object) -> None:
    raise ValueError(f"no {x}")


class Counter:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: object) -> int:
        self.calls += 1
        return self.calls

    def count(self, x: object) -> int:
        return self(x)


def collect(seen: list[Any], x: Any) -> list[Any]:
    seen.append(x)
    return list(seen)


def allow_descriptors(count: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


class Whole(int):
    pass


class Name(str):
    pass


class Pair(tuple[int, int]):
    pass


class Table:
    """Numbers below 256, all 1 at first, which pickle 5 leaves out of band as it does an array."""

    def __init__(self, numbers: Any = b"\1" * (2 << 20)) -> None:
        self.numbers = memoryview(numbers if not memoryview(numbers).readonly else bytearray(numbers))

    def __getitem__(self, place: int) -> int:
        return int(self.numbers[place])

    def __setitem__(self, place: int, number: int) -> None:
        self.numbers[place] = number

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return Table, (pickle.PickleBuffer(self.numbers),)


def add_to(table: Any, place: int) -> tuple[int, int, int]:
    """Writes to what it shares with others, if it shares it; what it found, made of it, and found at the end."""
    found = int(table[place])
    table[place] += place
    return found, int(table[place]), int(table[-1])


def add_to_or_die(table: Any, place: int) -> tuple[int, int, int]:
    if place == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return add_to(table, place)


def fail_on_three(x: int) -> int:
    if x == 3:
        raise KeyError(x)
    return x


def leave(code: object) -> None:
    sys.exit(code)


def interrupt(_: object) -> None:
    raise KeyboardInterrupt


def unpicklable(_: object) -> Any:
    return lambda: None


class Stubborn(Exception):
    """Pickles, but its unpickling raises: the second argument is missing then."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Lets nobody set its attributes, not even pickle."""

    number: int

    def __reduce__(self) -> Any:
        return Frozen, (self.number,)


class Secretive(Exception):
    """Neither pickles nor has a usable repr."""

    def __reduce__(self) -> Any:
        raise TypeError("not for others")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Torn:
    """Pickles well and refuses to be unpickled."""

    def __reduce__(self) -> Any:
        return refuse, ()


def refuse() -> None:
    raise RuntimeError("refused to be unpickled")


def raise_stubborn(_: object) -> None:
    raise Stubborn("one", "two")


def raise_frozen(number: int) -> None:
    raise Frozen(number)


def raise_secretive(_: object) -> None:
    raise Secretive


class Slow:
    """Is slow to pickle or to unpickle: it says so in a file, and waits for another."""

    def __init__(self, here: str, value: Any) -> None:
        self.here = here
        self.value = value

    def __reduce__(self) -> Any:
        return load_slowly, (self.here, self.value)


def load_slowly(here: str, value: Any) -> Any:
    pathlib.Path(here, "begun").touch()
    wait_for(here + "/gate")
    return value


def return_slow(item: tuple[str, Any]) -> Slow:
    return Slow(*item)


class SlowError(Exception):
    """An exception that is slow to be unpickled."""

    def __reduce__(self) -> Any:
        return load_slowly, (self.args[0], ValueError("slow"))


def raise_slow(here: str) -> None:
    raise SlowError(here)


class SlowToPickle:
    """Pickles as its value, once a file is there."""

    def __init__(self, here: str, value: Any) -> None:
        self.here = here
        self.value = value

    def __reduce__(self) -> Any:
        pathlib.Path(self.here, f"pickled {self.value}").touch()
        pathlib.Path(self.here, "begun").touch()
        wait_for(self.here + "/gate")
        return same, (self.value,)


def return_torn(_: object) -> Torn:
    return Torn()


def kill_self(_: object = None) -> None:
    os.kill(os.getpid(), 9)


def exit_hard(code: int) -> None:
    os._exit(code)


def kill_self_on(item: tuple[int, set[int]]) -> int:
    index, doomed = item
    if index in doomed:
        kill_self()
    return index


def wait_for(path: str) -> str:
    """Waits until a file appears."""
    while not pathlib.Path(path).exists():
        time.sleep(0.005)
    return path


def spin(seconds: float) -> float:
    """Works for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def touch_and_wait(item: tuple[str, str]) -> int:
    """Says where it runs, by creating a file, then waits for another."""
    mine, other = item
    pathlib.Path(mine).write_text(str(os.getpid()))
    wait_for(other)
    return os.getpid()


def fork_and(item: tuple[str, int]) -> int:
    """Forks; the child comes back from here in one way or another. Gives its exit code."""
    how, code = item
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if how == "returns":
        return -1
    sys.exit(code)


def raise_unspeakable(_: object) -> None:
    raise FileNotFoundError(2, "no such file", b"\xff".decode("utf-8", "surrogateescape"))


def length(_: bytes, x: bytes) -> int:
    return len(x)


def allow_memory(more: int) -> None:
    """From now on this process may have so many more bytes of address space."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


initialised: list[object] = []


def initialise(*args: object) -> None:
    initialised.extend(args)


def get_initialised(_: object = None) -> list[object]:
    return initialised


def broken_initialiser() -> None:
    raise LookupError("no such model")


def wait_first(number: int) -> int:
    """Takes its time for the first."""
    if number == 0:
        time.sleep(4)
    return number


def add_one(x: int) -> int:
    return x + 1


def killed(_: object = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleepy_same(seconds: float, x: Any) -> Any:
    time.sleep(seconds)
    return x


def note(path: str, what: object) -> None:
    """Note that this call has begun."""
    with open(path, "a") as file:
        file.write(f"{what}\n")


def wait_for_file(path: str) -> None:
    while not pathlib.Path(path).exists():
        time.sleep(0.005)


def note_and_wait(path: str, what: object, gate: str) -> None:
    note(path, what)
    wait_for_file(gate)


def note_and_die_once(path: str, died: str) -> None:
    note(path, "dies")
    if not pathlib.Path(died).exists():
        pathlib.Path(died).touch()
        killed()


def die_once_at(bad: int, died: str, x: int) -> int:
    if x == bad and not pathlib.Path(died).exists():
        pathlib.Path(died).touch()
        killed()
    return x


def wait_from(first: int, gate: str, x: int) -> int:
    """Calls from the first one on wait for the gate."""
    if x >= first:
        wait_for_file(gate)
    return x


def meet(here: str, count: int, gate: str) -> int:
    """Wait until so many calls run at once."""
    pathlib.Path(f"{here}-{os.getpid()}").touch()
    while len(list(pathlib.Path(here).parent.glob("here-*"))) < count:
        time.sleep(0.005)
    return os.getpid()


def meet_heavily(item: tuple[str, int, bytes]) -> int:
    here, count, _ = item
    return meet(here, count, "")


def leave_slowly() -> None:
    time.sleep(0.5)


def count_and_tell(names: dict[str, list[str]]) -> int:
    assert len(names) == 200_000
    return os.getpid()


def set_up(mark: str) -> None:
    import manyhands

    manyhands.worker_state()["mark"] = mark


def count_calls(_: object) -> tuple[int, str, tuple[str, ...]]:
    import manyhands

    state = manyhands.worker_state()
    state["calls"] = state.get("calls", 0) + 1
    return os.getpid(), state["mark"], tuple(sorted(state))


def note_exit() -> None:
    import manyhands

    note(manyhands.worker_state()["mark"], os.getpid())


def raise_at_exit() -> None:
    raise LookupError("no orderly end")


def pid_and_processors(_: object) -> tuple[int, tuple[int, ...]]:
    return os.getpid(), tuple(sorted(os.sched_getaffinity(0)))


def wait_from_two(first: int, gates: list[str], x: int) -> int:
    """The calls from the first one on wait for a gate each."""
    if x >= first:
        wait_for_file(gates[x - first])
    return x


hoard: list[Any] = []


def hoard_and_tell(n: int, size: int) -> tuple[int, int]:
    """Keep so many bytes for good; of the system's, for a fork has what its parent's allocator keeps."""
    kept = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(0, size, mmap.PAGESIZE):
        kept[page] = 1
    hoard.append(kept)
    return n, os.getpid()


def take_and_give(data: bytes) -> tuple[int, bytes]:
    """A process id and as many bytes as were given."""
    return os.getpid(), b"\2" * len(data)


class Knot:
    """Garbage that only a collection of cycles frees."""

    def __init__(self, size: int) -> None:
        self.data = b"\1" * size
        self.myself = self


def knot_and_tell(size: int) -> int:
    Knot(size)
    return os.getpid()


class View:
    """Numbers below 256, which stay where they came."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = memoryview(numbers)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return View, (pickle.PickleBuffer(self.numbers),)


def touch_all(table: View) -> int:
    sum(table.numbers[::4096])
    return os.getpid()


def touch_segment(name: str) -> int:
    from manyhands import shared_memory

    segment = shared_memory.SharedMemory(name)
    sum(segment.buf[::4096])
    segment.close()
    return os.getpid()
