"""One measurement, in the process that this is: `python -m benches.one PEER WORKLOAD [METHOD]`.

Prints one line of JSON, {"figures": {...}} or {"error": ...}; with --to FILE writes it there, because a peer may
write to standard output too. By hand it serves `strace -c` and its like.

Always: importing this imports nothing else of ours. Workers that start as new interpreters import the program's main
module again, and what it drags along would be counted as their start.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Measures and says what came out; the exit status is 1 where that is an error."""
    import argparse
    import json
    import warnings
    from pathlib import Path

    from benches.catalogue import load
    from benches.workload import UNNAMED, Wrong

    parser = argparse.ArgumentParser(prog="benches.one", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peer")
    parser.add_argument("workload")
    parser.add_argument("method", nargs="?", default=UNNAMED)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--also", action="append", default=[], metavar="MODULE")
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    # Forking beside threads, and what peers have to say to their own users.
    warnings.simplefilter("ignore")
    peers, workloads = load(options.also)
    named = {one.name: one for one in workloads}
    for kind, name, known in (("peer", options.peer, peers), ("workload", options.workload, named)):
        if name not in known:
            raise SystemExit(f"benches.one: no {kind} is called {name!r}; 'python -m benches --list' names them")
    peer, workload = peers[options.peer], named[options.workload]
    found: dict[str, object]
    try:
        figures = workload.measure(peer, options.method, options.quick)
        if set(figures) != set(workload.figures):
            raise Wrong(f"the workload found {sorted(figures)} and not {sorted(workload.figures)}")
        found = {"figures": figures}
    except Wrong as wrong:
        found = {"error": str(wrong), "wrong": True}
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        sys.excepthook(type(error), error, error.__traceback__)
    line = json.dumps(found) + "\n"
    if options.to:
        options.to.write_text(line)
    else:
        print(line, end="")
    return int("error" in found)


if __name__ == "__main__":
    sys.exit(main())
