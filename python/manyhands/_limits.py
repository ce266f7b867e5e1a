"""What a pool's calls may ask for beyond an answer: another try, a limit in time, to go before others.

Always: bad values are refused where they are given.  Not here: the keeping of a limit (the engine, and the kernel).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import operator

from . import _engine

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from typing import Any

__all__: list[str] = []

# (retries, seconds until a call is asked to end, seconds until its worker is killed, priority)
Terms = tuple[int, float | None, float | None, int]


def terms(retries: int, task_timeout: float | None, task_grace: float, priority: int = 0) -> Terms:
    """What the engine is told."""
    retries = count("retries", retries)
    task_grace = seconds("task_grace", task_grace)
    if task_timeout is None or task_timeout == float("inf"):
        return retries, None, None, priority
    task_timeout = span("task_timeout", task_timeout)
    # Without time to clean up there is no point in asking.
    return retries, task_timeout if task_grace else None, task_timeout + task_grace, priority


def count(name: str, value: Any) -> int:
    """A number of times."""
    value = operator.index(value)
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{name} must be 0 or more, not {value}")
    return int(value)


def rank(value: Any) -> int:
    """A priority."""
    value = operator.index(value)
    if not -(1 << 31) <= value < 1 << 31:
        raise ValueError(f"priority must be from -2**31 to 2**31 - 1, not {value}")
    return int(value)


def seconds(name: str, value: Any) -> float:
    """A time: finite, and not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be 0 seconds or more, not {value}")
    return float(value)


def span(name: str, value: Any) -> float:
    """A time that is more than nothing."""
    if seconds(name, value) == 0:
        raise ValueError(f"{name} must be more than 0 seconds")
    return float(value)


def max_memory(value: Any) -> int | None:
    """A number of bytes."""
    if value is None:
        return None
    value = operator.index(value)
    if not 1 <= value < 1 << 63:
        raise ValueError(f"max_memory must be a number of bytes from 1 to 2**63 - 1, or None, not {value}")
    return int(value)


def max_memory_per_child(value: Any) -> int | None:
    """Bytes by which a worker may grow."""
    if value is None:
        return None
    value = operator.index(value)
    if not 1 << 20 <= value < 1 << 63:
        raise ValueError(
            f"max_memory_per_child must be a number of bytes from 2**20 to 2**63 - 1, or None, not {value}"
            + ("; is that KiB, as with billiard and Celery? Multiply by 1024" if value > 0 else "")
        )
    return int(value)


def idle_timeout(value: Any) -> float | None:
    """Seconds that a worker may be idle."""
    if value is None or value == float("inf"):
        return None
    return span("idle_timeout", value)


def cpu_time(value: Any) -> float | None:
    """Seconds of processor time."""
    if value is None:
        return None
    limit = seconds("cpu_time", value)
    if not 0.001 <= limit <= 1e9:
        raise ValueError(f"cpu_time must be from 0.001 to 1e9 seconds, or None for no limit, not {value}")
    return limit


# In the worker.


def listen() -> bool:
    """Have the main thread of this process asked to end a call that takes too long; False: this is another thread."""
    try:
        _signal.signal(_engine.request_signal(), _ask)
    except ValueError:
        return False
    return True


def _ask(signum: int, frame: object) -> None:
    limit = _engine.overdue()
    if limit is not None:
        from .errors import SoftTimeLimitExceeded

        raise SoftTimeLimitExceeded(f"the call has taken longer than its task_timeout of {limit:g} s")
