"""Opens and closes pools by the thousand, and looks whether anything grows: descriptors, mappings, threads, memory, names.

    stress_pools.py [--pools 10000] [--seed N]

Eight of ten pools fork their workers, the others are shared by the fork server and by spawn, which takes ten times as
long. Each pool answers a small map, some also take a large array or lose a worker, and then they are closed and joined,
terminated, left by `with`, dropped, or are an executor that is shut down; the seed says which. After a tenth of them all
that is made once is there: from then on

- descriptors, threads, children and names in /dev/shm stay as many;
- mappings and private memory are what they were, but for what an allocator keeps.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import manyhands
from manyhands import WorkerDied

SHARES = {"fork": 0.8, "forkserver": 0.15, "spawn": 0.05}
ENDINGS = ("join", "terminate", "with", "drop", "executor")
# What an allocator may keep, in kB, and in mappings: a leak of one byte a pool is below, one of a descriptor's entry,
# a thread's stack or a page a pool is far above.
SLACK_KB = 4_000
SLACK_MAPPINGS = 12


class Wrong(Exception):
    """Something grows, or an answer is wrong."""


def double(number: int) -> int:
    return 2 * number


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def work(pool: Any, chance: random.Random) -> None:
    """Has a pool do what pools do, and checks what it answers."""
    numbers = [chance.randrange(1000) for _ in range(chance.choice([1, 5, 50]))]
    if list(pool.map(double, numbers)) != [2 * number for number in numbers]:
        raise Wrong("a map's answer is wrong")
    if chance.random() < 0.02:
        size = 2_000_000
        if list(map(len, pool.map(bytes, [size]))) != [size]:
            raise Wrong("a large answer is wrong")
    if chance.random() < 0.02 and hasattr(pool, "apply"):
        with contextlib.suppress(WorkerDied):
            pool.apply(die)
            raise Wrong("a killed worker's task has an answer")


def one(context: Any, ending: str, chance: random.Random) -> None:
    """Opens a pool, uses it, and ends it."""
    if ending == "executor":
        with manyhands.ProcessPoolExecutor(2, mp_context=context) as executor:
            work(executor, chance)
        return
    pool = context.Pool(chance.choice([1, 2]))
    work(pool, chance)
    if ending == "join":
        pool.close()
        pool.join()
    elif ending == "terminate":
        pool.terminate()
        pool.join()
    elif ending == "with":
        with pool:
            pass
    else:
        del pool
        gc.collect()


def figures() -> dict[str, int]:
    """What must not grow."""
    gc.collect()
    rollup = Path("/proc/self/smaps_rollup").read_text()
    private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Private_", "Swap:")))
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "mappings": Path("/proc/self/maps").read_text().count("\n"),
        "private kB": private,
    }


def settled() -> dict[str, int]:
    """The figures, once what ends by itself has ended: threads that a dropped pool leaves have a moment for that."""
    end = time.monotonic() + 10
    while manyhands.active_children() or threading.active_count() > 1:
        if time.monotonic() > end:
            raise Wrong(f"left behind: {manyhands.active_children()}, {threading.enumerate()}")
        time.sleep(0.01)
    return figures()


def main() -> int:
    """Runs all of it and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pools", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 20) if options.seed is None else options.seed
    print(
        f"stress of pools: {options.pools} opened and closed, seed {seed}, Python {sys.version.split()[0]}", flush=True
    )
    chance = random.Random(seed)
    names = set(os.listdir("/dev/shm"))
    for method, share in SHARES.items():
        context, count, began = manyhands.get_context(method), max(int(options.pools * share), 10), time.monotonic()
        before: dict[str, int] = {}
        for number in range(count):
            if number == count // 10:
                before = settled()
            one(context, chance.choice(ENDINGS), chance)
        after = settled()
        print(f"{method}: {count} pools, {time.monotonic() - began:.0f} s; " + ", ".join(
            f"{name} {before[name]} to {after[name]}" for name in after
        ), flush=True)  # fmt: skip
        slack = {"mappings": SLACK_MAPPINGS, "private kB": SLACK_KB}
        grown = [name for name in after if after[name] > before[name] + slack.get(name, 0)]
        new = {name for name in set(os.listdir("/dev/shm")) - names if name.startswith(("pymp", "mh"))}
        if grown or new:
            print(f"WRONG {method}: {grown or new} grew")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
