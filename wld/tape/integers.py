"""Owns integers as packed columns of the tape: their forms, which is the smallest, and back. Pure; knows no events.

Flags, then: the bits of what is present (HAS_ABSENT); the sibling's name (MINUS); then numbers: the bits of what
differs from the row before (CHANGES); the first value (DELTA); base, step; and the offsets as byte planes or
magnitudes. Integer arithmetic is modulo 2^64, so that any int64 comes back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import compress
from operator import ne, sub
from typing import Any

import numpy as np
import numpy.typing as npt

from wld.errors import TapeDamaged
from wld.tape.choices import Choices
from wld.tape.streams import ONE_BYTE, Reader, pack_stream, signed_varint, varint
from wld.units import ABSENT

IntColumn = npt.NDArray[np.int64]
Column = npt.NDArray[Any] | list[Any]
"""int64 array; array of `V<n>` bytes; or a list of texts, wide integers and None."""
Bits = npt.NDArray[np.bool_]
U64 = npt.NDArray[np.uint64]

HAS_ABSENT, MINUS, CHANGES, DELTA, ZIGZAG, MAGNITUDE = 1, 2, 4, 8, 16, 32
"""Flags, in the order in which they are applied."""
_least, _most = np.minimum.reduce, np.maximum.reduce
"""Of an array that is not empty; a microsecond less than its methods, which counts where blocks are short."""
MASK64 = 0xFFFF_FFFF_FFFF_FFFF
_TOP_BITS = 2
"""Of each value, kept in its magnitude class beside the length; with 3, classes would not fit a byte."""


def pack_integers(
    column: IntColumn,
    *,
    minus: tuple[str, IntColumn] | None = None,
    fast: bool = False,
    choices: Choices | None = None,
) -> bytes:
    """The smallest of some forms. `minus` names a sibling column that may be near; `fast` keeps to forms that are
    read back quickly."""
    choices = Choices() if choices is None else choices.for_rows(len(column))
    head = b""
    absent = 0
    if len(column) and int(_least(column)) == ABSENT:
        there = column != ABSENT
        absent = HAS_ABSENT
        head = pack_bits(there)
        column = column[there]
        minus = (minus[0], minus[1][there]) if minus else None
    is_minus = choices.of("minus").recall() if minus is not None and len(column) else 0
    best = b""
    if not is_minus:
        flags, body = pack_numbers(column, fast, choices.of("own"))
        best = bytes([absent | flags]) + head + body
    if minus is not None and len(column) and is_minus != 0:
        # Where the sibling is absent the difference is far off, and then this is not the smallest.
        flags, body = pack_numbers(less(column, minus[1]), fast, choices.of("less"))
        name = minus[0].encode()
        other = bytes([absent | MINUS | flags]) + head + bytes([len(name)]) + name + body
        if is_minus is None:
            is_minus = choices.of("minus").note(int(len(other) < len(best)))
        best = other if is_minus else best
    return best


def same(value: int) -> bytes:
    """Numbers that are all the same."""
    return signed_varint(value) + b"\1\0"


def less(values: IntColumn, others: IntColumn) -> IntColumn:
    """The differences modulo 2^64."""
    return (values.view(np.uint64) - others.view(np.uint64)).view(np.int64)


def pack_bits(mask: Bits) -> bytes:
    return pack_stream(np.packbits(mask, bitorder="little").tobytes())


_TRIED = (
    0,
    DELTA,
    DELTA | ZIGZAG,
    MAGNITUDE,
    DELTA | MAGNITUDE,
    DELTA | MAGNITUDE | ZIGZAG,
    ZIGZAG,
    MAGNITUDE | ZIGZAG,
)
_TRIED_FAST = (0, DELTA)


def pack_numbers(values: IntColumn, fast: bool, choices: Choices) -> tuple[int, bytes]:
    """(flags, body) of the smallest form, chosen by the beginning of a long column, or as in the block before."""
    count = len(values)
    if count <= _FEW_ROWS:
        return _few_numbers(values, fast, choices)
    if int(_least(values)) == int(_most(values)):
        return 0, same(int(values[0]))
    best = choices.recall()
    if best is None:
        best = choices.note(_smallest(values, fast))
    if best & CHANGES:
        changes = _changes(values)
        return best, pack_bits(changes) + _form(values[changes], best & ~CHANGES)
    return best, _form(values, best)


_FEW_ROWS = 64
"""Integers of Python's own are quicker for so many: numpy's calls cost 1 to 3 us each, whatever they do."""


def _few_numbers(column: IntColumn, fast: bool, choices: Choices) -> tuple[int, bytes]:
    """As `pack_numbers`, for a few: of many symbols most columns are short."""
    values: list[int] = column.tolist()
    if not values or min(values) == max(values):
        return 0, same(values[0] if values else 0)
    best = choices.recall()
    if best is None:
        best = choices.note(_smallest(column, fast))
    if best & CHANGES:
        changed = [True, *map(ne, values[1:], values)]
        mask = pack_bits(np.array(changed, np.bool_))
        return best, mask + _few_form(list(compress(values, changed)), best & ~CHANGES)
    return best, _few_form(values, best)


def _few_form(values: list[int], flags: int) -> bytes:
    """As `_form`, byte by byte."""
    parts: list[bytes] = []
    if flags & DELTA:
        parts.append(signed_varint(values[0]))
        values = list(map(sub, values[1:], values))
        if values and (min(values) < -1 << 63 or max(values) >= 1 << 63):
            values = [(value + (1 << 63) & MASK64) - (1 << 63) for value in values]
    base = 0
    if not flags & ZIGZAG:
        base = min(values, default=0)
        if flags & MAGNITUDE:
            base = min(base, 0)
        if base:
            values = [value - base for value in values]
    step = math.gcd(*values)
    if not 1 < step < 1 << 63:
        step = 1
    if step > 1:
        values = [value // step for value in values]
    if flags & ZIGZAG:
        values = [value << 1 ^ value >> 63 for value in values]
    parts += [signed_varint(base), varint(step)]
    if flags & MAGNITUDE:
        parts += map(pack_stream, _few_magnitudes(values))
        return b"".join(parts)
    width = (max(values, default=0).bit_length() + 7) // 8
    parts.append(ONE_BYTE[width])
    rows = b"".join([value.to_bytes(width, "little") for value in values])
    parts += [pack_stream(rows[i::width]) for i in range(width)]
    return b"".join(parts)


def _smallest(values: IntColumn, fast: bool) -> int:
    """The flags of the smallest form of the beginning."""
    count = len(values)
    sample = values if count <= SAMPLE else values[:SAMPLE]
    forms = _TRIED_FAST if fast else _TRIED
    changes = _changes(sample)
    kept = int(np.count_nonzero(changes))
    tried: dict[int, int] = {}
    for flags in forms:
        if not flags & ZIGZAG or flags & DELTA or int(sample.min()) < 0:
            tried[flags] = len(_form(sample, flags, False))
    if kept < len(sample) * (0.4 if fast else 0.9):
        few = sample[changes]
        mask = len(pack_bits(changes))
        for flags in (0, DELTA):
            tried[flags | CHANGES] = mask + len(_form(few, flags, False))
    return min(tried, key=tried.__getitem__)


SAMPLE = 2048


def _changes(values: IntColumn) -> Bits:
    changed = np.empty(len(values), np.bool_)
    changed[:1] = True
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return changed


def _form(values: IntColumn, flags: int, thorough: bool = True) -> bytes:
    """Numbers without CHANGES."""
    parts: list[bytes] = []
    if flags & DELTA:
        parts.append(signed_varint(int(values[0])))
        values = less(values[1:], values[:-1])
    if flags & ZIGZAG:
        base = 0
        step = common_divisor(np.abs(values).view(np.uint64))
        if step > 1:
            values = values // step
        offsets = (values << 1 ^ values >> 63).view(np.uint64)
    else:
        base = int(_least(values)) if len(values) else 0
        if flags & MAGNITUDE:
            base = min(base, 0)
        offsets = values.view(np.uint64) - np.uint64(base & MASK64)
        step = common_divisor(offsets)
        if step > 1:
            offsets = offsets // np.uint64(step)
    parts += [signed_varint(base), varint(step)]
    (_put_magnitudes if flags & MAGNITUDE else _put_planes)(offsets, parts, thorough)
    return b"".join(parts)


def common_divisor(offsets: U64) -> int:
    """The largest that divides all of them, below 2^63; 1 where they are all zero."""
    rest = offsets[:_FEW]
    step = 0
    while True:
        step = math.gcd(step, int(np.gcd.reduce(rest))) if len(rest) else step
        if step == 1 or step >= 1 << 63:
            return 1
        if len(offsets) <= _FEW:
            return step or 1
        # Divided and multiplied again: numpy's remainder takes five times as long.
        whole = offsets // np.uint64(step) * np.uint64(step) if step else np.uint64(0)
        rest = offsets[offsets != whole][:_FEW]
        if not len(rest):
            return step or 1


_FEW = 256
_FEW_MAGNITUDES = 128
"""More are quicker in numpy (measured)."""


def _put_planes(offsets: U64, parts: list[bytes], thorough: bool) -> None:
    width = (int(_most(offsets)).bit_length() + 7) // 8 if len(offsets) else 0
    parts.append(bytes([width]))
    raw = offsets.view(np.uint8).reshape(-1, 8)
    parts += [pack_stream(raw[:, i].tobytes(), thorough=thorough) for i in range(width)]


def _put_magnitudes(offsets: U64, parts: list[bytes], thorough: bool) -> None:
    """Classes of magnitude, which compress, apart from the low bits, which do not."""
    if len(offsets) <= _FEW_MAGNITUDES:
        parts += [pack_stream(content, thorough=thorough) for content in _few_magnitudes(offsets.tolist())]
        return
    low = np.maximum(_bit_lengths(offsets) - (_TOP_BITS + 1), 0)
    classes = (low << _TOP_BITS) + (offsets >> low.astype(np.uint64)).astype(np.int64)
    parts.append(pack_stream(classes.astype(np.uint8).tobytes(), thorough=thorough))
    parts.append(pack_stream(_low_bits(offsets, low), thorough=thorough))


def _low_bits(offsets: U64, low: IntColumn) -> bytes:
    """So many low bits of each, those with the same number of them side by side, each such group in whole bytes."""
    counts = np.bincount(low, minlength=1)
    order = np.argsort(low.astype(np.uint8), kind="stable")
    groups: list[bytes] = []
    at = int(counts[0])
    for length in range(1, len(counts)):
        count = int(counts[length])
        if count:
            group = offsets[order[at : at + count]]
            at += count
            bits = np.unpackbits(group.view(np.uint8).reshape(-1, 8), axis=1, count=length, bitorder="little")
            groups.append(np.packbits(bits.reshape(-1), bitorder="little").tobytes())
    return b"".join(groups)


def _few_magnitudes(values: list[int]) -> tuple[bytes, bytes]:
    """(classes, low bits) of a few numbers: integers of any length are quicker there than numpy's calls."""
    classes = bytearray()
    groups: dict[int, list[int]] = {}
    for value in values:
        length = max(value.bit_length() - (_TOP_BITS + 1), 0)
        classes.append((length << _TOP_BITS) + (value >> length))
        if length:
            groups.setdefault(length, []).append(value)
    parts: list[bytes] = []
    for length in sorted(groups):
        whole, shift, mask = 0, 0, (1 << length) - 1
        for value in groups[length]:
            whole |= (value & mask) << shift
            shift += length
        parts.append(whole.to_bytes((shift + 7) // 8, "little"))
    return bytes(classes), b"".join(parts)


def _bit_lengths(offsets: U64) -> IntColumn:
    """Bits of each value; 0 for 0."""
    upper = np.frexp((offsets >> np.uint64(32)).astype(np.float64))[1].astype(np.int64)
    lower = np.frexp((offsets & np.uint64(0xFFFF_FFFF)).astype(np.float64))[1].astype(np.int64)
    return np.where(upper > 0, upper + 32, lower)


def get_integers(reader: Reader, rows: int, done: Mapping[str, Column]) -> IntColumn:
    """What `pack_integers` made; `done` are the columns before it."""
    flags = reader.byte()
    there = None
    count = rows
    if flags & HAS_ABSENT:
        there = get_bits(reader, rows)
        count = int(np.count_nonzero(there))
    sibling: IntColumn | None = None
    if flags & MINUS:
        name = reader.text()
        other = done.get(name)
        if other is None or isinstance(other, list) or other.dtype != np.int64 or len(other) != rows:
            raise TapeDamaged(f"a column stands on {name}, which is not there")
        sibling = other if there is None else other[there]
    values = get_numbers(reader, count, flags)
    if sibling is not None:
        values = (values.view(np.uint64) + sibling.view(np.uint64)).view(np.int64)
    if there is None:
        return values
    out = np.full(rows, ABSENT, np.int64)
    out[there] = values
    return out


def get_numbers(reader: Reader, count: int, flags: int) -> IntColumn:
    reader.allow(8 * count)
    if flags & CHANGES:
        changed = get_bits(reader, count)
        if count and not changed[0]:
            raise TapeDamaged("a first row that changes nothing")
        few = get_numbers(reader, int(np.count_nonzero(changed)), flags & ~CHANGES)
        spread: IntColumn = few[np.cumsum(changed) - 1]
        return spread
    first = 0
    if flags & DELTA:
        first = reader.signed_varint()
        count -= 1
        if count < 0:
            raise TapeDamaged("a difference without rows")
    base, step = reader.signed_varint(), reader.varint()
    offsets = (_get_magnitudes if flags & MAGNITUDE else _get_planes)(reader, count)
    if flags & ZIGZAG:
        wide = offsets.astype(np.uint64)
        offsets = (wide >> np.uint64(1)) ^ (~(wide & np.uint64(1)) + np.uint64(1))
    if not flags & DELTA:
        return _scaled(offsets, step, base)
    total = np.empty(count + 1, np.int64)
    total[0] = 0
    if step and not base % step and offsets.itemsize <= 2 and abs(base // step) < 1 << 30:
        np.cumsum(np.add(offsets, np.int32(base // step), dtype=np.int32), dtype=np.int64, out=total[1:])
        base = 0
    else:
        np.cumsum(offsets, dtype=np.uint64, out=total[1:].view(np.uint64))
    scaled = total.view(np.uint64)
    if step != 1:
        scaled *= np.uint64(step)
    if base:
        scaled += np.arange(count + 1, dtype=np.uint64) * np.uint64(base & MASK64)
    scaled += np.uint64(first & MASK64)
    return total


_Unsigned = npt.NDArray[np.unsignedinteger[Any]]


def _scaled(offsets: _Unsigned, step: int, base: int) -> IntColumn:
    """offsets * step + base modulo 2^64."""
    if offsets.itemsize < 8 and step < 1 << 63:
        values = offsets.astype(np.int64) if step == 1 else np.multiply(offsets, np.int64(step), dtype=np.int64)
    else:
        values = (offsets.astype(np.uint64) * np.uint64(step)).view(np.int64)
    if base:
        view = values.view(np.uint64)
        view += np.uint64(base & MASK64)
    return values


def get_bits(reader: Reader, count: int) -> Bits:
    content = reader.stream((count + 7) // 8)
    reader.allow(count)
    return np.unpackbits(np.frombuffer(content, np.uint8), count=count, bitorder="little").view(np.bool_)


def _get_planes(reader: Reader, count: int) -> _Unsigned:
    """As narrow as they are: numpy works on narrow numbers faster."""
    width = reader.byte()
    if width > 8:
        raise TapeDamaged("numbers wider than 8 bytes")
    planes = [np.frombuffer(reader.stream(count), np.uint8) for _ in range(width)]
    if not planes:
        return np.zeros(count, np.uint8)
    if width == 1:
        return planes[0]
    kind: type[np.unsignedinteger[Any]] = np.uint16 if width == 2 else np.uint32 if width <= 4 else np.uint64
    narrow: _Unsigned = planes[-1].astype(kind)
    for plane in reversed(planes[:-1]):
        np.left_shift(narrow, 8, out=narrow)
        np.bitwise_or(narrow, plane, out=narrow)
    return narrow


def _get_magnitudes(reader: Reader, count: int) -> _Unsigned:
    classes = np.frombuffer(reader.stream(count), np.uint8)
    low = np.maximum((classes >> _TOP_BITS).astype(np.int16) - 1, 0).astype(np.uint8)
    counts = np.bincount(low, minlength=1)
    if len(counts) > 64 - _TOP_BITS:
        raise TapeDamaged("numbers wider than 64 bits")
    bits = np.frombuffer(reader.stream(), np.uint8)
    values = (classes - (low << np.uint8(_TOP_BITS))).astype(np.uint64) << low.astype(np.uint64)
    order = np.argsort(low, kind="stable")
    row, at = int(counts[0]), 0
    for length in range(1, len(counts)):
        n = int(counts[length])
        if n:
            size = (n * length + 7) // 8
            part = bits[at : at + size]
            at += size
            if len(part) != size:
                raise TapeDamaged("too few bits")
            grid = np.unpackbits(part, count=n * length, bitorder="little").reshape(n, length)
            packed = np.zeros((n, 8), np.uint8)
            packed[:, : (length + 7) // 8] = np.packbits(grid, axis=1, bitorder="little")
            values[order[row : row + n]] |= packed.view(np.uint64).reshape(-1)
            row += n
    if at != len(bits):
        raise TapeDamaged("too many bits")
    return values
