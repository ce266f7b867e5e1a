"""This package in the standard library's place: `import multiprocessing` finds manyhands.

Always: a submodule or name that is not there yet is an error which names it, never silently the standard
library's.  Children learn of it before they run anything of the user's: a forked one has it in
sys.modules, the others are told (`spawn.get_preparation_data`, the fork server's command line).
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any

__all__ = ["install", "installed"]

_STANDARD = "multiprocessing"
_OURS = __package__


def install() -> None:
    """Let `multiprocessing` and its submodules be manyhands, in this process and all that it starts.

    To be called before the program imports multiprocessing: what was imported from it earlier stays the
    standard library's.  Calling it again does nothing.

    A submodule that manyhands does not have yet raises ModuleNotFoundError when it is imported.
    """
    if not installed():
        sys.meta_path.insert(0, _Finder())
    for name in list(sys.modules):
        if name == _STANDARD or name.startswith(_STANDARD + "."):
            del sys.modules[name]
    prefix = _OURS + "."
    for name, module in list(sys.modules.items()):
        if name == _OURS or name.startswith(prefix):
            sys.modules[_STANDARD + name[len(_OURS) :]] = module


def installed() -> bool:
    """Return whether `multiprocessing` is manyhands in this process."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


class _Finder:
    """Finds multiprocessing.X as manyhands.X."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != _STANDARD and not name.startswith(_STANDARD + "."):
            return None
        # Late: every child imports this module, and few need these.
        from importlib import import_module
        from importlib.machinery import ModuleSpec

        ours = _OURS + name[len(_STANDARD) :]
        try:
            import_module(ours)
        except ModuleNotFoundError as error:
            if error.name != ours:
                raise
            raise ModuleNotFoundError(
                f"manyhands does not have {name} yet, and is installed in the standard library's place", name=name
            ) from None
        return ModuleSpec(name, _Alias(ours))  # type: ignore[arg-type]


class _Alias:
    """Loads a module that is there already, under a second name."""

    def __init__(self, ours: str) -> None:
        self._ours = ours

    def create_module(self, spec: ModuleSpec) -> None:
        """Let the importer make an empty module, which `exec_module` puts aside."""

    def exec_module(self, module: Any) -> None:
        # What is in sys.modules afterwards is what the importer gets: the module itself, its spec untouched.
        sys.modules[module.__spec__.name] = sys.modules[self._ours]
