"""Owns one order book: levels in, best prices and top n out; refuses a hole. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wld.errors import BookInvalid
from wld.events import BookDelta, BookSnapshot, Level

Ints = npt.NDArray[np.int64]


class OrderBook:
    """A symbol's book at one depth; prices and sizes 1e-8.

    Invalid until its first snapshot and again after a refused delta.
    """

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.update_id = 0
        self.sequence: int | None = None
        self.receive_time = 0
        self.depth: int | None = None
        self.is_valid = False
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}

    def apply(self, event: BookSnapshot | BookDelta) -> None:
        """Apply one event. A snapshot always replaces; a delta of depth 50 and more must carry the next id.

        Raises:
            BookInvalid: a delta without a snapshot before it, or one that skips; the book is then invalid.
        """
        if isinstance(event, BookSnapshot):
            self._bids = dict(event.bids)
            self._asks = dict(event.asks)
            self.is_valid = True
            self.depth = event.depth
        else:
            if not self.is_valid:
                raise BookInvalid(f"{self.symbol}: delta {event.update_id} before a snapshot")
            if event.depth >= 50 and event.update_id != self.update_id + 1:
                self.is_valid = False
                raise BookInvalid(f"{self.symbol}: expected update id {self.update_id + 1}, got {event.update_id}")
            _merge(self._bids, event.bids)
            _merge(self._asks, event.asks)
        self.update_id = event.update_id
        self.sequence = event.sequence
        self.receive_time = event.receive_time

    def apply_run(
        self, update_ids: Ints, depth: int, bids: tuple[Ints, Ints], asks: tuple[Ints, Ints], *,
        sequence: int | None, receive_time: int,
    ) -> None:  # fmt: skip
        """Apply a run of deltas at once: what `apply` makes of one after the other.

        `update_ids` has each delta's; `bids` and `asks` are (prices, sizes) of all of them in order: the last word on a
        price counts. `sequence` is the last one's.

        Raises:
            BookInvalid: as `apply`, for a hole before or within; the book is then invalid, and none of it is applied.
        """
        if not self.is_valid:
            raise BookInvalid(f"{self.symbol}: delta {update_ids[0]} before a snapshot")
        expected = np.arange(self.update_id + 1, self.update_id + 1 + len(update_ids))
        if depth >= 50 and not np.array_equal(update_ids, expected):
            at = int(np.flatnonzero(update_ids != expected)[0])
            self.is_valid = False
            raise BookInvalid(f"{self.symbol}: expected update id {expected[at]}, got {update_ids[at]}")
        _merge_run(self._bids, *bids)
        _merge_run(self._asks, *asks)
        self.update_id = int(update_ids[-1])
        self.sequence = sequence
        self.receive_time = receive_time

    def bids(self, count: int | None = None) -> list[Level]:
        """The best `count` bids, descending; all without it."""
        return sorted(self._bids.items(), reverse=True)[:count]

    def asks(self, count: int | None = None) -> list[Level]:
        """The best `count` asks, ascending; all without it."""
        return sorted(self._asks.items())[:count]

    @property
    def best_bid(self) -> Level | None:
        """(price, size) of the highest bid; None on an empty side."""
        if not self._bids:
            return None
        price = max(self._bids)
        return price, self._bids[price]

    @property
    def best_ask(self) -> Level | None:
        """(price, size) of the lowest ask; None on an empty side."""
        if not self._asks:
            return None
        price = min(self._asks)
        return price, self._asks[price]

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is at or above the best ask, which no healthy book shows."""
        return bool(self._bids and self._asks) and max(self._bids) >= min(self._asks)


def _merge(side: dict[int, int], levels: tuple[Level, ...]) -> None:
    for price, size in levels:
        if size:
            side[price] = size
        else:
            side.pop(price, None)


def _merge_run(side: dict[int, int], prices: Ints, sizes: Ints) -> None:
    told = dict(zip(prices.tolist(), sizes.tolist(), strict=True))
    side.update(told)
    for price, size in told.items():
        if not size:
            del side[price]
