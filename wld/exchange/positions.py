"""Owns who holds what: leveraged positions of takers, inventories of makers, and the open interest they add
up to.

Pure. Every contract has a long and a short holder: whatever a taker opens or closes, a maker takes the other
side.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from heapq import heappop, heappush

_PPM = 1_000_000
_MAKERS = 12
_LEVERAGES = (3, 5, 8, 10, 12, 15, 20, 25, 33, 40, 50, 60, 75, 100)
_WEIGHTS = (6, 10, 6, 22, 4, 5, 14, 11, 3, 3, 9, 2, 3, 2)


@dataclass(slots=True)
class Position:
    """One isolated position of one account.

    Attributes:
        size: lots still open.
        cost: ticks x lots paid at the opening for `opened_size` lots; entry price = cost / opened_size.
        leverage: whole, 1 to the contract's maximum.
        trigger: mark price in ticks at which it is liquidated: at or below for a long, at or above for a
        short.
        bankruptcy: price in ticks at which its margin is used up.
        opened_ms: ms since the Unix epoch, matching engine.
    """

    position_id: int
    is_long: bool
    size: int
    cost: int
    opened_size: int
    leverage: int
    trigger: int
    bankruptcy: int
    opened_ms: int

    @property
    def entry(self) -> float:
        """Entry price in ticks, for reading; all decisions are taken on integers."""
        return self.cost / self.opened_size


def trigger_price(is_long: bool, cost: int, size: int, leverage: int, maintenance_ppm: int) -> int:
    """Liquidation trigger in ticks: E(1 - 1/L)/(1 - MMR) for a long, E(1 + 1/L)/(1 + MMR) for a short.

    Rounded towards safety (floor for a long, ceiling for a short), so comparing a whole-tick mark price with
    it is exact. Source: fact sheet, section 5, value and maintenance margin at mark price (2026-05-27).
    """
    if is_long:
        return cost * (leverage - 1) * _PPM // (size * leverage * (_PPM - maintenance_ppm))
    return -(-cost * (leverage + 1) * _PPM // (size * leverage * (_PPM + maintenance_ppm)))


def bankruptcy_price(is_long: bool, cost: int, size: int, leverage: int) -> int:
    """E(1 - 1/L) for a long, E(1 + 1/L) for a short, in ticks, rounded against the holder's margin."""
    if is_long:
        return -(-cost * (leverage - 1) // (size * leverage))
    return cost * (leverage + 1) // (size * leverage)


class Ledger:
    """All positions of one symbol."""

    def __init__(self, rng: random.Random, max_leverage: int, maintenance_ppm: int) -> None:
        self._rng = rng
        self._max_leverage = max_leverage
        self._maintenance_ppm = maintenance_ppm
        usable = [(lev, w) for lev, w in zip(_LEVERAGES, _WEIGHTS, strict=True) if lev <= max_leverage]
        self._leverages = [lev for lev, _ in usable]
        self._weights = [w for _, w in usable]
        self._next_id = 1
        self._longs: list[Position] = []
        self._shorts: list[Position] = []
        self._at: dict[int, int] = {}
        self._long_heap: list[tuple[int, int, Position]] = []
        self._short_heap: list[tuple[int, int, Position]] = []
        self._makers = [0] * _MAKERS
        self._taker_long = 0
        self._taker_short = 0
        self._maker_long = 0

    @property
    def single_open_interest(self) -> int:
        """Lots held long, which equal the lots held short; makers included."""
        return self._taker_long + self._maker_long

    @property
    def positions(self) -> list[Position]:
        """Every open taker position, longs first."""
        return [*self._longs, *self._shorts]

    @property
    def maker_inventories(self) -> tuple[int, ...]:
        """Lots each maker holds, negative for short."""
        return tuple(self._makers)

    def count(self, is_long: bool) -> int:
        """How many taker positions are open on that side."""
        return len(self._longs if is_long else self._shorts)

    def taker_lots(self, is_long: bool) -> int:
        """Lots of taker positions open on that side."""
        return self._taker_long if is_long else self._taker_short

    def _maker(self, lots: int) -> None:
        """A maker's inventory changes by that many lots; of two asked, the one that it suits better."""
        index = int(self._rng.random() * _MAKERS)
        other = int(self._rng.random() * _MAKERS)
        if (self._makers[other] - self._makers[index]) * lots < 0:
            index = other
        before = self._makers[index]
        after = self._makers[index] = before + lots
        self._maker_long += max(0, after) - max(0, before)

    def exchange(self, lots: int) -> None:
        """One maker sells that many lots to another, as a block trade does."""
        self._maker(lots)
        self._maker(-lots)

    def open(
        self, is_long: bool, size: int, cost: int, mark: int, now_ms: int, leverage: int | None = None
    ) -> Position:
        """Open a position of `size` lots for `cost` ticks x lots; a maker takes the other side.

        The leverage is drawn unless given; it is lowered until the mark price (ticks) does not trigger it at once, as the
        venue refuses such an order.
        """
        if leverage is None:
            leverage = self._rng.choices(self._leverages, self._weights)[0]
        while True:
            trigger = trigger_price(is_long, cost, size, leverage, self._maintenance_ppm)
            if leverage <= 2 or (mark > trigger if is_long else mark < trigger):
                break
            leverage = leverage * 2 // 3
        bankrupt = bankruptcy_price(is_long, cost, size, leverage)
        position = Position(self._next_id, is_long, size, cost, size, leverage, trigger, bankrupt, now_ms)
        self._next_id += 1
        side = self._longs if is_long else self._shorts
        self._at[position.position_id] = len(side)
        side.append(position)
        if is_long:
            self._taker_long += size
            heappush(self._long_heap, (-trigger, position.position_id, position))
            self._maker(-size)
        else:
            self._taker_short += size
            heappush(self._short_heap, (trigger, position.position_id, position))
            self._maker(size)
        return position

    def entry_for(self, is_long: bool, trigger: float, leverage: int) -> int:
        """The entry price, ticks, of a position of that leverage whose trigger lies at `trigger` ticks."""
        rate = self._maintenance_ppm / _PPM
        if is_long:
            return round(trigger * (1 - rate) / (1 - 1 / leverage))
        return round(trigger * (1 + rate) / (1 + 1 / leverage))

    def pick(self, is_long: bool) -> Position:
        """Any open position of that side, uniformly. Raises: IndexError when there is none."""
        side = self._longs if is_long else self._shorts
        return side[int(self._rng.random() * len(side))]

    def reduce(self, position: Position, lots: int) -> None:
        """Close that many lots of a position; a maker takes them over."""
        position.size -= lots
        if position.is_long:
            self._taker_long -= lots
            self._maker(lots)
        else:
            self._taker_short -= lots
            self._maker(-lots)
        if position.size == 0:
            side = self._longs if position.is_long else self._shorts
            index = self._at.pop(position.position_id)
            last = side.pop()
            if last is not position:
                side[index] = last
                self._at[last.position_id] = index

    def triggered(self, mark: int) -> list[Position]:
        """Take out of the queue every position that this mark price (ticks) liquidates.

        The caller closes them, and hands back through `requeue` what it could not close.
        """
        due: list[Position] = []
        longs, shorts = self._long_heap, self._short_heap
        while longs and -longs[0][0] >= mark:
            position = heappop(longs)[2]
            if position.size:
                due.append(position)
        while shorts and shorts[0][0] <= mark:
            position = heappop(shorts)[2]
            if position.size:
                due.append(position)
        if len(longs) > 64 and len(longs) > 4 * len(self._longs):
            self._long_heap = _live(longs)
        if len(shorts) > 64 and len(shorts) > 4 * len(self._shorts):
            self._short_heap = _live(shorts)
        return due

    def requeue(self, position: Position) -> None:
        """Put back a position that was only partly liquidated."""
        if position.is_long:
            heappush(self._long_heap, (-position.trigger, position.position_id, position))
        else:
            heappush(self._short_heap, (position.trigger, position.position_id, position))


def _live(heap: list[tuple[int, int, Position]]) -> list[tuple[int, int, Position]]:
    """The entries of a heap whose position is still open; sorted, which is a heap."""
    return sorted((entry for entry in heap if entry[2].size), key=lambda entry: entry[:2])
