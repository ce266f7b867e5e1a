"""What a workload is: a function that measures, the figures it finds, and what a peer must have for it.

Always: a workload checks what it was answered, and a wrong answer is an error (`Wrong`), never a time.
Not here: the workloads (`workloads`), who is measured (`peers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benches.peer import Peer

METHODS = ("fork", "forkserver", "spawn")
# For a workload that names no start method: who has a choice is told this one.
UNNAMED = "fork"
WORKERS = 2


class Wrong(Exception):
    """A peer gave an answer that is not the right one."""


def check(got: Any, expected: Any, what: str) -> None:
    """Raises `Wrong` unless the two are equal; `what` names the answer."""
    if got != expected:
        raise Wrong(f"wrong {what}: got {_short(got)} instead of {_short(expected)}")


def check_all(got: Iterable[Any], expected: list[Any], what: str) -> None:
    """The same for many answers in order; says where they first differ."""
    answers = list(got)
    if answers == expected:
        return
    if len(answers) != len(expected):
        raise Wrong(f"wrong number of {what}: {len(answers)} instead of {len(expected)}")
    at = next(i for i, pair in enumerate(zip(answers, expected, strict=True)) if pair[0] != pair[1])
    raise Wrong(f"wrong {what} at {at}: got {_short(answers[at])} instead of {_short(expected[at])}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class Unit:
    """How a figure is written, and which way is better."""

    name: str
    more_is_better: bool
    steps: tuple[tuple[float, float, str], ...]

    def show(self, value: float) -> str:
        """The value with three digits and the unit that fits it."""
        factor, unit = next(((f, u) for limit, f, u in self.steps if abs(value) < limit), self.steps[-1][1:])
        scaled = value * factor
        return f"{scaled:.3g} {unit}".strip() if abs(scaled) < 1000 else f"{scaled:,.0f} {unit}".strip()


FOREVER = float("inf")
SECONDS = Unit("s", False, ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (FOREVER, 1, "s")))
RATE = Unit("1/s", True, ((1e3, 1, "/s"), (1e6, 1e-3, "k/s"), (FOREVER, 1e-6, "M/s")))
BANDWIDTH = Unit("B/s", True, ((1e9, 1e-6, "MB/s"), (FOREVER, 1e-9, "GB/s")))
SHARE = Unit("share", True, ((FOREVER, 1, ""),))
BYTES = Unit("B", False, ((1e6, 1e-3, "kB"), (FOREVER, 1e-6, "MB")))
COUNT = Unit("count", False, ((FOREVER, 1, ""),))
# How many of what was to be done.
DONE = Unit("done", True, ((1e3, 1, ""), (1e6, 1e-3, "k"), (FOREVER, 1e-6, "M")))
PER_SECOND = Unit("a second", False, ((FOREVER, 1, "a second"),))
CORE = Unit("seconds a second", False, ((1e-3, 1e6, "µs/s"), (FOREVER, 1e3, "ms/s")))
UNITS = {unit.name: unit for unit in (SECONDS, RATE, BANDWIDTH, SHARE, BYTES, COUNT, DONE, PER_SECOND, CORE)}


@dataclass(frozen=True)
class Workload:
    """One thing that is measured.

    `measure(peer, method, quick)` returns a number for each name in `figures`; of a workload with one figure the
    name is "". `needs` names what a peer must have (see `Peer.has`). With `methods` it is measured for each start
    method, otherwise once, by fork where the peer has a choice. Workloads that differ in their number of workers alone
    are points of one `curve`, and stand one after the other.
    """

    name: str
    group: str
    measure: Callable[[Peer, str, bool], dict[str, float]]
    figures: dict[str, Unit]
    needs: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    smoke: bool = False
    workers: int = WORKERS
    curve: str = ""


def fewer(count: int, quick: bool) -> int:
    """How many of `count` a quick run does."""
    return max(count // 10, 1) if quick else count
