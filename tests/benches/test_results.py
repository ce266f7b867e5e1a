"""The arithmetic of medians and ratios, and what is made of them: tables, the README's lines, the file."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from benches import page, tables
from benches.results import Cell, Results, Row

FIGURES = Path(__file__).parents[2] / "tools" / "figures.py"


def timed(**medians: list[float]) -> Row:
    """A row of times; names with an underscore stand for a dot."""
    return Row("work", "pool", "fork", {"": "s"}, {n.replace("_", "."): Cell({"": v}) for n, v in medians.items()})


def test_less_time_is_better_and_a_higher_rate_is_better() -> None:
    times = timed(multiprocessing=[4.0, 2.0, 9.0], manyhands=[1.0, 2.0, 0.5])
    assert times.median("multiprocessing", "") == 4.0
    assert times.times_better("manyhands", "multiprocessing", "") == 4.0
    rates = Row("work", "pool", None, {"": "1/s"}, {"a": Cell({"": [300.0]}), "b": Cell({"": [100.0]})})
    assert rates.times_better("a", "b", "") == 3.0
    assert rates.times_better("b", "a", "") == 1 / 3


def test_the_standard_library_is_the_pool_or_where_there_is_none_the_executor() -> None:
    assert timed(multiprocessing=[1.0], concurrent_futures=[1.0]).baseline("") == "multiprocessing"
    assert timed(concurrent_futures=[1.0], loky=[2.0]).baseline("") == "concurrent.futures"
    assert timed(loky=[2.0]).baseline("") is None
    failed = timed(multiprocessing=[1.0], concurrent_futures=[1.0])
    failed.peers["multiprocessing"].error = "hung"
    assert failed.baseline("") == "concurrent.futures"


def test_the_best_other_is_never_ours() -> None:
    row = timed(multiprocessing=[4.0], manyhands=[1.0], loky=[2.0], ray=[3.0])
    assert row.best_other("") == "loky"
    assert row.times_better("manyhands", "loky", "") == 2.0
    row.figures = {"": "1/s"}
    assert row.best_other("") == "multiprocessing"
    assert row.times_better("manyhands", "multiprocessing", "") == 0.25


def test_what_is_zero_has_no_ratio() -> None:
    row = Row("lazy", "lazy", None, {"": "count"}, {"a": Cell({"": [0.0]}), "b": Cell({"": [5.0]})})
    assert row.times_better("a", "b", "") is None and row.times_better("b", "a", "") is None


def test_a_table_is_ranked_and_names_what_we_do_not_have() -> None:
    text = tables.of_row(
        timed(multiprocessing=[0.004], loky=[0.001, 0.002, 0.004]), ["multiprocessing", "manyhands", "loky"], 3
    )
    title, _, first, second, ours = text.strip().splitlines()
    assert title == "work by fork"
    assert first.split() == ["loky", "2", "ms", "2", "1", "ms..4", "ms"]
    assert second.split() == ["multiprocessing", "4", "ms", "1", "4", "ms..4", "ms", "(1", "of", "3", "rounds)"]
    assert ours.split() == ["manyhands", "not", "there", "yet"]


def test_a_row_says_how_ours_stands_to_the_best_other() -> None:
    text = tables.of_row(timed(multiprocessing=[4.0], manyhands=[2.0], loky=[1.0]), ["multiprocessing"], 1)
    assert text.splitlines()[-1] == "  manyhands / best other (loky): 0.5 times as good"


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    row = timed(multiprocessing=[1.0, 2.0], loky=[3.0])
    row.peers["ray"] = Cell(error="hung (more than 2 s)", seconds=2.0)
    results = Results({"python": "3.13.0", "rounds": 2}, [row])
    results.write(tmp_path / "bench.json")
    assert Results.read(tmp_path / "bench.json") == results
    assert json.loads((tmp_path / "bench.json").read_text())["rows"][0]["peers"]["loky"]["values"] == {"": [3.0]}


def test_the_readme_shows_rates_as_the_time_of_a_call() -> None:
    spec = importlib.util.spec_from_file_location("figures", FIGURES)
    assert spec and spec.loader
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    rate = {
        "workload": "map",
        "method": None,
        "figures": {"": "1/s"},
        "peers": {"multiprocessing": {"values": {"": [1e5]}}, "manyhands": {"values": {"": [9e5, 1e6, 2e6]}}},
    }
    start = {
        "workload": "Pool(2)",
        "method": "spawn",
        "figures": {"first result": "s", "made": "s", "stop": "s"},
        "peers": {
            "multiprocessing": {"values": {"first result": [0.2]}},
            "manyhands": {"values": {"first result": [0.1]}},
        },
    }
    assert list(figures.compared([rate, start])) == [
        ["map, a call", "10 µs", "1 µs", "10.0"],
        ["Pool(2) by spawn: first result", "200 ms", "100 ms", "2.0"],
    ]


def test_a_page_has_a_line_for_each_figure_and_a_column_for_each_number_of_workers(tmp_path: Path) -> None:
    world = {"python": "3.13", "kernel": "6", "cores": 2, "rounds": 3, "quick": False, "free": 1.0, "packages": {}}
    row = timed(multiprocessing=[0.004], manyhands=[0.001], loky=[0.002], ray=[0.003])
    points = [
        Row("waits", "scale", "fork", {"": "1/s"}, {"manyhands": Cell({"": [100.0 * n]})}, curve="waiting", workers=n)
        for n in (1, 2)
    ]
    (tmp_path / "bench-pool.svg").touch()
    text = page.page([Results(world, [row, *points])], tmp_path)
    assert "| work by fork | 1 ms (1 ms..1 ms" in text
    assert "| 4 | loky | 2 ms" in text and "| 2 |\n" in text
    assert "| waiting: workers | 1 | 2 |" in text and "| manyhands | 100 /s | 200 /s |" in text
    assert "(pictures/bench-pool.svg)" in text and "bench-scale" not in text


def test_a_group_that_was_not_measured_again_stays_on_the_page(tmp_path: Path) -> None:
    def results(group: str, python: str, rate: float) -> Results:
        world = {"python": python, "kernel": "6", "cores": 2, "rounds": 3, "quick": False, "free": 1.0, "packages": {}}
        return Results(world, [Row("ints", group, None, {"": "1/s"}, {"manyhands": Cell({"": [rate] * 3})})])

    first = page.page([results("channels", "3.11", 1000.0), results("pool", "3.11", 2000.0)], tmp_path)
    assert page.page([], tmp_path, first) == first
    second = page.page([results("channels", "3.13", 3000.0)], tmp_path, first)
    channels, pool = page.read(second)["channels"], page.read(second)["pool"]
    assert "CPython 3.13" in channels[0] and "3 k/s" in channels[1]
    assert pool == page.read(first)["pool"]
    assert "1 k/s" not in second


@pytest.mark.parametrize(
    ("change", "said"),
    [({"quick": True}, "quick run"), ({"rounds": 2}, "3 rounds or more"), ({"free": 0.5}, "busy machine")],
)
def test_a_page_of_figures_that_tell_nothing_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = tmp_path / "bench.json"
    Results({"rounds": 5, "quick": False, "free": 1.0} | change).write(path)
    with pytest.raises(SystemExit, match=said):
        page.load(path)


def test_a_page_of_a_busy_machine_says_so(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    world = {"python": "3.13", "kernel": "6", "cores": 2, "rounds": 3, "quick": False, "free": 0.5, "packages": {}}
    row = Row("ints", "graph", None, {"": "1/s"}, {"manyhands": Cell({"": [5.0] * 3})})
    Results(world, [row]).write(path)
    text = page.page([page.load(path, busy=True)], tmp_path)
    assert "THIS MACHINE IS BUSY: plain loops get 0.50 of its cores" in text
    assert "BUSY" in page.read(text)["graph"][0], "it stays with the group"


def test_a_page_of_nothing_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run 'make bench' first"):
        page.load(tmp_path / "bench.json")
