"""Objects of the standard library's multiprocessing between a parent and our children, as libraries use them."""

from __future__ import annotations

import multiprocessing.process
import os
from pathlib import Path
from typing import Any

import chores

from scripts import printed


def test_standard_librarys_descriptors_come_back_from_our_children(context: Any) -> None:
    """As torch passes tensors: the receiver asks the sender's process, with the standard library's key."""
    queue, told = context.SimpleQueue(), context.Event()
    child = context.Process(target=chores.send_pipe_end, args=(queue, told))
    child.start()
    with open(queue.get().detach(), "rb") as file:
        assert file.read() == b"from the child"
    told.set()
    child.join()
    assert child.exitcode == 0
    queue.close()


def test_standard_librarys_descriptors_reach_our_children(context: Any) -> None:
    from multiprocessing import resource_sharer

    queue = context.SimpleQueue()
    child = context.Process(target=chores.read_pipe_end, args=(queue,))
    child.start()
    read, write = os.pipe()
    os.write(write, b"to the child")
    os.close(write)
    queue.put(resource_sharer.DupFd(read))
    os.close(read)
    child.join()
    assert child.exitcode == 0
    queue.close()
    resource_sharer.stop()


def test_standard_librarys_key_is_the_same_in_parent_and_child(context: Any) -> None:
    with context.Pool(1) as pool:
        assert pool.apply(chores.standard_key) == bytes(multiprocessing.process.current_process().authkey)


def test_pool_with_reducers_of_its_own_pickles_with_them(context: Any) -> None:
    """As joblib's pools are made: a subclass that has `_forward_reducers`."""
    with chores.ReducingPool(2, context=context) as pool:
        assert pool.apply(chores.same, (chores.Reduced(1),)) == "reduced 1"
        assert pool.apply(chores.pair, kwds={"a": 1, "b": chores.Reduced(2)}) == (1, "reduced 2")
        assert pool.apply_async(chores.same, [chores.Reduced(3)]).get() == "reduced 3"
        expected = [f"reduced {n}" for n in range(10)]
        assert pool.map(chores.same, map(chores.Reduced, range(10))) == expected
        assert pool.map_async(chores.same, [chores.Reduced(n) for n in range(10)]).get() == expected
        assert list(pool.imap(chores.same, map(chores.Reduced, range(10)), chunksize=3)) == expected
        assert pool.starmap(chores.pair, [(n, chores.Reduced(n)) for n in range(2)]) == [
            (0, "reduced 0"),
            (1, "reduced 1"),
        ]


def test_pool_whose_subclass_starts_workers_for_queues_is_one_of_ours(context: Any) -> None:
    """As torch's pool is made: its `_repopulate_pool` starts workers of the standard library's kind."""
    with chores.ForeignPool(1, context=context) as pool:
        assert pool.map(chores.square, range(3)) == [0, 1, 4]


def test_log_records_have_our_names_though_somebody_only_asked_where_logging_is(tmp_path: Path) -> None:
    lines = printed(
        tmp_path,
        """
        import sys
        import manyhands

        def told():
            import importlib.util

            assert "logging" not in sys.modules
            assert importlib.util.find_spec("logging").loader.get_source("logging")
            import logging

            make = logging.getLogRecordFactory()
            print(make("", 0, "", 0, "", (), None).processName)

        if __name__ == "__main__":
            child = manyhands.get_context("spawn").Process(target=told, name="somebody")
            child.start()
            child.join()
        """,
    )
    assert lines == ["somebody"]
