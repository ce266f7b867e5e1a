"""Packages that have a pool of their own with a `map`: billiard (Celery's fork of multiprocessing) and mpire."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from benches.peer import ContextCrew, Crew, Function, Peer
from benches.peers.standard import CONTEXT_PARTS
from benches.workload import UNNAMED


class BilliardPool(ContextCrew):
    module = "billiard"


class Billiard(Peer):
    """`billiard`: the standard library's names, older code."""

    name = "billiard"
    distribution = "billiard"
    statement = "import billiard.pool"
    parts = CONTEXT_PARTS - {"SharedMemory"}

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": BilliardPool, "asyncio": BilliardPool}

    def context(self, method: str = UNNAMED) -> Any:
        return importlib.import_module("billiard").get_context(method)


class MpirePool(Crew):
    """`WorkerPool`. Workers stay between two maps only with `keep_alive`, which its documentation advises for that."""

    def __init__(self, method: str, workers: int) -> None:
        from mpire import WorkerPool

        self._start = partial(WorkerPool, n_jobs=workers, start_method=method)
        self._pool = self._start(keep_alive=True)

    def apply(self, function: Function, item: Any) -> Any:
        """One call there and back."""
        # A tuple of arguments: anything else that can be iterated would be taken for several.
        return self._pool.apply(function, (item,))

    def call(self, function: Function, item: Any) -> Any:
        # Not `apply`: in a pool that stays alive, mpire 2.10 passes a `map` after it one argument too many.
        return self.map_large(function, [item])[0]

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        return self._pool.map(function, _each(items))

    def map_one(self, function: Function, items: list[Any]) -> list[Any]:
        """All answers in order, every item a task of its own."""
        return self._pool.map(function, _each(items), chunk_size=1)

    def map_large(self, function: Function, items: list[Any]) -> list[Any]:
        # By default arrays that come back are joined into one.
        return self._pool.map(function, _each(items), concatenate_numpy_output=False)

    def map_bound(self, function: Callable[[Any, Any], Any], shared: Any, items: list[Any]) -> list[Any]:
        # Shared objects are given to a new pool, whose workers get them as they start, before the other arguments.
        with self._start(shared_objects=shared) as pool:
            return pool.map(function, items)

    map_shared = map_bound

    def map_sent(self, function: Callable[[Any, Any], Any], large: Any, items: list[Any]) -> list[Any]:
        """`function(large, item)` for each item, where `large` is an argument of every call."""
        return self._pool.map(function, [(large, item) for item in items], chunk_size=1)

    def starmap(self, function: Callable[..., Any], items: list[tuple[Any, ...]]) -> list[Any]:
        """`map` of several arguments: mpire takes tuples apart anyway."""
        return self._pool.map(function, items)

    def imap(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """Answers one by one in order, default chunks."""
        return self._pool.imap(function, _lazily(items))

    def imap_unordered(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """Answers as they come, every item a task of its own."""
        return self._pool.imap_unordered(function, _lazily(items), chunk_size=1)

    def many(self, function: Function, items: list[Any]) -> list[Any]:
        """All submitted one by one, then all answers."""
        pending = [self._pool.apply_async(function, (item,)) for item in items]
        return [one.get() for one in pending]

    def stop(self) -> None:
        self._pool.terminate()


def _each(items: Iterable[Any]) -> list[Any]:
    """Every item as the one argument that it is: mpire would take a dict, a tuple or an array for several."""
    return [(item,) for item in items]


def _lazily(items: Iterable[Any]) -> Iterable[Any]:
    """The same, drawn only as mpire wants them where there is no telling how many they are."""
    return _each(items) if hasattr(items, "__len__") else ((item,) for item in items)


class Mpire(Peer):
    """`mpire`: WorkerPool."""

    name = "mpire"
    distribution = "mpire"
    statement = "import mpire"

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": MpirePool}
