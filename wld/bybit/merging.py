"""Owns merging: what one item of one line adds to the stream of its topic. Pure.

Does not own which lines there are (`wld.bybit.arbitration`), nor what the loss of one means (`wld.bybit.losses`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import structs

from wld.bybit.following import Hole
from wld.bybit.items import Item, liquidation_key, restamped, sent_time
from wld.bybit.overlap import NS
from wld.bybit.standing import TopicState, View
from wld.bybit.telling import Telling
from wld.events import Event, Gap, GapReason, Ticker, Trade

HELD_ITEMS = 20_000
"""Held per topic and line at most; beyond, the line behind is given up as after `HOLD_S`."""
TAIL = {"book": 256, "trade": 2_048, "liquidation": 64, "state": 64}
"""Entries of the log that stay once every line has passed them, by kind of topic: 0.9 MB of a busy symbol's trades, twice
what REST lists."""
FEW_HOLD = 16
"""Topics that lines hold: so many are looked at after each message."""
LOOK_S = 0.02
EXTRA = 2_048
"""Names remembered beside the log: what came late, places of tickers that did, and what REST brought, of which it lists
1,000. 0.4 MB a symbol."""


class Merging(Telling, ABC):
    """Topic by topic, one stream of what the lines bring."""

    def __init__(self, next_gap_id: Callable[[], int], hold: int) -> None:
        super().__init__(next_gap_id)
        self._hold = hold
        self._sent = 0
        self._looked_at = 0
        self._is_look_due = False
        self._begun: dict[str, tuple[int, int]] = {}
        """By symbol, sent and receive time of the first event of all."""
        self._rubbish: Gap | None = None
        """Told last, and nothing since."""

    @abstractmethod
    def _give_up(self, line: int, reason: GapReason, topics: Sequence[TopicState]) -> list[Event]:
        """A line that is still open loses its place in topics."""

    @abstractmethod
    def _release(self, topic: TopicState, line: int) -> list[Event]:
        """Stop waiting for the lines that keep this one waiting."""

    def _take(self, topic: TopicState, line: int, view: View, item: Item) -> list[Event]:
        ticker = f"tickers.{topic.symbol}"
        if topic.kind in ("trade", "liquidation") and (ticker, line) in self._holding:
            # What it holds of the ticker may tell of a hole ahead of this.
            return [*self._look_at(ticker), *self._take_in(topic, line, view, item)]
        return self._take_in(topic, line, view, item)

    def _take_in(self, topic: TopicState, line: int, view: View, item: Item) -> list[Event]:
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
        place = self._place(topic, item)
        if place is not None:
            view.attached, view.cursor, view.floor = True, place, topic.log.end
            self._compare(topic, line, item, place)
            return self._heal_with(topic, item, place)
        if self._covers(topic, line, item) and (told := self._mute_until(topic, line, item)) is not None:
            view.attached, view.cursor, view.floor = True, None, topic.log.end
            return [*told, *self._walk(topic, line, view, item)]
        if topic.is_strict and not item.is_snapshot:
            return []
        self._note_flow(item)
        view.held.append(item)
        self._holding.add((topic.name, line))
        return []

    def _is_old(self, topic: TopicState) -> bool:
        """Nothing came out for so long that nobody can be behind any more."""
        return topic.last_time is None or self._now - topic.last_time >= self._hold

    @staticmethod
    def _place(topic: TopicState, item: Item) -> int | None:
        """Where the log has what a line without a place brings.

        A ticker may come back to a state that it had, at the same sequence: what a line begins with tells no place.
        """
        return topic.log.find(item) if item.is_flow or topic.kind != "state" else None

    def _lead(self, topic: TopicState, line: int, view: View, item: Item | None) -> list[Event]:
        """Nobody covers the topic: this line does from here on, behind a Gap where something was missed."""
        log = topic.log
        view.attached = True
        view.held = []
        view.floor = log.end
        place = log.find(item) if item is not None else None
        is_stale = item is not None and topic.is_dated and self._is_behind(topic, item) and not self._is_old(topic)
        view.cursor = log.end if item is not None and place is None and not is_stale else None
        hole, topic.hole = topic.hole, None
        topic.is_fresh = False
        if hole is None or place is not None or (is_stale and topic.is_strict):
            return []  # it is at what is known already: nothing was missed
        skipped = self._skipped(topic, item)
        if skipped == 0:
            return []
        reason, first = hole
        topic.begins_again(line, self._sent)
        return [self._gap(reason, topic.name, first, skipped)]

    def _attach(self, topic: TopicState, line: int, place: int | None) -> list[Event]:
        """A line gets its place; what it held goes out as far as it is new."""
        view = topic.views[line]
        held, view.held = view.held, []
        self._holding.discard((topic.name, line))
        view.attached = True
        view.cursor = place
        view.floor = topic.log.end
        out: list[Event] = []
        for item in held:
            out += [restamped(e, self._now) for e in self._take(topic, line, view, item)]
        self.counters["released"] += len(out)
        return out

    def _overdue(self, topic: TopicState, item: Item) -> list[Event]:
        """The Gap, where the next item shows that what is owed does not come: nobody covered the topic, and nobody told."""
        owed = topic.owed
        assert owed is not None
        if item.is_flow and item.key == owed.key:
            topic.owed = None
        elif topic.is_older(owed.order, item.order):
            topic.owed = None
            if owed.key not in topic.extra:
                topic.is_after_hole = True
                return [self._gap(GapReason.SILENCE, topic.name, topic.last_time, None)]
        return []

    def _mute_until(self, topic: TopicState, line: int, item: Item) -> list[Event] | None:
        """The Gaps that the ticker proves which a line begins with: it is another state, later than the last that went out.

        The lines that count as covering it have passed its time without that, so the venue ended their subscriptions, and
        nobody was told: as it would at a delisting, of all the symbol's topics. None: wait for those that have not.
        """
        event, last = item.events[0], topic.last_ticker
        if item.is_flow or not isinstance(event, Ticker) or last is None or self._is_behind(topic, item):
            return []
        if event.sequence == last.sequence or _state(event) == _state(last):
            return []
        sent = item.order[1] if self._is_believable(item.order[1]) else None
        covering = [other for other, view in topic.views.items() if view.attached and other != line]
        mute = [other for other in covering if self._overlaps(self._lines[other], sent, item.time)]
        if len(mute) < len(covering):
            for other in mute:
                self._resync(other, topic)
            return None
        self._notes.append(
            ("silence", f"{topic.name}: was no longer subscribed on the other lines, and they were not told")
        )
        self._holding.discard((topic.name, line))  # it is about to go out
        out: list[Event] = []
        for each in self._topics.values():
            view = each.views[line]
            if each.symbol != topic.symbol or each.kind == "book" or not (view.subscribed or each is topic):
                continue
            out.append(self._gap(GapReason.SILENCE, each.name, each.last_time or self._begun[topic.symbol][1], None))
            each.begins_again(line, self._sent)
            view.attached = True
            for other in [other for other, rest in each.views.items() if rest.attached and other != line]:
                self._resync(other, each)
            if each is not topic:
                out += self._attach(each, line, None)
        return out

    def _walk(self, topic: TopicState, line: int, view: View, item: Item) -> list[Event]:
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
            if self._is_old(topic) and (topic.is_strict or item.order[1] > log.at(log.end)[2][1]):
                # The venue counts from elsewhere since: a snapshot replaces, whatever its update id and sequence.
                self.counters["late"] += 1
                if item.is_snapshot or not topic.is_strict:
                    # Whoever covered the topic until then was mute on it: what came meanwhile, nobody brought.
                    gap = self._gap(GapReason.SILENCE, topic.name, topic.last_time, None)
                    topic.is_after_hole = True
                    return [gap, *self._say(topic, view, item)]
                self._resync(line, topic)
                return []
            return self._late(topic, item)
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

    def _new(self, topic: TopicState, line: int, view: View, item: Item) -> list[Event]:
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
            sent = sent_time(item.events)
            may_lie_in_hole = line != topic.leader and 0 < sent < topic.hole_sent and self._is_believable(sent)
            # What is newer than an item that went out after a hole does not lie in it, whenever it was sent.
            if may_lie_in_hole and (topic.is_after_hole or self._is_behind(topic, item)):
                return self._late(topic, item)
            if not at_end and self._is_behind(topic, item):
                return self._alone_on(topic, line, view, item)
            if view.cursor is not None:  # newer than all: the line passed over what is between
                for index in range(view.cursor + 1, log.end + 1):
                    view.skipped[log.at(index)[0]] = self._now
        elif topic.is_strict:
            last = None if log.is_empty else log.at(log.end)[0]
            continues = item.is_snapshot or last is None or item.key == last + 1
            if not at_end and self._is_behind(topic, item):
                return self._late(topic, item)
            if not continues or (not at_end and view.cursor is not None):
                # The line jumped while it was behind: its place is lost; a snapshot waits for the others.
                out = self._give_up(line, GapReason.UPDATE_ID, [topic])
                if item.is_snapshot:
                    return [*out, *self._take(topic, line, view, item)]
                self._resync(line, topic)
                return out
        elif not at_end and self._is_behind(topic, item):
            return self._passed_over(topic, line, view, item) or self._late(topic, item)
        return self._say(topic, view, item)

    def _late(self, topic: TopicState, item: Item) -> list[Event]:
        """Left out: it went out already, or lies in a Gap that has been told, or precedes all that was recorded.

        A recording is complete from its symbol's first event on. Where another line was quicker with that than this one
        with a message that the venue sent after it, a Gap says so, once.
        """
        self.counters["late"] += 1
        if topic.kind == "state" and item.is_flow:
            self._look_for_another_state(topic, item)
        first, since = self._begun.get(topic.symbol, (0, 0))
        if topic.begun is None or not item.is_flow or not topic.is_older(item.order, topic.begun[0]):
            return []
        sent = sent_time(item.events)
        if sent < first or not self._is_believable(sent):
            return []
        (_, begun), topic.begun = topic.begun, None
        gap = self._gap(GapReason.SILENCE, topic.name, since, None, last=begun)
        if self.holes and self.holes[-1].gap.gap_id == gap.gap_id:
            self.holes[-1] = Hole(gap, {topic.name: None})  # from the beginning on
        return [gap]

    def _say(self, topic: TopicState, view: View, item: Item) -> list[Event]:
        before = self._overdue(topic, item) if topic.owed is not None else []
        if topic.kind == "state":
            topic.note_order(item.order)
        view.cursor = topic.log.append(item, self._now)
        self._rubbish = None
        self._note_flow(item)
        topic.last_time = self._now
        topic.is_fresh = False
        if item.is_snapshot:
            self._heal.discard(topic.name)
        event = item.events[0]
        if type(event) is Trade:
            topic.last_trade = (event.trade_id, event.event_time)
        elif type(event) is Ticker:
            topic.last_ticker = event
        if topic.is_strict:
            topic.keep_book(item)
        if topic.is_after_hole:
            topic.is_after_hole = False
            topic.hole_order = item.order
            self._begin_with(topic, view, item)
        elif view.cursor == 0:
            topic.begun = item.order, self._now
            self._begun.setdefault(topic.symbol, (sent_time(item.events), self._now))
            self._begin_with(topic, view, item)
        return [*before, *item.events] if before else item.events

    def _begin_with(self, topic: TopicState, view: View, item: Item) -> None:
        """The first item after a hole, or of all: what was sent before its line began lies in the hole.

        Lines that began after it was sent, and lead by their confirmation alone, wait until this one reaches their
        beginning: what it brings until then comes before theirs.
        """
        if topic.kind not in ("trade", "liquidation"):
            return
        sent = sent_time(item.events)
        begun = sent if view.subscribed_sent is None else view.subscribed_sent
        if self._is_believable(begun):
            topic.hole_sent = max(topic.hole_sent, begun)
        for line, other in topic.views.items():
            if other is view:
                topic.leader = line
            elif other.attached and (other.subscribed_sent is None or other.subscribed_sent > sent):
                other.attached = False
                other.cursor = None

    def _alone_on(self, topic: TopicState, line: int, view: View, item: Item) -> list[Event]:
        """A trade or liquidation that the other lines have passed without showing it."""
        log = topic.log
        hole = topic.hole_order
        first = log.at(log.base)[2]
        # Of the same millisecond as the first liquidations behind the Gap, it may have been sent after them.
        is_in_hole = hole is not None and item.order != hole and topic.is_older(item.order, hole)
        if is_in_hole or (len(log.entries) >= TAIL[topic.kind] and topic.is_older(item.order, first)):
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
                name = liquidation_key(event)
                if known[name]:
                    known[name] -= 1
                else:
                    events.append(event)
            if not events:
                return []
        self._remember_extra(topic, item.key)
        self._diverge("divergence_alone", topic, f"line {line} brings what the others passed over ({len(events)})")
        return events

    def _passed_over(self, topic: TopicState, line: int, view: View, item: Item) -> list[Event]:
        """A ticker that belongs right behind this line's place, where the others had none of its sequence: they lost it.

        It is a Gap, told late. Going out now, it would turn the state back for whoever takes the last for the latest.
        """
        log, hole, place = topic.log, topic.hole_order, view.cursor
        if not item.is_flow or place is None or place < log.base or item.order[0] is None:
            return []
        before, behind = log.at(place)[2], [log.at(i)[2] for i in range(place + 1, log.end + 1)]
        if not topic.is_older(before, item.order) or (hole and topic.is_older(item.order, hole)):
            return []
        if place in topic.extra or any(order[0] == item.order[0] for order in (before, *behind)):
            return []  # told already; or another time of the same
        self._remember_extra(topic, place)
        self._diverge("divergence_alone", topic, f"line {line} brings what the others passed over")
        return [self._gap(GapReason.UPDATE_ID, topic.name, log.at(place)[3], None, last=log.at(place + 1)[3])]

    def _remember_extra(self, topic: TopicState, key: Any) -> None:
        topic.extra[key] = None
        if len(topic.extra) > EXTRA:
            del topic.extra[next(iter(topic.extra))]

    def _look_again(self, name: str | None) -> list[Event]:
        """A message was taken in: lines that hold may have been reached by the others.

        A line that was just opened holds all its topics, hundreds of them: then only the message's own is looked at, and
        the rest within `LOOK_S`, or before anything else happens to it.
        """
        if name is None or len(self._holding) <= FEW_HOLD or self._now - self._looked_at >= int(LOOK_S * NS):
            return self._look_at_all(is_due=True)
        self._is_look_due = True
        return self._look_at(name)

    def _look_at_all(self, *, is_due: bool = False) -> list[Event]:
        """What has been put off, if anything has."""
        out: list[Event] = []
        if self._holding and (is_due or self._is_look_due):
            self._looked_at, self._is_look_due = self._now, False
            for name in sorted({name for name, _ in self._holding}, reverse=True):  # tickers tell of holes in the rest
                out += self._look_at(name)
        return out

    def _look_at(self, name: str) -> list[Event]:
        """A topic that lines hold: whether the others have reached them."""
        out: list[Event] = []
        topic = self._topics.get(name)
        for line in [line for line in self._lines if (name, line) in self._holding]:
            if topic is None or line not in topic.views or not topic.views[line].held:
                self._holding.discard((name, line))
                continue
            first = topic.views[line].held[0]
            place = self._place(topic, first)
            if place is not None or self._covers(topic, line, first):
                if place is None:
                    if (told := self._mute_until(topic, line, first)) is None:
                        continue
                    out += told
                out += self._attach(topic, line, None if place is None else place - 1)
        return out


def _state(event: Ticker) -> Ticker:
    """A ticker without what says when."""
    return structs.replace(event, sequence=None, event_time=None, sent_time=None, receive_time=0)
