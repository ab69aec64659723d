"""Owns what the model must beat: predictors made of the same input without its ideas. Pure."""

from __future__ import annotations

from collections import deque

import numpy as np

from wld_heatmap.ledger import LONG, SHORT, Floats, leverage_tiers, shifted
from wld_heatmap.model import HeatModel
from wld_heatmap.step import HOUR_NS, MINUTE_NS, STEP_NS, Forced, Step

BASELINES = ("distance", "recency", "uniform", "predecessor", "untouched")
MEANING = {
    "model": "raw heat",
    "boosted": "raw heat with the short lift by real liquidations",
    "distance": "leverage tiers around the volume-weighted price of 24 h, no flow",
    "recency": "real liquidations of the last hour, smoothed over 25 bp",
    "uniform": "every bucket alike",
    "predecessor": "every taker trade at 25x (4 %), nothing ever removed",
    "untouched": "volume traded since the mark price last crossed the bucket",
}


_BLUR = np.exp(-0.5 * (np.arange(-15, 16) / 5.0) ** 2)
_BLUR /= _BLUR.sum()


class Baselines:
    """What the model must beat, from the same input; every field is `[side, i]` over the ledger's bins."""

    def __init__(self) -> None:
        self._base: int | None = None
        self._count = 0
        self._predecessor: Floats = np.zeros((2, 0))
        self._crossed_at: Floats = np.zeros((2, 0))
        self._volume = 0.0
        self._minutes: deque[tuple[int, float, float]] = deque()
        self._value = 0.0
        self._size = 0.0
        self._events: deque[tuple[int, int, int, float]] = deque()
        self._struck: Floats = np.zeros((2, 0))
        """Notional of `_events` by bin."""
        self._distance: Floats | None = None
        self._recency: Floats | None = None
        self._minute = -1
        self._uniform: Floats = np.ones((2, 0))

    def update(self, step: Step, events: list[Forced], model: HeatModel) -> None:
        """Take in one closed step."""
        ledger, grid = model.ledger, model.grid
        if ledger is None or grid is None:
            return
        self._align(ledger.base, ledger.count)
        end = step.start + STEP_NS
        minute = end // MINUTE_NS
        value = size = 0.0
        jump = round(np.log(25 / 24) / grid.width), round(np.log(26 / 25) / grid.width)
        if step.flow:
            self._predecessor = self._predecessor.copy()
        for (is_buy, _, bin_), units in sorted(step.flow.items()):
            at = bin_ - ledger.base
            lots = units / 1e8
            size += lots
            traded = lots * grid.price_of(bin_) / 1e8
            value += traded
            at = at - jump[0] if is_buy else at + jump[1]
            if 0 <= at < ledger.count:
                self._predecessor[LONG if is_buy else SHORT, at] += traded
        self._volume += value
        if value:
            if self._minutes and self._minutes[-1][0] == minute:
                _, old_value, old_size = self._minutes[-1]
                self._minutes[-1] = (minute, old_value + value, old_size + size)
            else:
                self._minutes.append((minute, value, size))
            self._value += value
            self._size += size
        if model.mark is not None:
            low, high = model.swept
            self._crossed_at[LONG, max(0, low - ledger.base) :] = self._volume
            self._crossed_at[SHORT, : max(0, high - ledger.base + 1)] = self._volume
        for event in events:
            self._events.append((end, LONG if event.is_long else SHORT, event.bin, event.notional))
            self._strike(*self._events[-1][1:])
        if events:
            self._recency = None
        if minute != self._minute:
            self._minute = minute
            while self._minutes and self._minutes[0][0] < minute - 24 * 60:
                _, old_value, old_size = self._minutes.popleft()
                self._value -= old_value
                self._size -= old_size
            if self._events and self._events[0][0] < end - HOUR_NS:
                while self._events and self._events[0][0] < end - HOUR_NS:
                    self._events.popleft()
                self._strike_anew()
            self._distance = self._recency = None

    def _align(self, base: int, count: int) -> None:
        if self._base is None:
            self._predecessor = np.zeros((2, count))
            self._crossed_at = np.zeros((2, count))
            self._uniform = np.ones((2, count))
        elif self._base != base:
            self._predecessor = shifted(self._predecessor, base - self._base)
            self._crossed_at = shifted(self._crossed_at, base - self._base)
            self._distance = self._recency = None
        if self._base != base:
            self._base, self._count = base, count
            self._strike_anew()

    def fields(self, model: HeatModel) -> dict[str, Floats]:
        """Every baseline's belief now; arrays are replaced, never changed, so they may be kept."""
        if self._distance is None:
            self._distance = self._make_distance(model)
        if self._recency is None:
            self._recency = self._make_recency()
        return {
            "distance": self._distance,
            "recency": self._recency,
            "uniform": self._uniform,
            "predecessor": self._predecessor,
            "untouched": self._volume - self._crossed_at,
        }

    def _make_distance(self, model: HeatModel) -> Floats:
        out = np.zeros((2, self._count))
        if self._size <= 0 or model.grid is None or self._base is None:
            return out
        centre = model.grid.bin_of(self._value / self._size * 1e8)
        _, weights = leverage_tiers(model.config, model.rules.max_leverage)
        for side in (LONG, SHORT):
            kernel = model.kernel(side, 0)
            row = weights @ kernel.spread
            start = centre + kernel.first - self._base
            low, high = max(0, start), min(self._count, start + len(row))
            if low < high:
                out[side, low:high] = row[low - start : high - start]
        return out

    def _strike(self, side: int, bin_: int, notional: float) -> None:
        """Add a liquidation to the sums of the last hour by bin."""
        assert self._base is not None
        if 0 <= bin_ - self._base < self._count:
            self._struck[side, bin_ - self._base] += notional

    def _strike_anew(self) -> None:
        self._struck = np.zeros((2, self._count))
        for _, side, bin_, notional in self._events:
            self._strike(side, bin_, notional)

    def _make_recency(self) -> Floats:
        out = self._struck.copy()
        for side in (LONG, SHORT):
            held = np.flatnonzero(out[side])
            if len(held):
                low, high = max(0, int(held[0]) - 15), int(held[-1]) + 16
                near = out[side, low:high]
                near[:] = np.convolve(near, _BLUR)[15 : 15 + len(near)]  # mode "same" is longer at the grid's edge
        return out
