"""A started manager, and the module of what its servers and users run (`shared`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def manager(context: Any) -> Iterator[Any]:
    """A SyncManager under each start method."""
    with context.Manager() as manager:
        yield manager


@pytest.fixture
def forked() -> Iterator[Any]:
    """A SyncManager for tests that have nothing to do with start methods."""
    import manyhands

    with manyhands.get_context("fork").Manager() as manager:
        yield manager
