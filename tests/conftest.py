"""What all of our Python tests share: a watchdog, start methods, and a look for what a test left behind.

Always: no thread of the test runner is alive while a test runs, because forking beside a thread warns
from Python 3.12 on. So limits inside are signals, and the watchdog is a process (`watchdog.py`).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import manyhands

sys.path.insert(0, str(Path(__file__).parent))
from watchdog import Watchdog

METHODS = ["fork", "spawn", "forkserver"]
# How long a child may take to end after its test has.
PATIENCE = 10.0

_watchdog: Watchdog | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Starts the watchdog before anything can hang."""
    global _watchdog
    _watchdog = Watchdog(config)


def pytest_unconfigure() -> None:
    """The watchdog has no more to watch."""
    if _watchdog is not None:
        _watchdog.dismiss()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Tells the watchdog which test runs, and how long it may."""
    marker = item.get_closest_marker("timeout")
    limit = float(marker.args[0]) if marker and marker.args else float(item.config.getini("timeout"))
    limit *= 1 + (item.config.getoption("reruns", None) or 0)  # a rerun is a part of this
    assert _watchdog is not None
    _watchdog.watch(item.nodeid, limit)
    try:
        return (yield)
    finally:
        _watchdog.rest()


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """Each start method in turn."""
    return str(request.param)


@pytest.fixture
def context(method: str) -> object:
    """manyhands' context for each start method in turn."""
    return manyhands.get_context(method)


def children(pid: int | None = None) -> dict[int, str]:
    """The living children of a process (this one) and their command lines; the helpers that
    outlive tests by design (forkserver, resource tracker) and our watchdog are left out."""
    found = {}
    for task in Path(f"/proc/{pid or os.getpid()}/task").iterdir():
        try:
            listed = (task / "children").read_text().split()
        except OSError:
            continue  # the thread ended while we looked
        for child in listed:
            try:
                words = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it ended while we looked
            if not any(helper in words for helper in ("forkserver", "resource_tracker", "watchdog.py")):
                found[int(child)] = words.strip() or "(a zombie)"
    return found


def abandoned_memory() -> set[str]:
    """What lies in /dev/shm and is mapped by no living process, so that nobody is left to remove it."""
    names = set(os.listdir("/dev/shm"))
    for maps in Path("/proc").glob("[0-9]*/maps") if names else []:
        try:
            names -= {line.rpartition("/")[2] for line in maps.read_text().splitlines() if "/dev/shm/" in line}
        except OSError:
            continue  # it ended, or is not ours to look at
    return names


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fails a test that leaves processes or files in /dev/shm behind."""
    shared_before = abandoned_memory()
    before = children()
    yield
    deadline = time.monotonic() + PATIENCE
    while True:
        manyhands.active_children()  # reaps those that have ended
        left = {pid: words for pid, words in children().items() if pid not in before}
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    assert not left, f"the test left processes behind: {left}"
    shared = abandoned_memory() - shared_before
    while shared and time.monotonic() < deadline:  # those of other runs beside this one go away
        time.sleep(0.05)
        shared &= abandoned_memory()
    assert not shared, f"the test left entries in /dev/shm: {shared}"
