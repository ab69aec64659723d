"""How a line comes back: it waits longer each time that it could not connect, and shortly after one that carried data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing
from msgspec import structs

from tests.bybit import frames
from wld.bybit.source import BybitSource
from wld.bybit.transport import FrameStream
from wld.config import SourceConfig
from wld.errors import RetryableSourceError
from wld.ring import Ring

CONFIG = SourceConfig(symbols=("WLDUSDT",), repair=False, backoff_initial=0.5, backoff_max=60.0)


class Venue:
    """Takes so many connections and no more; each shows one message and ends."""

    def __init__(self, accepts: int) -> None:
        self.accepts = accepts
        self.tries: list[float] = []

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[FrameStream]:
        self.tries.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if len(self.tries) > self.accepts:
            raise RetryableSourceError("cannot connect: refused")
        yield Once()  # type: ignore[misc]


class Once:
    def __init__(self) -> None:
        self.is_read = False

    async def receive(self) -> list[str]:
        await trio.lowlevel.checkpoint()
        if self.is_read:
            raise RetryableSourceError("the connection broke")
        self.is_read = True
        return [frames.trades(frames.trade(1))]

    async def send(self, frame: str) -> None:
        await trio.lowlevel.checkpoint()


async def waits(venue: Venue, seconds: float) -> list[float]:
    """The waits between the tries to connect."""
    source = BybitSource(
        structs.replace(CONFIG, instrument_interval=1e9),
        urls=("ws://venue.test/", "http://127.0.0.1:9"),
        connect=venue.connect,  # type: ignore[arg-type]
        luck=lambda: 1.0,
    )
    with trio.move_on_after(seconds), Ring() as ring:
        await source.run(ring)
    return [round(after - before, 1) for before, after in zip(venue.tries, venue.tries[1:], strict=False)]


async def test_a_venue_that_is_gone_is_asked_ever_more_rarely(autojump_clock: trio.testing.MockClock) -> None:
    assert (await waits(Venue(accepts=1), 40))[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]


async def test_a_line_that_carried_data_comes_back_at_once(autojump_clock: trio.testing.MockClock) -> None:
    assert (await waits(Venue(accepts=10), 3))[:4] == [0.5] * 4
