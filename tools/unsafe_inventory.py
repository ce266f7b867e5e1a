"""Counts what is `unsafe`, crate by crate and file by file, for docs/unsafe.md.

    unsafe_inventory.py --write docs/unsafe.md
    unsafe_inventory.py --check docs/unsafe.md      fails if the page is not what --write would write

Counted in code, with comments and strings left out: unsafe blocks, unsafe functions (also those only
declared), unsafe impls of traits, unsafe attributes such as `#[unsafe(no_mangle)]`. Tests count like
everything else.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
KINDS = {
    "blocks": r"\bunsafe\s*\{",
    "functions": r"\bunsafe\s+(?:extern\s+\"\"\s*)?fn\s+\w",
    "impls and traits": r"\bunsafe\s+(?:impl|trait)\b",
    "attributes": r"#!?\[\s*unsafe\s*\(",
}
# What a crate may do, in the words of the page.
RULES = {
    "manyhands-os": "the only crate that calls the kernel; unsafe is fenced here",
    "manyhands-shm": "memory shared with other processes; unsafe for memory only, no system call",
    "manyhands": "`#![forbid(unsafe_code)]`: the compiler refuses any",
    "manyhands-py": "what the C API of Python needs and PyO3 does not offer for the stable ABI",
    "manyhands-fuzz": "never part of a release: hostile hands that write into mapped memory",
    "manyhands-testkit": "never part of a release",
    "manyhands-examples": "programs to read; `unsafe` has no place in them",
}


def code_of(text: str) -> str:
    """Rust source without comments, and with empty strings and characters."""
    token = re.compile(
        r"""//[^\n]*|/\*.*?\*/|r(?P<hashes>\#*)".*?"(?P=hashes)|"(?:\\.|[^"\\])*"|b?'(?:\\.|[^'\\])'""", re.DOTALL
    )
    return token.sub(lambda found: '""' if '"' in found.group()[:4] else " ", text)


def page() -> str:
    """The whole page."""
    lines = [
        "# What is unsafe",
        "",
        "Written by `tools/unsafe_inventory.py`; CI fails when it is out of date. Every unsafe block has a",
        "`// SAFETY:` comment that names the invariant it rests on (clippy's `undocumented_unsafe_blocks` is denied),",
        "and `unsafe_op_in_unsafe_fn` is denied, so that an unsafe function's body is no unsafe block by itself.",
        "",
        "| crate | " + " | ".join(KINDS) + " | rule |",
        "|---" + "|---:" * len(KINDS) + "|---|",
    ]
    details: list[str] = []
    for manifest in sorted([*ROOT.glob("crates/*/Cargo.toml"), *ROOT.glob("examples/*/Cargo.toml")]):
        found = re.search(r'^name = "([^"]+)"', manifest.read_text(), re.MULTILINE)
        assert found is not None, manifest
        crate, totals = found[1], dict.fromkeys(KINDS, 0)
        files = []
        for source in sorted(manifest.parent.rglob("*.rs")):
            code = code_of(source.read_text())
            counts = {kind: len(re.findall(pattern, code)) for kind, pattern in KINDS.items()}
            if any(counts.values()):
                files.append(f"| `{source.relative_to(ROOT)}` | " + " | ".join(str(n) for n in counts.values()) + " |")
            for kind, number in counts.items():
                totals[kind] += number
        numbers = " | ".join(str(number) for number in totals.values())
        lines.append(f"| `{crate}` | {numbers} | {RULES.get(crate, '')} |")
        if files:
            details += [
                "",
                f"## {crate}",
                "",
                "| file | " + " | ".join(KINDS) + " |",
                "|---" + "|---:" * len(KINDS) + "|",
            ]
            details += files
    return "\n".join(lines + details) + "\n"


def main() -> int:
    """Writes or checks the page."""
    action, path = sys.argv[1], Path(sys.argv[2])
    if action == "--write":
        path.write_text(page())
        return 0
    if path.exists() and path.read_text() == page():
        return 0
    print(f"{path} is out of date: run 'make docs' and look at what changed in it", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
