"""Q5. Create a pool of worker processes.

`Pool()` starts a worker for each processor, `Pool(3)` three; `map` runs a function on every item and
returns the results in the items' order; leaving the `with` block ends the workers. Here are the answers
of five authors; the first leaves its data and its task to the reader.
"""

from manyhands import Pool


def my_task(data: int) -> None:
    """What is done with one piece of data."""


def square(n: int) -> int:
    """A number times itself."""
    return n * n


if __name__ == "__main__":
    with Pool() as pool:
        results = pool.map(my_task, range(1000))

    with Pool(3) as pool:
        print("Squares:", pool.map(square, [1, 2, 3, 4, 5]))
        print("Result:", pool.map(square, [1, 2, 3, 4, 5]))

    with Pool(processes=4) as pool:
        print(pool.map(square, [1, 2, 3, 4, 5]))
        print(pool.map(square, [1, 2, 3, 4, 5]))
