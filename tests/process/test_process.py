"""Process objects under every start method: what runs, how it ends, what is refused.

Always: a child tells its parent something by its exit code or by a file, because nothing else of this
package is needed here.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

import manyhands
from scripts import descriptors, printed, run


def write(path: str, *words: object) -> None:
    Path(path).write_text(" ".join(map(str, words)))


def append(path: str, word: str) -> None:
    with open(path, "a") as file:
        file.write(word)


def leave(how: object) -> None:
    sys.exit(how)  # type: ignore[arg-type]


def fail() -> None:
    sys.stderr = None  # type: ignore[assignment]
    raise LookupError("nothing there")


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(30)


def leave_hard(code: int) -> None:
    os._exit(code)


def sleep_long() -> None:
    time.sleep(60)


def who(path: str) -> None:
    me, parent = manyhands.current_process(), manyhands.parent_process()
    write(path, me.name, me.pid == os.getpid(), me.daemon, parent.name, parent.pid == me._parent_pid, parent.is_alive())


def start_one_more(path: str, method: str) -> None:
    child = manyhands.get_context(method).Process(target=who, args=(path,))
    child.start()
    child.join()
    sys.exit(child.exitcode)


def start_as_daemon(path: str) -> None:
    try:
        manyhands.Process(target=sleep_long).start()
    except AssertionError as error:
        write(path, error)


def exit_with_helpers(path: str) -> None:
    import atexit

    def late() -> None:
        time.sleep(0.3)
        append(path, "thread ")

    atexit.register(append, path, "atexit ")
    threading.Thread(target=late).start()


def wait_for_parent(path: str, started: str) -> None:
    write(started, "yes")
    parent = manyhands.parent_process()
    parent.join(30)
    write(path, parent.is_alive())


def start_and_be_killed(method: str, path: str, started: str) -> None:
    manyhands.get_context(method).Process(target=wait_for_parent, args=(path, started)).start()
    while not Path(started).exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def say(sock: socket.socket) -> None:
    sock.sendall(b"hello")


def count_descriptors(path: str) -> None:
    write(path, descriptors())


class Given:
    """A target that can be watched by a weak reference, and pickled."""

    def __call__(self, other: Given) -> None:
        pass


class Doubled(manyhands.Process):
    """A subclass of the default context's Process."""

    def __init__(self, path: str, number: int) -> None:
        super().__init__()
        self.path, self.number = path, number

    def run(self) -> None:
        write(self.path, 2 * self.number)


def until(fact, limit: float = 20) -> None:
    """Waits for a fact."""
    deadline = time.monotonic() + limit
    while not fact():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def test_target_runs_with_its_arguments_in_another_process(context, tmp_path):
    path = tmp_path / "said"
    child = context.Process(target=write, args=[str(path), 1], kwargs={}, name="Anna")
    assert (child.pid, child.exitcode, child.is_alive()) == (None, None, False)
    assert "initial" in repr(child)
    child.start()
    assert child.pid != os.getpid()
    child.join()
    assert path.read_text() == "1"
    assert (child.exitcode, child.is_alive(), child.name) == (0, False, "Anna")
    assert child not in manyhands.active_children()
    assert "stopped exitcode=0" in repr(child)


def test_subclass_runs_its_own_method(method, tmp_path):
    manyhands.set_start_method(method, force=True)
    try:
        child = Doubled(str(tmp_path / "said"), 21)
        child.start()
        child.join()
    finally:
        manyhands.set_start_method(None, force=True)
    assert (tmp_path / "said").read_text() == "42"


@pytest.mark.parametrize(("how", "code"), [(None, 0), (0, 0), (3, 3), (True, 1), (False, 0), (256 + 7, 7), (-1, 255)])
def test_exit_codes_are_the_standard_librarys(context, how, code):
    child = context.Process(target=leave, args=(how,))
    child.start()
    child.join()
    assert child.exitcode == code


def test_ends_of_every_kind_have_their_code(context):
    ends = [(fail, (), 1), (leave_hard, (9,), 9), (kill_self, (signal.SIGKILL,), -9), (kill_self, (34,), -34)]
    children = [context.Process(target=target, args=args) for target, args, _ in ends]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [code for *_, code in ends]
    assert "exitcode=-SIGKILL" in repr(children[2])


def test_terminate_kill_and_interrupt_are_their_signals(context):
    children = [context.Process(target=sleep_long) for _ in range(2)]
    for child in children:
        child.start()
    children[0].terminate()
    children[1].kill()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [-signal.SIGTERM, -signal.SIGKILL]
    for child in children:
        child.terminate()  # gone already: nothing happens
        child.kill()


def test_join_with_a_timeout_returns_without_an_answer(context):
    child = context.Process(target=sleep_long, daemon=True)
    child.start()
    for timeout in (0, -1, 0.05):
        child.join(timeout)
        assert child.exitcode is None
        assert child.is_alive()
    assert child in manyhands.active_children()
    with pytest.raises(ValueError, match="still running"):
        child.close()
    child.kill()
    child.join()


def test_sentinel_turns_readable_at_the_end_and_not_before(context):
    child = context.Process(target=sleep_long)
    with pytest.raises(ValueError, match="not started"):
        child.sentinel  # noqa: B018
    child.start()
    assert select.select([child.sentinel], [], [], 0)[0] == []
    child.kill()
    assert select.select([child.sentinel], [], [], 20)[0] == [child.sentinel]
    assert child.exitcode == -signal.SIGKILL


def test_closed_process_refuses_everything_and_is_collected(context):
    child = context.Process(target=leave, args=(0,))
    child.start()
    child.join()
    before = descriptors()
    child.close()
    child.close()
    assert descriptors() < before
    assert "closed" in repr(child)
    for act in (child.is_alive, child.join, child.terminate, child.kill, child.start):
        with pytest.raises(ValueError, match="closed"):
            act()
    reference = weakref.ref(child)
    gc.disable()
    try:
        del child, act
        assert reference() is None
    finally:
        gc.enable()


def test_start_lets_go_of_target_and_arguments(context):
    given = Given()
    reference = weakref.ref(given)
    child = context.Process(target=given, args=(given,))
    del given
    child.start()
    child.join()
    assert child.exitcode == 0
    assert reference() is None


@pytest.mark.parametrize("target", [5, "print", [print], 0, False])
def test_target_that_cannot_be_called_is_refused_at_once(context, target):
    with pytest.raises(TypeError, match="has to be callable"):
        context.Process(target=target)


def test_wrong_order_of_calls_is_refused(context):
    child = context.Process(target=leave, args=(0,))
    with pytest.raises(AssertionError, match="can only join a started process"):
        child.join()
    for act in (child.terminate, child.kill, child.interrupt):
        with pytest.raises(AttributeError, match=r"call .* first"):
            act()
    child.start()
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        child.start()
    with pytest.raises(AssertionError, match="already started"):
        child.daemon = True
    child.join()


def test_process_without_its_initialiser_says_so():
    class Careless(manyhands.Process):
        def __init__(self) -> None:
            pass

    with pytest.raises(RuntimeError, match=r"did not call super\(\)\.__init__"):
        Careless().start()


def test_foreign_process_refuses_to_be_joined(tmp_path):
    lines = printed(
        tmp_path,
        """
        import os, time
        import manyhands

        child = manyhands.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
        child.start()
        if not os.fork():
            for act in (child.join, child.is_alive, manyhands.Process.start.__get__(child)):
                try:
                    act()
                except AssertionError as error:
                    print(error, flush=True)
            print(child.exitcode, "unknown" in repr(child), flush=True)
            child.terminate()
            os._exit(0)
        child.join()
        print(child.exitcode)
        """,
    )
    assert "can only join a child process" in lines[0]
    assert "can only test a child process" in lines[1]
    assert "twice" in lines[2]
    assert lines[3:] == ["None True", "-15"]


def test_child_knows_itself_and_its_parent(context, tmp_path):
    child = context.Process(target=who, args=(str(tmp_path / "said"),), name="Anna", daemon=True)
    child.start()
    child.join()
    assert (tmp_path / "said").read_text() == "Anna True True MainProcess True True"


@pytest.mark.parametrize("inner", ["fork", "spawn", "forkserver"])
def test_child_starts_children_by_every_method(context, inner, tmp_path):
    child = context.Process(target=start_one_more, args=(str(tmp_path / "said"), inner))
    child.start()
    child.join()
    assert child.exitcode == 0
    name, *rest = (tmp_path / "said").read_text().split()
    assert name.endswith(f"Process-{':'.join(map(str, child._identity))}:1")
    assert rest == ["True", "False", child.name, "True", "True"]


def test_daemonic_process_may_not_have_children(context, tmp_path):
    child = context.Process(target=start_as_daemon, args=(str(tmp_path / "said"),), daemon=True)
    child.start()
    child.join()
    assert (tmp_path / "said").read_text() == "daemonic processes are not allowed to have children"


def test_child_joins_its_threads_and_runs_its_exit_functions(context, tmp_path):
    child = context.Process(target=exit_with_helpers, args=(str(tmp_path / "said"),))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert (tmp_path / "said").read_text() == "thread atexit "


def test_child_sees_its_parent_die(context, method, tmp_path):
    said, started = str(tmp_path / "said"), str(tmp_path / "started")
    middle = context.Process(target=start_and_be_killed, args=(method, said, started))
    middle.start()
    middle.join()
    assert middle.exitcode == -signal.SIGKILL
    until(lambda: Path(said).exists() and Path(said).read_text())
    assert Path(said).read_text() == "False"


def test_socket_travels_to_a_child(context):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = context.Process(target=say, args=(theirs,))
        child.start()
        theirs.close()
        ours.settimeout(20)
        assert ours.recv(5) == b"hello"
        child.join()
        assert child.exitcode == 0


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
@pytest.mark.parametrize(
    "unpicklable", [lambda: None, threading.Lock(), (n for n in ())], ids=["lambda", "lock", "generator"]
)
def test_what_cannot_be_sent_is_an_error_in_the_parent_and_leaves_no_child(start, unpicklable):
    context = manyhands.get_context(start)
    before = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    child = context.Process(target=print, args=(unpicklable,))
    with pytest.raises(Exception, match=r"(?i)pickle") as caught:
        child.start()
    assert any("no child was started" in note for note in caught.value.__notes__)
    assert (child.pid, child.exitcode) == (None, None)
    assert Path(f"/proc/self/task/{os.getpid()}/children").read_text() == before
    assert manyhands.context.get_spawning_popen() is None


def test_child_that_cannot_import_its_target_prints_why_and_has_exit_code_1(tmp_path):
    for start in ("spawn", "forkserver"):
        done = run(
            tmp_path,
            """
            import sys, types
            import manyhands

            if __name__ == "__main__":
                module = sys.modules["made_up"] = types.ModuleType("made_up")
                exec("def f(): pass", module.__dict__)
                module.f.__module__ = "made_up"
                child = manyhands.get_context(sys.argv[1]).Process(target=module.f)
                child.start()
                child.join()
                print(child.exitcode)
            """,
            start,
        )
        assert done.stdout == "1\n"
        assert "No module named 'made_up'" in done.stderr


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_missing_guard_is_explained_and_ends(start, tmp_path):
    done = run(
        tmp_path,
        """
        import sys
        import manyhands

        manyhands.set_start_method(sys.argv[1])
        child = manyhands.Process(target=print, args=("never",))
        child.start()
        child.join()
        sys.exit(child.exitcode)
        """,
        start,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("An attempt has been made to start a new process before the") == 1
    assert "RuntimeError" in done.stderr


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_child_interrupted_before_it_runs_ends_quietly(start, tmp_path):
    assert printed(
        tmp_path,
        """
        import os, pathlib, signal, sys, time
        import manyhands

        if __name__ == "__mp_main__":
            pathlib.Path(sys.argv[2]).touch()
            time.sleep(60)
        if __name__ == "__main__":
            child = manyhands.get_context(sys.argv[1]).Process(target=print, args=("never",))
            child.start()
            while not pathlib.Path(sys.argv[2]).exists():
                time.sleep(0.01)
            os.kill(child.pid, signal.SIGINT)
            child.join()
            print(child.exitcode)
        """,
        start,
        str(tmp_path / "imports"),
    ) == ["-2"]


def test_exception_in_a_target_prints_the_name_and_the_traceback(method, tmp_path):
    done = run(
        tmp_path,
        """
        import sys
        import manyhands

        def f():
            raise LookupError("nothing there")

        if __name__ == "__main__":
            for target, args in ((f, ()), (sys.exit, ("a text",))):
                child = manyhands.get_context(sys.argv[1]).Process(target=target, args=args, name="Anna")
                child.start()
                child.join()
                print(child.exitcode)
        """,
        method,
    )
    assert done.stdout == "1\n1\n"
    assert done.stderr.startswith("Process Anna:\nTraceback (most recent call last):\n")
    assert done.stderr.endswith("LookupError: nothing there\na text\n")


def test_unknown_start_method_is_refused_with_the_known_ones():
    for act in (manyhands.get_context, lambda name: manyhands.set_start_method(name, force=True)):
        with pytest.raises(ValueError, match="cannot find context for 'thread': start methods are 'fork', 'spawn', "):
            act("thread")
    with pytest.raises(ValueError, match="concrete context"):
        manyhands.get_context("spawn").set_start_method("fork")


def test_start_method_is_settled_once():
    try:
        manyhands.set_start_method("spawn", force=True)
        with pytest.raises(RuntimeError, match="context has already been set"):
            manyhands.set_start_method("fork")
        assert manyhands.get_start_method() == "spawn"
    finally:
        manyhands.set_start_method(None, force=True)
    assert manyhands.get_start_method(allow_none=True) is None
    assert manyhands.get_all_start_methods()[0] == manyhands.get_start_method()


def test_join_is_interrupted_at_once(tmp_path):
    lines = printed(
        tmp_path,
        """
        import signal, time
        import manyhands

        child = manyhands.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
        child.start()
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        for wait in (child.join, lambda: child.join(50)):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            before = time.monotonic()
            try:
                wait()
            except KeyboardInterrupt:
                print("interrupted", time.monotonic() - before < 10)
        print(child.is_alive())
        """,
    )
    assert lines == ["interrupted True", "interrupted True", "True"]


def test_many_threads_may_wait_for_one_child(tmp_path):
    lines = printed(
        tmp_path,
        """
        import threading, time
        import manyhands

        child = manyhands.get_context("spawn").Process(target=time.sleep, args=(0.5,))
        if __name__ == "__main__":
            child.start()
            codes = []
            def wait():
                child.join()
                codes.append(child.exitcode)
            threads = [threading.Thread(target=wait) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print(codes)
        """,
    )
    assert lines == [str([0] * 8)]


@pytest.mark.timeout(240)
def test_many_processes_leave_no_descriptors(context):
    def round_of(n):
        children = [context.Process(target=leave, args=(0,)) for _ in range(n)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert {child.exitcode for child in children} == {0}

    round_of(2)
    gc.collect()
    before = descriptors()
    round_of(10 if context.get_start_method() == "spawn" else 40)
    gc.collect()
    assert descriptors() == before


def test_children_of_spawn_and_forkserver_get_no_descriptors_of_their_siblings(tmp_path):
    for start in ("spawn", "forkserver"):
        context = manyhands.get_context(start)
        paths = [tmp_path / f"{start}{n}" for n in range(4)]
        sleepers = []
        for path in paths:
            child = context.Process(target=count_descriptors, args=(str(path),))
            sleeper = context.Process(target=sleep_long, daemon=True)
            for each in (child, sleeper):
                each.start()
            sleepers.append(sleeper)
            child.join()
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.join()
        assert len({path.read_text() for path in paths}) == 1


def test_interpreter_that_is_not_there_is_an_error_with_its_path(context, method):
    if method == "fork":
        return
    from manyhands import forkserver, spawn

    forkserver._forkserver._stop()
    before = spawn.get_executable()
    manyhands.set_executable("/no/such/python")
    try:
        child = context.Process(target=leave, args=(0,))
        with pytest.raises(FileNotFoundError, match="/no/such/python"):
            child.start()
        assert child.pid is None
    finally:
        manyhands.set_executable(before)
    child = context.Process(target=leave, args=(0,))
    child.start()
    child.join()
    assert child.exitcode == 0


def test_closed_standard_streams_do_no_harm(method, tmp_path):
    lines = printed(
        tmp_path,
        """
        import io, sys
        import manyhands

        def break_streams():
            sys.stdout.close()
            sys.stderr = None

        if __name__ == "__main__":
            context = manyhands.get_context(sys.argv[1])
            codes, real = [], sys.stdout
            closed = io.StringIO()
            closed.close()
            for stream in (closed, None):
                sys.stdout = stream
                child = context.Process(target=int)
                child.start()
                child.join()
                codes.append(child.exitcode)
            sys.stdout = real
            child = context.Process(target=break_streams)
            child.start()
            child.join()
            print(*codes, child.exitcode)
        """,
        method,
    )
    assert lines == ["0 0 0"]


def test_parents_buffer_is_not_written_twice(tmp_path):
    lines = printed(
        tmp_path,
        """
        import sys
        import manyhands

        sys.stdout.write("once\\n")
        child = manyhands.get_context("fork").Process(target=int)
        child.start()
        child.join()
        """,
    )
    assert lines == ["once"]


def test_large_arguments_reach_the_child(context, tmp_path):
    child = context.Process(target=write, args=(str(tmp_path / "said"), "x" * 3_000_000))
    child.start()
    child.join()
    assert (tmp_path / "said").stat().st_size == 3_000_000


def test_non_daemonic_children_are_joined_and_daemonic_ones_ended_at_exit(method, tmp_path):
    before = time.monotonic()
    lines = printed(
        tmp_path,
        """
        import sys, time
        import manyhands

        def slow():
            time.sleep(0.5)
            print("slow", flush=True)

        if __name__ == "__main__":
            context = manyhands.get_context(sys.argv[1])
            context.Process(target=slow).start()
            context.Process(target=time.sleep, args=(300,), daemon=True).start()
            print("main", flush=True)
        """,
        method,
    )
    assert lines == ["main", "slow"]
    assert time.monotonic() - before < 40
