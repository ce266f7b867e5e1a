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
    from collections.abc import Generator
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

    def __reduce__(self) -> Any:
        raise TypeError(
            f"a {type(self).__name__} cannot be sent to another process inside of an object: give it as an argument of a"
            " call of its own, or its value, which get() returns"
        )

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

    def __await__(self) -> Generator[Any, None, _R]:
        """Wait for the call in a coroutine of asyncio: ``value = await result``.

        No thread waits meanwhile. When the waiting task is cancelled, so is the call, as by ``cancel(force=True)``: a
        worker that runs it is killed and replaced (a pool of threads lets it end). ``asyncio.shield(result)`` prevents
        that. Raises what `get` raises; RuntimeError outside of a coroutine that runs in asyncio.

        Differs: new.
        """
        from ._awaiting import value_of

        return value_of(self, self._handle).__await__()

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

    def __init__(self, pool: Pool, handle: _engine.Job, bar: Any = None) -> None:
        super().__init__(pool, handle)
        # The thread that shows the progress.
        self._bar = bar

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all calls ended, at most ``timeout`` seconds."""
        super().wait(timeout)
        self._leave_bar()

    def get(self, timeout: float | None = None) -> list[_R]:
        """Return the values, or raise what the call that failed first raised; `TimeoutError` after ``timeout`` seconds."""
        try:
            return super().get(timeout)
        finally:
            self._leave_bar()

    def _leave_bar(self) -> None:
        # What the caller prints next comes after the bar's last state.
        if self._bar is not None and self._handle.ready():
            self._bar.join()
            self._bar = None


class IMapIterator(Iterator[_R]):
    """The values of a map one by one, in the order of the input."""

    __module__ = "manyhands.pool"

    def __init__(self, pool: Pool, handle: _engine.Job, bar: Any = None) -> None:
        self._pool: Pool | None = pool
        self._handle = handle
        self._bar = bar

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
        taken = self._handle.next(timeout) if self._bar is None else self._bar.next(timeout)
        if taken is None:
            raise TimeoutError
        if not taken:
            self._pool = None
            raise StopIteration
        value: _R = taken[0]
        return value

    __next__ = next

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _R:
        """Wait for the next value in a coroutine of asyncio: ``async for value in pool.imap(...)``.

        No thread waits meanwhile. When the waiting task is cancelled, so is the map, as by ``cancel(force=True)``: workers
        that run calls of it are killed and replaced (a pool of threads lets them end).

        Differs: new.
        """
        from ._awaiting import next_of

        taken = await next_of(self._handle)
        if self._bar is not None:
            self._bar.took(taken)
        if not taken:
            self._pool = None
            raise StopAsyncIteration
        value: _R = taken[0]
        return value


class IMapUnorderedIterator(IMapIterator[_R]):
    """The values of a map one by one, as they come."""

    __module__ = "manyhands.pool"
