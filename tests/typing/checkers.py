"""Gives the files of users' code beside this one to type checkers: mypy and pyright.

`python tests/typing/checkers.py` prints what is wrong, and fails if something is. Always: all that is asked is asked
of the sources under `python/`, with Python 3.11 in mind.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "python"
ACCEPTED, REJECTED = HERE / "accepted.py", HERE / "rejected.py"


def expected() -> set[tuple[str, int, str]]:
    """(file, line, mypy's code) of every mark in rejected.py."""
    marks = [re.search(r"# wrong: ([a-z-]+)$", line) for line in REJECTED.read_text().splitlines()]
    return {(REJECTED.name, number, mark[1]) for number, mark in enumerate(marks, 1) if mark}


def by_mypy() -> set[tuple[str, int, str]]:
    """(file, line, code) of what `mypy --strict` reports."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [
                sys.executable, "-m", "mypy", "--strict", "--python-version=3.11", f"--config-file={os.devnull}",
                f"--cache-dir={cache}", "--follow-imports=silent", "--no-error-summary", "--hide-error-context",
                str(ACCEPTED), str(REJECTED),
            ],
            capture_output=True, text=True, cwd=HERE, env={**os.environ, "MYPYPATH": str(SOURCES)},
        )  # fmt: skip
    reports = re.findall(r"^(.*?):(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    if done.returncode > 1 or done.stdout.count(": error:") != len(reports):
        raise RuntimeError(f"mypy did not do its work:\n{done.stdout}{done.stderr}")
    return {(Path(file).name, int(line), code) for file, line, code in reports}


def pyright() -> list[str]:
    """The command that runs pyright: basedpyright's build of it, which brings its own node, in pyright's mode."""
    if not find_spec("basedpyright"):
        raise RuntimeError("basedpyright is not installed; make .venv/tools/.ready installs it")
    return [sys.executable, "-m", "basedpyright"]


def by_pyright(command: list[str]) -> set[tuple[str, int]]:
    """(file, line) of what pyright reports."""
    with tempfile.TemporaryDirectory() as folder:
        # Pyright takes files from below its configuration alone.
        for file in (ACCEPTED, REJECTED):
            shutil.copy(file, folder)
        settings = {"extraPaths": [str(SOURCES)], "pythonVersion": "3.11", "typeCheckingMode": "standard"}
        (Path(folder) / "pyrightconfig.json").write_text(json.dumps(settings))
        done = subprocess.run([*command, "--outputjson", "-p", folder], capture_output=True, text=True, cwd=folder)
    try:
        reports = json.loads(done.stdout)["generalDiagnostics"]
    except ValueError:
        raise RuntimeError(f"pyright did not do its work:\n{done.stdout}{done.stderr}") from None
    return {
        (Path(report["file"]).name, report["range"]["start"]["line"] + 1)
        for report in reports
        if report["severity"] == "error"
    }


def differences(found: set, wanted: set) -> list[str]:  # type: ignore[type-arg]
    """What was reported and should not be, and the other way round, a line each."""
    return [
        *(f"{at[0]}:{at[1]}: reported ({', '.join(at[2:]) or 'an error'})" for at in sorted(found - wanted)),
        *(f"{at[0]}:{at[1]}: not reported ({', '.join(at[2:]) or 'an error'})" for at in sorted(wanted - found)),
    ]


def main() -> int:
    """Say what is wrong; the exit status."""
    wanted = expected()
    wrong = [f"mypy: {line}" for line in differences(by_mypy(), wanted)]
    wrong += [f"pyright: {line}" for line in differences(by_pyright(pyright()), {at[:2] for at in wanted})]
    print("\n".join(wrong) if wrong else "users' code: right is accepted, wrong is reported")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
