"""Lambdas, closures and what is typed at a prompt, as tasks and as targets: with cloudpickle, and what is said without it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# Installed beside the others, as most tests are about a Python without it.
FOLDER = Path(sys.prefix) / "closures"

if not FOLDER.is_dir():
    pytest.skip(f"cloudpickle is not in {FOLDER}", allow_module_level=True)


def printed(source: str, folder: Path | None, *arguments: str, cloudpickle: bool = True) -> list[str]:
    """What a program prints that has to end well; without a folder it is typed in, and has no file."""
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)} if cloudpickle else None
    source = textwrap.dedent(source)
    if folder is None:
        command, typed = [sys.executable, "-", *arguments], source
    else:
        (folder / "program.py").write_text(source)
        command, typed = [sys.executable, str(folder / "program.py"), *arguments], ""
    done = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=50, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_functions_without_a_name_are_tasks(tmp_path: Path, method: str) -> None:
    program = """
        import sys
        import manyhands as multiprocessing

        def times(factor):
            def inner(number):
                return number * factor
            return inner

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            with context.Pool(2) as pool:
                print(pool.map(lambda x: x + 1, range(3)), pool.apply(times(3), (5,)), list(pool.imap(times(2), [4])))
                print(pool.starmap(lambda a, b: a - b, [(5, 2)]), pool.apply_async(lambda: (lambda y: y + 8)).get()(1))
                print(pool.apply(lambda f: f(3), (times(7),)))
                try:
                    pool.apply(lambda: 1 / 0)
                except ZeroDivisionError as error:
                    print(error)
            with multiprocessing.ProcessPoolExecutor(1, context) as executor:
                print(executor.submit(lambda: 5).result(), list(executor.map(times(4), [1, 2])))
            child = context.Process(target=lambda: sys.exit(7))
            child.start()
            child.join()
            print(child.exitcode)
    """
    assert printed(program, tmp_path, method) == [
        "[1, 2, 3] 15 [8]", "[3] 9", "21", "division by zero", "5 [4, 8]", "7",
    ]  # fmt: skip


def test_what_is_typed_in_is_a_task_though_the_pool_was_there_before(method: str) -> None:
    program = """
        import sys
        import manyhands
        pool = manyhands.get_context(sys.argv[1]).Pool(2)
        print(pool.map(abs, [-1]))
        class Point:
            def __init__(self, x):
                self.x = x
        offset = 10
        def move(point):
            return Point(point.x + offset)
        moved = pool.map(move, [Point(1), Point(2)])
        print([point.x for point in moved], all(type(point) is Point for point in moved))
        offset = 20
        def move(point):
            return point.x + offset
        print(pool.apply(move, (Point(1),)), list(pool.imap(move, [Point(5)])))
        pool.terminate()
        pool.join()
    """
    assert printed(program, None, method) == ["[1]", "[11, 12] True", "21 [25]"]


def test_large_arrays_beside_a_closure_stay_out_of_the_pickle(tmp_path: Path) -> None:
    program = """
        import numpy
        import manyhands

        if __name__ == "__main__":
            data = numpy.arange(1_000_000)
            with manyhands.get_context("fork").Pool(1) as pool:
                print(pool.apply(lambda array, f: f(array), (data, lambda a: int(a.sum()))) == int(data.sum()))
                print(pool.map(lambda n: int(data[n]), [999_999]))
    """
    assert printed(program, tmp_path) == ["True", "[999999]"]


def test_what_nobody_can_pickle_is_pickles_error(tmp_path: Path) -> None:
    program = """
        import threading
        import manyhands

        if __name__ == "__main__":
            with manyhands.get_context("fork").Pool(1) as pool:
                try:
                    pool.apply(abs, (threading.Lock(),))
                except TypeError as error:
                    print(error, getattr(error, "__notes__", None))
                print(pool.apply(abs, (-1,)))
    """
    assert printed(program, tmp_path) == ["cannot pickle '_thread.lock' object None", "1"]


def test_without_it_the_error_says_what_to_install(tmp_path: Path, method: str) -> None:
    program = """
        import sys
        import manyhands

        if __name__ == "__main__":
            context = manyhands.get_context(sys.argv[1])
            with context.Pool(1) as pool:
                for call in (lambda: pool.apply(lambda: 1), lambda: pool.map(lambda x: x, [1])):
                    try:
                        call()
                    except Exception as error:
                        print("manyhands[closures]" in error.__notes__[0])
    """
    assert printed(program, tmp_path, method, cloudpickle=False) == ["True", "True"]
