"""Owns one recording as the merge reads it: its events by topic, each with its key and its time on the venue's clock,
read ahead as far as the other recording needs. Pure: times on that clock are push times, since the clocks of two hosts
differ.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from wld.events import BookDelta, BookSnapshot, Event, Gap, Instrument, Liquidation, Repair, Ticker, Trade

SLACK_NS = 10_000_000_000
"""How far both recordings are read ahead, on the venue's clock, to know whether the other has an event too."""
RECENT_KEYS = 5_000
"""Keys remembered per topic: five times what REST fills a hole with, and more than any slack holds."""


class Item:
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


def key_of(event: Any) -> tuple[Any, Any]:
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


def order_of(event: Any) -> tuple[int, ...]:
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


class Reader:
    """One side, read ahead: pending events in ring order, by topic, and by key."""

    def __init__(self, side: int, events: Iterable[tuple[str, Event]]) -> None:
        self._side = side
        self._events = iter(events)
        self._clock = 0
        self._untimed: list[Item] = []
        self._place = 0
        self._next: tuple[str, Event] | None = None
        self.run: str | None = None
        self.runs = 0
        self._gaps = 0
        self._gap_ids: dict[int, int] = {}
        self._resync: dict[Any, bool] = {}
        self._counts: dict[Any, dict[Any, int]] = {}
        self.is_at_end = False
        self.queue: deque[Item] = deque()
        self.by_topic: dict[Any, deque[Item]] = {}
        self.pending: dict[Any, Item] = {}
        self.markers: deque[Item] = deque()

    @property
    def head(self) -> Item | None:
        """The first pending item."""
        while self.queue and self.queue[0].is_taken:
            self.queue.popleft()
        return self.queue[0] if self.queue else None

    def first_of(self, topic: Any) -> Item | None:
        """The first pending item of a topic."""
        queue = self.by_topic.get(topic)
        while queue and queue[0].is_taken:
            queue.popleft()
        return queue[0] if queue else None

    def take(self, item: Item) -> None:
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
            topic, key = key_of(event)
        item = Item(self._side, self._place, event if is_event else None, topic, key, marker)
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

    def _place_at(self, item: Item, time: int) -> None:
        item.time = time
        self.queue.append(item)
        if item.topic is not None:
            self.by_topic.setdefault(item.topic, deque()).append(item)
            self.pending[item.topic, item.key] = item
        elif item.marker is not None:
            self.markers.append(item)


def _covers(gap: Gap, topic: tuple[str, str]) -> bool:
    return gap.topic in (None, topic[0]) and gap.symbol in (None, topic[1])
