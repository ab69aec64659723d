"""Owns a group: the lines that carry the same topics, the one stream they make, and who is asked what was lost of it.

Does not own the lines' connections (`wld.bybit.connection`), nor how several lines become one stream (`wld.bybit.arbitration`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import trio

from wld.bybit.arbitration import Arbiter
from wld.bybit.connection import Line
from wld.bybit.decoder import MarketDecoder
from wld.bybit.following import Hole
from wld.bybit.mutes import Mutes
from wld.bybit.shared import TICK_S, Shared
from wld.bybit.transport import Frame
from wld.events import Event, Gap, GapReason
from wld.ring import Publisher

KEPT_READS = 256
"""Reads that an audit compares at most."""
AUDIT_S = 5.0
"""How often the books of several lines are compared."""


class Group:
    """The lines that carry the same topics: one, or several and the arbiter that makes one stream of them."""

    def __init__(self, shared: Shared, topics: list[str], ring: Publisher) -> None:
        config = shared.config
        self._shared = shared
        self._ring = ring
        self.arbiter: Arbiter | None = None
        if config.connections > 1:
            self.arbiter = Arbiter(topics, next_gap_id=shared.next_gap_id, hold_s=config.connection_hold)
            self.arbiter.holes = [] if config.repair else None
        self.lines = [Line(shared, topics, self) for _ in range(config.connections)]
        self._numbers = count(1)
        self.mutes = Mutes()
        self._keepers = 0
        self._kept: deque[Sequence[Event]] | None = None
        """What was published last, while an audit compares it."""

    @property
    def topics(self) -> list[str]:
        """What any of the lines carries, or would but for a refusal."""
        return list(dict.fromkeys(t for line in self.lines for t in (*line.protocol.topics, *line.protocol.rejected)))

    async def run(self) -> None:
        """Keep the lines open until cancelled; they start apart, so that they never do the same at once."""
        async with trio.open_nursery() as nursery:
            if self.arbiter is not None:
                nursery.start_soon(self._watch, self.arbiter)
            for place, line in enumerate(self.lines):
                nursery.start_soon(line.run, place * self._shared.config.connection_stagger)

    def open(self, line: Line, now: int) -> None:
        """A line's connection opened."""
        line.number = next(self._numbers)
        if self.arbiter is not None:
            self.arbiter.connected(line.number, now)

    def close(self, line: Line, reason: GapReason, now: int) -> None:
        """A line's connection ended."""
        if self.arbiter is not None:
            self._ring.publish(self.arbiter.disconnected(line.number, reason, now))

    def receive(self, line: Line, frames: list[Frame], now: int) -> None:
        """The messages of one read of one line."""
        last = self.last_data_time
        if last is not None:
            self.mutes.note(last, now, self.memory.last_trades)
        if self.arbiter is None:
            self._publish(line.protocol.receive_read(frames, now))
        else:
            self._arbitrate(self.arbiter, line, frames, now)
        self._repair()

    def _arbitrate(self, arbiter: Arbiter, line: Line, frames: list[Frame], now: int) -> None:
        protocol = line.protocol
        events: list[Event] = []
        for frame in frames:
            events += arbiter.receive(line.number, protocol.receive(frame, now), now)
            if confirmed := protocol.take_confirmed():
                events += arbiter.subscribed(line.number, confirmed, now)
            for ping_time in protocol.take_pongs():
                events += arbiter.answered(line.number, ping_time, now)
        self._publish(events)
        self._resync(arbiter, now)

    def _publish(self, events: Sequence[Event]) -> None:
        """What a read brought."""
        self._ring.publish(events)
        if self._kept is not None:
            self._kept.append(events)

    def _resync(self, arbiter: Arbiter, now: int) -> None:
        for number, topic in arbiter.take_resyncs():
            for line in self.lines:
                if line.number == number:
                    line.protocol.resync(topic, now)

    async def _watch(self, arbiter: Arbiter) -> None:
        """Give up waiting in time, compare books, rotate what is old; runs until cancelled."""
        shared = self._shared
        audited = trio.current_time()
        while True:
            await trio.sleep(TICK_S)
            now = shared.clock.now()
            self._ring.publish(arbiter.tick(now))
            if trio.current_time() - audited >= AUDIT_S:
                audited = trio.current_time()
                arbiter.audit({line.number: line.protocol.decoder for line in self.lines if line.is_open})
            self._resync(arbiter, now)
            for probed in arbiter.take_probes():
                for line in self.lines:
                    if line.number == probed:
                        line.protocol.probe()
            self._repair()
            for kind, sentence in arbiter.take_notes():
                shared.complaints.tell(kind, sentence)
            self._rotate(arbiter)

    def _rotate(self, arbiter: Arbiter) -> None:
        """Open the oldest line anew before it grows old, while the others carry everything."""
        oldest = min(self.lines, key=lambda line: line.opened)
        if trio.current_time() - oldest.opened < self._shared.config.connection_max_age:
            return
        others = [line for line in self.lines if line is not oldest]
        if oldest.is_open and all(line.is_open and arbiter.is_settled(line.number) for line in others):
            oldest.rotate()

    async def change(self, *, add: list[str] | None = None, remove: list[str] | None = None) -> None:
        """Follow other topics from now on, on every line."""
        if self.arbiter is not None:
            self.arbiter.add_topics(add or ())
            self.arbiter.remove_topics(remove or ())
        for line in self.lines:
            await line.change(add=add, remove=remove)

    def clock_set(self, forward: int) -> None:
        """Receive times went forward by so many ns at once."""
        if self.arbiter is not None:
            self.arbiter.clock_set(forward)
        for line in self.lines:
            line.protocol.clock_set(forward, self._shared.clock.now())

    @property
    def memory(self) -> Arbiter | MarketDecoder:
        """What went out."""
        return self.arbiter or self.lines[0].protocol.decoder

    @property
    def last_data_time(self) -> int | None:
        """When data last came on any of the lines, ns."""
        if self.arbiter is None:
            return self.lines[0].protocol.decoder.last_data_time
        return max((line.protocol.decoder.last_data_time or 0 for line in self.lines), default=0) or None

    def _repair(self) -> None:
        """Hand on the holes that are worth asking REST for; of books, look whether what was lost is more than they tell."""
        memory = self.memory
        while memory.signs:
            self._look_for_mute(memory.signs.popleft())
        if memory.holes:
            self._hand_on(memory.holes)
            memory.holes = []

    def _hand_on(self, holes: list[Hole]) -> None:
        if self._shared.repairer is not None:
            self._shared.repairer.add(holes, self.memory)
        if self._shared.auditor is not None:
            for hole in holes:
                self._shared.auditor.note(hole)

    def _look_for_mute(self, gap: Gap) -> None:
        """Tell that all topics carried nothing, where a book's Gap shows it.

        A single line that has asked about that pause tells it by its topics; of several, the others' words may have hid it.
        """
        if self._shared.auditor is not None and gap.symbol is not None:
            self._shared.auditor.suspect(self, gap.symbol)
        mute = self.mutes.told_by(gap)
        if mute is None or (self.arbiter is None and self.lines[0].protocol.paused > mute.first_time):
            return
        told = Gap(
            self._shared.next_gap_id(), GapReason.SILENCE,
            first_time=mute.first_time, last_time=mute.last_time, receive_time=self._shared.clock.now(),
        )  # fmt: skip
        self._ring.publish([told])
        self._hand_on([Hole(told, mute.last_trades)])

    def is_asker(self, line: Line) -> bool:
        """Whether it is this line that asks what was lost in a pause of them all: the others go on meanwhile."""
        return line is next((one for one in self.lines if one.is_open and one.protocol.has_data), None)

    def finish(self, now: int) -> list[Event]:
        """The end of the feed."""
        if self.arbiter is not None:
            return self.arbiter.finish(now)
        return self.lines[0].protocol.decoder.finish(now)

    # -- as an audit sees it

    def trade_topics(self) -> list[str]:
        """Topics of trades that are subscribed on an open line."""
        open_lines = (line for line in self.lines if line.is_open)
        return list(dict.fromkeys(t for line in open_lines for t in line.protocol.confirmed("publicTrade.")))

    @contextmanager
    def keep(self) -> Iterator[Iterable[Sequence[Event]]]:
        """What is published from now on, the latest reads of it, to the end of the block."""
        self._keepers += 1
        if self._kept is None:
            self._kept = deque(maxlen=KEPT_READS)
        kept = self._kept
        try:
            yield kept
        finally:
            self._keepers -= 1
            if not self._keepers:
                self._kept = None

    def probe(self) -> None:
        """Ping on every open line soon."""
        for line in self.lines:
            line.protocol.probe()

    def answered(self) -> int:
        """When the latest ping left that was answered, on the open line for which that is longest ago, ns; 0: none is open."""
        return min((line.protocol.answered_ping for line in self.lines if line.is_open), default=0)
