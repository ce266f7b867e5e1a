"""Every public name and signature of the running interpreter's `multiprocessing` is ours too.

Always: a difference is allowed only by an entry of `differences.txt`, which gives its reason; an entry that allows
nothing on the interpreters that it names fails. Not here: what names do (`tests/stdlib` runs CPython's own suite).
"""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

from describe import described

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
KINDS = {"missing", "extra", "changed"}


class Entry(NamedTuple):
    """A line of differences.txt: `KIND[@VERSION,VERSION] PATTERN  REASON`."""

    kind: str
    versions: list[str]
    pattern: str
    reason: str

    @property
    def applies(self) -> bool:
        return not self.versions or VERSION in self.versions

    def allows(self, kind: str, name: str) -> bool:
        return self.applies and kind == self.kind and fnmatchcase(name, self.pattern)


@cache
def differences() -> dict[tuple[str, str], str]:
    """(kind, name) -> what differs."""
    theirs, _ = described("multiprocessing")
    ours, imported = described("manyhands")
    found = {}
    for name in theirs.keys() | ours.keys():
        if name not in ours:
            found["missing", name] = theirs[name]
        elif name not in theirs:
            # What a module of ours has imported is no name that it offers.
            if not any(name == other or name.startswith(f"{other}.") for other in imported):
                found["extra", name] = ours[name]
        elif theirs[name] != ours[name]:
            found["changed", name] = f"{theirs[name]} -> {ours[name]}"
    return found


def entries() -> list[Entry]:
    """The lines of differences.txt."""
    found = []
    for line in (HERE / "differences.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            kind, pattern, reason = line.split(None, 2)
            kind, _, versions = kind.partition("@")
            found.append(Entry(kind, versions.split(",") if versions else [], pattern, reason))
    return found


def test_every_difference_is_written_down() -> None:
    listed = entries()
    unlisted = [
        f"{kind} {name}: {what}"
        for (kind, name), what in sorted(differences().items())
        if not any(entry.allows(kind, name) for entry in listed)
    ]
    assert not unlisted, "differences from multiprocessing that differences.txt does not allow:\n" + "\n".join(unlisted)


def test_every_entry_allows_something_and_says_why() -> None:
    for entry in entries():
        assert entry.kind in KINDS, f"{entry.kind} is none of {sorted(KINDS)}"
        assert len(entry.reason.split()) >= 3, f"{entry.pattern}: no reason is given"
        if entry.applies:
            assert any(entry.allows(*found) for found in differences()), f"{entry.kind} {entry.pattern} allows nothing"


def test_every_module_says_what_it_exports() -> None:
    """CPython's suite imports every module of a package and wants this, minutes later than here."""
    import manyhands

    silent = [
        path.name
        for path in Path(manyhands.__file__).parent.rglob("*.py")
        if not re.search(r"^__all__\b", path.read_text(), re.MULTILINE)
    ]
    assert not silent, f"without an __all__: {silent}"


def test_nothing_of_the_package_goes_undescribed() -> None:
    """The description itself is worth something: it has the modules, and signatures with defaults."""
    theirs, _ = described("multiprocessing")
    modules = {name for name, line in theirs.items() if line == "module"}
    assert {
        "mp", "mp.connection", "mp.context", "mp.dummy", "mp.dummy.connection", "mp.forkserver", "mp.heap",
        "mp.managers", "mp.pool", "mp.popen_fork", "mp.popen_forkserver", "mp.popen_spawn_posix", "mp.process",
        "mp.queues", "mp.reduction", "mp.resource_sharer", "mp.resource_tracker", "mp.shared_memory",
        "mp.sharedctypes", "mp.spawn", "mp.synchronize", "mp.util",
    } <= modules  # fmt: skip
    assert theirs["mp.pool.Pool.map"] == "(self, func, iterable, chunksize=None)"
    assert theirs["mp.get_context('spawn').Queue"] == "(maxsize=0)"
    assert len(theirs) > 1300
