"""What children do with shared memory, and how a test starts them."""

from __future__ import annotations

import ctypes
from typing import Any

from manyhands import shared_memory


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


def double(*objects: Any) -> None:
    for obj in objects:
        if hasattr(obj, "value"):
            obj.value = obj.value * 2
        else:
            for i in range(len(obj)):
                obj[i] = obj[i] * 2


def move(point: Any) -> None:
    point.x += 1
    point.y *= 2


def add(number: Any, times: int) -> None:
    for _ in range(times):
        with number:
            number.value += 1


def write(shm: Any, data: bytes) -> None:
    shm.buf[: len(data)] = data
    shm.close()


def make_and_say(name: str) -> None:
    shared_memory.SharedMemory(name, create=True, size=100).close()


def set_items(items: Any) -> None:
    for i, value in enumerate(["zwei", b"drei", None, True, 2.5, 7]):
        items[i] = value


def exit_code(context: Any, target: Any, *args: Any) -> int:
    child = context.Process(target=target, args=args)
    child.start()
    child.join(40)
    assert not child.is_alive()
    return int(child.exitcode)


def same_tracker(pid: int) -> None:
    from manyhands.resource_tracker import _resource_tracker

    _resource_tracker.ensure_running()
    raise SystemExit(0 if _resource_tracker._pid in (None, pid) else 1)
