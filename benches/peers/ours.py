"""manyhands itself: the face of the standard library, and the executor."""

from __future__ import annotations

import importlib
import importlib.util
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
        # Only looked for: what it imports belongs to whoever uses it.
        there = importlib.util.find_spec("manyhands.executor") is not None
        return {"pool": Pool, "executor": Executor} if there else {"pool": Pool}

    def context(self, method: str = UNNAMED) -> Any:
        return importlib.import_module("manyhands").get_context(method)

    def shared_memory(self) -> Any:
        return importlib.import_module("manyhands.shared_memory")
