"""What a manager's server and its proxies say to each other: requests and answers, over one connection.

Always: the messages are the standard library's, and so are the names of classes in them, so that either side may
be a plain Python: `manyhands.managers.Token` travels as `multiprocessing.managers.Token` and arrives as what the
receiver has under that name.
Not here: who answers (`_manager_server`), who asks (`_manager_proxies`).
"""

from __future__ import annotations

import array
import io
import os
import pickle
import types
from typing import Any

from . import _engine, reduction
from .connection import Connection

__all__ = ["RemoteError", "Token", "ask", "convert_to_error", "dispatch", "exchange", "receive", "send"]

_OURS = __package__ + "."
_STANDARD = "multiprocessing."


class Token:
    """Says which object is meant, and where.

    typeid -- str, under which its type is registered; address -- of the server; id -- str, the server's name for it
    """

    __module__ = "manyhands.managers"
    __slots__ = ("address", "id", "typeid")

    def __init__(self, typeid: str, address: Any, id: str) -> None:
        self.typeid = typeid
        self.address = address
        self.id = id

    def __getstate__(self) -> tuple[str, Any, str]:
        return self.typeid, self.address, self.id

    def __setstate__(self, state: tuple[str, Any, str]) -> None:
        self.typeid, self.address, self.id = state

    def __repr__(self) -> str:
        return f"{type(self).__name__}(typeid={self.typeid!r}, address={self.address!r}, id={self.id!r})"


class RemoteError(Exception):
    """The server could not do what it was asked for; args[0] is its traceback, a str."""

    __module__ = "manyhands.managers"

    def __str__(self) -> str:
        line = "-" * 75
        return f"\n{line}\n{self.args[0]}{line}"


def dispatch(c: Any, id: Any, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006
    """Ask the server at the other end of connection `c` for a method, and return the answer.

    id -- str, the object's; None for the server's own methods
    Raises what the method raised, `RemoteError` for what went wrong otherwise.  Differs: none.
    """
    kind, result = exchange(c, (id, methodname, args, kwds))
    if kind == "#RETURN":
        return result
    try:
        raise convert_to_error(kind, result)
    finally:
        del result  # the traceback would hold the exception, and the exception the traceback


def ask(connect: Any, address: Any, authkey: bytes, method: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006
    """Ask a server for one of its own methods, over a connection for this question alone.

    connect -- callable: the serializer's Client
    """
    c = connect(address, authkey=authkey)
    try:
        return dispatch(c, None, method, args, kwds)
    finally:
        c.close()


def convert_to_error(kind: str, result: Any) -> BaseException:
    """Return the exception that an answer of this kind stands for.  Differs: none."""
    if kind == "#ERROR":
        if isinstance(result, BaseException):
            return result
        return RemoteError(f"the method raised something that unpickled as {result!r}\n")
    if kind in ("#TRACEBACK", "#UNSERIALIZABLE"):
        if not isinstance(result, str):
            raise TypeError(f"Result {result!r} (kind '{kind}') type is {type(result)}, not str")
        return RemoteError(result if kind == "#TRACEBACK" else f"Unserializable message: {result}\n")
    return ValueError(f"Unrecognized message type {kind!r}")


# ---- messages ----


def exchange(c: Any, request: Any) -> Any:
    """Send a request and return the answer: a pair of its kind, a str, and what it says.

    A call that fails on its way closes the connection, whatever it was: a late answer would else be taken for the
    next one's.  Raises EOFError or OSError when the server is gone.
    """
    if type(c) is Connection:
        return _pair(_engine.exchange(c, request))
    try:
        send(c, request)
        answer = receive(c)
    except BaseException:
        c.close()
        raise
    return _pair(answer)


def _pair(answer: Any) -> Any:
    if type(answer) is not tuple or len(answer) != 2:
        if isinstance(answer, list) and len(answer) == 2:  # XML knows no tuples
            return answer
        raise RemoteError(f"the server answered {answer!r}, which is no pair of a kind and a value\n")
    return answer


def send(c: Any, message: Any) -> None:
    """Send a message; what cannot be pickled raises before anything is sent."""
    if type(c) is Connection:
        _engine.send_translated(c, message)
    elif isinstance(c, Connection):  # one through TLS
        c.send_bytes(_translated(message))
    else:
        c.send(message)


def receive(c: Any) -> Any:
    """Receive a message."""
    if type(c) is Connection:
        return _engine.recv_translated(c)
    return _read(c.recv_bytes()) if isinstance(c, Connection) else c.recv()


# ---- names ----


# The engine pickles and unpickles messages, and calls these when a pickle may hold a name to be translated.


def _translated(message: Any) -> bytes:
    """Pickle a message, with the standard library's names for what it has too."""
    buffer = io.BytesIO()
    writer = _Writer(buffer)
    writer.dump(message)
    return writer.finished(buffer.getvalue())


def _read(data: Any) -> Any:
    """Unpickle a message, with this package's classes for the standard library's."""
    return _Reader(io.BytesIO(data)).load()


class _Writer(pickle.Pickler):
    """A pickler that writes `multiprocessing.X` for `manyhands.X`.

    The pickler in C writes a class by no other name than it looked up, and the one in Python cannot nest as deep.  So
    what is to have another name is first written as a persistent id of three strings, the last of them a mark that
    nothing else in the message can be; `finished` makes global names of these.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, 4)
        self.dispatch_table = reduction.ForkingPickler(io.BytesIO()).dispatch_table
        self._mark = os.urandom(8).hex().encode("ascii")

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _NAMED):
            return None
        module = getattr(obj, "__module__", None)
        if not isinstance(module, str) or not module.startswith(_OURS):
            return None
        # The mark is another object each time: the same one would be written once, and then referred to.
        return _STANDARD + module[len(_OURS) :], obj.__qualname__, self._mark.decode("ascii")

    def finished(self, data: bytes) -> bytes:
        """Return the pickle without persistent ids: of the same length, as its frames say theirs, and memoizing as
        many objects, as they are referred to by number."""
        string = pickle.SHORT_BINUNICODE + bytes([len(self._mark)])
        marked = string + self._mark + pickle.MEMOIZE + pickle.TUPLE3 + pickle.MEMOIZE + pickle.BINPERSID
        named = pickle.STACK_GLOBAL + pickle.MEMOIZE * 2
        return data.replace(marked, named + string + b" " * len(self._mark) + pickle.POP)


_NAMED = (type, types.FunctionType, types.BuiltinFunctionType)


class _Reader(pickle.Unpickler):
    """An unpickler that reads `multiprocessing.X` as `manyhands.X`, if there is such a thing."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith(_STANDARD):
            try:
                return super().find_class(_OURS + module[len(_STANDARD) :], name)
            except (ImportError, AttributeError):
                pass
        return super().find_class(module, name)


# ---- what pickles otherwise between processes ----


def reduce_array(a: Any) -> Any:
    """Say how an `array.array` is pickled: by its bytes."""
    return array.array, (a.typecode, a.tobytes())


def rebuild_as_list(obj: Any) -> Any:
    """Say how a view of a dict is pickled: as a list."""
    return list, (list(obj),)


reduction.register(array.array, reduce_array)
_some: dict[Any, Any] = {}
for _view in (_some.items(), _some.keys(), _some.values()):
    reduction.register(type(_view), rebuild_as_list)
del _some, _view
