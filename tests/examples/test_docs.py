"""The programs in the documentation run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["tutorial.md", "recipes.md", "asyncio.md", "getting-started.md"]
# What a program needs beside the package and numpy.
FRAGMENTS = ("paths, pool.imap(word_count, paths)",)


def programs() -> list[tuple[str, str]]:
    """(where, source) of all blocks that are whole programs."""
    found = []
    for page in PAGES:
        text = (DOCS / page).read_text()
        for block in re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M):
            source = textwrap.dedent(block[1])
            if 'if __name__ == "__main__":' in source and not any(part in source for part in FRAGMENTS):
                found.append((f"{page}:{text[: block.start()].count(chr(10)) + 1}", source))
    return found


def test_there_are_programs_to_run() -> None:
    assert len(programs()) > 15


@pytest.mark.parametrize(("where", "source"), programs(), ids=[where for where, _ in programs()])
def test_it_runs_and_says_nothing_on_stderr(where: str, source: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(source)
    ran = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        stdin=subprocess.DEVNULL,
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    assert ran.stdout
