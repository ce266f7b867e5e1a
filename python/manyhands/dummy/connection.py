"""Connections between threads: two queues each, nothing is pickled.

Always: a listener's address is the listener's own queue.  Differs: none.
Not here: connections between processes (`manyhands.connection`).
"""

from __future__ import annotations

from queue import Queue
from types import TracebackType
from typing import Any

__all__ = ["Client", "Listener", "Pipe"]

families = [None]


class Listener:
    """Waits for `Client` in another thread.

    backlog -- int, how many may wait to be accepted; address and family are for the interface's sake
    """

    def __init__(self, address: Any = None, family: Any = None, backlog: int = 1) -> None:
        self._backlog_queue: Queue[Any] | None = Queue(backlog)

    def accept(self) -> Connection:
        """Wait for a client and return the connection to it."""
        assert self._backlog_queue is not None, "the listener is closed"
        return Connection(*self._backlog_queue.get())

    def close(self) -> None:
        """Accept no more."""
        self._backlog_queue = None

    @property
    def address(self) -> Any:
        """What to give to `Client`."""
        return self._backlog_queue

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()


def Client(address: Any) -> Connection:
    """Connect to a listener by its address; wait for room in its backlog."""
    one, other = Pipe()
    address.put((other._in, other._out))
    return one


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Return two connected ends; both send and receive, whatever `duplex` is."""
    there: Queue[Any] = Queue()
    back: Queue[Any] = Queue()
    return Connection(there, back), Connection(back, there)


class Connection:
    """One end: what is received comes from one queue, what is sent goes into another."""

    def __init__(self, _in: Queue[Any], _out: Queue[Any]) -> None:
        self._in = _in
        self._out = _out
        self.send = self.send_bytes = _out.put
        self.recv = self.recv_bytes = _in.get

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether something can be received within `timeout` seconds; None: wait without end."""
        if self._in.qsize() > 0:
            return True
        if timeout is not None and timeout <= 0.0:
            return False
        with self._in.not_empty:
            self._in.not_empty.wait_for(self._in._qsize, timeout)
        return self._in.qsize() > 0

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()
