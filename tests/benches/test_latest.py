"""The workloads of asyncio, graphs, joblib and large objects: each notices a wrong answer, and ours gives right ones."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from benches.__main__ import rows_of
from benches.calls import back, keep, look, of_kept
from benches.catalogue import load
from benches.peers import OURS
from benches.results import Results
from benches.workload import Workload
from benches.workloads import awaited, backends, graphs, objects

Harness = Callable[..., tuple[subprocess.CompletedProcess[str], Results]]
GROUPS = {"asyncio": awaited, "graph": graphs, "joblib": backends, "objects": objects}
# Modules that not every environment of the tests has.
LIBRARIES = {"an Arrow table": "pyarrow", "a polars frame": "polars", "Parallel": "joblib"}


def wanted(group: str, *without: str) -> tuple[list[Workload], str]:
    """The workloads of a group but for those with such words in their names, and how they are chosen."""
    found = [one for one in GROUPS[group].WORKLOADS if not any(words in one.name for words in without)]
    # What is before a comma has to tell a workload from all others.
    return found, ",".join(one.name.partition(",")[0] for one in found) if without else group


def missing() -> list[str]:
    """Words in the names of workloads that cannot be run here."""
    return [words for words, module in LIBRARIES.items() if not there(module)]


def there(module: str) -> bool:
    """Whether a module is installed."""
    try:
        __import__(module)
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("group", GROUPS)
def test_each_workload_of_a_group_notices_a_wrong_answer(group: str, harness: Harness) -> None:
    pytest.importorskip("numpy")
    _, workloads = load()
    assert {one.name for one in workloads if one.group == group} == {one.name for one in GROUPS[group].WORKLOADS}
    # With joblib's name, these call the function in their own process.
    found, only = wanted(group, *(missing() if group == "objects" else ()))
    done, results = harness("--peers", "right,wrong", "--rounds", "1", "--only", only, also="latest")
    assert done.returncode == 1
    rows = [row for row in results.rows if row.group == group]
    assert {row.workload for row in rows} == {one.name for one in found}
    for row in rows:
        assert row.peers["right"].error is None, (row.workload, row.peers["right"].error)
        assert all(len(values) == 1 for values in row.peers["right"].values.values())
        assert row.peers["wrong"].wrong, (row.workload, row.peers["wrong"])
        assert row.peers["wrong"].values == {}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.timeout(180)
def test_the_standard_library_and_ours_answer_right(group: str, harness: Harness) -> None:
    pytest.importorskip("numpy")
    found, only = wanted(group, *(missing() if group in ("objects", "joblib") else ()))
    if not found:
        pytest.skip("the libraries of this group are not installed")
    done, results = harness(
        "--peers", "multiprocessing,concurrent.futures,manyhands", "--rounds", "1", "--only", only, also="fakes"
    )
    rows = [row for row in results.rows if row.group == group]
    assert {row.workload for row in rows} == {one.name for one in found}
    assert {name: cell.error for row in rows for name, cell in row.peers.items() if cell.error} == {}
    assert all(row.median(OURS, figure) for row in rows for figure in row.figures)
    assert done.returncode == 0, done.stdout


def test_ours_is_measured_in_each_of_these_workloads() -> None:
    peers, workloads = load()
    rows = [row for row in rows_of(workloads, peers) if row.group in GROUPS]
    assert len(rows) > 20
    for row in rows:
        assert OURS in row.peers and len(row.peers) > 2, row.title("")
    graph = next(row for row in rows if row.workload.startswith("a chain"))
    assert {"ray", "dask", "concurrent.futures"} <= graph.peers.keys()


@pytest.mark.parametrize(("kind", "make"), objects.KINDS.items(), ids=list(objects.KINDS))
def test_each_large_object_has_its_size_and_is_one_of_its_own(kind: str, make: Callable[[int, int], Any]) -> None:
    pytest.importorskip("numpy")
    pytest.importorskip(LIBRARIES.get(kind, "numpy"))
    one, other = make(1 << 20, 1), make(1 << 20, 2)
    size = getattr(one, "nbytes", None) or (one.estimated_size() if hasattr(one, "estimated_size") else len(one))
    assert size == 1 << 20
    assert objects.equal(one, make(1 << 20, 1)) and objects.equal(back(one), one)
    assert not objects.equal(one, other) and look(one) != look(other)
    assert not objects.equal(one, [])


def test_a_new_pool_is_given_the_object_by_its_initializer() -> None:
    keep(lambda value, item: value[item], [5, 6, 7])
    assert [of_kept(item) for item in range(3)] == [5, 6, 7]
    keep(None, None)
