"""Plain Pythons to talk to: this one, and what else `tools` or pyenv have installed."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
from functools import cache

import pytest


@cache
def pythons() -> dict[str, str]:
    """The interpreters found, by version: PATH's, and pyenv's newest of each."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    for version in ("3.11", "3.12", "3.13"):
        places = [shutil.which(f"python{version}")]
        root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
        places += sorted(glob.glob(f"{root}/versions/{version}.*/bin/python"), reverse=True)
        for place in filter(None, places):
            done = subprocess.run([place, "-c", "import sys; print(sys.version)"], capture_output=True, text=True)
            if done.returncode == 0 and re.match(rf"{re.escape(version)}\b", done.stdout):
                found.setdefault(version, place)
    return found


@pytest.fixture(params=["3.11", "3.12", "3.13"])
def plain(request: pytest.FixtureRequest) -> str:
    """A plain Python of each version that is installed."""
    if request.param not in pythons():
        pytest.skip(f"Python {request.param} is not installed")
    return pythons()[request.param]
