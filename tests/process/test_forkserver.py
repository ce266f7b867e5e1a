"""The fork server: one for the family, replaced when it is killed, and gone when the family is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import manyhands
from manyhands import forkserver
from scripts import printed, wait_for_end


def write_parents(path: str) -> None:
    Path(path).write_text(str(os.getppid()))


def write_server_after_starting(path: str, inner: str) -> None:
    child = manyhands.get_context("forkserver").Process(target=write_parents, args=(inner,))
    child.start()
    child.join()
    Path(path).write_text(str(os.getppid()))


@pytest.fixture
def context():
    context = manyhands.get_context("forkserver")
    forkserver.ensure_running()
    yield context
    forkserver._forkserver._stop()


def run(context, target, *args):
    child = context.Process(target=target, args=args)
    child.start()
    child.join()
    return child.exitcode


def test_children_are_forked_by_the_server(context, tmp_path):
    assert run(context, write_parents, str(tmp_path / "said")) == 0
    assert int((tmp_path / "said").read_text()) == forkserver._forkserver._forkserver_pid


def test_grandchildren_come_from_the_same_server(context, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(context, write_server_after_starting, str(one), str(two)) == 0
    assert one.read_text() == two.read_text()


def test_killed_server_is_replaced(context):
    for number in (signal.SIGKILL, signal.SIGTERM):
        before = forkserver._forkserver._forkserver_pid
        os.kill(before, number)
        assert run(context, int) == 0
        assert forkserver._forkserver._forkserver_pid != before


def test_server_survives_ctrl_c(context):
    before = forkserver._forkserver._forkserver_pid
    assert run(context, int) == 0  # it has begun to serve
    os.kill(before, signal.SIGINT)
    assert run(context, int) == 0
    assert forkserver._forkserver._forkserver_pid == before


def test_child_outlives_its_server_and_its_end_is_seen(context):
    child = context.Process(target=time.sleep, args=(60,))
    child.start()
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    child.join(0.2)
    assert child.is_alive()
    child.kill()
    child.join(20)
    assert child.exitcode == 255  # nobody is left who knows it


def test_server_killed_again_and_again_loses_no_process(context, tmp_path):
    for n in range(20):
        child = context.Process(target=write_parents, args=(str(tmp_path / str(n)),))
        if n % 2:
            os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        child.start()
        child.join(20)
        assert child.exitcode == 0
    assert len(list(tmp_path.iterdir())) == 20


def test_preloaded_modules_are_there_in_the_children(tmp_path):
    (tmp_path / "heavy.py").write_text("import os\nprint('loaded once', flush=True)\npid = os.getpid()\n")
    lines = printed(
        tmp_path,
        """
        import os
        import manyhands

        def look():
            import heavy
            print(heavy.pid == os.getppid(), flush=True)

        if __name__ == "__main__":
            context = manyhands.get_context("forkserver")
            context.set_forkserver_preload(["heavy", "no_such_module_anywhere"])
            for _ in range(2):
                child = context.Process(target=look)
                child.start()
                child.join()
        """,
    )
    assert lines == ["loaded once", "True", "True"]


def test_preload_that_fails_is_told_and_costs_nothing(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "program.py").write_text(
        "import manyhands\n"
        "if __name__ == '__main__':\n"
        "    manyhands.set_start_method('forkserver')\n"
        "    manyhands.set_forkserver_preload(['broken'])\n"
        "    child = manyhands.Process(target=print, args=('ran',))\n"
        "    child.start()\n"
        "    child.join()\n"
    )
    done = subprocess.run([sys.executable, str(tmp_path / "program.py")], capture_output=True, text=True, timeout=40)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert done.stderr == "the fork server could not preload broken: ZeroDivisionError: division by zero\n"


@pytest.mark.parametrize("modules", ["os", [1], [b"os"], [None]])
def test_preload_takes_a_list_of_names(modules):
    with pytest.raises(TypeError, match="list of strings"):
        manyhands.set_forkserver_preload(modules)


def test_too_many_descriptors_are_refused(context):
    with pytest.raises(ValueError, match="too many fds"):
        forkserver.connect_to_new_process([0] * 300)
    assert run(context, int) == 0


def test_server_ends_with_its_family(tmp_path):
    (tmp_path / "program.py").write_text(
        "import os, signal\n"
        "from manyhands import forkserver\n"
        "if __name__ == '__main__':\n"
        "    forkserver.ensure_running()\n"
        "    print(forkserver._forkserver._forkserver_pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, str(tmp_path / "program.py")], capture_output=True, text=True, timeout=40)
    wait_for_end(int(done.stdout))


def test_garbage_on_the_request_socket_harms_nobody(context):
    from manyhands import _engine

    _engine.send_fds(forkserver._forkserver._requests, b"x" * forkserver._REQUEST.size, [0, 1])
    before = forkserver._forkserver._forkserver_pid
    assert run(context, int) == 0
    assert forkserver._forkserver._forkserver_pid == before
