"""Ctrl-C: one KeyboardInterrupt in the caller, workers that end quietly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import sys, time, manyhands
sys.path.insert(0, {here!r})
import work

if __name__ == "__main__":
    with manyhands.get_context({method!r}).Pool(2) as pool:
        pool.map(work.square, range(4), 1)
        print("ready", flush=True)
        {call}
"""
CALLS = {
    "map": "pool.map(work.touch_and_wait, [(sys.argv[1] + '/a', '/nowhere'), (sys.argv[1] + '/b', '/nowhere')], 1)",
    "apply": "pool.apply(work.touch_and_wait, ((sys.argv[1] + '/a', '/nowhere'),))",
    "get": "pool.apply_async(work.touch_and_wait, ((sys.argv[1] + '/a', '/nowhere'),)).get()",
    "get_with_timeout": "pool.apply_async(work.touch_and_wait, ((sys.argv[1] + '/a', '/nowhere'),)).get(500)",
    "next": "next(pool.imap(work.touch_and_wait, [(sys.argv[1] + '/a', '/nowhere')]))",
    "join": "r = pool.apply_async(work.touch_and_wait, ((sys.argv[1] + '/a', '/nowhere'),)); pool.close(); pool.join()",
    "idle": "open(sys.argv[1] + '/a', 'w').close(); time.sleep(500)",
}


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_ends_any_wait_and_all_workers(method: str, call: str, tmp_path: Any) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent), method=method, call=CALLS[call]))
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        while not (tmp_path / "a").exists():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == -signal.SIGINT, errors
    assert errors.count("Traceback") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
