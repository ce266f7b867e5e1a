"""What a peer is: a package that does what manyhands does, and the face that the workloads see of it.

Always: nothing that is measured is imported before it is used, and this module drags nothing along: what the measured
process holds already is what it has to copy when it forks. A peer is measured with its own default arguments, two workers where the workload
asks for no other number, and the call that its documentation recommends for the workload; what it has no call for it
does not offer, and is left out of that table.
Not here: the peers themselves (`peers`), what is measured (`workload`).
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import Any

from benches.calls import keep, of_kept
from benches.workload import UNNAMED, WORKERS

Function = Callable[[Any], Any]
_END = object()


class Crew:
    """Workers that were started: what every pool can do, in terms of `map`.

    A workload needs a method by its name; a crew that does not define it does not have it. Made from a start method
    and a number of workers.
    """

    def __init__(self, method: str, workers: int) -> None:
        raise NotImplementedError

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        """All answers in order, with the peer's own size of chunks."""
        raise NotImplementedError

    def call(self, function: Function, item: Any) -> Any:
        """One call and its answer, by whatever is the peer's way to make one."""
        return self.map(function, [item])[0]

    def map_large(self, function: Function, items: list[Any]) -> list[Any]:
        """`map` where each item is some megabytes."""
        return self.map(function, items)

    def map_work(self, function: Function, items: list[Any]) -> list[Any]:
        """`map` where each item is some milliseconds of work."""
        return self.map(function, items)

    def map_bound(self, function: Callable[[Any, Any], Any], shared: Any, items: list[Any]) -> list[Any]:
        """`map` of `function(shared, item)`, where `shared` is large."""
        return self.map(partial(function, shared), items)

    async def begin(self) -> None:
        """What is left to do for the workers to start when the event loop runs."""

    async def end(self) -> None:
        """What has to be done, before `stop`, while it still runs."""

    def stop(self) -> None:
        """Ends the workers, and returns when they have ended."""

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Peer:
    """A package under measurement."""

    name = ""
    # What pip calls it; empty for the standard library.
    distribution = ""
    # The import that gives a program the package's pool.
    statement = ""
    # The same for its executor, where that is another one.
    executor_statement = ""
    # The start methods a program can choose; a peer with one way of its own names the one it resembles.
    methods: tuple[str, ...] = ("fork", "forkserver", "spawn")
    chooses = True
    # As far as it is measured with more than two: what it takes to start and to hold that many has to fit a machine.
    most_workers = 256
    # What of a multiprocessing context it has, and other abilities that workloads ask for.
    parts: frozenset[str] = frozenset()

    def installed(self) -> str | None:
        """The version found, or None."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return None

    def has(self, need: str) -> bool:
        """Whether it offers `need`: "pool.imap", "executor.submit", or the name of a part."""
        kind, dot, method = need.partition(".")
        if not dot:
            return need in self.parts
        return callable(getattr(self.crews().get(kind), method, None))

    def offers(self, needs: Iterable[str], method: str | None, workers: int = WORKERS) -> bool:
        """Whether it has all that a workload needs, for a start method where one is named, and so many workers."""
        able = all(self.has(need) for need in needs) and workers <= self.most_workers
        return able and (method is None or method in self.methods)

    def crews(self) -> dict[str, type[Crew]]:
        """Its pool ("pool") and its executor ("executor"), what is used in asyncio ("asyncio") and through joblib
        ("joblib"), as far as it has them."""
        return {}

    def start(self, kind: str, method: str, workers: int) -> Crew:
        """Its pool or its executor with so many workers, started as its documentation shows."""
        return self.crews()[kind](method, workers)

    def context(self, method: str = UNNAMED) -> Any:
        """Something with the names of a multiprocessing context that are in `parts`, and Process besides."""
        raise NotImplementedError

    def shared_memory(self) -> Any:
        """The module with SharedMemory."""
        raise NotImplementedError

    async def aget(self, queue: Any) -> Any:
        """The next item of a queue of its context, in asyncio: who has no way of its own waits in a thread."""
        import asyncio

        return await asyncio.to_thread(queue.get)

    async def aput(self, queue: Any, item: Any) -> None:
        """Puts an item into a queue that may be full."""
        import asyncio

        await asyncio.to_thread(queue.put, item)


class ContextCrew(Crew):
    """A pool with the standard library's face, of the package named `module`."""

    module = ""

    def __init__(self, method: str, workers: int) -> None:
        self._start = partial(importlib.import_module(self.module).get_context(method).Pool, workers)
        self._pool = self._start()

    def apply(self, function: Function, item: Any) -> Any:
        """One call there and back."""
        return self._pool.apply(function, (item,))

    call = apply

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        return self._pool.map(function, items)

    def map_one(self, function: Function, items: list[Any]) -> list[Any]:
        """All answers in order, every item a task of its own."""
        return self._pool.map(function, items, chunksize=1)

    def starmap(self, function: Callable[..., Any], items: list[tuple[Any, ...]]) -> list[Any]:
        """`map` of several arguments."""
        return self._pool.starmap(function, items)

    def imap(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """Answers one by one in order, default chunks."""
        return self._pool.imap(function, items)

    def imap_unordered(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """Answers as they come, every item a task of its own."""
        return self._pool.imap_unordered(function, items)

    def many(self, function: Function, items: list[Any]) -> list[Any]:
        """All submitted one by one, then all answers."""
        pending = [self._pool.apply_async(function, (item,)) for item in items]
        return [one.get() for one in pending]

    def map_sent(self, function: Callable[[Any, Any], Any], large: Any, items: list[Any]) -> list[Any]:
        """`function(large, item)` for each item, where `large` is an argument of every call."""
        pending = [self._pool.apply_async(function, (large, item)) for item in items]
        return [one.get() for one in pending]

    def map_shared(self, function: Callable[[Any, Any], Any], large: Any, items: list[Any]) -> list[Any]:
        """The same, where the workers have `large` once: it is given to a new pool, as its workers start."""
        with self._start(initializer=keep, initargs=(function, large)) as pool:
            return pool.map(of_kept, items)

    def linked(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Starts a call whose arguments may be results that are not there yet. By hand: waits for them first."""
        return self._pool.apply_async(function, tuple(one.get() if hasattr(one, "get") else one for one in arguments))

    def value(self, linked: Any) -> Any:
        """What such a call returned."""
        return linked.get()

    def queue_up(self, function: Function, items: list[Any]) -> Callable[[], list[Any]]:
        """Starts a `map`; returns what waits for its answers."""
        return self._pool.map_async(function, items).get

    def urgent(self, function: Function, item: Any) -> Any:
        """A call that should go before those that were queued up. There are no priorities: it waits for its turn."""
        return self._pool.apply(function, (item,))

    async def awaited(self, function: Function, item: Any) -> Any:
        """One call there and back, in asyncio: its callback tells the event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def tell(found: Any) -> None:
            loop.call_soon_threadsafe(future.set_result, found)

        def fail(error: BaseException) -> None:
            loop.call_soon_threadsafe(future.set_exception, error)

        self._pool.apply_async(function, (item,), callback=tell, error_callback=fail)
        return await future

    async def values(self, function: Function, items: Iterable[Any]) -> AsyncIterator[Any]:
        """Answers one by one in order, in asyncio: a thread waits for each of them."""
        import asyncio

        answers = iter(self.imap(function, items))
        while (found := await asyncio.to_thread(next, answers, _END)) is not _END:
            yield found

    def stop(self) -> None:
        self._pool.terminate()
        self._pool.join()


class FuturesCrew(Crew):
    """An executor with the face of `concurrent.futures`."""

    _executor: Any

    def submit(self, function: Function, item: Any) -> Any:
        """One call there and back."""
        return self._executor.submit(function, item).result()

    call = submit

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        return list(self._executor.map(function, items))

    # Its default is one item a task already.
    map_one = map

    def starmap(self, function: Callable[..., Any], items: list[tuple[Any, ...]]) -> list[Any]:
        """`map` of several arguments: an executor takes them column by column."""
        return list(self._executor.map(function, *zip(*items, strict=True)))

    def imap(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """Answers one by one in order."""
        return iter(self._executor.map(function, items))

    def many(self, function: Function, items: list[Any]) -> list[Any]:
        """All submitted one by one, then all answers."""
        pending = [self._executor.submit(function, item) for item in items]
        return [one.result() for one in pending]

    def map_sent(self, function: Callable[[Any, Any], Any], large: Any, items: list[Any]) -> list[Any]:
        """`function(large, item)` for each item, where `large` is an argument of every call."""
        pending = [self._executor.submit(function, large, item) for item in items]
        return [one.result() for one in pending]

    def linked(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Starts a call whose arguments may be futures. By hand: waits for them first."""
        return self._executor.submit(function, *(one.result() if hasattr(one, "result") else one for one in arguments))

    def value(self, linked: Any) -> Any:
        """What such a call returned."""
        return linked.result()

    def queue_up(self, function: Function, items: list[Any]) -> Callable[[], list[Any]]:
        """Starts calls; returns what waits for their answers."""
        pending = [self._executor.submit(function, item) for item in items]
        return lambda: [one.result() for one in pending]

    def urgent(self, function: Function, item: Any) -> Any:
        """A call that should go before those that were queued up. There are no priorities: it waits for its turn."""
        return self.submit(function, item)

    async def awaited(self, function: Function, item: Any) -> Any:
        """One call there and back, in asyncio."""
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(self._executor, function, item)

    async def values(self, function: Function, items: Iterable[Any]) -> AsyncIterator[Any]:
        """Answers one by one in order, in asyncio."""
        import asyncio

        for future in [asyncio.wrap_future(self._executor.submit(function, item)) for item in items]:
            yield await future

    def stop(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
