"""Peers whose lazy pools lose a task, or give two answers in the wrong order, far behind the first thousand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from tests.benches.fakes import Fake, Honest

from benches.peer import Crew, Function


class Lazy(Honest):
    """Calls the function here, when the answer is wanted."""

    def imap(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """Answers one by one in order."""
        return self.spoil(map(function, items))

    def spoil(self, answers: Iterator[Any]) -> Iterator[Any]:
        """What is wrong with them."""
        raise NotImplementedError


class LosesOne(Lazy):
    def spoil(self, answers: Iterator[Any]) -> Iterator[Any]:
        yield from islice(answers, 1_500)
        next(answers, None)
        yield from answers


class SwapsTwo(Lazy):
    def spoil(self, answers: Iterator[Any]) -> Iterator[Any]:
        yield from islice(answers, 1_500)
        yield from chain(reversed(list(islice(answers, 2))), answers)


class Loser(Fake):
    name = "loser"

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": LosesOne}


class Swapper(Fake):
    name = "swapper"

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": SwapsTwo}


PEERS = [Loser, Swapper]
