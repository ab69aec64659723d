"""Owns a block's columns as numpy structured arrays of `wld.batch`'s dtypes; no Python loop per event."""

from __future__ import annotations

from typing import Any

import numpy as np

from wld import batch as dtypes
from wld.batch import Columns
from wld.errors import TapeDamaged
from wld.tape import layout, rows
from wld.tape.layout import Block, Column
from wld.units import ABSENT


def block_array(block: Block, payload: bytes, place: dict[str, int]) -> Columns:
    """The block's events as its kind's dtype; `place` is the symbol table.

    Raises:
        TapeDamaged: the payload cannot be read.
    """
    if block.kind == layout.GAP:
        return dtypes.gap_columns(rows.decode(block, payload))
    columns = layout.decode_columns(payload)
    if any(isinstance(column, list) and name not in _TEXTS for name, column in columns.items()):
        numbered = rows.decode(block, payload)  # values wider than 64 bits: the rare, slow way
        try:
            return _FROM_ROWS[block.kind](numbered, place)
        except OverflowError:
            name = layout.KIND_NAMES[block.kind]
            raise TapeDamaged(f"a {name} value is wider than its numpy column; iterate instead") from None
    try:
        return _FROM_COLUMNS[block.kind](block, columns, place)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise TapeDamaged(f"a block's columns do not agree: {error!r}") from None


_TEXTS = frozenset(("trade_id_text", "delivery_time", "pre_listing_phase"))
_FROM_ROWS = {
    layout.TRADE: dtypes.trade_columns,
    layout.BOOK: dtypes.depth_columns,
    layout.LIQUIDATION: dtypes.liquidation_columns,
    layout.TICKER: dtypes.ticker_columns,
}


def _values(columns: dict[str, Column], name: str) -> Any:
    column = columns.get(name)
    if column is None:
        return ABSENT
    mask = columns.get(f"{name}?")
    return column if mask is None else np.where(np.asarray(mask) != 0, column, ABSENT)


def _trades(block: Block, columns: dict[str, Column], place: dict[str, int]) -> Columns:
    out = np.zeros(block.count, dtypes.TRADE_DTYPE)
    out["symbol"] = place[block.symbol]
    record = columns.get("record")
    fields: Any = columns if record is None else np.asarray(record).view(rows.RECORD)
    flags = fields["flags"].astype(np.uint8)
    out["price"], out["size"] = fields["price"], fields["size"]
    out["event_time"] = fields["event_ms"] * 1_000_000
    if "event_ns" in columns:
        out["event_time"] += columns["event_ns"]
    out["is_buy"] = flags & rows.BUY
    out["is_block_trade"] = flags & rows.BLOCK_TRADE
    out["is_backfilled"] = flags & rows.BACKFILLED
    out["is_rpi"] = np.where(flags & rows.RPI_KNOWN, (flags & rows.RPI) != 0, -1)
    out["tick_direction"] = (flags >> rows.DIRECTION_SHIFT).astype(np.int8) - 1
    for name in ("number", "sequence", "sent_time", "receive_time"):
        out[name] = _values(columns, name)
    if "trade_id" in columns:
        out["trade_id"] = columns["trade_id"]
    else:
        out["trade_id"] = np.array(
            [dtypes.trade_id_bytes(text) or bytes(16) for text in columns["trade_id_text"]], "V16"
        )
    return out


def _depth(block: Block, columns: dict[str, Column], place: dict[str, int]) -> Columns:
    bids, asks = np.asarray(columns["bid_count"]), np.asarray(columns["ask_count"])
    levels = bids + asks
    lines = np.maximum(levels, 1)
    if int(levels.sum()) != len(columns["level_price"]) or (bids < 0).any() or (asks < 0).any():
        raise TapeDamaged("level counts and levels disagree")
    out = np.zeros(int(lines.sum()), dtypes.DEPTH_DTYPE)
    out["symbol"] = place[block.symbol]
    starts = np.cumsum(lines) - lines
    row = np.repeat(np.arange(block.count), lines)
    within = np.arange(len(out)) - starts[row]
    has_level = within < levels[row]
    out["is_bid"] = within < bids[row]
    for target, name in (("price", "level_price"), ("size", "level_size")):
        values = np.full(len(out), ABSENT, np.int64)
        values[has_level] = columns[name]
        out[target] = values
    for name in (
        "number",
        "is_snapshot",
        "update_id",
        "sequence",
        "event_time",
        "sent_time",
        "receive_time",
        "depth",
    ):
        value = _values(columns, name)
        out[name] = value if isinstance(value, int) else np.asarray(value)[row]
    return out


def _liquidations(block: Block, columns: dict[str, Column], place: dict[str, int]) -> Columns:
    out = np.zeros(block.count, dtypes.LIQUIDATION_DTYPE)
    out["symbol"] = place[block.symbol]
    for name in ("number", "is_long", "size", "bankruptcy_price", "event_time", "sent_time", "receive_time"):
        out[name] = _values(columns, name)
    return out


def _tickers(block: Block, columns: dict[str, Column], place: dict[str, int]) -> Columns:
    out = np.zeros(block.count, dtypes.TICKER_DTYPE)
    out["symbol"] = place[block.symbol]
    for name in ("number", *dtypes.TICKER_NUMBERS):
        out[name] = _values(columns, name)
    for name in dtypes.WIDE_TICKER_NUMBERS:
        value = _values(columns, name)
        # Absent is (ABSENT, 0); a negative value that fits is (value, -1).
        out[f"{name}_high"] = np.where((out[name] < 0) & (out[name] != ABSENT), -1, 0) if name in columns else 0
        del value
    return out


_FROM_COLUMNS = {
    layout.TRADE: _trades,
    layout.BOOK: _depth,
    layout.LIQUIDATION: _liquidations,
    layout.TICKER: _tickers,
}
