"""Named segments and the lists in them: making, finding, removing, and what cannot be."""

from __future__ import annotations

import itertools
import os
import pickle
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sharers

from manyhands import resource_tracker, shared_memory
from manyhands.shared_memory import ShareableList, SharedMemory
from scripts import descriptors, printed

numbers = itertools.count()


@pytest.fixture
def name() -> Iterator[str]:
    name = f"manyhands-test-{os.getpid()}-{next(numbers)}"
    yield name
    if os.path.exists(f"/dev/shm/{name}"):
        SharedMemory(name).unlink()


def test_a_segment_is_made_found_and_removed(name: str) -> None:
    before = descriptors()
    made = SharedMemory(name, create=True, size=5000)
    found = SharedMemory(name, size=7)
    found.buf[:5] = b"hello"
    assert (made.name, made.size, bytes(made.buf[:5]), found.size) == (name, 5000, b"hello", 5000)
    assert repr(made) == f"SharedMemory('{name}', size=5000)"
    assert os.stat(f"/dev/shm/{name}").st_mode & 0o777 == 0o600
    found.close()
    found.close()
    assert found.buf is None
    made.unlink()
    assert bytes(made.buf[:5]) == b"hello"  # who has it keeps it
    made.close()
    assert descriptors() <= before + 1  # the tracker's
    with pytest.raises(FileNotFoundError):
        made.unlink()


def test_names_are_made_up_until_one_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"/psm_mp{os.getpid()}{letter}" for letter in "aab"]
    monkeypatch.setattr(shared_memory, "_make_filename", iter(names).__next__)
    one, two = SharedMemory(create=True, size=1), SharedMemory(create=True, size=1)
    assert [one._name, two._name] == [names[0], names[2]]
    for shm in (one, two):
        shm.close()
        shm.unlink()
    monkeypatch.undo()
    shm = SharedMemory(create=True, size=1)
    assert shm.name.startswith("psm_")
    shm.unlink()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"create": True, "size": -1}, ValueError),
        ({"create": True, "size": 0}, ValueError),
        ({"create": True}, ValueError),
        ({}, ValueError),
        ({"name": "manyhands-no-such-segment"}, FileNotFoundError),
        ({"name": "with\0null"}, ValueError),
        ({"name": ""}, OSError),
        ({"name": "a/b"}, OSError),
        ({"name": ".."}, OSError),
        ({"name": "x" * 300}, OSError),
        ({"name": 5}, TypeError),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    before = descriptors()
    with pytest.raises(error):
        SharedMemory(**arguments)
    assert descriptors() == before


def test_an_error_names_the_segment(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"No such file or directory: '/{name}'"):
        SharedMemory(name)
    made = SharedMemory(name, create=True, size=1)
    with pytest.raises(FileExistsError, match=f"File exists: '/{name}'"):
        SharedMemory(name, create=True, size=1)
    made.close()
    made.unlink()


def test_more_than_dev_shm_has_room_for_is_an_error_and_leaves_nothing(name: str) -> None:
    stat = os.statvfs("/dev/shm")
    if not stat.f_blocks:
        pytest.skip("/dev/shm has no limit here")
    before = descriptors()
    for size in (stat.f_blocks * stat.f_frsize + 4096, 1 << 60):
        with pytest.raises(OSError, match=r"No space left on device|could not") as told:
            SharedMemory(name, create=True, size=size)
        assert "shm-size" in str(told.value) or told.value.errno
    assert not os.path.exists(f"/dev/shm/{name}")
    assert descriptors() == before


def test_what_one_process_may_not_write_is_an_error(name: str, tmp_path: Path) -> None:
    """A limit on file sizes stops ftruncate; the process is not killed by a bus error later."""
    lines = printed(
        tmp_path,
        f"""
        import resource, signal
        from manyhands.shared_memory import SharedMemory
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            SharedMemory({name!r}, create=True, size=1 << 20)
        except OSError as error:
            print(type(error).__name__, error.errno)
        """,
    )
    assert lines == ["OSError 27"]
    assert not os.path.exists(f"/dev/shm/{name}")


@pytest.mark.parametrize("odd", ["é", "\u65e5\u672c:3", "x y"])
def test_a_name_may_have_any_letters(name: str, odd: str) -> None:
    made = SharedMemory(name + odd, create=True, size=1)
    made.close()
    made.unlink()
    assert not os.path.exists(f"/dev/shm/{name}{odd}")


def test_a_segment_that_cannot_be_tracked_is_not_made(name: str) -> None:
    before = descriptors()
    with pytest.raises(ValueError, match="line break"):
        SharedMemory(name + "\n", create=True, size=1)
    assert not os.path.exists(f"/dev/shm/{name}\n")
    assert descriptors() == before


def test_without_descriptors_nothing_is_left_behind(name: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource_tracker.ensure_running()
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + 10, hard))
    try:
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            os.close(taken.pop())
        with pytest.raises(OSError, match="Too many open files"):
            SharedMemory(name, create=True, size=10)  # one descriptor is there, its mapping needs another
        assert not os.path.exists(f"/dev/shm/{name}")
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_children_write_into_it(context: Any, name: str) -> None:
    made = SharedMemory(name, create=True, size=100)
    assert sharers.exit_code(context, sharers.write, made, b"from a child") == 0
    assert bytes(made.buf[:12]) == b"from a child"
    again = pickle.loads(pickle.dumps(made))
    assert bytes(again.buf[:4]) == b"from"
    again.close()
    made.close()
    made.unlink()


def test_a_segment_outlives_the_child_that_made_it(context: Any, name: str) -> None:
    assert sharers.exit_code(context, sharers.make_and_say, name) == 0
    found = SharedMemory(name)
    assert found.size == 100
    found.close()
    found.unlink()


def test_close_with_views_alive_is_an_error(name: str) -> None:
    made = SharedMemory(name, create=True, size=100)
    view = made.buf[:10]
    with pytest.raises(BufferError):
        made.close()
    view.release()
    made.close()
    made.unlink()


def test_a_list_keeps_its_items(context: Any) -> None:
    items = ShareableList(["eins", b"zwei", 3, None, False, 1.5])
    assert (list(items), len(items)) == (["eins", b"zwei", 3, None, False, 1.5], 6)
    assert items.format == "8s8sqxxxxxx?xxxxxxxx?d"
    assert sharers.exit_code(context, sharers.set_items, items) == 0
    assert list(items) == ["zwei", b"drei", None, True, 2.5, 7]
    assert (items.count(None), items.index(2.5), items[-1]) == (1, 4, 7)
    with pytest.raises(ValueError, match="not in this container"):
        items.index("eins")
    for wrong in (6, -7):
        with pytest.raises(IndexError, match="index out of range"):
            items[wrong]
        with pytest.raises(IndexError, match="assignment index out of range"):
            items[wrong] = 1
    with pytest.raises(ValueError, match="exceeds available storage"):
        items[0] = "x" * 9
    with pytest.raises(KeyError):
        items[0] = object()
    assert items[0] == "zwei"
    items.shm.close()
    items.shm.unlink()


def test_a_list_keeps_the_end_of_a_text_beyond_ascii() -> None:
    texts = ["日本語のテキスト", "é" * 7, "é" * 8, "x" * 8, "", "\0", "a\0b"]
    items = ShareableList(texts)
    assert list(items) == [text.rstrip("\0") for text in texts]
    items.shm.close()
    items.shm.unlink()


def test_lists_are_understood_by_the_standard_librarys() -> None:
    from multiprocessing import shared_memory as theirs

    ours = ShareableList(["text", b"bytes", 5, 2.5, None, True])
    other = theirs.ShareableList(name=ours.shm.name)
    try:
        assert list(other) == list(ours)
        assert other.format == ours.format
        other[2] = 77
        assert ours[2] == 77
    finally:
        other.shm.close()
        ours.shm.close()
        ours.shm.unlink()
        from multiprocessing import resource_tracker as their_tracker

        if getattr(other.shm, "_track", True):
            their_tracker.unregister(ours.shm._name, "shared_memory")


# ---- the tracker ----

MAKE = """
    import sys, time
    from manyhands.shared_memory import SharedMemory
    made = SharedMemory(sys.argv[1], create=True, size=10)
    print("ready", flush=True)
    time.sleep(60)
"""


def gone(name: str) -> bool:
    import time

    deadline = time.monotonic() + 30
    while os.path.exists(f"/dev/shm/{name}"):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_family_that_is_killed_leaves_no_segment(name: str, how: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(MAKE), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        getattr(process, how)()
        process.wait()
        assert gone(name)
        assert process.stderr is not None
        said = process.stderr.read()
    assert "resource_tracker: There appear to be 1 leaked shared_memory objects to clean up at shutdown" in said


def test_what_another_family_made_is_left_alone(name: str) -> None:
    """python/cpython#82300: the tracker of a process that only looked removed the segment."""
    made = SharedMemory(name, create=True, size=10)
    for track in ("", ", track=True", ", track=False"):
        look = f"import sys; from manyhands.shared_memory import SharedMemory as S; S(sys.argv[1]{track}).close()"
        done = subprocess.run([sys.executable, "-c", look, name], capture_output=True, text=True, timeout=40)
        assert done.returncode == 0
        assert ("leaked" in done.stderr) == (track != ", track=False")
        assert os.path.exists(f"/dev/shm/{name}")
    made.close()
    made.unlink()


def test_a_program_that_cleans_up_hears_nothing(tmp_path: Path, method: str) -> None:
    lines = printed(
        tmp_path,
        f"""
        import manyhands
        from manyhands.shared_memory import SharedMemory, ShareableList

        def use(shm, items):
            shm.buf[0] = 7
            items[0] = 8
            shm.close()

        if __name__ == "__main__":
            context = manyhands.get_context({method!r})
            shm, items = SharedMemory(create=True, size=10), ShareableList([1])
            child = context.Process(target=use, args=(shm, items))
            child.start()
            child.join()
            print(child.exitcode, shm.buf[0], items[0])
            for one in (shm, items.shm):
                one.close()
                one.unlink()
        """,
    )
    assert lines == ["0 7 8"]


def test_what_a_child_made_outlives_it(tmp_path: Path, method: str) -> None:
    """The program itself has nothing tracked when it starts the child."""
    lines = printed(
        tmp_path,
        f"""
        import os, signal, sys
        import manyhands

        def make(told):
            from manyhands.resource_tracker import _resource_tracker
            from manyhands.shared_memory import SharedMemory

            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # that no tracker reads yet kills nobody
            made = SharedMemory(create=True, size=10)
            made.buf[0] = 5
            told.send((made.name, _resource_tracker._pid))
            made.close()

        if __name__ == "__main__":
            context = manyhands.get_context({method!r})
            ours, theirs = context.Pipe()
            child = context.Process(target=make, args=(theirs,))
            child.start()
            name, tracker = ours.recv()
            child.join()
            print("manyhands.resource_tracker" in sys.modules)

            def pipes(pid):
                links = set()
                for fd in os.listdir(f"/proc/{{pid}}/fd"):
                    try:
                        links.add(os.readlink(f"/proc/{{pid}}/fd/{{fd}}"))
                    except FileNotFoundError:
                        pass  # what listed them
                return {{link for link in links if link.startswith("pipe:")}}

            print("the tracker waits for us" if pipes(tracker) & pipes("self") else "it does not")
            from manyhands.shared_memory import SharedMemory

            found = SharedMemory(name)
            print(found.buf[0])
            found.close()
            found.unlink()
        """,
    )
    assert lines == ["False", "the tracker waits for us", "5"]


def test_children_that_register_at_once_start_one_tracker(tmp_path: Path, method: str) -> None:
    lines = printed(
        tmp_path,
        f"""
        import manyhands

        def make(all_here, found, read):
            from manyhands.resource_tracker import _resource_tracker
            from manyhands.shared_memory import SharedMemory

            all_here.wait()
            made = SharedMemory(create=True, size=10)
            found.put(_resource_tracker._pid)
            read.wait()
            made.close()
            made.unlink()

        if __name__ == "__main__":
            context = manyhands.get_context({method!r})
            all_here, found, read = context.Barrier(4), context.SimpleQueue(), context.Event()
            children = [context.Process(target=make, args=(all_here, found, read)) for _ in range(4)]
            for child in children:
                child.start()
            started = [found.get() for _ in children]
            read.set()
            print(len(started) - started.count(None))
            for child in children:
                child.join()
                print(child.exitcode)
        """,
    )
    assert lines == ["1", "0", "0", "0", "0"]


def test_the_tracker_says_how_it_went() -> None:
    for messages, code in (
        ([], 0),
        ([("register", "a", "shared_memory"), ("unregister", "a", "shared_memory")], 0),
        ([("register", "/manyhands-no-such-segment", "shared_memory")], 2),
    ):
        tracker = resource_tracker.ResourceTracker()
        for act, *words in messages:
            getattr(tracker, act)(*words)
        tracker.ensure_running()
        tracker._stop()
        assert tracker._exitcode == code
    for nonsense in (b"NONSENSE\n", b"REGISTER:a:no-such-type\n", b"UNREGISTER:b:shared_memory\n", b"\xff:a:b\n"):
        tracker = resource_tracker.ResourceTracker()
        tracker.ensure_running()
        os.write(tracker._fd, nonsense)
        tracker._stop()
        assert tracker._exitcode == 3


def test_a_tracker_that_was_killed_is_replaced() -> None:
    tracker = resource_tracker.ResourceTracker()
    tracker.ensure_running()
    first = tracker._pid
    os.kill(first, 9)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    with pytest.warns(UserWarning, match="resource_tracker: process died unexpectedly, relaunching"):
        tracker.ensure_running()
    assert tracker._pid != first
    tracker._stop()
    assert tracker._exitcode == 0


@pytest.mark.parametrize("number", [2, 15], ids=["SIGINT", "SIGTERM"])
def test_what_ends_a_family_does_not_end_its_tracker(number: int) -> None:
    tracker = resource_tracker.ResourceTracker()
    tracker.ensure_running()
    os.kill(tracker._pid, number)  # also when it has hardly begun
    tracker._stop()
    assert tracker._exitcode == 0


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="msg too long"):
        resource_tracker.register("a" * 500, "shared_memory")


def test_one_tracker_serves_the_family(context: Any) -> None:
    resource_tracker.ensure_running()
    assert sharers.exit_code(context, sharers.same_tracker, resource_tracker._resource_tracker._pid) == 0
