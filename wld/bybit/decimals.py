"""Owns the conversion of every quoted decimal in a byte string to 1e-8 integers at once: exact, or said to be bad. Pure.

No Python object is made for a number. Eight digits are one 64-bit word, read at any offset; its bytes are checked to be
digits and added up by three multiplications, the usual way of parsing digits in a register, here over whole columns.
Little-endian machines only, as every platform that wld runs on is.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld.errors import UnitError
from wld.units import SCALE, parse_fixed64

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("wld needs a little-endian machine")

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_PAD = b" " * 16
_QUOTE, _POINT, _MINUS = 34, 46, 45
_u8 = np.uint64
_FIRST = np.array([(1 << 8 * k) - 1 for k in range(9)], _u8)
"""Keep the first k characters of a word."""
_LAST = np.array([((1 << 64) - 1) ^ ((1 << 8 * (8 - k)) - 1) for k in range(9)], _u8)
"""Keep the last k."""
_ZEROS = _u8(0x3030303030303030)
_SIXES = _u8(0x0606060606060606)
_HIGH_NIBBLES = _u8(0xF0F0F0F0F0F0F0F0)
_PAIRS, _FOURS, _EIGHT = _u8(10 * 256 + 1), _u8(100 * 65536 + 1), _u8(10_000 * 4294967296 + 1)
_MASK_PAIRS, _MASK_FOURS = _u8(0x00FF00FF00FF00FF), _u8(0x0000FFFF0000FFFF)
_8, _16, _32 = _u8(8), _u8(16), _u8(32)
_SCALE = np.int64(SCALE)
_MOST_DIGITS = 10
"""Whole digits that the columns take; more may not fit 64 bits and go one by one."""


class Quoted(Struct):
    """The strings of a text in order, each taken for a decimal number."""

    start: Ints
    """Where each opening quote stands."""
    end: Ints
    """Where its closing quote stands."""
    value: Ints
    """1e-8; undefined where bad."""
    bad: Ints
    """Indices of what is no decimal number, not exact in 1e-8, or beyond 64 bits."""


def quoted_decimals(text: bytes) -> Quoted:
    """All strings of `text` as 1e-8 integers, by the rules of `wld.units.parse_fixed64`.

    Escapes are not understood: a string with a backslash is bad, and one with an escaped quote upsets those after it.

    Raises:
        ValueError: the quotes do not pair.
    """
    padded = _PAD + text + _PAD
    letters = np.frombuffer(padded, np.uint8)
    marks = np.flatnonzero((letters == _QUOTE) | (letters == _POINT))
    quotes = np.flatnonzero(letters.take(marks) == _QUOTE)
    if len(quotes) & 1:
        raise ValueError("quotes that do not pair")
    first, last = quotes[0::2], quotes[1::2]
    n = len(first)
    if not n:
        none = np.zeros(0, np.int64)
        return Quoted(none, none, none, none)
    start, end = marks.take(first), marks.take(last)
    point = marks.take(first + 1)  # the closing quote where there is no point
    whole = point - start - 1
    fraction = end - point - 1  # -1 without a point
    words: Words = np.ndarray((len(padded) - 7,), "<u8", padded, 0, (1,))
    digits = np.empty(2 * n, _u8)
    # By index: `take` would first copy the overlapping words of the whole text.
    np.bitwise_and(words[point - 8] ^ _ZEROS, _LAST.take(whole, mode="clip"), out=digits[:n])
    np.bitwise_and(words[point + 1] ^ _ZEROS, _FIRST.take(fraction, mode="clip"), out=digits[n:])
    strange = (digits | (digits + _SIXES)) & _HIGH_NIBBLES
    numbers = _eight_digits(digits)
    value = numbers[:n] * _SCALE
    value += numbers[n:]
    odd = (strange[:n] | strange[n:]) != 0
    odd |= (whole - 1).view(_u8) > 7
    odd |= (fraction == 0) | (fraction > 8)
    odd |= last - first > 2
    if not odd.any():
        return Quoted(start - 16, end - 16, value, np.zeros(0, np.int64))
    rest = np.flatnonzero(odd)
    rest = rest[_longer(rest, letters, words, start, point, whole, fraction, last - first > 2, strange[n:], value)]
    bad: list[int] = []
    for i in rest.tolist():
        try:
            value[i] = parse_fixed64(padded[start[i] + 1 : end[i]].decode())
        except (UnitError, UnicodeDecodeError):
            bad.append(i)
    return Quoted(start - 16, end - 16, value, np.array(bad, np.int64))


def _eight_digits(digits: Words) -> Ints:
    """The number that eight bytes 0 to 9 spell, the first in memory the most significant; overwrites its argument."""
    digits *= _PAIRS
    digits >>= _8
    digits &= _MASK_PAIRS
    digits *= _FOURS
    digits >>= _16
    digits &= _MASK_FOURS
    digits *= _EIGHT
    digits >>= _32
    return digits.view(np.int64)


def _longer(
    rest: Ints, letters: npt.NDArray[np.uint8], words: Words, start: Ints, point: Ints, whole: Ints, fraction: Ints,
    many_points: npt.NDArray[np.bool_], strange_fraction: Words, value: Ints,
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Convert numbers with a sign or up to ten whole digits into `value`; which of `rest` is none of these."""
    negative = letters.take(start.take(rest) + 1) == _MINUS
    count = whole.take(rest) - negative
    at = point.take(rest)
    low = (words[at - 8] ^ _ZEROS) & _LAST.take(count, mode="clip")
    high = (words[at - 16] ^ _ZEROS) & _LAST.take(count - 8, mode="clip")
    decimals = (words[at + 1] ^ _ZEROS) & _FIRST.take(fraction.take(rest), mode="clip")
    left: npt.NDArray[np.bool_] = ((low | (low + _SIXES) | high | (high + _SIXES)) & _HIGH_NIBBLES) != 0
    left |= (count < 1) | (count > _MOST_DIGITS) | (strange_fraction.take(rest) != 0)
    left |= (fraction.take(rest) == 0) | (fraction.take(rest) > 8) | many_points.take(rest)
    number = (_eight_digits(high) * _SCALE + _eight_digits(low)) * _SCALE + _eight_digits(decimals)
    np.negative(number, out=number, where=negative)
    value[rest] = number
    return left
