"""Owns the bytes of columns: integers, texts, ids, and the levels of book events. Pure; knows no events and no files.

`data/FORMAT.md` is the specification. A journal stores integers as they lie; a sealed file spends time on size: each
column is tried in a few ways and the smallest is kept. Integer arithmetic is modulo 2^64, so that any int64 comes back.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Mapping
from itertools import compress
from operator import ne, sub
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

from wld.errors import TapeDamaged
from wld.units import ABSENT

IntColumn = npt.NDArray[np.int64]
Column = npt.NDArray[Any] | list[Any]
"""int64 array; array of `V<n>` bytes; or a list of texts, wide integers and None."""
_Bits = npt.NDArray[np.bool_]
_U64 = npt.NDArray[np.uint64]

MAX_BYTES = 64 * 1024 * 1024
"""No block is larger, stored or decoded; a reader refuses longer lengths before it allocates."""
MAX_ROWS = MAX_BYTES // 8

RAW, TEXTS, BYTES, PACKED, WIDE, PRICES, SIZES = range(7)
"""Column types."""
HAS_ABSENT, MINUS, CHANGES, DELTA, ZIGZAG, MAGNITUDE = 1, 2, 4, 8, 16, 32
"""Flags of packed integers, in the order in which they are applied."""
_least, _most = np.minimum.reduce, np.maximum.reduce
"""Of an array that is not empty; a microsecond less than its methods, which counts where blocks are short."""
_MASK64 = 0xFFFF_FFFF_FFFF_FFFF
_TOP_BITS = 2
"""Of each value, kept in its magnitude class beside the length; with 3, classes would not fit a byte."""
_SMALL = 16
"""Bytes that no compressor makes smaller."""
_SHORT = 64
"""So few bytes are not worth trying where most of them differ."""


@functools.lru_cache(maxsize=4)
def _compressor(thorough: bool) -> zstandard.ZstdCompressor:
    # Short matches make planes of noise larger and slower; the optimal parser comes within 2 % of their entropy
    # (docs/explanation-tape.md).
    options: dict[str, int] = {"min_match": 7}
    if thorough:
        options = {
            "strategy": zstandard.STRATEGY_BTOPT, "search_log": 1, "min_match": 5, "chain_log": 13, "hash_log": 13,
        }  # fmt: skip
    parameters = zstandard.ZstdCompressionParameters.from_level(
        13 if thorough else 1, write_content_size=False, **options
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


# Integers of any length, and streams ---------------------------------------------------------------------------------


_ONE_BYTE = tuple(bytes([value]) for value in range(128))


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; the top bit says that more follow."""
    if value < 128:
        return _ONE_BYTE[value]
    if value < 16_384:
        return bytes((value & 127 | 128, value >> 7))
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed_varint(value: int) -> bytes:
    """0, -1, 1, -2, 2 … as 0, 1, 2, 3, 4 …"""
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


class _Reader:
    """Takes a payload apart; refuses lengths beyond it, and a total beyond what a block may hold."""

    def __init__(self, payload: bytes | memoryview) -> None:
        self.start(payload)
        self.room = MAX_BYTES

    def start(self, payload: bytes | memoryview) -> None:
        """Go on with other bytes, within the same room."""
        self.payload = memoryview(payload)
        self.at = 0
        self.end = len(payload)

    def byte(self) -> int:
        value = self.payload[self.at]
        self.at += 1
        return value

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise TapeDamaged("a number of more than 64 bits")

    def signed_varint(self) -> int:
        value = self.varint()
        return -(value + 1 >> 1) if value & 1 else value >> 1

    def take(self, length: int) -> memoryview:
        if length > self.end - self.at:
            raise TapeDamaged("lengths beyond the block")
        self.at += length
        return self.payload[self.at - length : self.at]

    def text(self) -> str:
        return bytes(self.take(self.byte())).decode()

    def allow(self, length: int) -> None:
        """Raises: TapeDamaged where `length` more bytes are more than a block may decode to."""
        self.room -= length
        if length < 0 or self.room < 0:
            raise TapeDamaged("columns larger than a block may be")

    def stream(self, expected: int | None = None) -> bytes | memoryview:
        length, stored = self.varint(), self.varint()
        if expected is not None and length != expected:
            raise TapeDamaged(f"a stream of {length} bytes, expected {expected}")
        self.allow(length)
        if not stored:
            return self.take(length)
        content = self.take(stored)
        # The library trusts a size written in the frame over `max_output_size`; ours carry none.
        if zstandard.frame_content_size(content) > length:
            raise TapeDamaged("a frame larger than it says")
        plain = zstandard.ZstdDecompressor().decompress(content, max_output_size=max(length, 1))
        if len(plain) != length:
            raise TapeDamaged(f"a stream of {len(plain)} bytes, expected {length}")
        return plain


_PROBE = 16 * 1024
"""Of a long stream so much tells whether the slower compressor is worth its time: five times the other's."""
_WORTH = 0.98


def _stream(content: bytes, *, pack: bool = True, thorough: bool = True) -> bytes:
    """Length, stored length or 0, and the bytes, compressed where that is smaller."""
    length = len(content)
    if pack and length > _SMALL and not (length <= _SHORT and 2 * len(set(content)) > length):
        best = _compressor(False).compress(content)
        if thorough and len(best) < length * 0.8 and _is_worth(content):  # not noise
            best = min(best, _compressor(True).compress(content), key=len)
        if len(best) < length:
            return varint(length) + varint(len(best)) + best
    return varint(length) + b"\0" + content


def _is_worth(content: bytes) -> bool:
    if len(content) < 2 * _PROBE:
        return True
    middle = (len(content) - _PROBE) // 2
    part = content[middle : middle + _PROBE]
    return len(_compressor(True).compress(part)) < _WORTH * len(_compressor(False).compress(part))


# Packed integers -----------------------------------------------------------------------------------------------------
#
# flags, then: the bits of what is present (HAS_ABSENT); the sibling's name (MINUS); then numbers: the bits of what
# differs from the row before (CHANGES); the first value (DELTA); base, step; and the offsets as byte planes or
# magnitudes.


class Choices:
    """Which forms were the smallest in the blocks before: those of a neighbour are not tried anew each time.

    Any form holds any numbers, so a choice that has become a bad one costs bytes, for a few blocks. A long column has
    choices of its own, beginning with those of another symbol; shorter ones share those of their kind whatever their
    symbol.
    """

    def __init__(self, place: str = "", known: dict[str, list[int]] | None = None, shared: str | None = None) -> None:
        self._place = place
        self._known = {} if known is None else known
        self._shared = place if shared is None else shared

    def of(self, part: object, *, shares: bool = False) -> Choices:
        """Those of a part of this: of a kind, a column, a piece of a column, or of a symbol, which `shares` others'."""
        return Choices(f"{self._place}/{part}", self._known, self._shared if shares else f"{self._shared}/{part}")

    def for_rows(self, count: int) -> Choices:
        """Those of a column of so many rows."""
        return self if count >= _MANY else Choices(self._shared, self._known)

    def recall(self) -> int | None:
        """What was chosen here lately; None: try again."""
        kept = self._known.get(self._place)
        if kept is None and self._place != self._shared:
            lent = self._known.get(self._shared + _LONG)
            if lent is not None:
                kept = self._known[self._place] = [lent[0], _RELIED]
        if kept is None or kept[1] == 0:
            return None
        kept[1] -= 1
        return kept[0]

    def note(self, choice: int) -> int:
        """Remember a choice for some blocks."""
        if self._place == self._shared:
            self._known[self._place] = [choice, _RELIED_SHORT]
        else:
            self._known[self._place] = [choice, _RELIED]
            self._known[self._shared + _LONG] = [choice, 0]
        return choice


_LONG = "/long"
"""Behind a shared place: what the last long column chose there."""
_RELIED = 15
_RELIED_SHORT = 63
"""For short columns, whose choices many symbols share: trying costs more than they do, and less is lost by a bad one."""
_MANY = 16_384
"""Rows from which trying all forms costs little beside the rows themselves."""


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
        head = _bits(there)
        column = column[there]
        minus = (minus[0], minus[1][there]) if minus else None
    is_minus = choices.of("minus").recall() if minus is not None and len(column) else 0
    best = b""
    if not is_minus:
        flags, body = _numbers(column, fast, choices.of("own"))
        best = bytes([absent | flags]) + head + body
    if minus is not None and len(column) and is_minus != 0:
        # Where the sibling is absent the difference is far off, and then this is not the smallest.
        flags, body = _numbers(_less(column, minus[1]), fast, choices.of("less"))
        name = minus[0].encode()
        other = bytes([absent | MINUS | flags]) + head + bytes([len(name)]) + name + body
        if is_minus is None:
            is_minus = choices.of("minus").note(int(len(other) < len(best)))
        best = other if is_minus else best
    return best


def _less(values: IntColumn, others: IntColumn) -> IntColumn:
    """The differences modulo 2^64."""
    return (values.view(np.uint64) - others.view(np.uint64)).view(np.int64)


def _bits(mask: _Bits) -> bytes:
    return _stream(np.packbits(mask, bitorder="little").tobytes())


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


def _numbers(values: IntColumn, fast: bool, choices: Choices) -> tuple[int, bytes]:
    """(flags, body) of the smallest form, chosen by the beginning of a long column, or as in the block before."""
    count = len(values)
    if count <= _FEW_ROWS:
        return _few_numbers(values, fast, choices)
    if int(_least(values)) == int(_most(values)):
        return 0, _same(int(values[0]))
    best = choices.recall()
    if best is None:
        best = choices.note(_smallest(values, fast))
    if best & CHANGES:
        changes = _changes(values)
        return best, _bits(changes) + _form(values[changes], best & ~CHANGES)
    return best, _form(values, best)


_FEW_ROWS = 64
"""Integers of Python's own are quicker for so many: numpy's calls cost 1 to 3 us each, whatever they do."""


def _few_numbers(column: IntColumn, fast: bool, choices: Choices) -> tuple[int, bytes]:
    """As `_numbers`, for a few: of many symbols most columns are short."""
    values: list[int] = column.tolist()
    if not values or min(values) == max(values):
        return 0, _same(values[0] if values else 0)
    best = choices.recall()
    if best is None:
        best = choices.note(_smallest(column, fast))
    if best & CHANGES:
        changed = [True, *map(ne, values[1:], values)]
        mask = _bits(np.array(changed, np.bool_))
        return best, mask + _few_form(list(compress(values, changed)), best & ~CHANGES)
    return best, _few_form(values, best)


def _few_form(values: list[int], flags: int) -> bytes:
    """As `_form`, byte by byte."""
    parts: list[bytes] = []
    if flags & DELTA:
        parts.append(signed_varint(values[0]))
        values = list(map(sub, values[1:], values))
        if values and (min(values) < -1 << 63 or max(values) >= 1 << 63):
            values = [(value + (1 << 63) & _MASK64) - (1 << 63) for value in values]
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
        parts += map(_stream, _few_magnitudes(values))
        return b"".join(parts)
    width = (max(values, default=0).bit_length() + 7) // 8
    parts.append(_ONE_BYTE[width])
    rows = b"".join([value.to_bytes(width, "little") for value in values])
    parts += [_stream(rows[i::width]) for i in range(width)]
    return b"".join(parts)


def _smallest(values: IntColumn, fast: bool) -> int:
    """The flags of the smallest form of the beginning."""
    count = len(values)
    sample = values if count <= _SAMPLE else values[:_SAMPLE]
    forms = _TRIED_FAST if fast else _TRIED
    changes = _changes(sample)
    kept = int(np.count_nonzero(changes))
    tried: dict[int, int] = {}
    for flags in forms:
        if not flags & ZIGZAG or flags & DELTA or int(sample.min()) < 0:
            tried[flags] = len(_form(sample, flags, False))
    if kept < len(sample) * (0.4 if fast else 0.9):
        few = sample[changes]
        mask = len(_bits(changes))
        for flags in (0, DELTA):
            tried[flags | CHANGES] = mask + len(_form(few, flags, False))
    return min(tried, key=tried.__getitem__)


_SAMPLE = 2048


def _changes(values: IntColumn) -> _Bits:
    changed = np.empty(len(values), np.bool_)
    changed[:1] = True
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return changed


def _form(values: IntColumn, flags: int, thorough: bool = True) -> bytes:
    """Numbers without CHANGES."""
    parts: list[bytes] = []
    if flags & DELTA:
        parts.append(signed_varint(int(values[0])))
        values = _less(values[1:], values[:-1])
    if flags & ZIGZAG:
        base = 0
        step = _common_divisor(np.abs(values).view(np.uint64))
        if step > 1:
            values = values // step
        offsets = (values << 1 ^ values >> 63).view(np.uint64)
    else:
        base = int(_least(values)) if len(values) else 0
        if flags & MAGNITUDE:
            base = min(base, 0)
        offsets = values.view(np.uint64) - np.uint64(base & _MASK64)
        step = _common_divisor(offsets)
        if step > 1:
            offsets = offsets // np.uint64(step)
    parts += [signed_varint(base), varint(step)]
    (_put_magnitudes if flags & MAGNITUDE else _put_planes)(offsets, parts, thorough)
    return b"".join(parts)


def _common_divisor(offsets: _U64) -> int:
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


def _put_planes(offsets: _U64, parts: list[bytes], thorough: bool) -> None:
    width = (int(_most(offsets)).bit_length() + 7) // 8 if len(offsets) else 0
    parts.append(bytes([width]))
    raw = offsets.view(np.uint8).reshape(-1, 8)
    parts += [_stream(raw[:, i].tobytes(), thorough=thorough) for i in range(width)]


def _put_magnitudes(offsets: _U64, parts: list[bytes], thorough: bool) -> None:
    """Classes of magnitude, which compress, apart from the low bits, which do not."""
    if len(offsets) <= _FEW_MAGNITUDES:
        parts += [_stream(content, thorough=thorough) for content in _few_magnitudes(offsets.tolist())]
        return
    low = np.maximum(_bit_lengths(offsets) - (_TOP_BITS + 1), 0)
    classes = (low << _TOP_BITS) + (offsets >> low.astype(np.uint64)).astype(np.int64)
    parts.append(_stream(classes.astype(np.uint8).tobytes(), thorough=thorough))
    parts.append(_stream(_low_bits(offsets, low), thorough=thorough))


def _low_bits(offsets: _U64, low: IntColumn) -> bytes:
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


def _bit_lengths(offsets: _U64) -> IntColumn:
    """Bits of each value; 0 for 0."""
    upper = np.frexp((offsets >> np.uint64(32)).astype(np.float64))[1].astype(np.int64)
    lower = np.frexp((offsets & np.uint64(0xFFFF_FFFF)).astype(np.float64))[1].astype(np.int64)
    return np.where(upper > 0, upper + 32, lower)


def _get_integers(reader: _Reader, rows: int, done: Mapping[str, Column]) -> IntColumn:
    """What `pack_integers` made; `done` are the columns before it."""
    flags = reader.byte()
    there = None
    count = rows
    if flags & HAS_ABSENT:
        there = _get_bits(reader, rows)
        count = int(np.count_nonzero(there))
    sibling: IntColumn | None = None
    if flags & MINUS:
        name = reader.text()
        other = done.get(name)
        if other is None or isinstance(other, list) or other.dtype != np.int64 or len(other) != rows:
            raise TapeDamaged(f"a column stands on {name}, which is not there")
        sibling = other if there is None else other[there]
    values = _get_numbers(reader, count, flags)
    if sibling is not None:
        values = (values.view(np.uint64) + sibling.view(np.uint64)).view(np.int64)
    if there is None:
        return values
    out = np.full(rows, ABSENT, np.int64)
    out[there] = values
    return out


def _get_numbers(reader: _Reader, count: int, flags: int) -> IntColumn:
    reader.allow(8 * count)
    if flags & CHANGES:
        changed = _get_bits(reader, count)
        if count and not changed[0]:
            raise TapeDamaged("a first row that changes nothing")
        few = _get_numbers(reader, int(np.count_nonzero(changed)), flags & ~CHANGES)
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
        scaled += np.arange(count + 1, dtype=np.uint64) * np.uint64(base & _MASK64)
    scaled += np.uint64(first & _MASK64)
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
        view += np.uint64(base & _MASK64)
    return values


def _get_bits(reader: _Reader, count: int) -> _Bits:
    content = reader.stream((count + 7) // 8)
    reader.allow(count)
    return np.unpackbits(np.frombuffer(content, np.uint8), count=count, bitorder="little").view(np.bool_)


def _get_planes(reader: _Reader, count: int) -> _Unsigned:
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


def _get_magnitudes(reader: _Reader, count: int) -> _Unsigned:
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


# Levels of book events -----------------------------------------------------------------------------------------------


class _Runs(NamedTuple):
    """How levels lie: each event's bids, then its asks; a run is one event's levels of one side."""

    is_bid: _Bits
    """One a level."""
    starts_run: _Bits
    """One a level: the first of its run."""


def _runs(bid_count: IntColumn, ask_count: IntColumn, levels: int) -> _Runs:
    counts = np.empty(2 * len(bid_count), np.int64)
    counts[::2], counts[1::2] = bid_count, ask_count
    if len(counts) and (int(counts.min()) < 0 or int(counts.max()) > levels):
        raise TapeDamaged("level counts and levels disagree")
    ends = np.cumsum(counts)
    if (int(ends[-1]) if len(ends) else 0) != levels:
        raise TapeDamaged("level counts and levels disagree")
    is_bid = np.repeat(np.tile(np.array([True, False]), len(bid_count)), counts)
    starts_run = np.zeros(levels, np.bool_)
    starts_run[(ends - counts)[counts > 0]] = True
    return _Runs(is_bid, starts_run)


def _pack_prices(prices: IntColumn, runs: _Runs, fast: bool, choices: Choices) -> bytes:
    """The first price of each run (bids, then asks), and the steps outwards from it."""
    parts = [
        pack_integers(prices[runs.starts_run & side], fast=fast, choices=choices.of(i))
        for i, side in enumerate((runs.is_bid, ~runs.is_bid))
    ]
    steps = np.zeros(len(prices), np.int64)
    steps[1:] = _less(prices[1:], prices[:-1])
    np.negative(steps, out=steps, where=runs.is_bid)
    parts.append(pack_integers(steps[~runs.starts_run], fast=fast, choices=choices.of("steps")))
    return b"".join(parts)


def _get_prices(reader: _Reader, rows: int, runs: _Runs) -> IntColumn:
    firsts = []
    for side in (runs.is_bid, ~runs.is_bid):
        where = np.flatnonzero(runs.starts_run & side)
        firsts.append((where, _get_integers(reader, len(where), {})))
    steps = np.zeros(rows, np.int64)
    steps[~runs.starts_run] = _get_integers(reader, rows - sum(len(where) for where, _ in firsts), {})
    np.negative(steps, out=steps, where=runs.is_bid)
    total = np.cumsum(steps)  # wraps, modulo 2^64
    base = np.zeros(rows, np.int64)
    for where, values in firsts:
        base[where] = _less(values, total[where])
    run_of = np.cumsum(runs.starts_run) - 1
    prices: IntColumn = total + base[np.flatnonzero(runs.starts_run)][run_of]
    return prices


PLAIN, KNOWN, SORTED = range(3)
"""How sizes are stored: as they stand; against the size before at the same side and price; or by price and side."""


def places(values: IntColumn) -> _U64:
    """Whole numbers from 0 on in the order of the values, as small as their steps allow."""
    base = int(values.min()) if len(values) else 0
    offsets = values.view(np.uint64) - np.uint64(base & _MASK64)
    step = _common_divisor(offsets)
    return offsets // np.uint64(step) if step > 1 else offsets


def _by_price(prices: IntColumn, is_bid: _Bits) -> tuple[IntColumn, _Bits]:
    """(order by price, asks before bids, stable; which is the first of its price and side)."""
    keys = places(prices)
    if len(keys) and int(keys.max()) < 1 << 15:  # numpy sorts 16 bits by radix, ten times as fast
        narrow: npt.NDArray[Any] = keys.astype(np.uint16) << np.uint16(1) | is_bid
        order = np.argsort(narrow, kind="stable")
        there = narrow[order]
        first = np.ones(len(order), np.bool_)
        np.not_equal(there[1:], there[:-1], out=first[1:])
    else:
        order = np.lexsort((is_bid, keys))
        first = np.ones(len(order), np.bool_)
        first[1:] = (keys[order][1:] != keys[order][:-1]) | (is_bid[order][1:] != is_bid[order][:-1])
    return order, first


def _pack_sizes(sizes: IntColumn, prices: IntColumn, runs: _Runs, fast: bool, choices: Choices) -> bytes:
    if fast or len(sizes) < _SMALL:
        return bytes([PLAIN]) + pack_integers(sizes, fast=fast, choices=choices)
    choices = choices.for_rows(len(sizes))
    mode = choices.of("mode").recall()
    if mode is None:
        # Whole runs of the beginning decide.
        few = len(sizes) if len(sizes) <= 2 * _SAMPLE else int(np.flatnonzero(runs.starts_run[: 2 * _SAMPLE])[-1])
        part = _Runs(runs.is_bid[:few], runs.starts_run[:few])
        tried = {m: len(_sizes(m, sizes[:few], prices[:few], part, Choices())) for m in (PLAIN, KNOWN, SORTED)}
        mode = choices.of("mode").note(min(tried, key=tried.__getitem__))
    return _sizes(mode, sizes, prices, runs, choices.of(mode))


def _sizes(mode: int, sizes: IntColumn, prices: IntColumn, runs: _Runs, choices: Choices) -> bytes:
    if mode == PLAIN:
        return bytes([PLAIN]) + pack_integers(sizes, choices=choices)
    order, first = _by_price(prices, runs.is_bid)
    zero = sizes == 0
    if mode == SORTED:
        by_price = sizes[order]
        return bytes([SORTED]) + _bits(zero) + pack_integers(by_price[by_price != 0], choices=choices)
    before, known = _before(sizes, zero, order, first)
    deltas = pack_integers(_less(sizes, before)[known], choices=choices.of("deltas"))
    news = pack_integers(sizes[~zero & ~known], choices=choices.of("news"))
    return bytes([KNOWN]) + _bits(zero) + deltas + news


def _before(sizes: IntColumn, zero: _Bits, order: IntColumn, first: _Bits) -> tuple[IntColumn, _Bits]:
    """(size before at the same side and price, whether there is one and neither it nor the new one is zero)."""
    known_there = np.zeros(len(order), np.bool_)
    known_there[1:] = ~first[1:] & ~zero[order][1:] & ~zero[order][:-1]
    before = np.zeros(len(order), np.int64)
    before[order[1:]] = sizes[order[:-1]]
    known = np.empty(len(order), np.bool_)
    known[order] = known_there
    return before, known


def _get_sizes(reader: _Reader, rows: int, prices: IntColumn, runs: _Runs) -> IntColumn:
    mode = reader.byte()
    if mode == PLAIN:
        return _get_integers(reader, rows, {})
    if mode not in (KNOWN, SORTED):
        raise TapeDamaged(f"sizes of an unknown kind {mode}")
    order, first = _by_price(prices, runs.is_bid)
    zero = _get_bits(reader, rows)
    sizes = np.zeros(rows, np.int64)
    if mode == SORTED:
        sizes[order[~zero[order]]] = _get_integers(reader, int(np.count_nonzero(~zero)), {})
        return sizes
    _, known = _before(sizes, zero, order, first)
    sizes[known] = _get_integers(reader, int(np.count_nonzero(known)), {})
    new = ~zero & ~known
    sizes[new] = _get_integers(reader, int(np.count_nonzero(new)), {})
    # In the order of side and price: sums that start anew wherever nothing was known.
    values = sizes[order]
    total = np.cumsum(values)
    starts = np.flatnonzero(~known[order])
    run_of = np.cumsum(~known[order]) - 1
    values = total - (total[starts] - values[starts])[run_of]
    sizes[order] = values
    return sizes


# Columns -------------------------------------------------------------------------------------------------------------

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
    runs: _Runs | None = None
    before: dict[str, Column] = {}
    for name, column in columns.items():
        lying: Bytes = b""
        if isinstance(column, list):
            wide = _pack_wide(column) if pack else None
            text = msgspec.json.encode(column) if wide is None else b""
            kind, body = (TEXTS, _stream(text, pack=pack)) if wide is None else (WIDE, wide)
            memory += _TEXT_MEMORY * len(text) if wide is None else 3 * _PACKED_MEMORY * len(column)
        elif column.dtype != np.int64:
            kind, body = BYTES, varint(column.dtype.itemsize)
            memory += column.nbytes
            if pack:
                body += _stream(column.tobytes())
            else:
                body, lying = body + varint(column.nbytes) + b"\0", _lying(column)
        elif not pack and _is_constant(column):
            kind, body = PACKED, _constant(column)
            memory += _PACKED_MEMORY * len(column)
        elif not pack:
            kind, body, lying = RAW, b"", _lying(column)
            memory += column.nbytes
        elif name in LEVELS and not isinstance(columns["level_price"], list):
            runs = runs or _runs(np.asarray(columns["bid_count"]), np.asarray(columns["ask_count"]), len(column))
            prices = np.asarray(columns["level_price"])
            kind, body = (
                (PRICES, _pack_prices(column, runs, name in fast, choices.of(name)))
                if name == "level_price"
                else (SIZES, _pack_sizes(column, prices, runs, name in fast, choices.of(name)))
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
    return b"\0" + _same(int(column[0]))


def _same(value: int) -> bytes:
    """Numbers that are all the same."""
    return signed_varint(value) + b"\1\0"


def _pack_wide(column: list[Any]) -> bytes | None:
    """Integers of up to 127 bits and None, as two columns; None where there is anything else."""
    present = [value for value in column if value is not None]
    if not all(type(value) is int and value.bit_length() < 127 for value in present):
        return None
    low = np.array([value & _MASK64 for value in present], np.uint64).view(np.int64)
    high = np.array([value >> 64 for value in present], np.int64)
    there = np.array([value is not None for value in column], np.bool_)
    parts = [_bits(there)]
    for half in (low, high):
        flags, body = _numbers(half, False, Choices())
        parts += [bytes([flags]), body]
    return b"".join(parts)


def _get_wide(reader: _Reader, rows: int) -> list[int | None]:
    there = _get_bits(reader, rows)
    count = int(np.count_nonzero(there))
    reader.allow(_PACKED_MEMORY * rows)
    low, high = (_get_numbers(reader, count, reader.byte() & ~(HAS_ABSENT | MINUS)) for _ in range(2))
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
        reader = _Reader(payload)
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
    runs: _Runs | None = None
    reader = _Reader(b"")
    for name in names:
        entry = entries[name]
        reader.start(body(name))
        if entry.kind in (PRICES, SIZES):
            reader.allow(2 * entry.rows)
            runs = runs or _runs(done["bid_count"], done["ask_count"], entry.rows)  # type: ignore[arg-type]
            if len(runs.is_bid) != entry.rows:
                raise TapeDamaged("level counts and levels disagree")
        if entry.kind == PRICES:
            assert runs is not None
            done[name] = _get_prices(reader, entry.rows, runs)
        elif entry.kind == SIZES:
            assert runs is not None
            done[name] = _get_sizes(reader, entry.rows, np.asarray(done["level_price"]), runs)
        else:
            done[name] = _GET[entry.kind](reader, entry.rows, done)
        if reader.at != reader.end or len(done[name]) != entry.rows:
            raise TapeDamaged(f"column {name}: lengths disagree")
    return done


def _get_raw(reader: _Reader, rows: int, done: Mapping[str, Column]) -> Column:
    reader.allow(8 * rows)
    return np.frombuffer(reader.take(8 * rows), "<i8")


def _get_texts(reader: _Reader, rows: int, done: Mapping[str, Column]) -> Column:
    text = reader.stream()
    reader.allow((_TEXT_MEMORY - 1) * len(text))
    return _texts.decode(text)


def _get_bytes(reader: _Reader, rows: int, done: Mapping[str, Column]) -> Column:
    width = reader.varint()
    if not width:
        raise TapeDamaged("values of no width")
    return np.frombuffer(reader.stream(rows * width), np.dtype(f"V{width}"))


_GET: dict[int, Callable[[_Reader, int, Mapping[str, Column]], Column]] = {
    RAW: _get_raw,
    TEXTS: _get_texts,
    BYTES: _get_bytes,
    PACKED: _get_integers,
    WIDE: lambda reader, rows, done: _get_wide(reader, rows),
}
