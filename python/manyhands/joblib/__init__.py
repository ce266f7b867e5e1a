"""A backend for joblib: ``import manyhands.joblib``, then ``joblib.parallel_config(backend="manyhands")``.

scikit-learn and whatever else uses joblib then runs in workers of a `manyhands.Pool`, which are kept for the next call.
Always: a worker that dies raises `manyhands.WorkerDied` in the program, and no file of an input is left behind.
Not here: batching, nesting and callbacks, which are joblib's own.

Source: https://joblib.readthedocs.io/en/stable/custom_parallel_backend.html
"""

from __future__ import annotations

import collections
import io
import pickle
import threading

try:
    from joblib._memmapping_reducer import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        TemporaryResourcesManager,
        get_memmapping_reducers,
    )
    from joblib.parallel import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        AutoBatchingMixin,
        FallbackToBackend,
        ParallelBackendBase,
        SequentialBackend,
        register_parallel_backend,
    )
except ImportError as error:
    raise ImportError(
        f"manyhands.joblib needs joblib 1.4 or newer ({error}): pip install --upgrade joblib", name=error.name
    ) from None

from .. import _closures, _native_threads, context, pool, process, reduction

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Backend", "register"]

# What is for the pool of workers; beside `start_method` and `inner_max_num_threads`.
_POOL_OPTIONS = {
    "initializer", "initargs", "maxtasksperchild", "retries", "task_timeout", "task_grace", "max_memory", "cpu_time",
    "max_restarts", "max_seconds", "max_memory_per_child", "idle_timeout",
}  # fmt: skip
_OPTIONS = _POOL_OPTIONS | {"start_method"}
# Seconds after which kept workers leave that have nothing to do: as with joblib's own backend loky.
_IDLE_TIMEOUT = 300.0
# What joblib gives to every backend, and is not for this one.
_JOBLIBS = {"verbose", "context", "prefer", "require"}


class _Process(context.SpawnProcess):
    """A worker that does not import the main module: what is defined there is sent with the calls."""

    _imports_main = False


class _Context(context.SpawnContext):
    Process = _Process


def _context(start_method: str | None) -> Any:
    """Return the context of a start method; None: spawn, where programs need no guard of their main module."""
    from .. import get_context

    return _Context() if start_method is None else get_context(start_method)


class _Shared:
    """The pool that is kept between calls, and how many use it at this moment."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.key: Any = None
        self.pool: pool.Pool | None = None
        self.users = 0

    def acquire(self, key: Any, make: Callable[[], pool.Pool]) -> pool.Pool:
        """Return the pool that is kept if it was made for `key`, else one that is made."""
        with self.lock:
            if self.pool is not None and (not self.pool._crew.is_ours() or self.pool._crew.over() is not None):
                self.pool, self.users = None, 0  # of the process that forked this one, or broken
            if self.pool is not None and self.key == key:
                self.users += 1
                return self.pool
            old = None
            if not self.users:
                old, self.pool = self.pool, None
        if old is not None:
            old.terminate()
            old.join()
        made = make()
        with self.lock:
            if self.pool is None:
                self.key, self.pool, self.users = key, made, 1
        return made

    def release(self, used: pool.Pool) -> None:
        """A call ended that used a pool: it is kept if it is the one."""
        with self.lock:
            if used is self.pool:
                self.users -= 1
                return
        used.terminate()
        used.join()

    def discard(self, used: pool.Pool) -> None:
        """End a pool with all that it runs, whoever else uses it."""
        with self.lock:
            if used is self.pool:
                self.pool, self.users = None, 0
        used.terminate()
        used.join()


_shared = _Shared()


class _Parcel:
    """A call, which pickles with joblib's reducers, and by value if it is defined in the main module."""

    def __init__(self, call: Callable[[], Any], pickler: Any) -> None:
        self._call = call
        self._pickler = pickler

    def __reduce__(self) -> tuple[Any, ...]:
        file = io.BytesIO()
        buffers: list[pickle.PickleBuffer] = []
        self._pickler(file, 5, buffer_callback=buffers.append).dump(self._call)
        return _opened, (file.getbuffer(), *buffers)


def _pickler(reducers: dict[type, Any]) -> Any:
    """Return a class of picklers that know these reducers and ours, and write by value what has no name elsewhere."""
    base = _closures._cloudpickle().Pickler
    table = collections.ChainMap(reducers, reduction.ForkingPickler._extra_reducers, base.dispatch_table)
    return type("Pickler", (base,), {"dispatch_table": table})


def _opened(payload: Any, *buffers: Any) -> Any:
    return pickle.loads(payload, buffers=buffers)


def _run(call: Callable[[], Any]) -> Any:
    return call()


def _begin(threads: int | None, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """What a worker does first: its native libraries are to leave the other workers their processors."""
    if threads is not None:
        _native_threads.cap(threads)
    if initializer is not None:
        initializer(*initargs)


class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's calls in worker processes of a `manyhands.Pool`, which are kept between calls.

    ``start_method``: str, one of fork, spawn, forkserver; None: spawn without the main module, as with joblib's own backend
    loky, so that programs need no ``if __name__ == "__main__"``. ``inner_max_num_threads``: int, threads that OpenMP, BLAS
    and their like may use in a worker; None: so many that all workers together use each processor once. ``retries``,
    ``task_timeout``, ``task_grace``, ``max_memory``, ``cpu_time``, ``maxtasksperchild``, ``max_restarts``, ``max_seconds``,
    ``max_memory_per_child``, ``initializer``, ``initargs``: as for `manyhands.Pool`; a call is here one of joblib's batches.
    ``idle_timeout``: float, seconds after which kept workers leave that have nothing to do; 300 unless given; None: never.

    Arrays of ``max_nbytes`` and more are written once into ``temp_folder`` and mapped by all workers, as joblib does.

    Raises TypeError for an option that is none of these, ``manyhands.WorkerDied`` when a worker dies.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    _pool: pool.Pool | None = None
    _temporary: Any = None
    # Batches whose callback was not called yet: joblib keeps none of them itself.
    _under_way: set[Any]

    def __init__(self, **options: Any) -> None:
        _check(set(options) - {"nesting_level", "inner_max_num_threads"})
        super().__init__(**options)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many workers a call with `n_jobs` has: negative numbers count down from the processors."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or process.current_process().daemon:
            return 1  # a pool's worker has no children
        if n_jobs < 0:
            return max(context._usable_processors() + 1 + n_jobs, 1)
        return n_jobs

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        temp_folder: Any = None,
        max_nbytes: Any = 1e6,
        mmap_mode: Any = "r",
        **options: Any,
    ) -> int:
        """Get the workers ready for calls of `parallel`, and return how many they are."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        given = {name: value for name, value in options.items() if name not in _JOBLIBS}
        _check(set(given))
        options = {**self.backend_kwargs, **given}
        threads = self.inner_max_num_threads
        if threads is None:
            threads = max(context._usable_processors() // n_jobs, 1)
        start_method = options.pop("start_method", None)
        key = (n_jobs, start_method, threads, sorted(options.items(), key=lambda item: item[0]))

        def make() -> pool.Pool:
            first = options.pop("initializer", None), tuple(options.pop("initargs", ()))
            options.setdefault("idle_timeout", _IDLE_TIMEOUT)
            return pool.Pool(n_jobs, _begin, (threads, *first), context=_context(start_method), **options)

        self.parallel = parallel
        self._under_way = set()
        self._pool = _shared.acquire(key, make)
        self._temporary = TemporaryResourcesManager(temp_folder)
        reducers, _ = get_memmapping_reducers(
            temp_folder_resolver=self._temporary.resolve_temp_folder_name,
            max_nbytes=max_nbytes,
            mmap_mode=mmap_mode,
            unlink_on_gc_collect=False,
        )
        self._pickler = _pickler(reducers)
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Any:
        """Start a batch of calls; `callback` gets its result when it is there."""
        assert self._pool is not None
        result = self._pool.apply_async(_run, (_Parcel(func, self._pickler),))
        if callback is not None:
            self._under_way.add(result)

            def tell() -> None:
                self._under_way.discard(result)
                callback(result)

            if not result._handle.watch(tell):
                tell()
        return result

    def retrieve_result_callback(self, result: Any) -> Any:
        """Return the values of a batch, or raise what one of its calls raised."""
        return result.get()

    def terminate(self) -> None:
        """End this use of the workers, and remove what was written for them."""
        used, self._pool = self._pool, None
        if used is not None:
            _shared.release(used)
        self._clean_up()
        self.reset_batch_stats()

    def _clean_up(self) -> None:
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            temporary._clean_temporary_resources(force=True)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End the workers with what they run; get new ones ready if that is wanted."""
        used, self._pool = self._pool, None
        if used is not None:
            _shared.discard(used)
        self._clean_up()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel, **self.parallel._backend_kwargs)


def _check(names: set[str]) -> None:
    for name in sorted(names - _OPTIONS):
        raise TypeError(
            f"{name!r} is no option of joblib's backend manyhands; there are: "
            f"{', '.join(sorted(_OPTIONS | {'inner_max_num_threads'}))}"
        )


def register(make_default: bool = False) -> None:
    """Have joblib know the backend by the name ``"manyhands"``; importing this module does so.

    ``make_default``: bool, have joblib use it where no backend is asked for.
    """
    register_parallel_backend("manyhands", Backend, make_default=make_default)


register()
