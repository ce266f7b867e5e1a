"""The names of the standard library's extension module, for who reaches past `synchronize` for them.

A `SemLock` with a name can be found under it, by `SemLock._rebuild`, while the process that made it lives.
"""

from ._engine import SemLock as _SemLock
from ._engine import sem_unlink

__all__ = ["SemLock", "sem_unlink", "flags"]

flags = {"HAVE_SEM_OPEN": 1, "HAVE_SEM_TIMEDWAIT": 1}


class SemLock(_SemLock):
    """A lock or semaphore: SemLock(kind, value, maxvalue, name, unlink)."""
