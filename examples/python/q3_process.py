"""Q3. Create a process.

`Process` takes the function to run and its arguments; `start` starts it, `join` waits for its end.
The guard at the bottom is needed: with the start methods spawn and forkserver a child imports this
file to find the function, and must not start children itself while it does. Here are the answers of
four authors.
"""

from manyhands import Process, current_process


def my_function(num: int) -> None:
    """The first author's."""
    print("Process", num)


def display() -> None:
    """The second author's."""
    print("This is a child process running.")


def print_number(number: int) -> None:
    """The third author's."""
    print(f"Process ID: {current_process().pid}, Number: {number}")


def worker() -> None:
    """The fourth author's."""
    print("Worker process is running.")


if __name__ == "__main__":
    process = Process(target=my_function, args=(1,))
    process.start()
    process.join()

    process = Process(target=display)
    process.start()
    process.join()
    print("Main process finished.")

    process = Process(target=print_number, args=(42,))
    process.start()
    process.join()

    process = Process(target=worker)
    process.start()
    process.join()
