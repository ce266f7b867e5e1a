"""Peers that do what a test needs: one works, some lie, one hangs, one dies, one is not installed, one starts slowly.

Each notes that it was started, and the process ids of what it leaves behind, in the file FAKES_NOTES.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

from benches.peer import Crew, Function, Peer


def note(*words: object) -> None:
    """Appends a line."""
    with open(os.environ["FAKES_NOTES"], "a") as file:
        print(*words, file=file)


class Honest(Crew):
    """Calls the function here."""

    def __init__(self, method: str, workers: int) -> None:
        note("started", type(self).__name__.lower())

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        return [function(item) for item in items]


class Liar(Honest):
    """The last answer is wrong."""

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        answers = super().map(function, items)
        return [*answers[:-1], answers[-1] + 1]


class Short(Honest):
    """One answer is missing."""

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        return super().map(function, items)[1:]


class Swapper(Honest):
    """All answers are there, from the last to the first."""

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        return super().map(function, items)[::-1]


class Hanger(Honest):
    """Never answers; and has a child in a session of its own that ignores its parent's end."""

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        sleep = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
        note("child", subprocess.Popen(sleep, start_new_session=True).pid)
        while True:
            time.sleep(600)


class Crasher(Honest):
    """Takes the whole process with it."""

    def map(self, function: Function, items: list[Any]) -> list[Any]:
        print("the last words of the crasher")
        sys.stdout.flush()
        os._exit(3)


class Fake(Peer):
    """What the fake peers have in common."""

    def installed(self) -> str | None:
        return "1.0"

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": CREWS[self.name]}


CREWS = {"honest": Honest, "liar": Liar, "short": Short, "swapper": Swapper, "hanger": Hanger, "crasher": Crasher}
PEERS = [type(name.title(), (Fake,), {"name": name}) for name in CREWS]


class Absent(Peer):
    """A package that nobody has."""

    name = "absent"
    distribution = "a-distribution-that-nobody-has"

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": Honest}


PEERS.append(Absent)
