"""Owns how each event becomes columns of a block and comes back equal. Pure; does not own bytes or files.

A column with None among its values has a mask beside it, named with a `?`: 1 where a value is present. A column that
is all None is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from wld.batch import TICK_DIRECTIONS, TICKER_NUMBERS
from wld.errors import TapeDamaged, TapeError
from wld.events import (
    AggressorSide,
    BookDelta,
    BookSnapshot,
    Event,
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
from wld.tape.layout import Block, Column, Draft

Numbered = tuple[int, Any]
"""(ring number, event)."""

BLOCK_ROWS = 8192
BLOCK_LEVELS = 1 << 20
_KIND_OF: dict[type[Any], int] = {
    Trade: layout.TRADE,
    BookSnapshot: layout.BOOK,
    BookDelta: layout.BOOK,
    Liquidation: layout.LIQUIDATION,
    Ticker: layout.TICKER,
    Gap: layout.GAP,
    Repair: layout.REPAIR,
    Instrument: layout.INSTRUMENT,
}
RECORD = np.dtype([("event_ms", "<i8"), ("price", "<i8"), ("size", "<i8"), ("flags", "u1")])
"""The 25-byte trade: event time in ms, price and size 1e-8, side and flags."""
BUY, BLOCK_TRADE, BACKFILLED, RPI_KNOWN, RPI = 1, 2, 4, 8, 16
DIRECTION_SHIFT = 5
_DIRECTIONS = (None, *(TickDirection(word) for word in TICK_DIRECTIONS))
_DIRECTION_CODE = {direction: i << DIRECTION_SHIFT for i, direction in enumerate(_DIRECTIONS)}
_DIRECTION_NUMBER = {direction: i for i, direction in enumerate(_DIRECTIONS)}
_TICKER_TEXTS = ("delivery_time", "pre_listing_phase")
_HYPHENS = (8, 13, 18, 23)
_NIBBLE = np.full(256, 255, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


def key_of(event: Event) -> tuple[int, str]:
    """(block kind, symbol) that the event is kept under."""
    return _KIND_OF[type(event)], getattr(event, "symbol", None) or ""


def encode_group(numbered: Iterable[Numbered], *, pack: bool) -> list[Draft]:
    """The blocks of a run of events in ring order, by first ring number; the last one carries `GROUP_END`."""
    by_key: dict[tuple[int, str], list[Numbered]] = {}
    for item in numbered:
        event = item[1]
        by_key.setdefault((_KIND_OF[type(event)], getattr(event, "symbol", None) or ""), []).append(item)
    return encode_keyed(by_key, pack=pack)


def encode_keyed(by_key: dict[tuple[int, str], list[Numbered]], *, pack: bool) -> list[Draft]:
    """As `encode_group`, of events already apart by `key_of`."""
    drafts: list[Draft] = []
    for (kind, symbol), items in by_key.items():
        for chunk in _chunks(kind, items):
            drafts += _encode(kind, symbol, chunk, pack)
    drafts.sort(key=lambda draft: draft.first_number)
    if drafts:
        drafts[-1].flags |= layout.GROUP_END
    return drafts


def _chunks(kind: int, items: list[Numbered]) -> Iterable[list[Numbered]]:
    if kind != layout.BOOK:
        for i in range(0, len(items), BLOCK_ROWS):
            yield items[i : i + BLOCK_ROWS]
        return
    start = levels = 0
    for i, (_, event) in enumerate(items):
        levels += len(event.bids) + len(event.asks)
        if i > start and (levels > BLOCK_LEVELS or i - start >= BLOCK_ROWS):
            yield items[start:i]
            start, levels = i, len(event.bids) + len(event.asks)
    yield items[start:]


def _encode(kind: int, symbol: str, items: list[Numbered], pack: bool) -> list[Draft]:
    if len(symbol.encode()) > 0xFFFF:
        raise TapeError(f"a symbol of {len(symbol)} letters cannot be stored")
    events = [event for _, event in items]
    if kind in _JSON_TYPES:
        draft = layout.json_draft(
            kind,
            [[number, msgspec.to_builtins(event)] for number, event in items],
            symbol=symbol,
            count=len(items),
        )
    else:
        columns: dict[str, Column] = {"number": np.array([number for number, _ in items], np.int64)}
        _ENCODERS[kind](events, columns)
        payload, raw_length = layout.encode_columns(columns, pack=pack)
        draft = Draft(kind, layout.COLUMNS, symbol, len(items), payload, raw_length)
    if max(draft.raw_length, len(draft.payload)) > layout.MAX_BLOCK_BYTES:
        if len(items) == 1:
            raise TapeError(f"one {layout.KIND_NAMES[kind]} event of {draft.raw_length} bytes cannot be stored")
        half = len(items) // 2
        return _encode(kind, symbol, items[:half], pack) + _encode(kind, symbol, items[half:], pack)
    times = [event.receive_time for event in events]
    draft.first_time, draft.last_time = layout.clamp(min(times)), layout.clamp(max(times))
    draft.first_number, draft.last_number = items[0][0], items[-1][0]
    if kind == layout.BOOK:
        draft.snapshots = sum(type(event) is BookSnapshot for event in events)
    return [draft]


def _put(columns: dict[str, Column], name: str, values: list[Any]) -> None:
    if None not in values:
        columns[name] = layout.integer_column(values)
        return
    filled: list[Any] = []
    last: int | None = next((value for value in values if value is not None), None)
    if last is None:
        return
    for value in values:
        if value is not None:
            last = value
        filled.append(last)
    columns[f"{name}?"] = np.array([value is not None for value in values], np.int64)
    columns[name] = layout.integer_column(filled)


def _get(columns: dict[str, Column], name: str, count: int) -> list[Any]:
    column = columns.get(name)
    if column is None:
        return [None] * count
    values = column if isinstance(column, list) else column.tolist()
    mask = columns.get(f"{name}?")
    if mask is not None:
        values = [value if there else None for value, there in zip(values, mask, strict=True)]
    if len(values) != count:
        raise TapeDamaged(f"column {name}: {len(values)} rows, expected {count}")
    return values


def _put_ids(columns: dict[str, Column], ids: list[str]) -> None:
    """UUIDs as 16 bytes in one vectorised pass; any other id as text beside them."""
    joined = "".join(ids)
    if joined.isascii() and len(joined) == 36 * len(ids) and all(len(trade_id) == 36 for trade_id in ids):
        letters = np.frombuffer(joined.encode(), np.uint8).reshape(-1, 36)
        nibbles = _NIBBLE[np.delete(letters, _HYPHENS, axis=1)]
        if (letters[:, _HYPHENS] == ord("-")).all() and (nibbles < 16).all():
            packed = nibbles[:, ::2] << 4 | nibbles[:, 1::2]
            columns["trade_id"] = np.ascontiguousarray(packed).view("V16").reshape(-1)
            return
    columns["trade_id_text"] = list(ids)


def _encode_trades(events: Sequence[Trade], columns: dict[str, Column]) -> None:
    flags = [
        (e.aggressor_side is AggressorSide.BUY)
        | (e.is_block_trade and BLOCK_TRADE)
        | (e.is_backfilled and BACKFILLED)
        | (0 if e.is_rpi is None else RPI_KNOWN | (e.is_rpi and RPI))
        | _DIRECTION_CODE[e.tick_direction]
        for e in events
    ]
    times = [e.event_time // 1_000_000 for e in events]
    rest = [e.event_time % 1_000_000 for e in events]
    parts = {
        "event_ms": layout.integer_column(times),
        "price": layout.integer_column([e.price for e in events]),
        "size": layout.integer_column([e.size for e in events]),
        "flags": np.array(flags, np.int64),
    }
    if any(isinstance(part, list) for part in parts.values()):
        columns.update(parts)
    else:
        record = np.empty(len(events), RECORD)
        for name, part in parts.items():
            record[name] = part
        columns["record"] = record.view("V25")
    if any(rest):
        _put(columns, "event_ns", rest)
    _put(columns, "sequence", [e.sequence for e in events])
    _put(columns, "sent_time", [e.sent_time for e in events])
    _put(columns, "receive_time", [e.receive_time for e in events])
    _put_ids(columns, [e.trade_id for e in events])


def split_record(columns: dict[str, Column]) -> None:
    """Replace the 25-byte records by the columns they are made of."""
    record = columns.pop("record", None)
    if record is not None:
        fields = np.asarray(record).view(RECORD)
        for name in ("event_ms", "price", "size", "flags"):
            columns[name] = fields[name].astype(np.int64)


def _decode_trades(block: Block, columns: dict[str, Column]) -> list[Any]:
    count, symbol = block.count, block.symbol
    split_record(columns)
    if "trade_id_text" in columns:
        ids = _get(columns, "trade_id_text", count)
    else:
        raw = np.asarray(columns["trade_id"]).tobytes().hex()
        ids = [
            f"{raw[i : i + 8]}-{raw[i + 8 : i + 12]}-{raw[i + 12 : i + 16]}-{raw[i + 16 : i + 20]}-{raw[i + 20 : i + 32]}"
            for i in range(0, 32 * count, 32)
        ]
    times = [ms * 1_000_000 for ms in _get(columns, "event_ms", count)]
    if "event_ns" in columns:
        times = [time + ns for time, ns in zip(times, _get(columns, "event_ns", count), strict=True)]
    return [
        Trade(
            symbol, price, size, AggressorSide.BUY if flags & BUY else AggressorSide.SELL, trade_id,
            _DIRECTIONS[flags >> DIRECTION_SHIFT], sequence, bool(flags & BLOCK_TRADE),
            bool(flags & RPI) if flags & RPI_KNOWN else None, bool(flags & BACKFILLED), time, sent_time, receive_time,
        )
        for price, size, flags, trade_id, sequence, time, sent_time, receive_time in zip(
            _get(columns, "price", count), _get(columns, "size", count), _get(columns, "flags", count), ids,
            _get(columns, "sequence", count), times, _get(columns, "sent_time", count),
            _get(columns, "receive_time", count), strict=True,
        )
    ]  # fmt: skip


_BOOK_FIELDS = ("depth", "update_id", "sequence", "event_time", "sent_time", "receive_time")


def _encode_books(events: Sequence[BookSnapshot | BookDelta], columns: dict[str, Column]) -> None:
    columns["is_snapshot"] = np.array([type(e) is BookSnapshot for e in events], np.int64)
    for name in _BOOK_FIELDS:
        _put(columns, name, [getattr(e, name) for e in events])
    columns["bid_count"] = np.array([len(e.bids) for e in events], np.int64)
    columns["ask_count"] = np.array([len(e.asks) for e in events], np.int64)
    levels = [level for e in events for side in (e.bids, e.asks) for level in side]
    columns["level_price"] = layout.integer_column([price for price, _ in levels])
    columns["level_size"] = layout.integer_column([size for _, size in levels])


def _decode_books(block: Block, columns: dict[str, Column]) -> list[Any]:
    count = block.count
    prices, sizes = columns["level_price"], columns["level_size"]
    levels = list(
        zip(
            prices if isinstance(prices, list) else prices.tolist(),
            sizes if isinstance(sizes, list) else sizes.tolist(),
            strict=True,
        )
    )
    out: list[Any] = []
    at = 0
    for is_snapshot, bid_count, ask_count, depth, update_id, sequence, event_time, sent_time, receive_time in zip(
        _get(columns, "is_snapshot", count), _get(columns, "bid_count", count), _get(columns, "ask_count", count),
        *(_get(columns, name, count) for name in _BOOK_FIELDS), strict=True,
    ):  # fmt: skip
        middle = at + bid_count
        end = middle + ask_count
        if not at <= middle <= end <= len(levels):
            raise TapeDamaged("level counts beyond the levels")
        out.append(
            (BookSnapshot if is_snapshot else BookDelta)(
                block.symbol, tuple(levels[at:middle]), tuple(levels[middle:end]), update_id, sequence, event_time,
                sent_time, receive_time, depth,
            )
        )  # fmt: skip
        at = end
    if at != len(levels):
        raise TapeDamaged("levels beyond the level counts")
    return out


_LIQUIDATION_FIELDS = ("size", "bankruptcy_price", "event_time", "sent_time", "receive_time")


def _encode_liquidations(events: Sequence[Liquidation], columns: dict[str, Column]) -> None:
    columns["is_long"] = np.array([e.position_side is PositionSide.LONG for e in events], np.int64)
    for name in _LIQUIDATION_FIELDS:
        _put(columns, name, [getattr(e, name) for e in events])


def _decode_liquidations(block: Block, columns: dict[str, Column]) -> list[Any]:
    return [
        Liquidation(block.symbol, PositionSide.LONG if is_long else PositionSide.SHORT, *rest)
        for is_long, *rest in zip(
            _get(columns, "is_long", block.count),
            *(_get(columns, name, block.count) for name in _LIQUIDATION_FIELDS),
            strict=True,
        )
    ]


def _encode_tickers(events: Sequence[Ticker], columns: dict[str, Column]) -> None:
    for name in TICKER_NUMBERS:
        _put(columns, name, [getattr(e, name) for e in events])
    columns["tick_direction"] = np.array([_DIRECTION_NUMBER[e.tick_direction] for e in events], np.int64)
    for name in _TICKER_TEXTS:
        texts = [getattr(e, name) for e in events]
        if any(text is not None for text in texts):
            columns[name] = texts


def _decode_tickers(block: Block, columns: dict[str, Column]) -> list[Any]:
    count = block.count
    directions = [_DIRECTIONS[i] for i in _get(columns, "tick_direction", count)]
    names = (*TICKER_NUMBERS, *_TICKER_TEXTS)
    return [
        Ticker(block.symbol, tick_direction=direction, **dict(zip(names, values, strict=True)))
        for direction, *values in zip(directions, *(_get(columns, name, count) for name in names), strict=True)
    ]


_JSON_TYPES: dict[int, type[Any]] = {layout.GAP: Gap, layout.REPAIR: Repair, layout.INSTRUMENT: Instrument}
_ENCODERS: dict[int, Callable[[Any, dict[str, Column]], None]] = {
    layout.TRADE: _encode_trades,
    layout.BOOK: _encode_books,
    layout.LIQUIDATION: _encode_liquidations,
    layout.TICKER: _encode_tickers,
}
_DECODERS: dict[int, Callable[[Block, dict[str, Column]], list[Any]]] = {
    layout.TRADE: _decode_trades,
    layout.BOOK: _decode_books,
    layout.LIQUIDATION: _decode_liquidations,
    layout.TICKER: _decode_tickers,
}


def decode(block: Block, payload: bytes) -> list[Numbered]:
    """The events of a block with their ring numbers, in order.

    Raises:
        TapeDamaged: the payload is not what `encode_group` makes.
    """
    try:
        if block.kind in _JSON_TYPES:
            kind = _JSON_TYPES[block.kind]
            rows = [(number, msgspec.convert(value, kind)) for number, value in layout.parse_json(payload)]
        else:
            columns = layout.decode_columns(payload)
            numbers = _get(columns, "number", block.count)
            kind_of_rows = layout.BOOK if block.kind == layout.CHECKPOINT else block.kind
            rows = list(zip(numbers, _DECODERS[kind_of_rows](block, columns), strict=True))
    except TapeDamaged:
        raise
    except (KeyError, ValueError, TypeError, IndexError, OverflowError, msgspec.ValidationError) as error:
        raise TapeDamaged(f"a {layout.KIND_NAMES[block.kind]} block cannot be read: {error!r}") from None
    if len(rows) != block.count:
        raise TapeDamaged(f"a {layout.KIND_NAMES[block.kind]} block holds {len(rows)} events, not {block.count}")
    return rows
