"""A screen to draw on: pyte's, read back as glyphs and colours."""

from __future__ import annotations

from typing import Any

import pyte


class Emulator:
    """What a terminal of a size shows after everything written to it."""

    def __init__(self, height: int, width: int) -> None:
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.Stream(self.screen)

    def feed(self, text: str) -> None:
        """Write to it."""
        self._stream.feed(text.replace("\x1b[?2026h", "").replace("\x1b[?2026l", ""))

    def cells(self) -> list[list[tuple[Any, ...]]]:
        """(glyph, foreground, background, bold, reverse) of each cell; a blank has no foreground."""
        return [
            [
                (c.data, "" if c.data == " " and not c.reverse else c.fg, c.bg, c.bold and c.data != " ", c.reverse)
                for c in (self.screen.buffer[y][x] for x in range(self.screen.columns))
            ]
            for y in range(self.screen.lines)
        ]

    def text(self) -> str:
        """The rows as plain text."""
        return "\n".join(line.rstrip() for line in self.screen.display)
