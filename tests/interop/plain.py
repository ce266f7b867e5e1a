"""The other end, on a plain Python with the standard library's multiprocessing: run as a program.

plain.py listen FAMILY KEY  prints its address, then accepts and answers; plain.py call ADDRESS KEY  connects
and asks; `KEY` is - for none.  It knows nothing of manyhands.
"""

import ast
import sys
from multiprocessing.connection import Client, Listener


def say(end):
    end.send({"from": "plain", "version": sys.version_info[:2]})
    end.send_bytes(b"b" * 70_000)
    end.send_bytes(b"")


def hear(end):
    message = end.recv()
    sizes = [len(end.recv_bytes()), len(end.recv_bytes())]
    print(message, sizes, flush=True)


def main():
    assert not any("manyhands" in name for name in sys.modules)
    role, where, key = sys.argv[1:]
    key = None if key == "-" else key.encode()
    if role == "listen":
        with Listener(family=where, authkey=key) as listener:
            print(repr(listener.address), flush=True)
            with listener.accept() as end:
                say(end)
                hear(end)
    else:
        with Client(ast.literal_eval(where), authkey=key) as end:
            hear(end)
            say(end)


if __name__ == "__main__":
    main()
