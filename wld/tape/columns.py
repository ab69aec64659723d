"""Owns what a block's columns are: their directory and each one's bytes, by its type. Pure; knows no events and no files.

`data/FORMAT.md` is the specification. A journal stores integers as they lie; a sealed file spends time on size: each
column is tried in a few ways and the smallest is kept.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

from wld.errors import TapeDamaged
from wld.tape.choices import Choices
from wld.tape.forms import groups, join, pack_bits, same
from wld.tape.integers import HAS_ABSENT, MASK64, MINUS, Column, IntColumn, get_bits, get_integers, get_numbers
from wld.tape.levels import Runs, get_prices, get_sizes, pack_prices, pack_sizes, runs_of
from wld.tape.packing import Sibling, pack_integers, pack_numbers
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
_LEVELS = "levels"
"""Both of them, which are packed together."""
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
    """Every column of one block with its name; `pack` as `pack_columns` does, else integers as they lie."""
    if pack:
        return pack_columns([columns], [""], choices or Choices(), fast)[0]
    return _encoded({name: _lay(column) for name, column in columns.items()}, columns, joins=False)


def pack_columns(
    blocks: Sequence[Mapping[str, Column]],
    symbols: Sequence[str],
    choices: Choices,
    fast: frozenset[str] = frozenset(),
) -> list[Encoded]:
    """Blocks, each of a symbol: time is spent on size, less for columns in `fast` and where `choices` of blocks before
    are at hand.

    A column stands after what it is stored against, levels after their counts. The columns of one name are packed at
    once for all blocks; the bytes are those that one after the other would have.
    """
    packed: list[dict[str, _Body]] = [{} for _ in blocks]
    having: dict[str, list[int]] = {}
    for place, columns in enumerate(blocks):
        for name, column in columns.items():
            if isinstance(column, list):
                packed[place][name] = _pack_list(column)
            elif column.dtype != np.int64:
                body = varint(column.dtype.itemsize) + pack_stream(column.tobytes())
                packed[place][name] = _Body(BYTES, body, column.nbytes)
            else:
                is_level = name in LEVELS and not isinstance(columns["level_price"], list)
                if not is_level or name == "level_price":
                    having.setdefault(_LEVELS if is_level else name, []).append(place)
    for name, places in having.items():
        here, whose = [blocks[place] for place in places], [symbols[place] for place in places]
        if name == _LEVELS:
            for place, levels in zip(places, _pack_levels(here, whose, choices, fast), strict=True):
                packed[place] |= levels
        else:
            for first, last in groups(len(block[name]) for block in here):
                bodies = _pack_numbers(name, here[first:last], whose[first:last], choices, name in fast)
                for place, found in zip(places[first:last], bodies, strict=True):
                    packed[place][name] = found
    return [_encoded(bodies, columns, joins=True) for bodies, columns in zip(packed, blocks, strict=True)]


def _pack_numbers(
    name: str, blocks: Sequence[Mapping[str, Column]], symbols: Sequence[str], choices: Choices, is_fast: bool
) -> list[_Body]:
    """A column of integers that all the blocks have."""
    columns = join([np.asarray(block[name]) for block in blocks])
    sibling = None
    if near := NEAR.get(name):
        others = [_before(block, name, near) for block in blocks]
        if any(other is not None for other in others):
            beside = [
                np.asarray(block[name]) if other is None else other for block, other in zip(blocks, others, strict=True)
            ]
            sibling = Sibling(near, join(beside).values, [other is not None for other in others])
    bodies = pack_integers(columns, choices.of(name), symbols=symbols, sibling=sibling, fast=is_fast)
    return [
        _Body(PACKED, body, _PACKED_MEMORY * rows) for body, rows in zip(bodies, columns.lengths.tolist(), strict=True)
    ]


def _before(block: Mapping[str, Column], name: str, near: str) -> IntColumn | None:
    """The column `near` where it stands before the one of that name and is like it."""
    column = block.get(near)
    if column is None or isinstance(column, list) or column.dtype != np.int64 or len(column) != len(block[name]):
        return None
    return column if next(key for key in block if key in (near, name)) == near else None


def _pack_levels(
    blocks: Sequence[Mapping[str, Column]], symbols: Sequence[str], choices: Choices, fast: frozenset[str]
) -> Iterator[dict[str, _Body]]:
    """The levels of each block."""
    for first, last in groups(len(block["level_price"]) for block in blocks):
        here, whose = blocks[first:last], symbols[first:last]
        own = join([np.asarray(block["level_price"]) for block in here])
        counts = [np.concatenate([np.asarray(block[side]) for block in here]) for side in ("bid_count", "ask_count")]
        runs = runs_of(counts[0], counts[1], len(own.values))
        bodies = pack_prices(own, runs, choices.of("level_price"), whose, "level_price" in fast)
        is_fast, known = "level_size" in fast, choices.of("level_size")
        sizes = [block["level_size"] for block in here]
        sized: list[bytes | None] = [None] * len(here)
        if not any(isinstance(column, list) for column in sizes):
            sized[:] = pack_sizes(
                join([np.asarray(column) for column in sizes]), own.values, runs, known, whose, is_fast
            )
        else:
            for place, column in enumerate(sizes):
                if not isinstance(column, list):
                    levels = slice(own.bounds[place], own.bounds[place + 1])
                    sized[place] = pack_sizes(
                        join([column]), own.values[levels], runs.cut(levels.start, levels.stop), known,
                        whose[place : place + 1], is_fast,
                    )[0]  # fmt: skip
        for column, price, size in zip(sizes, bodies, sized, strict=True):
            memory = _LEVEL_MEMORY * len(column)
            found = {"level_price": _Body(PRICES, price, memory)}
            if size is not None:
                found["level_size"] = _Body(SIZES, size, memory)
            yield found


class _Body(NamedTuple):
    """A column as it is stored."""

    kind: int
    body: bytes
    memory: int
    """Bytes that decoding takes at most."""
    lying: Bytes = b""
    """What follows `body`."""


def _lay(column: Column) -> _Body:
    if isinstance(column, list):
        text = msgspec.json.encode(column)
        return _Body(TEXTS, pack_stream(text, pack=False), _TEXT_MEMORY * len(text))
    if column.dtype != np.int64:
        head = varint(column.dtype.itemsize) + varint(column.nbytes) + b"\0"
        return _Body(BYTES, head, column.nbytes, _lying(column))
    if _is_constant(column):
        return _Body(PACKED, b"\0" + same(int(column[0])), _PACKED_MEMORY * len(column))
    return _Body(RAW, b"", column.nbytes, _lying(column))


def _pack_list(column: list[Any]) -> _Body:
    wide = _pack_wide(column)
    if wide is not None:
        return _Body(WIDE, wide, 3 * _PACKED_MEMORY * len(column))
    text = msgspec.json.encode(column)
    return _Body(TEXTS, pack_stream(text), _TEXT_MEMORY * len(text))


def _encoded(bodies: Mapping[str, _Body], columns: Mapping[str, Column], *, joins: bool) -> Encoded:
    """Columns that are stored so, in their order."""
    directory: list[bytes] = [len(columns).to_bytes(2, "little")]
    parts: list[Bytes] = []
    length = memory = 0
    for name, column in columns.items():
        kind, body, takes, lying = bodies[name]
        size = len(body) + len(lying)
        checksum = zlib.crc32(body)
        if size > len(body):
            checksum = zlib.crc32(lying, checksum)
        directory += (_label(name, kind), varint(len(column)), varint(size), checksum.to_bytes(4, "little"))
        parts += (body, lying) if lying else (body,)
        length += size
        memory += takes
    head = b"".join(directory)
    whole: list[Bytes] = [b"".join((head, *parts))] if joins else [head, *parts]
    return Encoded(whole, len(head), max(memory, len(head) + length))


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


def _pack_wide(column: list[Any]) -> bytes | None:
    """Integers of up to 127 bits and None, as two columns; None where there is anything else."""
    present = [value for value in column if value is not None]
    if not all(type(value) is int and value.bit_length() < 127 for value in present):
        return None
    low = np.array([value & MASK64 for value in present], np.uint64).view(np.int64)
    high = np.array([value >> 64 for value in present], np.int64)
    there = np.array([value is not None for value in column], np.bool_)
    return b"".join([*pack_bits(join([there])), *(pack_numbers(half) for half in (low, high))])


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
    # A journal of a quiet market has some ten thousand small blocks of 20 columns: each read by hand, not by `Reader`.
    read: list[tuple[str, int, int, int, int]] = []
    try:
        at = 2
        for _ in range(payload[0] | payload[1] << 8):
            middle = at + 1 + payload[at]
            name, kind = _name(bytes(payload[at + 1 : middle])), payload[middle]
            rows, at = _number(payload, middle + 1)
            length, at = _number(payload, at)
            if rows > MAX_ROWS:
                raise TapeDamaged(f"column {name}: lengths beyond its block")
            crc = payload[at] | payload[at + 1] << 8 | payload[at + 2] << 16 | payload[at + 3] << 24
            read.append((name, kind, rows, length, crc))
            at += 4
    except (ValueError, IndexError) as error:
        raise TapeDamaged(f"a block's columns cannot be read: {error}") from None
    entries: dict[str, Entry] = {}
    for name, kind, rows, length, crc in read:
        entries[name] = Entry(kind, rows, at, length, crc)
        at += length
    if len(entries) != len(read):
        raise TapeDamaged("two columns of one name")
    return entries


def _number(payload: bytes | memoryview, at: int) -> tuple[int, int]:
    """(a varint, where it ends)."""
    value, shift = payload[at], 7
    while value >> shift:
        at += 1
        value += (payload[at] - 1) << shift
        shift += 7
        if shift > 70:
            raise TapeDamaged("a number of more than 64 bits")
    return value, at + 1


@functools.lru_cache(maxsize=256)
def _name(text: bytes) -> str:
    """A column's name; a tape has few."""
    return text.decode()


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
