"""Owns how the heat looks: heat over time with prices, profile, zones, legend and cursor. Knows no terminal; it draws on
a canvas that the screen gives it.

Time runs to the right, price upwards. A cell column is one stretch of time and never changes once that is over; what it
shows is what the model believed at its end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from wld import SCALE, PositionSide
from wld.terminal import Canvas, Click, Color, Key, Role, View, numbers
from wld.terminal.palette import BOLD, DIMMED, HEAT, LEVELS
from wld_heatmap.history import HeatMap, Zone
from wld_heatmap.view.keys import press
from wld_heatmap.view.layout import Cell, Layout, Pixels, Shown, nice_step
from wld_heatmap.view.marks import Cells
from wld_heatmap.view.scale import Scale
from wld_heatmap.view.selection import GAMMAS, SCALES, WIDTHS, Selection
from wld_heatmap.view.timeline import SECOND, Timeline

WIDEST_AUTO = 60
"""Left alone, columns widen up to this as history grows: an hour at 80 columns, two at 200."""
SPAN = 0.13
"""Fraction of price that a pane shows unless zoomed."""
MIDDLE = 0.6
"""The mark price may move within this share of the pane before the picture is centred anew."""
CELLS_A_FRAME = 32
"""Columns built anew in one frame, some 0.1 ms each; after a change of zoom the picture fills within a few frames."""


class HeatPane:
    """Draws the selected symbol's HeatMap for the screen."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._settings = selection.settings
        self.scale = Scale(selection)
        self._timelines: dict[str, Timeline] = {}
        self._cells: dict[int, Cell] = {}
        self._cells_key: tuple[Any, ...] = ()
        self._centre_key: tuple[Any, ...] = ()
        self._shown: Shown | None = None
        self._marks: tuple[Cells, Cells] = (([], [], [], []), ([], [], [], []))
        self._marks_key: tuple[Any, ...] = ()

    def snap(self, now: int) -> None:
        """Keep this second of every symbol: a fresh start then shows heat within seconds."""
        for symbol, heatmap in self._selection.radar.maps.items():
            if heatmap.is_ready:
                self._timeline(symbol).snap(heatmap, now)

    def _timeline(self, symbol: str) -> Timeline:
        return self._timelines.setdefault(symbol, Timeline())

    def draw(self, canvas: Canvas, view: View) -> None:
        """The pane: price labels, heat, distance and profile, time axis, and a legend where there is room."""
        canvas.fill(Role.INK)
        if self._selection.loading:
            canvas.put(canvas.height // 2, 2, self._selection.loading, Role.INK_STRONG)
            return
        heatmap = self._selection.ready_map(view)
        if heatmap is None:
            canvas.put(canvas.height // 2, 2, f"{view.symbol}: waiting for a mark price", Role.INK)
            return
        layout = Layout.of(canvas.height, canvas.width, heatmap, is_half_block=canvas.palette.is_half_block)
        if layout.rows < 2 or layout.columns < 4:
            return
        timeline = self._timeline(view.symbol)
        timeline.refresh(heatmap)
        shown = self._arrange(heatmap, timeline, layout, view)
        heat = canvas.part(0, layout.left, layout.rows, layout.columns)
        self._draw_heat(heat, heatmap, timeline, shown, view)
        self._draw_marks(heat, heatmap, shown)
        self._draw_axes(canvas, heatmap, shown, view)
        self._draw_badges(heat, shown)
        before = self._shown
        if before is not None and before.same_place(shown) and shown.last > before.last:
            canvas.moved_left(0, layout.left, layout.rows, layout.columns, shown.last - before.last)
        self._shown = shown

    def _arrange(self, heatmap: HeatMap, timeline: Timeline, layout: Layout, view: View) -> Shown:
        """Which slots of time and which pixels of price the pane shows."""
        settings = self._settings
        seconds = settings.width or self._auto_width(timeline, layout.columns, view.now)
        width = seconds * SECOND
        last = view.now // width  # the slot that is open now
        settings.scroll = max(0, min(settings.scroll, max(0, last - (timeline.first or view.now) // width - 1)))
        last -= settings.scroll
        step = heatmap.bin_width
        bins = max(1, round(SPAN / (layout.pixels * step) * 1.25**-settings.zoom))
        mark = heatmap.bin_of(heatmap.mark_price or SCALE) // bins
        key = (view.symbol, bins, layout.pixels)
        centre = settings.centre
        if centre is None or key != self._centre_key:
            centre, self._centre_key = mark, key
        elif not settings.pan and not view.is_frozen and abs(mark - centre) > layout.pixels * MIDDLE / 2:
            centre = mark
        settings.centre = centre
        top = centre + settings.pan + layout.pixels // 2
        return Shown(view.symbol, layout, width, last, bins, top)

    def _auto_width(self, timeline: Timeline, columns: int, now: int) -> int:
        """The narrowest columns in which everything since the start fits, up to a minute."""
        span = (now - (timeline.first if timeline.first is not None else now)) / SECOND
        for seconds in WIDTHS:
            if seconds >= WIDEST_AUTO or span <= columns * seconds:
                return seconds
        return WIDEST_AUTO

    def _cell(self, heatmap: HeatMap, timeline: Timeline, shown: Shown, slot: int, view: View) -> Cell | None:
        start, end = slot * shown.width, (slot + 1) * shown.width
        columns = timeline.between(start, end)
        is_final = timeline.last_end >= end if shown.width >= timeline.fine_width else view.now >= end + SECOND
        has_gap = any(column.has_gap for column in columns)  # the open one may just not have got anything yet
        if not is_final and view.now > start and not view.is_frozen:
            opened = heatmap.open_column(view.now)
            if opened is not None:
                columns = [opened, *columns]
        if not columns:
            return None
        newest = columns[0]
        heat = newest.heat(boosted=self._settings.is_boosted, side=self._selection.side, tiers=self._selection.tiers)
        bins = shown.bins
        low = newest.low_bin // bins
        if len(heat):
            padded = np.zeros(-(-(newest.low_bin % bins + len(heat)) // bins) * bins, np.float32)
            at = newest.low_bin - low * bins
            padded[at : at + len(heat)] = heat
            heat = padded.reshape(-1, bins).sum(axis=1)
        lows = [c.mark_low for c in columns if c.mark_low is not None]
        highs = [c.mark_high for c in columns if c.mark_high is not None]
        return Cell(
            low,
            heat,
            heatmap.bin_of(min(lows)) // bins if lows else None,
            heatmap.bin_of(max(highs)) // bins if highs else None,
            heatmap.bin_of(newest.mark_close) // bins if newest.mark_close is not None else None,
            newest.is_seed,
            has_gap,
            end,
            is_final,
        )

    def _cells_of(self, heatmap: HeatMap, timeline: Timeline, shown: Shown, view: View) -> list[Cell | None]:
        key = (
            shown.symbol,
            shown.width,
            shown.bins,
            self._selection.side,
            self._selection.tiers,
            self._settings.is_boosted,
        )
        if key != self._cells_key:
            self._cells, self._cells_key = {}, key
        cells: list[Cell | None] = []
        built = 0
        for slot in range(shown.last, shown.first - 1, -1):
            cell = self._cells.get(slot)
            if cell is None and built < CELLS_A_FRAME:
                cell = self._cell(heatmap, timeline, shown, slot, view)
                built += cell is not None
                if cell is not None and cell.is_final:
                    self._cells[slot] = cell
            cells.append(cell)
        cells.reverse()
        if built >= CELLS_A_FRAME:
            view.wants_redraw = True  # the rest in the next frame: the event loop must not wait for a picture
        if len(self._cells) > 20 * shown.layout.columns + 1_000:
            self._cells.clear()
        return cells

    def _draw_heat(self, canvas: Canvas, heatmap: HeatMap, timeline: Timeline, shown: Shown, view: View) -> None:
        layout = shown.layout
        cells = self._cells_of(heatmap, timeline, shown, view)
        heat = np.zeros((layout.pixels, layout.columns), np.float32)
        bottom = shown.bottom
        for x, cell in enumerate(cells):
            if cell is None or not len(cell.heat):
                continue
            low, high = max(cell.low, bottom), min(cell.low + len(cell.heat), bottom + layout.pixels)
            if low < high:
                heat[low - bottom : high - bottom, x] = cell.heat[low - cell.low : high - cell.low]
        shown.heat = heat
        shown.cells = cells
        self.scale.fit(heat, shown, view)
        levels = self.scale.levels(heat)
        colors = (levels + np.uint8(HEAT)).astype(np.uint8)
        for x, cell in enumerate(cells):
            if cell is not None and cell.is_seed:
                colors[:, x] += np.uint8(DIMMED - HEAT)
        shown.levels = levels
        if canvas.palette.is_half_block:
            self._draw_path(colors, shown)
        canvas.put_pixels(0, 0, colors[::-1])
        if not canvas.palette.is_half_block:
            self._put_path(canvas, shown)
        for x, cell in enumerate(cells):
            if cell is not None and cell.has_gap:
                for row in range(layout.rows):
                    if (row + x) % 2 == 0:
                        canvas.put_over(row, x, "╱", Color.FAINT)

    def _draw_path(self, colors: npt.NDArray[np.uint8], shown: Shown) -> None:
        bottom, pixels = shown.bottom, shown.layout.pixels
        for x, cell in enumerate(shown.cells):
            if cell is None or cell.mark_close is None or cell.mark_low is None or cell.mark_high is None:
                continue
            low, high = max(0, cell.mark_low - bottom), min(pixels - 1, cell.mark_high - bottom)
            if low <= high:
                colors[low : high + 1, x] = Color.RANGE
            if 0 <= cell.mark_close - bottom < pixels:
                colors[cell.mark_close - bottom, x] = Color.MARK

    def _put_path(self, canvas: Canvas, shown: Shown) -> None:
        for x, cell in enumerate(shown.cells):
            if cell is None or cell.mark_close is None:
                continue
            row = shown.row_of(cell.mark_close)
            if row is not None:
                canvas.put_over(row, x, "o", Color.MARK, BOLD)

    def _draw_marks(self, canvas: Canvas, heatmap: HeatMap, shown: Shown) -> None:
        """Real liquidations where they were triggered: of each side and column the largest, sized by their sum, as hit or
        miss; the others as dots.
        """
        palette = canvas.palette
        marks = self._selection.marks_of(heatmap)
        place = (shown.symbol, shown.layout, shown.width, shown.last, shown.bins, shown.bottom)
        key = (*place, marks.version, self._selection.side, id(palette))
        if key != self._marks_key:
            self._marks_key = key
            is_plain = palette.is_ascii or not palette.rung
            self._marks = marks.arrange(shown, self._selection.side, is_plain=is_plain, has_color=bool(palette.rung))
        dots, largest = self._marks
        if dots[0]:
            canvas.put_cells_over(*dots, BOLD)
        if largest[0]:
            canvas.put_cells(*largest)

    def _draw_axes(self, canvas: Canvas, heatmap: HeatMap, shown: Shown, view: View) -> None:
        layout = shown.layout
        tick = heatmap.model.rules.tick
        mark = heatmap.mark_price or 0
        mark_row = shown.row_of(heatmap.bin_of(mark) // shown.bins) if mark else None
        profile = self._profile(heatmap, shown, view)
        peak = float(profile.max()) if profile.size else 0.0
        zones = {
            shown.row_of(heatmap.bin_of(z.price) // shown.bins): (name, z)
            for name, z in self._selection.named_zones(view)
        }
        bar_levels = self.scale.levels(profile / np.float32(layout.per_row)).tolist()
        every = 1 if layout.rows < 26 else 2 if layout.rows < 60 else 3
        right = layout.left + layout.columns
        palette = canvas.palette
        for row in range(layout.rows):
            price = self._price_at(heatmap, shown, row)
            is_mark = row == mark_row
            if is_mark:
                canvas.put(row, 0, f"{numbers.price(mark, tick):>{layout.left - 1}}", Role.MARK)
            elif (layout.rows // 2 - row) % every == 0 and (mark_row is None or abs(row - mark_row) > 0):
                canvas.put(row, 0, f"{numbers.price(price, tick):>{layout.left - 1}}", Role.INK)
            column = canvas.put(row, right, "◀" if is_mark else " ", Role.MARK)
            distance = price / mark - 1 if mark else 0.0
            if is_mark:
                column = canvas.put(row, column, "  mark", Role.MARK)
            else:
                column = canvas.put(row, column, f"{distance * 100:+5.1f}%", Role.INK)
            bar = profile[row]
            room = layout.bar
            if bar > 0 and peak > 0:
                length = max(1, round(bar / peak * room))
                style = (HEAT + max(bar_levels[row], 12)) | HEAT << 8 if palette.rung else palette.roles[Role.INK]
                canvas.put_style(row, column + 1, "█" * length, style)
            if row in zones and not is_mark:
                name, zone = zones[row]
                self._draw_zone(canvas, row, column + 2 + room, layout, name, zone)
        self._draw_time(canvas, shown, view)
        self._draw_legend(canvas, heatmap, shown)

    @staticmethod
    def _draw_zone(canvas: Canvas, row: int, column: int, layout: Layout, name: str, zone: Zone) -> None:
        color = Color.LONG if zone.side is PositionSide.LONG else Color.SHORT
        text = name
        if layout.zone >= 8:
            text += f" {numbers.amount(zone.notional)}"
        if layout.zone >= 16:
            text += f" {zone.tiers}"
        style = color | HEAT << 8 | BOLD << 16 if canvas.palette.rung else canvas.palette.roles[Role.INK_STRONG]
        canvas.put_style(row, column, text[: layout.zone], style)

    def _price_at(self, heatmap: HeatMap, shown: Shown, row: int) -> float:
        """The price in the middle of a row, 1e-8."""
        per_row = shown.layout.per_row
        pixel = shown.bottom + (shown.layout.rows - 1 - row) * per_row
        return heatmap.price_of((pixel + per_row / 2) * shown.bins - 0.5)

    def _profile(self, heatmap: HeatMap, shown: Shown, view: View) -> Pixels:
        """USDT a row now, top row first."""
        layout = shown.layout
        column = shown.heat[:, -1] if shown.heat is not None and not self._settings.scroll else None
        if column is None or not column.any():
            last = self._cell(heatmap, self._timeline(shown.symbol), shown, view.now // shown.width, view)
            column = np.zeros(layout.pixels, np.float32)
            if last is not None and len(last.heat):
                low, high = max(last.low, shown.bottom), min(last.low + len(last.heat), shown.bottom + layout.pixels)
                if low < high:
                    column[low - shown.bottom : high - shown.bottom] = last.heat[low - last.low : high - last.low]
        return np.asarray(column.reshape(layout.rows, layout.per_row).sum(axis=1)[::-1], np.float32)

    def _draw_time(self, canvas: Canvas, shown: Shown, view: View) -> None:
        layout = shown.layout
        row = layout.rows
        seconds = shown.width // SECOND
        width = f"{seconds}s" if seconds < 60 else f"{seconds // 60}m" if seconds < 3600 else f"{seconds // 3600}h"
        canvas.put(row, 0, f"{width} col".rjust(layout.left - 1)[: layout.left - 1], Role.INK)
        with_seconds = shown.width < 60 * SECOND
        label_width = 8 if with_seconds else 5
        step = nice_step(shown.width // SECOND, label_width + 6) * SECOND
        end = layout.columns - (5 if not self._settings.scroll else 0)
        axis = canvas.part(row, layout.left, 1, layout.columns)
        time = -(-shown.first * shown.width // step) * step
        while time < (shown.last + 1) * shown.width:
            x = time // shown.width - shown.first
            if x >= 0 and x + label_width <= end:
                axis.put(0, x, f"╎{numbers.clock(time, seconds=with_seconds)}", Role.INK)
            time += step
        if not self._settings.scroll:
            axis.put(0, layout.columns - 4, "now" if not view.is_frozen else "held", Role.INK_STRONG)

    def _draw_legend(self, canvas: Canvas, heatmap: HeatMap, shown: Shown) -> None:
        """What the colours mean, in USDT."""
        layout = shown.layout
        low, high = self.scale.range
        if SCALES[self._settings.scale] == "linear":
            low = 0.0
        per = (math.exp(shown.bins * heatmap.bin_width) - 1) * 100
        if layout.legend:
            row = layout.rows + 1
            column = canvas.put(row, 1, f"est. USDT per {per:.2g}% of price  ", Role.INK)
            column = canvas.put(row, column, f"{numbers.amount(low)} ", Role.INK)
            column = self._draw_ramp(canvas, row, column, 24)
            scale = SCALES[self._settings.scale]
            column = canvas.put(row, column, f" {numbers.amount(high)} ({scale})", Role.INK)
            is_plain = canvas.palette.is_ascii or not canvas.palette.rung
            rung = canvas.palette.rung
            for glyph, text, color in (
                (("L S", "hit", Color.INK), ("l s", "miss", Color.INK), ("x", "not judged", Color.INK))
                if is_plain
                else (
                    ("●", "long hit", Color.LONG),
                    ("○", "miss", Color.LONG),
                    ("●", "short hit", Color.SHORT),
                    ("○", "miss", Color.SHORT),
                    ("×", "not judged", Color.INK),
                )
            ):
                if column + 5 + len(glyph) + len(text) > canvas.width:
                    break
                style = (color if rung else 0) | (HEAT << 8 if rung else 0)
                column = canvas.put_style(row, column + 2, glyph, style)
                column = canvas.put(row, column, f" {text}", Role.INK)
            path = "o" if not canvas.palette.is_half_block else "▀"
            if column + 18 < canvas.width:
                column = canvas.put(row, column + 2, path, Role.MARK)
                canvas.put(row, column, " mark price", Role.INK)
        else:
            row = layout.rows
            right = layout.left + layout.columns
            room = canvas.width - right
            label = f"{numbers.amount(low)}"
            top = f"{numbers.amount(high)} USDT" if room >= 22 else f"{numbers.amount(high)}$"
            column = canvas.put(row, right + 1, label, Role.INK)
            column = self._draw_ramp(canvas, row, column, max(2, room - len(label) - len(top) - 1))
            canvas.put(row, column, top, Role.INK)

    @staticmethod
    def _draw_ramp(canvas: Canvas, row: int, column: int, width: int) -> int:
        levels = np.linspace(1, LEVELS - 1, width).astype(np.uint8) + np.uint8(HEAT)
        per_row = 2 if canvas.palette.is_half_block else 1
        canvas.put_pixels(row, column, np.repeat(levels[None, :], per_row, axis=0))
        return column + width

    def _draw_badges(self, canvas: Canvas, shown: Shown) -> None:
        """Every mode that is not the default says so on the picture."""
        settings = self._settings
        badges = []
        if settings.scroll:
            badges.append(f"BACK {numbers.age(settings.scroll * shown.width)} (End: now)")
        if self._selection.side is not None:
            badges.append("LONGS only" if self._selection.side is PositionSide.LONG else "SHORTS only")
        if self._selection.tiers != "all":
            badges.append("25x and more" if self._selection.tiers == "high" else "below 25x")
        if not settings.is_boosted:
            badges.append("RAW (no boost)")
        if settings.pan:
            badges.append("PANNED (0: mark)")
        if settings.zoom:
            badges.append(f"zoom {1.25**settings.zoom:.1f}x")
        if SCALES[settings.scale] != "log":
            badges.append(SCALES[settings.scale])
        if GAMMAS[settings.gamma] != 1.0:
            badges.append(f"gamma {GAMMAS[settings.gamma]:g}")
        column = 1
        for badge in badges:
            column = canvas.put(0, column, f" {badge} ", Role.BADGE) + 1
        if settings.cursor is not None:
            self._draw_cursor(canvas, shown)

    def _draw_cursor(self, canvas: Canvas, shown: Shown) -> None:
        assert self._settings.cursor is not None
        row = min(self._settings.cursor[0], shown.layout.rows - 1)
        column = min(self._settings.cursor[1], shown.layout.columns - 1)
        self._settings.cursor = (row, column)
        for y in range(shown.layout.rows):
            if y != row:
                canvas.put_over(y, column, "│", Color.CURSOR)
        for x in range(shown.layout.columns):
            if x != column:
                canvas.put_over(row, x, "─", Color.CURSOR)
        text = self.inspect(shown, row, column)
        canvas.fill(Role.TITLE, shown.layout.rows - 1 if row < 3 else 1, 0, 1)
        canvas.put(shown.layout.rows - 1 if row < 3 else 1, 1, text, Role.TITLE_STRONG)

    def inspect(self, shown: Shown, row: int, column: int) -> str:
        """What stands in a cell: price, time, USDT, its rank among all visible cells."""
        heatmap = self._selection.radar.maps[shown.symbol]
        tick = heatmap.model.rules.tick
        price = self._price_at(heatmap, shown, row)
        time = (shown.first + column) * shown.width
        mark = heatmap.mark_price or 0
        text = f"{numbers.price(price, tick)} {numbers.percent(price / mark - 1 if mark else None, 1)} {numbers.clock(time)}"
        if shown.heat is None:
            return text
        per_row = shown.layout.per_row
        low = (shown.layout.rows - 1 - row) * per_row
        here = float(shown.heat[low : low + per_row, column].sum())
        rows = shown.heat.reshape(shown.layout.rows, per_row, -1).sum(axis=1)
        held = rows[rows > 1.0]
        rank = f" p{100 * float((held < here).mean()):.0f} of the picture" if held.size and here > 1 else ""
        cell = shown.cells[column]
        side = ""
        if cell is not None and cell.mark_close is not None and here > 1:
            side = "L " if shown.bottom + low < cell.mark_close else "S "
        text += f"  {side}{numbers.amount(here)} USDT{rank}"
        columns = self._timeline(shown.symbol).between(time, time + shown.width)
        if columns and here > 1:
            high = columns[0].heat(boosted=False, tiers="high")
            all_ = columns[0].heat(boosted=False)
            at = slice(
                max(0, (shown.bottom + low) * shown.bins - columns[0].low_bin),
                max(0, (shown.bottom + low + per_row) * shown.bins - columns[0].low_bin),
            )
            total = float(all_[at].sum())
            if total > 0:
                text += f"  {100 * float(high[at].sum()) / total:.0f}% at 25x and more"
        return text

    def key(self, key: Key | Click, view: View) -> bool:
        """Do what a key asks for; False where it means nothing here."""
        return press(key, self._settings, self._shown)

    def picture(self, view: View) -> Mapping[str, Any]:
        """What a screenshot's JSON says of the pane."""
        heatmap = self._selection.ready_map(view)
        if heatmap is None:
            return {}
        shown = self._shown
        return {
            "column_seconds": shown.width // SECOND if shown else None,
            "usdt_scale": list(self.scale.range),
            "price_step": math.exp(shown.bins * heatmap.bin_width) - 1 if shown else None,
            "side": self._selection.side.value if self._selection.side else "both",
            "tiers": self._selection.tiers,
            "boosted": self._settings.is_boosted,
            "zones": [
                {
                    "name": name, "side": zone.side.value, "low": zone.low / SCALE, "high": zone.high / SCALE,
                    "price": zone.price / SCALE, "usdt": zone.notional, "distance": zone.distance, "tiers": zone.tiers,
                }
                for name, zone in self._selection.named_zones(view)
            ],
            "verdict": heatmap.health.verdict,
            "notes": list(heatmap.health.notes),
        }  # fmt: skip
