"""Managers: objects kept by a server process, and shared with other processes, or machines, by proxies.

Always: the server a manager started ends with `shutdown()`, with the manager object, at exit, and when the process
that started it is gone, however that ended.  Either side may be a plain Python with the standard library.
Not here: the server (`_manager_server`), proxies (`_manager_proxies`), what they say (`_manager_wire`).
"""

from __future__ import annotations

import array
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from . import _manager_tls, _patience, connection, get_context, pool, process, util
from ._manager_proxies import AcquirerProxy as AcquirerProxy
from ._manager_proxies import ArrayProxy as ArrayProxy
from ._manager_proxies import AutoProxy as AutoProxy
from ._manager_proxies import BarrierProxy as BarrierProxy
from ._manager_proxies import BaseListProxy as BaseListProxy
from ._manager_proxies import BasePoolProxy as BasePoolProxy
from ._manager_proxies import BaseProxy as BaseProxy
from ._manager_proxies import ConditionProxy as ConditionProxy
from ._manager_proxies import DictProxy as DictProxy
from ._manager_proxies import EventProxy as EventProxy
from ._manager_proxies import IteratorProxy as IteratorProxy
from ._manager_proxies import ListProxy as ListProxy
from ._manager_proxies import MakeProxyType as MakeProxyType
from ._manager_proxies import NamespaceProxy as NamespaceProxy
from ._manager_proxies import PoolProxy as PoolProxy
from ._manager_proxies import ProcessLocalSet as ProcessLocalSet
from ._manager_proxies import RebuildProxy as RebuildProxy
from ._manager_proxies import SetProxy as SetProxy
from ._manager_proxies import ValueProxy as ValueProxy
from ._manager_proxies import _BaseDictProxy, _BaseSetProxy
from ._manager_server import Server as Server
from ._manager_server import all_methods as all_methods
from ._manager_server import listener_client as listener_client
from ._manager_server import public_methods as public_methods
from ._manager_wire import RemoteError as RemoteError
from ._manager_wire import Token as Token
from ._manager_wire import ask
from ._manager_wire import convert_to_error as convert_to_error
from ._manager_wire import dispatch as dispatch
from ._manager_wire import rebuild_as_list as rebuild_as_list
from ._manager_wire import reduce_array as reduce_array
from .context import ProcessError as ProcessError
from .context import get_spawning_popen, reduction

if TYPE_CHECKING:
    import ssl

    from . import shared_memory

__all__ = ["BaseManager", "SyncManager", "BaseProxy", "Token", "SharedMemoryManager"]

_K = TypeVar("_K")
_T = TypeVar("_T")

HAS_SHMEM = True


class State:
    """How far a manager has come: `value` is INITIAL, STARTED or SHUTDOWN."""

    __slots__ = ["value"]
    INITIAL = 0
    STARTED = 1
    SHUTDOWN = 2

    def __init__(self) -> None:
        self.value = self.INITIAL


class BaseManager:
    """Starts or finds a server process, and makes proxies to objects in it.

    address -- where the server listens, or is: (host, port), or a path, str; None: anywhere on this machine
    authkey -- bytes that both sides have to know; None: this process's own
    serializer -- 'pickle' or 'xmlrpclib'
    ctx -- the context that the server's process is started by; None: the default
    shutdown_timeout -- seconds that the server may take to end before it is terminated, and then killed
    ssl_context -- everything goes through TLS with this ssl.SSLContext: a server's for `get_server`, a client's for
        `connect`; or a function f(server_side=...) that makes either, which `start` needs, and which travels with
        proxies to processes that do not know the server
    server_hostname -- str, whom the server's certificate has to name; None: the address's host

    What objects there are says `register`, called on a subclass.
    Raises TypeError for an `ssl_context` that is neither.
    Differs: the server ends when the process that started it does, however that died; TLS.
    """

    _registry: dict[str, Any] = {}  # noqa: RUF012
    _Server: Any = Server

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        *,
        shutdown_timeout: float = 1.0,
        ssl_context: ssl.SSLContext | Callable[..., ssl.SSLContext] | None = None,
        server_hostname: str | None = None,
    ) -> None:
        if ssl_context is None and server_hostname is not None:
            raise ValueError("server_hostname is for ssl_context, which is not given")
        # How its server is reached, if not in plain.
        self._way = None if ssl_context is None else _manager_tls.Way(ssl_context, server_hostname)
        if authkey is None:
            authkey = process.current_process().authkey
        self._address = address
        self._authkey = process.AuthenticationString(authkey)
        self._state = State()
        self._serializer = serializer
        self._Listener, self._Client = listener_client[serializer]
        self._ctx = ctx or get_context()
        self._shutdown_timeout = shutdown_timeout
        self._process: Any = None

    # ---- the server ----

    def _check_initial(self) -> None:
        if self._state.value == State.STARTED:
            raise ProcessError("Already started server")
        if self._state.value == State.SHUTDOWN:
            raise ProcessError("Manager has shut down")
        if self._state.value != State.INITIAL:
            raise ProcessError(f"Unknown state {self._state.value!r}")

    def get_server(self) -> Any:
        """Return a server that is to run in this process: call its serve_forever().

        Raises ProcessError when the manager has a server already, or had one.  Differs: none.
        """
        self._check_initial()
        return self._own(Server)

    def _own(self, make: Any) -> Any:
        """Make a server that is to run in this process."""
        return _served(make, self._way, self._registry, self._address, self._authkey, self._serializer)

    def _connector(self) -> Any:
        return self._Client if self._way is None else self._way.connector(self._serializer)

    def connect(self) -> None:
        """Use the server that listens at this manager's address.

        Raises OSError when there is none, AuthenticationError when it has another key, ssl.SSLError, an OSError,
        when there is no TLS with it.  Differs: none.
        """
        connect = self._connector()
        ask(connect, self._address, self._authkey, "dummy")
        self._Client = connect
        _manager_tls.remember(self._address, self._way)
        self._state.value = State.STARTED

    def start(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> None:
        """Start the server's process; it calls initializer(*initargs) first.

        Raises ProcessError when the manager has a server already, or had one; TypeError for an initializer that
        cannot be called; EOFError when the process ends before it is ready.
        """
        self._check_initial()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if self._way is not None:
            if not self._way.travels:
                raise TypeError(
                    "start() needs a server's ssl_context for its child and a client's for this process: give a "
                    "function f(server_side=...) that returns either"
                )
            self._Client = self._connector()
        reader, writer = connection.Pipe(duplex=False)
        with reader:
            with writer:
                self._process = self._ctx.Process(
                    target=type(self)._run_server,
                    args=(
                        self._registry, self._address, self._authkey, self._serializer,
                        writer, initializer, initargs,
                    ),
                    # Only where it is needed: a manager of the users' own may have written `_run_server` anew.
                    kwargs={} if self._way is None else {"tls": (self._way.given, self._way.server_hostname)},
                )  # fmt: skip
                number = ":".join(map(str, self._process._identity))
                self._process.name = f"{type(self).__name__}-{number}"
                self._process.start()
            self._address = self._first_word(reader)
        _manager_tls.remember(self._address, self._way)
        self._state.value = State.STARTED
        self.shutdown = util.Finalize(
            self,
            type(self)._finalize_manager,
            args=(self._process, self._address, self._authkey, self._state, self._Client, self._shutdown_timeout),
            exitpriority=0,
        )

    def _first_word(self, reader: Any) -> Any:
        """Return the address that the server's process sends when it listens."""
        # Its end is waited for too: processes that are forked meanwhile may hold the pipe open.
        if reader in connection.wait([reader, self._process.sentinel]):
            try:
                word = reader.recv()
                if not isinstance(word, OSError):
                    return word
                self._process.join()
                raise word
            except EOFError:
                pass
        self._process.join()
        raise EOFError(
            f"the manager's server, process {self._process.pid}, ended with exit code {self._process.exitcode} "
            "before it was ready"
        )

    @classmethod
    def _run_server(
        cls,
        registry: dict[str, Any],
        address: Any,
        authkey: bytes,
        serializer: str,
        writer: Any,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        tls: tuple[Any, str | None] | None = None,
    ) -> None:
        """The main function of the server's process."""
        # Ctrl-C in the terminal is for the program; it ends its server when it is done with it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if initializer is not None:
            initializer(*initargs)
        way = None if tls is None else _manager_tls.Way(*tls)
        try:
            server = _served(cls._Server, way, registry, address, authkey, serializer)
        except OSError as error:
            # For who started this; here nobody needs a traceback.
            writer.send(error)
            raise SystemExit(1) from None
        server._ends_with_parent = True
        writer.send(server.address)
        writer.close()
        util.info("manager serving at %r", server.address)
        server.serve_forever()

    @staticmethod
    def _finalize_manager(
        process: Any, address: Any, authkey: bytes, state: State, _Client: Any, shutdown_timeout: float
    ) -> None:
        """End the server's process, and wait until it has ended."""
        if process.is_alive():
            util.info("sending shutdown message to manager")
            try:
                _ask_to_end(_Client, address, authkey, shutdown_timeout)
            except Exception as error:
                util.info("... which failed: %s", error)
            process.join(timeout=shutdown_timeout)
            if process.is_alive():
                util.info("manager still alive; trying to `terminate()` manager process")
                process.terminate()
                process.join(timeout=shutdown_timeout)
                if process.is_alive():
                    util.info("manager still alive after terminate")
                    process.kill()
                    process.join()
        _remove_socket(address)
        state.value = State.SHUTDOWN
        BaseProxy._address_to_local.pop(address, None)
        _manager_tls.forget(address)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the server's process has ended, at most `timeout` seconds.  Differs: none."""
        if self._process is not None:
            self._process.join(timeout)
            if not self._process.is_alive():
                self._process = None

    @property
    def address(self) -> Any:
        """Where the server is to be found."""
        return self._address

    def __enter__(self) -> Self:
        if self._state.value == State.INITIAL:
            self.start()
        if self._state.value == State.SHUTDOWN:
            raise ProcessError("Manager has shut down")
        if self._state.value != State.STARTED:
            raise ProcessError(f"Unknown state {self._state.value!r}")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.shutdown()

    # ---- objects ----

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> tuple[Token, Any]:
        """Let the server make an object; return its token and what may be called."""
        if self._state.value != State.STARTED:
            raise AssertionError("server not yet started")
        ident, exposed = ask(self._Client, self._address, self._authkey, "create", (typeid, *args), kwds)
        return Token(typeid, self._address, ident), exposed

    def _debug_info(self) -> Any:
        """Return text about the server's objects."""
        return ask(self._Client, self._address, self._authkey, "debug_info")

    def _number_of_objects(self) -> Any:
        """Return how many objects the server keeps."""
        return ask(self._Client, self._address, self._authkey, "number_of_objects")

    @classmethod
    def register(
        cls,
        typeid: str,
        callable: Callable[..., Any] | None = None,
        proxytype: Any = None,
        exposed: Any = None,
        method_to_typeid: dict[str, str] | None = None,
        create_method: bool = True,
    ) -> None:
        """Let managers of this class, and those derived from it later, make objects of another type.

        typeid -- str, its name, and that of the manager's new method
        callable -- makes an object in the server; None for managers that only connect
        proxytype -- makes proxies; None: they get the object's public methods
        exposed -- which methods may be called, a sequence of str
        method_to_typeid -- dict: of which methods the result stays in the server, and as what type
        create_method -- bool: whether the manager gets a method
        Differs: none.
        """
        if "_registry" not in cls.__dict__:
            cls._registry = cls._registry.copy()
        if proxytype is None:
            proxytype = AutoProxy
        exposed = exposed or getattr(proxytype, "_exposed_", None)
        method_to_typeid = method_to_typeid or getattr(proxytype, "_method_to_typeid_", None)
        for word in (word for pair in (method_to_typeid or {}).items() for word in pair):
            if type(word) is not str:
                raise AssertionError(f"{word!r} is not a string")
        cls._registry[typeid] = (callable, exposed, method_to_typeid, proxytype)
        if not create_method:
            return

        def create(self: Any, /, *args: Any, **kwds: Any) -> Any:
            util.debug("requesting creation of a shared %r object", typeid)
            token, exposed = self._create(typeid, *args, **kwds)
            proxy = proxytype(token, self._serializer, manager=self, authkey=self._authkey, exposed=exposed)
            # The server counted the object as referred to; now the proxy is counted.
            ask(self._Client, token.address, self._authkey, "decref", (token.id,))
            return proxy

        create.__name__ = typeid
        create.__qualname__ = f"{cls.__qualname__}.{typeid}"
        create.__doc__ = f"Make a {typeid} in the server, and return a proxy to it."
        setattr(cls, typeid, create)


def _served(make: Any, way: _manager_tls.Way | None, *args: Any) -> Any:
    """Make a server; what its objects do with proxies to it goes its own way."""
    if way is None:
        return make(*args)  # servers of the users' own may know nothing of TLS
    server = make(*args, ssl_context=way.server())
    _manager_tls.remember(server.address, way)
    return server


def _ask_to_end(connect: Any, address: Any, authkey: bytes, patience: float) -> None:
    """Ask a server to end; a server that is stopped or stuck costs a wait of `patience` seconds."""
    plain = getattr(connect, "func", connect)  # without the context for TLS
    if plain not in (connection.Client, connection.XmlClient):
        ask(connect, address, authkey, "shutdown")
        return
    c: Any
    with _patience.client(address, max(patience, 0.1)) as c:
        if plain is connect:
            connection.answer_challenge(c, authkey)
            connection.deliver_challenge(c, authkey)
        else:
            from . import _tls

            name = connect.keywords["server_hostname"] or _tls.host(address)
            c = _tls.connected(c, connect.keywords["ssl_context"], authkey, name, deadline=c._deadline)
        try:
            if plain is connection.XmlClient:
                c = connection.ConnectionWrapper(c, connection._xml_dumps, connection._xml_loads)
            dispatch(c, None, "shutdown")
        finally:
            c.close()  # while the socket is still its own


def _remove_socket(address: Any) -> None:
    """Remove the socket that a server left in its temporary folder when it was killed, and that folder."""
    if not isinstance(address, str):
        return
    folder, name = os.path.split(address)
    # A path of the user's own may be another server's by now.
    if not name.startswith("sock-") or not os.path.basename(folder).startswith("pymp-"):
        return
    with suppress(OSError):  # a server that ended by itself has removed both
        os.unlink(address)
        if folder != process.current_process()._config.get("tempdir"):
            os.rmdir(folder)


# ---- what a SyncManager's server keeps ----


class Namespace:
    """An object for attributes."""

    def __init__(self, /, **kwds: Any) -> None:
        self.__dict__.update(kwds)

    def __repr__(self) -> str:
        words = sorted(f"{name}={value!r}" for name, value in self.__dict__.items() if not name.startswith("_"))
        return f"{type(self).__name__}({', '.join(words)})"


class Value:
    """An object for one value; the type code is only remembered."""

    def __init__(self, typecode: str, value: Any, lock: object = True) -> None:
        self._typecode = typecode
        self._value = value

    def get(self) -> Any:
        """Return the value."""
        return self._value

    def set(self, value: Any) -> None:
        """Change the value."""
        self._value = value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._typecode!r}, {self._value!r})"

    value = property(get, set)


def Array(typecode: str, sequence: Iterable[Any], lock: object = True) -> array.array[Any]:
    """Make an `array.array`."""
    return array.array(typecode, sequence)


class SyncManager(BaseManager):
    """A manager for what threads share: locks, queues, lists, dicts, sets, pools.

    A context's Manager() returns one that is started.  Differs: `set` is there on every version (new in 3.14).
    """

    if TYPE_CHECKING:
        # Made by `register` below. Most proxies are told by what they stand for, as users see nothing else of them.

        def Array(self, typecode: str, sequence: Sequence[_T]) -> Sequence[_T]: ...
        def Barrier(
            self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
        ) -> threading.Barrier: ...
        def BoundedSemaphore(self, value: int = 1) -> threading.BoundedSemaphore: ...
        def Condition(self, lock: Any = None) -> threading.Condition: ...
        def Event(self) -> threading.Event: ...
        def JoinableQueue(self, maxsize: int = 0) -> queue.Queue[Any]: ...
        def Lock(self) -> threading.Lock: ...
        def Namespace(self, **kwds: Any) -> Any: ...
        def Pool(
            self,
            processes: int | None = None,
            initializer: Callable[..., object] | None = None,
            initargs: Iterable[Any] = (),
            maxtasksperchild: int | None = None,
            context: Any = None,
        ) -> pool.Pool: ...
        def Queue(self, maxsize: int = 0) -> queue.Queue[Any]: ...
        def RLock(self) -> threading.RLock: ...
        def Semaphore(self, value: int = 1) -> threading.Semaphore: ...
        def Value(self, typecode: str, value: _T, lock: object = True) -> ValueProxy[_T]: ...
        @overload
        def dict(self, /, **kwds: _T) -> DictProxy[str, _T]: ...
        @overload
        def dict(self, items: Mapping[_K, _T] | Iterable[tuple[_K, _T]], /, **kwds: _T) -> DictProxy[_K, _T]: ...
        def dict(self, items: Any = (), /, **kwds: Any) -> Any: ...
        @overload
        def list(self, /) -> ListProxy[Any]: ...
        @overload
        def list(self, items: Iterable[_T], /) -> ListProxy[_T]: ...
        def list(self, items: Any = (), /) -> Any: ...
        @overload
        def set(self, /) -> SetProxy[Any]: ...
        @overload
        def set(self, items: Iterable[_T], /) -> SetProxy[_T]: ...
        def set(self, items: Any = (), /) -> Any: ...


SyncManager.register("Queue", queue.Queue)
SyncManager.register("JoinableQueue", queue.Queue)
SyncManager.register("Event", threading.Event, EventProxy)
SyncManager.register("Lock", threading.Lock, AcquirerProxy)
SyncManager.register("RLock", threading.RLock, AcquirerProxy)
SyncManager.register("Semaphore", threading.Semaphore, AcquirerProxy)
SyncManager.register("BoundedSemaphore", threading.BoundedSemaphore, AcquirerProxy)
SyncManager.register("Condition", threading.Condition, ConditionProxy)
SyncManager.register("Barrier", threading.Barrier, BarrierProxy)
SyncManager.register("Pool", pool.Pool, PoolProxy)
SyncManager.register("list", list, ListProxy)
SyncManager.register("dict", dict, DictProxy)
SyncManager.register("set", set, SetProxy)
SyncManager.register("Value", Value, ValueProxy)
SyncManager.register("Array", Array, ArrayProxy)
SyncManager.register("Namespace", Namespace, NamespaceProxy)
# Results of methods.
SyncManager.register("Iterator", proxytype=IteratorProxy, create_method=False)
SyncManager.register("AsyncResult", create_method=False)


# ---- shared memory ----


class _SharedMemoryTracker:
    """The segments of shared memory that end with a server."""

    def __init__(self, name: str, segment_names: list[str] | None = None) -> None:
        self.shared_memory_context_name = name
        self.segment_names = [] if segment_names is None else segment_names

    def register_segment(self, segment_name: str) -> None:
        """Let a segment, by its name, end with the server."""
        util.debug("Register segment %r in pid %s", segment_name, os.getpid())
        self.segment_names.append(segment_name)

    def destroy_segment(self, segment_name: str) -> None:
        """End a segment now.  Raises FileNotFoundError when somebody else did."""
        from . import shared_memory

        util.debug("Destroy segment %r in pid %s", segment_name, os.getpid())
        self.segment_names.remove(segment_name)
        segment = shared_memory.SharedMemory(segment_name)
        segment.close()
        segment.unlink()

    def unlink(self) -> None:
        """End all segments; those that are gone already do not keep the others."""
        for name in self.segment_names[:]:
            try:
                self.destroy_segment(name)
            except FileNotFoundError:
                util.debug("segment %r is gone already", name)

    def __del__(self) -> None:
        util.debug("Call %s.__del__ in %s", type(self).__name__, os.getpid())
        self.unlink()

    def __getstate__(self) -> Any:
        return self.shared_memory_context_name, self.segment_names

    def __setstate__(self, state: Any) -> None:
        self.__init__(*state)  # type: ignore[misc]


class SharedMemoryServer(Server):
    """A server that ends segments of shared memory when it ends."""

    __module__ = "manyhands.managers"

    public = [*Server.public, "track_segment", "release_segment", "list_segments"]  # noqa: RUF012

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        address = os.fsdecode(self.address) if isinstance(self.address, bytes) else self.address
        self.shared_memory_context = _SharedMemoryTracker(f"shm_{address}_{os.getpid()}")
        util.debug("SharedMemoryServer started by pid %s", os.getpid())

    def create(self, c: Any, typeid: str, /, *args: Any, **kwargs: Any) -> Any:
        """Make an object; those whose proxy type asks for it are told which segments there are."""
        if hasattr(self.registry[typeid][-1], "_shared_memory_proxy"):
            kwargs["shared_memory_context"] = self.shared_memory_context
        return super().create(c, typeid, *args, **kwargs)

    def shutdown(self, c: Any) -> None:
        """End all segments and the server's process."""
        self.shared_memory_context.unlink()
        super().shutdown(c)

    def track_segment(self, c: Any, segment_name: str) -> None:
        """Let a segment end with the server."""
        self.shared_memory_context.register_segment(segment_name)

    def release_segment(self, c: Any, segment_name: str) -> None:
        """End a segment now."""
        self.shared_memory_context.destroy_segment(segment_name)

    def list_segments(self, c: Any) -> list[str]:
        """Return the names of the segments."""
        return self.shared_memory_context.segment_names


class SharedMemoryManager(BaseManager):
    """A manager that makes segments of shared memory, and ends them when it is shut down.

    Arguments as for BaseManager.  Differs: none.
    """

    _Server = SharedMemoryServer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from . import resource_tracker

        # One tracker for this process and the server: it has to be there before the server is.
        resource_tracker.ensure_running()
        super().__init__(*args, **kwargs)
        util.debug("%s created by pid %s", type(self).__name__, os.getpid())

    def __del__(self) -> None:
        util.debug("%s.__del__ by pid %s", type(self).__name__, os.getpid())

    def get_server(self) -> Any:
        """Return a server that is to run in this process: call its serve_forever()."""
        self._check_initial()
        return self._own(self._Server)

    def SharedMemory(self, size: int) -> shared_memory.SharedMemory:
        """Return a new segment of `size` bytes, a `shared_memory.SharedMemory`, that ends with the server."""
        from . import shared_memory

        segment = shared_memory.SharedMemory(None, create=True, size=size)
        self._track(segment)
        return segment

    def ShareableList(self, sequence: Iterable[_T]) -> shared_memory.ShareableList[_T]:
        """Return a new `shared_memory.ShareableList` of what is in `sequence`, that ends with the server."""
        from . import shared_memory

        items = shared_memory.ShareableList(sequence)
        self._track(items.shm)
        return items

    def _track(self, segment: Any) -> None:
        try:
            ask(self._Client, self._address, self._authkey, "track_segment", (segment.name,))
        except BaseException:
            segment.close()
            segment.unlink()
            raise


def __getattr__(name: str) -> Any:
    if name == "shared_memory":  # loaded when a segment is made
        from importlib import import_module

        return import_module(f"{__package__}.shared_memory")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
