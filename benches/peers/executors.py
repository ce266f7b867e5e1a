"""Packages with executors and futures: loky, joblib (which runs on loky) and Pebble."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from benches.peer import Crew, Function, FuturesCrew, Peer
from benches.workload import UNNAMED


class LokyPool(FuturesCrew):
    def __init__(self, method: str, workers: int) -> None:
        from loky import get_reusable_executor

        self._executor = get_reusable_executor(max_workers=workers)

    def stop(self) -> None:
        # Without `kill_workers` all that was submitted would be done first, as nobody else's `stop` does.
        self._executor.shutdown(wait=True, kill_workers=True)


class Loky(Peer):
    """`loky`: its reusable executor, and the locks of its context."""

    name = "loky"
    distribution = "loky"
    statement = "import loky"
    # It starts new interpreters.
    methods = ("spawn",)
    parts = frozenset({"Lock", "RLock", "Semaphore"})

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": LokyPool, "executor": LokyPool}

    def context(self, method: str = UNNAMED) -> Any:
        return importlib.import_module("loky.backend").get_context("loky")


class JoblibPool(Crew):
    """`Parallel`, entered as a context manager so that its workers stay; batches are sized by joblib ("auto")."""

    def __init__(self, method: str, workers: int) -> None:
        import joblib

        self._delayed = joblib.delayed
        self._parallel = joblib.Parallel(n_jobs=workers)
        self._parallel.__enter__()
        self._lazy = joblib.Parallel(n_jobs=workers, return_as="generator")

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        call = self._delayed(function)
        return self._parallel(call(item) for item in items)

    # joblib has no other way to say it: it batches tasks that are short.
    map_one = map

    def map_bound(self, function: Callable[[Any, Any], Any], shared: Any, items: list[Any]) -> list[Any]:
        call = self._delayed(function)
        return self._parallel(call(shared, item) for item in items)

    def starmap(self, function: Callable[..., Any], items: list[tuple[Any, ...]]) -> list[Any]:
        """`map` of several arguments."""
        call = self._delayed(function)
        return self._parallel(call(*item) for item in items)

    def imap(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """Answers one by one in order."""
        call = self._delayed(function)
        return self._lazy(call(item) for item in items)

    def stop(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        self._parallel.__exit__(None, None, None)
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


class Joblib(Peer):
    """`joblib`: Parallel with its default backend."""

    name = "joblib"
    distribution = "joblib"
    statement = "import joblib"
    methods = ("spawn",)

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": JoblibPool}


class PebblePool(Crew):
    def __init__(self, method: str, workers: int) -> None:
        from multiprocessing import get_context

        from pebble import ProcessPool

        self._pool = ProcessPool(max_workers=workers, context=get_context(method))

    def submit(self, function: Function, item: Any) -> Any:
        """One call there and back."""
        return self._pool.schedule(function, args=[item]).result()

    call = submit

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        return list(self._pool.map(function, items).result())

    map_one = map

    def starmap(self, function: Callable[..., Any], items: list[tuple[Any, ...]]) -> list[Any]:
        """`map` of several arguments: column by column."""
        return list(self._pool.map(function, *zip(*items, strict=True)).result())

    def imap(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """Answers one by one in order."""
        return iter(self._pool.map(function, items).result())

    def many(self, function: Function, items: list[Any]) -> list[Any]:
        """All submitted one by one, then all answers."""
        pending = [self._pool.schedule(function, args=[item]) for item in items]
        return [one.result() for one in pending]

    def stop(self) -> None:
        self._pool.stop()
        self._pool.join()


class Pebble(Peer):
    """`pebble`: ProcessPool."""

    name = "pebble"
    distribution = "pebble"
    statement = "import pebble"

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": PebblePool, "executor": PebblePool}
