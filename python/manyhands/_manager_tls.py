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

__all__ = ["Way", "arrived", "carried", "connector", "forget", "remember"]


class Way:
    """How one server is reached: by a context, or a function that makes one, and by the name that it has to prove.

    given -- ssl.SSLContext, or a function f(server_side=...) that returns one; server_hostname -- str; None: the
    address's host

    Raises TypeError for what is neither.
    """

    def __init__(self, given: Any, server_hostname: str | None = None) -> None:
        import ssl

        self.travels = not isinstance(given, ssl.SSLContext)
        if self.travels and not callable(given):
            raise TypeError(f"ssl_context should be an ssl.SSLContext or a function f(server_side=...), not {given!r}")
        self.given = given
        self.server_hostname = server_hostname
        # It came with a proxy; nobody in this process said so.
        self.hearsay = False
        self._client: Any = None

    def server(self) -> Any:
        """Return the server's context.  Raises ValueError for a client's."""
        made = self.given(server_side=True) if self.travels else self.given
        return connection._checked(made, server_side=True)

    def client(self) -> Any:
        """Return the client's context, the same each time.  Raises ValueError for a server's."""
        if self._client is None:
            made = self.given(server_side=False) if self.travels else self.given
            self._client = connection._checked(made, server_side=False)
        return self._client

    def connector(self, serializer: str) -> Any:
        """Return what connects: the serializer's Client, with what it needs here."""
        return functools.partial(
            listener_client[serializer][1], ssl_context=self.client(), server_hostname=self.server_hostname
        )


# By the server's address.
_ways: dict[Any, Way] = {}


def remember(address: Any, way: Way | None) -> None:
    """Reach the server at an address so from now on; None: it speaks no TLS."""
    if way is not None:
        _ways[address] = way
    elif _ways:
        _ways.pop(address, None)


def forget(address: Any) -> None:
    """The server at an address has ended."""
    _ways.pop(address, None)


def connector(serializer: str, address: Any, manager: Any = None) -> Any:
    """Return what connects to the server at an address: what its manager does, if this process has it."""
    known = getattr(manager, "_Client", None)
    if known is not None:
        return known
    way = _ways.get(address)
    return listener_client[serializer][1] if way is None else way.connector(serializer)


def carried(address: Any) -> dict[str, Any]:
    """Return what a pickled proxy has to say of its server's TLS, by name: a function travels, a context does not."""
    way = _ways.get(address)
    if way is None:
        return {}
    return {"ssl_context": way.given if way.travels else None, "server_hostname": way.server_hostname}


def arrived(address: Any, kwds: dict[str, Any], *, needed: bool) -> None:
    """Take what a pickled proxy says of its server's TLS.  Raises ProcessError when this process cannot reach it."""
    known = _ways.get(address)
    if "ssl_context" not in kwds:
        # A server that speaks none: what came of another one at this address is out of date.
        if known is not None and known.hearsay and needed:
            forget(address)
        return
    given, name = kwds.pop("ssl_context"), kwds.pop("server_hostname")
    if not needed or (known is not None and not known.hearsay):
        return
    if given is not None:
        way = Way(given, name)
        way.hearsay = True
        remember(address, way)
    elif known is None:
        raise ProcessError(
            f"this proxy's server, at {address!r}, is reached through TLS, and its ssl_context did not travel with it: "
            "connect a manager to that address in this process, or give the first one a function that makes contexts"
        )
