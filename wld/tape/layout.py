"""Owns the bytes of a tape: magic, block headers, checksums, columns. Pure; does not know events or files.

`data/FORMAT.md` is the specification; this module follows it name by name.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from wld.errors import TapeDamaged
from wld.tape.columns import Bytes, decode_columns, encode_columns, is_whole
from wld.tape.integers import Column
from wld.units import INT64_MAX, INT64_MIN

FORMAT_VERSION = 1
MAGIC = b"\x89WLD\r\n\x1a"
FILE_START = MAGIC + bytes([FORMAT_VERSION])
SYNC = b"\xf7WB\n"

MAX_BLOCK_BYTES = 64 * 1024 * 1024
"""No block is larger, stored or decoded; a reader refuses longer lengths before it allocates."""
MAX_EVENTS = 65_536
"""No block holds more; what a header claims bounds what a reader allocates."""

HEADER, TRADE, BOOK, LIQUIDATION, TICKER, GAP, REPAIR, INSTRUMENT, META, CHECKPOINT, INDEX, FOOTER = range(1, 13)
KIND_NAMES: Mapping[int, str] = {
    HEADER: "header", TRADE: "trade", BOOK: "book", LIQUIDATION: "liquidation", TICKER: "ticker", GAP: "gap",
    REPAIR: "repair", INSTRUMENT: "instrument", META: "meta", CHECKPOINT: "checkpoint", INDEX: "index",
    FOOTER: "footer",
}  # fmt: skip
EVENT_KINDS = frozenset((TRADE, BOOK, LIQUIDATION, TICKER, GAP, REPAIR, INSTRUMENT))

COLUMNS, ROWS = 0, 1
"""Codecs: a table of columns; a JSON array."""
GROUP_END = 1
"""Flag of the last block of a flush: what came before it is complete in ring order."""
MANY_SYMBOLS = 2
"""Flag of a block whose events are of several symbols: the payload says whose, the header's symbol is empty."""

_FIXED = struct.Struct("<4sBBBBHHIIIIqqqqQII")
HEADER_SIZE = _FIXED.size
FOOTER_SIZE = HEADER_SIZE + 8


class Block(Struct, frozen=True):
    """What a block's header says; `offset` is where it starts in its file."""

    kind: int
    codec: int
    flags: int
    symbol: str
    count: int
    snapshots: int
    """Of `count` book events, how many are snapshots; 0 for other kinds."""
    raw_length: int
    stored_length: int
    first_time: int
    """Earliest receive time, ns."""
    last_time: int
    first_number: int
    last_number: int
    offset: int
    payload_crc: int
    symbol_length: int
    directory: int = 0
    """Length of the payload's beginning that `payload_crc` covers; 0: all of it."""

    @property
    def payload_offset(self) -> int:
        """Where the payload starts in the file."""
        return self.offset + HEADER_SIZE + self.symbol_length

    @property
    def end(self) -> int:
        """Where the next block starts."""
        return self.payload_offset + self.stored_length

    @property
    def indexed(self) -> tuple[object, ...]:
        """What the index says of it; another in a block of another file, even where that would fit in."""
        return (
            self.offset, self.end, self.kind, self.symbol, self.count, self.snapshots, self.first_time,
            self.last_time, self.first_number, self.last_number,
        )  # fmt: skip


class Draft(Struct):
    """A block not yet placed in a file."""

    kind: int
    codec: int
    symbol: str
    count: int
    parts: list[Bytes]
    """The payload in pieces; the directory is in the first."""
    raw_length: int
    first_time: int = 0
    last_time: int = 0
    first_number: int = 0
    last_number: int = 0
    snapshots: int = 0
    flags: int = 0
    directory: int = 0

    @property
    def length(self) -> int:
        """Of the payload."""
        return sum(map(len, self.parts))

    @property
    def payload(self) -> bytes:
        """All of it."""
        return b"".join(self.parts)


def clamp(value: int) -> int:
    """Into 64 bits: header times only bound a search, the columns are exact."""
    return max(INT64_MIN, min(INT64_MAX, value))


def encode_header(draft: Draft, offset: int) -> bytes:
    """What stands at `offset` before the payload."""
    symbol = draft.symbol.encode()
    if draft.directory:
        checksum = zlib.crc32(memoryview(draft.parts[0])[: draft.directory])
    else:
        checksum = 0
        for part in draft.parts:
            checksum = zlib.crc32(part, checksum)
    fixed = _FIXED.pack(
        SYNC, draft.kind, draft.codec, draft.flags, 0, len(symbol), draft.directory, draft.count, draft.snapshots,
        draft.raw_length, draft.length, draft.first_time, draft.last_time, draft.first_number, draft.last_number,
        offset, checksum, 0,
    )  # fmt: skip
    own = zlib.crc32(symbol, zlib.crc32(fixed[:-4]))
    return b"".join((fixed[:-4], own.to_bytes(4, "little"), symbol))


def symbol_length(fixed: bytes) -> int:
    """How many bytes of symbol follow the fixed part, so that the whole header can be read."""
    return int.from_bytes(fixed[8:10], "little")


def parse_header(header: bytes, offset: int) -> Block | None:
    """A block header with its symbol, read at `offset`; None where it is not a whole and unhurt one."""
    if len(header) < HEADER_SIZE or header[:4] != SYNC:
        return None
    (_, kind, codec, flags, zero, length, directory, count, snapshots, raw, stored, first_time, last_time, first_number,
     last_number, own_offset, payload_crc, checksum) = _FIXED.unpack_from(header)  # fmt: skip
    symbol = header[HEADER_SIZE : HEADER_SIZE + length]
    if len(symbol) < length or zlib.crc32(symbol, zlib.crc32(header[: HEADER_SIZE - 4])) != checksum:
        return None
    if own_offset != offset or zero or count > MAX_EVENTS or raw > MAX_BLOCK_BYTES or stored > MAX_BLOCK_BYTES:
        return None
    try:
        text = symbol.decode()
    except UnicodeDecodeError:
        return None
    return Block(
        kind, codec, flags, text, count, snapshots, raw, stored, first_time, last_time, first_number, last_number,
        offset, payload_crc, length, directory,
    )  # fmt: skip


def payload_is_whole(block: Block, payload: bytes) -> bool:
    """Whether these are the bytes that were written."""
    if len(payload) != block.stored_length:
        return False
    if not block.directory:
        return zlib.crc32(payload) == block.payload_crc
    return head_is_whole(block, payload) and is_whole(payload, block.directory)


def head_is_whole(block: Block, payload: bytes) -> bool:
    """Whether a payload's directory is as it was written; the columns after it carry their own checksums."""
    return zlib.crc32(memoryview(payload)[: block.directory]) == block.payload_crc


def json_draft(kind: int, value: Any, *, symbol: str = "", count: int = 0) -> Draft:
    """A block whose payload is JSON text."""
    payload = msgspec.json.encode(value)
    return Draft(kind, ROWS, symbol, count, [payload], len(payload))


def parse_json(payload: bytes, kind: Any = Any) -> Any:
    """The value of a JSON payload, as `kind`. Raises: TapeDamaged."""
    try:
        return msgspec.json.decode(payload, type=kind)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise TapeDamaged(f"a block's JSON cannot be read: {error}") from None


INDEX_COLUMNS = ("offset", "kind", "count", "snapshots", "first_time", "last_time", "first_number", "last_number")


def index_draft(drafts: Sequence[Draft], offsets: Sequence[int]) -> Draft:
    """The index of blocks and where they stand."""
    symbols = tuple(dict.fromkeys(draft.symbol for draft in drafts))
    place = {symbol: i for i, symbol in enumerate(symbols)}
    columns: dict[str, Column] = {"offset": np.array(offsets, np.int64)}
    for name in INDEX_COLUMNS[1:]:
        columns[name] = np.array([getattr(draft, name) for draft in drafts], np.int64)
    columns["symbol"] = np.array([place[draft.symbol] for draft in drafts], np.int64)
    columns["symbols"] = list(symbols)
    encoded = encode_columns(columns, pack=True, fast=frozenset(columns))
    return Draft(INDEX, COLUMNS, "", len(offsets), encoded.parts, encoded.memory, directory=encoded.directory)


def parse_index(index: Block, payload: bytes) -> list[Block]:
    """The blocks that an index lists; lengths, codec and checksum are not known from it. Raises: TapeDamaged."""
    columns = decode_columns(payload)
    try:
        values = [np.asarray(columns[name], np.int64).tolist() for name in INDEX_COLUMNS]
        names = [columns["symbols"][i] for i in np.asarray(columns["symbol"], np.int64).tolist()]
        lengths = [len(name.encode()) for name in names]
        rows = list(zip(*values, names, lengths, strict=True))
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise TapeDamaged(f"an index cannot be read: {error!r}") from None
    ends = [row[0] for row in rows[1:]] + [index.offset]
    blocks: list[Block] = []
    for row, end in zip(rows, ends, strict=True):
        offset, kind, count, snapshots, first_time, last_time, first_number, last_number, name, length = row
        stored = end - offset - HEADER_SIZE - length
        if offset < len(FILE_START) or not 0 <= stored <= MAX_BLOCK_BYTES or not 0 <= count <= MAX_EVENTS:
            raise TapeDamaged("an index that is not of this file")
        blocks.append(
            Block(
                kind, 0, 0, name, count, snapshots, 0, stored, first_time, last_time, first_number, last_number,
                offset, 0, length,
            )
        )  # fmt: skip
    return blocks
