"""Owns how pages that live elsewhere in the repository join the site: README as its start, FORMAT, CHANGELOG and the rest.

A hook of mkdocs (`mkdocs.yml` names it). Links between pages are written for the repository, relative to the file
they stand in; here they are turned to where the pages stand on the site, and a file that a page leads to (an example,
a configuration) joins it under `files/`.
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
    """Add the pages that live elsewhere, and the files that pages lead to."""
    for here, there in JOINED.items():
        files.append(File.generated(config, there, content=(ROOT / here).read_text()))
    pages = [*JOINED, *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
    led_to = {_resolve(page, match[2]) for page in pages for match in _LINK.finditer((ROOT / page).read_text())}
    for path in sorted(path for path in led_to if path and _file_of(path)):
        files.append(File.generated(config, f"files/{path}", content=(ROOT / path).read_bytes()))
    return files


def _resolve(page: str, target: str) -> str | None:
    """The path in the repository that a link of a page leads to; None for one that leads out of it."""
    if "://" in target or target.startswith(("mailto:", "/")):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target))


def _file_of(path: str) -> bool:
    return path not in JOINED and not path.startswith("docs/") and (ROOT / path).is_file()


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn repository links into links of the site; a folder becomes its path in the repository, in words."""
    source = _HERE.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def turn(match: re.Match[str]) -> str:
        path = _resolve(source, match[2])
        if path is None:
            return match[0]
        there = JOINED.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        there = there or (f"files/{path}" if _file_of(path) else None)
        if there is None:
            return f"{match[1]}{config.repo_url}{path}{match[4]}" if config.repo_url else f"](#){{: title='{path}' }}"
        return f"{match[1]}{there}{match[3] or ''}{match[4]}"

    return _LINK.sub(turn, markdown)
