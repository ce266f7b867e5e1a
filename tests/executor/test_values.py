"""What calls to an executor give: values, exceptions, and errors for bad input."""

from __future__ import annotations

import concurrent.futures
import gc
import threading
import weakref
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import deeds
import pytest

import manyhands


def test_submit_gives_a_future_of_the_standard_library(executor: Any) -> None:
    future = executor.submit(deeds.square, 7)
    assert isinstance(executor, concurrent.futures.Executor)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result() == 49
    assert (future.done(), future.running(), future.cancelled(), future.exception()) == (True, False, False, None)
    assert future.result(0) == 49
    assert not future.cancel()


def test_arguments_of_any_name_arrive(executor: Any) -> None:
    assert executor.submit(deeds.total, 1, self=2, fn=3).result() == ((1,), {"self": 2, "fn": 3})
    with pytest.raises(TypeError):
        executor.submit(fn=deeds.total)


@pytest.mark.parametrize("function", [pow, int.__pow__, deeds.total])
def test_functions_of_all_kinds_are_called(executor: Any, function: Any) -> None:
    assert executor.submit(function, 2, 5).result() == function(2, 5)


def test_many_futures_come_in_any_order(executor: Any) -> None:
    futures = [executor.submit(deeds.square, x) for x in range(500)]
    assert [future.result() for future in reversed(futures)] == [x * x for x in reversed(range(500))]


@pytest.mark.parametrize("chunksize", [1, 3, 1000])
@pytest.mark.parametrize("buffersize", [None, 1, 4])
def test_map_gives_values_in_order(executor: Any, chunksize: int, buffersize: int | None) -> None:
    options = {"chunksize": chunksize, "buffersize": buffersize}
    assert list(executor.map(deeds.square, range(50), **options)) == [x * x for x in range(50)]
    assert list(executor.map(pow, iter(range(20)), range(30), **options)) == [x**x for x in range(20)]
    assert list(executor.map(deeds.square, [], **options)) == list(executor.map(deeds.square, **options)) == []


def test_map_reads_its_input_at_once(executor: Any) -> None:
    items = list(range(100))
    values = executor.map(deeds.square, items)
    items.clear()
    assert list(values) == [x * x for x in range(100)]


def test_buffersize_bounds_how_far_input_is_drawn(executor: Any) -> None:
    drawn: list[int] = []
    threads = set()

    def items() -> Any:
        for x in range(100):
            drawn.append(x)
            threads.add(threading.get_ident())
            yield x

    values = executor.map(deeds.square, items(), buffersize=3)
    assert len(drawn) == 3
    for taken in range(1, 50):
        next(values)
        assert len(drawn) == 3 + taken
    assert threads == {threading.get_ident()}
    values.close()


def test_buffersize_bears_endless_input(executor: Any) -> None:
    import itertools

    values = executor.map(deeds.square, itertools.count(), buffersize=4, chunksize=2)
    assert [next(values) for _ in range(5)] == [0, 1, 4, 9, 16]
    values.close()


@pytest.mark.parametrize("buffersize", [None, 2])
def test_map_raises_in_the_value_s_place(executor: Any, buffersize: int | None) -> None:
    values = executor.map(deeds.fail_at, range(8), [2] * 8, buffersize=buffersize)
    assert (next(values), next(values)) == (0, 1)
    with pytest.raises(ValueError, match="2"):
        next(values)
    assert list(values) == []


@pytest.mark.parametrize("buffersize", [None, 1])
def test_map_times_out(executor: Any, tmp_path: Path, buffersize: int | None) -> None:
    go = tmp_path / "go"
    values = executor.map(deeds.wait_for, [str(go)], timeout=0.05, buffersize=buffersize)
    with pytest.raises(TimeoutError):
        next(values)
    go.touch()


def test_map_keeps_no_value(executor: Any) -> None:
    for value in executor.map(set, [[1], [2], [3]]):
        found = weakref.ref(value)
        del value
        assert found() is None


def test_a_result_can_be_waited_for_with_a_limit(executor: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    future = executor.submit(deeds.wait_for, str(go))
    with pytest.raises(TimeoutError):
        future.result(0.02)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.exception(0)
    go.touch()
    assert future.result(30) == str(go)


def test_an_exception_has_its_traceback_as_cause(executor: Any) -> None:
    future = executor.submit(deeds.fail, "on purpose")
    with pytest.raises(ValueError, match="on purpose") as caught:
        future.result()
    assert "raise ValueError(message)" in str(caught.value.__cause__)
    assert type(caught.value.__cause__).__name__ == "RemoteTraceback"
    assert future.exception() is caught.value


def test_system_exit_is_an_exception_like_any_other(executor: Any) -> None:
    assert isinstance(executor.submit(deeds.leave, 3).exception(), SystemExit)
    with pytest.raises(SystemExit):
        executor.submit(deeds.leave, 3).result()
    with pytest.raises(SystemExit):
        list(executor.map(deeds.leave, [3]))
    assert executor.submit(deeds.square, 2).result() == 4


def test_what_cannot_be_pickled_is_the_future_s_exception(executor: Any) -> None:
    assert isinstance(executor.submit(deeds.square, lambda: None).exception(), Exception)
    assert isinstance(executor.submit(lambda: None).exception(), Exception)
    error = executor.submit(deeds.a_lambda).exception()
    assert "a_lambda" in str(error)
    assert not isinstance(error, BrokenProcessPool)
    with pytest.raises(Exception, match="<lambda>"):
        list(executor.map(deeds.square, [lambda: None]))
    assert executor.submit(deeds.square, 2).result() == 4


def test_what_cannot_be_unpickled_harms_nobody_else(executor: Any) -> None:
    for future in (
        executor.submit(deeds.square, deeds.Unreadable()),
        executor.submit(deeds.unreadable),
        executor.submit(deeds.be_stubborn),
    ):
        with pytest.raises(BrokenProcessPool, match="could not be unpickled") as caught:
            future.result()
        assert caught.value.__cause__ is not None
    assert executor.submit(deeds.square, 2).result() == 4


def test_a_task_is_let_go_when_it_is_done(executor: Any) -> None:
    class Held:
        def __call__(self) -> None: ...

        def __reduce__(self) -> Any:
            return int, ()

    held = Held()
    found = weakref.ref(held)
    executor.submit(deeds.total, held).result()
    executor.submit(held).exception()
    del held
    gc.collect()
    assert found() is None


def test_a_call_may_use_an_executor_itself(executor: Any) -> None:
    assert list(executor.map(deeds.nested, [2, 3])) == [4, 9]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
        ({"initializer": 5}, TypeError, "initializer must be a callable"),
        ({"max_tasks_per_child": 1.5}, TypeError, "max_tasks_per_child must be an integer"),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1"),
        (
            {"max_tasks_per_child": 1, "mp_context": manyhands.get_context("fork")},
            ValueError,
            "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method",
        ),
    ],
)
def test_bad_arguments_are_refused_as_by_the_standard_library(
    arguments: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        manyhands.ProcessPoolExecutor(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1."),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0"),
        ({"buffersize": 1.5}, TypeError, "buffersize must be an integer or None"),
    ],
)
def test_bad_arguments_of_map_are_refused_at_the_call(arguments: Any, error: type[Exception], message: str) -> None:
    with manyhands.ProcessPoolExecutor(1) as executor, pytest.raises(error, match=message):
        executor.map(deeds.square, [1], **arguments)


def test_contexts_of_the_standard_library_stand_for_ours(method: str) -> None:
    import multiprocessing

    with manyhands.ProcessPoolExecutor(1, multiprocessing.get_context(method)) as executor:
        assert executor._mp_context is manyhands.get_context(method)
        assert executor.submit(deeds.square, 3).result() == 9


def test_defaults_are_those_of_the_standard_library() -> None:
    theirs = concurrent.futures.ProcessPoolExecutor()
    assert manyhands.ProcessPoolExecutor()._max_workers == theirs._max_workers
    assert manyhands.ProcessPoolExecutor(1, max_tasks_per_child=3)._mp_context.get_start_method() == "spawn"
