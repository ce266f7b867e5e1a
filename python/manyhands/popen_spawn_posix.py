"""A child that begins as a fresh interpreter: vfork and exec, then the process object through a pipe.

Always: everything is pickled before anything is started, so an object that cannot be sent leaves no child.
Not here: what the child does first (`spawn`), the kernel's part (the engine).
"""

from __future__ import annotations

import io
import os
from _signal import SIG_BLOCK, SIGINT, pthread_sigmask  # type: ignore[import-not-found]

from . import context, popen_fork, process, spawn, util

__all__ = ["Popen"]


class Popen(popen_fork.Popen):
    """A child that was spawned."""

    method = "spawn"
    DupFd = spawn._KeptFd

    def __init__(self, process_obj: process.BaseProcess) -> None:
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Keep `fd` open in the child, where it has the same number."""
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj: process.BaseProcess) -> None:
        payload = pickled(self, process_obj)
        lifeline = process._own_lifeline()
        read, write = os.pipe()
        try:
            try:
                command = spawn._followed(spawn.get_command_line(pipe_handle=read, parent_sentinel=lifeline))
                passed = {*self._fds, read, lifeline}
                self._begin(lambda _: util.spawnv_passfds(spawn.get_executable(), command, passed))
            finally:
                os.close(read)
            deliver(self, write, payload)
        finally:
            os.close(write)


def pickled(popen: popen_fork.Popen, process_obj: process.BaseProcess) -> memoryview:
    """Return, as a buffer, what a child of `popen` needs: its preparation and the process object."""
    preparation = spawn.get_preparation_data(process_obj._name)
    if not process_obj._imports_main:
        for name in ("init_main_from_name", "init_main_from_path"):
            preparation.pop(name, None)
    # It is started with SIGINT blocked, and left so if it is blocked here.
    preparation["deaf"] = SIGINT in pthread_sigmask(SIG_BLOCK, ())
    buffer = io.BytesIO()
    context.set_spawning_popen(popen)
    try:
        preparation["tracker"] = context.reduction.DupFd(util._tracker_pipe.ensure())
        context._default_context.reducer.dump(preparation, buffer)
        context._default_context.reducer.dump(process_obj, buffer)
    except Exception as error:
        error.add_note(
            f"This happened while {process_obj._name} was pickled to be sent to a child ({popen.method}); no child "
            "was started. Its target and arguments must be importable by name or picklable; the fork start "
            "method needs neither."
        )
        raise
    finally:
        context.set_spawning_popen(None)
    return buffer.getbuffer()


def deliver(popen: popen_fork.Popen, fd: int, payload: memoryview) -> None:
    """Write the whole payload into the child's pipe; end the child if that is interrupted.

    A child that is gone before it has read everything has said why on stderr, and has an exit code.
    """
    try:
        while payload:
            payload = payload[os.write(fd, payload) :]
    except BrokenPipeError:
        pass
    except BaseException:
        popen.kill()
        popen.wait()
        popen.close()
        raise
