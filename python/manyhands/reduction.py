"""Pickling for other processes: what cannot be pickled elsewhere but can between relatives.

Always: descriptors travel as duplicates, with the child that is being started or over a Unix socket.
Not here: which process something is sent to (`popen_*`, `connection`).
"""

from __future__ import annotations

import copyreg
import functools
import io
import os
import sys
from _pickle import Pickler, PicklingError, loads
from abc import ABCMeta

from . import _neighbours, context

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from typing import Any, ClassVar

__all__ = ["send_handle", "recv_handle", "ForkingPickler", "register", "dump", "DupFd", "sendfds", "recvfds"]

HAVE_SEND_HANDLE = True
ACKNOWLEDGE = False  # only macOS needs descriptors acknowledged


class ForkingPickler(Pickler):
    """A pickler for other processes of this family: it knows bound methods, partials, sockets.

    Reducers registered with the standard library's ForkingPickler count too, ours first.
    """

    _extra_reducers: ClassVar[dict[type, Callable[[Any], Any]]] = {}
    _copyreg_dispatch_table = copyreg.dispatch_table

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        table = {**self._copyreg_dispatch_table, **_neighbours.extra_reducers()}
        # A socket can only be met where its module is loaded: do not load it for that.
        socket_type = getattr(sys.modules.get("socket"), "socket", None)
        if socket_type is not None:
            table[socket_type] = _reduce_socket
        table.update(self._extra_reducers)
        self.dispatch_table = table

    @classmethod
    def register(cls, type: type, reduce: Callable[[Any], Any]) -> None:
        """Let reduce(obj) say how objects of `type` are pickled: as for copyreg.pickle."""
        cls._extra_reducers[type] = reduce

    @classmethod
    def dumps(cls, obj: Any, protocol: int | None = None) -> memoryview:
        """Return the pickle of `obj`, a memoryview."""
        buffer = io.BytesIO()
        cls(buffer, protocol).dump(obj)
        # A view of the bytes, not of the file: a collector that takes both apart in the wrong order crashes.
        return memoryview(buffer.getvalue())

    loads = loads


register = ForkingPickler.register


def dump(obj: Any, file: Any, protocol: int | None = None) -> None:
    """Pickle `obj` into a binary file, as ForkingPickler does; where cloudpickle is installed, also what has no name."""
    begin = file.tell() if type(file) is io.BytesIO else None
    try:
        ForkingPickler(file, protocol).dump(obj)
    except (AttributeError, TypeError, PicklingError) as error:
        if begin is None:
            raise  # what was written of it is gone
        from . import _closures

        file.seek(begin)
        file.truncate()
        _closures.dump(obj, file, error=error)


# ---- descriptors ----


def sendfds(sock: socket.socket, fds: Iterable[int]) -> None:
    """Send descriptors, a list of ints, over a connected Unix socket; recvfds is the other end."""
    import array
    import socket

    sent = array.array("i", fds)
    sock.sendmsg([bytes([len(sent) % 256])], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, sent)])


def recvfds(sock: socket.socket, size: int) -> list[int]:
    """Receive up to `size` descriptors from a Unix socket: a list of ints, which the caller closes.

    Raises EOFError when the other end is closed, RuntimeError for anything but descriptors.
    """
    import array
    import socket

    fds = array.array("i")
    room = socket.CMSG_SPACE(fds.itemsize * size)
    message, ancillary, _, _ = sock.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
    if not message and not ancillary:
        raise EOFError
    if len(ancillary) != 1:
        raise RuntimeError(f"received {len(ancillary)} items of ancdata, one with descriptors was expected")
    level, kind, data = ancillary[0]
    if level != socket.SOL_SOCKET or kind != socket.SCM_RIGHTS or len(data) % fds.itemsize:
        raise RuntimeError("Invalid data received where descriptors were expected")
    fds.frombytes(data)
    if len(fds) % 256 != message[0]:
        for fd in fds:
            os.close(fd)
        raise RuntimeError(f"{len(fds)} descriptors arrived, {message[0]} were announced")
    return list(fds)


def send_handle(conn: Any, handle: int, destination_pid: int | None) -> None:
    """Send a descriptor over a connection that is a Unix socket."""
    with _socket_of(conn) as sock:
        sendfds(sock, [handle])


def recv_handle(conn: Any) -> int:
    """Receive a descriptor, an int, from a connection that is a Unix socket."""
    with _socket_of(conn) as sock:
        return recvfds(sock, 1)[0]


def _socket_of(conn: Any) -> socket.socket:
    import socket

    return socket.fromfd(conn.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)


def DupFd(fd: int) -> Any:
    """Return a picklable stand-in for a descriptor; its detach() gives, at the other end, the descriptor."""
    popen = context.get_spawning_popen()
    if popen is not None:
        return popen.DupFd(popen.duplicate_for_child(fd))
    from . import resource_sharer

    return resource_sharer.DupFd(fd)


def _dup_once(fd: int) -> Any:
    """Return DupFd(fd), the same one for a child whatever number of objects, and of pickles, name the descriptor."""
    popen = context.get_spawning_popen()
    if popen is None:
        return DupFd(fd)
    sent = popen.__dict__.setdefault("_descriptors_sent", {})
    if fd not in sent:
        sent[fd] = DupFd(fd)
    return sent[fd]


# ---- reducers ----


class _C:
    def f(self) -> None:
        pass


def _reduce_method(method: Any) -> tuple[Any, ...]:
    return getattr, (method.__self__, method.__func__.__name__)


def _reduce_method_descriptor(method: Any) -> tuple[Any, ...]:
    return getattr, (method.__objclass__, method.__name__)


def _reduce_partial(partial: functools.partial[Any]) -> tuple[Any, ...]:
    return _rebuild_partial, (partial.func, partial.args, partial.keywords or {})


def _rebuild_partial(func: Any, args: Any, keywords: Any) -> functools.partial[Any]:
    return functools.partial(func, *args, **keywords)


def _reduce_socket(sock: socket.socket) -> tuple[Any, ...]:
    return _rebuild_socket, (DupFd(sock.fileno()), sock.family, sock.type, sock.proto)


def _rebuild_socket(dup: Any, family: int, type: int, proto: int) -> socket.socket:
    import socket

    return socket.socket(family, type, proto, fileno=dup.detach())


register(type(_C().f), _reduce_method)
register(type(list.append), _reduce_method_descriptor)
register(type(int.__add__), _reduce_method_descriptor)
register(functools.partial, _reduce_partial)


class AbstractReducer(metaclass=ABCMeta):  # noqa: B024 (the standard library's is one, too)
    """What a module put in this one's place (context.reducer) has to offer."""

    ForkingPickler = ForkingPickler
    register = register
    dump = dump
    send_handle = send_handle
    recv_handle = recv_handle
    sendfds = sendfds
    recvfds = recvfds
    DupFd = DupFd

    _reduce_method = _reduce_method
    _reduce_method_descriptor = _reduce_method_descriptor
    _rebuild_partial = _rebuild_partial
    _reduce_socket = _reduce_socket
    _rebuild_socket = _rebuild_socket

    def __init__(self, *args: Any) -> None:
        register(type(_C().f), _reduce_method)
        register(type(list.append), _reduce_method_descriptor)
        register(type(int.__add__), _reduce_method_descriptor)
        register(functools.partial, _reduce_partial)


def __getattr__(name: str) -> Any:
    if name == "pickle":  # others reach it through this module; here its fast half is enough
        import pickle

        return globals().setdefault("pickle", pickle)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
