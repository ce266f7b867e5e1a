"""`breakpoint()` in children: pdb at the program's terminal, one process at a time, and what happens to the call."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import printed, run, until, wait_for_end

DOCS = Path(__file__).parents[2] / "docs" / "recipes.md"
PROGRAM = """
import os, sys
import manyhands

def work(number):
    secret = number * 7
    open(f"{__file__}.{number}", "w").close()
    breakpoint(header=f"number {number}")
    secret += 1
    return secret

def in_process(number):
    print([work(number)], flush=True)

if __name__ == "__main__":
    context = manyhands.get_context(sys.argv[1])
    numbers = [int(number) for number in sys.argv[3:]]
    if sys.argv[2] == "process":
        for number in numbers:
            process = context.Process(target=in_process, args=(number,))
            process.start()
            process.join()
            print("exit code", process.exitcode)
    elif sys.argv[2] == "executor":
        with manyhands.ProcessPoolExecutor(2, mp_context=context) as executor:
            print(list(executor.map(work, numbers)))
    else:
        limit = float(sys.argv[2]) if sys.argv[2] != "pool" else None
        with context.Pool(2, task_timeout=limit, task_grace=0.1) as pool:
            try:
                print(pool.map(work, numbers, chunksize=1))
            except Exception as error:
                print("raised", type(error).__name__)
            print("goes on with", pool.apply(abs, (-5,)))
"""


class Terminal:
    """A terminal with a program in it, and a user who types."""

    def __init__(self) -> None:
        self._user, self._theirs = pty.openpty()
        self.settings = termios.tcgetattr(self._theirs)
        self._seen = ""

    def close(self) -> None:
        os.close(self._user)
        os.close(self._theirs)

    @contextlib.contextmanager
    def running(self, *command: object, folder: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """A program, the first process of a session that has this terminal; it has to end."""
        program = subprocess.Popen(
            list(map(str, command)),
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            cwd=folder,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        with program:
            try:
                yield program
            except BaseException:
                os.killpg(program.pid, signal.SIGKILL)
                raise

    def wait_for(self, pattern: str) -> re.Match[str]:
        """What is shown up to there is done with; the test's own limit ends the wait."""
        while not (found := re.search(pattern, self._seen)):
            self._seen += os.read(self._user, 4096).decode().replace("\r\n", "\n")
        self._seen = self._seen[found.end() :]
        return found

    def type(self, text: str) -> None:
        os.write(self._user, text.encode())

    def prompted(self) -> str:
        """Wait for a prompt; return whose it is."""
        return self.wait_for(r"\(Pdb (\S+)\) ")[1]

    def is_quiet(self) -> bool:
        return not select.select([self._user], [], [], 0)[0]

    def are_settings_back(self) -> bool:
        return termios.tcgetattr(self._theirs) == self.settings


def is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with contextlib.closing(Terminal()) as opened:
        yield opened


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.parametrize("kind", ["pool", "executor", "process"])
def test_child_is_debugged_at_the_terminal(kind: str, method: str, terminal: Terminal, program: Path) -> None:
    with terminal.running(sys.executable, program, method, kind, 6) as running:
        name = terminal.wait_for(r"(\S+), pid \d+:\nnumber 6\n> .*/program.py\([89]\)work\(\)\n")[1]
        assert terminal.prompted() == name
        terminal.type("secret\n")
        terminal.wait_for(r"\b42\b")
        terminal.type("secret = 50\n")
        assert terminal.prompted() == name
        terminal.type("c\n")
        terminal.wait_for(r"\[51\]")
    assert running.returncode == 0
    assert terminal.are_settings_back()


def test_processes_take_turns_and_one_that_steps_keeps_its_turn(method: str, terminal: Terminal, program: Path) -> None:
    with terminal.running(sys.executable, program, method, "pool", 1, 2) as running:
        first = terminal.prompted()
        until(lambda: len(list(program.parent.glob("program.py.*"))) == 2)
        for _ in range(2):
            terminal.type("n\n")
            assert terminal.prompted() == first
        terminal.type("p 'mine', secret // 7\n")
        mine = terminal.wait_for(r"\('mine', (\d)\)")[1]
        assert terminal.prompted() == first
        terminal.type("c\n")
        second = terminal.prompted()
        assert second != first
        terminal.type("p 'mine', secret // 7\n")
        assert {mine, terminal.wait_for(r"\('mine', (\d)\)")[1]} == {"1", "2"}
        terminal.type("c\n")
        terminal.wait_for(r"\[8, 15\]")
    assert running.returncode == 0


def test_stepping_ends_with_the_call(method: str, terminal: Terminal, program: Path) -> None:
    with terminal.running(sys.executable, program, method, "pool", 6):
        terminal.prompted()
        terminal.type("r\n")
        terminal.wait_for("--Return--")
        terminal.prompted()
        terminal.type("n\n")
        terminal.wait_for(r"\[43\]\ngoes on with 5")


@pytest.mark.parametrize("typed", ["q\n", "\x04"], ids=["q", "Ctrl-D"])
def test_quitting_raises_in_the_call_alone(typed: str, method: str, terminal: Terminal, program: Path) -> None:
    with terminal.running(sys.executable, program, method, "pool", 6) as running:
        terminal.prompted()
        terminal.type(typed)
        terminal.wait_for("raised BdbQuit\ngoes on with 5")
    assert running.returncode == 0
    assert terminal.are_settings_back()


@pytest.mark.parametrize("kind", ["pool", "executor", "process"])
def test_interrupt_at_the_prompt_ends_the_program(kind: str, method: str, terminal: Terminal, program: Path) -> None:
    numbers = (
        [1, 2] if kind == "pool" else [1]
    )  # an executor waits for what has begun, so for all that come to a prompt
    with terminal.running(sys.executable, program, method, kind, *numbers) as running:
        pid = int(terminal.wait_for(r"\S+, pid (\d+):")[1])
        terminal.prompted()
        until(lambda: all(is_asleep(pid) and not time.sleep(0.002) for _ in range(4)))
        terminal.type("\x03")
        terminal.wait_for("KeyboardInterrupt")
    assert running.returncode == -signal.SIGINT
    until(terminal.are_settings_back)


def test_worker_killed_at_its_prompt_leaves_the_terminal_to_others(
    method: str, terminal: Terminal, program: Path
) -> None:
    with terminal.running(sys.executable, program, method, "pool", 1, 2):
        pid = int(terminal.wait_for(r"\S+, pid (\d+):")[1])
        first = terminal.prompted()
        until(lambda: not terminal.are_settings_back())  # lines are edited
        os.kill(pid, signal.SIGKILL)
        assert terminal.prompted() != first
        terminal.type("c\n")
        terminal.wait_for("raised WorkerDied\ngoes on with 5")
    until(terminal.are_settings_back)


def test_time_limit_goes_on_at_the_prompt(terminal: Terminal, program: Path) -> None:
    with terminal.running(sys.executable, program, "fork", 1.5, 6):
        terminal.prompted()
        terminal.wait_for("raised (Soft)?TimeLimitExceeded\ngoes on with 5")
    until(terminal.are_settings_back)


def test_workers_at_a_prompt_end_with_their_program(method: str, terminal: Terminal, program: Path) -> None:
    # A shell that stays, as the terminal would hang up if its first process ended.
    with terminal.running("sh", "-c", '"$@"; echo over; read line', "sh", sys.executable, program, method, "pool", 6):
        pid = int(terminal.wait_for(r"\S+, pid (\d+):")[1])
        terminal.prompted()
        terminal.type("import multiprocessing, manyhands; print(f'<{manyhands.parent_process().pid}>')\n")
        os.kill(int(terminal.wait_for(r"<(\d+)>")[1]), signal.SIGKILL)
        terminal.wait_for("over")
        wait_for_end(pid)
        until(terminal.are_settings_back)
        terminal.type("\n")


def test_programs_at_one_terminal_take_turns_and_their_output_goes_where_it_went(
    terminal: Terminal, program: Path
) -> None:
    script = '"$@" 1 >one & "$@" 2 >two; wait'
    command = ["sh", "-c", script, "sh", sys.executable, program, "fork", "process"]
    with terminal.running(*command, folder=program.parent):
        for _ in range(2):
            pid = terminal.wait_for(r"ForkProcess-1, pid (\d+):")[1]
            terminal.prompted()
            terminal.type("os.getpid()\n")
            terminal.wait_for(rf"\n{pid}\n")
            terminal.prompted()
            assert terminal.is_quiet()
            terminal.type("c\n")
    assert [(program.parent / name).read_text() for name in ("one", "two")] == [
        "[8]\nexit code 0\n",
        "[15]\nexit code 0\n",
    ]


def test_terminal_that_is_only_stdin_will_do(terminal: Terminal, program: Path) -> None:
    command = ["setsid", "-w", sys.executable, program, "fork", "pool", 6]
    with terminal.running(*command):
        terminal.prompted()
        terminal.type("c\n")
        terminal.wait_for(r"\[43\]")


def test_without_a_terminal_the_call_raises_and_says_what_to_do(method: str, tmp_path: Path) -> None:
    told = printed_alone(
        tmp_path,
        """
        import sys
        import manyhands

        if __name__ == "__main__":
            with manyhands.get_context(sys.argv[1]).Pool(1) as pool:
                try:
                    pool.apply(breakpoint)
                except RuntimeError as error:
                    print(error)
        """,
        method,
    )
    assert re.fullmatch(
        r"breakpoint\(\) in \w+PoolWorker-1 \(pid \d+\) found no terminal for the debugger: it has none; run the program "
        r"from a terminal, or set PYTHONBREAKPOINT=0 .*",
        told[0],
    )


def test_post_mortem_of_the_documentation_works(terminal: Terminal, tmp_path: Path) -> None:
    recipe = DOCS.read_text().partition("```python\ntry:\n    work(6)\n")[2].partition("```")[0]
    path = tmp_path / "program.py"
    path.write_text(
        "import pdb\nimport manyhands\n\ndef work(number):\n    return number / 0\n\n"
        f"def target():\n    try:\n        work(6)\n{textwrap.indent(recipe, '    ')}\n"
        "if __name__ == '__main__':\n    manyhands.get_context('fork').Pool(1).apply(target)\n    print('went on')\n"
    )
    with terminal.running(sys.executable, path):
        terminal.wait_for(r"return number / 0\n\(Pdb\) ")
        terminal.type("p 'number', number\n")
        terminal.wait_for(r"\('number', 6\)")
        terminal.type("c\n")
        terminal.wait_for("went on")


HOOKS = """
import io, os, sys
import manyhands

def hook(*args, **kwargs):
    return "called", args, kwargs

def set_hook():
    sys.breakpointhook = hook

def script_pdb():
    sys.stdin = io.StringIO("p here * 7\\nc\\n")

def set_environment():
    os.environ["PYTHONBREAKPOINT"] = "0"

def spy():
    print("called by", sys._getframe(1).f_code.co_name, flush=True)

def stop(number):
    return breakpoint(number, two=2)

def stop_plainly():
    here = 6
    breakpoint()
    return "went on"

if __name__ == "__main__":
    method, how = sys.argv[1:]
    if how == "in the program":
        set_hook()
    first = {"in the worker": set_hook, "stdin": script_pdb, "later": set_environment}.get(how)
    with manyhands.get_context(method).Pool(1, first) as pool:
        print(pool.apply(stop, (1,)) if how.startswith("in the") else pool.apply(stop_plainly))
"""


def printed_alone(folder: Path, source: str, *arguments: str, **environment: str) -> list[str]:
    """The lines of a program that has no terminal and ends well."""
    done = run(
        folder, source, *arguments, start_new_session=True, stdin=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_other_hooks_are_left_alone(method: str, tmp_path: Path) -> None:
    if method == "fork":
        assert printed_alone(tmp_path, HOOKS, method, "in the program") == ["('called', (1,), {'two': 2})"]
    assert printed_alone(tmp_path, HOOKS, method, "in the worker") == ["('called', (1,), {'two': 2})"]


def test_environment_comes_first(method: str, tmp_path: Path) -> None:
    assert printed_alone(tmp_path, HOOKS, method, "environment", PYTHONBREAKPOINT="0") == ["went on"]
    lines = printed_alone(tmp_path, HOOKS, method, "environment", PYTHONBREAKPOINT="__main__.spy")
    assert lines == ["called by stop_plainly", "went on"]
    assert printed_alone(tmp_path, HOOKS, method, "later") == ["went on"]


def test_stdin_of_the_users_comes_first(method: str, tmp_path: Path) -> None:
    lines = printed_alone(tmp_path, HOOKS, method, "stdin")
    assert any(line.endswith("42") for line in lines)
    assert lines[-1].endswith("went on")


def test_nothing_is_imported_for_it(method: str, tmp_path: Path) -> None:
    source = """
        import sys
        import manyhands

        def imported():
            return [name for name in ("pdb", "manyhands._debugger") if name in sys.modules]

        if __name__ == "__main__":
            with manyhands.get_context(sys.argv[1]).Pool(1) as pool:
                print(pool.apply(imported))
    """
    assert printed(tmp_path, source, method) == ["[]"]
