"""Owns what is told of the stream: its Gaps, where lines differ, and which topics a line is to subscribe anew. Pure.

Does not own what goes out (`wld.bybit.merging`), nor whose fault a Gap is (`wld.bybit.losses`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence

from wld.bybit.following import SIGNS, Hole
from wld.bybit.items import Item
from wld.bybit.overlap import Overlaps
from wld.bybit.standing import TopicState
from wld.bybit.topics import LastTrade
from wld.events import Event, Gap, GapReason

PUSH_NS = 10_000_000
"""A book is pushed no more often than this: depth 50 each 20 ms, depth 1 each 10 (Bybit V5 documentation, orderbook page)."""


class Telling(Overlaps):
    """Gaps, divergences, and topics that are asked anew."""

    def __init__(self, next_gap_id: Callable[[], int]) -> None:
        super().__init__()
        self._next_gap_id = next_gap_id
        self._holding: set[tuple[str, int]] = set()
        """(topic, line) where a line holds what waits for the others."""
        self._resyncs: list[tuple[int, str]] = []
        self._notes: list[tuple[str, str]] = []
        self._heal: set[str] = set()
        """Books whose next snapshot goes out, though its update id is known."""
        self._told_until: Counter[str | None] = Counter()
        """By topic, None for all: until when the latest Gap told, ns."""
        self.holes: list[Hole] | None = None
        """Where Gaps that concern trades are put for repair; None: nobody repairs."""
        self.signs: deque[Gap] = deque(maxlen=SIGNS)
        """Gaps of books, until somebody takes them."""
        self.counters: Counter[str] = Counter()
        """`duplicate`, `late`, `released`, `divergence_content`, `divergence_alone`, `divergence_book`."""

    # -- Gaps

    def _skipped(self, topic: TopicState, item: Item | None) -> int | None:
        """How many update ids lie between the end of the log and an item; None: no count, since they may be others' ids.

        A book that the venue restarted counts from 1 again. Where nobody heard it meanwhile, a snapshot's update id tells
        that only if it is higher than a restarted book could have come by now.
        """
        if item is None or not topic.is_strict or topic.log.is_empty:
            return None
        if item.is_snapshot and int(item.key) <= 1 + (self._now - (topic.last_time or 0)) // PUSH_NS:
            return None
        skipped = int(item.key) - int(topic.log.at(topic.log.end)[0]) - 1
        return skipped if skipped >= 0 else None

    def _gap(
        self,
        reason: GapReason,
        name: str | None,
        first: int | None,
        missed: int | None,
        *,
        is_open: bool = False,
        last: int | None = None,
    ) -> Gap:
        """From the last message before to now, or to `last`; never from before the end of a Gap of the same topic."""
        last = self._now if last is None else last
        told = max(self._told_until[None], self._told_until[name])
        if (first or 0) < told <= last:
            first = told
        prefix, _, symbol = name.rpartition(".") if name else (None, "", None)
        gap = Gap(
            gap_id=self._next_gap_id(),
            reason=reason,
            topic=prefix,
            symbol=symbol,
            missed=missed,
            first_time=first,
            last_time=None if is_open else last,
            receive_time=self._now,
        )
        if not is_open:
            self._told_until[name] = max(last, self._told_until[name])
            self._note_hole(gap)
        if prefix and prefix.startswith("orderbook."):
            self.signs.append(gap)
        return gap

    def _note_hole(self, gap: Gap) -> None:
        if self.holes is None or gap.topic not in (None, "publicTrade"):
            return
        self.holes.append(Hole(gap, self.last_trades(gap.symbol)))

    def last_trades(self, symbol: str | None = None) -> dict[str, LastTrade | None]:
        """The trade that went out last, by topic: of a symbol, or of all."""
        return {t.name: t.last_trade for t in self._topics.values() if t.kind == "trade" and symbol in (None, t.symbol)}

    # -- differences

    def _heal_with(self, topic: TopicState, item: Item, place: int) -> list[Event]:
        """After a divergence or a Gap the next snapshot that stands at the end of the log goes out, though its id is known."""
        if item.is_snapshot and place == topic.log.end and topic.name in self._heal:
            self._heal.discard(topic.name)
            return item.events
        return []

    def _compare(self, topic: TopicState, line: int, item: Item, place: int) -> None:
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

    def _diverge(self, kind: str, topic: TopicState, what: str) -> None:
        self.counters[kind] += 1
        self._notes.append((kind, f"{topic.name}: the lines do not agree: {what}"))

    def _look_for_another_state(self, topic: TopicState, item: Item) -> None:
        """The same push with another state than it went out with: one of the lines lost a change before, and nothing told.

        Which of them, nobody can say; the one whose state is the oldest is subscribed anew, and if it was the other, that
        is next.
        """
        entries = topic.log.entries
        if item.order[0] is None or not any(entry[2] == item.order for entry in entries):
            return
        line = min((line for line in topic.views), key=lambda line: (topic.views[line].fresh_at, line))
        self._diverge("divergence_content", topic, f"another state at sequence {item.order[0]} on one of them")
        if topic.views[line].is_renewed:
            return
        topic.views[line].fresh_at = self._now
        self._resync(line, topic)

    # -- a line begins again

    def _resync(self, line: int, topic: TopicState) -> None:
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
            view.is_renewed = not topic.is_strict
            self._lines[line].unstamped = [v for v in self._lines[line].unstamped if v is not view]
        self._resyncs.append((line, topic.name))

    def _detach(self, topic: TopicState, line: int) -> None:
        view = topic.views[line]
        self._owe(topic, view.held)
        view.attached = False
        view.cursor = None
        view.held = []
        view.skipped = {}
        self._holding.discard((topic.name, line))
        if view.subscribed:
            view.subscribed_sent = None
            view.subscribed_at = self._now
            self._lines[line].unstamped.append(view)

    def _owe(self, topic: TopicState, held: Sequence[Item]) -> None:
        """What a line kept of a topic goes with it: the lines that go on are to bring it."""
        if topic.kind != "book" and topic.owed is None:
            unsaid = (i for i in held if i.is_flow and topic.log.find(i) is None and not self._is_behind(topic, i))
            topic.owed = next(unsaid, None)
