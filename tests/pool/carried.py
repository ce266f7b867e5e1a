"""What workers do for the tests of log records and context variables."""

from __future__ import annotations

import contextvars
import logging
import os
import signal
import threading
from typing import Any

request: contextvars.ContextVar[Any] = contextvars.ContextVar("request", default="no request")
user: contextvars.ContextVar[str] = contextvars.ContextVar("user")

logger = logging.getLogger("carried")


def say(n: int) -> int:
    logger.info("did %d of %s", n, "many")
    return n


def warn(text: str) -> None:
    logger.warning(text)


def complain() -> None:
    try:
        raise LookupError("nothing there")
    except LookupError:
        logger.exception("went wrong with %s", threading.Lock())


def say_and_die_at(n: int, every: int) -> int:
    if n % every == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return say(n)


def see() -> tuple[Any, str | None]:
    return request.get(), user.get(None)


def see_with(_: object) -> tuple[Any, str | None]:
    return see()


def set_and_see(name: str) -> str:
    user.set(name)
    return user.get()
