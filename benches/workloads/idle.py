"""What a pool costs that does nothing, and how far a lazy one runs ahead of a slow consumer.

Always: memory is proportional (PSS), of all processes below this one and of this one's growth; time on a core and
wake-ups are of all of them too, the helper threads of this process included.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from benches.calls import same
from benches.killing import descendants
from benches.peer import Peer
from benches.workload import BYTES, CORE, COUNT, PER_SECOND, WORKERS, Workload, check, check_all, fewer

IDLERS = 8
ITEMS = 1_000_000
TAKEN = 200


def memory(pids: list[int]) -> float:
    """The proportional memory of some processes, in bytes."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it ended
        total += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return total * 1024.0


def activity(pids: list[int]) -> tuple[float, int]:
    """The seconds on a core that some processes have had, and how often their threads went to sleep of themselves."""
    seconds, switches = 0.0, 0
    for pid in pids:
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                status = (task / "status").read_text()
                # Nanoseconds; the ticks of /proc/PID/stat are of 10 ms.
                seconds += int((task / "schedstat").read_text().split()[0]) / 1e9
                switches += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        except OSError:
            continue
    return seconds, switches


def idle(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """A pool of 8 that has worked once and now waits."""
    own = os.getpid()
    before = memory([own])
    with peer.start("pool", method, IDLERS) as crew:
        check_all(crew.map(same, list(range(80))), list(range(80)), "answers")
        time.sleep(0.5)  # what settles after work is not idling
        others = descendants(own)
        used = memory([own, *others]) - before
        # This process last and then first: what looking costs is not in what it sees. And it sleeps before, because
        # what a running thread has had of its core is not told up to the present moment.
        theirs = activity(others)
        time.sleep(0.001)
        mine = activity([own])
        begun = time.monotonic()
        time.sleep(1 if quick else 10)
        lasted = time.monotonic() - begun
        mine_after, theirs_after = activity([own]), activity(others)
    seconds = mine_after[0] + theirs_after[0] - mine[0] - theirs[0]
    switches = mine_after[1] + theirs_after[1] - mine[1] - theirs[1]
    return {
        "memory": used,
        # But for our own sleep.
        "wake-ups": max(switches - 1, 0) / lasted,
        "core": seconds / lasted,
    }


def lazy(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """`imap` over a million items whose consumer takes 200 in 0.2 s: how many more were drawn from the iterator."""
    drawn = 0

    def numbers() -> Iterator[int]:
        nonlocal drawn
        for number in range(fewer(ITEMS, quick)):
            drawn = number + 1
            yield number

    before = memory([os.getpid()])
    with peer.start("pool", method, WORKERS) as crew:
        answers = crew.imap(same, numbers())
        for expected in range(TAKEN):
            check(next(answers), expected, "answer")
            time.sleep(0.001)
        ahead = drawn - TAKEN
        grown = memory([os.getpid()]) - before
    return {"items drawn ahead": ahead, "memory of the parent": max(grown, 0.0)}


WORKLOADS = (
    Workload(
        "lazy imap over 1,000,000 items, slow consumer",
        "lazy",
        lazy,
        {"items drawn ahead": COUNT, "memory of the parent": BYTES},
        ("pool.imap",),
    ),
    Workload(
        "an idle pool of 8",
        "idle",
        idle,
        {"memory": BYTES, "wake-ups": PER_SECOND, "core": CORE},
        ("pool.map",),
    ),
)
