"""Queues of each kind under each start method, and the module of what children do with them (`users`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=["Queue", "JoinableQueue", "SimpleQueue"])
def make(request: pytest.FixtureRequest, context: Any) -> Any:
    """The context's factory of each kind of queue."""
    return getattr(context, request.param)


@pytest.fixture(params=["Queue", "JoinableQueue"])
def make_bounded(request: pytest.FixtureRequest, context: Any) -> Any:
    """The context's factory of each kind of queue that can have a bound."""
    return getattr(context, request.param)
