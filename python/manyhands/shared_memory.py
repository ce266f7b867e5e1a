"""Shared memory with a name: `SharedMemory`, and `ShareableList` that lies in one.

Always: a segment is a file in `/dev/shm` which `unlink()` removes, or the resource tracker when the family
that made it is gone.  Whoever has it open keeps its memory until it closes it.
Not here: the tracker, memory without a name (`heap`).
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
import types
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

from . import _engine, _shortage, resource_tracker

__all__ = ["SharedMemory", "ShareableList"]

_T = TypeVar("_T")

_USE_POSIX = True
_O_CREX = os.O_CREAT | os.O_EXCL
_SHM_SAFE_NAME_LENGTH = 14
_SHM_NAME_PREFIX = "/psm_"


def _make_filename() -> str:
    """Return a name that hardly any segment has, a str."""
    digits = _SHM_SAFE_NAME_LENGTH - len(_SHM_NAME_PREFIX)
    if digits < 4:
        raise AssertionError("_SHM_NAME_PREFIX too long")
    return _SHM_NAME_PREFIX + secrets.token_hex(digits // 2)


class SharedMemory:
    """A segment of shared memory: made with `create`, else found by its name.

    name -- str; None makes one up
    size -- int, bytes, for one that is made; others have the size they have
    track -- bool, whether the resource tracker is told (the standard library has this from 3.13 on)

    Raises ValueError for a size or name that makes no sense, FileExistsError, FileNotFoundError.
    Differs: a segment that `/dev/shm` has no room for raises OSError (ENOSPC), where the standard library's
    process is killed by a bus error when it writes: the room is reserved, unless it is more than 64 MiB and less
    than an eighth of what is free.  A segment that another family of processes made is not removed when this one ends.
    """

    # What close() and unlink() need, however far __init__ came.
    _name: str | None = None
    _fd = -1
    _mmap: mmap.mmap | None = None
    _buf: memoryview | None = None
    _flags = os.O_RDWR
    _mode = 0o600
    _prepend_leading_slash = True
    _track = True
    _close_fd = staticmethod(os.close)  # held here: at exit its module may be gone before the segment

    def __init__(self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True) -> None:
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            self._flags = _O_CREX | os.O_RDWR
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
        if name is None and not self._flags & os.O_EXCL:
            raise ValueError("'name' can only be None if create=True")
        self._track = track
        try:
            opened = self._open(name)
        except OSError as error:
            raise _shortage.told(error, "could not open a segment of shared memory") from None
        try:
            if create:
                os.ftruncate(self._fd, size)
                _engine.shm_reserve(self._fd, size)
            self._size = os.fstat(self._fd).st_size
            self._mmap = mmap.mmap(self._fd, self._size)
            self._buf = memoryview(self._mmap)
            if track:
                tell = resource_tracker.register if create else resource_tracker._resource_tracker._borrow
                tell(opened, "shared_memory")
        except BaseException as error:
            if create:
                _engine.shm_unlink(opened)
            self.close()
            if isinstance(error, OSError):
                raise _shortage.told(error, f"could not get {size:,} bytes of shared memory") from None
            raise

    def _open(self, name: str | None) -> str:
        """Open or make the segment; return its name as the system has it."""
        if name is not None:
            self._name = name = "/" + name if self._prepend_leading_slash else name
            self._fd = _engine.shm_open(name, self._flags, self._mode)
            return name
        while True:
            name = _make_filename()
            try:
                self._fd = _engine.shm_open(name, self._flags, self._mode)
            except FileExistsError:
                continue
            self._name = name
            return name

    def __del__(self) -> None:
        try:
            self.close()
        except (OSError, BufferError):
            pass

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, False, self.size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, size={self.size})"

    @property
    def buf(self) -> memoryview:
        """The memory, a memoryview; None when it is closed."""
        return self._buf  # type: ignore[return-value]  # whoever has closed it knows

    @property
    def name(self) -> str:
        """The name by which others find it, a str."""
        name: Any = self._name
        if self._prepend_leading_slash and name.startswith("/"):
            return str(name[1:])
        return str(name)

    @property
    def size(self) -> int:
        """The size in bytes, an int."""
        return self._size

    def close(self) -> None:
        """Let go of the memory in this process; others keep it.

        Raises BufferError while there are views of `buf`.
        """
        if self._buf is not None:
            self._buf.release()
            self._buf = None
        if self._mmap is not None:
            self._mmap.close()
            self._mmap = None
        if self._fd >= 0:
            self._close_fd(self._fd)
            self._fd = -1

    def unlink(self) -> None:
        """Remove the name: nobody finds the segment any more, and its memory goes with the last who has it.

        To be called once for a segment, by whichever process.  Raises FileNotFoundError if that was done.
        """
        if self._name:
            _engine.shm_unlink(self._name)
            if self._track:
                resource_tracker.unregister(self._name, "shared_memory")


_encoding = "utf8"


class ShareableList(Generic[_T]):
    """A list of a fixed length in shared memory, of int, float, bool, str, bytes and None.

    sequence -- what it is made of; None finds the list called `name`
    name -- str, the segment's

    A str or bytes may be replaced by one that needs no more than its place, which is a multiple of 8 bytes;
    NUL bytes at the end of it are lost.  Differs: a str that needs more bytes than its characters make the
    standard library reserve gets them, and keeps its end.

    In the segment: the number of items; where each begins, and where the last one ends, counted from the
    first; the items; for each its struct format in 8 bytes; for each a byte that says what it was.
    """

    _types_mapping: dict[type, str] = {
        int: "q",
        float: "d",
        bool: "xxxxxxx?",
        str: "%ds",
        bytes: "%ds",
        type(None): "xxxxxx?x",
    }
    _alignment = 8
    # By that byte: a number or bool, a str, bytes, None.
    _back_transforms_mapping: dict[int, Callable[[Any], Any]] = {
        0: lambda value: value,
        1: lambda value: value.rstrip(b"\x00").decode(_encoding),
        2: lambda value: value.rstrip(b"\x00"),
        3: lambda value: None,
    }

    @staticmethod
    def _extract_recreation_code(value: object) -> int:
        """Return the byte that says what `value` is."""
        if isinstance(value, str):
            return 1
        if isinstance(value, bytes):
            return 2
        return 3 if value is None else 0

    def __init__(self, sequence: Iterable[_T] | None = None, *, name: str | None = None) -> None:
        if name is not None and sequence is None:
            self.shm = SharedMemory(name)
            self._list_len = len(self)
            self._allocated_offsets: list[int] = list(struct.unpack_from(self._format_size_metainfo, self.shm.buf, 8))
            return
        values: list[Any] = list(sequence or ())
        codes = [self._extract_recreation_code(value) for value in values]
        formats = [self._format_of(value) for value in values]
        values = [value.encode(_encoding) if isinstance(value, str) else value for value in values]
        if any(len(fmt) > 8 for fmt in formats):
            raise AssertionError("a str or bytes of 10 MB or more does not fit into a ShareableList")
        self._list_len = len(values)
        self._allocated_offsets = [0]
        for fmt in formats:
            self._allocated_offsets.append(self._allocated_offsets[-1] + struct.calcsize(fmt))
        self.shm = SharedMemory(name, create=True, size=self._offset_back_transform_codes + self._list_len)
        buf = self.shm.buf
        struct.pack_into("q" + self._format_size_metainfo, buf, 0, self._list_len, *self._allocated_offsets)
        struct.pack_into("".join(formats), buf, self._offset_data_start, *values)
        struct.pack_into(
            self._format_packing_metainfo,
            buf,
            self._offset_packing_formats,
            *(fmt.encode(_encoding) for fmt in formats),
        )
        struct.pack_into(self._format_back_transform_codes, buf, self._offset_back_transform_codes, *codes)

    def _format_of(self, value: Any) -> str:
        """Return the struct format of an item, a str; its length is a multiple of 8."""
        if not isinstance(value, (str, bytes)):
            return self._types_mapping[type(value)]
        unit = self._alignment
        room = unit * (len(value) // unit + 1)
        if isinstance(value, str):
            # Characters are what the standard library counts; beyond ASCII they may need more.
            room = max(room, -(-len(value.encode(_encoding)) // unit) * unit)
        return self._types_mapping[bytes] % room

    def _place(self, position: int, what: str = "index") -> int:
        """Return which item `position` means, 0 and up; raises IndexError."""
        place = position if position >= 0 else position + self._list_len
        if not 0 <= place < self._list_len:
            raise IndexError(f"{what} out of range")
        return place

    def _get_packing_format(self, position: int) -> str:
        """Return the struct format of an item, a str."""
        place = self._place(position, "Requested position")
        (fmt,) = struct.unpack_from("8s", self.shm.buf, self._offset_packing_formats + place * 8)
        return str(fmt.rstrip(b"\x00"), _encoding)

    def _get_back_transform(self, position: int) -> Callable[[Any], Any]:
        """Return what makes the Python value of what struct unpacks, a function."""
        place = self._place(position, "Requested position")
        (code,) = struct.unpack_from("b", self.shm.buf, self._offset_back_transform_codes + place)
        return self._back_transforms_mapping[code]

    def _set_packing_format_and_transform(self, position: int, fmt_as_str: str, value: object) -> None:
        """Note an item's struct format, and what it is."""
        place = self._place(position, "Requested position")
        fmt = fmt_as_str.encode(_encoding)
        struct.pack_into("8s", self.shm.buf, self._offset_packing_formats + place * 8, fmt)
        code = self._extract_recreation_code(value)
        struct.pack_into("b", self.shm.buf, self._offset_back_transform_codes + place, code)

    def __getitem__(self, position: int) -> _T:
        place = self._place(position)
        offset = self._offset_data_start + self._allocated_offsets[place]
        (value,) = struct.unpack_from(self._get_packing_format(place), self.shm.buf, offset)
        item: _T = self._get_back_transform(place)(value)
        return item

    def __setitem__(self, position: int, value: _T) -> None:
        place = self._place(position, "assignment index")
        begin, end = self._allocated_offsets[place : place + 2]
        packed = value.encode(_encoding) if isinstance(value, str) else value
        if isinstance(packed, bytes):
            if len(packed) > end - begin:
                raise ValueError("bytes/str item exceeds available storage")
            fmt = self._get_packing_format(place)
            if fmt[-1] != "s":
                fmt = self._types_mapping[bytes] % (end - begin)
        else:
            fmt = self._types_mapping[type(value)]
        self._set_packing_format_and_transform(place, fmt, value)
        struct.pack_into(fmt, self.shm.buf, self._offset_data_start + begin, packed)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), name=self.shm.name), ()

    def __len__(self) -> int:
        return int(struct.unpack_from("q", self.shm.buf, 0)[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({[self[i] for i in range(len(self))]}, name={self.shm.name!r})"

    @property
    def format(self) -> str:
        """The struct formats of all items as they are now, a str."""
        return "".join(map(self._get_packing_format, range(self._list_len)))

    # The formats of what lies before and behind the items, and where it begins.

    @property
    def _format_size_metainfo(self) -> str:
        return "q" * (self._list_len + 1)

    @property
    def _format_packing_metainfo(self) -> str:
        return "8s" * self._list_len

    @property
    def _format_back_transform_codes(self) -> str:
        return "b" * self._list_len

    @property
    def _offset_data_start(self) -> int:
        return (self._list_len + 2) * 8

    @property
    def _offset_packing_formats(self) -> int:
        return self._offset_data_start + self._allocated_offsets[-1]

    @property
    def _offset_back_transform_codes(self) -> int:
        return self._offset_packing_formats + self._list_len * 8

    def count(self, value: object) -> int:
        """Return how many items equal `value`, an int."""
        return sum(1 for i in range(len(self)) if value == self[i])

    def index(self, value: object) -> int:
        """Return the place of the first item that equals `value`, an int; raises ValueError if none does."""
        for place in range(len(self)):
            if value == self[place]:
                return place
        raise ValueError(f"{value!r} not in this container")

    __class_getitem__: Any = classmethod(types.GenericAlias)
