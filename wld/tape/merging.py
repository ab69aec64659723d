"""Owns the merge of two recordings of one feed into one stream: which events are the same, which fill a hole, in what
order, and which holes are left. Pure: events in, events out.

Same are: books of a depth with one update id (and sequence), trades with one id, liquidations equal in content and in
place among their equals of one message, tickers with one sequence and push time. The first recording gives the order;
what only the second has goes where its neighbours in its own topic are, and between topics where the venue's clock
says. Times on that clock are push times, since the clocks of two hosts differ.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from wld.events import BookDelta, BookSnapshot, Event, Gap, Instrument, Liquidation, Repair, Ticker, Trade

SLACK_NS = 10_000_000_000
"""How far both recordings are read ahead, on the venue's clock, to know whether the other has an event too."""
RECENT_KEYS = 5_000
"""Keys remembered per topic: five times what REST fills a hole with, and more than any slack holds."""
JITTER_NS = 50_000_000
"""Ends of two holes closer than this are the same end."""
FAR = 1 << 62


class Hole(Struct):
    """Time in which a recording has nothing of a scope, on the venue's clock, ns; `gap` None: it was not recording."""

    first: int
    last: int
    gap: Gap | None = None
    place: int = 0
    """Which of the recording's Gaps it is, counted from 0."""


class Side(Struct):
    """What is known of a recording before it is read: its holes, and how its clock stands to the venue's."""

    gaps: list[Hole]
    """Open Gaps and closed ones, in order."""
    is_closed: list[bool]
    """Of each Gap: whether a Repair closed it."""
    pauses: list[Hole]
    """Not recording: before the first run, between runs, after the last."""


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


def left_over(a: Side, b: Side) -> dict[tuple[int, int], list[Gap]]:
    """The holes that both recordings have: (which side, which of its Gaps) to what is said in its place.

    A hole stands where the first of the two resumes; side 2 and 3 are the starts of runs of the first and second.
    """
    plan: dict[tuple[int, int], list[Gap]] = {}
    for mine, other, who in ((a, b, 0), (b, a, 1)):
        for hole, is_closed in zip(mine.gaps, mine.is_closed, strict=True):
            gap = hole.gap
            assert gap is not None
            against = [*other.pauses]
            if who == 0:
                against += [h for h, closed in zip(other.gaps, other.is_closed, strict=True) if not closed]
            for theirs in against:
                first, last = max(hole.first, theirs.first), min(hole.last, theirs.last)
                scope = _common_scope(gap, theirs.gap)
                if scope is None or first > last or (first == last and hole.first != hole.last):
                    continue
                is_whole = first <= hole.first + JITTER_NS and last >= hole.last - JITTER_NS
                if is_whole and scope == (gap.topic, gap.symbol):
                    left = gap
                elif is_closed:
                    continue
                else:
                    shift = (gap.last_time if gap.last_time is not None else gap.receive_time) - hole.last
                    left = msgspec.structs.replace(
                        gap, topic=scope[0], symbol=scope[1], missed=None, first_time=first + shift,
                        last_time=last + shift, receive_time=last + shift,
                    )  # fmt: skip
                if last >= hole.last - JITTER_NS or theirs.last >= FAR:
                    marker = (who, hole.place)
                elif theirs.gap is not None:
                    marker = (1 - who, theirs.place)
                else:
                    marker = (3 - who, theirs.place)
                known = plan.setdefault(marker, [])
                if left not in known:
                    known.append(left)
    return plan


def _common_scope(gap: Gap, other: Gap | None) -> tuple[str | None, str | None] | None:
    """What both miss: the narrower topic and symbol; None where they miss different things."""
    if other is None:
        return gap.topic, gap.symbol
    if None not in (gap.topic, other.topic) and gap.topic != other.topic:
        return None
    if None not in (gap.symbol, other.symbol) and gap.symbol != other.symbol:
        return None
    return gap.topic or other.topic, gap.symbol or other.symbol


class _Item:
    """One event of one side on its way."""

    __slots__ = ("event", "is_resync", "is_taken", "key", "marker", "place", "side", "time", "topic")

    def __init__(self, side: int, place: int, event: Any, topic: Any, key: Any, marker: Any) -> None:
        self.side = side
        self.place = place
        self.event = event
        self.topic = topic
        self.key = key
        self.marker = marker
        self.time = 0
        self.is_resync = False
        self.is_taken = False


def _key_of(event: Any) -> tuple[Any, Any]:
    """(topic, what makes it the same event) of market data."""
    kind = type(event)
    if kind is BookDelta or kind is BookSnapshot:
        return (f"orderbook.{event.depth}", event.symbol), (event.update_id, event.sequence)
    if kind is Trade:
        name = event.trade_id or (event.event_time, event.price, event.size, event.aggressor_side)
        return ("publicTrade", event.symbol), name
    if kind is Liquidation:
        content = (event.sent_time, event.event_time, event.position_side, event.size, event.bankruptcy_price)
        return ("allLiquidation", event.symbol), content
    return ("tickers", event.symbol), (event.sequence, event.sent_time)


def _order_of(event: Any) -> tuple[int, ...]:
    """Where an event stands among those of its topic that neither side puts in order."""
    if isinstance(event, BookDelta | BookSnapshot):
        sequence = -1 if event.sequence is None else event.sequence
        return sequence, event.update_id, isinstance(event, BookSnapshot)
    if isinstance(event, Trade):
        return event.event_time, -1 if event.sequence is None else event.sequence
    sent = event.receive_time if event.sent_time is None else event.sent_time
    if isinstance(event, Ticker):
        return -1 if event.sequence is None else event.sequence, sent
    return sent, event.event_time


def venue_time(event: Any) -> int | None:
    """The venue's push time of an event, else its event time; None where it has none of its own."""
    kind = type(event)
    if kind is Gap or kind is Repair or kind is Instrument or (kind is Trade and event.is_backfilled):
        return None
    if event.sent_time is not None:
        return int(event.sent_time)
    return event.event_time or None


class _Reader:
    """One side, read ahead: pending events in ring order, by topic, and by key."""

    def __init__(self, side: int, events: Iterable[tuple[str, Event]]) -> None:
        self._side = side
        self._events = iter(events)
        self._clock = 0
        self._untimed: list[_Item] = []
        self._place = 0
        self._next: tuple[str, Event] | None = None
        self.run: str | None = None
        self.runs = 0
        self._gaps = 0
        self._gap_ids: dict[int, int] = {}
        self._resync: dict[Any, bool] = {}
        self._counts: dict[Any, dict[Any, int]] = {}
        self.is_at_end = False
        self.queue: deque[_Item] = deque()
        self.by_topic: dict[Any, deque[_Item]] = {}
        self.pending: dict[Any, _Item] = {}
        self.markers: deque[_Item] = deque()

    @property
    def head(self) -> _Item | None:
        """The first pending item."""
        while self.queue and self.queue[0].is_taken:
            self.queue.popleft()
        return self.queue[0] if self.queue else None

    def first_of(self, topic: Any) -> _Item | None:
        """The first pending item of a topic."""
        queue = self.by_topic.get(topic)
        while queue and queue[0].is_taken:
            queue.popleft()
        return queue[0] if queue else None

    def take(self, item: _Item) -> None:
        """The item is dealt with."""
        item.is_taken = True
        self.pending.pop((item.topic, item.key), None)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is pending."""
        return self.head is None and not self._untimed

    def peek(self) -> tuple[str, Event] | None:
        """The next event that was not read yet, with its run; None at the end."""
        if self._next is None and not self.is_at_end:
            self._next = next(self._events, None)
        return self._next

    def pass_by(self, topic: Any, key: Any, time: int) -> tuple[Any, int]:
        """The peeked event is dealt with unread; returns its key."""
        self._next = None
        self._place += 1
        self._clock = max(self._clock, time)
        self._resync[topic] = True
        return key, self._count(topic, key)

    def occurrences(self, topic: Any, key: Any) -> int:
        """How often this key came in the topic so far."""
        return self._counts[topic].get(key, -1) + 1 if topic in self._counts else 0

    def _count(self, topic: Any, key: Any) -> int:
        counts = self._counts.setdefault(topic, {})
        nth = counts[key] = counts.pop(key, -1) + 1
        if len(counts) > 2 * RECENT_KEYS:
            for old in list(counts)[:RECENT_KEYS]:
                del counts[old]
        return nth

    def read_to(self, time: int) -> None:
        """Read until the venue's clock has passed a time, or to the end."""
        while not self.is_at_end and (not self.queue or self._clock <= time or self.head is None):
            following = self.peek()
            self._next = None
            if following is None:
                self.is_at_end = True
                for item in self._untimed:
                    self._place_at(item, self._clock)
                self._untimed.clear()
                return
            self._read(*following)

    def _read(self, run: str, event: Event) -> None:
        if run != self.run:
            if self.run is not None:
                self._resync.clear()
            self.run = run
            self._add(event, (2 + self._side, self.runs), is_event=False)
            self.runs += 1
            self._gap_ids.clear()
        if isinstance(event, Gap):
            self._resync = {t: v for t, v in self._resync.items() if not _covers(event, t)}
            self._gap_ids[event.gap_id] = self._gaps
            self._add(event, (self._side, self._gaps))
            self._gaps += 1
        elif isinstance(event, Repair):
            self._add(event, (self._side, self._gap_ids.get(event.gap_id, -1)))
        else:
            self._add(event, None)

    def _add(self, event: Any, marker: Any, *, is_event: bool = True) -> None:
        topic = key = None
        if marker is None and not isinstance(event, Instrument):
            topic, key = _key_of(event)
        item = _Item(self._side, self._place, event if is_event else None, topic, key, marker)
        self._place += 1
        if topic is not None:
            item.key = (key, self._count(topic, key))
            item.is_resync = topic not in self._resync
            self._resync[topic] = True
        time = venue_time(event) if is_event else None
        if time is None:
            self._untimed.append(item)
            return
        self._clock = max(self._clock, time)
        for waiting in self._untimed:
            self._place_at(waiting, self._clock)
        self._untimed.clear()
        self._place_at(item, self._clock)

    def _place_at(self, item: _Item, time: int) -> None:
        item.time = time
        self.queue.append(item)
        if item.topic is not None:
            self.by_topic.setdefault(item.topic, deque()).append(item)
            self.pending[item.topic, item.key] = item
        elif item.marker is not None:
            self.markers.append(item)


def _covers(gap: Gap, topic: tuple[str, str]) -> bool:
    return gap.topic in (None, topic[0]) and gap.symbol in (None, topic[1])


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
        self._a, self._b = _Reader(0, a), _Reader(1, b)
        self._plan = plan
        self._topics: dict[Any, _Topic] = {}
        self._instruments: dict[str, Instrument] = {}
        self._gap_ids: dict[tuple[int, int], int] = {}
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
            topic, key = _key_of(mine)
            if (topic, key) != _key_of(theirs) or a.occurrences(topic, key) != b.occurrences(topic, key):
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

    def _fills_before(self, a: _Item | None) -> bool:
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

    def _emit_first(self, a: _Item) -> None:
        """The first's next event, after what the second has before it in its topic."""
        if a.topic is None:
            self._emit(a)
            return
        if self._is_known(a):
            self._drop(a)
            return
        twin = self._b.pending.get((a.topic, a.key))
        is_echoed = twin is not None and _is_echo(twin.event, a.event)
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

    def _comes_later(self, item: _Item) -> bool:
        """Whether the second has it too, behind its present head."""
        return (item.topic, item.key) in self._b.pending

    def _prefers(self, twin: _Item, a: _Item) -> bool:
        """Whether the second's copy is the better one: sent, not fetched; a delta where it continues the book."""
        mine, theirs = a.event, twin.event
        if isinstance(mine, Trade):
            return mine.is_backfilled and not theirs.is_backfilled
        if isinstance(mine, BookSnapshot | BookDelta) and type(mine) is not type(theirs):
            last = self._topic(a.topic).last
            continues = last is not None and mine.update_id == last.update_id + 1
            return isinstance(theirs, BookDelta) == continues
        return False

    def _compare(self, a: _Item, twin: _Item) -> None:
        mine, theirs = a.event, twin.event
        if type(mine) is type(theirs) and isinstance(mine, BookSnapshot | BookDelta):
            self.summary.divergent += (mine.bids, mine.asks) != (theirs.bids, theirs.asks)

    def _topic(self, name: Any) -> _Topic:
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = _Topic()
        return topic

    def _is_known(self, item: _Item) -> bool:
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

    def _drop(self, item: _Item) -> None:
        topic = self._topic(item.topic)
        bit = 1 << item.side
        if item.key in topic.recent:
            topic.recent[item.key] |= bit
            self._only[1 - item.side] -= 1
            self.summary.both += 1
        topic.sides |= bit
        (self._a, self._b)[item.side].take(item)

    def _emit(self, item: _Item, *, both: bool = False) -> None:
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

    def _emit_instrument(self, item: _Item) -> None:
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

    def _emit_marker(self, item: _Item) -> None:
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
            if event is not None and gap.gap_id == getattr(event, "gap_id", None) and gap == event:
                self._gap_ids[item.marker] = self._next_gap_id
            self._write(item.time, msgspec.structs.replace(gap, gap_id=self._next_gap_id))
            self._next_gap_id += 1
            self.summary.gaps_left += 1


def _is_echo(event: Any, sent: Any) -> bool:
    """Whether it tells again, later, what the other was sent: a fetched trade, the snapshot of a resubscribed topic."""
    if isinstance(event, Trade):
        return bool(event.is_backfilled and not sent.is_backfilled)
    if isinstance(event, BookDelta):
        return False  # whatever its time says: gateways stamp a delta later than another's snapshot of the same update
    return bool(event.sent_time is not None and sent.sent_time is not None and event.sent_time > sent.sent_time)


def _precedes(item: _Item, other: _Item) -> bool:
    return _order_of(item.event) < _order_of(other.event)
