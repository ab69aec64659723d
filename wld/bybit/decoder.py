"""Owns market data: frames in, events out; update-id continuity, ticker merge, duplicates, and gaps in place. Pure.

Does not own what is known of a topic (`wld.bybit.topics`), nor which are followed (`wld.bybit.following`), nor the
conversation with the venue (subscriptions, pings): `wld.bybit.protocol` reads `take_control`, `take_resyncs` and
`take_notes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wld.bybit.following import Following
from wld.bybit.messages import Envelope, decode_book, decode_envelope, decode_items, decode_ticker, named_symbol
from wld.bybit.topics import STRICT_DEPTH, Sides, Topic, precedes
from wld.bybit.websocket import BinaryMessage, Message
from wld.errors import RemoteProtocolError, UnitError
from wld.events import BookDelta, BookSnapshot, Event, Gap, GapReason, PositionSide, Ticker
from wld.units import ms_to_ns

MOST_TOPICS = 20_000
"""Followed unannounced (recorded input) at most: four for each of ten times what the venue lists."""
OTHERS = ("kline.", "priceLimit.", "insurance.", "adlAlert.", "liquidation.", "system.")
"""What the venue sends on topics that we never ask for."""


class MarketDecoder(Following):
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
        super().__init__(next_gap_id)
        self._accept_any = accept_any
        self._each_alone = each_alone
        self._rubbish_after: tuple[str | None, int | None] | None = None
        """What the last Gap for a message of no topic spoke of, and when data had last come before it."""
        self._control: list[Envelope] = []

    def take_control(self) -> list[Envelope]:
        """Answers and pongs seen since the last call."""
        taken, self._control = self._control, []
        return taken

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
        return self._rubbish(named.upper() if named and is_ours else None, receive_time)

    def _follows(self, symbol: str | None) -> bool:
        """Whether a symbol is one of ours, or one of ours in other letters: garbled."""
        return symbol is not None and any(f"{prefix}.{symbol.upper()}" in self.topics for prefix in self._prefixes)

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
                recent[trade_id] = receive_time
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
        push = envelope.ts, content
        if push in state.pushes:
            self.counters["duplicate_liquidation"] += len(items)
            return True
        state.pushes.add(push)
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
        latest = state.push if state.silent_since is None else None
        if None not in push and push == latest:
            self.counters["duplicate_ticker"] += 1
            return before
        if latest is not None and envelope.type == "delta" and precedes(push, latest):
            return self._late_ticker(state, envelope.ts or 0, receive_time)
        state.push = push
        state.push_times.append((envelope.ts or 0, receive_time))
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

    def _late_ticker(self, state: Topic, push_time: int, receive_time: int) -> list[Event]:
        """A change that precedes what is merged: delivered again, or lost until now, and then a snapshot has to tell its state."""
        if state.has_pushed(push_time):
            self.counters["duplicate_ticker"] += 1
            return []
        since = state.received_before(push_time)
        state.push_times.append((push_time, since or 0))
        self.counters["late_ticker"] += 1
        self._notes.append(("late_ticker", f"{state.name}: a change came behind later ones; resubscribing"))
        self._resyncs.append((state.name, GapReason.UPDATE_ID))
        return [
            self.make_gap(
                GapReason.UPDATE_ID,
                state.name,
                receive_time,
                missed=1,
                first_time=since,
                last_time=receive_time,
            )
        ]


def _is_known(topic: str) -> bool:
    prefix, _, symbol = topic.rpartition(".")
    if not symbol:
        return False
    if prefix in ("publicTrade", "tickers", "allLiquidation"):
        return True
    head, _, depth = prefix.partition(".")
    return head == "orderbook" and depth.isdecimal() and 1 <= len(depth) <= 4 and int(depth) > 0
