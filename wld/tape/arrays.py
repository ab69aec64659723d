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
    try:
        return _copied_fields(names, dtype, _FIELDS[part.kind](part, place, names), out)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise TapeDamaged(f"a block's columns do not agree: {error!r}") from None
    except OverflowError:
        name = layout.KIND_NAMES[part.kind]
        raise TapeDamaged(f"a {name} value is wider than its numpy column; iterate instead") from None


def _ints(part: Table, name: str) -> Any:
    """A column as int64, ABSENT where absent. Raises: OverflowError where a value does not fit."""
    column = part.columns.get(name)
    if isinstance(column, list):
        return np.array([ABSENT if value is None else value for value in column], np.int64)
    return part.ints(name)


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
        "is_buy": lambda: _ints(part, "flags") & table.BUY,
        "is_block_trade": lambda: _ints(part, "flags") & table.BLOCK_TRADE,
        "is_backfilled": lambda: _ints(part, "flags") & table.BACKFILLED,
        "is_rpi": lambda: np.where(
            _ints(part, "flags") & table.RPI_KNOWN, (_ints(part, "flags") & table.RPI) != 0, -1
        ),
        "tick_direction": lambda: (_ints(part, "flags") >> table.DIRECTION_SHIFT) - 1,
        "trade_id": lambda: part.columns.get("trade_id", np.zeros(len(part), "V16")),
    }  # fmt: skip
    return {name: made[name]() if name in made else _ints(part, name) for name in names}


def _plain(part: Table, place: Mapping[str, int], names: tuple[str, ...]) -> Fields:
    return {name: symbol_column(part, place) if name == "symbol" else _ints(part, name) for name in names}


def _tickers(part: Table, place: Mapping[str, int], names: tuple[str, ...]) -> Fields:
    fields: dict[str, Any] = {}
    for name in names:
        if name == "symbol":
            fields[name] = symbol_column(part, place)
        elif name.removesuffix("_high") in dtypes.WIDE_TICKER_NUMBERS:
            column = part.columns.get(name.removesuffix("_high"))
            which = int(name.endswith("_high"))
            if isinstance(column, list):
                halves = [dtypes.split_wide(value) for value in column]
                fields[name] = np.array([pair[which] for pair in halves], np.int64)
            else:
                # Absent is (ABSENT, 0); a negative value that fits is (value, -1).
                low = part.ints(name.removesuffix("_high"))
                fields[name] = np.where((low < 0) & (low != ABSENT), -1, 0) if which else low
        elif name == "tick_direction":
            direction = _ints(part, name)
            fields[name] = np.where(direction == ABSENT, -1, direction - 1)
        else:
            fields[name] = _ints(part, name)
    return fields


def _depth(part: Table, place: Mapping[str, int], names: tuple[str, ...]) -> Fields:
    bids, asks = _ints(part, "bid_count"), _ints(part, "ask_count")
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
            values = _ints(part, f"level_{name}")
            if len(row) != count:
                spread = np.full(len(row), ABSENT, np.int64)
                spread[has_level] = values
                values = spread
            fields[name] = values
        elif name == "symbol":
            fields[name] = symbol_column(part, place)[row]
        elif name != "is_bid":
            fields[name] = _ints(part, name)[row]
    return fields


_FIELDS: dict[int, Callable[[Table, Mapping[str, int], tuple[str, ...]], Fields]] = {
    layout.TRADE: _trades,
    layout.BOOK: _depth,
    layout.LIQUIDATION: _plain,
    layout.TICKER: _tickers,
}
