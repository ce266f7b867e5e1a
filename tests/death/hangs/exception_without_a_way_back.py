"""python/cpython#103061: an exception that pickles, but cannot be made again, ends the thread that hears the results."""

from subject import mp


class Failed(Exception):
    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} failed in {where}")


def task(number: int) -> int:
    raise Failed("the task", "a worker")


if __name__ == "__main__":
    with mp.Pool(2) as pool:
        try:
            pool.apply(task, (1,))
        except Exception as error:
            assert pool.apply(abs, (-1,)) == 1
            print("fine" if "the task failed in a worker" in str(error) else error)
