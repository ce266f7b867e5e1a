"""How a worker's seat is sent to a child that is being started, for whoever starts workers: pools and executors.

Always: importing this makes seats picklable.  Not here: what the child makes of it (`_pool_worker`).
"""

from __future__ import annotations

from . import _engine, reduction
from ._pool_worker import _rebuild_seat
from .context import get_spawning_popen

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from typing import Any

__all__: list[str] = []


def _reduce_seat(seat: _engine.Seat) -> tuple[Any, ...]:
    if get_spawning_popen() is None:
        raise RuntimeError("a worker's seat is only handed to the process that is being started")
    return _rebuild_seat, (seat.number, seat.parent, [reduction.DupFd(fd) for fd in seat.fds()])


reduction.register(_engine.Seat, _reduce_seat)
