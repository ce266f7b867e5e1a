"""What `docs/pictures/top.svg` looks on at: a pool whose workers die, get stuck, leave and come back, and an executor."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator

import manyhands


def augment(n: int) -> int:
    """Works for a while; now and then something kills it."""
    chance = random.Random(n)
    until = time.monotonic() + chance.uniform(0.005, 0.05)
    while time.monotonic() < until:
        pass
    if n % 500 == 499:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def download(url: str) -> str:
    """Waits for what does not come."""
    time.sleep(60)
    return url


def evaluate(epoch: int) -> float:
    """Waits, as for a disk, then works."""
    time.sleep(0.4)
    return sum(n * n for n in range(200_000)) / (epoch + 1)


def pictures() -> Iterator[int]:
    """As many as are wanted."""
    n = 0
    while True:
        yield n
        n += 1


if __name__ == "__main__":
    with manyhands.ProcessPoolExecutor(2) as executor, manyhands.Pool(5) as pool:
        pool.apply_async(download, ("https://data.example/3",))
        scores = [executor.submit(evaluate, epoch) for epoch in range(400)]
        augmented = pool.imap_unordered(augment, pictures())
        while not scores[-1].done():
            try:
                next(augmented)
            except manyhands.WorkerDied:
                pass
