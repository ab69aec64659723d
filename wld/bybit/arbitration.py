"""Owns arbitration: the events of several lines that carry the same topics in, one stream out. Pure.

A line is one connection from its opening to its end. The lines deliver the same messages in the same order, each at
its own pace and each with holes of its own. Per topic the output is a log; every line has a place in it. What a line
brings beyond the end of the log is new and goes out; what it brings behind the end was said before and is only
compared. A line whose place is unknown (fresh, or after a loss of its own) holds what it brings until another line
reaches it, so nothing comes out of order.

Here is what happens to lines: they open, bring something, end, and time passes. What of a message is compared is in
`wld.bybit.items`, where lines stand in `standing`, what proves that two overlap in `overlap`, what is told of the stream
in `telling`, what an item adds to its topic in `merging`, what it means that a line lost something in `losses`. Does not
own sockets, nor the continuity within one line (`wld.bybit.decoder`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from wld.bybit.decoder import MarketDecoder
from wld.bybit.items import differ, items_of, sent_time, topic_of
from wld.bybit.losses import Losses
from wld.bybit.merging import TAIL
from wld.bybit.overlap import NS
from wld.bybit.standing import LineState, TopicState, View
from wld.bybit.topics import LastTrade
from wld.events import Event, Gap, GapReason

HOLD_S = 10.0
"""A line ahead waits at most so long for one behind; then what is between is a Gap."""
REMEMBERED = 4_096
"""Topics no longer carried whose logs are kept."""
AHEAD_S = 1.0
"""A line that is ahead by so much at the end of the feed has what the others were not going to bring."""
ALONE_S = 30.0
"""Trades or liquidations on one line only for so long are a divergence."""
LOG_ITEMS = 32_768
"""A line further behind than so many entries loses its place."""


class Arbiter(Losses):
    """Several lines, one stream.

    Guarantees, within a topic: no message twice, none out of order except a trade or liquidation that a line lost without
    knowing (it comes late rather than never, and is counted), and a Gap exactly where no line covered the topic, or where
    a ticker was lost so. Times are receive times in ns; what was held goes out with the time of its release.
    """

    def __init__(
        self,
        topics: Iterable[str],
        *,
        next_gap_id: Callable[[], int] | None = None,
        hold_s: float = HOLD_S,
        alone_s: float = ALONE_S,
    ) -> None:
        super().__init__(next_gap_id or count(1).__next__, int(hold_s * NS))
        self._alone = int(alone_s * NS)
        self._removed: dict[str, TopicState] = {}
        self.add_topics(topics)

    # -- topics

    def add_topics(self, topics: Iterable[str]) -> None:
        """Carry more topics."""
        for name in topics:
            if name not in self._topics:
                topic = self._removed.pop(name) if name in self._removed else TopicState(name)
                self._topics[name] = topic
                topic.views = {line: View() for line in self._lines}

    def remove_topics(self, topics: Iterable[str]) -> None:
        """Carry these no more."""
        for name in topics:
            if topic := self._topics.pop(name, None):
                topic.is_fresh, topic.hole, topic.owed = True, None, None
                self._removed[name] = topic  # it knows what went out, should it come again
                if len(self._removed) > REMEMBERED:
                    del self._removed[next(iter(self._removed))]
            self._holding = {(held, line) for held, line in self._holding if held != name}

    # -- lines

    def connected(self, line: int, now: int) -> None:
        """A line opened; `line` is a number never used before."""
        self._tell_time(now)
        self._lines[line] = LineState(now)
        for topic in self._topics.values():
            topic.views[line] = View()

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

    def answered(self, line: int, ping_time: int, now: int) -> list[Event]:
        """A pong came on a line, to a ping that left at `ping_time` (receive clock, ns): see `_overlaps`."""
        self._tell_time(now)
        state = self._lines.get(line)
        if state is None or state.last_sent < self._max_flow - self._overlap:
            return []  # others have shown what this line has not: its messages, not its pongs, tell how far it is
        state.answered = max(state.answered, ping_time)
        self._look_for_overlaps()
        return self._note_data(self._look_at_all(is_due=True))

    def disconnected(self, line: int, reason: GapReason, now: int) -> list[Event]:
        """A line ended. A Gap where that left a topic without a line that covers it."""
        self._tell_time(now)
        told = self._look_at_all()
        state = self._lines.pop(line, None)
        if state is None:
            return told
        bare: list[TopicState] = []
        for topic in self._topics.values():
            view = topic.views.pop(line, None)
            self._holding.discard((topic.name, line))
            self._owe(topic, view.held if view else ())
            if view is not None and view.attached:
                for other, rest in topic.views.items():
                    if rest.attached and self._lacks(topic, other):
                        self._detach(topic, other)
                        rest.subscribed = False
                if not topic.is_covered:
                    bare.append(topic)
        return told + self._uncovered(bare, line, state, reason, is_whole=True)

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
        sent = self._sent = self._believe(sent_time(events))
        for event in events:
            if isinstance(event, Gap):
                out += self._message(line, message)
                message = []
                out += self._look_at_all()
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
            out += self._look_again(topic_of(message[0]) if message else None)
        return self._note_data(out)

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
        out = self._look_at(topic.name) if self._is_look_due else []
        view = topic.views[line]
        self._lines[line].brought[topic.symbol] = self._lines[line].brought[topic.name] = self._now
        if view.is_renewed and topic.is_covered:
            return out
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
        for item in items_of(topic.kind, topic.is_strict, events):
            out += self._take(topic, line, view, item)
        keep = TAIL[topic.kind]
        log = topic.log
        if len(log.entries) > keep + 64:
            places = [v.cursor for v in topic.views.values() if v.attached and v.cursor is not None]
            log.trim(max(min([log.end - keep, *places]), log.end - LOG_ITEMS))
        return out

    # -- time

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
        out = self._look_at_all()
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

    def _release(self, topic: TopicState, line: int) -> list[Event]:
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

    def _look_for_loners(self, topic: TopicState) -> None:
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
        """The end of the feed: the Gaps of topics that no line covered, and what lines have held for `AHEAD_S`.

        What a line holds for less is left out: the topic ends where the line ends that covers it, and that would have
        brought it. Where it would not (the venue forgot the topic there), nobody shall miss it.
        """
        self._tell_time(now)
        out = self._look_at_all()
        for name, line in sorted(self._holding):
            topic = self._topics.get(name)
            held = topic.views[line].held if topic and line in topic.views else []
            if topic and held and self._now - held[0].time >= int(AHEAD_S * NS):
                out += self._release(topic, line)
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
        """Whether a line covers every topic that any line covers, has no backlog, and lacks nothing that another brought."""
        state = self._lines.get(line)
        return (
            state is not None
            and self._lost is None
            and self._is_current(state)
            and all(t.views[line].attached and not self._lacks(t, line) for t in self._topics.values() if not t.is_idle)
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
                elif topic.name not in self._heal and differ(seen[update_id][1], (bids, asks)):
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

    def known_trades(self, topic: str, trade_ids: Sequence[str]) -> set[str]:
        """Which of these trades went out, as far as is remembered."""
        state = self._topics.get(topic) or self._removed.get(topic)
        return {i for i in trade_ids if i in state.log.places or i in state.extra} if state else set()

    def add_trade(self, topic: str, trade_id: str, event_time: int) -> None:
        """Let a trade pass for known, should it still come over the lines."""
        state = self._topics.get(topic) or self._removed.get(topic)
        if state is not None:
            self._remember_extra(state, trade_id)

    # -- what the audit of trades asks

    def last_trade(self, topic: str) -> LastTrade | None:
        """The trade that went out last."""
        state = self._topics.get(topic)
        return state.last_trade if state else None

    def last_time(self, topic: str) -> int | None:
        """When something last went out on a topic, ns."""
        state = self._topics.get(topic)
        return state.last_time if state else None

    def trades_so_far(self, topic: str) -> int:
        """How many trades went out on a topic."""
        state = self._topics.get(topic)
        return state.log.end + 1 if state else 0

    def received(self, topic: str, trade_id: str) -> int | None:
        """When a trade went out, ns; None: it is not among the latest, or came late."""
        state = self._topics.get(topic)
        place = state.log.places.get(trade_id) if state else None
        return state.log.at(place)[3] if state and place is not None else None

    def forgotten(self, topic: str) -> int:
        """No trade that went out and is not remembered any more is newer: event time, ns."""
        log = self._topics[topic].log if topic in self._topics else None
        return log.at(log.base)[2][1] if log is not None and log.base and not log.is_empty else -1

    def is_unsettled(self, topic: str) -> bool:
        """Whether a Gap of the topic may be about to be told, or a line holds what has not gone out."""
        state = self._topics.get(topic)
        is_held = state is not None and any(view.held for view in state.views.values())
        return state is None or self._lost is not None or state.hole is not None or is_held
