"""Owns Step: what one second of one symbol brought, before the model takes it in, and Forced, a real liquidation of it. Pure."""

from __future__ import annotations

from msgspec import Struct

STEP_NS = 1_000_000_000
MINUTE_NS = 60 * STEP_NS
HOUR_NS = 60 * MINUTE_NS

Flow = dict[tuple[bool, int, int], int]
"""(taker buys?, margin tier, bin) to size, 1e-8 base coin; integers, so that sums do not depend on order."""


class Forced(Struct, frozen=True):
    """A real liquidation with its trigger; prices 1e-8 quote units, size base coin, notional quote units."""

    time: int
    is_long: bool
    size: float
    notional: float
    bankruptcy_price: int
    trigger_price: float
    bin: int
    is_snapped: bool
    """Whether its mapped trigger lay outside what the mark price had crossed, and was taken to the nearest crossed."""


class Step(Struct):
    """What one step brought."""

    start: int
    mark: list[int] = []
    """First, highest, lowest, last mark price, or empty."""
    flow: Flow = {}
    late: dict[tuple[int, bool, int, int], int] = {}
    """Backfilled trades, their minute (event time) first."""
    last_price: int | None = None
    low_price: int | None = None
    high_price: int | None = None
    open_interest: int | None = None
    liquidations: list[tuple[int, bool, int, int]] = []
    """(event time, long?, size, bankruptcy price)"""
    has_gap: bool = False
    gap_in_mark: bool = False
    gap_in_trades: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing came."""
        return not (
            self.mark or self.flow or self.late or self.liquidations or self.has_gap or self.open_interest is not None
        )
