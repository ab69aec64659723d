"""Owns the proof that two lines overlap, so that nothing can lie between what one brought and what the other will.

Pure. Does not own what goes out (`wld.bybit.merging`).
"""

from __future__ import annotations

from wld.bybit.items import Item, sent_time
from wld.bybit.standing import LineState, TopicState, View
from wld.units import SCALE

OVERLAP_S = 0.25
"""What the venue's servers may be apart, and its confirmations ahead of their effect: see `_overlaps`."""
PROBE_S = 2.0
"""A line whose pong would prove an overlap is pinged no more often than this."""
BELIEVED_S = 60.0
"""A venue time further off than this is taken for none."""
FORGOTTEN_S = 60.0
"""If none was believed for so long, the venue's clock is elsewhere by now: the next one is believed, whatever it says."""
NS = 10 * SCALE
"""ns in a second"""


class Overlaps:
    """The lines, how far each is known to have come, and what follows from it."""

    def __init__(self) -> None:
        self._topics: dict[str, TopicState] = {}
        self._lines: dict[int, LineState] = {}
        self._overlap = int(OVERLAP_S * NS)
        self._max_sent = 0
        self._max_sent_at = 0
        self._believed_at = 0
        self._max_flow = 0
        """Venue time of the latest message that no line's first snapshot explains: one that every line is sent."""
        self._now = 0

    def _tell_time(self, now: int) -> None:
        self._now = max(self._now, now)

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
                    if wants and self._now >= state.probed + int(PROBE_S * NS):
                        state.probed = self._now
                        probes.append(other)
        return probes

    def _mark_subscribed(self, state: LineState, view: View) -> None:
        if not view.subscribed:
            view.subscribed = True
            view.subscribed_at = self._now
            view.subscribed_sent = None  # of a subscription before this one: it would prove what this one does not
            state.unstamped.append(view)

    def _is_believable(self, sent: int) -> bool:
        """Whether a venue time lies near the latest one, or between that and now."""
        leeway = int(BELIEVED_S * NS)
        passed = self._now - self._max_sent_at
        return not self._max_sent or self._max_sent - leeway <= sent <= self._max_sent + passed + leeway

    def _believe(self, sent: int) -> int:
        """A venue time, or 0 where it is too far off to prove anything with.

        One wrong time believed would make a line count as ahead of all others for as long as the time is wrong.
        """
        if self._is_believable(sent):
            return sent
        if not sent or self._now - self._believed_at < int(FORGOTTEN_S * NS):
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

    def _covers(self, topic: TopicState, line: int, item: Item) -> bool:
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
            if view.attached and other != line and not self._lacks(topic, other)
        )

    def _overlaps(self, state: LineState, sent: int | None, since: int | None) -> bool:
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

    def _lacks(self, topic: TopicState, line: int) -> bool:
        """Whether a line that counts as covering a topic has passed what another brought, and so is mute on it.

        It brings its messages in the order of sending: with one sent later than that, that is not to come.
        """
        view, log = topic.views[line], topic.log
        if topic.kind == "book":
            return False  # its update ids tell
        for index in range(max(view.floor if view.cursor is None else view.cursor, log.base - 1) + 1, log.end + 1):
            entry = log.at(index)
            if not entry[4]:
                return self._lines[line].last_sent >= entry[2][1] + self._overlap
        return False

    def _is_current(self, state: LineState) -> bool:
        """Whether a line has brought what any has, as far as is known."""
        return self._overlaps(state, self._max_sent - 2 * self._overlap, self._max_sent_at)

    def _flows_since(self, topic: TopicState, line: int, item: Item | None) -> int | None:
        """Receive time by which a line without a place carried a topic that tells no continuity by itself."""
        view = topic.views[line]
        if topic.kind == "state":
            first = view.held[0] if view.held else item
            return None if first is None else first.time
        return view.subscribed_at if view.subscribed else None

    def _is_behind(self, topic: TopicState, item: Item) -> bool:
        return not topic.log.is_empty and topic.is_older(item.order, topic.log.at(topic.log.end)[2])

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

    def _note_flow(self, item: Item) -> None:
        sent = sent_time(item.events)
        if item.is_flow and self._is_believable(sent):
            self._max_flow = max(self._max_flow, sent)
