"""The files of a timeline: Chrome's trace event format, which Perfetto opens, and a page for a browser.

Always: a file is there whole or not at all.  Not here: what is known (`_trace_log`), how the page draws (`_trace_page.html`).
"""

from __future__ import annotations

import contextlib
import json
import os

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ._trace_log import Call, Pool, Task, Timeline, Worker

__all__: list[str] = []

# A page with more tasks than this takes long to load; the longest are what one looks for.
_PAGE_TASKS = 200_000
# Linux has no process ids from here on.
_BEYOND_PIDS = 1 << 22


def write_json(timeline: Timeline, path: str) -> None:
    """Write the timeline in Chrome's trace event format; times are microseconds since its begin."""
    events = sorted(_events(timeline), key=lambda event: (event["ph"] != "M", event.get("ts", 0.0)))
    about = {
        "manyhands": _version(),
        "command": timeline.command,
        "clock": "CLOCK_MONOTONIC",
        "begin_ns": timeline.begin,
        "dropped_events": timeline.dropped,
    }
    encode = json.JSONEncoder(separators=(",", ":")).encode

    def lines() -> Iterator[str]:
        yield '{"displayTimeUnit":"ms","otherData":' + encode(about) + ',"traceEvents":[\n'
        for at, event in enumerate(events):
            yield (",\n" if at else "") + encode(event)
        yield "\n]}\n"

    _write(path, lines())


def _events(timeline: Timeline) -> Iterator[dict[str, Any]]:
    def us(time: int) -> float:
        return round((time - timeline.begin) / 1000, 3)

    for at, pool in enumerate(timeline.pools, 1):
        title = f"{pool.face} of process {pool.pid}: {timeline.command}"
        yield {"ph": "M", "name": "process_name", "pid": at, "tid": 0, "args": {"name": title}}
        yield {"ph": "M", "name": "process_sort_index", "pid": at, "tid": 0, "args": {"sort_index": at}}
        lanes: set[int] = set()
        for worker in pool.workers.values():
            # Perfetto shows the number beside the name. The kernel gives one to several processes, in time.
            tid = worker.pid if worker.pid not in lanes else _BEYOND_PIDS + worker.number
            lanes.add(tid)
            yield from _worker_events(timeline, pool, worker, {"pid": at, "tid": tid}, us)
        for call in pool.calls.values():
            name = f"{call.how}({pool.name(call.name)})"
            same = {"cat": "call", "id2": {"local": str(call.number)}, "pid": at, "tid": 0, "name": name}
            args = {"parts": call.parts, "failed": call.failed, "ended": bool(call.ended)}
            yield {"ph": "b", "ts": us(call.began), **same, "args": args}
            yield {"ph": "e", "ts": us(call.ended or timeline.end), **same}
        yield from _load(pool, at, us)


def _worker_events(
    timeline: Timeline, pool: Pool, worker: Worker, place: dict[str, int], us: Any
) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "name": "thread_name", **place, "args": {"name": f"worker {worker.number}, process"}}
    yield {"ph": "M", "name": "thread_sort_index", **place, "args": {"sort_index": worker.number + 1}}
    ready = worker.ready or worker.ended or timeline.end
    if worker.tasks:
        ready = min(ready, worker.tasks[0].begun)
    start = {"ts": us(worker.started), "dur": us(ready) - us(worker.started)}
    yield {"ph": "X", "cat": "worker", "name": "start", **start, **place, "args": {"process": worker.pid}}
    for task in worker.tasks:
        yield {
            "ph": "X",
            "cat": "task",
            "name": pool.name(task.name),
            "ts": us(task.begun),
            "dur": round((task.ended - task.begun) / 1000, 3),
            **place,
            **({"cname": "terrible"} if task.outcome in ("raised", "died") else {}),
            "args": _task_args(task, worker),
        }
    if worker.ending():
        name = f"died: {worker.ending()}"
        yield {"ph": "i", "s": "t", "cat": "worker", "name": name, "ts": us(worker.ended), **place}
    elif worker.ended:
        yield {"ph": "i", "s": "t", "cat": "worker", "name": "left", "ts": us(worker.ended), **place}


def _task_args(task: Task, worker: Worker) -> dict[str, Any]:
    args: dict[str, Any] = {"task": task.serial, "outcome": task.outcome}
    if task.handed:
        args["waited_for_worker_us"] = round((task.handed - task.queued) / 1000, 3)
        args["waited_in_mailbox_us"] = round(max(task.begun - task.handed, 0) / 1000, 3)
    if task.heard and task.outcome in ("ok", "raised"):
        args["answer_heard_after_us"] = round(max(task.heard - task.ended, 0) / 1000, 3)
    args["argument_bytes"] = task.bytes_out
    if task.outcome in ("ok", "raised"):
        args["result_bytes"] = task.bytes_in
    if task.outcome == "died":
        args["death"] = worker.ending() or "it was told to leave"
    return args


def _load(pool: Pool, at: int, us: Any) -> Iterator[dict[str, Any]]:
    """How many tasks run and wait: a counter, no finer than a picture can show."""
    changes: list[tuple[int, int, int]] = []
    for worker in pool.workers.values():
        for task in worker.tasks:
            changes += [(task.begun, 1, 0), (task.ended, -1, 0)]
            if task.handed:
                changes += [(task.queued, 0, 1), (max(task.begun, task.queued), 0, -1)]
    changes.sort()
    running = waiting = 0
    step = (changes[-1][0] - changes[0][0]) // 4000 if changes else 0
    shown = 0
    for number, (time, more_running, more_waiting) in enumerate(changes):
        running += more_running
        waiting += more_waiting
        if number + 1 == len(changes) or (changes[number + 1][0] > time and time >= shown + step):
            shown = time
            args = {"running": running, "waiting": waiting}
            yield {"ph": "C", "name": "tasks", "pid": at, "tid": 0, "ts": us(time), "args": args}


def write_page(timeline: Timeline, path: str) -> None:
    """Write the timeline as one page that needs nothing else."""
    with open(os.path.join(os.path.dirname(__file__), "_trace_page.html"), encoding="utf-8") as file:
        template = file.read()
    before, after = template.split("/*DATA*/null")
    # A script ends at the first end tag, wherever that stands.
    data = json.dumps(_page(timeline), separators=(",", ":")).replace("<", "\\u003c")
    _write(path, iter((before, data, after)))


def _page(timeline: Timeline) -> dict[str, Any]:
    least = 0
    left_out = 0
    lengths = sorted(task.ended - task.begun for task in timeline.tasks())
    if len(lengths) > _PAGE_TASKS:
        least = lengths[-_PAGE_TASKS]
    names: dict[str, int] = {}
    sums: list[list[int]] = []
    pools = []
    for pool in timeline.pools:
        lanes = []
        for worker in pool.workers.values():
            tasks: list[list[Any]] = []
            for task in worker.tasks:
                ran = task.ended - task.begun
                name = names.setdefault(pool.name(task.name), len(names))
                if name == len(sums):
                    sums.append([0, 0, 0, 0])
                count, total, longest, failed = sums[name]
                failed += task.outcome in ("raised", "died")
                sums[name] = [count + 1, total + ran, max(longest, ran), failed]
                if ran < least:
                    left_out += 1
                    continue
                tasks.append(_page_task(timeline, task, name))
            lanes.append(_page_lane(timeline, worker, tasks))
        pools.append(
            {
                "face": pool.face,
                "pid": pool.pid,
                "size": pool.size,
                "calls": [_page_call(timeline, pool, call) for call in pool.calls.values()],
                "lanes": lanes,
            }
        )
    return {
        "version": _version(),
        "command": timeline.command,
        "length": timeline.end - timeline.begin,
        "dropped": timeline.dropped,
        "left_out": left_out,
        "names": list(names),
        "sums": sums,
        "pools": pools,
    }


def _page_call(timeline: Timeline, pool: Pool, call: Call) -> list[Any]:
    end = call.ended or timeline.end
    name = f"{call.how}({pool.name(call.name)})"
    return [name, call.began - timeline.begin, end - call.began, call.parts, int(call.failed)]


def _page_task(timeline: Timeline, task: Task, name: int) -> list[Any]:
    outcome = ("ok", "raised", "died", "unfinished").index(task.outcome)
    waited = max(task.begun - task.queued, 0) if task.queued else -1
    begun = task.begun - timeline.begin
    return [name, begun, task.ended - task.begun, outcome, waited, task.bytes_out, task.bytes_in, task.serial]


def _page_lane(timeline: Timeline, worker: Worker, tasks: list[list[Any]]) -> dict[str, Any]:
    last = worker.ended or timeline.end
    ran = sum(task.ended - task.begun for task in worker.tasks)
    return {
        "number": worker.number,
        "pid": worker.pid,
        "start": worker.started - timeline.begin,
        "ready": (worker.ready or last) - timeline.begin,
        "end": last - timeline.begin,
        "gone": bool(worker.ended),
        "death": worker.ending(),
        "ran": ran,
        "count": len(worker.tasks),
        "failed": sum(task.outcome in ("raised", "died") for task in worker.tasks),
        "longest": max((task.ended - task.begun for task in worker.tasks), default=0),
        "tasks": tasks,
    }


def _version() -> str:
    from . import __version__

    return __version__


def _write(path: str, parts: Iterator[str]) -> None:
    draft = f"{path}.{os.getpid()}.part"
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.writelines(parts)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
