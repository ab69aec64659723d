"""Owns the price grid, the margin rules and the ledger: how much of each side would be liquidated in which bin.

Pure. Sizes are in base coin (floats), prices 1e-8 quote units, fractions of price in natural logarithms. Does not
own time, flow or learning (model).
"""

from __future__ import annotations

from functools import lru_cache
from math import erf, exp, floor, log, sqrt
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld import SCALE, Instrument
from wld_heatmap.config import HeatmapConfig

Floats = npt.NDArray[np.float64]

_TAIL = 8.5
LONG, SHORT = 0, 1
"""First index of every per-side array."""


class Rules(Struct, frozen=True):
    """What the venue asks for one symbol; fractions and leverages as floats, `limit` and `deduction` in quote units."""

    tiers: tuple[tuple[float, float, float, float], ...]
    """(limit, maintenance margin, max leverage, deduction) by rising limit."""
    tick: int | None
    """1e-8 quote units."""
    is_assumed: bool
    """Whether the venue has not told yet."""

    @property
    def max_leverage(self) -> float:
        """Of the lowest tier."""
        return self.tiers[0][2]

    @property
    def maintenance_margin(self) -> float:
        """Of the lowest tier."""
        return self.tiers[0][1]

    def tier_of(self, notional: float) -> int:
        """Which tier a position of that value (quote units) falls into."""
        for i, (limit, *_) in enumerate(self.tiers):
            if notional <= limit:
                return i
        return len(self.tiers) - 1


def rules_of(instrument: Instrument | None, config: HeatmapConfig) -> Rules:
    """The margin rules of an instrument; where it does not say, the configured fallback, marked as assumed."""
    fallback = (config.fallback_maintenance_margin, config.fallback_max_leverage)
    if instrument is None:
        return Rules(((float("inf"), *fallback, 0.0),), None, True)
    told = instrument.max_leverage / SCALE if instrument.max_leverage else None
    tiers = []
    for tier in sorted(instrument.margin_tiers, key=lambda tier: tier.limit):
        margin = tier.maintenance_margin / SCALE
        leverage = tier.max_leverage / SCALE
        if not 0 < margin < 0.9:
            continue
        if leverage <= 1:
            leverage = told or fallback[1]
        if told:
            leverage = min(leverage, told)
        tiers.append((tier.limit / SCALE, margin, leverage, (tier.maintenance_deduction or 0) / SCALE))
    if not tiers:
        leverage = told or fallback[1]
        # Half of the initial margin, the venue's own relation in its lowest tiers, where only leverage is known.
        margin = min(fallback[0], 0.5 / leverage) if told else fallback[0]
        return Rules(((float("inf"), margin, leverage, 0.0),), instrument.tick_size, True)
    return Rules(tuple(tiers), instrument.tick_size, False)


def trigger_ratio(
    is_long: bool, leverage: float, maintenance_margin: float, formula: str = "mark", deduction: float = 0.0
) -> float:
    """Mark price at which an isolated position is liquidated, over its entry price; `deduction` over its value.

    `mark`: equity = maintenance margin at mark value: long (1 - 1/L - d)/(1 - MMR), short (1 + 1/L + d)/(1 + MMR),
    derived from the venue's page of 2026-05-27. `entry`: long 1 - 1/L + MMR - d, short mirrored: its older page.
    """
    sign = 1.0 if is_long else -1.0
    if formula == "entry":
        return 1.0 - sign * (1.0 / leverage - maintenance_margin + deduction)
    return (1.0 - sign * (1.0 / leverage + deduction)) / (1.0 - sign * maintenance_margin)


def trigger_of_bankruptcy(is_long: bool, bankruptcy_price: float, maintenance_margin: float) -> float:
    """Trigger price of a liquidation that the venue reports at its bankruptcy price: p/(1 - MMR), short p/(1 + MMR)."""
    return bankruptcy_price / (1.0 - maintenance_margin if is_long else 1.0 + maintenance_margin)


class Grid:
    """Bins of equal width in log price; bin numbers are absolute, so they never move."""

    def __init__(self, width: float) -> None:
        self.width = width

    def bin_of(self, price: float) -> int:
        """The bin that holds a price (1e-8 quote units, above 0)."""
        return floor(log(price) / self.width)

    def bins_of(self, prices: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
        """`bin_of` for an array."""
        return np.floor(np.log(prices.astype(np.float64)) / self.width).astype(np.int64)

    def price_of(self, bin_: float) -> float:
        """The price (1e-8 quote units) in the middle of a bin."""
        return exp((bin_ + 0.5) * self.width)


def leverage_tiers(config: HeatmapConfig, max_leverage: float) -> tuple[Floats, Floats]:
    """(leverages, weights) up to the maximum; the maximum itself takes the weight of everything above it, once.

    A leverage that cannot be chosen is pure noise on the map; people who would want it take the most there is.
    """
    leverages = np.array([x for x in config.tier_leverages if x <= max_leverage] or [max_leverage])
    weights = np.array(config.tier_weights[: len(leverages)], np.float64)
    above = sum(config.tier_weights) - weights.sum()
    if above > 0 and leverages[-1] < max_leverage * 0.95:
        leverages, weights = np.append(leverages, max_leverage), np.append(weights, above)
    elif above > 0:
        weights[-1] += above
    if weights.sum() <= 0:
        weights[:] = 1.0
    return leverages, weights / weights.sum()


class Kernel(Struct, frozen=True):
    """Where one unit of entry in a bin would be liquidated: `spread[tier, i]` of it at `first + i` bins from entry."""

    first: int
    spread: Floats


@lru_cache(maxsize=64)
def make_kernel(
    config: HeatmapConfig, width: float, is_long: bool, leverages: tuple[float, ...], rules: Rules, tier: int = 0
) -> Kernel:
    """The kernel of one side for entries in one margin tier; each row sums to 1, all of it on the side's own side.

    Symbols of one set of rules share it: do not write to it.
    """
    limit, margin, most, deduction = rules.tiers[tier]
    value = limit if np.isfinite(limit) else 1.0
    if tier and np.isfinite(limit):
        value = sqrt(limit * rules.tiers[tier - 1][0])
    reach = -log(1.0 - config.range_fraction)
    count = int(reach / width)
    # Bins from the entry's own outward; a trigger never lies on the wrong side of its entry.
    edges = np.arange(0, count + 1) * width
    rows = []
    for leverage in leverages:
        leverage = min(leverage, most)
        ratio = trigger_ratio(is_long, leverage, margin, config.formula, deduction / value)
        distance = max(abs(log(ratio)) if ratio > 0 else reach, width) if (ratio < 1) == is_long else width
        row = np.zeros(count)
        for share, sigma in (
            (1.0 - config.wide_share, max(width, config.narrow_smear / leverage)),
            (config.wide_share, max(width, config.wide_smear / leverage)),
        ):
            cdf = _normal_cdf(np.asarray((edges - distance) / sigma, np.float64))
            part = np.diff(cdf)
            inside = part.sum()
            # What lies beyond the range is dropped (out of sight); what lies before the entry is spread over the rest.
            beyond = 1.0 - cdf[-1]
            if inside > 0:
                row += share * part * (1.0 - beyond) / inside
        rows.append(row)
    spread = np.array(rows)
    if is_long:
        return Kernel(-count + 1, np.ascontiguousarray(spread[:, ::-1]))
    return Kernel(0, spread)


def _normal_cdf(x: Floats) -> Floats:
    """Of rising standard normal values; beyond `_TAIL` it is 0 or 1 to the last bit of a double."""
    low, high = np.searchsorted(x, (-_TAIL, _TAIL)).tolist()
    cdf = np.zeros(len(x))
    cdf[low:high] = [0.5 * (1.0 + erf(z)) for z in (x[low:high] / sqrt(2.0)).tolist()]
    cdf[high:] = 1.0
    return cdf


class Ledger:
    """`mass[side, tier, i]`: base coin per unit of tier weight that would be liquidated in bin `base + i`.

    Every tier holds the whole flow; weights are applied on reading, so that learning moves the map at once.
    """

    def __init__(self, tiers: int, count: int, centre: int) -> None:
        self.mass = np.zeros((2, tiers, count))
        self.base = centre - count // 2

    @property
    def count(self) -> int:
        """Bins it holds."""
        return int(self.mass.shape[2])

    def centre_on(self, bin_: int) -> int:
        """Keep `bin_` in the middle fifth; returns by how many bins the window moved up."""
        count = self.count
        at = bin_ - self.base
        if abs(at - count // 2) <= count // 10:
            return 0
        moved = at - count // 2
        self.mass = shifted(self.mass, moved)
        self.base += moved
        return moved

    def deposit(self, side: int, bin_: int, size: float, kernel: Kernel) -> None:
        """Add entries of `size` base coin made in one bin."""
        start = bin_ + kernel.first - self.base
        low, high = max(0, start), min(self.count, start + kernel.spread.shape[1])
        if low < high:
            self.mass[side, :, low:high] += size * kernel.spread[:, low - start : high - start]

    def clear(self, low_bin: int, high_bin: int) -> None:
        """Empty what a mark price that went from `low_bin` to `high_bin` reached: longs at or above, shorts below."""
        self.mass[LONG, :, max(0, low_bin - self.base) :] = 0.0
        self.mass[SHORT, :, : max(0, high_bin - self.base + 1)] = 0.0

    def field(self, weights: Floats) -> Floats:
        """`[side, i]` base coin, tiers weighted."""
        return np.asarray(np.einsum("t,stb->sb", weights, self.mass))

    def total(self, side: int, weights: Floats) -> float:
        """Base coin held on a side, tiers weighted."""
        return float(weights @ self.mass[side].sum(axis=1))


_T = TypeVar("_T", bound=np.generic)


def shifted(array: npt.NDArray[_T], by: int) -> npt.NDArray[_T]:
    """The array with its last axis moved `by` bins to the left, zeros filled in."""
    out = np.zeros_like(array)
    if by > 0:
        out[..., : -by or None] = array[..., by:]
    elif by < 0:
        out[..., -by:] = array[..., :by]
    else:
        out[:] = array
    return out
