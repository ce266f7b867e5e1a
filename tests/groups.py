"""Control groups for tests, of either version, where this user may make them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import until


def _own(controller: str) -> Iterator[tuple[int, Path]]:
    """This process's group for a controller, as each version has it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            yield 1, Path("/sys/fs/cgroup", controller, path.lstrip("/"))
        elif not controllers:
            yield 2, Path("/sys/fs/cgroup", path.lstrip("/"))


def _is_removed(group: Path) -> bool:
    """Removes a control group; not as long as a fork server ends there."""
    try:
        group.rmdir()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def control_group(controller: str, one: dict[str, str], two: dict[str, str]) -> Iterator[Path]:
    """A group with these files written, in the one version or the other; skips the test where there can be none."""
    for version, parent in _own(controller):
        if not (parent / "cgroup.procs").exists():
            continue  # not mounted there
        group = parent / f"manyhands-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            settings = one if version == 1 else two
            if all((group / file).exists() for file in settings):
                for file, text in settings.items():
                    (group / file).write_text(text)
                yield group
                return
        finally:
            until(lambda group=group: _is_removed(group))
    pytest.skip(f"no control group that limits {controller} can be made here")


def entered(group: Path, *command: str) -> list[str]:
    """The command line that runs a command inside of a group."""
    return ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', str(group), *command]
