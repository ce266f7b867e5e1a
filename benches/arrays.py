"""How long large objects take to a worker and back, type by type: `python -m benches.arrays`.

Each figure is the median of several calls, made in turns with the other packages and types, each of these in a fresh process
with a pool of one worker (spawn). An object is 64 MiB; "to": it is the argument and its length the result; "back": the
worker makes one object beforehand and returns it. The receiver looks at nothing of it, so what is not copied costs nothing.

  python -m benches.arrays [--rounds N] [--only bytes,numpy] [--also NAME=FOLDER]

--also measures another build of manyhands, which is in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

__all__: list[str] = []

SIZE = 64 << 20  # bytes
CALLS = 5


def _numpy() -> Any:
    import numpy

    return numpy.ones(SIZE // 8)


def _strided() -> Any:
    import numpy

    return numpy.ones(SIZE // 4)[::2]


def _times() -> Any:
    return _numpy().astype("M8[s]")


def _array() -> Any:
    import array

    return array.array("d", bytes(SIZE))


def _arrow() -> Any:
    import pyarrow

    return pyarrow.table({"x": _numpy()})


def _arrow_slice() -> Any:
    return _arrow().slice(1000, SIZE // 80)


def _pandas() -> Any:
    import numpy
    import pandas

    return pandas.DataFrame({name: numpy.ones(SIZE // 32) for name in "abcd"})


def _polars() -> Any:
    import polars
    import pyarrow  # noqa: F401  (with it, columns are sent as they are)

    return polars.DataFrame({"x": _numpy()})


def _torch() -> Any:
    import torch

    return torch.ones(SIZE // 8, dtype=torch.float64)


KINDS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: bytes(SIZE),
    "bytearray": lambda: bytearray(SIZE),
    "array.array": _array,
    "numpy array": _numpy,
    "numpy, every second item": _strided,
    "numpy, datetime64": _times,
    "pyarrow table": _arrow,
    "pyarrow, a tenth of it": _arrow_slice,
    "pandas frame": _pandas,
    "polars frame": _polars,
    "torch tensor": _torch,
}

_made: Any = None


def length(value: Any) -> int:
    return len(value)


def keep(kind: str) -> None:
    global _made
    _made = KINDS[kind]()


def kept() -> Any:
    return _made


def measure(package: str, kind: str) -> dict[str, float]:
    """Milliseconds of a call to a worker, and of one back."""
    import importlib

    module = importlib.import_module(package)
    value = KINDS[kind]()
    took: dict[str, list[float]] = {"to": [], "back": []}
    with module.get_context("spawn").Pool(1) as pool:
        pool.apply(keep, (kind,))
        for call in range(CALLS + 1):
            begun = time.perf_counter()
            assert pool.apply(length, (value,)) == len(value)
            between = time.perf_counter()
            back = pool.apply(kept)
            ended = time.perf_counter()
            assert len(back) == len(value)
            del back
            if call:  # the first one warms up
                took["to"].append(between - begun)
                took["back"].append(ended - between)
    return {way: 1000 * statistics.median(times) for way, times in took.items()}


def main() -> int:
    """Measures all kinds in turn and prints a table."""
    parser = argparse.ArgumentParser(prog="benches.arrays", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--one", nargs=2, metavar=("PACKAGE", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return 0
    builds = {"multiprocessing": "", **dict(also.split("=", 1) for also in options.also), "manyhands": ""}
    kinds = [kind for kind in KINDS if any(word in kind for word in options.only.split(","))]
    found: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(options.rounds):
        for kind in kinds:
            for build, folder in builds.items():
                package = "multiprocessing" if build == "multiprocessing" else "manyhands"
                path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
                command = [sys.executable, "-W", "ignore", "-m", "benches.arrays", "--one", package, kind]
                done = subprocess.run(
                    command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300
                )
                if done.returncode:
                    print(f"{build}, {kind}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                    continue
                for way, figure in json.loads(done.stdout).items():
                    found.setdefault((build, kind, way), []).append(figure)
    print("| ms for 64 MiB |", " | ".join(f"{build}, {way}" for build in builds for way in ("to", "back")), "|")
    print("|---" * (1 + 2 * len(builds)) + "|")
    for kind in kinds:
        cells = [found.get((build, kind, way)) for build in builds for way in ("to", "back")]
        print(f"| {kind} |", " | ".join(f"{statistics.median(cell):.1f}" if cell else "–" for cell in cells), "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
