"""Owns the running exchange: one loopback port with WebSocket and REST, the clock that drives the market, the
clients.

Does not own the market's numbers (market), the control protocol (control), REST bodies (rest), or what faults
do (misbehaviour).
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from wld.errors import ConfigError
from wld.exchange import rest
from wld.exchange.control import Session
from wld.exchange.injection import FaultSpec, parse_fault
from wld.exchange.instruments import spec_for
from wld.exchange.market import Market
from wld.exchange.misbehaviour import Misbehaviour
from wld.exchange.publication import Body, Message
from wld.exchange.wire import Wire

WS_PATH = "/v5/public/linear"
TICK_S = 0.01
QUEUE_FRAMES = 20_000
"""Frames a client may be behind: some 10 s of 172 symbols; whoever is slower is disconnected."""
LEAVE_TIMEOUT_S = 10.0
ANSWER_DELAY_S = 0.03
"""What the network and the venue take to answer a subscribe. pybit 5.17 notes a request after it has sent it, and its
thread dies of an answer that is there sooner."""
IDLE_S = 600.0
"""A connection with neither requests nor data for so long is cut."""
IDLE_SCAN_S = 30.0
_MAX_LAG_MS = 30_000
_CATCH_UP_MS = 500

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class ExchangeConfig:
    """What to serve.

    Attributes:
        symbols: contracts listed at the start; names that are not known get made-up specifications.
        seed: same seed, same luck. The wall clock still decides when a message falls due.
        rate: speed of the order flow; 1 is a normal day.
        faults: `[every:]name[:arg][@seconds]`, seconds counted from the first subscribe.
        host: address to listen on. port: 0 takes any free one.
    """

    symbols: tuple[str, ...] = ("WLDUSDT",)
    seed: int = 7
    rate: float = 1.0
    faults: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 0


def check(config: ExchangeConfig) -> None:
    """Raises: ConfigError for a bad symbol, rate or fault, in one line."""
    if not config.symbols:
        raise ConfigError("symbols: expected at least one symbol")
    for symbol in config.symbols:
        spec_for(symbol)
    if not 0 < config.rate <= 1_000:
        raise ConfigError(f"rate: expected a number above 0 and at most 1000, got {config.rate!r}")
    for text in config.faults:
        parse_fault(text)


class Client:
    """One WebSocket connection: its subscriptions and the frames waiting for it."""

    def __init__(self, session: Session, wire: Wire) -> None:
        self.session = session
        self.wire = wire
        self._send, self.frames = trio.open_memory_channel[tuple[str, bool]](QUEUE_FRAMES)
        self.active_at = trio.current_time()
        """When a request came or data went last."""

    def offer(self, frame: str, *, is_data: bool = False) -> None:
        """Queue a frame; a client whose queue is full is cut off, as the venue does."""
        if is_data:
            self.active_at = trio.current_time()
        try:
            self._send.send_nowait((frame, is_data))
        except trio.WouldBlock:
            _log.warning("exchange: client %s does not keep up: disconnected", self.session.conn_id)
            self.wire.abort()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # gone; its task is about to leave

    def end(self) -> None:
        """Nothing more is queued; what waits is still sent."""
        self._send.close()


class Venue:
    """What every exchange we serve shares: its clients, who hears which topic, the connections and the port.

    What stands behind it (the simulated market, recorded tapes) overrides the methods of the first group.

    Attributes:
        sent_log: set to a list to collect every data frame handed to a connection, in order of sending.
    """

    def __init__(self, luck: random.Random) -> None:
        self.sent_log: list[str] | None = None
        self.clients: dict[str, Client] = {}
        self.wires: set[Wire] = set()
        self.nursery: trio.Nursery | None = None
        self._luck = luck
        self._hearers: dict[str, set[Client]] = {}

    # What stands behind it.

    def knows(self, topic: str) -> bool:
        """Whether a client may subscribe to this topic."""
        raise NotImplementedError

    def snapshot(self, topic: str) -> Body | None:
        """What a new listener of a known topic is sent first; None where there is nothing."""
        raise NotImplementedError

    def routes(self) -> list[Route]:
        """The REST endpoints."""
        raise NotImplementedError

    async def drive(self) -> None:
        """Publish what falls due; where it returns, the exchange closes."""
        raise NotImplementedError

    @property
    def pong_delay_s(self) -> float:
        """How late pings are answered."""
        return 0.0

    @property
    def handshake_delay_s(self) -> float:
        """How late a connection is accepted."""
        return 0.0

    def rejects(self) -> bool:
        """Whether the subscribe request at hand is rejected whole."""
        return False

    def subscribed(self) -> None:
        """A client has sent a subscribe request."""

    def hear(self, topic: str) -> None:
        """A topic has a listener."""

    def unhear(self, topic: str) -> None:
        """A topic has no listener any more."""

    # Publishing.

    def is_heard(self, topic: str) -> bool:
        """Whether anybody listens."""
        return topic in self._hearers

    def publish(self, message: Message) -> None:
        """Hand one message to everybody who hears its topic, encoded once."""
        hearers = self._hearers.get(message.topic)
        if hearers:
            frame = _encode(message.body).decode()
            for client in tuple(hearers):
                client.offer(frame, is_data=True)

    def _hear(self, client: Client, topic: str) -> None:
        """A new listener of a topic gets its snapshot at once; deltas continue it for all listeners alike."""
        body: Body | None = self.snapshot(topic)
        self._hearers.setdefault(topic, set()).add(client)
        self.hear(topic)
        if body is not None:
            client.offer(_encode(body).decode(), is_data=True)

    def _unhear(self, client: Client, topic: str) -> None:
        hearers = self._hearers.get(topic, set())
        hearers.discard(client)
        if not hearers:
            self._hearers.pop(topic, None)
            self.unhear(topic)

    # One connection.

    def _conn_id(self) -> str:
        letters = "abcdefghijklmnopqrstuv0123456789"
        text = "".join(self._luck.choices(letters, k=25))
        return f"{text[:20]}-{text[20:]}"

    async def connection(self, websocket: WebSocket) -> None:
        """Serve one WebSocket until it ends."""
        wire = self._wire(websocket.scope.get("client"))
        await trio.sleep(self.handshake_delay_s)
        await websocket.accept()
        client = Client(Session(self._conn_id(), self.knows, self.rejects), wire)
        self.clients[client.session.conn_id] = client
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, client, websocket)
                await self._read(client, websocket, nursery)
                nursery.cancel_scope.cancel()
        finally:
            del self.clients[client.session.conn_id]
            for topic in client.session.topics:
                self._unhear(client, topic)
            client.end()

    def _wire(self, address: Any) -> Wire:
        for wire in self.wires:
            if wire.peer == tuple(address):
                return wire
        raise LookupError(address)

    async def _write(self, client: Client, websocket: WebSocket) -> None:
        """Send what is queued; each send is bounded by the wire's own limit."""
        async for frame, is_data in client.frames:
            await websocket.send_text(frame)
            if is_data and self.sent_log is not None and not client.wire.silent:
                self.sent_log.append(frame)
        await websocket.close(1001)

    async def _read(self, client: Client, websocket: WebSocket, nursery: trio.Nursery) -> None:
        """Take requests until the client leaves; a silent client is allowed, so there is no limit."""
        # Unbounded: a request takes as much memory as the frame it came in, and the wire is read no faster than that.
        send, requests = trio.open_memory_channel[tuple[float, str]](math.inf)
        nursery.start_soon(self._answer, client, requests, nursery)
        while True:
            try:
                event = await websocket.receive()
            except (WebSocketDisconnect, RuntimeError):
                return
            if event["type"] == "websocket.disconnect":
                return
            text = event.get("text")
            if text is None:
                text = (event.get("bytes") or b"").decode("utf-8", "replace")
            client.active_at = trio.current_time()
            send.send_nowait((trio.current_time(), text))

    async def cut_idle(self) -> None:
        """Cut what is idle, at the venue's leisure; runs until cancelled."""
        while True:
            await trio.sleep(IDLE_SCAN_S)
            for client in tuple(self.clients.values()):
                if trio.current_time() - client.active_at >= IDLE_S:
                    client.end()

    async def _answer(
        self, client: Client, requests: trio.MemoryReceiveChannel[tuple[float, str]], nursery: trio.Nursery
    ) -> None:
        """Answer requests in order, a subscribe not before the time that a network takes to and fro."""
        async for arrived, text in requests:
            if '"subscribe"' in text:
                await trio.sleep_until(arrived + ANSWER_DELAY_S)
            reply = client.session.answer(text)
            frame = _encode(reply.body).decode()
            if reply.body["op"] == "subscribe":
                self.subscribed()
            if reply.is_pong and self.pong_delay_s:
                nursery.start_soon(self._late, client, frame, self.pong_delay_s)
                continue
            ack_first = not reply.added or self._luck.random() < 0.5
            if ack_first:
                client.offer(frame)
            for topic in reply.added:
                self._hear(client, topic)
            if not ack_first:
                client.offer(frame)
            for topic in reply.removed:
                self._unhear(client, topic)

    async def _late(self, client: Client, frame: str, delay_s: float) -> None:
        await trio.sleep(delay_s)
        client.offer(frame)

    # The port.

    def app(self) -> Starlette:
        """The ASGI application: the WebSocket path and the REST endpoints."""
        return Starlette(
            routes=[
                WebSocketRoute(WS_PATH, self.connection),
                *self.routes(),
            ]
        )

    async def serve_stream(self, app: Any, config: Config, stream: trio.SocketStream) -> None:
        """Serve one accepted TCP connection with hypercorn's Trio worker until it ends."""
        wire = Wire(stream)
        self.wires.add(wire)
        try:
            stack: Any = wire  # has every member of a stream that hypercorn uses
            await TCPServer(app, config, WorkerContext(None), ConnectionState({}), stack)
        finally:
            self.wires.discard(wire)
            wire.abort()


class Exchange(Venue):
    """The simulated exchange, live: its market and its faults."""

    def __init__(self, config: ExchangeConfig) -> None:
        """Raises: ConfigError for a bad symbol, rate or fault, in one line."""
        check(config)
        specs = [spec_for(symbol) for symbol in dict.fromkeys(config.symbols)]
        faults = [parse_fault(text) for text in config.faults]
        super().__init__(random.Random(f"{config.seed}/clients"))
        self.market = Market(specs, config.seed, _now_ms(), config.rate)
        self.market.wanted = set()
        self._misbehaviour = Misbehaviour(self, faults)

    @property
    def pong_delay_s(self) -> float:
        """How late pings are answered."""
        return self._misbehaviour.pong_delay_s

    @property
    def handshake_delay_s(self) -> float:
        """How late a connection is accepted."""
        return self._misbehaviour.handshake_delay_s

    def knows(self, topic: str) -> bool:
        """Whether the market has this topic."""
        return self.market.knows(topic)

    def snapshot(self, topic: str) -> Body | None:
        """The market's snapshot of a topic."""
        return self.market.snapshot(topic)

    def routes(self) -> list[Route]:
        """The REST endpoints over the market."""
        return rest.routes(self.market, _now_ms, lambda: self._misbehaviour.rest_status)

    def rejects(self) -> bool:
        """Whether a fault rejects the subscribe request at hand."""
        return self._misbehaviour.rejects()

    def subscribed(self) -> None:
        """The clock of the timed faults runs from the first subscribe."""
        self._misbehaviour.first_subscribe()

    def hear(self, topic: str) -> None:
        """The market works for heard topics only."""
        self._wanted().add(topic)

    def unhear(self, topic: str) -> None:
        """Nobody is left to work for."""
        self._wanted().discard(topic)

    def start_faults(self) -> None:
        """Let the timed faults begin to wait."""
        self._misbehaviour.start()

    def inject(self, fault: str) -> None:
        """Let a fault happen now, or `@seconds` from now.

        Raises:
            ConfigError: it cannot be read, or lists a symbol twice.
        """
        self._misbehaviour.inject(parse_fault(fault))

    # Listing.

    def list_symbol(self, symbol: str) -> None:
        """List a symbol at runtime. Raises: ConfigError when it is listed, or is not a symbol."""
        self.market.list_symbol(spec_for(symbol))

    def delist(self, symbol: str) -> None:
        """Delist a symbol at runtime: its topics fall silent. Raises: ConfigError when it is not listed."""
        if symbol not in self.market.symbols:
            raise ConfigError(f"symbols: {symbol} is not listed")
        self.market.delist(symbol)
        for client in self.clients.values():
            for topic in client.session.forget(symbol):
                self._unhear(client, topic)

    def _wanted(self) -> set[str]:
        assert self.market.wanted is not None
        return self.market.wanted

    async def drive(self) -> None:
        """Move the market with the wall clock, every 10 ms; never returns."""
        market = self.market
        while True:
            await trio.sleep(TICK_S)
            now = _now_ms()
            if now - market.now_ms > _MAX_LAG_MS:
                _log.warning("exchange: %d ms behind the clock: skipped", now - market.now_ms)
                market.skip_to(now)
            while market.now_ms + 10 <= now:  # after a pause, in pieces that let others run
                for message in market.advance(min(now, market.now_ms + _CATCH_UP_MS)):
                    self._misbehaviour.publish(message)
                if market.now_ms + 10 <= now:
                    await trio.lowlevel.checkpoint()


@dataclass(frozen=True)
class ExchangeAddress:
    """Where a started exchange listens, and the exchange itself for tests."""

    host: str
    port: int
    exchange: Exchange

    @property
    def ws_url(self) -> str:
        """The public linear WebSocket."""
        return f"ws://{self.host}:{self.port}{WS_PATH}"

    @property
    def rest_url(self) -> str:
        """The base of the REST endpoints."""
        return f"http://{self.host}:{self.port}"


async def serve_exchange(
    config: ExchangeConfig, *, task_status: trio.TaskStatus[ExchangeAddress] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve the simulated exchange until cancelled; started with its address once it accepts connections.

    Raises:
        ConfigError: a bad symbol, rate or fault, or a port that cannot be taken.
    """
    exchange = Exchange(config)

    def is_ready(port: int) -> None:
        exchange.start_faults()
        task_status.started(ExchangeAddress(config.host, port, exchange))

    await serve_venue(exchange, config.host, config.port, is_ready)


async def serve_venue(venue: Venue, host: str, port: int, is_ready: Callable[[int], None]) -> None:
    """Serve until cancelled, or until the venue has nothing more to publish; `is_ready` is told the port.

    Raises:
        ConfigError: the port cannot be taken.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise ConfigError(
            f"port: cannot listen on {host}:{port}: {error.strerror}; choose another --port, or 0 for any"
        ) from error
    starlette: Any = venue.app()
    app = wrap_app(starlette, 1 << 20, "asgi")
    async with trio.open_nursery() as nursery:
        venue.nursery = nursery
        handler = partial(venue.serve_stream, app, _hypercorn())
        accepting = trio.CancelScope()

        async def accept(task_status: trio.TaskStatus[Any]) -> None:
            with accepting:
                await trio.serve_listeners(handler, listeners, handler_nursery=nursery, task_status=task_status)

        await nursery.start(accept)
        nursery.start_soon(venue.cut_idle)
        is_ready(listeners[0].socket.getsockname()[1])
        try:
            await venue.drive()
            accepting.cancel()
            await _leave(venue)
            nursery.cancel_scope.cancel()
        finally:
            for wire in tuple(venue.wires):
                wire.abort()


async def _leave(venue: Venue) -> None:
    """Send every client what waits for it and a close; whoever does not take it in time is cut off."""
    for client in tuple(venue.clients.values()):
        client.end()
    with trio.move_on_after(LEAVE_TIMEOUT_S):
        while venue.clients:  # noqa: ASYNC110 - each connection's own task ends it; nobody counts them
            await trio.sleep(TICK_S)


def _hypercorn() -> Config:
    """Hypercorn without any log of its own: who wants to see requests asks the client."""
    config = Config()
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.keep_alive_timeout = 60
    config.websocket_max_message_size = 1 << 20
    return config


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


__all__ = [
    "Client",
    "Exchange",
    "ExchangeAddress",
    "ExchangeConfig",
    "FaultSpec",
    "Venue",
    "serve_exchange",
    "serve_venue",
]
