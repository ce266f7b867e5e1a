"""python/cpython#101081: a task that raises what is no Exception, and nobody hears of it."""

from subject import mp


class Stop(BaseException):
    pass


def task() -> None:
    raise Stop("no more")


if __name__ == "__main__":
    with mp.Pool(2) as pool:
        try:
            pool.apply(task)
        except BaseException as error:
            assert pool.apply(abs, (-1,)) == 1
            print("fine" if "no more" in str(error) else error)
