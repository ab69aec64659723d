"""Owns what packed integers of the tape are, and reads them back. Pure; knows no events, does not write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from wld.errors import TapeDamaged
from wld.tape.streams import Reader
from wld.units import ABSENT

IntColumn = npt.NDArray[np.int64]
Column = npt.NDArray[Any] | list[Any]
"""int64 array; array of `V<n>` bytes; or a list of texts, wide integers and None."""
Bits = npt.NDArray[np.bool_]
U64 = npt.NDArray[np.uint64]

HAS_ABSENT, MINUS, CHANGES, DELTA, ZIGZAG, MAGNITUDE = 1, 2, 4, 8, 16, 32
"""Flags, in the order in which they are applied."""
MASK64 = 0xFFFF_FFFF_FFFF_FFFF
TOP_BITS = 2
"""Of each value, kept in its magnitude class beside the length; with 3, classes would not fit a byte."""


def less(values: IntColumn, others: IntColumn) -> IntColumn:
    """The differences modulo 2^64."""
    return (values.view(np.uint64) - others.view(np.uint64)).view(np.int64)


def get_integers(reader: Reader, rows: int, done: Mapping[str, Column]) -> IntColumn:
    """What `wld.tape.packing` made; `done` are the columns before it."""
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
    low = np.maximum((classes >> TOP_BITS).astype(np.int16) - 1, 0).astype(np.uint8)
    counts = np.bincount(low, minlength=1)
    if len(counts) > 64 - TOP_BITS:
        raise TapeDamaged("numbers wider than 64 bits")
    bits = np.frombuffer(reader.stream(), np.uint8)
    values = (classes - (low << np.uint8(TOP_BITS))).astype(np.uint64) << low.astype(np.uint64)
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
