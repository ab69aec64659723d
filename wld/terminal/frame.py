"""Owns the frame: where title, pane, panels, event tape and keys stand at any size, and drawing them all into one grid.
Pure: the same panels, facts and time draw the same cells.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec import Struct

from wld.terminal import numbers
from wld.terminal.cells import Canvas, Grid, Line, Shift, line_text
from wld.terminal.palette import Palette, Role
from wld.terminal.panels import Panel, PanelSet, View

_log = logging.getLogger("wld.terminal")

COMPACT_WIDTH, COMPACT_HEIGHT = 60, 15
"""Below either there is only text."""
COLUMN_WIDTH = 100
"""From here on panels stand in a column at the right; below, they are two brief columns under the pane."""
WIDE_WIDTH = 160
_NARROW_COLUMN, _WIDE_COLUMN = 38, 44
_BRIEF_ROWS = 4

KEYS: tuple[tuple[str, str], ...] = (
    ("q, Ctrl-C", "quit (twice within 2 s: at once)"),
    ("?", "this help; any key closes it"),
    ("space", "freeze the view; the engine goes on"),
    ("Tab, Shift-Tab", "next, previous symbol"),
    ("1 .. 9", "show or hide a panel"),
    ("t", "theme: dark, inferno, cividis (colour-blind), mono, light"),
    ("a", "ASCII only"),
    ("m", "mouse: wheel zooms, click inspects"),
    ("w", "write this frame to .ans, .txt and .json here"),
    ("Ctrl-L", "paint everything again"),
)
FOOTER: tuple[tuple[str, str], ...] = (("?", "help"), ("q", "quit"), ("space", "freeze"))
FOOTER_END: tuple[tuple[str, str], ...] = (("Tab", "symbol"), ("1-9", "panels"), ("t", "theme"), ("w", "save"))


class FrameState(Struct):
    """What the screen itself has switched on."""

    is_help: bool = False
    frozen_since: int | None = None
    """ns; None: live."""
    has_ended: bool = False
    message: str | None = None
    """Shown instead of the event tape's last line, such as where a screenshot went."""
    is_stopping: bool = False


class Frame(Struct):
    """One drawn frame: the cells, and hints for the composer."""

    grid: Grid
    shifts: list[Shift]
    pane_at: tuple[int, int, int, int] | None = None
    """Top, left, height, width of the pane, for clicks."""


def draw_frame(
    height: int,
    width: int,
    palette: Palette,
    panels: PanelSet,
    view: View,
    state: FrameState,
    still: Frame | None = None,
) -> Frame:
    """The whole screen at a size. `still` is the frame that was up when the view was frozen: its panels stay."""
    grid = Grid(height, width)
    frame = Frame(grid, [])
    canvas = Canvas(grid, palette, shifts=frame.shifts)
    if not height or not width:
        return frame
    frozen = still if still is not None and (still.grid.height, still.grid.width) == (height, width) else None
    if width < COMPACT_WIDTH or height < COMPACT_HEIGHT:
        _draw_compact(canvas, panels, view, state)
    else:
        if frozen is not None:
            grid.glyphs[:] = frozen.grid.glyphs
            grid.styles[:] = frozen.grid.styles
        _draw_full(frame, canvas, panels, view, state, is_still=frozen is not None)
    if state.is_help:
        _draw_help(canvas, panels)
    return frame


def _draw_full(
    frame: Frame, canvas: Canvas, panels: PanelSet, view: View, state: FrameState, *, is_still: bool
) -> None:
    height, width = canvas.height, canvas.width
    draw_title(canvas.part(0, 0, 1, width), view, state)
    shown = [panel for panel in panels.ordered() if panel.is_shown]
    tape_rows = 1 if height < 30 else 2 if height < 56 else 3 if height < 75 else 5
    bottom = height - 1 - tape_rows
    _draw_keys(canvas.part(bottom, 0, 1, width), panels)
    _draw_tape(canvas.part(bottom + 1, 0, tape_rows, width), view, state)
    body = canvas.part(1, 0, bottom - 1, width)
    if panels.pane is None:
        if not is_still:
            _draw_flow(body, shown, view)
        return
    pane = body
    if shown and width >= COLUMN_WIDTH:
        column = _WIDE_COLUMN if width >= WIDE_WIDTH else _NARROW_COLUMN
        pane = body.part(0, 0, body.height, width - column - 1)
        if not is_still:
            _draw_column(body.part(0, width - column, body.height, column), shown, view)
    elif shown:
        rows = min(_BRIEF_ROWS, body.height - 8)
        pane = body.part(0, 0, body.height - rows, width)
        if not is_still:
            _draw_briefs(body.part(body.height - rows, 0, rows, width), shown, view)
    frame.pane_at = (pane.top, pane.left, pane.height, pane.width)
    _draw_pane(pane, panels, view)


def _draw_pane(canvas: Canvas, panels: PanelSet, view: View) -> None:
    pane = panels.pane
    assert pane is not None
    canvas.fill(Role.TEXT)
    try:
        pane.draw(canvas, view)
        pane.error = None
    except Exception as error:
        # A drawing that fails costs its own picture, never the run; it is logged once.
        text = f"{type(error).__name__}: {error}"
        if pane.error != text:
            _log.error("pane %s cannot be drawn: %s", pane.name, text, exc_info=error)
        pane.error = text
        canvas.put(canvas.height // 2, 2, f"{pane.name} cannot be drawn: {text}", Role.WARN)


def panel_lines(panel: Panel, view: View, width: int, height: int) -> Sequence[Line]:
    """Its lines, or one that says that it failed."""
    try:
        lines = panel.lines(view, width, height)
        panel.error = None
        return lines[:height]
    except Exception as error:
        return _failed(panel, error)


def panel_brief(panel: Panel, view: View, width: int) -> Sequence[Line]:
    """Its brief lines, or one that says that it failed."""
    try:
        lines = panel.brief(view, width)
        panel.error = None
        return lines
    except Exception as error:
        return _failed(panel, error)


def _failed(panel: Panel, error: Exception) -> Sequence[Line]:
    text = f"{type(error).__name__}: {error}"
    if panel.error != text:
        _log.error("panel %s cannot be drawn: %s", panel.name, text, exc_info=error)
    panel.error = text
    return [((f"cannot be drawn: {text}", Role.WARN),)]


def title_parts(view: View, state: FrameState) -> tuple[list[tuple[int, str, Role]], str, bool]:
    """((weight, text, role) from left to right, what stands at the right end, whether that is an alarm)."""
    facts = view.facts.of(view.symbol)
    told = facts.headline(view.now)
    symbols = view.facts.symbols
    place = f" {symbols.index(view.symbol) + 1}/{len(symbols)}" if view.symbol in symbols and len(symbols) > 1 else ""
    rising = Role.TITLE_FAINT if not facts.change else Role.TITLE_LONG if facts.change > 0 else Role.TITLE_SHORT
    parts = [
        (40, " wld", Role.TITLE_FAINT),
        (99, f" {view.symbol}", Role.TITLE_STRONG),
        (60, place, Role.TITLE_FAINT),
        (97, f" {told.last}", Role.TITLE_STRONG),
        (70, f" {told.change}", rising),
        (96, "  mark ", Role.TITLE_FAINT),
        (96, told.mark, Role.TITLE),
        (30, "  index ", Role.TITLE_FAINT),
        (30, told.index, Role.TITLE),
        (95, "  fund ", Role.TITLE_FAINT),
        (95, told.funding, Role.TITLE),
        (50, f" {told.countdown}", Role.TITLE_FAINT),
        (95, "  OI ", Role.TITLE_FAINT),
        (95, told.interest, Role.TITLE),
    ]
    if view.now:
        parts.append((20, f"   {numbers.clock(view.now)} UTC", Role.TITLE_FAINT))
    end, is_alarm = view.facts.state(view.symbol, _clock(view), clock=view.clock, ended=state.has_ended)
    return parts, end, is_alarm


def _clock(view: View) -> int:
    """The time that freshness is told by: a frozen picture must not make a dead feed look alive."""
    wall: int = view.self_figures.get("wall", view.now) if view.clock == "live" else view.now
    return wall


def draw_title(canvas: Canvas, view: View, state: FrameState) -> None:
    """The first row: what is watched, its price, mark, funding, open interest; at the right how fresh it is."""
    parts, end, is_alarm = title_parts(view, state)
    badge = ""
    if state.is_stopping:
        badge = " STOPPING "
    elif state.frozen_since is not None:
        seconds = max(0, view.self_figures.get("wall", view.now) - state.frozen_since) // 1_000_000_000
        badge = f" FROZEN {seconds // 60:02d}:{seconds % 60:02d} "
    width = canvas.width
    room = width - len(end) - 2 - len(badge)
    total = sum(len(text) for _, text, _ in parts)
    for weight in sorted({weight for weight, _, _ in parts}):
        if total <= room or weight >= 95:
            break
        total -= sum(len(text) for w, text, _ in parts if w == weight)
        parts = [part for part in parts if part[0] != weight]
    if total > room:  # too narrow for all that must stand there: less air, and the state in one word
        parts = [(weight, text.replace("  ", " "), role) for weight, text, role in parts]
        end = end if is_alarm else end.split(" ")[0]
    canvas.fill(Role.ALARM if is_alarm else Role.TITLE)
    column = 0
    for _, text, role in parts:
        column = canvas.put(0, column, text, Role.ALARM if is_alarm else role)
    if badge:
        canvas.put(0, width - len(end) - 2 - len(badge), badge, Role.BADGE)
    canvas.put(0, width - len(end) - 2, f" {end} ", Role.ALARM if is_alarm else Role.TITLE_STRONG)


def _draw_keys(canvas: Canvas, panels: PanelSet) -> None:
    column = 1
    pane = panels.pane.footer if panels.pane else ()
    for keys, word in (*FOOTER, *pane, *FOOTER_END):
        if column + len(keys) + len(word) + 1 > canvas.width:
            break
        column = canvas.put(0, column, keys, Role.KEY)
        column = canvas.put(0, column + 1, word, Role.FAINT) + 2


def _draw_tape(canvas: Canvas, view: View, state: FrameState) -> None:
    canvas.fill(Role.TEXT)
    notes = view.facts.notes_of(view.symbol)[-canvas.height :]
    for row, note in enumerate(reversed(notes)):
        column = canvas.put(row, 1, f"[{numbers.clock(note.time)}] ", Role.FAINT)
        canvas.put_line(row, column, note.line)
    if state.message:
        canvas.fill(Role.TEXT, 0, 0, 1)
        canvas.put(0, 1, state.message, Role.ACCENT)
    elif not notes:
        canvas.put(0, 1, "no events yet: liquidations, gaps and reconnects are told here", Role.FAINT)


_LEAST_LINES = 3


def fit(panels: Sequence[Panel], lines: dict[str, Sequence[Line]], height: int) -> dict[str, Sequence[Line]]:
    """What of each panel is shown in `height` rows: all, or less of the lighter ones, or none of the lightest.

    A panel's lines are cut from its end, down to three, before any panel is left out.
    """
    kept = {panel.name: list(lines[panel.name]) for panel in panels if lines[panel.name]}
    by_weight = sorted((panel for panel in panels if panel.name in kept), key=lambda p: p.weight)
    used = sum(len(shown) + 1 for shown in kept.values())
    while used > height and kept:
        for panel in by_weight:
            if panel.name in kept and len(kept[panel.name]) > _LEAST_LINES:
                kept[panel.name].pop()
                used -= 1
                break
        else:
            lightest = next(panel for panel in by_weight if panel.name in kept)
            used -= len(kept.pop(lightest.name)) + 1
    return {name: tuple(shown) for name, shown in kept.items()}


def _draw_column(canvas: Canvas, panels: Sequence[Panel], view: View) -> None:
    """One column of titled groups; where there is no room for all, the lightest lose lines and then their place."""
    width = canvas.width
    lines = fit(panels, {panel.name: panel_lines(panel, view, width - 2, 40) for panel in panels}, canvas.height)
    row = 0
    for panel in panels:
        if panel.name in lines:
            row = _draw_group(canvas, row, panel, lines[panel.name])
    canvas.put_down(0, 0, "│", canvas.height, Role.BORDER)


def _draw_group(canvas: Canvas, row: int, panel: Panel, lines: Sequence[Line]) -> int:
    rule = "─" * max(0, canvas.width - len(panel.title) - 4)
    column = canvas.put(row, 1, "─ ", Role.BORDER)
    column = canvas.put(row, column, panel.title, Role.HEADING)
    canvas.put(row, column, f" {rule}", Role.BORDER)
    for offset, line in enumerate(lines, 1):
        canvas.put_line(row + offset, 2, line)
    return row + 1 + len(lines)


def _draw_flow(canvas: Canvas, panels: Sequence[Panel], view: View) -> None:
    """Panels alone: as many columns as there is width for, filled top to bottom."""
    count = max(1, min(4, canvas.width // _WIDE_COLUMN))
    width = canvas.width // count
    lines = fit(
        panels, {panel.name: panel_lines(panel, view, width - 2, 40) for panel in panels}, canvas.height * count
    )
    shown = [panel for panel in panels if panel.name in lines]
    target = -(-sum(len(lines[panel.name]) + 1 for panel in shown) // count)
    column = row = 0
    for panel in shown:
        need = len(lines[panel.name]) + 1
        if row and (row + need > canvas.height or row >= target) and column + 1 < count:
            column, row = column + 1, 0
        place = canvas.part(0, column * width, canvas.height, width)
        row = _draw_group(place, row, panel, lines[panel.name][: max(0, canvas.height - row - 1)])


def _draw_briefs(canvas: Canvas, panels: Sequence[Panel], view: View) -> None:
    """Two columns of brief lines for terminals of 80 columns."""
    half = (canvas.width - 3) // 2
    briefs: list[Line] = []
    for panel in sorted(panels, key=lambda p: -p.weight):
        briefs.extend(panel_brief(panel, view, half))
    for index, line in enumerate(briefs[: 2 * canvas.height]):
        row, column = index % canvas.height, index // canvas.height
        left = 1 if column == 0 else half + 3
        canvas.put_line(row, left, line, half)
    canvas.put_down(0, half + 1, "│", canvas.height, Role.BORDER)


def _draw_compact(canvas: Canvas, panels: PanelSet, view: View, state: FrameState) -> None:
    """A few lines of text for a terminal too small for pictures."""
    told = view.facts.of(view.symbol).headline(view.now)
    end, is_alarm = view.facts.state(view.symbol, _clock(view), clock=view.clock, ended=state.has_ended)
    if state.frozen_since is not None:
        end = f"FROZEN {end}"
    width = canvas.width
    canvas.fill(Role.ALARM if is_alarm else Role.TITLE, 0, 0, 1)
    role = Role.ALARM if is_alarm else Role.TITLE_STRONG
    if is_alarm:  # what cannot be missed comes first
        canvas.put(0, 0, f"{end} {view.symbol}", role)
    else:
        column = canvas.put(0, 0, f"{view.symbol} {told.last} ", role)
        column = canvas.put(0, column, told.change, Role.TITLE)
        if column + len(end) < width:
            canvas.put(0, width - len(end), end, Role.TITLE)
    mark, fund, held = f"mark {told.mark}", f"fund {told.funding}", f"OI {told.interest}"
    rows: list[Line] = []
    if width >= len(mark) + len(held) + 2:
        rows.append(f"{mark}  {held}")
    else:
        rows += [mark, held]
    rows.append(f"{fund} {told.countdown}" if width >= len(fund) + 9 else fund)
    shown = [panel for panel in panels.ordered() if panel.is_shown]
    for panel in sorted(shown, key=lambda p: -p.weight):
        rows.extend(panel_brief(panel, view, width))
    for row, line in enumerate(rows[: canvas.height - 1], 1):
        canvas.put_line(row, 0, line)


def _draw_help(canvas: Canvas, panels: PanelSet) -> None:
    entries: list[tuple[str, str] | None] = list(KEYS)
    if panels.pane and panels.pane.help:
        entries += [None, *panels.pane.help]
    numbered = [f"{i} {panel.name}" for i, panel in enumerate(panels.ordered()[:9], 1)]
    for start in range(0, len(numbered), 5):
        entries.append(("panels" if not start else "", "  ".join(numbered[start : start + 5])))
    rows = canvas.height - 2
    columns = 1 if len(entries) <= rows or canvas.width < 100 else 2
    per_column = -(-len(entries) // columns)
    key_width = max((len(entry[0]) for entry in entries if entry), default=4) + 2
    text_width = max((len(entry[1]) for entry in entries if entry), default=4)
    inner = min(canvas.width - 4, columns * (key_width + text_width + 2))
    height = min(canvas.height, per_column + 2)
    box = canvas.part((canvas.height - height) // 2, max(0, (canvas.width - inner - 4) // 2), height, inner + 4)
    box.fill(Role.TITLE)
    box.put(0, 2, "keys", Role.TITLE_STRONG)
    cell = inner // columns
    for index, entry in enumerate(entries):
        row, column = index % per_column + 1, index // per_column
        if entry is None or row >= height:
            continue
        place = box.part(row, 2 + column * cell, 1, cell - (1 if columns > 1 else 0))
        place.put(0, 0, entry[0], Role.TITLE_STRONG)
        place.put(0, key_width, entry[1], Role.TITLE)


def frame_text(frame: Frame) -> str:
    """The frame as plain text, one line a row."""
    return "\n".join(row.rstrip() for row in frame.grid.text())


__all__ = ["KEYS", "Frame", "FrameState", "draw_frame", "draw_title", "frame_text", "line_text", "title_parts"]
