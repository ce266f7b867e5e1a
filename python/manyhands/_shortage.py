"""What a user is told when something runs out: what was to be done, which limit was reached, how high it is, what helps.

Always: the error keeps its number, and so its type.  What the engine says has these words already
(`crates/manyhands-os/src/error.rs`); here are those for what Python does itself.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable

__all__: list[str] = []


def told(error: OSError, what: str) -> OSError:
    """Return what is to be raised in place of `error`; itself, if nothing ran out."""
    advice = _ADVICE.get(error.errno or 0)
    if advice is None:
        return error
    text = str(error.strerror or error)
    if error.errno == errno.EAGAIN:
        text = text.partition(";")[0]
    # Other errors of the engine's have advice of their own.
    return OSError(error.errno, f"{what}: {text}" if ";" in text else f"{what}: {text}; {advice()}")


def no_thread(what: str) -> RuntimeError:
    """Return the error for a thread that could not be started."""
    return RuntimeError(f"{what}: can't start new thread; {_processes()}")


def no_folder(error: OSError) -> OSError:
    """Return the error for a temporary folder that could not be made."""
    what = "could not make a folder for temporary files and sockets"
    return OSError(error.errno, f"{what}: {error.strerror}; set TMPDIR to a folder that has room and can be written to")


# Nothing is imported for a message: there may be no descriptor left to read a module with.


def _files() -> str:
    return f"this process may have {os.sysconf('SC_OPEN_MAX')}: raise the limit (`ulimit -n`), or close some"


def _processes() -> str:
    most = os.sysconf("SC_CHILD_MAX")
    return (
        f"this user may have {'any number of' if most < 0 else most} processes and threads (`ulimit -u`), a container "
        "those of its `pids.max`: raise them, or use fewer workers"
    )


def _memory() -> str:
    return "free some, raise the limit (`ulimit -v`, the container's), or start processes before the program is large"


def _file_size() -> str:
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return f"files of this process may have {most:,} bytes: raise the limit (`ulimit -f`), or ask for less"


_ADVICE: dict[int, Callable[[], str]] = {
    errno.EMFILE: _files,
    errno.ENFILE: lambda: "all programs together have too many: raise `sysctl fs.file-max`",
    errno.EAGAIN: _processes,
    errno.ENOMEM: _memory,
    errno.EFBIG: _file_size,
}
