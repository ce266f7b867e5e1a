"""Workers that may have so much memory, and those that the kernel ends because there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import limited
import pytest

from manyhands import BrokenPool
from scripts import until

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


def memory_groups() -> Iterator[tuple[Path, str]]:
    """This process's control group of either version, and the file that limits its memory."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            yield Path("/sys/fs/cgroup/memory", path.lstrip("/")), "memory.limit_in_bytes"
        elif not controllers:
            yield Path("/sys/fs/cgroup", path.lstrip("/")), "memory.max"


def removed(group: Path) -> bool:
    """Removes a control group; not as long as a fork server ends there."""
    try:
        group.rmdir()
    except OSError:
        return False
    return True


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with little memory, where this user may make one."""
    for parent, limit in memory_groups():
        if not (parent / "cgroup.procs").exists():
            continue  # not mounted there
        group = parent / f"manyhands-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / limit).exists():
                (group / limit).write_text(str(200 << 20))
                yield group
                return
        finally:
            until(lambda group=group: removed(group))
    pytest.skip("no control group that limits memory can be made here")


def test_a_worker_that_the_kernel_ends_for_memory_is_called_so(method: str, group: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    enter = f"echo $$ > {group}/cgroup.procs && exec {sys.executable} {program} {method}"
    done = subprocess.run(["sh", "-c", enter], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("WorkerOutOfMemory worker process "), done.stdout
    assert "by the kernel because memory ran out" in done.stdout
