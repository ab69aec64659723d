"""Owns reading the code blocks out of the project's Markdown pages, with the directives that stand above them."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"(?:<!--\s*(?P<directive>[^>]*?)\s*-->\n)?(?P<indent>[ ]*)```(?P<language>\w*)\n(?P<text>.*?)\n(?P=indent)```",
    re.DOTALL,
)


class Block(Struct, frozen=True):
    """One fenced block: where it stands, what it is, and what the page says of running it."""

    page: str
    line: int
    language: str
    text: str
    directive: str
    """Of the HTML comment directly above: `not run: WHY`, `test`, `file: NAME`, or empty."""

    @property
    def is_run(self) -> bool:
        """Whether the tests run it."""
        return self.language in ("sh", "python") and not self.directive.startswith(("not run:", "test", "file:"))


def pages() -> list[Path]:
    """README, CONTRIBUTING and every page under docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """A page's fenced blocks in order."""
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        indent = len(match["indent"])
        body = "\n".join(line[indent:] for line in match["text"].split("\n"))
        line = text.count("\n", 0, match.start("language")) + 1
        found.append(
            Block(str(page.relative_to(ROOT)), line, match["language"], body, (match["directive"] or "").strip())
        )
    return found
