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

PAD = 16
"""Spaces before and behind a text, so that a word may be read wherever a string begins or ends."""
_QUOTE, _POINT, _MINUS = 34, 46, 45
_u8 = np.uint64
FIRST = np.array([(1 << 8 * k) - 1 for k in range(9)], _u8)
"""Keep the first k characters of a word."""
LAST = np.array([((1 << 64) - 1) ^ ((1 << 8 * (8 - k)) - 1) for k in range(9)], _u8)
"""Keep the last k."""
_TO_THE_END = np.array([64 - 8 * k for k in range(9)], _u8)
"""Shift that makes the first k characters the last, zeros before them."""
_ONES, _POINTS, _HIGH_BITS = _u8(0x0101010101010101), _u8(0x2E2E2E2E2E2E2E2E), _u8(0x8080808080808080)
_ZEROS = _u8(0x3030303030303030)
_SIXES = _u8(0x0606060606060606)
_HIGH_NIBBLES = _u8(0xF0F0F0F0F0F0F0F0)
_PAIRS, _FOURS, _EIGHT = _u8(10 * 256 + 1), _u8(100 * 65536 + 1), _u8(10_000 * 4294967296 + 1)
_MASK_PAIRS, _MASK_FOURS = _u8(0x00FF00FF00FF00FF), _u8(0x0000FFFF0000FFFF)
_1, _8, _16, _32 = _u8(1), _u8(8), _u8(16), _u8(32)
_SCALE = np.int64(SCALE)
_MOST_DIGITS = 10
"""Whole digits that the columns take; more may not fit 64 bits and go one by one."""


class Strings:
    """A text and where its strings stand. Positions count from the padding's start, `PAD` before the text's."""

    def __init__(self, text: bytes) -> None:
        """Find the strings; escapes are not understood. Raises: ValueError: the quotes do not pair."""
        padded = b" " * PAD + text + b" " * PAD
        self.padded = padded
        self.letters = np.frombuffer(padded, np.uint8)
        self.words: Words = np.ndarray((len(padded) - 7,), "<u8", padded, 0, (1,))
        """Eight characters from any place; by index, for `take` would first copy them all."""
        quotes = np.flatnonzero(self.letters == _QUOTE)
        if len(quotes) & 1:
            raise ValueError("quotes that do not pair")
        self.start: Ints = quotes[0::2]
        """Opening quotes."""
        self.end: Ints = quotes[1::2]
        """Closing quotes."""

    def decimals(self, start: Ints, end: Ints) -> tuple[Ints, Ints]:
        """(1e-8 integers, indices of what is none) of strings between those quotes, by the rules of
        `wld.units.parse_fixed64`; a string with a backslash is none."""
        n = len(start)
        none = np.zeros(0, np.int64)
        if not n:
            return none, none
        first = start + 1
        length = end - first
        head = self.words[first]
        # The lowest high bit marks the first point (a usual way to find a byte in a word); none: 8 characters before it.
        mark = head ^ _POINTS
        mark = (mark - _ONES) & ~mark & _HIGH_BITS
        mark &= ~mark + _1
        mark -= _1
        whole = np.minimum(np.bitwise_count(mark) >> 3, length)
        fraction = length - whole
        fraction -= 1  # -1 without a point
        digits = np.empty(2 * n, _u8)
        head ^= _ZEROS
        np.left_shift(head, _TO_THE_END.take(whole), out=digits[:n])
        first += whole
        first += 1
        np.bitwise_and(self.words[first] ^ _ZEROS, FIRST.take(fraction, mode="clip"), out=digits[n:])
        strange = strange_digits(digits)
        numbers = eight_digits(digits)
        value = numbers[:n] * _SCALE
        value += numbers[n:]
        odd = strange[:n] | strange[n:]
        odd |= (whole == 0) | (fraction == 0)
        odd |= (fraction > 8) | ((whole == 8) & (length > 8))
        rest = np.flatnonzero(odd)
        if not len(rest):
            return value, none
        rest = rest[self._longer(rest, start, end, value)]
        bad: list[int] = []
        for i in rest.tolist():
            try:
                value[i] = parse_fixed64(self.padded[start[i] + 1 : end[i]].decode())
            except (UnitError, UnicodeDecodeError):
                bad.append(i)
        return value, np.array(bad, np.int64)

    def _longer(self, rest: Ints, start: Ints, end: Ints, value: Ints) -> npt.NDArray[np.bool_]:
        """Convert numbers with a sign or up to ten whole digits into `value`; which of `rest` is none of these."""
        words = self.words
        first, end = start.take(rest) + 1, end.take(rest)
        negative = self.letters.take(first) == _MINUS
        first += negative
        # The point is among the first eleven characters, or there is none.
        near = self.letters[first[:, None] + np.arange(_MOST_DIGITS + 1)] == _POINT
        count = np.where(near.any(axis=1), near.argmax(axis=1), _MOST_DIGITS + 1)
        count = np.minimum(count, end - first)
        at = first + count
        fraction = end - at - 1
        low = (words[at - 8] ^ _ZEROS) & LAST.take(count, mode="clip")
        high = (words[at - 16] ^ _ZEROS) & LAST.take(count - 8, mode="clip")
        decimals = (words[at + 1] ^ _ZEROS) & FIRST.take(fraction, mode="clip")
        left: npt.NDArray[np.bool_] = strange_digits(low) | strange_digits(high) | strange_digits(decimals)
        left |= (count < 1) | (count > _MOST_DIGITS) | (fraction == 0) | (fraction > 8)
        number = (eight_digits(high) * _SCALE + eight_digits(low)) * _SCALE + eight_digits(decimals)
        np.negative(number, out=number, where=negative)
        value[rest] = number
        return left

    def whole_numbers(self, start: Ints, end: Ints) -> Ints | None:
        """Digits from `start` to before `end`, at most 16, as JSON writes a count; None where one is anything else."""
        length = end - start
        digits = self.words[np.stack([end - 8, end - 16])]
        digits ^= _ZEROS
        digits &= LAST.take(np.stack([length, length - 8]), mode="clip")
        if (
            int(length.min(initial=1)) < 1
            or int(length.max(initial=1)) > 16
            or strange_digits(digits).any()
            or ((self.letters.take(start) == _ZERO) & (length > 1)).any()
        ):
            return None
        numbers = eight_digits(digits)
        whole: Ints = numbers[0] + numbers[1] * _SCALE
        return whole


_ZERO = 48


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
    """All strings of `text` as 1e-8 integers.

    An escaped quote upsets the strings after it. Raises: ValueError: the quotes do not pair.
    """
    strings = Strings(text)
    value, bad = strings.decimals(strings.start, strings.end)
    return Quoted(strings.start - PAD, strings.end - PAD, value, bad)


def strange_digits(digits: Words) -> npt.NDArray[np.bool_]:
    """Which words hold a byte that is not 0 to 9."""
    strange: npt.NDArray[np.bool_] = ((digits | (digits + _SIXES)) & _HIGH_NIBBLES) != 0
    return strange


def eight_digits(digits: Words) -> Ints:
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
