"""What mkdocs does beside its own work: the pages of the repository's root belong to the site too.

README.md is the site's first page. Links between the root and `docs/` are written as they are right in the repository,
and become the site's here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md", "ARCHITECTURE.md": "", "CONTRIBUTING.md": "", "CHANGELOG.md": ""}
SOURCE = "https://github.com/manyhands/manyhands/blob/main/"


def on_files(files: Any, *, config: Any) -> Any:
    """Add the root's pages."""
    for name, as_name in PAGES.items():
        text = (ROOT / name).read_text()
        # From the root into docs/, and to files that are no pages.
        text = re.sub(r"\]\(docs/", "](", text)
        text = re.sub(r"\]\((LICENSE-\w+)\)", rf"]({SOURCE}\1)", text)
        files.append(File.generated(config, as_name or name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Point links from docs/ to the root's pages at the site's, and to files of the repository at those."""
    markdown = re.sub(r"\]\(\.\./(?=(?:tests|benches|examples|crates|fuzz|tools)/)", rf"]({SOURCE}", markdown)
    return re.sub(r"\]\(\.\./(ARCHITECTURE|CONTRIBUTING|CHANGELOG)\.md", r"](\1.md", markdown)
