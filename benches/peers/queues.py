"""Packages with queues and no pool: faster-fifo and subetha-ipc. Processes to use them are the standard library's."""

from __future__ import annotations

import atexit
import os
import pickle
import shutil
import tempfile
from typing import Any

from benches.peer import Peer
from benches.workload import UNNAMED


class _Borrowed:
    """The standard library's context with a queue of another package."""

    def __init__(self, queue: Any) -> None:
        import multiprocessing

        self._context = multiprocessing.get_context(UNNAMED)
        self.Queue = queue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class FasterFifo(Peer):
    """`faster_fifo.Queue`."""

    name = "faster-fifo"
    distribution = "faster-fifo"
    statement = "import faster_fifo"
    methods = ("fork",)
    parts = frozenset({"Queue", "large_items", "several_ends"})

    def context(self, method: str = UNNAMED) -> Any:
        import faster_fifo

        # The program says how many bytes may wait; its default of 1 MB would not hold an item of 1 MB.
        return _Borrowed(lambda: faster_fifo.Queue(max_size_bytes=32 << 20))


class Channel:
    """A `subetha.Channel`, its "front door" for two processes, with pickle on both ends: it carries bytes."""

    def __init__(self) -> None:
        import subetha

        folder = tempfile.mkdtemp(dir="/dev/shm", prefix="bench-")
        atexit.register(_remove, folder, os.getpid())
        self._channel = subetha.Channel(f"{folder}/channel")

    def put(self, item: Any) -> None:
        """Waits until the item can be sent."""
        self._channel.send_for(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))

    def get(self) -> Any:
        """Waits for the next item."""
        return pickle.loads(self._channel.recv_for())


def _remove(folder: str, made_by: int) -> None:
    if os.getpid() == made_by:
        shutil.rmtree(folder, ignore_errors=True)


class Subetha(Peer):
    """`subetha`: a channel with one sender and one reader."""

    name = "subetha-ipc"
    distribution = "subetha-ipc"
    statement = "import subetha"
    methods = ("fork",)
    parts = frozenset({"Queue"})

    def context(self, method: str = UNNAMED) -> Any:
        return _Borrowed(Channel)
