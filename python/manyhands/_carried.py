"""Values of context variables that go with a call.

Always: a call sees the values that its caller had when it was made; what it sets is its own.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Iterable

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__: list[str] = []

Place = tuple[str, str]


def places(variables: Any) -> list[tuple[contextvars.ContextVar[Any], Place]]:
    """Return the variables and where a worker finds them: in which module, by what name."""
    if isinstance(variables, str) or not isinstance(variables, Iterable):
        raise TypeError(f"context_vars must be a list of ContextVar, not {type(variables).__name__}")
    found = []
    for variable in variables:
        if not isinstance(variable, contextvars.ContextVar):
            raise TypeError(f"context_vars must be a list of ContextVar, but has {variable!r}")
        found.append((variable, _place(variable)))
    return found


def _place(variable: contextvars.ContextVar[Any]) -> Place:
    for module_name, module in list(sys.modules.items()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is variable:
                return ("__main__" if module_name == "__mp_main__" else module_name), name
    raise ValueError(
        f"{variable!r} is in no module, so that workers could not find it: make it a global variable of a module"
    )


class Carrying:
    """A function, with the values of context variables that it is to see."""

    def __init__(self, function: Callable[..., Any], values: list[tuple[Place, Any]]) -> None:
        self._function = function
        self._values = values
        self.__qualname__ = getattr(function, "__qualname__", type(function).__qualname__)

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        return contextvars.Context().run(self._call, args, kwds)

    def _call(self, args: Any, kwds: Any) -> Any:
        from importlib import import_module

        for (module, name), value in self._values:
            getattr(import_module(module), name).set(value)
        return self._function(*args, **kwds)


def carrying(
    function: Callable[..., Any], variables: list[tuple[contextvars.ContextVar[Any], Place]]
) -> Callable[..., Any]:
    """Return the function with the values that the variables have here and now; those without one are left out."""
    values = []
    for variable, place in variables:
        try:
            values.append((place, variable.get()))
        except LookupError:
            pass  # not set, and without a default
    return Carrying(function, values)
