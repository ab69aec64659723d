"""Owns where lines stand: per topic the log of what went out, and each line's place in it. Pure state, no decisions."""

from __future__ import annotations

from collections import deque
from typing import Any

from wld.bybit.items import Item, Order, is_older, kind_of, merge
from wld.bybit.topics import LastTrade
from wld.events import BookDelta, BookSnapshot, Event, GapReason, Ticker

Entry = tuple[Any, int, Order, int, bool]
"""key, content, order, time of going out, whether a snapshot (that other lines are not sent)"""
ANEW_NS = 60_000_000_000
"""No line is still behind a new listing that was so long ago."""


class Log:
    """What went out on one topic: a bounded tail of keys. Indices grow for ever."""

    __slots__ = ("base", "entries", "places")

    def __init__(self) -> None:
        self.base = 0
        self.entries: deque[Entry] = deque()
        self.places: dict[Any, int] = {}

    @property
    def end(self) -> int:
        """Index of the last entry; base - 1 when empty."""
        return self.base + len(self.entries) - 1

    @property
    def is_empty(self) -> bool:
        return not self.entries

    def at(self, index: int) -> Entry:
        return self.entries[index - self.base]

    def append(self, item: Item, now: int) -> int:
        self.entries.append((item.key, item.content, item.order, now, item.is_snapshot or not item.is_flow))
        self.places[item.key] = self.end
        return self.end

    def find(self, item: Item, after: int | None = None) -> int | None:
        """The latest entry of that key, beyond `after` where given, of the same sequence (update ids restart)."""
        place = self.places.get(item.key)
        if place is None or (after is not None and place <= after):
            return None
        sequence = item.order[0]
        if sequence is not None:
            for index in range(place, max(self.base, after + 1 if after is not None else 0, place - 512) - 1, -1):
                entry = self.at(index)
                if entry[0] == item.key and entry[2][0] in (None, sequence):
                    return index
            return None
        return place

    def trim(self, keep_from: int) -> None:
        while self.base < keep_from and self.entries:
            entry = self.entries.popleft()
            if self.places.get(entry[0]) == self.base:
                del self.places[entry[0]]
            self.base += 1


class View:
    """One line's standing in one topic."""

    __slots__ = (
        "attached",
        "cursor",
        "floor",
        "fresh_at",
        "held",
        "is_asked",
        "is_begun",
        "is_renewed",
        "skipped",
        "subscribed",
        "subscribed_at",
        "subscribed_sent",
        "untold",
    )

    def __init__(self) -> None:
        self.subscribed = False
        self.subscribed_sent: int | None = None
        """Venue time at which the topic certainly flowed on this line, ns."""
        self.subscribed_at = 0
        """Receive time by which it did, ns."""
        self.attached = False
        """It brings everything that follows the end of the log."""
        self.cursor: int | None = None
        """Its place in the log; None while attached: somewhere up to the end, its next message tells."""
        self.floor = 0
        self.held: list[Item] = []
        self.skipped: dict[Any, int] = {}
        self.is_asked = False
        """A fresh snapshot was asked for and has not come."""
        self.is_begun = False
        """It has brought something."""
        self.fresh_at = 0
        """When it was last subscribed, or subscribed anew, to set right a state that differs, ns."""
        self.untold: tuple[int, int] | None = None
        """(from, to) in which it carried nothing, and another line vouched for the topic."""
        self.is_renewed = False
        """Being subscribed anew: its messages are left out until the venue confirms."""


class LineState:
    __slots__ = ("answered", "brought", "last_receive", "last_sent", "probed", "unstamped")

    def __init__(self, now: int) -> None:
        self.brought: dict[str, int] = {}
        """By topic, and by symbol for any of its topics, when it last brought a message, ns."""
        self.last_receive = now
        self.last_sent = 0
        self.answered = 0
        """When the latest ping left that was answered while the line was not seen to be behind, receive clock, ns."""
        self.probed = 0
        """When a ping was last asked for."""
        self.unstamped: list[View] = []


class TopicState:
    __slots__ = (
        "anew_at", "asks", "begun", "bids", "extra", "hole", "hole_order", "hole_sent", "is_after_hole", "is_fresh", "is_rejected", "is_strict", "kind", "last_ticker", "last_time", "last_trade", "leader", "log", "name", "owed", "symbol",
        "views",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.symbol = name.rpartition(".")[2]
        self.anew_at = 0
        """Push time of the first entry after the venue began to count the sequence from a lower one, ns."""
        self.begun: tuple[Order, int] | None = None
        """Order and receive time of its first entry of all; None before it, and once a Gap has told what precedes it."""
        self.kind, self.is_strict = kind_of(name)
        self.log = Log()
        self.views: dict[int, View] = {}
        self.last_time: int | None = None
        self.last_trade: LastTrade | None = None
        self.last_ticker: Ticker | None = None
        self.hole: tuple[GapReason, int | None] | None = None
        self.hole_order: Order | None = None
        """Order of the first entry after the last hole: what is older and unknown lies in the hole."""
        self.is_after_hole = False
        self.leader: int | None = None
        self.hole_sent = 0
        self.is_fresh = True
        """Nobody covered it yet, or a Gap has just said so: whoever brings it first leads."""
        self.is_rejected = False
        self.owed: Item | None = None
        """What a line that is gone had brought first of all that nobody has said yet."""
        self.extra: dict[Any, None] = {}
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}

    @property
    def is_dated(self) -> bool:
        """Whether its state and a snapshot of it show what was missed."""
        return self.kind in ("book", "state")

    @property
    def is_covered(self) -> bool:
        return any(view.attached for view in self.views.values())

    def is_older(self, order: Order, than: Order) -> bool:
        """Whether an item belongs before an entry. What was pushed before the venue counted anew is older than all since."""
        if self.anew_at and (order[1] < self.anew_at) != (than[1] < self.anew_at):
            return order[1] < self.anew_at
        return is_older(self.kind, order, than)

    def note_order(self, order: Order) -> None:
        """A state is about to go out behind all others: whether the venue counts from a lower sequence since."""
        if self.log.is_empty:
            return
        last = self.log.at(self.log.end)[2]
        if None not in (order[0], last[0]) and order[0] < last[0] and order[1] > last[1]:  # type: ignore[operator]
            self.anew_at = order[1]
        elif order[1] - self.anew_at > ANEW_NS:
            self.anew_at = 0

    def keep_book(self, item: Item) -> None:
        """The book as the stream has it, to compare snapshots with."""
        event = item.events[0]
        if isinstance(event, BookSnapshot):
            self.bids, self.asks = dict(event.bids), dict(event.asks)
        elif isinstance(event, BookDelta):
            merge(self.bids, event.bids)
            merge(self.asks, event.asks)

    def holds_book(self, event: Event) -> bool:
        """Whether a snapshot is the book as the stream has it, within the levels that both hold."""
        if not isinstance(event, BookSnapshot):
            return True
        bids, asks = list(event.bids), list(event.asks)
        return (
            sorted(self.bids.items(), reverse=True)[: len(bids)] == bids[: len(self.bids)]
            and sorted(self.asks.items())[: len(asks)] == asks[: len(self.asks)]
        )

    def begins_again(self, line: int, sent: int) -> None:
        """A Gap has been told; `line` goes on from here. What others still bring from before `sent` lies in it."""
        self.is_after_hole = True
        self.owed = None
        self.leader = line
        self.hole_sent = sent

    @property
    def is_idle(self) -> bool:
        """Nobody covers it and nobody could: it adds nothing to what is lost."""
        return not self.is_covered and (self.is_fresh or self.is_rejected or self.hole is not None)
