"""Peers for the workloads of asyncio, graphs, joblib and large objects: one is right, one always a little wrong.

They call the function here; what is wrong is that an answer, or an order, is another one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from tests.benches.fakes import Fake, Honest

from benches.peer import Crew, Function


class Right(Honest):
    """Does it all at once, in this thread."""

    def spoil(self, answer: Any) -> Any:
        """What becomes of an answer."""
        return answer

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        return [self.spoil(function(item)) for item in items]

    def map_bound(self, function: Callable[[Any, Any], Any], shared: Any, items: list[Any]) -> list[Any]:
        return [self.spoil(function(shared, item)) for item in items]

    map_sent = map_shared = map_bound

    async def awaited(self, function: Function, item: Any) -> Any:
        """An answer."""
        return self.spoil(function(item))

    async def values(self, function: Function, items: Iterable[Any]) -> AsyncIterator[Any]:
        """Answers in order."""
        for item in items:
            yield self.spoil(function(item))

    def linked(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A call, done at once."""
        return self.spoil(function(*arguments))

    def value(self, linked: Any) -> Any:
        """What it returned."""
        return linked

    def queue_up(self, function: Function, items: list[Any]) -> Callable[[], list[Any]]:
        """Calls, done at once."""
        answers = [function(item) for item in items]
        return lambda: answers

    def urgent(self, function: Function, item: Any) -> Any:
        """A call, done at once."""
        return self.spoil(function(item))


class Wrong(Right):
    """From the 21st answer on, each is another one."""

    seen = 0

    def spoil(self, answer: Any) -> Any:
        self.seen += 1
        if self.seen <= 20:
            return answer
        if isinstance(answer, tuple):
            return (answer[0] + 1, *answer[1:])
        return answer[:-1] if hasattr(answer, "__len__") else answer + 1


class Threads:
    """What of a context the queues' workloads use, in threads."""

    Queue = SimpleQueue = staticmethod(lambda *_: queue.Queue())
    Process, Barrier = threading.Thread, threading.Barrier


class Mistaken(Threads):
    """The same, with queues that change what goes through them."""

    class Queue(queue.Queue):  # type: ignore[type-arg]
        def get(self, *arguments: Any) -> Any:
            return super().get(*arguments) + 1


class Latest(Fake):
    parts = frozenset({"awaited_queue"})

    def crews(self) -> dict[str, type[Crew]]:
        return dict.fromkeys(("pool", "asyncio", "joblib"), Right if self.name == "right" else Wrong)

    def context(self, method: str = "") -> Any:
        return Threads if self.name == "right" else Mistaken


PEERS = [type(name.title(), (Latest,), {"name": name}) for name in ("right", "wrong")]
