"""The examples with other libraries: each runs, where its library is installed, and compares its answers itself."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "libraries"
NEEDS = {
    "scikit_learn.py": "sklearn",
    "scipy_optimize.py": "scipy",
    "pandas_groupby.py": "pandas",
    "polars_map.py": "polars",
    "torch_dataloader.py": "torch",
}


def test_every_example_is_run_here() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == {*NEEDS, "comparing.py"}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", sorted(NEEDS))
def test_the_answers_are_the_same_with_manyhands(name: str) -> None:
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    ran = subprocess.run(
        [sys.executable, name],
        cwd=FOLDER,
        env={**os.environ, "EXAMPLES_ROUNDS": os.environ.get("EXAMPLES_ROUNDS", "1"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "manyhands" in ran.stdout
    print(ran.stdout)
