"""Owns where the numbers of a text stand: of lists of levels between commas, and of strings side by side. Pure.

Every byte of a list is looked at: quotes, commas and brackets here, what is between the quotes in `wld.bybit.decimals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import chain

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld.bybit.decimals import PAD, Ints, Text

QUOTE, _OPEN, CLOSE, _COMMA = 34, 91, 93, 44
_IN_LEVEL, _BETWEEN = np.array(QUOTE << 8 | QUOTE, np.uint16), np.array(CLOSE << 8 | _OPEN, np.uint16)
"""What stands before and behind a comma, as one number: between price and size, and between two levels."""
_EIGHT = np.array(8, np.uint16)
_1, _2, _3 = (np.array(n) for n in (1, 2, 3))


class Places(Struct):
    """Where the levels' numbers stand."""

    first: Ints
    """Their first characters: all prices, then all sizes."""
    length: Ints
    counts: Ints
    """Levels of each side in turn: bids and asks of the first message, of the second, …"""


Span = tuple[Ints, Ints]
"""First characters and lengths of strings."""


_NONE = np.zeros(0, np.int64)


def find_commas(text: Text, end: int) -> tuple[Ints, npt.NDArray[np.uint16]]:
    """Where commas stand before there; and what stands before and behind each, as one number."""
    letters = text.letters
    commas: Ints = (letters[1:end] == _COMMA).nonzero()[0]  # counted from the second character on
    neighbours = letters.take(commas).astype(np.uint16)
    neighbours <<= _EIGHT
    neighbours |= letters[2:].take(commas)
    commas += _1
    return commas, neighbours


def find_levels(
    text: Text, commas: Ints, neighbours: npt.NDArray[np.uint16], before: Ints, spans: Ints, lead: int
) -> Places | None:
    """Where the numbers are, if each list is `[["p","s"],["p","s"]]` or empty; None where one is not.

    `before` each list is a comma, `lead` characters behind it the first price or what is the empty list, which the caller
    has looked at; the comma behind the list is so many `spans` of commas further on.
    """
    counts = spans >> _1
    is_empty = spans == _1
    if np.count_nonzero((spans & _1) != is_empty) or np.count_nonzero(spans < _1):
        return None
    ends = np.add.accumulate(counts)
    n = int(ends[-1])
    starts = ends - counts
    filled = counts.nonzero()[0]
    first_level, last_level = starts.take(filled), ends.take(filled)
    last_level -= _1

    # Between price and size, and behind the level.
    starts <<= _1
    index = (before - starts).repeat(counts)
    index += np.arange(1, 2 * n, 2)
    middle = commas.take(index)
    right = neighbours.take(index) == _IN_LEVEL
    index += _1
    behind = commas.take(index)
    is_between = neighbours.take(index) == _BETWEEN
    is_between[last_level] = True
    right &= is_between

    letters = text.letters
    first, length = np.empty(2 * n, np.int64), np.empty(2 * n, np.int64)
    price, size = first[:n], first[n:]
    np.add(behind[:-1], _3, price[1:])
    price[first_level] = commas.take(before.take(filled)) + lead
    quotes = price - _1
    right &= letters.take(quotes) == QUOTE
    np.subtract(middle, price, length[:n])
    length[:n] -= _1
    np.add(middle, _2, size)
    behind -= _2
    last = behind.take(last_level)
    if np.count_nonzero(letters.take(last) == CLOSE) < len(last) or np.count_nonzero(
        letters.take(last + _1) == CLOSE
    ) < len(last):
        return None
    last -= _1
    behind[last_level] = last  # the closing quotes now
    right &= letters.take(behind) == QUOTE
    np.subtract(behind, size, length[n:])
    return Places(first, length, counts) if np.count_nonzero(right) == n else None


def find_strings(text: Text, at: int, length: int) -> Span | None:
    """The strings that stand there, if it is strings side by side and nothing else."""
    if not length:
        return _NONE, _NONE
    quotes: Ints = (text.letters[at : at + length] == QUOTE).nonzero()[0]
    if len(quotes) & 1 or not len(quotes) or quotes[0] or quotes[-1] != length - 1:
        return None
    start, end = quotes[0::2], quotes[1::2]
    first = start + _1
    if np.count_nonzero(first[1:] - end[:-1] != _2):
        return None
    return first + at, end - first


def find_lists(lists: Sequence[bytes], tail: bytes, strings: int) -> tuple[Text, Places] | None:
    """The text of lists of levels that are known to be JSON, where the numbers are, and so many strings of the tail
    behind; None where they are not that."""
    found = _find_lists(lists, tail, strings)
    if found is None:
        with suppress(msgspec.DecodeError, RecursionError):
            found = _find_lists([msgspec.json.format(one, indent=-1) for one in lists], tail, strings)
    return found


class _Shapes(dict[int, bytes]):
    """What is left of a list of so many levels without what is between the quotes."""

    def __missing__(self, levels: int) -> bytes:
        shape = b"[" + b",".join([b'["",""]'] * levels) + b"]"
        if levels <= 1000:
            self[levels] = shape
        return shape


_SHAPES = _Shapes()
_CONTENT = bytes(set(range(256)) - set(b'"[],{}:\\'))
"""Whatever holds no list together."""


def _find_lists(lists: Sequence[bytes], tail: bytes, strings: int) -> tuple[Text, Places] | None:
    text = Text(lists, tail)
    quotes: Ints = (text.letters == QUOTE).nonzero()[0]
    ends = np.fromiter(chain((PAD - 1,), map(len, lists)), np.int64, len(lists) + 1)
    ends += _1
    counts = quotes.searchsorted(np.add.accumulate(ends, out=ends))
    filled = int(counts[-1])
    counts[1:] -= counts[:-1]
    counts = counts[1:] >> _2
    # All that holds the strings together is what it should be, and nothing is outside of them.
    shape = text.padded.translate(None, _CONTENT)
    if shape != b",".join((b"", *map(_SHAPES.__getitem__, counts.tolist()), b'""' * strings)):
        return None
    n = filled >> 2
    first, length = np.empty(2 * n + strings, np.int64), np.empty(2 * n + strings, np.int64)
    first[:n], first[n : 2 * n], first[2 * n :] = quotes[0:filled:4], quotes[2:filled:4], quotes[filled::2]
    first += _1
    length[:n], length[n : 2 * n], length[2 * n :] = quotes[1:filled:4], quotes[3:filled:4], quotes[filled + 1 :: 2]
    length -= first
    if np.add.reduce(length) != len(text.padded) - len(shape) - 2 * PAD + 1:
        return None
    return text, Places(first, length, counts)
