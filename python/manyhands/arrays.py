"""numpy arrays in memory that processes share: `shared_array`.

An array of this kind is sent by reference by the picklers of this package: to a `Process`, in a pool's call or its result, by
a queue or a pipe; so are its slices and other views. All who have it see what any of them writes.
Always: the memory has no name, cannot be made shorter, and is there as long as any process has an array in it; what
is sent of it names the sender's descriptor, and says which file that has to be.
Not here: arrays that are sent as copies (`_out_of_band`, the engine), locks for who writes when (`synchronize`).
"""

from __future__ import annotations

import fcntl
import mmap
import operator
import os
import sys
import weakref

from . import _engine, context, reduction

try:
    import numpy  # type: ignore[import-not-found, unused-ignore]
except ImportError as error:
    raise ModuleNotFoundError(f"shared_array makes numpy arrays: pip install numpy ({error})", name="numpy") from None

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

__all__ = ["SharedArray", "shared_array"]

_F_SEAL_SHRINK = 0x0002  # fcntl has no name for it before CPython 3.13's
_F_GET_SEALS = 1034
# Before CPython 3.13 a mapping has a descriptor of its own.
_ONE_FD: Any = {"trackfd": False} if sys.version_info >= (3, 13) else {}


def shared_array(
    shape: int | Sequence[int], dtype: Any = float, *, fill: Any = None, order: Literal["C", "F"] = "C"
) -> SharedArray:
    """Return a new numpy array in memory that processes share.

    shape -- int, or a sequence of ints; dtype -- of the items, whatever numpy takes for one but objects
    fill -- a value for all items; None: zeros, of which no memory is taken before they are written to
    order -- "C": the last axis is contiguous; "F": the first

    It is a `SharedArray`, a subclass of numpy.ndarray. Nothing keeps two processes from writing to the same item: use a lock.
    What is sent in a call of a pool stays until that has ended; sent otherwise, the sender has to keep the array until it
    has arrived.

    Raises ModuleNotFoundError without numpy, TypeError for a dtype of objects, ValueError for a negative shape or another
    order, OSError when there is no memory for it.
    Differs: the standard library has nothing like it.
    """
    kind = numpy.dtype(dtype)
    if kind.hasobject:
        raise TypeError(
            f"dtype {kind} has objects, which are in the memory of one process: use numbers, booleans, dates, or texts of a "
            "fixed length"
        )
    lengths = _lengths(shape)
    if order not in ("C", "F"):
        raise ValueError(f'order must be "C" or "F", not {order!r}')
    size = kind.itemsize
    for length in lengths:
        size *= length
    made = SharedArray(lengths, kind, buffer=_Memory.create(size), order=order)
    if fill is not None:
        made[...] = fill
    return made


def _lengths(shape: int | Sequence[int]) -> tuple[int, ...]:
    try:
        lengths: tuple[int, ...] = (operator.index(shape),)  # type: ignore[arg-type]
    except TypeError:
        try:
            lengths = tuple(operator.index(length) for length in shape)  # type: ignore[union-attr]
        except TypeError:
            raise TypeError(f"shape must be an int or a sequence of ints, not {shape!r}") from None
    if any(length < 0 for length in lengths):
        raise ValueError(f"shape must have no negative length, and is {shape!r}")
    return lengths


class SharedArray(numpy.ndarray):  # type: ignore[misc, type-arg, unused-ignore]
    """A numpy array in memory that processes share, or a view of one; made by `shared_array`.

    What is computed from it is an ordinary array. Pickled by others than this package, as by `pickle.dumps`, and copied by
    `copy`, it is an ordinary array of the same values.
    """

    @property
    def shared(self) -> bool:
        """Whether its memory is shared: not so for what `astype` or another method made of it."""
        return _memory_of(self) is not None

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        if array is self or (isinstance(array, SharedArray) and array.shared):
            return array
        return array[()] if return_scalar else array.view(numpy.ndarray)

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        # Indices that are arrays make a copy.
        return found.view(numpy.ndarray) if type(found) is SharedArray and not found.shared else found

    def copy(self, order: Any = "C") -> Any:
        """Return an ordinary array of the same values."""
        return self.view(numpy.ndarray).copy(order)

    def __copy__(self) -> Any:
        return self.copy("K")

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy("K")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(numpy.ndarray).__reduce_ex__(protocol)


class _Memory(mmap.mmap):
    """Shared memory as this process has it mapped, and a descriptor of it."""

    fd: int
    address: int

    # By device and inode: what arrives again, or comes back, is the same memory.
    known: weakref.WeakValueDictionary[tuple[int, int], _Memory] = weakref.WeakValueDictionary()

    @classmethod
    def create(cls, size: int) -> _Memory:
        try:
            fd = _engine.memory("manyhands array", max(size, 1))
        except OverflowError:
            raise OSError(
                12, f"could not make an array of {size:,} bytes: Cannot allocate memory; ask for less"
            ) from None
        return cls.map(fd, size)

    @classmethod
    def map(cls, fd: int, size: int) -> _Memory:
        """Map memory of which `fd` is a descriptor, which is the mapping's from now on."""
        try:
            memory = cls(fd, max(size, 1), **_ONE_FD)
        except OSError as error:
            os.close(fd)
            text = f"could not map an array of {size:,} bytes: {error.strerror}; ask for less, or raise the limit"
            raise OSError(error.errno, f"{text} of address space (`ulimit -v`)") from None
        except BaseException:
            os.close(fd)
            raise
        memory.fd = fd
        memory.address = numpy.frombuffer(memory, numpy.uint8).__array_interface__["data"][0]
        cls.known[_identity(fd)] = memory
        return memory

    def __del__(self, _close: Any = os.close) -> None:  # at the interpreter's end there is no `os` any more
        fd = self.__dict__.pop("fd", None)
        if fd is not None:
            _close(fd)


def _identity(fd: int) -> tuple[int, int]:
    """Return which file a descriptor is of."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _memory_of(value: Any) -> _Memory | None:
    """Return the shared memory in which an array lies."""
    while value is not None and not isinstance(value, _Memory):
        value = value.obj if isinstance(value, memoryview) else getattr(value, "base", None)
    return value


# ---- on the way ----


def _reduce(value: SharedArray) -> tuple[Any, ...]:
    memory = _memory_of(value)
    if memory is None:
        return numpy.asarray, (value.view(numpy.ndarray),)
    where: Any
    if context.get_spawning_popen() is not None:
        where = reduction._dup_once(memory.fd)
    else:
        kept = _engine.keep_for_call(memory.fd)
        where = os.getpid(), memory.fd if kept is None else kept
    interface = value.__array_interface__
    place = interface["data"][0] - memory.address if value.size else 0
    size = len(memory)
    layout = value.dtype, value.shape, place, value.strides, value.flags.writeable
    return _rebuild, (where, _identity(memory.fd), size, *layout)


def _rebuild(
    where: Any,
    file: tuple[int, int],
    size: int,
    dtype: Any,
    shape: tuple[int, ...],
    place: int,
    strides: tuple[int, ...],
    writable: bool,
) -> SharedArray:
    memory = _Memory.known.get(file)
    if memory is None:
        memory = _Memory.map(_descriptor(where, file, size), size)
    made = SharedArray(shape, dtype, buffer=memory, offset=place, strides=strides)
    if not writable:
        made.flags.writeable = False
    return made


def _descriptor(where: Any, file: tuple[int, int], size: int) -> int:
    """Return a descriptor of the memory that another process, or a parent for its child, has named."""
    if not isinstance(where, tuple):
        fd: int = where.detach()
        return fd
    pid, number = where
    try:
        fd = os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        what = f"could not open the shared array that process {pid} sent: {error.strerror}"
        raise OSError(error.errno, f"{what}; {_ADVICE}") from None
    status = os.fstat(fd)
    if (status.st_dev, status.st_ino) == file:
        if fcntl.fcntl(fd, _F_GET_SEALS) & _F_SEAL_SHRINK and status.st_size >= size:
            return fd
        why = "it could be made shorter"
    else:
        why = "it is gone"
    os.close(fd)
    raise OSError(2, f"could not open the shared array that process {pid} sent: {why}; {_ADVICE}")


_ADVICE = "the sender has to keep it until it has arrived, and to be a process of the same user on the same machine"

reduction.register(SharedArray, _reduce)
