"""Pools of each start method, and the module of functions that they run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "pool"))


@pytest.fixture
def pool(context: Any) -> Iterator[Any]:
    """A pool of two workers."""
    with context.Pool(2) as pool:
        yield pool
    pool.join()
