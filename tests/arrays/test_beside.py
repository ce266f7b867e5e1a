"""What leaves its memory beside the pickle, and where it lies when it has arrived: by counting buffers and by addresses."""

from __future__ import annotations

import array
import pickle
import sys
from collections.abc import Callable
from typing import Any

import handlers
import pytest

import manyhands
from manyhands import _engine

numpy = pytest.importorskip("numpy", reason="numpy is not installed")

MIB = 1 << 20
ITEMS = 1 << 17  # of 8 bytes


def grid() -> Any:
    return numpy.arange(ITEMS, dtype=float).reshape(256, -1)


def recorded() -> Any:
    record = numpy.zeros(ITEMS, dtype=[("id", "<i8"), ("at", "<M8[s]", (2,)), ("tag", "S5")])
    record["id"] = numpy.arange(ITEMS)
    return record


def memmapped() -> Any:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        mapped = numpy.memmap(file, dtype=float, mode="w+", shape=(ITEMS,))
        mapped[:] = numpy.arange(ITEMS)
        return mapped


def arrow_table() -> Any:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    return pyarrow.table({"x": numpy.arange(ITEMS), "s": [f"row {n}" for n in range(ITEMS)]})


def frame() -> Any:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    days = pandas.date_range("2024-01-01", periods=ITEMS, freq="min")
    return pandas.DataFrame({"x": numpy.arange(float(ITEMS)), "n": numpy.arange(ITEMS), "day": days})


def polars_frame() -> Any:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    return polars.DataFrame({"x": numpy.arange(float(ITEMS)), "s": [f"row {n}" for n in range(ITEMS)]})


def tensor() -> Any:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    return torch.arange(float(ITEMS)).reshape(256, -1)


# How it is made; how many buffers it leaves out at least.
KINDS: dict[str, tuple[Callable[[], Any], int]] = {
    "bytes": (lambda: bytes(range(256)) * 4096, 1),
    "bytearray": (lambda: bytearray(range(256)) * 4096, 1),
    "array.array": (lambda: array.array("d", range(ITEMS)), 1),
    "numpy": (grid, 1),
    "numpy, Fortran order": (lambda: numpy.asfortranarray(grid()), 1),
    "numpy, strided": (lambda: grid()[::2, ::2], 1),
    "numpy, columns": (lambda: grid()[:, 5:-5], 1),
    "numpy, reversed": (lambda: grid()[::-1], 1),
    "numpy, times": (lambda: numpy.arange(ITEMS).astype("M8[s]"), 1),
    "numpy, records with times": (recorded, 1),
    "numpy, texts": (lambda: numpy.array(["text", "", "more"] * ITEMS), 1),
    "numpy, a memmap": (memmapped, 1),
    "numpy, a matrix": (lambda: numpy.matrix(grid()), 1),
    "numpy, masked": (lambda: numpy.ma.masked_array(grid(), mask=grid() > 1000), 2),
    "pyarrow table": (arrow_table, 3),
    "pyarrow batch": (lambda: arrow_table().to_batches()[0], 3),
    "pyarrow, half of a table": (lambda: arrow_table().slice(5, ITEMS // 3), 1),
    "pyarrow, a piece of a column": (lambda: arrow_table().column("x").slice(5, ITEMS // 3), 1),
    "pandas frame": (frame, 3),
    "pandas, every second row": (lambda: frame().iloc[::2], 3),
    "polars frame": (polars_frame, 2),
    "polars series": (lambda: polars_frame()["x"], 1),
    "torch tensor": (tensor, 1),
    "torch tensor, transposed": (lambda: tensor().T, 1),
}
# What has no way to be anything but a copy when it has arrived: types that own their memory, and what is made of bytes.
COPIED_OUT = {"bytes", "bytearray", "array.array", "numpy, masked"}

# Those libraries have threads, beside which a fork is none of theirs to bear.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
every_kind = pytest.mark.parametrize("kind", KINDS)


def equal(mine: Any, theirs: Any) -> bool:
    assert type(mine) is type(theirs)
    library = type(mine).__module__.partition(".")[0]
    if library == "numpy":
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        assert mine.flags.writeable == theirs.flags.writeable
        return bool((numpy.asarray(mine) == numpy.asarray(theirs)).all())
    if library == "torch":
        assert (mine.stride(), mine.dtype) == (theirs.stride(), theirs.dtype)
        return bool((mine == theirs).all())
    if library in ("pyarrow", "pandas", "polars"):
        return bool(mine.equals(theirs))
    return bool(mine == theirs)


@every_kind
def test_all_that_is_large_is_beside_the_pickle(kind: str) -> None:
    maker, buffers = KINDS[kind]
    stream, count = _engine.dumps(maker())
    assert count >= buffers
    assert len(stream) < 4096


@every_kind
def test_what_is_in_a_collection_is_left_out_too(kind: str) -> None:
    maker, _ = KINDS[kind]
    value = maker()
    alone, count = _engine.dumps((value,))
    deep, deep_count = _engine.dumps({"key": [1, (value, {"x": value})]})
    assert deep_count == count  # the same object is there once
    assert len(deep) < len(alone) + 1000


@pytest.mark.timeout(150)  # importing torch and pandas takes its time, in each worker
def test_every_kind_goes_and_comes_unchanged(method: str) -> None:
    with manyhands.get_context(method).Pool(1) as pool:
        for kind, (maker, _) in KINDS.items():
            if method == "fork" and kind.startswith(("polars", "torch")):
                continue  # their threads are not there in a forked child
            try:
                value = maker()
            except pytest.skip.Exception:
                continue
            assert equal(value, pool.apply(handlers.same, (value,)))
            back, number = pool.apply(handlers.same, ([value, 5],))
            assert number == 5
            assert equal(value, back)


@pytest.mark.timeout(120)
@every_kind
def test_what_arrives_lies_in_the_shared_memory_that_it_came_through(kind: str) -> None:
    """In neither direction is there a copy at its end."""
    maker, _ = KINDS[kind]
    if kind in COPIED_OUT:
        pytest.skip("arrives as a copy: its type owns its memory")
    value = maker()
    if kind == "pandas frame":
        value = value[["x"]]
    with manyhands.get_context("forkserver").Pool(1) as pool:
        assert "memfd:manyhands" in pool.apply(handlers.where, (value,))
        assert "memfd:manyhands" in handlers.where(pool.apply(handlers.same, (value,)))


def test_what_arrives_can_be_written_to_and_grown(context: Any) -> None:
    with context.Pool(1) as pool:
        for value in (bytearray(MIB), array.array("b", bytes(MIB))):
            back = pool.apply(handlers.append, (value, 7))
            assert len(back) == MIB + 1
            back[0] = 5
            back.extend(b"more")
            assert len(value) == MIB
            assert value[0] == 0


def test_bytes_keep_their_identity_within_a_call() -> None:
    large = bytes(MIB)
    other = bytearray(MIB)
    with manyhands.Pool(1) as pool:
        a, (b, c), d = pool.apply(handlers.same, ((large, (large, other), other),))
        assert a is b
        assert c is d
        assert (a, c) == (large, other)


def test_what_was_sent_is_the_callers_again_when_the_call_returns() -> None:
    """A bytearray of which somebody has a view cannot be made longer."""
    with manyhands.Pool(1) as pool:
        pool.apply(handlers.same, (1,))
        sent = [bytearray(MIB) for _ in range(8)]
        results = []
        for value in sent:
            results.append(pool.apply_async(handlers.same, (value,)))
            value.append(1)
        assert [len(result.get()) for result in results] == [MIB] * 8
    with manyhands.ProcessPoolExecutor(1) as executor:
        value = bytearray(MIB)
        future = executor.submit(handlers.same, value)
        value.append(1)
        assert len(future.result()) == MIB


def test_large_bytes_in_functions_and_exceptions_travel(context: Any) -> None:
    import functools

    large = bytearray(b"x" * 3 * MIB)
    with context.Pool(2) as pool:
        for back in pool.map(functools.partial(handlers.first, {"large": large}), range(4), chunksize=1):
            assert back["large"] == large
        with pytest.raises(ValueError) as caught:
            pool.apply(handlers.make, (raise_it, ValueError(bytes(large))))
        assert caught.value.args == (bytes(large),)


def raise_it(error: Exception) -> None:
    raise error


def test_read_only_array_arrives_as_pickle_has_it() -> None:
    value = grid()
    value.setflags(write=False)
    expected = pickle.loads(pickle.dumps(value, 5)).flags.writeable
    with manyhands.Pool(1) as pool:
        assert pool.apply(handlers.describe, (value,))[4] is expected


def test_slice_of_a_table_is_sent_without_the_rest_of_it() -> None:
    table = arrow_table()
    stream, buffers = _engine.dumps(table.slice(100, 10))
    assert buffers == 0
    assert len(stream) < 8192
    for value in (
        table.slice(100, 10),
        table.slice(7, 0),
        table.column("s").slice(3, 9),
        table.to_batches()[0].slice(9),
    ):
        with manyhands.get_context("fork").Pool(1) as pool:
            back = pool.apply(handlers.same, (value,))
        assert back.equals(value)
        assert type(back) is type(value)


def test_polars_columns_that_arrow_would_change_go_polars_way() -> None:
    frame = polars_frame()
    import polars

    kinds = frame.with_columns(
        polars.col("s").cast(polars.Categorical).alias("category"),
        polars.Series("day", [0] * ITEMS).cast(polars.Datetime("us", "UTC")),
        polars.Series("pair", numpy.zeros((ITEMS, 2))),
    )
    for value in (kinds, kinds["category"], frame["s"], frame.head(0), polars.Series("none", [None] * MIB)):
        with manyhands.get_context("forkserver").Pool(1) as pool:
            back = pool.apply(handlers.same, (value,))
        assert back.equals(value)
        assert getattr(back, "schema", None) == getattr(value, "schema", None)
        assert getattr(back, "name", None) == getattr(value, "name", None)


def test_tensors_keep_what_torch_says_of_them() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    parameter = torch.nn.Parameter(torch.ones(ITEMS))
    model = torch.nn.Linear(400, 400)
    with manyhands.get_context("forkserver").Pool(1) as pool:
        back = pool.apply(handlers.same, (parameter,))
        assert type(back) is torch.nn.Parameter
        assert back.requires_grad
        back.data.mul_(3)
        assert float(parameter.detach().sum()) == ITEMS
        assert float(back.detach().sum()) == 3 * ITEMS
        half = pool.apply(handlers.same, (torch.ones(ITEMS, dtype=torch.bfloat16),))
        assert half.dtype is torch.bfloat16
        assert float(half.float().sum()) == ITEMS
        other = pool.apply(handlers.same, (model,))
        rows = torch.ones(3, 400)
        assert torch.equal(other(rows), model(rows))


def test_what_a_user_registered_goes_first() -> None:
    script = """
import array, manyhands
from manyhands import _engine, reduction
reduction.register(array.array, lambda value: (str, ("registered",)))
assert _engine.loads_payload(_engine.dumps([array.array("d", bytes(1 << 20))])[0], []) == ["registered"]
"""
    import subprocess

    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_small_things_and_what_has_objects_are_pickled_as_ever() -> None:
    for value in (
        bytes(1000),
        bytearray(1000),
        array.array("d", [1.5]),
        numpy.arange(7),
        numpy.array([None, {}] * ITEMS),
    ):
        stream, buffers = _engine.dumps([value])
        assert buffers == 0
        assert len(stream) < 1 << 20


@pytest.mark.parametrize("index", range(40))
def test_garbled_pickle_with_holes_is_refused(index: int) -> None:
    stream, buffers = _engine.dumps([b"x" * (1 << 18), bytearray(1 << 18)])
    assert buffers == 2
    parts = [b"x" * (1 << 18), bytes(1 << 18)]
    assert _engine.loads_payload(stream, parts) == [b"x" * (1 << 18), bytearray(1 << 18)]
    end = len(stream) - index
    for garbled in (stream[: end - 1] + b"\xff" + stream[end:], stream[: end - 1], stream[:1] + stream[end:]):
        if garbled == stream:
            continue
        try:
            _engine.loads_payload(garbled, parts)
        except (ValueError, EOFError, pickle.UnpicklingError, LookupError, TypeError):
            pass  # refused; what is garbled may also be read as something else
    with pytest.raises(ValueError, match="garbled"):
        _engine.loads_payload(stream, parts[:1])
