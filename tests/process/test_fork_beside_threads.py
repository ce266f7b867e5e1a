"""Children forked while another thread is inside the engine: whatever it does there, the child is not held up."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyhands import _engine
from scripts import printed


@pytest.mark.parametrize("use", ["put", "apply"])
def test_a_child_forked_in_the_midst_of_a_threads_first_use_can_use_it_too(tmp_path: Path, use: str) -> None:
    """The thread is held up where the engine looks for Python's pickle tables, as late as its first use."""
    assert printed(
        tmp_path,
        """
        import builtins, sys, threading, warnings
        import manyhands, manyhands.pool  # a module that is half imported at a fork would hold up the child, too
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside a thread is what this is about
        context = manyhands.get_context("fork")
        inside, leave = threading.Event(), threading.Event()
        really_import = builtins.__import__

        def slow_import(name, *args, **kwargs):
            if name == "copyreg" and threading.current_thread() is not threading.main_thread():
                inside.set()
                leave.wait()
            return really_import(name, *args, **kwargs)

        def put(queue):
            queue.put(["put"])  # a list: the engine writes simpler things without tables

        def apply(queue):
            with context.Pool(1) as pool:
                queue.put([pool.apply(str, ("apply",))])

        use = globals()[sys.argv[1]]
        by_thread, by_child = context.SimpleQueue(), context.SimpleQueue()
        builtins.__import__ = slow_import
        thread = threading.Thread(target=use, args=(by_thread,))
        thread.start()
        inside.wait()
        child = context.Process(target=use, args=(by_child,))
        child.start()
        child.join(20)
        child.kill()
        child.join()
        leave.set()
        thread.join()
        print(child.exitcode, *by_thread.get(), *("-" if by_child.empty() else by_child.get()))
        """,
        use,
    ) == [f"0 {use} {use}"]


def test_no_lock_of_pyo3s_is_there_for_a_fork_to_catch() -> None:
    """What is dropped without the interpreter PyO3 would keep under a lock. Our builds are without that lock."""
    assert _engine._has_no_reference_pool


def test_what_only_the_threads_of_a_pool_have_is_dropped_all_the_same(tmp_path: Path) -> None:
    """They drop the jobs of results that nobody keeps, and have no interpreter just then."""
    assert printed(
        tmp_path,
        """
        import time, weakref
        import manyhands

        class Call:
            def __call__(self, x):
                return x

        with manyhands.get_context("fork").Pool(1) as pool:
            calls = []
            for i in range(3000):
                call = Call()
                pool.apply_async(call, (i,))
                calls.append(weakref.ref(call))
            del call
            while any(call() for call in calls):  # the limit of the program ends the wait
                time.sleep(0.01)
        print("dropped")
        """,
    ) == ["dropped"]
