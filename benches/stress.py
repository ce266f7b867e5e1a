"""One command for all kills: random moments and named points, every kind of victim and start method.

    stress.py --kills 10000 [--seed N] [--points PYTHON] [--method METHOD]

Shares so many kills out to `stress_kill.py` (workers), `stress_shared.py` (holders of locks and their like, producers,
consumers) and `stress_family.py` (fork server, manager, clients, parents, programs); with a Python that has the wheel with
crash points (`make stress` builds one) also to `stress_points.py`. Prints how many were killed, by victim and method. The
seed decides what follows it: whom, which tasks, the pauses; the moments themselves are the machine's.
Fails if a part does: it has hung, found something wrong or lost, or left something behind; and if fewer were killed.
"""

from __future__ import annotations

import argparse
import collections
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from stress_family import KINDS as FAMILY
from stress_shared import KINDS as SHARED
from stress_shared import METHODS

# Of a hundred kills at random moments: of workers, of what is shared, of families. A new worker takes least.
SHARE = {"stress_kill.py": 50, "stress_shared.py": 45, "stress_family.py": 5}
# Spawning takes ten times what forking does.
WEIGHT = {"fork": 6, "spawn": 1, "forkserver": 3}
PROGRESS = re.compile(r"  (\w+): (\d+) of \d+ kills")
LINE = re.compile(r"ok (\w+)(?: (\w+))?: (\d+) (?:kills|workers)")


def shares(kills: int, methods: list[str]) -> list[tuple[str, str, int]]:
    """The parts: a program, a start method, and how many kills `--kills` asks of it for each kind that it knows."""
    parts = []
    total = sum(WEIGHT[method] for method in methods)
    for method in methods:
        ours = kills * WEIGHT[method] / total
        for program, share in SHARE.items():
            kinds = {"stress_kill.py": 1, "stress_shared.py": len(SHARED), "stress_family.py": len(FAMILY)}[program]
            parts.append((program, method, max(int(ours * share / 100 / kinds), 5)))
    return parts


def do(python: str, program: str, arguments: list[str], killed: collections.Counter[tuple[str, str]]) -> bool:
    """Runs a part; whether all was right."""
    command = [python, "-W", "ignore", str(Path(__file__).parent / program), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as part:
        assert part.stdout is not None
        try:
            listen(part.stdout, killed)
        except KeyboardInterrupt:
            part.terminate()
            raise
    return part.returncode == 0


def listen(lines: Iterable[str], killed: collections.Counter[tuple[str, str]]) -> None:
    """Passes on what a part says and counts its kills; of one that is cut short those that it has told of."""
    so_far: tuple[tuple[str, str], int] | None = None
    try:
        for line in lines:
            if found := PROGRESS.match(line):
                so_far = ("workers", found[1]), int(found[2])
            if not line.startswith(("at ", "reached ", "stress", "  ")):
                print(line, end="", flush=True)
            if found := LINE.match(line):
                method, kind, number = found.groups()
                what = "named points, " + str(kind) if "named points" in line else str(kind or "workers")
                killed[what, method] += int(number)
                so_far = None
    except KeyboardInterrupt:
        if so_far is not None:
            killed[so_far[0]] += so_far[1]
        raise


def main() -> int:
    """Runs all of it and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10_000, help="in all")
    parser.add_argument("--method", default="all", choices=[*METHODS, "all"])
    parser.add_argument("--seed", type=int, default=None, help="replays a run (default: a new one, printed)")
    parser.add_argument("--points", help="a Python with the wheel that has crash points")
    parser.add_argument("--points-method", choices=METHODS, help="named points for this start method alone")
    parser.add_argument("--points-only", action="append", default=[], help="named points for this kind of victim alone")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 20) if options.seed is None else options.seed
    methods = list(METHODS) if options.method == "all" else [options.method]
    replay = f"--kills {options.kills} --seed {seed}"
    print(f"stress: {options.kills:,} kills, seed {seed}, Python {sys.version.split()[0]}", flush=True)
    # Whoever ends it early is told how far it came.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    wrong: list[str] = []
    killed: collections.Counter[tuple[str, str]] = collections.Counter()
    try:
        everything(options, methods, seed, killed, wrong)
    except KeyboardInterrupt:
        print("cut short", flush=True)
    print(f"\n{'killed':<26}" + "".join(f"{method:>12}" for method in methods))
    for what in dict.fromkeys(what for what, _ in killed):
        print(f"{what:<26}" + "".join(f"{killed[what, method]:>12,}" for method in methods))
    total = killed.total()
    print(
        f"{total:,} kills in {time.monotonic() - began:.0f} s, seed {seed}; parts that failed: "
        f"{', '.join(wrong) or 'none'}; again: {replay}"
    )
    return 1 if wrong or total < options.kills else 0


def everything(
    options: argparse.Namespace,
    methods: list[str],
    seed: int,
    killed: collections.Counter[tuple[str, str]],
    wrong: list[str],
) -> None:
    """All parts; notes which of them failed."""
    if options.points:
        for method in [options.points_method] if options.points_method else methods:
            arguments = ["--method", method, "--seed", str(seed), "--kills", "1"]
            arguments += [word for kind in options.points_only for word in ("--only", kind)]
            if not do(options.points, "stress_points.py", arguments, killed):
                wrong.append(f"stress_points.py, {method}")
    left = max(options.kills - killed.total(), 0)
    parts = shares(left, methods)
    parts.sort(key=lambda part: part[0] == "stress_kill.py")
    for program, method, kills in parts:
        if program == "stress_kill.py":
            # Workers make up for what others had to round, or did twice over.
            fair = [one for one in parts if one[0] == program]
            rest = options.kills - killed.total()
            weight = sum(WEIGHT[one[1]] for one in fair[fair.index((program, method, kills)) :])
            kills = max(-(-rest * WEIGHT[method] // weight), 5)
        arguments = ["--method", method, "--seed", str(seed), "--kills", str(kills)]
        if not do(sys.executable, program, arguments, killed):
            wrong.append(f"{program}, {method}")


if __name__ == "__main__":
    sys.exit(main())
