"""Executors of each start method, and the module of functions that they run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import manyhands

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def executor(context: Any) -> Iterator[Any]:
    """An executor of two workers."""
    with manyhands.ProcessPoolExecutor(2, context) as executor:
        yield executor
