"""`manyhands doctor`: it says what is wrong with a machine, and nothing about one that is well."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from manyhands import _doctor


def doctor(
    *arguments: str, limit: Callable[[], None] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command, with `limit` called in its process first."""
    return subprocess.run(
        [sys.executable, "-m", "manyhands", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        preexec_fn=limit,
        env={**os.environ, **environment},
    )


def limited(what: int, number: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(what, (number, number))


def made_up(folder: Path, files: dict[str, str]) -> Path:
    """A root with these files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_machine_that_is_well_has_nothing_that_fails() -> None:
    done = doctor()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.startswith("FAIL")]
    for method in ("fork", "spawn", "forkserver"):
        assert [line for line in lines if f"a pool of one by {method} answers after" in line]


def test_few_descriptors_are_a_failure_and_say_so() -> None:
    done = doctor(limit=limited(resource.RLIMIT_NOFILE, 18))
    assert done.returncode == 1
    assert "FAIL  18 open files (ulimit -n) are enough for some 0 workers" in done.stdout
    assert "raises it" in done.stdout


def test_little_address_space_is_slow() -> None:
    done = doctor(limit=limited(resource.RLIMIT_AS, 4 << 30))
    assert "slow  address space is limited to 4 GiB (ulimit -v)" in done.stdout


def test_a_long_temporary_folder_is_a_failure(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    done = doctor(TMPDIR=str(long))
    assert done.returncode == 1
    assert "bytes too long for a socket" in done.stdout
    assert list(long.iterdir()) == []


def test_the_memory_of_control_groups_is_found(tmp_path: Path) -> None:
    version_2 = {"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/memory.max": f"{512 << 20}\n"}
    assert list(_doctor._group_limits(made_up(tmp_path / "2", version_2))) == [("control group /app", 512 << 20)]
    container = {"proc/self/cgroup": "0::/elsewhere\n", "sys/fs/cgroup/memory.max": "1073741824\n"}
    assert list(_doctor._group_limits(made_up(tmp_path / "c", container))) == [("control group /elsewhere", 1 << 30)]
    version_1 = {
        "proc/self/cgroup": "5:memory:/app\n4:cpu:/app\n",
        "sys/fs/cgroup/memory/app/memory.limit_in_bytes": f"{64 << 20}\n",
    }
    assert list(_doctor._group_limits(made_up(tmp_path / "1", version_1))) == [("control group /app", 64 << 20)]
    for none in ("max\n", "9223372036854771712\n", ""):
        files = {"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/memory.max": none}
        assert list(_doctor._group_limits(made_up(tmp_path / f"none{len(none)}", files))) == []
    assert list(_doctor._group_limits(tmp_path / "nothing")) == []


def test_a_kernel_that_does_not_overcommit_is_slow(tmp_path: Path) -> None:
    root = made_up(tmp_path, {"proc/sys/vm/overcommit_memory": "2\n"})
    assert [finding.mark for finding in _doctor._memory(root)] == ["slow"]
    assert list(_doctor._memory(made_up(tmp_path, {"proc/sys/vm/overcommit_memory": "0\n"}))) == []


def test_shared_memory_that_is_not_there_is_slow(tmp_path: Path) -> None:
    [finding] = _doctor._shared_memory(tmp_path)
    assert finding.mark == "slow"
    assert "is not there" in finding.what
    assert "pools, queues and locks do without it" in finding.advice


@pytest.mark.parametrize(
    ("number", "said"), [(17, "17 bytes"), (4096, "4 KiB"), (3 << 29, "1.5 GiB"), (5 << 40, "5 TiB")]
)
def test_sizes_read_as_people_say_them(number: int, said: str) -> None:
    assert _doctor._bytes(number) == said


def test_it_takes_no_arguments() -> None:
    done = doctor("me")
    assert done.returncode == 2
    assert "doctor takes no arguments, and 'me' is one" in done.stderr
