"""The reference has every public name: the page on a module, in a word of its own."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from describe import described

PAGES = Path(__file__).parents[2] / "docs" / "reference"


@cache
def words_on(module: str) -> set[str]:
    """The words in code on the pages that say, at their top or in a heading, that they are about the module."""
    name = f"`{module.replace('mp', 'manyhands', 1)}`"
    pages = []
    for page in PAGES.glob("*.md"):
        text = page.read_text()
        top, _, rest = text.partition("\n## ")
        headings = [line for line in f"## {rest}".splitlines() if line.startswith("## ")]
        if page.name != "index.md" and (name in top or any(name in line for line in headings)):
            pages.append(text)
    code = " ".join(span for text in pages for span in re.findall(r"`([^`]+)`", text))
    return set(re.findall(r"\w+", code))


def public_names() -> list[tuple[str, str]]:
    """(module, name in it) of all that either package's modules define; a class's members are `Class.member`."""
    theirs, _ = described("multiprocessing")
    ours, imported = described("manyhands")
    modules = {name for name, line in ours.items() if line == "module"}
    found = []
    for name in sorted(theirs.keys() & ours.keys() | ours.keys() - imported):
        module = max((module for module in modules if name.startswith(f"{module}.")), key=len, default=None)
        if module is None or name in modules or "(" in name or re.search(r"\b_", name):
            continue
        if any(name.startswith(f"{other}.") or name == other for other in imported):
            continue
        found.append((module, name[len(module) + 1 :]))
    return found


def test_every_public_name_is_in_the_reference() -> None:
    missing = [
        f"{module}.{name}" for module, name in public_names() if not set(name.split(".")) - {""} <= words_on(module)
    ]
    assert not missing, f"{len(missing)} names are not on the page of their module:\n" + "\n".join(missing)


def test_there_is_something_to_look_for() -> None:
    assert len(public_names()) > 300


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_the_index_leads_to_every_page(page: Path) -> None:
    index = (PAGES / "index.md").read_text()
    assert page.name == "index.md" or f"({page.name})" in index
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (PAGES / target).exists(), f"{page.name} leads to {target}, which is not there"
