"""Owns the conversation with the venue on one connection: frames in and out, pings, silence. Pure, sans-IO.

`open` and `tick` give the frames to send, `receive` takes a frame and gives events; time is always an argument (ns).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from wld.bybit.columns import ColumnDecoder
from wld.bybit.decoder import MarketDecoder
from wld.bybit.messages import Envelope
from wld.bybit.subscriptions import NS, ProtocolConfig, Subscription, Subscriptions, symbol_of
from wld.bybit.websocket import Message
from wld.events import Event, GapReason

QUIET_MAX_S = 900.0
PAUSE = 6
"""A connection without data for a sixth of `silence_timeout` is pinged; where the pong comes and still no data, books and
tickers are asked. Sooner, a venue that takes breath would be taken for mute, and all its topics subscribed anew."""
PAUSED_S = 3_600.0
"""Each time within this the patience doubles."""
UNANSWERED_PINGS = 64
"""Remembered at most, on a venue that answers none."""


class BybitProtocol(Subscriptions):
    """One connection's state machine; it outlives reconnects, `open` starts each fresh connection.

    A topic is live when its data comes, not when a request is acknowledged. A topic the venue does not know is
    dropped with a `rejected_topic` Gap and tried again, ever more rarely, and on the next connection.
    """

    def __init__(
        self,
        topics: Iterable[str],
        config: ProtocolConfig | None = None,
        decoder: MarketDecoder | None = None,
    ) -> None:
        super().__init__(topics, config or ProtocolConfig(), decoder or MarketDecoder())
        self._pings: dict[str, int] = {}
        """Unanswered, by id: when they left, ns."""
        self._pongs: list[int] = []
        self._is_probing = False
        self._answered_ping = 0
        """When the latest ping left that was answered on this connection, ns."""
        self._pause_s = self.config.silence_timeout / PAUSE
        self.paused = 0
        """When a pause was last asked about, ns."""
        self._quiet_from = 0
        self.is_urgent = False
        """Something came that `tick` has an answer to: call it now rather than in its turn."""
        self._columns = ColumnDecoder(self.decoder, self.receive)

    # -- outgoing

    def open(self, now: int) -> list[str]:
        """The subscribe frames of a fresh connection; rejected topics get another chance."""
        self._requests.clear()
        self._later.clear()
        self._out = []
        self._confirmed = []
        self._pings.clear()
        self._pongs = []
        self._is_probing = False
        self._answered_ping = 0
        self._is_open = True
        self.has_data = False
        for topic in self._rejected:
            self._add(topic)
        self._rejected.clear()
        for state in self._topics.values():
            state.clear()
        self._subscribe(list(self._topics), now)
        return self._take_out()

    def lost(self, reason: GapReason) -> None:
        """The connection ended."""
        self._is_open = False
        self._requests.clear()
        self.decoder.connection_lost(reason)

    def ping(self, now: int) -> str:
        """The venue's heartbeat, asked for every 20 s."""
        ping_id = f"p{next(self._ids)}"
        self._pings[ping_id] = now
        if len(self._pings) > UNANSWERED_PINGS:
            del self._pings[next(iter(self._pings))]
        return json.dumps({"req_id": ping_id, "op": "ping"})

    def probe(self) -> None:
        """Let the next tick ping beside the heartbeat: the answer is wanted as a proof."""
        self._is_probing = True

    def take_pongs(self) -> list[int]:
        """When the pings left that were answered since the last call, ns. A pong that names no ping of ours is none."""
        taken, self._pongs = self._pongs, []
        return taken

    def take_notes(self) -> list[tuple[str, str]]:
        """(kind, sentence) worth a log line since the last call."""
        taken, self._notes = self._notes + self.decoder.take_notes(), []
        return taken

    def clock_set(self, forward: int, now: int) -> None:
        """The clock that `now` comes from was set forward by so many ns: no topic was silent for that."""
        self._quiet_from = now
        self._answered_ping = 0
        self._pings = {ping_id: sent + forward for ping_id, sent in self._pings.items()}
        self._pongs = [sent + forward for sent in self._pongs]
        for request in (*self._requests.values(), *self._later):
            request.deadline += forward
        for state in self._topics.values():
            if state.first_data_deadline is not None:
                state.first_data_deadline += forward
            if state.resync_at is not None:
                state.resync_at += forward

    # -- incoming

    def receive(self, frame: Message, receive_time: int) -> list[Event]:
        """A frame's events. `tick` afterwards gives what is to be sent in answer.

        Raises:
            FatalSourceError: the venue refused every topic before any data came.
        """
        before = self._take_unsaid()
        events = self.decoder.decode(frame, receive_time)
        for answer in self.decoder.take_control():
            self._answer(answer, receive_time)
        if self.decoder.doubts:
            self._doubt_silent(receive_time)
        if before or self._unsaid:
            events = [*before, *events, *self._take_unsaid()]
        if events and not self.has_data and self.decoder.last_data_time is not None:
            self.has_data = True
        for topic, _ in self.decoder.take_resyncs():
            self._schedule_resync(topic, receive_time)
            self.is_urgent = True
        if self._out:
            self.is_urgent = True
        return events

    def receive_read(self, messages: Sequence[Message], receive_time: int) -> Sequence[Event]:
        """The events of all messages of one read, as `receive` one after the other would give them.

        A Batch of columns where the read is large enough. Raises: as `receive`.
        """
        if self._unsaid:  # since the last tick
            return [event for message in messages for event in self.receive(message, receive_time)]
        events = self._columns.decode(messages, receive_time)
        if events and self.decoder.last_data_time is not None:
            self.has_data = True
        return events

    def _take_unsaid(self) -> list[Event]:
        taken, self._unsaid = self._unsaid, []
        return taken

    def _answer(self, answer: Envelope, now: int) -> None:
        if answer.op in ("ping", "pong") or answer.ret_msg == "pong":
            # Linear pongs keep op "ping"; option and private ones say "pong".
            if (sent := self._pings.pop(answer.req_id or "", None)) is not None:
                self._pongs.append(sent)
                self._answered_ping = max(self._answered_ping, sent)
            return
        self._answer_to(answer, now)

    # -- time

    def tick(self, now: int) -> list[str]:
        """Frames that are due: resyncs, unanswered requests again, silent topics again.

        Raises:
            RetryableSourceError: the connection answers or delivers too little; reconnect.
        """
        self.is_urgent = False
        if not self._is_open:
            return []
        for request_id, request in list(self._requests.items()):
            if now >= request.deadline:
                del self._requests[request_id]
                self._unanswered(request, now)
        for request in [r for r in self._later if now >= r.deadline]:
            self._later.remove(request)
            topics = [t for t in request.topics if t in self._topics]
            self._subscribe(topics, now, request.attempt, is_probe=request.is_probe)
        if self._is_probing:
            self._is_probing = False
            self._out.append(self.ping(now))
        if self._rejected:
            self._ask_refused_again(now)
        for topic, state in list(self._topics.items()):
            if state.resync_at is not None:
                if now >= state.resync_at:
                    state.resync_at = None
                    self._resubscribe([topic], now)
            elif state.first_data_deadline is not None and self.decoder.is_awaiting(topic):
                self._look_for_first_data(topic, state, now)
            elif state.snapshots:
                state.first_data_deadline = None
                state.attempts = 0
                self._look_for_silence(topic, state, now)
        return self._take_out()

    @property
    def answered_ping(self) -> int:
        """When the latest ping left that was answered on this connection, ns."""
        return self._answered_ping

    def look_for_pause(self, now: int, last: int | None) -> None:
        """Ask with the next tick where nothing comes on the whole connection but a pong, ahead of which all that was on its way
        would have come.

        A quiet market looks so, and a venue that is mute. If it is, trades could be back before a topic's silence is seen.
        `last` is when data last came here, or on any connection that carries the same topics.
        """
        if last is None or not self.has_data:
            return
        since = max(last, self._quiet_from)
        if now - self.paused > int(PAUSED_S * NS):
            self._pause_s = self.config.silence_timeout / PAUSE
        if now - since < int(self._pause_s * NS):
            return
        if self._answered_ping <= since:
            self._is_probing = self._is_probing or max(self._pings.values(), default=0) <= since
            return
        asked = [topic for topic, state in self._topics.items() if self._can_be_asked(topic, state)]
        if asked:
            self.paused = now
            self._pause_s = min(QUIET_MAX_S, self._pause_s * 2)
        for start in range(0, len(asked), self.config.subscribe_batch):
            self._ask(asked[start : start + self.config.subscribe_batch], now)

    def _look_for_silence(self, topic: str, state: Subscription, now: int) -> None:
        last = self.decoder.last_time(topic)
        if last is None or not state.confirmed or self.decoder.is_awaiting(topic):
            return
        idle = now - max(last, self._quiet_from)
        if idle >= int(state.quiet_s * NS):
            self._notes.append(("silence", f"{topic}: silent for {idle // NS} s; subscribing again to be sure"))
            state.quiet_s = min(QUIET_MAX_S, state.quiet_s * 2)
            for asked in (topic, *self._as_silent(topic, now, idle // 2)):
                self._ask([asked], now)

    def _as_silent(self, topic: str, now: int, idle: int) -> list[str]:
        """The symbol's other topics with snapshots, where they are silent too: each may have more patience left."""
        return [
            other
            for other, state in self._topics.items()
            if other != topic
            and symbol_of(other) == symbol_of(topic)
            and self._can_be_asked(other, state)
            and now - max(self.decoder.last_time(other) or now, self._quiet_from) >= idle
        ]
