"""The worker's main function in a pool.  Always: as little is imported as a new interpreter can do without."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

# With what reports an exception: there may be no descriptor left to read it with when a task raises one.
from . import _engine, _stacks, errors, util  # noqa: F401

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["worker"]


def worker(
    seat: _engine.Seat,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    max_memory: int | None = None,
    cpu_time: float | None = None,
    max_growth: int | None = None,
    life: tuple[Any, int] | None = None,
) -> None:
    """The main function of a worker process: serve the pool until dismissed."""
    _stacks.listen()
    if cpu_time is not None:
        # Whatever the parent does about it: here it ends the process.
        _signal.signal(_signal.SIGXCPU, _signal.SIG_DFL)
    if life is not None:
        from . import _worker_life

        _worker_life.begin(*life)
    try:
        _engine.serve(
            seat, initializer, tuple(initargs), max_memory=max_memory, cpu_time=cpu_time, max_growth=max_growth
        )
        _be_deaf_to_interrupts()
        if life is not None and life[0][0] is not None:
            life[0][0]()
    except KeyboardInterrupt:
        # Ctrl-C reaches the whole group: the parent tells the user, its workers just end.
        _be_deaf_to_interrupts()
    util.debug("worker exiting")


def _be_deaf_to_interrupts() -> None:
    """Leave in an orderly way though a Ctrl-C comes now, unless the user has a handler for it."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)


def _rebuild_seat(number: int, parent: int, fds: list[Any]) -> _engine.Seat:
    return _engine.Seat.from_fds(number, parent, [fd.detach() for fd in fds])
