"""A child that begins as a copy of the fork server, and gets the process object through a pipe.

Always: the child runs nothing before it has read everything, and everything is written only after the
server has said which process it is; so a server that is killed half-way costs nothing but a new try.
Not here: the server itself, and how it is asked (`forkserver`).
"""

from __future__ import annotations

import os

from . import forkserver, popen_fork, popen_spawn_posix, process

__all__ = ["Popen"]


class _DupFd:
    """A descriptor on its way: the child finds it by its place in the message."""

    def __init__(self, ind: int) -> None:
        self.ind = ind

    def detach(self) -> int:
        inherited = forkserver.get_inherited_fds()
        if inherited is None:
            raise RuntimeError("a descriptor for a child of the fork server was unpickled somewhere else")
        return inherited[self.ind]


class Popen(popen_fork.Popen):
    """A child that the fork server forked."""

    method = "forkserver"
    DupFd = _DupFd

    def __init__(self, process_obj: process.BaseProcess) -> None:
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Send `fd` along; return its place among the descriptors sent."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: process.BaseProcess) -> None:
        payload = popen_spawn_posix.pickled(self, process_obj)
        child, write = forkserver.connect_to_new_process(self._fds)
        try:
            self._adopt(child)
            popen_spawn_posix.deliver(self, write, payload)
        finally:
            os.close(write)
