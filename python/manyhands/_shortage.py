"""What a user is told when something runs out: what was to be done, which limit was reached, how high it is, what helps.

Always: the error keeps its number, and so its type.  What the engine says has these words already
(`crates/manyhands-os/src/error.rs`); here are those for what Python does itself.
"""

from __future__ import annotations

import errno

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
    # The engine's errors have theirs.
    return OSError(error.errno, f"{what}: {text}" if ";" in text else f"{what}: {text}; {advice()}")


def no_thread(what: str) -> RuntimeError:
    """Return the error for a thread that could not be started."""
    return RuntimeError(f"{what}: can't start new thread; {_processes()}")


def no_folder(error: OSError) -> OSError:
    """Return the error for a temporary folder that could not be made."""
    what = "could not make a folder for temporary files and sockets"
    return OSError(error.errno, f"{what}: {error.strerror}; set TMPDIR to a folder that has room and can be written to")


def _limit(name: str) -> str:
    import resource

    number = resource.getrlimit(getattr(resource, name))[0]
    return "no limit of" if number == resource.RLIM_INFINITY else f"{number}"


def _files() -> str:
    return f"this process may have {_limit('RLIMIT_NOFILE')}: raise the limit (`ulimit -n`), or close some"


def _processes() -> str:
    return (
        f"this user may have {_limit('RLIMIT_NPROC')} processes and threads (`ulimit -u`), and a container a number of "
        "its own (`pids.max`): raise them, or use fewer workers"
    )


def _memory() -> str:
    return "free some, raise the limit (`ulimit -v`, the container's), or start processes before the program is large"


def _file_size() -> str:
    return (
        f"files of this process may have {_limit('RLIMIT_FSIZE')} bytes: raise the limit (`ulimit -f`), or ask for less"
    )


_ADVICE: dict[int, Callable[[], str]] = {
    errno.EMFILE: _files,
    errno.ENFILE: lambda: "all programs together have too many: raise `sysctl fs.file-max`",
    errno.EAGAIN: _processes,
    errno.ENOMEM: _memory,
    errno.EFBIG: _file_size,
}
