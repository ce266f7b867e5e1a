"""python/cpython#66587: the kernel ends a worker in the midst of a task, and the map waits for its result for ever."""

import os
import signal

from subject import mp


def task(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


if __name__ == "__main__":
    with mp.Pool(2) as pool:
        try:
            pool.map(task, range(8), 1)
        except Exception as error:
            assert pool.map(abs, [-1, -2]) == [1, 2]
            print("fine" if "SIGKILL" in str(error) else error)
