"""`manyhands stacks PID`: what each process of a family is doing, and whose locks are whose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import until

PROGRAM = """
import sys, time
import manyhands

def dream_on(path):
    with lock:
        open(path, "w").close()
        time.sleep(600)

def want(path):
    open(path, "w").close()
    lock.acquire()

def take(given):
    global lock
    lock = given

if __name__ == "__main__":
    context = manyhands.get_context(sys.argv[1])
    lock = context.Lock()
    pool = context.Pool(2, take, (lock,))
    held = pool.apply_async(dream_on, (sys.argv[2] + "/dreams",))
    import os
    while not os.path.exists(sys.argv[2] + "/dreams"):
        time.sleep(0.01)
    wanted = pool.apply_async(want, (sys.argv[2] + "/wants",))
    held.get()
"""


def stacks(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command."""
    words = [sys.executable, "-m", "manyhands", "stacks", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


@pytest.fixture
def busy(method: str, tmp_path: Path) -> Iterator[int]:
    """A program whose workers sleep with a lock, and wait for it."""
    program = tmp_path / "busy.py"
    program.write_text(PROGRAM)
    with subprocess.Popen([sys.executable, program, method, tmp_path], stderr=subprocess.DEVNULL) as process:
        try:
            until((tmp_path / "wants").exists)
            yield process.pid
        finally:
            process.kill()


def test_every_worker_says_what_it_runs(busy: int) -> None:
    done = stacks(busy)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"process {busy}, sleeping: {sys.executable}" in done.stdout
    for function in ("in dream_on", "in want", "in get"):
        assert function in done.stdout
    # Again, and the program goes on as before.
    assert "in dream_on" in stacks(busy).stdout
    os.kill(busy, 0)


def test_it_says_who_holds_a_lock_and_who_awaits_it(busy: int) -> None:
    lines = stacks(busy).stdout.splitlines()
    [held] = [line for line in lines if line.startswith("Lock ")]
    numbers = {line.split(",")[0].removeprefix("process ") for line in lines if line.startswith("process ")}
    holder, _, others = held.partition(": held by process ")[2].partition(",")
    assert holder in numbers - {str(busy)}
    if Path(f"/proc/{busy}/syscall").exists() and os.geteuid() == 0:  # else the kernel does not let us see it
        waiter = others.partition("awaited by process ")[2].partition(",")[0]
        assert waiter in numbers - {str(busy), holder}


def test_a_worker_that_is_stopped_is_called_so(busy: int) -> None:
    text = stacks(busy).stdout
    workers = [part for part in text.split("process ") if "in dream_on" in part]
    worker = int(workers[0].split(",")[0])
    os.kill(worker, signal.SIGSTOP)
    try:
        until(lambda: Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        done = stacks(busy)
        assert f"process {worker}, stopped" in done.stdout
        assert "it is stopped and does not answer" in done.stdout
        assert "in want" in done.stdout
    finally:
        os.kill(worker, signal.SIGCONT)


def test_a_process_without_pools_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            done = stacks(process.pid)
            assert "it has no pool and is no worker of one" in done.stdout
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.parametrize(("words", "status", "said"), [
    (["me"], 2, "stacks takes the number of one process"),
    ([], 2, "stacks takes the number of one process"),
    ([1, 2], 2, "stacks takes the number of one process"),
    ([2**22 + 1], 1, "there is no process"),
])  # fmt: skip
def test_bad_input_is_told(words: list[object], status: int, said: str) -> None:
    done = stacks(*words)
    assert done.returncode == status
    assert said in done.stdout + done.stderr
