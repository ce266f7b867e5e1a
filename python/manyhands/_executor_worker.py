"""The worker's main function in an executor. Always: as little is imported as a new interpreter can do without."""

from __future__ import annotations

import sys

from . import _engine, _stacks, util
from ._pool_worker import _be_deaf_to_interrupts

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["work"]


def work(
    seat: _engine.Seat,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    max_growth: int | None = None,
) -> None:
    """Serve the executor until dismissed; end with code 1 when the initializer fails, which is logged."""
    _stacks.listen()
    failed = False

    def initialise() -> None:
        nonlocal failed
        assert initializer is not None
        try:
            initializer(*initargs)
        except BaseException:
            from concurrent.futures._base import LOGGER

            LOGGER.critical("Exception in initializer:", exc_info=True)
            failed = True
            raise

    try:
        _engine.serve(seat, None if initializer is None else initialise, (), True, max_growth=max_growth)
        _be_deaf_to_interrupts()
    except KeyboardInterrupt:
        # Ctrl-C reaches the whole group: the parent tells the user, its workers just end.
        _be_deaf_to_interrupts()
    except BaseException:
        if not failed:
            raise
    if failed:
        sys.exit(1)
    util.debug("worker exiting")
