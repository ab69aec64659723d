"""Owns how the pane divides and which stretch of time and price it shows. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld import SCALE
from wld.terminal import numbers
from wld_heatmap.history import HeatMap

Pixels = npt.NDArray[np.float32]


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


class Layout(Struct, frozen=True):
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
    def of(cls, height: int, width: int, heatmap: HeatMap, *, is_half_block: bool) -> Layout:
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


class Shown:
    """What the last frame showed: where, when, which prices."""

    def __init__(self, symbol: str, layout: Layout, width: int, last: int, bins: int, top: int) -> None:
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

    def same_place(self, other: Shown) -> bool:
        """Whether another frame differs in nothing but time."""
        mine = (self.symbol, self.layout, self.width, self.bins, self.bottom)
        return mine == (other.symbol, other.layout, other.width, other.bins, other.bottom)


def nice_step(seconds: int, cells: int) -> int:
    """Seconds between two time labels at least `cells` columns apart."""
    for step in (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400):
        if step >= seconds * cells:
            return step
    return 86400 * max(1, seconds * cells // 86400)
