"""The two sides of the stress test that run elsewhere: the tasks in the workers, and the killer.

Run as a program it is the killer:  killing.py PARENT NOTES SEED KILLS PAUSE HELPERS
Always: a kill is noted before it happens, and hits the process that was chosen (by a pidfd that was
checked after it was opened), never one that got its number later.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import signal
import sys
import time
from typing import NamedTuple

# How often each kind of task comes, in rounds of mixed tasks and in rounds of arrays.
KINDS = {"trivial": 8, "sleeps": 4, "computes": 3, "large argument": 1, "large result": 1, "fails": 1}
BULKY = {"array in": 2, "array out": 2, "array in and out": 2, "trivial": 1}
LARGE = 300_000
ARRAY = 8 << 20
PAGE, PAGES = 4096, 4096

_notes = -1


class Array:
    """Bytes that travel as the memory of a numpy array does: out of band, writable where they arrive."""

    def __init__(self, data: object) -> None:
        self.data = memoryview(data)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Array, (pickle.PickleBuffer(self.data),)

    def __eq__(self, other: object) -> bool:
        # As bytes: views would be compared item by item.
        return isinstance(other, Array) and bytes(self.data) == bytes(other.data)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Array of {len(self.data)} bytes, {bytes(self.data[:3])!r} and so on"


class Task(NamedTuple):
    """One task: what it does follows from these three."""

    number: int
    kind: str
    weight: float

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        # A large argument travels with the task.
        return make, (self.number, self.kind, self.weight, _argument(self))


def make(number: int, kind: str, weight: float, load: object) -> Task:
    """Unpickles a task and checks what came with it."""
    task = Task(number, kind, weight)
    if load != _argument(task):
        raise RuntimeError(f"the argument of task {number} arrived damaged")
    return task


def _load(task: Task, size: int) -> bytearray:
    return bytearray((task.number % 251).to_bytes(1, "little")) * size


def _argument(task: Task) -> object:
    if task.kind in ("array in", "array in and out"):
        return Array(_load(task, ARRAY))
    return bytes(_load(task, int(LARGE * (1 + task.weight)))) if task.kind == "large argument" else b""


def answer(task: Task) -> tuple[int, object] | Exception:
    """The right answer of a task."""
    if task.kind == "fails":
        return ValueError("task fails on purpose", task.number)
    if task.kind in ("array out", "array in and out"):
        return task.number, Array(_load(task, ARRAY))
    if task.kind == "large result":
        return task.number, bytes(_load(task, int(LARGE * (1 + task.weight))))
    return task.number, task.number * 3


def bound() -> Array:
    """What is bound to `work_beside`: each page is full of its number."""
    return Array(bytearray(b"".join(bytes([page % 256]) * PAGE for page in range(PAGES))))


def prepare(path: str) -> None:
    """The workers' initializer: where to write notes."""
    global _notes
    _notes = os.open(path, os.O_WRONLY | os.O_APPEND)
    _note("W", 0)


def _note(what: str, number: int) -> None:
    # One short write to a file opened for appending: notes of several processes do not mix.
    os.write(_notes, f"{what} {os.getpid()} {number}\n".encode())


def work(task: Task) -> tuple[int, object]:
    """Does a task, and writes down that it started and that it finished."""
    _note("S", task.number)
    if task.kind == "sleeps":
        time.sleep(task.weight * 0.006)
    elif task.kind == "computes":
        until = time.perf_counter() + task.weight * 0.004
        while time.perf_counter() < until:
            pass
    result = answer(task)
    _note("F", task.number)
    if isinstance(result, Exception):
        raise result
    return result


def work_beside(array: Array, task: Task) -> tuple[int, object]:
    """`work` with a large array that is bound to it: as it was made, whatever other tasks do to theirs meanwhile."""
    view, page = array.data, task.number % PAGES
    at = page * PAGE
    if bytes(view[::PAGE]) != bytes(number % 256 for number in range(PAGES)) or len(view) != PAGES * PAGE:
        raise RuntimeError(f"the array bound to the function of task {task.number} is damaged")
    view[at] ^= 255
    try:
        return work(task)
    finally:
        # The next one of this chunk has the same.
        view[at] ^= 255


def abandoned_memory() -> set[str]:
    """What lies in /dev/shm and is mapped by no living process: with nobody left to remove it.

    So other programs on the machine, which have theirs mapped, do not count.
    """
    names = set(os.listdir("/dev/shm"))
    for pid in os.listdir("/proc") if names else []:
        if pid.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/maps") as file:
                names -= {line.rpartition("/")[2].strip() for line in file if "/dev/shm/" in line}
    return names


def descendants(pid: int) -> list[int]:
    """The process ids of all children of `pid` and of theirs, zombies left out."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError), open(f"/proc/{name}/stat") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(name)] = int(parent)
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def ready(path: str) -> set[int]:
    """The workers that have come as far as the initializer."""
    with open(path, "rb") as file:
        return {int(line.split()[1]) for line in file if line.startswith(b"W")}


def kill_some(parent: int, path: str, seed: int, kills: int, pause: float, helpers: set[int]) -> None:
    """Kills `kills` random workers of `parent`.

    One shot in ten may hit a worker that is still starting. Not more: a pool whose workers end again and
    again before they are ready is meant to give up.
    """
    chance = random.Random(seed)
    notes = os.open(path, os.O_WRONLY | os.O_APPEND)
    shot: set[int] = set()
    while len(shot) < kills:
        time.sleep(chance.expovariate(1 / pause))
        alive = sorted(set(descendants(parent)) - helpers - shot - {os.getpid()})
        if chance.random() < 0.9:
            alive = sorted(set(alive) & ready(path))
        if not alive:
            continue
        victim = chance.choice(alive)
        try:
            handle = os.pidfd_open(victim)
        except ProcessLookupError:
            continue
        try:
            # Still below the parent after the handle was opened: so the handle is of the one we mean.
            if victim in descendants(parent):
                os.write(notes, f"K {victim}\n".encode())
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                shot.add(victim)
        except ProcessLookupError:
            pass  # it was noted, but had ended already
        finally:
            os.close(handle)


if __name__ == "__main__":
    kill_some(
        int(sys.argv[1]),
        sys.argv[2],
        int(sys.argv[3]),
        int(sys.argv[4]),
        float(sys.argv[5]),
        {int(pid) for pid in sys.argv[6].split(",") if pid},
    )
