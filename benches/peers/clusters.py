"""Packages made for many machines, here on one: ray and dask.distributed.

Always: both get what a program on one machine gets, two workers and nothing else configured but quiet logs and no
dashboard; large objects go through `ray.put` and `Client.scatter`, as both advise. A worker of theirs is a program of
some 100 MB that takes a second to start, so they are measured with some, not with hundreds.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from benches.peer import Crew, Function, Peer


class RayTasks(Crew):
    """Remote functions; chunks by its copy of multiprocessing's Pool, which it advises for many small calls."""

    def __init__(self, method: str, workers: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray, self._workers = ray, workers
        self._remotes: dict[Any, Any] = {}
        self._pool: Any = None
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
            configure_logging=False,
        )

    def _remote(self, function: Any) -> Any:
        if function not in self._remotes:
            self._remotes[function] = self._ray.remote(function)
        return self._remotes[function]

    def _chunks(self) -> Any:
        if self._pool is None:
            from ray.util.multiprocessing import Pool

            self._pool = Pool(self._workers)
        return self._pool

    def submit(self, function: Function, item: Any) -> Any:
        """One call there and back."""
        return self._ray.get(self._remote(function).remote(item))

    call = submit

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        return self._chunks().map(function, items)

    def map_one(self, function: Function, items: list[Any]) -> list[Any]:
        """All answers in order, every item a task of its own."""
        remote = self._remote(function)
        return self._ray.get([remote.remote(item) for item in items])

    many = map_large = map_work = map_one

    def map_bound(self, function: Callable[[Any, Any], Any], shared: Any, items: list[Any]) -> list[Any]:
        remote, shared = self._remote(function), self._ray.put(shared)
        return self._ray.get([remote.remote(shared, item) for item in items])

    map_shared = map_bound

    def map_sent(self, function: Callable[[Any, Any], Any], large: Any, items: list[Any]) -> list[Any]:
        """`function(large, item)` for each item, where `large` is an argument of every call."""
        remote = self._remote(function)
        return self._ray.get([remote.remote(large, item) for item in items])

    def linked(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Starts a call whose arguments may be results that are not there yet."""
        return self._remote(function).remote(*arguments)

    def value(self, linked: Any) -> Any:
        """What such a call returned."""
        return self._ray.get(linked)

    async def awaited(self, function: Function, item: Any) -> Any:
        """One call there and back, in asyncio."""
        return await self._remote(function).remote(item)

    async def values(self, function: Function, items: Iterable[Any]) -> AsyncIterator[Any]:
        """Answers one by one in order, in asyncio."""
        remote = self._remote(function)
        for reference in [remote.remote(item) for item in items]:
            yield await reference

    def starmap(self, function: Callable[..., Any], items: list[tuple[Any, ...]]) -> list[Any]:
        """`map` of several arguments."""
        return self._chunks().starmap(function, items)

    def imap(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """Answers one by one in order, default chunks."""
        return self._chunks().imap(function, items)

    def imap_unordered(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """Answers as they come, every item a task of its own."""
        return self._chunks().imap_unordered(function, items)

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.terminate()
        self._ray.shutdown()


class Ray(Peer):
    """`ray` on this machine."""

    name = "ray"
    distribution = "ray"
    statement = "import ray"
    methods = ("spawn",)
    most_workers = 16

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": RayTasks, "executor": RayTasks, "asyncio": RayTasks}


class DaskClient(Crew):
    """A LocalCluster of processes; trivial calls by the thousand go through a bag, which it advises for them."""

    def __init__(self, method: str, workers: int) -> None:
        from distributed import Client, LocalCluster

        self._cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        )
        self._client = Client(self._cluster)

    def submit(self, function: Function, item: Any) -> Any:
        """One call there and back. Not `pure`: an answer that was given once must not be given again unasked."""
        return self._client.submit(function, item, pure=False).result()

    def call(self, function: Function, item: Any) -> Any:
        if hasattr(item, "nbytes"):
            item = self._client.scatter(item)
        return self.submit(function, item)

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        from dask import bag

        return bag.from_sequence(items).map(function).compute()

    def map_one(self, function: Function, items: list[Any]) -> list[Any]:
        """All answers in order, every item a task of its own."""
        return self._client.gather(self._client.map(function, items, pure=False))

    map_work = map_one

    def map_large(self, function: Function, items: list[Any]) -> list[Any]:
        items = self._client.scatter(items) if hasattr(items[0], "nbytes") else items
        return self._client.gather(self._client.map(function, items, pure=False))

    def map_bound(self, function: Callable[[Any, Any], Any], shared: Any, items: list[Any]) -> list[Any]:
        future = self._client.scatter(shared, broadcast=True)
        return self._client.gather([self._client.submit(function, future, item, pure=False) for item in items])

    map_shared = map_bound

    def map_sent(self, function: Callable[[Any, Any], Any], large: Any, items: list[Any]) -> list[Any]:
        """`function(large, item)` for each item, where `large` is an argument of every call."""
        return self._client.gather([self._client.submit(function, large, item, pure=False) for item in items])

    def linked(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Starts a call whose arguments may be futures."""
        return self._client.submit(function, *arguments, pure=False)

    def value(self, linked: Any) -> Any:
        """What such a call returned."""
        return linked.result()

    def queue_up(self, function: Function, items: list[Any]) -> Callable[[], list[Any]]:
        """Starts calls; returns what waits for their answers."""
        pending = self._client.map(function, items, pure=False)
        return lambda: self._client.gather(pending)

    def urgent(self, function: Function, item: Any) -> Any:
        """A call that goes before those that were queued up."""
        return self._client.submit(function, item, pure=False, priority=1).result()

    def starmap(self, function: Callable[..., Any], items: list[tuple[Any, ...]]) -> list[Any]:
        """`map` of several arguments."""
        from dask import bag

        return bag.from_sequence(items).starmap(function).compute()

    def many(self, function: Function, items: list[Any]) -> list[Any]:
        """All submitted one by one, then all answers."""
        return self._client.gather([self._client.submit(function, item, pure=False) for item in items])

    def stop(self) -> None:
        self._client.close()
        self._cluster.close()


class DaskAwaited(Crew):
    """The same cluster with an asynchronous client, whose futures are awaited."""

    _cluster: Any
    _client: Any

    def __init__(self, method: str, workers: int) -> None:
        self._workers = workers

    async def begin(self) -> None:
        from distributed import Client, LocalCluster

        self._cluster = await LocalCluster(
            n_workers=self._workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=50,
            asynchronous=True,
        )
        self._client = await Client(self._cluster, asynchronous=True)

    async def awaited(self, function: Function, item: Any) -> Any:
        """One call there and back."""
        return await self._client.submit(function, item, pure=False)

    async def values(self, function: Function, items: Iterable[Any]) -> AsyncIterator[Any]:
        """Answers one by one in order."""
        for future in self._client.map(function, list(items), pure=False):
            yield await future

    async def end(self) -> None:
        await self._client.close()
        await self._cluster.close()


class Dask(Peer):
    """`dask.distributed` on this machine."""

    name = "dask"
    distribution = "distributed"
    statement = "import distributed"
    methods = ("spawn",)
    most_workers = 16

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": DaskClient, "executor": DaskClient, "asyncio": DaskAwaited}
