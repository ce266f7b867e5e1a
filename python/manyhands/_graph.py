"""Calls that wait for the results of others: a small graph, without a framework.

Always: a call that waits for results begins when all of them are there, or ends with what one of them raised; of a
pool that ends, no such call is left behind.
Not here: what a result is (`_pool_results`), the run of the call (the engine).
"""

from __future__ import annotations

import sys
import threading

from . import errors
from ._pool_results import ApplyResult

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__: list[str] = []

_kinds: Any = ApplyResult


def _pending_kinds() -> Any:
    """Return the classes whose instances stand for a value that is to come."""
    global _kinds
    futures = sys.modules.get("concurrent.futures._base")
    if futures is not None and _kinds is ApplyResult and hasattr(futures, "Future"):
        _kinds = (ApplyResult, futures.Future)
    return _kinds


def any_pending(args: tuple[Any, ...], kwds: dict[str, Any]) -> bool:
    """Return whether an argument stands for a value that is to come."""
    kinds = _pending_kinds()
    for value in args:
        if isinstance(value, kinds):
            return True
    return bool(kwds) and any(isinstance(value, kinds) for value in kwds.values())


class Graph:
    """The calls of one pool that wait for results.  It refers to the pool's engine, not to the pool."""

    def __init__(self, crew: Any) -> None:
        self.crew = crew
        self._lock = threading.Lock()
        self._waiting: set[_Call] = set()
        self._is_closing = False

    def submit(
        self, func: Any, args: tuple[Any, ...], kwds: dict[str, Any], callback: Any, error_callback: Any, terms: Any
    ) -> Any:
        """Start ``func(*args, **kwds)`` once the values are there that some arguments stand for; return its job."""
        call = _Call(self, self.crew.defer(func, callback, error_callback, terms), func, args, kwds)
        with self._lock:
            self._waiting.add(call)
        call.watch()
        return call.handle

    def leave(self, call: _Call) -> None:
        """The call waits no more."""
        with self._lock:
            self._waiting.discard(call)
            is_last = self._is_closing and not self._waiting
        if is_last:
            self.crew.close()

    def close(self) -> None:
        """Close the pool's engine when the last call was started that waits."""
        with self._lock:
            self._is_closing = True
            is_idle = not self._waiting
        if is_idle:
            self.crew.close()

    def terminate(self) -> None:
        """Give up the calls that wait."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        for call in waiting:
            call.handle.fail(errors._terminated("the pool was terminated before the call was begun"))


class _Call:
    def __init__(
        self, graph: Graph, handle: Any, func: Callable[..., Any], args: tuple[Any, ...], kwds: dict[str, Any]
    ) -> None:
        self.handle = handle
        self._graph = graph
        self._call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] = func, args, kwds
        self._lock = threading.Lock()
        self._missing = 0

    def watch(self) -> None:
        """Have it started by whoever brings the last value, or here and now."""
        _, args, kwds = self._call
        kinds = _pending_kinds()
        pending = [value for value in (*args, *kwds.values()) if isinstance(value, kinds)]
        self._missing = len(pending) + 1
        for value in pending:
            if not isinstance(value, ApplyResult):
                value.add_done_callback(self._hear)
            elif not value._handle.watch(self._hear):
                self._hear()
        self._hear()

    def _hear(self, _: object = None) -> None:
        with self._lock:
            self._missing -= 1
            if self._missing:
                return
        func, args, kwds = self._call
        try:
            try:
                args = tuple(_value(value) for value in args)
                kwds = {name: _value(value) for name, value in kwds.items()}
            except BaseException as error:
                self.handle.fail(error)
            else:
                self._graph.crew.launch(self.handle, func, args, kwds)
        finally:
            self._graph.leave(self)


def _value(value: Any) -> Any:
    if isinstance(value, ApplyResult):
        return value._handle.value()
    return value.result(0) if isinstance(value, _kinds) else value
