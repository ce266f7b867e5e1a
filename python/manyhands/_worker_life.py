"""What a worker does beside its calls: which processors it uses, what it keeps, what it does at its end.

Always: what a pool was not asked for costs its workers nothing.  Not here: the calls (`_engine.serve`).
"""

from __future__ import annotations

import operator
import os

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    # (what to call at the end, processors of each place, threads of native libraries, where log records go and levels)
    Life = tuple[Callable[[], object] | None, list[list[int]], int | None, tuple[Any, dict[str, int]] | None]

__all__ = ["worker_state"]

_state: dict[Any, Any] = {}
_state_pid = os.getpid()


def worker_state() -> dict[Any, Any]:
    """Return the dictionary in which this process keeps what its calls share: connections, models, caches.

    Each worker of a pool has one, empty at first, for the initializer, the calls and ``worker_exit``; so has the program
    itself. It is not inherited by fork.
    """
    global _state, _state_pid
    if _state_pid != os.getpid():
        _state, _state_pid = {}, os.getpid()
    return _state


def life(
    worker_exit: Callable[[], object] | None,
    cpu_ids: Iterable[int] | Iterable[Iterable[int]] | None,
    threads: Any,
    log: tuple[Any, dict[str, int]] | None,
) -> Life | None:
    """Check what a pool was asked for; None: nothing."""
    if worker_exit is None and cpu_ids is None and threads is None and log is None:
        return None
    if worker_exit is not None and not callable(worker_exit):
        raise TypeError(f"worker_exit must be a callable or None, not {type(worker_exit).__name__}")
    if threads is not None:
        threads = operator.index(threads)
        if threads < 1:
            raise ValueError(f"threads_per_worker must be at least 1, or None, not {threads}")
    return worker_exit, [] if cpu_ids is None else _places(cpu_ids), threads, log


def _places(cpu_ids: Any) -> list[list[int]]:
    if isinstance(cpu_ids, str | bytes) or not hasattr(cpu_ids, "__iter__"):
        raise TypeError(f"cpu_ids must be a list of processors, or of lists of them, not {type(cpu_ids).__name__}")
    places = [[operator.index(cpu) for cpu in (place if hasattr(place, "__iter__") else [place])] for place in cpu_ids]
    allowed = os.sched_getaffinity(0)
    for place in places:
        if not place or not allowed.issuperset(place):
            raise ValueError(
                f"cpu_ids has {place}: each worker needs processors that this program may use, which are {sorted(allowed)}"
            )
    if not places:
        raise ValueError("cpu_ids is empty: give at least one processor, or None for all")
    return places


def begin(life: Life, place: int) -> None:
    """What the worker at a place of the pool does first."""
    _, places, threads, log = life
    if log is not None:
        from . import _log_relay

        _log_relay.send_records(*log)
    if places:
        os.sched_setaffinity(0, places[place % len(places)])
    if threads is not None:
        from . import _native_threads

        _native_threads.cap(threads)
