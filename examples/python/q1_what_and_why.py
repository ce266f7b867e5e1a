"""Q1. What is multiprocessing in Python, and why is it useful?

It is running parts of a program at the same time in processes of their own, each with its own
interpreter and its own memory. CPython's global interpreter lock lets one thread at a time run Python
code; processes have a lock each, so work for the processor can use every core. Here the same four
pieces of work run one after the other, then spread over processes: the same answers, in less time.
"""

import os
import time

from manyhands import Pool


def primes_below(limit: int) -> int:
    """How many primes there are below `limit`, found the slow way on purpose."""
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


def main() -> None:
    """Shows both ways and what they took."""
    limits = [60_000, 60_001, 60_002, 60_003]

    began = time.perf_counter()
    one_after_the_other = [primes_below(limit) for limit in limits]
    alone = time.perf_counter() - began

    with Pool() as pool:
        began = time.perf_counter()
        side_by_side = pool.map(primes_below, limits)
        together = time.perf_counter() - began
        worker = pool.apply(os.getpid)

    assert side_by_side == one_after_the_other
    print(f"primes below {limits}: {side_by_side}")
    print(f"in one process:  {alone * 1000:5.0f} ms")
    print(f"spread over all: {together * 1000:5.0f} ms")
    print(f"a worker is a process of its own: {str(worker != os.getpid()).lower()}")


if __name__ == "__main__":
    main()
