"""Owns how a table of events becomes blocks and comes back equal. Pure; does not own files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from wld.errors import TapeDamaged, TapeError
from wld.events import Gap, Instrument, Repair
from wld.tape import columns as codec
from wld.tape import layout, table
from wld.tape.choices import Choices
from wld.tape.collector import Collector
from wld.tape.integers import Column
from wld.tape.layout import Block, Draft
from wld.tape.table import Numbered, Table
from wld.units import ABSENT

BLOCK_ROWS = layout.MAX_EVENTS
BLOCK_BOOKS = 8192
BLOCK_LEVELS = 1 << 18
RECORD = np.dtype([("event_ms", "<i8"), ("price", "<i8"), ("size", "<i8"), ("flags", "u1")])
"""The 25-byte trade: event time in ms, price and size 1e-8, side and flags."""
_MS = 1_000_000


def encode_group(numbered: Iterable[Numbered], *, pack: bool) -> list[Draft]:
    """The blocks of a run of events in ring order, by first ring number; the last one carries `GROUP_END`."""
    collector = Collector()
    collector.add_numbered(numbered)
    return encode_tables(collector.tables(), pack=pack)


def encode_tables(tables: Iterable[Table], *, pack: bool) -> list[Draft]:
    """As `encode_group`, of tables that each are in ring order. Packed blocks hold one symbol each."""
    drafts: list[Draft] = []
    for whole in tables:
        drafts += pack_tables(table.by_symbol(whole)) if pack else _lay(whole)
    drafts.sort(key=lambda draft: draft.first_number)
    if drafts:
        drafts[-1].flags |= layout.GROUP_END
    return drafts


def pack_tables(parts: Sequence[Table], choices: Choices | None = None, *, quick: bool = False) -> list[Draft]:
    """The blocks of tables of one kind and one symbol each, packed; `quick` tries fewer forms, `choices` carries those
    made from block to block."""
    if not parts:
        return []
    kind = parts[0].kind
    chunks = [chunk for part in parts for chunk in _chunks(part)]
    if kind in table.RARE:
        return [draft for chunk in chunks for draft in _lay(chunk)]
    choices = Choices() if choices is None else choices
    columns = [_without_absent(chunk.columns) for chunk in chunks]
    names = frozenset(name for block in columns for name in block) if quick else _FAST.get(kind, frozenset())
    encoded = codec.pack_columns(columns, [chunk.symbols[0] for chunk in chunks], choices.of(kind), names)
    drafts: list[Draft] = []
    for chunk, one in zip(chunks, encoded, strict=True):
        draft = _draft(chunk, chunk.symbols[0], one)
        drafts += [draft] if _fits(draft) else pack_tables(_halves(chunk, draft), choices, quick=quick)
    return drafts


def _chunks(whole: Table) -> Iterable[Table]:
    rows = len(whole)
    if whole.kind != layout.BOOK:
        for start in range(0, rows, BLOCK_ROWS):
            yield table.cut(whole, start, start + BLOCK_ROWS)
        return
    ends = np.cumsum(whole.ints("bid_count") + whole.ints("ask_count"))
    start = 0
    while start < rows:
        before = int(ends[start - 1]) if start else 0
        fits = int(np.searchsorted(ends, before + BLOCK_LEVELS, side="right"))
        end = min(max(fits, start + 1), start + BLOCK_BOOKS, rows)
        yield table.cut(whole, start, end)
        start = end


def _lay(whole: Table) -> list[Draft]:
    """The blocks of a table as a journal has them."""
    return [draft for chunk in _chunks(whole) for draft in _lay_chunk(chunk)]


def _lay_chunk(part: Table) -> list[Draft]:
    many = len(part.symbols) > 1 and (part.kind in table.RARE or "symbol" in part.columns)
    symbol = "" if many else part.symbols[0]
    if part.kind in table.RARE:
        draft = layout.json_draft(part.kind, table.rare_rows(part), symbol=symbol, count=len(part))
        _describe(draft, part)
    else:
        columns = _with_records(part)
        if many:
            columns["symbols"] = list(part.symbols)
        draft = _draft(part, symbol, codec.encode_columns(columns, pack=False))
    if not _fits(draft):
        return [draft for half in _halves(part, draft) for draft in _lay_chunk(half)]
    if many:
        draft.flags |= layout.MANY_SYMBOLS
    return [draft]


def _draft(part: Table, symbol: str, encoded: codec.Encoded) -> Draft:
    draft = Draft(
        part.kind, layout.COLUMNS, symbol, len(part), encoded.parts, encoded.memory, directory=encoded.directory
    )
    _describe(draft, part)
    return draft


def _describe(draft: Draft, part: Table) -> None:
    """What a header says of the events."""
    if len(draft.symbol.encode()) > 0xFFFF:
        raise TapeError(f"a symbol of {len(draft.symbol)} letters cannot be stored")
    draft.first_time, draft.last_time = part.times()
    draft.first_number, draft.last_number = int(part.numbers[0]), int(part.numbers[-1])
    if part.kind == layout.BOOK:
        draft.snapshots = int(np.count_nonzero(part.columns["is_snapshot"]))


def _fits(draft: Draft) -> bool:
    return max(draft.raw_length, draft.length) <= layout.MAX_BLOCK_BYTES


def _halves(part: Table, draft: Draft) -> list[Table]:
    """Of what is too large for one block."""
    if len(part) == 1:
        raise TapeError(f"one {layout.KIND_NAMES[part.kind]} event of {draft.raw_length} bytes cannot be stored")
    half = len(part) // 2
    return [table.cut(part, 0, half), table.cut(part, half, len(part))]


def _without_absent(columns: dict[str, Column]) -> dict[str, Column]:
    """The columns that are not absent in every row."""
    return {
        name: column
        for name, column in columns.items()
        if isinstance(column, list)
        or column.dtype != np.int64
        or not len(column)
        or column[0] != ABSENT
        or (column != ABSENT).any()
    }


def _with_records(part: Table) -> dict[str, Column]:
    """The columns as a journal has them: of trades records."""
    columns = dict(part.columns)
    if part.kind == layout.TRADE and not any(
        isinstance(columns[name], list) for name in ("event_time", "price", "size")
    ):
        record = np.empty(len(part), RECORD)
        times = part.ints("event_time")
        record["event_ms"] = times // _MS
        rest = times - record["event_ms"] * _MS
        if rest.any():
            columns["event_ns"] = rest
        for name in ("price", "size", "flags"):
            record[name] = columns.pop(name)
        del columns["event_time"]
        columns["record"] = record.view("V25")
    return columns


def stored(kind: int, only: frozenset[str]) -> frozenset[str]:
    """The columns that a block of that kind is read for, where a table shall have those in `only`."""
    wanted = only | _ALWAYS
    if kind == layout.TRADE and wanted & _IN_RECORD:
        wanted |= {"record", "event_ns"}
    if not wanted & _REQUIRED.get(kind, wanted):
        wanted |= {"number"}  # the others may be absent in every row, and so left out
    return wanted


def decode_table(block: Block, payload: bytes | codec.Parts, only: frozenset[str] | None = None) -> Table:
    """The events of a block as a table, or those columns of it that are named in `only`.

    Raises:
        TapeDamaged: the payload is not what `encode_tables` makes.
    """
    try:
        return _decode_table(block, payload, only)
    except TapeDamaged:
        raise
    except (KeyError, ValueError, TypeError, IndexError, OverflowError, msgspec.ValidationError) as error:
        raise TapeDamaged(f"a {layout.KIND_NAMES[block.kind]} block cannot be read: {error!r}") from None


_JSON_TYPES: dict[int, Any] = {
    layout.GAP: list[tuple[int, Gap]],
    layout.REPAIR: list[tuple[int, Repair]],
    layout.INSTRUMENT: list[tuple[int, Instrument]],
}
_FAST = {layout.TRADE: frozenset(("price", "size", "event_time", "flags", "number"))}
"""Columns that are read by the ten million: kept in forms that numpy takes apart quickly."""
_ALWAYS = frozenset(("symbol", "symbols", "bid_count", "ask_count"))
_IN_RECORD = frozenset(("event_time", "price", "size", "flags"))


def _decode_table(block: Block, payload: bytes | codec.Parts, only: frozenset[str] | None) -> Table:
    if block.kind in table.RARE:
        if isinstance(payload, codec.Parts):
            raise TapeDamaged("columns where JSON is expected")
        pairs = layout.parse_json(payload, _JSON_TYPES[block.kind])
        part = table.from_events(block.kind, [number for number, _ in pairs], [event for _, event in pairs])
        _check(block, part, None)
        return part
    columns = codec.decode_columns(payload, None if only is None else stored(block.kind, only))
    symbols: Sequence[str] = [block.symbol]
    if block.flags & layout.MANY_SYMBOLS:
        symbols = columns.pop("symbols")  # type: ignore[assignment]
    if "record" in columns:
        record = np.asarray(columns.pop("record")).view(RECORD)
        for name in ("price", "size", "flags"):
            columns[name] = record[name].astype(np.int64)
        columns["event_time"] = record["event_ms"] * _MS
        if "event_ns" in columns:
            columns["event_time"] += columns.pop("event_ns")
    part = Table(block.kind, tuple(symbols), columns)
    _check(block, part, only)
    return part


def _check(block: Block, part: Table, only: frozenset[str] | None) -> None:
    """Raises: TapeDamaged where columns that are whole do not make events: a tape may come from a stranger."""
    name = layout.KIND_NAMES[block.kind]
    for column, values in part.columns.items():
        if column not in codec.LEVELS and len(values) != block.count:
            raise TapeDamaged(f"a {name} block holds {len(values)} rows of {column}, not {block.count}")
    required = _REQUIRED.get(block.kind, frozenset(("number",)))
    missing = (required if only is None else required & only) - part.columns.keys()
    if missing or not block.count:
        raise TapeDamaged(f"a {name} block without {', '.join(sorted(missing)) or 'events'}")
    if "number" in part.columns:
        numbers = part.columns["number"]
        if isinstance(numbers, list) or (np.diff(numbers) <= 0).any():
            raise TapeDamaged(f"a {name} block whose ring numbers do not rise")
        if (int(numbers[0]), int(numbers[-1])) != (block.first_number, block.last_number):
            raise TapeDamaged(f"a {name} block whose header has other ring numbers")
    if block.kind in table.RARE:
        return
    if block.flags & layout.MANY_SYMBOLS:
        places = part.columns["symbol"]
        if isinstance(places, list) or int(places.min()) < 0 or int(places.max()) >= len(part.symbols):
            raise TapeDamaged(f"a {name} block with a symbol that it does not list")
        if not all(isinstance(symbol, str) for symbol in part.symbols):
            raise TapeDamaged(f"a {name} block with a symbol that is no text")
    if "bid_count" in part.columns:
        counts = [part.columns["bid_count"], part.columns["ask_count"]]
        if any(isinstance(side, list) or int(side.min()) < 0 or int(side.max()) > codec.MAX_ROWS for side in counts):
            raise TapeDamaged(f"a {name} block with impossible counts of levels")
        levels = int(sum(int(np.asarray(side).sum()) for side in counts))
        if any(len(part.columns[column]) != levels for column in codec.LEVELS if column in part.columns):
            raise TapeDamaged(f"a {name} block whose levels are not as many as counted")


_REQUIRED = {
    layout.TRADE: frozenset(("number", "flags", "price", "size", "event_time", "receive_time")),
    layout.BOOK: frozenset((
        "number", "is_snapshot", "depth", "update_id", "receive_time", "bid_count", "ask_count", "level_price",
        "level_size",
    )),
    layout.LIQUIDATION: frozenset(("number", "is_long", "size", "bankruptcy_price", "event_time", "receive_time")),
    layout.TICKER: frozenset(("number", "receive_time")),
}  # fmt: skip
_REQUIRED[layout.CHECKPOINT] = _REQUIRED[layout.BOOK]


def decode(block: Block, payload: bytes) -> list[Numbered]:
    """The events of a block with their ring numbers, in order.

    Raises:
        TapeDamaged: the payload is not what `encode_tables` makes.
    """
    return table.to_events(decode_table(block, payload))


def block_symbols(block: Block, payload: bytes) -> tuple[str, ...]:
    """The symbols of its events, without decoding them where the header says it."""
    if not block.flags & layout.MANY_SYMBOLS:
        return (block.symbol,)
    return decode_table(block, payload, frozenset(("symbols",))).symbols
