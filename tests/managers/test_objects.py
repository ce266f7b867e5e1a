"""Managers and their proxies: what every type does, who may hold what for how long."""

from __future__ import annotations

import copy
import gc
import multiprocessing.managers
import pickle
import queue
import threading
import time
from typing import Any

import pytest

import manyhands
import shared
from manyhands import _manager_wire, managers


def test_every_type_of_a_sync_manager_is_what_it_says(manager: Any) -> None:
    items = manager.list([1, 2])
    items.append(3)
    items += [4]
    items *= 2
    assert items[:] == [1, 2, 3, 4] * 2
    assert len(items) == 8
    assert str(items) == str([1, 2, 3, 4] * 2)
    box = manager.dict(a=1)
    box["b"] = 2
    box |= {"c": 3}
    assert (sorted(box), box.get("x", 7), box | {"d": 4}) == (["a", "b", "c"], 7, {"a": 1, "b": 2, "c": 3, "d": 4})
    words = manager.set({"one"})
    words |= {"two"}
    assert ("two" in words, sorted(words), words - {"one"}) == (True, ["one", "two"], {"two"})
    names = manager.Namespace(name="Bob")
    names.age = 7
    names._own = 1
    assert (str(names), names.name) == ("Namespace(age=7, name='Bob')", "Bob")
    del names.age
    with pytest.raises(AttributeError):
        _ = names.age
    value = manager.Value("i", 5)
    value.value += 1
    assert (value.get(), str(value)) == (6, "Value('i', 6)")
    numbers = manager.Array("i", [1, 2, 3])
    numbers[1] = 9
    assert (numbers[:].tolist(), len(numbers)) == ([1, 9, 3], 3)
    letters = manager.Queue(1)
    letters.put("x")
    with pytest.raises(queue.Full):
        letters.put("y", block=False)
    assert letters.get() == "x"
    with pytest.raises(queue.Empty):
        letters.get(timeout=0.01)
    joinable = manager.JoinableQueue()
    joinable.put(1)
    joinable.get()
    joinable.task_done()
    joinable.join()
    for make in (manager.Lock, manager.RLock, manager.Semaphore, manager.BoundedSemaphore, manager.Condition):
        with make() as acquired:
            assert acquired
    lock = manager.Lock()
    assert (lock.acquire(), lock.locked(), lock.acquire(False), lock.acquire(timeout=0.01)) == (
        True,
        True,
        False,
        False,
    )
    lock.release()
    event = manager.Event()
    assert (event.wait(0.01), event.set(), event.wait(), event.is_set(), event.clear()) == (
        False, None, True, True, None,
    )  # fmt: skip
    barrier = manager.Barrier(1)
    assert (barrier.wait(), barrier.parties, barrier.n_waiting, barrier.broken) == (0, 1, 0, False)
    condition = manager.Condition()
    with condition:
        assert condition.wait_for(lambda: True)
        assert not condition.wait_for(lambda: False, 0.02)


def test_a_pool_behind_a_proxy_runs_its_tasks(manager: Any) -> None:
    with manager.Pool(2) as pool:
        assert pool.map(shared.square, range(5)) == [0, 1, 4, 9, 16]
        assert pool.apply_async(shared.square, (7,)).get() == 49
        assert list(pool.imap(shared.square, range(3))) == [0, 1, 4]


def test_a_child_uses_the_proxies_it_was_given(context: Any, manager: Any) -> None:
    items, box, inner = manager.list(), manager.dict(), manager.list([1])
    for target, args in [
        (shared.append_to, (items, "from a child")),
        (shared.put_proxy_into, (box, inner)),
        (shared.append_to, (inner, 2)),
    ]:
        child = context.Process(target=target, args=args)
        child.start()
        child.join()
        assert child.exitcode == 0
    assert items[:] == ["from a child"]
    assert box["items"][:] == [1, 2]


def test_children_exclude_each_other_by_a_managed_lock(context: Any, manager: Any) -> None:
    names, lock = manager.Namespace(count=0), manager.Lock()
    children = [context.Process(target=shared.count_up, args=(names, lock, 20)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert names.count == 60


def test_own_types_have_their_public_methods(context: Any) -> None:
    with shared.Manager(ctx=context) as manager:
        counter = manager.Counter(5)
        assert (counter.add(), counter.add(n=10)) == (6, 16)
        assert set(counter._exposed_) >= {"add", "fail"}
        with pytest.raises(AttributeError):
            counter._private()
        with pytest.raises(managers.RemoteError, match="is not in exposed"):
            counter._callmethod("_private")
        with pytest.raises(LookupError, match="nothing there"):
            counter.fail()
        careful = manager.Careful()
        before = shared.CounterProxy.calls
        assert careful.add() == 1
        assert shared.CounterProxy.calls == before + 1
        plain = manager.Plain()
        assert plain._private() is None
        with pytest.raises(AttributeError):
            plain.fail()


def test_results_that_stay_in_the_server_are_proxies(context: Any) -> None:
    with shared.Manager(ctx=context) as manager:
        counter = manager.Numbers()
        assert list(counter.numbers(3)) == [0, 1, 2]
        again = counter.itself()
        again.add(4)
        assert counter.add(0) == 4


def test_an_object_lives_as_long_as_its_proxies(forked: Any) -> None:
    items = forked.list([1])
    again = pickle.loads(pickle.dumps(items))
    box = forked.dict()
    box["items"] = items
    assert forked._number_of_objects() == 2
    again.append(2)
    del items, again
    gc.collect()
    assert box["items"][:] == [1, 2]
    del box
    gc.collect()
    assert forked._number_of_objects() == 0
    assert forked._debug_info() == ""


def test_two_proxies_of_one_object_count_twice(forked: Any) -> None:
    items = forked.list([1])
    again = pickle.loads(pickle.dumps(items))
    del again
    gc.collect()
    # The thread's connection stays, and the object: one proxy is left.
    assert hasattr(items._tls, "connection") is hasattr(items._tls, "connection")
    assert items[:] == [1]
    assert forked._number_of_objects() == 1


def test_proxies_nest_and_refer_to_themselves(forked: Any) -> None:
    outer, inner = forked.list(), forked.list([1])
    outer.append(inner)
    outer.append(outer)
    outer[0].append(2)
    assert inner[:] == [1, 2]
    assert outer[1][0][:] == [1, 2]


def test_a_proxy_is_copied_by_value_when_copied_deeply(forked: Any) -> None:
    assert copy.deepcopy(forked.list([1, [2]])) == [1, [2]]


def test_threads_do_not_wait_for_each_other(forked: Any) -> None:
    event, items = forked.Event(), forked.list()
    waiter = threading.Thread(target=event.wait)
    waiter.start()
    items.append(1)
    event.set()
    waiter.join()
    assert items[:] == [1]


def test_large_values_pass_through(forked: Any) -> None:
    box = forked.dict()
    data = bytes(range(256)) * 40_000
    box["data"] = data
    assert box["data"] == data


def test_the_server_sees_values_not_later_changes(forked: Any) -> None:
    mine = [1]
    items = forked.list([mine])
    mine.append(2)
    assert items[0] == [1]
    items[0].append(3)
    assert items[0] == [1]


def test_views_of_dicts_arrive_as_lists(forked: Any) -> None:
    box = forked.dict(a=1)
    assert (box.keys(), box.values(), box.items()) == (["a"], [1], [("a", 1)])


def test_types_of_proxies_are_made_once() -> None:
    one = managers.MakeProxyType("One", ("a", "b"))
    assert one is managers.MakeProxyType("One", ["a", "b"])
    assert one._exposed_ == ("a", "b")


def test_registration_stays_with_the_class() -> None:
    class Mine(managers.BaseManager):
        pass

    Mine.register("Thing", shared.Counter)
    assert "Thing" in Mine._registry
    assert "Thing" not in managers.BaseManager._registry
    with pytest.raises(AssertionError):
        Mine.register("Other", shared.Counter, method_to_typeid={1: "x"})  # type: ignore[dict-item]


def test_calls_wait_as_long_as_they_take(context: Any) -> None:
    with shared.Manager(ctx=context) as manager:
        began = time.monotonic()
        assert manager.Counter().sleep(0.3) == "slept"
        assert time.monotonic() - began >= 0.3


def test_the_context_is_the_servers(context: Any, method: str) -> None:
    with context.Manager() as manager:
        assert manager._process._start_method == method
        assert isinstance(manager, manyhands.managers.SyncManager)


def nested(depth: int, innermost: Any) -> Any:
    for _ in range(depth):
        innermost = [innermost]
    return innermost


@pytest.mark.parametrize("innermost", ["see manyhands.Pool", managers.Token], ids=["text", "class"])
def test_a_value_that_names_this_package_may_nest_as_deep_as_others(forked: Any, innermost: Any) -> None:
    found = forked.list([nested(400, innermost)])[0]
    for _ in range(400):
        (found,) = found
    assert found == innermost


@pytest.mark.parametrize(
    "filling", [b"", b"x" * 100_000, [str(n) for n in range(50_000)]], ids=["short", "long", "many"]
)
def test_names_of_this_package_are_translated_and_texts_are_not(filling: Any) -> None:
    token = managers.Token("list", "manyhands.managers", "1")
    data = _manager_wire._translated([filling, token, "manyhands.managers", managers.RebuildProxy, token, filling])
    plain = pickle.loads(data)
    assert type(plain[1]) is multiprocessing.managers.Token
    assert plain[3] is multiprocessing.managers.RebuildProxy
    assert plain[1] is plain[4]
    assert (plain[1].typeid, plain[1].address, plain[2]) == ("list", "manyhands.managers", "manyhands.managers")
    assert plain[0] == plain[5] == filling
    ours = _manager_wire._read(data)
    assert (type(ours[1]), ours[3]) == (managers.Token, managers.RebuildProxy)
