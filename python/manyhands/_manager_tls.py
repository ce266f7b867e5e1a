"""Which manager's server is to be spoken to through TLS, and by what this process knows it.

Always: a proxy finds that by its server's address, so types of proxies that users wrote need not know.  A context
cannot be pickled; a function that makes one can, and travels with the proxies.
Not here: TLS itself (`_tls`), who serves (`_manager_server`).
"""

from __future__ import annotations

import functools
from typing import Any

from . import connection
from ._manager_server import listener_client
from .context import ProcessError

__all__ = ["arrived", "carried", "check", "connector", "made", "remember"]

# By address, what was given for it: a client's ssl.SSLContext, or a function that makes contexts.
_given: dict[Any, Any] = {}


@functools.cache
def _made(given: Any, server_side: bool) -> Any:
    return connection._checked(given(server_side=server_side), server_side=server_side)


def made(given: Any, *, server_side: bool) -> Any:
    """Return the ssl.SSLContext for one side, of what a user gave: a context, or a function that makes one.

    A function is called once for each side and process.  Raises TypeError for what is neither, ValueError for a
    context of the other side.
    """
    import ssl

    if isinstance(given, ssl.SSLContext) or not callable(given):
        return connection._checked(given, server_side=server_side)
    return _made(given, server_side)


def check(given: Any) -> None:
    """Raise TypeError for what is neither a context nor a function that makes one."""
    import ssl

    if not isinstance(given, ssl.SSLContext) and not callable(given):
        raise TypeError(f"ssl_context should be an ssl.SSLContext or a function f(server_side=...), not {given!r}")


def remember(address: Any, given: Any) -> None:
    """Use what was given for the server at an address from now on; None: it speaks no TLS."""
    if given is None:
        _given.pop(address, None)
    else:
        _given[address] = given


def connector(serializer: str, address: Any) -> Any:
    """Return what connects to the server at an address: the serializer's Client, with a context where it needs one."""
    connect = listener_client[serializer][1]
    given = _given.get(address)
    return connect if given is None else functools.partial(connect, ssl_context=made(given, server_side=False))


def carried(address: Any) -> dict[str, Any]:
    """Return what a pickled proxy has to say of its server's TLS, by name: a function travels, a context does not."""
    given = _given.get(address)
    if given is None:
        return {}
    import ssl

    return {"ssl_context": None if isinstance(given, ssl.SSLContext) else given}


def arrived(address: Any, kwds: dict[str, Any], *, needed: bool) -> None:
    """Take what a pickled proxy says of its server's TLS.  Raises ProcessError when this process cannot reach it."""
    if "ssl_context" not in kwds:
        return
    given = kwds.pop("ssl_context")
    if address in _given or not needed:
        return
    if given is None:
        raise ProcessError(
            f"this proxy's server, at {address!r}, is reached through TLS, and its ssl_context did not travel with it: "
            "connect a manager to that address in this process, or give the first one a function that makes contexts"
        )
    remember(address, given)
