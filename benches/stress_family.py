"""Kills those whom others depend on with SIGKILL at random moments: fork server, manager, its clients, parents.

    stress_family.py [--kills 20] [--method fork|spawn|forkserver|all] [--seed N]

- fork server: a pool goes on, each of its tasks is right or raises WorkerDied for a worker that was shot too; processes
  that are started next come from a new server;
- manager: each process that uses it gets an error within some seconds, and another one can be started;
- a manager's client: the lock that it held is free, and what it put is there, in order;
- a process, or an executor's worker, that has a pool of its own: the pool's workers end with it;
- a program: all that it had started ends (pool, nested pool, fork server, manager, producer, tracker);
- nothing hangs; nothing stays in /dev/shm or the temporary folder, no process, no descriptor.

The seed decides whom, and the pauses; the moments themselves are the machine's.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import family
from stress_shared import METHODS, PATIENCE, SPARED, Striker, Unreached, Wrong, armed, claim

import killing

# How long those may live whose parent was killed, in seconds; 1 s is what is promised, the rest is a busy machine's.
ORPHANED = 5.0
PROMISED = 1.0
KINDS = ("servers", "managers", "clients", "nested", "programs")


def arm(order: str) -> None:
    """Has this process die at the point that the order names."""
    from manyhands import _engine

    _engine.crash_at(order)  # type: ignore[attr-defined]


def use(shared: Any, items: Any, number: int, told: Any) -> None:
    """Uses a manager's objects until that is an error, and says which."""
    n = 0
    try:
        while True:
            if n == 5:
                told.send("works")
            shared[number] = n
            if shared[number] != n:
                told.send(f"{shared[number]} is there, {n} was put")
                return
            items.put((number, n))
            n += 1
    except (EOFError, OSError) as error:
        told.send(type(error))
    except BaseException as error:
        told.send(f"{error!r} is no error that a program expects")


def put_under_lock(lock: Any, items: Any, begun: Any) -> None:
    """Puts numbers into a manager's queue, each under a manager's lock."""
    n = 0
    while True:
        with lock:
            items.put(n)
        n += 1
        begun.set()


class Family(Striker):
    """Kills those whom others depend on."""

    LONGEST = 0.01

    def __init__(self, method: str, chance: random.Random, kills: int, order: str | None = None) -> None:
        import manyhands

        self.method = method
        self.context = manyhands.get_context(method)
        self.chance = chance
        self.kills = kills
        self.order = order
        self.killed = 0
        # The longest that anybody has outlived whom he depended on.
        self.slowest = 0.0
        self.tasks = 0

    def all_gone(self, mark: str, but: set[int], since: float) -> None:
        """Waits until of the marked processes only some are left."""
        while left := family.marked(mark) - but:
            if time.monotonic() > since + ORPHANED:
                names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes()[-80:] for pid in left}
                raise Wrong(f"they outlive whom they depended on by {ORPHANED} s: {names}")
            time.sleep(0.005)
        self.slowest = max(self.slowest, time.monotonic() - since)

    def servers(self) -> str:
        import manyhands
        from manyhands import forkserver

        server = forkserver._forkserver
        lost, shot = 0, set[int]()
        with self.context.Pool(3) as pool:
            for _ in range(self.kills):
                forkserver.ensure_running()
                count = self.chance.choice([5, 50, 200])
                results = pool.imap(family.square, range(count))
                time.sleep(self.chance.random() * 0.02)
                os.kill(server._forkserver_pid, signal.SIGKILL)
                self.killed += 1
                if self.chance.random() < 0.5:
                    # Who takes its place has to come from the next server.
                    victim = self.chance.choice([worker.pid for worker in pool._pool])
                    shot.add(victim)
                    os.kill(victim, signal.SIGKILL)
                    self.killed += 1
                for number in range(count):
                    try:
                        claim(results.next(PATIENCE) == number * number, f"task {number} is wrong")
                    except manyhands.WorkerDied as death:
                        claim(death.pid in shot, f"nobody has shot {death.pid}: {death}")
                        shot.discard(death.pid)
                        lost += 1
                self.tasks += count
                child = self.context.Process(target=int)
                child.start()
                child.join(PATIENCE)
                claim(child.exitcode == 0, f"a process after the server's death ended with {child.exitcode}")
            claim(pool.map(abs, range(-50, 0)) == list(range(50, 0, -1)), "the pool is not as good as new")
        return f"{self.tasks:,} tasks, {lost} lost with their worker"

    def managers(self) -> str:
        errors: dict[str, int] = {}
        slowest = 0.0
        unreached = False
        for _ in range(self.kills):
            manager = self.context.Manager() if self.order is None else self.armed_manager()
            if manager is None:
                continue
            process = manager._process
            clients = []
            try:
                shared, items = manager.dict(), manager.Queue()
                for number in range(2):
                    ours, theirs = self.context.Pipe(duplex=False)
                    client = self.context.Process(target=use, args=(shared, items, number, theirs))
                    client.start()
                    theirs.close()
                    clients.append((client, ours))
                if self.order is None:
                    if self.chance.random() < 0.8:
                        for _, ours in clients:
                            claim(ours.poll(PATIENCE) and ours.recv() == "works", "a client did not come to work")
                    time.sleep(self.chance.random() * 0.02)
                    process.kill()
                process.join(SPARED)
                unreached = self.order is not None and process.is_alive()
                process.kill()
                process.join()
            except (EOFError, OSError) as error:
                claim(self.order is not None, f"a manager that nobody had killed yet: {error!r}")
            since = time.monotonic()
            self.killed += 1
            try:
                shared[0] = 1
                raise Wrong("a call to a manager that is dead succeeded")
            except (EOFError, OSError, UnboundLocalError):
                pass  # unbound: it died before there was a proxy
            for client, ours in clients:
                said: Any = "works"
                while said == "works":
                    claim(ours.poll(PATIENCE), "a client of a dead manager waits for it")
                    said = ours.recv()
                slowest = max(slowest, time.monotonic() - since)
                claim(isinstance(said, type), said)
                errors[said.__name__] = errors.get(said.__name__, 0) + 1
                client.join(PATIENCE)
                claim(client.exitcode == 0, f"the client of a dead manager ended with {client.exitcode}")
                ours.close()
            manager.shutdown()
            if unreached:
                raise Unreached
        told = ", ".join(f"{count} {name}" for name, count in sorted(errors.items()))
        return f"clients were told by {told}, the last after {slowest:.2f} s"

    def armed_manager(self) -> Any:
        from manyhands.managers import SyncManager

        manager = SyncManager(ctx=self.context)
        try:
            manager.start(arm, (self.order,))
        except (EOFError, OSError):
            self.killed += 1  # before it was ready
            return None
        return manager

    def clients(self) -> str:
        came = 0
        with self.context.Manager() as manager:
            lock, items, begun = manager.RLock(), manager.Queue(), self.context.Event()
            for _ in range(self.kills):
                begun.clear()
                args: tuple[Any, ...] = (lock, items, begun)
                target: Callable[..., None] = put_under_lock
                if self.order is not None:
                    target, args = armed, (self.order, put_under_lock, *args)
                process = self.context.Process(target=target, args=args)
                process.start()
                claim(begun.wait(PATIENCE), "a client did not begin")
                self.strike(process)
                claim(lock.acquire(timeout=PATIENCE), "a dead client's lock stays held")
                lock.release()
                n = items.qsize()
                got = [items.get() for _ in range(n)]
                claim(got == list(range(n)), f"a client has put {got}")
                came += n
                process.close()
        return f"{came:,} items came"

    def nested(self) -> str:
        import manyhands
        from manyhands import resource_tracker

        mark = os.environ[family.MARK]
        resource_tracker.ensure_running()
        if self.method == "forkserver":
            self.context.Process(target=int).start()  # the server
        helpers: set[int] = set()
        for at in range(self.kills + 1):
            ours, theirs = self.context.Pipe()
            if self.chance.random() < 0.5:
                process = self.context.Process(target=family.have_a_pool, args=(self.method, theirs))
                process.start()
                pid, executor = process.pid, None
            else:
                executor = manyhands.ProcessPoolExecutor(1, self.context)
                pid = executor.submit(os.getpid).result(PATIENCE)
                future = executor.submit(family.have_a_pool, self.method, theirs)
            if self.chance.random() < 0.7 or at == 0:
                claim(ours.poll(PATIENCE), "a nested pool gives nothing")
            time.sleep(self.chance.random() * 0.05)
            os.kill(pid, signal.SIGKILL)
            since = time.monotonic()
            if executor is None:
                process.join()
                process.close()
            else:
                try:
                    future.result(PATIENCE)
                    raise Wrong("a task whose worker was killed gave a result")
                except manyhands.BrokenProcessPool:
                    executor.shutdown()
                del executor, future
            ours.close()
            theirs.close()
            if at == 0:
                # What is started once belongs to the baseline.
                time.sleep(1.0)
                helpers = family.marked(mark)
                continue
            self.killed += 1
            self.all_gone(mark, helpers, since)
        return f"the last of theirs ended after {self.slowest:.2f} s"

    def programs(self) -> str:
        for number in range(self.kills):
            mark = f"{os.getpid()}-{number}"
            command = [sys.executable, "-W", "ignore", family.__file__, self.method]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, family.MARK: mark}
            ) as program:
                assert program.stdout is not None
                if self.chance.random() < 0.7:
                    claim(program.stdout.readline() == b"ready\n", "the program did not come to work")
                    time.sleep(self.chance.random() * 0.1)
                else:
                    time.sleep(self.chance.random() * 0.8)
                program.kill()
                since = time.monotonic()
                self.killed += 1
                self.all_gone(mark, set(), since)
        return f"the last of theirs ended after {self.slowest:.2f} s"


def holdings() -> dict[str, int]:
    """What this process has that must not grow."""
    gc.collect()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "mappings of memfds": Path("/proc/self/maps").read_text().count("memfd"),
    }


def run(method: str, kind: str, seed: int, kills: int, order: str | None = None) -> str:
    """Runs one kind of victims in this process, two to begin with and then all; returns how it went."""
    import manyhands

    before: dict[str, int] = {}
    for count in (2, kills):
        # The first ones bring what is made once.
        rounds = Family(method, random.Random(f"{seed} {method} {kind}"), count, order)
        faulthandler.dump_traceback_later(120 + 5 * count, exit=True)
        began = time.monotonic()
        result = getattr(rounds, kind)()
        faulthandler.cancel_dump_traceback_later()
        while manyhands.active_children() and time.monotonic() < began + 600:
            time.sleep(0.01)
        before, after = before or holdings(), holdings()
    for what, number in after.items():
        claim(number <= before[what] + 4, f"{number} {what}, {before[what]} after the first kills")
    return f"{rounds.killed} kills, {result}, {time.monotonic() - began:.0f} s"


def supervise(method: str, kind: str, arguments: list[str], limit: float, environment: dict[str, str]) -> bool:
    """Runs a part in a process of its own, whose folder and processes are looked at when it has ended."""
    mark, memory = f"{os.getpid()}-{time.monotonic_ns()}", killing.abandoned_memory()
    with tempfile.TemporaryDirectory(prefix="manyhands-stress-") as folder:
        environment = {**os.environ, **environment, family.MARK: mark, "TMPDIR": folder}
        with subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-W", "ignore", *arguments], env=environment, start_new_session=True
        ) as child:
            try:
                status: object = child.wait(limit)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGABRT)  # with tracebacks
                status = f"it does not end within {limit:.0f} s"
                time.sleep(2.0)
                child.kill()
        left: dict[str, object] = {}
        end = time.monotonic() + ORPHANED
        while True:
            left = {
                "processes": family.marked(mark),
                "in the temporary folder": os.listdir(folder),
                "in /dev/shm": killing.abandoned_memory() - memory,
            }
            if not any(left.values()) or time.monotonic() > end:
                break
            time.sleep(0.05)
        for pid in family.marked(mark):
            os.kill(pid, signal.SIGKILL)
    if status == 0 and not any(left.values()):
        return True
    print(
        f"WRONG {method} {kind}: exit status {status}; left behind: { ({k: v for k, v in left.items() if v}) }",
        flush=True,
    )
    return False


def main() -> int:
    """Runs all of it and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each kind, for each start method")
    parser.add_argument("--method", default="all", choices=[*METHODS, "all"])
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        try:
            result = run(options.method, options.only, options.seed, options.kills)
        except Wrong as wrong:
            print(f"WRONG {options.method} {options.only}: {wrong}")
            return 1
        print(f"ok {options.method} {options.only}: {result}", flush=True)
        return 0
    seed = random.SystemRandom().randrange(1 << 20) if options.seed is None else options.seed
    print(f"stress of families: {options.kills} kills of each kind, seed {seed}, Python {sys.version.split()[0]}")
    wrong = 0
    for method in METHODS if options.method == "all" else [options.method]:
        for kind in KINDS if options.only is None else [options.only]:
            if kind == "servers" and method != "forkserver":
                continue
            arguments = [__file__, "--run", "--method", method, "--only", kind]
            arguments += ["--kills", str(options.kills), "--seed", str(seed)]
            wrong += not supervise(method, kind, arguments, 300 + 10 * options.kills, {})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
