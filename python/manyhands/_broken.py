"""What an executor raises once a worker of it died.

Apart from `executor`, because its base class is the standard library's, whose module takes long to import.
"""

from __future__ import annotations

from concurrent.futures import process

from .errors import WorkerDied

__all__ = ["BrokenProcessPool", "also_broken"]


class BrokenProcessPool(process.BrokenProcessPool, WorkerDied):
    """The executor can run nothing more: a worker died, could not be initialised, or none started.

    Attributes: those of `manyhands.WorkerDied`; ``pid``, ``exitcode`` and ``signal_name`` are of the worker that
    died, ``function`` (str) is what that one was running. None: not known.

    Differs: the standard library's `BrokenProcessPool`, which this one is, says nothing of what happened.
    """


# By the kind.
_combined: dict[type[WorkerDied], type[WorkerDied]] = {}


def also_broken(kind: type[WorkerDied]) -> type[WorkerDied]:
    """The kind of death that `except BrokenProcessPool` catches too, under the same name."""
    if kind not in _combined:
        names = {
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
            "__doc__": kind.__doc__,
            "_kind": kind,
        }
        _combined[kind] = type(kind.__name__, (kind, process.BrokenProcessPool), names)
    return _combined[kind]
