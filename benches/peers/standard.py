"""The standard library: `multiprocessing`, and `concurrent.futures` with processes. Ratios are taken to these."""

from __future__ import annotations

import importlib
import platform
from typing import Any

from benches.peer import ContextCrew, Crew, FuturesCrew, Peer
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
        return {"pool": ContextPool}

    def context(self, method: str = UNNAMED) -> Any:
        return importlib.import_module("multiprocessing").get_context(method)

    def shared_memory(self) -> Any:
        return importlib.import_module("multiprocessing.shared_memory")


class Executor(FuturesCrew):
    def __init__(self, method: str, workers: int) -> None:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        self._executor = ProcessPoolExecutor(workers, mp_context=get_context(method))


class ConcurrentFutures(Peer):
    """`concurrent.futures.ProcessPoolExecutor`."""

    name = "concurrent.futures"
    statement = "import concurrent.futures.process"

    def installed(self) -> str | None:
        return platform.python_version()

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": Executor, "executor": Executor}
