"""`manyhands top`: what pools are doing, as JSON, as text, and in a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from scripts import until

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import screen_svg

PROGRAM = """
import os, sys, time
import manyhands

def dream_on(path):
    open(path, "w").close()
    time.sleep(600)

def double(n):
    return bytes(n)

def fail(n):
    raise ValueError(n)

if __name__ == "__main__":
    pool = manyhands.get_context(sys.argv[1]).Pool(3)
    pool.map(double, range(100), chunksize=1)
    for call in (fail, lambda: None):
        try:
            pool.apply(fail, (1,))
        except ValueError:
            pass
    try:
        pool.apply(os.kill, (pool.apply(os.getpid), 9))
        pool.apply(os._exit, (3,))
    except Exception as error:
        print(type(error).__name__, flush=True)
    dream = pool.apply_async(dream_on, (sys.argv[2] + "/dreams",))
    dream.get()
"""

POOL_FIELDS = {
    "pid", "program", "face", "state", "age", "size", "launching", "unlisted", "waiting", "queued", "inputs", "handed", "done",
    "raised", "lost", "rate", "mean", "bytes_out", "bytes_in", "bytes_out_rate", "bytes_in_rate", "started", "deaths",
    "last_death", "workers",
}  # fmt: skip
WORKER_FIELDS = {
    "number", "pid", "state", "age", "task", "load", "done", "raised", "rate", "mean", "busy", "bytes_out", "bytes_in", "cpu",
    "memory",
}  # fmt: skip


def top(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command."""
    words = [sys.executable, "-m", "manyhands", "top", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


def look(pid: int, *arguments: object) -> dict[str, Any]:
    """The only pool of a process."""
    done = top("--json", "--pid", pid, "--interval", 0.1, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert set(report) == {"version", "manyhands", "time", "interval", "pools", "unreadable"}
    assert report["version"] == 1
    assert report["unreadable"] == []
    [pool] = report["pools"]
    assert isinstance(pool, dict)
    return pool


@pytest.fixture
def busy(method: str, tmp_path: Path) -> Iterator[int]:
    """A program with a pool of three, one of which sleeps in a task."""
    program = tmp_path / "busy.py"
    program.write_text(PROGRAM)
    with subprocess.Popen([sys.executable, program, method, tmp_path], stdout=subprocess.DEVNULL) as process:
        try:
            until((tmp_path / "dreams").exists)
            yield process.pid
        finally:
            process.kill()


def test_json_has_every_field_and_tells_what_workers_do(busy: int) -> None:
    pool: dict[str, Any] = {}

    def is_settled() -> bool:
        pool.update(look(busy, "--stuck-after", 0.05))
        return sorted(worker["state"] for worker in pool["workers"]) == ["stuck", "waiting", "waiting"]

    until(is_settled)
    assert set(pool) == POOL_FIELDS
    assert (pool["pid"], pool["face"], pool["state"], pool["size"]) == (busy, "Pool", "open", 3)
    assert "busy.py" in pool["program"]
    # A hundred of the map, two that raised, one that told a number; that of the killer was lost or answered.
    assert pool["done"] >= 103
    assert pool["raised"] == 2
    assert pool["bytes_in"] > sum(range(100))
    assert pool["deaths"] in (1, 2)
    assert pool["started"] == 3 + pool["deaths"]
    assert pool["last_death"]["exitcode"] in (-9, 3)
    assert pool["last_death"]["cause"] == "unknown"
    for worker in pool["workers"]:
        assert set(worker) == WORKER_FIELDS
        assert worker["memory"] > 1 << 20
    [dreamer] = [worker for worker in pool["workers"] if worker["state"] == "stuck"]
    assert set(dreamer["task"]) == {"name", "serial", "for"}
    assert dreamer["task"]["name"] == "dream_on"
    assert 0 < dreamer["task"]["for"] < pool["age"]
    assert dreamer["busy"] > 0.9
    assert dreamer["cpu"] < 0.02
    assert all(worker["task"] is None for worker in pool["workers"] if worker is not dreamer)


def test_a_task_that_may_take_long_is_not_called_stuck_before_its_time(busy: int) -> None:
    states = [worker["state"] for worker in look(busy, "--stuck-after", 3600)["workers"]]
    assert "running" in states
    assert "stuck" not in states


@pytest.mark.parametrize("method", ["fork"])
def test_a_stopped_worker_is_called_so(busy: int) -> None:
    idle = next(worker["pid"] for worker in look(busy)["workers"] if worker["task"] is None)
    os.kill(idle, signal.SIGSTOP)
    try:
        until(lambda: "stopped" in [worker["state"] for worker in look(busy)["workers"] if worker["pid"] == idle])
    finally:
        os.kill(idle, signal.SIGCONT)
    until(lambda: "waiting" in [worker["state"] for worker in look(busy)["workers"] if worker["pid"] == idle])


@pytest.mark.parametrize("method", ["fork"])
def test_what_is_no_terminal_gets_plain_text_once(busy: int) -> None:
    for arguments in ((), ("--once",)):
        done = top("--pid", busy, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout
        assert "dream_on" in done.stdout
        assert "STATE" in done.stdout
    narrow = top("--pid", busy, COLUMNS="50").stdout
    assert max(map(len, narrow.splitlines())) <= 50
    assert "dream_on" in narrow


def test_a_process_without_pools_and_a_reader_that_leaves_are_no_errors() -> None:
    done = top("--pid", os.getpid())
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Process {os.getpid()} has no pool now." in done.stdout
    command = f"{sys.executable} -m manyhands top --once | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("method", ["fork"])
def test_a_pool_that_ends_or_is_killed_is_shown_no_more(busy: int) -> None:
    assert look(busy)
    os.kill(busy, signal.SIGKILL)
    until(lambda: f'"pid":{busy},' not in top("--json").stdout)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--interval", "0"], "--interval takes seconds, 0.1 to 3600, and not '0'"),
        (["--interval=nan"], "--interval takes seconds"),
        (["--interval"], "--interval needs a value"),
        (["--stuck-after", "x"], "--stuck-after takes seconds, 0 to 3600, and not 'x'"),
        (["--pid", "x"], "--pid takes the number of a process, and not 'x'"),
        (["--pid", "4194304"], "there is no process 4194304"),
        (["--fast"], "top does not know '--fast'; it takes --once"),
    ],
)
def test_a_wrong_option_is_named_with_what_it_takes(words: list[str], said: str) -> None:
    done = top(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_memory_that_only_has_the_name_of_a_page_harms_nobody() -> None:
    made = []
    try:
        for sealed, content in ((True, b"nonsense" * 40_000), (True, b"short"), (False, b"")):
            fd = os.memfd_create("manyhands-stats", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            made.append(fd)
            os.write(fd, content)
            if sealed:
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        done = top("--json", "--pid", os.getpid())
        report = json.loads(done.stdout)
        assert report["pools"] == []
        assert [entry["pid"] for entry in report["unreadable"]] == [os.getpid()] * 2
        assert f"The pool of process {os.getpid()} cannot be looked at" in top("--pid", os.getpid()).stdout
    finally:
        for fd in made:
            os.close(fd)


# ---- in a terminal ----


class Screen:
    """A terminal with the command in it."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        self.parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, b"\x28\0\x78\0\0\0\0\0")  # 40 lines of 120
        self.before = termios.tcgetattr(child)
        words = [sys.executable, "-m", "manyhands", "top", *map(str, arguments)]
        known = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        self.process = subprocess.Popen(
            words, stdin=child, stdout=child, stderr=child, env={**known, "TERM": "xterm-256color", **environment}
        )
        self.child = child
        self.written = ""

    def shows(self, claim: Callable[[str], bool]) -> None:
        """Waits until the terminal shows something that is as claimed."""
        while not claim(self.text()):
            if select.select([self.parent], [], [], 0.05)[0]:
                self.written += os.read(self.parent, 65536).decode(errors="replace")

    def text(self) -> str:
        """What it shows now."""
        cells = screen_svg.screen(self.written, 120, 40)
        return "\n".join("".join(cell[0] for cell in row).rstrip() for row in cells)

    def press(self, keys: str) -> None:
        """Types."""
        os.write(self.parent, keys.encode())

    def end(self) -> int:
        """Waits for the command's end; the terminal has to be as it was."""
        while self.process.poll() is None:
            if select.select([self.parent], [], [], 0.05)[0]:
                self.written += os.read(self.parent, 65536).decode(errors="replace")
        while select.select([self.parent], [], [], 0)[0]:
            self.written += os.read(self.parent, 65536).decode(errors="replace")
        assert termios.tcgetattr(self.child) == self.before
        assert "\x1b[?1049l" in self.written, "it leaves the alternate screen"
        return self.process.returncode

    def close(self) -> None:
        """Ends what is left."""
        self.process.kill()
        self.process.wait()
        os.close(self.parent)
        os.close(self.child)


@pytest.fixture
def screen() -> Iterator[Callable[..., Screen]]:
    """Makes terminals."""
    made: list[Screen] = []

    def make(*arguments: object, **environment: str) -> Screen:
        made.append(Screen(*arguments, **environment))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_the_terminal_shows_pools_answers_keys_and_is_given_back(busy: int, screen: Callable[..., Screen]) -> None:
    shown = screen("--pid", busy, "--interval", 0.2, "--stuck-after", 0.3)
    shown.shows(lambda text: "dream_on" in text and "stuck" in text and "MEM" in text)
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", shown.written), "it has colours"
    shown.press("?")
    shown.shows(lambda text: "Help" in text)
    shown.press("?s")
    shown.shows(lambda text: "Help" not in text and "sort: longest running" in text)
    shown.press("p")
    shown.shows(lambda text: "PAUSED" in text)
    shown.press("q")
    assert shown.end() == 0


@pytest.mark.parametrize("method", ["fork"])
def test_no_color_means_no_colour_and_a_pool_may_end_while_it_is_shown(
    busy: int, screen: Callable[..., Screen]
) -> None:
    shown = screen("--pid", busy, "--interval", 0.1, NO_COLOR="1")
    shown.shows(lambda text: "dream_on" in text)
    # Foregrounds of 30 to 37, 90 to 97 and 38;…: none, but 39, which is the terminal's own.
    assert not re.search(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|9[0-7])[;m]", shown.written)
    os.kill(busy, signal.SIGKILL)
    shown.shows(lambda text: f"Process {busy} has no pool now." in text and "dream_on" not in text)
    shown.press("\x03")
    assert shown.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_who_is_asked_to_end_gives_the_terminal_back(number: int, screen: Callable[..., Screen]) -> None:
    shown = screen("--pid", os.getpid())
    shown.shows(lambda text: "has no pool now" in text)
    shown.process.send_signal(number)
    assert shown.end() == 128 + number


def test_a_film_draws_a_line_anew_when_it_changes() -> None:
    written = [
        (0.1, "\x1b[1;1Hsame\x1b[2;1Hone"),
        (1.0, "\x1b[2;1H\x1b[31mtwo"),
        (2.0, "\x1b[2;1H\x1b[0m\x1b[2;1Hone"),
        (2.01, "!"),
    ]
    frames = screen_svg._frames(written, 0.5, 10, 3)
    assert [round(since, 3) for since, _ in frames] == [0, 0.5, 1.51]
    film = ElementTree.fromstring(screen_svg._svg(frames, 2.0, "top"))
    lines = ["".join(element.itertext()).strip() for element in film.iter("{http://www.w3.org/2000/svg}text")]
    assert lines == ["top", "same", "one", "two", "one!"]
    moves = list(film.iter("{http://www.w3.org/2000/svg}animate"))
    assert [move.get("values") for move in moves] == [
        "visible;hidden",
        "hidden;visible;hidden",
        "hidden;visible;hidden",
    ]
    assert [move.get("keyTimes") for move in moves] == ["0.0000;0.2500", "0.0000;0.2500;0.7550", "0.0000;0.7550;1.0000"]
    still = ElementTree.fromstring(screen_svg._svg(frames[:1], 1, "top"))
    assert not list(still.iter("{http://www.w3.org/2000/svg}animate"))
