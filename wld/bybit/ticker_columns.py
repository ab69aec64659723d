"""Owns tickers as columns: the fields that messages carry, and the merge into rows of numbers. Pure.

What no column of numbers holds, numbers beyond 64 bits and texts, goes beside them by name: `Topic.ticker_extra`, and
`extra` of `wld.tables.Tables.tickers`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import accumulate, chain, compress, islice
from typing import Any

import numpy as np

from wld.bybit.decimals import Ints
from wld.bybit.messages import TICKER_FIELDS, TICKER_OTHER, TICKER_WIDE, parse_wide
from wld.bybit.plain import MAX_MS, ODD_READS, Again
from wld.bybit.topics import TickerPush, Topic, precedes
from wld.errors import UnitError
from wld.events import TickDirection
from wld.tables import DIRECTIONS, TICKER_NUMBERS, TICKER_PLACE, Columns
from wld.units import ABSENT, INT64_MAX, INT64_MIN

_DIRECTION_CODE: dict[TickDirection | None, int] = {direction: i for i, direction in enumerate(DIRECTIONS)}
_DIRECTION = len(TICKER_NUMBERS)
_NOWHERE = _DIRECTION + 1
"""The cell of a row for what is not kept: unknown fields, empty texts."""
_EMPTY = array("q", [ABSENT] * _DIRECTION + [0, 0])
_SEQUENCE, _SENT, _RECEIVED = (TICKER_PLACE[name] for name in ("sequence", "sent_time", "receive_time"))
_NEVER = TICKER_PLACE["event_time"]
"""A cell that stays absent."""
_OTHERS_FROM = 64
_MANY = 100
"""So many messages are merged all at once; of fewer each by itself costs less (measured)."""


class _Codes(dict[str, int]):
    """Of each field the cell it goes to; from `_OTHERS_FROM` on, fields that are no decimals."""

    def __missing__(self, key: str) -> int:
        return _NOWHERE


_CODES = _Codes({key: TICKER_PLACE[name] for key, name in TICKER_FIELDS.items()})
_WIDE = {_CODES[key]: TICKER_FIELDS[key] for key in TICKER_WIDE}
_IS_NUMBER, _IS_WIDE, _IS_OTHER = (
    bytes(code in codes for code in range(256))
    for codes in (set(_CODES.values()), _WIDE, range(_OTHERS_FROM, _OTHERS_FROM + len(TICKER_OTHER)))
)
_OTHERS = tuple(TICKER_OTHER.values())
_CODES |= {key: code for code, key in enumerate(TICKER_OTHER, _OTHERS_FROM)} | {"symbol": _NOWHERE}
_MOST_DIGITS = 10
"""So many before the point, or a sign and one less, fit 64 bits at 1e-8."""
_TYPES = frozenset(("snapshot", "delta"))


def odd_tickers(decoded: Sequence[Any], states: Sequence[Topic]) -> set[Topic]:
    """Topics with a message that is not to be taken as it is."""
    odd: set[Topic] = set()
    pushes: dict[Topic, TickerPush] = {}
    for message, state in zip(decoded, states, strict=True):
        cs = message.cs
        push = (message.type, cs, message.ts, message.data)
        last = pushes.get(state, state.push)
        is_again = last is not None and None not in push and (push == last or precedes(push, last))
        pushes[state] = push
        if (
            message.type not in _TYPES
            or message.data.get("symbol") != state.symbol
            or (cs is not None and not 0 <= cs <= INT64_MAX)
            or (message.ts is not None and not 0 <= message.ts <= MAX_MS)
            or is_again  # perhaps delivered twice, or late: the rows compare
        ):
            odd.add(state)
    for state in set(states):
        if state.silent_since is not None:
            odd.add(state)
        elif state.ticker_columns is None:
            _lay_out(state)
    return odd


class TickerChanges:
    """The fields that ticker messages carry: decimals as texts for the common pass, the others converted."""

    def __init__(self, messages: Sequence[Any], topics: Sequence[Topic]) -> None:
        """Raises: Again where a field is odd."""
        fields = [message.data for message in messages]
        codes = bytearray(map(_CODES.__getitem__, chain.from_iterable(fields)))
        texts: list[Any] = list(chain.from_iterable(map(dict.values, fields)))
        if "" in texts:
            for i, text in enumerate(texts):
                if text == "":
                    codes[i] = _NOWHERE
        self._topics = topics
        self._lengths = list(map(len, fields))
        self._codes = codes
        self._is_number = codes.translate(_IS_NUMBER)
        self._others: list[tuple[int, int]] = []
        """(index, value) of fields that are not among the common pass's texts."""
        self._extra: dict[int, dict[str, Any]] = {}
        """By message: what no cell holds."""
        others = list(compress(range(len(codes)), codes.translate(_IS_OTHER)))
        wide = compress(range(len(codes)), codes.translate(_IS_WIDE))
        i = 0
        try:
            for i in wide:
                text = texts[i]
                if len(text) > _MOST_DIGITS and text.find(".", 0, _MOST_DIGITS + 1) < 0:
                    self._is_number[i] = False
                    value = parse_wide(text)
                    if not INT64_MIN < value <= INT64_MAX:
                        self._put_extra(i, _WIDE[codes[i]], value)
                        value = ABSENT
                    self._others.append((i, value))
            for i in others:
                codes[i], name, value = _converted(codes[i], texts[i])
                if codes[i] == _NOWHERE:
                    self._put_extra(i, name, value)
                else:
                    self._others.append((i, value))
        except (UnitError, ValueError, TypeError, AttributeError):
            raise self._odd(i) from None
        numbers: list[str] = list(compress(texts, self._is_number))
        self.count = len(numbers)
        try:
            self.text = ('"' + '""'.join(numbers) + '"').encode("ascii") if numbers else b""
        except (TypeError, UnicodeEncodeError):
            raise self.odd(
                [i for i, text in enumerate(numbers) if type(text) is not str or not text.isascii()]
            ) from None

    def _put_extra(self, i: int, name: str, value: Any) -> None:
        self._extra.setdefault(self._message(i), {})[name] = value

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self._lengths))

    def _message(self, i: int) -> int:
        return bisect_right(self._ends, i)

    def odd(self, numbers: Sequence[int]) -> Again:
        """What to raise where those of the texts are no decimals of 64 bits."""
        indices = np.flatnonzero(np.frombuffer(self._is_number, np.bool_))
        return self._odd(*indices[numbers].tolist())

    def _odd(self, *indices: int) -> Again:
        topics = {self._topics[self._message(i)] for i in indices}
        for topic in topics:
            topic.goes_by_rows = ODD_READS
        return Again(topics)

    def merge(self, messages: Sequence[Any], values: Ints, receive_time: int) -> Columns:
        """Each message's ticker, what came before merged with what it changes; the topics keep the last."""
        cells = np.zeros(len(self._codes), np.int64)
        cells[np.frombuffer(self._is_number, np.bool_)] = values
        for i, value in self._others:
            cells[i] = value
        topics = self._topics
        is_snapshot = [message.type == "snapshot" for message in messages]
        lasts = dict(zip(topics, messages, strict=True))
        for topic, message in zip(topics, messages, strict=True):
            topic.push_times.append((message.ts or 0, receive_time))
        rows = (self._fill if len(messages) < _MANY else self._fill_many)(cells, is_snapshot)
        rows[:, _SEQUENCE] = [ABSENT if message.cs is None else message.cs for message in messages]
        rows[:, _SENT] = [ABSENT if message.ts is None else message.ts * 1_000_000 for message in messages]
        rows[:, _RECEIVED] = receive_time
        extras = self._merge_extra(is_snapshot, rows) if self._extra or any(t.ticker_extra for t in lasts) else {}
        for topic, message in lasts.items():
            topic.awaiting, topic.sequence, topic.last_time = False, message.cs, receive_time
            topic.push = (message.type, message.cs, message.ts, message.data)
        columns = {
            "symbol": np.fromiter([topic.place for topic in topics], np.int64, len(topics)),
            "tick_direction": rows[:, _DIRECTION],
            "values": rows[:, :_DIRECTION],
        }
        return columns | {"extra": extras} if extras else columns

    def _fill(self, cells: Ints, is_snapshot: Sequence[bool]) -> Ints:
        """Each message's row of numbers, message by message; the topics keep the last."""
        merged, fields = array("q"), zip(self._codes, cells.tolist(), strict=True)
        for topic, length, is_new in zip(self._topics, self._lengths, is_snapshot, strict=True):
            latest = topic.ticker_columns
            if is_new:
                latest[:] = _EMPTY
            for place, value in islice(fields, length):
                latest[place] = value
            merged += latest
        return np.frombuffer(merged, np.int64).reshape(-1, len(_EMPTY))

    def _fill_many(self, cells: Ints, is_snapshot: Sequence[bool]) -> Ints:
        """The same, all at once: each topic's messages below each other in a table, behind a row of what is known of it."""
        n, width = len(is_snapshot), len(_EMPTY)
        places: dict[Topic, int] = {}
        which = np.fromiter([places.setdefault(topic, len(places)) for topic in self._topics], np.int64, n)
        order = which.argsort(kind="stable")
        at = np.empty(n, np.int64)
        at[order] = np.arange(1, n + 1) + which.take(order)
        ends = np.add.accumulate(np.bincount(which) + 1)
        table = np.empty((n + len(places), width), np.int64)
        known = np.concatenate([[0], ends[:-1]])
        table[known] = np.frombuffer(b"".join([topic.ticker_columns for topic in places]), np.int64).reshape(-1, width)
        if True in is_snapshot:
            snapshots = at[is_snapshot]
            table[snapshots] = np.frombuffer(_EMPTY, np.int64)
            known = np.concatenate([known, snapshots])
        # Each cell is of the last row, down to its own, that says what it is.
        row = np.zeros(table.shape, np.int64)
        row[known] = known[:, None]
        said = at.repeat(self._lengths), np.frombuffer(self._codes, np.uint8)
        table[said], row[said] = cells, said[0]
        row = np.maximum.accumulate(row, axis=0)
        row *= width
        row += np.arange(width)
        table = table.take(row)
        for topic, end in zip(places, ends.tolist(), strict=True):
            topic.ticker_columns = array("q", table[end - 1].tobytes())
        return table.take(at, axis=0)

    def _merge_extra(self, is_snapshot: Sequence[bool], rows: Ints) -> dict[int, dict[str, Any]]:
        """By message what goes beside its row; the topics keep the last. What a number in the row has replaced is gone."""
        replaced: dict[str, list[bool]] = {}
        found: dict[int, dict[str, Any]] = {}
        for i, (topic, is_new) in enumerate(zip(self._topics, is_snapshot, strict=True)):
            extra: dict[str, Any] = {}
            for name, value in () if is_new else topic.ticker_extra.items():
                if name not in replaced:
                    replaced[name] = (rows[:, TICKER_PLACE.get(name, _NEVER)] != ABSENT).tolist()
                if not replaced[name][i]:
                    extra[name] = value
            topic.ticker_extra = extra = extra | self._extra.get(i, {})
            if extra:
                found[i] = extra
        return found


@lru_cache(4096)
def _converted(code: int, text: str) -> tuple[int, str, Any]:
    """(cell, name, value) of a field that is no decimal. Raises: UnitError, ValueError."""
    if type(text) is not str:
        raise UnitError(f"expected text, got {text!r:.40}")
    name, convert = _OTHERS[code - _OTHERS_FROM]
    value = convert(text)
    if isinstance(value, TickDirection):
        return _DIRECTION, name, _DIRECTION_CODE[value]
    return TICKER_PLACE.get(name, _NOWHERE), name, value


def _lay_out(topic: Topic) -> None:
    """Lay a topic's merged ticker out as a row of numbers, and what goes beside them."""
    row, extra = array("q", _EMPTY), {}
    for name, value in topic.ticker.items():
        if isinstance(value, TickDirection):
            row[_DIRECTION] = _DIRECTION_CODE[value]
        elif isinstance(value, int) and INT64_MIN < value <= INT64_MAX:
            row[TICKER_PLACE[name]] = value
        else:
            extra[name] = value
    topic.ticker_columns, topic.ticker_extra = row, extra
