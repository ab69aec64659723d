"""Owns pictures of a grid: SVG for pages, ANSI and plain text and JSON for the `w` key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from wld.terminal.cells import Grid, compose, line_text
from wld.terminal.frame import panel_lines
from wld.terminal.palette import BOLD, REVERSE, Palette
from wld.terminal.panels import PanelSet, View

CELL_WIDTH, CELL_HEIGHT = 8, 17
"""Pixels; the font is set to fill them."""
_FONT_SIZE = 13.3
_MARGIN = 10


def ansi(grid: Grid, palette: Palette) -> str:
    """The grid as text with colours, one line a row: `cat` shows it."""
    rows = []
    for y in range(grid.height):
        row = Grid(1, grid.width)
        row.glyphs[0], row.styles[0] = grid.glyphs[y], grid.styles[y]
        blank = Grid(1, grid.width)
        blank.glyphs.fill(0)
        painted = compose(row, blank, palette)
        rows.append(painted.removeprefix("\x1b[1;1H"))
    return "\n".join(rows) + "\n"


def facts_of(view: View, panels: PanelSet, picture: Mapping[str, Any]) -> dict[str, Any]:
    """What the frame says, for programs."""
    facts = view.facts.of(view.symbol)
    return {
        "symbol": view.symbol,
        "time": view.now,
        "state": view.facts.state(view.symbol, view.now, clock=view.clock)[0],
        "ticker_1e8": {
            "last_price": facts.last_price,
            "mark_price": facts.mark_price,
            "index_price": facts.index_price,
            "open_interest": facts.open_interest,
            "funding_rate": facts.funding_rate,
            "next_funding_time_ns": facts.next_funding_time,
        },
        "panels": {
            panel.name: [line_text(line) for line in panel_lines(panel, view, 60, 40)] for panel in panels.ordered()
        },
        "pane": dict(picture),
    }


def save(stem: Path, grid: Grid, palette: Palette, view: View, panels: PanelSet, picture: Mapping[str, Any]) -> str:
    """Write STEM.ans, .txt and .json; returns what to tell the user. Raises: OSError."""
    stem.with_name(stem.name + ".ans").write_text(ansi(grid, palette), encoding="utf-8")
    text = "\n".join(row.rstrip() for row in grid.text()) + "\n"
    stem.with_name(stem.name + ".txt").write_text(text, encoding="utf-8")
    facts = json.dumps(facts_of(view, panels, picture), indent=2, default=str)
    stem.with_name(stem.name + ".json").write_text(facts + "\n", encoding="utf-8")
    return f"{stem}.ans .txt .json"


def svg(grid: Grid, palette: Palette, *, title: str = "") -> str:
    """The grid as an SVG image: rectangles for backgrounds and block glyphs, text for the rest."""
    page = _hex(palette.color_of(0, is_background=True))
    width = grid.width * CELL_WIDTH + 2 * _MARGIN
    height = grid.height * CELL_HEIGHT + 2 * _MARGIN
    boxes: dict[str, list[str]] = {}
    texts: dict[tuple[str, bool], list[str]] = {}
    for y in range(grid.height):
        _row(grid, palette, y, boxes, texts, page)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<title>{escape(title)}</title>" if title else "",
        f'<rect width="100%" height="100%" rx="6" fill="#{page}"/>',
        f'<g transform="translate({_MARGIN},{_MARGIN})" shape-rendering="crispEdges">',
    ]
    parts += [f'<path fill="#{color}" d="{"".join(paths)}"/>' for color, paths in boxes.items()]
    parts.append("</g>")
    parts.append(
        f'<g transform="translate({_MARGIN},{_MARGIN})" font-size="{_FONT_SIZE}" xml:space="preserve" '
        "font-family=\"'DejaVu Sans Mono',Menlo,Consolas,monospace\">"
    )
    for (color, is_bold), items in texts.items():
        weight = ' font-weight="bold"' if is_bold else ""
        parts.append(f'<g fill="#{color}"{weight}>{"".join(items)}</g>')
    parts.append("</g></svg>\n")
    return "\n".join(part for part in parts if part)


_BLOCKS = {"▀": (0.0, 0.5), "▄": (0.5, 1.0), "█": (0.0, 1.0)}
_HEIGHTS = "▁▂▃▄▅▆▇█"


def _row(
    grid: Grid,
    palette: Palette,
    y: int,
    boxes: dict[str, list[str]],
    texts: dict[tuple[str, bool], list[str]],
    page: str,
) -> None:
    glyphs = grid.glyphs[y].astype("<u4").tobytes().decode("utf-32-le")
    styles = grid.styles[y].tolist()
    upper: list[str] = []
    lower: list[str] = []
    runs: list[tuple[int, str, str, bool]] = []
    for x, (glyph, style) in enumerate(zip(glyphs, styles, strict=True)):
        attributes = style >> 16
        foreground = _hex(palette.color_of(style & 255, is_background=False))
        background = _hex(palette.color_of(style >> 8 & 255, is_background=True))
        if attributes & REVERSE:
            foreground, background = background, foreground
        upper.append(foreground if glyph in "▀█" else background)
        lower.append(foreground if glyph in "▄█" else background)
        if glyph in "▀▄█ ":
            continue
        if glyph in _HEIGHTS:  # a sparkline: its own little box
            part = (_HEIGHTS.index(glyph) + 1) / 8 * CELL_HEIGHT
            boxes.setdefault(foreground, []).append(
                f"M{x * CELL_WIDTH} {(y + 1) * CELL_HEIGHT - part:.1f}h{CELL_WIDTH - 1}v{part:.1f}h-{CELL_WIDTH - 1}z"
            )
            continue
        bold = bool(attributes & BOLD)
        if runs and runs[-1][0] + len(runs[-1][1]) == x and runs[-1][2:] == (foreground, bold):
            runs[-1] = (runs[-1][0], runs[-1][1] + glyph, foreground, bold)
        else:
            runs.append((x, glyph, foreground, bold))
    half = CELL_HEIGHT / 2
    if upper == lower:
        _boxes(upper, y * CELL_HEIGHT, CELL_HEIGHT, boxes, page)
    else:
        _boxes(upper, y * CELL_HEIGHT, half, boxes, page)
        _boxes(lower, y * CELL_HEIGHT + half, half, boxes, page)
    for x, text, color, bold in runs:
        texts.setdefault((color, bold), []).append(
            f'<text x="{x * CELL_WIDTH}" y="{y * CELL_HEIGHT + 13}" textLength="{len(text) * CELL_WIDTH}">'
            f"{escape(text)}</text>"
        )


def _boxes(colors: list[str], top: float, height: float, boxes: dict[str, list[str]], page: str) -> None:
    start = 0
    for x in range(1, len(colors) + 1):
        if x == len(colors) or colors[x] != colors[start]:
            if colors[start] != page:
                width = (x - start) * CELL_WIDTH
                boxes.setdefault(colors[start], []).append(
                    f"M{start * CELL_WIDTH} {top:g}h{width}v{height:g}h-{width}z"
                )
            start = x


def _hex(rgb: tuple[int, int, int]) -> str:
    return f"{rgb[0]:02x}{rgb[1]:02x}{rgb[2]:02x}"
