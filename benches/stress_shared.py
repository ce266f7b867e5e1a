"""Kills holders of locks, parties of barriers, producers and consumers of queues with SIGKILL at random moments.

    stress_shared.py [--kills 500] [--method fork|spawn|forkserver|all] [--seed N]

One process of each pair is killed again and again, the other one checks what is left:

- a lock whose holder was killed raises OwnerDied once and is then a lock again; one that was free guards what is whole;
- a barrier lets both pass, or breaks, and can be used again after reset;
- of a producer that was killed all items come, each once, whole and in order, up to some point;
- of what a consumer that was killed had not got, nothing is missing but the one item that it was about to get;
- nothing hangs, and afterwards no process, descriptor or entry in /dev/shm is left.

The seed decides the pauses; the moments themselves are the machine's.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import queue
import random
import sys
import threading
import time
from typing import Any

import manyhands
from manyhands import OwnerDied

METHODS = ("fork", "spawn", "forkserver")
# How long anything may take, in seconds.
PATIENCE = 30.0


class Wrong(Exception):
    """Something was left that must not be."""


def claim(fact: object, what: str) -> None:
    if not fact:
        raise Wrong(what)


# ---- what the victims do ----


def change(lock: Any, numbers: Any, begun: Any) -> None:
    """Changes two numbers that are always the same while the lock is free."""
    begun.set()
    while True:
        with lock:
            numbers[0] += 1
            numbers[1] += 1


def meet(barrier: Any, begun: Any) -> None:
    begun.set()
    while True:
        barrier.wait()


def item(number: int, size: int) -> bytes:
    """A long one that shows whether it is whole."""
    return number.to_bytes(8, "little") * (size // 8)


def produce(items: Any, seed: int, begun: Any) -> None:
    chance = random.Random(seed)
    begun.set()
    number = 0
    while True:
        items.put(item(number, chance.choice([16, 100, 1000, 3000])))
        number += 1


def consume(items: Any, got: Any, begun: Any) -> None:
    begun.set()
    while True:
        got.value = int.from_bytes(items.get()[:8], "little") + 1


# ---- what is checked ----


class Rounds:
    """Kills one victim after the other."""

    def __init__(self, context: Any, chance: random.Random, kills: int) -> None:
        self.context = context
        self.chance = chance
        self.kills = kills

    def victim(self, target: Any, *args: Any) -> Any:
        """A process that has begun."""
        begun = self.context.Event()
        process = self.context.Process(target=target, args=(*args, begun), daemon=True)
        process.start()
        claim(begun.wait(PATIENCE), f"{target.__name__} did not begin")
        return process

    def pause(self) -> None:
        time.sleep(self.chance.random() * 0.003)

    def locks(self) -> str:
        told = 0
        numbers = self.context.RawArray("q", 2)
        for kind in ("Lock", "RLock", "Condition"):
            lock = getattr(self.context, kind)()
            for _ in range(self.kills // 3):
                process = self.victim(change, lock, numbers)
                self.pause()
                process.kill()
                process.join()
                try:
                    claim(lock.acquire(), "acquire() without a limit returned without the lock")
                    claim(numbers[0] == numbers[1], f"a {kind} was free and guards {list(numbers)}")
                except OwnerDied as death:
                    told += 1
                    claim(death.pid == process.pid, f"{death} is not about {process.pid}")
                    claim(lock.acquire(timeout=PATIENCE) if kind != "Condition" else lock.acquire(), "it is no lock")
                numbers[0] = numbers[1]
                lock.release()
        claim(told, "no holder was ever hit")
        return f"{told} of {self.kills // 3 * 3} were holders"

    def barriers(self) -> str:
        broken = 0
        barrier = self.context.Barrier(2)
        for _ in range(self.kills // 5):
            process = self.victim(meet, barrier)
            killer = threading.Timer(self.chance.random() * 0.01, process.kill)
            killer.start()
            try:
                for _ in range(1_000_000):
                    barrier.wait(1.5)
                raise Wrong("the other party was not killed")
            except threading.BrokenBarrierError:
                broken += 1
            killer.join()
            process.join()
            barrier.reset()
            claim(barrier.n_waiting == 0, f"{barrier.n_waiting} wait at a barrier where nobody is")
        return f"{broken} broke"

    def producers(self) -> str:
        items, came, lost = self.context.Queue(), 0, 0
        for _ in range(self.kills):
            process = self.victim(produce, items, self.chance.getrandbits(30))
            self.pause()
            process.kill()
            process.join()
            number = 0
            while True:
                try:
                    got = items.get(timeout=0.02)
                except queue.Empty:
                    break
                except OSError as error:
                    # Half of an item that went through the pipe is left there: the error says so, and to take a new one.
                    claim("use a new queue" in str(error), str(error))
                    items, lost = self.context.Queue(), lost + 1
                    break
                claim(got == item(number, len(got)), f"item {number} is not what was put, or not the next one")
                number += 1
            came += number
            # What was killed in the very moment of a put may come with the next item only: that is a new producer's.
            if not items.empty():
                items.get()
        return f"{came:,} items came" + (f", {lost} queues were given up" if lost else "")

    def consumers(self) -> str:
        items, got = self.context.Queue(), self.context.RawValue("q")
        number, missing = 0, 0
        for _ in range(self.kills):
            process = self.victim(consume, items, got)
            first = number
            got.value = first
            for _ in range(200):
                items.put(item(number, 64))
                number += 1
            self.pause()
            process.kill()
            process.join()
            expected = got.value
            while expected < number:
                try:
                    found = int.from_bytes(items.get(timeout=PATIENCE)[:8], "little")
                except queue.Empty:
                    # The very last one was in the hands of the dead.
                    claim(expected == number - 1, f"items {expected} to {number - 1} never came")
                    break
                claim(found in (expected, expected + 1), f"item {found} came, after {expected - 1} was got")
                missing += found - expected
                expected = found + 1
        return f"{number:,} items, {missing} went with their consumer"


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def main() -> int:
    """Runs all of it and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--method", default="all", choices=[*METHODS, "all"])
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 20) if options.seed is None else options.seed
    print(f"stress of what is shared: {options.kills} kills of each kind, seed {seed}, Python {sys.version.split()[0]}")
    for method in METHODS if options.method == "all" else [options.method]:
        rounds = Rounds(manyhands.get_context(method), random.Random(seed), options.kills)
        for kind in ("locks", "barriers", "producers", "consumers"):
            names, before = set(os.listdir("/dev/shm")), 0
            for kills in (3, options.kills):
                # The first ones bring what is made once.
                rounds.kills = max(kills, 5)
                faulthandler.dump_traceback_later(120 + 3 * kills, exit=True)
                began = time.monotonic()
                try:
                    result = getattr(rounds, kind)()
                except Wrong as wrong:
                    if kills < options.kills and "was ever hit" in str(wrong):
                        continue
                    print(f"WRONG {method} {kind}: {wrong}")
                    return 1
                finally:
                    faulthandler.cancel_dump_traceback_later()
                left = descriptors()
                if kills == options.kills and before and left > before + 4:
                    print(f"WRONG {method} {kind}: {left} descriptors are open, {before} were after the first kills")
                    return 1
                before = left
            new = {name for name in set(os.listdir("/dev/shm")) - names if "pymp" in name or "psm_" in name}
            if new or manyhands.active_children():
                print(f"WRONG {method} {kind}: left behind: {new or manyhands.active_children()}")
                return 1
            print(f"ok {method} {kind}: {result}, {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
