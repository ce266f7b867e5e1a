"""python/cpython#87971: a consumer is killed while it waits for an item, and nobody else gets one any more."""

import os
import signal
import time

from subject import mp


def consume(queue: object, told: object) -> None:
    told.send(os.getpid())
    told.send(queue.get())


if __name__ == "__main__":
    queue = mp.Queue()
    ours, theirs = mp.Pipe()
    first = mp.Process(target=consume, args=(queue, theirs))
    first.start()
    ours.recv()
    time.sleep(0.2)  # it waits by now
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    second = mp.Process(target=consume, args=(queue, theirs))
    second.start()
    ours.recv()
    queue.put("an item")
    assert ours.recv() == "an item"
    second.join()
    print("fine")
