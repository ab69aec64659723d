"""The simulated exchange in the same process, without sockets: links that have latency, and the faults of a network.

Owns what the venue sends, to whom, and what of it arrives. Market, sessions, publishing and the venue's own faults are
`wld.exchange`'s. Time is Trio's, so a `MockClock` makes it virtual.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import trio

from tests.virtual.truth import Truth
from wld.bybit.rest import BybitRest
from wld.errors import RetryableSourceError
from wld.exchange import rest, spec_for
from wld.exchange.control import Session
from wld.exchange.injection import parse_fault
from wld.exchange.market import Market
from wld.exchange.misbehaviour import Misbehaviour
from wld.exchange.publication import Message
from wld.exchange.server import Venue

EPOCH_MS = 1_790_000_000_000
"""When virtual time begins."""
BEHIND_S = 20.0
"""A connection so far behind is cut, as a venue cuts who does not keep up."""
_encode = msgspec.json.Encoder().encode


def now_ns() -> int:
    """Virtual time, ns since the Unix epoch: the venue's clock, and the recorder's unless that is moved."""
    return EPOCH_MS * 1_000_000 + round(trio.current_time() * 1e9)


class Link:
    """One connection: the venue's end, the network between, and the recorder's end (`wld.bybit.transport.FrameStream`)."""

    def __init__(self, venue: VirtualVenue, number: int, luck: random.Random) -> None:
        self.number = number
        self.session = Session(f"link-{number}", venue.knows, venue.rejects)
        self.opened = self.active_at = trio.current_time()
        self.held_until = 0.0
        """Nothing arrives before this, in either direction."""
        self.gap_s = 0.0
        """Between two messages that arrive: a slow drip."""
        self.is_swallowing = False
        """Half open: both directions are lost, and nobody is told."""
        self.is_mute: Callable[[str], bool] = lambda topic: False
        """Topics of which nothing is sent, while all the rest is."""
        self.is_muting = False
        self.drops: Callable[[str], bool] | None = None
        """One message that is lost."""
        self.twice: Callable[[str], bool] | None = None
        """One message that comes twice."""
        self.end_at: float | None = None
        """The venue has closed it: after what is on its way."""
        self.is_cut = False
        self._venue = venue
        self._luck = luck
        self._latency = luck.uniform(0.001, 0.06)
        self._coming: deque[tuple[float, str, int | None]] = deque()
        self._due = 0.0
        self._arrival = trio.Event()
        self._asked, self._requests = trio.open_memory_channel[tuple[float, str]](10_000)

    @property
    def wire(self) -> Link:
        """Its bytes, as far as the exchange's own faults touch them."""
        return self

    @property
    def is_well(self) -> bool:
        """Whether everything that is sent arrives, soon."""
        lame = self.is_cut or self.is_swallowing or self.is_muting or self.end_at is not None
        return not lame and self.held_until <= trio.current_time() and not self.gap_s

    # -- the venue's end

    def offer(self, frame: str, *, is_data: bool = False, index: int | None = None) -> None:
        """Send a message; `index` is its place in the truth."""
        if is_data:
            topic = frame[10 : frame.index('"', 10)]
            if self.is_mute(topic):
                return
            if self.drops is not None and self.drops(topic):
                self.drops = None
                return
            if self.twice is not None and self.twice(topic):
                self.twice = None
                self._send(frame, index)
        self._send(frame, index)

    def _send(self, frame: str, index: int | None) -> None:
        if self.is_cut or self.is_swallowing or self.end_at is not None:
            return
        jitter = self._luck.random() ** 4 * 0.05
        self._due = max(self._due + self.gap_s, trio.current_time() + self._latency + jitter)
        if self._due > trio.current_time() + BEHIND_S:
            self.abort()
        self._coming.append((self._due, frame, index))
        self._arrival.set()

    def inject(self, frame: str) -> None:
        """Something that the venue did not send."""
        self._send(frame, None)

    def end(self) -> None:
        """The venue closes it; what is on its way arrives."""
        if self.end_at is None:
            self.end_at = max(self._due, trio.current_time() + self._latency)
            self._arrival.set()
        self._venue.leave(self)

    def abort(self) -> None:
        """A reset: what is on its way is lost."""
        self.is_cut = True
        self._arrival.set()
        self._venue.leave(self)

    def half_open(self) -> None:
        """From now on both directions are lost."""
        self.is_swallowing = True

    def hold(self, until: float) -> None:
        """A stall: everything waits until then."""
        self.held_until = max(self.held_until, until)

    def resume(self) -> None:
        """The stall is over."""
        self.held_until = 0.0
        self._arrival.set()

    async def serve(self) -> None:
        """Answer requests in their order; runs until cancelled."""
        send, requests = trio.open_memory_channel[tuple[float, str]](10_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._venue._answer, self, requests, nursery)
            async for due, text in self._requests:
                await trio.sleep_until(max(due, self.held_until))
                if self.is_cut or self.end_at is not None:
                    nursery.cancel_scope.cancel()
                if not self.is_swallowing:
                    send.send_nowait((trio.current_time(), text))

    # -- the recorder's end

    async def send(self, text: str) -> None:
        """Raises: RetryableSourceError: the connection is gone."""
        await trio.lowlevel.checkpoint()
        if self.is_cut:
            raise RetryableSourceError(f"link {self.number}: reset")
        self._asked.send_nowait((trio.current_time() + self._latency, text))

    async def receive(self) -> list[Any]:
        """All that has come. Raises: RetryableSourceError: the connection is gone."""
        while True:
            if self.is_cut:
                raise RetryableSourceError(f"link {self.number}: reset")
            now = trio.current_time()
            first = self._coming[0][0] if self._coming else self.end_at
            if first is not None and max(first, self.held_until) <= now:
                frames = list(self._take(now))
                if frames:
                    await trio.lowlevel.checkpoint()
                    return frames
                raise RetryableSourceError(f"link {self.number}: closed by the venue")
            self._arrival = trio.Event()
            # No limit where nothing is on its way: the reader's own heartbeat ends it.
            with trio.CancelScope(deadline=float("inf") if first is None else max(first, self.held_until)):
                await self._arrival.wait()

    def _take(self, now: float) -> Iterator[str]:
        while self._coming and self._coming[0][0] <= now:
            _, frame, index = self._coming.popleft()
            if index is not None:
                self._venue.truth.delivered.setdefault(index, (self.number, now))
            yield frame


class VirtualVenue(Venue):
    """The exchange, its network, and the truth of what it published."""

    def __init__(self, symbols: tuple[str, ...], seed: int, rate: float) -> None:
        super().__init__(random.Random(f"{seed}/clients"))
        self.market = Market([spec_for(s) for s in symbols], seed, EPOCH_MS, rate)
        self.truth = Truth()
        self.refused_until = 0.0
        """Connections are refused before this."""
        self.rest_delay_s = 0.0
        self.rest_limit = 1_000
        """Of the trades that REST lists, the newest so many."""
        self._seed = seed
        self._misbehaviour = Misbehaviour(self, [])  # type: ignore[arg-type]
        self._numbers = 0
        self._step = random.Random(f"{seed}/step").choice((10, 20, 50))
        for symbol in symbols:
            self._note_listing(symbol)

    # What `Venue` asks for.

    def knows(self, topic: str) -> bool:
        return self.market.knows(topic)

    def snapshot(self, topic: str) -> Any:
        return self.market.snapshot(topic)

    def rejects(self) -> bool:
        return self._misbehaviour.rejects()

    @property
    def pong_delay_s(self) -> float:
        return self._misbehaviour.pong_delay_s

    async def drive(self) -> None:
        """Move the market with time; runs until cancelled."""
        while True:
            await trio.sleep(self._step / 1000)
            self.catch_up(now_ns() // 1_000_000)

    def catch_up(self, to_ms: int) -> None:
        """Publish what falls due up to a time."""
        for message in self.market.advance(to_ms):
            self.truth.note(message)
            self.truth.withheld.add(len(self.truth.published) - 1)
            self._misbehaviour.publish(message)

    def publish(self, message: Message) -> None:
        """Hand a message to everybody who hears its topic, in a fixed order."""
        self.truth.withheld.discard(len(self.truth.published) - 1)
        hearers: Any = self._hearers.get(message.topic, ())
        frame, index = _encode(message.body).decode(), len(self.truth.published) - 1
        for link in sorted(hearers, key=lambda link: link.number):
            if link.is_mute(message.topic):
                self.truth.note_mute(index)
            link.offer(frame, is_data=True, index=index)

    # Its faults.

    @property
    def links(self) -> list[Link]:
        """Who is connected, the oldest first."""
        clients: Any = self.clients.values()
        return list(clients)

    def inject(self, fault: str) -> None:
        """A fault of the exchange itself, as `wld sim --faults` writes it."""
        self._misbehaviour.inject(parse_fault(fault))

    def delist(self, symbol: str) -> None:
        """A symbol leaves: nobody is told, its topics fall silent."""
        self.market.delist(symbol)
        for link in self.links:
            for topic in link.session.forget(symbol):
                self._unhear(link, topic)  # type: ignore[arg-type]

    def list_symbol(self, symbol: str) -> None:
        """A symbol comes back; its update ids begin anew, and sometimes its sequence does."""
        self.market.list_symbol(spec_for(symbol))
        self._note_listing(symbol)

    def restart_sequence(self, symbol: str, back: int) -> None:
        """The symbol's sequence lies lower from now on."""
        flow = self.market.symbol(symbol).flow
        following = flow._next_sequence
        flow._next_sequence = lambda: following() - back
        flow.sequence -= back

    def _note_listing(self, symbol: str) -> None:
        for topic in (f"orderbook.50.{symbol}", f"tickers.{symbol}"):
            body = self.market.snapshot(topic)
            assert body is not None
            self.truth.begin(Message(topic, body))

    # Its doors.

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Link]:
        """A connection, as `wld.bybit.transport.Connect` gives it."""
        luck = random.Random(f"{self._seed}/link/{self._numbers}")
        await trio.sleep(luck.uniform(0.02, 0.2) + self._misbehaviour.handshake_delay_s)
        if trio.current_time() < self.refused_until:
            raise RetryableSourceError(f"{url}: connection refused")
        self._numbers += 1
        link = Link(self, self._numbers, luck)
        self.clients[link.session.conn_id] = link  # type: ignore[assignment]
        assert self.nursery is not None
        scope = trio.CancelScope()

        async def serve() -> None:
            with scope:
                await link.serve()

        self.nursery.start_soon(serve)
        try:
            yield link
        finally:
            scope.cancel()
            link.is_cut = True
            self.leave(link)

    def hear(self, topic: str) -> None:
        """A topic has a listener: from the first one on, the recording owes it."""
        self.truth.heard.add(topic)

    def leave(self, link: Link) -> None:
        """A link carries nothing any more."""
        if self.clients.pop(link.session.conn_id, None) is not None:
            for topic in link.session.topics:
                self._unhear(link, topic)  # type: ignore[arg-type]

    @asynccontextmanager
    async def open_rest(self, url: str, gate: Any = None, trust: Any = None) -> AsyncIterator[BybitRest]:
        """REST, in place of `wld.bybit.rest.open_rest`."""
        transport = httpx.MockTransport(self._answer_rest)
        async with httpx.AsyncClient(base_url="http://venue.test", transport=transport, trust_env=False) as client:
            yield BybitRest(client, gate)

    async def _answer_rest(self, request: httpx.Request) -> httpx.Response:
        await trio.sleep(0.02 + self.rest_delay_s)
        if self._misbehaviour.rest_status is not None:
            return httpx.Response(self._misbehaviour.rest_status)
        body = rest.answer(self.market, request.url.path, dict(request.url.params), now_ns() // 1_000_000)
        if request.url.path.endswith("recent-trade") and body["result"]:
            del body["result"]["list"][self.rest_limit :]
        return httpx.Response(200, content=_encode(body))
