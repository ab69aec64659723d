"""Owns `wld serve`: recorded tapes over the exchange's own connections, at their recorded pace or another.

Does not own the protocol (recorded, control, rest) nor the connections (server).
"""

from __future__ import annotations

import logging
import math
import os
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio
from starlette.routing import Route

from wld.errors import TapeError
from wld.events import BookDelta, BookSnapshot, Event, Instrument
from wld.exchange import recorded, rest
from wld.exchange.publication import Body
from wld.exchange.recorded import RecordedMarket
from wld.exchange.server import QUEUE_FRAMES, WS_PATH, Venue, serve_venue
from wld.tape import layout
from wld.tape.reader import Tape, open_tape
from wld.tape.replay import CHUNK_EVENTS, TICK_S, Pace
from wld.tape.seal import ordered

_log = logging.getLogger(__name__)

START_QUIET_S = 0.5
"""The recording starts so long after the last subscribe request of the first client: requests come in groups."""
LAP_PAUSE_NS = 1_000_000_000
"""Recorded time between the end of one lap and the start of the next."""
_FIRST_NS = 10_000_000_000
"""Of each file, so much is read beforehand to learn which book depths it holds."""
_ROOM_FRAMES = QUEUE_FRAMES // 4
"""At full speed, wait while a client is so many frames behind."""


@dataclass(frozen=True)
class ServeConfig:
    """What to serve, where and how fast.

    Attributes:
        paths: files or folders. symbols: None for all.
        speed: 1 is the recorded pace; infinity as fast as the slowest client takes it.
        loop: begin again at the end, with later times and other trade ids; without it the exchange then closes.
    """

    paths: tuple[Path, ...]
    symbols: tuple[str, ...] | None = None
    speed: float = 1.0
    loop: bool = False
    host: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True)
class ServeAddress:
    """Where the recording is served."""

    host: str
    port: int
    venue: RecordedVenue

    @property
    def ws_url(self) -> str:
        """The public linear WebSocket."""
        return f"ws://{self.host}:{self.port}{WS_PATH}"

    @property
    def rest_url(self) -> str:
        """The base of the REST endpoints."""
        return f"http://{self.host}:{self.port}"


class RecordedVenue(Venue):
    """The exchange as it was: a tape behind the venue's connections."""

    def __init__(self, tape: Tape, market: RecordedMarket, config: ServeConfig) -> None:
        super().__init__(random.Random())
        self.market = market
        self._tape = tape
        self._speed = config.speed
        self._loop = config.loop
        self._subscribed = trio.Event()
        self._requests = 0
        self.failure: Exception | None = None
        self.laps = 0
        """How often the end was reached."""

    def knows(self, topic: str) -> bool:
        """Whether the recording holds this topic."""
        return self.market.knows(topic)

    def snapshot(self, topic: str) -> Body | None:
        """The book or ticker as it stands at the present moment of the replay."""
        return self.market.snapshot(topic)

    def routes(self) -> list[Route]:
        """REST from the recording; its clock is the recording's."""
        return rest.routes(self.market, lambda: self.market.now_ns // 1_000_000, lambda: None, recorded.ENDPOINTS)

    def subscribed(self) -> None:
        """The first subscribe request starts the recording."""
        self._requests += 1
        self._subscribed.set()

    async def drive(self) -> None:
        """Play to the end, or for ever; damage is kept in `failure` after every whole block was played."""
        await self._subscribed.wait()  # without limit: a recording waits for its first client
        requests = -1
        while requests != self._requests:
            requests = self._requests
            await trio.sleep(START_QUIET_S)
        while True:
            first, last = await self._play()
            self.laps += 1
            if self.failure or not self._loop or first is None or last is None:
                return
            self.market.next_lap((last - first + LAP_PAUSE_NS) * self.laps)

    async def _play(self) -> tuple[int | None, int | None]:
        """One lap; returns its first and last receive times, ns."""
        first: int | None = None
        last: int | None = None
        pace = Pace(self._speed)
        events = iter(self._tape)
        while True:
            chunk, failure = await trio.to_thread.run_sync(_take, events)
            if chunk:
                first = chunk[0].receive_time if first is None else first
                last = chunk[-1].receive_time
                if math.isinf(self._speed):
                    self._publish(chunk)
                    await self._room()
                else:
                    await self._publish_paced(chunk, pace)
            self.failure = failure
            if len(chunk) < CHUNK_EVENTS:
                return first, last

    async def _publish_paced(self, chunk: list[Event], pace: Pace) -> None:
        at = 0
        while at < len(chunk):
            await trio.sleep_until(pace.due(chunk[at].receive_time))
            horizon = trio.current_time() + TICK_S
            end = at + 1
            while end < len(chunk) and pace.due(chunk[end].receive_time) <= horizon:
                end += 1
            self._publish(chunk[at:end])
            at = end

    def _publish(self, events: Sequence[Event]) -> None:
        for message in self.market.advance(events, self.is_heard):
            self.publish(message)

    async def _room(self) -> None:
        """Wait until no client is far behind; the wire cuts off whoever takes nothing for long."""
        await trio.lowlevel.checkpoint()
        while any(c.frames.statistics().current_buffer_used > _ROOM_FRAMES for c in self.clients.values()):  # noqa: ASYNC110
            await trio.sleep(TICK_S)


def _take(events: Iterator[Event]) -> tuple[list[Event], Exception | None]:
    chunk: list[Event] = []
    try:
        for event in events:
            chunk.append(event)
            if len(chunk) >= CHUNK_EVENTS:
                break
    except Exception as error:
        return chunk, error
    return chunk, None


def load(config: ServeConfig) -> RecordedVenue:
    """Open the tapes and learn what they hold. Raises: TapeError."""
    paths: list[str | os.PathLike[str]] = list(config.paths)
    tape = open_tape(paths, symbols=config.symbols)
    depths: dict[str, set[int]] = {symbol: set() for symbol in tape.symbols if symbol}
    summary = tape.summary()
    for file in summary.files:
        if file.first_time is not None:
            for event in open_tape(file.path, config.symbols, file.first_time, file.first_time + _FIRST_NS):
                if isinstance(event, BookSnapshot | BookDelta):
                    depths.setdefault(event.symbol, set()).add(event.depth)
    for symbol, found in depths.items():
        counts = summary.by_symbol.get(symbol, {})
        if not found and (counts.get("book_snapshot") or counts.get("book_delta")) and summary.last_time is not None:
            depth = tape.book_at(summary.last_time, symbol).depth
            found |= set() if depth is None else {depth}
    if not depths:
        raise TapeError(f"{', '.join(map(str, config.paths))}: holds no symbol to serve")
    market = RecordedMarket(depths, _instruments(tape, depths))
    market.now_ns = summary.first_time or 0
    return RecordedVenue(tape, market, config)


def _instruments(tape: Tape, symbols: Collection[str]) -> dict[str, Instrument]:
    """Each symbol's first instrument: the venue knew it before the recording asked."""
    found: dict[str, Instrument] = {}
    for segment in tape.segments:
        for _, event in ordered(segment, segment.blocks(lambda block: block.kind == layout.INSTRUMENT)):
            if event.symbol in symbols:
                found.setdefault(event.symbol, event)
    return found


async def serve_tapes(
    config: ServeConfig, *, task_status: trio.TaskStatus[ServeAddress] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled or, without `loop`, until the end of the tapes has been sent.

    Raises:
        ConfigError: the port cannot be taken.
        TapeError: no tape; TapeDamaged after every whole block was served.
    """
    venue = await trio.to_thread.run_sync(load, config)
    ready: Callable[[int], None] = lambda port: task_status.started(ServeAddress(config.host, port, venue))  # noqa: E731
    await serve_venue(venue, config.host, config.port, ready)
    if venue.failure is not None:
        raise venue.failure
