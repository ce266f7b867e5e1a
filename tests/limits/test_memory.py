"""Workers that may have so much memory, and those that the kernel ends because there is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import limited
import pytest

from groups import control_group, entered
from manyhands import BrokenPool

PROGRAM = """
import manyhands, sys

def allocate(megabytes):
    return len(b"x" * (megabytes << 20))

if __name__ == "__main__":
    with manyhands.get_context(sys.argv[1]).Pool(1) as pool:
        assert pool.apply(allocate, (1,)) == 1 << 20
        try:
            pool.apply(allocate, (400,))
        except manyhands.WorkerOutOfMemory as error:
            print("WorkerOutOfMemory", error)
        assert pool.apply(allocate, (2,)) == 2 << 20
"""


def test_a_call_that_wants_too_much_gets_a_memory_error(context: Any) -> None:
    with context.Pool(1, max_memory=400 << 20) as pool:
        before = pool._crew.pids()
        assert pool.apply(limited.allocate, (50,)) == 50 << 20
        with pytest.raises(MemoryError):
            pool.apply(limited.allocate, (500,))
        assert pool.apply(limited.allocate, (50,)) == 50 << 20
        assert pool._crew.pids() == before


def test_a_limit_that_nothing_can_live_with_breaks_the_pool_in_words(context: Any) -> None:
    with context.Pool(1, max_memory=1 << 20) as pool:
        with pytest.raises(BrokenPool) as caught:
            pool.apply(limited.square, (1,))
        assert "max_memory: a limit of 1 MiB leaves nothing to work with" in str(caught.value.__cause__)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with little memory, where this user may make one."""
    limit = str(200 << 20)
    with control_group("memory", {"memory.limit_in_bytes": limit}, {"memory.max": limit}) as group:
        yield group


def test_a_worker_that_the_kernel_ends_for_memory_is_called_so(method: str, group: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = entered(group, sys.executable, str(program), method)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("WorkerOutOfMemory worker process "), done.stdout
    assert "by the kernel because memory ran out" in done.stdout
