"""Mutated bytes for everything that Python's face reads of other processes: the same few each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "fuzz" / "python_decoders.py"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", ["plain", "objects", "frames", "handshake", "queues", "managers"])
def test_mutated_bytes_are_values_or_errors(target: str) -> None:
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), "--runs", "400", target], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "nothing found" in ran.stdout
