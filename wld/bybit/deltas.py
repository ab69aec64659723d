"""Owns the book messages of a read that are written exactly as the venue writes them: all of them at once. Pure.

    {"topic":"orderbook.50.X","type":"delta","ts":1,"data":{"s":"X","b":[["1","2"]],"a":[],"u":2,"seq":3},"cts":1}

Every byte is looked at, by column instead of by message. What is written like that has its commas in known places:
before and behind them stand these words (of a snapshot, that word), the symbol is the topic's, counts are digits, levels
are pairs. One message that is written otherwise, and the whole read is for `wld.bybit.columns` to decode in the usual way,
with the same results.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld.bybit.decimals import PAD, Ints, Text, Words
from wld.bybit.places import CLOSE, QUOTE, Places, find_commas, find_levels, find_strings

_HEAD = 48
"""Characters of a message that tell its topic."""
_MOST_HEADS = 4096
"""So many are kept."""
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
_1_TO_3, _HEAD_BY = _column([1, 2, 3]), _column(range(0, _HEAD, 8))
_EXPECTED = _words(*(text for *_, text in _TEXTS))
_MASKS = _words(*(bytes(255 * (letter > 0) for letter in text) for *_, text in _TEXTS))
_MASKS[_LISTS] = (1 << 64) - 1
_FILLED, _EMPTY = (np.array(int.from_bytes(text, "little") << 48, np.uint64) for text in (b'["', b"],"))
"""And behind the key of a list."""
_SNAPSHOT = _words(b':"snapsh', b't","ts":') ^ _EXPECTED[_TYPES]
_OF_DELTA, _OF_SNAPSHOT, _OF_DATA = np.array(len(',"type":"delta"')), len(',"type":"snapshot"'), len(',"data":{"s":"')
_LETTER_O, _A_COMMA, _A_COLON, _A_SPACE = b"o,: "
_0, _1 = np.array(0, np.uint64), np.array(1)
_CLOSING = np.array(CLOSE << 8 | QUOTE, np.uint16)


def read_deltas(messages: Sequence[bytes], tail: bytes, strings: int) -> tuple[Text, Deltas] | None:
    """The text, what is in the messages, and so many strings of the tail.

    None where a message is not written like that, or the tail is not so many strings side by side.
    """
    n = len(messages)
    text = Text(messages, tail)
    begins = np.fromiter(chain((PAD - 1,), map(len, messages)), np.int64, n + 1)
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
    heads = _heads.find(messages, text.words_at(begins[:-1] + _HEAD_BY))
    if heads is None:
        return None
    names, which, topic = heads

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


def without_spaces(messages: Sequence[bytes]) -> list[bytes]:
    """The messages without the spaces behind their commas and colons, as many programs write JSON; none of them where one
    has a space elsewhere: it may be part of a text."""
    text = b",".join(messages)
    letters = np.frombuffer(text, np.uint8)
    is_sign = (letters == _A_COMMA) | (letters == _A_COLON)
    if np.count_nonzero((letters[1:] == _A_SPACE) > is_sign[:-1]):
        return []
    return [message.translate(None, b" ") for message in messages]


class _Heads:
    """What the first characters of messages tell, of those that were seen.

    A row of words each, with which `read_deltas` compares: how far from the message's beginning the comma behind the topic
    stands, and how far from that before the data the one behind the symbol; the symbol and its closing quote, the end first;
    in which bytes of these words they are.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._rows: dict[bytes, int] = {}
        self._words: Words = np.empty((0, 2 + 2 * _SYMBOL_WORDS), np.uint64)
        self._names: list[str] = []
        self._topics = np.empty(0, np.int64)
        """Of each row the first of the same topic."""

    def find(self, messages: Sequence[bytes], words: Words) -> tuple[list[str], Ints, Words] | None:
        """The topics, which of them each message is of, and its words; None where one is not to be told.

        `words`: the messages' first characters.
        """
        all_same = not np.count_nonzero(words != words[:, :1])
        heads = [message[:_HEAD] for message in (messages[:1] if all_same else messages)]
        new = [head for head in dict.fromkeys(heads) if head not in self._rows]
        if new:
            if len(self._rows) >= _MOST_HEADS:
                self._forget()
                new = list(dict.fromkeys(heads))
            if not all(map(self._learn, new)):
                return None
        if all_same:
            row = self._rows[heads[0]]
            return [self._names[row]], np.zeros(len(messages), np.int64), self._words[row][:, None]
        rows = np.array(list(map(self._rows.__getitem__, heads)), np.int64)
        of = self._topics.take(rows)
        place = np.zeros(len(self._names), np.int64)
        place[of] = 1
        used = place.nonzero()[0]
        place[used] = np.arange(len(used))
        return [self._names[row] for row in used.tolist()], place.take(of), self._words.take(rows, axis=0).T

    def _learn(self, head: bytes) -> bool:
        end = head.find(b'"', len(_BEFORE_TOPIC))
        topic = head[len(_BEFORE_TOPIC) : end]
        symbol = topic.rpartition(b".")[2] + b'"'
        size = 8 * _SYMBOL_WORDS
        if not head.startswith(_BEFORE_TOPIC) or end < 0 or len(symbol) > size:
            return False
        lengths = np.array([end + 1, _OF_DATA + len(symbol)], np.uint64)
        texts = symbol.rjust(size, b"\0"), (b"\xff" * len(symbol)).rjust(size, b"\0")
        row, name = len(self._rows), topic.decode("latin-1")
        self._words = np.concatenate(
            [self._words, np.concatenate([lengths, *(np.frombuffer(text, np.uint64)[::-1] for text in texts)])[None]]
        )
        self._topics = np.append(self._topics, self._names.index(name) if name in self._names else row)
        self._names.append(name)
        self._rows[head] = row
        return True


_heads = _Heads()
