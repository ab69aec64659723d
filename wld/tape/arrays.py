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


def table_array(part: Table, place: Mapping[str, int]) -> Columns:
    """The table's events as its kind's dtype; `place` is the symbol table.

    Raises:
        TapeDamaged: the columns do not agree, or a value is wider than its numpy column.
    """
    if part.kind == layout.GAP:
        return dtypes.gap_columns(table.to_events(part))
    if any(isinstance(column, list) and name not in _TEXTS for name, column in part.columns.items()):
        numbered = table.to_events(part)  # values wider than 64 bits: the rare, slow way
        try:
            return _FROM_EVENTS[part.kind](numbered, dict(place))
        except OverflowError:
            name = layout.KIND_NAMES[part.kind]
            raise TapeDamaged(f"a {name} value is wider than its numpy column; iterate instead") from None
    try:
        return _FROM_COLUMNS[part.kind](part, symbol_column(part, place))
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise TapeDamaged(f"a block's columns do not agree: {error!r}") from None


_TEXTS = frozenset(("trade_id_text", *table.TICKER_TEXTS))
_FROM_EVENTS: dict[int, Callable[[Any, dict[str, int]], Columns]] = {
    layout.TRADE: dtypes.trade_columns,
    layout.BOOK: dtypes.depth_columns,
    layout.LIQUIDATION: dtypes.liquidation_columns,
    layout.TICKER: dtypes.ticker_columns,
}


def symbol_column(part: Table, place: Mapping[str, int]) -> Any:
    """Each row's index into the tape's symbol table; one integer where it is the same for all."""
    if len(part.symbols) == 1:
        return place[part.symbols[0]]
    return np.array([place.get(symbol, 0) for symbol in part.symbols], np.uint32)[part.symbol_indices()]


def _trades(part: Table, symbols: Any) -> Columns:
    out = np.zeros(len(part), dtypes.TRADE_DTYPE)
    out["symbol"] = symbols
    flags = part.ints("flags").astype(np.uint8)
    out["is_buy"] = flags & table.BUY
    out["is_block_trade"] = flags & table.BLOCK_TRADE
    out["is_backfilled"] = flags & table.BACKFILLED
    out["is_rpi"] = np.where(flags & table.RPI_KNOWN, (flags & table.RPI) != 0, -1)
    out["tick_direction"] = (flags >> table.DIRECTION_SHIFT).astype(np.int8) - 1
    for name in ("number", "price", "size", "event_time", "sequence", "sent_time", "receive_time"):
        out[name] = part.ints(name)
    if "trade_id" in part.columns:
        out["trade_id"] = part.columns["trade_id"]
    return out


def _depth(part: Table, symbols: Any) -> Columns:
    bids, asks = part.ints("bid_count"), part.ints("ask_count")
    levels = bids + asks
    lines = np.maximum(levels, 1)
    if int(levels.sum()) != len(part.columns["level_price"]) or (bids < 0).any() or (asks < 0).any():
        raise TapeDamaged("level counts and levels disagree")
    out = np.zeros(int(lines.sum()), dtypes.DEPTH_DTYPE)
    starts = np.cumsum(lines) - lines
    row = np.repeat(np.arange(len(part)), lines)
    within = np.arange(len(out)) - starts[row]
    has_level = within < levels[row]
    out["symbol"] = symbols if isinstance(symbols, int) else symbols[row]
    out["is_bid"] = within < bids[row]
    for target, name in (("price", "level_price"), ("size", "level_size")):
        values = np.full(len(out), ABSENT, np.int64)
        values[has_level] = part.columns[name]
        out[target] = values
    for name in ("number", "is_snapshot", *table.BOOK_FIELDS):
        out[name] = part.ints(name)[row]
    return out


def _liquidations(part: Table, symbols: Any) -> Columns:
    out = np.zeros(len(part), dtypes.LIQUIDATION_DTYPE)
    out["symbol"] = symbols
    for name in ("number", "is_long", *table.LIQUIDATION_FIELDS):
        out[name] = part.ints(name)
    return out


def _tickers(part: Table, symbols: Any) -> Columns:
    out = np.zeros(len(part), dtypes.TICKER_DTYPE)
    out["symbol"] = symbols
    for name in ("number", *dtypes.TICKER_NUMBERS):
        out[name] = part.ints(name)
    for name in dtypes.WIDE_TICKER_NUMBERS:
        # Absent is (ABSENT, 0); a negative value that fits is (value, -1).
        out[f"{name}_high"] = np.where((out[name] < 0) & (out[name] != ABSENT), -1, 0)
    return out


_FROM_COLUMNS: dict[int, Callable[[Table, Any], Columns]] = {
    layout.TRADE: _trades,
    layout.BOOK: _depth,
    layout.LIQUIDATION: _liquidations,
    layout.TICKER: _tickers,
}
