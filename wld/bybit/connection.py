"""Owns one line: a connection that is kept open, its heartbeat, its clock, what is sent on it; decides no protocol.

Does not own what its messages mean (`wld.bybit.protocol`), nor what becomes of them (`Carrier`).
"""

from __future__ import annotations

import logging
import math
import re
from typing import Protocol

import trio

from wld.bybit.backoff import Backoff
from wld.bybit.decoder import MarketDecoder
from wld.bybit.protocol import BybitProtocol
from wld.bybit.shared import TICK_S, Shared, first_of
from wld.bybit.subscriptions import ProtocolConfig
from wld.bybit.transport import Frame, FrameStream
from wld.errors import RetryableSourceError
from wld.events import GapReason

log = logging.getLogger(__name__)

SEND_TIMEOUT_S = 10.0
UNREADABLE = {"1002": "framing", "1007": "utf8", "1009": "oversize"}
"""What a connection is ended for (RFC 6455, section 7.4.1), and the kind that it is counted as."""


class Carrier(Protocol):
    """The lines that carry the same topics, as one of them sees it."""

    def open(self, line: Line, now: int) -> None:
        """A line's connection opened."""
        ...

    def close(self, line: Line, reason: GapReason, now: int) -> None:
        """A line's connection ended."""
        ...

    def receive(self, line: Line, frames: list[Frame], now: int) -> None:
        """One read of a line."""
        ...

    @property
    def last_data_time(self) -> int | None:
        """When data last came on any of the lines, ns."""
        ...

    def is_asker(self, line: Line) -> bool:
        """Whether it is this line that asks what was lost in a pause of them all: the others go on meanwhile."""
        ...


class Line:
    """One connection: its protocol, and the tasks around the socket."""

    def __init__(self, shared: Shared, topics: list[str], carrier: Carrier) -> None:
        self._shared = shared
        self._carrier = carrier
        self.number = 0
        """Of the connection within its group; each new one has its own."""
        self.opened = math.inf
        """When the connection opened, in Trio's time; inf while there is none."""
        self._scope = trio.CancelScope()
        self._is_rotating = False
        config = shared.config
        self.protocol = BybitProtocol(
            topics,
            ProtocolConfig(
                subscribe_batch=config.subscribe_batch,
                first_data_timeout=config.first_data_timeout,
                silence_timeout=config.silence_timeout,
            ),
            MarketDecoder(next_gap_id=shared.next_gap_id, each_alone=config.connections > 1),
        )
        if config.connections == 1 and config.repair:
            self.protocol.decoder.holes = []
        self._last_frame = 0.0
        self._asked: float | None = None
        """When the first ping went out after which nothing has come yet; None before the first ping."""
        self._stream: FrameStream | None = None

    @property
    def is_open(self) -> bool:
        """Whether a connection stands."""
        return self._stream is not None

    def rotate(self) -> None:
        """End the connection; the next one opens at once."""
        self._is_rotating = True
        self._scope.cancel()

    async def run(self, delay: float = 0.0) -> None:
        """Keep the line connected until cancelled; the first connection comes after `delay` seconds."""
        await trio.sleep(delay)
        shared, config = self._shared, self._shared.config
        backoff = Backoff(config.backoff_initial, config.backoff_max)
        while True:
            while (wait := shared.budget.wait_for(trio.current_time())) > 0:
                shared.complaints.tell(
                    "budget", f"too many new connections; waiting {wait:.0f} s, as the venue's limit asks"
                )
                await trio.sleep(wait)
            shared.budget.spend(trio.current_time())
            failure: list[RetryableSourceError] = []
            try:
                with trio.CancelScope() as self._scope:
                    await self._connection()
            except* RetryableSourceError as group:
                failure.append(RetryableSourceError(str(first_of(group))))
                if code := re.search(r"\((1002|1007|1009)\b", str(failure[0])):
                    shared.statistics.counters[UNREADABLE[code[1]]] += 1
            silent = bool(failure) and "silent" in str(failure[0])
            reason = GapReason.SILENCE if silent else GapReason.DISCONNECT
            self.protocol.lost(reason)
            self._carrier.close(self, reason, shared.clock.now())
            self._note_protocol()
            if self._is_rotating and not failure:
                self._is_rotating = False
                log.info("the connection had stood for %g s: opened anew", config.connection_max_age)
                continue
            self._is_rotating = False
            if self.protocol.has_data:
                backoff.reset()
                self.protocol.has_data = False  # what this connection brought does not speak for the next try
            delay = backoff.next_delay(shared.luck())
            log.warning("%s; reconnecting in %.1f s", failure[0], delay)
            await trio.sleep(delay)

    async def _connection(self) -> None:
        shared = self._shared
        self.protocol.has_data = False  # an attempt that fails has shown none, so it waits longer each time
        async with shared.connect(shared.url) as stream:
            shared.statistics.connects += 1
            self._last_frame = trio.current_time()
            self._asked = None
            self.opened = trio.current_time()
            self._carrier.open(self, shared.clock.now())
            first = shared.statistics.connects <= shared.config.connections  # a run is silent until something happens
            level = logging.DEBUG if first else logging.INFO
            log.log(level, "connected to %s, %d topics", shared.url, len(self.protocol.topics))
            try:
                self._stream = stream
                await self._send(self.protocol.open(shared.clock.now()))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._heartbeat)
                    nursery.start_soon(self._tick)
                    await self._read(stream)
            finally:
                self._stream = None
                self.opened = math.inf

    async def _read(self, stream: FrameStream) -> None:
        shared = self._shared
        while True:
            # The wait has no limit of its own: _heartbeat ends the connection when nothing comes.
            frames = await stream.receive()
            receive_time = shared.clock.now()
            self._last_frame = trio.current_time()
            shared.statistics.messages += len(frames)
            self._carrier.receive(self, frames, receive_time)
            if self.protocol.decoder.take_restarts():
                shared.refresh.set()
            self._note_protocol()
            if self.protocol.is_urgent:
                await self._send(self.protocol.tick(receive_time))

    def _note_protocol(self) -> None:
        for kind, sentence in self.protocol.take_notes():
            if kind == "rejected_topic":
                self._shared.refresh.set()  # perhaps delisted
            self._shared.statistics.counters[kind] += 1
            self._shared.complaints.tell(kind, sentence)

    async def _heartbeat(self) -> None:
        """Ping at the interval that the venue asks for; `_tick` looks whether anything comes back."""
        while True:
            await trio.sleep(self._shared.config.ping_interval)
            await self._send([self.protocol.ping(self._shared.clock.now())])
            if self._asked is None or self._last_frame >= self._asked:
                self._asked = trio.current_time()

    def _check_alive(self) -> None:
        """Give up a connection on which nothing at all came since a ping. Raises: RetryableSourceError."""
        if self._asked is None or self._last_frame >= self._asked:
            return
        now = trio.current_time()
        if now - self._asked >= self._shared.config.pong_timeout:
            idle = now - self._last_frame
            raise RetryableSourceError(f"{self._shared.url}: silent for {idle:.0f} s, not even a pong")

    async def _tick(self) -> None:
        interval = min(TICK_S, self._shared.config.pong_timeout)
        while True:
            await trio.sleep(interval)
            self._check_alive()
            now = self._shared.clock.now()
            if self._carrier.is_asker(self):
                self.protocol.look_for_pause(now, self._carrier.last_data_time)
            await self._send(self.protocol.tick(now))
            self._note_protocol()

    async def change(self, *, add: list[str] | None = None, remove: list[str] | None = None) -> None:
        """Follow other topics from now on; where no connection is open, from the next one on."""
        now = self._shared.clock.now()
        frames = self.protocol.remove_topics(remove, now) if remove else []
        if add:
            frames += self.protocol.add_topics(add, now)
        try:
            await self._send(frames)
        except RetryableSourceError:
            log.debug("the connection ended while topics changed; the next one carries them")

    async def _send(self, frames: list[str]) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            with trio.fail_after(SEND_TIMEOUT_S):
                for frame in frames:
                    await stream.send(frame)
        except trio.TooSlowError:
            raise RetryableSourceError(
                f"{self._shared.url}: silent, takes no data for {SEND_TIMEOUT_S:.0f} s"
            ) from None
