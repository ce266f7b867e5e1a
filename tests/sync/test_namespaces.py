"""Processes that see each other differently, or not at all: namespaces of their own, and a `/proc` that hides them.

The programs need the rights to go into a namespace; elsewhere these tests are skipped.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import printed

# What every program here begins with.
KERNEL = """
import ctypes, os, signal, sys, threading, time

libc = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWPID = 0x20000, 0x20000000

def checked(answer):
    if answer:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def unshare(flags):
    checked(libc.unshare(flags))

def mount_proc(options=None):
    "Over /proc, for this process and those it starts."
    unshare(NEWNS)
    checked(libc.mount(b"none", b"/", None, ctypes.c_ulong(0x4000 | 0x40000), None))  # private, recursively
    checked(libc.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(0), options))

def in_namespace(function):
    "Run it as number 1 of a namespace; return its number here, and a function that waits for its end."
    told, tell = os.pipe()
    middle = os.fork()
    if not middle:
        unshare(NEWPID)
        inner = os.fork()
        if not inner:
            assert os.getpid() == 1
            function()
            os._exit(0)
        os.write(tell, str(inner).encode())
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 0xFF)
    number = int(os.read(told, 20))
    return number, lambda: os.waitstatus_to_exitcode(os.waitpid(middle, 0)[1])
"""


@pytest.fixture(autouse=True)
def _namespaces_are_allowed() -> None:
    attempt = f"{KERNEL}\nunshare(NEWPID)\nmount_proc()"
    done = subprocess.run([sys.executable, "-c", attempt], capture_output=True, text=True, timeout=40)
    if done.returncode:
        pytest.skip(f"this process may not go into a namespace: {done.stderr.splitlines()[-1]}")


def test_two_that_are_both_number_1_exclude_each_other(tmp_path: Path) -> None:
    lines = printed(
        tmp_path,
        KERNEL
        + """
import manyhands

lock = manyhands.RLock()
taken, tried = manyhands.Semaphore(0), manyhands.Semaphore(0)

def hold():
    with lock:
        taken.release()
        tried.acquire()

def attempt():
    print(lock.acquire(False), lock._semlock._is_mine(), lock._semlock._count(), flush=True)

_, first_ended = in_namespace(hold)
taken.acquire()
_, second_ended = in_namespace(attempt)
second_ended()
tried.release()
first_ended()
print(lock.acquire(False))
""",
    )
    assert lines == ["False False 0", "True"]


# How a producer of a long item is out of its consumer's sight.
IN_NAMESPACE = """
def produce():
    q.put(bytes(30_000_000))
    q.close()
    q.join_thread()

def unlike_any():
    "Under a number that nobody has outside."
    with open("/proc/sys/kernel/pid_max") as most, open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(int(most.read()) - 3))
    if not os.fork():
        produce()
        os._exit(0)
    os.wait()

def with_proc():
    mount_proc()
    produce()
"""


@pytest.mark.parametrize("producer", ["unlike_any", "with_proc"])
def test_a_producer_in_another_namespace_is_not_taken_for_dead(tmp_path: Path, producer: str) -> None:
    lines = printed(
        tmp_path,
        KERNEL
        + IN_NAMESPACE
        + f"""
import manyhands

q = manyhands.get_context("fork").SimpleQueue()
q.close = q.join_thread = lambda: None
number, ended = in_namespace({producer})
while not q._reader.poll(1):
    pass
# Now more is on its way than fits: the producer is in the midst of it.
inside = open(f"/proc/{{number}}/task/{{number}}/children").read().split()
number = int(inside[0]) if inside else number
os.kill(number, signal.SIGSTOP)
threading.Timer(0.5, os.kill, (number, signal.SIGCONT)).start()  # others look for its death meanwhile
print(len(q.get()))
print(ended())
""",
    )
    assert lines == ["30000000", "0"]


def test_a_producer_killed_in_a_namespace_is_found_dead_where_proc_shows_it(tmp_path: Path) -> None:
    lines = printed(
        tmp_path,
        KERNEL
        + IN_NAMESPACE
        + """
import manyhands

q = manyhands.get_context("fork").SimpleQueue()
q.close = q.join_thread = lambda: None
number, ended = in_namespace(produce)
while not q._reader.poll(1):
    pass
os.kill(number, signal.SIGKILL)
ended()
try:
    q.get()
except (EOFError, OSError) as error:
    print(error)
""",
    )
    assert lines == ["got end of file during message"]


def test_a_process_that_proc_hides_is_not_taken_for_dead(tmp_path: Path) -> None:
    lines = printed(
        tmp_path,
        KERNEL
        + """
mount_proc(b"hidepid=2")
import manyhands

context = manyhands.get_context("fork")
q, found = context.SimpleQueue(), context.SimpleQueue()

def put():
    q.put(bytes(30_000_000))

def get():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    found.put(os.path.exists(f"/proc/{producer.pid}"))
    found.put(len(q.get()))

producer = context.Process(target=put)
producer.start()
while not q._reader.poll(1):
    pass
os.kill(producer.pid, signal.SIGSTOP)
getter = context.Process(target=get)
getter.start()
print(found.get())
time.sleep(0.5)  # the getter looks for the producer's death meanwhile
os.kill(producer.pid, signal.SIGCONT)
print(found.get())
producer.join()
getter.join()
print(producer.exitcode, getter.exitcode)
""",
    )
    assert lines == ["False", "30000000", "0 0"]
