"""Kills holders of locks, parties of barriers, producers and consumers of queues with SIGKILL at random moments.

    stress_shared.py [--kills 500] [--method fork|spawn|forkserver|all] [--seed N]

One process of each pair is killed again and again, the other one checks what is left:

- a lock whose holder was killed raises OwnerDied once and is then a lock again; one that was free guards what is whole;
- a barrier lets both pass, or breaks, and can be used again after reset;
- a semaphore has lost what its dead holder had taken, no more; who waits for one that is given gets it;
- an event that a killed process has set is set, and who waits for it is told;
- of a producer that was killed all items come, each once, whole and in order, up to some point;
- of what a consumer that was killed had not got, nothing is missing but the one item that it was about to get;
- nothing hangs, and afterwards no process, descriptor or entry in /dev/shm is left.

With an order ("fifo.shown:3", see `stress_points.py`) the victims kill themselves at that point instead. The seed decides the pauses; the moments themselves are the machine's.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import queue
import random
import signal
import sys
import threading
import time
from typing import Any

import killing
import manyhands
from manyhands import OwnerDied

METHODS = ("fork", "spawn", "forkserver")
# How long anything may take, in seconds.
PATIENCE = 30.0
# How long a victim may take to get to the point where it is to die.
SPARED = 1.5
KINDS = ("locks", "barriers", "semaphores", "events", "producers", "consumers")


class Wrong(Exception):
    """Something was left that must not be."""


class Unreached(Exception):
    """A victim did not get to the point where it was to die."""


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


def hold(lock: Any, holds: Any) -> None:
    """Holds it until it is killed."""
    with lock:
        holds.set()
        time.sleep(PATIENCE)


def meet(barrier: Any, begun: Any) -> None:
    begun.set()
    while True:
        barrier.wait()


def item(number: int, size: int) -> bytes:
    """A long one that shows whether it is whole."""
    return number.to_bytes(8, "little") * (size // 8)


def take_and_give(semaphore: Any, begun: Any) -> None:
    begun.set()
    while True:
        semaphore.acquire()
        semaphore.release()


def ring(event: Any, done: Any, begun: Any) -> None:
    """Sets an event whenever somebody has seen and cleared it."""
    begun.set()
    while True:
        event.set()
        done.wait()
        done.clear()


def armed(order: str, target: Any, *args: Any) -> None:
    """Does it, and dies at the point that the order names."""
    from manyhands import _engine

    *rest, begun = args
    begun.set()  # before it is told, as this may be its point, too
    _engine.crash_at(order)  # type: ignore[attr-defined]
    target(*rest, Begun())


class Begun:
    """In place of an event that nobody waits for any more."""

    def set(self) -> None:
        pass


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


class Striker:
    """Kills one victim after the other, at most so many seconds after it has begun; with an order they do it themselves."""

    LONGEST = 0.003
    chance: random.Random
    order: str | None
    killed: int

    def strike(self, process: Any) -> None:
        """Kills it after a moment, or waits until it has killed itself."""
        if self.order is None:
            time.sleep(self.chance.random() * self.LONGEST)
        else:
            process.join(SPARED)
        unreached = self.order is not None and process.is_alive()
        process.kill()
        process.join()
        if unreached:
            raise Unreached
        self.killed += process.exitcode == -signal.SIGKILL  # not who had found a queue to be a wreck, and ended


class Rounds(Striker):
    """Kills those who hold, wait, produce and consume."""

    def __init__(self, context: Any, chance: random.Random, kills: int, order: str | None = None) -> None:
        self.context = context
        self.chance = chance
        self.kills = kills
        self.order = order
        self.killed = 0

    def victim(self, target: Any, *args: Any) -> Any:
        """A process that has begun."""
        begun = self.context.Event()
        args = (*args, begun) if self.order is None else (self.order, target, *args, begun)
        process = self.context.Process(target=target if self.order is None else armed, args=args, daemon=True)
        process.start()
        claim(begun.wait(PATIENCE), f"{target.__name__} did not begin")
        return process

    def strike_aside(self, process: Any, faults: list[Unreached]) -> None:
        """The same in another thread."""
        try:
            self.strike(process)
        except Unreached as fault:
            faults.append(fault)

    def locks(self) -> str:
        told = 0
        numbers = self.context.RawArray("q", 2)
        for kind in ("Lock", "RLock", "Condition"):
            lock = getattr(self.context, kind)()
            for _ in range(self.kills // 3):
                died = [self.holder(lock)] if self.order and "of-the-dead" in self.order else []
                process = self.victim(change, lock, numbers)
                self.strike(process)
                died.append(process.pid)
                try:
                    claim(lock.acquire(), "acquire() without a limit returned without the lock")
                    claim(numbers[0] == numbers[1], f"a {kind} was free and guards {list(numbers)}")
                except OwnerDied as death:
                    told += 1
                    claim(death.pid in died, f"{death} is not about {died}")
                    claim(lock.acquire(timeout=PATIENCE) if kind != "Condition" else lock.acquire(), "it is no lock")
                numbers[0] = numbers[1]
                lock.release()
        claim(told or self.order, "no holder was ever hit")
        return f"{told} of {self.kills // 3 * 3} were holders"

    def holder(self, lock: Any) -> int:
        """A process that was killed while it held the lock."""
        holds = self.context.Event()
        process = self.context.Process(target=hold, args=(lock, holds), daemon=True)
        process.start()
        claim(holds.wait(PATIENCE), "nobody holds the lock")
        process.kill()
        process.join()
        return int(process.pid)

    def barriers(self) -> str:
        broken = 0
        barrier = self.context.Barrier(2)
        for _ in range(self.kills // 5):
            process = self.victim(meet, barrier)
            killer = threading.Timer(self.chance.random() * 0.01 if self.order is None else 3 * SPARED, process.kill)
            killer.start()
            try:
                for _ in range(1_000_000):
                    # Nobody comes any more where the other one was killed outside.
                    barrier.wait(0.5 if self.order is None else 1.5)
                raise Wrong("the other party was not killed")
            except threading.BrokenBarrierError:
                broken += 1
            unreached = self.order is not None and killer.finished.is_set()
            if self.order is not None:
                killer.cancel()
            killer.join()
            process.join()
            if unreached:
                raise Unreached
            self.killed += 1
            barrier.reset()
            claim(barrier.n_waiting == 0, f"{barrier.n_waiting} wait at a barrier where nobody is")
        return f"{broken} broke"

    def semaphores(self) -> str:
        lost = 0
        semaphore = self.context.BoundedSemaphore(1)
        for _ in range(self.kills // 2):
            process = self.victim(take_and_give, semaphore)
            faults: list[Unreached] = []
            striker = threading.Thread(target=self.strike_aside, args=(process, faults))
            striker.start()
            while True:
                over = not striker.is_alive()
                if semaphore.acquire(timeout=0.3):
                    semaphore.release()
                elif over:
                    lost += 1
                    claim(semaphore.get_value() == 0, "one is there, and who waited for it did not get it")
                    semaphore.release()  # what went with the dead
                if over:
                    break
            striker.join()
            if faults:
                raise faults[0]
            claim(semaphore.get_value() == 1, f"of one {semaphore.get_value()} are left")
        return f"{lost} were lost with their holder"

    def events(self) -> str:
        event, done = self.context.Event(), self.context.Event()
        seen = 0
        for _ in range(self.kills // 2):
            done.clear()
            process = self.victim(ring, event, done)
            faults: list[Unreached] = []
            striker = threading.Thread(target=self.strike_aside, args=(process, faults))
            striker.start()
            while event.wait(0.3):
                seen += 1
                event.clear()
                done.set()
            claim(not event.is_set(), "an event is set, and who waited for it was not told")
            striker.join()
            if faults:
                raise faults[0]
            event.clear()
        return f"{seen:,} times set"

    def producers(self) -> str:
        items, came, lost, late = self.context.Queue(), 0, 0, -1
        for _ in range(self.kills):
            process = self.victim(produce, items, self.chance.getrandbits(30))
            self.strike(process)
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
                if number == 0 and late > 0 and got == item(late, len(got)):
                    came, late = came + 1, -1  # the last of the one before, of which nobody had told
                    continue
                claim(got == item(number, len(got)), f"item {number} is not what was put, or not the next one")
                number += 1
            came += number
            # Who is killed in the very moment of a put may leave an item that comes with the next one's.
            late = number
        return f"{came:,} items came" + (f", {lost} queues were given up" if lost else "")

    def consumers(self) -> str:
        items, got = self.context.Queue(), self.context.RawValue("q")
        number, missing, lost = 0, 0, 0
        for _ in range(self.kills):
            process = self.victim(consume, items, got)
            first = number
            got.value = first
            for _ in range(200):
                items.put(item(number, 64))
                number += 1
            self.strike(process)
            expected = got.value
            while expected < number:
                try:
                    found = int.from_bytes(items.get(timeout=PATIENCE)[:8], "little")
                except OSError as error:
                    claim("use a new queue" in str(error), str(error))
                    items, lost, expected = self.context.Queue(), lost + 1, number
                    break
                except queue.Empty:
                    # The very last one was in the hands of the dead.
                    claim(expected == number - 1, f"items {expected} to {number - 1} never came")
                    break
                claim(found in (expected, expected + 1), f"item {found} came, after {expected - 1} was got")
                missing += found - expected
                expected = found + 1
        given_up = f", {lost} queues were given up" if lost else ""
        return f"{number:,} items, {missing} went with their consumer{given_up}"


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
        for kind in KINDS:
            if not check(rounds, method, kind, options.kills):
                return 1
    return 0


def check(rounds: Rounds, method: str, kind: str, most: int) -> bool:
    """Runs one kind of victims, some to begin with and then all; says how it went, and whether all was right."""
    names, before = killing.abandoned_memory(), 0
    result, began = "", time.monotonic()
    for kills in (3, most):
        # The first ones bring what is made once.
        rounds.kills, rounds.killed = max(kills, 5), 0
        faulthandler.dump_traceback_later(120 + 3 * kills, exit=True)
        began = time.monotonic()
        try:
            result = getattr(rounds, kind)()
        except Wrong as wrong:
            if kills < most and "was ever hit" in str(wrong):
                continue
            print(f"WRONG {method} {kind}: {wrong}")
            return False
        finally:
            faulthandler.cancel_dump_traceback_later()
        left = descriptors()
        if kills == most and before and left > before + 4:
            print(f"WRONG {method} {kind}: {left} descriptors are open, {before} were after the first kills")
            return False
        before = left
    end = time.monotonic() + 5.0
    while (new := killing.abandoned_memory() - names) and time.monotonic() < end:
        time.sleep(0.1)  # others' have a name before they are mapped
    if new or manyhands.active_children():
        print(f"WRONG {method} {kind}: left behind: {new or manyhands.active_children()}")
        return False
    print(f"ok {method} {kind}: {rounds.killed} kills, {result}, {time.monotonic() - began:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
