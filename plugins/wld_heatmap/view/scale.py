"""Owns the scale of colours: from USDT to levels. Pure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from wld.terminal import View
from wld.terminal.palette import LEVELS
from wld_heatmap.view.layout import Pixels, Shown
from wld_heatmap.view.selection import GAMMAS, SCALES, Selection
from wld_heatmap.view.timeline import SECOND

RANGE_INTERVAL = 10 * SECOND
HYSTERESIS = 0.2


class Scale:
    """Where the colours begin and end, and which one a value has."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self.range = (1.0, 10.0)
        """USDT of the weakest and the strongest colour."""
        self._time = -RANGE_INTERVAL
        self._key: tuple[Any, ...] = ()

    def fit(self, heat: Pixels, shown: Shown, view: View) -> None:
        """Where the scale begins and ends: P15 and P99.7 of what is visible, at most each 10 s, with hysteresis.

        The field is smooth, so that its median is often a third of its peak: a scale from there would show one colour.
        """
        key = (shown.symbol, shown.bins, self._selection.side, self._selection.tiers)
        if key == self._key and 0 <= view.now - self._time < RANGE_INTERVAL:
            return
        held = heat[heat > 1.0]
        if held.size < 16:
            return
        low, high = (float(v) for v in np.percentile(held, (15, 99.7)))
        high = max(high, low * 2)
        old_low, old_high = self.range
        is_new = key != self._key
        if is_new or abs(low - old_low) > HYSTERESIS * old_low or abs(high - old_high) > HYSTERESIS * old_high:
            self.range = (low, high)
        self._key, self._time = key, view.now

    def rescale(self) -> None:
        """Take the colour scale from the next frame, whenever it was last taken."""
        self._key = ()

    def levels(self, heat: Pixels) -> npt.NDArray[np.uint8]:
        """Heat in USDT to 0..63, 0 only where there is none."""
        low, high = self.range
        scale = SCALES[self._selection.settings.scale]
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
        gamma = GAMMAS[self._selection.settings.gamma]
        share = np.clip(share, 0.0, 1.0)
        if gamma != 1.0:
            share = share**gamma
        levels = np.rint(share * (LEVELS - 1)).astype(np.uint8)
        return np.asarray(np.where((heat > 1.0) & (levels == 0), 1, levels), np.uint8)
