"""Progress bars of maps, drawn by tqdm.

Always: a bar counts items whose calls ended, however they did and however often they were tried; it is closed when its
map ends, in whatever way.  Not here: the counting (the engine).
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Mapping

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from typing import Any

    Wanted = dict[str, Any] | None  # what tqdm is given; None: no bar

__all__: list[str] = []

# How often a bar looks, in seconds: tqdm's own interval.
_LOOK = 0.1


def wanted(progress_bar: Any, options: Mapping[str, Any] | None) -> Wanted:
    """Return what tqdm is to be given, or None: no bar.  Bad options are refused here, before a call is started."""
    if not isinstance(progress_bar, bool):
        raise TypeError(f"progress_bar must be True or False, not {type(progress_bar).__name__}")
    if not progress_bar:
        if options is not None:
            raise ValueError("progress_bar_options are for a bar: give progress_bar=True with them")
        return None
    if options is None:
        options = {}
    if not isinstance(options, Mapping):
        raise TypeError(f"progress_bar_options must be a dict of tqdm's options, not {type(options).__name__}")
    known = _options()
    for name in options:
        if name not in known:
            raise TypeError(
                f"{name!r} is none of tqdm's options; progress_bar_options may have: {', '.join(sorted(known))}"
            )
    return dict(options)


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError:
        raise ImportError(
            "progress_bar=True draws with tqdm, which is not installed: pip install manyhands[progress]", name="tqdm"
        ) from None
    return tqdm


@functools.cache
def _options() -> frozenset[str]:
    import inspect

    _tqdm()
    from tqdm import std  # type: ignore[import-untyped]

    names = inspect.signature(std.tqdm.__init__).parameters
    return frozenset(names) - {"self", "iterable", "kwargs", "gui"}


@functools.cache
def _quiet(tqdm: Any) -> Any:
    """Return a tqdm without a thread that looks whether the bar is stuck: it is looked after here."""
    return type("tqdm", (tqdm,), {"monitor_interval": 0})


class Bar:
    """The bar of one map."""

    def __init__(self, handle: Any, length: int | None, options: dict[str, Any]) -> None:
        self._handle = handle
        self._next_look = 0.0
        self._bar = _quiet(_tqdm())(**{"total": length, **options})

    def _show(self) -> None:
        bar = self._bar
        bar.update(self._handle.progress() - bar.n)
        if bar.disable:
            return
        # tqdm draws when as many items have come as came together before; these may be all for a while.
        now = time.time()
        is_time = now - bar.last_print_t >= bar.mininterval and now >= bar.start_t + bar.delay
        if bar.n != bar.last_print_n and is_time:
            bar.refresh()

    def _close(self) -> None:
        self._show()
        self._bar.close()

    def follow(self) -> None:
        """Show how far the map is until it ends; to be called by the thread that waits for it."""
        try:
            while not self._handle.wait(_LOOK):
                self._show()
        finally:
            self._close()

    def follow_in_thread(self) -> threading.Thread:
        """Have a thread follow it: nobody may wait for this map for a while."""
        thread = threading.Thread(target=self.follow, name="manyhands-bar", daemon=True)
        thread.start()
        return thread

    def next(self, timeout: float | None) -> Any:
        """Take the next value of a stream as its `next` does, and show how far it is meanwhile."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _LOOK if deadline is None else min(_LOOK, max(deadline - time.monotonic(), 0))
            try:
                taken = self._handle.next(left)
            except Exception:  # of the call: there may be more values
                self.took(None)
                raise
            except BaseException:
                self._close()
                raise
            if taken is not None or (deadline is not None and time.monotonic() >= deadline):
                self.took(taken)
                return taken
            self._show()

    def took(self, taken: Any) -> None:
        """A value was taken, or () at the end."""
        if taken == ():
            self._close()
        elif (now := time.monotonic()) >= self._next_look:
            self._next_look = now + _LOOK
            self._show()
