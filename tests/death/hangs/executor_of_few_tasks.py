"""python/cpython#115634: an executor whose workers end after two tasks does not replace them."""

from subject import executor

if __name__ == "__main__":
    with executor(1, max_tasks_per_child=2) as pool:
        futures = [pool.submit(abs, -number) for number in range(10)]
        assert [future.result() for future in futures] == list(range(10))
    print("fine")
