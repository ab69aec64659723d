"""Owns market data: frames in, events out; update-id continuity, ticker merge, duplicates, and gaps in place. Pure.

Does not own the conversation with the venue (subscriptions, pings): `wld.bybit.protocol` reads `take_control`,
`take_resyncs` and `take_notes`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, NamedTuple

from wld.bybit.messages import Envelope, decode_book, decode_envelope, decode_items, decode_ticker, named_symbol
from wld.bybit.trade_ids import BLOCK_IDS, OlderIds
from wld.bybit.websocket import BinaryMessage, Message
from wld.errors import RemoteProtocolError, UnitError
from wld.events import BookDelta, BookSnapshot, Event, Gap, GapReason, Level, PositionSide, Ticker
from wld.tables import DIRECTIONS, TICKER_NUMBERS
from wld.units import ABSENT, ms_to_ns

STRICT_DEPTH = 50
"""From this depth on the update id must grow by exactly 1; depth 1 repeats it every 3 s."""
PUSHES = 64
"""Liquidation messages remembered per topic: one that comes again, to the byte, was delivered twice. Its items may
repeat each other within a message, and from one push time to another."""
MOST_TOPICS = 20_000
"""Followed unannounced (recorded input) at most: four for each of ten times what the venue lists."""
REMEMBERED = 4_096
"""Topics no longer followed that are remembered: the trades that went out on them, should they be followed again."""
OTHERS = ("kline.", "priceLimit.", "insurance.", "adlAlert.", "liquidation.", "system.")
"""What the venue sends on topics that we never ask for."""
NO_BID, NO_ASK = -1, 1 << 63
"""Best prices of a side that is empty."""


Push = tuple[int, tuple[tuple[int, bool, int, int], ...]]
"""A liquidation message: its push time in ms, and of each item the time in ms, whether long, size and price."""
TickerPush = tuple[str | None, int | None, int | None, dict[str, Any]]
"""A ticker message: type, cross sequence, push time in ms, and its fields as sent."""
LastTrade = tuple[str, int]
"""(trade id, event time in ns)"""


class Hole(NamedTuple):
    """A Gap that concerns trades, and by topic the newest trade before it (None: none was seen yet)."""

    gap: Gap
    last_trades: dict[str, LastTrade | None]


class Sides:
    """Which prices of a book have a size: all that it takes to see that a book is crossed.

    The best prices are bounds: true when they were set, and made true again only when they meet. `owner` names this
    state in the caches of `wld.bybit.columns`; whoever changes the state without them gives the name up.
    """

    __slots__ = ("asks", "best_ask", "best_bid", "bids", "gone", "owner")

    def __init__(self, bids: Iterable[Level] = (), asks: Iterable[Level] = ()) -> None:
        self.bids = {price for price, size in bids if size}
        self.asks = {price for price, size in asks if size}
        self.owner: int | None = None
        self.gone: list[tuple[int, bool]] = []
        """(price, is ask) removed here and still in those caches."""
        self.set_best()

    def set_best(self) -> None:
        """Make the bounds true."""
        self.best_bid = max(self.bids, default=NO_BID)
        self.best_ask = min(self.asks, default=NO_ASK)

    def apply(self, bids: tuple[Level, ...], asks: tuple[Level, ...]) -> None:
        """Take in a delta."""
        if len(self.gone) > 1000:
            self.owner = None
        for price, size in bids:
            if size:
                self.bids.add(price)
                if price > self.best_bid:
                    self.best_bid = price
            else:
                self.bids.discard(price)
                self._went(price, False)
        for price, size in asks:
            if size:
                self.asks.add(price)
                if price < self.best_ask:
                    self.best_ask = price
            else:
                self.asks.discard(price)
                self._went(price, True)

    def _went(self, price: int, is_ask: bool) -> None:
        if self.owner is not None:
            self.gone.append((price, is_ask))

    def is_crossed(self) -> bool:
        """Whether the best bid is at or above the best ask."""
        if self.best_bid < self.best_ask:
            return False
        self.set_best()
        return self.best_bid >= self.best_ask


class Topic:
    """What is known of one topic on the current connection."""

    __slots__ = (
        "awaiting",
        "depth",
        "doubt",
        "dropped",
        "goes_by_rows",
        "kind",
        "last_time",
        "last_trade",
        "last_update",
        "lost_reason",
        "lost_time",
        "name",
        "newest",
        "older",
        "place",
        "prefix",
        "push",
        "pushes",
        "recent",
        "sequence",
        "sides",
        "silent_since",
        "symbol",
        "ticker",
        "ticker_columns",
        "ticker_extra",
        "told",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        head, _, self.symbol = name.rpartition(".")
        self.prefix = head
        self.kind = ord(name[0]) if name else 0
        """First letter of the topic, as `wld.bybit.columns` tells kinds apart."""
        self.place = -1
        """The symbol's place in the table of symbols of `wld.bybit.columns`; -1: not yet there."""
        self.depth = int(head.partition(".")[2]) if head.startswith("orderbook.") else 0
        self.recent: set[str] = set()
        """Ids of the latest trades, to drop what is delivered twice."""
        self.older = OlderIds()
        self.reset()
        self.newest = -1
        """The latest event time of a trade, ns."""
        self.last_trade: LastTrade | None = None
        self.last_time: int | None = None
        self.told: int | None = None
        """When a Gap last said that this topic may have carried nothing for a while, ns."""
        self.pushes: deque[Push] = deque(maxlen=PUSHES)

    def reset(self) -> None:
        """Forget everything that a fresh subscription starts without; trade ids stay, they tell a repeated trade."""
        self.last_update: int | None = None
        self.sequence: int | None = None
        self.push: TickerPush | None = None
        self.awaiting = True
        self.silent_since: tuple[int | None, int | None] | None = None
        self.doubt: tuple[int | None] | None = None
        """Of trades and liquidations: a book or ticker of the symbol fell silent, after this time, and was asked whether
        it lost anything. What comes before the answer has a Gap before it: the answer could only put it behind."""
        self.sides = Sides()
        self.ticker: dict[str, Any] = {}
        self.ticker_columns: Any = None
        """The merged ticker as numbers in the order of `TICKER_NUMBERS`, the direction's code and a cell of no meaning,
        where `wld.bybit.columns` has it; then `ticker` is out of date."""
        self.ticker_extra: dict[str, Any] = {}
        """Beside `ticker_columns`: texts, and numbers beyond 64 bits."""
        self.goes_by_rows = 0
        """So many more reads `wld.bybit.columns` leaves this topic to the rows."""
        self.dropped = 0
        self.lost_reason = GapReason.UPDATE_ID
        self.lost_time: int | None = None

    def take_ticker_back(self) -> None:
        """The merged ticker as a dictionary again."""
        if self.ticker_columns is None:
            return
        *values, direction, _ = self.ticker_columns.tolist()
        self.ticker = {name: v for name, v in zip(TICKER_NUMBERS, values, strict=True) if v != ABSENT}
        if direction:
            self.ticker["tick_direction"] = DIRECTIONS[direction]
        self.ticker |= self.ticker_extra
        self.ticker_columns, self.ticker_extra = None, {}

    def forget_old_trades(self) -> None:
        """Keep the ids of the last trades, some thousands; called after each message."""
        if len(self.recent) >= BLOCK_IDS:
            self.older.take(self.recent, self.newest)
            self.recent = set()


class MarketDecoder:
    """Turns the venue's frames into events.

    Guarantees: events in the order of the wire; a Gap in the place of whatever could not be used; receive times
    that never go backwards. `accept_any` follows topics that were not announced with `expect` (recorded input).

    What cannot even be told to be of a topic is a Gap of all of them, one for as many such messages as come with no
    other between: so rubbish costs the tape less than what it stands between. With `each_alone` each is one by itself.
    """

    def __init__(
        self,
        *,
        accept_any: bool = False,
        each_alone: bool = False,
        next_gap_id: Callable[[], int] | None = None,
    ) -> None:
        self._accept_any = accept_any
        self._each_alone = each_alone
        self._rubbish_after: tuple[str | None, int | None] | None = None
        """What the last Gap for a message of no topic spoke of, and when data had last come before it."""
        self.next_gap_id = next_gap_id or count(1).__next__
        self.topics: dict[str, Topic] = {}
        self._prefixes: set[str] = set()
        self._forgotten: dict[str, Topic] = {}
        self.revenants: set[str] = set()
        """Forgotten topics of which messages come all the same."""
        self.doubts: list[tuple[str, int | None]] = []
        """Symbols of which a topic fell silent and lost something, and the time of the last message before, ns."""
        self._control: list[Envelope] = []
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
        self.counters: Counter[str] = Counter()
        """By kind: duplicates, stale deltas, resyncs, restarts, and each kind of undecodable frame."""

    # -- what the protocol tells us

    def expect(self, topic: str) -> None:
        """Follow a topic; its first message must be a snapshot where it has snapshots."""
        if topic not in self.topics:
            if known := self._forgotten.pop(topic, None):
                known.reset()
            self.topics[topic] = known or Topic(topic)
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
                self._trades_before = self._last_trades(None)
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
            self.holes.append(Hole(gap, before or self._last_trades(symbol or None)))
        return gap

    def _last_trades(self, symbol: str | None) -> dict[str, LastTrade | None]:
        return {
            name: state.last_trade
            for name, state in self.topics.items()
            if state.prefix == "publicTrade" and symbol in (None, state.symbol)
        }

    def knows_trade(self, topic: str, trade_id: str) -> bool:
        """Whether a trade went out, as far as is remembered."""
        state = self.topics.get(topic)
        return state is not None and (trade_id in state.recent or trade_id in state.older)

    def add_trade(self, topic: str, trade_id: str, event_time: int) -> None:
        """Let a trade pass for known, should it still come over the stream."""
        state = self.topics.get(topic)
        if state is not None:
            state.recent.add(trade_id)
            state.newest = max(state.newest, event_time)

    # -- what the protocol asks

    @property
    def has_pending_gap(self) -> bool:
        """Whether a Gap goes in before the next event."""
        return self._pending_gap is not None

    def take_control(self) -> list[Envelope]:
        """Answers and pongs seen since the last call."""
        taken, self._control = self._control, []
        return taken

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

    # -- frames

    def decode(self, frame: Message, receive_time: int) -> list[Event]:
        """The events of one frame. Never raises for bad input: it counts, notes, and puts a Gap."""
        self.time = receive_time = max(self.time, receive_time)
        envelope: Envelope | None = None
        try:
            if isinstance(frame, BinaryMessage):
                raise RemoteProtocolError("binary", f"binary frame of {len(frame)} bytes")
            envelope = decode_envelope(frame)
            if envelope.topic is None:
                self._answer(envelope)
                return []
            return self._market(envelope, envelope.topic, receive_time)
        except RemoteProtocolError as error:
            return self._undecodable(error, envelope.topic if envelope else None, receive_time)

    def _answer(self, envelope: Envelope) -> None:
        if envelope.op is None and envelope.success is None and envelope.type != "COMMAND_RESP":
            raise RemoteProtocolError("envelope", "neither topic nor op")
        self._control.append(envelope)

    def _undecodable(self, error: RemoteProtocolError, topic: str | None, receive_time: int) -> list[Event]:
        self.counters[error.kind] += 1
        self._notes.append((error.kind, str(error)))
        known = self.topics.get(topic) if topic else None
        if known is None:
            return self._rubbish(None, receive_time)
        before = self._take_pending_gap(receive_time, receive_time)
        return [*before, *self._unread(known, None, error, receive_time)]

    def _unread(self, state: Topic, missed: int | None, error: RemoteProtocolError, receive_time: int) -> list[Event]:
        """The Gap of what a topic lost; another of the topic that its content names, where that is one of ours."""
        meant = self.topics.get(f"{state.prefix}.{error.symbol}") if error.symbol else None
        return [
            self.make_gap(
                GapReason.UNDECODABLE,
                one.name,
                receive_time,
                missed=missed if one is state else None,
                first_time=state.last_time,
                last_time=receive_time,
            )
            for one in (state, meant)
            if one is not None
        ]

    def _rubbish(self, symbol: str | None, receive_time: int) -> list[Event]:
        """The Gap of a message that may have been of any topic (of a symbol)."""
        if self._rubbish_after == (symbol, self.last_data_time) and not self._each_alone and not self._pending_gap:
            return []
        before = self._take_pending_gap(receive_time, receive_time)
        self._rubbish_after = symbol, self.last_data_time
        gap = self.make_gap(
            GapReason.UNDECODABLE,
            None,
            receive_time,
            first_time=self.last_data_time,
            last_time=receive_time,
            symbol=symbol,
        )
        return [*before, gap]

    def _take_pending_gap(self, receive_time: int, last_time: int | None) -> list[Event]:
        if self._pending_gap is None:
            return []
        (reason, first), self._pending_gap = self._pending_gap, None
        return [self.make_gap(reason, None, receive_time, first_time=first, last_time=last_time)]

    def _market(self, envelope: Envelope, topic: str, receive_time: int) -> list[Event]:
        state = self.topics.get(topic)
        if state is None:
            if not self._accept_any or not _is_known(topic) or len(self.topics) >= MOST_TOPICS:
                self.counters["unknown_topic"] += 1
                self._notes.append(("unknown_topic", f"message of a topic not subscribed: {topic[:60]}"))
                return self._uninvited(envelope, topic, receive_time)
            state = self.topics[topic] = Topic(topic)
        if state.depth:
            events = self._book(envelope, state, receive_time)
        elif state.prefix == "tickers":
            events = self._ticker(envelope, state, receive_time)
        else:
            events = self._items(envelope, state, receive_time)
        state.last_time = receive_time
        before = self._take_pending_gap(receive_time, receive_time)
        self.last_data_time = receive_time
        self._rubbish_after = None
        return before + events if before else events

    def _uninvited(self, envelope: Envelope, topic: str, receive_time: int) -> list[Event]:
        """A message of a topic that was not asked for: nothing, unless it may be one of ours with its topic garbled."""
        if topic in self._forgotten:
            self.revenants.add(topic)
            return []
        family, _, symbol = topic.rpartition(".")
        named = None if self._accept_any else named_symbol(envelope)
        is_other = topic.startswith(OTHERS) and named in (None, symbol)
        is_ours = self._follows(named)
        if self._accept_any or is_other or (family and not is_ours and not self._follows(symbol)):
            return []
        return self._rubbish(named if is_ours else None, receive_time)

    def _follows(self, symbol: str | None) -> bool:
        return any(f"{prefix}.{symbol}" in self.topics for prefix in self._prefixes)

    def _items(self, envelope: Envelope, state: Topic, receive_time: int) -> list[Event]:
        items, any_bad = decode_items(envelope, receive_time)
        state.awaiting = False
        events: list[Event] = []
        if state.doubt is not None:
            (since,), state.doubt = state.doubt, None
            if state.last_time is not None:
                since = max(since or 0, state.last_time)
            events += self.tell_silence(state.name, receive_time, since)
        recent = state.recent
        is_trade = state.prefix == "publicTrade"
        if not is_trade and not any_bad and self._is_pushed_again(envelope, state, items):
            return events
        bad = 0
        error: RemoteProtocolError | None = None
        for item in items:
            if any_bad and isinstance(item, RemoteProtocolError):
                self.counters[item.kind] += 1
                bad += 1
                if error is None or (error.symbol is None and item.symbol):
                    error = item
                if bad == 1:
                    self._notes.append((item.kind, str(item)))
                continue
            if error is not None:
                events += self._unread(state, bad, error, receive_time)
                bad, error = 0, None
            if is_trade and item.trade_id:  # type: ignore[union-attr]
                trade_id: str = item.trade_id  # type: ignore[union-attr]
                event_time: int = item.event_time  # type: ignore[union-attr]
                if trade_id in recent or state.older.meets((trade_id,), event_time):
                    self.counters["duplicate_trade"] += 1
                    continue
                recent.add(trade_id)
                state.last_trade = (trade_id, event_time)
                if event_time > state.newest:
                    state.newest = event_time
            events.append(item)  # type: ignore[arg-type]
        if error is not None:
            events += self._unread(state, bad, error, receive_time)
        state.forget_old_trades()
        return events

    def _is_pushed_again(self, envelope: Envelope, state: Topic, items: list[Any]) -> bool:
        if envelope.ts is None or not items:
            return False
        content = tuple(
            (e.event_time // 1_000_000, e.position_side is PositionSide.LONG, e.size, e.bankruptcy_price) for e in items
        )
        if (envelope.ts, content) in state.pushes:
            self.counters["duplicate_liquidation"] += len(items)
            return True
        state.pushes.append((envelope.ts, content))
        return False

    def _book(self, envelope: Envelope, state: Topic, receive_time: int) -> list[Event]:
        event = decode_book(envelope, state.depth, receive_time)
        if isinstance(event, BookSnapshot):
            return self._book_snapshot(event, state, receive_time)
        strict = state.depth >= STRICT_DEPTH
        if strict and state.silent_since is not None and state.last_update is not None:
            return self._book_delta_after_silence(event, state, receive_time)
        if state.awaiting and strict:
            if state.last_update is None and self._accept_any:
                pass  # a recording that begins in mid-stream
            elif state.last_update is None and state.silent_since is None:
                return [self._lose(state, GapReason.UPDATE_ID, None, receive_time)]
            else:
                self.counters["delta_before_snapshot"] += 1
                state.dropped += state.silent_since is None
                return []
        return self._continue_book(event, state, receive_time)

    def _continue_book(self, event: BookDelta, state: Topic, receive_time: int) -> list[Event]:
        strict = state.depth >= STRICT_DEPTH
        if strict and state.last_update is not None:
            if (event.sequence is not None and state.sequence is not None and event.sequence < state.sequence) or (
                event.update_id == state.last_update and event.sequence in (None, state.sequence)
            ):
                self.counters["stale_delta"] += 1
                return []
            if event.update_id != state.last_update + 1:
                skipped = event.update_id - state.last_update - 1
                return [self._lose(state, GapReason.UPDATE_ID, skipped if skipped > 0 else None, receive_time)]
        state.sides.apply(event.bids, event.asks)
        if strict and state.sides.is_crossed():
            return [self._lose(state, GapReason.CROSSED_BOOK, 1, receive_time)]
        state.awaiting = False
        state.last_update = event.update_id
        state.sequence = event.sequence
        return [event]

    def _book_delta_after_silence(self, event: BookDelta, state: Topic, receive_time: int) -> list[Event]:
        """It comes before the snapshot that was asked for, and tells by itself whether anything was lost."""
        assert state.silent_since is not None
        _, since = state.silent_since
        state.awaiting = False
        self._answered(state)
        if event.update_id > (state.last_update or 0) + 1:
            self.doubts.append((state.symbol, since))
        events = self._continue_book(event, state, receive_time)
        if not state.awaiting:
            state.silent_since, state.awaiting = (state.last_update, receive_time if events else since), True
        return events

    def _book_snapshot(self, event: BookSnapshot, state: Topic, receive_time: int) -> list[Event]:
        before: list[Event] = []
        if state.silent_since is not None:
            last, since = state.silent_since
            if last is not None and event.update_id != last:
                skipped = event.update_id - last
                before.append(
                    self.make_gap(
                        GapReason.SILENCE,
                        state.name,
                        receive_time,
                        missed=skipped if skipped > 0 else None,
                        first_time=since,
                        last_time=receive_time,
                    )
                )
                self.doubts.append((state.symbol, since))
            self._answered(state)
        if state.dropped:
            before.append(
                self.make_gap(
                    state.lost_reason,
                    state.name,
                    receive_time,
                    missed=state.dropped,
                    first_time=state.lost_time,
                    last_time=receive_time,
                )
            )
            state.dropped = 0
        state.sides = Sides(event.bids, event.asks)
        if state.sides.is_crossed():
            return [*before, self._lose(state, GapReason.CROSSED_BOOK, 1, receive_time)]
        if event.update_id == 1:
            self.counters["book_restart"] += 1
            self._notes.append(("book_restart", f"{state.name}: update id 1, the venue restarted this book"))
            self._restarts.append(event.symbol)
        state.awaiting = False
        state.last_update = event.update_id
        state.sequence = event.sequence
        return [*before, event]

    def _lose(self, state: Topic, reason: GapReason, missed: int | None, receive_time: int) -> Gap:
        """The book cannot be continued: a Gap, a resync of this topic, and nothing more until its snapshot."""
        gap = self.make_gap(
            reason,
            state.name,
            receive_time,
            missed=missed,
            first_time=state.last_time,
            last_time=receive_time,
        )
        self.counters[reason.value] += 1
        self._notes.append((reason.value, f"{state.name}: {reason.value}, missed {missed or 'unknown'}; resubscribing"))
        self._resyncs.append((state.name, reason))
        state.awaiting = True
        state.lost_reason = reason
        state.lost_time = receive_time
        state.sides = Sides()
        if state.last_update is None:
            state.last_update = -1
        return gap

    def _ticker(self, envelope: Envelope, state: Topic, receive_time: int) -> list[Event]:
        symbol, fields, wire = decode_ticker(envelope)
        try:
            sent_time = None if envelope.ts is None else ms_to_ns(envelope.ts)
        except UnitError as error:
            raise RemoteProtocolError("number", f"{state.name}: ts: {error}") from None
        if envelope.cs is not None and not 0 <= envelope.cs < 1 << 63:
            raise RemoteProtocolError("number", f"{state.name}: cs: does not fit 63 bits")
        before: list[Event] = []
        state.take_ticker_back()
        push = (envelope.type, envelope.cs, envelope.ts, wire)
        if None not in push and push == state.push and state.silent_since is None:
            self.counters["duplicate_ticker"] += 1
            return before
        state.push = push
        if envelope.type == "snapshot":
            state.ticker = fields
            if state.silent_since is not None:
                last, since = state.silent_since
                self._answered(state)
                if envelope.cs is None or envelope.cs != last:
                    before.append(
                        self.make_gap(
                            GapReason.SILENCE,
                            state.name,
                            receive_time,
                            first_time=since,
                            last_time=receive_time,
                        )
                    )
                    self.doubts.append((state.symbol, since))
        elif envelope.type == "delta":
            if state.silent_since is not None:  # before the snapshot that would tell whether anything was lost
                _, since = state.silent_since
                self._answered(state)
                before.append(
                    self.make_gap(GapReason.SILENCE, state.name, receive_time, first_time=since, last_time=receive_time)
                )
            state.ticker = {**state.ticker, **fields}
        else:
            raise RemoteProtocolError("fields", f"{state.name}: type: expected snapshot or delta")
        state.awaiting = False
        state.sequence = envelope.cs
        event = Ticker(
            symbol=symbol,
            **state.ticker,
            sequence=envelope.cs,
            sent_time=sent_time,
            receive_time=receive_time,
        )
        return [*before, event]


def _is_known(topic: str) -> bool:
    prefix, _, symbol = topic.rpartition(".")
    if not symbol:
        return False
    if prefix in ("publicTrade", "tickers", "allLiquidation"):
        return True
    head, _, depth = prefix.partition(".")
    return head == "orderbook" and depth.isdecimal() and 1 <= len(depth) <= 4 and int(depth) > 0
