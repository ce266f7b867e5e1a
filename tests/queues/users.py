"""What children do with queues, and classes of queues as users write them."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from typing import Any

from manyhands import queues

# More than a queue's ring takes: it passes through the pipe in pieces, so that a feeder has it for a while.
TOO_LONG = b"x" * (20 << 20)


def put_all(q: Any, items: Any) -> None:
    for item in items:
        q.put(item)


def receive_some(reader: Any, count: int, answers: Any) -> None:
    answers.put([reader.recv() for _ in range(count)])


def put_numbered(q: Any, who: int, count: int) -> None:
    for number in range(count):
        q.put((who, number))


def echo(inbox: Any, outbox: Any) -> None:
    while (item := inbox.get()) is not None:
        outbox.put(item)


def get_until_none(q: Any, found: Any) -> None:
    count = 0
    while q.get() is not None:
        count += 1
    found.put(count)


def get_lengths_until_none(q: Any, found: Any) -> None:
    found.put([len(item) for item in iter(q.get, None)])


def put_and_stay(q: Any, item: Any, told: Any) -> None:
    q.put(item)
    told.get()


def wait_for_items(q: Any, ready: Any) -> None:
    ready.put(os.getpid())
    while True:
        q.get()


def get_some_and_stay(q: Any, count: int, told: Any) -> None:
    get_some(q, count, told)
    threading.Event().wait()


def get_by_threads(q: Any, threads: int, told: Any) -> None:
    """Each thread gets until None, and tells the list of what it got."""
    getters = [threading.Thread(target=lambda: told.put(list(iter(q.get, None)))) for _ in range(threads)]
    for getter in getters:
        getter.start()
    for getter in getters:
        getter.join()


def work(q: Any) -> None:
    while True:
        q.get()
        time.sleep(0.01)
        q.task_done()


def wait_in_put(q: Any, answer: Any) -> None:
    try:
        q.put("too much")
    except queues.ShutDown:
        answer.put("shut down")


def wait_in_get(q: Any, answer: Any) -> None:
    try:
        while True:
            q.get(timeout=20)
    except queues.ShutDown:
        answer.put("shut down")


def put_for_ever(q: Any) -> None:
    data = b"x" * 2000
    while True:
        q.put(data)


def put_from_threads(q: Any, threads: int, count: int) -> None:
    started = [threading.Thread(target=put_numbered, args=(q, number, count)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def get_some(q: Any, count: int, found: Any) -> None:
    found.put([q.get() for _ in range(count)])


class Unpicklable:
    """Fails when it is pickled, as often as that is tried."""

    def __reduce__(self) -> Any:
        raise ValueError("not for sending")


class Unloadable:
    """Fails when it is unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Noting(queues.Queue):
    """A queue that notes what it could not send."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.refused: list[Any] = []

    def _on_queue_feeder_error(self, e: BaseException, obj: object) -> None:  # type: ignore[override]
        self.refused.append((type(e), obj))


class Wrapped:
    """A connection in a wrapper, as torch has it."""

    def __init__(self, conn: Any) -> None:
        self.conn = conn

    def __getattr__(self, name: str) -> Any:
        if "conn" in self.__dict__:
            return getattr(self.conn, name)
        raise AttributeError(name)


class Wrapping(queues.Queue):
    """A queue whose connections are replaced after its making."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reader: Any = Wrapped(self._reader)
        self._writer: Any = Wrapped(self._writer)


class OwnFeeder(queues.Queue):
    """A queue with a thread of its own that pickles in its own way, as joblib's has."""

    def __getstate__(self) -> Any:
        return super().__getstate__()[:8]  # what the standard library's has

    def _start_thread(self) -> None:
        self._buffer.clear()
        self._thread = threading.Thread(target=self._mine, daemon=True)
        self._thread.start()

    def _mine(self) -> None:
        from manyhands.reduction import ForkingPickler

        while True:
            with self._notempty:
                while not self._buffer:
                    self._notempty.wait()
                obj = self._buffer.popleft()
            with self._wlock:
                self._send_bytes(ForkingPickler.dumps(("mine", obj)))


class OldState(queues.Queue):
    """A queue whose state is what the standard library's is."""

    def __getstate__(self) -> Any:
        return super().__getstate__()[:8]


def nonblocking(q: Any) -> Any:
    try:
        return q.get_nowait()
    except queue.Empty:
        return "empty"


def hold(lock: Any, ready: Any) -> None:
    lock.acquire()
    ready.put(os.getpid())
    time.sleep(60)


def get_for_ever(q: Any) -> None:
    while True:
        q.get()


def get_and_tell(q: Any, found: Any) -> None:
    try:
        found.put(len(q.get()))
    except OSError as error:
        found.put(str(error))


def put_and_be_killed(q: Any, item: Any) -> None:
    q.put(item)
    os.kill(os.getpid(), signal.SIGKILL)


def get_and_die_of_the_end(q: Any) -> None:
    """Is killed in the moment in which it has to tell the others that the queue was shut down."""
    q._send_last = lambda: os.kill(os.getpid(), signal.SIGKILL)
    q.get()


def tell_what_get_raises(q: Any, answer: Any) -> None:
    try:
        q.get()
    except Exception as error:
        answer.put(type(error).__name__)


def get_then_allow(q: Any, count: int, allowed: Any, answer: Any) -> None:
    answer.put([q.get() for _ in range(count)])
    allowed.set()
    answer.put(q.get())


class WaitsInPickling:
    """Pickled by a feeder alone, and not before it is allowed."""

    def __init__(self, allowed: Any) -> None:
        self.allowed = allowed

    def __reduce__(self) -> Any:
        self.allowed.wait()
        return str, ("the last one",)


class StopsPutting:
    """What a signal handler that raises does to put() while this is pickled."""

    def __reduce__(self) -> Any:
        raise KeyboardInterrupt
