"""Descriptors that are sent to a process which was not started with them: fetched from their owner.

What is pickled is an address and a number; who unpickles it connects there, proves that it knows the family's key,
and gets the descriptor over a Unix socket.  The owner serves from a thread, which runs once something is shared.
Always: a descriptor is fetched once; what nobody fetched is closed by `stop`, and in a forked child.
Not here: descriptors for a child that is being started (`reduction.DupFd`, `popen_*`).
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from . import process, reduction, util

__all__ = ["stop", "DupFd"]


class DupFd:
    """A picklable stand-in for a descriptor: detach(), in whichever process, gives the descriptor, once."""

    def __init__(self, fd: int) -> None:
        shared = os.dup(fd)

        def send(connection: Any, pid: int) -> None:
            reduction.send_handle(connection, shared, pid)

        def close() -> None:
            os.close(shared)

        try:
            self._id = _resource_sharer.register(send, close)
        except BaseException:
            close()
            raise

    def detach(self) -> int:
        """Fetch the descriptor from its owner: an int, which the caller closes."""
        with _resource_sharer.get_connection(self._id) as connection:
            return reduction.recv_handle(connection)


class _ResourceSharer:
    """What this process shares, and the thread that hands it out."""

    def __init__(self) -> None:
        self._key = itertools.count(1)
        self._cache: dict[int, tuple[Callable[[Any, int], None], Callable[[], None]]] = {}
        self._lock = threading.Lock()
        self._listener: Any = None
        self._address: Any = None
        self._thread: threading.Thread | None = None
        util.register_after_fork(self, _ResourceSharer._afterfork)

    def register(self, send: Callable[[Any, int], None], close: Callable[[], None]) -> tuple[Any, int]:
        """Share something; return (address, key), by which it is fetched.

        send -- called with a connection and the fetching process's pid; close -- called afterwards
        """
        with self._lock:
            if self._address is None:
                self._start()
            key = next(self._key)
            self._cache[key] = (send, close)
            return self._address, key

    @staticmethod
    def get_connection(ident: tuple[Any, int]) -> Any:
        """Return a connection to the owner of what was registered as `ident`, about to send it."""
        from .connection import Client

        address, key = ident
        connection = Client(address, authkey=process.current_process().authkey)
        try:
            connection.send((key, os.getpid()))
        except BaseException:
            connection.close()
            raise
        return connection

    def stop(self, timeout: float | None = None) -> None:
        """End the thread, within `timeout` seconds, and close what nobody fetched."""
        from .connection import Client

        with self._lock:
            if self._address is None:
                return
            assert self._thread is not None
            try:
                with Client(self._address, authkey=process.current_process().authkey) as connection:
                    connection.send(None)
            except OSError:
                util.debug("the resource sharer's thread ended by itself")
            self._thread.join(timeout)
            if self._thread.is_alive():
                util.sub_warning("_ResourceSharer thread did not stop when asked")
            self._listener.close()
            self._forget()

    def _forget(self) -> None:
        self._thread = self._address = self._listener = None
        for _, close in self._cache.values():
            close()
        self._cache.clear()

    def _afterfork(self) -> None:
        # The thread stayed in the parent, which still hands out what it shares; the copies here are of no use.
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]
        if self._listener is not None:
            self._listener.close()
        self._forget()

    def _start(self) -> None:
        from .connection import Listener

        util.debug("starting listener and thread for sending handles")
        self._listener = Listener(authkey=process.current_process().authkey, backlog=128)
        self._address = self._listener.address
        self._thread = threading.Thread(target=self._serve, args=(self._listener,), daemon=True)
        self._thread.start()

    def _serve(self, listener: Any) -> None:
        # Signals are for the main thread: its waits would not end if this one took them.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            try:
                with listener.accept() as connection:
                    request = connection.recv()
                    if request is None:
                        return
                    key, pid = request
                    send, close = self._cache.pop(key)
                    try:
                        send(connection, pid)
                    finally:
                        close()
            except Exception:
                if self._listener is not listener:
                    return  # stopped; nobody will come any more
                if not util.is_exiting():
                    sys.excepthook(*sys.exc_info())


_resource_sharer = _ResourceSharer()
stop = _resource_sharer.stop
