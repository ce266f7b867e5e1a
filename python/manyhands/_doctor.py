"""`manyhands doctor`: what on this machine will be slow, or fail, and what to do about it.

Always: it changes nothing, and every finding that is not good says what follows and what helps.
Not here: the command line (`__main__`).
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from . import _engine, context

__all__: list[str] = []

# What a finding means: as it should be; it works, but not as well as it could; something will fail.
OK, SLOW, FAIL = "ok", "slow", "FAIL"

# Descriptors that the parent of a pool has open for each worker, and for itself.
_FDS_A_WORKER = 3
_FDS_A_POOL = 17
# Address space that a worker's arenas take, in the worker and in the parent, without taking memory.
_ARENAS = 32 << 30
_LEAST_SHM = 1 << 30
# How long a pool may take to be made and to answer, in seconds.
_PATIENCE = 30.0


class Finding(NamedTuple):
    """One thing that was looked at."""

    mark: str
    what: str
    # What follows and what helps, if it is not as it should be.
    advice: str = ""


def examine(root: Path = Path("/")) -> Iterator[Finding]:
    """Look at everything; `root` is put before the files that are read, for tests."""
    for look in (
        _interpreter,
        _processors,
        _memory,
        _descriptors,
        _processes,
        _signals,
        _shared_memory,
        _folder,
        _kernel,
    ):
        yield from look(root)
    for method in ("fork", "spawn", "forkserver"):
        yield _pool(method)


def _interpreter(root: Path) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(OK, f"{sys.implementation.name} {version}, manyhands {_engine.__version__}")
    if sys.flags.dev_mode:
        yield Finding(
            SLOW, "Python's development mode is on", "every allocation is checked; leave out -X dev for speed"
        )


def _processors(root: Path) -> Iterator[Finding]:
    usable, there = _engine.cpu_count(), os.cpu_count() or 1
    what = f"{usable} of {there} processors may be used"
    if usable < 2:
        yield Finding(SLOW, what, "a pool cannot be faster than a loop here, and no waiter can wait awake")
    elif usable < there:
        yield Finding(OK, f"{what} (affinity, or a container's quota); pools have that many workers by default")
    else:
        yield Finding(OK, what)


def _memory(root: Path) -> Iterator[Finding]:
    for group, limit in _group_limits(root):
        yield Finding(
            OK,
            f"memory is limited to {_bytes(limit)} ({group}); beyond it the kernel kills, and tasks raise WorkerOutOfMemory",
        )
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield Finding(
            SLOW if soft >= 1 << 30 else FAIL,
            f"address space is limited to {_bytes(soft)} (ulimit -v)",
            f"each worker wants {_bytes(_ARENAS)} of it, though little memory; with less, large arrays are streamed",
        )
    if _read(root / "proc/sys/vm/overcommit_memory").strip() == "2":
        yield Finding(
            SLOW,
            "the kernel does not overcommit memory (vm.overcommit_memory = 2)",
            "a fork needs as much free memory as the parent has: start large programs' pools early, or by forkserver",
        )


def _group_limits(root: Path) -> Iterator[tuple[str, int]]:
    """The limits of this process's own control groups, of either version."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        folder, file = {
            "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            "": ("sys/fs/cgroup", "memory.max"),
        }.get(controllers, ("", ""))
        # In a container the group's own folder is the mount point.
        for place in (root / folder / path.lstrip("/"), root / folder) if folder else ():
            text = _read(place / file).strip()
            # Version 1 says "none" by a number beyond all memory.
            if text.isdigit() and int(text) < 1 << 60:
                yield f"control group {path}", int(text)
                break


def _descriptors(root: Path) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    workers = max(0, (soft - _FDS_A_POOL) // _FDS_A_WORKER)
    what = f"{soft:,} open files (ulimit -n) are enough for some {workers:,} workers"
    if workers >= 4 * _engine.cpu_count():
        yield Finding(OK, what)
    else:
        more = "ulimit -n, or resource.setrlimit, raises it" + (f", up to {hard:,}" if hard > soft else " (as root)")
        yield Finding(FAIL if workers < _engine.cpu_count() else SLOW, what, more)


def _processes(root: Path) -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft == resource.RLIM_INFINITY or os.geteuid() == 0:
        return  # which does not hold for root
    if soft < 64 * _engine.cpu_count():
        yield Finding(
            SLOW,
            f"this user may have {soft:,} processes and threads (ulimit -u)",
            "those of all programs count, and threads of numpy in each worker too: OMP_NUM_THREADS=1 saves most",
        )


def _signals(root: Path) -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    if 0 <= soft < 1024:
        yield Finding(
            SLOW,
            f"this user may have {soft:,} signals and timers pending (ulimit -i)",
            "each worker with a task_timeout takes two of them",
        )


def _shared_memory(root: Path) -> Iterator[Finding]:
    folder = root / "dev/shm"
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        yield Finding(
            SLOW,
            f"{folder} is not there, or not to be written to",
            "pools, queues and locks do without it; SharedMemory and names of locks need it",
        )
        return
    place = os.statvfs(folder)
    free = place.f_bavail * place.f_frsize
    if free < _LEAST_SHM:
        yield Finding(
            SLOW,
            f"{folder} has {_bytes(free)} left",
            "only SharedMemory and ShareableList lie there: docker run --shm-size, or mount -o remount,size=",
        )
    else:
        yield Finding(OK, f"{folder} has {_bytes(free)} left for SharedMemory")


def _folder(root: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryDirectory(prefix="pymp-") as folder:
            # As a listener makes it: a socket's path has 107 bytes at most.
            room = 107 - len(os.fsencode(folder)) - len("/listener-12345678")
    except OSError as error:
        yield Finding(
            FAIL,
            f"no folder can be made for temporary files: {error}",
            "managers and Listener need one: set TMPDIR",
        )
        return
    if room < 0:
        yield Finding(
            FAIL,
            f"the temporary folder has a name that is {-room} bytes too long for a socket",
            "set TMPDIR to a shorter one",
        )
    else:
        yield Finding(OK, f"sockets can be made in {tempfile.gettempdir()}")


def _kernel(root: Path) -> Iterator[Finding]:
    yield Finding(OK, f"Linux {os.uname().release}, {os.uname().machine}")
    tried: list[tuple[str, Callable[[], int], str]] = [
        (
            "pidfd_open",
            lambda: os.pidfd_open(os.getpid()),
            "a thread waits for each child instead; the end of a stranger is asked for",
        ),
        ("memfd_create", lambda: os.memfd_create("manyhands doctor"), "nothing of manyhands works without"),
    ]
    for name, call, advice in tried:
        try:
            os.close(call())
        except OSError as error:
            mark = FAIL if name == "memfd_create" else SLOW
            yield Finding(mark, f"the kernel, or the container's profile, refuses {name}: {error.strerror}", advice)
    if not (root / "proc/self/stat").exists():
        yield Finding(SLOW, "there is no /proc", "a lock's dead holder is not found, and waits for it do not end")


def _pool(method: str) -> Finding:
    """Make a pool, and ask it something."""
    began = time.monotonic()
    try:
        with context._default_context.get_context(method).Pool(1, max_restarts=2) as pool:
            answer = pool.apply_async(abs, (-1,)).get(_PATIENCE)
    except Exception as error:
        return Finding(
            FAIL, f"a pool by {method} does not work: {type(error).__name__}: {error}", "this is what programs will see"
        )
    took = time.monotonic() - began
    what = f"a pool of one by {method} answers after {took * 1000:.0f} ms"
    if answer != 1 or took > 5:
        return Finding(
            SLOW,
            what,
            "the machine is busy, or what Python imports at its start is slow (python -X importtime -c pass)",
        )
    return Finding(OK, what)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


def report() -> int:
    """Print what was found; 1 if something will fail, else 0."""
    worst = 0
    for finding in examine():
        print(f"{finding.mark:<5} {finding.what}", flush=True)
        if finding.advice:
            print(f"      {finding.advice}")
        worst |= finding.mark == FAIL
    return worst
