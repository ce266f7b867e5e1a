"""Records of `logging` in workers, handled in the program that has the pool.

Always: a record is handled by the program's handlers, at the program's levels, once; what a worker has said before it left is
handled before the pool is joined.  Not here: what travels (`queues.SimpleQueue`).
"""

from __future__ import annotations

import copy
import logging
import threading

from .errors import OwnerDied

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from typing import Any

__all__: list[str] = []

_END = None
# How long the thread may take for what has come, in seconds: a handler of the program may hang.
_PATIENCE = 30.0


class Relay:
    """The program's side: a queue from the workers, and a thread that handles what comes."""

    def __init__(self, context: Any) -> None:
        self.queue = context.SimpleQueue()
        self._thread = threading.Thread(target=_handle_all, args=(self.queue,), name="manyhands-log", daemon=True)
        self._thread.start()

    def orders(self) -> tuple[Any, dict[str, int]]:
        """Return what a worker is told: where records go, and which levels loggers have."""
        levels = {"": logging.root.level}
        for name, logger in list(logging.root.manager.loggerDict.items()):
            if isinstance(logger, logging.Logger) and logger.level:
                levels[name] = logger.level
        return self.queue, levels

    def stop(self) -> None:
        """Handle what has come, and end; the workers are gone."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            try:
                self._put_end()
            except OSError:
                self.queue.close()  # a worker was killed in the midst of a record: nothing comes after it
            self._thread.join(_PATIENCE)
        self.queue.close()

    def _put_end(self) -> None:
        while True:
            try:
                self.queue.put(_END)
                return
            except OwnerDied:
                pass  # the lock of a worker that was killed, which is free now


def _handle_all(queue: Any) -> None:
    while True:
        try:
            record = queue.get()
        except OwnerDied:
            continue  # the lock of a worker that was killed, which is free now
        except (EOFError, OSError):
            return
        except Exception:  # a record that cannot be unpickled here
            logging.getLogger("manyhands").exception("a worker's log record could not be read")
            continue
        if record is _END:
            return
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)


class _Sender(logging.Handler):
    """A worker's only handler."""

    def __init__(self, queue: Any) -> None:
        super().__init__()
        self._queue = queue

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record: as text, for its arguments and its traceback may be anything."""
        try:
            message = self.format(record)  # with the traceback
            record = copy.copy(record)
            record.msg = record.message = message
            record.args = record.exc_info = record.exc_text = record.stack_info = None
            self._queue.put(record)
        except Exception:
            self.handleError(record)


def send_records(queue: Any, levels: dict[str, int]) -> None:
    """Have all records of this process sent, instead of handled by what it has from its parent."""
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
    logging.root.handlers[:] = [_Sender(queue)]
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)
