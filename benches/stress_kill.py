"""Kills random workers with SIGKILL at random moments, and checks every single task.

    stress_kill.py [--kills 500] [--method fork|spawn|forkserver|all] [--seed N]

For each start method a pool runs rounds of mixed tasks (trivial, sleeping, computing, failing, large
arguments, large results) through imap_unordered, imap, map, apply_async and starmap_async, while a
killer process shoots workers. As in the benchmarks, maps are also run with default chunks, with arrays of
8 MB in and out and with a function that a large array is bound to, and executors take tasks by submit and
map. Tasks write down when they start and when they finish; from these notes it is known what each kill hit.
Checked, task by task:

- every task either gives its right answer (or its own exception), or raises WorkerDied;
- WorkerDied is raised only for a worker that was shot, with its pid and signal, for one task a shot;
- a task that had started and not finished when its worker was shot raises WorkerDied and is not run again;
- an executor breaks only by a worker that was shot, names it to each task that it leaves without an answer, and
  what it had answered before is right;
- nothing hangs: a supervisor ends a run that makes no progress, with tracebacks;
- afterwards no process, file descriptor, mapping of ours or entry in /dev/shm is left.

The seed decides tasks, their order and the killer's pauses; the moments themselves are the machine's.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import gc
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import killing
from killing import Task, descendants

WORKERS = 4
METHODS = ("fork", "spawn", "forkserver")
# Mean pause between two kills: long enough that a new worker gets to work.
PAUSE = {"fork": 0.010, "forkserver": 0.020, "spawn": 0.060}
SILENCE = 60.0


class Wrong(Exception):
    """A task had the wrong outcome."""


def make_tasks(way: Way, chance: random.Random, first: int) -> list[Task]:
    """A mix of tasks, numbered from `first`."""
    weights, count = killing.KINDS, chance.choice([1, 20, 60, 200])
    if way in ARRAYS:
        # Many would not get far between two kills.
        weights, count = killing.BULKY, min(count, MOST_ARRAYS)
    kinds = chance.choices(list(weights), weights=list(weights.values()), k=count)
    return [Task(first + i, kind, chance.random()) for i, kind in enumerate(kinds)]


class Place(NamedTuple):
    """Where tasks are run: a pool that lives through all kills, and what it takes to start an executor."""

    pool: Any
    context: Any
    notes: str


Way = Callable[[Place, list[Task], random.Random], Iterator[tuple[Task | None, Any]]]

# The ways to run a list of tasks; each gives (task or None, result or exception). None: the way
# does not say which task an exception belongs to.


def by_apply_async(place: Place, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """One by one, results collected in any order."""
    waiting = [(task, place.pool.apply_async(killing.work, (task,))) for task in tasks]
    chance.shuffle(waiting)
    for task, result in waiting:
        yield task, outcome(result.get)


def by_imap(place: Place, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """In order, lazily."""
    results = place.pool.imap(killing.work, iter(tasks))
    for task in tasks:
        yield task, outcome(results.next)


def by_imap_unordered(place: Place, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """As they come."""
    results = place.pool.imap_unordered(killing.work, iter(tasks))
    by_number = {task.number: task for task in tasks}
    for _ in tasks:
        found = outcome(results.next)
        # A result and a failure on purpose say which task they are of.
        number = found[0] if isinstance(found, tuple) else found.args[1] if type(found) is ValueError else None
        yield by_number.get(number), found


def by_map(place: Place, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """All at once, every task by itself."""
    return all_or_nothing(tasks, lambda tasks: place.pool.map(killing.work, tasks, chunksize=1))


def by_default_map(place: Place, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """All at once, in chunks as the pool sees fit."""
    return all_or_nothing(tasks, lambda tasks: place.pool.map(killing.work, tasks))


def by_bound_map(place: Place, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """The same with a large array bound to the function."""
    beside = functools.partial(killing.work_beside, killing.bound())
    return all_or_nothing(tasks, lambda tasks: place.pool.map(beside, tasks))


def by_bound_imap(place: Place, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """The same, in order and lazily: so what other tasks than the one that was hit give is known too."""
    results = place.pool.imap(functools.partial(killing.work_beside, killing.bound()), iter(tasks))
    for task in tasks:
        yield task, outcome(results.next)


def by_array_map(place: Place, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """Arrays of 8 MB in and out, all at once, in chunks as the pool sees fit."""
    return by_default_map(place, tasks, chance)


def by_array_imap(place: Place, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """Arrays of 8 MB in and out, in order and lazily."""
    return by_imap(place, tasks, chance)


def by_starmap_async(place: Place, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """As `by_map`, collected by the pool's own thread."""

    def run(tasks: list[Task]) -> Any:
        result = place.pool.starmap_async(killing.work, [(task,) for task in tasks], chunksize=1)
        while not result.ready():
            result.wait(0.01)
        return result.get()

    return all_or_nothing(tasks, run)


def by_submit(place: Place, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """One by one to an executor, results collected in any order."""
    with executor(place) as crew:
        # Once a worker was shot it takes nothing more.
        waiting = [(task, outcome(lambda task=task: crew.submit(killing.work, task))) for task in tasks]
        chance.shuffle(waiting)
        for task, future in waiting:
            yield task, future if isinstance(future, Exception) else outcome(future.result)


def by_executor_map(place: Place, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """The map of an executor."""
    with executor(place) as crew:
        yield from all_or_nothing(tasks, lambda tasks: list(crew.map(killing.work, tasks)))


def executor(place: Place) -> Any:
    """An executor for one round: it ends with the first worker that is shot."""
    import manyhands

    return manyhands.ProcessPoolExecutor(WORKERS, place.context, killing.prepare, (place.notes,))


def all_or_nothing(tasks: list[Task], run: Callable[[list[Task]], Any]) -> Iterator[tuple[Task | None, Any]]:
    """One exception stands for all the tasks, so those that fail on their own stay out."""
    tasks = [task._replace(kind="trivial") if task.kind == "fails" else task for task in tasks]
    found = outcome(lambda: run(tasks))
    if isinstance(found, BaseException):
        yield None, found
    else:
        yield from zip(tasks, found, strict=True)


WAYS: list[Way] = [
    by_apply_async,
    by_imap_unordered,
    by_default_map,
    by_imap,
    by_array_imap,
    by_map,
    by_bound_imap,
    by_submit,
    by_starmap_async,
    by_array_map,
    by_bound_map,
    by_executor_map,
]
# One exception stands for all tasks of such a round.
ALL_OR_NOTHING = {by_map, by_default_map, by_array_map, by_bound_map, by_starmap_async, by_executor_map}
EXECUTORS = {by_submit, by_executor_map}
ARRAYS = {by_array_map, by_array_imap}
MOST_ARRAYS = 12


def outcome(get: Callable[[], Any]) -> Any:
    """What a call returns, or the exception that it raises."""
    try:
        return get()
    except Exception as error:
        return error


class Notes:
    """What workers and the killer wrote down: S(tarted), F(inished) and K(illed), read as it grows."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - lives as long as the run
        self._rest = b""
        self.started: dict[int, list[int]] = collections.defaultdict(list)  # task -> workers
        self.finished: set[int] = set()
        self.last: dict[int, int] = {}  # worker -> the task it started last
        self.killed: list[int] = []

    def read(self) -> None:
        """Takes in what was written since the last time."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            what, worker, *task = line.split()
            if what == b"S":
                self.started[int(task[0])].append(int(worker))
                self.last[int(worker)] = int(task[0])
            elif what == b"F":
                self.finished.add(int(task[0]))
            elif what == b"K":
                self.killed.append(int(worker))

    def close(self) -> None:
        """The file is no longer needed."""
        self._file.close()


def check_round(
    way: Way, tasks: list[Task], found: list[tuple[Task | None, Any]], notes: Notes, blamed: set[int]
) -> int:
    """Checks every outcome of one round; returns how many tasks a kill took."""
    from manyhands import WorkerDied

    notes.read()
    deaths = [(task, result) for task, result in found if isinstance(result, WorkerDied)]
    for _, death in deaths:
        if death.pid not in notes.killed:
            raise Wrong(f"WorkerDied names process {death.pid}, which nobody shot: {death}")
        if death.signal_name != "SIGKILL" or death.exitcode != -signal.SIGKILL:
            raise Wrong(f"WorkerDied says {death.exitcode=} {death.signal_name=} of a process killed by SIGKILL")
    answered: set[int] = set()
    for task, result in found:
        if isinstance(result, WorkerDied):
            continue
        if task is None:
            raise Wrong(f"unexpected outcome {result!r:.500}")
        right = killing.answer(task)
        if isinstance(right, Exception):
            if type(result) is not type(right) or result.args != right.args:
                raise Wrong(f"{task} should raise {right!r}, but gave {result!r:.200}")
        elif result != right:
            raise Wrong(f"{task} gave a wrong result: {result!r:.200}")
        if task.number in answered:
            raise Wrong(f"{task} was answered twice")
        if task.number not in notes.finished:
            raise Wrong(f"{task} was answered and never finished: {result!r:.200}")
        answered.add(task.number)
    for task in tasks:
        if len(notes.started[task.number]) > 1:
            raise Wrong(f"task {task.number} was started twice, by {notes.started[task.number]}")
    if way in EXECUTORS:
        return lost_by_executor(tasks, deaths, answered)
    pids = [death.pid for _, death in deaths]
    if len({*pids}) < len(pids) or not blamed.isdisjoint(pids):
        raise Wrong(f"two tasks raised WorkerDied for the one death of a process, of {pids}")
    blamed.update(pids)
    if way in ALL_OR_NOTHING:
        return lost_by_map(tasks, deaths, notes)
    return lost_by_pool(tasks, deaths, answered, notes)


def lost_by_pool(tasks: list[Task], deaths: list[tuple[Task | None, Any]], answered: set[int], notes: Notes) -> int:
    """Checks that a kill took the task it hit, and no other."""
    for task, death in deaths:
        if task is not None and notes.started[task.number] not in ([], [death.pid]):
            raise Wrong(f"{task} raised {death}, but ran in {notes.started[task.number]}")
    hit = {notes.last[pid] for pid in notes.killed if pid in notes.last} - notes.finished
    if hit & answered:
        raise Wrong(f"tasks that had not finished when their worker was shot were answered: {hit & answered}")
    named = {task.number for task, _ in deaths if task is not None}
    nameless = len(deaths) - len(named)
    missing = {task.number for task in tasks} - answered - named
    if len(missing) != nameless:
        raise Wrong(f"{len(missing)} tasks without an answer, {nameless} deaths that name no task")
    return len(deaths)


def lost_by_map(tasks: list[Task], deaths: list[tuple[Task | None, Any]], notes: Notes) -> int:
    """Checks that the tasks of a map that failed, and have not finished, were hit by a kill; the notes tell of them."""
    unfinished = {task.number for task in tasks} - notes.finished if deaths else set[int]()
    explained = {notes.last[pid] for pid in notes.killed if pid in notes.last}
    # A worker may be shot after it took a task and before the task's first note.
    unexplained = {number for number in unfinished - explained if notes.started[number]}
    if unexplained:
        raise Wrong(f"tasks started and never finished, on workers that nobody shot: {unexplained}")
    return max(len(deaths), len(unfinished))


def lost_by_executor(tasks: list[Task], deaths: list[tuple[Task | None, Any]], answered: set[int]) -> int:
    """Checks that one death broke the executor, if any, and that no task is without an answer but for it."""
    if len({death.pid for _, death in deaths}) > 1:
        raise Wrong(f"an executor broke by several deaths: {[death for _, death in deaths]!r:.500}")
    missing = {task.number for task in tasks} - answered
    if missing and not deaths:
        raise Wrong(f"an executor that did not break left tasks without an answer: {missing}")
    return len(missing)


def leftovers() -> dict[str, Any]:
    """What this process holds: what must not grow."""
    # Exceptions hold frames that hold them: a broken executor's, for one.
    gc.collect()
    with open("/proc/self/maps") as file:
        lines = file.read().splitlines()
    return {
        "file descriptors": len(os.listdir("/proc/self/fd")),
        "mappings of memfds": sum("memfd" in line for line in lines),
        "mappings": len(lines),
        "/dev/shm": killing.abandoned_memory(),
        "threads": len(os.listdir("/proc/self/task")),
    }


def run(method: str, kills: int, seed: int) -> None:
    """The stress of one start method, in this process."""
    import manyhands

    chance = random.Random(f"{seed} {method}")
    context = manyhands.get_context(method)
    with tempfile.TemporaryDirectory(prefix="manyhands-stress-") as folder:
        path = os.path.join(folder, "notes")
        Path(path).touch()
        # Everything that a first pool brings with it (server, caches, imports) belongs to the baseline.
        for _ in range(2):
            with context.Pool(WORKERS, killing.prepare, (path,)) as pool:
                assert pool.map(abs, range(-50, 0), chunksize=1) == list(range(50, 0, -1))
                pool.close()
                pool.join()
            with manyhands.ProcessPoolExecutor(WORKERS, context, killing.prepare, (path,)) as first:
                assert list(first.map(abs, [-1, -2])) == [1, 2]
        assert issubclass(manyhands.BrokenProcessPool, manyhands.WorkerDied)  # loaded when it is asked for
        del pool, first
        before = leftovers()
        helpers = set(descendants(os.getpid()))

        notes, blamed, totals = Notes(path), set[int](), collections.Counter[str]()
        # In half of the runs workers leave, and come back, all the time.
        pool = context.Pool(WORKERS, killing.prepare, (path,), idle_timeout=chance.choice([None, 0.02]))
        place = Place(pool, context, path)
        killer = subprocess.Popen(
            [
                sys.executable,
                "-I",
                killing.__file__,
                str(os.getpid()),
                path,
                str(seed),
                str(kills),
                str(PAUSE[method]),
                ",".join(map(str, helpers)),
            ],
        )
        number, rounds = 0, 0
        try:
            while True:
                # Each way has had a round, also where all kills are over sooner.
                last_round = killer.poll() is not None and rounds + 1 >= len(WAYS)
                way = WAYS[rounds % len(WAYS)]
                tasks = make_tasks(way, chance, number)
                number += len(tasks)
                rounds += 1
                try:
                    found = list(way(place, tasks, chance))
                    totals["lost"] += check_round(way, tasks, found, notes, blamed)
                except Exception as error:
                    raise Wrong(f"round {rounds}, {way.__name__}: {error}") from error
                totals["tasks"] += len(tasks)
                print(f"progress {len(notes.killed)} {totals['tasks']} {totals['lost']}", flush=True)
                if last_round:
                    break
        finally:
            killer.kill()
            killer.wait()
        # The pool is as good as new.
        assert pool.map(abs, range(-100, 0), chunksize=1) == list(range(100, 0, -1))
        pool.close()
        pool.join()
        del pool, place
        notes.close()
        if len(notes.killed) < kills:
            raise Wrong(f"the killer shot only {len(notes.killed)} of {kills} workers")

        del found
        deadline = time.monotonic() + 10
        while (left := set(descendants(os.getpid())) - helpers) and time.monotonic() < deadline:
            manyhands.active_children()
            time.sleep(0.02)
        after = leftovers()
        if not after["/dev/shm"] <= before["/dev/shm"]:
            # Another program's has a name before it is mapped; what stays there is nobody's.
            time.sleep(1.0)
            after["/dev/shm"] &= killing.abandoned_memory()
        if left:
            raise Wrong(f"processes left behind: {left}")
        for what in ("file descriptors", "mappings of memfds", "/dev/shm", "threads"):
            if what in ("threads", "/dev/shm") and after[what] <= before[what]:
                continue
            if before[what] != after[what]:
                raise Wrong(f"{what}: {before[what]} before, {after[what]} after")
        # Python's and the C library's own heaps come and go in mappings; a leak of one a kill would show.
        if after["mappings"] - before["mappings"] > max(20, kills // 20):
            raise Wrong(f"mappings: {before['mappings']} before, {after['mappings']} after")
    print(
        f"done {len(notes.killed)} {totals['tasks']} {totals['lost']} {rounds} "
        f"{before['mappings']} {after['mappings']} {after['file descriptors']}",
        flush=True,
    )


def supervise(method: str, kills: int, seed: int) -> bool:
    """Runs one start method in a process of its own and ends it if it falls silent; whether all was right."""
    began = told = time.monotonic()
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-W",
        "ignore",
        __file__,
        "--run",
        method,
        "--kills",
        str(kills),
        "--seed",
        str(seed),
    ]
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        assert child.stdout is not None
        while select.select([child.stdout], [], [], SILENCE)[0]:
            line = child.stdout.readline()
            if not line:
                break
            last = line
            if line.startswith("progress") and (sys.stdout.isatty() or time.monotonic() - told > 15):
                told = time.monotonic()
                shot, tasks, lost = line.split()[1:]
                text = f"  {method}: {shot} of {kills} kills · {int(tasks):,} tasks, {lost} lost · {told - began:.0f} s"
                print(
                    f"\r\033[K{text}" if sys.stdout.isatty() else text,
                    end="" if sys.stdout.isatty() else "\n",
                    flush=True,
                )
        else:
            print(f"\nFAIL {method}: no progress for {SILENCE:.0f} s (seed {seed}); tracebacks of all threads follow")
            sys.stdout.flush()
            child.send_signal(signal.SIGABRT)
            time.sleep(2)
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            return False
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    words = last.split()
    if child.returncode or words[:1] != ["done"]:
        print(f"FAIL {method} (seed {seed}): exit status {child.returncode}, after: {last.strip()}")
        return False
    shot, tasks, lost, rounds, before, after, fds = map(int, words[1:])
    print(
        f"ok {method}: {shot} workers killed during {tasks:,} tasks in {rounds} rounds, {time.monotonic() - began:.0f} s; {lost} tasks "
        f"lost with their worker, every other one right; nothing left behind ({fds} file descriptors, mappings {before} -> {after})"
    )
    return True


def main() -> int:
    """Runs the chosen start methods one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500, help="how many workers are shot for each start method")
    parser.add_argument("--method", choices=[*METHODS, "all"], default="all")
    parser.add_argument("--seed", type=int, default=None, help="replays tasks and pauses (default: a new one, printed)")
    parser.add_argument("--run", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        try:
            run(options.run, options.kills, options.seed)
        except Wrong as wrong:
            print(f"\n{wrong}", file=sys.stderr)
            return 1
        return 0
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"stress: {options.kills} kills for each start method, seed {seed}, Python {sys.version.split()[0]}")
    failed = 0
    for method in METHODS if options.method == "all" else [options.method]:
        failed += not supervise(method, options.kills, seed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
