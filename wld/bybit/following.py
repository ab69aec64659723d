"""Owns which topics are followed and the Gaps of what they lose, with what each Gap's trades need for repair. Pure.

Does not own what comes of them (`wld.bybit.decoder`), nor why a topic is asked again (`wld.bybit.protocol`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

from wld.bybit.topics import LastTrade, Topic
from wld.bybit.trade_ids import REMEMBERED as IDS_REMEMBERED
from wld.events import Event, Gap, GapReason

REMEMBERED = 4_096
"""Topics no longer followed that are remembered: the trades that went out on them, should they be followed again."""
SIGNS = 1_000
"""Gaps of books that nobody has taken yet are remembered, so many."""


class Hole(NamedTuple):
    """A Gap that concerns trades, and by topic the newest trade before it (None: none was seen yet)."""

    gap: Gap
    last_trades: dict[str, LastTrade | None]


class Following:
    """The topics of one line, what is known of each, and what others ask and are told about them."""

    def __init__(self, next_gap_id: Callable[[], int] | None = None) -> None:
        self.next_gap_id = next_gap_id or count(1).__next__
        self.remembered = IDS_REMEMBERED
        """Ids of trades that a topic followed from now on remembers."""
        self.topics: dict[str, Topic] = {}
        self._prefixes: set[str] = set()
        self._forgotten: dict[str, Topic] = {}
        self.revenants: set[str] = set()
        """Forgotten topics of which messages come all the same."""
        self.doubts: list[tuple[str, int | None]] = []
        """Symbols of which a topic fell silent and lost something, and the time of the last message before, ns."""
        self._resyncs: list[tuple[str, GapReason]] = []
        self._restarts: list[str] = []
        self._notes: list[tuple[str, str]] = []
        self._pending_gap: tuple[GapReason, int | None] | None = None
        self.time = 0
        """Of the latest frame, ns."""
        self.last_data_time: int | None = None
        self.holes: list[Hole] | None = None
        """Where Gaps that concern trades are put for repair; None: nobody repairs."""
        self._trades_before: dict[str, LastTrade | None] = {}
        self.signs: deque[Gap] = deque(maxlen=SIGNS)
        """Gaps of books, until somebody takes them."""
        self.counters: Counter[str] = Counter()
        """By kind: duplicates, stale deltas, resyncs, restarts, and each kind of undecodable frame."""

    # -- what the protocol tells us

    def expect(self, topic: str) -> None:
        """Follow a topic; its first message must be a snapshot where it has snapshots."""
        if topic not in self.topics:
            if known := self._forgotten.pop(topic, None):
                known.reset()
            self.topics[topic] = known or Topic(topic, self.remembered)
            self._prefixes.add(self.topics[topic].prefix)

    def forget(self, topic: str) -> None:
        """Stop following a topic."""
        if known := self.topics.pop(topic, None):
            self._answered(known)
            self._forgotten[topic] = known
            if len(self._forgotten) > REMEMBERED:
                del self._forgotten[next(iter(self._forgotten))]

    def connection_lost(self, reason: GapReason) -> None:
        """The connection is gone: a Gap for all topics goes in before the next event, if data had come at all."""
        if self.last_data_time is not None and self._pending_gap is None:
            self._pending_gap = (reason, self.last_data_time)
            if self.holes is not None:
                self._trades_before = self.last_trades(None)
        for topic in self.topics.values():
            topic.reset()

    def note_silence(self, topic: str) -> None:
        """A topic is being resubscribed because it fell silent; its next snapshot tells whether anything was lost."""
        state = self.topics[topic]
        state.silent_since = (state.last_update if state.depth else state.sequence, state.last_time)
        state.awaiting = True
        for other in self._family(state.symbol):
            if not (other.depth or other.prefix == "tickers"):
                other.doubt = (state.last_time,)

    def _family(self, symbol: str) -> list[Topic]:
        """The topics of a symbol."""
        names = (f"{prefix}.{symbol}" for prefix in self._prefixes)
        return [self.topics[name] for name in names if name in self.topics]

    def tell_silence(self, topic: str, receive_time: int, since: int | None) -> list[Event]:
        """The Gap of trades or liquidations that may have carried nothing after `since`; none where one has said so."""
        state = self.topics[topic]
        state.doubt = None
        if state.told is not None and state.told > (since or 0):
            return []
        state.told = receive_time
        return [self.make_gap(GapReason.SILENCE, topic, receive_time, first_time=since, last_time=receive_time)]

    def _answered(self, state: Topic) -> None:
        """A topic that was silent has shown what it lost: where none of its symbol is asked any more, nothing is in doubt."""
        state.silent_since = None
        family = self._family(state.symbol)
        if all(other.silent_since is None for other in family):
            for other in family:
                other.doubt = None

    def finish(self, receive_time: int) -> list[Event]:
        """The end of the feed: the Gap of a connection that never came back, if any."""
        return self._take_pending_gap(max(self.time, receive_time), None)

    def make_gap(
        self,
        reason: GapReason,
        topic: str | None,
        receive_time: int,
        *,
        missed: int | None = None,
        first_time: int | None = None,
        last_time: int | None = None,
        symbol: str | None = None,
    ) -> Gap:
        """A Gap with the next id; `topic` is the venue's full name, or None for all: of `symbol`, where that is given."""
        self.time = receive_time = max(self.time, receive_time)
        prefix, _, symbol = topic.rpartition(".") if topic else (None, "", symbol)
        gap = Gap(
            gap_id=self.next_gap_id(),
            reason=reason,
            topic=prefix or None,
            symbol=symbol or None,
            missed=missed,
            first_time=first_time,
            last_time=last_time,
            receive_time=receive_time,
        )
        is_over = reason is not GapReason.REJECTED_TOPIC or last_time is not None
        if self.holes is not None and is_over and prefix in (None, "publicTrade"):
            before = self._trades_before if topic is None and symbol is None else {}
            if before:
                self._trades_before = {}
            self.holes.append(Hole(gap, before or self.last_trades(symbol or None)))
        if prefix and prefix.startswith("orderbook."):
            self.signs.append(gap)
        return gap

    def last_trades(self, symbol: str | None = None) -> dict[str, LastTrade | None]:
        """The trade that came last, by topic: of a symbol, or of all."""
        return {
            name: state.last_trade
            for name, state in self.topics.items()
            if state.prefix == "publicTrade" and symbol in (None, state.symbol)
        }

    def known_trades(self, topic: str, trade_ids: Sequence[str]) -> set[str]:
        """Which of these trades went out, as far as is remembered."""
        state = self.topics.get(topic) or self._forgotten.get(topic)
        return state.older.known(trade_ids) | (state.recent.keys() & set(trade_ids)) if state else set()

    def add_trade(self, topic: str, trade_id: str, event_time: int) -> None:
        """Let a trade pass for known, should it still come over the stream."""
        state = self.topics.get(topic) or self._forgotten.get(topic)
        if state is not None:
            state.recent[trade_id] = self.time
            state.newest = max(state.newest, event_time)

    # -- what the audit of trades asks

    def last_trade(self, topic: str) -> LastTrade | None:
        """The trade that came last."""
        state = self.topics.get(topic)
        return state.last_trade if state else None

    def trades_so_far(self, topic: str) -> int:
        """How many trades went out on a topic."""
        state = self.topics.get(topic)
        return state.older.taken + len(state.recent) if state else 0

    def received(self, topic: str, trade_id: str) -> int | None:
        """When a trade came, ns; None: it is not among the latest."""
        state = self.topics.get(topic)
        return state.recent.get(trade_id) if state else None

    def forgotten(self, topic: str) -> int:
        """No trade that went out and is not remembered any more is newer: event time, ns."""
        state = self.topics.get(topic)
        return state.older.forgotten if state else -1

    def is_unsettled(self, topic: str) -> bool:
        """Whether a Gap of the topic may be about to be told."""
        state = self.topics.get(topic)
        return state is None or self._pending_gap is not None or state.doubt is not None

    def _take_pending_gap(self, receive_time: int, last_time: int | None) -> list[Event]:
        if self._pending_gap is None:
            return []
        (reason, first), self._pending_gap = self._pending_gap, None
        return [self.make_gap(reason, None, receive_time, first_time=first, last_time=last_time)]

    # -- what the protocol asks

    @property
    def has_pending_gap(self) -> bool:
        """Whether a Gap goes in before the next event."""
        return self._pending_gap is not None

    def take_resyncs(self) -> list[tuple[str, GapReason]]:
        """Topics that need a new subscription since the last call."""
        taken, self._resyncs = self._resyncs, []
        return taken

    def take_restarts(self) -> list[str]:
        """Symbols whose book restarted with u = 1 since the last call: their instrument may have changed."""
        taken, self._restarts = self._restarts, []
        return taken

    def take_notes(self) -> list[tuple[str, str]]:
        """(kind, sentence) worth a log line since the last call."""
        taken, self._notes = self._notes, []
        return taken

    def note(self, kind: str, sentence: str) -> None:
        """Add a sentence to what `take_notes` gives."""
        self._notes.append((kind, sentence))

    def is_awaiting(self, topic: str) -> bool:
        """Whether a topic has not shown its first snapshot since it was (re)subscribed."""
        state = self.topics.get(topic)
        return state is not None and state.awaiting

    def last_time(self, topic: str) -> int | None:
        """Receive time of a topic's last message, ns; None before the first."""
        state = self.topics.get(topic)
        return state.last_time if state else None

    def book(self, topic: str) -> tuple[int, set[int], set[int]] | None:
        """(update id, prices of bids, prices of asks) of a book topic; None while it awaits a snapshot. Read only."""
        state = self.topics.get(topic)
        if state is None or not state.depth or state.awaiting or state.last_update is None:
            return None
        return state.last_update, state.sides.bids, state.sides.asks
