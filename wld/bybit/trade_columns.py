"""Owns trades and liquidations as columns: what makes a topic's odd, their columns, what is remembered of them. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, chain
from typing import Any

import numpy as np

from wld.bybit.decimals import Ints
from wld.bybit.messages import MAX_ID
from wld.bybit.plain import Again, counts, times
from wld.bybit.topics import Push, Topic
from wld.bybit.trade_ids import BLOCK_IDS
from wld.tables import BLOCK_TRADE, BUY, DIRECTION_SHIFT, DIRECTIONS, RPI, RPI_KNOWN, Columns

_SIDE_FLAG = {"Buy": BUY, "Sell": 0}
_IS_LONG = {"Buy": 1, "Sell": 0}
_RPI_FLAG = {None: 0, False: RPI_KNOWN, True: RPI_KNOWN | RPI}
_DIRECTION_FLAG: dict[str | None, int] = {
    None: 0, "": 0, **{d.value: i << DIRECTION_SHIFT for i, d in enumerate(DIRECTIONS) if d is not None},
}  # fmt: skip
_TRADE_FLAGS = {
    (side, direction, rpi, is_block): _SIDE_FLAG[side] | _DIRECTION_FLAG[direction] | _RPI_FLAG[rpi] | is_block * BLOCK_TRADE
    for side in _SIDE_FLAG for direction in _DIRECTION_FLAG for rpi in _RPI_FLAG for is_block in (False, True)
}  # fmt: skip


class _Items:
    """The items of some messages, and numbers as texts for the common pass."""

    def __init__(self, messages: Sequence[Any], topics: Sequence[Topic]) -> None:
        content = [message.data for message in messages]
        self.messages, self._topics = messages, topics
        self.lengths = list(map(len, content))
        self._repeats: Ints | None = None
        self._ends = list(accumulate(self.lengths))
        self._items = items = list(chain.from_iterable(content))
        self.count = len(items)
        self._times = [item.T for item in items]
        self.texts: list[Any] = [None] * (2 * len(items))
        """Price and size of each item."""
        self.texts[0::2] = [item.p for item in items]
        self.texts[1::2] = [item.v for item in items]

    @cached_property
    def _runs(self) -> list[tuple[Topic, int, int]]:
        """(topic, its first item, the one after its last) of runs that are all items of all messages, in order."""
        topics, ends = self._topics, self._ends
        if len(set(topics)) == 1:
            return [(topics[0], 0, self.count)]
        return list(zip(topics, (0, *ends), ends, strict=False))

    def _are_their_own(self) -> bool:
        """Whether each item is of its topic's symbol."""
        names = [item.s for item in self._items]
        return all(
            names[start] == topic.symbol if end - start == 1 else names[start:end].count(topic.symbol) == end - start
            for topic, start, end in self._runs
        )

    def _per_item(self, of_messages: Ints) -> Ints:
        if self._repeats is None:
            self._repeats = np.fromiter(self.lengths, np.int64, len(self.lengths))
        return np.repeat(of_messages, self._repeats)

    def _columns(self) -> Columns:
        return {
            "symbol": self._per_item(np.fromiter([topic.place for topic in self._topics], np.int64, len(self._topics))),
            "event_time": times(self._times),
            "sent_time": self._per_item(times([message.ts for message in self.messages])),
        }


class Trades(_Items):
    """The trade messages of a read."""

    def __init__(self, messages: Sequence[Any], topics: Sequence[Topic]) -> None:
        super().__init__(messages, topics)
        self._ids: list[str] = [item.i for item in self._items]

    def odd(self) -> set[Topic]:
        """Topics with an item that came before, or that is not to be taken as it is."""
        ids, trade_times = self._ids, self._times
        unique = set(ids)
        if (
            len(unique) == len(ids)
            and "" not in unique
            and max(map(len, ids), default=0) <= MAX_ID
            and self._are_their_own()
            and not any(
                ids[start] in topic.recent or trade_times[start] * 1_000_000 <= topic.older.until
                if end - start == 1
                else _has_met(topic, ids[start:end], trade_times[start:end])
                for topic, start, end in self._runs
            )
        ):
            return set()
        items_of: dict[Topic, list[Any]] = {}
        for message, topic in zip(self.messages, self._topics, strict=True):
            items_of.setdefault(topic, []).extend(message.data)
        return {topic for topic, items in items_of.items() if _is_odd(topic, items)}

    def columns(self, pairs: Ints) -> Columns | None:
        """With those prices and sizes. Raises: Again where a word is not known; Strange where a count or a time is none."""
        if not self.count:
            return None
        items, flags = self._items, _TRADE_FLAGS
        try:
            flags_of = [flags[item.S, item.L, item.RPI, item.BT] for item in items]
        except KeyError:
            both = zip(self.messages, self._topics, strict=True)
            raise Again({topic for message, topic in both if _is_unknown_word(message)}) from None
        return self._columns() | {
            "price": pairs[0::2],
            "size": pairs[1::2],
            "sequence": counts([item.seq for item in items]),
            "flags": np.fromiter(flags_of, np.int64, self.count),
            "trade_id": self._ids,
        }

    def keep(self, now: int) -> None:
        """Remember the trades' ids, and which is the last."""
        ids, trade_times, ends = self._ids, self._times, self._ends
        for topic, start, end in self._runs:
            topic.awaiting, topic.last_time = False, now
            if end - start == 1 and len(topic.recent) < BLOCK_IDS - 1:
                topic.recent[ids[start]] = now
                topic.last_trade = last = ids[start], trade_times[start] * 1_000_000
                topic.newest = max(topic.newest, last[1])
                continue
            if start < end:
                topic.last_trade = (ids[end - 1], trade_times[end - 1] * 1_000_000)
            while start < end:  # ids are handed over behind the message that makes them many
                full = bisect_left(ends, start + max(1, BLOCK_IDS - len(topic.recent)))
                stop = min(ends[full], end) if full < len(ends) else end
                topic.recent.update(dict.fromkeys(ids[start:stop], now))
                topic.newest = max(topic.newest, max(trade_times[start:stop]) * 1_000_000)
                topic.forget_old_trades()
                start = stop


def _has_met(topic: Topic, ids: Sequence[str], trade_times: Sequence[int]) -> bool:
    """Whether any of these trades came before."""
    return not topic.recent.keys().isdisjoint(ids) or (
        bool(ids) and topic.older.meets(ids, min(trade_times) * 1_000_000)
    )


def _is_odd(topic: Topic, items: Sequence[Any]) -> bool:
    ids = [item.i for item in items]
    return (
        len(set(ids)) != len(ids)
        or "" in ids
        or max(map(len, ids), default=0) > MAX_ID
        or any(item.s != topic.symbol for item in items)
        or _has_met(topic, ids, [item.T for item in items])
    )


def _is_unknown_word(message: Any) -> bool:
    return any(item.S not in _SIDE_FLAG or item.L not in _DIRECTION_FLAG for item in message.data)


class Liquidations(_Items):
    """The liquidation messages of a read."""

    def __init__(self, messages: Sequence[Any], topics: Sequence[Topic]) -> None:
        super().__init__(messages, topics)
        self._pushes: dict[Topic, dict[Push, None]] = {}

    def odd(self) -> set[Topic]:
        """Topics with an item that is not to be taken as it is."""
        if self._are_their_own() and {item.S for item in self._items} <= _IS_LONG.keys():
            return set()
        return {
            topic
            for message, topic in zip(self.messages, self._topics, strict=True)
            if any(item.s != topic.symbol or item.S not in _IS_LONG for item in message.data)
        }

    def columns(self, pairs: Ints) -> Columns | None:
        """With those prices and sizes. Raises: Again for a message that is delivered twice; Strange where a time is none."""
        self._pushes = {}
        if not self.count:
            return None
        is_long = np.array([_IS_LONG[item.S] for item in self._items], np.int64)
        columns = self._columns() | {"is_long": is_long, "size": pairs[1::2], "bankruptcy_price": pairs[0::2]}
        self._note(list(zip(
            self._times, (is_long != 0).tolist(), pairs[1::2].tolist(), pairs[0::2].tolist(), strict=True
        )))  # fmt: skip
        return columns

    def _note(self, items: list[tuple[int, bool, int, int]]) -> None:
        odd: set[Topic] = set()
        for message, topic, start, end in zip(self.messages, self._topics, (0, *self._ends), self._ends, strict=False):
            if message.ts is None or start == end:
                continue
            push = (message.ts, tuple(items[start:end]))
            pushes = self._pushes.setdefault(topic, {})
            if push in pushes or push in topic.pushes:
                odd.add(topic)
            pushes[push] = None
        if odd:
            raise Again(odd)

    def keep(self, now: int) -> None:
        """Remember the messages, to know one that is delivered twice."""
        for topic in self._topics:
            topic.awaiting, topic.last_time = False, now
        for topic, pushes in self._pushes.items():
            topic.pushes.take(pushes)
