"""Owns what a block's columns are: their directory and each one's bytes, by its type. Pure; knows no events and no files.

`data/FORMAT.md` is the specification. A journal stores integers as they lie; a sealed file spends time on size: each
column is tried in a few ways and the smallest is kept.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

from wld.errors import TapeDamaged
from wld.tape.choices import Choices
from wld.tape.integers import (
    HAS_ABSENT,
    MASK64,
    MINUS,
    Column,
    IntColumn,
    get_bits,
    get_integers,
    get_numbers,
    pack_bits,
    pack_integers,
    pack_numbers,
    same,
)
from wld.tape.levels import Runs, get_prices, get_sizes, pack_prices, pack_sizes, runs_of
from wld.tape.streams import MAX_BYTES, Reader, pack_stream, varint
from wld.units import ABSENT

MAX_ROWS = MAX_BYTES // 8

RAW, TEXTS, BYTES, PACKED, WIDE, PRICES, SIZES = range(7)
"""Column types."""

NEAR: Mapping[str, str] = {
    "sent_time": "event_time", "receive_time": "sent_time", "mark_price": "last_price", "index_price": "mark_price",
    "bid_price": "last_price", "ask_price": "bid_price",
}  # fmt: skip
"""Columns that may be stored as their difference from another that stands before them."""
LEVELS = ("level_price", "level_size")
_PACKED_MEMORY, _LEVEL_MEMORY, _TEXT_MEMORY = 32, 64, 8
"""Bytes that decoding takes at most: a packed row, a level, a byte of text."""


Bytes = bytes | memoryview
"""What can be written and checked as it lies in memory."""


class Encoded(NamedTuple):
    """Columns as they are stored: a directory, then the columns one after the other."""

    parts: list[Bytes]
    """The payload in pieces: a journal's columns are written from where they lie."""
    directory: int
    """Its length."""
    memory: int
    """Bytes that decoding takes at most."""

    @property
    def payload(self) -> bytes:
        """All of it."""
        return b"".join(self.parts)


def encode_columns(
    columns: Mapping[str, Column],
    *,
    pack: bool,
    fast: frozenset[str] = frozenset(),
    choices: Choices | None = None,
) -> Encoded:
    """Every column with its name. `pack` spends time on size, less for those in `fast` and where `choices` of blocks
    before are at hand; a column stands after what it is stored against, levels after their counts."""
    choices = choices or Choices()
    directory: list[bytes] = [len(columns).to_bytes(2, "little")]
    bodies: list[Bytes] = []
    length = memory = 0
    runs: Runs | None = None
    before: dict[str, Column] = {}
    for name, column in columns.items():
        lying: Bytes = b""
        if isinstance(column, list):
            wide = _pack_wide(column) if pack else None
            text = msgspec.json.encode(column) if wide is None else b""
            kind, body = (TEXTS, pack_stream(text, pack=pack)) if wide is None else (WIDE, wide)
            memory += _TEXT_MEMORY * len(text) if wide is None else 3 * _PACKED_MEMORY * len(column)
        elif column.dtype != np.int64:
            kind, body = BYTES, varint(column.dtype.itemsize)
            memory += column.nbytes
            if pack:
                body += pack_stream(column.tobytes())
            else:
                body, lying = body + varint(column.nbytes) + b"\0", _lying(column)
        elif not pack and _is_constant(column):
            kind, body = PACKED, _constant(column)
            memory += _PACKED_MEMORY * len(column)
        elif not pack:
            kind, body, lying = RAW, b"", _lying(column)
            memory += column.nbytes
        elif name in LEVELS and not isinstance(columns["level_price"], list):
            runs = runs or runs_of(np.asarray(columns["bid_count"]), np.asarray(columns["ask_count"]), len(column))
            prices = np.asarray(columns["level_price"])
            kind, body = (
                (PRICES, pack_prices(column, runs, name in fast, choices.of(name)))
                if name == "level_price"
                else (SIZES, pack_sizes(column, prices, runs, name in fast, choices.of(name)))
            )
            memory += _LEVEL_MEMORY * len(column)
        else:
            near = before.get(NEAR.get(name, ""))
            minus = None
            if near is not None and not isinstance(near, list) and len(near) == len(column):
                minus = (NEAR[name], near)
            own = choices.of(name)
            kind, body = PACKED, pack_integers(column, minus=minus, fast=name in fast, choices=own)
            memory += _PACKED_MEMORY * len(column)
        directory += (
            _label(name, kind), varint(len(column)), varint(len(body) + len(lying)),
            zlib.crc32(lying, zlib.crc32(body)).to_bytes(4, "little"),
        )  # fmt: skip
        bodies += (body, lying) if lying else (body,)
        length += len(body) + len(lying)
        before[name] = column
    head = b"".join(directory)
    parts: list[Bytes] = [b"".join((head, *bodies))] if pack else [head, *bodies]
    return Encoded(parts, len(head), max(memory, len(head) + length))


@functools.lru_cache(maxsize=256)
def _label(name: str, kind: int) -> bytes:
    """A column's name and type as the directory has them."""
    text = name.encode()
    return bytes((len(text), *text, kind))


def _lying(column: npt.NDArray[Any]) -> memoryview:
    """The bytes of an array without a copy."""
    return np.ascontiguousarray(column).view(np.uint8).data


def _is_constant(column: IntColumn) -> bool:
    """Whether a column holds one value and nothing is absent."""
    if not len(column) or column[0] != column[-1] or column[0] == ABSENT:
        return False
    return bool((column == column[0]).all())


def _constant(column: IntColumn) -> bytes:
    """Packed integers that are all the same."""
    return b"\0" + same(int(column[0]))


def _pack_wide(column: list[Any]) -> bytes | None:
    """Integers of up to 127 bits and None, as two columns; None where there is anything else."""
    present = [value for value in column if value is not None]
    if not all(type(value) is int and value.bit_length() < 127 for value in present):
        return None
    low = np.array([value & MASK64 for value in present], np.uint64).view(np.int64)
    high = np.array([value >> 64 for value in present], np.int64)
    there = np.array([value is not None for value in column], np.bool_)
    parts = [pack_bits(there)]
    for half in (low, high):
        flags, body = pack_numbers(half, False, Choices())
        parts += [bytes([flags]), body]
    return b"".join(parts)


def _get_wide(reader: Reader, rows: int) -> list[int | None]:
    there = get_bits(reader, rows)
    count = int(np.count_nonzero(there))
    reader.allow(_PACKED_MEMORY * rows)
    low, high = (get_numbers(reader, count, reader.byte() & ~(HAS_ABSENT | MINUS)) for _ in range(2))
    values = iter([h * (1 << 64) + v for v, h in zip(low.view(np.uint64).tolist(), high.tolist(), strict=True)])
    return [next(values) if is_there else None for is_there in there.tolist()]


_texts = msgspec.json.Decoder(list[str | int | None])


class Entry(NamedTuple):
    """What the directory says of a column; `start` counts from the payload's."""

    kind: int
    rows: int
    start: int
    length: int
    crc: int


class Parts(NamedTuple):
    """Some columns of a payload, read apart: their bytes by name."""

    entries: Mapping[str, Entry]
    bodies: Mapping[str, memoryview]


def parse_directory(payload: bytes | memoryview) -> dict[str, Entry]:
    """The columns of a payload that begins so; lengths may reach beyond the bytes given. Raises: TapeDamaged."""
    try:
        reader = Reader(payload)
        read: list[tuple[str, int, int, int, int]] = []
        for _ in range(int.from_bytes(reader.take(2), "little")):
            name, kind, rows, length = reader.text(), reader.byte(), reader.varint(), reader.varint()
            if rows > MAX_ROWS:
                raise TapeDamaged(f"column {name}: lengths beyond its block")
            read.append((name, kind, rows, length, int.from_bytes(reader.take(4), "little")))
    except (ValueError, IndexError) as error:
        raise TapeDamaged(f"a block's columns cannot be read: {error}") from None
    entries: dict[str, Entry] = {}
    at = reader.at
    for name, kind, rows, length, crc in read:
        entries[name] = Entry(kind, rows, at, length, crc)
        at += length
    if len(entries) != len(read):
        raise TapeDamaged("two columns of one name")
    return entries


def is_whole(payload: bytes, directory: int) -> bool:
    """Whether every column is as it was written; the directory was checked before."""
    try:
        entries = parse_directory(memoryview(payload)[:directory])
    except TapeDamaged:
        return False
    view = memoryview(payload)
    end = directory
    for entry in entries.values():
        end = entry.start + entry.length
        if zlib.crc32(view[entry.start : end]) != entry.crc:
            return False
    return end == len(payload)


def closure(entries: Mapping[str, Entry], only: frozenset[str] | None) -> list[str]:
    """The names of `only`, and of whatever those stand on, in their order; all without it."""
    if only is None:
        return list(entries)
    wanted = set(only)
    for name, other in reversed(list(NEAR.items())):
        if name in wanted:
            wanted.add(other)
    if wanted & set(LEVELS):
        wanted |= {"bid_count", "ask_count", "level_price"}
    return [name for name in entries if name in wanted]


def decode_columns(payload: bytes | Parts, only: frozenset[str] | None = None) -> dict[str, Column]:
    """The columns of a payload, or those of them named in `only`, and whatever those stand on.

    Raises:
        TapeDamaged: the bytes are not what `encode_columns` makes, or would take more than a block may.
    """
    try:
        if isinstance(payload, Parts):
            return _decode_columns(payload.entries, payload.bodies.__getitem__, list(payload.bodies))
        view = memoryview(payload)
        entries = parse_directory(view)
        last = max((entry.start + entry.length for entry in entries.values()), default=2)
        if last != len(payload):
            raise TapeDamaged("lengths beyond the block" if last > len(payload) else "bytes after the last column")
        return _decode_columns(
            entries,
            lambda name: view[entries[name].start : entries[name].start + entries[name].length],
            closure(entries, only),
        )
    except TapeDamaged:
        raise
    except (ValueError, IndexError, KeyError, OverflowError, RecursionError, TypeError) as error:
        raise TapeDamaged(f"a block's columns cannot be read: {error}") from None
    except (zstandard.ZstdError, MemoryError, msgspec.MsgspecError) as error:
        raise TapeDamaged(f"a block's columns cannot be decompressed: {error}") from None


def _decode_columns(
    entries: Mapping[str, Entry], body: Callable[[str], memoryview], names: list[str]
) -> dict[str, Column]:
    done: dict[str, Column] = {}
    runs: Runs | None = None
    reader = Reader(b"")
    for name in names:
        entry = entries[name]
        reader.start(body(name))
        if entry.kind in (PRICES, SIZES):
            reader.allow(2 * entry.rows)
            runs = runs or runs_of(done["bid_count"], done["ask_count"], entry.rows)  # type: ignore[arg-type]
            if len(runs.is_bid) != entry.rows:
                raise TapeDamaged("level counts and levels disagree")
        if entry.kind == PRICES:
            assert runs is not None
            done[name] = get_prices(reader, entry.rows, runs)
        elif entry.kind == SIZES:
            assert runs is not None
            done[name] = get_sizes(reader, entry.rows, np.asarray(done["level_price"]), runs)
        else:
            done[name] = _GET[entry.kind](reader, entry.rows, done)
        if reader.at != reader.end or len(done[name]) != entry.rows:
            raise TapeDamaged(f"column {name}: lengths disagree")
    return done


def _get_raw(reader: Reader, rows: int, done: Mapping[str, Column]) -> Column:
    reader.allow(8 * rows)
    return np.frombuffer(reader.take(8 * rows), "<i8")


def _get_texts(reader: Reader, rows: int, done: Mapping[str, Column]) -> Column:
    text = reader.stream()
    reader.allow((_TEXT_MEMORY - 1) * len(text))
    return _texts.decode(text)


def _get_bytes(reader: Reader, rows: int, done: Mapping[str, Column]) -> Column:
    width = reader.varint()
    if not width:
        raise TapeDamaged("values of no width")
    return np.frombuffer(reader.stream(rows * width), np.dtype(f"V{width}"))


_GET: dict[int, Callable[[Reader, int, Mapping[str, Column]], Column]] = {
    RAW: _get_raw,
    TEXTS: _get_texts,
    BYTES: _get_bytes,
    PACKED: get_integers,
    WIDE: lambda reader, rows, done: _get_wide(reader, rows),
}
