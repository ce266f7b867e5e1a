"""manyhands itself, with the face of the standard library; its executor is measured as soon as it has one."""

from __future__ import annotations

import importlib
from typing import Any

from benches.peer import ContextCrew, Crew, FuturesCrew, Peer
from benches.peers.standard import CONTEXT_PARTS
from benches.workload import UNNAMED


class Pool(ContextCrew):
    module = "manyhands"


class Executor(FuturesCrew):
    def __init__(self, method: str, workers: int) -> None:
        import manyhands

        self._executor = manyhands.ProcessPoolExecutor(workers, mp_context=manyhands.get_context(method))


class Manyhands(Peer):
    """`manyhands`, as it is installed in the environment that runs the benchmark."""

    name = "manyhands"
    distribution = "manyhands"
    statement = "import manyhands.pool"
    parts = CONTEXT_PARTS

    def crews(self) -> dict[str, type[Crew]]:
        # Not the standard library's class that `manyhands.install` may have put in its place.
        executor = getattr(importlib.import_module("manyhands"), "ProcessPoolExecutor", None)
        own = getattr(executor, "__module__", "").partition(".")[0] == "manyhands"
        return {"pool": Pool, "executor": Executor} if own else {"pool": Pool}

    def context(self, method: str = UNNAMED) -> Any:
        return importlib.import_module("manyhands").get_context(method)

    def shared_memory(self) -> Any:
        return importlib.import_module("manyhands.shared_memory")
