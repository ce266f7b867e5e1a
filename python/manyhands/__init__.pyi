"""What the default context offers, and install(): for type checkers, because `__init__.py` takes it over by name."""

from . import context as context
from . import process as process
from . import reduction as reducer
from . import reduction as reduction
from ._engine import Shared as Shared
from ._install import install as install
from ._worker_life import worker_state as worker_state
from .arrays import SharedArray as SharedArray
from .arrays import shared_array as shared_array
from .context import AuthenticationError as AuthenticationError
from .context import BufferTooShort as BufferTooShort
from .context import Process as Process
from .context import ProcessError as ProcessError
from .context import TimeoutError as TimeoutError
from .errors import BrokenPool as BrokenPool
from .errors import PoolTerminated as PoolTerminated
from .errors import RemoteError as RemoteError
from .errors import TaskExited as TaskExited
from .errors import WorkerDied as WorkerDied
from .executor import BrokenProcessPool as BrokenProcessPool
from .executor import ProcessPoolExecutor as ProcessPoolExecutor
from .process import active_children as active_children
from .process import current_process as current_process
from .process import parent_process as parent_process

__version__: str
SUBDEBUG: int
SUBWARNING: int

_default = context._default_context

Array = _default.Array
Barrier = _default.Barrier
BoundedSemaphore = _default.BoundedSemaphore
Condition = _default.Condition
Event = _default.Event
JoinableQueue = _default.JoinableQueue
Lock = _default.Lock
Manager = _default.Manager
Pipe = _default.Pipe
Pool = _default.Pool
Queue = _default.Queue
RLock = _default.RLock
RawArray = _default.RawArray
RawValue = _default.RawValue
Semaphore = _default.Semaphore
SimpleQueue = _default.SimpleQueue
Value = _default.Value
allow_connection_pickling = _default.allow_connection_pickling
cpu_count = _default.cpu_count
freeze_support = _default.freeze_support
get_all_start_methods = _default.get_all_start_methods
get_context = _default.get_context
get_logger = _default.get_logger
get_start_method = _default.get_start_method
log_to_stderr = _default.log_to_stderr
set_executable = _default.set_executable
set_forkserver_preload = _default.set_forkserver_preload
set_start_method = _default.set_start_method

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "install",
]
