"""Owns the book messages of a read that are written exactly as the venue writes them: all of them at once. Pure.

    {"topic":"orderbook.50.X","type":"delta","ts":1,"data":{"s":"X","b":[["1","2"]],"a":[],"u":2,"seq":3},"cts":1}

Every byte is looked at, by column instead of by message. What is written like that has its commas in known places:
before and behind them stand these words (of a snapshot, that word), the symbol is the topic's, counts are digits, levels
are pairs. One message that is written otherwise, and the whole read is for `wld.bybit.columns` to decode in the usual way,
with the same results.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld.bybit.decimals import PAD, Ints, Text, Words
from wld.bybit.places import CLOSE, QUOTE, Places, find_commas, find_levels, find_strings

_HEAD = 48
"""Characters of a message that tell its topic."""
_BEFORE_TOPIC = b'{"topic":"'
_SYMBOL_WORDS = 3
"""Longest symbol and the quote behind it, in words of eight characters."""


class Deltas(Struct):
    """What stands in the messages, a row each, and where their levels are."""

    topics: list[str]
    which: Ints
    """Into `topics`."""
    update_id: Ints
    sequence: Ints
    sent_ms: Ints
    event_ms: Ints
    is_snapshot: npt.NDArray[np.bool_]
    places: Places


def _words(*texts: bytes) -> Words:
    return np.array([[int.from_bytes(text, "little")] for text in texts], np.uint64)


# A message's commas: behind the topic, the type, `ts`, `s`, the bids, the asks, `u`, `seq`, and the message.
_TOPIC, _TYPE, _TS, _S, _BIDS, _ASKS, _U, _SEQ, _END = range(9)
_TEXTS = (
    # What stands where, counted from a comma on.
    (_S, 0, b',"b":['), (_BIDS, 0, b',"a":['), (_TOPIC, 7, b':"delta"'), (_TYPE, -2, b'a","ts":'), (_TOPIC, -1, b'","type"'),
    (_TS, 0, b',"data":'), (_TS, 6, b'":{"s":"'), (_ASKS, 0, b',"u":'), (_U, 0, b',"seq":'), (_SEQ, -1, b'},"cts":'),
    (_END, -8, b"\0\0\0\0\0\0\0}"),
)  # fmt: skip
_LISTS, _TYPES = slice(0, 2), slice(2, 4)
_COUNTS = ((_TYPE, 6, _TS, 0), (_ASKS, 5, _U, 0), (_U, 7, _SEQ, -1), (_SEQ, 7, _END, -1))
"""Where counts begin and end: `ts`, `u`, `seq`, `cts`."""
_ROWS = (
    *((comma, by) for comma, by, _ in _TEXTS), *((end, by - 8) for *_, end, by in _COUNTS),
    *((end, by - 16) for *_, end, by in _COUNTS), *((_S, -8 * (k + 1)) for k in range(_SYMBOL_WORDS)),
)  # fmt: skip
_FIXED, _NUMBERS = len(_TEXTS), len(_TEXTS) + 2 * len(_COUNTS)


def _column(values: Sequence[int]) -> Ints:
    return np.array(values, np.int64)[:, None]


_COMMA, _BY = np.array([comma for comma, _ in _ROWS]), _column([by for _, by in _ROWS])
_STARTS, _STARTS_BY = np.array([start for start, *_ in _COUNTS]), _column([by for _, by, *_ in _COUNTS])
_STOPS, _STOPS_BY = np.array([end for *_, end, _ in _COUNTS]), _column([by for *_, by in _COUNTS])
_1_TO_3 = _column([1, 2, 3])
_EXPECTED = _words(*(text for *_, text in _TEXTS))
_MASKS = _words(*(bytes(255 * (letter > 0) for letter in text) for *_, text in _TEXTS))
_MASKS[_LISTS] = (1 << 64) - 1
_FILLED, _EMPTY = (np.array(int.from_bytes(text, "little") << 48, np.uint64) for text in (b'["', b"],"))
"""And behind the key of a list."""
_SNAPSHOT = _words(b':"snapsh', b't","ts":') ^ _EXPECTED[_TYPES]
_OF_DELTA, _OF_SNAPSHOT, _OF_DATA = np.array(len(',"type":"delta"')), len(',"type":"snapshot"'), len(',"data":{"s":"')
_LETTER_O = ord("o")
_0, _1 = np.array(0, np.uint64), np.array(1)
_CLOSING = np.array(CLOSE << 8 | QUOTE, np.uint16)


def read_deltas(messages: Sequence[bytes], tail: bytes, strings: int) -> tuple[Text, Deltas] | None:
    """The text, what is in the messages, and so many strings of the tail.

    None where a message is not written like that, or the tail is not so many strings side by side.
    """
    n = len(messages)
    text = Text(messages, tail)
    begins = np.array([PAD - 1, *map(len, messages)], np.int64)
    begins += _1
    begins = np.add.accumulate(begins)
    end = int(begins[n])
    commas, neighbours = find_commas(text, end)
    closing = (neighbours == _CLOSING).nonzero()[0]  # behind the bids, and behind the asks
    if len(closing) != 2 * n:
        return None
    index = np.empty((9, n), np.int64)
    index[_BIDS], index[_ASKS] = closing[0::2], closing[1::2]
    np.add(index[_ASKS], _1_TO_3, index[_U:])
    index[_TOPIC, 0] = 1
    np.add(index[_END, :-1], _1, index[_TOPIC, 1:])
    np.add(index[_TOPIC], _1_TO_3, index[_TYPE:_BIDS])
    if index[_END, -1] != len(commas) - 1:
        return None
    at = commas.take(index, mode="clip")
    beginnings = [message[:_HEAD] for message in messages]
    heads = {head: i for i, head in enumerate(dict.fromkeys(beginnings))}
    topics = list(map(_read_head, heads))
    names = [name for name, _ in topics]
    if "" in names:
        return None
    topic = np.frombuffer(b"".join([words for _, words in topics]), np.uint64).reshape(len(names), -1)
    if len(names) == 1:
        which = np.zeros(n, np.int64)
    else:
        which = np.array(list(map(heads.__getitem__, beginnings)), np.int64)
        topic = topic.take(which, axis=0)
        unique = dict.fromkeys(names)
        if len(unique) < len(names):  # a head goes beyond the topic
            order = {name: i for i, name in enumerate(unique)}
            which = np.array([order[name] for name in names], np.int64).take(which)
            names = list(unique)
    topic = topic.T

    # What stands beside the levels.
    words = text.words_at(at[_COMMA] + _BY)
    seen = words[:_FIXED]
    seen ^= _EXPECTED
    is_snapshot = at[_TYPE] - at[_TOPIC] != _OF_DELTA
    if np.count_nonzero(is_snapshot):
        seen[_TYPES] ^= np.where(is_snapshot, _SNAPSHOT, _0)
        type_end = at[_TYPE, is_snapshot]
        if (type_end - at[_TOPIC, is_snapshot] != _OF_SNAPSHOT).any() or (
            text.letters.take(type_end - 3) != _LETTER_O
        ).any():
            return None
    lists = index[_BIDS:_U] - index[_S:_ASKS]
    seen[_LISTS] ^= np.where(lists == _1, _EMPTY, _FILLED)
    seen &= _MASKS
    symbols = words[_NUMBERS:]
    symbols ^= topic[2 : 2 + _SYMBOL_WORDS]
    symbols &= topic[2 + _SYMBOL_WORDS :]
    lengths = topic[:2].view(np.int64)
    if (
        np.count_nonzero(seen)
        or np.count_nonzero(symbols)
        or np.count_nonzero(at[_END] + _1 != begins[1:])
        or np.count_nonzero(at[_TOPIC] - begins[:-1] != lengths[0])
        or np.count_nonzero(at[_S] - at[_TS] != lengths[1])
    ):
        return None
    counts = text.whole_numbers(at[_STARTS] + _STARTS_BY, at[_STOPS] + _STOPS_BY, words[_FIXED:_NUMBERS])
    if counts is None:
        return None
    levels = find_levels(text, commas, neighbours, index[_S:_ASKS].T.ravel(), lists.T.ravel(), 8)
    if levels is None:
        return None
    found = find_strings(text, end, len(tail))
    if found is None or len(found[0]) != strings:
        return None
    if strings:
        levels.first, levels.length = (
            np.concatenate([levels.first, found[0]]),
            np.concatenate([levels.length, found[1]]),
        )
    sent_ms, update_id, sequence, event_ms = counts
    return text, Deltas(names, which, update_id, sequence, sent_ms, event_ms, is_snapshot, levels)


@lru_cache(4096)
def _read_head(head: bytes) -> tuple[str, bytes]:
    """A message's topic from its first characters, and the words that `read_deltas` compares with: how far from its
    beginning the comma behind the topic stands, and how far from that before the data the one behind the symbol; the
    symbol and its closing quote, the end first; in which bytes of these words they are. An empty topic: not to be told."""
    end = head.find(b'"', len(_BEFORE_TOPIC))
    name = head[len(_BEFORE_TOPIC) : end]
    symbol = name.rpartition(b".")[2] + b'"'
    size = 8 * _SYMBOL_WORDS
    if not head.startswith(_BEFORE_TOPIC) or end < 0 or len(symbol) > size:
        return "", b""
    lengths = np.array([end + 1, _OF_DATA + len(symbol)], np.uint64)
    texts = symbol.rjust(size, b"\0"), (b"\xff" * len(symbol)).rjust(size, b"\0")
    words = (np.frombuffer(text, np.uint64)[::-1] for text in texts)
    return name.decode("latin-1"), np.concatenate([lengths, *words]).tobytes()
