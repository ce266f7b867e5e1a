"""What a pool says to bad input: a clear exception in the caller, and it goes on."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import work

import manyhands
from manyhands.errors import BrokenPool, RemoteError, TaskExited
from manyhands.pool import MaybeEncodingError, RemoteTraceback


@pytest.fixture(autouse=True)
def _still_usable(pool: Any) -> Any:
    yield
    if pool._state == "RUN":
        assert pool.map(work.square, range(5)) == [0, 1, 4, 9, 16]


def test_an_exception_of_a_task_has_its_traceback_there(pool: Any) -> None:
    with pytest.raises(ValueError, match="no 1") as caught:
        pool.apply(work.fail, (1,))
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in fail" in str(caught.value.__cause__)
    with pytest.raises(KeyError):
        pool.map(work.fail_on_three, range(6), 1)


def test_an_unpicklable_function(pool: Any) -> None:
    for call in (pool.apply, lambda f: pool.map(f, [1]), lambda f: list(pool.imap(f, [1]))):
        with pytest.raises(Exception, match="pickle|local object"):
            call(lambda: None)


def test_an_unpicklable_argument(pool: Any) -> None:
    with pytest.raises(TypeError, match="pickle"):
        pool.apply(work.same, (open(__file__),))  # noqa: SIM115
    with pytest.raises(TypeError, match="pickle"):
        pool.apply_async(work.same, (open(__file__),)).get()  # noqa: SIM115
    results = pool.imap(work.same, [1, open(__file__), 3])  # noqa: SIM115
    assert next(results) == 1
    with pytest.raises(TypeError, match="pickle"):
        next(results)
    assert next(results) == 3


def test_an_unpicklable_result(pool: Any) -> None:
    for _ in range(20):
        with pytest.raises(MaybeEncodingError, match="lambda"):
            pool.apply(work.unpicklable, (1,))


def test_an_argument_or_result_that_refuses_to_be_unpickled(pool: Any) -> None:
    with pytest.raises(RuntimeError, match="refused to be unpickled"):
        pool.apply(work.same, (work.Torn(),))
    with pytest.raises(RuntimeError, match="refused to be unpickled"):
        pool.apply(work.return_torn, (1,))


def test_an_exception_whose_unpickling_raises(pool: Any) -> None:
    with pytest.raises(RemoteError, match=r"Stubborn: one.*could not be unpickled.*second") as caught:
        pool.apply(work.raise_stubborn, (1,))
    assert "in raise_stubborn" in str(caught.value.__cause__)


def test_an_exception_that_cannot_be_pickled_or_shown(pool: Any) -> None:
    with pytest.raises(MaybeEncodingError, match="not for others") as caught:
        pool.apply(work.raise_secretive, (1,))
    assert "in raise_secretive" in str(caught.value.__cause__)


@pytest.mark.parametrize("code", [0, 3, "text", None])
def test_system_exit_in_a_task(pool: Any, code: object) -> None:
    before = set(pool._crew.pids())
    with pytest.raises(TaskExited, match="SystemExit") as caught:
        pool.apply(work.leave, (code,))
    assert isinstance(caught.value.exception, SystemExit)
    assert caught.value.exception.code == code
    assert set(pool._crew.pids()) == before, "the worker goes on"


def test_keyboard_interrupt_in_a_task(pool: Any) -> None:
    with pytest.raises(TaskExited, match="KeyboardInterrupt"):
        pool.apply(work.interrupt, (1,))


def test_an_exception_whose_text_is_no_valid_unicode(pool: Any) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        pool.apply(work.raise_unspeakable, (1,))
    assert caught.value.filename == "\udcff"
    assert "no such file" in str(caught.value.__cause__)


def test_a_child_that_a_task_forks_and_lets_go(pool: Any) -> None:
    assert pool.map(work.fork_and, [("returns", 0)] * 4, 1) == [0] * 4
    assert pool.map(work.fork_and, [("exits", 5)] * 4, 1) == [5] * 4
    assert pool.apply(work.square, (3,)) == 9


def test_a_target_that_is_not_callable(pool: Any) -> None:
    with pytest.raises(TypeError, match="not callable"):
        pool.apply(5)
    with pytest.raises(TypeError, match="not callable"):
        pool.map(5, [1, 2])


def test_an_input_that_is_not_iterable(pool: Any) -> None:
    with pytest.raises(TypeError, match="not iterable"):
        pool.map(work.square, 5)
    with pytest.raises(TypeError, match="not iterable"):
        pool.starmap(pow, [1, 2], 1)


def test_a_chunksize_in_words(pool: Any) -> None:
    for call in (pool.map, lambda *given: pool.map_async(*given).get(30)):
        assert call(work.square, range(100), "auto") == call(work.square, range(100), None)
        with pytest.raises(ValueError, match="an int, \"auto\" or None, not 'all'"):
            call(work.square, range(100), "all")
    assert pool.starmap(pow, [(2, n) for n in range(9)], "auto") == [2**n for n in range(9)]
    for call in (pool.imap, pool.imap_unordered):
        for size in ("auto", None):
            with pytest.raises(TypeError, match="imap's chunksize must be an int"):
                call(work.square, range(100), size)


@pytest.mark.parametrize("size", [0, -1])
def test_a_chunksize_below_one(pool: Any, size: int) -> None:
    for call in (pool.map, pool.imap, pool.imap_unordered, pool.map_async, pool.starmap):
        with pytest.raises(ValueError, match="Chunksize must be 1"):
            call(work.square, [1], size)


def test_a_closed_or_terminated_pool(pool: Any) -> None:
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    for call in (pool.map, pool.imap, pool.imap_unordered, pool.map_async, pool.starmap):
        with pytest.raises(ValueError, match="not running"):
            call(work.square, [1])
    for call in (pool.apply, pool.apply_async):
        with pytest.raises(ValueError, match="not running"):
            call(work.square, (1,))
    pool.terminate()
    with pytest.raises(ValueError, match="not running"):
        pool.apply(work.square, (1,))
    with pytest.raises(ValueError, match="not running"), pool:
        pass


def test_pool_arguments_of_the_wrong_kind(context: Any) -> None:
    for processes in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            context.Pool(processes)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        context.Pool(1, initializer=5)
    for tasks in (0, -1, "many"):
        with pytest.raises(ValueError, match="positive int or None"):
            context.Pool(1, maxtasksperchild=tasks)


def test_an_initializer_that_raises(context: Any, method: str, capfd: pytest.CaptureFixture[str]) -> None:
    with context.Pool(2, initializer=work.broken_initialiser) as pool:
        with pytest.raises(BrokenPool, match="before they could take a task") as caught:
            pool.map(work.square, range(10))
        assert "no such model" in str(caught.value.__cause__)
        with pytest.raises(BrokenPool):
            pool.apply(work.square, (1,))
    if method != "forkserver":  # whose stderr is that of the time when it was started
        assert "no such model" in capfd.readouterr().err


def test_a_missing_main_guard(method: str, tmp_path: Any) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(f"import manyhands\nprint(manyhands.get_context({method!r}).Pool(1).map(abs, [-1]))\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=50)
    if method == "fork":
        assert (done.returncode, done.stdout) == (0, "[1]\n")
    else:
        assert done.returncode == 1
        assert "BrokenPool" in done.stderr and '__name__ == "__main__"' in done.stderr
        assert "finished its bootstrapping phase" in done.stderr


def test_a_pool_does_not_travel(pool: Any) -> None:
    with pytest.raises(NotImplementedError, match="cannot be passed between processes"):
        pool.apply(work.same, (pool,))


def test_a_seat_does_not_travel_on_its_own(pool: Any) -> None:
    with pytest.raises(RuntimeError, match="only handed to the process that is being started"):
        pool.apply(work.same, (manyhands._engine.Seat.from_fds(0, 1, [_fd() for _ in range(6)]),))


def _fd() -> int:
    import os

    return os.open(os.devnull, os.O_RDONLY)
