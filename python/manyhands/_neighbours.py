"""What other code in this process learns of us: `logging`, and the standard library's `multiprocessing`.

Always: nothing is imported for it.  What is loaded already is told at once, what is loaded later in a
child when it is; and all of it is void where `install` made the two packages one.
Not here: putting this package in the other's place (`_install`).
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__: list[str] = []

_STANDARD = "multiprocessing"

_shared_key: bytes | None = None


def standard(name: str) -> Any:
    """Return the standard library's module multiprocessing.NAME, None where it is not loaded or is ours."""
    module = sys.modules.get(f"{_STANDARD}.{name}")
    if module is None or getattr(module, "__name__", None) != f"{_STANDARD}.{name}":
        return None
    if getattr(module.__spec__, "_initializing", False):
        return None  # a thread imports it at this moment; or did, when this child was forked
    return module


def introduce(process: Any) -> None:
    """Let others call the current process by its name: log records, and multiprocessing.current_process()."""
    if sys.modules.get(_STANDARD) is sys.modules[__package__]:
        return  # they ask us
    _when_loaded("logging", _name_log_records)
    if _shared_key is None and standard("process") is None:  # a forked child may have its parent's key already
        share_authkey(process.authkey)
    _when_loaded(f"{_STANDARD}.process", lambda module: setattr(module.current_process(), "_name", process.name))


def authkey() -> bytes:
    """Return the key that a child's standard library is to have: this process's, or ours where it has none."""
    from .process import current_process

    module = standard("process")
    return bytes((current_process() if module is None else module.current_process()).authkey)


def share_authkey(key: bytes) -> None:
    """Let the standard library's current process have `key`, now or when it is there.

    Its connections between a parent and our children prove themselves with it: those over which torch
    passes tensors, for one.
    """

    global _shared_key
    _shared_key = key

    def give(module: Any) -> None:
        module.current_process().authkey = key

    if sys.modules.get(_STANDARD) is not sys.modules[__package__]:
        _when_loaded(f"{_STANDARD}.process", give)


def after_fork() -> None:
    """Do in a forked child what the standard library's multiprocessing does in its own.

    Its queues flush at exit, and its objects forget the parent's threads: so children of this package
    and objects of that one go together.
    """
    util = standard("util")
    if util is not None:
        import atexit

        standard("process")._children = set()
        util._finalizer_registry.clear()
        util._run_after_forkers()
        atexit.register(util._exit_function)


def set_spawning_popen(popen: Any) -> None:
    """Tell the standard library's objects that they are being sent to a child, or no more."""
    context = standard("context")
    if context is not None:
        context.set_spawning_popen(popen)


def extra_reducers() -> dict[type, Callable[[Any], Any]]:
    """Return the reducers registered with the standard library's pickler, a dict by type."""
    reduction = standard("reduction")
    if reduction is None:
        return {}
    registered: dict[type, Callable[[Any], Any]] = reduction.ForkingPickler._extra_reducers
    return registered


def _name_log_records(logging: Any) -> None:
    """Give log records the name that logging itself finds only in the standard library's multiprocessing."""
    make = logging.getLogRecordFactory()
    if getattr(make, "asks_manyhands", False):
        return

    def make_record(*args: Any, **kwargs: Any) -> Any:
        record = make(*args, **kwargs)
        # Another name comes from a child of the standard library's, None says that nobody wants to know.
        if record.processName == "MainProcess":
            from .process import current_process

            record.processName = current_process().name
        return record

    make_record.asks_manyhands = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_record)


def _when_loaded(name: str, act: Callable[[Any], object]) -> None:
    """Call act(module) now, or when the module called `name` has been imported."""
    module = sys.modules.get(name)
    if module is not None:
        act(module)
        return
    _watch.acts.setdefault(name, []).append(act)
    if _watch not in sys.meta_path:
        sys.meta_path.insert(0, _watch)


class _Watch:
    """A meta path finder that finds nothing itself: it only sees which modules are about to be loaded."""

    def __init__(self) -> None:
        self.acts: dict[str, list[Callable[[Any], object]]] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self.acts:
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec: Any = finder.find_spec(name, path, target)
                if spec is not None:
                    if spec.loader is not None:
                        spec.loader = _Loader(spec.loader, self, name)
                    return spec
        return None


class _Loader:
    """The module's own loader, and the calls after it.

    The calls are the watch's until then: who only asks for a spec may never load the module.
    """

    def __init__(self, loader: Any, watch: _Watch, name: str) -> None:
        self._loader = loader
        self._watch = watch
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        for act in self._watch.acts.pop(self._name, ()):
            act(module)


_watch = _Watch()
