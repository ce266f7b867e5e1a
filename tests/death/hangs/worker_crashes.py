"""joblib/joblib#385: a worker crashes, and whoever gets the results one by one waits for ever."""

import ctypes
import resource

from subject import mp


def crash() -> None:
    ctypes.string_at(0)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with mp.Pool(2) as pool:
        jobs = [pool.apply_async(abs, (-1,)), pool.apply_async(crash), pool.apply_async(abs, (-2,))]
        answers: list[object] = []
        for job in jobs:
            try:
                answers.append(job.get())
            except Exception as error:
                answers.append(error)
        assert (answers[0], answers[2]) == (1, 2)
        print("fine" if "SIGSEGV" in str(answers[1]) else answers[1])
