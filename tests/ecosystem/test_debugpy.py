"""debugpy, the debugger of VS Code, follows into children: a breakpoint that is set in the editor stops a worker."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import until

if importlib.util.find_spec("debugpy") is None:
    pytest.skip("debugpy is not installed", allow_module_level=True)

PROGRAM = """\
import sys
import manyhands

def work(number):
    secret = number * 7
    return secret + 1   # stop here

if __name__ == "__main__":
    context = manyhands.get_context(sys.argv[1])
    pool = context.Pool(1)
    print(pool.map(work, [6]), flush=True)
    pool.close()
    pool.join()
"""
LINE = PROGRAM[: PROGRAM.index("# stop here")].count("\n") + 1


class Editor:
    """One connection of an editor to a debugger, which speaks the Debug Adapter Protocol."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        until(
            lambda: self._socket.connect_ex(("127.0.0.1", port)) == 0
        )  # it serves who comes first, so this is no trial
        self._file = self._socket.makefile("rb")
        self._numbers = itertools.count(1)
        self._put_by: list[dict[str, Any]] = []

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._file.close()
        self._socket.close()

    def ask(self, command: str, **arguments: object) -> int:
        number = next(self._numbers)
        body = json.dumps({"seq": number, "type": "request", "command": command, "arguments": arguments}).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        return number

    def _next(self) -> dict[str, Any]:
        length = 0
        while line := self._file.readline().strip():
            length = int(line.partition(b":")[2]) if line.lower().startswith(b"content-length") else length
        assert length, "the debugger has hung up"
        message = json.loads(self._file.read(length))
        assert message.get("success", True), message
        return dict(message)

    def hear(self, **sought: object) -> dict[str, Any]:
        """The first message that has these fields; others are kept for later."""
        for at in itertools.count():
            if at == len(self._put_by):
                self._put_by.append(self._next())
            if sought.items() <= self._put_by[at].items():
                return self._put_by.pop(at)
        raise AssertionError

    def call(self, command: str, **arguments: object) -> Any:
        return self.hear(type="response", request_seq=self.ask(command, **arguments)).get("body")

    def attach(self, program: Path, **where: object) -> None:
        """Attach, and set the breakpoint."""
        self.call("initialize", adapterID="test", pathFormat="path", linesStartAt1=True)
        attached = self.ask("attach", **where)
        self.hear(type="event", event="initialized")
        points = self.call("setBreakpoints", source={"path": str(program)}, breakpoints=[{"line": LINE}])
        assert points["breakpoints"][0]["verified"]
        self.call("configurationDone")
        self.hear(type="response", request_seq=attached)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_breakpoint_of_an_editor_stops_a_worker(method: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    port = free_port()
    words = f"-Xfrozen_modules=off -m debugpy --listen 127.0.0.1:{port} --wait-for-client".split()
    command = [sys.executable, *words, path, method]
    with contextlib.ExitStack() as opened:
        shown = opened.enter_context((tmp_path / "shown").open("w+"))  # the debugger keeps it open for longer
        program = opened.enter_context(subprocess.Popen(command, stdout=shown, stderr=shown))
        opened.callback(program.kill)

        def connect(port: int) -> Editor:
            editor = Editor(port)
            opened.callback(editor.close)
            return editor

        editor = child = connect(port)
        editor.attach(path, subProcess=True, justMyCode=False)
        for _ in range(2 if method == "forkserver" else 1):  # first into the server, and from there into the worker
            told = child.hear(type="event", event="debugpyAttach")["body"]
            child = connect(told["connect"]["port"])
            child.attach(path, **told)
        thread = child.hear(type="event", event="stopped")["body"]["threadId"]
        frame = child.call("stackTrace", threadId=thread)["stackFrames"][0]
        assert (frame["name"], frame["line"]) == ("work", LINE)
        assert child.call("evaluate", expression="secret", frameId=frame["id"])["result"] == "42"
        child.call("continue", threadId=thread)
        editor.hear(type="event", event="terminated")
        assert program.wait() == 0
        assert (tmp_path / "shown").read_text() == "[43]\n"
