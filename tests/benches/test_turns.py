"""Whose turn it is, and what is not measured again; with a measure that only writes down that it was called."""

from __future__ import annotations

from pathlib import Path

import pytest

from benches.__main__ import rows_of, run
from benches.catalogue import load
from benches.results import Cell, Results, Row
from benches.turns import LONG, Outcome, take

PEERS = ["a", "b", "c"]


def row() -> Row:
    """A row for three peers."""
    return Row("work", "group", None, {"": "s"}, {name: Cell() for name in PEERS})


def test_peers_take_turns_and_each_round_begins_with_the_next() -> None:
    calls: list[str] = []

    def measure(peer: str, _: Row) -> Outcome:
        calls.append(peer)
        return Outcome({"": float(len(calls))})

    one = row()
    for _ in take(one, 4, measure):
        pass
    assert "".join(calls) == "abcbcacababc"
    assert one.peers["a"].values == {"": [1.0, 6.0, 8.0, 10.0]}


def test_what_failed_or_took_long_is_not_measured_again() -> None:
    calls: list[str] = []

    def measure(peer: str, _: Row) -> Outcome:
        calls.append(peer)
        return {
            "a": Outcome({}, "hung", seconds=1.0),
            "b": Outcome({"": 5.0}, seconds=LONG + 1),
            "c": Outcome({"": 1.0}, seconds=LONG - 1),
        }[peer]

    one = row()
    for _ in take(one, 3, measure):
        pass
    assert sorted(calls) == ["a", "b", "c", "c", "c"]
    assert one.peers["a"].error == "hung" and one.median("a", "") is None
    assert one.median("b", "") == 5.0


def test_a_failure_after_good_rounds_leaves_no_figure() -> None:
    outcomes = iter([Outcome({"": 1.0}), Outcome({}, "wrong answer", wrong=True)])
    one = Row("work", "group", None, {"": "s"}, {"a": Cell()})
    for _ in take(one, 2, lambda *_: next(outcomes)):
        pass
    assert one.peers["a"].values == {"": [1.0]}, "what was measured is kept"
    assert one.median("a", "") is None, "but it is no figure"


def test_a_run_cut_short_keeps_what_it_has_measured(tmp_path: Path) -> None:
    outcomes = iter([Outcome({"": 1.5}), Outcome({"": 2.5})])

    def measure(*_: object) -> Outcome:
        try:
            return next(outcomes)
        except StopIteration:
            raise KeyboardInterrupt

    output = tmp_path / "build" / "bench.json"
    versions = dict.fromkeys(PEERS, "1")
    with pytest.raises(KeyboardInterrupt):
        run(Results({"rounds": 5}), [row(), row()], measure, output, versions)
    (kept,) = Results.read(output).rows
    assert [kept.peers[name].values for name in PEERS] == [{"": [1.5]}, {"": [2.5]}, {}]
    assert [path.name for path in output.parent.iterdir()] == ["bench.json"], "a half-written file was left"


def test_every_workload_can_be_measured_against_the_standard_library() -> None:
    peers, workloads = load()
    assert len({workload.name for workload in workloads}) == len(workloads) > 50
    for found in rows_of(workloads, peers):
        assert {"multiprocessing", "concurrent.futures"} & found.peers.keys(), found.title("")
    offered = {name for found in rows_of(workloads, peers) for name in found.peers}
    assert offered == peers.keys(), "a peer that no workload can use"
