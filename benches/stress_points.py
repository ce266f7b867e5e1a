"""Has processes kill themselves at every named point of the engine, for every start method, and checks what is left.

    stress_points.py [--kills 3] [--method fork|spawn|forkserver|all] [--seed N] [--only KIND] [--point NAME]

Needs a wheel with the feature `crash-points` (`make stress` builds one). A point's name says who can get there:

- workers of a pool die during mixed tasks, which are checked as in `stress_kill.py`;
- holders of locks and their like, producers and consumers as in `stress_shared.py`;
- managers and their clients as in `stress_family.py`;
- in a whole program (`family.py`) whoever gets there first, the parent included: it comes to an end, right or with an
  error, and leaves nothing.

The seed decides the how manieth time it is. A point that nobody gets to is named at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import family
import stress_kill
from stress_family import Family, supervise
from stress_shared import METHODS, Rounds, Unreached, Wrong, claim

import killing

# By the beginning of a point's name: who may get there.
VICTIMS = {
    "worker.": ["pool"],
    "mailbox.": ["pool"],
    "ring.": ["pool"],
    "arena.": ["pool"],
    "fifo.": ["producers", "consumers"],
    "queue.": ["consumers"],
    "lock.": ["locks"],
    "semaphore.": ["semaphores"],
    "condition.": ["barriers"],
    "event.": ["events"],
    "connection.": ["managers", "clients"],
    "descriptors.": [],
    "manager.": ["managers"],
    "proxy.": ["clients"],
}
KINDS = (
    "pool", "locks", "semaphores", "barriers", "events", "producers", "consumers", "managers", "clients", "program",
)  # fmt: skip
# What a worker gets to once.
AT_THE_START = {"worker.seated", "worker.before-ready", "worker.ready"}
# Where a worker gets to whose answer finds no room.
WITHOUT_ROOM = {"worker.full", "worker.part-sent"}
# A program that does not end by then hangs.
PROGRAM = 60.0


@contextlib.contextmanager
def told(order: str, tickets: int) -> Iterator[tuple[dict[str, str], Path]]:
    """What tells processes that start now to die there, so many at most; and the folder that says who did."""
    with tempfile.TemporaryDirectory(prefix="stress-tickets-") as folder:
        for number in range(tickets):
            Path(folder, f"ticket-{number}").touch()
        yield {"MANYHANDS_CRASH_AT": order, "MANYHANDS_CRASH_TICKETS": folder}, Path(folder)


def dead(folder: Path) -> list[int]:
    """Who has died there."""
    return [int(path.name.split("-")[1]) for path in folder.glob("died-*")]


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Files that are made meanwhile, those of shared memory too, have at most 1 MiB: what is longer goes in parts."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def pool(method: str, point: str, chance: random.Random, kills: int) -> int:
    """Workers of a pool, two of which die there."""
    import manyhands
    from manyhands import forkserver

    del kills
    context = manyhands.get_context(method)
    nth = 1 if point in AT_THE_START else chance.randint(1, 4)
    ways = [way for way in stress_kill.WAYS if way not in stress_kill.EXECUTORS]
    chance.shuffle(ways)
    if point.startswith("arena.") or point in WITHOUT_ROOM:
        ways.sort(key=lambda way: way not in stress_kill.ARRAYS)
    with told(f"{point}:{nth}", 2) as (words, folder), tempfile.NamedTemporaryFile() as file:
        forkserver._forkserver._stop()
        # After this process has looked: its children find it, it does not.
        os.environ.update(words)
        try:
            with little_memory() if point in WITHOUT_ROOM else contextlib.nullcontext():
                workers = context.Pool(3, killing.prepare, (file.name,))
            place = stress_kill.Place(workers, context, file.name)
            notes, blamed, number = stress_kill.Notes(file.name), set[int](), 0
            for way in ways:
                tasks = stress_kill.make_tasks(way, chance, number)
                number += len(tasks)
                found = list(way(place, tasks, chance))
                notes.killed[:] = dead(folder)
                try:
                    stress_kill.check_round(way, tasks, found, notes, blamed)
                except stress_kill.Wrong as error:
                    raise Wrong(f"{way.__name__}: {error}") from error
                if len(notes.killed) == 2:
                    break
        finally:
            for word in words:
                del os.environ[word]
        claim(workers.map(abs, range(-50, 0)) == list(range(50, 0, -1)), "the pool is not as good as new")
        workers.close()
        workers.join()
        notes.close()
        forkserver._forkserver._stop()
        died = len(dead(folder))
    if not died:
        raise Unreached
    return died


def program(method: str, point: str, chance: random.Random, kills: int) -> int:
    """Whoever gets there first in a whole program."""
    died = 0
    for _ in range(kills if method == "fork" else 1):  # the others take some seconds each
        mark = f"{os.getpid()}-{time.monotonic_ns()}"
        with told(f"{point}:{chance.choice([1, 1, 2, 3, 8])}", 1) as (words, folder):
            command = [sys.executable, "-X", "faulthandler", "-W", "ignore", family.__file__, method, "--once"]
            with subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **words, family.MARK: mark},
            ) as one:
                try:
                    out, err = one.communicate(timeout=PROGRAM)
                except subprocess.TimeoutExpired:
                    one.send_signal(signal.SIGABRT)
                    time.sleep(1.0)
                    for pid in family.marked(mark):
                        os.kill(pid, signal.SIGKILL)
                    raise Wrong(f"a program hangs: {one.communicate()[1][-3000:]}") from None
            victims = dead(folder)
            died += len(victims)
            if not victims:
                claim(
                    (one.returncode, out) == (0, "fine\n"),
                    f"nobody died, and it ended with {one.returncode}: {err[-2000:]}",
                )
            end = time.monotonic() + 5.0
            while left := family.marked(mark):
                if time.monotonic() > end:
                    raise Wrong(f"{victims} died, not those: {left}")
                time.sleep(0.005)
    if not died:
        raise Unreached
    return died


def others(kind: str, method: str, point: str, chance: random.Random, kills: int) -> int:
    """What `stress_shared` and `stress_family` check, with victims that die there."""
    nth = 1 if point == "lock.freed-of-the-dead" else chance.choice([1, 2, 3, 5, 20])  # it is told, and goes
    try:
        return others_at(f"{point}:{nth}", kind, method, chance, kills)
    except Unreached:
        return others_at(point, kind, method, chance, kills)  # the first time, if ever


def others_at(order: str, kind: str, method: str, chance: random.Random, kills: int) -> int:
    import manyhands

    if kind in ("managers", "clients"):
        rounds: Rounds | Family = Family(method, chance, kills, order)
    else:
        rounds = Rounds(manyhands.get_context(method), chance, max(kills, 3) * 2, order)
    getattr(rounds, kind)()
    if not rounds.killed:
        raise Unreached
    return rounds.killed


def run(method: str, kind: str, seed: int, kills: int, only: str | None) -> bool:
    """One kind of victims at each point that it may get to, in this process."""
    from manyhands import _engine

    total, unreached = 0, []
    for point, _ in _engine.crash_points():  # type: ignore[attr-defined]
        kinds = next(kinds for beginning, kinds in VICTIMS.items() if point.startswith(beginning))
        if kind not in [*kinds, "program"] or only not in (None, point):
            continue
        faulthandler.dump_traceback_later(200, exit=True)
        print(f"at {point}", file=sys.stderr, flush=True)
        chance = random.Random(f"{seed} {method} {kind} {point}")
        try:
            if kind in ("pool", "program"):
                total += {"pool": pool, "program": program}[kind](method, point, chance, kills)
            else:
                total += others(kind, method, point, chance, kills)
            print(f"reached {point}", flush=True)
        except Unreached:
            unreached.append(point)
        except Wrong as wrong:
            print(f"WRONG {method} {kind} at {point}: {wrong}")
            return False
        finally:
            faulthandler.cancel_dump_traceback_later()
    print(
        f"ok {method} {kind}: {total} kills at named points; not reached: {', '.join(unreached) or 'none'}", flush=True
    )
    return True


def main() -> int:
    """Runs all of it and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=3, help="at each point, for each kind of victim and start method")
    parser.add_argument("--method", default="all", choices=[*METHODS, "all"])
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", choices=KINDS, action="append", help="this kind of victim; again for another one")
    parser.add_argument("--point")
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return not run(options.method, options.only[0], options.seed, options.kills, options.point)
    seed = random.SystemRandom().randrange(1 << 20) if options.seed is None else options.seed
    print(
        f"stress at named points: {options.kills} kills at each, seed {seed}, Python {sys.version.split()[0]}",
        flush=True,
    )
    wrong = 0
    for method in METHODS if options.method == "all" else [options.method]:
        for kind in options.only or KINDS:
            arguments = [__file__, "--run", "--method", method, "--only", kind]
            arguments += ["--kills", str(options.kills), "--seed", str(seed)]
            arguments += ["--point", options.point] if options.point else []
            wrong += not supervise(method, kind, arguments, 1200, {})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
