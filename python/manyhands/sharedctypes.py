"""ctypes objects in shared memory, with a lock or without.

Always: an object lies in a block of the heap for as long as it lives; a child gets the same memory, by fork
or with the process object.
Not here: blocks (`heap`), locks (`synchronize`).
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import context, heap, reduction

if TYPE_CHECKING:
    from . import synchronize
    from .context import BaseContext

__all__ = ["RawValue", "RawArray", "Value", "Array", "copy", "synchronized"]

_T = TypeVar("_T")

typecode_to_type: dict[str, Any] = {
    "c": ctypes.c_char, "u": ctypes.c_wchar,
    "b": ctypes.c_byte, "B": ctypes.c_ubyte,
    "h": ctypes.c_short, "H": ctypes.c_ushort,
    "i": ctypes.c_int, "I": ctypes.c_uint,
    "l": ctypes.c_long, "L": ctypes.c_ulong,
    "q": ctypes.c_longlong, "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float, "d": ctypes.c_double,
}  # fmt: skip


def _type_of(typecode_or_type: Any) -> Any:
    return typecode_to_type.get(typecode_or_type, typecode_or_type)


def _new_value(type_: Any) -> Any:
    """Return an object of a ctypes type in a block of its own, with whatever that block held."""
    return rebuild_ctype(type_, heap.BufferWrapper(ctypes.sizeof(type_)), None)


def _new_zeroed(type_: Any) -> Any:
    obj = _new_value(type_)
    ctypes.memset(ctypes.addressof(obj), 0, ctypes.sizeof(obj))
    return obj


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """Return a ctypes object in shared memory.

    typecode_or_type -- a ctypes type, or a letter as in the array module
    args -- what the type is made of; nothing is zero
    Differs: none.
    """
    obj = _new_zeroed(_type_of(typecode_or_type))
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """Return a ctypes array in shared memory.

    size_or_initializer -- an int, how many items of zero; or a sequence of items
    Differs: none.
    """
    type_ = _type_of(typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new_zeroed(type_ * size_or_initializer)
    obj = _new_value(type_ * len(size_or_initializer))
    obj.__init__(*size_or_initializer)
    return obj


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: BaseContext | None = None) -> Any:
    """Return a ctypes object in shared memory, wrapped with a lock.

    lock -- True for a new RLock, False for none (then it is as RawValue), or a lock
    Raises AttributeError for what is no lock.  Differs: none.
    """
    return _locked(RawValue(typecode_or_type, *args), lock, ctx)


def Array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: BaseContext | None = None) -> Any:
    """Return a ctypes array in shared memory, wrapped with a lock: see Value and RawArray."""
    return _locked(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def _locked(obj: Any, lock: Any, ctx: BaseContext | None) -> Any:
    if lock is False:
        return obj
    if lock in (True, None):
        ctx = ctx or context._default_context.get_context()
        lock = ctx.RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock, ctx=ctx)


def copy(obj: Any) -> Any:
    """Return a copy of a ctypes object, in shared memory.  Differs: none."""
    new = _new_value(type(obj))
    ctypes.pointer(new)[0] = obj
    return new


def synchronized(obj: Any, lock: Any = None, ctx: BaseContext | None = None) -> Any:
    """Wrap a ctypes object with a lock, a new RLock if None.  Differs: none."""
    if isinstance(obj, SynchronizedBase):
        raise AssertionError("object already synchronized")
    ctx = ctx or context._default_context.get_context()
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        return (SynchronizedString if obj._type_ is ctypes.c_char else SynchronizedArray)(obj, lock, ctx)
    return _wrapper_of(type(obj))(obj, lock, ctx)


def _wrapper_of(cls: Any) -> type[SynchronizedBase]:
    """Return the wrapper class for a structure: a property for each field."""
    if cls not in class_cache:
        fields = {field[0]: make_property(field[0]) for field in cls._fields_}
        class_cache[cls] = type("Synchronized" + cls.__name__, (SynchronizedBase,), fields)
    return class_cache[cls]


# ---- pickling ----


def reduce_ctype(obj: Any) -> tuple[Any, ...]:
    """Send a ctypes object to a child: its type, and where it lies."""
    context.assert_spawning(obj)
    wrapper = obj._wrapper
    if isinstance(obj, ctypes.Array):
        return rebuild_ctype, (obj._type_, wrapper, obj._length_)
    return rebuild_ctype, (type(obj), wrapper, None)


def rebuild_ctype(type_: Any, wrapper: heap.BufferWrapper, length: int | None) -> Any:
    """Return the ctypes object that lies in a heap.BufferWrapper."""
    if length is not None:
        type_ = type_ * length
    reduction.ForkingPickler.register(type_, reduce_ctype)
    obj: Any = type_.from_buffer(wrapper.create_memoryview())
    obj._wrapper = wrapper
    return obj


# ---- wrappers ----

class_cache: weakref.WeakKeyDictionary[type, type[SynchronizedBase]] = weakref.WeakKeyDictionary()
prop_cache: dict[str, Any] = {}


# A name in the code costs half of what getattr and setattr with a variable do.
_PROPERTY = """
def get(self):
    self.acquire()
    try:
        return self._obj.{name}
    finally:
        self.release()

def set(self, value):
    self.acquire()
    try:
        self._obj.{name} = value
    finally:
        self.release()
"""


def make_property(name: str) -> Any:
    """Return a property that reads and writes a field of the wrapped object, holding the lock."""
    if name not in prop_cache:
        if not name.isidentifier():
            raise ValueError(f"{name!r} is no name of a field")
        made: dict[str, Any] = {}
        exec(_PROPERTY.format(name=name), made)
        prop_cache[name] = property(made["get"], made["set"])
    return prop_cache[name]


class SynchronizedBase:
    """A ctypes object and the lock for it; the wrapper is a context manager of that lock."""

    acquire: synchronize._Acquire
    release: Callable[[], None]

    def __init__(self, obj: Any, lock: Any = None, ctx: BaseContext | None = None) -> None:
        self._obj = obj
        self._lock = lock or (ctx or context._default_context.get_context()).RLock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *args: object) -> None:
        self.release()

    def __reduce__(self) -> tuple[Any, ...]:
        context.assert_spawning(self)
        return synchronized, (self._obj, self._lock)

    def get_obj(self) -> Any:
        """Return the wrapped object."""
        return self._obj

    def get_lock(self) -> Any:
        """Return the lock."""
        return self._lock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} wrapper for {self._obj}>"


class Synchronized(SynchronizedBase, Generic[_T]):
    """A number, or another simple value, as `value`."""

    value: _T = make_property("value")


class SynchronizedArray(SynchronizedBase, Generic[_T]):
    """An array."""

    def __len__(self) -> int:
        return len(self._obj)

    def __getitem__(self, i: Any) -> Any:
        with self._lock:
            return self._obj[i]

    def __setitem__(self, i: Any, value: Any) -> None:
        with self._lock:
            self._obj[i] = value

    def __getslice__(self, start: int, stop: int) -> Any:
        with self._lock:
            return self._obj[start:stop]

    def __setslice__(self, start: int, stop: int, values: Any) -> None:
        with self._lock:
            self._obj[start:stop] = values


class SynchronizedString(SynchronizedArray[bytes]):
    """An array of characters: as bytes up to the first NUL (`value`), and all of it (`raw`)."""

    value: bytes = make_property("value")
    raw: bytes = make_property("raw")
