"""Owns Batch, what travels on the ring, and the numpy dtypes that rows turn into; not the tape's bytes.

A Batch holds rows today; its contract (a sequence of events, plus columns on demand) hides which.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from wld.events import (
    AggressorSide,
    BookDelta,
    BookSnapshot,
    Event,
    Gap,
    Liquidation,
    PositionSide,
    Ticker,
    Trade,
)
from wld.units import ABSENT, INT64_MAX, INT64_MIN

Columns = npt.NDArray[np.void]
"""A structured array; prices and sizes int64 1e-8, times int64 ns, absent is `ABSENT`."""

TRADE_DTYPE = np.dtype(
    [
        ("number", "<i8"), ("symbol", "<u4"), ("price", "<i8"), ("size", "<i8"), ("is_buy", "?"),
        ("trade_id", "V16"), ("tick_direction", "i1"), ("sequence", "<i8"), ("is_block_trade", "?"), ("is_rpi", "i1"),
        ("is_backfilled", "?"), ("event_time", "<i8"), ("sent_time", "<i8"), ("receive_time", "<i8"),
    ]
)  # fmt: skip
"""One row a trade. `tick_direction` and `is_rpi`: -1 absent. `trade_id`: 16 raw bytes, zero where it is no UUID."""

DEPTH_DTYPE = np.dtype(
    [
        ("number", "<i8"), ("symbol", "<u4"), ("is_snapshot", "?"), ("is_bid", "?"), ("price", "<i8"), ("size", "<i8"),
        ("update_id", "<i8"), ("sequence", "<i8"), ("event_time", "<i8"), ("sent_time", "<i8"), ("receive_time", "<i8"),
        ("depth", "<i4"),
    ]
)  # fmt: skip
"""One row a level; rows of one event share `number`. An event without levels is one row, its price `ABSENT`."""

LIQUIDATION_DTYPE = np.dtype(
    [
        ("number", "<i8"), ("symbol", "<u4"), ("is_long", "?"), ("size", "<i8"), ("bankruptcy_price", "<i8"),
        ("event_time", "<i8"), ("sent_time", "<i8"), ("receive_time", "<i8"),
    ]
)  # fmt: skip

TICKER_NUMBERS: tuple[str, ...] = (
    "last_price", "mark_price", "index_price", "open_interest", "open_interest_value", "single_open_interest",
    "single_open_interest_value", "funding_rate", "next_funding_time", "funding_interval_hour", "funding_cap",
    "bid_price", "bid_size", "ask_price", "ask_size", "price_change_24h", "previous_price_24h", "previous_price_1h",
    "high_price_24h", "low_price_24h", "turnover_24h", "volume_24h", "basis", "basis_rate", "basis_rate_year",
    "delivery_fee_rate", "predicted_delivery_price", "pre_open_price", "pre_size", "sequence", "event_time",
    "sent_time", "receive_time",
)  # fmt: skip
WIDE_TICKER_NUMBERS: tuple[str, ...] = (
    "open_interest", "open_interest_value", "single_open_interest", "single_open_interest_value", "bid_size",
    "ask_size", "turnover_24h", "volume_24h",
)  # fmt: skip
"""Fields that may exceed 64 bits: `X` holds the low 64 bits (two's complement), `X_high` the rest."""
TICKER_DTYPE = np.dtype(
    [("number", "<i8"), ("symbol", "<u4")]
    + [(name, "<i8") for name in TICKER_NUMBERS]
    + [(f"{name}_high", "<i8") for name in WIDE_TICKER_NUMBERS]
)

GAP_DTYPE = np.dtype(
    [
        ("number", "<i8"), ("gap_id", "<i8"), ("reason", "U16"), ("topic", "U32"), ("symbol", "U32"),
        ("missed", "<i8"), ("first_time", "<i8"), ("last_time", "<i8"), ("receive_time", "<i8"),
    ]
)  # fmt: skip
"""`topic` and `symbol` empty: all of them."""

TICK_DIRECTIONS: tuple[str, ...] = ("PlusTick", "ZeroPlusTick", "MinusTick", "ZeroMinusTick")


class Batch(Sequence[Event]):
    """An immutable run of events in ring order; event i has ring number `first_number + i`."""

    def __init__(self, events: Iterable[Event], first_number: int = 0) -> None:
        self._events = tuple(events)
        self.first_number = first_number

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | Sequence[Event]:
        return self._events[index]

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __repr__(self) -> str:
        return f"<Batch {self.first_number}..{self.first_number + len(self) - 1}>"

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The table that the `symbol` columns index."""
        names = (getattr(event, "symbol", None) for event in self._events)
        return tuple(dict.fromkeys(name for name in names if name))

    @cached_property
    def _numbered(self) -> list[tuple[int, Event]]:
        return list(enumerate(self._events, self.first_number))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    @property
    def trades(self) -> Columns:
        """`TRADE_DTYPE`."""
        return trade_columns(self._numbered, self._index)

    @property
    def depth(self) -> Columns:
        """`DEPTH_DTYPE`."""
        return depth_columns(self._numbered, self._index)

    @property
    def liquidations(self) -> Columns:
        """`LIQUIDATION_DTYPE`."""
        return liquidation_columns(self._numbered, self._index)

    @property
    def tickers(self) -> Columns:
        """`TICKER_DTYPE`."""
        return ticker_columns(self._numbered, self._index)

    @property
    def gaps(self) -> Columns:
        """`GAP_DTYPE`."""
        return gap_columns(self._numbered)


Numbered = Iterable[tuple[int, Event]]


def _or_absent(value: int | None) -> int:
    return ABSENT if value is None else value


def trade_id_bytes(trade_id: str) -> bytes | None:
    """The 16 bytes of a UUID in its canonical form; None where the id is anything else."""
    if len(trade_id) != 36:
        return None
    try:
        value = uuid.UUID(trade_id)
    except ValueError:
        return None
    return value.bytes if str(value) == trade_id else None


def trade_columns(numbered: Numbered, index: dict[str, int]) -> Columns:
    """The trades of a run of numbered events, as `TRADE_DTYPE`."""
    rows = [
        (
            number, index[e.symbol], e.price, e.size, e.aggressor_side is AggressorSide.BUY,
            trade_id_bytes(e.trade_id) or bytes(16),
            -1 if e.tick_direction is None else TICK_DIRECTIONS.index(e.tick_direction.value),
            _or_absent(e.sequence), e.is_block_trade, -1 if e.is_rpi is None else int(e.is_rpi), e.is_backfilled,
            e.event_time, _or_absent(e.sent_time), e.receive_time,
        )
        for number, e in numbered
        if isinstance(e, Trade)
    ]  # fmt: skip
    return np.array(rows, TRADE_DTYPE)


def depth_columns(numbered: Numbered, index: dict[str, int]) -> Columns:
    """The book events of a run of numbered events, as `DEPTH_DTYPE`."""
    rows: list[tuple[Any, ...]] = []
    for number, e in numbered:
        if not isinstance(e, BookSnapshot | BookDelta):
            continue
        head = (number, index[e.symbol], isinstance(e, BookSnapshot))
        tail = (
            e.update_id, _or_absent(e.sequence), _or_absent(e.event_time), _or_absent(e.sent_time), e.receive_time,
            e.depth,
        )  # fmt: skip
        rows += [(*head, True, price, size, *tail) for price, size in e.bids]
        rows += [(*head, False, price, size, *tail) for price, size in e.asks]
        if not e.bids and not e.asks:
            rows.append((*head, False, ABSENT, ABSENT, *tail))
    return np.array(rows, DEPTH_DTYPE)


def liquidation_columns(numbered: Numbered, index: dict[str, int]) -> Columns:
    """The liquidations of a run of numbered events, as `LIQUIDATION_DTYPE`."""
    rows = [
        (
            number, index[e.symbol], e.position_side is PositionSide.LONG, e.size, e.bankruptcy_price, e.event_time,
            _or_absent(e.sent_time), e.receive_time,
        )
        for number, e in numbered
        if isinstance(e, Liquidation)
    ]  # fmt: skip
    return np.array(rows, LIQUIDATION_DTYPE)


def split_wide(value: int | None) -> tuple[int, int]:
    """(low, high): `value == (high << 64) + low % 2**64`; a value that fits 64 bits has high 0 or -1, None (ABSENT, 0)."""
    if value is None:
        return ABSENT, 0
    low = value & 0xFFFF_FFFF_FFFF_FFFF
    return low - (1 << 64) if low > INT64_MAX else low, value >> 64


def ticker_columns(numbered: Numbered, index: dict[str, int]) -> Columns:
    """The tickers of a run of numbered events, as `TICKER_DTYPE`."""
    rows: list[tuple[Any, ...]] = []
    for number, e in numbered:
        if not isinstance(e, Ticker):
            continue
        wide = {name: split_wide(getattr(e, name)) for name in WIDE_TICKER_NUMBERS}
        rows.append(
            (
                number,
                index[e.symbol],
                *(wide[name][0] if name in wide else _narrow(getattr(e, name)) for name in TICKER_NUMBERS),
                *(high for _, high in wide.values()),
            )
        )
    return np.array(rows, TICKER_DTYPE)


def _narrow(value: int | None) -> int:
    if value is not None and not INT64_MIN < value <= INT64_MAX:
        raise OverflowError(value)
    return _or_absent(value)


def gap_columns(numbered: Numbered) -> Columns:
    """The gaps of a run of numbered events, as `GAP_DTYPE`."""
    rows = [
        (
            number, e.gap_id, e.reason.value, e.topic or "", e.symbol or "", _or_absent(e.missed),
            _or_absent(e.first_time), _or_absent(e.last_time), e.receive_time,
        )
        for number, e in numbered
        if isinstance(e, Gap)
    ]  # fmt: skip
    return np.array(rows, GAP_DTYPE)
