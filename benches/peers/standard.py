"""The standard library: `multiprocessing`, and `concurrent.futures` with processes. Ratios are taken to these."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable
from functools import partial
from typing import Any

from benches.calls import keep, of_kept
from benches.peer import ContextCrew, Crew, FuturesCrew, Peer
from benches.peers.backends import PoolBackend
from benches.workload import UNNAMED

CONTEXT_PARTS = frozenset(
    [
        "Process",
        "Queue",
        "SimpleQueue",
        "Pipe",
        "Lock",
        "RLock",
        "Semaphore",
        "Event",
        "Condition",
        "Barrier",
        "Value",
        "RawValue",
        "Manager",
        "SharedMemory",
        "large_items",
        "several_ends",
        "awaited_queue",
    ]
)


class ContextPool(ContextCrew):
    module = "multiprocessing"


class Multiprocessing(Peer):
    """`multiprocessing`: Pool, Process, queues and locks."""

    name = "multiprocessing"
    statement = "import multiprocessing.pool"
    parts = CONTEXT_PARTS

    def installed(self) -> str | None:
        return platform.python_version()

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": ContextPool, "asyncio": ContextPool, "joblib": PoolBackend}

    def context(self, method: str = UNNAMED) -> Any:
        return importlib.import_module("multiprocessing").get_context(method)

    def shared_memory(self) -> Any:
        return importlib.import_module("multiprocessing.shared_memory")


class Executor(FuturesCrew):
    def __init__(self, method: str, workers: int) -> None:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        self._start = partial(ProcessPoolExecutor, workers, mp_context=get_context(method))
        self._executor = self._start()

    def map_shared(self, function: Callable[[Any, Any], Any], large: Any, items: list[Any]) -> list[Any]:
        """`function(large, item)`, where `large` is given to the workers of a new executor."""
        with self._start(initializer=keep, initargs=(function, large)) as executor:
            return list(executor.map(of_kept, items))


class ConcurrentFutures(Peer):
    """`concurrent.futures.ProcessPoolExecutor`."""

    name = "concurrent.futures"
    statement = "import concurrent.futures.process"

    def installed(self) -> str | None:
        return platform.python_version()

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": Executor, "executor": Executor, "asyncio": Executor}
