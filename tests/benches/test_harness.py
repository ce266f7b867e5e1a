"""The whole harness, as a user runs it: what becomes of peers that lie, hang, die or are not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benches.results import Results

Harness = Callable[..., tuple[subprocess.CompletedProcess[str], Results]]


ROOT = Path(__file__).parents[2]
WORKLOAD = "map, 20,000 small dicts, default chunks"
ONLY = ("--only", "small dicts")


def started(notes: Path, name: str) -> int:
    """How often a fake was started."""
    return notes.read_text().splitlines().count(f"started {name}")


def test_each_value_of_each_round_is_kept(harness: Harness, notes: Path) -> None:
    done, results = harness("--peers", "honest,multiprocessing", "--rounds", "2", *ONLY)
    assert done.returncode == 0, done.stderr
    (row,) = results.rows
    assert (row.workload, row.group, row.method, row.figures) == (WORKLOAD, "bulk", None, {"": "1/s"})
    assert list(row.peers) == ["honest", "multiprocessing"]
    for cell in row.peers.values():
        assert cell.error is None
        assert len(cell.values[""]) == 2 and min(cell.values[""]) > 0
    assert started(notes, "honest") == 2, "not a process for each measurement"
    world = results.world
    assert world["packages"] == {"honest": "1.0", "multiprocessing": world["python"]}
    assert world["rounds"] == 2 and world["quick"] is True and world["cores"] >= 1 and 0 < world["free"] <= 1
    assert world["kernel"] and WORKLOAD in done.stdout and "multiprocessing" in done.stdout


def test_a_wrong_answer_is_an_error_and_never_a_time(harness: Harness) -> None:
    done, results = harness("--peers", "liar,honest,short", "--rounds", "2", *ONLY)
    assert done.returncode == 1
    cells = results.rows[0].peers
    for peer, says in (
        ("liar", "wrong answers at 1999: got"),
        ("short", "wrong number of answers: 1999 instead of 2000"),
    ):
        assert cells[peer].wrong and says in (cells[peer].error or "") and cells[peer].values == {}
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"  {peer} ")]
        assert line.split()[1] == "WRONG", "a figure in the place of an error"
        assert f"FAILED {peer}, {WORKLOAD}: {says}" in done.stdout
    assert len(cells["honest"].values[""]) == 2


def test_a_hanging_peer_costs_one_cell_and_leaves_nothing(harness: Harness, notes: Path) -> None:
    done, results = harness("--peers", "hanger,honest", "--rounds", "2", "--limit", "2", *ONLY)
    assert done.returncode == 0, "others may hang; our run goes on"
    cells = results.rows[0].peers
    assert (cells["hanger"].error or "").startswith("hung")
    assert started(notes, "hanger") == 1, "a peer that hangs is waited for once"
    assert len(cells["honest"].values[""]) == 2
    assert "hung" in done.stdout
    (child,) = [line.split()[1] for line in notes.read_text().splitlines() if line.startswith("child")]
    assert not Path(f"/proc/{child}").exists(), "the hanging peer's child lives on"


def test_a_peer_that_dies_says_how(harness: Harness) -> None:
    done, results = harness("--peers", "crasher,honest", "--rounds", "1", *ONLY)
    assert done.returncode == 0
    assert results.rows[0].peers["crasher"].error == "ended with status 3: the last words of the crasher"
    assert len(results.rows[0].peers["honest"].values[""]) == 1


def test_a_failure_of_ours_fails_the_run(harness: Harness) -> None:
    done, results = harness("--peers", "honest,manyhands", "--rounds", "1", *ONLY, also="broken_ours")
    assert (results.rows[0].peers["manyhands"].error or "").startswith("ended with status 3")
    assert done.returncode == 1


def test_a_peer_that_is_not_installed_costs_a_line(harness: Harness) -> None:
    done, results = harness("--peers", "absent,honest", "--rounds", "1", *ONLY)
    assert done.returncode == 0
    assert "absent is not installed here (a-distribution-that-nobody-has): left out" in done.stderr
    assert list(results.rows[0].peers) == ["honest"]


def test_manyhands_gives_the_right_answers_here(harness: Harness) -> None:
    done, results = harness("--peers", "multiprocessing,manyhands", "--rounds", "1", "--only", "small dicts,with lock")
    assert done.returncode == 0, done.stdout
    assert [len(row.peers["manyhands"].values[""]) for row in results.rows] == [1, 1]
    assert all(row.times_better("manyhands", "multiprocessing", "") for row in results.rows)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--only", ","), "no workload has ',' in its name"),
        (("--only", "no such thing"), "no workload has 'no such thing' in its name"),
        (("--peers", "nobody"), "no peer is called nobody"),
        (("--rounds", "0"), "0 is not a number from 1 on"),
        (("--rounds", "-1"), "-1 is not a number from 1 on"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(arguments: tuple[str, str], says: str) -> None:
    done = subprocess.run([sys.executable, "-m", "benches", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode not in (0, -9) and says in done.stderr
    assert done.stdout == ""
