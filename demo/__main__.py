"""`make demo`: what threads and processes do, measured on real input.

Parses every source file of the installed Python's standard library, then asks a slow server many
questions, each four ways; checks that the four agree, and prints what each way took and cost.
Then the same for the Rust face, by the program `demo` of examples/rust.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jobs
from table import Progress, seconds, size, table

HERE = Path(__file__).parent
HEADINGS = ["way", "median", "fastest..slowest", "speed-up", "cores busy", "start", "one call", "memory", "moved"]
LEGEND = """
  median      time for the whole job, the middle one of {rounds} interleaved rounds, each in a fresh process
  speed-up    how many times faster than the plain loop
  cores busy  processor time used, divided by the time that passed
  start       from asking for the workers to the first answer of one of them
  one call    one empty call there and back, the middle one of 300
  memory      held by the program and its workers together when the last answer came
  moved       bytes of arguments and results that went from process to process"""


def label(way: str, workers: int) -> str:
    """What a way is called in the table."""
    return {
        "plain": "plain loop",
        "threads": f"{workers} threads",
        "stdlib": f"{workers} processes, stdlib Pool",
        "manyhands": f"{workers} processes, manyhands",
    }[way]


def measure(way: str, job: str, items: list[Any], workers: int, method: str | None, tell: Any) -> dict[str, Any]:
    """Runs `measure.py` and returns what it found; `tell(count)` hears of its progress."""
    command = [sys.executable, "-W", "ignore", str(HERE / "measure.py"), way, job, str(workers)]
    if method:
        command += ["--start-method", method]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        json.dump(items, child.stdin)
        child.stdin.close()
        found: dict[str, Any] | None = None
        for line in child.stdout:
            if line.startswith("progress "):
                tell(int(line.split()[1]))
            elif line.startswith("{"):
                found = json.loads(line)
    if found is None or child.returncode:
        raise SystemExit(f"demo: {job} by {way} ended with status {child.returncode}; its messages are above")
    return found


def compare(job: str, items: list[Any], workers: int, options: argparse.Namespace, noun: str) -> dict[str, Any]:
    """Runs the job all four ways, round by round; returns the measurements of each way."""
    progress, found = Progress(), {way: [] for way in ("plain", "threads", "stdlib", "manyhands")}
    for number in range(1, options.rounds + 1):
        for way in found:
            where = f"round {number} of {options.rounds} · {label(way, workers)}"
            progress.show(where, milestone=True)
            found[way].append(
                measure(
                    way,
                    job,
                    items,
                    workers,
                    options.start_method,
                    lambda done, where=where: progress.show(f"{where} · {done:,} of {len(items):,} {noun}"),
                )
            )
    progress.clear()
    digests = {way: {one["digest"] for one in measured} for way, measured in found.items()}
    if len(set().union(*digests.values())) != 1:
        raise SystemExit(f"demo: the four ways do not agree on {job}: {digests}")
    return found


def report(job: str, found: dict[str, Any], workers: int, options: argparse.Namespace) -> None:
    """Prints the table of one job, and leaves it in build/ for the README (`tools/figures.py`)."""

    def middle(way: str, what: str) -> float:
        return statistics.median(one[what] for one in found[way])

    rows = []
    for way, measured in found.items():
        times = sorted(one["seconds"] for one in measured)
        processes = way in ("stdlib", "manyhands")
        rows.append(
            [
                label(way, workers),
                seconds(statistics.median(times)),
                f"{seconds(times[0])}..{seconds(times[-1])}",
                f"{middle('plain', 'seconds') / statistics.median(times):.2f} x",
                f"{middle(way, 'busy'):.2f}",
                "-" if way == "plain" else seconds(middle(way, "start")),
                seconds(middle(way, "call")),
                size(middle(way, "memory")),
                size(middle(way, "moved")) if processes else "nothing",
            ]
        )
    print(table(HEADINGS, rows))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        world = {
            "python": platform.python_version(),
            "kernel": platform.release(),
            "cores": len(os.sched_getaffinity(0)),
            "rounds": options.rounds,
            "quick": options.every > 1,
            "cores of the plain loop": middle("plain", "busy"),
        }
        text = json.dumps({"world": world, "headings": HEADINGS, "rows": rows}, indent=2, ensure_ascii=False)
        (options.output / f"demo-{job}.json").write_text(text + "\n")


def parse_job(options: argparse.Namespace) -> None:
    """The job that computes."""
    files = jobs.standard_library()[:: options.every]
    # Reading them here also brings them into the kernel's cache, so that no way pays for the disk.
    total = sum(len(Path(path).read_bytes()) for path in files)
    workers = options.workers
    print(
        f"1. Work for the processor: parse {len(files):,} source files ({size(total)}) of the standard library of "
        f"Python {platform.python_version()} with ast, count definitions and nodes; {workers} workers."
    )
    found = compare("parse", files, workers, options, "files")
    one = found["plain"][0]
    print(
        f"   All four ways agree, file by file: {one['definitions']:,} definitions, {one['nodes']:,} nodes; "
        f"{one['unparsed']} files do not parse (the tests of the standard library keep some broken on purpose).\n"
    )
    report("parse", found, workers, options)
    print(LEGEND.format(rounds=options.rounds))
    plain, threads, mine = (
        statistics.median(o["seconds"] for o in found[w]) for w in ("plain", "threads", "manyhands")
    )
    busy = {way: statistics.median(one["busy"] for one in found[way]) for way in found}
    if busy["plain"] < 0.9:
        print(f"""
  Careful: other programs kept this machine busy, so that even the plain loop had only {busy["plain"]:.2f} of a core.
  For figures that mean something run this again on a machine with {workers} free cores.""")
    print(f"""
  So: {workers} threads kept {busy["threads"]:.1f} cores busy and took {threads / plain:.2f} times as long as the plain loop,
  because CPython's global interpreter lock lets one thread at a time run Python code. {workers} processes have
  an interpreter each, kept {busy["manyhands"]:.1f} cores busy and took {mine / plain:.2f} times as long; they pay with memory,
  with a start, and with every byte of argument and result that is pickled and moved.""")


@contextmanager
def slow_server(delay: float) -> Iterator[int]:
    """A server process that answers after `delay` seconds; gives its port."""
    command = [sys.executable, str(HERE / "server.py"), str(delay)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.communicate()


def wait_job(options: argparse.Namespace) -> None:
    """The job that waits."""
    workers, count, delay = options.waiters, options.questions, 0.02
    print(
        f"\n2. Waiting: ask a server on this machine {count} questions, each answered after {delay * 1000:.0f} ms; "
        f"{workers} workers."
    )
    with slow_server(delay) as port:
        found = compare("wait", [(port, number) for number in range(count)], workers, options, "answers")
    print("   All four ways got the same answers.\n")
    report("wait", found, workers, options)
    took = {way: statistics.median(one["seconds"] for one in found[way]) for way in found}
    held = {way: statistics.median(one["memory"] for one in found[way]) for way in found}
    print(f"""
  So: who waits needs no processor, and a waiting thread lets go of the interpreter lock: {workers} threads were
  {took["plain"] / took["threads"]:.1f} times as fast as the loop, {workers} processes {took["plain"] / took["manyhands"]:.1f} times, \
with {held["manyhands"] / held["threads"]:.1f} times the threads' memory.
  Threads for waiting, processes for computing.""")


def main() -> None:
    """Runs both jobs, then the Rust face."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each way runs (default 3)")
    parser.add_argument("--workers", type=int, default=max(2, cores), help="for the parsing job (default: one a core)")
    parser.add_argument("--waiters", type=int, default=16, help="workers for the waiting job (default 16)")
    parser.add_argument("--questions", type=int, default=240, help="for the waiting job (default 240)")
    parser.add_argument("--every", type=int, default=1, help="take every n-th file only")
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"], help="default: the interpreter's")
    parser.add_argument("--output", type=Path, help="a folder for the tables as JSON")
    parser.add_argument("--rust", help="the Rust demo program, to run at the end")
    options = parser.parse_args()
    print(
        f"manyhands, its demo: {platform.python_implementation()} {platform.python_version()}, {cores} cores, "
        f"{platform.system()} {platform.release()}\n"
    )
    parse_job(options)
    wait_job(options)
    if options.rust:
        print(flush=True)
        done = subprocess.run(
            [
                options.rust,
                "--rounds",
                str(options.rounds),
                "--workers",
                str(options.workers),
                "--waiters",
                str(options.waiters),
                "--questions",
                str(options.questions),
                "--every",
                str(options.every),
                sysconfig.get_path("stdlib"),
            ]
        )
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ndemo: interrupted") from None
