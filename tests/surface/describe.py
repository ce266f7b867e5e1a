"""Writes down what a package offers, by introspection: `python describe.py multiprocessing` prints JSON.

Always: a process of its own describes one package, so that the other is not even loaded; a name maps to one
line of text, in which the package calls itself "mp". Not here: the comparison (`test_surface`).
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import json
import pkgutil
import re
import signal
import subprocess
import sys
import typing
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

# What a class has for its own sake, or for pickle's.
PLUMBING = {
    "__abstractmethods__", "__annotations__", "__builtins__", "__class__", "__del__", "__delattr__", "__dict__",
    "__dir__", "__doc__", "__eq__", "__firstlineno__", "__ge__", "__getattribute__", "__getnewargs__", "__getstate__",
    "__gt__", "__hash__", "__init__", "__init_subclass__", "__le__", "__lt__", "__module__", "__ne__", "__new__",
    "__orig_bases__", "__parameters__", "__qualname__", "__reduce__", "__reduce_ex__", "__repr__", "__setattr__",
    "__setstate__", "__sizeof__", "__slots__", "__static_attributes__", "__str__", "__subclasshook__",
    "__type_params__", "__weakref__", "__abc_tpflags__", "__replace__",
}  # fmt: skip
# Bases that say what an object can do and not what it is.
ABSTRACT = {"typing", "collections.abc"}
# Modules that exist for other systems, one that runs a program when it is imported, and one that needs joblib.
NOT_HERE = {"popen_spawn_win32", "__main__", "joblib"}
START_METHODS = ["fork", "spawn", "forkserver"]


def is_public(name: str) -> bool:
    """Whether users may write this name."""
    return not name.startswith("_")


class Describer:
    """The lines about one package."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.lines: dict[str, str] = {}
        # Names that modules have from others.
        self.imported: list[str] = []
        self._own = re.compile(rf"\b{package}\b")

    def describe(self) -> None:
        """Write down the package, its submodules and some of its objects."""
        root = importlib.import_module(self.package)
        # First, while no submodule was imported for its own sake: what is there after `import multiprocessing`.
        for name, value in sorted(vars(root).items()):
            if isinstance(value, ModuleType) and is_public(name) and self._is_ours(value):
                self.lines[f"mp.{name}"] = "module"
        self.lines["mp.__all__"] = " ".join(sorted(root.__all__))
        for name in root.__all__:
            self.value(f"mp.{name}", getattr(root, name))
        for module in self.modules(root):
            self.module(module)
        self.objects(root)

    def modules(self, root: ModuleType) -> list[ModuleType]:
        """Import the package's public submodules."""
        names = [info.name for info in pkgutil.walk_packages(root.__path__, f"{self.package}.")]
        private = [name for name in names if any(part in NOT_HERE or part[0] == "_" for part in name.split("."))]
        return [root, *(importlib.import_module(name) for name in names if name not in private)]

    def module(self, module: ModuleType) -> None:
        """Describe a module's names, but not the modules that it has imported."""
        key = self.called(module.__name__)
        self.lines[key] = "module"
        listed = set(getattr(module, "__all__", ()))
        if key != "mp":
            self.lines[f"{key}.__all__"] = " ".join(sorted(listed))
        for name in {*vars(module), *listed}:
            if (is_public(name) or name in listed) and f"{key}.{name}" not in self.lines:
                value = getattr(module, name)
                if isinstance(value, ModuleType) or (name not in listed and not self._belongs(name, value)):
                    continue
                self.value(f"{key}.{name}", value)
                if name not in listed and self._module_of(value) not in ("", module.__name__):
                    self.imported.append(f"{key}.{name}")

    def objects(self, root: Any) -> None:
        """Describe what is only there in objects: contexts' methods, attributes that constructors set."""
        for method in START_METHODS:
            self.members(f"mp.get_context({method!r})", root.get_context(method))
        context = root.get_context("fork")
        reader, writer = context.Pipe()
        made = {
            "Lock()": context.Lock(),
            "RLock()": context.RLock(),
            "Semaphore()": context.Semaphore(),
            "BoundedSemaphore()": context.BoundedSemaphore(),
            "Condition()": context.Condition(),
            "Event()": context.Event(),
            "Barrier()": context.Barrier(1),
            "Queue()": context.Queue(),
            "JoinableQueue()": context.JoinableQueue(),
            "SimpleQueue()": context.SimpleQueue(),
            "Value()": context.Value("i"),
            "Array()": context.Array("i", 1),
            "RawValue()": context.RawValue("i"),
            "Process()": context.Process(),
            "Pipe()": reader,
            "parent_process()": root.process._ParentProcess("MainProcess", 1, 0),
        }
        for name, value in made.items():
            self.members(f"mp.{name}", value)
        reader.close()
        writer.close()
        with context.Pool(1) as pool:
            self.members("mp.Pool()", pool)
            self.members("mp.Pool().apply_async()", pool.apply_async(len, ([],)))
            self.members("mp.Pool().map_async()", pool.map_async(len, [[]]))
            self.members("mp.Pool().imap()", pool.imap(len, [[]]))
            self.members("mp.Pool().imap_unordered()", pool.imap_unordered(len, [[]]))

    def members(self, key: str, value: Any) -> None:
        """Describe the public attributes of an object that its class does not tell of."""
        for name in dir(value):
            if is_public(name):
                try:
                    member = getattr(value, name)
                except Exception as error:
                    self.lines[f"{key}.{name}"] = f"raises {type(error).__name__}"
                else:
                    self.lines[f"{key}.{name}"] = self.line(member)

    def value(self, key: str, value: Any) -> None:
        """Describe what a name stands for."""
        self.lines[key] = self.line(value)
        if isinstance(value, type) and self._is_ours(value):
            self.type(key, value)

    def type(self, key: str, cls: type) -> None:
        """Describe a class: what it descends from, how it is made, what its objects have."""
        self.lines[f"{key}.__mro__"] = " ".join(
            self.called(f"{base.__module__}.{base.__qualname__}")
            for base in cls.__mro__[1:]
            if base is not object and is_public(base.__name__) and base.__module__ not in ABSTRACT
        )
        for name in dir(cls):
            if is_public(name) or (name.startswith("__") and name.endswith("__") and name not in PLUMBING):
                try:
                    member = inspect.getattr_static(cls, name)
                except AttributeError:
                    continue
                if not self._inherited_from_elsewhere(cls, name):
                    self.lines[f"{key}.{name}"] = self.line(member)

    def line(self, value: Any) -> str:
        """Return one line about an object."""
        if isinstance(value, ModuleType):
            return f"module {self.called(value.__name__)}"
        if isinstance(value, property):
            return "property" if value.fset is None else "property that can be set"
        if isinstance(value, staticmethod | classmethod):
            return f"{type(value).__name__} {self.signature(value.__func__)}"
        if isinstance(value, type):
            return f"class {self.signature(value)}" if self._is_ours(value) else f"class {value.__qualname__}"
        if callable(value):
            return self.signature(value)
        if value is None or type(value) in (bool, int, str, bytes, float):
            return repr(value)
        if isinstance(value, tuple | list) and all(isinstance(item, str) for item in value):
            return repr(value)
        return f"object of {self.called(type(value).__name__)}"

    def signature(self, function: Any) -> str:
        """Return parameters with their kinds and defaults, without annotations."""
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            return "callable"
        parameters = [
            parameter.replace(annotation=parameter.empty, default=self.default(parameter.default))
            for parameter in signature.parameters.values()
            if is_public(parameter.name)
        ]
        return self.called(str(inspect.Signature(parameters)))

    def default(self, value: Any) -> Any:
        """Return a default as one that prints the same wherever it comes from."""
        if value is inspect.Parameter.empty or value is None or isinstance(value, int | float | str | bytes | tuple):
            return value
        if value in ({}, []):
            return value
        return _Shown(getattr(value, "__qualname__", type(value).__qualname__))

    def called(self, text: str) -> str:
        """Return the text with the package's name taken out."""
        return self._own.sub("mp", text)

    def _module_of(self, value: Any) -> str:
        return value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", "") or "")

    def _is_ours(self, value: Any) -> bool:
        module = self._module_of(value)
        return module == self.package or module.startswith(f"{self.package}.")

    def _belongs(self, name: str, value: Any) -> bool:
        """Whether a name is the package's and not imported from others; exceptions count wherever they are from."""
        if isinstance(value, type) and issubclass(value, Exception):
            return True
        if isinstance(value, type | FunctionType) or inspect.isbuiltin(value):
            return self._is_ours(value)
        return all(getattr(module, name, self) != value for module in (typing, signal, __future__))

    def _inherited_from_elsewhere(self, cls: type, name: str) -> bool:
        """Whether a member comes from a base class of others, such as Exception or threading.Thread."""
        for base in cls.__mro__:
            if name in vars(base):
                return not self._is_ours(base)
        return False


class _Shown:
    """A default whose repr is its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


@cache
def described(package: str) -> tuple[dict[str, str], set[str]]:
    """Ask a process that loads this package alone: name -> line, and the names that modules have from others."""
    done = subprocess.run([sys.executable, "-B", __file__, package], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return said["lines"], set(said["imported"])


if __name__ == "__main__":
    describer = Describer(sys.argv[1])
    describer.describe()
    json.dump({"lines": describer.lines, "imported": describer.imported}, sys.stdout)
