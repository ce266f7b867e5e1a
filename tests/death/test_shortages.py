"""Everything that can run out, and the words in which a user is told: those of `docs/scarcity.md`, whose table is compared.

Each case is a program of its own (`scarce.py`), in a namespace of mounts or a control group where that makes the thing
scarce.  The pool that was there before has to work all along.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from groups import control_group, entered

pytestmark = pytest.mark.timeout(90)

PROGRAM = Path(__file__).parent / "scarce.py"
PAGE = Path(__file__).parents[2] / "docs" / "scarcity.md"
ALWAYS = {"the old pool", "the old pool afterwards", "a new one"}

# By case: what the page calls it, and the start methods for which it is tried.
CASES = {
    "descriptors": ("no descriptor left", ["fork", "spawn", "forkserver"]),
    "processes": ("no process or thread to be had", ["fork", "spawn"]),
    "file_size": ("files of 1 MiB at most", ["fork", "spawn"]),
    "address_space": ("300 MiB of address space", ["fork"]),
    "memory": ("a control group of 200 MiB", ["fork"]),
    "small_shm": ("`/dev/shm` of 64 MiB", ["fork"]),
    "no_shm": ("no `/dev/shm`", ["fork"]),
    "read_only_files": ("all files read-only", ["fork", "forkserver"]),
    "no_pidfds": ("no pidfds", ["fork", "spawn", "forkserver"]),
}
MOUNTS = {
    "small_shm": "mount -t tmpfs -o size=64m none /dev/shm",
    "no_shm": (
        'mkdir "$0/dev" && mount -t tmpfs none "$0/dev" && cd /dev && for f in null zero random urandom full; do '
        'touch "$0/dev/$f" && mount --bind /dev/$f "$0/dev/$f" || exit 99; done && mount --move "$0/dev" /dev && cd /'
    ),
    "read_only_files": "mount -o remount,bind,ro /",
}


def table() -> dict[tuple[str, str], str]:
    """What the page says is seen, by case and call."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 5 and cells[0] != "case":
            found[cells[0], cells[1]] = cells[2]
    return found


def agrees(said: str, seen: str) -> bool:
    """Whether a message is the page's, in which "…" and N stand for what differs."""
    parts = re.split(r"(…|\bN\b)", said.removeprefix("`` ").removesuffix(" ``"))
    pattern = "".join({"…": ".*", "N": r"[\d,.]+"}.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(pattern, seen) is not None


@contextlib.contextmanager
def surroundings(case: str, folder: Path) -> Iterator[list[str]]:
    """The beginning of a command line that runs something where the case holds, or a skip that says why not."""
    if case == "processes" and os.geteuid() != 0:
        pytest.skip("only root can become a user that has no process yet")
    if case == "memory":
        limit = str(200 << 20)
        with control_group("memory", {"memory.limit_in_bytes": limit}, {"memory.max": limit}) as group:
            yield entered(group)
    elif case in MOUNTS:
        begin = ["unshare", "-m", "sh", "-c", f'{MOUNTS[case]} && exec "$@"', str(folder)]
        if shutil.which("unshare") is None or subprocess.run([*begin, "true"], capture_output=True).returncode:
            pytest.skip("this user may not mount anything here")
        shutil.rmtree(folder / "dev", ignore_errors=True)
        yield begin
    else:
        yield []


@pytest.mark.parametrize(("case", "method"), [(case, method) for case in CASES for method in CASES[case][1]])
def test_what_runs_out_is_told_and_the_pool_goes_on(case: str, method: str, tmp_path: Path) -> None:
    with surroundings(case, tmp_path) as begin:
        command = [*begin, sys.executable, "-B", str(PROGRAM), case, method]
        done = subprocess.run(command, capture_output=True, text=True, timeout=80)
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    seen = dict(map(json.loads, done.stdout.splitlines()))
    for name in ALWAYS & seen.keys():
        assert seen.pop(name) == "works", name
    label = CASES[case][0]
    said = {call: text for (of, call), text in table().items() if of == label}
    assert said.keys() == seen.keys()
    assert {call: text for call, text in seen.items() if not agrees(said[call], text)} == {}


def test_the_page_tells_of_no_other_case() -> None:
    assert {label for label, _ in table()} == {label for label, _ in CASES.values()}
