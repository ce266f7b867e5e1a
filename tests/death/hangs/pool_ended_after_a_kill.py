"""python/cpython#78178, #73945: a worker is killed while it waits for a task, and terminate() waits for a lock of its."""

import os
import signal
import time

from subject import mp

if __name__ == "__main__":
    pool = mp.Pool(2)
    assert pool.map(abs, [-1, -2], 1) == [1, 2]
    time.sleep(0.2)  # they wait by now
    for process in list(pool._pool):
        os.kill(process.pid, signal.SIGKILL)
    pool.terminate()
    pool.join()
    print("fine")
