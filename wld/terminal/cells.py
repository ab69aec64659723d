"""Owns the cells: a grid of glyphs and styles, clipped drawing into rectangles of it, and the bytes that turn one grid
into the next. Pure: it writes to no terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wld.terminal.palette import REVERSE, UNDERLINE, Palette, Role, heat_cells

Span = tuple[str, Role]
Line = str | Sequence[Span]
"""Plain text, or runs of text each with its role."""

SPACE = ord(" ")
_UNKNOWN = 0
"""A glyph no cell holds: what stands there must be painted again."""

# What may reach a terminal beside printable ASCII. All are one cell wide; those that East Asian terminals may take for
# two (Unicode TR 11, Ambiguous) are why such terminals get ASCII. Anything else becomes "?".
_ASCII_FOR = {
    "▀": "#", "▄": "#", "█": "#", "░": ".", "▒": "+", "▓": "#", "─": "-", "│": "|", "┌": "+", "┐": "+", "└": "+",
    "┘": "+", "├": "+", "┤": "+", "┬": "+", "┴": "+", "●": "H", "•": "h", "○": "M", "◦": "m", "◆": "H", "◇": "M",
    "→": ">", "←": "<", "↑": "^", "↓": "v", "·": ".", "▁": "_", "▂": ".", "▃": "-", "▅": "=", "▆": "+", "▇": "*",
    "╱": "/", "±": "~", "Δ": "d", "µ": "u", "…": "~", "≥": ">", "≤": "<", "×": "x", "▌": "|", "▐": "|", "▶": ">",
    "◀": "<", "┃": "|", "∙": ".", "╎": ":", "▏": "|", "▎": "|", "▍": "|", "▋": "#", "▊": "#", "▉": "#",
    "▔": "-", "◈": "@", "²": "2",
}  # fmt: skip
_TO_ASCII = str.maketrans(_ASCII_FOR)
_ALLOWED = frozenset(_ASCII_FOR)


@lru_cache(maxsize=8192)
def printable(text: str, *, is_ascii: bool = False) -> str:
    """Text of which every character takes one cell and none moves the cursor."""
    if text.isascii() and text.isprintable():
        return text
    if is_ascii:
        text = text.translate(_TO_ASCII)
    return "".join(c if (" " <= c <= "~") or (not is_ascii and c in _ALLOWED) else "?" for c in text)


@lru_cache(maxsize=8192)
def _glyphs(text: str, is_ascii: bool) -> npt.NDArray[np.uint32]:
    """The code points of `printable` text; most of a frame's texts are those of the last one."""
    return np.frombuffer(printable(text, is_ascii=is_ascii).encode("utf-32-le"), np.uint32)


def line_text(line: Line) -> str:
    """The line without its roles."""
    return line if isinstance(line, str) else "".join(text for text, _ in line)


class Grid:
    """Rows and columns of cells; `glyphs` are code points, `styles` as `palette.style`."""

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.width = width
        self.glyphs = np.full((height, width), SPACE, np.uint32)
        self.styles = np.zeros((height, width), np.uint32)

    def clear(self) -> None:
        """Blanks everywhere."""
        self.glyphs.fill(SPACE)
        self.styles.fill(0)

    def copy(self) -> Grid:
        """A grid of the same cells."""
        other = Grid.__new__(Grid)
        other.height, other.width = self.height, self.width
        other.glyphs, other.styles = self.glyphs.copy(), self.styles.copy()
        return other

    def text(self) -> list[str]:
        """The rows as plain text."""
        return [row.astype("<u4").tobytes().decode("utf-32-le") for row in self.glyphs]


class Shift(NamedTuple):
    """A hint to the composer: these rows' columns `left`..`right` moved left by `count` cells."""

    top: int
    bottom: int
    left: int
    right: int
    cells: int


class Canvas:
    """A rectangle of a grid with its own coordinates; whatever falls outside is clipped."""

    def __init__(
        self,
        grid: Grid,
        palette: Palette,
        top: int = 0,
        left: int = 0,
        height: int | None = None,
        width: int | None = None,
        shifts: list[Shift] | None = None,
    ) -> None:
        self.grid = grid
        self.palette = palette
        self.top = min(max(0, top), grid.height)
        self.left = min(max(0, left), grid.width)
        self.height = max(0, min(grid.height - self.top, grid.height if height is None else height))
        self.width = max(0, min(grid.width - self.left, grid.width if width is None else width))
        self.shifts: list[Shift] = [] if shifts is None else shifts

    def part(self, top: int, left: int, height: int, width: int) -> Canvas:
        """A rectangle inside this one, clipped to it."""
        top, left = max(0, top), max(0, left)
        return Canvas(
            self.grid,
            self.palette,
            self.top + min(top, self.height),
            self.left + min(left, self.width),
            max(0, min(height, self.height - top)),
            max(0, min(width, self.width - left)),
            self.shifts,
        )

    def put(self, row: int, column: int, text: str, role: Role = Role.TEXT) -> int:
        """Write text from a cell on; returns the column after it."""
        return self.put_style(row, column, text, self.palette.roles[role])

    def put_style(self, row: int, column: int, text: str, style: int) -> int:
        """As `put`, with a style."""
        end = column + len(text)
        if not 0 <= row < self.height or column >= self.width or end <= 0:
            return end
        glyphs = _glyphs(text, self.palette.is_ascii)
        if column < 0:
            glyphs, column = glyphs[-column:], 0
        glyphs = glyphs[: self.width - column]
        y, x = self.top + row, self.left + column
        self.grid.glyphs[y, x : x + len(glyphs)] = glyphs
        self.grid.styles[y, x : x + len(glyphs)] = style
        return end

    def put_down(self, row: int, column: int, glyph: str, count: int, role: Role) -> None:
        """Write one glyph `count` times downwards."""
        part = self.part(row, column, count, 1)
        rows, columns = slice(part.top, part.top + part.height), slice(part.left, part.left + part.width)
        self.grid.glyphs[rows, columns] = ord(printable(glyph, is_ascii=self.palette.is_ascii))
        self.grid.styles[rows, columns] = self.palette.roles[role]

    def put_over(self, row: int, column: int, text: str, foreground: int, attributes: int = 0) -> None:
        """Write text keeping each cell's background: the heat shows through behind it.

        A half-block cell has two heats; the lower half's stays behind the text.
        """
        if not 0 <= row < self.height or column >= self.width:
            return
        glyphs = _glyphs(text, self.palette.is_ascii)
        if column < 0:
            glyphs, column = glyphs[-column:], 0
        glyphs = glyphs[: self.width - column]
        y, x = self.top + row, self.left + column
        cells = self.grid.styles[y, x : x + len(glyphs)]
        self.grid.glyphs[y, x : x + len(glyphs)] = glyphs
        self.grid.styles[y, x : x + len(glyphs)] = self._over(cells, foreground, attributes)

    def _over(self, cells: npt.NDArray[np.uint32], foreground: Any, attributes: int) -> npt.NDArray[np.uint32]:
        if not self.palette.rung:
            foreground = 0
        return (cells & np.uint32(0xFF00)) | np.asarray(foreground, np.uint32) | np.uint32(attributes << 16)

    def put_cells(self, rows: Any, columns: Any, glyphs: Any, styles: Any) -> None:
        """Write single cells, given as arrays of the same length that lie inside; glyphs as code points."""
        self._put_array(rows, columns, glyphs, np.asarray(styles, np.uint32))

    def put_cells_over(self, rows: Any, columns: Any, glyphs: Any, foregrounds: Any, attributes: int = 0) -> None:
        """As `put_cells`, keeping each cell's background."""
        cells = self.grid.styles[self.top + np.asarray(rows), self.left + np.asarray(columns)]
        self._put_array(rows, columns, glyphs, self._over(cells, foregrounds, attributes))

    def _put_array(self, rows: Any, columns: Any, glyphs: Any, styles: npt.NDArray[np.uint32]) -> None:
        if self.palette.is_ascii:
            glyphs = [ord(printable(chr(glyph), is_ascii=True)) for glyph in glyphs]
        place = (self.top + np.asarray(rows), self.left + np.asarray(columns))
        self.grid.glyphs[place] = glyphs
        self.grid.styles[place] = styles

    def put_line(self, row: int, column: int, line: Line, width: int | None = None) -> int:
        """Write a line of spans, cut at `width` cells (default: the canvas' edge)."""
        limit = self.width if width is None else min(self.width, column + width)
        if isinstance(line, str):
            line = ((line, Role.TEXT),)
        for text, role in line:
            if column >= limit:
                break
            column = self.put(row, column, text[: limit - column], role)
        return column

    def fill(
        self, role: Role, top: int = 0, left: int = 0, height: int | None = None, width: int | None = None
    ) -> None:
        """Blank a rectangle in a role's style."""
        part = self.part(top, left, self.height if height is None else height, self.width if width is None else width)
        rows, columns = slice(part.top, part.top + part.height), slice(part.left, part.left + part.width)
        self.grid.glyphs[rows, columns] = SPACE
        self.grid.styles[rows, columns] = self.palette.roles[role]

    def put_pixels(self, top: int, left: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Paint palette indices: two rows of pixels a cell row where the palette has half blocks, else one."""
        glyphs, styles = heat_cells(self.palette, pixels)
        part = self.part(top, left, *glyphs.shape)
        rows, columns = slice(part.top, part.top + part.height), slice(part.left, part.left + part.width)
        self.grid.glyphs[rows, columns] = glyphs[: part.height, : part.width]
        self.grid.styles[rows, columns] = styles[: part.height, : part.width]

    def moved_left(self, top: int, left: int, height: int, width: int, count: int) -> None:
        """Say that a rectangle shows what it showed, `count` cells further left: the composer may then shift it."""
        part = self.part(top, left, height, width)
        if part.height and 0 < count < part.width:
            self.shifts.append(Shift(part.top, part.top + part.height, part.left, part.left + part.width, count))


def compose(new: Grid, old: Grid | None, palette: Palette, shifts: Iterable[Shift] = ()) -> str:
    """The sequences that make a terminal showing `old` show `new`; from anything where `old` is None.

    The cursor is left wherever the last change was; the style is reset. Shifts are used only where they save output.
    """
    out: list[str] = []
    if old is None or (old.height, old.width) != (new.height, new.width):
        out.append("\x1b[0m\x1b[2J")
        old = Grid(new.height, new.width)
    else:
        for shift in shifts:
            old = _apply_shift(shift, new, old, out)
    changed = (new.glyphs != old.glyphs) | (new.styles != old.styles)
    cells = np.flatnonzero(changed)
    if not cells.size:
        return "".join(out)
    width = new.width
    glyphs = new.glyphs.ravel()[cells]
    styles = new.styles.ravel()[cells]
    text = glyphs.tobytes().decode("utf-32-le")
    jumps = np.empty(cells.size, bool)
    jumps[0] = True
    jumps[1:] = (np.diff(cells) != 1) | (cells[1:] % width == 0)
    breaks = jumps.copy()
    breaks[1:] |= styles[1:] != styles[:-1]
    starts = np.flatnonzero(breaks)
    ends = np.append(starts[1:], cells.size)
    codes = palette.codes
    current: int | None = None
    cursor = -1
    for start, end, cell, style, is_jump in zip(
        starts.tolist(), ends.tolist(), cells[starts].tolist(), styles[starts].tolist(), jumps[starts].tolist(),
        strict=True,
    ):  # fmt: skip
        if is_jump:
            row, column = divmod(cell, width)
            ahead = cell - cursor
            if cursor >= 0 and ahead > 0 and cursor // width == row and cursor % width:
                out.append(f"\x1b[{ahead}C" if ahead > 1 else "\x1b[C")
            else:
                out.append(f"\x1b[{row + 1};{column + 1}H")
        piece = text[start:end]
        if style != current and current is not None and style >> 16 == current >> 16:
            # A blank shows no foreground, and a half block is the other half with its colours swapped: whichever
            # needs the shorter code.
            if piece.isspace() and not style >> 16 & _SHOWS_ON_BLANK:
                style = style & ~0xFF | current & 0xFF
            elif piece[0] == "▀":
                swapped = style & ~0xFFFF | style >> 8 & 0xFF | (style & 0xFF) << 8
                if _changes(swapped, current) < _changes(style, current) and piece == "▀" * len(piece):
                    style, piece = swapped, "▄" * len(piece)
        if style != current:
            out.append(codes(style, current))
            current = style
        out.append(piece)
        cursor = cell + end - start
    out.append("\x1b[0m")
    return "".join(out)


_SHOWS_ON_BLANK = UNDERLINE | REVERSE


def _changes(style: int, current: int) -> int:
    """How many of foreground and background differ."""
    return (style & 0xFF != current & 0xFF) + (style >> 8 & 0xFF != current >> 8 & 0xFF)


_SHIFT_BYTES = 30
"""What shifting one row costs: two moves, a deletion and an insertion."""


def _apply_shift(shift: Shift, new: Grid, old: Grid, out: list[str]) -> Grid:
    """Delete cells at the left edge of the rectangle and insert as many at its right, if that is the shorter way."""
    top, bottom, left, right, cells = shift
    rows = slice(top, bottom)
    before = (new.styles[rows, left:right] != old.styles[rows, left:right]).sum()
    kept = slice(left, right - cells)
    after = (new.styles[rows, kept] != old.styles[rows, left + cells : right]).sum() + (bottom - top) * cells
    if (before - after) * 8 < (bottom - top) * _SHIFT_BYTES:
        return old
    shifted = old.copy()
    shifted.glyphs[rows, kept] = old.glyphs[rows, left + cells : right]
    shifted.styles[rows, kept] = old.styles[rows, left + cells : right]
    shifted.glyphs[rows, right - cells : right] = _UNKNOWN
    for row in range(top, bottom):
        out.append(f"\x1b[{row + 1};{left + 1}H\x1b[{cells}P\x1b[{row + 1};{right - cells + 1}H\x1b[{cells}@")
    return shifted
