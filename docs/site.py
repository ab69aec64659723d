"""Owns how pages that live elsewhere in the repository join the site: README as its start, FORMAT, CHANGELOG and the rest.

A hook of mkdocs (`mkdocs.yml` names it). Links between pages are written for the repository, relative to the file
they stand in; here they are turned to where the pages stand on the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
JOINED = {
    "README.md": "index.md",
    "data/FORMAT.md": "reference-format.md",
    "ARCHITECTURE.md": "explanation-architecture.md",
    "CONTRIBUTING.md": "howto-contribute.md",
    "CHANGELOG.md": "changelog.md",
}
"""Where a file of the repository stands on the site; everything under docs/ stands at the site's top."""
_LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)]*)?(\))")
_HERE = {there: here for here, there in JOINED.items()}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that live elsewhere."""
    for here, there in JOINED.items():
        files.append(File.generated(config, there, content=(ROOT / here).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn repository links into links of the site; a file that is no page becomes its path in the repository."""
    source = _HERE.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def turn(match: re.Match[str]) -> str:
        target = match[2]
        if "://" in target or target.startswith(("mailto:", "/")):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        there = JOINED.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if there is None:
            return f"{match[1]}{config.repo_url}{path}{match[4]}" if config.repo_url else f"](#){{: title='{path}' }}"
        return f"{match[1]}{there}{match[3] or ''}{match[4]}"

    return _LINK.sub(turn, markdown)
