"""Start methods as objects: what a context offers, and which one is the default.

Always: a context's methods bind what they make to that context; only the default context can change its
start method, once unless forced.  Not here: how a start method works (`popen_*`).
"""

from __future__ import annotations

import os
import sys
from _thread import _local

from . import _engine, _neighbours, process

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    import ctypes
    import logging
    from collections.abc import Callable, Iterable
    from contextvars import ContextVar
    from typing import Any, Literal, TypeVar
    from typing import overload as _overload

    from . import queues, sharedctypes, synchronize
    from . import reduction as reduction
    from .connection import Connection
    from .managers import SyncManager
    from .pool import Pool
    from .popen_fork import Popen

    _T = TypeVar("_T")
    _C = TypeVar("_C", bound=ctypes._CData)
    # What protects a Value or an Array: a new lock, one that there is, or none.
    _Lock = Literal[True] | synchronize.Lock | synchronize.RLock
else:

    def _overload(function):
        return function


__all__: list[str] = []


class ProcessError(Exception):
    """What goes wrong with processes: the base of this package's exceptions."""


class BufferTooShort(ProcessError):
    """A message does not fit into the buffer given; args[0] is the message."""


class TimeoutError(ProcessError):
    """The time given ran out before there was a result."""


class AuthenticationError(ProcessError):
    """The other end does not know the key."""


def _usable_processors() -> int:
    """Return how many processors this process may use, at least 1: what pools have as many workers as."""
    told = None if sys.version_info < (3, 13) else sys._xoptions.get("cpu_count") or _environ("PYTHON_CPU_COUNT")
    if told not in (None, "", "default"):
        return os.cpu_count() or 1  # as the user said
    return _engine.cpu_count()


def _environ(name: str) -> str | None:
    return None if sys.flags.ignore_environment else os.environ.get(name)


class BaseContext:
    """What every context offers; the functions of the package are the default context's methods."""

    _name: str
    Process: type[process.BaseProcess]

    ProcessError = ProcessError
    BufferTooShort = BufferTooShort
    TimeoutError = TimeoutError
    AuthenticationError = AuthenticationError

    current_process = staticmethod(process.current_process)
    parent_process = staticmethod(process.parent_process)
    active_children = staticmethod(process.active_children)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """This context's type; once the standard library's contexts are loaded, also a subtype of theirs.

        Libraries ask isinstance(context, multiprocessing.context.BaseContext) to tell a context from a
        string.  So the answer is right, and that package is not imported for it.
        """
        cls = type(self)
        base = getattr(_neighbours.standard("context"), "BaseContext", None)
        if base is None:
            return cls
        twin = _twins.get(cls)
        if twin is None or not issubclass(twin, base):
            twin = _twins[cls] = type(cls.__name__, (cls, base), {"__module__": cls.__module__})
        return twin

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *self.__dict__})  # what is there, not what __class__ makes believe

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_name, (self._name,)

    def cpu_count(self) -> int:
        """Return the number of processors that this program may use, an int: as many workers are worth having.

        Affinity and a container's quota (cpu.max) bound it; `python -X cpu_count` and PYTHON_CPU_COUNT say otherwise.
        Differs: the standard library counts all that the machine has, whoever may use them.
        """
        return _usable_processors()

    def Pipe(self, duplex: bool = True) -> tuple[Connection, Connection]:
        """Return two connected ends, `manyhands.connection.Connection`: see connection.Pipe.

        duplex -- bool: both send and receive; else the first only receives and the second only sends.
        """
        from .connection import Pipe

        return Pipe(duplex)

    def Lock(self) -> synchronize.Lock:
        """Return a lock: see manyhands.synchronize.Lock."""
        from .synchronize import Lock

        return Lock(ctx=self.get_context())

    def RLock(self) -> synchronize.RLock:
        """Return a lock that its holder may take again: see manyhands.synchronize.RLock."""
        from .synchronize import RLock

        return RLock(ctx=self.get_context())

    def Condition(self, lock: Any = None) -> synchronize.Condition:
        """Return a condition: see manyhands.synchronize.Condition."""
        from .synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> synchronize.Semaphore:
        """Return a semaphore: see manyhands.synchronize.Semaphore."""
        from .synchronize import Semaphore

        return Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore:
        """Return a semaphore with a bound: see manyhands.synchronize.BoundedSemaphore."""
        from .synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context())

    def Event(self) -> synchronize.Event:
        """Return an event: see manyhands.synchronize.Event."""
        from .synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> synchronize.Barrier:
        """Return a barrier: see manyhands.synchronize.Barrier."""
        from .synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    @_overload
    def RawValue(self, typecode_or_type: type[_C], *args: Any) -> _C: ...
    @_overload
    def RawValue(self, typecode_or_type: str, *args: Any) -> Any: ...

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """Return a ctypes object in shared memory: see manyhands.sharedctypes.RawValue."""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    @_overload
    def RawArray(self, typecode_or_type: type[_C], size_or_initializer: int | Iterable[Any]) -> ctypes.Array[_C]: ...
    @_overload
    def RawArray(self, typecode_or_type: str, size_or_initializer: int | Iterable[Any]) -> Any: ...

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> Any:
        """Return a ctypes array in shared memory: see manyhands.sharedctypes.RawArray."""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    @_overload
    def Value(self, typecode_or_type: type[_C], *args: Any, lock: Literal[False]) -> _C: ...
    @_overload
    def Value(
        self, typecode_or_type: type[ctypes._SimpleCData[_T]], *args: Any, lock: _Lock = True
    ) -> sharedctypes.Synchronized[_T]: ...
    @_overload
    def Value(self, typecode_or_type: str | type[ctypes._CData], *args: Any, lock: _Lock | bool = True) -> Any: ...

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """Return a ctypes object in shared memory with a lock: see manyhands.sharedctypes.Value."""
        from .sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    @_overload
    def Array(
        self, typecode_or_type: type[_C], size_or_initializer: int | Iterable[Any], *, lock: Literal[False]
    ) -> ctypes.Array[_C]: ...
    @_overload
    def Array(
        self, typecode_or_type: type[ctypes.c_char], size_or_initializer: int | Iterable[Any], *, lock: _Lock = True
    ) -> sharedctypes.SynchronizedString: ...
    @_overload
    def Array(
        self,
        typecode_or_type: type[ctypes._SimpleCData[_T]],
        size_or_initializer: int | Iterable[Any],
        *,
        lock: _Lock = True,
    ) -> sharedctypes.SynchronizedArray[_T]: ...
    @_overload
    def Array(
        self,
        typecode_or_type: str | type[ctypes._CData],
        size_or_initializer: int | Iterable[Any],
        *,
        lock: _Lock | bool = True,
    ) -> Any: ...

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
        """Return a ctypes array in shared memory with a lock: see manyhands.sharedctypes.Array."""
        from .sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def Queue(self, maxsize: int = 0) -> queues.Queue[Any]:
        """Return a queue for processes: see manyhands.queues.Queue."""
        from .queues import Queue

        return Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> queues.JoinableQueue[Any]:
        """Return a queue that can be waited for: see manyhands.queues.JoinableQueue."""
        from .queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> queues.SimpleQueue[Any]:
        """Return a pipe with a lock at each end: see manyhands.queues.SimpleQueue."""
        from .queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    def Manager(self) -> SyncManager:
        """Return a started manyhands.managers.SyncManager, for objects that processes share by proxies."""
        from .managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
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
    ) -> Pool:
        """Return a pool of worker processes: see manyhands.pool.Pool.

        Differs: from ``retries`` on the arguments are new.
        """
        from .pool import Pool

        return Pool(
            processes,
            initializer,
            initargs,
            maxtasksperchild,
            context=self.get_context(),
            retries=retries,
            task_timeout=task_timeout,
            task_grace=task_grace,
            max_memory=max_memory,
            cpu_time=cpu_time,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            worker_exit=worker_exit,
            cpu_ids=cpu_ids,
            threads_per_worker=threads_per_worker,
            forward_logging=forward_logging,
            context_vars=context_vars,
            max_memory_per_child=max_memory_per_child,
            idle_timeout=idle_timeout,
        )

    def freeze_support(self) -> None:
        """Be a child and exit, if that is what a frozen program was executed for; else do nothing."""
        if getattr(sys, "frozen", False):
            from .spawn import freeze_support

            freeze_support()

    def get_logger(self) -> logging.Logger:
        """Return the package's logger, a logging.Logger.  Differs: none."""
        from .util import get_logger

        return get_logger()

    def log_to_stderr(self, level: int | str | None = None) -> logging.Logger:
        """Let the package's logger print to stderr, from `level` on; return it.  Differs: none."""
        from .util import log_to_stderr

        return log_to_stderr(level)

    def allow_connection_pickling(self) -> None:
        """Do nothing: sockets and connections can be sent to children without it."""

    def set_executable(self, executable: str | bytes | None) -> None:
        """Set the path, str or bytes, of the Python that spawn and forkserver start.  Differs: none."""
        from .spawn import set_executable

        set_executable(executable)

    def set_forkserver_preload(self, module_names: Iterable[str]) -> None:
        """Let the fork server import these modules, a list of str, before it forks.

        It is a hint: a module that cannot be imported is left to the children.  Differs: none.
        """
        from .forkserver import set_forkserver_preload

        set_forkserver_preload(module_names)

    @_overload
    def get_context(self, method: Literal["fork"]) -> ForkContext: ...
    @_overload
    def get_context(self, method: Literal["spawn"]) -> SpawnContext: ...
    @_overload
    def get_context(self, method: Literal["forkserver"]) -> ForkServerContext: ...
    @_overload
    def get_context(self, method: str | None = None) -> BaseContext: ...

    def get_context(self, method: str | None = None) -> BaseContext:
        """Return the context of a start method: 'fork', 'spawn', 'forkserver' or None for this one.

        Raises ValueError for another method.  Differs: none.
        """
        if method is None:
            return self
        try:
            context = _concrete_contexts[method]
        except (KeyError, TypeError):
            known = ", ".join(map(repr, _concrete_contexts))
            raise ValueError(f"cannot find context for {method!r}: start methods are {known}") from None
        context._check_available()
        return context

    def get_start_method(self, allow_none: bool = False) -> str | None:
        """Return the name of this context's start method.  Differs: none."""
        return self._name

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Raise ValueError: only the default context's start method can be set."""
        raise ValueError("cannot set start method of concrete context")

    @property
    def reducer(self) -> Any:
        """The module that pickles what is sent to children: `manyhands.reduction`, or one put in its place."""
        return globals().get("reduction") or __getattr__("reduction")

    @reducer.setter
    def reducer(self, reduction: Any) -> None:
        globals()["reduction"] = reduction

    def _check_available(self) -> None:
        pass


class Process(process.BaseProcess):
    """A process that is started by the default context's start method: see process.BaseProcess."""

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Popen:
        return _default_context.get_context().Process._Popen(process_obj)  # type: ignore[call-arg]

    @staticmethod
    def _after_fork() -> None:
        return _default_context.get_context().Process._after_fork()


class DefaultContext(BaseContext):
    """The context whose start method can be chosen, and is settled when it is first asked for."""

    Process = Process

    def __init__(self, context: BaseContext) -> None:
        self._default_context = context
        self._actual_context: BaseContext | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_name, (None,)

    @_overload
    def get_context(self, method: Literal["fork"]) -> ForkContext: ...
    @_overload
    def get_context(self, method: Literal["spawn"]) -> SpawnContext: ...
    @_overload
    def get_context(self, method: Literal["forkserver"]) -> ForkServerContext: ...
    @_overload
    def get_context(self, method: str | None = None) -> BaseContext: ...

    def get_context(self, method: str | None = None) -> BaseContext:
        """Return the context of a start method, by default of the one in use.

        Raises ValueError for an unknown method.  Differs: none.
        """
        if method is not None:
            return super().get_context(method)
        if self._actual_context is None:
            self._actual_context = self._default_context
        return self._actual_context

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Choose how children are started: 'fork', 'spawn' or 'forkserver'.

        force -- choose again; with None as method: go back to the system's default
        Raises RuntimeError when it is settled already, ValueError for an unknown method.  Differs: none.
        """
        if self._actual_context is not None and not force:
            if getattr(process.current_process(), "_inheriting", False):
                from .spawn import _check_not_importing_main

                _check_not_importing_main()  # a main module without a guard: say so
            raise RuntimeError(
                f"context has already been set to {self._actual_context._name!r}: set the start method before "
                "anything is started, or use get_context(method)"
            )
        if method is None and force:
            self._actual_context = None
        else:
            self._actual_context = self.get_context(method)

    def get_start_method(self, allow_none: bool = False) -> str | None:
        """Return the name of the start method in use; None if it is not settled and `allow_none`."""
        if self._actual_context is None and allow_none:
            return None
        return self.get_context()._name

    def get_all_start_methods(self) -> list[str]:
        """Return the names of the start methods, a list of str, the system's default first."""
        return sorted(_concrete_contexts, key=lambda name: name != _SYSTEM_DEFAULT)


class ForkProcess(process.BaseProcess):
    """A process that begins as a copy of its parent."""

    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Popen:
        from .popen_fork import Popen

        return Popen(process_obj)


class SpawnProcess(process.BaseProcess):
    """A process that begins as a fresh interpreter."""

    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Popen:
        from .popen_spawn_posix import Popen

        return Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        """Do nothing: nothing of the parent's came along."""


class ForkServerProcess(process.BaseProcess):
    """A process that begins as a copy of a small server."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Popen:
        from .popen_forkserver import Popen

        return Popen(process_obj)


class ForkContext(BaseContext):
    """Children by fork: fast, they have all that the parent has; unsafe beside threads."""

    _name = "fork"
    Process = ForkProcess


class SpawnContext(BaseContext):
    """Children by a fresh interpreter: they have what is sent to them."""

    _name = "spawn"
    Process = SpawnProcess


class ForkServerContext(BaseContext):
    """Children by a server that forks: they have what is sent to them, and start faster than spawned ones."""

    _name = "forkserver"
    Process = ForkServerProcess


_twins: dict[type, type] = {}
_concrete_contexts: dict[str, BaseContext] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
# As the running interpreter's own package does.
_SYSTEM_DEFAULT = "forkserver" if sys.version_info >= (3, 14) else "fork"
_default_context = DefaultContext(_concrete_contexts[_SYSTEM_DEFAULT])


def _by_name(name: str | None) -> BaseContext:
    return _default_context if name is None else _concrete_contexts[name]


def _force_start_method(method: str) -> None:
    _default_context._actual_context = _concrete_contexts[method]


# ---- what is being sent to a child right now, in this thread ----

_tls = _local()  # threading.local, without the rest of threading


def get_spawning_popen() -> Any:
    """Return the Popen whose process is being pickled in this thread, or None."""
    return getattr(_tls, "spawning_popen", None)


def set_spawning_popen(popen: Any) -> None:
    """Say that a process is being pickled for `popen` in this thread; None: no more."""
    _tls.spawning_popen = popen
    _neighbours.set_spawning_popen(popen)


def assert_spawning(obj: object) -> None:
    """Raise RuntimeError unless `obj` is being pickled for a child that is being started."""
    if get_spawning_popen() is None:
        raise RuntimeError(
            f"{type(obj).__name__} objects should only be shared between processes through inheritance: "
            "pass it to Process(args=...) or a pool's initializer"
        )


def __getattr__(name: str) -> Any:
    if name == "reduction":  # loaded when something is pickled: it is not needed to fork
        from . import reduction

        return globals().setdefault("reduction", reduction)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
