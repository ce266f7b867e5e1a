"""Objects of array libraries that leave their memory inside the pickle by themselves: here they leave it beside it.

Always: nothing is imported for it, a type is known as soon as its module is loaded; what is small, or of a kind that is not
listed here, is reduced as its library does it; what arrives equals what was sent, and can be written to where it could.
Not here: what leaves its memory out by itself, as numpy's contiguous arrays and pyarrow's tables do; long `bytes` (the
engine); what users register, which goes before all of this.
"""

from __future__ import annotations

import sys
import warnings
from _pickle import PickleBuffer
from importlib import import_module

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    import array
    from collections.abc import Callable
    from typing import Any

    _Reduced = str | tuple[Any, ...]

__all__ = ["LEAST", "reducers"]

# Bytes from which on memory travels beside the pickle: the engine's own limit.
LEAST = 128 << 10

_PROTOCOL = 5


def reducers() -> dict[type, Callable[[Any], _Reduced]]:
    """Return the reducers for those types whose modules are loaded."""
    found: dict[type, Callable[[Any], _Reduced]] = {}
    for module, names, reduce in _KNOWN:
        place: Any = sys.modules.get(module)
        for name in names:
            # A module that is being imported at this moment may not have it yet.
            kind = getattr(place, name, None)
            if isinstance(kind, type):
                found[kind] = reduce
    return found


def _module(name: str) -> Any:
    return import_module(name)


# ---- array ----


def _reduce_array(value: array.array[Any]) -> _Reduced:
    if len(value) * value.itemsize < LEAST:
        return value.__reduce_ex__(_PROTOCOL)
    return _rebuild_array, (value.typecode, PickleBuffer(value))


def _rebuild_array(typecode: str, memory: Any) -> array.array[Any]:
    import array

    made = array.array(typecode)
    made.frombytes(memory)
    return made


# ---- numpy ----


def _reduce_ndarray(value: Any) -> _Reduced:
    kind = type(value)
    if value.nbytes < LEAST or value.dtype.hasobject:
        return value.__reduce_ex__(_PROTOCOL)  # type: ignore[no-any-return]
    if not value.flags.forc:
        # One copy, in the order in which it would be pickled; pickled as it is, it would be two.
        value = value.copy("C")
    is_plain = kind.__module__ == "numpy" and kind.__name__ == "ndarray"
    if is_plain and not _has_times(value.dtype):
        return value.__reduce_ex__(_PROTOCOL)  # type: ignore[no-any-return]
    # numpy lets no buffer of times go, nor of its subclasses: as bytes of no meaning it does.
    base = value.view(f"V{value.dtype.itemsize}", sys.modules["numpy"].ndarray)
    return _rebuild_ndarray, (base, value.dtype, kind)


def _has_times(dtype: Any) -> bool:
    if dtype.fields:
        return any(_has_times(field[0]) for field in dtype.fields.values())
    return dtype.base.kind in "mM"


def _rebuild_ndarray(base: Any, dtype: Any, kind: type) -> Any:
    return base.view(dtype, kind)


# ---- pyarrow ----


def _reduce_arrow(value: Any) -> _Reduced:
    """A slice of a table refers to all of the table's memory: only its own rows are sent."""
    total = value.get_total_buffer_size()
    if total < LEAST or value.nbytes > total // 2:
        return value.__reduce_ex__(_PROTOCOL)  # type: ignore[no-any-return]
    pyarrow = _module("pyarrow")

    kind = type(value).__name__
    if kind == "ChunkedArray":
        table = pyarrow.table([value], names=[""])
    else:
        table = value
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write(table)
    return _rebuild_arrow, (kind, PickleBuffer(sink.getvalue()))


def _rebuild_arrow(kind: str, memory: Any) -> Any:
    pyarrow = _module("pyarrow")

    with pyarrow.ipc.open_stream(pyarrow.py_buffer(memory)) as stream:
        if kind == "RecordBatch":
            return stream.read_next_batch()
        table = stream.read_all()
    return table.column(0) if kind == "ChunkedArray" else table


# ---- torch ----


def _reduce_storage(value: Any) -> _Reduced:
    """The memory of a tensor; everything else about the tensor torch says itself."""
    torch = _module("torch")

    memory = value._untyped_storage
    if memory.device.type != "cpu" or memory.nbytes() < LEAST or "numpy" not in sys.modules:
        return value.__reduce__()  # type: ignore[no-any-return]
    bytes_ = torch.empty(0, dtype=torch.uint8).set_(memory).numpy()
    return _rebuild_storage, (value.dtype, PickleBuffer(bytes_))


def _rebuild_storage(dtype: Any, memory: Any) -> Any:
    torch = _module("torch")

    with warnings.catch_warnings():
        # That torch has no tensors which can only be read: what `Pool.share` shares is such memory.
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
        untyped = torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()
    return torch.storage.TypedStorage(wrap_storage=untyped, dtype=dtype, _internal=True)


# ---- polars ----

# Kinds of columns that come back from Arrow as what they were.
_ARROW_KINDS = {
    "Boolean", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64", "String",
    "Binary", "Date", "Time", "Datetime", "Duration", "Null",
}  # fmt: skip


def _reduce_polars(value: Any) -> _Reduced:
    """By way of pyarrow where that is loaded, which leaves the columns' memory beside the pickle."""
    is_series = type(value).__name__ == "Series"
    kinds = [value.dtype] if is_series else value.dtypes
    if (
        value.estimated_size() < LEAST
        or "pyarrow" not in sys.modules
        or not all(str(kind.base_type()) in _ARROW_KINDS for kind in kinds)
    ):
        return value.__reduce_ex__(_PROTOCOL)  # type: ignore[no-any-return]
    polars = sys.modules["polars"]
    arrow = value.to_arrow(compat_level=polars.CompatLevel.newest())
    return _rebuild_polars, (arrow, value.name if is_series else None)


def _rebuild_polars(arrow: Any, name: str | None) -> Any:
    polars = _module("polars")

    made: Any = polars.from_arrow(arrow, rechunk=False)
    return made if name is None else made.alias(name)


# Module, its types, and how they are reduced.
_KNOWN: tuple[tuple[str, tuple[str, ...], Callable[[Any], _Reduced]], ...] = (
    ("array", ("array",), _reduce_array),
    ("numpy", ("ndarray", "memmap", "matrix", "recarray"), _reduce_ndarray),
    ("pyarrow", ("Table", "RecordBatch", "ChunkedArray"), _reduce_arrow),
    ("polars", ("DataFrame", "Series"), _reduce_polars),
    ("torch.storage", ("TypedStorage",), _reduce_storage),
)
