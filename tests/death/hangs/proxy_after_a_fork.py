"""python/cpython#101320: parent and forked child ask a manager over one connection, and get each other's answers."""

import os

from subject import mp

if __name__ == "__main__":
    manager = mp.Manager()
    shared = manager.dict()
    shared["begun"] = True  # from now on there is a connection
    pid = os.fork()
    name = "parent" if pid else "child"
    good = True
    for number in range(3000):
        shared[name] = number
        good = good and shared[name] == number and shared.get(f"{name}-nothing", name) == name
    if not pid:
        os._exit(not good)
    _, status = os.waitpid(pid, 0)
    print("fine" if good and status == 0 else "not fine")
