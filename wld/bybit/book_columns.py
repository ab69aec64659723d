"""Owns book messages as columns: which of a read simply continue their books, their columns, and the sides they leave. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld.bybit.decimals import Ints
from wld.bybit.levels import KnownLevels, Levels, Slow
from wld.bybit.plain import MAX_MS, Again, Strange, counts, times
from wld.bybit.topics import STRICT_DEPTH, Sides, Topic
from wld.tables import Columns
from wld.units import ABSENT, INT64_MAX

_0, _1 = np.array(0), np.array(1)
FEW = 64
"""Fewer messages are taken into their books one by one (measured)."""
_MOST = np.array([INT64_MAX, INT64_MAX, MAX_MS, MAX_MS], np.uint64)
_NOWHERE = -2
"""An update id that nothing continues."""
_UNITS = np.array([1, 1, 1_000_000, 1_000_000])
"""Of a message's update id, sequence, event time and time of sending, in ms."""


class Books(Struct):
    """The book messages of a read that become columns, a row each."""

    at: list[int]
    """Places in the read."""
    topics: list[Topic]
    """A topic may be here several times in a row: with each snapshot its book begins anew (`_begin_anew`)."""
    which: Ints
    """Into `topics`."""
    update_id: Ints
    sequence: Ints
    event_time: Ints
    sent_time: Ints
    is_snapshot: npt.NDArray[np.bool_]
    levels: Levels = Levels(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))

    def columns(self) -> Columns:
        """As `wld.tables` has them, but for their numbers."""
        symbols = np.array([topic.place for topic in self.topics], np.int64)
        depths = np.array([topic.depth for topic in self.topics], np.int64)
        return {
            "symbol": symbols[self.which],
            "is_snapshot": self.is_snapshot.astype(np.int64),
            "depth": depths[self.which],
            "update_id": self.update_id,
            "sequence": self.sequence,
            "event_time": self.event_time,
            "sent_time": self.sent_time,
            "bid_count": self.levels.counts[0::2],
            "ask_count": self.levels.counts[1::2],
            "level_price": self.levels.price,
            "level_size": self.levels.size,
        }

    def advance(self, cells: KnownLevels) -> Iterable[tuple[Topic, int, int, Sides]]:
        """Take the messages into their books; of each of `topics` the last update id and sequence, and its sides.

        Raises: Again for books that these messages do not simply continue, everything as it was before.
        """
        if len(self.at) < FEW and not np.count_nonzero(self.is_snapshot):
            return self._advance_few()
        lasts = self._follow()
        slow, sides = self._settle(cells)
        cells.learn(slow)
        ends = self.update_id.take(lasts).tolist(), self.sequence.take(lasts).tolist()
        return zip(self.topics, *ends, sides, strict=True)

    def _advance_few(self) -> Iterable[tuple[Topic, int, int, Sides]]:
        """The same, message by message and without the cache."""
        topics, levels = self.topics, self.levels
        sides_of = [topic.sides for topic in topics]
        update_ids, sequences = _stands(topics)
        # A price whose size is zero is told by its complement, which no side holds.
        prices: list[int] = (levels.price ^ -(levels.size == _0).astype(np.int64)).tolist()
        counts = levels.counts.tolist()
        log: list[tuple[set[int], int]] = []
        odd: set[Topic] = set()
        start = 0
        for place, update_id, sequence, bids, asks in zip(
            self.which.tolist(),
            self.update_id.tolist(),
            self.sequence.tolist(),
            counts[0::2],
            counts[1::2],
            strict=True,
        ):
            if update_id != update_ids[place] + 1 or ABSENT < sequence < sequences[place]:
                odd.add(topics[place])
            update_ids[place], sequences[place] = update_id, sequence
            sides = sides_of[place]
            middle = start + bids
            end = middle + asks
            if not (sides.bids.issuperset(prices[start:middle]) and sides.asks.issuperset(prices[middle:end])):
                _change(sides, prices[start:middle], False, log)
                _change(sides, prices[middle:end], True, log)
                if sides.is_crossed():
                    odd.add(topics[place])
            start = end
        if odd:
            for live, price in reversed(log):
                live.symmetric_difference_update((price,))
            for sides in sides_of:
                sides.set_best()
            raise Again(odd)
        return zip(topics, update_ids, sequences, sides_of, strict=True)

    def _follow(self) -> Ints:
        """Each book's last message. Raises: Again for books that these messages do not simply continue."""
        has_snapshots = np.count_nonzero(self.is_snapshot) > 0
        if has_snapshots:
            self._begin_anew()
        topics, update_id, sequence = self.topics, self.update_id, self.sequence
        n = len(update_id)
        order = None
        bounds = np.array([0, n])
        if len(topics) > 1:
            order = self.which.astype(np.uint16 if len(topics) <= 1 << 16 else np.int64).argsort(kind="stable")
            bounds = self.which.take(order).searchsorted(np.arange(len(topics) + 1))
            update_id, sequence = update_id.take(order), sequence.take(order)
        firsts, lasts = bounds[:-1], bounds[1:] - _1
        before, sequence_before = np.empty(n, np.int64), np.empty(n, np.int64)
        before[1:], sequence_before[1:] = update_id[:-1], sequence[:-1]
        before[firsts], sequence_before[firsts] = _stands(topics)
        before += _1
        odd = update_id != before
        odd |= (sequence < sequence_before) & (sequence != ABSENT)
        if order is None:
            order = np.arange(n)
        if has_snapshots:
            odd &= ~self.is_snapshot[order]
        if np.count_nonzero(odd):
            raise Again({topics[i] for i in self.which[order][odd].tolist()})
        last: Ints = order.take(lasts)
        return last

    def _settle(self, cells: KnownLevels) -> tuple[Slow, list[Sides]]:
        """Bring the books' sides up to date; (levels to learn, each of `topics`' sides).

        Raises: Again for books that cross, everything as it was before.
        """
        topics = self.topics
        sides_of = [topic.sides for topic in topics]
        snapshots = self.is_snapshot.nonzero()[0]
        if len(snapshots):
            for place, sides in zip(self.which[snapshots].tolist(), self._fresh_sides(snapshots), strict=True):
                sides_of[place] = sides
        slow = cells.unknown(sides_of, self.which, self.levels, snapshots)
        log: list[tuple[set[int], int, bool]] = []
        touched: set[Sides] = set()
        crossed: set[Topic] = set()
        event, topic, sides, suspect = -1, topics[0], sides_of[0], False
        for price, fragment, is_gone, place in zip(
            slow.price.tolist(), slow.fragment.tolist(), slow.is_gone.tolist(),
            self.which[slow.fragment >> 1].tolist(), strict=True,
        ):  # fmt: skip
            if fragment >> 1 != event:
                if suspect and sides.is_crossed():
                    crossed.add(topic)
                event, suspect = fragment >> 1, False
                topic, sides = topics[place], sides_of[place]
                touched.add(sides)
            live = sides.asks if fragment & 1 else sides.bids
            if is_gone:
                if price in live:
                    live.remove(price)
                    log.append((live, price, False))
            elif price not in live:
                live.add(price)
                log.append((live, price, True))
                if fragment & 1:
                    if price < sides.best_ask:
                        sides.best_ask = price
                        suspect = suspect or sides.best_bid >= price
                elif price > sides.best_bid:
                    sides.best_bid = price
                    suspect = suspect or price >= sides.best_ask
        if suspect and sides.is_crossed():
            crossed.add(topic)
        if crossed:
            for live, price, was_added in reversed(log):
                if was_added:
                    live.discard(price)
                else:
                    live.add(price)
            for sides in touched:
                sides.set_best()
            raise Again(crossed)
        return slow, sides_of

    def _begin_anew(self) -> None:
        """Make an entry of `topics` for each stretch of a topic's messages that a snapshot begins.

        Raises: Again for topics in which a snapshot means more than a book: that it restarted, or what was lost before.
        """
        rows = np.flatnonzero(self.is_snapshot)
        told: set[Topic] = set()
        for place, update_id in zip(self.which[rows].tolist(), self.update_id[rows].tolist(), strict=True):
            topic = self.topics[place]
            if update_id == 1 or topic.silent_since is not None or topic.dropped:
                told.add(topic)
        if told:
            raise Again(told)
        order = np.argsort(self.which, kind="stable")
        which = self.which[order]
        begins = self.is_snapshot[order]
        begins[0] = True
        begins[1:] |= which[1:] != which[:-1]
        self.topics = [self.topics[place] for place in which[begins].tolist()]
        self.which = np.empty_like(which)
        self.which[order] = np.cumsum(begins) - 1

    def _fresh_sides(self, snapshots: Ints) -> list[Sides]:
        """The sides of books that are these messages and nothing more. Raises: Again for those with a level that is gone,
        and those that cross."""
        made: list[Sides] = []
        odd: set[Topic] = set()
        price, size, counts = self.levels.price, self.levels.size, self.levels.counts
        ends = np.cumsum(counts)
        middles = ends[2 * snapshots]
        for place, start, middle, end in zip(
            self.which[snapshots].tolist(), (middles - counts[2 * snapshots]).tolist(), middles.tolist(),
            ends[2 * snapshots + 1].tolist(), strict=True,
        ):  # fmt: skip
            sides = Sides()
            sides.bids, sides.asks = set(price[start:middle].tolist()), set(price[middle:end].tolist())
            sides.set_best()
            if sides.best_bid >= sides.best_ask or not size[start:end].all():
                odd.add(self.topics[place])
            made.append(sides)
        if odd:
            raise Again(odd)
        return made


def _stands(topics: Sequence[Topic]) -> tuple[list[int], list[int]]:
    """Where books stand: update ids, and sequences."""
    return [
        _NOWHERE if topic.awaiting or topic.depth < STRICT_DEPTH or not topic.last_update else topic.last_update
        for topic in topics
    ], [ABSENT if topic.sequence is None else topic.sequence for topic in topics]


def _change(sides: Sides, prices: Sequence[int], is_ask: bool, log: list[tuple[set[int], int]]) -> None:
    """Take changes of one side in, prices that go as their complements, and note each that came or went."""
    live = sides.asks if is_ask else sides.bids
    for price in prices:
        if price < 0:
            if ~price in live:
                live.remove(~price)
                sides.went(~price, is_ask)
                log.append((live, ~price))
        elif price not in live:
            live.add(price)
            log.append((live, price))
            if is_ask:
                if price < sides.best_ask:
                    sides.best_ask = price
            elif price > sides.best_bid:
                sides.best_bid = price


def book_numbers(decoded: Sequence[Any]) -> tuple[Ints, Ints, Ints, Ints]:
    """The book messages' update ids, sequences, event times and times of sending. Raises: Strange where one is none."""
    try:
        flat = np.fromiter(
            [x for m in decoded for x in (m.data.u, m.data.seq, m.cts, m.ts)], np.int64, 4 * len(decoded)
        )
    except (TypeError, OverflowError):
        return (
            counts([m.data.u for m in decoded]), counts([m.data.seq for m in decoded]), times([m.cts for m in decoded]),
            times([m.ts for m in decoded]),
        )  # fmt: skip
    table = flat.reshape(-1, 4)
    if np.count_nonzero(table.view(np.uint64) > _MOST):  # as unsigned, a negative number is large
        raise Strange
    table *= _UNITS
    update_id, sequence, event_time, sent_time = table.T
    return update_id, sequence, event_time, sent_time
