"""Owns Batch, what travels on the ring, and the numpy dtypes that rows turn into; not the tape's bytes.

A Batch holds rows today; its contract (a sequence of events, plus columns on demand) hides which.
"""

from __future__ import annotations

import binascii
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
from wld.tables import (
    BACKFILLED,
    BLOCK_TRADE,
    BUY,
    DIRECTION_SHIFT,
    RPI,
    RPI_KNOWN,
    TICKER_PLACE,
    Tables,
)
from wld.tables import TICK_DIRECTIONS as TICK_DIRECTIONS
from wld.tables import TICKER_NUMBERS as TICKER_NUMBERS
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

WIDE_TICKER_NUMBERS: tuple[str, ...] = (
    "open_interest", "open_interest_value", "single_open_interest", "single_open_interest_value", "bid_size",
    "ask_size", "turnover_24h", "volume_24h",
)  # fmt: skip
"""Fields that may exceed 64 bits: `X` holds the low 64 bits (two's complement), `X_high` the rest."""
TICKER_DTYPE = np.dtype(
    [("number", "<i8"), ("symbol", "<u4")]
    + [(name, "<i8") for name in TICKER_NUMBERS]
    + [(f"{name}_high", "<i8") for name in WIDE_TICKER_NUMBERS]
    + [("tick_direction", "i1")]
)
"""One row a ticker. `tick_direction`: -1 absent."""

GAP_DTYPE = np.dtype(
    [
        ("number", "<i8"), ("gap_id", "<i8"), ("reason", "U16"), ("topic", "U32"), ("symbol", "U32"),
        ("missed", "<i8"), ("first_time", "<i8"), ("last_time", "<i8"), ("receive_time", "<i8"),
    ]
)  # fmt: skip
"""`topic` and `symbol` empty: all of them."""


class Batch(Sequence[Event]):
    """An immutable run of events in ring order; event i has ring number `first_number + i`.

    Made of events or of `Tables`; the other is made when it is asked for. Whoever can use columns asks `tables` first,
    or the properties that give numpy arrays, and no event object is ever made.
    """

    def __init__(self, events: Iterable[Event] | Tables, first_number: int = 0) -> None:
        self.tables: Tables | None = None
        """The columns, with numbers from 0 on; None where the batch holds events."""
        self._last: int | None = None
        self.first_number = first_number
        if isinstance(events, Tables):
            self.tables = events
            self._made: tuple[Event, ...] | None = None
            self._length = events.count
        elif isinstance(events, Batch):
            self.tables, self._made, self._length = events.tables, events._made, events._length
        else:
            self._made = tuple(events)
            self._length = len(self._made)

    @property
    def _events(self) -> tuple[Event, ...]:
        if self._made is None:
            assert self.tables is not None
            self._made = self.tables.events()
        return self._made

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | Sequence[Event]:
        return self._events[index]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __repr__(self) -> str:
        return f"<Batch {self.first_number}..{self.first_number + len(self) - 1}>"

    def after(self, event: Event) -> Batch:
        """A batch of that event and then these; its first number is one less."""
        if self.tables is not None:
            return Batch(self.tables.after(event), self.first_number - 1)
        return Batch((event, *self._events), self.first_number - 1)

    @property
    def first_receive_time(self) -> int:
        """Of the first event, ns; without making events."""
        return self.tables.first_receive_time if self.tables is not None else self._events[0].receive_time

    @property
    def last_receive_time(self) -> int:
        """The latest of all, ns; without making events."""
        if self._last is None:
            if self.tables is not None:
                self._last = self.tables.last_receive_time
            else:
                self._last = max([event.receive_time for event in self._events])
        return self._last

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The table that the `symbol` columns index; columns may list symbols that did not come."""
        first = () if self.tables is None else self.tables.symbols
        names = (getattr(event, "symbol", None) for _, event in self._numbered)
        return tuple(dict.fromkeys([*first, *(name for name in names if name)]))

    @cached_property
    def _numbered(self) -> list[tuple[int, Event]]:
        """What is held as rows."""
        if self.tables is not None:
            return [(self.first_number + number, event) for number, event in self.tables.rows]
        return list(enumerate(self._events, self.first_number))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    def _with_rows(self, columns: Columns | None, rows: Columns) -> Columns:
        if columns is None:
            return rows
        if not len(rows):
            return columns
        both = np.concatenate([columns, rows])
        return both[np.argsort(both["number"], kind="stable")]

    @property
    def trades(self) -> Columns:
        """`TRADE_DTYPE`."""
        return self._with_rows(_trades_of(self), trade_columns(self._numbered, self._index))

    @property
    def depth(self) -> Columns:
        """`DEPTH_DTYPE`."""
        return self._with_rows(_depth_of(self), depth_columns(self._numbered, self._index))

    @property
    def liquidations(self) -> Columns:
        """`LIQUIDATION_DTYPE`."""
        return self._with_rows(_liquidations_of(self), liquidation_columns(self._numbered, self._index))

    @property
    def tickers(self) -> Columns:
        """`TICKER_DTYPE`."""
        return self._with_rows(_tickers_of(self), ticker_columns(self._numbered, self._index))

    @property
    def gaps(self) -> Columns:
        """`GAP_DTYPE`."""
        return gap_columns(self._numbered)


def _fill(out: Columns, batch: Batch, columns: dict[str, Any], names: Iterable[str]) -> Columns:
    assert batch.tables is not None
    out["number"] = columns["number"] + batch.first_number
    out["receive_time"] = batch.tables.receive_time
    for name in names:
        out[name] = columns[name]
    return out


def _trades_of(batch: Batch) -> Columns | None:
    columns = None if batch.tables is None else batch.tables.trades
    if columns is None:
        return None
    flags = columns["flags"]
    out = np.empty(len(flags), TRADE_DTYPE)
    _fill(out, batch, columns, ("symbol", "price", "size", "sequence", "event_time", "sent_time"))
    out["is_buy"] = flags & BUY
    out["is_block_trade"] = flags & BLOCK_TRADE
    out["is_backfilled"] = flags & BACKFILLED
    out["is_rpi"] = np.where(flags & RPI_KNOWN, (flags & RPI) // RPI, -1)
    out["tick_direction"] = (flags >> DIRECTION_SHIFT) - 1
    out["trade_id"] = pack_uuids(columns["trade_id"])[0]
    return out


def _depth_of(batch: Batch) -> Columns | None:
    columns = None if batch.tables is None else batch.tables.books
    if columns is None:
        return None
    bids, asks = columns["bid_count"], columns["ask_count"]
    levels = bids + asks
    lines = np.maximum(levels, 1)
    row = np.repeat(np.arange(len(levels)), lines)
    within = np.arange(len(row)) - np.repeat(np.cumsum(lines) - lines, lines)
    out = np.empty(len(row), DEPTH_DTYPE)
    names = ("symbol", "is_snapshot", "update_id", "sequence", "event_time", "sent_time", "depth")
    _fill(out, batch, {name: columns[name][row] for name in ("number", *names)}, names)
    out["is_bid"] = within < bids[row]
    has_level = within < levels[row]
    for name, source in (("price", "level_price"), ("size", "level_size")):
        values = np.full(len(row), ABSENT, np.int64)
        values[has_level] = columns[source]
        out[name] = values
    return out


def _liquidations_of(batch: Batch) -> Columns | None:
    columns = None if batch.tables is None else batch.tables.liquidations
    if columns is None:
        return None
    out = np.empty(len(columns["number"]), LIQUIDATION_DTYPE)
    return _fill(out, batch, columns, ("symbol", "is_long", "size", "bankruptcy_price", "event_time", "sent_time"))


def _tickers_of(batch: Batch) -> Columns | None:
    columns = None if batch.tables is None else batch.tables.tickers
    if columns is None:
        return None
    values = columns["values"]
    out = np.zeros(len(values), TICKER_DTYPE)
    for name, place in TICKER_PLACE.items():
        out[name] = values[:, place]
    out["tick_direction"] = columns["tick_direction"] - 1
    for name in WIDE_TICKER_NUMBERS:
        out[f"{name}_high"] = np.where((out[name] < 0) & (out[name] != ABSENT), -1, 0)
    for row, extra in columns.get("extra", {}).items():
        for name in extra.keys() & set(WIDE_TICKER_NUMBERS):
            out[name][row], out[f"{name}_high"][row] = split_wide(extra[name])
    return _fill(out, batch, columns, ("symbol",))


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


_HYPHENS = (8, 13, 18, 23)
_LETTERS = tuple(i for i in range(36) if i not in _HYPHENS)
_NIBBLE = np.full(256, 255, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


def pack_uuids(ids: Sequence[str]) -> tuple[npt.NDArray[np.void], npt.NDArray[np.bool_]]:
    """(16 bytes each, whether it is a UUID in its canonical form); zeros where it is not."""
    joined = "".join(ids)
    if not joined.isascii() or set(map(len, ids)) != {36}:
        joined = "".join(text if len(text) == 36 and text.isascii() else "x" * 36 for text in ids)
    elif (plain := _plain_uuids(joined.encode(), len(ids))) is not None:
        return np.frombuffer(plain, "V16"), np.ones(len(ids), np.bool_)
    letters = np.frombuffer(joined.encode(), np.uint8).reshape(-1, 36)
    nibbles = _NIBBLE[letters[:, _LETTERS]]
    is_uuid = (letters[:, _HYPHENS] == ord("-")).all(axis=1) & (nibbles < 16).all(axis=1)
    packed = np.ascontiguousarray(nibbles[:, ::2] << 4 | nibbles[:, 1::2])
    packed[~is_uuid] = 0
    return packed.view("V16").reshape(-1), is_uuid


def _plain_uuids(joined: bytes, count: int) -> bytes | None:
    """The bytes of so many texts of 36 letters where all are UUIDs in their canonical form: the usual case, quickly."""
    hyphens = b"-" * count
    if (
        any(joined[i::36] != hyphens for i in _HYPHENS)
        or not int(np.bitwise_and.reduce(np.frombuffer(joined, np.uint8))) & 32
    ):
        return None  # of what they may consist of only capital letters lack that bit
    try:
        plain = binascii.unhexlify(joined.translate(None, b"-"))
    except ValueError:
        return None
    return plain if len(plain) == 16 * count else None


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
                -1 if e.tick_direction is None else TICK_DIRECTIONS.index(e.tick_direction.value),
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
