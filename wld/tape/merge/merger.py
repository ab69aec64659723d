"""Owns the merge of two recordings of one feed into one stream: which events are the same, which fill a hole, in what
order, and which holes are left. Pure: events in, events out.

Same are: books of a depth with one update id (and sequence), trades with one id, liquidations equal in content and in
place among their equals of one message, tickers with one sequence and push time. The first recording gives the order;
what only the second has goes where its neighbours in its own topic are, and between topics where the venue's clock
says. Times on that clock are push times, since the clocks of two hosts differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from wld.events import BookDelta, BookSnapshot, Event, Gap, Instrument, Repair, Ticker, Trade
from wld.tape.merge.reading import RECENT_KEYS, SLACK_NS, Item, Reader, key_of, order_of, venue_time


class MergeSummary(Struct):
    """What a merge did; counts of events."""

    events: int = 0
    filled: tuple[int, int] = (0, 0)
    """What only the first, and only the second recording had, of market data."""
    both: int = 0
    divergent: int = 0
    """Books that both have under one update id with other levels: one of the two lines was wrong."""
    gaps_closed: int = 0
    gaps_left: int = 0


class _Topic:
    """What of a topic has gone out."""

    __slots__ = ("last", "recent", "sides")

    def __init__(self) -> None:
        self.last: Any = None
        self.sides = 0
        """Which sides have the last one, as bits."""
        self.recent: dict[Any, int] = {}
        """Key to the sides that have it."""


class Merger:
    """Merges two recordings; iterate it once. `summary` is complete at the end.

    Each side is (run, event) in ring order; `plan` is `left_over` of the two.
    """

    def __init__(
        self,
        a: Iterable[tuple[str, Event]],
        b: Iterable[tuple[str, Event]],
        plan: dict[tuple[int, int], list[Gap]],
    ) -> None:
        self._a, self._b = Reader(0, a), Reader(1, b)
        self._plan = plan
        self._topics: dict[Any, _Topic] = {}
        self._instruments: dict[str, Instrument] = {}
        self._gap_ids: dict[tuple[int, int], int] = {}
        self._said: dict[int, int] = {}
        """Gaps of the plan that went out, by identity: their new ids."""
        self._next_gap_id = 1
        self._only = [0, 0]
        self._out: list[tuple[int, Event]] = []
        self.summary = MergeSummary()

    def __iter__(self) -> Iterator[tuple[int, Event]]:
        """(venue's time, event): what is to be written, in order."""
        a, b = self._a, self._b
        while True:
            if a.is_idle and b.is_idle:
                yield from self._agreement()
            a.read_to(0)
            b.read_to(0)
            mine, theirs = a.head, b.head
            if (
                mine is not None
                and theirs is not None
                and mine.topic is not None
                and (mine.topic, mine.key) == (theirs.topic, theirs.key)
                and not _is_echo(mine.event, theirs.event)
            ):
                self._emit_first(mine)  # both have it next: nothing lies between
                yield from self._out
                self._out.clear()
                continue
            heads = [head.time for head in (a.head, b.head) if head is not None]
            if not heads:
                break
            horizon = min(heads) + SLACK_NS
            a.read_to(horizon)
            b.read_to(horizon)
            if self._fills_before(a.head) and a.head is not None:
                b.read_to(a.head.time + SLACK_NS)
                self._emit_first(a.head)
            yield from self._out
            self._out.clear()
        self.summary.filled = (self._only[0], self._only[1])

    def _agreement(self) -> Iterator[tuple[int, Event]]:
        """As long as both recordings go on with the same event: the first's, without reading ahead."""
        a, b = self._a, self._b
        while (x := a.peek()) is not None and (y := b.peek()) is not None:
            mine: Any = x[1]
            theirs: Any = y[1]
            if type(mine) is not type(theirs) or x[0] != a.run or y[0] != b.run:
                return
            time = venue_time(mine)
            if time is None or mine.symbol != theirs.symbol or time != venue_time(theirs):
                return
            topic, key = key_of(mine)
            if (topic, key) != key_of(theirs) or a.occurrences(topic, key) != b.occurrences(topic, key):
                return
            if isinstance(mine, BookSnapshot | BookDelta):
                self.summary.divergent += (mine.bids, mine.asks) != (theirs.bids, theirs.asks)
            name = a.pass_by(topic, key, time)
            b.pass_by(topic, key, time)
            self._note(topic, name, mine, 3)
            self.summary.both += 1
            self.summary.events += 1
            yield time, mine

    def _note(self, name: Any, key: Any, event: Any, sides: int) -> None:
        """The event has gone out."""
        topic = self._topic(name)
        topic.last = event
        topic.sides = sides
        topic.recent[key] = sides
        if len(topic.recent) > 2 * RECENT_KEYS:
            for old in list(topic.recent)[:RECENT_KEYS]:
                del topic.recent[old]

    def _fills_before(self, a: Item | None) -> bool:
        """What only the second has and is due before the first's next event; False where more has to be read first."""
        while (b := self._b.head) is not None and (a is None or b.time <= a.time):
            self._a.read_to(b.time + SLACK_NS)
            if b.topic is None:
                if b.marker is None and a is not None and b.time == a.time:
                    return True  # the first's own instrument, if it has one, goes first
                self._emit(b)
                continue
            if self._is_known(b):
                self._drop(b)
                continue
            other = self._a.pending.get((b.topic, b.key))
            if other is not None:
                if not _is_echo(other.event, b.event):
                    return True  # comes with the first's own
                self._a.take(other)
                self._emit(b, both=True)
                continue
            following = self._a.first_of(b.topic)
            if following is not None and not self._comes_later(following) and _precedes(following, b):
                return True
            self._emit(b)
        return self._b.head is not None or self._b.is_at_end

    def _emit_first(self, a: Item) -> None:
        """The first's next event, after what the second has before it in its topic."""
        if a.topic is None:
            self._emit(a)
            return
        if self._is_known(a):
            self._drop(a)
            return
        twin = self._b.pending.get((a.topic, a.key))
        is_echoed = twin is not None and (_is_fetched(twin.event) or _is_echo(twin.event, a.event))
        if twin is not None and is_echoed:
            self._b.take(twin)
            twin = None
        while (b := self._b.first_of(a.topic)) is not None and b is not twin:
            if twin is None and not _precedes(b, a):
                break
            if self._is_known(b):
                self._drop(b)
                continue
            other = self._a.pending.get((b.topic, b.key))
            if other is not None:
                self._a.take(other)  # the first has it later, such as a backfilled trade
                self._emit(b, both=True)
            else:
                self._emit(b)
        if twin is None:
            self._emit(a, both=is_echoed)
            return
        self._compare(a, twin)
        self._b.take(twin)
        if self._prefers(twin, a):
            a.event = twin.event
        self._emit(a, both=True)

    def _comes_later(self, item: Item) -> bool:
        """Whether the second has it too, behind its present head."""
        return (item.topic, item.key) in self._b.pending

    def _prefers(self, twin: Item, a: Item) -> bool:
        """Whether the second's copy is the better one: sent, not fetched; a delta where it continues the book."""
        mine, theirs = a.event, twin.event
        if isinstance(mine, Trade):
            return mine.is_backfilled and not theirs.is_backfilled
        if isinstance(mine, BookSnapshot | BookDelta) and type(mine) is not type(theirs):
            last = self._topic(a.topic).last
            continues = last is not None and mine.update_id == last.update_id + 1
            return isinstance(theirs, BookDelta) == continues
        return False

    def _compare(self, a: Item, twin: Item) -> None:
        mine, theirs = a.event, twin.event
        if type(mine) is type(theirs) and isinstance(mine, BookSnapshot | BookDelta):
            self.summary.divergent += (mine.bids, mine.asks) != (theirs.bids, theirs.asks)

    def _topic(self, name: Any) -> _Topic:
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = _Topic()
        return topic

    def _is_known(self, item: Item) -> bool:
        """Whether it has gone out from the other side, or says nothing that has not."""
        topic = self._topic(item.topic)
        bit = 1 << item.side
        sides = topic.recent.get(item.key)
        if sides is not None and not sides & bit:
            return True
        if not item.is_resync or topic.last is None or not topic.sides & (3 - bit):
            return False
        last, event = topic.last, item.event
        if isinstance(event, BookSnapshot):
            return bool(event.update_id == last.update_id)
        if isinstance(event, Ticker):
            times = {"sent_time": event.sent_time, "receive_time": event.receive_time}
            return bool(msgspec.structs.replace(last, **times) == event)
        return False

    def _drop(self, item: Item) -> None:
        topic = self._topic(item.topic)
        bit = 1 << item.side
        if item.key in topic.recent:
            topic.recent[item.key] |= bit
            self._only[1 - item.side] -= 1
            self.summary.both += 1
        topic.sides |= bit
        (self._a, self._b)[item.side].take(item)

    def _emit(self, item: Item, *, both: bool = False) -> None:
        (self._a, self._b)[item.side].take(item)
        if item.side == 1 and item.topic is not None:
            markers = self._b.markers
            while markers and (markers[0].is_taken or markers[0].place < item.place):
                marker = markers.popleft()
                if not marker.is_taken:
                    self._b.take(marker)
                    self._emit_marker(marker)
        if item.topic is None:
            if item.marker is not None:
                self._emit_marker(item)
            else:
                self._emit_instrument(item)
            return
        self._note(item.topic, item.key, item.event, 3 if both else 1 << item.side)
        if both:
            self.summary.both += 1
        else:
            self._only[item.side] += 1
        self._write(item.time, item.event)

    def _write(self, time: int, event: Event) -> None:
        self.summary.events += 1
        self._out.append((time, event))

    def _emit_instrument(self, item: Item) -> None:
        """The first's always; the second's where it tells something new."""
        event: Instrument = item.event
        known = self._instruments.get(event.symbol)
        if (
            item.side == 1
            and known is not None
            and msgspec.structs.replace(known, receive_time=event.receive_time) == event
        ):
            return
        self._instruments[event.symbol] = event
        self._write(item.time, event)

    def _emit_marker(self, item: Item) -> None:
        """A Gap, a Repair or the start of a run: what the plan leaves of it, with ids of the merged recording."""
        event = item.event
        if isinstance(event, Repair):
            gap_id = self._gap_ids.get(item.marker)
            if gap_id is not None:
                self._write(item.time, msgspec.structs.replace(event, gap_id=gap_id))
            return
        left = self._plan.get(item.marker, [])
        if isinstance(event, Gap) and not left:
            self.summary.gaps_closed += 1
        for gap in left:
            gap_id = self._said.setdefault(id(gap), self._next_gap_id)
            if gap == event:
                self._gap_ids[item.marker] = gap_id
            if gap_id == self._next_gap_id:
                self._write(item.time, msgspec.structs.replace(gap, gap_id=gap_id))
                self._next_gap_id += 1
                self.summary.gaps_left += 1


def _is_fetched(event: Any) -> bool:
    """Whether it was told later than its place in the feed: what stands before it says nothing of the order."""
    return isinstance(event, Trade) and event.is_backfilled


def _is_echo(event: Any, sent: Any) -> bool:
    """Whether it tells again, later, what the other was sent: a fetched trade, the snapshot of a resubscribed topic."""
    if isinstance(event, Trade):
        return event.is_backfilled and not sent.is_backfilled
    if isinstance(event, BookDelta):
        return False  # whatever its time says: gateways stamp a delta later than another's snapshot of the same update
    return bool(event.sent_time is not None and sent.sent_time is not None and event.sent_time > sent.sent_time)


def _precedes(item: Item, other: Item) -> bool:
    return order_of(item.event) < order_of(other.event)
