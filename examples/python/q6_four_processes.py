"""Q6. Create four processes, each of which prints a different number.

All four are started before the first is waited for, so they run side by side and print in any order.
Here are the answers of five authors, group by group.
"""

from collections.abc import Callable, Iterable

from manyhands import Process, current_process


def says(num: int) -> None:
    """The first author's."""
    print("Process", num, "says:", num)


def printing(num: int) -> None:
    """The second author's."""
    print(f"Process printing number: {num}")


def with_id(number: int) -> None:
    """The third author's."""
    print(f"Process ID: {current_process().pid}, Number: {number}")


def with_name(number: int) -> None:
    """The fourth author's."""
    print(f"Process {number}: Printing number {number}")


def bare(number: int) -> None:
    """The fifth author's."""
    print(number)


def four(function: Callable[[int], None], numbers: Iterable[int]) -> None:
    """Starts a process for each number, then waits for all of them."""
    processes = [Process(target=function, args=(number,)) for number in numbers]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


if __name__ == "__main__":
    four(says, range(4))

    four(printing, [1, 2, 3, 4])
    print("All processes finished.")

    four(with_id, range(1, 5))

    four(with_name, range(1, 5))
    print("All processes have finished.")

    four(bare, range(4))
