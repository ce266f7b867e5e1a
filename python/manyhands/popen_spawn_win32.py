"""The place of spawning on Windows, for programs that name this module everywhere.

Always: it can be imported; nothing can be started with it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Popen"]

TERMINATE = 0x10000
WINEXE = False
WINSERVICE = False


class Popen:
    """A child on Windows, which this package does not run on."""

    method = "spawn"

    def __init__(self, process_obj: Any) -> None:
        raise OSError(
            f"could not start {process_obj._name}: manyhands.popen_spawn_win32 is for Windows, and manyhands "
            "runs on Linux; use popen_spawn_posix, or get_context('spawn')"
        )
