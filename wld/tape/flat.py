"""Owns events that come one by one as rows of integers, packed as they come. Pure; does not own what a column means
(`wld.tape.table`).
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

from wld.batch import TICKER_NUMBERS
from wld.events import AggressorSide, BookDelta, BookSnapshot, Liquidation, PositionSide, Ticker, Trade
from wld.tape import layout
from wld.tape.table import (
    BOOK_FIELDS,
    DIRECTION_NUMBER,
    DIRECTION_SHIFT,
    LEVEL_COLUMNS,
    LIQUIDATION_FIELDS,
    RPI,
    RPI_KNOWN,
    TRADE_NAMES,
    Table,
    put_ids,
)
from wld.units import ABSENT

_levels_of = chain.from_iterable
_ticker_numbers = attrgetter(*TICKER_NUMBERS)


@lru_cache(maxsize=2_048)
def _packer(count: int) -> Callable[..., bytes]:
    """So many integers as 64 bits each. Raises: struct.error for any that is none, or does not fit."""
    return struct.Struct(f"={count}q").pack


class Flat(ABC):
    """Events of one kind, two microseconds each as they come. Made columns of Python objects, many at once, they are more,
    and whatever comes meanwhile waits for all of them.
    """

    kind: int
    fields: tuple[str, ...]
    """Columns, behind the ring number and the symbol."""

    def __init__(self) -> None:
        self._rows = bytearray()
        self._symbols: dict[str, int] = {}
        self._pack = _packer(2 + len(self.fields))

    def __len__(self) -> int:
        return len(self._rows) // (8 * (2 + len(self.fields)))

    @abstractmethod
    def add(self, number: int, event: Any) -> bool:
        """Take an event; False where it has what no row holds."""

    def _place(self, symbol: str) -> int:
        place = self._symbols.get(symbol)
        if place is None:
            place = self._symbols[symbol] = len(self._symbols)
        return place

    def table(self) -> Table:
        """All of them."""
        rows = np.frombuffer(bytes(self._rows), np.int64).reshape(len(self), -1)
        number, symbol, *rest = np.ascontiguousarray(rows.T)
        columns: dict[str, Any] = {"number": number}
        if len(self._symbols) > 1:
            columns["symbol"] = symbol
        columns |= dict(zip(self.fields, rest, strict=True))
        self._finish(columns)
        return Table(self.kind, tuple(self._symbols), columns)

    def _finish(self, columns: dict[str, Any]) -> None:
        """Complete the columns: what is not None and looks as if it were makes a list."""
        for name in self.fields:
            column = columns[name]
            if int(column.min()) == ABSENT:
                columns[name] = column.tolist()


class _Books(Flat):
    kind = layout.BOOK
    fields = ("is_snapshot", *BOOK_FIELDS, "bid_count", "ask_count")

    def __init__(self) -> None:
        super().__init__()
        self._levels = bytearray()
        """Price and size by turns."""

    def add(self, number: int, event: BookSnapshot | BookDelta) -> bool:
        bids, asks = event.bids, event.asks
        bid_count, ask_count = len(bids), len(asks)
        try:
            levels = _packer(2 * (bid_count + ask_count))(*_levels_of(bids), *_levels_of(asks))
            self._rows += self._pack(
                number, self._place(event.symbol), type(event) is BookSnapshot, event.depth, event.update_id,
                event.sequence, event.event_time, event.sent_time, event.receive_time, bid_count, ask_count,
            )  # fmt: skip
        except struct.error:
            return False
        self._levels += levels
        return True

    def _finish(self, columns: dict[str, Any]) -> None:
        super()._finish(columns)
        levels = np.frombuffer(bytes(self._levels), np.int64).reshape(-1, 2)
        for name, column in zip(LEVEL_COLUMNS, np.ascontiguousarray(levels.T), strict=True):
            is_plain = not len(column) or int(column.min()) != ABSENT
            columns[name] = column if is_plain else column.tolist()


class _Trades(Flat):
    kind = layout.TRADE
    fields = ("flags", *TRADE_NAMES)

    def __init__(self) -> None:
        super().__init__()
        self._ids: list[str] = []

    def add(self, number: int, event: Trade) -> bool:
        direction, rpi = event.tick_direction, event.is_rpi
        flags = (
            (event.aggressor_side is AggressorSide.BUY)
            | event.is_block_trade << 1
            | event.is_backfilled << 2
            | (0 if rpi is None else RPI_KNOWN | RPI * rpi)
            | (0 if direction is None else DIRECTION_NUMBER[direction._value_] << DIRECTION_SHIFT)
        )
        try:
            self._rows += self._pack(
                number, self._place(event.symbol), flags, event.price, event.size, event.event_time, event.sequence,
                event.sent_time, event.receive_time,
            )  # fmt: skip
        except struct.error:
            return False
        self._ids.append(event.trade_id)
        return True

    def _finish(self, columns: dict[str, Any]) -> None:
        super()._finish(columns)
        put_ids(columns, self._ids)


class _Liquidations(Flat):
    kind = layout.LIQUIDATION
    fields = ("is_long", *LIQUIDATION_FIELDS)

    def add(self, number: int, event: Liquidation) -> bool:
        try:
            self._rows += self._pack(
                number, self._place(event.symbol), event.position_side is PositionSide.LONG, event.size,
                event.bankruptcy_price, event.event_time, event.sent_time, event.receive_time,
            )  # fmt: skip
        except struct.error:
            return False
        return True


class _Tickers(Flat):
    kind = layout.TICKER
    fields = ("tick_direction", *TICKER_NUMBERS)

    def add(self, number: int, event: Ticker) -> bool:
        direction, values = event.tick_direction, _ticker_numbers(event)
        if event.delivery_time is not None or event.pre_listing_phase is not None or ABSENT in values:
            return False
        place = 0 if direction is None else DIRECTION_NUMBER[direction._value_]
        try:
            self._rows += self._pack(
                number, self._place(event.symbol), place, *[ABSENT if value is None else value for value in values]
            )
        except struct.error:
            return False
        return True

    def _finish(self, columns: dict[str, Any]) -> None:
        if not columns["tick_direction"].any():
            del columns["tick_direction"]
        for name in TICKER_NUMBERS:
            if (columns[name] == ABSENT).all():
                del columns[name]


FLATS: dict[type[Any], type[Flat]] = {
    Trade: _Trades,
    BookSnapshot: _Books,
    BookDelta: _Books,
    Liquidation: _Liquidations,
    Ticker: _Tickers,
}
"""Of the kinds that are many."""
