"""manyhands itself: the face of the standard library, and the executor."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from benches.peer import ContextCrew, Crew, Function, FuturesCrew, Peer
from benches.peers.backends import OurBackend
from benches.peers.standard import CONTEXT_PARTS
from benches.workload import UNNAMED


class Pool(ContextCrew):
    module = "manyhands"

    def map_shared(self, function: Callable[[Any, Any], Any], large: Any, items: list[Any]) -> list[Any]:
        with self._pool.share(large) as shared:
            return self._pool.starmap(function, [(shared, item) for item in items])

    def linked(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.apply_async(function, arguments)

    def urgent(self, function: Function, item: Any) -> Any:
        return self._pool.apply(function, (item,), priority=1)

    async def awaited(self, function: Function, item: Any) -> Any:
        return await self._pool.apply_async(function, (item,))

    async def values(self, function: Function, items: Iterable[Any]) -> AsyncIterator[Any]:
        async for found in self._pool.imap(function, items):
            yield found


class Executor(FuturesCrew):
    def __init__(self, method: str, workers: int) -> None:
        import manyhands

        self._executor = manyhands.ProcessPoolExecutor(workers, mp_context=manyhands.get_context(method))


class Manyhands(Peer):
    """`manyhands`, as it is installed in the environment that runs the benchmark."""

    name = "manyhands"
    distribution = "manyhands"
    statement = "import manyhands.pool"
    executor_statement = "import manyhands.executor"
    parts = CONTEXT_PARTS

    def crews(self) -> dict[str, type[Crew]]:
        # Only looked for: what it imports belongs to whoever uses it.
        there = importlib.util.find_spec("manyhands.executor") is not None
        crews = {"pool": Pool, "asyncio": Pool, "joblib": OurBackend}
        return crews | {"executor": Executor} if there else crews

    def context(self, method: str = UNNAMED) -> Any:
        return importlib.import_module("manyhands").get_context(method)

    def shared_memory(self) -> Any:
        return importlib.import_module("manyhands.shared_memory")

    async def aget(self, queue: Any) -> Any:
        return await queue.aget()

    async def aput(self, queue: Any, item: Any) -> None:
        await queue.aput(item)
