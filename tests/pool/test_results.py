"""What a pool's calls return: values, order, types, sizes, callbacks."""

from __future__ import annotations

import array
import functools
import gc
import itertools
import os
import pickle
import sys
import threading
import time
from typing import Any

import pytest
import work

import manyhands
from manyhands import pool as pool_module
from scripts import until


def test_apply_returns_the_value(pool: Any) -> None:
    assert pool.apply(work.square, (7,)) == 49


def test_arguments_and_keywords_arrive(pool: Any) -> None:
    assert pool.apply(work.total, (1, "a"), {"k": [2]}) == ((1, "a"), {"k": [2]})
    assert pool.apply(work.total, [1, 2]) == ((1, 2), {})


def test_callables_that_are_not_plain_functions(pool: Any) -> None:
    assert pool.apply("abc".upper) == "ABC"
    assert pool.map("a".__add__, ["b", "c"]) == ["ab", "ac"]
    assert pool.map(abs, [-1, 2]) == [1, 2]
    assert pool.apply(complex, (1, 2)) == 1 + 2j


def test_state_of_a_callable_is_fresh_for_each_task(pool: Any) -> None:
    """As where function and chunk are pickled together: whichever worker has which chunk, and how many before."""
    assert pool.map(work.Counter(), range(6), chunksize=1) == [1] * 6
    assert pool.map(work.Counter().count, range(6), chunksize=3) == [1, 2, 3] * 2
    collect = functools.partial(work.collect, [])
    assert pool.map(collect, range(6), chunksize=2) == [[0], [0, 1], [2], [2, 3], [4], [4, 5]]
    assert list(pool.imap(work.Counter(), range(6))) == [1] * 6
    assert sorted(pool.imap_unordered(work.Counter(), range(6), chunksize=2)) == [1, 1, 1, 2, 2, 2]
    assert pool.starmap(work.Counter(), [(1,), (2,)], chunksize=1) == [1, 1]
    assert [pool.apply(work.Counter(), (1,)) for _ in range(3)] == [1] * 3


def test_large_state_is_fresh_for_each_task_too(pool: Any) -> None:
    """It lies in memory that all workers read, and that each task writes to for itself."""
    table = work.Table()
    call = functools.partial(work.add_to, table)
    expected = [(1, 1 + place, 1) for place in range(20)]
    assert pool.map(call, range(20), chunksize=1) == expected
    table[-1] = 2  # what was published before is not what is called now
    assert pool.map(call, [3, 3], chunksize=2) == [(1, 4, 2), (4, 7, 2)]
    assert table[3] == 1


def test_large_state_reaches_the_worker_that_replaces_a_dead_one(pool: Any) -> None:
    call = functools.partial(work.add_to_or_die, work.Table())
    answers = pool.imap(call, range(12))
    for place in range(12):
        if place == 5:
            with pytest.raises(manyhands.WorkerDied):
                next(answers)
        else:
            assert next(answers) == (1, 1 + place, 1)


def test_a_worker_that_cannot_open_large_state_says_so_once(context: Any) -> None:
    call = functools.partial(work.add_to, work.Table())
    with context.Pool(1) as pool:
        pool.apply(work.allow_descriptors, (3,))
        with pytest.raises(OSError, match="are kept by the pool, and this worker could not open"):
            pool.map(call, [3])
        assert pool.map(call, [3]) == [(1, 4, 1)]  # it comes another way from now on
        assert pool.map(functools.partial(work.add_to, work.Table()), [3]) == [(1, 4, 1)]


def test_large_state_leaves_nothing_behind(pool: Any) -> None:
    def kept() -> list[str]:
        found = (os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path))
        return [path for path in found if "manyhands function" in path]

    for _ in range(3):
        assert pool.map(functools.partial(work.add_to, work.Table()), [1], chunksize=1) == [(1, 2, 1)]
    gc.collect()
    assert len(kept()) <= 1  # the last one at most, until its workers are told


PLAIN = [
    *(None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**63, 10**40, 1.5, float("inf"), 5e-324),
    *("", "abc", "äöü\U0001f600", "a\0b", "x" * 5000, "é" * 5000, "\ud800", b"", b"abc" * 10, b"y" * 20_000),
    *(b"z" * 200_000, b"z" * 3_000_000, bytearray(b"ab"), (), (1,), (1, "a", None, 2.5, True), (b"x",), (1, (2,))),
    *([], [1, 2, 3], [1.0, 2.0], [1, 2.0], [True, 1], [1, True], [1.0, None], ["a"] * 10, ["x" * 200], [2**70]),
    *([1, 2**70], [1.0, "a"], [[1]], list(range(5000)), ("a" * 96, "ä" * 48, "ä" * 96), {"a": 1}),
    *([(1, 2.5), ("a", None), ()], [(1, (2,))], [((), (True,))], ((1, 2), [3]), [tuple(range(300))], [(2**70,), (1,)]),
    *(
        {},
        [{}],
        {"a": {"b": [1, {"c": ()}]}},
        {1: 2},
        {("a",): 1},
        {"a": {1}},
        [{"é": "ü", "\ud800": 1}],
        {"x" * 200: 1},
    ),
    *(
        [[[[[[[[[[[[1]]]]]]]]]]]],
        [{str(n): n for n in range(300)}],
        [{"k": "v" * 97}],
        [[b"a", b"b" * 300], [[], [[]]]],
    ),
    [{"id": n, "name": f"name {n}", "score": n / 3, "tags": ["a", "b"], "none": None} for n in range(5000)],
]


def types(value: object) -> object:
    """Of the value and of all that is in it."""
    if isinstance(value, dict):
        value = [*value.items()]
    return [type(value), *(map(types, value) if isinstance(value, list | tuple) else ())]


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_plain_values_come_back_as_they_were(pool: Any, chunksize: int | None) -> None:
    """Numbers, strings and short collections of them do not go the way of pickles."""
    answers = pool.map(work.same, PLAIN, chunksize)
    assert answers == PLAIN
    assert [types(answer) for answer in answers] == [types(value) for value in PLAIN]
    for value in PLAIN:
        answer = pool.apply(work.same, (value,))
        assert answer == value
        assert types(answer) == types(value)


def test_strings_that_recur_are_not_written_each_time() -> None:
    rows = [("x" * 96,) * 255] * 4096
    assert len(manyhands._engine.dumps(rows)[0]) < 100_000
    names = [f"{number:059}" for number in range(20)]
    table = [tuple(names[(row + column) % 20] for column in range(50)) for row in range(4096)]
    assert len(manyhands._engine.dumps(table)[0]) < 1_000_000


def test_what_is_there_twice_is_so_afterwards(pool: Any) -> None:
    """As pickles have it: of what can be changed, one is one."""
    row, pair, itself = {"a": 1}, ([1],), []
    itself.append(itself)
    first, second = pool.apply(work.same, ([row, row],))
    assert first is second
    first, second = pool.apply(work.same, ([{"x": row}, {"y": row}],))
    assert first["x"] is second["y"]
    first, second = pool.apply(work.same, ([pair, pair],))
    assert first[0] is second[0]
    (answer,) = pool.apply(work.same, (itself,))
    assert answer[0] is answer
    row["row"] = row
    answer = pool.apply(work.same, (row,))
    assert answer["row"] is answer
    rows = pool.map(work.same, [row] * 3, 3)
    assert rows[0] is rows[1] is rows[2]
    kept = {"a": []}
    assert pool.map(work.same, [kept, {"a": []}], 2) == [kept, kept]


def test_what_only_looks_plain_keeps_its_class(pool: Any) -> None:
    looks = [work.Whole(3), work.Name("a"), work.Pair((1, 2)), -0.0, float("nan")]
    whole, name, pair, zero, nan = pool.map(work.same, looks, 1)
    assert (type(whole), type(name), type(pair)) == (work.Whole, work.Name, work.Pair)
    assert repr((zero, nan)) == "(-0.0, nan)"
    first, second = pool.apply(work.same, ([work.Whole(1), work.Name("b")],))
    assert (type(first), type(second)) == (work.Whole, work.Name)


@pytest.mark.parametrize("chunksize", [None, 1, 2, 3, 100])
def test_map_keeps_the_order(pool: Any, chunksize: int | None) -> None:
    assert pool.map(work.square, range(50), chunksize) == [x * x for x in range(50)]


def test_map_of_nothing(pool: Any) -> None:
    assert pool.map(work.square, []) == []
    assert pool.map(work.square, iter(())) == []
    assert list(pool.imap(work.square, [])) == []
    assert pool.map_async(work.square, ()).get() == []


def test_map_draws_from_a_generator(pool: Any) -> None:
    assert pool.map(work.square, (x for x in range(1000))) == [x * x for x in range(1000)]


def test_starmap_spreads_its_items(pool: Any) -> None:
    assert pool.starmap(pow, [(2, 3), [3, 2]], 1) == [8, 9]
    assert pool.starmap(pow, zip([2, 3], [3, 2], strict=True)) == [8, 9]
    assert pool.starmap_async(pow, [(2, 3)]).get() == [8]


def test_imap_keeps_the_order_and_unordered_all_values(pool: Any) -> None:
    assert list(pool.imap(work.square, range(100))) == [x * x for x in range(100)]
    assert list(pool.imap(work.square, range(100), 7)) == [x * x for x in range(100)]
    assert sorted(pool.imap_unordered(work.square, range(100), 7)) == [x * x for x in range(100)]


def test_imap_goes_on_after_a_failed_item(pool: Any) -> None:
    seen: list[Any] = []
    results = pool.imap(work.fail_on_three, range(5))
    for _ in range(5):
        try:
            seen.append(next(results))
        except KeyError as error:
            seen.append(repr(error))
    assert seen == [0, 1, 2, "KeyError(3)", 4]
    with pytest.raises(StopIteration):
        next(results)


def test_imap_yields_what_came_before_its_input_failed(pool: Any) -> None:
    def numbers() -> Any:
        yield from range(3)
        raise LookupError("no more")

    results = pool.imap(work.square, numbers())
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(LookupError) as caught:
        next(results)
    assert caught.value.__cause__ is None, "the caller's own exception is nobody's remote one"


def test_input_is_drawn_no_further_than_the_pool_can_use(pool: Any, tmp_path: Any) -> None:
    drawn = 0

    def gates() -> Any:
        nonlocal drawn
        for _ in range(100_000):
            drawn += 1
            yield str(tmp_path / "gate")

    assert pool.apply(work.square, (2,)) == 4  # a worker is ready, and begins the first
    results = pool.imap(work.wait_for, gates())
    with pytest.raises(manyhands.TimeoutError):
        results.next(0.5)
    assert 1 <= drawn < 100
    results._handle.cancel()
    (tmp_path / "gate").touch()
    assert next(results) == str(tmp_path / "gate")


@pytest.mark.parametrize("size", [0, 100, 20_000, 70_000, 1 << 20, 40 << 20])
def test_bytes_of_any_size_come_back_the_same(pool: Any, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert pool.apply(work.same, (data,)) == data


def test_large_buffers_come_back_the_same_and_writable(pool: Any) -> None:
    data = array.array("d", range(100_000))
    for _ in range(5):
        assert bytes(pool.apply(work.same, (pickle.PickleBuffer(data),))) == data.tobytes()
    big = bytearray(3 << 20)
    big[12345] = 7
    back = pool.map(work.same, [big] * 6, 1)
    assert all(one == big for one in back)
    back[0][0] = 1


def test_many_large_items_pass_in_bounded_memory(pool: Any) -> None:
    blob = b"a" * (2 << 20)
    assert sum(len(one) for one in pool.imap(work.same, (blob for _ in range(100)))) == 200 << 20


def test_async_results(pool: Any, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    result = pool.apply_async(work.wait_for, (str(gate),))
    assert isinstance(result, pool_module.AsyncResult)
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(manyhands.TimeoutError):
        result.get(timeout=0.05)
    result.wait(0.01)
    gate.touch()
    assert result.get(30) == str(gate)
    assert result.get() == str(gate), "a value can be asked for again"
    assert result.ready() and result.successful()
    failed = pool.apply_async(work.fail, (1,))
    failed.wait()
    assert not failed.successful()


def test_imap_next_times_out_and_goes_on(pool: Any, tmp_path: Any) -> None:
    results = pool.imap(work.wait_for, [str(tmp_path / "gate")])
    with pytest.raises(manyhands.TimeoutError):
        results.next(timeout=0.05)
    (tmp_path / "gate").touch()
    assert results.next(30) == str(tmp_path / "gate")


def test_callbacks_run_before_the_result_is_ready(pool: Any) -> None:
    seen: list[Any] = []
    pool.apply_async(work.square, (3,), callback=seen.append).wait()
    assert seen == [9]
    pool.map_async(work.square, [1, 2], callback=seen.append).wait()
    assert seen == [9, [1, 4]]
    pool.apply_async(work.fail, (3,), callback=seen.append, error_callback=lambda e: seen.append(str(e))).wait()
    assert seen[2] == "no 3"


def test_callbacks_run_when_nobody_waits(pool: Any) -> None:
    called = threading.Event()
    pool.apply_async(work.square, (3,), callback=lambda _: called.set())
    assert called.wait(30)


def test_answers_of_short_tasks_do_not_wait_for_a_long_one_after_them(context: Any, tmp_path: Any) -> None:
    """They come close together and are heard together, but not with one that takes as long as it likes."""
    with context.Pool(1) as pool:
        for trial in range(20):
            pool.map(work.spin, [2e-5] * 100, 1)
            gate, done, called = tmp_path / str(trial), threading.Event(), iter(range(1, 6))

            def count(_: object, called: Any = called, gate: Any = gate) -> None:
                if next(called) == 5:
                    gate.touch()

            for _ in range(5):
                pool.apply_async(work.spin, (2e-5,), callback=count)
            pool.apply_async(work.wait_for, (str(gate),), callback=lambda _, done=done: done.set())
            assert done.wait(30)


def test_a_callback_may_use_the_pool(pool: Any) -> None:
    seen: list[int] = []
    called = threading.Event()

    def again(value: int) -> None:
        seen.append(pool.apply(work.square, (value,)))
        called.set()

    pool.apply_async(work.square, (2,), callback=again).get()
    assert called.wait(30)
    assert seen == [16]


def test_a_failing_callback_is_reported_and_harms_nothing(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda hooked: reported.append(hooked.exc_value))
    assert pool.apply_async(work.square, (2,), callback=work.fail).get() == 4
    assert [str(error) for error in reported] == ["no 4"]
    assert pool.apply(work.square, (2,)) == 4


def test_a_callback_holds_up_no_other_wait(pool: Any) -> None:
    begun, gate = threading.Event(), threading.Event()

    def waits(_: object) -> None:
        begun.set()
        gate.wait()

    held = pool.apply_async(work.square, (2,), callback=waits)
    try:
        # This wait collects the answer; the callback must not run in it, for it would never end.
        with pytest.raises(manyhands.TimeoutError):
            pool.apply_async(work.wait_for, ("/nowhere",)).get(timeout=1)
        assert begun.wait(30)
        assert pool.apply_async(work.square, (3,)).get() == 9
        assert pool.map(work.square, range(20)) == [x * x for x in range(20)]
        with pytest.raises(manyhands.TimeoutError):
            held.get(timeout=0.05)
    finally:
        gate.set()
    assert held.get() == 4


def test_a_callback_may_wait_for_a_call_with_a_callback(pool: Any) -> None:
    seen: list[int] = []

    def again(_: object) -> None:
        seen.append(pool.apply_async(work.square, (3,), callback=seen.append).get())

    pool.apply_async(work.square, (2,), callback=again).get()
    assert seen == [9, 9]


def test_callbacks_of_a_terminated_pool_are_called(context: Any) -> None:
    seen: list[BaseException] = []
    pool = context.Pool(1)
    results = [pool.apply_async(work.wait_for, ("/nowhere",), error_callback=seen.append) for _ in range(5)]
    pool.terminate()
    pool.join()
    assert len(seen) == 5
    assert all(result.ready() for result in results)


def test_a_callback_that_exits_is_reported_and_harms_nothing(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda hooked: reported.append(hooked.exc_value))
    left = pool.apply_async(work.square, (2,), callback=sys.exit)
    assert pool.map(work.square, range(20)) == [x * x for x in range(20)]
    assert left.get() == 4
    assert [(type(error), error.code) for error in reported] == [(SystemExit, 4)]


def test_twenty_threads_share_a_pool(pool: Any) -> None:
    failures: list[Any] = []

    def use(base: int) -> None:
        try:
            for x in range(base, base + 30):
                assert pool.apply(work.square, (x,)) == x * x
            assert pool.map(work.square, range(base), 3) == [x * x for x in range(base)]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(base,)) for base in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failures


def test_thousands_of_calls_are_started_before_the_first_is_asked_for(pool: Any) -> None:
    results = [pool.apply_async(work.square, (x,)) for x in range(5000)]
    assert [result.get() for result in results] == [x * x for x in range(5000)]


def test_a_long_task_does_not_hold_up_those_behind_it(pool: Any, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    stuck = pool.apply_async(work.wait_for, (str(gate),))
    assert pool.map(work.square, range(200), 1) == [x * x for x in range(200)]
    gate.touch()
    assert stuck.get(30) == str(gate)


@pytest.fixture(params=["processes", "threads"])
def any_pool(request: pytest.FixtureRequest) -> Any:
    make = manyhands.get_context("fork").Pool if request.param == "processes" else pool_module.ThreadPool
    with make(2) as pool:
        yield pool


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("buffersize", "chunksize"), [(1, 1), (4, 1), (10, 5), (3, 10)])
def test_buffersize_bounds_what_is_drawn(any_pool: Any, ordered: bool, buffersize: int, chunksize: int) -> None:
    drawn = 0

    def numbers() -> Any:
        nonlocal drawn
        for x in itertools.count():
            drawn += 1
            yield x

    stream = any_pool.imap if ordered else any_pool.imap_unordered
    results = stream(work.square, numbers(), chunksize, buffersize=buffersize)
    bound = max(buffersize, chunksize)
    for taken in range(1, 60):
        value = next(results)
        assert not ordered or value == (taken - 1) ** 2
        assert drawn <= (taken // chunksize + 1) * chunksize + bound


@pytest.mark.parametrize("ordered", [True, False])
def test_buffer_bytes_bound_what_waits_for_a_slow_reader(pool: Any, ordered: bool) -> None:
    drawn = 0

    def sizes() -> Any:
        nonlocal drawn
        while True:
            drawn += 1
            yield 1_000_000

    stream = pool.imap if ordered else pool.imap_unordered
    results = stream(bytes, sizes(), buffer_bytes=4_000_000)
    until(lambda: drawn >= 4)
    time.sleep(0.5)
    assert drawn == 4  # before the first came, nobody knew how large they are: two each for two workers
    for taken in range(1, 100):
        assert len(next(results)) == 1_000_000
        assert drawn <= taken + 4


def test_small_values_that_nobody_takes_hold_nothing_up(pool: Any) -> None:
    # The first one takes long, and before it is there no reader can take any.
    source = Counted(300)
    results = pool.imap(work.wait_first, iter(source), buffer_bytes=1 << 20)
    until(lambda: source.drawn == 300)
    assert list(results) == list(range(300))


def test_values_of_many_bytes_do_not_pile_up_for_a_reader_who_reads(pool: Any) -> None:
    source = Counted(1000)
    results = pool.imap(bytes, (1_000_000 for _ in source))
    next(results)
    time.sleep(0.5)
    # 64 MiB, where a thousand items would be a gigabyte.
    assert source.drawn < 500  # the first ones were drawn before anybody read
    assert sum(map(len, results)) == 999 * 1_000_000


class Counted:
    """An input that knows how much of it was drawn."""

    def __init__(self, length: int) -> None:
        self.length, self.drawn = length, 0

    def __iter__(self) -> Any:
        for number in range(self.length):
            self.drawn += 1
            yield number


@pytest.mark.parametrize("ordered", [True, False])
def test_a_slow_reader_is_not_left_far_behind(pool: Any, ordered: bool) -> None:
    numbers = Counted(200_000)
    results = (pool.imap if ordered else pool.imap_unordered)(work.square, numbers)
    next(results)
    ahead = []
    for taken in range(1, 60):
        next(results)
        time.sleep(0.005)
        ahead.append(numbers.drawn - taken)
    # What was drawn before the first value was taken is not bounded, what came after it is.
    assert ahead[-1] <= max(1200, ahead[0])
    assert sum(1 for _ in results) == numbers.length - 60
    assert numbers.drawn == numbers.length


def test_a_reader_that_stops_holds_nothing_up(pool: Any) -> None:
    numbers = Counted(6000)
    results = pool.imap(work.same, numbers, chunksize=2)
    assert next(results) == 0
    until(lambda: numbers.drawn == numbers.length)
    assert list(results) == list(range(1, 6000))


def test_streams_feed_streams(pool: Any) -> None:
    """An input that waits for another stream, or for anything else, keeps no stream from being drawn."""
    first = pool.imap(work.same, (number for number in range(5000)))
    next(first)
    second = pool.imap(work.same, first)
    assert list(pool.imap(work.same, second)) == list(range(1, 5000))


def test_an_input_that_waits_keeps_no_other_from_being_drawn(pool: Any) -> None:
    read = threading.Event()
    first = pool.imap(work.same, (number for number in range(5000)))
    next(first)

    def waits() -> Any:
        read.wait()
        yield "read"

    second = pool.imap(work.same, waits())
    assert list(first) == list(range(1, 5000))
    read.set()
    assert list(second) == ["read"]


@pytest.mark.parametrize("read", [0, 1])
def test_a_reader_that_goes_leaves_all_tasks_to_be_done(pool: Any, read: int) -> None:
    numbers = Counted(6000)
    results = pool.imap_unordered(work.same, numbers)
    for _ in range(read):
        next(results)
    del results
    until(lambda: numbers.drawn == numbers.length)


def test_buffersize_of_a_finite_input(any_pool: Any) -> None:
    assert list(any_pool.imap(work.square, range(50), buffersize=3)) == [x * x for x in range(50)]
    assert sorted(any_pool.imap_unordered(work.square, range(50), 4, buffersize=9)) == [x * x for x in range(50)]
    with pytest.raises(ValueError, match="buffersize must be None or at least 1"):
        any_pool.imap(work.square, range(5), buffersize=0)
    with pytest.raises(ValueError, match="buffer_bytes must be None or at least 1, not -1"):
        any_pool.imap(work.square, range(5), buffer_bytes=-1)


def test_joining_does_not_wait_for_a_reader(any_pool: Any) -> None:
    results = any_pool.imap(work.square, range(50), buffersize=3)
    any_pool.close()
    any_pool.join()
    assert list(results) == [x * x for x in range(50)]


def test_a_dropped_reader_with_a_buffersize_ends_its_input(pool: Any) -> None:
    ended = threading.Event()

    def numbers() -> Any:
        try:
            yield from itertools.count()
        finally:
            ended.set()

    results = pool.imap(work.square, numbers(), buffersize=3)
    assert next(results) == 0
    del results
    assert ended.wait(30)


def test_an_exception_that_forbids_assignments_comes_back_with_its_traceback(pool: Any) -> None:
    with pytest.raises(work.Frozen) as caught:
        pool.apply(work.raise_frozen, (7,))
    assert caught.value.number == 7
    assert "in raise_frozen" in str(caught.value.__cause__)
