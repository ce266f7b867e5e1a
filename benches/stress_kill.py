"""Kills random workers with SIGKILL at random moments, and checks every single task.

    stress_kill.py [--kills 500] [--method fork|spawn|forkserver|all] [--seed N]

For each start method a pool runs rounds of mixed tasks (trivial, sleeping, computing, failing, large
arguments, large results) through imap_unordered, imap, map, apply_async and starmap_async, while a
killer process shoots workers. Tasks write down when they start and when they finish; from these notes
it is known what each kill hit. Checked, task by task:

- every task either gives its right answer (or its own exception), or raises WorkerDied;
- WorkerDied is raised only for a worker that was shot, with its pid and signal, for one task a shot;
- a task that had started and not finished when its worker was shot raises WorkerDied and is not run again;
- nothing hangs: a supervisor ends a run that makes no progress, with tracebacks;
- afterwards no process, file descriptor, mapping of ours or entry in /dev/shm is left.

The seed decides tasks, their order and the killer's pauses; the moments themselves are the machine's.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
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
from typing import Any

import killing
from killing import Task, descendants

WORKERS = 4
METHODS = ("fork", "spawn", "forkserver")
# Mean pause between two kills: long enough that a new worker gets to work.
PAUSE = {"fork": 0.010, "forkserver": 0.020, "spawn": 0.060}
SILENCE = 60.0


class Wrong(Exception):
    """A task had the wrong outcome."""


def make_tasks(chance: random.Random, first: int, count: int) -> list[Task]:
    """A mix of tasks, numbered from `first`."""
    kinds = chance.choices(list(killing.KINDS), weights=list(killing.KINDS.values()), k=count)
    return [Task(first + i, kind, chance.random()) for i, kind in enumerate(kinds)]


# The ways to run a list of tasks; each gives (task or None, result or exception). None: the way
# does not say which task an exception belongs to.


def by_apply_async(pool: Any, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """One by one, results collected in any order."""
    waiting = [(task, pool.apply_async(killing.work, (task,))) for task in tasks]
    chance.shuffle(waiting)
    for task, result in waiting:
        yield task, outcome(result.get)


def by_imap(pool: Any, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """In order, lazily."""
    results = pool.imap(killing.work, iter(tasks))
    for task in tasks:
        yield task, outcome(results.next)


def by_imap_unordered(pool: Any, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """As they come."""
    results = pool.imap_unordered(killing.work, iter(tasks))
    by_number = {task.number: task for task in tasks}
    for _ in tasks:
        found = outcome(results.next)
        # A result and a failure on purpose say which task they are of.
        number = found[0] if isinstance(found, tuple) else found.args[1] if type(found) is ValueError else None
        yield by_number.get(number), found


def by_map(pool: Any, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """All at once: one exception stands for the whole map, so tasks that fail on their own stay out."""
    tasks = [task._replace(kind="trivial") if task.kind == "fails" else task for task in tasks]
    found = outcome(lambda: pool.map(killing.work, tasks, chunksize=1))
    if isinstance(found, BaseException):
        yield None, found
    else:
        yield from zip(tasks, found, strict=True)


def by_starmap_async(pool: Any, tasks: list[Task], chance: random.Random) -> Iterator[tuple[Task | None, Any]]:
    """As `by_map`, collected by the pool's own thread."""
    tasks = [task._replace(kind="trivial") if task.kind == "fails" else task for task in tasks]
    result = pool.starmap_async(killing.work, [(task,) for task in tasks], chunksize=1)
    while not result.ready():
        result.wait(0.01)
    found = outcome(result.get)
    if isinstance(found, BaseException):
        yield None, found
    else:
        yield from zip(tasks, found, strict=True)


WAYS: list[Callable[..., Iterator[tuple[Task | None, Any]]]] = [
    by_apply_async,
    by_imap_unordered,
    by_imap,
    by_map,
    by_starmap_async,
]


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
    way: str, tasks: list[Task], found: list[tuple[Task | None, Any]], notes: Notes, blamed: set[int]
) -> int:
    """Checks every outcome of one round; returns how many tasks a kill took."""
    from manyhands import WorkerDied

    notes.read()
    shot = set(notes.killed)
    numbers = {task.number for task in tasks}
    lost = 0
    answered: set[int] = set()
    for task, result in found:
        if isinstance(result, WorkerDied):
            lost += 1
            if result.pid not in shot:
                raise Wrong(f"{way}: WorkerDied names process {result.pid}, which nobody shot: {result}")
            if result.signal_name != "SIGKILL" or result.exitcode != -signal.SIGKILL:
                raise Wrong(
                    f"{way}: WorkerDied says {result.exitcode=} {result.signal_name=} of a process killed by SIGKILL"
                )
            if result.pid in blamed:
                raise Wrong(f"{way}: two tasks raised WorkerDied for the one death of process {result.pid}")
            blamed.add(result.pid)
            if task is None:
                continue
            if notes.started[task.number] not in ([], [result.pid]):
                raise Wrong(f"{way}: {task} raised {result}, but ran in {notes.started[task.number]}")
            answered.add(task.number)
        elif task is None:
            raise Wrong(f"{way}: unexpected outcome {result!r}")
        else:
            right = killing.answer(task)
            if isinstance(right, Exception):
                if type(result) is not type(right) or result.args != right.args:
                    raise Wrong(f"{way}: {task} should raise {right!r}, but gave {result!r:.200}")
            elif result != right:
                raise Wrong(f"{way}: {task} gave a wrong result: {result!r:.200}")
            if task.number in answered:
                raise Wrong(f"{way}: {task} was answered twice")
            answered.add(task.number)
    if way in ("by_map", "by_starmap_async") and lost:
        # One exception stands for all; the notes tell of the others.
        unfinished = numbers - notes.finished
        explained = {notes.last[pid] for pid in shot if pid in notes.last}
        # A worker may be shot after it took a task and before the task's first note.
        unexplained = {number for number in unfinished - explained if notes.started[number]}
        if unexplained:
            raise Wrong(f"{way}: tasks started and never finished, on workers that nobody shot: {unexplained}")
        lost = max(lost, len(unfinished))
    else:
        hit = {notes.last[pid] for pid in shot if pid in notes.last} & numbers - notes.finished
        for task, result in found:
            if task is not None and task.number in hit and not isinstance(result, WorkerDied):
                raise Wrong(f"{way}: {task} had not finished when its worker was shot, but gave {result!r:.200}")
        missing = len(numbers) - len(answered)
        nameless = sum(task is None for task, _ in found)
        if missing != nameless:
            raise Wrong(f"{way}: {missing} tasks without an answer, {nameless} deaths that name no task")
    for number in numbers:
        if len(notes.started[number]) > 1:
            raise Wrong(f"{way}: task {number} was started twice, by {notes.started[number]}")
    return lost


def leftovers() -> dict[str, Any]:
    """What this process holds: what must not grow."""
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
        before = leftovers()
        helpers = set(descendants(os.getpid()))

        notes, blamed, totals = Notes(path), set[int](), collections.Counter[str]()
        pool = context.Pool(WORKERS, killing.prepare, (path,))
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
                last_round = killer.poll() is not None
                way = WAYS[rounds % len(WAYS)]
                tasks = make_tasks(chance, number, chance.choice([1, 20, 60, 200]))
                number += len(tasks)
                rounds += 1
                found = list(way(pool, tasks, chance))
                totals["lost"] += check_round(way.__name__, tasks, found, notes, blamed)
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
        del pool
        notes.close()
        if len(notes.killed) < kills:
            raise Wrong(f"the killer shot only {len(notes.killed)} of {kills} workers")

        deadline = time.monotonic() + 10
        while (left := set(descendants(os.getpid())) - helpers) and time.monotonic() < deadline:
            manyhands.active_children()
            time.sleep(0.02)
        after = leftovers()
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
