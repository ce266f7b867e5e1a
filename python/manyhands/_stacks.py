"""`manyhands stacks PID`: what the processes of a family are doing, and who holds and awaits which lock.

In a process: a signal has the interpreter write the stacks of all its threads into memory that has no name, whatever the
process is doing, also in foreign code.  From outside: that memory, and the boards of locks, are opened through /proc.
Always: the process that is looked at goes on as before.
Not here: the command line (`__main__`).
"""

from __future__ import annotations

import os

from . import _engine

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__: list[str] = []

_NAME = "manyhands stacks"
_BOARD = "manyhands locks"
# How long a process may take to write its stacks, in seconds, and how long nothing more has to come.
_PATIENCE = 3.0
_QUIET = 0.05
# A file of stacks that is longer begins anew.
_MOST = 1 << 20
_FUTEX = {"x86_64": 202, "aarch64": 98}.get(os.uname().machine)
_STATES = {
    "R": "running", "S": "sleeping", "D": "in the kernel", "T": "stopped", "t": "stopped by a debugger", "Z": "dead",
}  # fmt: skip

_listening = False


def listen() -> None:
    """Have this process write its stacks when it is asked to; once.

    A forked child does so too, to the same memory: they are asked one after the other.
    """
    global _listening
    if _listening:
        return
    import faulthandler

    try:
        memory = os.memfd_create(_NAME, os.MFD_CLOEXEC)
        try:
            # Anew, because only an opening can say that all is written at the end.
            fd = os.open(f"/proc/self/fd/{memory}", os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        finally:
            os.close(memory)
        faulthandler.register(_engine.stacks_signal(), file=fd, all_threads=True)
    except (OSError, RuntimeError, ValueError):
        return  # no descriptor is left, say: then there is nothing to look at
    _listening = True


# ---- from outside ----


class _Process:
    """A process that is looked at."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        head, _, tail = _text(f"/proc/{pid}/stat").rpartition(")")
        fields = tail.split()
        if not fields:
            raise ProcessLookupError(f"there is no process {pid}")
        self.name = head.partition("(")[2]
        self.state = fields[0]
        self.parent = int(fields[1])

    def descriptors(self, name: str) -> Iterator[int]:
        """Descriptors, opened here, of the memory that has this name."""
        folder = f"/proc/{self.pid}/fd"
        for number in os.listdir(folder):
            try:
                if os.readlink(f"{folder}/{number}").startswith(f"/memfd:{name}"):
                    yield os.open(f"{folder}/{number}", os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue

    def stacks(self) -> str | None:
        """The stacks of all its threads; None: it was not told to write them, or does not answer."""
        import time

        for fd in self.descriptors(_NAME):
            try:
                if os.fstat(fd).st_size > _MOST:
                    os.ftruncate(fd, 0)
                before = size = os.fstat(fd).st_size
                os.kill(self.pid, _engine.stacks_signal())
                end, changed = time.monotonic() + _PATIENCE, time.monotonic()
                while time.monotonic() < end:
                    time.sleep(0.005)
                    now = os.fstat(fd).st_size
                    if now != size:
                        size, changed = now, time.monotonic()
                    elif size > before and time.monotonic() - changed > _QUIET:
                        break
                text = os.pread(fd, size - before, before).decode("utf-8", "replace")
                return text or None
            finally:
                os.close(fd)
        return None

    def awaited(self) -> Iterator[tuple[int, tuple[int, int], int]]:
        """For each thread that sleeps on a word of a board: its number, the board's file and the cell."""
        boards = []
        for line in _text(f"/proc/{self.pid}/maps").splitlines():
            words = line.split(maxsplit=5)
            if len(words) == 6 and words[5].startswith(f"/memfd:{_BOARD}"):
                first, last = (int(end, 16) for end in words[0].split("-"))
                major, minor = (int(part, 16) for part in words[3].split(":"))
                boards.append((first, last, int(words[2], 16), (os.makedev(major, minor), int(words[4]))))
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            call = _text(f"/proc/{self.pid}/task/{thread}/syscall").split()
            if len(call) < 2 or call[0] != str(_FUTEX):
                continue
            word = int(call[1], 16)
            for first, last, offset, file in boards:
                if first <= word < last:
                    yield int(thread), file, (word - first + offset) // _engine.LOCK_CELL


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def family(pid: int) -> list[_Process]:
    """A process and all that it has started, and those have started, in this order."""
    first = _Process(pid)
    below: dict[int, list[_Process]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                process = _Process(int(name))
            except ProcessLookupError:
                continue
            below.setdefault(process.parent, []).append(process)
    found, todo = [], [first]
    while todo:
        process = todo.pop(0)
        found.append(process)
        todo.extend(sorted(below.get(process.pid, []), key=lambda child: child.pid))
    return found


def _locks(processes: list[_Process]) -> Iterator[str]:
    """Who holds and who awaits a lock, a line for each that is held."""
    waiting: dict[tuple[tuple[int, int], int], list[str]] = {}
    boards: dict[tuple[int, int], list[tuple[int, str, int, int]]] = {}
    for process in processes:
        try:
            for thread, file, cell in process.awaited():
                waiting.setdefault((file, cell), []).append(f"process {process.pid}, thread {thread}")
            for fd in process.descriptors(_BOARD):
                status = os.fstat(fd)
                file = (status.st_dev, status.st_ino)
                if file in boards:
                    os.close(fd)
                else:
                    boards[file] = _engine.held_locks(fd)
        except (OSError, ValueError):
            continue  # it has ended meanwhile, is another user's, or has locks of another version
    for file, held in boards.items():
        for cell, kind, pid, thread in held:
            holder = f"process {pid}, thread {thread}" if pid else "a process that has ended"
            line = f"{kind} {file[1]}.{cell}: held by {holder}"
            others = waiting.pop((file, cell), [])
            yield line + (f"; awaited by {'; '.join(others)}" if others else "")
    for (file, cell), others in waiting.items():
        yield f"lock, semaphore, event or condition {file[1]}.{cell}: awaited by {'; '.join(others)}"


def report(pid: int) -> int:
    """Print what the family of `pid` does; 1 if there is no such process."""
    try:
        processes = family(pid)
    except ProcessLookupError as error:
        print(f"manyhands: {error}")
        return 1
    for process in processes:
        command = _text(f"/proc/{process.pid}/cmdline").replace("\0", " ").strip() or process.name
        print(f"process {process.pid}, {_STATES.get(process.state, process.state)}: {command}")
        if process.state == "Z":
            continue
        try:
            stacks = process.stacks()
        except PermissionError:
            print("  it belongs to another user: its stacks are not ours to see")
            continue
        except OSError as error:
            print(f"  it cannot be looked into: {error.strerror}")
            continue
        if stacks is not None:
            print("".join(f"  {line}\n" for line in stacks.splitlines() if line), end="")
        elif process.state == "T":
            print("  it is stopped and does not answer; kill -CONT lets it go on")
        else:
            print("  it has no pool and is no worker of one, or does not answer")
    for line in _locks(processes):
        print(line)
    return 0
