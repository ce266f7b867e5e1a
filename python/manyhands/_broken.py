"""What an executor raises once a worker of it died.

Apart from `executor`, because its base class is the standard library's, whose module takes long to import.
"""

from __future__ import annotations

from concurrent.futures import process

from .errors import WorkerDied

__all__ = ["BrokenProcessPool"]


class BrokenProcessPool(process.BrokenProcessPool, WorkerDied):
    """The executor can run nothing more: a worker died, could not be initialised, or none started.

    Attributes: those of `manyhands.WorkerDied`; ``pid``, ``exitcode`` and ``signal_name`` are of the worker that
    died, ``function`` (str) is what that one was running. None: not known.

    Differs: the standard library's `BrokenProcessPool`, which this one is, says nothing of what happened.
    """
