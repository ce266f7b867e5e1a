"""coverage.py sees what runs in children and workers, as the recipe says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "docs" / "recipes.md"
PROGRAM = """\
import sys
import manyhands

def in_worker(n):
    if n > 1:
        return n * 2
    return n

def in_child():
    print("child")

if __name__ == "__main__":
    context = manyhands.get_context(sys.argv[1])
    process = context.Process(target=in_child)
    process.start()
    process.join()
    pool = context.Pool(2)
    print(pool.map(in_worker, range(4)))
    pool.close()
    pool.join()
"""


def test_lines_of_children_and_workers_are_counted(method: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("coverage") is None:
        pytest.skip("coverage is not installed")
    settings = RECIPES.read_text().partition("[run]\n")[2].partition("```")[0]
    (tmp_path / ".coveragerc").write_text(f"[run]\n{settings}")
    (tmp_path / "program.py").write_text(PROGRAM)

    def coverage(*arguments: str) -> str:
        command = [sys.executable, "-m", "coverage", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert coverage("run", "program.py", method) == "child\n[0, 1, 4, 6]\n"
    coverage("combine", "-q")
    assert "program.py      17      0   100%" in coverage("report", "-m", "--include=program.py"), coverage("report")
