"""Owns what is asked of the venue on one connection and what it answers: topics subscribed, refused, put off, doubted. Pure.

Does not own frames, pings, nor when a topic has been silent for too long (`wld.bybit.protocol`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from itertools import count
from typing import NamedTuple

from msgspec import Struct

from wld.bybit.decoder import MarketDecoder
from wld.bybit.messages import Envelope
from wld.bybit.trade_ids import remembered
from wld.errors import FatalSourceError, RetryableSourceError
from wld.events import Event, GapReason
from wld.units import SCALE

ARGS_LIMIT = 21_000
"""Characters of all topics on one public connection (Bybit V5 documentation, connect page)."""
RESYNC_INITIAL_S = 1.0
RESYNC_MAX_S = 60.0
"""A topic's second resync in a row waits this long at first and at most, so a busy book makes no storm."""
TOO_OFTEN_INITIAL_S = 1.0
TOO_OFTEN_MAX_S = 60.0
"""A request that is refused for the rate of requests is sent again, as it was, after this long at first and at most."""
REFUSED_INITIAL_S = 5.0
REFUSED_MAX_S = 900.0
"""A refused topic is asked for again after this long at first and at most: the venue may have refused in error."""
NS = 10 * SCALE
"""ns in a second"""


def topics_for(symbols: Iterable[str], topics: Sequence[str], depth: int) -> list[str]:
    """The venue's topic names, a symbol's topics side by side."""
    names = [f"orderbook.{depth}" if topic == "orderbook" else topic for topic in topics]
    return [f"{name}.{symbol}" for symbol in symbols for name in names]


def symbol_of(topic: str) -> str:
    return topic.rpartition(".")[2]


def split_topics(topics: Sequence[str], limit: int = ARGS_LIMIT) -> list[list[str]]:
    """Topics in groups whose args arrays, quotes and commas counted, stay within the limit of one connection."""
    groups: list[list[str]] = [[]]
    used = 2
    for topic in topics:
        size = len(topic) + 3
        if groups[-1] and used + size > limit:
            groups.append([])
            used = 2
        groups[-1].append(topic)
        used += size
    return groups


class ProtocolConfig(Struct, frozen=True):
    """Times in seconds."""

    subscribe_batch: int = 10
    answer_timeout: float = 10.0
    first_data_timeout: float = 10.0
    silence_timeout: float = 30.0
    attempts: int = 3
    """Unanswered subscribes, or snapshots that do not come, before the connection is given up."""


class _Request:
    __slots__ = ("attempt", "deadline", "is_probe", "topics")

    def __init__(self, topics: list[str], deadline: int, attempt: int, is_probe: bool) -> None:
        self.topics = topics
        self.deadline = deadline
        self.attempt = attempt
        self.is_probe = is_probe
        """Of a topic that should be subscribed already: that it could be says that it was not."""


class Subscription:
    """Where one topic stands."""

    __slots__ = (
        "attempts", "confirmed", "first_data_deadline", "quiet_s", "resync_at", "resynced", "resyncs",
        "snapshots",
    )  # fmt: skip

    def __init__(self, topic: str, silence_timeout: float) -> None:
        self.snapshots = topic.startswith(("orderbook.", "tickers."))
        self.quiet_s = silence_timeout
        self.resyncs = 0
        self.resynced = 0
        self.clear()

    def clear(self) -> None:
        self.confirmed = False
        self.attempts = 0
        self.first_data_deadline: int | None = None
        self.resync_at: int | None = None


class _Absence(NamedTuple):
    """A topic that the venue did not serve, or did not list."""

    since: int
    """ns."""
    wait_s: float
    """Before it was last asked for again."""


class _Refusal:
    """A topic that the venue does not serve at present."""

    __slots__ = ("again_at", "text")

    def __init__(self, text: str, again_at: int) -> None:
        self.text = text
        self.again_at = again_at


_TOO_OFTEN = re.compile(r"too (?:many|frequent)|rate limit|10006", re.IGNORECASE)
_REJECTED_TOPIC = re.compile(r"topic:\s*(\S+)$|Invalid symbol\s*:\s*\[([^\]]*)\]")


class Subscriptions:
    """The topics of one connection and the requests that are under way. It outlives reconnects.

    Frames to send gather in `_out`, events in `_unsaid`, sentences in `_notes`: whoever inherits gives them out.
    """

    def __init__(self, topics: Iterable[str], config: ProtocolConfig, decoder: MarketDecoder) -> None:
        self.config = config
        self.decoder = decoder
        self._topics: dict[str, Subscription] = {}
        self._rejected: dict[str, _Refusal] = {}
        self._absent: dict[str, _Absence] = {}
        """Topics refused or taken off, and not confirmed since."""
        self._unsaid: list[Event] = []
        """What goes out before the events of the next message."""
        self._requests: dict[str, _Request] = {}
        self._later: list[_Request] = []
        """Refused for the rate of requests; the deadline is when they are due again."""
        self._too_often_s = TOO_OFTEN_INITIAL_S
        self._ids = count(1)
        self._notes: list[tuple[str, str]] = []
        self._out: list[str] = []
        self._confirmed: list[str] = []
        self._is_open = False
        self.has_data = False
        """This connection has brought some."""
        wanted = list(topics)
        decoder.remembered = remembered(sum(topic.startswith("publicTrade.") for topic in wanted))
        for topic in wanted:
            self._add(topic)

    @property
    def topics(self) -> tuple[str, ...]:
        """What this connection carries, rejected topics left out."""
        return tuple(self._topics)

    @property
    def rejected(self) -> dict[str, str]:
        """Topics that the venue refused on this connection, with its words."""
        return {topic: refusal.text for topic, refusal in self._rejected.items()}

    def confirmed(self, prefix: str) -> list[str]:
        """Topics of a kind that the venue has confirmed on this connection."""
        return [t for t, state in self._topics.items() if state.confirmed and t.startswith(prefix)]

    def _add(self, topic: str) -> None:
        self._topics[topic] = Subscription(topic, self.config.silence_timeout)
        self.decoder.expect(topic)

    def add_topics(self, topics: Iterable[str], now: int) -> list[str]:
        """Subscribe more topics on the open connection (or on the next one)."""
        new = [t for t in topics if t not in self._topics and t not in self._rejected]
        for topic in new:
            self._add(topic)
        if self._is_open:
            self._subscribe(new, now)
        return self._take_out()

    def remove_topics(self, topics: Iterable[str], now: int) -> list[str]:
        """Unsubscribe topics, such as those of a delisted symbol. Followed again, the time between is a Gap."""
        topics = list(topics)
        for topic in topics:
            self._rejected.pop(topic, None)
        gone = [topic for topic in topics if self._topics.pop(topic, None)]
        for topic in gone:
            self.decoder.forget(topic)
            self._absent.setdefault(topic, _Absence(now, REFUSED_INITIAL_S))
        if gone and self._is_open:
            self._send("unsubscribe", gone)
        return self._take_out()

    def has_followed(self, symbol: str) -> bool:
        """Whether topics of a symbol were taken off here."""
        return any(symbol_of(topic) == symbol for topic in self._absent)

    def _send(self, op: str, topics: list[str]) -> str:
        request_id = f"w{next(self._ids)}"
        self._out.append(json.dumps({"req_id": request_id, "op": op, "args": topics}, separators=(",", ":")))
        return request_id

    def _subscribe(
        self, topics: list[str], now: int, attempt: int = 1, batch: int | None = None, *, is_probe: bool = False
    ) -> None:
        batch = batch or self.config.subscribe_batch
        deadline = now + int(self.config.answer_timeout * NS)
        for start in range(0, len(topics), batch):
            part = topics[start : start + batch]
            self._requests[self._send("subscribe", part)] = _Request(part, deadline, attempt, is_probe)

    def _take_out(self) -> list[str]:
        taken, self._out = self._out, []
        return taken

    def take_confirmed(self) -> list[str]:
        """Topics that the venue confirmed since the last call."""
        taken, self._confirmed = self._confirmed, []
        return taken

    def resync(self, topic: str, now: int) -> None:
        """Subscribe a topic anew with one of the next ticks, no more often than a resync of its own would."""
        self._schedule_resync(topic, now)

    # -- answers

    def _answer_to(self, answer: Envelope, now: int) -> None:
        if answer.op == "unsubscribe":
            return
        request_id = answer.req_id or ""
        request = self._requests.pop(request_id, None)
        if request is None and not request_id and len(self._requests) == 1:
            request = self._requests.pop(next(iter(self._requests)))  # some errors come without their req_id
        if request is None:
            if answer.success is False:
                self._notes.append(("refused", f"the venue answered {answer.ret_msg!r} to no request of ours"))
            return
        if answer.success or answer.type == "COMMAND_RESP":
            if request.is_probe and request.topics[0] in self._topics:
                self._was_dead(request.topics[0], now, self.decoder.last_time(request.topics[0]))
            self._confirm(request.topics, now)
            self._too_often_s = TOO_OFTEN_INITIAL_S
            return
        self._rejection(answer.ret_msg or "", request, now)

    def _confirm(self, topics: list[str], now: int) -> None:
        back: list[str] = []
        for topic in topics:
            state = self._topics.get(topic)
            if state is None:
                continue
            state.confirmed = True
            self._confirmed.append(topic)
            if state.snapshots and self.decoder.is_awaiting(topic):
                state.first_data_deadline = now + int(self.config.first_data_timeout * NS)
            if (absence := self._absent.pop(topic, None)) is not None:
                back.append(topic)
                self._unsaid.append(
                    self.decoder.make_gap(GapReason.REJECTED_TOPIC, topic, now, first_time=absence.since, last_time=now)
                )
        for symbol in dict.fromkeys(symbol_of(topic) for topic in back):
            self.doubt(symbol, now, but=topics)

    # -- topics that are subscribed no more, though nobody said so

    def doubt(self, symbol: str, now: int, *, but: Collection[str] = ()) -> None:
        """The venue may have ended a symbol's subscriptions, as when it is listed anew: find out, with the next tick.

        A book or ticker is subscribed anew, and its snapshot shows whether anything was lost. Trades and liquidations
        have none: subscribing them while they are is refused as `already subscribed`, and loses nothing.
        """
        for topic, refusal in self._rejected.items():
            if symbol_of(topic) == symbol and topic not in but:
                refusal.again_at = now
        self._look_after(symbol, now, but)

    def _look_after(self, symbol: str, now: int, but: Collection[str]) -> None:
        asked = {topic for r in (*self._requests.values(), *self._later) for topic in r.topics}
        for topic, state in self._topics.items():
            if symbol_of(topic) != symbol or topic in but or topic in asked or not (state.confirmed and self._is_open):
                continue
            if not state.snapshots:
                self._subscribe([topic], now, is_probe=True)
            elif not self.decoder.is_awaiting(topic):
                self._ask([topic], now)

    def _doubt_silent(self, now: int) -> None:
        """A book or ticker lost messages and nothing told: what its symbol's other topics lost, nothing can tell."""
        doubts, self.decoder.doubts = self.decoder.doubts, []
        for symbol, since in doubts:
            for topic, state in self._topics.items():
                if symbol_of(topic) == symbol and not state.snapshots:
                    self._was_dead(topic, now, since)
                    self._subscribe([topic], now)  # the answer is `already subscribed`, or it was not

    def _was_dead(self, topic: str, now: int, first: int | None) -> None:
        """A topic carried nothing for a while, from `first` on."""
        self._notes.append(("silence", f"{topic}: was no longer subscribed, or lost messages; now it is"))
        self._unsaid += self.decoder.tell_silence(topic, now, first)

    def _rejection(self, text: str, request: _Request, now: int) -> None:
        match = _REJECTED_TOPIC.search(text)
        named = (match[1] or match[2]).strip() if match else None
        if named is None and _TOO_OFTEN.search(text):
            self._put_off(text, request, now)
            return
        rest = [t for t in request.topics if t in self._topics and t != named]
        if named in request.topics and "already subscribed" in text:
            self._confirm([named or ""], now)
        elif named in request.topics:
            self._reject(named or "", text, now)
        elif len(rest) > 1:
            self._notes.append(("refused", f"subscribe of {len(rest)} topics refused ({text}); trying half as many"))
            self._subscribe(rest, now, request.attempt, batch=(len(rest) + 1) // 2)
            return
        elif rest and request.attempt < self.config.attempts:
            self._subscribe(rest, now, request.attempt + 1, is_probe=request.is_probe)
            return
        elif rest:
            self._reject(rest[0], text, now)
            rest = []
        if rest:
            self._subscribe(rest, now)
        if not self._topics and self.decoder.last_data_time is None:
            raise FatalSourceError(f"the venue refused every topic; the last: {text}")

    def _put_off(self, text: str, request: _Request, now: int) -> None:
        """Send a request again when the venue may have forgotten how many there were."""
        wait = self._too_often_s
        self._notes.append(
            ("refused", f"subscribe of {len(request.topics)} topics refused ({text}); again in {wait:.0f} s")
        )
        request.deadline = now + int(wait * NS)
        if all(other.deadline < now for other in self._later):
            self._too_often_s = min(TOO_OFTEN_MAX_S, wait * 2)
        self._later.append(request)

    def _reject(self, topic: str, text: str, now: int) -> None:
        """Go on without a topic, and try it again later.

        A Gap without an end, unless this is a refusal known before; once the venue confirms, another with both ends.
        """
        last_time = self.decoder.last_time(topic)
        self._topics.pop(topic, None)
        self.decoder.forget(topic)
        before = self._absent.get(topic)
        wait = REFUSED_INITIAL_S if before is None else min(REFUSED_MAX_S, before.wait_s * 2)
        self._absent[topic] = _Absence(now if before is None else before.since, wait)
        self._rejected[topic] = _Refusal(text, now + int(wait * NS))
        if before is not None:
            return
        self._notes.append(("rejected_topic", f"{topic}: refused by the venue ({text}); recording goes on without it"))
        self._unsaid.append(self.decoder.make_gap(GapReason.REJECTED_TOPIC, topic, now, first_time=last_time))
        if last_time is not None:
            self._look_after(symbol_of(topic), now, [topic])

    def _ask_refused_again(self, now: int) -> None:
        back, self.decoder.revenants = self.decoder.revenants, set()
        for topic in [t for t, refusal in self._rejected.items() if now >= refusal.again_at or t in back]:
            del self._rejected[topic]
            self._add(topic)
            self._subscribe([topic], now)

    # -- again

    def _schedule_resync(self, topic: str, now: int) -> None:
        state = self._topics.get(topic)
        if state is None or state.resync_at is not None:
            return
        if now - state.resynced > 2 * int(RESYNC_MAX_S * NS):
            state.resyncs = 0
        state.resynced = now
        wait = 0.0 if state.resyncs == 0 else min(RESYNC_MAX_S, RESYNC_INITIAL_S * 2.0 ** (state.resyncs - 1))
        state.resyncs += 1
        state.resync_at = now + int(wait * NS)

    def _unanswered(self, request: _Request, now: int) -> None:
        waiting = [t for t in request.topics if t in self._topics and self.decoder.is_awaiting(t)]
        for topic in set(request.topics) - set(waiting):
            self._confirm([topic], now)  # data came: live without an answer
        if not waiting:
            return
        if request.attempt >= self.config.attempts:
            raise RetryableSourceError(f"no answer to a subscribe of {waiting[0]} after {request.attempt} attempts")
        self._notes.append(("unanswered", f"no answer to a subscribe of {len(waiting)} topics; asking again"))
        self._subscribe(waiting, now, request.attempt + 1)

    def _look_for_first_data(self, topic: str, state: Subscription, now: int) -> None:
        if now >= (state.first_data_deadline or 0):
            state.first_data_deadline = None
            state.attempts += 1
            if state.attempts >= self.config.attempts and not self.has_data:
                raise RetryableSourceError(f"{topic}: acknowledged, but no data came")
            self._notes.append(("no_data", f"{topic}: acknowledged, but no snapshot came; subscribing again"))
            self._resubscribe([topic], now)

    def _can_be_asked(self, topic: str, state: Subscription) -> bool:
        """Whether it is live and sends snapshots, and none is on its way."""
        live = state.snapshots and state.confirmed and state.resync_at is None
        return live and not self.decoder.is_awaiting(topic)

    def _ask(self, topics: list[str], now: int) -> None:
        """Subscribe books or tickers anew, whose snapshots show whether anything was lost."""
        for topic in topics:
            self.decoder.note_silence(topic)
        self._resubscribe(topics, now)

    def _resubscribe(self, topics: list[str], now: int) -> None:
        for topic in topics:
            state = self._topics[topic]
            state.confirmed = False
            state.first_data_deadline = None
        self._send("unsubscribe", topics)
        self._subscribe(topics, now)
