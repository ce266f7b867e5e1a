"""python/cpython#88304: a process is killed while it holds a lock, and nobody gets that lock any more."""

import os
import signal
import time

from subject import mp


def hold(lock: object, told: object) -> None:
    with lock:
        told.send(os.getpid())
        time.sleep(60)


if __name__ == "__main__":
    lock = mp.Lock()
    ours, theirs = mp.Pipe()
    holder = mp.Process(target=hold, args=(lock, theirs))
    holder.start()
    os.kill(ours.recv(), signal.SIGKILL)
    holder.join()
    told = f"process {holder.pid} "
    try:
        lock.acquire()
    except Exception as error:
        # One is told, because what the lock guards may be half-changed; from then on it is a lock again.
        told = str(error)
        lock.acquire()
    lock.release()
    print("fine" if f"process {holder.pid} " in told else told)
