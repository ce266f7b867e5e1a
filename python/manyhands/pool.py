"""Pools of worker processes: `Pool` and its results.

The shape is here, the motion in the engine: a call is pickled, handed to a worker's
mailbox, run, and collected by the thread that waits for it, all in `_engine`. Always: a pool
keeps no thread and no process beyond its own end, and every accepted call ends in a value or an
exception, whatever becomes of the workers.  Not here: the worker's main function (`_pool_worker`).
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sized

from . import _engine, _graph, _limits, _progress, _seats, _shortage, _stacks, _worker_life, util  # noqa: F401
from ._pool_results import ApplyResult as ApplyResult
from ._pool_results import AsyncResult as AsyncResult
from ._pool_results import IMapIterator as IMapIterator
from ._pool_results import IMapUnorderedIterator as IMapUnorderedIterator
from ._pool_results import MapResult as MapResult
from ._pool_staff import Staff, Tender
from ._pool_worker import worker as worker
from .context import TimeoutError as TimeoutError
from .context import _usable_processors
from .errors import ExceptionWithTraceback as ExceptionWithTraceback
from .errors import MaybeEncodingError as MaybeEncodingError
from .errors import RemoteTraceback as RemoteTraceback
from .errors import rebuild_exc as rebuild_exc

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextvars import ContextVar
    from typing import Any, Literal, Self, TypeVar

    from ._engine import Shared
    from ._log_relay import Relay
    from ._thread_pool import ThreadPool as ThreadPool

    _T = TypeVar("_T")  # what a call takes
    _R = TypeVar("_R")  # what it returns

__all__ = ["Pool", "ThreadPool"]

INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"


def __getattr__(name: str) -> Any:
    if name == "ThreadPool":  # it needs what is here, so it is loaded when it is asked for
        from ._thread_pool import ThreadPool

        globals()[name] = ThreadPool
        return ThreadPool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return [*globals(), "ThreadPool"]


# How long workers of a terminated pool may take to follow SIGTERM before they are killed.
_GRACE = 5.0


class Pool:
    """A pool of worker processes that run calls.

    ``processes``: int, the number of workers, at least 1; None: as many as the program may use
    processors (`cpu_count`). ``initializer(*initargs)`` runs first in each worker. ``maxtasksperchild``: int,
    tasks (chunks, in a map) after which a worker is replaced; None: never.

    ``max_memory_per_child``: int, bytes of memory of its own by which a worker may grow from when it was ready, after
    ``initializer``: one that has more after a task, and after a garbage collection, is replaced. Shared memory does not
    count. ``idle_timeout``: float, seconds after which workers leave that have nothing to do; they come back when
    there is more to do than those who stay can begin. None: neither.

    ``retries``: int, how often a task is run again whose worker died; only for calls that may be begun twice.
    ``task_timeout``: float, seconds that one call may take: then `manyhands.SoftTimeLimitExceeded` is raised in it, and
    if it goes on for ``task_grace`` seconds more (float; 0: at once) its worker is killed and replaced, and the
    task raises `manyhands.TimeLimitExceeded`. ``max_memory``: int, bytes of private memory that a worker may have;
    beyond it a call gets MemoryError. ``cpu_time``: float, seconds of processor time that one call may use before
    SIGXCPU ends its worker. ``max_restarts``: int, so many workers may die within ``max_seconds`` (float); with
    the next death the pool gives up and everything raises `manyhands.BrokenPool`. None: no such limit.

    ``worker_exit()`` runs last in each worker that leaves in an orderly way: replaced, no longer needed, or of a pool that
    is closed and joined; not in one that is terminated. ``cpu_ids``: list of int, or of lists of int, the
    processors that the first worker may use, the second, and so on, from the beginning again for more workers than that;
    None: all of the program's. ``threads_per_worker``: int, threads that OpenMP, BLAS and their like may use in
    each worker; None: as they like. ``forward_logging``: bool, have records of `logging` in workers handled by the handlers
    of this program, at its levels, instead of by what workers have themselves. ``context_vars``: list of
    `contextvars.ContextVar`, global variables of modules, whose values go with each call as the caller has them.

    Raises ValueError or TypeError for an argument of the wrong kind, OSError when no process can
    be started.

    Differs: from ``retries`` on the arguments are new; a worker that dies takes only its running task with it, which raises
    `manyhands.WorkerDied`; a pool whose workers cannot start raises `manyhands.BrokenPool`; SystemExit in a
    task raises `manyhands.TaskExited`; input is drawn as workers need it.
    """

    _wrap_exception = True
    # For __del__, should __init__ not have got so far.
    _state = INIT

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """Make a worker's process: a seam for subclasses."""
        return ctx.Process(*args, **kwds)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        retries: int = 0,
        task_timeout: float | None = None,
        task_grace: float = 1.0,
        max_memory: int | None = None,
        cpu_time: float | None = None,
        max_restarts: int | None = None,
        max_seconds: float = 5.0,
        worker_exit: Callable[[], object] | None = None,
        cpu_ids: Iterable[int] | Iterable[Iterable[int]] | None = None,
        threads_per_worker: int | None = None,
        forward_logging: bool = False,
        context_vars: Iterable[ContextVar[Any]] | None = None,
        max_memory_per_child: int | None = None,
        idle_timeout: float | None = None,
    ) -> None:
        self._pool: list[Any] = []
        self._state = INIT
        if context is None:
            from . import get_context

            context = get_context()
        self._ctx = context
        if processes is None:
            processes = _usable_processors()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._initializer = initializer
        self._initargs = tuple(initargs)
        self._maxtasksperchild = maxtasksperchild
        _stacks.listen()
        self._retries, self._task_timeout, self._task_grace = retries, task_timeout, task_grace
        orders: tuple[Any, ...] = (initializer, self._initargs)
        self._carried = None
        if context_vars is not None:
            from . import _carried

            self._carried = _carried.places(context_vars)
        if not isinstance(forward_logging, bool):
            raise TypeError(f"forward_logging must be True or False, not {type(forward_logging).__name__}")
        # Checked before there is anything to let go of.
        life = _worker_life.life(worker_exit, cpu_ids, threads_per_worker, None)
        call_terms = _limits.terms(retries, task_timeout, task_grace)
        restarts = None
        if max_restarts is not None:
            restarts = _limits.count("max_restarts", max_restarts), _limits.span("max_seconds", max_seconds)
        max_growth = _limits.max_memory_per_child(max_memory_per_child)
        idle_timeout = _limits.idle_timeout(idle_timeout)
        limits = _limits.max_memory(max_memory), _limits.cpu_time(cpu_time), max_growth
        self._relay = None
        if forward_logging:
            from ._log_relay import Relay

            self._relay = Relay(context)
            life = _worker_life.life(worker_exit, cpu_ids, threads_per_worker, self._relay.orders())
        if life is not None or any(limit is not None for limit in limits):
            orders += limits
        self._staff = Staff(context, self.Process, life, *orders)
        self._pool = self._staff.processes
        what = f"could not start a pool of {processes} workers"
        try:
            self._crew: Any = _engine.Crew(
                processes,
                maxtasksperchild,
                self._staff.start,
                terms=call_terms,
                max_restarts=restarts,
                idle_timeout=idle_timeout,
            )
        except OSError as error:
            raise _shortage.told(error, what) from None
        reducers = getattr(self, "_forward_reducers", None)  # as joblib's pools have them
        if reducers:
            from ._parcels import ParcelCrew

            self._crew = ParcelCrew(self._crew, reducers)
        self._tender = Tender(self._crew)
        try:
            # Not a subclass's: torch's overrides it in terms of queues that there are none of here.
            Pool._repopulate_pool(self)
            if idle_timeout is not None:
                self._tender.start()  # it looks for idle workers
        except BaseException as error:
            self._staff.dismiss()
            self._crew.terminate()
            if self._relay is not None:
                self._relay.stop()
            if isinstance(error, OSError):
                raise _shortage.told(error, what) from None
            raise
        self._graph = _graph.Graph(self._crew)
        self._terminate = util.Finalize(
            self,
            Pool._terminate_pool,
            args=(self._crew, self._staff, self._tender, self._graph, self._relay),
            exitpriority=15,
        )
        self._state = RUN

    def _repopulate_pool(self) -> None:
        """Start as many workers as are missing."""
        started: list[tuple[_engine.Offer, Any]] = []
        try:
            while (offered := self._crew.offer()) is not None:
                seat, offer = offered
                try:
                    started.append((offer, self._staff.start(seat)))
                except BaseException as error:
                    self._crew.decline(offer, repr(error))
                    raise
        except BaseException:
            # Those that did start belong to the pool, unless they are none of ours.
            for offer, process in started:
                try:
                    self._crew.enroll(offer, process)
                except TypeError:
                    pass
            raise
        for offer, process in started:
            self._crew.enroll(offer, process)

    def _let_go_of_exited(self) -> None:
        """Forget the workers that left because they were idle."""
        if self._crew.is_ours():
            self._staff.let_go_of_exited()

    def __del__(self, _warn: Any = warnings.warn, RUN: str = RUN) -> None:
        if self._state == RUN and self._crew.is_ours():
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)
            self._terminate()

    def __repr__(self) -> str:
        cls = type(self)
        if self._state == RUN:
            self._let_go_of_exited()
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={len(self._pool)}>"

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        self.terminate()

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def _tended(self) -> _engine.Crew:
        """The engine, with a thread that steps in while nobody waits for a result."""
        self._check_running()
        self._tender.start()
        crew: _engine.Crew = self._crew
        return crew

    def _carrying(self, func: Callable[..., _R]) -> Callable[..., _R]:
        """The function, with what goes along with its calls."""
        if self._carried is None or getattr(func, "__module__", None) == "manyhands._carried":
            return func
        from ._carried import carrying

        return carrying(func, self._carried)

    def _terms(self, retries: int | None, task_timeout: float | None, priority: int | None) -> _limits.Terms | None:
        """What a call asks for that has terms of its own; None: what the pool has for all."""
        if retries is None and task_timeout is None and priority is None:
            return None
        return _limits.terms(
            self._retries if retries is None else retries,
            self._task_timeout if task_timeout is None else task_timeout,
            self._task_grace,
            0 if priority is None else _limits.rank(priority),
        )

    def apply(
        self,
        func: Callable[..., _R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        *,
        retries: int | None = None,
        task_timeout: float | None = None,
        priority: int | None = None,
    ) -> _R:
        """Call ``func(*args, **kwds)`` in a worker and return its value.

        ``retries`` and ``task_timeout``: as for the pool, for this call alone; None: the pool's. ``priority``: int, calls
        with a higher one are begun before those with a lower one; None: 0. (So in all methods.) Arguments that are
        results of `apply_async` and its like, or futures, stand for their values: see `apply_async`.

        Raises what the call raised, with its traceback in the worker as ``__cause__``;
        `manyhands.WorkerDied` when the worker died; ValueError when the pool is closed.
        """
        self._check_running()
        terms = self._terms(retries, task_timeout, priority)
        args, kwds = args if type(args) is tuple else tuple(args), dict(kwds)
        func = self._carrying(func)
        if _graph.any_pending(args, kwds):
            return self.apply_async(
                func, args, kwds, retries=retries, task_timeout=task_timeout, priority=priority
            ).get()
        value: _R = self._crew.apply(func, args, kwds, terms)
        return value

    def apply_async(
        self,
        func: Callable[..., _R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[_R], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        retries: int | None = None,
        task_timeout: float | None = None,
        priority: int | None = None,
    ) -> ApplyResult[_R]:
        """Start ``func(*args, **kwds)`` in a worker; return its `ApplyResult` at once.

        ``callback(value)`` or ``error_callback(exception)`` is called in a thread of this process before the
        result is ready. What a callback raises goes to `sys.unraisablehook`.

        An argument, positional or by keyword, that is itself such a result, of this pool or of another, or a
        `concurrent.futures.Future`, stands for its value: the call begins when all of them are there, and raises what the
        first of them that failed raised. One inside of a list or another object does not.

        Differs: results and futures as arguments are new; ``callback`` and the result are the standard library's.
        """
        crew = self._tended()
        args, kwds = args if type(args) is tuple else tuple(args), dict(kwds)
        func = self._carrying(func)
        terms = self._terms(retries, task_timeout, priority)
        if _graph.any_pending(args, kwds):
            return ApplyResult(self, self._graph.submit(func, args, kwds, callback, error_callback, terms))
        return ApplyResult(self, crew.apply_async(func, args, kwds, callback, error_callback, terms))

    def map(
        self,
        func: Callable[[_T], _R],
        iterable: Iterable[_T],
        chunksize: int | Literal["auto"] | None = None,
        *,
        retries: int | None = None,
        task_timeout: float | None = None,
        priority: int | None = None,
        progress_bar: bool = False,
        progress_bar_options: Mapping[str, Any] | None = None,
    ) -> list[_R]:
        """Call ``func`` with each item, in the workers; return the list of values, in order.

        ``chunksize``: int, items in one task; None or ``"auto"``: chosen, and shrinking towards the end.
        ``progress_bar``: show a bar of tqdm, in a terminal or a notebook; ``progress_bar_options``: what tqdm is given, such
        as ``{"desc": "pages", "total": 1000}``. It counts items whose calls ended, however they did. (So in all maps.)
        Raises the exception of the call that failed first, after all calls ended.

        Differs: an input without length is drawn as the workers need it.
        """
        bar = _progress.wanted(progress_bar, progress_bar_options)
        return self._map(func, iterable, chunksize, False, self._terms(retries, task_timeout, priority), bar)

    def starmap(
        self,
        func: Callable[..., _R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | Literal["auto"] | None = None,
        *,
        retries: int | None = None,
        task_timeout: float | None = None,
        priority: int | None = None,
        progress_bar: bool = False,
        progress_bar_options: Mapping[str, Any] | None = None,
    ) -> list[_R]:
        """Like `map`, for items that are iterables of arguments: ``func(*item)``."""
        bar = _progress.wanted(progress_bar, progress_bar_options)
        return self._map(func, iterable, chunksize, True, self._terms(retries, task_timeout, priority), bar)

    def _map(
        self,
        func: Any,
        iterable: Iterable[Any],
        chunksize: int | Literal["auto"] | None,
        starred: bool,
        terms: _limits.Terms | None,
        bar: _progress.Wanted,
    ) -> list[Any]:
        self._check_running()
        length = _len(iterable)
        handle = self._crew.map(
            self._carrying(func),
            iterable,
            length,
            _chunksize(chunksize),
            starred,
            waits=True,
            terms=terms,
            counts=bar is not None,
        )
        try:
            if bar is None:
                handle.wait()
            else:
                _progress.Bar(handle, length, bar).follow()
        except BaseException:
            handle.cancel()
            raise
        values: list[Any] = handle.value()
        return values

    def map_async(
        self,
        func: Callable[[_T], _R],
        iterable: Iterable[_T],
        chunksize: int | Literal["auto"] | None = None,
        callback: Callable[[list[_R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        retries: int | None = None,
        task_timeout: float | None = None,
        priority: int | None = None,
        progress_bar: bool = False,
        progress_bar_options: Mapping[str, Any] | None = None,
    ) -> MapResult[_R]:
        """Like `map`, but return a `MapResult` at once. An input without length is read here."""
        terms = self._terms(retries, task_timeout, priority)
        bar = _progress.wanted(progress_bar, progress_bar_options)
        return self._map_async(func, iterable, chunksize, callback, error_callback, False, terms, bar)

    def starmap_async(
        self,
        func: Callable[..., _R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | Literal["auto"] | None = None,
        callback: Callable[[list[_R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        retries: int | None = None,
        task_timeout: float | None = None,
        priority: int | None = None,
        progress_bar: bool = False,
        progress_bar_options: Mapping[str, Any] | None = None,
    ) -> MapResult[_R]:
        """Like `starmap`, but return a `MapResult` at once."""
        terms = self._terms(retries, task_timeout, priority)
        bar = _progress.wanted(progress_bar, progress_bar_options)
        return self._map_async(func, iterable, chunksize, callback, error_callback, True, terms, bar)

    def _map_async(
        self,
        func: Any,
        iterable: Iterable[Any],
        chunksize: int | Literal["auto"] | None,
        callback: Any,
        error_callback: Any,
        starred: bool,
        terms: _limits.Terms | None,
        bar: _progress.Wanted,
    ) -> MapResult[Any]:
        crew = self._tended()
        length = _len(iterable)
        if length is None:
            iterable = list(iterable)
            length = len(iterable)
        handle = crew.map(
            self._carrying(func),
            iterable,
            length,
            _chunksize(chunksize),
            starred,
            callback,
            error_callback,
            terms=terms,
            counts=bar is not None,
        )
        crew.attend()
        return MapResult(self, handle, None if bar is None else _progress.Bar(handle, length, bar).follow_in_thread())

    def imap(
        self,
        func: Callable[[_T], _R],
        iterable: Iterable[_T],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        buffer_bytes: int | None = None,
        retries: int | None = None,
        task_timeout: float | None = None,
        priority: int | None = None,
        progress_bar: bool = False,
        progress_bar_options: Mapping[str, Any] | None = None,
    ) -> IMapIterator[_R]:
        """Like `map`, but return an iterator over the values, in order, as they come.

        The iterator's ``next(timeout)`` takes seconds and raises `TimeoutError`. ``buffersize``: int, how many
        items at most are drawn whose values were not taken yet, so that memory stays flat with a slow
        reader or an endless input; None: as many as the workers can use. ``buffer_bytes``: int, nothing is
        drawn while values of so many bytes, as pickled, wait to be taken; what is under way then still
        comes. None: 64 MiB for a reader that reads. When an iterator with one of them is dropped, no more
        is drawn for it; when the pool is joined, the rest is.

        Differs: the input is drawn as the workers need it, not all at once; ``buffersize`` and
        ``buffer_bytes`` are new.
        """
        terms = self._terms(retries, task_timeout, priority)
        bar = _progress.wanted(progress_bar, progress_bar_options)
        return IMapIterator(self, *self._stream(func, iterable, chunksize, True, buffersize, buffer_bytes, terms, bar))

    def imap_unordered(
        self,
        func: Callable[[_T], _R],
        iterable: Iterable[_T],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        buffer_bytes: int | None = None,
        retries: int | None = None,
        task_timeout: float | None = None,
        priority: int | None = None,
        progress_bar: bool = False,
        progress_bar_options: Mapping[str, Any] | None = None,
    ) -> IMapUnorderedIterator[_R]:
        """Like `imap`, with the values in the order in which they come."""
        terms = self._terms(retries, task_timeout, priority)
        bar = _progress.wanted(progress_bar, progress_bar_options)
        return IMapUnorderedIterator(
            self, *self._stream(func, iterable, chunksize, False, buffersize, buffer_bytes, terms, bar)
        )

    def _stream(
        self,
        func: Any,
        iterable: Iterable[Any],
        chunksize: int,
        ordered: bool,
        buffersize: int | None,
        buffer_bytes: int | None,
        terms: _limits.Terms | None,
        bar: _progress.Wanted,
    ) -> tuple[_engine.Job, _progress.Bar | None]:
        size = _chunksize(chunksize)
        if size is None:
            raise TypeError(f"imap's chunksize must be an int, not {chunksize!r}; map and starmap choose it")
        buffersize = _at_least_one("buffersize", buffersize)
        buffer_bytes = _at_least_one("buffer_bytes", buffer_bytes)
        counts = bar is not None
        handle = self._tended().stream(
            self._carrying(func),
            iterable,
            size,
            ordered,
            buffersize,
            terms=terms,
            buffer_bytes=buffer_bytes,
            counts=counts,
        )
        return handle, None if bar is None else _progress.Bar(handle, _len(iterable), bar)

    def share(self, obj: _T) -> Shared[_T]:
        """Publish an object once for all workers and calls; return its handle, a `manyhands.Shared`.

        A handle that is an argument of a call of this pool, or a part of one, is in the worker the object itself: unpickled
        there when it is first met, then the same for all calls. Its arrays lie in memory that is there once for all
        workers, and can only be read; what else is changed in it is changed in that worker alone, for all of its calls
        to come. The handle's close(), its end as a context manager, or the last reference to it ends that; calls
        that have it already keep it.

        Raises ValueError when the pool is closed, OSError when there is no memory for it, and what pickling the object
        raises. A handle raises ValueError in the calls of another pool, or when it was closed or its pool has
        ended; TypeError when it is pickled for anything but a call.
        """
        self._check_running()
        try:
            shared: Shared[_T] = self._crew.share(obj)
        except OSError as error:
            raise _shortage.told(error, "could not share an object") from None
        return shared

    def resize(self, processes: int) -> None:
        """Change the number of workers, while calls run.

        ``processes``: int, at least 1. Of too many workers those leave that have the least to do, each when it has done the
        call that it runs. Raises ValueError for a number below 1 and for a pool that is not running, OSError when no
        process can be started.

        Differs: new.
        """
        self._check_running()
        processes = operator.index(processes)
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        self._tended().resize(processes)  # its thread tells a worker to leave that is busy now
        self._processes = processes
        try:
            Pool._repopulate_pool(self)
        except OSError as error:
            raise _shortage.told(error, f"could not resize the pool to {processes} workers") from None

    def close(self) -> None:
        """Take no more calls; the workers end when those accepted are done."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._graph.close()

    def terminate(self) -> None:
        """End the workers now; calls that are not done raise `manyhands.PoolTerminated`."""
        util.debug("terminating pool")
        self._state = TERMINATE
        self._terminate()

    def join(self) -> None:
        """Wait for the workers to end, after `close` or `terminate`."""
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._crew.join(_GRACE)
        self._tender.stop()
        for process in self._staff.processes:
            process.join()
        if self._relay is not None:
            self._relay.stop()

    @staticmethod
    def _terminate_pool(
        crew: _engine.Crew, staff: Staff, tender: Tender, graph: _graph.Graph, relay: Relay | None
    ) -> None:
        if not crew.is_ours():
            return
        crew.terminate()
        graph.terminate()
        crew.join(_GRACE)
        tender.stop()
        for process in staff.processes:
            process.join()
        if relay is not None:
            relay.stop()


def _len(iterable: Iterable[Any]) -> int | None:
    return len(iterable) if isinstance(iterable, Sized) else None


def _chunksize(size: Any) -> int | None:
    if size is None or size == "auto":
        return None
    if isinstance(size, str):
        raise ValueError(f'chunksize must be an int, "auto" or None, not {size!r}')
    items: int = operator.index(size)
    if items < 1:
        raise ValueError(f"Chunksize must be 1+, not {items}")
    return items


def _at_least_one(name: str, bound: int | None) -> int | None:
    if bound is None:
        return None
    bound = operator.index(bound)
    if bound < 1:
        raise ValueError(f"{name} must be None or at least 1, not {bound}")
    return bound
