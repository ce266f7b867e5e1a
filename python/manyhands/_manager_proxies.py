"""Proxies: objects here whose methods are called in a manager's server.

Always: a process counts as one reference for each proxy it has, and gives it back when the proxy goes; each
thread has its own connection, so that a call which waits keeps nobody else waiting.
Not here: the server (`_manager_server`), the messages (`_manager_wire`).
"""

from __future__ import annotations

import itertools
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from . import _manager_tls, process, util
from ._manager_wire import ask, convert_to_error, dispatch, exchange
from .context import get_spawning_popen

if TYPE_CHECKING:
    from collections.abc import MutableMapping, MutableSequence, MutableSet

__all__ = ["AutoProxy", "BaseProxy", "MakeProxyType", "ProcessLocalSet", "RebuildProxy"]

_K = TypeVar("_K")
_T = TypeVar("_T")

_HOME = "manyhands.managers"  # where pickles look for what is defined here


class ProcessLocalSet(set):  # type: ignore[type-arg]
    """A set that is empty in a forked child."""

    __module__ = _HOME

    def __init__(self) -> None:
        util.register_after_fork(self, lambda self: self.clear())

    def __reduce__(self) -> Any:
        return type(self), ()


class BaseProxy:
    """Stands for an object in a manager's server.

    token -- which object; serializer -- 'pickle' or 'xmlrpclib'; manager -- the manager, None in other processes
    authkey -- bytes, None: the manager's, or this process's
    exposed -- what may be called, for those who make types; incref -- bool: count this proxy
    manager_owned -- bool: this is the server's own process

    Differs: a call that is interrupted or fails on its way closes its connection, the next one opens another (the
    standard library takes the late answer for the next call's).
    """

    __module__ = _HOME

    # By address: what this process has there, a connection for each thread and the serial numbers of its proxies.
    _address_to_local: dict[Any, tuple[Any, ProcessLocalSet]] = {}  # noqa: RUF012
    _mutex = util.ForkAwareThreadLock()
    _serials = itertools.count(1)

    def __init__(
        self,
        token: Any,
        serializer: str,
        manager: Any = None,
        authkey: bytes | None = None,
        exposed: Any = None,
        incref: bool = True,
        manager_owned: bool = False,
    ) -> None:
        with BaseProxy._mutex:
            local = BaseProxy._address_to_local.get(token.address)
            if local is None:
                local = BaseProxy._address_to_local[token.address] = util.ForkAwareLocal(), ProcessLocalSet()
        self._tls: Any
        self._tls, self._idset = local
        self._token = token
        self._id = token.id
        self._manager = manager
        self._serializer = serializer
        self._Client = _manager_tls.connector(serializer, token.address, manager)
        self._owned_by_manager = manager_owned
        if authkey is not None:
            self._authkey: bytes = process.AuthenticationString(authkey)
        elif manager is not None:
            self._authkey = manager._authkey
        else:
            self._authkey = process.current_process().authkey
        if incref:
            self._incref()
        util.register_after_fork(self, BaseProxy._after_fork)

    # ---- calls ----

    def _connect(self) -> None:
        """Open this thread's connection to the server."""
        util.debug("making connection to manager")
        name = process.current_process().name
        thread = threading.current_thread().name
        if thread != "MainThread":
            name += f"|{thread}"
        conn = self._Client(self._token.address, authkey=self._authkey)
        dispatch(conn, None, "accept_connection", (name,))
        self._tls.connection = conn

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006
        """Call a method of the object in the server; return a copy of the result, or a proxy to it.

        Raises what the method raised; RemoteError for what went wrong otherwise in the server; EOFError or OSError
        when the server is gone.
        """
        try:
            conn = self._tls.connection
        except AttributeError:
            util.debug("thread %r does not own a connection", threading.current_thread().name)
            self._connect()
            conn = self._tls.connection
        try:
            kind, result = exchange(conn, (self._id, methodname, args, kwds))
        except BaseException:
            if getattr(conn, "closed", True):  # one that cannot say is not used again either
                self._tls.__dict__.pop("connection", None)
            raise
        if kind == "#RETURN":
            return result
        if kind == "#PROXY":
            return self._proxy_of_result(*result)
        try:
            raise convert_to_error(kind, result)
        finally:
            del result  # the traceback would hold the exception, and the exception the traceback

    def _proxy_of_result(self, exposed: Any, token: Any) -> Any:
        """Make the proxy of a result that stays in the server."""
        make = self._manager._registry[token.typeid][-1]
        token.address = self._token.address  # as we know it: the server may have another name for itself
        proxy = make(token, self._serializer, manager=self._manager, authkey=self._authkey, exposed=exposed)
        # The server counted the result as referred to; now the proxy is counted.
        ask(self._Client, token.address, self._authkey, "decref", (token.id,))
        return proxy

    def _getvalue(self) -> Any:
        """Return a copy of the object."""
        return self._callmethod("#GETVALUE")

    # ---- references ----

    def _incref(self) -> None:
        if self._owned_by_manager:
            util.debug("owned_by_manager skipped INCREF of %r", self._token.id)
            return
        ask(self._Client, self._token.address, self._authkey, "incref", (self._id,))
        util.debug("INCREF %r", self._token.id)
        serial = next(BaseProxy._serials)
        self._idset.add(serial)
        state = self._manager and self._manager._state
        self._close = util.Finalize(
            self,
            BaseProxy._decref,
            args=(self._token, serial, self._authkey, state, self._tls, self._idset, self._Client),
            exitpriority=10,
        )

    @staticmethod
    def _decref(
        token: Any, serial: int, authkey: bytes, state: Any, tls: Any, idset: Any, _Client: Callable[..., Any]
    ) -> None:
        idset.discard(serial)
        if state is None or state.value == state.STARTED:
            try:
                util.debug("DECREF %r", token.id)
                ask(_Client, token.address, authkey, "decref", (token.id,))
            except Exception as error:
                util.debug("... decref failed %s", error)
        else:
            util.debug("DECREF %r -- manager already shutdown", token.id)
        # Without proxies no thread needs its connection; the others close theirs when they end.
        if not idset and hasattr(tls, "connection"):
            util.debug("thread %r has no more proxies so closing conn", threading.current_thread().name)
            tls.connection.close()
            del tls.connection

    def _after_fork(self) -> None:
        self._manager = None
        try:
            self._incref()
        except Exception as error:
            util.info("incref failed: %s", error)  # perhaps the manager has been shut down

    # ---- copies ----

    def __reduce__(self) -> Any:
        kwds: dict[str, Any] = {}
        if get_spawning_popen() is not None:
            kwds["authkey"] = self._authkey
        make: Any = type(self)
        if getattr(self, "_isauto", False):
            kwds["exposed"] = self._exposed_  # type: ignore[attr-defined]
            make = AutoProxy
        kwds.update(_manager_tls.carried(self._token.address))
        return RebuildProxy, (make, self._token, self._serializer, kwds)

    def __deepcopy__(self, memo: Any) -> Any:
        return self._getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._token.typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        """What the object's repr() says, in the server."""
        try:
            return str(self._callmethod("__repr__"))
        except Exception:
            return f"{repr(self)[:-1]}; '__str__()' failed>"


def RebuildProxy(func: Callable[..., Any], token: Any, serializer: str, kwds: dict[str, Any]) -> Any:
    """Make a proxy of what was pickled.

    In the server's own process it is one that is not counted.  A child that is being started does not count its
    proxies either before it runs: see `BaseProxy._after_fork`.
    """
    server = getattr(process.current_process(), "_manager_server", None)
    if server and server.address == token.address:
        util.debug("Rebuild a proxy owned by manager, token=%r", token)
        kwds["manager_owned"] = True
        if token.id not in server.id_to_local_proxy_obj:
            server.id_to_local_proxy_obj[token.id] = server.id_to_obj[token.id]
    _manager_tls.arrived(token.address, kwds, needed=not (server and server.address == token.address))
    incref = kwds.pop("incref", True) and not getattr(process.current_process(), "_inheriting", False)
    return func(token, serializer, incref=incref, **kwds)


# ---- types of proxies ----


def _forward(name: str) -> Callable[..., Any]:
    """Return a method that calls the object's method of this name."""

    def method(self: Any, /, *args: Any, **kwds: Any) -> Any:
        return self._callmethod(name, args, kwds)

    method.__name__ = method.__qualname__ = name
    return method


def MakeProxyType(name: str, exposed: Iterable[str], _cache: dict[Any, Any] = {}) -> Any:  # noqa: B006
    """Return a type of proxies, called `name`, that has the methods `exposed`.  Differs: none."""
    exposed = tuple(exposed)
    if (name, exposed) not in _cache:
        methods: dict[str, Any] = {method: _forward(method) for method in exposed}
        _cache[name, exposed] = type(name, (BaseProxy,), {**methods, "_exposed_": exposed, "__module__": _HOME})
    return _cache[name, exposed]


def AutoProxy(
    token: Any,
    serializer: str,
    manager: Any = None,
    authkey: bytes | None = None,
    exposed: Any = None,
    incref: bool = True,
    manager_owned: bool = False,
) -> Any:
    """Return a proxy that has the methods which the object has, asking the server which those are.

    Arguments as for BaseProxy.  Differs: none.
    """
    if authkey is None:
        authkey = process.current_process().authkey if manager is None else manager._authkey
    if exposed is None:
        exposed = ask(
            _manager_tls.connector(serializer, token.address, manager), token.address, authkey, "get_methods", (token,)
        )
    make = MakeProxyType(f"AutoProxy[{token.typeid}]", exposed)
    proxy = make(
        token, serializer, manager=manager, authkey=authkey, incref=incref, manager_owned=manager_owned
    )  # fmt: skip
    proxy._isauto = True
    return proxy


RebuildProxy.__module__ = MakeProxyType.__module__ = AutoProxy.__module__ = _HOME


class IteratorProxy(BaseProxy):
    """A proxy of an iterator or generator."""

    __module__ = _HOME
    _exposed_ = ("__next__", "send", "throw", "close")

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self, *args: Any) -> Any:
        return self._callmethod("__next__", args)

    def send(self, *args: Any) -> Any:
        """generator.send"""
        return self._callmethod("send", args)

    def throw(self, *args: Any) -> Any:
        """generator.throw"""
        return self._callmethod("throw", args)

    def close(self, *args: Any) -> Any:
        """generator.close"""
        return self._callmethod("close", args)


class AcquirerProxy(BaseProxy):
    """A proxy of a lock or semaphore of `threading`."""

    __module__ = _HOME
    # 'locked' is newer than the standard library's: a plain Python's server does not expose it.
    _exposed_: tuple[str, ...] = ("acquire", "release", "locked")

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> Any:
        """Acquire it, waiting at most `timeout` seconds; return whether it was acquired."""
        return self._callmethod("acquire", (blocking,) if timeout is None else (blocking, timeout))

    def release(self) -> Any:
        """Release it."""
        return self._callmethod("release")

    def locked(self) -> Any:
        """Return whether somebody holds the lock.  Raises AttributeError where its type cannot say."""
        return self._callmethod("locked")

    def __enter__(self) -> Any:
        return self._callmethod("acquire")

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> Any:
        return self._callmethod("release")


class ConditionProxy(AcquirerProxy):
    """A proxy of a `threading.Condition`."""

    __module__ = _HOME
    _exposed_ = ("acquire", "release", "locked", "wait", "notify", "notify_all")

    def wait(self, timeout: float | None = None) -> Any:
        """Wait for a notification; return whether one came."""
        return self._callmethod("wait", (timeout,))

    def notify(self, n: int = 1) -> Any:
        """Wake `n` that wait."""
        return self._callmethod("notify", (n,))

    def notify_all(self) -> Any:
        """Wake all that wait."""
        return self._callmethod("notify_all")

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until predicate(), which is called here, is true; return what it returned last."""
        end = None if timeout is None else time.monotonic() + timeout
        result = predicate()
        while not result:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result


class EventProxy(BaseProxy):
    """A proxy of a `threading.Event`."""

    __module__ = _HOME
    _exposed_ = ("is_set", "set", "clear", "wait")

    def is_set(self) -> Any:
        """Return whether it is set."""
        return self._callmethod("is_set")

    def set(self) -> Any:
        """Set it: all that wait go on."""
        return self._callmethod("set")

    def clear(self) -> Any:
        """Let those wait who come from now on."""
        return self._callmethod("clear")

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until it is set; return whether it is."""
        return self._callmethod("wait", (timeout,))


class BarrierProxy(BaseProxy):
    """A proxy of a `threading.Barrier`."""

    __module__ = _HOME
    _exposed_ = ("__getattribute__", "wait", "abort", "reset")

    def wait(self, timeout: float | None = None) -> Any:
        """Wait for all parties; return a number that is different for each."""
        return self._callmethod("wait", (timeout,))

    def abort(self) -> Any:
        """Break it: all that wait get BrokenBarrierError."""
        return self._callmethod("abort")

    def reset(self) -> Any:
        """Make it new."""
        return self._callmethod("reset")

    @property
    def parties(self) -> Any:
        """How many it waits for."""
        return self._callmethod("__getattribute__", ("parties",))

    @property
    def n_waiting(self) -> Any:
        """How many wait."""
        return self._callmethod("__getattribute__", ("n_waiting",))

    @property
    def broken(self) -> Any:
        """Whether it is broken."""
        return self._callmethod("__getattribute__", ("broken",))


class NamespaceProxy(BaseProxy):
    """A proxy of an object with attributes; those that begin with an underscore are the proxy's own."""

    __module__ = _HOME
    _exposed_ = ("__getattribute__", "__setattr__", "__delattr__")

    def __getattr__(self, key: str) -> Any:
        if key[0] == "_":
            return object.__getattribute__(self, key)
        return object.__getattribute__(self, "_callmethod")("__getattribute__", (key,))

    def __setattr__(self, key: str, value: Any) -> Any:
        if key[0] == "_":
            return object.__setattr__(self, key, value)
        return object.__getattribute__(self, "_callmethod")("__setattr__", (key, value))

    def __delattr__(self, key: str) -> Any:
        if key[0] == "_":
            return object.__delattr__(self, key)
        return object.__getattribute__(self, "_callmethod")("__delattr__", (key,))


class ValueProxy(BaseProxy, Generic[_T]):
    """A proxy of an object with get() and set()."""

    __module__ = _HOME
    _exposed_ = ("get", "set")

    def get(self) -> _T:
        """Return the value."""
        value: _T = self._callmethod("get")
        return value

    def set(self, value: _T) -> None:
        """Change the value."""
        self._callmethod("set", (value,))

    value: _T = property(get, set)  # type: ignore[assignment]
    __class_getitem__: ClassVar[Any] = classmethod(types.GenericAlias)


BaseListProxy: Any = MakeProxyType(
    "BaseListProxy",
    (
        "__add__", "__contains__", "__delitem__", "__getitem__", "__len__", "__mul__", "__reversed__",
        "__rmul__", "__setitem__", "append", "clear", "copy", "count", "extend", "index", "insert", "pop",
        "remove", "reverse", "sort", "__imul__",
    ),
)  # fmt: skip


_BaseDictProxy: Any = MakeProxyType(
    "DictProxy",
    (
        "__contains__", "__delitem__", "__getitem__", "__ior__", "__iter__", "__len__", "__or__", "__ror__",
        "__setitem__", "clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update",
        "values",
    ),
)  # fmt: skip
_BaseDictProxy._method_to_typeid_ = {"__iter__": "Iterator"}


_BaseSetProxy: Any = MakeProxyType(
    "_BaseSetProxy",
    (
        "__and__", "__contains__", "__eq__", "__ge__", "__gt__", "__iand__", "__ior__", "__isub__", "__iter__",
        "__ixor__", "__le__", "__len__", "__lt__", "__or__", "__rand__", "__ror__", "__rsub__", "__rxor__",
        "__sub__", "__xor__", "add", "clear", "copy", "difference", "difference_update", "discard",
        "intersection", "intersection_update", "isdisjoint", "issubset", "issuperset", "pop", "remove",
        "symmetric_difference", "symmetric_difference_update", "union", "update",
    ),
)  # fmt: skip
_BaseSetProxy._method_to_typeid_ = {"__iter__": "Iterator"}


# Type checkers see what the methods do instead of how they are made.
if TYPE_CHECKING:

    class _Listlike(BaseProxy, MutableSequence[_T]):
        def copy(self) -> list[_T]: ...
        def sort(self, *, key: Callable[[_T], Any] | None = None, reverse: bool = False) -> None: ...

    class _Dictlike(BaseProxy, MutableMapping[_K, _T]):
        def copy(self) -> dict[_K, _T]: ...

    class _Setlike(BaseProxy, MutableSet[_T]):
        def copy(self) -> set[_T]: ...
        def difference(self, *others: Iterable[Any]) -> set[_T]: ...
        def difference_update(self, *others: Iterable[Any]) -> None: ...
        def intersection(self, *others: Iterable[Any]) -> set[_T]: ...
        def intersection_update(self, *others: Iterable[Any]) -> None: ...
        def issubset(self, other: Iterable[Any]) -> bool: ...
        def issuperset(self, other: Iterable[Any]) -> bool: ...
        def symmetric_difference(self, other: Iterable[_T]) -> set[_T]: ...
        def symmetric_difference_update(self, other: Iterable[_T]) -> None: ...
        def union(self, *others: Iterable[_T]) -> set[_T]: ...
        def update(self, *others: Iterable[_T]) -> None: ...

else:
    _Listlike = {_T: BaseListProxy}
    _Dictlike = {(_K, _T): _BaseDictProxy}
    _Setlike = {_T: _BaseSetProxy}


class ListProxy(_Listlike[_T]):
    """A proxy of a list."""

    __module__ = _HOME

    def __iadd__(self, value: Any) -> Self:
        self._callmethod("extend", (value,))
        return self

    def __imul__(self, value: Any) -> Self:
        self._callmethod("__imul__", (value,))
        return self

    __class_getitem__: ClassVar[Any] = classmethod(types.GenericAlias)


class DictProxy(_Dictlike[_K, _T]):
    """A proxy of a dict."""

    __module__ = _HOME

    def __ior__(self, value: Any) -> Self:
        self._callmethod("__ior__", (value,))
        return self

    __class_getitem__: ClassVar[Any] = classmethod(types.GenericAlias)


class SetProxy(_Setlike[_T]):
    """A proxy of a set.  New in 3.14's standard library; here on every version."""

    __module__ = _HOME
    __hash__ = BaseProxy.__hash__

    def __iand__(self, value: Any) -> Self:  # type: ignore[misc]
        self._callmethod("__iand__", (value,))
        return self

    def __ior__(self, value: Any) -> Self:  # type: ignore[misc]
        self._callmethod("__ior__", (value,))
        return self

    def __isub__(self, value: Any) -> Self:  # type: ignore[misc]
        self._callmethod("__isub__", (value,))
        return self

    def __ixor__(self, value: Any) -> Self:  # type: ignore[misc]
        self._callmethod("__ixor__", (value,))
        return self

    __class_getitem__: ClassVar[Any] = classmethod(types.GenericAlias)


ArrayProxy: Any = MakeProxyType("ArrayProxy", ("__len__", "__getitem__", "__setitem__"))


BasePoolProxy: Any = MakeProxyType(
    "PoolProxy",
    (
        "apply", "apply_async", "close", "imap", "imap_unordered", "join",
        "map", "map_async", "starmap", "starmap_async", "terminate",
    ),
)  # fmt: skip
BasePoolProxy._method_to_typeid_ = {
    "apply_async": "AsyncResult",
    "map_async": "AsyncResult",
    "starmap_async": "AsyncResult",
    "imap": "Iterator",
    "imap_unordered": "Iterator",
}


class PoolProxy(BasePoolProxy):  # type: ignore[misc]
    """A proxy of a pool whose workers are children of the server."""

    __module__ = _HOME

    def __enter__(self) -> Any:
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        self.terminate()
