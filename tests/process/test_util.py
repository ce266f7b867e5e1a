"""Finalizers, the log, the temporary folder, names in log records."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from manyhands import util
from scripts import printed, run


@pytest.fixture
def registry():
    before = util._finalizer_registry.copy()
    util._finalizer_registry.clear()
    yield util._finalizer_registry
    util._finalizer_registry.clear()
    util._finalizer_registry.update(before)


class Thing:
    pass


def test_finalizer_runs_once_when_its_object_goes(registry):
    calls = []
    thing = Thing()
    finalizer = util.Finalize(thing, calls.append, args=(1,))
    assert finalizer.still_active()
    assert "callback=append, args=(1,)" in repr(finalizer)
    del thing
    assert calls == [1]
    assert not finalizer.still_active()
    assert "dead" in repr(finalizer)
    assert finalizer() is None
    assert calls == [1]


def test_finalizers_run_by_priority_and_those_without_one_do_not(registry):
    calls = []
    thing = Thing()
    util.Finalize(thing, calls.append, args=("never",))
    for priority, name in ((0, "a"), (10, "b"), (0, "c"), (-5, "d")):
        util.Finalize(None, calls.append, args=(name,), exitpriority=priority)
    util._run_finalizers(0)
    assert calls == ["b", "c", "a"]
    util._run_finalizers()
    assert calls == ["b", "c", "a", "d"]
    assert not registry


def test_failing_finalizer_does_not_stop_the_others(registry, capsys):
    calls = []
    util.Finalize(None, lambda: 1 / 0, exitpriority=2)
    util.Finalize(None, calls.append, args=(1,), exitpriority=1)
    util._run_finalizers()
    assert calls == [1]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_cancelled_finalizer_never_runs(registry):
    calls = []
    finalizer = util.Finalize(None, calls.append, args=(1,), exitpriority=1)
    finalizer.cancel()
    finalizer.cancel()
    util._run_finalizers()
    assert calls == []


def test_finalizer_needs_something_to_wait_for():
    with pytest.raises(ValueError, match="exitpriority cannot be None"):
        util.Finalize(None, print)
    with pytest.raises(TypeError, match="Exitpriority"):
        util.Finalize(None, print, exitpriority="1")


def test_temporary_folder_goes_at_exit_and_not_with_a_child(method, tmp_path):
    (path,) = printed(
        tmp_path,
        """
        import os, sys
        import manyhands
        from manyhands import util

        if __name__ == "__main__":
            folder = util.get_temp_dir()
            child = manyhands.get_context(sys.argv[1]).Process(target=int)
            child.start()
            child.join()
            assert util.get_temp_dir() == folder and os.path.isdir(folder)
            print(folder)
        """,
        method,
    )
    assert not os.path.exists(path)


def test_lock_is_free_in_a_child(tmp_path):
    assert printed(
        tmp_path,
        """
        import manyhands
        from manyhands import util

        lock, local = util.ForkAwareThreadLock(), util.ForkAwareLocal()
        local.name = "parent"

        def look():
            with lock:
                print(hasattr(local, "name"))

        with lock:
            child = manyhands.get_context("fork").Process(target=look)
            child.start()
            child.join()
        """,
    ) == ["False"]


def test_log_level_and_handler_travel(method, tmp_path):
    done = run(
        tmp_path,
        """
        import logging, sys
        import manyhands

        def f():
            manyhands.get_logger().info("from the child")
            print(manyhands.get_logger().getEffectiveLevel(), flush=True)

        if __name__ == "__main__":
            manyhands.log_to_stderr(logging.INFO)
            child = manyhands.get_context(sys.argv[1]).Process(target=f, name="Anna")
            child.start()
            child.join()
        """,
        method,
    )
    assert done.stdout == "20\n"
    lines = done.stderr.splitlines()
    for line in ("[INFO/Anna] from the child", "[INFO/Anna] child process calling self.run()",
                 "[INFO/Anna] process exiting with exitcode 0", "[INFO/MainProcess] process shutting down"):  # fmt: skip
        assert line in lines


@pytest.mark.parametrize("when", ["early", "late"])
def test_log_records_name_the_process_without_the_standard_library(method, when, tmp_path):
    lines = printed(
        tmp_path,
        """
        import sys
        import manyhands
        if sys.argv[2] == "early":
            import logging

        def f():
            import logging
            logging.basicConfig(format="%(processName)s %(message)s", stream=sys.stdout, force=True)
            logging.warning("multiprocessing" in sys.modules)
            manyhands.current_process().name = "Berta"
            logging.warning("renamed")
            import multiprocessing
            print(multiprocessing.current_process().name, flush=True)
            logging.warning("both")

        if __name__ == "__main__":
            child = manyhands.get_context(sys.argv[1]).Process(target=f, name="Anna")
            child.start()
            child.join()
            import logging
            logging.basicConfig(format="%(processName)s %(message)s", stream=sys.stdout, force=True)
            logging.warning("parent")
        """,
        method,
        when,
    )
    assert lines == ["Anna False", "Berta renamed", "Berta", "Berta both", "MainProcess parent"]


def test_contexts_are_the_standard_librarys_for_who_asks(tmp_path):
    assert printed(
        tmp_path,
        """
        import pickle, sys
        import manyhands
        import manyhands.spawn, manyhands.forkserver, manyhands.reduction

        print("multiprocessing" in sys.modules)
        from multiprocessing.context import BaseContext
        contexts = [manyhands.get_context(name) for name in (None, "fork", "spawn", "forkserver")]
        contexts.append(manyhands.context._default_context)
        print(all(isinstance(context, BaseContext) for context in contexts))
        print(all(isinstance(context, manyhands.context.BaseContext) for context in contexts))
        print(all(pickle.loads(pickle.dumps(context)) is context for context in contexts))
        print(isinstance(3, BaseContext), contexts[2].__class__.__name__)
        """,
    ) == ["False", "True", "True", "True", "False SpawnContext"]


def test_queues_of_the_standard_library_serve_our_processes(method, tmp_path):
    assert printed(
        tmp_path,
        """
        import multiprocessing, sys
        import manyhands

        def f(queue, lock, sender):
            with lock:
                sender.send("through a pipe")
            for n in range(1000):
                queue.put(n)

        if __name__ == "__main__":
            ours, theirs = manyhands.get_context(sys.argv[1]), multiprocessing.get_context(sys.argv[1])
            queue, lock, (receiver, sender) = theirs.Queue(), theirs.Lock(), theirs.Pipe(False)
            child = ours.Process(target=f, args=(queue, lock, sender))
            child.start()
            print(receiver.recv(), sum(queue.get(timeout=20) for _ in range(1000)))
            child.join()
            print(child.exitcode)
        """,
        method,
    ) == ["through a pipe 499500", "0"]


def test_after_forkers_run_in_order_for_what_is_still_there(tmp_path):
    assert printed(
        tmp_path,
        """
        import manyhands
        from manyhands import util

        class Thing:
            pass

        things = [Thing() for _ in range(3)]
        for number, thing in enumerate(things):
            util.register_after_fork(thing, lambda thing, number=number: print(number))
        before = len(util._afterfork_registry)
        del thing, things[1]
        print(before - len(util._afterfork_registry), flush=True)
        child = manyhands.get_context("fork").Process(target=int)
        child.start()
        child.join()
        """,
    ) == ["1", "0", "2"]


def test_a_child_reads_nothing_from_its_parents_stdin(method, tmp_path):
    done = run(
        tmp_path,
        """
        import os, sys
        import manyhands

        def look(generations):
            stdin = sys.stdin
            told = stdin.fileno() == stdin.name, stdin.mode, stdin.encoding, stdin.isatty(), stdin.read()
            print(told, os.readlink(f"/proc/self/fd/{stdin.fileno()}"), flush=True)
            stdin.close()  # nobody else's
            start(generations)

        def start(generations):
            if generations:
                child = context.Process(target=look, args=(generations - 1,))
                child.start()
                child.join()
                assert child.exitcode == 0

        context = manyhands.get_context(sys.argv[1])

        if __name__ == "__main__":
            start(1)
            before = len(os.listdir("/proc/self/fd"))
            start(2)
            assert len(os.listdir("/proc/self/fd")) == before
            print(sys.stdin.read())
        """,
        method,
        input="the parent's",
    )
    child = "(True, 'r', 'utf-8', False, '') /dev/null"
    assert (done.stdout.splitlines(), done.stderr) == ([child] * 3 + ["the parent's"], "")


def test_a_child_is_given_a_stdin_only_where_the_parent_has_one(method, tmp_path):
    assert printed(
        tmp_path,
        """
        import sys
        import manyhands

        def look():
            print(sys.stdin is None, flush=True)

        if __name__ == "__main__":
            sys.stdin = None
            child = manyhands.get_context(sys.argv[1]).Process(target=look)
            child.start()
            child.join()
        """,
        method,
    ) == [str(method == "fork")]


@pytest.mark.parametrize(
    "flags",
    ["", "-O", "-OO -B", "-I", "-E", "-s", "-P", "-S", "-q", "-vv", "-d", "-W ignore -W error::UserWarning", "-b",
     "-bb", "-X dev", "-X utf8 -W ignore", "-I -B -O"],
)  # fmt: skip
def test_a_new_interpreter_has_this_ones_flags(flags, tmp_path):
    folder = os.path.dirname(os.path.dirname(os.path.abspath(util.__file__)))
    program = (
        f"import sys; sys.path.append({folder!r}); from manyhands import util; ours = util._args_from_interpreter_flags();"
        "import subprocess; print(sorted(ours) == sorted(subprocess._args_from_interpreter_flags()), ours)"
    )
    done = subprocess.run([sys.executable, *flags.split(), "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith("True "), done


def test_a_process_needs_no_more_of_the_package_than_it_uses(method, tmp_path):
    (names,) = printed(
        tmp_path,
        """
        import sys

        def look():
            print(*sorted(name for name in sys.modules if name.startswith("manyhands")), flush=True)

        if __name__ == "__main__":
            import manyhands
            assert "manyhands.reduction" not in sys.modules
            context = manyhands.get_context(sys.argv[1])
            child = context.Process(target=look)
            child.start()
            child.join()
            assert manyhands.reducer is manyhands.reduction
        """,
        method,
    )
    if method == "spawn":
        needed = ["_engine", "_install", "_neighbours", "context", "process", "spawn", "util"]
        assert names.split() == ["manyhands", *(f"manyhands.{name}" for name in needed)]
    else:
        assert ("manyhands.reduction" in names) == (method == "forkserver")


def test_a_program_of_one_thread_has_children_without_threading(method, tmp_path):
    lines = printed(
        tmp_path,
        """
        import sys

        def late():
            import functools, threading
            from _functools import partial
            assert functools.partial is partial and functools.lru_cache
            main = threading.main_thread()
            assert main is threading.current_thread() and main.native_id == threading.get_native_id()
            # It goes on when the target is done, so it has to be waited for.
            threading.Thread(target=lambda: main.join(0.1) or print("joined", flush=True)).start()

        def look():
            print(*sorted({"collections", "functools", "threading"} & set(sys.modules)), flush=True)
            late()

        if __name__ == "__main__":
            import manyhands
            print("threading" in sys.modules)
            child = manyhands.get_context(sys.argv[1]).Process(target=look)
            child.start()
            child.join()
            assert child.exitcode == 0
        """,
        method,
    )
    assert lines[::2] == ["False", "joined"]
    if sys.version_info >= (3, 13):  # elsewhere threading imports functools
        assert lines[1] == {"fork": "", "spawn": "", "forkserver": "collections functools"}[method]
