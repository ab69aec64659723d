"""Owns Column: what the model believed at the end of a stretch of time, packed. Pure."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld import PositionSide
from wld_heatmap.ledger import Floats

Heat = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint16]
TierFilter = Literal["all", "high", "low"]
_CODES_PER_E = 2_000.0
_DECODED = np.expm1(np.arange(1 << 16) / _CODES_PER_E).astype(np.float32)


def encode(heat: Floats) -> Codes:
    """Heat as 16-bit logarithms: 0.05 % steps, from 0 to 1e14 USDT."""
    return np.minimum(np.rint(np.log1p(heat) * _CODES_PER_E), 65_535.0).astype(np.uint16)


class Column(Struct, frozen=True):
    """What the model believed at the end of a stretch of time; never changed once closed.

    Heat arrays run from `low_bin` upwards, one value a bin, USDT estimated to be liquidated there; zero beyond. Longs
    stand below the mark price, shorts above: `mark_close` divides them.
    """

    start: int
    """ns since the Unix epoch, receive time."""
    end: int
    low_bin: int
    mark_open: int | None
    """1e-8 quote units; None where none came, as in a hole."""
    mark_high: int | None
    mark_low: int | None
    mark_close: int | None
    mark_bin: int | None
    """The bin of `mark_close`."""
    is_seed: bool
    """Made from history on disk, not watched live."""
    has_gap: bool
    """Something of it was lost, or nothing came at all."""
    codes: Codes
    """Raw heat as stored; `raw` decodes it."""
    codes_high: Codes
    """The part of raw heat at leverages of 25x and more."""
    codes_boosted: Codes | None
    """Boosted heat where it is not raw heat, from `boosted_at` upwards; None where it is raw heat."""
    boosted_at: int = 0
    """Index into the column."""
    open_interest: float | None = None
    """One side, base coin."""

    @property
    def raw(self) -> Heat:
        """Heat without the lift by real liquidations."""
        return _DECODED[self.codes]

    @property
    def boosted(self) -> Heat:
        """Heat with it."""
        out = self.raw
        if self.codes_boosted is not None:
            out[self.boosted_at : self.boosted_at + len(self.codes_boosted)] = _DECODED[self.codes_boosted]
        return out

    def heat(self, *, boosted: bool = True, side: PositionSide | None = None, tiers: TierFilter = "all") -> Heat:
        """A filtered copy: `side` None for both; `tiers` high from 25x up, low below."""
        out = (self.boosted if boosted else self.raw).copy()
        if tiers != "all":
            raw = self.raw
            part = np.divide(_DECODED[self.codes_high], raw, out=np.zeros_like(raw), where=raw > 0)
            out *= part if tiers == "high" else np.maximum(0.0, 1.0 - part)
        if side is not None and self.mark_bin is not None:
            at = min(max(0, self.mark_bin - self.low_bin), len(out))
            if side is PositionSide.LONG:
                out[at:] = 0.0
            else:
                out[: at + 1] = 0.0
        return out
