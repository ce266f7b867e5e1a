"""The two jobs of the demo: one that computes, one that waits.

Always: a job's function depends on its argument alone and returns a small tuple, so that every
way of running it has to give the same answers.
Not here: how the jobs are spread (`ways`) and how they are timed (`measure`).
"""

import ast
import os
import socket
import sysconfig

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def survey(path: str) -> tuple[str, int, int]:
    """Parses one source file; returns its path, how many definitions and how many nodes it has.

    A file that this Python cannot parse (the standard library's tests keep some on purpose)
    counts as -1, -1.
    """
    with open(path, "rb") as file:
        source = file.read()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return path, -1, -1
    nodes = definitions = 0
    for node in ast.walk(tree):
        nodes += 1
        definitions += isinstance(node, DEFINITIONS)
    return path, definitions, nodes


def standard_library() -> list[str]:
    """Every source file of the running Python's standard library, its tests included, sorted."""
    found = []
    for folder, below, names in os.walk(sysconfig.get_path("stdlib")):
        below[:] = [name for name in below if name not in ("site-packages", "dist-packages", "__pycache__")]
        found += [os.path.join(folder, name) for name in names if name.endswith(".py")]
    return sorted(found)


def ask(question: tuple[int, int]) -> tuple[int, str]:
    """Sends one question to the waiting server on this machine and returns its answer.

    `question` is (port, number). Nearly all of the time is waiting, as with a database or a web service.
    """
    port, number = question
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"%d\n" % number)
        answer = b""
        while not answer.endswith(b"\n"):
            piece = connection.recv(64)
            if not piece:
                raise ConnectionError(f"the server hung up on question {number}")
            answer += piece
    return number, answer.decode().strip()


def nothing(_: object) -> None:
    """A task without work: what is left is the cost of handing it over and getting it back."""
