"""Processes for Python, with the standard library's interface: `multiprocessing`, on an engine of its own.

What is here are the default context's methods (`context`).  `install` puts this package in the standard
library's place; `python -m manyhands run program.py` does so for a program that knows nothing of it.
"""

import sys as _sys

from . import context, process  # noqa: F401  (both are there after `import multiprocessing`)
from ._engine import __version__ as __version__
from ._install import install

__all__ = [name for name in dir(context._default_context) if not name.startswith("_")]
globals().update((name, getattr(context._default_context, name)) for name in __all__ if name != "reducer")
__all__ += ["install"]

SUBDEBUG = 5
SUBWARNING = 25

# Children that run the main module again call it so: here it is the same module.
if "__main__" in _sys.modules:
    _sys.modules["__mp_main__"] = _sys.modules["__main__"]


# Ours beside the standard library's; loaded when they are asked for, as few programs do.
_ERRORS = {
    "BrokenPool", "OwnerDied", "PoolTerminated", "RemoteError", "SoftTimeLimitExceeded", "TaskExited", "TimeLimitExceeded",
    "WorkerDied", "WorkerOutOfMemory",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name == "reducer":  # `reduction`, or what was put in its place
        return context._default_context.reducer
    if name == "reduction":  # there after `import multiprocessing`; here it is loaded when it is asked for
        from importlib import import_module

        return import_module(f"{__name__}.reduction")
    if name in _ERRORS:
        from . import errors

        return getattr(errors, name)
    if name in ("ProcessPoolExecutor", "BrokenProcessPool"):
        from . import executor

        return getattr(executor, name)
    if name == "Shared":  # what Pool.share returns
        from ._engine import Shared

        return Shared
    if name == "worker_state":
        from ._worker_life import worker_state

        return worker_state
    if name in ("shared_array", "SharedArray"):
        from . import arrays

        return getattr(arrays, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
