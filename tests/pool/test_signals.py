"""Ctrl-C: one KeyboardInterrupt in the caller, workers that end quietly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import work

SCRIPT = """
import os, sys, time, manyhands
sys.path.insert(0, {here!r})
import work

if __name__ == "__main__":
    with manyhands.get_context({method!r}).Pool(2) as pool:
        while len(set(pool.map(work.pid, range(8), 1))) < 2:
            pass  # one of the workers is still starting
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
    # Not by open(): in CPython 3.13 that may swallow the interrupt that its file calls for.
    "idle": "os.close(os.open(sys.argv[1] + '/a', os.O_CREAT)); time.sleep(500)",
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


class Alarm(Exception):
    """What the handler of a signal raises."""


class Stop(BaseException):
    """The same, for one that is not to be caught by accident."""


@pytest.fixture(params=[Alarm, Stop])
def interrupts(request: Any, tmp_path: Path) -> Iterator[Any]:
    """Interrupts whatever says that it has begun, once, and lets it go on the next time."""

    def handler(*_: object) -> None:
        (tmp_path / "gate").touch()
        raise request.param

    def watch() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield request.param
    finally:
        (tmp_path / "begun").touch()
        watcher.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def here(tmp_path: Path) -> str:
    return str(tmp_path)


def test_a_value_survives_that_its_decoding_is_interrupted(pool: Any, interrupts: Any, here: str) -> None:
    result = pool.apply_async(work.return_slow, ((here, 42),))
    result.wait()
    with pytest.raises(interrupts):
        result.get()
    assert result.get() == 42
    assert result.successful()


def test_a_list_survives_that_its_decoding_is_interrupted(pool: Any, interrupts: Any, here: str) -> None:
    items = [(here, x) for x in range(9)]
    result = pool.map_async(work.return_slow, items, 2)
    result.wait()
    with pytest.raises(interrupts):
        result.get()
    assert result.get() == list(range(9))


def test_an_exception_survives_that_its_decoding_is_interrupted(pool: Any, interrupts: Any, here: str) -> None:
    result = pool.apply_async(work.raise_slow, (here,))
    result.wait()
    with pytest.raises(interrupts):
        result.get()
    with pytest.raises(ValueError, match="slow"):
        result.get()


@pytest.mark.parametrize("form", ["imap", "imap_unordered"])
def test_a_streamed_value_survives_that_its_decoding_is_interrupted(
    pool: Any, interrupts: Any, here: str, form: str
) -> None:
    results = getattr(pool, form)(work.return_slow, [(here, x) for x in range(5)])
    with pytest.raises(interrupts):
        next(results)
    assert sorted(results) == list(range(5))


def test_what_interrupts_the_pickling_of_an_item_is_raised_by_the_wait(pool: Any, interrupts: Any, here: str) -> None:
    with pytest.raises(interrupts):
        pool.map(work.same, [work.SlowToPickle(here, x) for x in range(5)], 1)
    assert [path.name for path in Path(here).glob("pickled *")] == ["pickled 0"], "the wait ended at once"
    assert pool.map(work.square, range(5)) == [0, 1, 4, 9, 16]


def test_what_interrupts_the_pickling_of_an_argument_is_raised_by_the_call(
    pool: Any, interrupts: Any, here: str
) -> None:
    with pytest.raises(interrupts):
        pool.apply_async(work.same, (work.SlowToPickle(here, 1),))
    assert pool.apply(work.same, (work.SlowToPickle(here, 1),)) == 1
