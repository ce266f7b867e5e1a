"""A pool of threads: `ThreadPool`.

Always: the interface is that of `Pool`, and what only processes can do is refused.  Not here: the work (`_thread_crew`).
"""

from __future__ import annotations

import threading

from . import _graph, pool, util
from .context import _usable_processors

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from ._engine import Shared

    _T = TypeVar("_T")

__all__ = ["ThreadPool"]


class ThreadPool(pool.Pool):
    """A pool of threads: the interface of `Pool`, in this process; nothing is pickled.

    ``processes``: int, the number of threads, at least 1; None: as many as the program may use
    processors. ``initializer(*initargs)`` runs first in each thread.

    Differs: SystemExit in a call raises `manyhands.TaskExited`; an initializer that raises in every
    thread raises `manyhands.BrokenPool`; `imap` draws its input as the threads need it; calls that are not
    done when the pool is terminated raise `manyhands.PoolTerminated`.
    """

    __module__ = "manyhands.pool"
    _wrap_exception = False

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """Make a worker's thread: a seam for subclasses."""
        from .dummy import Process

        return Process(*args, **kwds)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        from ._thread_crew import ThreadCrew

        self._pool: list[Any] = []
        self._state = pool.INIT
        self._ctx = None
        if processes is None:
            processes = _usable_processors()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._initializer = initializer
        self._initargs = tuple(initargs)
        self._maxtasksperchild = None
        self._carried = None
        self._crew: Any = ThreadCrew(initializer, self._initargs)
        try:
            self._repopulate_pool()
        except BaseException:
            self._crew.terminate()
            raise
        self._graph = _graph.Graph(self._crew)
        self._terminate = util.Finalize(self, _terminate, args=(self._crew, self._graph), exitpriority=15)
        self._state = pool.RUN

    def _let_go_of_exited(self) -> None:
        """Threads stay for as long as their pool."""

    def _repopulate_pool(self) -> None:
        """Start as many threads as are missing."""
        while len(self._pool) < self._processes:
            thread = self.Process(self._ctx, target=self._crew.serve)
            thread.name = thread.name.replace("Process", "PoolWorker")
            thread.daemon = True
            self._crew.enroll()
            thread.start()
            self._pool.append(thread)
            util.debug("added worker")

    def _tended(self) -> Any:
        self._check_running()
        return self._crew

    def resize(self, processes: int) -> None:
        """Raise NotImplementedError: the number of threads is fixed."""
        raise NotImplementedError("the number of threads of a ThreadPool is fixed: make another pool")

    def share(self, obj: _T) -> Shared[_T]:
        """Raise ValueError: threads share all objects as they are."""
        raise ValueError("threads share all objects: pass the object itself")

    def _terms(self, retries: int | None, task_timeout: float | None, priority: int | None) -> None:
        if retries is not None or task_timeout is not None:
            raise ValueError("threads cannot be killed: retries and task_timeout are for pools of processes")
        if priority is not None:
            raise ValueError("threads take calls in their order: priority is for pools of processes")

    def join(self) -> None:
        """Wait for the threads to end, after `close` or `terminate`."""
        util.debug("joining pool")
        if self._state == pool.RUN:
            raise ValueError("Pool is still running")
        if self._state not in (pool.CLOSE, pool.TERMINATE):
            raise ValueError("In unknown state")
        self._crew.hurry()
        for thread in self._pool:
            if thread is not threading.current_thread():
                thread.join()


def _terminate(crew: Any, graph: _graph.Graph) -> None:
    crew.terminate()
    graph.terminate()
