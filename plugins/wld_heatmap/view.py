"""Owns how the heat looks: the pane of heat over time, its keys, and the panels beside it. Knows no terminal; it draws
on a canvas that the screen gives it.

Time runs to the right, price upwards. A cell column is one stretch of time and never changes once that is over; what it
shows is what the model believed at its end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from wld import SCALE, PositionSide
from wld.terminal import Canvas, Click, Color, Key, Line, Role, View, numbers
from wld.terminal.palette import BOLD, DIMMED, HEAT, LEVELS
from wld_heatmap.history import Column, HeatMap, LiquidationMark, Radar, TierFilter, Zone

Pixels = npt.NDArray[np.float32]
_Cells = tuple[list[int], list[int], list[int], list[int]]
"""Rows, columns, glyphs and styles of single cells."""

SECOND = 1_000_000_000
WIDTHS = (1, 2, 5, 10, 20, 30, 40, 60, 120, 300, 900, 1800, 3600)
"""Seconds that a cell column may be wide."""
WIDEST_AUTO = 60
"""Left alone, columns widen up to this as history grows: an hour at 80 columns, two at 200."""
SNAPSHOTS = 600
"""Seconds of one-second columns that the view keeps: what a fresh start shows before there are wider ones."""
SPAN = 0.13
"""Fraction of price that a pane shows unless zoomed."""
MIDDLE = 0.6
"""The mark price may move within this share of the pane before the picture is centred anew."""
GAMMAS = (0.5, 0.7, 1.0, 1.4, 2.0)
SCALES = ("log", "linear", "percentile")
RANGE_INTERVAL = 10 * SECOND
ZONES_LOOKED_AT = 8
NEAR = 0.08
"""Zones within this fraction of the mark price are named first: the picture shows them, and price may get there."""
HYSTERESIS = 0.2
CELLS_A_FRAME = 32
"""Columns built anew in one frame, some 0.1 ms each; after a change of zoom the picture fills within a few frames."""
_COVERED = 2_000
_SIDES: tuple[PositionSide | None, ...] = (None, PositionSide.LONG, PositionSide.SHORT)
_TIERS: tuple[TierFilter, ...] = ("all", "high", "low")

HELP: tuple[tuple[str, str], ...] = (
    ("left right, h l", "scroll time; End: back to now"),
    ("[ ]", "narrower, wider columns (Backspace: automatic)"),
    ("+ -", "zoom price"),
    ("up down, k j", "pan price; 0: centre on mark, default zoom"),
    ("g G", "gamma down, up"),
    ("c", "scale: log, linear, percentile"),
    ("s", "side: both, longs, shorts"),
    ("L", "leverage: all, 25x and more, below 25x"),
    ("b", "boost by real liquidations on, off"),
    ("i", "inspect with a cursor (arrows move it)"),
)
FOOTER: tuple[tuple[str, str], ...] = (
    ("←→", "time"), ("[]", "width"), ("+-", "zoom"), ("↑↓", "price"), ("0", "centre"), ("s", "side"),
    ("L", "tier"), ("b", "boost"), ("g", "gamma"), ("i", "inspect"),
)  # fmt: skip


class Cell(Struct):
    """One drawn column: USDT per pixel from pixel `low` (counted from price 0) upwards, and the mark price's way."""

    low: int
    heat: Pixels
    mark_low: int | None
    mark_high: int | None
    mark_close: int | None
    is_seed: bool
    has_gap: bool
    end: int
    is_final: bool
    """Whether nothing can change it any more."""


class _Store:
    """Columns of one symbol by the time they end, in the widths that are kept."""

    def __init__(self) -> None:
        self.snapshots: dict[int, Column] = {}
        self.fine: dict[int, Column] = {}
        self.minutes: dict[int, Column] = {}
        self.fine_width = 10 * SECOND
        self._seen_fine = self._seen_minutes = 0
        self.first: int | None = None
        self.last_end = 0
        self._last_snapshot: Column | None = None

    def refresh(self, heatmap: HeatMap) -> None:
        """Take in columns that were closed since the last look."""
        self.fine_width = heatmap.config.column_seconds * SECOND
        self._seen_fine = self._take(heatmap.columns, self.fine, self.fine_width, self._seen_fine)
        self._seen_minutes = self._take(heatmap.minute_columns, self.minutes, 60 * SECOND, self._seen_minutes)
        if self.first is None or (heatmap.minute_columns and heatmap.minute_columns[0].start < self.first):
            starts = [c[0].start for c in (heatmap.columns, heatmap.minute_columns) if c]
            starts += [min(self.snapshots) - SECOND] if self.snapshots else []
            self.first = min(starts) if starts else None

    def _take(self, columns: Sequence[Column], into: dict[int, Column], width: int, seen: int) -> int:
        newest = seen
        for column in reversed(columns):
            if column.end <= seen:
                break
            newest = max(newest, column.end)
            # One column may cover time that the clock jumped over.
            covered = range(column.end, max(column.start, column.end - _COVERED * width), -width)
            for end in covered:
                into[end] = column
        self.last_end = max(self.last_end, newest)
        most = (columns.maxlen if hasattr(columns, "maxlen") else None) or 2_000
        for end in list(into)[: max(0, len(into) - most - _COVERED)]:
            del into[end]
        return newest

    def snap(self, heatmap: HeatMap, now: int) -> None:
        """Keep what the model believes this second."""
        end = now // SECOND * SECOND
        if end in self.snapshots:
            return
        column = heatmap.open_column(now)
        if column is None or column.mark_close is None:
            return
        before = self._last_snapshot.mark_close if self._last_snapshot is not None else None
        way = [column.mark_close, before if before is not None else column.mark_close]
        column = replace(
            column, start=end - SECOND, end=end, mark_open=way[1], mark_high=max(way), mark_low=min(way),
            has_gap=False,
        )  # fmt: skip
        self.snapshots[end] = self._last_snapshot = column
        if self.first is None:
            self.first = end - SECOND
        for old in list(self.snapshots)[: max(0, len(self.snapshots) - SNAPSHOTS)]:
            del self.snapshots[old]

    def between(self, start: int, end: int) -> list[Column]:
        """Columns that end within (start, end], newest first, of the finest width there is; at least one that covers
        the end if any does.
        """
        width = end - start
        if width < self.fine_width:
            found = [self.snapshots[t] for t in range(end, start, -SECOND) if t in self.snapshots]
            if found:
                return found
            covering = self.fine.get(-(-end // self.fine_width) * self.fine_width)
            if covering is None:
                covering = self.minutes.get(-(-end // (60 * SECOND)) * 60 * SECOND)
            return [covering] if covering is not None else []
        for kept, step in ((self.fine, self.fine_width), (self.minutes, 60 * SECOND)):
            if width < step:
                covering = kept.get(-(-end // step) * step)
                if covering is not None:
                    return [covering]
                continue
            found = [kept[t] for t in range(end // step * step, start, -step) if t in kept]
            if found:
                return found
        return []


class Settings(Struct):
    """What the keys have changed; the picture follows these alone."""

    width: int | None = None
    """Seconds a column; None: automatic."""
    zoom: int = 0
    pan: int = 0
    """Pixels that the centre was moved up by hand."""
    scroll: int = 0
    """Columns that the right edge lies before now."""
    gamma: int = 2
    scale: int = 0
    side: int = 0
    tiers: int = 0
    is_boosted: bool = True
    cursor: tuple[int, int] | None = None
    """Row and column of the inspected cell, from the top left of the heat."""


class HeatView:
    """Draws one symbol's HeatMap for the screen; `settings` is what the user chose."""

    def __init__(self, radar: Radar) -> None:
        self.radar = radar
        self.settings = Settings()
        self.loading: str | None = None
        """Said instead of the picture while history is read."""
        self._stores: dict[str, _Store] = {}
        self._cells: dict[int, Cell] = {}
        self._cells_key: tuple[Any, ...] = ()
        self._centre: int | None = None
        self._centre_key: tuple[Any, ...] = ()
        self._range = (1.0, 10.0)
        self._range_time = -RANGE_INTERVAL
        self._range_key: tuple[Any, ...] = ()
        self._levels: Pixels | None = None
        self._zones: tuple[tuple[Any, ...], list[Zone]] = ((), [])
        self._within: tuple[tuple[Any, ...], Any] = ((), None)
        self._shown: _Shown | None = None
        self._marks: tuple[_Cells, _Cells] = (([], [], [], []), ([], [], [], []))
        self._marks_key: tuple[Any, ...] = ()
        self._liquidations: dict[str, _Marks] = {}

    def snap(self, now: int) -> None:
        """Keep this second of every symbol: a fresh start then shows heat within seconds."""
        for symbol, heatmap in self.radar.maps.items():
            if heatmap.is_ready:
                self._store(symbol).snap(heatmap, now)

    def _store(self, symbol: str) -> _Store:
        return self._stores.setdefault(symbol, _Store())

    @property
    def side(self) -> PositionSide | None:
        """The side filter."""
        return _SIDES[self.settings.side]

    @property
    def tiers(self) -> TierFilter:
        """The leverage filter."""
        return _TIERS[self.settings.tiers]

    # Drawing.

    def draw(self, canvas: Canvas, view: View) -> None:
        """The pane: price labels, heat, distance and profile, time axis, and a legend where there is room."""
        heatmap = self.radar.maps.get(view.symbol)
        canvas.fill(Role.INK)
        if self.loading:
            canvas.put(canvas.height // 2, 2, self.loading, Role.INK_STRONG)
            return
        if heatmap is None or not heatmap.is_ready:
            canvas.put(canvas.height // 2, 2, f"{view.symbol}: waiting for a mark price", Role.INK)
            return
        layout = _Layout.of(canvas.height, canvas.width, heatmap, is_half_block=canvas.palette.is_half_block)
        if layout.rows < 2 or layout.columns < 4:
            return
        store = self._store(view.symbol)
        store.refresh(heatmap)
        shown = self._arrange(heatmap, store, layout, view)
        heat = canvas.part(0, layout.left, layout.rows, layout.columns)
        self._draw_heat(heat, heatmap, store, shown, view)
        self._draw_marks(heat, heatmap, shown)
        self._draw_axes(canvas, heatmap, shown, view)
        self._draw_badges(heat, shown)
        before = self._shown
        if before is not None and before.same_place(shown) and shown.last > before.last:
            canvas.moved_left(0, layout.left, layout.rows, layout.columns, shown.last - before.last)
        self._shown = shown

    def _arrange(self, heatmap: HeatMap, store: _Store, layout: _Layout, view: View) -> _Shown:
        """Which slots of time and which pixels of price the pane shows."""
        settings = self.settings
        seconds = settings.width or self._auto_width(store, layout.columns, view.now)
        width = seconds * SECOND
        last = view.now // width  # the slot that is open now
        settings.scroll = max(0, min(settings.scroll, max(0, last - (store.first or view.now) // width - 1)))
        last -= settings.scroll
        step = heatmap.bin_width
        bins = max(1, round(SPAN / (layout.pixels * step) * 1.25**-settings.zoom))
        mark = heatmap.bin_of(heatmap.mark_price or SCALE) // bins
        key = (view.symbol, bins, layout.pixels)
        if self._centre is None or key != self._centre_key:
            self._centre, self._centre_key = mark, key
        elif not settings.pan and not view.is_frozen and abs(mark - self._centre) > layout.pixels * MIDDLE / 2:
            self._centre = mark
        top = self._centre + settings.pan + layout.pixels // 2
        return _Shown(view.symbol, layout, width, last, bins, top)

    def _auto_width(self, store: _Store, columns: int, now: int) -> int:
        """The narrowest columns in which everything since the start fits, up to a minute."""
        span = (now - (store.first if store.first is not None else now)) / SECOND
        for seconds in WIDTHS:
            if seconds >= WIDEST_AUTO or span <= columns * seconds:
                return seconds
        return WIDEST_AUTO

    def _cell(self, heatmap: HeatMap, store: _Store, shown: _Shown, slot: int, view: View) -> Cell | None:
        start, end = slot * shown.width, (slot + 1) * shown.width
        columns = store.between(start, end)
        is_final = store.last_end >= end if shown.width >= store.fine_width else view.now >= end + SECOND
        has_gap = any(column.has_gap for column in columns)  # the open one may just not have got anything yet
        if not is_final and view.now > start and not view.is_frozen:
            opened = heatmap.open_column(view.now)
            if opened is not None:
                columns = [opened, *columns]
        if not columns:
            return None
        newest = columns[0]
        heat = newest.heat(boosted=self.settings.is_boosted, side=self.side, tiers=self.tiers)
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

    def _cells_of(self, heatmap: HeatMap, store: _Store, shown: _Shown, view: View) -> list[Cell | None]:
        key = (shown.symbol, shown.width, shown.bins, self.side, self.tiers, self.settings.is_boosted)
        if key != self._cells_key:
            self._cells, self._cells_key = {}, key
        cells: list[Cell | None] = []
        built = 0
        for slot in range(shown.last, shown.first - 1, -1):
            cell = self._cells.get(slot)
            if cell is None and built < CELLS_A_FRAME:
                cell = self._cell(heatmap, store, shown, slot, view)
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

    def _draw_heat(self, canvas: Canvas, heatmap: HeatMap, store: _Store, shown: _Shown, view: View) -> None:
        layout = shown.layout
        cells = self._cells_of(heatmap, store, shown, view)
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
        self._set_range(heat, shown, view)
        levels = self.levels(heat)
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

    def _draw_path(self, colors: npt.NDArray[np.uint8], shown: _Shown) -> None:
        bottom, pixels = shown.bottom, shown.layout.pixels
        for x, cell in enumerate(shown.cells):
            if cell is None or cell.mark_close is None or cell.mark_low is None or cell.mark_high is None:
                continue
            low, high = max(0, cell.mark_low - bottom), min(pixels - 1, cell.mark_high - bottom)
            if low <= high:
                colors[low : high + 1, x] = Color.RANGE
            if 0 <= cell.mark_close - bottom < pixels:
                colors[cell.mark_close - bottom, x] = Color.MARK

    def _put_path(self, canvas: Canvas, shown: _Shown) -> None:
        for x, cell in enumerate(shown.cells):
            if cell is None or cell.mark_close is None:
                continue
            row = shown.row_of(cell.mark_close)
            if row is not None:
                canvas.put_over(row, x, "o", Color.MARK, BOLD)

    def _set_range(self, heat: Pixels, shown: _Shown, view: View) -> None:
        """Where the scale begins and ends: P15 and P99.7 of what is visible, at most each 10 s, with hysteresis.

        The field is smooth, so that its median is often a third of its peak: a scale from there would show one colour.
        """
        key = (shown.symbol, shown.bins, self.side, self.tiers)
        if key == self._range_key and 0 <= view.now - self._range_time < RANGE_INTERVAL:
            return
        held = heat[heat > 1.0]
        if held.size < 16:
            return
        low, high = (float(v) for v in np.percentile(held, (15, 99.7)))
        high = max(high, low * 2)
        old_low, old_high = self._range
        is_new = key != self._range_key
        if is_new or abs(low - old_low) > HYSTERESIS * old_low or abs(high - old_high) > HYSTERESIS * old_high:
            self._range = (low, high)
        self._range_key, self._range_time = key, view.now

    def rescale(self) -> None:
        """Take the colour scale from the next frame, whenever it was last taken."""
        self._range_key = ()

    def levels(self, heat: Pixels) -> npt.NDArray[np.uint8]:
        """Heat in USDT to 0..63, 0 only where there is none."""
        low, high = self._range
        scale = SCALES[self.settings.scale]
        share: Pixels
        if scale == "log":
            floor = np.float32(low)
            share = np.asarray(np.log(np.maximum(heat, floor) / floor) / math.log(high / low), np.float32)
        elif scale == "linear":
            share = np.asarray(heat / high, np.float32)
        else:
            held = np.sort(heat[heat > 1.0])
            rank = np.searchsorted(held, heat) / max(1, held.size)
            share = np.asarray(rank**2, np.float32)  # the upper ranks get most of the colours
        gamma = GAMMAS[self.settings.gamma]
        share = np.clip(share, 0.0, 1.0)
        if gamma != 1.0:
            share = share**gamma
        levels = np.rint(share * (LEVELS - 1)).astype(np.uint8)
        return np.asarray(np.where((heat > 1.0) & (levels == 0), 1, levels), np.uint8)

    def _marks_of(self, heatmap: HeatMap) -> _Marks:
        marks = self._liquidations.setdefault(heatmap.symbol, _Marks())
        marks.refresh(heatmap)
        return marks

    def _draw_marks(self, canvas: Canvas, heatmap: HeatMap, shown: _Shown) -> None:
        """Real liquidations where they were triggered: of each side and column the largest, sized by their sum, as hit or
        miss; the others as dots.
        """
        palette = canvas.palette
        marks = self._marks_of(heatmap)
        place = (shown.symbol, shown.layout, shown.width, shown.last, shown.bins, shown.bottom)
        key = (*place, marks.version, self.side, id(palette))
        if key != self._marks_key:
            self._marks_key = key
            is_plain = palette.is_ascii or not palette.rung
            self._marks = marks.arrange(shown, self.side, is_plain=is_plain, has_color=bool(palette.rung))
        dots, largest = self._marks
        if dots[0]:
            canvas.put_cells_over(*dots, BOLD)
        if largest[0]:
            canvas.put_cells(*largest)

    def _draw_axes(self, canvas: Canvas, heatmap: HeatMap, shown: _Shown, view: View) -> None:
        layout = shown.layout
        tick = heatmap.model.rules.tick
        mark = heatmap.mark_price or 0
        mark_row = shown.row_of(heatmap.bin_of(mark) // shown.bins) if mark else None
        profile = self._profile(heatmap, shown, view)
        peak = float(profile.max()) if profile.size else 0.0
        zones = {shown.row_of(heatmap.bin_of(z.price) // shown.bins): (name, z) for name, z in self.named_zones(view)}
        bar_levels = self.levels(profile / np.float32(layout.per_row)).tolist()
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
    def _draw_zone(canvas: Canvas, row: int, column: int, layout: _Layout, name: str, zone: Zone) -> None:
        color = Color.LONG if zone.side is PositionSide.LONG else Color.SHORT
        text = name
        if layout.zone >= 8:
            text += f" {numbers.amount(zone.notional)}"
        if layout.zone >= 16:
            text += f" {zone.tiers}"
        style = color | HEAT << 8 | BOLD << 16 if canvas.palette.rung else canvas.palette.roles[Role.INK_STRONG]
        canvas.put_style(row, column, text[: layout.zone], style)

    def _price_at(self, heatmap: HeatMap, shown: _Shown, row: int) -> float:
        """The price in the middle of a row, 1e-8."""
        per_row = shown.layout.per_row
        pixel = shown.bottom + (shown.layout.rows - 1 - row) * per_row
        return heatmap.price_of((pixel + per_row / 2) * shown.bins - 0.5)

    def _profile(self, heatmap: HeatMap, shown: _Shown, view: View) -> Pixels:
        """USDT a row now, top row first."""
        layout = shown.layout
        column = shown.heat[:, -1] if shown.heat is not None and not self.settings.scroll else None
        if column is None or not column.any():
            last = self._cell(heatmap, self._store(shown.symbol), shown, view.now // shown.width, view)
            column = np.zeros(layout.pixels, np.float32)
            if last is not None and len(last.heat):
                low, high = max(last.low, shown.bottom), min(last.low + len(last.heat), shown.bottom + layout.pixels)
                if low < high:
                    column[low - shown.bottom : high - shown.bottom] = last.heat[low - last.low : high - last.low]
        return np.asarray(column.reshape(layout.rows, layout.per_row).sum(axis=1)[::-1], np.float32)

    def _draw_time(self, canvas: Canvas, shown: _Shown, view: View) -> None:
        layout = shown.layout
        row = layout.rows
        seconds = shown.width // SECOND
        width = f"{seconds}s" if seconds < 60 else f"{seconds // 60}m" if seconds < 3600 else f"{seconds // 3600}h"
        canvas.put(row, 0, f"{width} col".rjust(layout.left - 1)[: layout.left - 1], Role.INK)
        with_seconds = shown.width < 60 * SECOND
        label_width = 8 if with_seconds else 5
        step = _nice_step(shown.width // SECOND, label_width + 6) * SECOND
        end = layout.columns - (5 if not self.settings.scroll else 0)
        axis = canvas.part(row, layout.left, 1, layout.columns)
        time = -(-shown.first * shown.width // step) * step
        while time < (shown.last + 1) * shown.width:
            x = time // shown.width - shown.first
            if x >= 0 and x + label_width <= end:
                axis.put(0, x, f"╎{numbers.clock(time, seconds=with_seconds)}", Role.INK)
            time += step
        if not self.settings.scroll:
            axis.put(0, layout.columns - 4, "now" if not view.is_frozen else "held", Role.INK_STRONG)

    def _draw_legend(self, canvas: Canvas, heatmap: HeatMap, shown: _Shown) -> None:
        """What the colours mean, in USDT."""
        layout = shown.layout
        low, high = self._range
        if SCALES[self.settings.scale] == "linear":
            low = 0.0
        per = (math.exp(shown.bins * heatmap.bin_width) - 1) * 100
        if layout.legend:
            row = layout.rows + 1
            column = canvas.put(row, 1, f"est. USDT per {per:.2g}% of price  ", Role.INK)
            column = canvas.put(row, column, f"{numbers.amount(low)} ", Role.INK)
            column = self._draw_ramp(canvas, row, column, 24)
            scale = SCALES[self.settings.scale]
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

    def _draw_badges(self, canvas: Canvas, shown: _Shown) -> None:
        """Every mode that is not the default says so on the picture."""
        settings = self.settings
        badges = []
        if settings.scroll:
            badges.append(f"BACK {numbers.age(settings.scroll * shown.width)} (End: now)")
        if self.side is not None:
            badges.append("LONGS only" if self.side is PositionSide.LONG else "SHORTS only")
        if self.tiers != "all":
            badges.append("25x and more" if self.tiers == "high" else "below 25x")
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

    def _draw_cursor(self, canvas: Canvas, shown: _Shown) -> None:
        assert self.settings.cursor is not None
        row = min(self.settings.cursor[0], shown.layout.rows - 1)
        column = min(self.settings.cursor[1], shown.layout.columns - 1)
        self.settings.cursor = (row, column)
        for y in range(shown.layout.rows):
            if y != row:
                canvas.put_over(y, column, "│", Color.CURSOR)
        for x in range(shown.layout.columns):
            if x != column:
                canvas.put_over(row, x, "─", Color.CURSOR)
        text = self.inspect(shown, row, column)
        canvas.fill(Role.TITLE, shown.layout.rows - 1 if row < 3 else 1, 0, 1)
        canvas.put(shown.layout.rows - 1 if row < 3 else 1, 1, text, Role.TITLE_STRONG)

    def inspect(self, shown: _Shown, row: int, column: int) -> str:
        """What stands in a cell: price, time, USDT, its rank among all visible cells."""
        heatmap = self.radar.maps[shown.symbol]
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
        columns = self._store(shown.symbol).between(time, time + shown.width)
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

    # Zones.

    def zones(self, view: View) -> list[Zone]:
        """The three strongest of each side within 8 % of the mark price, then those beyond; looked up once a second."""
        heatmap = self.radar.maps.get(view.symbol)
        if heatmap is None or not heatmap.is_ready or self.loading:
            return []
        key = (view.symbol, view.now // SECOND, self.side, self.tiers, self.settings.is_boosted)
        if key != self._zones[0]:
            found = heatmap.zones(ZONES_LOOKED_AT, side=self.side, tiers=self.tiers, boosted=self.settings.is_boosted)
            chosen = []
            for side in (PositionSide.LONG, PositionSide.SHORT):
                zones = [zone for zone in found if zone.side is side]
                near = [zone for zone in zones if abs(zone.distance) <= NEAR]
                chosen += (near + [zone for zone in zones if zone not in near])[:3]
            self._zones = (key, chosen)
        return self._zones[1]

    def named_zones(self, view: View) -> list[tuple[str, Zone]]:
        """`S1` is the strongest zone of shorts above, `L1` of longs below."""
        counts = {PositionSide.LONG: 0, PositionSide.SHORT: 0}
        named = []
        for zone in self.zones(view):
            counts[zone.side] += 1
            named.append((f"{'L' if zone.side is PositionSide.LONG else 'S'}{counts[zone.side]}", zone))
        return named

    def zone_lines(self, view: View, width: int, height: int) -> Sequence[Line]:
        """The zones panel."""
        heatmap = self.radar.maps.get(view.symbol)
        if heatmap is None or not heatmap.is_ready or self.loading:
            return ["waiting for a mark price"]
        tick = heatmap.model.rules.tick
        lines: list[Line] = []
        named = sorted(self.named_zones(view), key=lambda item: -item[1].price)
        for name, zone in named:
            role = Role.LONG if zone.side is PositionSide.LONG else Role.SHORT
            lines.append(
                (
                    (f"{name} ", role),
                    (f"{numbers.percent(zone.distance, 1):>6} ", Role.TEXT),
                    (f"{numbers.price(zone.price, tick)} ", Role.TEXT),
                    (f"{numbers.amount(zone.notional):>5}", Role.STRONG),
                    (f" {zone.tiers}", Role.FAINT),
                )
            )
        if not lines:
            lines.append("none yet")
        key = (view.symbol, view.now // SECOND, self.tiers)
        if key != self._within[0]:
            self._within = (key, [heatmap.within(f, tiers=self.tiers) for f in (0.02, 0.05)])
        for share, (longs, shorts) in zip((2, 5), self._within[1], strict=True):
            lines.append(
                (
                    (f"within {share}%  ", Role.FAINT),
                    (f"L {numbers.amount(longs)}", Role.LONG),
                    (f"  S {numbers.amount(shorts)}", Role.SHORT),
                )
            )
        return lines

    def zone_brief(self, view: View, width: int) -> Sequence[Line]:
        """The strongest of each side."""
        spans: list[tuple[str, Role]] = [("zone ", Role.FAINT)]
        for name, zone in self.named_zones(view):
            if name in ("S1", "L1"):
                role = Role.LONG if zone.side is PositionSide.LONG else Role.SHORT
                text = f"{name} {numbers.percent(zone.distance, 1)} {numbers.amount(zone.notional)}  "
                spans.append((text, role))
        return [spans if len(spans) > 1 else (("zone ", Role.FAINT), ("none yet", Role.FAINT))]

    # Liquidations.

    def liquidation_lines(self, view: View, width: int, height: int) -> Sequence[Line]:
        """Real liquidations: sums by side, and the latest with the heat that stood there before."""
        heatmap = self.radar.maps.get(view.symbol)
        if heatmap is None or self.loading:
            return []
        tick = heatmap.model.rules.tick
        lines: list[Line] = []
        known = heatmap.model.first_time
        for name, hours in (("1h", 1), ("24h", 24)):
            longs, shorts, n_long, n_short, hits, judged = self._marks_of(heatmap).since(
                view.now - hours * 3600 * SECOND
            )
            star = "" if known is not None and view.now - known >= hours * 3600 * SECOND else "*"
            hit = f" hit {100 * hits / judged:.0f}%" if judged and width >= 40 else ""
            lines.append(
                (
                    (f"{name + star:<5}", Role.FAINT),
                    (f"L {numbers.amount(longs)} ({n_long})", Role.LONG),
                    (f" S {numbers.amount(shorts)} ({n_short})", Role.SHORT),
                    (hit, Role.TEXT),
                )
            )
        for mark in self._marks_of(heatmap).marks[-5:][::-1]:
            lines.append(((f"{numbers.clock(mark.time)} ", Role.FAINT), *mark_spans(mark, tick)))
        return lines

    def liquidation_brief(self, view: View, width: int) -> Sequence[Line]:
        """The last hour."""
        heatmap = self.radar.maps.get(view.symbol)
        if heatmap is None or self.loading:
            return []
        longs, shorts, n_long, n_short, hits, judged = self._marks_of(heatmap).since(view.now - 3600 * SECOND)
        return [
            (
                ("liq  1h ", Role.FAINT),
                (f"L {numbers.amount(longs)} ({n_long})", Role.LONG),
                (f" S {numbers.amount(shorts)} ({n_short})", Role.SHORT),
                (f" hit {100 * hits / judged:.0f}%" if judged and width >= 42 else "", Role.TEXT),
            )
        ]

    # Health.

    def model_lines(self, view: View, width: int, height: int) -> Sequence[Line]:
        """What the model is worth, and what it does not know."""
        heatmap = self.radar.maps.get(view.symbol)
        if heatmap is None or self.loading:
            return []
        health = heatmap.health
        is_proven = health.verdict == "validated"
        need = "" if health.verdict != "unproven" else ", needs 10 h" if health.events >= 30 else ", needs 30 in 10 h"
        lines: list[Line] = [
            (
                (health.verdict, Role.LONG if is_proven else Role.WARN),
                (f" {health.events} in {health.hours} h", Role.TEXT),
                (need, Role.FAINT),
            )
        ]
        if health.lift is not None:
            span = f" [{health.lift_low:.1f}..{health.lift_high:.1f}]" if health.lift_low and health.lift_high else ""
            placebo = f" placebo {health.placebo:.1f}x" if health.placebo is not None else ""
            lines.append(f"lift@10 {health.lift:.1f}x{span}{placebo}")
        if health.bits is not None:
            lines.append(f"bits/event {health.bits:+.2f} over distance-only")
        if health.coverage_long is not None and health.coverage_short is not None:
            lines.append(f"knows L {100 * health.coverage_long:.0f}%  S {100 * health.coverage_short:.0f}% of OI")
        weighted = [(weight, leverage) for leverage, weight, _ in health.tiers]
        if weighted:
            top = sorted(sorted(weighted, reverse=True)[:4], key=lambda item: item[1])
            text = " ".join(f"{leverage:g}x {100 * weight:.0f}%" for weight, leverage in top)
            lines.append((("tiers ", Role.FAINT), (text, Role.TEXT)))
        lines.append(((health.margin, Role.FAINT),))
        if health.is_w_measured:
            lines.append(f"open fraction {health.w:.2f}")
        lines += [((note, Role.FAINT),) for note in health.notes]
        return lines

    def model_brief(self, view: View, width: int) -> Sequence[Line]:
        """The verdict in one line."""
        heatmap = self.radar.maps.get(view.symbol)
        if heatmap is None or self.loading:
            return []
        health = heatmap.health
        lift = "" if health.lift is None else f" lift {health.lift:.1f}x"
        known = "" if health.coverage_long is None else f" knows {100 * health.coverage_long:.0f}% of OI"
        role = Role.LONG if health.verdict == "validated" else Role.WARN
        return [(("heat ", Role.FAINT), (health.verdict, role), (f"{lift} n={health.events}{known}", Role.TEXT))]

    # Keys.

    def key(self, key: Key | Click, view: View) -> bool:
        """Do what a key asks for; False where it means nothing here."""
        settings = self.settings
        shown = self._shown
        if isinstance(key, Click):
            return self._click(key, shown)
        rows, columns = (shown.layout.rows, shown.layout.columns) if shown else (20, 60)
        if settings.cursor is not None and key in ("left", "right", "up", "down"):
            row, column = settings.cursor
            row += {"up": -1, "down": 1}.get(key, 0)
            column += {"left": -1, "right": 1}.get(key, 0)
            settings.cursor = (max(0, min(rows - 1, row)), max(0, min(columns - 1, column)))
            return True
        per_row = shown.layout.per_row if shown else 2
        steps = {
            "left": ("scroll", 5), "h": ("scroll", 5), "right": ("scroll", -5), "l": ("scroll", -5),
            "pageup": ("scroll", columns), "pagedown": ("scroll", -columns), "home": ("scroll", 1 << 40),
            "up": ("pan", 2 * per_row), "k": ("pan", 2 * per_row), "down": ("pan", -2 * per_row),
            "j": ("pan", -2 * per_row), "+": ("zoom", 1), "=": ("zoom", 1), "-": ("zoom", -1), "_": ("zoom", -1),
        }  # fmt: skip
        if key in steps:
            name, step = steps[key]
            value = getattr(settings, name) + step
            if name == "zoom":
                value = max(-8, min(12, value))
            elif name == "scroll":
                value = max(0, value)
            setattr(settings, name, value)
        elif key == "end":
            settings.scroll = 0
        elif key == "0":
            settings.pan = settings.zoom = 0
            self._centre = None
        elif key in ("[", "]"):
            now = shown.width // SECOND if shown else 10
            at = WIDTHS.index(now) + (1 if key == "]" else -1)
            settings.width = WIDTHS[max(0, min(len(WIDTHS) - 1, at))]
        elif key == "backspace":
            settings.width = None
        elif key in ("g", "G"):
            settings.gamma = max(0, min(len(GAMMAS) - 1, settings.gamma + (1 if key == "G" else -1)))
        elif key == "c":
            settings.scale = (settings.scale + 1) % len(SCALES)
        elif key == "s":
            settings.side = (settings.side + 1) % len(_SIDES)
        elif key == "L":
            settings.tiers = (settings.tiers + 1) % len(_TIERS)
        elif key == "b":
            settings.is_boosted = not settings.is_boosted
        elif key == "i":
            settings.cursor = None if settings.cursor is not None else (rows // 2, columns - 1)
        elif key == "escape":
            settings.cursor = None
        else:
            return False
        return True

    def _click(self, click: Click, shown: _Shown | None) -> bool:
        if shown is None:
            return False
        if click.button in ("wheel_up", "wheel_down"):
            self.settings.zoom = max(-8, min(12, self.settings.zoom + (1 if click.button == "wheel_up" else -1)))
            return True
        column = click.column - shown.layout.left
        if 0 <= column < shown.layout.columns and click.row < shown.layout.rows:
            self.settings.cursor = (click.row, column)
            return True
        return False

    def picture(self, view: View) -> Mapping[str, Any]:
        """What a screenshot's JSON says of the pane."""
        heatmap = self.radar.maps.get(view.symbol)
        if heatmap is None or not heatmap.is_ready:
            return {}
        shown = self._shown
        return {
            "column_seconds": shown.width // SECOND if shown else None,
            "usdt_scale": list(self._range),
            "price_step": math.exp(shown.bins * heatmap.bin_width) - 1 if shown else None,
            "side": self.side.value if self.side else "both",
            "tiers": self.tiers,
            "boosted": self.settings.is_boosted,
            "zones": [
                {
                    "name": name, "side": zone.side.value, "low": zone.low / SCALE, "high": zone.high / SCALE,
                    "price": zone.price / SCALE, "usdt": zone.notional, "distance": zone.distance, "tiers": zone.tiers,
                }
                for name, zone in self.named_zones(view)
            ],
            "verdict": heatmap.health.verdict,
            "notes": list(heatmap.health.notes),
        }  # fmt: skip


class _Marks:
    """Real liquidations of one symbol as columns, grown as they come, with running sums."""

    _FIELDS = ("time", "bin", "notional", "is_long", "is_hit", "is_judged")

    def __init__(self) -> None:
        self._last: LiquidationMark | None = None
        self.marks: list[LiquidationMark] = []
        self.time, self.bin = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.notional = np.zeros(0)
        self.is_long, self.is_hit, self.is_judged = np.zeros(0, bool), np.zeros(0, bool), np.zeros(0, bool)
        self.version = 0

    def refresh(self, heatmap: HeatMap) -> None:
        """Take in what came since the last look."""
        fresh: list[LiquidationMark] = []
        for mark in reversed(heatmap.liquidations):
            if mark is self._last:
                break
            fresh.append(mark)
        if not fresh:
            return
        fresh.reverse()
        self._last = fresh[-1]
        self.version += 1
        most = heatmap.liquidations.maxlen or len(self.marks) + len(fresh)
        self.marks = [*self.marks, *fresh][-most:]
        added = (
            [mark.time for mark in fresh],
            [heatmap.bin_of(mark.trigger_price) for mark in fresh],
            [mark.notional for mark in fresh],
            [mark.position_side is PositionSide.LONG for mark in fresh],
            [mark.is_hit for mark in fresh],
            [mark.percentile is not None for mark in fresh],
        )
        for name, values in zip(self._FIELDS, added, strict=True):
            before = getattr(self, name)
            setattr(self, name, np.concatenate([before, np.asarray(values, before.dtype)])[-most:])

    def since(self, time: int) -> tuple[float, float, int, int, int, int]:
        """(longs USDT, shorts USDT, longs, shorts, hits, judged) from a time on."""
        late = slice(int(np.searchsorted(self.time, time)), None)
        is_long, notional = self.is_long[late], self.notional[late]
        longs, count = float(notional[is_long].sum()), int(is_long.sum())
        total = float(notional.sum())
        return (
            longs,
            total - longs,
            count,
            len(is_long) - count,
            int(self.is_hit[late].sum()),
            int(self.is_judged[late].sum()),
        )

    def arrange(
        self, shown: _Shown, side: PositionSide | None, *, is_plain: bool, has_color: bool
    ) -> tuple[_Cells, _Cells]:
        """(dots, marks) of what the pane shows."""
        slot = self.time // shown.width
        offset = self.bin // shown.bins - shown.bottom
        row = shown.layout.rows - 1 - offset // shown.layout.per_row
        keep = (slot >= shown.first) & (slot <= shown.last) & (offset >= 0) & (offset < shown.layout.pixels)
        if side is not None:
            keep &= self.is_long == (side is PositionSide.LONG)
        at = np.flatnonzero(keep)
        if not at.size:
            return ([], [], [], []), ([], [], [], [])
        column, row = (slot[at] - shown.first).tolist(), row[at].tolist()
        is_long, notional = self.is_long[at], self.notional[at]
        group = (slot[at] - shown.first) * 2 + is_long
        order = np.lexsort((notional, group))
        ends = np.flatnonzero(np.append(np.diff(group[order]) != 0, True))
        largest = order[ends].tolist()
        sums = np.bincount(group, notional)
        ordered = np.sort(sums[group[order[ends]]])
        colors = np.where(is_long, int(Color.LONG), int(Color.SHORT)).tolist()
        dots: _Cells = ([], [], [], []) if is_plain else (row, column, [ord("∙")] * len(row), colors)
        marks: _Cells = ([], [], [], [])
        back = (HEAT << 8 if has_color else 0) | BOLD << 16
        for i in largest:
            share = float(np.searchsorted(ordered, sums[group[i]], side="right")) / len(ordered)
            glyph = mark_glyph(self.marks[at[i]], share, is_plain=is_plain)
            # On the pane's own background: over heat or the path the colours would not be told apart.
            style = back | (colors[i] if has_color else 0)
            for cells, value in zip(marks, (row[i], column[i], ord(glyph), style), strict=True):
                cells.append(value)
        return dots, marks


def mark_glyph(mark: LiquidationMark, share: float, *, is_plain: bool) -> str:
    """Full for a hit, hollow for a miss, a cross while nothing can be judged; larger for more USDT. Without colours the
    letter says the side, its case the hit.
    """
    if mark.percentile is None:
        return "x" if is_plain else "×"
    if is_plain:
        letter = "L" if mark.position_side is PositionSide.LONG else "S"
        return letter if mark.is_hit else letter.lower()
    glyphs = "•●◆" if mark.is_hit else "◦○◇"
    return glyphs[0 if share < 0.6 else 1 if share < 0.95 else 2]


def mark_spans(mark: LiquidationMark, tick: int | None) -> tuple[tuple[str, Role], ...]:
    """`LONG 18.2k @1.0187 p97 hit`: side, USDT, trigger price, percentile of the heat that stood there."""
    is_long = mark.position_side is PositionSide.LONG
    rank = "" if mark.percentile is None else f" p{mark.percentile:.0f}"
    verdict = "" if mark.percentile is None else " hit" if mark.is_hit else " miss"
    return (
        ("LONG " if is_long else "SHORT", Role.LONG if is_long else Role.SHORT),
        (f"{numbers.amount(mark.notional):>5} @{numbers.price(mark.trigger_price, tick)}{rank}", Role.TEXT),
        (verdict, Role.STRONG if mark.is_hit else Role.FAINT),
    )


def _nice_step(seconds: int, cells: int) -> int:
    """Seconds between two time labels at least `cells` columns apart."""
    for step in (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400):
        if step >= seconds * cells:
            return step
    return 86400 * max(1, seconds * cells // 86400)


class _Layout(Struct, frozen=True):
    """How the pane divides: price labels, heat, distance, profile bars, zone labels; an axis and maybe a legend below."""

    rows: int
    columns: int
    left: int
    bar: int
    zone: int
    legend: bool
    per_row: int
    """Pixels of price in a row: two with half blocks."""

    @classmethod
    def of(cls, height: int, width: int, heatmap: HeatMap, *, is_half_block: bool) -> _Layout:
        label = len(numbers.price(heatmap.mark_price or SCALE, heatmap.model.rules.tick))
        left = max(7, label + 2)
        bar, zone = (12, 17) if width >= 110 else (8, 8) if width >= 76 else (5, 2)
        legend = height >= 24
        right = 1 + 6 + 1 + bar + 1 + zone
        return cls(
            height - 1 - (1 if legend else 0), width - left - right, left, bar, zone, legend, 2 if is_half_block else 1
        )

    @property
    def pixels(self) -> int:
        return self.rows * self.per_row


class _Shown:
    """What the last frame showed: where, when, which prices."""

    def __init__(self, symbol: str, layout: _Layout, width: int, last: int, bins: int, top: int) -> None:
        self.symbol = symbol
        self.layout = layout
        self.width = width
        """ns of a column."""
        self.last = last
        """The slot at the right edge: time over `width`."""
        self.first = last - layout.columns + 1
        self.bins = bins
        """Model bins a pixel."""
        self.bottom = top - layout.pixels
        self.heat: Pixels | None = None
        self.levels: npt.NDArray[np.uint8] | None = None
        self.cells: list[Cell | None] = []

    def row_of(self, pixel: int) -> int | None:
        """The row in which a pixel of price lies; None outside."""
        offset = pixel - self.bottom
        return self.layout.rows - 1 - offset // self.layout.per_row if 0 <= offset < self.layout.pixels else None

    def same_place(self, other: _Shown) -> bool:
        """Whether another frame differs in nothing but time."""
        mine = (self.symbol, self.layout, self.width, self.bins, self.bottom)
        return mine == (other.symbol, other.layout, other.width, other.bins, other.bottom)
