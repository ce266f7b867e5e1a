"""Q2. What are the differences between multiprocessing and multithreading?

Threads live in one process: they share its memory and its interpreter lock. They are cheap to start
and right for waiting (files, networks), but compute no faster together than one of them alone.
Processes have memory and an interpreter of their own: right for computing, and a crash stays where it
happened; but what one changes no other sees, and arguments and results are copied.
`make demo` measures both on real input; here is the difference in small.
"""

import os
import threading
import time

from manyhands import Pool, Process, WorkerDied

counter = 0


def add(amount: int) -> int:
    """Adds to the counter of the process it runs in; returns what that counter is then."""
    global counter
    counter += amount
    return counter


def crash() -> None:
    """Ends its process at once, as a bug in foreign code might."""
    os.abort()


def main() -> None:
    """Shows the differences one by one."""
    began = time.perf_counter()
    thread = threading.Thread(target=add, args=(1,))
    thread.start()
    thread.join()
    thread_took = time.perf_counter() - began
    print(f"after a thread added 1, the counter here is {counter}")

    began = time.perf_counter()
    process = Process(target=add, args=(1,))
    process.start()
    process.join()
    process_took = time.perf_counter() - began
    print(f"after a process added 1 to its own, the counter here still is {counter}")
    print(f"a thread took {thread_took * 1e6:.0f} µs from start to end, a process {process_took * 1e6:.0f} µs")

    with Pool(1) as pool:
        try:
            pool.apply(crash)
        except WorkerDied as death:
            print(f"a process crashed, and this one goes on: {death}")
        print(f"and so does the pool, with a new worker: {pool.apply(add, (41,))}")


if __name__ == "__main__":
    main()
