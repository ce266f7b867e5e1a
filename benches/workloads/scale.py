"""Many workers and many tasks: what stays flat as they grow, and what does not.

Always: with more workers than cores it is tasks that wait, or that are next to nothing, which are measured: the first
ask for a worker each, the second for the least that can be done about so many. Workers have all answered once before
the clock runs. A peer that would take long for ten million tasks is given as many as it does in half a minute, and a
figure says how many that are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from benches.calls import rest, same, who
from benches.killing import descendants
from benches.peer import Crew, Peer
from benches.workload import BYTES, COUNT, DONE, RATE, SHARE, WORKERS, Workload, check, check_all, fewer
from benches.workloads.idle import memory
from benches.workloads.small import SINGLE, paced

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# How long a task waits (`calls.rest`), and how many of them there are for each worker.
WAITS, EACH = 0.01, 100
# A worker that starts as a new interpreter on a busy core takes its time.
UP = 20.0
STREAM = 10_000_000
STREAM_SECONDS = 30.0
BATCH = 1_000
# So often memory is looked at while the stream is read.
LOOK = 0.1

# How many tasks had been read, and the memory of the parent and of the workers then.
Sample = tuple[int, float, float]


def up(crew: Crew, workers: int, quick: bool) -> None:
    """Returns when so many workers have answered, or after 20 s: then the figures will say that some are missing."""
    seen: set[int] = set()
    until = time.monotonic() + (UP / 10 if quick else UP)
    while len(seen) < workers and time.monotonic() < until:
        seen.update(crew.map_work(who, list(range(2 * workers))))


def waiting(workers: int) -> Any:
    """The measure of tasks that wait 10 ms, 100 a worker, and of what a worker costs the machine."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        exec(peer.statement, {})
        own, tasks = os.getpid(), list(range(fewer(EACH, quick) * workers))
        held, before = len(os.listdir("/proc/self/fd")), memory([own])
        with peer.start("pool", method, workers) as crew:
            up(crew, workers, quick)
            begun = time.perf_counter()
            answers = crew.map_work(rest, tasks)
            took = time.perf_counter() - begun
            descriptors = len(os.listdir("/proc/self/fd")) - held
            used = memory([own, *descendants(own)]) - before
        check_all(answers, tasks, "answers")
        return {
            "share of the ideal": len(tasks) * WAITS / (took * workers),
            "descriptors a worker": descriptors / workers,
            "memory a worker": used / workers,
        }

    return measure


def trivial(call: str, workers: int) -> Any:
    """The measure of a map of trivial calls: how many a second."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        items = list(range(fewer(SINGLE, quick)))
        with peer.start("pool", method, workers) as crew:
            up(crew, workers, quick)
            found, answers, items = paced(lambda some: getattr(crew, call)(same, some), items)
        check_all(answers, items, "answers")
        return {"": found}

    return measure


class Tap:
    """Numbers from 0 on, each once: `most` of them, or fewer where what was drawn will already take `limit` seconds.

    `pace` is what one takes, as far as is known: whoever reads the answers keeps it up to date. `given` is how many
    there were, once they have been drawn, in whatever thread a peer does that.
    """

    def __init__(self, most: int, limit: float, pace: float) -> None:
        self.most, self.limit, self.pace = most, limit, pace
        self.given: int | None = None

    def __iter__(self) -> Iterator[int]:
        for number in range(self.most):
            if number % BATCH == 0 and number * self.pace > self.limit:
                self.given = number
                return
            yield number
        self.given = self.most


def growth(samples: Sequence[Sample], read: int) -> tuple[float, float]:
    """By how much the memory of the parent and of the workers grew at most after a twentieth of `read` tasks.

    Samples are in the order in which they were taken; ValueError if there are fewer than two.
    """
    if len(samples) < 2:
        raise ValueError(f"{len(samples)} samples tell nothing of growth")
    start = max((at for at, sample in enumerate(samples[:-1]) if sample[0] * 20 <= read), default=0)
    later = samples[start + 1 :]
    parent, workers = (max(sample[of] for sample in later) - samples[start][of] for of in (1, 2))
    return max(parent, 0.0), max(workers, 0.0)


def stream(call: str, ordered: bool) -> Any:
    """The measure of ten million trivial tasks drawn from a generator, by a reader that keeps nothing."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        most, limit = (STREAM // 100, STREAM_SECONDS / 10) if quick else (STREAM, STREAM_SECONDS)
        with peer.start("pool", method, WORKERS) as crew:
            up(crew, WORKERS, quick)
            through = getattr(crew, call)
            tap = Tap(most, limit, _first_pace(through))
            own = os.getpid()
            others, samples = descendants(own), list[Sample]()
            read = total = 0
            begun, looked = time.perf_counter(), 0.0
            answers = iter(through(same, iter(tap)))
            while batch := list(islice(answers, BATCH)):
                if ordered:
                    check_all(batch, list(range(read, read + len(batch))), "answers")
                read, total, now = read + len(batch), total + sum(batch), time.perf_counter()
                tap.pace = (now - begun) / read
                if now - looked > LOOK:
                    looked = now
                    samples.append((read, memory([own]), memory(others)))
            took = time.perf_counter() - begun
            samples.append((read, memory([own]), memory(others)))
        check(read, tap.given, "number of answers")
        check(total, read * (read - 1) // 2, "sum of all answers")
        parent, workers = growth(samples, read)
        return {"": read / took, "tasks": read, "growth of the parent": parent, "growth of the workers": workers}

    return measure


def _first_pace(through: Any) -> float:
    """What a task takes, by the first thousand."""
    begun = time.perf_counter()
    check(sum(through(same, range(BATCH))), BATCH * (BATCH - 1) // 2, "sum of the first answers")
    return (time.perf_counter() - begun) / BATCH


def _curve(name: str, measure: Any, figures: dict[str, Any], need: str) -> Iterable[Workload]:
    for workers in COUNTS:
        named = f"{name}, {workers} worker{'s' * (workers > 1)}"
        yield Workload(named, "scale", measure(workers), figures, (need,), workers=workers, curve=name)


FLAT = {"": RATE, "tasks": DONE, "growth of the parent": BYTES, "growth of the workers": BYTES}
WORKLOADS = (
    *_curve(
        "100 tasks a worker that wait 10 ms, default chunks",
        waiting,
        {"share of the ideal": SHARE, "descriptors a worker": COUNT, "memory a worker": BYTES},
        "pool.map_work",
    ),
    *_curve(
        "map of 50,000 trivial calls, chunksize=1",
        lambda workers: trivial("map_one", workers),
        {"": RATE},
        "pool.map_one",
    ),
    *_curve(
        "map of 50,000 trivial calls, default chunks", lambda workers: trivial("map", workers), {"": RATE}, "pool.map"
    ),
    Workload(
        "imap_unordered, 10,000,000 trivial calls from a generator",
        "scale",
        stream("imap_unordered", ordered=False),
        FLAT,
        ("pool.imap_unordered",),
    ),
    Workload(
        "imap, 10,000,000 trivial calls from a generator", "scale", stream("imap", ordered=True), FLAT, ("pool.imap",)
    ),
)
