"""Q4. What is a multiprocessing pool, and why is it used?

A pool keeps a few worker processes and hands them many tasks, one after the other, so that the price
of starting a process is paid once a worker and not once a task. Here 100 small tasks run in a process
each, and then in a pool of two. A worker that is killed is replaced; only the task it was running is lost.
"""

import os
import time
from collections import Counter

from manyhands import Pool, Process


def square(number: int) -> tuple[int, int]:
    """The square of a number, and the process that found it."""
    return number * number, os.getpid()


def main() -> None:
    """Shows both ways and what they took."""
    tasks = range(100)

    began = time.perf_counter()
    for number in tasks:
        process = Process(target=square, args=(number,))
        process.start()
        process.join()
    a_process_a_task = time.perf_counter() - began

    began = time.perf_counter()
    with Pool(2) as pool:
        done = pool.map(square, tasks)
    a_pool = time.perf_counter() - began

    assert [result for result, _ in done] == [number * number for number in tasks]
    done_by = Counter(worker for _, worker in done)
    print(f"{len(tasks)} tasks, a process each: {a_process_a_task * 1000:7.1f} ms, and no way to get the results back")
    print(f"{len(tasks)} tasks, a pool of 2:    {a_pool * 1000:7.1f} ms, start and end included")
    print(f"tasks done by each worker: {sorted(done_by.values())}")


if __name__ == "__main__":
    main()
