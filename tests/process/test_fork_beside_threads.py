"""Children forked while another thread is inside the engine: whatever it does there, the child is not held up."""

from __future__ import annotations

from pathlib import Path

import pytest

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
            queue.put("put")

        def apply(queue):
            with context.Pool(1) as pool:
                queue.put(pool.apply(str, ("apply",)))

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
        print(child.exitcode, by_thread.get(), "-" if by_child.empty() else by_child.get())
        """,
        use,
    ) == [f"0 {use} {use}"]
