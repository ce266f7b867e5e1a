"""The package's names on threads: what a program does with processes, without any.

Always: arguments and results are passed as they are, never pickled.  Differs: none.
Not here: pools of threads (`manyhands.pool.ThreadPool`), pipes between threads (`dummy.connection`).
"""

from __future__ import annotations

import array
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from queue import Queue
from threading import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore
from typing import Any

from .connection import Pipe

__all__ = [
    "Process", "current_process", "active_children", "freeze_support",
    "Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition",
    "Event", "Barrier", "Queue", "Manager", "Pipe", "Pool", "JoinableQueue",
]  # fmt: skip


class DummyProcess(threading.Thread):
    """A thread with the interface of a process."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},  # noqa: B006
    ) -> None:
        threading.Thread.__init__(self, group, target, name, args, kwargs)
        self._pid = None
        self._children: weakref.WeakKeyDictionary[Any, None] = weakref.WeakKeyDictionary()
        self._start_called = False
        self._parent = current_process()

    def start(self) -> None:
        """Start the thread.  Raises RuntimeError in another thread than the one that made it."""
        if self._parent is not current_process():
            raise RuntimeError(f"Parent is {self._parent!r} but current_process is {current_process()!r}")
        self._start_called = True
        if hasattr(self._parent, "_children"):
            self._parent._children[self] = None
        threading.Thread.start(self)

    @property
    def exitcode(self) -> int | None:
        """0 when the thread has ended, None before."""
        return 0 if self._start_called and not self.is_alive() else None


Process = DummyProcess
current_process = threading.current_thread
# The main thread is nobody's DummyProcess, but has children like one.
current_process()._children = weakref.WeakKeyDictionary()  # type: ignore[attr-defined]
JoinableQueue = Queue


def active_children() -> list[Any]:
    """Return the threads that this one started and that are alive."""
    children = getattr(current_process(), "_children", {})
    for child in list(children):
        if not child.is_alive():
            children.pop(child, None)
    return list(children)


def freeze_support() -> None:
    """Do nothing: a frozen program's threads need no support."""


class Namespace:
    """An object for attributes."""

    def __init__(self, /, **kwds: Any) -> None:
        self.__dict__.update(kwds)

    def __repr__(self) -> str:
        shown = sorted(f"{name}={value!r}" for name, value in self.__dict__.items() if not name.startswith("_"))
        return f"{type(self).__name__}({', '.join(shown)})"


dict = dict
list = list


def Array(typecode: Any, sequence: Iterable[Any], lock: bool = True) -> array.array[Any]:
    """Return an array.array; `lock` is for the interface's sake."""
    return array.array(typecode, sequence)


class Value:
    """An object with a `value`; `typecode` and `lock` are for the interface's sake."""

    def __init__(self, typecode: Any, value: Any, lock: bool = True) -> None:
        self._typecode = typecode
        self._value = value

    @property
    def value(self) -> Any:
        """What was stored last."""
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._typecode!r}, {self._value!r})>"


def Manager() -> Any:
    """Return this module, which has all that a manager offers."""
    return sys.modules[__name__]


def shutdown() -> None:
    """Do nothing: there is no server."""


def Pool(
    processes: int | None = None, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()
) -> Any:
    """Return a pool of threads: see `manyhands.pool.ThreadPool`."""
    from ..pool import ThreadPool

    return ThreadPool(processes, initializer, initargs)
