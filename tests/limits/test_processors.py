"""How many processors a program may use, and how many workers a pool has by default: affinity and quotas count."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from groups import control_group, entered

PROGRAM = """
import manyhands
from manyhands.pool import ThreadPool

if __name__ == "__main__":
    with manyhands.Pool() as pool, ThreadPool() as threads, manyhands.ProcessPoolExecutor() as executor:
        print(manyhands.cpu_count(), pool._processes, threads._processes, executor._max_workers)
"""

needs_two = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor here anyway")


def counted(folder: Path, group: Path | None = None, *options: str, **environment: str) -> str:
    """What the program prints."""
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, *options, str(folder / "program.py")]
    done = subprocess.run(
        command if group is None else entered(group, *command),
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@needs_two
def test_affinity_bounds_the_workers(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert counted(tmp_path) == "1 1 1 1"
    finally:
        os.sched_setaffinity(0, before)


@needs_two
@pytest.mark.parametrize(("percent", "workers"), [(100, 1), (150, 2)])
def test_a_containers_quota_bounds_the_workers(tmp_path: Path, percent: int, workers: int) -> None:
    quota = str(percent * 1000)
    one = {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": quota}
    with control_group("cpu", one, {"cpu.max": f"{quota} 100000"}) as group:
        assert counted(tmp_path, group) == " ".join([str(workers)] * 4)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python takes no such word before 3.13")
def test_who_says_how_many_has_so_many(tmp_path: Path) -> None:
    assert counted(tmp_path, None, "-X", "cpu_count=3") == "3 3 3 3"
    assert counted(tmp_path, PYTHON_CPU_COUNT="3") == "3 3 3 3"
    assert counted(tmp_path, None, "-E", PYTHON_CPU_COUNT="7") == counted(tmp_path)
    assert counted(tmp_path, PYTHON_CPU_COUNT="default") == counted(tmp_path)
