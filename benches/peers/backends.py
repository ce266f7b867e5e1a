"""What joblib runs on, chosen by its name as a program does: its own backends, and ours.

Always: a call of `Parallel` is one that a program makes, and nothing is kept between two of them but what the backend
keeps by itself; batches are sized by joblib, and arrays mapped as it does by default.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

from benches.peer import Crew, Function


class Backend(Crew):
    """`joblib.Parallel` on the backend of this name."""

    name = ""

    def __init__(self, method: str, workers: int) -> None:
        import joblib

        self._workers, self._parallel, self._delayed = workers, joblib.Parallel, joblib.delayed

    def _run(self, calls: Iterable[Any]) -> list[Any]:
        return self._parallel(n_jobs=self._workers, backend=self.name)(calls)

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        call = self._delayed(function)
        return self._run(call(item) for item in items)

    def map_bound(self, function: Callable[[Any, Any], Any], shared: Any, items: list[Any]) -> list[Any]:
        call = self._delayed(function)
        return self._run(call(shared, item) for item in items)


class PoolBackend(Backend):
    """The standard library's pool, made for each call."""

    name = "multiprocessing"


class LokyBackend(Backend):
    name = "loky"

    def stop(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True, kill_workers=True)


class OurBackend(Backend):
    name = "manyhands"

    def __init__(self, method: str, workers: int) -> None:
        super().__init__(method, workers)
        importlib.import_module("manyhands.joblib")
