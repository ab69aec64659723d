"""Owns the book deltas of a read that are written exactly as the venue writes them: all of them at once. Pure.

    {"topic":"orderbook.50.X","type":"delta","ts":1,"data":{"s":"X","b":[["1","2"]],"a":[],"u":2,"seq":3},"cts":1}

Every byte is looked at, by column instead of by message: between the strings stand these words, the symbol is the
topic's, counts are digits, levels are pairs. One message that is written otherwise, and the whole read is for
`wld.bybit.columns` to decode in the usual way, with the same results.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld.bybit.decimals import FIRST, LAST, PAD, Ints, Strings, Words
from wld.bybit.levels import Places

_MOST_WORDS = 6
"""Longest topic and symbol, in words of eight characters."""
_HEAD, _TAIL = 9, 3
"""Strings of a message before its first level, and behind its last."""
_LETTER_A, _COMMA = b"a,"


def _word(text: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(text[:8], "little"))


_FOUR = FIRST[4]
_LEVELS, _NO_LEVELS, _NEXT, _LAST_LEVEL = (_word(text) for text in (b'":[[', b'":[]', b'"],[', b'"]],'))
_EXPECTED = (
    b'{"topic"', b'topic":"', b'","type"', b':"delta"', b'a","ts":', b',"data":', b'":{"s":"', b'","b":[', b'"u":',
    b',"seq":', b'},"cts":', b"\0\0\0\0\0\0\0}",
)  # fmt: skip
_WORDS = np.array([[_word(text)] for text in _EXPECTED])
_MASKS = np.array([[FIRST[len(text)] if text[0] else LAST[1]] for text in _EXPECTED])


class Deltas(Struct):
    """What stands in the messages, a row each, and where their levels are."""

    topics: list[str]
    which: Ints
    """Into `topics`."""
    update_id: Ints
    sequence: Ints
    sent_ms: Ints
    event_ms: Ints
    places: Places


def read_deltas(strings: Strings, lengths: Sequence[int]) -> Deltas | None:
    """The messages at the text's beginning, that long each; None where one is not written like that."""
    start, end, letters, words = strings.start, strings.end, strings.letters, strings.words
    bounds = np.empty(len(lengths) + 1, np.int64)
    bounds[0] = PAD
    np.cumsum(lengths, out=bounds[1:])
    bounds[1:] += PAD
    strings_before = np.searchsorted(start, bounds)
    tail = int(strings_before[-1])
    begin, stop, first, behind = bounds[:-1], bounds[1:], strings_before[:-1], strings_before[1:]
    if int((behind - first).min()) <= _HEAD + _TAIL:
        return None
    asks = np.flatnonzero(letters.take(start[:tail] + 1) == _LETTER_A)
    asks = asks[end[asks] - start[asks] == 2]
    if len(asks) != len(first):
        return None
    last = behind - _TAIL
    bid_strings, ask_strings = asks - first - _HEAD, last - asks - 1
    if int(np.minimum(bid_strings, ask_strings).min()) < 0 or ((bid_strings | ask_strings) & 1).any():
        return None

    # The head, and the counts.
    topic_end, data, symbol_end, update = end[first + 1], start[first + 5] - 1, end[first + 7], start[last]
    sequence, cts = start[last + 1], start[last + 2]
    at = np.stack([
        begin, begin + 2, topic_end, topic_end + 8, topic_end + 14, data, data + 6, symbol_end, update, sequence - 1,
        cts - 2, stop - 8,
    ])  # fmt: skip
    if ((words[at] & _MASKS) != _WORDS).any() or (start[first] != begin + 1).any():
        return None
    numbers = strings.whole_numbers(
        np.concatenate([topic_end + 22, update + 4, sequence + 6, cts + 6]),
        np.concatenate([data, sequence - 1, cts - 2, stop - 1]),
    )
    topics = _topics(strings, begin + 10, topic_end, data + 14, symbol_end)
    if numbers is None or topics is None:
        return None

    # The levels.
    counts, opened, follows = (np.empty(2 * len(first), np.int64) for _ in range(3))
    counts[0::2], counts[1::2] = bid_strings >> 1, ask_strings >> 1
    opened[0::2], opened[1::2] = end[first + _HEAD - 1], end[asks]
    follows[0::2], follows[1::2] = start[asks], update
    is_level = np.ones(tail, np.bool_)
    for place in range(_HEAD):
        is_level[first + place] = False
    for place in range(_TAIL):
        is_level[last + place] = False
    is_level[asks] = False
    level_start, level_end = start[:tail][is_level], end[:tail][is_level]
    if not _are_levels(letters, words, level_start, level_end, counts, opened, follows):
        return None
    sent, updates, sequences, event = numbers.reshape(4, -1)
    return Deltas(*topics, updates, sequences, sent, event, Places(level_start, level_end, counts, tail))


def _topics(strings: Strings, start: Ints, end: Ints, symbol: Ints, symbol_end: Ints) -> tuple[list[str], Ints] | None:
    """The topics, and which of them each message is of; None where a symbol is not its topic's."""
    names, symbols = _texts(strings, start, end), _texts(strings, symbol, symbol_end)
    if names is None or symbols is None:
        return None
    which = np.zeros(len(start), np.int64)
    firsts = which[:1]
    if (names != names[:, :1]).any():
        key = names[0]
        for word in names[1:]:
            key = (key ^ key >> _SHIFT) * _MIX ^ word
        _, firsts, which = np.unique(key, return_index=True, return_inverse=True)
    same = firsts[which]
    if (names != names[:, same]).any() or (symbols != symbols[:, same]).any():
        return None
    found: list[str] = []
    for i in firsts.tolist():
        name = strings.padded[start[i] : end[i]]
        if name.rpartition(b".")[2] != strings.padded[symbol[i] : symbol_end[i]]:
            return None
        found.append(name.decode("latin-1"))
    return found, which


_MIX, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)


def _texts(strings: Strings, start: Ints, end: Ints) -> Words | None:
    """Short texts as columns of words and a last one for the length; None where one is too long."""
    length = end - start
    count = (int(length.max()) + 7) >> 3
    if count > _MOST_WORDS:
        return None
    steps = np.arange(0, 8 * count + 1, 8)[:, None]
    words: Words = strings.words[start + steps] & FIRST.take(length - steps, mode="clip")
    words[-1] = length
    return words


def _are_levels(
    letters: npt.NDArray[np.uint8], words: Words, start: Ints, end: Ints, counts: Ints, opened: Ints, follows: Ints
) -> bool:
    """Whether each side is `[["p","s"],["p","s"]]` or `[]` between the key's end and the next key's start."""
    filled = counts > 0
    is_empty = ~filled
    brackets = words[opened] & _FOUR
    if not (brackets == np.where(filled, _LEVELS, _NO_LEVELS)).all():
        return False
    if is_empty.any() and not (
        (letters.take(opened[is_empty] + 4) == _COMMA).all() and (follows[is_empty] == opened[is_empty] + 5).all()
    ):
        return False
    if not len(start):
        return True
    ends = np.cumsum(counts)[filled]
    price_start, price_end, size_start, size_end = start[0::2], end[0::2], start[1::2], end[1::2]
    after, word = np.empty(len(size_end), np.int64), np.full(len(size_end), _NEXT)
    after[:-1] = price_start[1:]
    after[ends - 1] = follows[filled]
    word[ends - 1] = _LAST_LEVEL
    firsts = np.concatenate([[0], ends[:-1]])
    return bool(
        (price_start[firsts] == opened[filled] + 4).all()
        and (size_start - price_end == 2).all()
        and (letters.take(price_end + 1) == _COMMA).all()
        and (after - size_end == 4).all()
        and (words[size_end] & _FOUR == word).all()
    )
