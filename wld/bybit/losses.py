"""Owns what the loss of a line means for its topics: who goes on, behind which Gap, or nobody for now. Pure.

Does not own that a line ends (`wld.bybit.arbitration`), nor what the one that goes on brings (`wld.bybit.merging`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import structs

from wld.bybit.merging import Merging
from wld.bybit.overlap import NS
from wld.bybit.standing import LineState, TopicState, View
from wld.events import Event, Gap, GapReason

LATELY_S = 5.0
"""A line that brought nothing of a symbol for so long does not vouch for its being carried."""


class Losses(Merging):
    """Lines that lose something, or are lost."""

    def __init__(self, next_gap_id: Callable[[], int], hold: int) -> None:
        super().__init__(next_gap_id, hold)
        self._lost: tuple[GapReason, int | None] | None = None
        """Why and since when nobody covers anything; None: some line does."""
        self._last_data: int | None = None
        self._first_data: int | None = None

    # -- a line loses its place

    def _give_up(self, line: int, reason: GapReason, topics: Sequence[TopicState]) -> list[Event]:
        """A line that is still open loses its place in topics."""
        bare: list[TopicState] = []
        for topic in topics:
            was_covered = topic.views[line].attached
            self._detach(topic, line)
            if was_covered and not topic.is_covered:
                bare.append(topic)
        return self._uncovered(bare, line, self._lines[line], reason, is_whole=len(topics) == len(self._topics))

    def _uncovered(
        self,
        bare: list[TopicState],
        loser: int,
        state: LineState,
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
        drains: list[tuple[TopicState, int]] = []
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
            if skipped == 0 or (first is not None and topic.log.find(first) == topic.log.end):
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

    def _taker(
        self, topic: TopicState, loser: int, state: LineState, *, goes_on: bool = False
    ) -> tuple[int, bool] | None:
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

    # -- what a line lost by itself

    def _line_gap(self, line: int, gap: Gap) -> list[Event]:
        """A hole in one line: nothing, where another line covers it."""
        name = f"{gap.topic}.{gap.symbol}" if gap.topic and gap.symbol else None
        if gap.reason is GapReason.DISCONNECT or (gap.reason is GapReason.SILENCE and name is None):
            return []  # told by `disconnected`
        if gap.reason is GapReason.REJECTED_TOPIC and name is not None:
            return self._rejected(line, name, gap)
        if gap.reason is GapReason.SILENCE and name in self._topics and self._topics[name or ""].kind != "book":
            return self._doubted(line, self._topics[name or ""], gap)
        if name is None:
            topics = [t for t in self._topics.values() if not t.is_strict and gap.symbol in (None, t.symbol)]
        else:
            topics = [self._topics[name]] if name in self._topics else []
            if gap.reason is GapReason.UNDECODABLE:
                topics = [t for t in topics if not t.is_strict]  # the next update id tells
        if not topics:
            return []
        state = self._lines[line]
        bare: list[TopicState] = []
        places: dict[str, int | None] = {}
        for topic in topics:
            view = topic.views[line]
            was_covered, places[topic.name] = view.attached, view.cursor
            self._detach(topic, line)
            if was_covered and not topic.is_covered:
                bare.append(topic)
        if not bare:
            return []
        goes_on = gap.reason is GapReason.UNDECODABLE
        if goes_on and len(bare) > 1 and not any(self._taker(t, line, state) for t in bare):
            told = self._rubbish
            for topic in bare:
                self._attach(topic, line, places[topic.name])  # others that are gone may have been ahead of it
                topic.begins_again(line, self._sent or self._lines[line].last_sent)
            if told is not None and told.symbol in (None, gap.symbol):
                return []  # in the same place
            self._rubbish = gap = structs.replace(gap, receive_time=self._now)
            self._note_hole(gap)
            return [gap]
        return self._uncovered(bare, line, state, gap.reason, missed=gap.missed, goes_on=goes_on)

    def _rejected(self, line: int, name: str, gap: Gap) -> list[Event]:
        topic = self._topics.get(name)
        if topic is None:
            return []
        if gap.last_time is not None:
            return self._doubted(line, topic, gap)
        view = topic.views[line]
        view.subscribed = False
        self._detach(topic, line)
        if topic.is_rejected or topic.is_covered:
            return []
        topic.is_rejected = True
        topic.is_fresh = True
        return [structs.replace(gap, receive_time=self._now)]

    def _doubted(self, line: int, topic: TopicState, gap: Gap) -> list[Event]:
        """A line carried a topic not at all for a while, and does again: nothing, where another did meanwhile.

        That another is counted as covering the topic is not enough, since the venue tells neither of them: it must have
        brought something of the symbol (a ticker: of the topic) lately, or have found itself out in the same way before.
        """
        since = gap.first_time or 0
        lately = max((since + self._now) // 2, self._now - int(LATELY_S * NS))
        topic.is_rejected = False
        for other, view in topic.views.items():
            if other == line or not (view.attached and view.subscribed):
                continue
            if self._lines[other].brought.get(topic.name if topic.is_dated else topic.symbol, 0) > lately:
                self._dismiss(topic, line)
                topic.views[line].untold = since, self._now
                return []
            if view.subscribed_at > since:
                self._dismiss(topic, line)
                return self._told_late(topic, view, gap.reason, since)
        for other, view in topic.views.items():
            view.subscribed = other == line
            self._detach(topic, other)
        if self._lost is not None:
            return []
        if topic.is_dated:
            return [self._gap(gap.reason, topic.name, gap.first_time, None)]  # its snapshot is to come
        topic.hole = gap.reason, gap.first_time
        return self._lead(topic, line, topic.views[line], None)

    def _dismiss(self, topic: TopicState, line: int) -> None:
        """A line begins again in a topic. A book's snapshot may have come before the venue's word that it does."""
        held = topic.views[line].held
        snapshots = [place for place, item in enumerate(held) if item.is_snapshot]
        self._detach(topic, line)
        topic.views[line].is_begun = False  # a ticker's snapshot is next
        if topic.is_strict and snapshots:
            topic.views[line].held = held[snapshots[-1] :]
            self._holding.add((topic.name, line))

    def _told_late(self, topic: TopicState, view: View, reason: GapReason, since: int) -> list[Event]:
        """What the line that went on had been dismissed for: the one that vouched for it was mute as well by then."""
        untold, view.untold = view.untold, None
        if untold is None or untold[1] <= since:
            return []
        return [self._gap(reason, topic.name, max(since, untold[0]), None, last=untold[1])]
