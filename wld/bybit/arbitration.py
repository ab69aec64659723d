"""Owns arbitration: the events of several lines that carry the same topics in, one stream out. Pure.

A line is one connection from its opening to its end. The lines deliver the same messages in the same order, each at
its own pace and each with holes of its own. Per topic the output is a log; every line has a place in it. What a line
brings beyond the end of the log is new and goes out; what it brings behind the end was said before and is only
compared. A line whose place is unknown (fresh, or after a loss of its own) holds what it brings until another line
reaches it, so nothing comes out of order. Does not own sockets, nor the continuity within one line
(`wld.bybit.decoder`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from msgspec import structs

from wld.bybit.decoder import STRICT_DEPTH, Hole, LastTrade, MarketDecoder
from wld.events import BookDelta, BookSnapshot, Event, Gap, GapReason, Liquidation, Ticker, Trade
from wld.units import SCALE

HOLD_S = 10.0
"""A line ahead waits at most so long for one behind; then what is between is a Gap."""
OVERLAP_S = 0.25
"""What the venue's servers may be apart, and its confirmations ahead of their effect: see `_overlaps`."""
PROBE_S = 2.0
"""A line whose pong would prove an overlap is pinged no more often than this."""
ALONE_S = 30.0
"""Trades or liquidations on one line only for so long are a divergence."""
HELD_ITEMS = 20_000
"""Held per topic and line at most; beyond, the line behind is given up as after `HOLD_S`."""
TAIL = {"book": 256, "trade": 4_096, "liquidation": 64, "state": 64}
"""Entries of the log that stay once every line has passed them, by kind of topic."""
EXTRA = 4_096
"""Names remembered beside the log: what came late, and what REST brought."""
BELIEVED_S = 60.0
"""A venue time further off than this is taken for none."""
FORGOTTEN_S = 60.0
"""If none was believed for so long, the venue's clock is elsewhere by now: the next one is believed, whatever it says."""
LOG_ITEMS = 32_768
"""A line further behind than so many entries loses its place."""
_S = 10 * SCALE  # ns in a second
Prices = tuple[set[int], set[int]]
"""Of bids and asks, 1e-8."""


class _Item:
    """What is compared: `key` names it, `content` tells a different one of the same name, `order` old from new."""

    __slots__ = ("content", "events", "is_flow", "is_snapshot", "key", "order", "time")

    def __init__(self, key: Any, content: int, order: tuple[int | None, int], events: list[Event]) -> None:
        self.key = key
        self.content = content
        self.order = order
        self.events = events
        self.is_snapshot = type(events[0]) is BookSnapshot
        self.is_flow = not self.is_snapshot
        """Every line is sent it, unlike the snapshot that a new line begins with."""
        self.time = events[0].receive_time


class _Log:
    """What went out on one topic: a bounded tail of keys. Indices grow for ever."""

    __slots__ = ("base", "entries", "places")

    def __init__(self) -> None:
        self.base = 0
        self.entries: deque[_Entry] = deque()
        self.places: dict[Any, int] = {}

    @property
    def end(self) -> int:
        """Index of the last entry; base - 1 when empty."""
        return self.base + len(self.entries) - 1

    @property
    def is_empty(self) -> bool:
        return not self.entries

    def at(self, index: int) -> _Entry:
        return self.entries[index - self.base]

    def append(self, item: _Item, now: int) -> int:
        self.entries.append((item.key, item.content, item.order, now, item.is_snapshot))
        self.places[item.key] = self.end
        return self.end

    def find(self, item: _Item, after: int | None = None) -> int | None:
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


_Entry = tuple[Any, int, tuple[int | None, int], int, bool]
"""key, content, order, time of going out, whether a book snapshot"""


class _View:
    """One line's standing in one topic."""

    __slots__ = (
        "attached",
        "cursor",
        "floor",
        "held",
        "is_asked",
        "is_begun",
        "is_renewed",
        "skipped",
        "subscribed",
        "subscribed_at",
        "subscribed_sent",
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
        self.held: list[_Item] = []
        self.skipped: dict[Any, int] = {}
        self.is_asked = False
        """A fresh snapshot was asked for and has not come."""
        self.is_begun = False
        """It has brought something."""
        self.is_renewed = False
        """Being subscribed anew: its messages are left out until the venue confirms."""


class _LineState:
    __slots__ = ("answered", "last_receive", "last_sent", "probed", "unstamped")

    def __init__(self, now: int) -> None:
        self.last_receive = now
        self.last_sent = 0
        self.answered = 0
        """When the latest ping left that was answered while the line was not seen to be behind, receive clock, ns."""
        self.probed = 0
        """When a ping was last asked for."""
        self.unstamped: list[_View] = []


class _Topic:
    __slots__ = (
        "asks", "bids", "extra", "hole", "hole_order", "hole_sent", "is_after_hole", "is_fresh", "is_rejected", "is_strict", "kind", "last_time", "last_trade", "leader", "log", "name",
        "views",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind, self.is_strict = _kind_of(name)
        self.log = _Log()
        self.views: dict[int, _View] = {}
        self.last_time: int | None = None
        self.last_trade: LastTrade | None = None
        self.hole: tuple[GapReason, int | None] | None = None
        self.hole_order: tuple[int | None, int] | None = None
        """Order of the first entry after the last hole: what is older and unknown lies in the hole."""
        self.is_after_hole = False
        self.leader: int | None = None
        self.hole_sent = 0
        self.is_fresh = True
        """Nobody covered it yet, or a Gap has just said so: whoever brings it first leads."""
        self.is_rejected = False
        self.extra: dict[Any, None] = {}
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}

    @property
    def is_covered(self) -> bool:
        return any(view.attached for view in self.views.values())

    def keep_book(self, item: _Item) -> None:
        """The book as the stream has it, to compare snapshots with."""
        event = item.events[0]
        if isinstance(event, BookSnapshot):
            self.bids, self.asks = dict(event.bids), dict(event.asks)
        elif isinstance(event, BookDelta):
            _merge(self.bids, event.bids)
            _merge(self.asks, event.asks)

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
        self.leader = line
        self.hole_sent = sent

    @property
    def is_idle(self) -> bool:
        """Nobody covers it and nobody could: it adds nothing to what is lost."""
        return not self.is_covered and (self.is_fresh or self.is_rejected or self.hole is not None)


class Arbiter:
    """Several lines, one stream.

    Guarantees, within a topic: no message twice, none out of order except one that a line lost without knowing (it
    comes late rather than never, and is counted), and a Gap exactly where no line covered the topic. Times are
    receive times in ns; what was held goes out with the time of its release.
    """

    def __init__(
        self,
        topics: Iterable[str],
        *,
        next_gap_id: Callable[[], int] | None = None,
        hold_s: float = HOLD_S,
        alone_s: float = ALONE_S,
    ) -> None:
        self._topics: dict[str, _Topic] = {}
        self._lines: dict[int, _LineState] = {}
        self._next_gap_id = next_gap_id or count(1).__next__
        self._hold = int(hold_s * _S)
        self._alone = int(alone_s * _S)
        self._overlap = int(OVERLAP_S * _S)
        self._lost: tuple[GapReason, int | None] | None = None
        self._last_data: int | None = None
        self._first_data: int | None = None
        self._max_sent = 0
        self._max_sent_at = 0
        self._believed_at = 0
        self._max_flow = 0
        """Venue time of the latest message that no line's first snapshot explains: one that every line is sent."""
        self._sent = 0
        self._now = 0
        self._holding: set[tuple[str, int]] = set()
        self._resyncs: list[tuple[int, str]] = []
        self._notes: list[tuple[str, str]] = []
        self._heal: set[str] = set()
        self.holes: list[Hole] | None = None
        """Where Gaps that concern trades are put for repair; None: nobody repairs."""
        self.counters: Counter[str] = Counter()
        """`duplicate`, `late`, `released`, `divergence_content`, `divergence_alone`, `divergence_book`."""
        self.add_topics(topics)

    # -- topics

    def add_topics(self, topics: Iterable[str]) -> None:
        """Carry more topics."""
        for name in topics:
            if name not in self._topics:
                topic = self._topics[name] = _Topic(name)
                for line in self._lines:
                    topic.views[line] = _View()

    def remove_topics(self, topics: Iterable[str]) -> None:
        """Carry these no more."""
        for name in topics:
            self._topics.pop(name, None)
            self._holding = {(held, line) for held, line in self._holding if held != name}

    # -- lines

    def connected(self, line: int, now: int) -> None:
        """A line opened; `line` is a number never used before."""
        self._tell_time(now)
        self._lines[line] = _LineState(now)
        for topic in self._topics.values():
            topic.views[line] = _View()

    def subscribed(self, line: int, topics: Iterable[str], now: int) -> list[Event]:
        """The venue confirmed topics on a line: from here on, quiet means that there was nothing."""
        self._tell_time(now)
        out: list[Event] = []
        for name in topics:
            topic = self._topics.get(name)
            view = topic.views.get(line) if topic else None
            if topic is None or view is None:
                continue
            view.is_renewed = False
            self._mark_subscribed(self._lines[line], view)
            if self._lost is None and not topic.is_covered and not topic.is_strict and topic.kind != "state":
                out += self._lead(topic, line, view, None)
        return out

    def _mark_subscribed(self, state: _LineState, view: _View) -> None:
        if not view.subscribed:
            view.subscribed = True
            view.subscribed_at = self._now
            state.unstamped.append(view)

    def answered(self, line: int, ping_time: int, now: int) -> list[Event]:
        """A pong came on a line, to a ping that left at `ping_time` (receive clock, ns): see `_overlaps`."""
        self._tell_time(now)
        state = self._lines.get(line)
        if state is None or state.last_sent < self._max_flow - self._overlap:
            return []  # others have shown what this line has not: its messages, not its pongs, tell how far it is
        state.answered = max(state.answered, ping_time)
        self._look_for_overlaps()
        return self._note_data(self._look_again())

    def take_probes(self) -> list[int]:
        """Lines to ping now, since a pong on them would prove an overlap that nothing else may prove soon."""
        probes: list[int] = []
        for topic in self._topics.values():
            if topic.kind == "book":
                continue
            for line, view in topic.views.items():
                since = self._flows_since(topic, line, None)
                if view.attached or since is None or self._now < since + self._overlap:
                    continue
                for other, covering in topic.views.items():
                    state = self._lines[other]
                    wants = covering.attached and state.answered < since + self._overlap
                    if wants and self._now >= state.probed + int(PROBE_S * _S):
                        state.probed = self._now
                        probes.append(other)
        return probes

    def disconnected(self, line: int, reason: GapReason, now: int) -> list[Event]:
        """A line ended. A Gap where that left a topic without a line that covers it."""
        self._tell_time(now)
        state = self._lines.pop(line, None)
        if state is None:
            return []
        bare: list[_Topic] = []
        for topic in self._topics.values():
            view = topic.views.pop(line, None)
            self._holding.discard((topic.name, line))
            if view is not None and view.attached and not topic.is_covered:
                bare.append(topic)
        return self._uncovered(bare, line, state, reason, is_whole=True)

    def _give_up(self, line: int, reason: GapReason, topics: Sequence[_Topic]) -> list[Event]:
        """A line that is still open loses its place in topics."""
        bare: list[_Topic] = []
        for topic in topics:
            was_covered = topic.views[line].attached
            self._detach(topic, line)
            if was_covered and not topic.is_covered:
                bare.append(topic)
        return self._uncovered(bare, line, self._lines[line], reason, is_whole=len(topics) == len(self._topics))

    def _detach(self, topic: _Topic, line: int) -> None:
        view = topic.views[line]
        view.attached = False
        view.cursor = None
        view.held = []
        view.skipped = {}
        self._holding.discard((topic.name, line))
        if view.subscribed:
            view.subscribed_sent = None
            view.subscribed_at = self._now
            self._lines[line].unstamped.append(view)

    def _uncovered(
        self,
        bare: list[_Topic],
        loser: int,
        state: _LineState,
        reason: GapReason,
        *,
        missed: int | None = None,
        goes_on: bool = False,
        is_whole: bool = False,
    ) -> list[Event]:
        """Topics that no line covers any more: another line takes over, at once or with its next snapshot.

        `goes_on`: what the loser lost is over (an undecodable message); where no other line can, it goes on itself.
        `is_whole`: the loser carries nothing any more; where nobody is left at all, one Gap stands for all topics.
        """
        bare = [t for t in bare if not t.is_fresh]
        if not bare:
            return []
        takers = {t.name: self._taker(t, loser, state, goes_on=goes_on) for t in bare}
        is_ready = any(
            taker is not None and (taker[1] or self._topics[name].views[taker[0]].held)
            for name, taker in takers.items()
        )
        if is_whole and not is_ready and all(t in bare or t.is_idle for t in self._topics.values()):
            self._lost = (reason, self._last_data)
            for topic in bare:
                topic.is_fresh = True
                if topic.is_strict:
                    self._heal.add(topic.name)  # the snapshot that ends the Gap goes out, though it may be known
            return []
        is_current = self._is_current(state)
        gaps: list[Gap] = []
        drains: list[tuple[_Topic, int]] = []
        for topic in bare:
            taker = takers[topic.name]
            since = state.last_receive if is_current and not topic.is_strict else topic.last_time or self._first_data
            if taker is None:
                topic.hole = (reason, since)
                continue
            line, has_overlap = taker
            drains.append((topic, line))
            if has_overlap:
                continue
            first = topic.views[line].held[0] if topic.views[line].held else None
            skipped = self._skipped(topic, first)
            if skipped == 0:
                continue
            gaps.append(self._gap(reason, topic.name, since, missed if skipped is None else skipped))
            topic.begins_again(line, self._max_sent)
        out: list[Event] = []
        if len(gaps) > 1 and is_whole and all(t in bare or t.is_idle for t in self._topics.values()):
            out.append(self._gap(reason, None, self._last_data, None))
        else:
            out += gaps
        for topic, line in drains:
            out += self._attach(topic, line, None)
        return out

    @staticmethod
    def _skipped(topic: _Topic, item: _Item | None) -> int | None:
        """How many update ids lie between the end of the log and an item; None: no count."""
        if item is None or not topic.is_strict or topic.log.is_empty:
            return None
        skipped = int(item.key) - int(topic.log.at(topic.log.end)[0]) - 1
        return skipped if skipped >= 0 else None

    def _taker(self, topic: _Topic, loser: int, state: _LineState, *, goes_on: bool = False) -> tuple[int, bool] | None:
        """(line, whether its coverage overlaps the loser's) of the line to go on with; None: none is ready."""
        best: tuple[int, bool] | None = None
        for line, view in topic.views.items():
            if line == loser or view.attached:
                continue
            if topic.kind in ("book", "state"):
                if view.held and best is None:
                    best = (line, False)
            elif view.subscribed:
                if self._overlaps(state, view.subscribed_sent, view.subscribed_at):
                    return line, True
                best = best or (line, False)
        if best is None and goes_on and topic.kind != "book":
            return loser, False
        return best

    # -- messages

    def receive(self, line: int, events: Sequence[Event], now: int) -> list[Event]:
        """What one message of a line adds to the stream; `events` is what its decoder made of the message."""
        self._tell_time(now)
        state = self._lines.get(line)
        if state is None or not events:
            return []
        state.last_receive = self._now
        out: list[Event] = []
        message: list[Event] = []
        sent = self._sent = self._believe(_sent_time(events))
        for event in events:
            if isinstance(event, Gap):
                out += self._message(line, message)
                message = []
                out += self._line_gap(line, event)
                continue
            message.append(event)
        out += self._message(line, message)
        if sent:
            state.last_sent = max(state.last_sent, sent)
            self._believed_at = self._now
            if sent > self._max_sent:
                self._max_sent, self._max_sent_at = sent, self._now
            if state.unstamped:
                for view in state.unstamped:
                    view.subscribed_sent = sent
                state.unstamped = []
        if self._holding:
            out += self._look_again()
        return self._note_data(out)

    def _is_believable(self, sent: int) -> bool:
        """Whether a venue time lies near the latest one, or between that and now."""
        leeway = int(BELIEVED_S * _S)
        passed = self._now - self._max_sent_at
        return not self._max_sent or self._max_sent - leeway <= sent <= self._max_sent + passed + leeway

    def _believe(self, sent: int) -> int:
        """A venue time, or 0 where it is too far off to prove anything with.

        One wrong time believed would make a line count as ahead of all others for as long as the time is wrong.
        """
        if self._is_believable(sent):
            return sent
        if not sent or self._now - self._believed_at < int(FORGOTTEN_S * _S):
            return 0
        self._max_sent = self._max_flow = 0
        for state in self._lines.values():
            state.last_sent = 0
        for topic in self._topics.values():
            topic.hole_sent = 0
            for line, view in topic.views.items():
                if view.subscribed_sent is not None:
                    view.subscribed_sent = None
                    self._lines[line].unstamped.append(view)
        return sent

    def _note_data(self, out: list[Event]) -> list[Event]:
        if any(type(e) is not Gap for e in out):
            self._last_data = self._now
            if self._first_data is None:
                self._first_data = self._now
        return out

    def _message(self, line: int, events: list[Event]) -> list[Event]:
        if not events:
            return []
        name = topic_of(events[0])
        topic = self._topics.get(name) if name else None
        if topic is None:
            return events if name is None else []
        view = topic.views[line]
        if view.is_renewed and topic.is_covered:
            return []
        out: list[Event] = []
        if self._lost is not None:
            reason, first = self._lost
            self._lost = None
            out.append(self._gap(reason, None, first, None))
            for other in self._topics.values():
                other.begins_again(line, self._sent)
                own = other.views[line]
                if own.subscribed and not other.is_covered and other.kind not in ("book", "state"):
                    out += self._lead(other, line, own, None)
        self._mark_subscribed(self._lines[line], view)
        topic.is_rejected = False
        for item in _items(topic, events):
            out += self._take(topic, line, view, item)
        keep = TAIL[topic.kind]
        log = topic.log
        if len(log.entries) > keep + 64:
            places = [v.cursor for v in topic.views.values() if v.attached and v.cursor is not None]
            log.trim(max(min([log.end - keep, *places]), log.end - LOG_ITEMS))
        return out

    def _take(self, topic: _Topic, line: int, view: _View, item: _Item) -> list[Event]:
        if item.is_snapshot:
            view.is_asked = False
        if topic.kind == "state" and not view.is_begun:
            item.is_flow = False
        view.is_begun = True
        if view.attached:
            return self._walk(topic, line, view, item)
        if view.held:
            self._note_flow(item)
            view.held.append(item)
            if len(view.held) > HELD_ITEMS:
                return self._release(topic, line)
            return []
        if not topic.is_covered:
            if topic.is_strict and not item.is_snapshot:
                self._resync(line, topic)
                return []
            return [*self._lead(topic, line, view, item), *self._walk(topic, line, view, item)]
        place = topic.log.find(item)
        if place is not None or self._covers(topic, line, item):
            view.attached = True
            view.cursor = place
            view.floor = topic.log.end
            if place is not None:
                self._compare(topic, line, item, place)
                return self._heal_with(topic, item, place)
            return self._walk(topic, line, view, item)
        if topic.is_strict and not item.is_snapshot:
            return []
        self._note_flow(item)
        view.held.append(item)
        self._holding.add((topic.name, line))
        return []

    def _covers(self, topic: _Topic, line: int, item: _Item) -> bool:
        """Whether a line without a place covers the topic all the same: it is behind, or overlaps another."""
        if topic.kind in ("book", "state") and self._is_behind(topic, item):
            return True
        if topic.kind == "book":
            return False
        sent = item.order[1] if topic.kind == "state" else topic.views[line].subscribed_sent
        if sent is not None and not self._is_believable(sent):
            sent = None
        since = self._flows_since(topic, line, item)
        return any(
            self._overlaps(self._lines[other], sent, since)
            for other, view in topic.views.items()
            if view.attached and other != line
        )

    def _overlaps(self, state: _LineState, sent: int | None, since: int | None) -> bool:
        """Whether a line is known to have brought everything from before another carried a topic.

        That other one carries it from `sent` on (venue time of a message behind the confirmation), and did by `since`
        (receive time of the confirmation). Then a hole between the two is impossible, for either of two reasons.

        *Data.* A line brings its messages in the order of sending. One sent at `sent` or later shows that all
        before it has come.

        *A pong.* The ping left after `since`, so the venue answered it after the other line carried the topic; and
        what a connection was sent before the pong comes before the pong, as TCP keeps the order. It is the only
        proof while nothing is published at all.

        Both take for granted that the venue's servers publish at about the same time, that a confirmed topic flows
        soon, and that a pong does not overtake messages queued for the same connection by more than a moment: for
        all three there is `OVERLAP_S` on top, and it is as much as can be proven from outside. Where queues are longer
        there is traffic that fills them, and then the pong of a line that lacks what another has shown proves
        nothing (`answered`).
        """
        return (sent is not None and state.last_sent >= sent + self._overlap) or (
            since is not None and state.answered >= since + self._overlap
        )

    def _is_current(self, state: _LineState) -> bool:
        """Whether a line has brought what any has, as far as is known."""
        return self._overlaps(state, self._max_sent - 2 * self._overlap, self._max_sent_at)

    def _flows_since(self, topic: _Topic, line: int, item: _Item | None) -> int | None:
        """Receive time by which a line without a place carried a topic that tells no continuity by itself."""
        view = topic.views[line]
        if topic.kind == "state":
            first = view.held[0] if view.held else item
            return None if first is None else first.time
        return view.subscribed_at if view.subscribed else None

    def _is_old(self, topic: _Topic) -> bool:
        """Nothing came out for so long that nobody can be behind any more."""
        return topic.last_time is None or self._now - topic.last_time >= self._hold

    def _is_behind(self, topic: _Topic, item: _Item) -> bool:
        return not topic.log.is_empty and _is_older(topic, item.order, topic.log.at(topic.log.end)[2])

    def _lead(self, topic: _Topic, line: int, view: _View, item: _Item | None) -> list[Event]:
        """Nobody covers the topic: this line does from here on, behind a Gap where something was missed."""
        log = topic.log
        view.attached = True
        view.held = []
        view.floor = log.end
        place = log.find(item) if item is not None else None
        is_stale = item is not None and topic.is_strict and self._is_behind(topic, item) and not self._is_old(topic)
        view.cursor = log.end if item is not None and place is None and not is_stale else None
        hole, topic.hole = topic.hole, None
        topic.is_fresh = False
        if hole is None or place is not None or is_stale:
            return []  # it is at what is known already: nothing was missed
        skipped = self._skipped(topic, item)
        if skipped == 0:
            return []
        reason, first = hole
        topic.begins_again(line, self._sent)
        return [self._gap(reason, topic.name, first, skipped)]

    def _attach(self, topic: _Topic, line: int, place: int | None) -> list[Event]:
        """A line gets its place; what it held goes out as far as it is new."""
        view = topic.views[line]
        held, view.held = view.held, []
        self._holding.discard((topic.name, line))
        view.attached = True
        view.cursor = place
        view.floor = topic.log.end
        out: list[Event] = []
        for item in held:
            out += [_restamped(e, self._now) for e in self._take(topic, line, view, item)]
        self.counters["released"] += len(out)
        return out

    def _walk(self, topic: _Topic, line: int, view: _View, item: _Item) -> list[Event]:
        """One item of a line that has its place."""
        log = topic.log
        cursor = view.cursor
        if cursor is not None and cursor < log.base - 1:
            cursor = view.cursor = None
        if cursor is None:
            place = log.find(item)
            if place is not None:
                view.cursor = place
                self._compare(topic, line, item, place)
                return self._heal_with(topic, item, place)
            if not self._is_behind(topic, item) or topic.kind in ("trade", "liquidation"):
                return self._new(topic, line, view, item)
            self.counters["late"] += 1
            if topic.is_strict and self._is_old(topic):
                # The venue counts from elsewhere since: a snapshot replaces, whatever its update id and sequence.
                if item.is_snapshot:
                    return self._say(topic, view, item)
                self._resync(line, topic)
            return []
        if cursor < log.end:
            entry = log.at(cursor + 1)
            if entry[0] == item.key and not (item.is_snapshot and entry[2] != item.order):
                view.cursor = cursor + 1
                self._compare(topic, line, item, cursor + 1)
                return self._heal_with(topic, item, cursor + 1)
        if (
            item.is_snapshot
            and topic.is_strict
            and cursor >= log.base
            and log.at(cursor)[0] == item.key
            and log.at(cursor)[2][0] in (None, item.order[0])
        ):
            return self._heal_with(topic, item, cursor)  # the answer to a resubscription
        if cursor < log.end:
            place = log.find(item, cursor)
            if place is not None:
                if topic.kind in ("trade", "liquidation"):
                    for index in range(cursor + 1, place):
                        view.skipped[log.at(index)[0]] = self._now
                view.cursor = place
                self._compare(topic, line, item, place)
                return []
        return self._new(topic, line, view, item)

    def _new(self, topic: _Topic, line: int, view: _View, item: _Item) -> list[Event]:
        """An item that is not in the log from this line's place on."""
        log = topic.log
        kind = topic.kind
        at_end = view.cursor == log.end
        if kind in ("trade", "liquidation"):
            if view.skipped.pop(item.key, None) is not None:
                return []  # the same, in another order within its message
            if item.key in topic.extra or (kind == "trade" and item.key in log.places):
                self.counters["duplicate"] += 1
                return []
            sent = _sent_time(item.events)
            if line != topic.leader and 0 < sent < topic.hole_sent and self._is_believable(sent):
                self.counters["late"] += 1  # inside a Gap that has been told
                return []
            if not at_end and self._is_behind(topic, item):
                return self._alone_on(topic, line, view, item)
            if view.cursor is not None:  # newer than all: the line passed over what is between
                for index in range(view.cursor + 1, log.end + 1):
                    view.skipped[log.at(index)[0]] = self._now
        elif topic.is_strict:
            last = None if log.is_empty else log.at(log.end)[0]
            continues = item.is_snapshot or last is None or item.key == last + 1
            if not at_end and self._is_behind(topic, item):
                self.counters["late"] += 1
                return []
            if not continues or (not at_end and view.cursor is not None):
                # The line jumped while it was behind: its place is lost; a snapshot waits for the others.
                out = self._give_up(line, GapReason.UPDATE_ID, [topic])
                if item.is_snapshot:
                    return [*out, *self._take(topic, line, view, item)]
                self._resync(line, topic)
                return out
        elif not at_end and self._is_behind(topic, item):
            self.counters["late"] += 1
            return []
        return self._say(topic, view, item)

    def _say(self, topic: _Topic, view: _View, item: _Item) -> list[Event]:
        view.cursor = topic.log.append(item, self._now)
        self._note_flow(item)
        topic.last_time = self._now
        topic.is_fresh = False
        if item.is_snapshot:
            self._heal.discard(topic.name)
        event = item.events[0]
        if type(event) is Trade:
            topic.last_trade = (event.trade_id, event.event_time)
        if topic.is_strict:
            topic.keep_book(item)
        if topic.is_after_hole:
            topic.is_after_hole = False
            topic.hole_order = item.order
            self._begin_with(topic, view, item)
        elif view.cursor == 0:
            self._begin_with(topic, view, item)
        return item.events

    def _begin_with(self, topic: _Topic, view: _View, item: _Item) -> None:
        """The first item after a hole, or of all: what was sent before its line began lies in the hole.

        Lines that began after it was sent, and lead by their confirmation alone, wait until this one reaches their
        beginning: what it brings until then comes before theirs.
        """
        if topic.kind not in ("trade", "liquidation"):
            return
        sent = _sent_time(item.events)
        begun = sent if view.subscribed_sent is None else view.subscribed_sent
        if self._is_believable(begun):
            topic.hole_sent = max(topic.hole_sent, begun)
        for line, other in topic.views.items():
            if other is view:
                topic.leader = line
            elif other.attached and (other.subscribed_sent is None or other.subscribed_sent > sent):
                other.attached = False
                other.cursor = None

    def _note_flow(self, item: _Item) -> None:
        sent = _sent_time(item.events)
        if item.is_flow and self._is_believable(sent):
            self._max_flow = max(self._max_flow, sent)

    def _alone_on(self, topic: _Topic, line: int, view: _View, item: _Item) -> list[Event]:
        """A trade or liquidation that the other lines have passed without showing it."""
        log = topic.log
        hole = topic.hole_order
        first = log.at(log.base)[2]
        if (hole is not None and _is_older(topic, item.order, hole)) or (
            len(log.entries) >= TAIL[topic.kind] and _is_older(topic, item.order, first)
        ):
            self.counters["late"] += 1  # inside a Gap that has been told, or older than anything remembered
            return []
        events = item.events
        if topic.kind == "liquidation":
            known: Counter[Any] = Counter()
            for index in range((view.cursor if view.cursor is not None else log.base - 1) + 1, log.end + 1):
                known.update(log.at(index)[0])
            for key in topic.extra:
                known.update(key)
            events = []
            for event in item.events:
                name = _liquidation_key(event)
                if known[name]:
                    known[name] -= 1
                else:
                    events.append(event)
            if not events:
                return []
        self._remember_extra(topic, item.key)
        self._diverge("divergence_alone", topic, f"line {line} brings what the others passed over ({len(events)})")
        return events

    def _remember_extra(self, topic: _Topic, key: Any) -> None:
        topic.extra[key] = None
        if len(topic.extra) > EXTRA:
            del topic.extra[next(iter(topic.extra))]

    def _heal_with(self, topic: _Topic, item: _Item, place: int) -> list[Event]:
        """After a divergence or a Gap the next snapshot that stands at the end of the log goes out, though its id is known."""
        if item.is_snapshot and place == topic.log.end and topic.name in self._heal:
            self._heal.discard(topic.name)
            return item.events
        return []

    def _compare(self, topic: _Topic, line: int, item: _Item, place: int) -> None:
        entry = topic.log.at(place)
        self.counters["duplicate"] += 1
        if entry[1] != item.content and entry[4] == item.is_snapshot:
            self._diverge("divergence_content", topic, f"line {line} differs at {item.key}")
        elif item.is_snapshot and topic.is_strict and place == topic.log.end and not topic.holds_book(item.events[0]):
            self._diverge("divergence_book", topic, f"line {line} has another book at {item.key}")
        else:
            return
        if topic.is_strict and topic.name not in self._heal:
            self._heal.add(topic.name)
            self._resync(line, topic)

    def _resync(self, line: int, topic: _Topic) -> None:
        """Ask for a fresh subscription; its snapshot waits for the others, if others cover the topic.

        Where none does, what is missed until a book's snapshot is a hole like any other.
        """
        own = topic.views[line]
        if own.is_asked:
            return
        if topic.is_strict and not any(v.attached for other, v in topic.views.items() if other != line):
            if any(view.held for view in topic.views.values()):
                return  # another line is about to take over
            if own.attached:
                self._detach(topic, line)
                topic.hole = (GapReason.UPDATE_ID, topic.last_time)
        own.is_asked = topic.is_strict
        if any(view.attached for other, view in topic.views.items() if other != line):
            self._detach(topic, line)
            view = topic.views[line]
            # What comes before the venue confirms anew says nothing of what comes between.
            view.subscribed = False
            view.is_renewed = not topic.is_strict and topic.kind != "state"
            self._lines[line].unstamped = [v for v in self._lines[line].unstamped if v is not view]
        self._resyncs.append((line, topic.name))

    def _diverge(self, kind: str, topic: _Topic, what: str) -> None:
        self.counters[kind] += 1
        self._notes.append((kind, f"{topic.name}: the lines do not agree: {what}"))

    # -- what a line lost by itself

    def _line_gap(self, line: int, gap: Gap) -> list[Event]:
        """A hole in one line: nothing, where another line covers it."""
        name = f"{gap.topic}.{gap.symbol}" if gap.topic and gap.symbol else None
        if gap.reason is GapReason.DISCONNECT or (gap.reason is GapReason.SILENCE and name is None):
            return []  # told by `disconnected`
        if gap.reason is GapReason.REJECTED_TOPIC and name is not None:
            return self._rejected(line, name, gap)
        if name is None:
            topics = [t for t in self._topics.values() if not t.is_strict]
        else:
            topics = [self._topics[name]] if name in self._topics else []
            if gap.reason is GapReason.UNDECODABLE:
                topics = [t for t in topics if not t.is_strict]  # the next update id tells
        if not topics:
            return []
        state = self._lines[line]
        bare: list[_Topic] = []
        for topic in topics:
            was_covered = topic.views[line].attached
            self._detach(topic, line)
            if was_covered and not topic.is_covered:
                bare.append(topic)
        if not bare:
            return []
        goes_on = gap.reason is GapReason.UNDECODABLE
        if goes_on and len(bare) > 1 and not any(self._taker(t, line, state) for t in bare):
            for topic in bare:
                self._attach(topic, line, topic.log.end)
                topic.begins_again(line, self._sent or self._lines[line].last_sent)
            return [structs.replace(gap, receive_time=self._now)]
        return self._uncovered(bare, line, state, gap.reason, missed=gap.missed, goes_on=goes_on)

    def _rejected(self, line: int, name: str, gap: Gap) -> list[Event]:
        topic = self._topics.get(name)
        if topic is None:
            return []
        view = topic.views[line]
        view.subscribed = False
        self._detach(topic, line)
        if topic.is_rejected or topic.is_covered:
            return []
        topic.is_rejected = True
        topic.is_fresh = True
        return [structs.replace(gap, receive_time=self._now)]

    # -- time

    def _tell_time(self, now: int) -> None:
        self._now = max(self._now, now)

    def _look_again(self) -> list[Event]:
        """Lines that hold: whether the others have reached them."""
        out: list[Event] = []
        for name, line in sorted(self._holding):
            topic = self._topics.get(name)
            if topic is None or line not in topic.views or not topic.views[line].held:
                self._holding.discard((name, line))
                continue
            first = topic.views[line].held[0]
            place = topic.log.find(first)
            if place is not None or self._covers(topic, line, first):
                out += self._attach(topic, line, None if place is None else place - 1)
        return out

    def clock_set(self, forward: int) -> None:
        """The clock that times come from was set forward by so many ns: no line was behind for that."""
        self._max_sent_at += forward
        self._believed_at += forward
        for state in self._lines.values():
            state.last_receive += forward
            state.answered += forward
            state.probed += forward
        for topic in self._topics.values():
            for view in topic.views.values():
                view.subscribed_at += forward
                for item in view.held:
                    item.time += forward

    def tick(self, now: int) -> list[Event]:
        """Call it now and then: gives up waiting for a line that is too far behind, and looks for divergence."""
        self._tell_time(now)
        out: list[Event] = []
        for name, line in sorted(self._holding):
            topic = self._topics.get(name)
            view = topic.views.get(line) if topic else None
            if topic is not None and view is not None and view.held and self._now - view.held[0].time >= self._hold:
                out += self._release(topic, line)
        for topic in self._topics.values():
            if topic.kind in ("trade", "liquidation"):
                self._look_for_loners(topic)
        self._look_for_overlaps()
        return self._note_data(out)

    def _look_for_overlaps(self) -> None:
        """Quiet topics: lines that cover them although they have shown no message of them."""
        for topic in self._topics.values():
            if topic.kind not in ("trade", "liquidation"):
                continue
            for view in topic.views.values():
                if view.attached or view.held or not view.subscribed:
                    continue
                if any(
                    other.attached and self._overlaps(self._lines[line], view.subscribed_sent, view.subscribed_at)
                    for line, other in topic.views.items()
                ):
                    view.attached = True
                    view.cursor = None
                    view.floor = topic.log.end

    def _release(self, topic: _Topic, line: int) -> list[Event]:
        """Stop waiting for the lines that keep this one waiting."""
        out: list[Event] = []
        for other, view in list(topic.views.items()):
            if other == line or not view.attached:
                continue
            is_silent = self._now - self._lines[other].last_receive >= self._hold
            topics = list(self._topics.values()) if is_silent else [topic]
            self._notes.append(("behind", f"{topic.name}: line {other} is too far behind; going on without it"))
            out += self._give_up(other, GapReason.SILENCE, topics)
        if (topic.name, line) in self._holding:
            out += self._attach(topic, line, None)
        return out

    def _look_for_loners(self, topic: _Topic) -> None:
        log = topic.log
        for line, view in topic.views.items():
            for key, since in list(view.skipped.items()):
                if self._now - since >= self._alone:
                    del view.skipped[key]
                    self._diverge("divergence_alone", topic, f"line {line} passed over one that another brought")
            place = max(view.cursor if view.cursor is not None else view.floor, log.base - 1) + 1
            if not view.attached or place > log.end:
                continue
            since = log.at(place)[3]
            state = self._lines[line]
            is_current = self._is_current(state)
            if is_current and self._now - since >= self._alone and state.last_receive - since >= self._alone:
                missing = log.end - place + 1
                self._diverge("divergence_alone", topic, f"line {line} lacks {missing} that another brought")
                view.floor = log.end
                view.cursor = None
                self._resync(line, topic)

    def finish(self, now: int) -> list[Event]:
        """The end of the feed: the Gaps of topics that no line covered.

        What a line still holds is left out: the topic ends where the line ends that covers it.
        """
        self._tell_time(now)
        out: list[Event] = []
        if self._lost is not None:
            reason, first = self._lost
            self._lost = None
            out.append(self._gap(reason, None, first, None, is_open=True))
        for topic in self._topics.values():
            if topic.hole is not None:
                reason, first = topic.hole
                topic.hole = None
                out.append(self._gap(reason, topic.name, first, None, is_open=True))
        return out

    # -- for the shell

    def covers_without(self, line: int) -> bool:
        """Whether every topic stays covered should this line end now."""
        return self._lost is None and all(
            topic.is_rejected
            or (topic.is_fresh and not topic.is_covered)
            or any(view.attached for other, view in topic.views.items() if other != line)
            for topic in self._topics.values()
        )

    def is_settled(self, line: int) -> bool:
        """Whether a line covers every topic that any line covers, and has no backlog."""
        state = self._lines.get(line)
        return (
            state is not None
            and self._lost is None
            and self._is_current(state)
            and all(t.views[line].attached for t in self._topics.values() if not t.is_idle)
        )

    def audit(self, decoders: Mapping[int, MarketDecoder]) -> None:
        """Compare the books of lines that stand at the same update id; a difference is a silent divergence."""
        for topic in self._topics.values():
            if not topic.is_strict:
                continue
            seen: dict[int, tuple[int, Any]] = {}
            for line, decoder in decoders.items():
                book = decoder.book(topic.name)
                if book is None:
                    continue
                update_id, bids, asks = book
                if update_id not in seen:
                    seen[update_id] = (line, (bids, asks))
                elif topic.name not in self._heal and _differ(seen[update_id][1], (bids, asks)):
                    self._diverge("divergence_book", topic, f"another book at update id {update_id} on line {line}")
                    self._heal.add(topic.name)
                    self._resync(line, topic)

    def take_resyncs(self) -> list[tuple[int, str]]:
        """(line, topic) to subscribe anew since the last call."""
        taken, self._resyncs = self._resyncs, []
        return taken

    def take_notes(self) -> list[tuple[str, str]]:
        """(kind, sentence) worth a log line since the last call."""
        taken, self._notes = self._notes, []
        return taken

    def _gap(
        self, reason: GapReason, name: str | None, first: int | None, missed: int | None, *, is_open: bool = False
    ) -> Gap:
        prefix, _, symbol = name.rpartition(".") if name else (None, "", None)
        gap = Gap(
            gap_id=self._next_gap_id(),
            reason=reason,
            topic=prefix,
            symbol=symbol,
            missed=missed,
            first_time=first,
            last_time=None if is_open else self._now,
            receive_time=self._now,
        )
        if self.holes is not None and not is_open and prefix in (None, "publicTrade"):
            concerned = {n: t.last_trade for n, t in self._topics.items() if t.kind == "trade" and name in (None, n)}
            self.holes.append(Hole(gap, concerned))
        return gap

    def knows_trade(self, topic: str, trade_id: str) -> bool:
        """Whether a trade went out, as far as is remembered."""
        state = self._topics.get(topic)
        return state is not None and (trade_id in state.log.places or trade_id in state.extra)

    def add_trade(self, topic: str, trade_id: str, event_time: int) -> None:
        """Let a trade pass for known, should it still come over the lines."""
        state = self._topics.get(topic)
        if state is not None:
            self._remember_extra(state, trade_id)


def topic_of(event: Event) -> str | None:
    """The venue's topic that an event came on; None for what comes on none."""
    if isinstance(event, BookSnapshot | BookDelta):
        return f"orderbook.{event.depth}.{event.symbol}"
    if isinstance(event, Trade):
        return f"publicTrade.{event.symbol}"
    if isinstance(event, Liquidation):
        return f"allLiquidation.{event.symbol}"
    if isinstance(event, Ticker):
        return f"tickers.{event.symbol}"
    return None


def _sent_time(events: Sequence[Event]) -> int:
    for event in events:
        sent = getattr(event, "sent_time", None)
        if sent is not None:
            return int(sent)
    return 0


def _differ(first: Prices, second: Prices) -> bool:
    """Whether two books differ within the levels that both hold."""
    if first == second:
        return False
    for is_bids, one, other in ((True, first[0], second[0]), (False, first[1], second[1])):
        common = min(len(one), len(other))
        if sorted(one, reverse=is_bids)[:common] != sorted(other, reverse=is_bids)[:common]:
            return True
    return False


def _merge(side: dict[int, int], levels: Iterable[tuple[int, int]]) -> None:
    for price, size in levels:
        if size:
            side[price] = size
        else:
            side.pop(price, None)


def _kind_of(name: str) -> tuple[str, bool]:
    if name.startswith("publicTrade."):
        return "trade", False
    if name.startswith("allLiquidation."):
        return "liquidation", False
    if name.startswith("orderbook."):
        is_strict = int(name.split(".")[1]) >= STRICT_DEPTH
        return ("book" if is_strict else "state"), is_strict
    return "state", False


def _items(topic: _Topic, events: list[Event]) -> list[_Item]:
    """A message as what is compared: trade by trade, everything else as a whole."""
    if topic.kind == "trade":
        return [_trade_item(e) for e in events if isinstance(e, Trade)]
    if topic.kind == "liquidation":
        key = tuple(sorted(_liquidation_key(e) for e in events))
        sent = events[0].sent_time if isinstance(events[0], Liquidation) else None
        return [_Item(key, 0, (None, sent or events[0].receive_time), events)]
    return [_state_item(topic, e) for e in events]


def _trade_item(event: Trade) -> _Item:
    key: Any = event.trade_id or (event.event_time, event.price, event.size, event.aggressor_side.value)
    content = hash((event.price, event.size, event.aggressor_side, event.event_time))
    return _Item(key, content, (event.sequence, event.event_time), [event])


def _liquidation_key(event: Any) -> tuple[int, str, int, int]:
    return event.event_time, event.position_side.value, event.size, event.bankruptcy_price


def _state_item(topic: _Topic, event: Event) -> _Item:
    if isinstance(event, BookSnapshot | BookDelta):
        content = hash((event.bids, event.asks))
        if topic.is_strict:
            return _Item(event.update_id, content, (event.sequence, event.update_id), [event])
        return _Item((event.update_id, event.sequence, content), 0, (event.sequence, event.sent_time or 0), [event])
    assert isinstance(event, Ticker)
    content = hash(structs.replace(event, event_time=None, sent_time=None, receive_time=0))
    return _Item((event.sequence, content), 0, (event.sequence, event.sent_time or 0), [event])


def _is_older(topic: _Topic, order: tuple[int | None, int], than: tuple[int | None, int]) -> bool:
    """Whether an item belongs before an entry: by cross sequence where both have it, else by its second measure."""
    if order[0] is not None and than[0] is not None and order[0] != than[0]:
        return order[0] < than[0]
    if topic.kind == "trade":
        return order[1] < than[1]
    return order[1] <= than[1]


def _restamped(event: Event, now: int) -> Event:
    return event if event.receive_time >= now else structs.replace(event, receive_time=now)
