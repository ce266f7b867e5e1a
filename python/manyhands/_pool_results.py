"""What a pool's methods return for calls that go on: `ApplyResult` and its kin.

Always: a result keeps its pool alive until it is there.  Not here: waiting and decoding (`_engine.Job`).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import GenericAlias

from . import _engine
from .context import TimeoutError

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, TypeVar
    from typing import Generic as _Generic

    from .pool import Pool

    _R = TypeVar("_R")  # what a call returns
else:
    _R = object
    _Generic = {_R: object}  # as a base class: nothing

__all__ = ["ApplyResult", "AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult"]


class ApplyResult(_Generic[_R]):
    """The result of a call that was started, as `Pool.apply_async` returns it."""

    __module__ = "manyhands.pool"

    def __init__(self, pool: Pool, handle: _engine.Job) -> None:
        self._pool: Pool | None = pool
        self._handle = handle

    def ready(self) -> bool:
        """Whether the call ended."""
        return self._handle.ready()

    def successful(self) -> bool:
        """Whether the call ended without an exception; ValueError before it ended."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._handle.successful()

    def cancel(self, force: bool = False) -> bool:
        """Cancel the call if no worker has begun it; return whether that was so.

        ``force``: also one that a worker is running, by killing that worker, which is replaced. `get` then raises
        `concurrent.futures.CancelledError`. Of a map everything is cancelled that was not begun; its result is there
        once the rest has ended.

        Differs: new. Raises ValueError in a pool of threads for ``force``.
        """
        return self._handle.abort(force)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call ended, at most ``timeout`` seconds."""
        if self._handle.wait(timeout):
            self._pool = None

    def get(self, timeout: float | None = None) -> _R:
        """Return the value, or raise what the call raised; `TimeoutError` after ``timeout`` seconds."""
        if not self._handle.wait(timeout):
            raise TimeoutError
        self._pool = None
        value: _R = self._handle.value()
        return value

    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)


AsyncResult = ApplyResult


class MapResult(ApplyResult[list[_R]]):
    """The result of a map that was started; its value is the list of values."""

    __module__ = "manyhands.pool"


class IMapIterator(Iterator[_R]):
    """The values of a map one by one, in the order of the input."""

    __module__ = "manyhands.pool"

    def __init__(self, pool: Pool, handle: _engine.Job) -> None:
        self._pool: Pool | None = pool
        self._handle = handle

    def __iter__(self) -> Self:
        return self

    def cancel(self, force: bool = False) -> bool:
        """Draw no more, and cancel what no worker has begun; return whether there was any.

        ``force``: also what workers are running, by killing them. `next` raises `concurrent.futures.CancelledError`
        where a value is missing. Differs: new.
        """
        return self._handle.abort(force)

    def next(self, timeout: float | None = None) -> _R:
        """Return the next value; `TimeoutError` after ``timeout`` seconds; StopIteration at the end."""
        taken = self._handle.next(timeout)
        if taken is None:
            raise TimeoutError
        if not taken:
            self._pool = None
            raise StopIteration
        value: _R = taken[0]
        return value

    __next__ = next


class IMapUnorderedIterator(IMapIterator[_R]):
    """The values of a map one by one, as they come."""

    __module__ = "manyhands.pool"
