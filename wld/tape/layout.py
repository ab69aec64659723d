"""Owns the bytes of a tape: magic, block headers, checksums, columns. Pure; does not know events or files.

`data/FORMAT.md` is the specification; this module follows it name by name.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard
from msgspec import Struct

from wld.errors import TapeDamaged
from wld.units import INT64_MAX, INT64_MIN

FORMAT_VERSION = 1
MAGIC = b"\x89WLD\r\n\x1a"
FILE_START = MAGIC + bytes([FORMAT_VERSION])
SYNC = b"\xf7WB\n"

MAX_BLOCK_BYTES = 64 * 1024 * 1024
"""No block is larger, stored or decoded; a reader refuses longer lengths before it allocates."""
MAX_ROWS = MAX_BLOCK_BYTES // 8

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

    @property
    def payload_offset(self) -> int:
        """Where the payload starts in the file."""
        return self.offset + HEADER_SIZE + self.symbol_length

    @property
    def end(self) -> int:
        """Where the next block starts."""
        return self.payload_offset + self.stored_length


class Draft(Struct):
    """A block not yet placed in a file."""

    kind: int
    codec: int
    symbol: str
    count: int
    payload: bytes
    raw_length: int
    first_time: int = 0
    last_time: int = 0
    first_number: int = 0
    last_number: int = 0
    snapshots: int = 0
    flags: int = 0


def clamp(value: int) -> int:
    """Into 64 bits: header times only bound a search, the columns are exact."""
    return max(INT64_MIN, min(INT64_MAX, value))


def encode_block(draft: Draft, offset: int) -> bytes:
    """The block as it stands at `offset`."""
    symbol = draft.symbol.encode()
    fixed = _FIXED.pack(
        SYNC, draft.kind, draft.codec, draft.flags, 0, len(symbol), 0, draft.count, draft.snapshots,
        draft.raw_length, len(draft.payload), draft.first_time, draft.last_time, draft.first_number,
        draft.last_number, offset, zlib.crc32(draft.payload), 0,
    )  # fmt: skip
    checksum = zlib.crc32(symbol, zlib.crc32(fixed[:-4]))
    return b"".join((fixed[:-4], checksum.to_bytes(4, "little"), symbol, draft.payload))


def symbol_length(fixed: bytes) -> int:
    """How many bytes of symbol follow the fixed part, so that the whole header can be read."""
    return int.from_bytes(fixed[8:10], "little")


def parse_header(header: bytes, offset: int) -> Block | None:
    """A block header with its symbol, read at `offset`; None where it is not a whole and unhurt one."""
    if len(header) < HEADER_SIZE or header[:4] != SYNC:
        return None
    (_, kind, codec, flags, zero, length, zero2, count, snapshots, raw, stored, first_time, last_time, first_number,
     last_number, own_offset, payload_crc, checksum) = _FIXED.unpack_from(header)  # fmt: skip
    symbol = header[HEADER_SIZE : HEADER_SIZE + length]
    if len(symbol) < length or zlib.crc32(symbol, zlib.crc32(header[: HEADER_SIZE - 4])) != checksum:
        return None
    if own_offset != offset or zero or zero2 or raw > MAX_BLOCK_BYTES or stored > MAX_BLOCK_BYTES:
        return None
    try:
        text = symbol.decode()
    except UnicodeDecodeError:
        return None
    return Block(
        kind, codec, flags, text, count, snapshots, raw, stored, first_time, last_time, first_number, last_number,
        offset, payload_crc, length,
    )  # fmt: skip


def payload_is_whole(block: Block, payload: bytes) -> bool:
    """Whether these are the bytes that were written."""
    return len(payload) == block.stored_length and zlib.crc32(payload) == block.payload_crc


def json_draft(kind: int, value: Any, *, symbol: str = "", count: int = 0) -> Draft:
    """A block whose payload is JSON text."""
    payload = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Draft(kind, ROWS, symbol, count, payload, len(payload))


def parse_json(payload: bytes) -> Any:
    """The value of a JSON payload. Raises: TapeDamaged."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise TapeDamaged(f"a block's JSON cannot be read: {error}") from None


# Columns ----------------------------------------------------------------------------------------------------------

INTEGERS, TEXTS, BYTES = 0, 1, 2
DELTA, PLANES, ZSTD = 1, 2, 4
_COLUMN = struct.Struct("<BBHIIqqQI")  # type, flags, width, rows, raw length, first, base, step, stored length

IntColumn = npt.NDArray[np.int64]
Column = npt.NDArray[Any] | list[Any]
"""int64 array; array of `V<n>` bytes; or a list of texts, wide integers and None."""


def integer_column(values: list[Any]) -> Column:
    """A list of integers as int64, or as it stands where one does not fit."""
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return values


def encode_columns(columns: Mapping[str, Column], *, pack: bool) -> tuple[bytes, int]:
    """(payload, raw length): every column with its name; `pack` spends time on size."""
    compressor = zstandard.ZstdCompressor(level=3, write_content_size=False) if pack else None
    parts: list[bytes] = [len(columns).to_bytes(2, "little")]
    raw_length = 2
    for name, column in columns.items():
        label = name.encode()
        body, raw = _encode_column(column, compressor)
        parts += (bytes([len(label)]), label, body)
        raw_length += 1 + len(label) + _COLUMN.size + raw
    return b"".join(parts), raw_length


def _encode_column(column: Column, compressor: zstandard.ZstdCompressor | None) -> tuple[bytes, int]:
    if isinstance(column, list):
        text = json.dumps(column, separators=(",", ":"), ensure_ascii=False).encode()
        return _column(TEXTS, 0, 0, len(column), text, compressor), len(text)
    if column.dtype != np.int64:
        width = column.dtype.itemsize
        content = column.tobytes()
        return _column(BYTES, 0, width, len(column), content, compressor), len(content)
    if compressor is None:
        return _column(INTEGERS, 0, 8, len(column), column.tobytes(), None, step=1), 8 * len(column)
    plain = _pack_integers(column, 0, compressor)
    if len(column) < 2:
        return plain, 8 * len(column)
    return min(plain, _pack_integers(column, DELTA, compressor), key=len), 8 * len(column)


def _pack_integers(column: IntColumn, flags: int, compressor: zstandard.ZstdCompressor) -> bytes:
    """Subtract the least, divide by the common divisor, keep the narrowest width, byte planes; all modulo 2**64."""
    first = 0
    steps = column
    if flags & DELTA:
        first = int(column[0])
        steps = np.diff(column)
    base = int(steps.min()) if len(steps) else 0
    offsets = steps.view(np.uint64) - np.uint64(base & 0xFFFF_FFFF_FFFF_FFFF)
    step = int(np.gcd.reduce(offsets)) if len(offsets) else 0
    if step > 1:
        offsets = offsets // np.uint64(step)
    top = int(offsets.max()) if len(offsets) else 0
    width = next(w for w in (0, 1, 2, 3, 4, 5, 6, 7, 8) if top < 1 << (8 * w))
    planes = np.ascontiguousarray(offsets.view(np.uint8).reshape(-1, 8)[:, :width].T)
    return _column(INTEGERS, flags | PLANES, width, len(column), planes.tobytes(), compressor, first, base, step)


def _column(
    kind: int, flags: int, width: int, rows: int, content: bytes, compressor: zstandard.ZstdCompressor | None,
    first: int = 0, base: int = 0, step: int = 0,
) -> bytes:  # fmt: skip
    stored = content
    if compressor is not None and len(content) > 16:
        squeezed = compressor.compress(content)
        if len(squeezed) < len(content):
            stored, flags = squeezed, flags | ZSTD
    return _COLUMN.pack(kind, flags, width, rows, len(content), first, base, step, len(stored)) + stored


def decode_columns(payload: bytes, only: frozenset[str] | None = None) -> dict[str, Column]:
    """The columns of a payload, or those of them named in `only`.

    Raises:
        TapeDamaged: the bytes are not what `encode_columns` makes.
    """
    try:
        return _decode_columns(payload, only)
    except TapeDamaged:
        raise
    except (ValueError, struct.error, IndexError, KeyError, OverflowError, RecursionError) as error:
        raise TapeDamaged(f"a block's columns cannot be read: {error}") from None
    except (zstandard.ZstdError, MemoryError) as error:
        raise TapeDamaged(f"a block's columns cannot be decompressed: {error}") from None


def _decode_columns(payload: bytes, only: frozenset[str] | None) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    at, total = 2, 0
    decompressor = zstandard.ZstdDecompressor()
    for _ in range(int.from_bytes(payload[:2], "little")):
        length = payload[at]
        name = payload[at + 1 : at + 1 + length].decode()
        at += 1 + length
        kind, flags, width, rows, raw_length, first, base, step, stored = _COLUMN.unpack_from(payload, at)
        at += _COLUMN.size
        content = payload[at : at + stored]
        at += stored
        if len(content) != stored or raw_length > MAX_BLOCK_BYTES or rows > MAX_ROWS:
            raise TapeDamaged(f"column {name}: lengths beyond its block")
        if only is not None and name not in only:
            continue
        total += max(raw_length, 8 * rows if kind == INTEGERS else 0)
        if total > MAX_BLOCK_BYTES:
            raise TapeDamaged("columns larger than a block may be")
        if flags & ZSTD:
            # The library trusts a size written in the frame over `max_output_size`.
            if zstandard.frame_content_size(content) > raw_length:
                raise TapeDamaged(f"column {name}: a frame larger than it says")
            content = decompressor.decompress(content, max_output_size=max(raw_length, 1))
        if len(content) != raw_length:
            raise TapeDamaged(f"column {name}: {len(content)} bytes, expected {raw_length}")
        if kind == TEXTS:
            values = json.loads(content)
            if not isinstance(values, list) or len(values) != rows:
                raise TapeDamaged(f"column {name}: not {rows} values")
            columns[name] = values
        elif kind == BYTES:
            columns[name] = np.frombuffer(content, np.dtype(f"V{width}"), rows)
        elif kind == INTEGERS:
            columns[name] = _unpack_integers(content, flags, width, rows, first, base, step)
        else:
            raise TapeDamaged(f"column {name}: unknown type {kind}")
    if at != len(payload):
        raise TapeDamaged("bytes after the last column")
    return columns


def _unpack_integers(content: bytes, flags: int, width: int, rows: int, first: int, base: int, step: int) -> IntColumn:
    if not flags & PLANES:
        return np.frombuffer(content, "<i8", rows)
    stored_rows = max(rows - 1, 0) if flags & DELTA else rows
    if width > 8 or len(content) != stored_rows * width:
        raise TapeDamaged("a column's width and length disagree")
    wide = np.zeros((stored_rows, 8), np.uint8)
    wide[:, :width] = np.frombuffer(content, np.uint8).reshape(width, stored_rows).T
    values = wide.reshape(-1).view(np.uint64)
    if step > 1:
        values *= np.uint64(step)
    if base:
        values += np.uint64(base & 0xFFFF_FFFF_FFFF_FFFF)
    if not flags & DELTA:
        return values.view(np.int64)
    total = np.empty(rows, np.uint64)
    if rows:
        total[0] = first & 0xFFFF_FFFF_FFFF_FFFF
        np.cumsum(values, out=total[1:])
        total[1:] += total[0]
    return total.view(np.int64)
