"""The benchmarks' harness is tested with peers of our own: nothing has to be installed, and what they answer is known."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))

from benches.results import Results

ROOT = Path(__file__).parents[2]


@pytest.fixture
def harness(tmp_path: Path) -> Callable[..., tuple[subprocess.CompletedProcess[str], Results]]:
    """Runs `python -m benches` with the peers of a module here; returns how it ended and what it kept."""

    def run(*arguments: str, also: str = "fakes") -> tuple[subprocess.CompletedProcess[str], Results]:
        output = tmp_path / "bench.json"
        command = [
            sys.executable,
            "-m",
            "benches",
            "--quick",
            "--also",
            f"tests.benches.{also}",
            "--output",
            str(output),
        ]
        done = subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env=os.environ | {"FAKES_NOTES": str(tmp_path / "notes")},
            capture_output=True,
            text=True,
        )
        assert output.exists(), done.stderr
        return done, Results.read(output)

    return run


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """What the fake peers wrote down."""
    return tmp_path / "notes"
