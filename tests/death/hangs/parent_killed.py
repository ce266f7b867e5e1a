"""python/cpython#111873: the parent of an executor is killed, and its workers live for weeks."""

import os
import signal
import sys
import time

from subject import executor, mp


def parent(told: object) -> None:
    pool = executor(2)
    told.send([pool.submit(os.getpid).result() for _ in range(10)])
    time.sleep(60)


def lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    ours, theirs = mp.Pipe()
    process = mp.Process(target=parent, args=(theirs,))
    process.start()
    workers = ours.recv()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    end = time.monotonic() + 2
    while any(map(lives, workers)):
        if time.monotonic() > end:
            sys.exit("the workers outlive their parent")
        time.sleep(0.01)
    print("fine")
