"""The four ways to run a job: a plain loop, threads, the standard library's Pool, manyhands' Pool.

Each is a context manager that gives a `Crew`. Always: the two pools are called in exactly the same
way, with the interpreter's own default start method unless one is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, NamedTuple


class Crew(NamedTuple):
    """What a way offers: run a function over items in any order, or call it once."""

    spread: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
    call: Callable[[Callable[[Any], Any], Any], Any]


@contextmanager
def plain(_workers: int, _method: str | None) -> Iterator[Crew]:
    """One after the other, in this process."""
    yield Crew(map, lambda function, item: function(item))


@contextmanager
def threads(workers: int, _method: str | None) -> Iterator[Crew]:
    """Threads of this process: shared memory, one interpreter lock."""
    with ThreadPoolExecutor(workers) as pool:

        def spread(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
            for future in as_completed([pool.submit(function, item) for item in items]):
                yield future.result()

        yield Crew(spread, lambda function, item: pool.submit(function, item).result())


@contextmanager
def stdlib(workers: int, method: str | None) -> Iterator[Crew]:
    """Processes, by the standard library's Pool."""
    import multiprocessing

    with multiprocessing.get_context(method).Pool(workers) as pool:
        yield _pool_crew(pool)


@contextmanager
def manyhands(workers: int, method: str | None) -> Iterator[Crew]:
    """Processes, by manyhands' Pool."""
    import manyhands

    with manyhands.get_context(method).Pool(workers) as pool:
        yield _pool_crew(pool)


def _pool_crew(pool: Any) -> Crew:
    return Crew(
        lambda function, items: pool.imap_unordered(function, items, chunksize=4),
        lambda function, item: pool.apply(function, (item,)),
    )


WAYS = {"plain": plain, "threads": threads, "stdlib": stdlib, "manyhands": manyhands}
