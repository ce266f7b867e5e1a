"""Those who work for a pool: its worker processes as `Staff`, and its one thread as `Tender`.

Always: neither refers to the pool, so that a forgotten one can be collected.  Not here: the pool's interface (`pool`), what
a worker does (`_pool_worker`).
"""

from __future__ import annotations

import threading

from . import _shortage, util
from ._pool_worker import worker

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from . import _engine, _worker_life

__all__ = ["Staff", "Tender"]


class Staff:
    """Starts a pool's workers, and knows them as `Process` objects.

    It holds no reference to the pool, so that a forgotten pool can be collected.
    """

    def __init__(self, ctx: Any, make: Callable[..., Any], life: _worker_life.Life | None, *orders: Any) -> None:
        self.ctx = ctx
        self.make = make
        # What a worker is told beside its seat.
        self.orders = orders
        self.life = life
        # The place of each worker, if that matters to it.
        self.places: dict[int, int] = {}
        self.processes: list[Any] = []

    def start(self, seat: _engine.Seat) -> Any:
        """Start one worker at `seat`; the parent's copies of the seat are closed."""
        self.let_go_of_exited()
        orders, place = self.orders, -1
        if self.life is not None:
            taken = {self.places.get(id(process)) for process in self.processes}
            place = next(place for place in range(len(taken) + 1) if place not in taken)
            orders = (*orders, (self.life, place))
        try:
            process = self.make(self.ctx, target=worker, args=(seat, *orders))
            process.name = process.name.replace("Process", "PoolWorker")
            process.daemon = True
            process.start()
            self.processes.append(process)
            self.places[id(process)] = place
        finally:
            seat.close()
        util.debug("added worker")
        return process

    def let_go_of_exited(self) -> None:
        for process in [process for process in self.processes if process.exitcode is not None]:
            process.join()
            try:
                self.processes.remove(process)
                self.places.pop(id(process), None)
            except ValueError:
                pass  # another thread that replaces a worker was faster

    def dismiss(self) -> None:
        """End the workers of a pool that could not be completed."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()


class Tender:
    """The thread that does what a pool needs while nobody waits for a result, once there is one.

    Like `Staff` it holds no reference to the pool.
    """

    def __init__(self, crew: Any) -> None:
        self._crew = crew
        # A signal handler that runs during a start may use the pool: it starts a second thread, which does no harm.
        self._lock = threading.RLock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the thread, unless it runs."""
        # In a forked child the lock may be held by a thread that is not there.
        if self._threads or not self._crew.is_ours():
            return
        with self._lock:
            if not self._threads:
                thread = threading.Thread(target=self._crew.tend, name="manyhands-tender", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    raise _shortage.no_thread("could not start the thread that tends the pool") from None
                self._threads.append(thread)

    def stop(self) -> None:
        """End the thread, unless it is this one, which is about to end."""
        self._crew.stop_tending()
        while self._threads:
            thread = self._threads.pop()
            if thread is not threading.current_thread():
                thread.join()
