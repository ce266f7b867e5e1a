"""The watchdog ends a hanging runner with all that it started, and leaves a resting one alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from scripts import wait_for_end

WATCHDOG = [sys.executable, "-I", "-S", str(Path(__file__).parent.parent / "watchdog.py")]
# A runner with a child that would outlive it.
HANGING = """
import faulthandler, signal, subprocess, sys, time
faulthandler.register(signal.SIGUSR1)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
print(child.pid, flush=True)
while True:
    time.sleep(1000)
"""


def test_hanging_runner_is_ended_with_its_children_after_saying_where_it_hangs() -> None:
    runner = subprocess.Popen(
        [sys.executable, "-c", HANGING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert runner.stdout is not None
    child = int(runner.stdout.readline())
    watchdog = subprocess.Popen(WATCHDOG, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watchdog.stdin is not None
    assert watchdog.stderr is not None
    watchdog.stdin.write(f"{runner.pid} 0.1 a test\n")
    watchdog.stdin.flush()
    # It ends by itself when it had to act.
    said = watchdog.stderr.read()
    watchdog.wait()
    watchdog.stdin.close()
    watchdog.stderr.close()
    errors = runner.communicate()[1]
    assert "a test hangs" in said
    assert "most recent call first" in errors
    assert runner.returncode == -signal.SIGKILL
    wait_for_end(child)


def test_runner_that_rests_is_left_alone() -> None:
    runner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    try:
        # A watch, its end, and a limit that passes while nothing is watched.
        done = subprocess.run(
            WATCHDOG, input=f"{runner.pid} 0.2 a test\n\n", capture_output=True, text=True, timeout=30
        )
        assert done.stderr == ""
        assert runner.poll() is None
    finally:
        runner.kill()
        runner.wait()
