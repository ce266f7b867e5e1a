"""Progress bars of maps: what they have shown when the map has ended, however it did."""

from __future__ import annotations

import asyncio
import functools
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import work

import manyhands
from scripts import until

pytest.importorskip("tqdm")


class Screen(io.StringIO):
    """Where a bar is drawn; the last that it has shown of each bar."""

    def last(self) -> str:
        return self.getvalue().replace("\n", "\r").rstrip("\r").rpartition("\r")[2]


@pytest.fixture
def bar() -> dict[str, Any]:
    return {"file": Screen(), "ascii": True, "bar_format": "{desc}{n_fmt}/{total_fmt}"}


def call(pool: Any, name: str, function: Any, items: Any, bar: Any, **options: Any) -> Any:
    answer = getattr(pool, name)(function, items, progress_bar=True, progress_bar_options=bar, **options)
    return answer.get(30) if name.endswith("async") else list(answer)


@pytest.mark.parametrize("name", ["map", "map_async", "imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 7])
def test_every_map_counts_its_items(pool: Any, bar: Any, name: str, chunksize: int) -> None:
    values = call(pool, name, work.square, range(100), bar, chunksize=chunksize)
    assert sorted(values) == [n * n for n in range(100)]
    assert bar["file"].last() == "100/100"


@pytest.mark.parametrize("name", ["starmap", "starmap_async"])
def test_starmaps_count_their_items(pool: Any, bar: Any, name: str) -> None:
    assert call(pool, name, pow, [(n, 2) for n in range(50)], bar) == [n * n for n in range(50)]
    assert bar["file"].last() == "50/50"


def test_options_are_tqdms(pool: Any, bar: Any) -> None:
    pool.map(
        work.square, iter(range(20)), progress_bar=True, progress_bar_options={**bar, "desc": "pages", "total": 40}
    )
    assert bar["file"].last() == "pages20/40"
    assert pool.map(work.square, iter(range(20)), progress_bar=True, progress_bar_options=bar)
    assert bar["file"].last() == "20/?"  # nobody knows how many there are


def test_a_bar_that_is_switched_off_shows_nothing(pool: Any, bar: Any) -> None:
    bar["disable"] = True
    for name in ("map", "map_async", "imap"):
        assert call(pool, name, work.square, range(20), bar) == [n * n for n in range(20)]
    assert bar["file"].getvalue() == ""


def test_the_bar_shows_the_last_item_before_a_pause(pool: Any, bar: Any, tmp_path: Path) -> None:
    """Many come together, then one by itself, then nothing for a while."""
    gates = [tmp_path / f"gate{n}" for n in range(2)]
    function = functools.partial(work.wait_from_two, 50, [str(gate) for gate in gates])
    result = pool.map_async(function, range(52), 1, progress_bar=True, progress_bar_options=bar)
    until(lambda: bar["file"].last() == "50/52")
    gates[0].touch()
    until(lambda: bar["file"].last() == "51/52")
    gates[1].touch()
    result.get(30)
    assert bar["file"].last() == "52/52"


def test_the_bar_moves_while_calls_run(pool: Any, bar: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    result = pool.map_async(
        functools.partial(work.wait_from, 5, str(gate)), range(10), 1, progress_bar=True, progress_bar_options=bar
    )
    until(lambda: bar["file"].last() == "5/10")
    gate.touch()
    result.get(30)
    assert bar["file"].last() == "10/10"


def test_calls_that_fail_count_and_the_bar_is_closed(pool: Any, bar: Any) -> None:
    with pytest.raises(ValueError, match="no [345]"):
        pool.map(work.fail, [3, 4, 5], 1, progress_bar=True, progress_bar_options=bar)
    assert bar["file"].last() == "3/3"
    assert bar["file"].getvalue().endswith("\n")
    values = pool.imap(work.fail, [3, 4], progress_bar=True, progress_bar_options=bar)
    for bad in (3, 4):
        with pytest.raises(ValueError, match=f"no {bad}"):
            next(values)
    with pytest.raises(StopIteration):
        next(values)
    assert bar["file"].last() == "2/2"


def test_an_item_that_is_tried_again_counts_once(context: Any, bar: Any, tmp_path: Path) -> None:
    with context.Pool(2, retries=2) as pool:
        die = functools.partial(work.die_once_at, 3, str(tmp_path / "died"))
        assert pool.map(die, range(20), 1, progress_bar=True, progress_bar_options=bar) == list(range(20))
    assert bar["file"].last() == "20/20"


def test_an_input_that_fails_leaves_the_count_where_it_was(pool: Any, bar: Any) -> None:
    def items() -> Any:
        yield from range(5)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        pool.map(work.square, items(), 1, progress_bar=True, progress_bar_options=bar)
    assert bar["file"].last() == "5/?"


def test_items_that_cannot_be_pickled_count(pool: Any, bar: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        pool.map(work.same, [1, lambda: os.abort, 3, sys.stdout], 1, progress_bar=True, progress_bar_options=bar)
    assert bar["file"].last() == "4/4"


def test_a_reader_that_leaves_closes_the_bar(pool: Any, bar: Any) -> None:
    for _ in pool.imap(work.square, range(100), progress_bar=True, progress_bar_options=bar):
        break
    assert bar["file"].getvalue().endswith("\n")


def test_the_bar_is_there_in_asyncio_too(pool: Any, bar: Any) -> None:
    async def main() -> None:
        assert len(
            [value async for value in pool.imap(work.square, range(9), progress_bar=True, progress_bar_options=bar)]
        )
        assert bar["file"].last() == "9/9"
        await pool.map_async(work.square, range(8), progress_bar=True, progress_bar_options=bar)

    asyncio.run(main())
    until(lambda: bar["file"].last() == "8/8")


def test_threads_have_bars_too(bar: Any) -> None:
    with manyhands.pool.ThreadPool(2) as pool:
        for name in ("map", "map_async", "imap", "imap_unordered"):
            assert sorted(call(pool, name, work.square, range(50), bar, chunksize=3)) == [n * n for n in range(50)]
            assert bar["file"].last() == "50/50"


PROGRAM = """
import sys, time
import manyhands

def slow(n):
    time.sleep(0.01)

if __name__ == "__main__":
    with manyhands.Pool(2) as pool:
        print("ready", flush=True)
        pool.map(slow, range(100_000), 1, progress_bar=True)
"""


def test_ctrl_c_closes_the_bar_and_ends_the_program(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"ready\n"
    drawn = b""
    while not re.search(rb"\| [1-9]\d*/100000", drawn):
        drawn += os.read(process.stderr.fileno(), 4096)
    os.killpg(process.pid, signal.SIGINT)
    drawn += process.stderr.read()
    assert process.wait(30) in (130, -signal.SIGINT)
    process.stdout.close()
    process.stderr.close()
    # The traceback begins on a line of its own, below the bar.
    assert b"\nTraceback (most recent call last)" in drawn
    assert b"100%" not in drawn


def test_bad_options_are_refused_before_anything_is_run(pool: Any, tmp_path: Path) -> None:
    note = str(tmp_path / "note")
    for options, error, text in (
        ({"progress_bar_options": {"desc": "x"}}, ValueError, "give progress_bar=True"),
        (
            {"progress_bar": True, "progress_bar_options": {"dsc": "x"}},
            TypeError,
            "'dsc' is none of tqdm's options.*desc",
        ),
        ({"progress_bar": True, "progress_bar_options": "x"}, TypeError, "must be a dict"),
        ({"progress_bar": "yes"}, TypeError, "must be True or False, not str"),
    ):
        for name in ("map", "starmap", "map_async", "starmap_async", "imap", "imap_unordered"):
            with pytest.raises(error, match=text):
                getattr(pool, name)(work.note, [(note, 1)], **options)
    assert pool.map(work.square, [2]) == [4]
    assert not Path(note).exists()


def test_without_tqdm_it_says_what_to_install(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr("manyhands._progress._options", manyhands.pool._progress._options.__wrapped__)
    with pytest.raises(ImportError, match=r"pip install manyhands\[progress\]"):
        pool.map(work.square, [1], progress_bar=True)
    assert pool.map(work.square, [2]) == [4]
