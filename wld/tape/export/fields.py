"""Owns a table's events as plain named columns for other formats: what each is called, what its numbers mean. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld.batch import TICK_DIRECTIONS, TICKER_NUMBERS, WIDE_TICKER_NUMBERS
from wld.errors import TapeDamaged
from wld.events import Gap, Instrument, Repair
from wld.tape import layout, table
from wld.tape.table import Table
from wld.units import ABSENT

DATASETS: dict[str, int] = {
    "trades": layout.TRADE,
    "depth": layout.BOOK,
    "liquidations": layout.LIQUIDATION,
    "tickers": layout.TICKER,
    "gaps": layout.GAP,
    "repairs": layout.REPAIR,
    "instruments": layout.INSTRUMENT,
}
"""Name of a dataset, and the kind of event in it."""
_MOST_NAME = 200


class Meaning(Enum):
    """What the integers of a column are."""

    COUNT = "count"
    """A plain number: ids, sequences, hours."""
    FIXED = "fixed"
    """1e-8 fixed point."""
    WIDE = "wide"
    """1e-8 fixed point that may exceed 64 bits."""
    TIME = "time"
    """ns since the Unix epoch."""
    FLAG = "flag"
    """0 or 1."""
    WORD = "word"
    """An index into `words`."""
    TEXT = "text"
    """Texts, not integers."""


class Field(Struct):
    """One column: int64 with `ABSENT`, or a list of integers or texts and None."""

    name: str
    meaning: Meaning
    values: npt.NDArray[np.int64] | list[Any]
    words: tuple[str, ...] = ()


def fields_of(part: Table) -> list[Field]:
    """The columns of a table of one symbol, one row an event (of books: a level, or an event without levels).

    Raises:
        TapeDamaged: its columns do not agree.
    """
    try:
        return _FIELDS[part.kind](part)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise TapeDamaged(f"a block's columns do not agree: {error!r}") from None


def _column(part: Table, name: str) -> Any:
    column = part.columns.get(name)
    return part.ints(name) if column is None else column


def _of(part: Table, name: str, meaning: Meaning) -> Field:
    return Field(name, meaning, _column(part, name))


_TIMES = ("event_time", "sent_time", "receive_time")


def _trades(part: Table) -> list[Field]:
    flags = part.ints("flags")
    texts: list[Any] = list(part.columns.get("trade_id_text", [None] * len(part)))
    if "trade_id" in part.columns:
        ids = table.uuid_texts(np.asarray(part.columns["trade_id"]))
        texts = [plain if text is None else text for plain, text in zip(ids, texts, strict=True)]
    rpi = np.where(flags & table.RPI_KNOWN, (flags & table.RPI) != 0, ABSENT)
    direction = flags >> table.DIRECTION_SHIFT
    return [
        _of(part, "number", Meaning.COUNT),
        _of(part, "price", Meaning.FIXED),
        _of(part, "size", Meaning.FIXED),
        Field("aggressor_side", Meaning.WORD, flags & table.BUY, ("sell", "buy")),
        Field("trade_id", Meaning.TEXT, texts),
        Field("tick_direction", Meaning.WORD, np.where(direction, direction - 1, ABSENT), TICK_DIRECTIONS),
        _of(part, "sequence", Meaning.COUNT),
        Field("is_block_trade", Meaning.FLAG, (flags & table.BLOCK_TRADE) // table.BLOCK_TRADE),
        Field("is_rpi", Meaning.FLAG, rpi),
        Field("is_backfilled", Meaning.FLAG, (flags & table.BACKFILLED) // table.BACKFILLED),
        *(_of(part, name, Meaning.TIME) for name in _TIMES),
    ]


def _depth(part: Table) -> list[Field]:
    bids, asks = part.ints("bid_count"), part.ints("ask_count")
    levels = bids + asks
    lines = np.maximum(levels, 1)
    if int(levels.sum()) != len(part.columns["level_price"]) or (bids < 0).any() or (asks < 0).any():
        raise TapeDamaged("level counts and levels disagree")
    starts = np.cumsum(lines) - lines
    row = np.repeat(np.arange(len(part)), lines)
    within = np.arange(len(row)) - starts[row]
    has_level = within < levels[row]

    def spread(name: str) -> Any:
        column = _column(part, name)
        return [column[i] for i in row.tolist()] if isinstance(column, list) else column[row]

    def level(name: str) -> Any:
        column = part.columns[name]
        if isinstance(column, list):
            following = iter(column)
            return [next(following) if there else None for there in has_level.tolist()]
        values = np.full(len(row), ABSENT, np.int64)
        values[has_level] = column
        return values

    side = np.where(has_level, (within < bids[row]).astype(np.int64), ABSENT)
    return [
        Field("number", Meaning.COUNT, part.numbers[row]),
        Field("is_snapshot", Meaning.FLAG, spread("is_snapshot")),
        Field("side", Meaning.WORD, side, ("ask", "bid")),
        Field("price", Meaning.FIXED, level("level_price")),
        Field("size", Meaning.FIXED, level("level_size")),
        *(Field(name, Meaning.COUNT, spread(name)) for name in ("depth", "update_id", "sequence")),
        *(Field(name, Meaning.TIME, spread(name)) for name in _TIMES),
    ]


def _liquidations(part: Table) -> list[Field]:
    return [
        _of(part, "number", Meaning.COUNT),
        Field("position_side", Meaning.WORD, part.ints("is_long"), ("short", "long")),
        _of(part, "size", Meaning.FIXED),
        _of(part, "bankruptcy_price", Meaning.FIXED),
        *(_of(part, name, Meaning.TIME) for name in _TIMES),
    ]


_TICKER_MEANING = {
    "funding_interval_hour": Meaning.COUNT,
    "sequence": Meaning.COUNT,
    "next_funding_time": Meaning.TIME,
    **dict.fromkeys(WIDE_TICKER_NUMBERS, Meaning.WIDE),
    **dict.fromkeys(_TIMES, Meaning.TIME),
}


def _tickers(part: Table) -> list[Field]:
    direction = part.ints("tick_direction")
    texts = {name: part.columns.get(name, [None] * len(part)) for name in table.TICKER_TEXTS}
    return [
        _of(part, "number", Meaning.COUNT),
        *(_of(part, name, _TICKER_MEANING.get(name, Meaning.FIXED)) for name in TICKER_NUMBERS),
        Field("tick_direction", Meaning.WORD, np.where(direction > 0, direction - 1, ABSENT), TICK_DIRECTIONS),
        *(Field(name, Meaning.TEXT, list(column)) for name, column in texts.items()),
    ]


_RARE_MEANING = {
    **dict.fromkeys(("reason", "topic", "symbol", "status", "contract_type", "margin_tiers"), Meaning.TEXT),
    **dict.fromkeys(("first_time", "last_time", "receive_time", "launch_time"), Meaning.TIME),
    **dict.fromkeys(("tick_size", "lot_size", "max_leverage", "min_size", "max_size", "min_notional"), Meaning.FIXED),
}


def _rare(kind: type[Any]) -> Callable[[Table], list[Field]]:
    names = [field.name for field in msgspec.structs.fields(kind)]

    def fields(part: Table) -> list[Field]:
        events = part.columns["event"]
        found = [Field("number", Meaning.COUNT, part.numbers)]
        for name in names:
            values = [_plain(getattr(event, name)) for event in events]
            meaning = _RARE_MEANING.get(name, Meaning.COUNT)
            column: Any = values if meaning is Meaning.TEXT else table.integers(values)
            found.append(Field(name, meaning, np.full(len(part), ABSENT, np.int64) if column is None else column))
        return found

    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return msgspec.json.encode(value).decode()
    return value


_FIELDS: dict[int, Callable[[Table], list[Field]]] = {
    layout.TRADE: _trades,
    layout.BOOK: _depth,
    layout.LIQUIDATION: _liquidations,
    layout.TICKER: _tickers,
    layout.GAP: _rare(Gap),
    layout.REPAIR: _rare(Repair),
    layout.INSTRUMENT: _rare(Instrument),
}


def receive_times(fields: Sequence[Field]) -> npt.NDArray[np.int64]:
    """The receive time of each row."""
    values = next(field.values for field in fields if field.name == "receive_time")
    return np.asarray(values, np.int64)


def file_name(symbol: str) -> str:
    """A symbol as part of a file's name, as Hive writes it: what is not plain is percent-encoded, what is long is cut.

    A tape may come from a stranger: no symbol leads out of the folder, and two symbols have two names.
    """
    name = quote(symbol, safe="")
    return name if len(name) <= _MOST_NAME else f"{name[:100]}~{hashlib.sha256(symbol.encode()).hexdigest()}"
