"""Functions that have no name to be found by: lambdas, closures, and what is typed into a notebook or at a prompt.

Always: pickle is tried first, and cloudpickle, if it is installed, only for what pickle refuses; what neither takes is
pickle's error.  In an interactive session calls go by cloudpickle at once: their functions have names, in a `__main__` that
workers do not have, or have as it was when they were forked.
Not here: where pickles are written (`_engine`, `reduction`).
"""

from __future__ import annotations

import collections
import importlib
import sys
from typing import Any

__all__ = ["dump", "is_interactive"]

_PROTOCOL = 5
# In the messages of those of its errors that cloudpickle helps with.
_ABOUT_NAMES = ("local object", "<lambda>", "not found as", "not the same object", "attribute lookup", "local class")


def _cloudpickle() -> Any:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        # joblib brings one along, and those who use it count on that.
        return importlib.import_module("joblib.externals.cloudpickle") if "joblib" in sys.modules else None


def is_interactive() -> bool:
    """Return whether functions of `__main__` are in no file, and cloudpickle is here to send them."""
    main = sys.modules.get("__main__")
    # "<stdin>" is none: what comes in by it is nowhere afterwards.
    return main is not None and getattr(main, "__file__", "<")[:1] == "<" and _cloudpickle() is not None


def dump(value: Any, file: Any, keep: Any = None, error: BaseException | None = None) -> None:
    """Pickle a value by cloudpickle, together with this package's reducers.

    keep -- a pickler's buffer_callback; error -- what pickle raised for it, which is raised again if cloudpickle cannot
    write it either, or is not installed; that says then how to install it, if it would help
    """
    cloudpickle = _cloudpickle()
    if cloudpickle is None:
        if error is None:
            raise ModuleNotFoundError("cloudpickle is not installed: pip install manyhands[closures]")
        if any(words in str(error) for words in _ABOUT_NAMES):
            error.add_note(
                "lambdas, closures and what is defined inside a function are sent where cloudpickle is installed: pip "
                "install manyhands[closures]"
            )
        raise error
    from . import _out_of_band, reduction

    # Only who takes buffers has a use for reducers that leave them out.
    beside = {} if keep is None else _out_of_band.reducers()

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc, name-defined]
        dispatch_table = collections.ChainMap(
            reduction.ForkingPickler._extra_reducers, cloudpickle.Pickler.dispatch_table, beside
        )

    try:
        Pickler(file, _PROTOCOL, buffer_callback=keep).dump(value)
    except Exception:
        if error is None:
            raise
        raise error from None
