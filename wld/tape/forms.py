"""Owns the forms in which integers are packed, made for many columns at a time. Pure; does not choose between them.

A call of numpy costs 1 to 3 us whatever it does, and a block of one symbol out of hundreds has columns of some hundred
rows: so the columns of all symbols lie one after the other, a call does its work for all of them, and only their bytes
are taken apart. Integer arithmetic is modulo 2^64, so that any int64 comes back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wld.tape.integers import CHANGES, DELTA, MAGNITUDE, TOP_BITS, U64, ZIGZAG, Bits, IntColumn, less
from wld.tape.streams import pack_stream, signed_varint, varint

AT_ONCE = 32_768
"""Rows worked on at a time: more would not stay in a processor's nearer caches."""
ALONE = 4096
"""Rows of a column for which what numpy does by column, row by row, costs more than its calls for one column."""


class Segments(NamedTuple):
    """Columns that lie one after the other."""

    values: npt.NDArray[Any]
    bounds: IntColumn
    """Where each begins, and behind them the end of the last."""

    @property
    def lengths(self) -> IntColumn:
        """Rows of each."""
        return self.bounds[1:] - self.bounds[:-1]

    def some(self, places: Sequence[int]) -> Segments:
        """Those at the given places, which rise."""
        if len(places) == len(self.bounds) - 1:
            return self
        if len(places) == 1:
            start, end = self.bounds[places[0]], self.bounds[places[0] + 1]
            return Segments(self.values[start:end], np.array([0, end - start]))
        lengths = self.lengths
        chosen = np.zeros(len(lengths), np.bool_)
        chosen[places] = True
        return joined(self.values[chosen.repeat(lengths)], lengths[chosen])

    def where(self, mask: Bits) -> Segments:
        """Of each the rows that are true in the mask."""
        if len(self.bounds) == 2:
            values = self.values[mask]
            return Segments(values, np.array([0, len(values)]))
        ends = np.zeros(len(mask) + 1, np.int64)
        mask.cumsum(out=ends[1:])
        return Segments(self.values[mask], ends[self.bounds])

    def beginnings(self, rows: int) -> Segments:
        """Of each at most so many rows from its first on."""
        lengths = self.lengths
        if int(lengths.max()) <= rows:
            return self
        kept = np.arange(len(self.values)) - self.bounds[:-1].repeat(lengths) < rows
        return joined(self.values[kept], np.minimum(lengths, rows))

    def each(self, function: np.ufunc) -> npt.NDArray[Any]:
        """What reduces every column to one number; 0 for one without rows."""
        if len(self.bounds) == 2:
            return np.array([function.reduce(self.values) if len(self.values) else 0], self.values.dtype)
        filled = self.bounds[1:] > self.bounds[:-1]
        if filled.all():
            numbers: npt.NDArray[Any] = function.reduceat(self.values, self.bounds[:-1])
            return numbers
        numbers = np.zeros(len(filled), self.values.dtype)
        if filled.any():
            numbers[filled] = function.reduceat(self.values, self.bounds[:-1][filled])
        return numbers

    def spread(self, numbers: npt.NDArray[Any]) -> Any:
        """One number a column as one a row."""
        return numbers[0] if len(numbers) == 1 else numbers.repeat(self.lengths)


def groups(lengths: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(first, behind the last) of the columns of these lengths that are worked on together: a long one goes alone."""
    first = rows = place = 0
    for place, length in enumerate(lengths, 1):
        if rows and (length >= ALONE or rows + length > AT_ONCE):
            yield first, place - 1
            first, rows = place - 1, 0
        rows += length
        if length >= ALONE:
            yield first, place
            first, rows = place, 0
    if first < place:
        yield first, place


def joined(values: npt.NDArray[Any], lengths: IntColumn | Sequence[int]) -> Segments:
    """Columns of these lengths, one after the other."""
    bounds = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return Segments(values, bounds)


def join(columns: Sequence[npt.NDArray[Any]]) -> Segments:
    """These columns as ones that lie one after the other."""
    values = columns[0] if len(columns) == 1 else np.concatenate(columns)
    return joined(values, [len(column) for column in columns])


def pack_bits(masks: Segments) -> list[bytes]:
    """The bits of each, as a stream."""
    if len(masks.bounds) == 2:
        return [pack_stream(np.packbits(masks.values, bitorder="little").tobytes())]
    content, bounds = _bits(masks.values, masks.lengths)
    return [pack_stream(content[start:end]) for start, end in itertools.pairwise(bounds)]


def _bits(mask: Bits, lengths: IntColumn) -> tuple[bytes, list[int]]:
    """(the bits of masks, each from a whole byte on; where each begins, and the end)."""
    lengths_there = (lengths + 7) >> 3
    bounds = joined(mask, lengths_there).bounds
    padded = np.zeros(8 * int(bounds[-1]), np.bool_)
    padded[_moved(lengths, 8 * lengths_there)] = mask
    return np.packbits(padded, bitorder="little").tobytes(), bounds.tolist()


def _moved(lengths: IntColumn, room: IntColumn) -> IntColumn:
    """Where the rows of columns stand once each of them has room for so many."""
    spare = room - lengths
    places: IntColumn = (spare.cumsum() - spare).repeat(lengths)
    places += np.arange(len(places))
    return places


def changes(columns: Segments) -> Bits:
    """Which rows differ from the one before; the first of each does."""
    changed = np.empty(len(columns.values), np.bool_)
    np.not_equal(columns.values[1:], columns.values[:-1], out=changed[1:])
    changed[columns.bounds[:-1][columns.bounds[:-1] < len(changed)]] = True
    return changed


class Offsets(NamedTuple):
    """Numbers of some columns on their way into a form: what is written before the offsets, and those."""

    heads: list[bytes]
    columns: Segments


def pack_form(columns: Segments, flags: int) -> list[bytes]:
    """Numbers in the form of these flags; no column is empty."""
    heads, columns = offsets_of(stepped(columns, flags), flags)
    parts = [[head] for head in heads]
    (_put_magnitudes if flags & MAGNITUDE else _put_planes)(columns, parts)
    return list(map(b"".join, parts))


def stepped(columns: Segments, flags: int, heads: list[bytes] | None = None) -> Offsets:
    """What CHANGES and DELTA leave of numbers; `heads` is what CHANGES wrote before."""
    count = len(columns.bounds) - 1
    heads = heads or [b""] * count
    if flags & CHANGES:
        changed = changes(columns)
        heads = pack_bits(Segments(changed, columns.bounds))
        columns = columns.where(changed)
    if flags & DELTA:
        firsts = columns.values[columns.bounds[:-1]].tolist()
        heads = [head + signed_varint(first) for head, first in zip(heads, firsts, strict=True)]
        steps = less(columns.values[1:], columns.values[:-1])
        if count > 1:
            steps = np.delete(steps, columns.bounds[1:-1] - 1)
        columns = Segments(steps, columns.bounds - np.arange(count + 1))
    return Offsets(heads, columns)


def offsets_of(stepped: Offsets, flags: int) -> Offsets:
    """The offsets that magnitudes or planes are made of."""
    heads, columns = stepped
    if flags & ZIGZAG:
        bases = [0] * len(heads)
        divisors = _divisors(columns._replace(values=np.abs(columns.values).view(np.uint64)))
        values = columns.values
        if int(divisors.max()) > 1:
            values = values // columns.spread(divisors.view(np.int64))
        columns = columns._replace(values=(values << 1 ^ values >> 63).view(np.uint64))
    else:
        least = columns.each(np.minimum)
        if flags & MAGNITUDE:
            least = np.minimum(least, 0)
        bases = least.tolist()
        columns = columns._replace(values=columns.values.view(np.uint64) - columns.spread(least.view(np.uint64)))
        divisors = _divisors(columns)
        if int(divisors.max()) > 1:
            columns = columns._replace(values=columns.values // columns.spread(divisors))
    numbers = zip(heads, bases, divisors.tolist(), strict=True)
    return Offsets([head + signed_varint(base) + varint(divisor) for head, base, divisor in numbers], columns)


def sizes(offsets: Offsets, flags: int, most: Sequence[int]) -> list[int]:
    """Bytes of the whole form, compressed quickly, low bits not at all; for one that takes more than `most`, any number
    above that."""
    heads, columns = offsets
    found = list(map(len, heads))
    bounds = columns.bounds.tolist()
    if not flags & MAGNITUDE:
        widths, planes = _planes(columns)
        for place, width in enumerate(widths):
            found[place] += len(varint(width))
            for plane in planes[:width]:
                if found[place] > most[place]:
                    break
                found[place] += len(pack_stream(plane[bounds[place] : bounds[place + 1]], thorough=False))
        return found
    low, classes = _classes(columns)
    bits = columns._replace(values=low).each(np.add).tolist()
    for place, (start, end) in enumerate(itertools.pairwise(bounds)):
        found[place] += bits[place] // 8 + _LEAST_STREAM  # noise
        if found[place] <= most[place]:
            found[place] += len(pack_stream(classes[start:end], thorough=False))
    return found


_LEAST_STREAM = 2
"""Bytes that a stream takes at least."""


def _divisors(offsets: Segments) -> U64:
    """The largest that divides all numbers of a column, below 2^63; 1 where they are all zero."""
    if len(offsets.bounds) == 2:
        return np.array([common_divisor(offsets.values)], np.uint64)
    divisors: U64 = offsets.each(np.gcd)
    divisors[(divisors == 0) | (divisors >= 1 << 63)] = 1
    return divisors


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


def _put_planes(offsets: Segments, parts: list[list[bytes]]) -> None:
    widths, planes = _planes(offsets)
    bounds = offsets.bounds.tolist()
    for part, width, start, end in zip(parts, widths, bounds, bounds[1:], strict=False):
        part.append(varint(width))
        for plane in planes[:width]:
            part.append(pack_stream(plane[start:end]))


def _planes(offsets: Segments) -> tuple[list[int], list[bytes]]:
    """(bytes a row of each column; the lowest byte of every row, then the next)."""
    widths = [(most.bit_length() + 7) // 8 for most in offsets.each(np.maximum).tolist()]
    raw = offsets.values.view(np.uint8).reshape(-1, 8)
    return widths, [raw[:, i].tobytes() for i in range(max(widths))]


def _put_magnitudes(offsets: Segments, parts: list[list[bytes]]) -> None:
    """Classes of magnitude, which compress, apart from the low bits, which do not."""
    low, classes = _classes(offsets)
    bounds = offsets.bounds.tolist()
    for part, start, end, rest in zip(parts, bounds, bounds[1:], _low_bits(offsets, low), strict=False):
        part.append(pack_stream(classes[start:end]))
        part.append(pack_stream(rest))


def _classes(offsets: Segments) -> tuple[IntColumn, bytes]:
    """(how many low bits each row has; the classes of magnitude)."""
    low = np.maximum(_bit_lengths(offsets.values) - (TOP_BITS + 1), 0)
    classes = (low << TOP_BITS) + (offsets.values >> low.view(np.uint64)).view(np.int64)
    return low, classes.astype(np.uint8).tobytes()


def _low_bits(offsets: Segments, low: IntColumn) -> list[bytes]:
    """So many low bits of each row, those with the same number of them side by side, each such group in whole bytes."""
    columns = len(offsets.bounds) - 1
    if columns == 1:
        keys: npt.NDArray[Any] = low.astype(np.uint8)
    else:
        keys = low * columns
        keys += np.arange(columns).repeat(offsets.lengths)
        keys = keys.astype(np.uint16) if 64 * columns <= 1 << 16 else keys
    order = keys.argsort(kind="stable")  # 8 and 16 bits by radix
    counts = np.bincount(keys)
    groups = counts.nonzero()[0]
    counts = counts[groups]
    without = int(np.searchsorted(groups, columns))
    order = order[int(counts[:without].sum()) :]
    groups, counts = groups[without:], counts[without:]
    room = (counts + 7) >> 3  # eight rows fill as many bytes as a row has bits
    lengths = groups // columns
    values = offsets.values[order]
    stands = counts
    if columns > 1:
        stands = 8 * room
        padded = np.zeros(int(stands.sum()), np.uint64)
        padded[_moved(counts, stands)] = values
        values = padded
    contents: list[bytes] = []
    at = 0
    for length, rows in enumerate(np.bincount(lengths, stands).tolist()):
        if rows:
            start, at = at, at + int(rows)
            contents.append(_side_by_side(values[start:at], length))
    content = b"".join(contents)
    starts = (room * lengths).cumsum() - room * lengths
    parts: list[list[bytes]] = [[] for _ in range(columns)]
    for column, start, end in zip(
        (groups % columns).tolist(), starts.tolist(), (starts + ((counts * lengths + 7) >> 3)).tolist(), strict=True
    ):
        parts[column].append(content[start:end])
    return list(map(b"".join, parts))


def _side_by_side(values: U64, length: int) -> bytes:
    """The `length` low bits of each; eight rows fill that many bytes, and so do the last, however few."""
    words = values & np.uint64((1 << length) - 1)
    if spare := -len(words) % 8:
        words = np.append(words, np.zeros(spare, np.uint64))
    width, left = length, 8
    while left > 1 and 2 * width <= 64:
        words = words[::2] | words[1::2] << np.uint64(width)
        width, left = 2 * width, left // 2
    if left > 1:
        narrow = words.reshape(-1, left)
        words = np.zeros((len(narrow), (length + 7) // 8), np.uint64)
        for place in range(left):
            word, shift = divmod(place * width, 64)
            words[:, word] |= narrow[:, place] << np.uint64(shift)
            if shift + width > 64:
                words[:, word + 1] |= narrow[:, place] >> np.uint64(64 - shift)
    return words.view(np.uint8).reshape((len(values) + 7) // 8, -1)[:, :length].tobytes()


def _bit_lengths(offsets: U64) -> IntColumn:
    """Bits of each value; 0 for 0."""
    if len(offsets) and int(np.maximum.reduce(offsets)) < 1 << 53:  # a double is exact
        lengths: IntColumn = np.maximum((offsets.astype(np.float64).view(np.int64) >> 52) - 1022, 0)
        return lengths
    upper = np.frexp((offsets >> np.uint64(32)).astype(np.float64))[1].astype(np.int64)
    lower = np.frexp((offsets & np.uint64(0xFFFF_FFFF)).astype(np.float64))[1].astype(np.int64)
    return np.where(upper > 0, upper + 32, lower)


def same(value: int) -> bytes:
    """Numbers that are all the same."""
    return signed_varint(value) + b"\1\0"
