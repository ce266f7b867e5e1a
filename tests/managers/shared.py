"""What the tests' managers keep, and what their other processes do."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from manyhands.managers import BaseManager, BaseProxy, IteratorProxy


class Counter:
    """Counts; has a method of each kind that proxies treat differently."""

    def __init__(self, start: int = 0) -> None:
        self.count = start

    def add(self, n: int = 1) -> int:
        self.count += n
        return self.count

    def fail(self) -> None:
        raise LookupError("nothing there")

    def leave(self) -> None:
        sys.exit(3)

    def secret(self) -> Any:
        return lambda: None

    def unpicklable_error(self) -> None:
        raise Unsendable(open(os.devnull))

    def sleep(self, seconds: float) -> str:
        time.sleep(seconds)
        return "slept"

    def pid(self) -> int:
        return os.getpid()

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _private(self) -> None:
        """Not exposed."""

    def numbers(self, n: int) -> Iterator[int]:
        yield from range(n)

    def itself(self) -> Counter:
        return self


class Unsendable(Exception):
    """An exception that holds what cannot be pickled."""

    def __init__(self, what: object) -> None:
        super().__init__("unsendable")
        self.what = what


class CounterProxy(BaseProxy):
    """A proxy as users write them, with a _callmethod of its own."""

    _exposed_ = ("add",)
    calls = 0

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006
        CounterProxy.calls += 1
        return super()._callmethod(methodname, args, kwds)

    def add(self, n: int = 1) -> Any:
        return self._callmethod("add", (n,))


class Manager(BaseManager):
    """Our own types."""


Manager.register("Counter", Counter)
Manager.register("Careful", Counter, CounterProxy)
Manager.register("Plain", Counter, exposed=("add", "_private"))
Manager.register("Numbers", Counter, method_to_typeid={"numbers": "Iterator", "itself": "Kept"})
Manager.register("Kept", create_method=False)
Manager.register("list", list)
Manager.register("dict", dict)
Manager.register("Iterator", proxytype=IteratorProxy, create_method=False)


def never_ready() -> None:
    sys.stderr = None  # type: ignore[assignment]
    raise RuntimeError("no server today")


def die_early() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def note(path: str) -> None:
    Path(path).write_text(str(os.getpid()))


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))


def append_to(items: Any, value: object) -> None:
    items.append(value)


def put_proxy_into(box: Any, items: Any) -> None:
    box["items"] = items


def hold_lock(lock: Any, ready: Any) -> None:
    with lock:
        ready.set()
        time.sleep(60)


def count_up(namespace: Any, lock: Any, times: int) -> None:
    for _ in range(times):
        with lock:
            namespace.count += 1


def square(x: int) -> int:
    return x * x


def rewrite(box: Any) -> None:
    box["value"] += 1
