"""What type checkers say of users' code: `accepted.py` is right in every line, `rejected.py` is not."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import checkers

WAIT = pytest.mark.timeout(300)


@WAIT
@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed; make typecheck runs this")
def test_mypy_accepts_what_is_right_and_reports_what_is_not() -> None:
    assert checkers.differences(checkers.by_mypy(), checkers.expected()) == []


@WAIT
@pytest.mark.skipif(find_spec("basedpyright") is None, reason="basedpyright is not installed; make typecheck runs this")
def test_pyright_accepts_what_is_right_and_reports_what_is_not() -> None:
    reported = checkers.by_pyright(checkers.pyright())
    assert checkers.differences(reported, {at[:2] for at in checkers.expected()}) == []
