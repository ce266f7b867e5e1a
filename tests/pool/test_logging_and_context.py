"""What goes along with calls, and what comes back beside values: context variables, log records."""

from __future__ import annotations

import contextvars
import decimal
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import carried
import pytest

import manyhands
from scripts import printed


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What the handler of this program gets."""
    seen: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    handler, level = Keep(), logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.INFO)
    yield seen
    logging.root.removeHandler(handler)
    logging.root.setLevel(level)


# ---- logging ----


def test_records_of_workers_are_handled_here(context: Any, records: list[logging.LogRecord]) -> None:
    with context.Pool(2, forward_logging=True) as pool:
        assert pool.map(carried.say, range(50), 1) == list(range(50))
        pool.close()
        pool.join()
    mine = [record for record in records if record.name == "carried"]
    assert sorted(record.getMessage() for record in mine) == sorted(f"did {n} of many" for n in range(50))
    assert {record.levelno for record in mine} == {logging.INFO}
    assert all(record.processName and "Worker" in record.processName for record in mine)
    assert all(record.process in {record.process for record in mine} for record in mine)


def test_levels_of_this_program_hold_in_workers(context: Any, records: list[logging.LogRecord]) -> None:
    logger = logging.getLogger("carried")
    logger.setLevel(logging.WARNING)
    try:
        with context.Pool(1, forward_logging=True) as pool:
            pool.map(carried.say, range(5))
            pool.apply(carried.warn, ("careful",))
            pool.close()
            pool.join()
    finally:
        logger.setLevel(logging.NOTSET)
    assert [record.getMessage() for record in records if record.name == "carried"] == ["careful"]


def test_tracebacks_and_what_cannot_be_pickled_come_as_text(context: Any, records: list[logging.LogRecord]) -> None:
    with context.Pool(1, forward_logging=True) as pool:
        pool.apply(carried.complain)
        pool.terminate()
        pool.join()
    texts = [record.getMessage() for record in records if record.name == "carried"]
    assert len(texts) == 1
    assert "went wrong with <" in texts[0]
    assert "LookupError: nothing there" in texts[0]
    assert "carried.py" in texts[0]


def test_a_worker_that_is_killed_takes_no_others_records_along(context: Any, records: list[logging.LogRecord]) -> None:
    with context.Pool(2, forward_logging=True) as pool:
        calls = [pool.apply_async(carried.say_and_die_at, (n, 20)) for n in range(60)]
        lost = 0
        for call in calls:
            try:
                call.get(30)
            except manyhands.WorkerDied:
                lost += 1
        pool.close()
        pool.join()
    assert lost == 3
    said = {record.getMessage() for record in records if record.name == "carried"}
    assert {f"did {n} of many" for n in range(60) if n % 20} <= said


def test_a_forked_worker_writes_nothing_by_the_programs_handlers(tmp_path: Path) -> None:
    program = """
        import logging, sys
        import manyhands

        def work(n):
            logging.getLogger("job").warning("did %d", n)

        if __name__ == "__main__":
            logging.basicConfig(stream=sys.stdout, format="%(name)s %(message)s")
            with manyhands.get_context("fork").Pool(2, forward_logging=True) as pool:
                pool.map(work, range(4), 1)
                pool.close()
                pool.join()
    """
    assert sorted(printed(tmp_path, program)) == ["job did 0", "job did 1", "job did 2", "job did 3"]


def test_without_it_nothing_is_forwarded(context: Any, records: list[logging.LogRecord]) -> None:
    with context.Pool(1) as pool:
        pool.apply(carried.warn, ("careful",))
    assert not [record for record in records if record.name == "carried"]


# ---- context variables ----


def test_calls_see_what_their_caller_sees(context: Any) -> None:
    variables = [carried.request, carried.user]
    with context.Pool(2, context_vars=variables) as pool:
        assert pool.apply(carried.see) == ("no request", None)

        def call(name: str) -> list[Any]:
            carried.user.set(name)
            carried.request.set({"of": name})
            calls = [pool.apply_async(carried.see), pool.map_async(carried.see_with, range(3))]
            carried.user.set("somebody else")  # afterwards
            values = [calls[0].get(30), calls[1].get(30), pool.map(carried.see_with, [1])]
            return [*values, list(pool.imap(carried.see_with, [1])), pool.apply(carried.see)]

        answers = {name: contextvars.copy_context().run(call, name) for name in ("ann", "bob")}
        assert pool.apply(carried.see) == ("no request", None)
    for name, (one, several, mapped, streamed, last) in answers.items():
        assert one == ({"of": name}, name)
        assert several == [({"of": name}, name)] * 3
        assert mapped == streamed == [last] == [({"of": name}, "somebody else")]


def test_what_a_call_sets_stays_with_it(context: Any) -> None:
    with context.Pool(1, context_vars=[carried.user]) as pool:
        assert pool.apply(carried.set_and_see, ("carol",)) == "carol"
        assert pool.apply(carried.see) == ("no request", None)


def test_variables_and_logging_that_make_no_sense_are_refused() -> None:
    nameless = contextvars.ContextVar("nameless")  # type: ignore[var-annotated]
    for options, error, text in (
        ({"context_vars": [nameless]}, ValueError, "make it a global variable of a module"),
        ({"context_vars": [decimal.getcontext()]}, TypeError, "must be a list of ContextVar, but has"),
        ({"context_vars": "user"}, TypeError, "must be a list of ContextVar, not str"),
        ({"context_vars": carried.user}, TypeError, "must be a list of ContextVar, not ContextVar"),
        ({"forward_logging": "yes"}, TypeError, "must be True or False, not str"),
    ):
        with pytest.raises(error, match=text):
            manyhands.Pool(1, **options)  # type: ignore[arg-type]


def test_a_value_that_cannot_be_pickled_is_an_error_of_the_call(context: Any) -> None:
    with context.Pool(1, context_vars=[carried.request]) as pool:

        def call() -> None:
            carried.request.set(sys.stdout)
            with pytest.raises(TypeError, match="pickle"):
                pool.apply(carried.see)

        contextvars.copy_context().run(call)
        assert pool.apply(carried.see) == ("no request", None)
