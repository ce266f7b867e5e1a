"""How long it takes to begin: the import, a process, a pool and its first result.

Always: a server or zygote that lives as long as the program has been started before the clock.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

from benches.calls import same
from benches.peer import Peer
from benches.workload import METHODS, SECONDS, WORKERS, Workload, check, check_all, fewer


def imported(peer: Peer, method: str, quick: bool) -> dict[str, float]:
    """The import of the package with its pool, in an interpreter that did nothing else; without its start."""
    program = f"import time; begun = time.perf_counter(); {peer.statement}; print(time.perf_counter() - begun)"

    def once() -> float:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return float(done.stdout)

    once()  # from here on the files are in the system's cache
    return {"": statistics.median(once() for _ in range(fewer(5, quick)))}


def process(memory: int) -> Any:
    """The measure of starting and joining a process, from a parent with so many bytes of touched memory."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        context = peer.context(method)
        ballast = bytearray(b"x") * memory
        for _ in range(2):
            _start_and_join(context)
        times = [_start_and_join(context) for _ in range(fewer(20, quick))]
        check(len(ballast), memory, "ballast")
        return {"": statistics.median(times)}

    return measure


def _start_and_join(context: Any) -> float:
    begun = time.perf_counter()
    child = context.Process(target=same, args=(1,))
    child.start()
    child.join()
    took = time.perf_counter() - begun
    check(child.exitcode, 0, "exit code")
    return took


def life(kind: str) -> Any:
    """The measure of a pool's life, or an executor's: until it is made, until its first result, and how long it takes
    to stop; imports not counted."""

    def measure(peer: Peer, method: str, quick: bool) -> dict[str, float]:
        exec((kind == "executor" and peer.executor_statement) or peer.statement, {})
        if method == "forkserver":
            with peer.start(kind, method, 1) as crew:
                crew.call(same, 0)
        begun = time.perf_counter()
        crew = peer.start(kind, method, WORKERS)
        made = time.perf_counter()
        check(crew.call(same, 1), 1, "answer")
        first = time.perf_counter()
        check_all(crew.map(same, list(range(10))), list(range(10)), "answers")
        stopping = time.perf_counter()
        crew.stop()
        stopped = time.perf_counter()
        return {"first result": first - begun, "made": made - begun, "stop": stopped - stopping}

    return measure


LIFE = {"first result": SECONDS, "made": SECONDS, "stop": SECONDS}
GIB = 1 << 30
WORKLOADS = (
    Workload("import of the package and its pool", "start", imported, {"": SECONDS}, ("pool.map",)),
    Workload("Process, start and join", "start", process(1), {"": SECONDS}, ("Process",), METHODS),
    Workload("Process, start and join, parent of 1 GiB", "start", process(GIB), {"": SECONDS}, ("Process",), METHODS),
    Workload("Pool(2)", "start", life("pool"), LIFE, ("pool.map",), METHODS, smoke=True),
    Workload("executor of 2", "start", life("executor"), LIFE, ("executor.submit",), METHODS),
)
