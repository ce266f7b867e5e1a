"""`manyhands trace`: a timeline of every task, whatever becomes of its worker and of the program."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import os, sys, time
import manyhands

def work(n):
    time.sleep(0.005)
    return bytes(1000)

def fail(n):
    raise ValueError(n)

def die(n):
    time.sleep(0.02)
    os.kill(os.getpid(), 9)

if __name__ == "__main__":
    with manyhands.Pool(2) as pool:
        pool.map(work, range(40), chunksize=2)
        for call in (fail, die):
            try:
                pool.apply(call, (1,))
            except Exception as error:
                print(type(error).__name__)
        print(len(list(pool.imap_unordered(work, range(10)))))
        print(pool.apply(abs, (-3,)))
        pool.close()
        pool.join()
    with manyhands.ProcessPoolExecutor(1) as executor:
        print(executor.submit(work, 1).result() == bytes(1000))
    sys.exit(7)
"""


def trace(folder: Path, *words: object, source: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command in a folder with the program."""
    if source is not None:
        (folder / "program.py").write_text(source)
    command = [sys.executable, "-m", "manyhands", "trace", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)


def load(path: Path) -> dict[str, Any]:
    """A timeline whose structure is as it has to be."""
    timeline = json.loads(path.read_text())
    assert isinstance(timeline, dict)
    events = timeline["traceEvents"]
    last: dict[tuple[int, int], float] = defaultdict(lambda: -1.0)
    ends: dict[tuple[int, int], float] = defaultdict(float)
    threads, processes, used = set(), set(), set()
    calls: dict[tuple[int, str], list[str]] = defaultdict(list)
    for event in events:
        place = event["pid"], event["tid"]
        if event["ph"] == "M":
            (threads if event["name"] == "thread_name" else processes).add(place)
            continue
        assert event["ph"] in "XbeiC"
        assert event["ts"] >= last[place], "in order, lane by lane"
        last[place] = event["ts"]
        if event["ph"] == "X":
            used.add(place)
            assert event["dur"] >= 0
            # One after the other: a worker does one thing at a time (times are rounded to nanoseconds).
            assert event["ts"] >= ends[place] - 0.002
            ends[place] = event["ts"] + event["dur"]
        elif event["ph"] in "be":
            calls[event["pid"], event["id2"]["local"]].append(event["ph"])
    assert all(phases == ["b", "e"] for phases in calls.values()), "every begin has its end"
    assert used <= threads, "every lane has a name"
    assert {pid for pid, _ in used} <= {pid for pid, _ in processes}
    return timeline


def tasks(timeline: dict[str, Any], name: str | None = None) -> list[dict[str, Any]]:
    """The tasks of a timeline, those that call this."""
    found = [event for event in timeline["traceEvents"] if event.get("cat") == "task"]
    return [event for event in found if name in (None, event["name"])]


def test_every_task_is_there_with_what_became_of_it(method: str, tmp_path: Path) -> None:
    done = trace(tmp_path, "--start-method", method, "out.json", "program.py", source=PROGRAM)
    assert done.stdout.split() == ["ValueError", "WorkerDied", "10", "3", "True"]
    assert done.returncode == 7
    assert re.fullmatch(r"manyhands: 2 pools, 4 workers, 34 tasks: out.json\n", done.stderr), done.stderr
    timeline = load(tmp_path / "out.json")
    outcomes = {
        name: [task["args"]["outcome"] for task in tasks(timeline, name)] for name in ("work", "fail", "die", "abs")
    }
    assert outcomes == {"work": ["ok"] * 31, "fail": ["raised"], "die": ["died"], "abs": ["ok"]}
    for task in tasks(timeline, "work"):
        assert task["dur"] >= 5000
        assert task["args"]["result_bytes"] > 1000
        assert task["args"]["waited_for_worker_us"] >= 0
        assert task["args"]["answer_heard_after_us"] >= 0
    [lost] = tasks(timeline, "die")
    assert lost["dur"] >= 20_000
    assert lost["args"]["death"] == "SIGKILL"
    [death] = [event for event in timeline["traceEvents"] if event["name"] == "died: SIGKILL"]
    assert (death["pid"], death["tid"]) == (lost["pid"], lost["tid"])
    names = [event["name"] for event in timeline["traceEvents"] if event["ph"] == "b"]
    assert names == ["map(work)", "imap_unordered(work)"]
    [first, second] = [event["args"]["name"] for event in timeline["traceEvents"] if event["name"] == "process_name"]
    assert first.startswith("Pool of process")
    assert second.startswith("ProcessPoolExecutor of process")
    assert timeline["otherData"]["dropped_events"] == 0


def test_a_program_that_is_killed_leaves_its_timeline(tmp_path: Path) -> None:
    source = """
        import os, manyhands, time
        def rest(path):
            open(path, "w").close()
            time.sleep(600)
        if __name__ == "__main__":
            pool = manyhands.Pool(1)
            pool.apply(abs, (1,))
            pool.apply_async(rest, ("begun",))
            while not os.path.exists("begun"):
                time.sleep(0.01)
            os.kill(os.getpid(), 9)
    """
    import textwrap

    done = trace(tmp_path, "out.json", "program.py", source=textwrap.dedent(source))
    assert done.returncode == 128 + signal.SIGKILL
    timeline = load(tmp_path / "out.json")
    assert [task["args"]["outcome"] for task in tasks(timeline)] == ["ok", "unfinished"]


def test_pools_of_children_are_there_too(tmp_path: Path) -> None:
    source = """
import manyhands

def inner(n):
    with manyhands.ProcessPoolExecutor(1) as executor:
        return executor.submit(abs, n).result()

if __name__ == "__main__":
    with manyhands.ProcessPoolExecutor(1) as executor:
        print(executor.submit(inner, -5).result())
"""
    done = trace(tmp_path, "out.json", "program.py", source=source)
    assert (done.returncode, done.stdout) == (0, "5\n")
    timeline = load(tmp_path / "out.json")
    assert sorted(task["name"] for task in tasks(timeline)) == ["abs", "inner"]
    assert len({task["pid"] for task in tasks(timeline)}) == 2


def test_what_finds_no_room_is_counted_and_the_rest_is_whole(tmp_path: Path) -> None:
    source = """
import manyhands
if __name__ == "__main__":
    with manyhands.Pool(2) as pool:
        pool.map(abs, range(2000), chunksize=1)
        pool.close()
        pool.join()
"""
    done = trace(tmp_path, "--events=1000", "--html", "out.html", "out.json", "program.py", source=source)
    assert done.returncode == 0
    assert "events dropped (--events takes more)" in done.stderr
    timeline = load(tmp_path / "out.json")
    assert timeline["otherData"]["dropped_events"] > 2000
    assert 300 < len(tasks(timeline)) < 1000
    # How workers ended is known all the same.
    assert [event["name"] for event in timeline["traceEvents"] if event["ph"] == "i"] == ["left", "left"]
    data = page(tmp_path / "out.html")
    assert data["dropped"] == timeline["otherData"]["dropped_events"]


def page(path: Path) -> dict[str, Any]:
    """The data of a page, which needs nothing from elsewhere."""
    text = path.read_text()
    assert not re.search(r"(src|href)=|url\(|@import|fetch\(|XMLHttp", text)
    [data] = re.findall(r"const data = (\{.*\});", text)
    loaded = json.loads(data)
    assert isinstance(loaded, dict)
    return loaded


def test_a_page_holds_the_same_and_no_name_ends_its_script(tmp_path: Path) -> None:
    source = """
import manyhands
def odd(n):
    return n
odd.__qualname__ = "</script><b>&"
if __name__ == "__main__":
    import functools
    with manyhands.Pool(1) as pool:
        print(pool.map(functools.partial(abs), range(3), chunksize=3))
        class Odd: pass
        print(pool.apply(functools.partial(abs, -1)))
"""
    done = trace(tmp_path, "out.html", "program.py", "</script>", source=source)
    assert done.returncode == 0, done.stderr
    data = page(tmp_path / "out.html")
    assert data["command"] == "program.py </script>"
    assert (tmp_path / "out.html").read_text().count("</script>") == 1
    assert data["names"] == ["partial(abs)"]
    [pool] = data["pools"]
    [lane] = pool["lanes"]
    assert [task[3] for task in lane["tasks"]] == [0, 0]
    assert pool["calls"][0][0] == "map(partial(abs))"
    assert not list(tmp_path.glob("*.part"))


FORKING = """
import os, manyhands, functools

def late(n):
    return n

if __name__ == "__main__":
    with manyhands.get_context("spawn").Pool(1) as pool:
        print(pool.apply(abs, (-1,)), flush=True)
        pool.imap(abs, range(3))
        if os.fork() == 0:
            # None of these names is known yet.
            for call in (late, functools.partial(late), len):
                try:
                    pool.apply(call, (1,))
                except RuntimeError as error:
                    print(type(error).__name__, flush=True)
            try:
                pool.map(late, [1])
            except RuntimeError as error:
                print(type(error).__name__, flush=True)
            del pool
            os._exit(0)
        print(os.waitpid(-1, 0)[1])
"""


@pytest.mark.parametrize("traced", [False, True])
def test_a_forked_child_touches_neither_page_nor_log(traced: bool, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(FORKING)
    words = ["-m", "manyhands", "trace", "out.json", "program.py"] if traced else ["program.py"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stdout.split() == ["1", *["RuntimeError"] * 4, "0"], done.stderr
    assert done.returncode == 0


def test_a_program_without_pools_gives_an_empty_timeline(tmp_path: Path) -> None:
    done = trace(tmp_path, "out.json", "program.py", source="print('nothing')\n")
    assert (done.returncode, done.stdout) == (0, "nothing\n")
    assert load(tmp_path / "out.json")["traceEvents"] == []


def test_a_module_runs_as_by_run(tmp_path: Path) -> None:
    done = trace(tmp_path, "out.json", "-m", "program", "--flag", source="import sys\nprint(sys.argv[1:])\n")
    assert (done.returncode, done.stdout) == (0, "['--flag']\n")


def test_a_log_that_is_none_is_no_hindrance(tmp_path: Path) -> None:
    source = (
        "import manyhands\nwith manyhands.get_context('fork').Pool(1) as pool:\n    print(pool.apply(abs, (-1,)))\n"
    )
    for place in ("/nowhere", "/proc/self/fd/1", "/dev/null", ""):
        done = subprocess.run(
            [sys.executable, "-c", source],
            env={**os.environ, "MANYHANDS_TRACE": place},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the name of the file is missing"),
        (
            ["program.py"],
            "a file whose name ends in .json (for Perfetto) or .html (for a browser), and 'program.py' does not",
        ),
        (["out.json"], "a program is missing: manyhands trace out.json PROGRAM"),
        (["out.json", "none.py"], "there is no program 'none.py' in "),
        (["nowhere/out.json", "program.py"], "there is no folder "),
        (["--events", "9", "out.json", "program.py"], "--events takes a number from 1000 to 100000000, and not '9'"),
        (["--html"], "--html needs a value"),
        (["--start-method=thread", "out.json", "program.py"], "--start-method takes fork, spawn or forkserver"),
        (["--fast", "out.json", "program.py"], "trace does not know '--fast'; it takes --html OUT.html"),
        (["out.json", "--html", "x.html", "program.py"], "options of trace go before out.json"),
    ],
)
def test_a_wrong_command_line_is_told_what_is_right(words: list[str], said: str, tmp_path: Path) -> None:
    done = trace(tmp_path, *words, source="raise SystemExit(0)\n")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out*"))
