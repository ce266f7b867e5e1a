"""A manager's server: it keeps objects, and calls their methods for whoever has a proxy.

Always: nobody is heard before he has proved that he knows the key; a request that makes no sense gets an answer
or ends its own connection, and nobody else's; an object stays as long as a proxy to it is counted.
Not here: proxies (`_manager_proxies`), starting the server's process (`managers`).
"""

from __future__ import annotations

import queue
import resource
import sys
import threading
import time
from collections.abc import Callable
from traceback import format_exc
from typing import Any

from . import _engine, _patience, connection, process, util
from ._manager_wire import Token, receive, send

__all__ = ["Server", "all_methods", "listener_client", "public_methods"]

# By the name of a serializer: what the server waits with, and what a proxy connects with.
listener_client: dict[str, tuple[Any, Any]] = {
    "pickle": (connection.Listener, connection.Client),
    "xmlrpclib": (connection.XmlListener, connection.XmlClient),
}


# So many connections may be without a proof of the key at once, and half of the descriptors; the next ones wait to
# be accepted. Who has had so many seconds makes room for them.
_MOST_STRANGERS = 512
_ENOUGH_FOR_MOST = 1.0

_RLock = type(threading.RLock())
_ACQUIRED = (type(threading.Lock()), _RLock, threading.Semaphore, threading.Condition)


def all_methods(obj: object) -> list[str]:
    """Return the names of an object's attributes that can be called."""
    return [name for name in dir(obj) if callable(getattr(obj, name))]


def public_methods(obj: object) -> list[str]:
    """Return the names of an object's methods that do not begin with an underscore."""
    return [name for name in all_methods(obj) if not name.startswith("_")]


class Server:
    """Keeps objects and answers requests.

    registry -- dict, what `BaseManager.register` noted; address -- where to listen, None: anywhere
    authkey -- bytes; serializer -- 'pickle' or 'xmlrpclib'
    ssl_context -- a server's ssl.SSLContext, with a certificate: everything goes through TLS

    Raises TypeError for a key that is not bytes, OSError when the address cannot be had.
    Differs: TLS; who gives no proof of the key is not sent a traceback, and does not keep others out by waiting; a server
    that a manager started ends when the manager's process does; what a call took from a queue, or the lock that it
    acquired, is given back when its caller has gone.
    """

    __module__ = "manyhands.managers"

    public = [  # noqa: RUF012
        "shutdown", "create", "accept_connection", "get_methods",
        "debug_info", "number_of_objects", "dummy", "incref", "decref",
    ]  # fmt: skip

    # Whether the process that started this one is needed: see serve_forever.
    _ends_with_parent = False

    def __init__(
        self, registry: dict[str, Any], address: Any, authkey: bytes, serializer: str, *, ssl_context: Any = None
    ) -> None:
        if ssl_context is not None:
            connection._checked(ssl_context, server_side=True)
        self._ssl_context = ssl_context
        if not isinstance(authkey, bytes):
            raise TypeError(f"Authkey {authkey!r} is type {type(authkey)!s}, not bytes")
        self.registry = registry
        self.authkey = process.AuthenticationString(authkey)
        make_listener, _ = listener_client[serializer]
        # Without the key and TLS: proofs are asked for in the connection's own thread, where only it has to wait.
        self.listener = make_listener(address=address, backlog=128)
        self.address = self.listener.address
        # By ident: the object, the names that may be called, and of which of them the result becomes a proxy.
        self.id_to_obj: dict[str, Any] = {"0": (None, ())}
        self.id_to_refcount: dict[str, int] = {}
        # Objects that proxies within this server refer to, though nobody outside does.
        self.id_to_local_proxy_obj: dict[str, Any] = {}
        self.mutex = threading.Lock()
        self.stop_event = threading.Event()
        # Connections that have proved nothing yet and since when they are there, by their ids, the oldest first.
        self._strangers: dict[int, tuple[Any, float]] = {}
        self._strangers_mutex = threading.Lock()
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_strangers = _MOST_STRANGERS if descriptors < 0 else min(_MOST_STRANGERS, max(descriptors // 2, 1))

    # ---- connections ----

    def serve_forever(self) -> None:
        """Serve until somebody asks for a shutdown, then exit the process by SystemExit(0)."""
        process.current_process()._manager_server = self  # type: ignore[attr-defined]
        try:
            threading.Thread(target=self.accepter, daemon=True).start()
            if self._ends_with_parent:
                threading.Thread(target=self._outlive, daemon=True).start()
            try:
                self.stop_event.wait()
            except (KeyboardInterrupt, SystemExit):
                pass
        finally:
            if sys.stdout != sys.__stdout__:
                util.debug("resetting stdout, stderr")
                sys.stdout = sys.__stdout__
                sys.stderr = sys.__stderr__
            sys.exit(0)

    def _outlive(self) -> None:
        """Stop the server as soon as the process that started it is gone."""
        parent = process.parent_process()
        if parent is not None:
            parent.join()
            util.info("manager's server ends: the process that started it is gone")
            self.stop_event.set()

    def accepter(self) -> None:
        """Accept connections until the server stops: each gets a thread."""
        while not self.stop_event.is_set():
            if len(self._strangers) >= self._most_strangers:
                self._send_one_away()
                time.sleep(0.01)
                continue
            try:
                conn = self.listener.accept()
            except OSError as error:
                util.info("no connection accepted: %s", error)
                self._send_one_away()
                time.sleep(0.01)  # out of descriptors, most likely: some will be given back
                continue
            with self._strangers_mutex:
                self._strangers[id(conn)] = conn, time.monotonic()
            try:
                threading.Thread(target=self.handle_request, args=(conn,), daemon=True).start()
            except RuntimeError as error:  # no thread to be had
                util.info("connection refused: %s", error)
                self._no_stranger(conn)
                conn.close()
                self._send_one_away()
            del conn

    def _no_stranger(self, conn: Any) -> None:
        """Note that a connection has proved something, or is to be closed."""
        with self._strangers_mutex:
            self._strangers.pop(id(conn), None)

    def _send_one_away(self) -> None:
        """Make room: hang up on who has been given the longest time for his proof, if it was enough for most."""
        with self._strangers_mutex:  # it is not closed meanwhile, so the descriptor is its own
            for ident, (conn, since) in self._strangers.items():
                if time.monotonic() - since > _ENOUGH_FOR_MOST:
                    util.info("no room: the oldest connection without a proof of the key is closed")
                    try:
                        _patience.hang_up(conn)
                    except Exception as error:
                        util.info("... which failed: %s", error)
                    del self._strangers[ident]
                return

    def handle_request(self, conn: Any) -> None:
        """Serve a new connection: one of the server's own methods."""
        try:
            self._handle_request(conn)
        except SystemExit:
            pass  # how serve_client() ends
        finally:
            self._no_stranger(conn)
            conn.close()

    def _handle_request(self, conn: Any) -> None:
        try:
            proved = self._proved(conn)
        except Exception as error:
            # Whoever this is, it learns nothing of us.
            util.info("connection refused: %s", error)
            return
        self._no_stranger(conn)
        try:
            self._first_request(proved)
        finally:
            if proved is not conn:
                proved.close()

    def _proved(self, conn: Any) -> Any:
        """Let whoever connected prove that he knows the key; return the connection to talk over."""
        if self._ssl_context is None:
            with _patience.hurried(conn, connection.HANDSHAKE_TIMEOUT) as hurried:
                connection.deliver_challenge(hurried, self.authkey)
                connection.answer_challenge(hurried, self.authkey)
            return conn
        from . import _tls

        if isinstance(conn, connection.ConnectionWrapper):
            return connection.ConnectionWrapper(self._proved(conn._conn), conn._dumps, conn._loads)
        return _tls.accepted(conn, self._ssl_context, self.authkey, connection.HANDSHAKE_TIMEOUT)

    def _first_request(self, conn: Any) -> None:
        request = None
        try:
            request = receive(conn)
            _, name, args, kwds = request
            if name not in self.public:
                raise AssertionError(f"{name!r} unrecognized")
            message = ("#RETURN", getattr(self, name)(conn, *args, **kwds))
        except Exception:
            message = ("#TRACEBACK", format_exc())
        try:
            send(conn, message)
        except Exception as error:
            try:
                send(conn, ("#TRACEBACK", format_exc()))
            except Exception:
                pass
            util.info("Failure to send message: %r", message)
            util.info(" ... request was %r", request)
            util.info(" ... exception was %r", error)

    def serve_client(self, conn: Any) -> None:
        """Serve the proxies of one thread, until it closes the connection: ends by SystemExit."""
        util.debug("starting server thread to service %r", threading.current_thread().name)
        message: Any
        request = None
        next_request = self._requests(conn)
        conn_hung_up = getattr(conn, "hung_up", None)  # of TLS; the engine looks by itself
        while True:
            try:
                next_one = next_request()
                if next_one is None:
                    util.debug("got EOF -- exiting thread serving %r", threading.current_thread().name)
                    sys.exit(0)
                if len(next_one) == 2:
                    self._take_back(*next_one)
                    sys.exit(0)
                (request,) = next_one
            except Exception:
                message = ("#TRACEBACK", format_exc())
            else:
                message = self._answer(conn, request)
            try:
                if conn_hung_up is not None and conn_hung_up():
                    # Over TCP the first message to an end that is closed is no error.
                    raise EOFError("the caller has hung up")
                try:
                    send(conn, message)
                except Exception:
                    send(conn, ("#UNSERIALIZABLE", format_exc()))
            except Exception as error:
                util.info("exception in thread serving %r", threading.current_thread().name)
                util.info(" ... message was %r", message)
                util.info(" ... exception was %r", error)
                self._take_back(request, message)
                conn.close()
                sys.exit(1)
            # Objects must not live on until the next request comes.
            next_one = request = message = None

    def _requests(self, conn: Any) -> Callable[[], tuple[Any, ...] | None]:
        """Return a function for the next request that is out of the ordinary, in a tuple; the engine serves the others.

        It returns a pair for a request whose answer nobody heard, and that answer; None when there are no more.
        """
        if type(conn) is connection.Connection:
            requests: Any = _engine.Requests(conn, self.id_to_obj, self.stop_event.is_set)
            return requests.next  # type: ignore[no-any-return]

        broken = False

        def receive_one() -> tuple[Any, ...] | None:
            nonlocal broken
            try:
                return None if broken or self.stop_event.is_set() else (receive(conn),)
            except EOFError:
                return None
            except OSError:
                broken = True  # where the next request would begin is not known
                raise

        return receive_one

    def _take_back(self, request: Any, message: Any) -> None:
        """Undo a call that was interrupted while it waited: what it took would be nobody's."""
        try:
            ident, name, _, _ = request
            kind, result = message
            obj = self.id_to_obj[ident][0]
        except (KeyError, TypeError, ValueError):
            return
        if kind != "#RETURN":
            return
        if name == "acquire":
            if result is True and isinstance(obj, _ACQUIRED):
                obj.release()
        elif name in ("get", "get_nowait") and isinstance(obj, queue.Queue):
            with obj.mutex:
                # Where it came from; the other kinds of queue know by themselves where that is.
                if type(obj) is queue.Queue:
                    obj.queue.appendleft(result)
                else:
                    obj._put(result)
                obj.not_empty.notify()

    def _let_go(self) -> None:
        """Release the locks that only this thread could, which is about to end."""
        for obj, *_ in list(self.id_to_obj.values()):
            lock = getattr(obj, "_lock", None) if isinstance(obj, threading.Condition) else obj
            while isinstance(lock, _RLock) and lock._is_owned():  # type: ignore[attr-defined]
                lock.release()

    # ---- objects' methods ----

    def _answer(self, conn: Any, request: Any) -> tuple[str, Any]:
        """Call a method of an object; return the message that says how it went."""
        name = obj = None
        try:
            ident, name, args, kwds = request
            try:
                obj, exposed, typeids = self.id_to_obj[ident]
            except KeyError as missing:
                try:
                    obj, exposed, typeids = self.id_to_local_proxy_obj[ident]
                except KeyError:
                    raise missing from None
            if name not in exposed:
                raise AttributeError(f"method {name!r} of {type(obj)!r} object is not in exposed={exposed!r}")
            method = getattr(obj, name)
            try:
                result = method(*args, **kwds)
            except Exception as error:
                return "#ERROR", error
            typeid = typeids and typeids.get(name)
            if not typeid:
                return "#RETURN", result
            result_ident, result_exposed = self.create(conn, typeid, result)
            return "#PROXY", (result_exposed, Token(typeid, self.address, result_ident))
        except AttributeError:
            if name is None:
                return "#TRACEBACK", format_exc()
            try:
                return "#RETURN", self.fallback_mapping[name](self, conn, ident, obj, *args, **kwds)
            except Exception:
                return "#TRACEBACK", format_exc()
        except Exception:
            return "#TRACEBACK", format_exc()

    def fallback_getvalue(self, conn: Any, ident: str, obj: Any) -> Any:
        """Return the object itself: its pickle is a copy."""
        return obj

    def fallback_str(self, conn: Any, ident: str, obj: Any) -> str:
        """Return str(obj)."""
        return str(obj)

    def fallback_repr(self, conn: Any, ident: str, obj: Any) -> str:
        """Return repr(obj)."""
        return repr(obj)

    # What every object can be asked for, exposed or not.
    fallback_mapping = {  # noqa: RUF012
        "__str__": fallback_str,
        "__repr__": fallback_repr,
        "#GETVALUE": fallback_getvalue,
    }

    # ---- the server's own methods: `c` is the connection that the request came by ----

    def dummy(self, c: Any) -> None:
        """Do nothing: who gets the answer has found a server, and the right key."""

    def debug_info(self, c: Any) -> str:
        """Return the objects and how many proxies refer to each, as text."""
        with self.mutex:
            return "\n".join(
                f"  {ident}:       refcount={count}\n    {str(self.id_to_obj[ident][0])[:75]}"
                for ident, count in sorted(self.id_to_refcount.items())
                if ident != "0"
            )

    def number_of_objects(self, c: Any) -> int:
        """Return how many objects there are."""
        return len(self.id_to_refcount)

    def shutdown(self, c: Any) -> None:
        """End the server's process."""
        try:
            util.debug("manager received shutdown message")
            send(c, ("#RETURN", None))
        except Exception:
            import traceback

            traceback.print_exc()
        finally:
            self.stop_event.set()

    def create(self, c: Any, typeid: str, /, *args: Any, **kwds: Any) -> tuple[str, tuple[str, ...]]:
        """Make an object of a registered type; return its ident and the names that may be called.

        The object is counted as referred to by one proxy, which whoever asked has to give back.
        """
        make, exposed, method_to_typeid, _ = self.registry[typeid]
        if make is None:
            if kwds or len(args) != 1:
                raise ValueError("Without callable, must have one non-keyword argument")
            (obj,) = args
        else:
            # Not under the mutex: it may take long, and may itself use proxies to this server.
            obj = make(*args, **kwds)
        if exposed is None:
            exposed = public_methods(obj)
        if method_to_typeid is not None:
            if not isinstance(method_to_typeid, dict):
                raise TypeError(f"Method_to_typeid {method_to_typeid!r}: type {type(method_to_typeid)!s}, not dict")
            exposed = [*exposed, *method_to_typeid]
        ident = f"{id(obj):x}"  # a str, because XML-RPC's numbers have 32 bits
        util.debug("%r callable returned object with id %r", typeid, ident)
        with self.mutex:
            self.id_to_obj[ident] = (obj, set(exposed), method_to_typeid)
            self.id_to_refcount.setdefault(ident, 0)
        self.incref(c, ident)
        return ident, tuple(exposed)

    def get_methods(self, c: Any, token: Token) -> tuple[str, ...]:
        """Return the names that may be called of the object that the token means."""
        return tuple(self.id_to_obj[token.id][1])

    def accept_connection(self, c: Any, name: str) -> None:
        """Serve the proxies at the other end of this connection; `name` is the thread's there."""
        threading.current_thread().name = name
        send(c, ("#RETURN", None))
        try:
            self.serve_client(c)
        finally:
            self._let_go()

    def incref(self, c: Any, ident: str) -> None:
        """Count one more proxy to an object.  Raises KeyError when it is gone."""
        with self.mutex:
            if ident not in self.id_to_refcount:
                # Perhaps an object in this server still holds a proxy to it.
                if ident not in self.id_to_local_proxy_obj:
                    raise KeyError(ident)
                self.id_to_obj[ident] = self.id_to_local_proxy_obj[ident]
                self.id_to_refcount[ident] = 0
                util.debug("Server re-enabled tracking & INCREF %r", ident)
            self.id_to_refcount[ident] += 1

    def decref(self, c: Any, ident: str) -> None:
        """Count one proxy less to an object; without proxies it goes."""
        gone = None
        with self.mutex:
            if ident not in self.id_to_refcount and ident in self.id_to_local_proxy_obj:
                util.debug("Server DECREF skipping %r", ident)
                return
            count = self.id_to_refcount[ident] - 1
            if count < 0:
                raise AssertionError(f"Id {ident} ({self.id_to_obj[ident]!r}) has refcount 0, not 1+")
            self.id_to_refcount[ident] = count
            if count == 0:
                del self.id_to_refcount[ident]
                gone = self.id_to_obj.pop(ident)
                util.debug("disposing of obj with id %r", ident)
        # Outside the mutex: what goes may hold proxies, whose end is another decref.
        del gone
