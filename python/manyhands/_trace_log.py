"""Reading the events of a timeline: what became of pools, workers, calls and tasks.

Always: a process that was killed has left its records as they were; what is missing or makes no sense is left out, never
guessed.  Not here: who writes the records (`engine/trace.rs` has their list), in which memory (`manyhands-shm`'s `log`).
"""

from __future__ import annotations

import mmap
import struct

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__: list[str] = []

_MAGIC = b"mh-trace"
_VERSION = 1
_FIRST = 4096
_RECORD = struct.Struct("<8Q")
_HALF = (1 << 32) - 1

_POOL, _POOL_END, _NAME, _WORKER, _READY, _WORKER_END, _HANDED, _RUN, _CALL, _CALL_END = range(1, 11)

FACES = ("Rust pool", "Pool", "ProcessPoolExecutor")
CALLS = ("", "map", "imap", "imap_unordered", "map")
CAUSES = ("", "overdue", "out of memory")


class Task:
    """A task that a worker began. Times are in ns; 0: never."""

    __slots__ = ("begun", "bytes_in", "bytes_out", "ended", "handed", "heard", "name", "outcome", "queued", "serial")

    def __init__(self, serial: int, begun: int, name: int, bytes_out: int) -> None:
        self.serial = serial
        self.begun = begun
        self.name = name
        self.bytes_out = bytes_out
        self.bytes_in = 0
        self.ended = self.queued = self.handed = self.heard = 0
        self.outcome = "unfinished"  # or "ok", "raised", "died"


class Worker:
    """A worker, from its start to its end."""

    def __init__(self, number: int, pid: int, started: int) -> None:
        self.number = number
        self.pid = pid
        self.started = started
        self.ready = self.ended = 0
        self.exitcode: int | None = None
        self.cause = ""
        self.meant = False
        self.tasks: list[Task] = []

    def ending(self) -> str:
        """How it ended, for people; empty if it was meant to, or has not."""
        if self.exitcode is None or self.meant:
            return ""
        if self.exitcode < 0:
            import signal

            try:
                how = signal.Signals(-self.exitcode).name
            except ValueError:
                how = f"signal {-self.exitcode}"
        else:
            how = f"exit code {self.exitcode}"
        return f"{how}, {self.cause}" if self.cause else how


class Call:
    """A call with many parts: a map and its like."""

    def __init__(self, number: int, began: int, name: int, how: int) -> None:
        self.number = number
        self.began = began
        self.name = name
        self.how = CALLS[how] if how < len(CALLS) else ""
        self.ended = self.parts = 0
        self.failed = False


class Pool:
    """A pool and all that it had."""

    def __init__(self, pid: int, began: int, size: int) -> None:
        self.pid = pid
        self.began = began
        self.size = size
        self.ended = 0
        self.face = FACES[0]
        self.names: dict[int, str] = {}
        self.workers: dict[int, Worker] = {}
        self.calls: dict[int, Call] = {}

    def name(self, number: int) -> str:
        """What a task calls."""
        return self.names.get(number, "?")


class Timeline:
    """Everything that is known."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.pools: list[Pool] = []
        self.dropped = 0
        self.begin = self.end = 0

    def tasks(self) -> Iterator[Task]:
        """Every task, worker by worker."""
        for pool in self.pools:
            for worker in pool.workers.values():
                yield from worker.tasks

    def summary(self) -> str:
        """What there is, in a line."""
        counts = (
            (len(self.pools), "pool"),
            (sum(len(pool.workers) for pool in self.pools), "worker"),
            (sum(1 for _ in self.tasks()), "task"),
        )
        text = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
        return f"{text}, {self.dropped} events dropped (--events takes more)" if self.dropped else text


def read(memory: int, command: str) -> Timeline:
    """What was written to the memory behind this descriptor, while `command` ran."""
    with mmap.mmap(memory, 0, access=mmap.ACCESS_READ) as view:
        version, record, records = struct.unpack_from("<IIQ", view, 8)
        if view[:8] != _MAGIC or version != _VERSION or record != _RECORD.size:
            raise ValueError("this memory is no timeline of this release of manyhands")
        (count,) = struct.unpack_from("<Q", view, 128)
        (dropped,) = struct.unpack_from("<Q", view, 256)
        count = min(count, records, (len(view) - _FIRST) // _RECORD.size)
        end = _FIRST + count * _RECORD.size
        with memoryview(view) as whole, whole[_FIRST:end] as written:
            timeline = _gathered(_RECORD.iter_unpack(written), command)
    timeline.dropped = dropped
    return timeline


def _gathered(records: Iterable[tuple[int, ...]], command: str) -> Timeline:
    timeline = Timeline(command)
    pools: dict[int, Pool] = {}
    names: dict[tuple[int, int], dict[int, bytes]] = {}
    by_pid: dict[int, list[tuple[Pool, Worker]]] = {}
    runs: list[tuple[int, ...]] = []
    handed: dict[tuple[int, int], tuple[int, ...]] = {}
    later: list[tuple[int, ...]] = []
    # A record's place says when its place was taken, so a pool's comes before all that hangs on it.
    for record in records:
        kind = record[0] & _HALF
        if kind == _POOL:
            if record[2] in pools:
                face = record[4]
                pools[record[2]].face = FACES[face] if face < len(FACES) else FACES[0]
            else:
                pools[record[2]] = Pool(record[0] >> 32, record[1], record[3])
        elif kind == _WORKER and record[2] in pools:
            worker = Worker(record[3], record[4], record[1])
            pools[record[2]].workers[worker.number] = worker
            by_pid.setdefault(worker.pid, []).append((pools[record[2]], worker))
        elif kind == _RUN:
            runs.append(record)
        elif kind == _HANDED:
            handed[record[2], record[3]] = record
        elif kind == _NAME:
            names.setdefault((record[2], record[3] >> 32), {})[record[3] >> 8 & 0xFFFFFF] = struct.pack(
                "<4Q", *record[4:]
            )[: record[3] & 0xFF]
        elif kind:
            later.append(record)
    for record in later:
        _ended(record, pools)
    for (pool_id, number), parts in names.items():
        if pool_id in pools:
            text = b"".join(parts[part] for part in sorted(parts))
            pools[pool_id].names[number] = text.decode(errors="replace")
    ids = {id(pool): number for number, pool in pools.items()}
    for record in runs:
        found = _worker_of(by_pid.get(record[0] >> 32), record[1])
        if found is not None:
            pool, worker = found
            worker.tasks.append(_task(record, handed.get((ids[id(pool)], record[2]))))
    _finish(timeline, list(pools.values()))
    return timeline


def _ended(record: tuple[int, ...], pools: dict[int, Pool]) -> None:
    """What became of a pool, a worker or a call."""
    kind, time, pool = record[0] & _HALF, record[1], pools.get(record[2])
    if pool is None:
        return
    if kind == _POOL_END:
        pool.ended = time
    elif kind == _CALL:
        pool.calls[record[3]] = Call(record[3], time, record[4] & _HALF, record[5])
    elif kind == _CALL_END and record[3] in pool.calls:
        call = pool.calls[record[3]]
        call.ended, call.parts, call.failed = time, record[4], bool(record[5])
    elif record[3] in pool.workers:
        worker = pool.workers[record[3]]
        if kind == _READY:
            worker.ready = time
        elif kind == _WORKER_END:
            worker.ended = time
            worker.exitcode = record[5] - (1 << 64) if record[5] >> 63 else record[5]
            worker.meant = bool(record[6] & 1)
            cause = record[6] >> 1
            worker.cause = CAUSES[cause] if cause < len(CAUSES) else ""


def _worker_of(known: list[tuple[Pool, Worker]] | None, time: int) -> tuple[Pool, Worker] | None:
    """The last worker with a process id that was started before this time."""
    if not known:
        return None
    before = [entry for entry in known if entry[1].started <= time]
    return before[-1] if before else None


def _task(record: tuple[int, ...], handed: tuple[int, ...] | None) -> Task:
    task = Task(record[2], record[1], record[3] & _HALF, record[7])
    if record[5] & 1:
        task.ended = max(record[4], task.begun)
        task.bytes_in = record[6]
        task.outcome = "raised" if record[5] & 2 else "ok"
    if handed is not None:
        task.handed = handed[1]
        task.queued = handed[6] or handed[1]
        task.heard = handed[7]
    return task


def _finish(timeline: Timeline, pools: list[Pool]) -> None:
    """Closes what is open, and finds where the timeline begins and ends."""
    timeline.pools = sorted(pools, key=lambda pool: pool.began)
    if not pools:
        return
    times = [pool.began for pool in pools] + [pool.ended for pool in pools]
    for pool in pools:
        for worker in pool.workers.values():
            worker.tasks.sort(key=lambda task: task.begun)
            times += [worker.started, worker.ready, worker.ended]
            times += [time for task in worker.tasks[-1:] for time in (task.begun, task.ended, task.heard)]
        times += [time for call in pool.calls.values() for time in (call.began, call.ended)]
    known = [time for time in times if time]
    timeline.begin, timeline.end = min(known), max(known)
    for pool in pools:
        for worker in pool.workers.values():
            for task in worker.tasks:
                if not task.ended:
                    # It runs no more, once its worker has ended; else it ran when the program did last.
                    task.ended = max(worker.ended or timeline.end, task.begun)
                    task.outcome = "died" if worker.exitcode is not None else "unfinished"
