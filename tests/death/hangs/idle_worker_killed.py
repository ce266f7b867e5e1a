"""python/cpython#96062: a worker is killed while it waits for a task, and its successor waits for the lock that it held."""

import os
import signal
import time

from subject import mp

if __name__ == "__main__":
    with mp.Pool(1) as pool:
        worker = pool.apply(os.getpid)
        time.sleep(0.2)  # it waits by now
        os.kill(worker, signal.SIGKILL)
        assert pool.apply(abs, (-1,)) == 1
        print("fine")
