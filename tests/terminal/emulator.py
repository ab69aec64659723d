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
        """(glyph, foreground, background, bold, reverse) of each cell as it looks: a blank has no foreground, a lower
        half is an upper one with its colours swapped.
        """
        return [
            [_looks(self.screen.buffer[y][x]) for x in range(self.screen.columns)] for y in range(self.screen.lines)
        ]

    def text(self) -> str:
        """The rows as plain text."""
        return "\n".join(line.rstrip() for line in self.screen.display)


def _looks(cell: Any) -> tuple[Any, ...]:
    if cell.data == " ":
        return (" ", "" if not cell.reverse else cell.fg, cell.bg, False, cell.reverse)
    if cell.data == "▄" and not cell.reverse:
        return ("▀", cell.bg, cell.fg, cell.bold, False)
    return (cell.data, cell.fg, cell.bg, cell.bold, cell.reverse)
