"""Packages with executors and futures: loky, joblib (which runs on loky) and Pebble."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import Any

from benches.calls import keep, of_kept
from benches.peer import Crew, Function, FuturesCrew, Peer
from benches.peers.backends import LokyBackend
from benches.workload import UNNAMED


class LokyPool(FuturesCrew):
    def __init__(self, method: str, workers: int) -> None:
        from loky import get_reusable_executor

        self._start = partial(get_reusable_executor, max_workers=workers)
        self._executor = self._start()

    def map_shared(self, function: Callable[[Any, Any], Any], large: Any, items: list[Any]) -> list[Any]:
        """`function(large, item)`, where `large` is given to workers as they start: for that they are replaced."""
        self._executor = self._start(initializer=keep, initargs=(function, large))
        return list(self._executor.map(of_kept, items))

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
        return {"pool": LokyPool, "executor": LokyPool, "asyncio": LokyPool}

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

    # Each array of 1 MB and more is written once and mapped by the workers, whatever it is an argument of.
    map_shared = map_sent = map_bound

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
        return {"pool": JoblibPool, "joblib": LokyBackend}


class PebblePool(Crew):
    def __init__(self, method: str, workers: int) -> None:
        from multiprocessing import get_context

        from pebble import ProcessPool

        self._start = partial(ProcessPool, max_workers=workers, context=get_context(method))
        self._pool = self._start()

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

    def map_sent(self, function: Callable[[Any, Any], Any], large: Any, items: list[Any]) -> list[Any]:
        """`function(large, item)` for each item, where `large` is an argument of every call."""
        pending = [self._pool.schedule(function, args=[large, item]) for item in items]
        return [one.result() for one in pending]

    def map_shared(self, function: Callable[[Any, Any], Any], large: Any, items: list[Any]) -> list[Any]:
        """The same, where `large` is given to the workers of a new pool."""
        with self._start(initializer=keep, initargs=(function, large)) as pool:
            return list(pool.map(of_kept, items).result())

    def linked(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Starts a call whose arguments may be futures. By hand: waits for them first."""
        known = [one.result() if hasattr(one, "result") else one for one in arguments]
        return self._pool.schedule(function, args=known)

    def value(self, linked: Any) -> Any:
        """What such a call returned."""
        return linked.result()

    async def awaited(self, function: Function, item: Any) -> Any:
        """One call there and back, in asyncio; the second argument is a time limit."""
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(self._pool, function, None, item)

    async def values(self, function: Function, items: Iterable[Any]) -> AsyncIterator[Any]:
        """Answers one by one in order, in asyncio."""
        import asyncio

        for future in [asyncio.wrap_future(self._pool.schedule(function, args=[item])) for item in items]:
            yield await future

    def stop(self) -> None:
        self._pool.stop()
        self._pool.join()


class Pebble(Peer):
    """`pebble`: ProcessPool."""

    name = "pebble"
    distribution = "pebble"
    statement = "import pebble"

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": PebblePool, "executor": PebblePool, "asyncio": PebblePool}
