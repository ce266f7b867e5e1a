"""Locks, semaphores, conditions, events and barriers that processes share.

Always: what they are lies in memory without a name, which a forked child has and other children get as a
descriptor with the process object; so nothing is left behind by a process that is killed, and nothing of
this module needs the resource tracker.  Only who asks for a lock's name gives it one.
Not here: how waiting works (the engine).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from . import _engine, context, process, util
from .errors import OwnerDied

if TYPE_CHECKING:
    from .context import BaseContext

__all__ = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"]

RECURSIVE_MUTEX, SEMAPHORE = 0, 1
SEM_VALUE_MAX = _engine.SemLock.SEM_VALUE_MAX
sem_unlink = _engine.sem_unlink

# ---- what all of them have in common: a place in shared memory, and the way to a child ----


def _starts_by_fork(ctx: BaseContext | None) -> bool:
    """Return whether objects of `ctx` go to children by fork alone, and see to the tracker otherwise."""
    if ctx is None:
        ctx = context._default_context.get_context()
    if ctx.get_start_method() == "fork":
        return True
    # Children of the other methods share the family's tracker: if it was killed, this is noticed here.
    tracker = sys.modules.get(f"{__package__}.resource_tracker")
    if tracker is not None and tracker._resource_tracker._seen:
        tracker.ensure_running()
    return False


class _Place(Protocol):
    def _share(self) -> tuple[int, int]: ...


def _ticket(obj: object, made_for_fork: bool, place: _Place) -> tuple[Any, int]:
    """Return what finds `place`, an object of the engine's, in the child that is being started."""
    context.assert_spawning(obj)
    if made_for_fork:
        raise RuntimeError(
            "A SemLock created in a fork context is being shared with a process in a spawn context. This is not "
            "supported. Please use the same context to create multiprocessing objects and Process."
        )
    fd, cell = place._share()
    from .reduction import _dup_once  # loaded by now: a child is being started

    return _dup_once(fd), cell  # many objects lie on one descriptor


class _NamedSemLock(_engine.SemLock):
    """A lock of a start method other than fork: it has a name for who asks for it."""

    _given: str | None = None

    @property
    def name(self) -> str:
        """A name, a str, by which another process can find the lock as long as this one lives.

        The standard library names such locks when they are made; nothing here needs it, so it is done when
        somebody asks.  The name goes with the lock, or with this process: then by the resource tracker.
        """
        if self._given is None:
            from .resource_tracker import register

            for _ in range(100):
                name = SemLock._make_name()
                try:
                    self._publish(name)
                except FileExistsError:
                    continue
                break
            else:
                raise FileExistsError("cannot find name for semaphore")
            self._given = name
            register(name, "semaphore")
            util.Finalize(self, SemLock._cleanup, (name,), exitpriority=0)
        return self._given


class _Acquire(Protocol):
    def __call__(self, block: bool = True, timeout: float | None = None) -> bool: ...


class SemLock:
    """What locks and semaphores have in common."""

    acquire: _Acquire
    release: Callable[[], None]

    def __init__(self, kind: int, value: int, maxvalue: int, *, ctx: BaseContext | None, _owned: bool = False) -> None:
        self._is_fork_ctx = _starts_by_fork(ctx)
        make = _engine.SemLock if self._is_fork_ctx else _NamedSemLock
        self._semlock: _engine.SemLock = make(kind, value, maxvalue, owned=_owned)
        util.debug("created semlock with handle %s", self._semlock.handle)
        self._make_methods()

    def _make_methods(self) -> None:
        self.acquire, self.release = self._semlock._methods()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *args: object) -> None:
        self.release()

    def __getstate__(self) -> tuple[Any, ...]:
        semlock = self._semlock
        return (*_ticket(self, self._is_fork_ctx, semlock), semlock.kind, semlock.maxvalue)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        dup, cell, kind, maxvalue = state
        self._semlock = _NamedSemLock(kind, 0, maxvalue, board=dup.detach(), cell=cell)
        util.debug("recreated blocker with handle %r", self._semlock.handle)
        self._make_methods()
        # What came from another process may go on to a further one.
        self._is_fork_ctx = False

    @staticmethod
    def _make_name() -> str:
        import secrets

        return f"{process.current_process()._config['semprefix']}-{secrets.token_hex(5)}"

    @staticmethod
    def _cleanup(name: str) -> None:
        from .resource_tracker import unregister

        try:
            sem_unlink(name)
        except FileNotFoundError:
            pass  # somebody else has removed it
        unregister(name, "semaphore")

    def _holder(self) -> tuple[str, int | str]:
        """Return the holder's name as the standard library prints it, and the depth of a recursive lock."""
        semlock = self._semlock
        if semlock._is_mine():
            name = process.current_process().name
            if threading.current_thread().name != "MainThread":
                name += "|" + threading.current_thread().name
            return name, semlock._count()
        if not semlock._is_zero():
            return "None", 0
        return ("SomeOtherThread" if semlock._count() > 0 else "SomeOtherProcess"), "nonzero"


# ---- semaphores ----


class Semaphore(SemLock):
    """A number that processes take from and add to.  Differs: none."""

    def __init__(self, value: int = 1, *, ctx: BaseContext | None) -> None:
        super().__init__(SEMAPHORE, value, SEM_VALUE_MAX, ctx=ctx)

    def get_value(self) -> int:
        """Return how many could be taken now, an int."""
        return self._semlock._get_value()

    def locked(self) -> bool:
        """Return whether none could be taken now."""
        return self._semlock._is_zero()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={_told(lambda: self._semlock._get_value())})>"


class BoundedSemaphore(Semaphore):
    """A semaphore that is never above its first value; releasing too often raises ValueError.

    Differs: the bound is exact, also when several processes release at once.
    """

    def __init__(self, value: int = 1, *, ctx: BaseContext | None) -> None:
        SemLock.__init__(self, SEMAPHORE, value, value, ctx=ctx)

    def __repr__(self) -> str:
        value = _told(lambda: self._semlock._get_value())
        return f"<{type(self).__name__}(value={value}, maxvalue={_told(lambda: self._semlock.maxvalue)})>"


def _told(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception:
        return "unknown"


# ---- locks ----


class Lock(SemLock):
    """A lock that one thread of one process holds, and that any may release.

    Differs: it knows its holder; `locked()` is there on every version of Python.
    """

    def __init__(self, *, ctx: BaseContext | None) -> None:
        super().__init__(SEMAPHORE, 1, 1, ctx=ctx, _owned=True)

    def locked(self) -> bool:
        """Return whether somebody holds it."""
        return self._semlock._is_zero()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(owner={_told(lambda: self._holder()[0])})>"


class RLock(SemLock):
    """A lock that its holder may take again, and gives back as often; only the holder may release it.

    Differs: `locked()` is there on every version of Python.
    """

    def __init__(self, *, ctx: BaseContext | None) -> None:
        super().__init__(RECURSIVE_MUTEX, 1, 1, ctx=ctx)

    def locked(self) -> bool:
        """Return whether somebody holds it."""
        return self._semlock._is_zero()

    def __repr__(self) -> str:
        try:
            name, count = self._holder()
        except Exception:
            name = count = "unknown"
        return f"<{type(self).__name__}({name}, {count})>"


# ---- conditions ----


class _Count:
    """A number as a semaphore shows it, for who looks into a condition."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self._get_value = self.get_value = ask

    @property
    def _semlock(self) -> _Count:
        return self


class Condition:
    """Waiting for a change that a lock guards.

    lock -- a Lock or RLock of this package; a new RLock if None

    Differs: a process that was killed while it waited does not keep notify() waiting, and is not counted
    among the notified; who waits longest is notified first.
    """

    acquire: _Acquire
    release: Callable[[], None]

    def __init__(self, lock: Any = None, *, ctx: BaseContext) -> None:
        self._lock = lock or ctx.RLock()
        self._is_fork_ctx = _starts_by_fork(ctx)
        self._waiters = _engine.Condition()
        self._make_methods()

    def _make_methods(self) -> None:
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __getstate__(self) -> tuple[Any, ...]:
        return (self._lock, *_ticket(self, self._is_fork_ctx, self._waiters))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._lock, dup, cell = state
        self._waiters = _engine.Condition(dup.detach(), cell)
        self._is_fork_ctx = False
        self._make_methods()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *args: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._lock}, {_told(self._waiters.waiting)})>"

    # The standard library counts with three semaphores, and its tests look at them.
    _sleeping_count = property(lambda self: _Count(self._waiters.waiting))
    _woken_count = property(lambda self: _Count(lambda: 0))
    _wait_semaphore = property(lambda self: _Count(lambda: 0))

    def wait(self, timeout: float | None = None) -> bool:
        """Give the lock back, wait to be notified, take the lock again; return whether it was.

        timeout -- seconds, a float; None is for ever
        Raises AssertionError if this thread does not hold the lock.
        """
        return self._waiters.wait(self._lock._semlock, timeout)

    def notify(self, n: int = 1) -> None:
        """Wake at most `n` of those who wait.

        Raises AssertionError if this thread does not hold the lock.
        """
        self._waiters.notify(self._lock._semlock, n)

    def notify_all(self) -> None:
        """Wake all who wait."""
        self._waiters.notify(self._lock._semlock, sys.maxsize)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until predicate() is true; return its last result.

        timeout -- seconds, a float, for all of the waiting; None is for ever
        """
        result = predicate()
        if timeout is None:
            while not result:
                self.wait()
                result = predicate()
            return result
        from time import monotonic

        end = monotonic() + timeout
        while not result:
            left = end - monotonic()
            if left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result


# ---- events ----


class Event:
    """Something that has happened or not, and can be waited for.

    Differs: who waits while it is set and cleared again has seen it; setting it never waits for anybody.
    """

    def __init__(self, *, ctx: BaseContext | None) -> None:
        self._is_fork_ctx = _starts_by_fork(ctx)
        self._event = _engine.Event()

    def __getstate__(self) -> tuple[Any, ...]:
        return _ticket(self, self._is_fork_ctx, self._event)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        dup, cell = state
        self._event = _engine.Event(dup.detach(), cell)
        self._is_fork_ctx = False

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._event.is_set()

    def set(self) -> None:
        """Set it, and wake all who wait for that."""
        self._event.set()

    def clear(self) -> None:
        """Take that back."""
        self._event.clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; return whether it was.

        timeout -- seconds, a float; None is for ever
        """
        return self._event.wait(timeout)

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} at {id(self):#x} {'set' if self.is_set() else 'unset'}>"


# ---- barriers ----


class Barrier(threading.Barrier):
    """A place where `parties` threads of whatever processes wait for each other.

    Differs: when a process is killed that waits here, the others get `threading.BrokenBarrierError`; with the standard
    library's they wait for ever, now or the next time. After `reset` the barrier can be used again.
    """

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: BaseContext,
    ) -> None:
        from .heap import BufferWrapper

        self.__setstate__((parties, action, timeout, ctx.Condition(), BufferWrapper(4 + 4 * max(int(parties), 1))))
        for at in range(len(self._array)):
            self._array[at] = 0

    def __getstate__(self) -> tuple[Any, ...]:
        return (self._parties, self._action, self._timeout, self._cond, self._wrapper)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._parties, self._action, self._timeout, self._cond, self._wrapper = state
        # threading.Barrier's state, and for each party that waits its process. Each changes by one store, so whoever is
        # killed leaves both whole.
        self._array = self._wrapper.create_memoryview().cast("i")

    @property
    def _state(self) -> int:
        return int(self._array[0])

    @_state.setter
    def _state(self, value: int) -> None:
        self._array[0] = value

    @property
    def _count(self) -> int:
        seats: list[int] = self._array[1:].tolist()
        return len(seats) - seats.count(0)

    def reset(self) -> None:
        """Make the barrier as new; who waits gets `threading.BrokenBarrierError`."""
        with _Surviving(self._cond):
            self._bury()
            if self._count:
                if self._state != 1:
                    self._state = -1  # until the last one has left
            else:
                self._state = 0
            self._cond.notify_all()

    def abort(self) -> None:
        """Break the barrier: who waits, or comes, gets `threading.BrokenBarrierError` until it is reset."""
        with _Surviving(self._cond):
            self._break()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all parties have come; return this one's number, from 0 to parties - 1.

        Raises `threading.BrokenBarrierError` when the barrier is broken, be it by a time-out or the death of a party.
        """
        if timeout is None:
            timeout = self._timeout
        with _Surviving(self._cond):
            self._enter()
            if self._count + 1 >= self._parties:
                self._bury()  # only the living are let through
                self._enter()
            seats: list[int] = self._array[1:].tolist()
            index, at = len(seats) - seats.count(0), seats.index(0) + 1
            self._array[at] = self._cond._waiters._me()
            try:
                if index + 1 == self._parties:
                    self._release()
                else:
                    self._wait(timeout)
                return index
            finally:
                self._array[at] = 0
                self._exit()

    def _enter(self) -> None:
        """Wait until those of the last round have left."""
        while self._state in (-1, 1):
            self._exit()  # should the last one have been killed before it could
            if self._state:
                self._doze(_LOOK)
        if self._state < 0:
            raise threading.BrokenBarrierError

    def _wait(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._state == 0:
            left = _LOOK if deadline is None else min(deadline - time.monotonic(), _LOOK)
            if left <= 0:
                self._break()
                break
            self._doze(left)
        if self._state < 0:
            raise threading.BrokenBarrierError

    def _doze(self, seconds: float) -> None:
        """Wait for a change, and look meanwhile whether the others that wait here live."""
        try:
            if self._cond.wait(seconds):
                return
        except OwnerDied:
            pass  # the lock is ours again
        self._bury()

    def _bury(self) -> None:
        """Clear the seats of the dead; if others wait with them, the barrier breaks: nobody comes in their place."""
        seats: list[int] = self._array[1:].tolist()
        dead = [at for at, who in enumerate(seats, 1) if who and self._cond._waiters._is_dead(who)]
        if self._state == 0 and 0 < len(dead) < len(seats) - seats.count(0):
            self._break()  # first: whoever is killed now leaves it broken, not short of a party
        for at in dead:
            self._array[at] = 0

    def _release(self) -> None:
        try:
            if self._action:
                self._action()
            self._state = 1
            self._cond.notify_all()
        except BaseException:
            self._break()
            raise

    def _exit(self) -> None:
        if self._count == 0 and self._state in (-1, 1):
            self._state = 0
            self._cond.notify_all()

    def _break(self) -> None:
        self._state = -2
        self._cond.notify_all()


# How often one who waits at a barrier looks whether the others live, in seconds.
_LOOK = 0.5


class _Surviving:
    """A lock or condition for those whose work is whole between any two steps: that a holder was killed is no matter."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        while True:
            try:
                self._lock.acquire()
                return
            except OwnerDied:
                pass

    def __exit__(self, *args: object) -> None:
        self._lock.release()
