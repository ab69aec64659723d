"""Owns events as columns: what a block holds, whatever its bytes are. Pure; does not own bytes or files.

A Table is the events of one kind: `number` (ring numbers, rising), `symbol` (index into `symbols`; left out where there
is one symbol) and a column for each field of the event. Integers are int64, `ABSENT` where the event has None; a column
in which a value does not fit, or is `ABSENT` itself, is a list of integers and None. A column that is None in every row
is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld.batch import TICK_DIRECTIONS, TICKER_NUMBERS, TRADE_DTYPE, Columns, pack_uuids
from wld.errors import TapeDamaged
from wld.events import (
    AggressorSide,
    BookDelta,
    BookSnapshot,
    Gap,
    Instrument,
    Liquidation,
    PositionSide,
    Repair,
    TickDirection,
    Ticker,
    Trade,
)
from wld.tape import layout
from wld.tape.integers import Column, IntColumn
from wld.units import ABSENT

Numbered = tuple[int, Any]
"""(ring number, event)."""
Index = npt.NDArray[np.int64]

KIND_OF: Mapping[type[Any], int] = {
    Trade: layout.TRADE,
    BookSnapshot: layout.BOOK,
    BookDelta: layout.BOOK,
    Liquidation: layout.LIQUIDATION,
    Ticker: layout.TICKER,
    Gap: layout.GAP,
    Repair: layout.REPAIR,
    Instrument: layout.INSTRUMENT,
}
RARE: Mapping[int, type[Any]] = {layout.GAP: Gap, layout.REPAIR: Repair, layout.INSTRUMENT: Instrument}
"""Kinds whose table has one column of events, `event`; their symbol is in the event."""

BUY, BLOCK_TRADE, BACKFILLED, RPI_KNOWN, RPI = 1, 2, 4, 8, 16
"""Bits of a trade's `flags`; from `DIRECTION_SHIFT` the tick direction, 0 absent."""
DIRECTION_SHIFT = 5
_DIRECTIONS = (None, *(TickDirection(word) for word in TICK_DIRECTIONS))
DIRECTION_NUMBER = {word: i for i, word in enumerate(TICK_DIRECTIONS, 1)}
LEVEL_COLUMNS = ("level_price", "level_size")
TICKER_TEXTS = ("delivery_time", "pre_listing_phase")
BOOK_FIELDS = ("depth", "update_id", "sequence", "event_time", "sent_time", "receive_time")
LIQUIDATION_FIELDS = ("size", "bankruptcy_price", "event_time", "sent_time", "receive_time")
_HYPHENS = (8, 13, 18, 23)
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


class Table(Struct):
    """Events of one kind as columns; see the module's docstring."""

    kind: int
    symbols: tuple[str, ...]
    columns: dict[str, Column]

    def __len__(self) -> int:
        # Any column will do but the levels': a table may hold only those that were asked for.
        return next(len(column) for name, column in self.columns.items() if name not in LEVEL_COLUMNS)

    @property
    def numbers(self) -> IntColumn:
        """Ring numbers."""
        return self.ints("number")

    def ints(self, name: str) -> IntColumn:
        """A column that is known to fit; all `ABSENT` where it is left out."""
        column = self.columns.get(name)
        if column is None:
            return np.full(len(self), ABSENT, np.int64)
        return np.asarray(column, np.int64)

    def symbol_indices(self) -> IntColumn:
        """Each row's index into `symbols`."""
        if len(self.symbols) == 1 or self.kind in RARE:
            return np.zeros(len(self), np.int64)
        return self.ints("symbol")

    def times(self) -> tuple[int, int]:
        """Earliest and latest receive time, clamped to 64 bits."""
        if self.kind in RARE:
            moments = [event.receive_time for event in self.columns["event"]]
            return layout.clamp(min(moments)), layout.clamp(max(moments))
        column = self.columns["receive_time"]
        return layout.clamp(int(min(column))) if isinstance(column, list) else int(column.min()), (
            layout.clamp(int(max(column))) if isinstance(column, list) else int(column.max())
        )


# From events -------------------------------------------------------------------------------------------------------


def from_events(kind: int, numbers: Sequence[int], events: Sequence[Any]) -> Table:
    """Events of one kind with their ring numbers as a table."""
    columns: dict[str, Column] = {"number": np.array(numbers, np.int64)}
    if kind in RARE:
        columns["event"] = list(events)
        return Table(kind, tuple(dict.fromkeys(getattr(e, "symbol", None) or "" for e in events)), columns)
    symbols = [event.symbol for event in events]
    names = (symbols[0],) if symbols.count(symbols[0]) == len(symbols) else tuple(dict.fromkeys(symbols))
    if len(names) > 1:
        place = {name: i for i, name in enumerate(names)}
        columns["symbol"] = np.array([place[symbol] for symbol in symbols], np.int64)
    _FROM_EVENTS[kind](events, columns)
    return Table(kind, names, columns)


def integers(values: Sequence[int | None]) -> Column | None:
    """Integers and None as a column; None where all are None."""
    try:
        column = np.array(values, np.int64)
    except TypeError:
        holes = values.count(None)
        if holes == len(values):
            return None
        try:
            column = np.array([ABSENT if value is None else value for value in values], np.int64)
        except OverflowError:
            return list(values)
        return column if int((column == ABSENT).sum()) == holes else list(values)
    except OverflowError:
        return list(values)
    return list(values) if len(column) and int(column.min()) == ABSENT else column


def _put(columns: dict[str, Column], name: str, values: Sequence[int | None]) -> None:
    column = integers(values)
    if column is not None:
        columns[name] = column


TRADE_NAMES = ("price", "size", "event_time", "sequence", "sent_time", "receive_time")


def _trades(events: Sequence[Trade], columns: dict[str, Column]) -> None:
    # A list a field is four times as fast as tuples of fields turned round.
    buy = AggressorSide.BUY
    flags = np.array([e.aggressor_side is buy for e in events], np.int64)
    flags |= np.array([e.is_block_trade for e in events], np.int64) << 1
    flags |= np.array([e.is_backfilled for e in events], np.int64) << 2
    rpis = [e.is_rpi for e in events]
    if rpis.count(None) < len(rpis):
        flags |= np.array([0 if rpi is None else RPI_KNOWN | RPI * rpi for rpi in rpis], np.int64)
    number = DIRECTION_NUMBER
    directions = [e.tick_direction for e in events]
    flags |= np.array([0 if d is None else number[d._value_] for d in directions], np.int64) << DIRECTION_SHIFT
    columns["flags"] = flags
    _put(columns, "price", [e.price for e in events])
    _put(columns, "size", [e.size for e in events])
    _put(columns, "event_time", [e.event_time for e in events])
    _put(columns, "sequence", [e.sequence for e in events])
    _put(columns, "sent_time", [e.sent_time for e in events])
    _put(columns, "receive_time", [e.receive_time for e in events])
    put_ids(columns, [e.trade_id for e in events])


def put_ids(columns: dict[str, Column], ids: Sequence[str]) -> None:
    """UUIDs as 16 bytes in one vectorised pass; any other id as text beside them, its bytes zero."""
    packed, is_uuid = pack_uuids(ids)
    if is_uuid.any():
        columns["trade_id"] = packed
    if not is_uuid.all():
        columns["trade_id_text"] = [None if plain else text for plain, text in zip(is_uuid, ids, strict=True)]


def uuid_texts(packed: npt.NDArray[np.void]) -> list[str]:
    """The canonical texts of 16-byte ids."""
    raw = np.ascontiguousarray(packed).view(np.uint8).reshape(-1, 16)
    letters = np.full((len(raw), 36), ord("-"), np.uint8)
    places = [i for i in range(36) if i not in _HYPHENS]
    letters[:, places[::2]] = _HEX[raw >> 4]
    letters[:, places[1::2]] = _HEX[raw & 15]
    text = letters.tobytes().decode("ascii")
    return [text[i : i + 36] for i in range(0, len(text), 36)]


def _books(events: Sequence[BookSnapshot | BookDelta], columns: dict[str, Column]) -> None:
    columns["is_snapshot"] = np.array([type(e) is BookSnapshot for e in events], np.int64)
    _put(columns, "depth", [e.depth for e in events])
    _put(columns, "update_id", [e.update_id for e in events])
    _put(columns, "sequence", [e.sequence for e in events])
    _put(columns, "event_time", [e.event_time for e in events])
    _put(columns, "sent_time", [e.sent_time for e in events])
    _put(columns, "receive_time", [e.receive_time for e in events])
    bids, asks = [e.bids for e in events], [e.asks for e in events]
    bid_count, ask_count = np.array(list(map(len, bids)), np.int64), np.array(list(map(len, asks)), np.int64)
    columns["bid_count"], columns["ask_count"] = bid_count, ask_count
    sides = chain.from_iterable(zip(bids, asks, strict=True))
    levels: Iterator[int] = chain.from_iterable(chain.from_iterable(sides))
    count = int(bid_count.sum() + ask_count.sum())
    try:
        flat = np.fromiter(levels, np.int64, 2 * count)
        fits = not count or int(flat.min()) != ABSENT
    except OverflowError:
        fits = False
    if fits:
        columns["level_price"], columns["level_size"] = flat[::2], flat[1::2]
    else:
        pairs = [level for event in events for side in (event.bids, event.asks) for level in side]
        for i, name in enumerate(LEVEL_COLUMNS):
            column = integers([pair[i] for pair in pairs])
            assert column is not None
            columns[name] = column


def _liquidations(events: Sequence[Liquidation], columns: dict[str, Column]) -> None:
    long = PositionSide.LONG
    columns["is_long"] = np.array([e.position_side is long for e in events], np.int64)
    for name in LIQUIDATION_FIELDS:
        _put(columns, name, list(map(attrgetter(name), events)))


_TICKER_GETTERS = tuple((name, attrgetter(name)) for name in TICKER_NUMBERS)


def _tickers(events: Sequence[Ticker], columns: dict[str, Column]) -> None:
    directions = [e.tick_direction for e in events]
    if directions.count(None) < len(directions):
        number = DIRECTION_NUMBER
        columns["tick_direction"] = np.array([0 if d is None else number[d._value_] for d in directions], np.int64)
    for name in TICKER_TEXTS:
        texts = list(map(attrgetter(name), events))
        if texts.count(None) < len(texts):
            columns[name] = texts
    for name, getter in _TICKER_GETTERS:
        _put(columns, name, list(map(getter, events)))


_FROM_EVENTS: dict[int, Callable[[Any, dict[str, Column]], None]] = {
    layout.TRADE: _trades,
    layout.BOOK: _books,
    layout.LIQUIDATION: _liquidations,
    layout.TICKER: _tickers,
}


# From columns of a batch -------------------------------------------------------------------------------------------


def from_trades(array: Columns, symbols: Sequence[str]) -> Table:
    """Trades as `TRADE_DTYPE`, every id a UUID; `symbols` is the table that its `symbol` indexes."""
    assert array.dtype == TRADE_DTYPE
    rpi = array["is_rpi"].astype(np.int64)
    flags = (
        array["is_buy"].astype(np.int64)
        | array["is_block_trade"].astype(np.int64) << 1
        | array["is_backfilled"].astype(np.int64) << 2
        | np.where(rpi < 0, 0, RPI_KNOWN | RPI * rpi)
        | (array["tick_direction"].astype(np.int64) + 1) << DIRECTION_SHIFT
    )
    columns = _fields(array, symbols, TRADE_NAMES)
    columns["flags"] = flags
    columns["trade_id"] = np.ascontiguousarray(array["trade_id"])
    return Table(layout.TRADE, tuple(symbols), columns)


def _fields(array: Columns, symbols: Sequence[str], names: Sequence[str]) -> dict[str, Column]:
    columns: dict[str, Column] = {"number": array["number"].astype(np.int64)}
    if len(symbols) != 1:
        columns["symbol"] = array["symbol"].astype(np.int64)
    for name in names:
        column = array[name].astype(np.int64)
        if len(column) and not (column == ABSENT).all():
            columns[name] = column
    return columns


# Together and apart ------------------------------------------------------------------------------------------------


def concat(tables: Sequence[Table]) -> Table:
    """Tables of one kind as one, rows in the given order."""
    if len(tables) == 1:
        return tables[0]
    symbols = tuple(dict.fromkeys(chain.from_iterable(table.symbols for table in tables)))
    columns: dict[str, Column] = {}
    for name in dict.fromkeys(chain.from_iterable(table.columns for table in tables)):
        if name != "symbol":
            columns[name] = _join(name, tables)
    if len(symbols) > 1 and tables[0].kind not in RARE:
        place = {symbol: i for i, symbol in enumerate(symbols)}
        columns["symbol"] = np.concatenate(
            [np.array([place[s] for s in table.symbols], np.int64)[table.symbol_indices()] for table in tables]
        )
    return Table(tables[0].kind, symbols, columns)


def _join(name: str, tables: Sequence[Table]) -> Column:
    parts = [table.columns.get(name) for table in tables]
    if any(isinstance(part, list) for part in parts):
        return list(
            chain.from_iterable(
                [None] * _rows_of(name, table) if part is None else listed(part)
                for part, table in zip(parts, tables, strict=True)
            )
        )
    if name == "trade_id":
        empty = [np.zeros(len(t), "V16") if part is None else part for part, t in zip(parts, tables, strict=True)]
        return np.concatenate(empty)
    return np.concatenate(
        [np.full(len(t), ABSENT, np.int64) if part is None else part for part, t in zip(parts, tables, strict=True)]
    )


def _rows_of(name: str, table: Table) -> int:
    return 0 if name in LEVEL_COLUMNS else len(table)


def listed(column: Column) -> list[Any]:
    """A column as a list, None where absent."""
    if isinstance(column, list):
        return column
    values: list[Any] = column.tolist()
    if column.dtype == np.int64 and len(column) and int(column.min()) == ABSENT:
        return [None if value == ABSENT else value for value in values]
    return values


def in_order(table: Table) -> Table:
    """The same by ring number."""
    numbers = table.numbers
    if len(numbers) < 2 or (np.diff(numbers) > 0).all():
        return table
    return take(table, np.argsort(numbers, kind="stable"))


def take(table: Table, rows: Index) -> Table:
    """Those rows of a table, in that order; every symbol stays in `symbols`."""
    columns: dict[str, Column] = {}
    for name, column in table.columns.items():
        if name not in LEVEL_COLUMNS:
            columns[name] = [column[i] for i in rows.tolist()] if isinstance(column, list) else column[rows]
    if "level_price" in table.columns:
        counts = table.ints("bid_count") + table.ints("ask_count")
        starts = np.cumsum(counts) - counts
        counts = counts[rows]
        ends = np.cumsum(counts)
        levels = np.repeat(starts[rows] - ends + counts, counts)
        levels += np.arange(len(levels))
        for name in LEVEL_COLUMNS:
            column = table.columns[name]
            columns[name] = [column[i] for i in levels.tolist()] if isinstance(column, list) else column[levels]
    return Table(table.kind, table.symbols, columns)


def cut(table: Table, start: int, end: int, levels: IntColumn | None = None) -> Table:
    """Rows `start` to `end` without copying; whoever cuts often hands over what `_level_starts` says."""
    columns = {name: column[start:end] for name, column in table.columns.items() if name not in LEVEL_COLUMNS}
    if "level_price" in table.columns:
        levels = _level_starts(table) if levels is None else levels
        first, last = int(levels[start]), int(levels[min(end, len(levels) - 1)])
        columns |= {name: table.columns[name][first:last] for name in LEVEL_COLUMNS}
    return Table(table.kind, table.symbols, columns)


def _level_starts(table: Table) -> IntColumn:
    """Where each row's levels begin, and after the last where they end."""
    starts = np.zeros(len(table) + 1, np.int64)
    np.cumsum(table.ints("bid_count") + table.ints("ask_count"), out=starts[1:])
    return starts


def by_symbol(table: Table) -> list[Table]:
    """One table a symbol."""
    if table.kind in RARE:
        names = [getattr(event, "symbol", None) or "" for event in table.columns["event"]]
        if len(set(names)) < 2:
            return [Table(table.kind, (names[0],), table.columns)] if names else []
        place = {name: i for i, name in enumerate(dict.fromkeys(names))}
        indices = np.array([place[name] for name in names], np.int64)
        symbols = tuple(place)
    elif len(table.symbols) == 1:
        return [table]
    else:
        indices, symbols = table.symbol_indices(), table.symbols
    order = np.argsort(indices, kind="stable")
    bounds = np.searchsorted(indices[order], np.arange(len(symbols) + 1)).tolist()
    sorted_by_symbol = take(table, order)
    levels = _level_starts(sorted_by_symbol) if "level_price" in table.columns else None
    apart: list[Table] = []
    for i, symbol in enumerate(symbols):
        if bounds[i] < bounds[i + 1]:
            part = cut(sorted_by_symbol, bounds[i], bounds[i + 1], levels)
            part.symbols = (symbol,)
            part.columns.pop("symbol", None)
            if table.kind not in RARE:
                _narrow(part.columns)
            apart.append(part)
    return apart


def _narrow(columns: dict[str, Column]) -> None:
    """Make integers of lists that hold nothing else: what was too wide, or a text, was another symbol's."""
    for name, column in list(columns.items()):
        if isinstance(column, list) and name not in LEVEL_COLUMNS and not any(isinstance(v, str) for v in column):
            own = integers(column)
            if own is None:
                del columns[name]
            else:
                columns[name] = own


# Back to events ----------------------------------------------------------------------------------------------------


def to_events(table: Table) -> list[Numbered]:
    """The events with their ring numbers. Raises: TapeDamaged where columns do not agree."""
    numbers = table.numbers.tolist()
    try:
        if table.kind in RARE:
            return list(zip(numbers, table.columns["event"], strict=True))
        if len(table.symbols) == 1:
            symbols: Sequence[str] = [table.symbols[0]] * len(numbers)
        else:
            symbols = [table.symbols[i] for i in table.ints("symbol").tolist()]
        kind = layout.BOOK if table.kind == layout.CHECKPOINT else table.kind
        return list(zip(numbers, _TO_EVENTS[kind](table, symbols), strict=True))
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise TapeDamaged(f"a {layout.KIND_NAMES[table.kind]} block cannot be read: {error!r}") from None


def _get(table: Table, name: str) -> list[Any]:
    column = table.columns.get(name)
    return [None] * len(table) if column is None else listed(column)


def _to_trades(table: Table, symbols: Sequence[str]) -> list[Trade]:
    texts = list(table.columns.get("trade_id_text", [None] * len(table)))
    if "trade_id" in table.columns:
        ids = uuid_texts(np.asarray(table.columns["trade_id"]))
        texts = [plain if text is None else text for plain, text in zip(ids, texts, strict=True)]
    buy, sell = AggressorSide.BUY, AggressorSide.SELL
    return [
        Trade(
            symbol, price, size, buy if flags & BUY else sell, trade_id, _DIRECTIONS[flags >> DIRECTION_SHIFT],
            sequence, bool(flags & BLOCK_TRADE), bool(flags & RPI) if flags & RPI_KNOWN else None,
            bool(flags & BACKFILLED), event_time, sent_time, receive_time,
        )
        for symbol, flags, trade_id, price, size, event_time, sequence, sent_time, receive_time in zip(
            symbols, _get(table, "flags"), texts, *(_get(table, name) for name in TRADE_NAMES), strict=True
        )
    ]  # fmt: skip


def _to_books(table: Table, symbols: Sequence[str]) -> list[BookSnapshot | BookDelta]:
    levels = list(zip(listed(table.columns["level_price"]), listed(table.columns["level_size"]), strict=True))
    out: list[BookSnapshot | BookDelta] = []
    at = 0
    for symbol, is_snapshot, bid_count, ask_count, depth, update_id, sequence, event_time, sent_time, receive_time in zip(
        symbols, _get(table, "is_snapshot"), _get(table, "bid_count"), _get(table, "ask_count"),
        *(_get(table, name) for name in BOOK_FIELDS), strict=True,
    ):  # fmt: skip
        middle = at + bid_count
        end = middle + ask_count
        if not at <= middle <= end <= len(levels):
            raise TapeDamaged("level counts beyond the levels")
        out.append(
            (BookSnapshot if is_snapshot else BookDelta)(
                symbol, tuple(levels[at:middle]), tuple(levels[middle:end]), update_id, sequence, event_time,
                sent_time, receive_time, depth,
            )
        )  # fmt: skip
        at = end
    if at != len(levels):
        raise TapeDamaged("levels beyond the level counts")
    return out


def _to_liquidations(table: Table, symbols: Sequence[str]) -> list[Liquidation]:
    long, short = PositionSide.LONG, PositionSide.SHORT
    return [
        Liquidation(symbol, long if is_long else short, *rest)
        for symbol, is_long, *rest in zip(
            symbols, _get(table, "is_long"), *(_get(table, name) for name in LIQUIDATION_FIELDS), strict=True
        )
    ]


def _to_tickers(table: Table, symbols: Sequence[str]) -> list[Ticker]:
    names = (*TICKER_NUMBERS, *TICKER_TEXTS)
    return [
        Ticker(symbol, tick_direction=_DIRECTIONS[direction or 0], **dict(zip(names, values, strict=True)))
        for symbol, direction, *values in zip(
            symbols, _get(table, "tick_direction"), *(_get(table, name) for name in names), strict=True
        )
    ]


_TO_EVENTS: dict[int, Callable[[Table, Sequence[str]], Sequence[Any]]] = {
    layout.TRADE: _to_trades,
    layout.BOOK: _to_books,
    layout.LIQUIDATION: _to_liquidations,
    layout.TICKER: _to_tickers,
}


def rare_rows(table: Table) -> list[list[Any]]:
    """`[number, fields]` of each event of a rare kind, as JSON will hold them."""
    return [
        [number, msgspec.to_builtins(event)]
        for number, event in zip(table.numbers.tolist(), table.columns["event"], strict=True)
    ]


def choose(part: Table, symbols: frozenset[str] | None, start: int | None, end: int | None) -> Table:
    """The rows of those symbols with `start <= receive time < end`; rare events without a symbol always pass."""
    keep = np.ones(len(part), bool)
    if symbols is not None and not symbols.issuperset(part.symbols):
        if part.kind in RARE:
            keep &= np.array(
                [(getattr(e, "symbol", None) or "") in symbols | {""} for e in part.columns["event"]], bool
            )
        else:
            keep &= np.array([symbol in symbols for symbol in part.symbols], bool)[part.symbol_indices()]
    if start is not None or end is not None:
        times = [e.receive_time for e in part.columns["event"]] if part.kind in RARE else part.columns["receive_time"]
        moments: Any = np.array(times, object) if isinstance(times, list) else times
        if start is not None:
            keep &= (moments >= start).astype(bool)
        if end is not None:
            keep &= (moments < end).astype(bool)
    return part if keep.all() else take(part, np.flatnonzero(keep))
