"""Owns a table's columns as numpy structured arrays of `wld.batch`'s dtypes; no Python loop per event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from wld import batch as dtypes
from wld.batch import Columns
from wld.errors import TapeDamaged
from wld.tape import layout, table
from wld.tape.table import Table
from wld.units import ABSENT


def table_array(part: Table, place: Mapping[str, int], dtype: np.dtype[Any], out: Columns | None = None) -> Columns:
    """The table's events as rows of `dtype`, some or all fields of its kind's; into `out` where that is given.

    `place` is the symbol table. The table must hold what `needs` says for those fields.

    Raises:
        TapeDamaged: the columns do not agree, or a value is wider than its numpy column.
    """
    if part.kind == layout.GAP:
        return _copied(dtypes.gap_columns(table.to_events(part)), dtype, out)
    names = dtype.names or ()
    if any(isinstance(column, list) and name not in _TEXTS for name, column in part.columns.items()):
        try:
            whole = _FROM_EVENTS[part.kind](table.to_events(part), dict(place))  # wider than 64 bits: the slow way
        except (OverflowError, KeyError):
            name = layout.KIND_NAMES[part.kind]
            raise TapeDamaged(f"a {name} value is wider than its numpy column; iterate instead") from None
        return _copied(whole, dtype, out)
    try:
        if part.kind == layout.BOOK:
            return _copied_fields(names, dtype, _depth(part, place, names), out)
        return _copied_fields(names, dtype, _FIELDS[part.kind](part, place, names), out)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise TapeDamaged(f"a block's columns do not agree: {error!r}") from None


def needs(kind: int, names: tuple[str, ...]) -> frozenset[str]:
    """The columns of a block that those fields are made of."""
    made_of = _MADE_OF.get(kind, {})
    return frozenset(column for name in names for column in made_of.get(name, (name,)))


_FLAGS = ("flags",)
_MADE_OF: Mapping[int, Mapping[str, tuple[str, ...]]] = {
    layout.TRADE: {
        "is_buy": _FLAGS, "is_block_trade": _FLAGS, "is_backfilled": _FLAGS, "is_rpi": _FLAGS, "tick_direction": _FLAGS,
    },
    layout.BOOK: {"price": ("level_price",), "size": ("level_size",), "is_bid": ()},
    layout.TICKER: {f"{name}_high": (name,) for name in dtypes.WIDE_TICKER_NUMBERS},
}  # fmt: skip
_TEXTS = frozenset(("trade_id_text", *table.TICKER_TEXTS))
_FROM_EVENTS: dict[int, Callable[[Any, dict[str, int]], Columns]] = {
    layout.TRADE: dtypes.trade_columns,
    layout.BOOK: dtypes.depth_columns,
    layout.LIQUIDATION: dtypes.liquidation_columns,
    layout.TICKER: dtypes.ticker_columns,
}
Fields = Mapping[str, Any]


def _copied(whole: Columns, dtype: np.dtype[Any], out: Columns | None) -> Columns:
    return _copied_fields(dtype.names or (), dtype, {name: whole[name] for name in dtype.names or ()}, out)


def _copied_fields(names: tuple[str, ...], dtype: np.dtype[Any], fields: Fields, out: Columns | None) -> Columns:
    if out is None:
        length = next((len(value) for value in fields.values() if not np.isscalar(value)), 0)
        out = np.empty(length, dtype)
    for name in names:
        out[name] = fields[name]
    return out


def symbol_column(part: Table, place: Mapping[str, int]) -> Any:
    """Each row's index into the tape's symbol table."""
    if len(part.symbols) == 1:
        return np.full(len(part), place[part.symbols[0]], np.uint32)
    return np.array([place.get(symbol, 0) for symbol in part.symbols], np.uint32)[part.symbol_indices()]


def _trades(part: Table, place: Mapping[str, int], names: tuple[str, ...]) -> Fields:
    made: dict[str, Callable[[], Any]] = {
        "symbol": lambda: symbol_column(part, place),
        "is_buy": lambda: part.ints("flags") & table.BUY,
        "is_block_trade": lambda: part.ints("flags") & table.BLOCK_TRADE,
        "is_backfilled": lambda: part.ints("flags") & table.BACKFILLED,
        "is_rpi": lambda: np.where(
            part.ints("flags") & table.RPI_KNOWN, (part.ints("flags") & table.RPI) != 0, -1
        ),
        "tick_direction": lambda: (part.ints("flags") >> table.DIRECTION_SHIFT) - 1,
        "trade_id": lambda: part.columns.get("trade_id", np.zeros(len(part), "V16")),
    }  # fmt: skip
    return {name: made[name]() if name in made else part.ints(name) for name in names}


def _plain(part: Table, place: Mapping[str, int], names: tuple[str, ...]) -> Fields:
    return {name: symbol_column(part, place) if name == "symbol" else part.ints(name) for name in names}


def _tickers(part: Table, place: Mapping[str, int], names: tuple[str, ...]) -> Fields:
    fields: dict[str, Any] = {}
    for name in names:
        if name == "symbol":
            fields[name] = symbol_column(part, place)
        elif name.endswith("_high"):
            # Absent is (ABSENT, 0); a negative value that fits is (value, -1).
            low = part.ints(name.removesuffix("_high"))
            fields[name] = np.where((low < 0) & (low != ABSENT), -1, 0)
        elif name == "tick_direction":
            direction = part.ints(name)
            fields[name] = np.where(direction == ABSENT, -1, direction - 1)
        else:
            fields[name] = part.ints(name)
    return fields


def _depth(part: Table, place: Mapping[str, int], names: tuple[str, ...]) -> Fields:
    bids, asks = part.ints("bid_count"), part.ints("ask_count")
    levels = bids + asks
    lines = np.maximum(levels, 1)
    count = len(part.columns["level_price"]) if "level_price" in part.columns else int(levels.sum())
    if int(levels.sum()) != count or (len(bids) and min(int(bids.min()), int(asks.min())) < 0):
        raise TapeDamaged("level counts and levels disagree")
    row = np.repeat(np.arange(len(part)), lines)
    fields: dict[str, Any] = {}
    has_level: Any = None
    if "is_bid" in names or len(row) != count:
        within = np.arange(len(row)) - (np.cumsum(lines) - lines)[row]
        has_level = within < levels[row]
        fields["is_bid"] = within < bids[row]
    for name in names:
        if name in ("price", "size"):
            values = np.asarray(part.columns[f"level_{name}"])
            if len(row) != count:
                spread = np.full(len(row), ABSENT, np.int64)
                spread[has_level] = values
                values = spread
            fields[name] = values
        elif name == "symbol":
            fields[name] = symbol_column(part, place)[row]
        elif name != "is_bid":
            fields[name] = part.ints(name)[row]
    return fields


_FIELDS: dict[int, Callable[[Table, Mapping[str, int], tuple[str, ...]], Fields]] = {
    layout.TRADE: _trades,
    layout.LIQUIDATION: _plain,
    layout.TICKER: _tickers,
}
