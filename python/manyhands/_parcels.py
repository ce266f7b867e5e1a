"""Pools that bring reducers of their own, as joblib's do: what goes to their workers is pickled with these.

Always: only subclasses of `Pool` come here, by an attribute of theirs; other pools pay nothing for it.
Not here: reducers for every pool of a process (`reduction.register`).
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from . import reduction

__all__: list[str] = []

Reducers = Mapping[type, Callable[[Any], Any]]


class _Parcel:
    """A value that is pickled with reducers of its own, and arrives as the value itself."""

    def __init__(self, reducers: Reducers, value: Any) -> None:
        self._reducers = reducers
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        buffer = io.BytesIO()
        pickler = pickle.Pickler(buffer, pickle.HIGHEST_PROTOCOL)
        extra = reduction.ForkingPickler._extra_reducers
        pickler.dispatch_table = {**copyreg.dispatch_table, **extra, **self._reducers}
        pickler.dump(self._value)
        return pickle.loads, (buffer.getvalue(),)


class _Parcels:
    """An iterable of which each item becomes a parcel."""

    def __init__(self, reducers: Reducers, items: Iterable[Any]) -> None:
        self._reducers = reducers
        self._items = items

    def __iter__(self) -> Iterator[_Parcel]:
        return (_Parcel(self._reducers, item) for item in self._items)


class ParcelCrew:
    """The engine's crew for a pool with reducers: its calls carry parcels, all else is the crew's own."""

    def __init__(self, crew: Any, reducers: Reducers) -> None:
        self._crew = crew
        self._reducers = reducers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._crew, name)

    def _parcel(self, *values: Any) -> tuple[_Parcel, ...]:
        return tuple(_Parcel(self._reducers, value) for value in values)

    def apply(self, func: Any, args: Collection[Any], kwds: Mapping[str, Any], *rest: Any) -> Any:
        return self._crew.apply(_call, self._parcel((func, args, kwds)), {}, *rest)

    def apply_async(self, func: Any, args: Collection[Any], kwds: Mapping[str, Any], *rest: Any) -> Any:
        return self._crew.apply_async(_call, self._parcel((func, args, kwds)), {}, *rest)

    def launch(self, job: Any, func: Any, args: Collection[Any], kwds: Mapping[str, Any]) -> None:
        self._crew.launch(job, _call, self._parcel((func, args, kwds)), {})

    def map(self, func: Any, iterable: Iterable[Any], *rest: Any, **options: Any) -> Any:
        return self._crew.map(func, _Parcels(self._reducers, iterable), *rest, **options)

    def stream(self, func: Any, iterable: Iterable[Any], *rest: Any, **options: Any) -> Any:
        return self._crew.stream(func, _Parcels(self._reducers, iterable), *rest, **options)


def _call(task: tuple[Callable[..., Any], Collection[Any], Mapping[str, Any]]) -> Any:
    func, args, kwds = task
    return func(*args, **kwds)
