"""Owns the conversion of every quoted decimal in a byte string to 1e-8 integers at once: exact, or said to be bad. Pure.

No Python object is made for a number. Eight digits are one 64-bit word, read at any offset; its bytes are checked to be
digits and added up by three multiplications, the usual way of parsing digits in a register, here over whole columns.
Little-endian machines only, as every platform that wld runs on is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Raw, Struct

from wld.errors import UnitError
from wld.units import SCALE, parse_fixed64

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("wld needs a little-endian machine")

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

PAD = 32
"""Characters before a text, and as many behind it, so that a word may be read wherever a string begins or ends."""
_FRONT, _BACK = b" " * (PAD - 1), b" " * PAD
_FEW_WORDS = 2500
"""Fewer words are read as they stand: one step, each word at more than twice the cost (measured)."""
_FEW_NUMBERS = 32
"""Fewer numbers that are not short are converted one by one (measured)."""
_QUOTE, _MINUS, _ZERO = 34, 45, 48
_u8 = np.uint64


def _word(number: int) -> Words:
    """A constant; numpy takes it in half the time as an array."""
    return np.array(number, _u8)


_LAST = np.array([((1 << 64) - 1) ^ ((1 << 8 * (8 - k)) - 1) for k in range(9)], _u8)
"""Keep the last k characters of a word."""
_ONES = _word(0x0101010101010101)
_ZEROS, _SIXES, _HIGH_NIBBLES = _word(0x3030303030303030), _word(0x0606060606060606), _word(0xF0F0F0F0F0F0F0F0)
_PAIRS, _FOURS, _EIGHT = _word(10 * 256 + 1), _word(100 * 65536 + 1), _word(10_000 * 4294967296 + 1)
_MASK_PAIRS, _MASK_FOURS = _word(0x00FF00FF00FF00FF), _word(0x0000FFFF0000FFFF)
_POINT = 0x2E ^ 0x30
"""A point, as it is when characters have become digits."""
_POINTS, _A_POINT = _word(_POINT * 0x0101010101010101), _word(_POINT)
_0, _1, _3, _7, _8, _15, _16, _19, _32, _64 = (_word(n) for n in (0, 1, 3, 7, 8, 15, 16, 19, 32, 64))
_INNER, _NOT_LAST = _word(0x8080808080808000), _word(0x0080808080808080)
"""The high bits of all characters but the first, and but the last."""
_BITS_A_CHARACTER, _BITS = np.array(-8), np.array(64)
_ONE, _SCALE, _SCALE_TWICE = np.array(1), np.array(SCALE), np.array(SCALE**2)
_SCALES = np.array([*(10 ** (k + 1) for k in range(7)), 1, SCALE], np.int64)
"""What makes a number 1e-8 units: with k characters before the point in its last word; 7: eight behind; 8: no point."""
_FRACTIONS = np.array([*range(7, 0, -1), 8, -1], np.int64)
"""And how many are behind it."""
_SHIFTS = np.array([8] * 8 + [0], _u8)
"""How far the characters before it move to close the hole."""
_WORDS_BACK = np.array([[8], [16], [24]])
_POINT_MAY_BE = np.array([[0x0080808080808080], [1 << 63], [0]], _u8)
"""In which characters of a number's last word, of the one before and of the first the point may be."""
_MOST_OF_FIRST_WORD, _MOST = 921, 9.2e18


class Text:
    """A text whose numbers are read by column. Positions count from the padding's start, `PAD` before the text's."""

    def __init__(self, parts: Sequence[bytes | Raw], tail: bytes) -> None:
        """The parts, a comma behind each, and the tail."""
        padded = b",".join((_FRONT, *parts, tail + _BACK))
        self.padded = padded
        self.letters = np.frombuffer(padded, np.uint8)
        self._words: Words = np.ndarray((len(padded) - 7,), "<u8", padded, 0, (1,))

    def words_at(self, at: Ints) -> Words:
        """Eight characters from each of those places."""
        if at.size < _FEW_WORDS:
            return self._words[at]  # by index, for `take` would first copy them all
        # Of two aligned words each: numpy reads those by the thousand more than twice as fast as one that is not.
        aligned = np.frombuffer(self.padded, "<u8", len(self.padded) >> 3)
        index = at >> 3
        word: Words = aligned.take(index)
        index += 1
        behind = aligned.take(index)
        shift = (at & 7).view(_u8)
        shift <<= _3
        word >>= shift
        np.subtract(_64, shift, shift)
        behind <<= shift  # by 64 is nothing, as numpy has it
        word |= behind
        return word

    def decimals(self, first: Ints, length: Ints) -> tuple[Ints, list[int]]:
        """(1e-8 integers, indices of what is none) of the strings with those first characters, by the rules of
        `wld.units.parse_fixed64`; a string with a backslash is none."""
        value, odd = self._short(first, length)
        rest = odd.nonzero()[0]
        if len(rest) >= _FEW_NUMBERS:
            value[rest], odd = self._long(first.take(rest), length.take(rest))
            rest = rest[odd]
        bad: list[int] = []
        for i, at, characters in zip(rest.tolist(), first.take(rest).tolist(), length.take(rest).tolist(), strict=True):
            try:
                value[i] = parse_fixed64(self.padded[at : at + max(0, characters)].decode())
            except (UnitError, UnicodeDecodeError):
                bad.append(i)
        return value, bad

    def _short(self, first: Ints, length: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Numbers of at most eight characters: the point is taken out of the word. And which are none of these."""
        digits = self.words_at(first)
        digits ^= _ZEROS
        shift = length * _BITS_A_CHARACTER
        shift += _BITS
        bits = shift.view(_u8)
        digits <<= bits  # the last character is the last of the word now, zeros before the first
        # The lowest high bit marks the first point (a usual way to find a byte in a word).
        scratch = digits ^ _POINTS
        mark = scratch - _ONES
        np.invert(scratch, scratch)
        mark &= scratch
        np.left_shift(_INNER, bits, bits)
        mark &= bits
        mark &= _NOT_LAST
        np.negative(mark, scratch)
        mark &= scratch
        np.subtract(mark, _1, scratch)
        place = np.bitwise_count(scratch)  # eight for each character of the word before the point; 64: none
        place >>= 3
        index = place.astype(np.int64)
        mark >>= _7
        mark *= _A_POINT
        digits ^= mark
        scratch &= digits
        digits ^= scratch
        scratch <<= _SHIFTS.take(index)
        digits |= scratch
        odd = _strange_digits(digits)
        odd |= (length - _ONE).view(_u8) > _7
        value = _eight_digits(digits)
        value *= _SCALES.take(index)
        return value, odd

    def _long(self, first: Ints, length: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Numbers of up to 20 characters and a sign: three words, done as above. And which are none, or perhaps do not
        fit 64 bits."""
        negative = self.letters.take(first) == _MINUS
        length = length - negative
        digits = self.words_at(first + negative + length - _WORDS_BACK)
        digits ^= _ZEROS
        digits &= _LAST.take(length + 8 - _WORDS_BACK, mode="clip")
        scratch = digits ^ _POINTS
        mark = scratch - _ONES
        np.invert(scratch, scratch)
        mark &= scratch
        mark &= _POINT_MAY_BE
        np.negative(mark, scratch)
        mark &= scratch
        np.subtract(mark, _1, scratch)
        index = (np.bitwise_count(scratch[0]) >> 3).astype(np.int64)
        moves = mark != 0
        odd = moves[0] & moves[1]
        index -= moves[1]
        moves[1] |= moves[0]
        moves[2] = moves[1]
        mark >>= _7
        mark *= _A_POINT
        digits ^= mark
        shift = moves.view(np.uint8).astype(_u8)
        shift <<= _3
        over = digits[1:] >> _64 - shift[:2]
        scratch &= digits
        digits ^= scratch
        scratch <<= shift
        digits |= scratch
        digits[:2] |= over
        odd |= _strange_digits(digits).any(axis=0)
        odd |= ((length - _ONE).view(_u8) > _19) | (length - _ONE == _FRACTIONS.take(index))
        last, before, head = _eight_digits(digits)
        value = head * _SCALE_TWICE
        value += before * _SCALE
        value += last
        scale = _SCALES.take(index)
        odd |= (head > _MOST_OF_FIRST_WORD) | (value.astype(np.float64) * scale > _MOST)
        value *= scale
        np.negative(value, value, where=negative)
        return value, odd

    def whole_numbers(self, start: Ints, end: Ints, words: Words) -> Ints | None:
        """Digits from `start` to before `end`, at most 16, as JSON writes a count; None where one is anything else.

        `words`, which are overwritten: the eight characters before each end, and then the eight before these.
        """
        n = len(start)
        length = end - start
        words ^= _ZEROS
        words[:n] &= _LAST.take(length, mode="clip")
        words[n:] &= _LAST.take(length - 8, mode="clip")
        length -= _ONE
        if (
            np.count_nonzero(length.view(_u8) > _15)
            or np.count_nonzero(_strange_digits(words))
            or np.count_nonzero((self.letters.take(start) == _ZERO) & (length != 0))
        ):
            return None
        numbers = _eight_digits(words)
        whole: Ints = numbers[n:] * _SCALE
        whole += numbers[:n]
        return whole


class Quoted(Struct):
    """The strings of a text in order, each taken for a decimal number."""

    start: Ints
    """Where each opening quote stands."""
    end: Ints
    """Where its closing quote stands."""
    value: Ints
    """1e-8; undefined where bad."""
    bad: list[int]
    """Indices of what is no decimal number, not exact in 1e-8, or beyond 64 bits."""


def quoted_decimals(text: bytes) -> Quoted:
    """All strings of `text` as 1e-8 integers.

    An escaped quote upsets the strings after it. Raises: ValueError: the quotes do not pair.
    """
    whole = Text((), text)
    quotes = np.flatnonzero(whole.letters == _QUOTE)
    if len(quotes) & 1:
        raise ValueError("quotes that do not pair")
    start, end = quotes[0::2], quotes[1::2]
    value, bad = whole.decimals(start + 1, end - start - 1)
    return Quoted(start - PAD, end - PAD, value, bad)


def _strange_digits(digits: Words) -> npt.NDArray[np.bool_]:
    """Which words hold a byte that is not 0 to 9."""
    over = digits + _SIXES
    over |= digits
    over &= _HIGH_NIBBLES
    strange: npt.NDArray[np.bool_] = over != _0
    return strange


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
