"""Owns real liquidations as they are drawn: which cell, which glyph, what is said of them. Pure."""

from __future__ import annotations

import numpy as np

from wld import PositionSide
from wld.terminal import Color, Role, numbers
from wld.terminal.palette import BOLD, HEAT
from wld_heatmap.history import HeatMap, LiquidationMark
from wld_heatmap.view.layout import Shown

Cells = tuple[list[int], list[int], list[int], list[int]]
"""Rows, columns, glyphs and styles of single cells."""


class Marks:
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
        fresh = heatmap.liquidations_since(self._last)
        if not fresh:
            return
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
        self, shown: Shown, side: PositionSide | None, *, is_plain: bool, has_color: bool
    ) -> tuple[Cells, Cells]:
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
        dots: Cells = ([], [], [], []) if is_plain else (row, column, [ord("∙")] * len(row), colors)
        marks: Cells = ([], [], [], [])
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
