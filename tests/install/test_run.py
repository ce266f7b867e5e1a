"""The command `manyhands run`, and `install`: a program finds manyhands under the name multiprocessing."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import zipfile

import pytest

from scripts import printed

LOOK = """
import logging
import multiprocessing
import multiprocessing.process
import sys
from multiprocessing import Process, context, current_process

def where():
    import multiprocessing.util as util
    return (multiprocessing.__name__, Process.__module__, util.__name__, multiprocessing.process.__name__, util.__spec__.name)

def child(level):
    logging.basicConfig(format="%(processName)s", stream=sys.stdout, force=True)
    logging.warning("")
    print(level, current_process().name, *where(), context._default_context.get_start_method(), flush=True)
    if level < 2:
        start(level + 1)

def start(level):
    process = Process(target=child, args=(level,), name=f"Level{level}")
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(process.exitcode)

if __name__ == "__main__":
    print(*sys.argv[1:], __name__, __file__.rpartition("/")[2], *where())
    start(1)
"""
OURS = "manyhands manyhands.context manyhands.util manyhands.process manyhands.util"


def command(*words, cwd=None, text=True):
    done = subprocess.run(
        [sys.executable, "-m", "manyhands", *map(str, words)], capture_output=True, text=text, timeout=60, cwd=cwd
    )
    return done.returncode, done.stdout, done.stderr


def ran(*words, cwd=None):
    code, out, err = command("run", *words, cwd=cwd)
    assert (code, err) == (0, "")
    return out.splitlines()


def expected(method, name):
    levels = [line for n in (1, 2) for line in (f"Level{n}", f"{n} Level{n} {OURS} {method}")]
    return [f"-a --help __main__ {name} {OURS}", *levels]


def test_program_and_all_its_children_have_manyhands(method, tmp_path):
    (tmp_path / "look.py").write_text(LOOK)
    assert ran("--start-method", method, tmp_path / "look.py", "-a", "--help") == expected(method, "look.py")


def test_module_and_all_its_children_have_manyhands(method, tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "look.py").write_text(LOOK)
    words = (f"--start-method={method}", "-m", "inner.look", "-a", "--help")
    assert ran(*words, cwd=tmp_path) == expected(method, "look.py")


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_folders_and_zip_files_run(kind, method, tmp_path):
    source = "import look, multiprocessing, sys\nprint(sys.argv[1:], __name__)\nlook.start(2)\n"
    if kind == "folder":
        (tmp_path / "app").mkdir()
        (tmp_path / "app" / "__main__.py").write_text(source)
        (tmp_path / "app" / "look.py").write_text(LOOK)
    else:
        with zipfile.ZipFile(tmp_path / "app", "w") as archive:
            archive.writestr("__main__.py", source)
            archive.writestr("look.py", LOOK)
    lines = ran("--start-method", method, tmp_path / "app", "x")
    assert lines == ["['x'] __main__", "Level2", f"2 Level2 {OURS} {method}"]


def test_program_finds_itself_as_under_plain_python(tmp_path):
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "program.py").write_text(
        "import beside, os, sys\n"
        "print(sys.argv, __file__, __name__, __spec__, __doc__, sys.path, '__annotations__' in globals())\n"
        "print(sorted(globals()))\n"
        "print(sys.modules['__main__'].__dict__ is globals())\n"
    )
    plain = subprocess.run(
        [sys.executable, "program.py", "a"], capture_output=True, text=True, cwd=tmp_path, timeout=40
    )
    assert plain.returncode == 0
    code, out, err = command("run", "program.py", "a", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == plain.stdout.splitlines()[0]
    assert out.splitlines()[2] == "True"
    assert set(plain.stdout.splitlines()[1].split()) - set(out.splitlines()[1].split()) == set()


def test_program_that_chooses_its_start_method_itself_may(tmp_path):
    (tmp_path / "program.py").write_text(
        "import multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    print(multiprocessing.get_start_method(allow_none=True))\n"
        "    multiprocessing.set_start_method('forkserver')\n"
        "    print(multiprocessing.get_start_method())\n"
    )
    assert ran("--start-method", "spawn", tmp_path / "program.py") == ["None", "forkserver"]


def test_failing_program_looks_as_under_plain_python(tmp_path):
    sources = {
        "raises.py": "def f():\n    1 / 0\nf()\n",
        "exits.py": "import sys\nsys.exit(3)\n",
        "says.py": "import sys\nsys.exit('a text')\n",
        "syntax.py": "x = (\n",
        "late.py": "import atexit\natexit.register(print, 'late')\nraise SystemExit\n",
    }
    for name, source in sources.items():
        (tmp_path / name).write_text(source)
        plain = subprocess.run([sys.executable, name], capture_output=True, text=True, cwd=tmp_path, timeout=40)
        code, out, err = command("run", name, cwd=tmp_path)
        assert (code, out) == (plain.returncode, plain.stdout)
        assert err.replace(str(tmp_path) + "/", "") == plain.stderr.replace(str(tmp_path) + "/", "")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "a command is missing"),
        (("walk",), "there is no command 'walk'"),
        (("run",), "a program is missing"),
        (("run", "-m"), "-m needs the name of a module"),
        (("run", "--start-method"), "needs one of fork, spawn, forkserver"),
        (("run", "--start-method", "thread", "."), "cannot find context for 'thread'"),
        (("run", "--frobnicate", "x.py"), "there is no option --frobnicate"),
        (("run", "no_such.py"), "there is no program 'no_such.py'"),
    ],
)
def test_wrong_use_is_told_in_one_line(words, text):
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert text in err.splitlines()[0]
    assert "Traceback" not in err


def test_help_and_version_are_printed():
    for words in (["--help"], ["run", "--help"], ["-h"]):
        code, out, err = command(*words)
        assert (code, err) == (0, "")
        assert "usage: manyhands run" in out
    assert command("--version")[1].startswith("manyhands 0.")


def test_missing_module_is_told_as_python_tells_it():
    code, out, err = command("run", "-m", "no_such_module_anywhere")
    assert (code, out) == (1, "")
    assert "No module named no_such_module_anywhere" in err


def test_what_is_not_there_yet_is_named_and_never_the_standard_librarys(method, tmp_path):
    (tmp_path / "program.py").write_text(
        textwrap.dedent(
            """
            import multiprocessing
            from importlib import import_module

            def look():
                try:
                    import_module("multiprocessing.popen_no_such")
                except ImportError as error:
                    print(type(error).__name__, error, error.name, flush=True)
                try:
                    from multiprocessing import NoSuchName
                except ImportError as error:
                    print("NoSuchName" in str(error), hasattr(multiprocessing, "NoSuchName"), flush=True)
                import sys
                print({m.__name__.split(".")[0] for n, m in sys.modules.items() if n.startswith("multiprocessing")})

            if __name__ == "__main__":
                look()
                process = multiprocessing.Process(target=look)
                process.start()
                process.join()
            """
        )
    )
    lines = ran("--start-method", method, tmp_path / "program.py")
    assert len(lines) == 6
    assert lines[:3] == lines[3:]
    assert lines[0].startswith("ModuleNotFoundError manyhands does not have multiprocessing.popen_no_such yet")
    assert lines[0].endswith(" multiprocessing.popen_no_such")
    assert lines[1] == "True False"
    assert lines[2] == "{'manyhands'}"


def test_install_from_code_reaches_every_child(method, tmp_path):
    source = "import manyhands\nmanyhands.install()\nmanyhands.install()\n" + LOOK.replace(
        'if __name__ == "__main__":', 'if __name__ == "__main__":\n    multiprocessing.set_start_method(sys.argv.pop())'
    )
    assert printed(tmp_path, source, "-a", "--help", method) == expected(method, "program.py")


def test_install_replaces_what_was_imported_before(tmp_path):
    assert printed(
        tmp_path,
        """
        import multiprocessing, multiprocessing.util as old
        import manyhands
        manyhands.install()
        import multiprocessing, multiprocessing.util as new
        print(multiprocessing.__name__, old.__name__, new.__name__, new is manyhands.util)
        """,
    ) == ["manyhands multiprocessing.util manyhands.util True"]
