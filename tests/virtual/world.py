"""One seed: an exchange, its network, the real source and the faults of some minutes, all in virtual time.

Sockets are in memory and worker threads are not used, so that a seed is some hundred seconds of market in about one of
real time, and the same each time. What comes of it is judged in `verdict`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from typing import Any
from unittest import mock

import trio
from msgspec import Struct, structs
from trio._core import _run as scheduling
from trio.testing import MockClock

from tests.virtual.venue import Link, VirtualVenue, now_ns
from wld.bybit.source import BybitSource
from wld.clock import ReceiveClock
from wld.config import SourceConfig
from wld.events import Event

SYMBOLS = ("WLDUSDT", "OPUSDT")
QUIET_S = 60.0
"""After the faults, before the end: whatever was begun is over by then."""


class Plan(Struct, frozen=True):
    """What a seed means."""

    seed: int
    connections: int
    is_gentle: bool
    """At most one line is in trouble at a time: then there is nothing that could be a Gap."""
    lives: int = 1
    """Recorders one after the other on the same folder, each but the last killed."""
    seconds: float = 240.0
    rate: float = 0.5
    symbols: tuple[str, ...] = SYMBOLS
    without: tuple[str, ...] = ()
    """Faults that are left out."""


def plan(seed: int, connections: int, without: tuple[str, ...] = ()) -> Plan:
    """The plan of a seed."""
    luck = random.Random(f"{seed}/plan")
    return Plan(
        seed,
        connections,
        is_gentle=connections > 1 and luck.random() < 0.3,
        lives=luck.choice((1, 1, 1, 3)),
        seconds=luck.choice((60.0, 120.0, 180.0)),
        rate=luck.choice((0.02, 0.05, 0.2, 0.6)),
        symbols=SYMBOLS[: luck.choice((1, 2))],
        without=without,
    )


class Told(Struct):
    """What happened when, for whoever looks at a seed."""

    at: float
    text: str


class World:
    """A running seed, and afterwards what came of it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.luck = random.Random(f"{plan.seed}/faults")
        self.venue = VirtualVenue(plan.symbols, plan.seed, plan.rate)
        self.told: list[Told] = []
        self.troubled: list[tuple[float, float]] = []
        """(from, to) of every fault, seconds."""
        self.lives: list[list[Event]] = []
        """What each recorder's tape holds."""
        self.moved_ns = 0
        """How far the recorder's wall clock is off."""
        self.source: BybitSource
        self._stream: list[Event] = []

    def tell(self, text: str) -> None:
        """Note what happens now."""
        self.told.append(Told(trio.current_time(), text))

    def publish(self, events: Iterable[Event]) -> None:
        """What the source sees of the ring."""
        self._stream.extend(events)

    async def publish_wait(self, events: Iterable[Event]) -> None:
        """The same."""
        await trio.lowlevel.checkpoint()
        self.publish(events)

    def config(self) -> SourceConfig:
        """The source's settings: as they are by default, within what a user may choose."""
        luck = random.Random(f"{self.plan.seed}/config")
        return structs.replace(
            SourceConfig(),
            symbols=self.plan.symbols,
            connections=self.plan.connections,
            connection_stagger=luck.choice((0.0, 0.5, 2.0)),
            connection_hold=luck.choice((3.0, 10.0)),
            connection_max_age=luck.choice((40.0, 90.0, 6 * 3600.0)),
            pong_timeout=luck.choice((3.0, 10.0)),
            ping_interval=luck.choice((5.0, 20.0)),
            backoff_max=luck.choice((2.0, 10.0)),
            subscribe_batch=luck.choice((3, 10)),
        )

    async def run(self) -> None:
        """Everything, from the first connection to the end of the last recorder."""
        async with trio.open_nursery() as nursery:
            self.venue.nursery = nursery
            nursery.start_soon(self.venue.drive)
            nursery.start_soon(self._keep_rest_honest)
            share = self.plan.seconds / self.plan.lives
            for life in range(self.plan.lives):
                is_last = life == self.plan.lives - 1
                await self._live(share, is_last)
                if not is_last:
                    await trio.sleep(self.luck.uniform(0, 5))
            nursery.cancel_scope.cancel()

    async def _live(self, seconds: float, is_last: bool) -> None:
        self._stream = []
        clock = ReceiveClock(lambda: now_ns() + self.moved_ns, now_ns)
        self.source = BybitSource(
            self.config(), urls=("ws://venue.test", "http://venue.test"), connect=self.venue.connect, clock=clock,
            luck=random.Random(f"{self.plan.seed}/luck").random,
        )  # fmt: skip
        async with trio.open_nursery() as nursery:
            await nursery.start(self.source.run, self)
            await trio.sleep(self.luck.uniform(2, 8))
            until = trio.current_time() + seconds
            trouble = GENTLE if self.plan.is_gentle else TROUBLE
            names, weights = zip(*(pair for pair in trouble.items() if pair[0] not in self.plan.without), strict=True)
            while trio.current_time() < until:
                await trio.sleep(self.luck.choice((0.05, 0.5, 2.0, 8.0)) * self.luck.uniform(0.5, 1.5))
                if self.plan.is_gentle:
                    await self._until_settled()
                (name,) = self.luck.choices(names, weights)
                begun = trio.current_time()
                act = getattr(self, f"_do_{name}", None)
                await (act() if act else self._do_venue(name))
                self.troubled.append((begun, trio.current_time()))
            if is_last:
                await self._calm()
            self.tell("end" if is_last else "killed")
            kept = len(self._stream)
            nursery.cancel_scope.cancel()
        self.lives.append(self._stream if is_last else self._stream[:kept])

    async def _calm(self) -> None:
        self.tell("calm")
        self.venue.inject("clear")
        self.venue.refused_until = self.venue.rest_delay_s = 0.0
        self.venue.rest_limit = 1_000
        self.moved_ns = 0
        for symbol in self.plan.symbols:
            if not self.venue.knows(f"tickers.{symbol}"):
                self.venue.list_symbol(symbol)
        for link in self.venue.links:
            link.gap_s = 0.0
            self._unmute(link)
        await trio.sleep(QUIET_S)
        self.venue.market.is_still = True
        await trio.sleep(3.0)

    async def _until_settled(self) -> None:
        """Until every line carries everything again, so that the next fault is the only one."""
        await trio.sleep(0.5)  # what has just happened is known by then
        with trio.move_on_after(300):
            while True:
                groups = self.source._groups
                lines = [(g.arbiter, line) for g in groups for line in g.lines]
                if groups and all(a and line.is_open and a.is_settled(line.number) for a, line in lines):
                    return
                await trio.sleep(0.1)
        self.tell("not settled after 300 s")

    async def _keep_rest_honest(self) -> None:
        """REST is down, late or short, by turns."""
        luck = random.Random(f"{self.plan.seed}/rest")
        while True:
            await trio.sleep(luck.uniform(5, 60))
            kind = luck.choice(("down", "late", "short", "fine", "fine"))
            self.venue.rest_delay_s = luck.uniform(0, 8) if kind == "late" else 0.0
            self.venue.rest_limit = luck.choice((0, 1, 5, 50)) if kind == "short" else 1_000
            if kind == "down":
                self.venue.inject(f"rest_down:{luck.choice((500, 503, 429))}")
            else:
                self.venue._misbehaviour.rest_status = None

    # -- what goes wrong

    def _link(self) -> Link | None:
        links = self.venue.links
        return self.luck.choice(links) if links else None

    async def _do_cut(self) -> None:
        if link := self._link():
            self.tell(f"cut {link.number}")
            link.abort()

    async def _do_close(self) -> None:
        if link := self._link():
            self.tell(f"close {link.number}")
            link.end()

    async def _do_cut_all(self) -> None:
        seconds = self.luck.choice((0.0, 0.5, 3.0, 20.0))
        self.tell(f"cut all, refuse for {seconds} s")
        self.venue.refused_until = trio.current_time() + seconds
        for link in self.venue.links:
            link.abort()
            await trio.sleep(self.luck.choice((0.0, 0.0, 0.02, 0.3)))
        await trio.sleep(seconds)

    async def _do_stall(self) -> None:
        if link := self._link():
            seconds = self.luck.choice((0.2, 2.0, 5.0, 15.0)) * self.luck.uniform(0.5, 1.5)
            self.tell(f"stall {link.number} for {seconds:.1f} s")
            link.hold(trio.current_time() + seconds)
            await trio.sleep(seconds * self.luck.choice((0, 0.5, 1)) if not self.plan.is_gentle else seconds)

    async def _do_stall_and_cut(self) -> None:
        """One holds everything back, another ends meanwhile."""
        await self._do_stall()
        await self._do_cut()

    async def _do_half_open(self) -> None:
        if link := self._link():
            self.tell(f"half open {link.number}")
            link.half_open()
            if self.plan.is_gentle:
                with trio.move_on_after(60):
                    while link in self.venue.links:  # noqa: ASYNC110
                        await trio.sleep(0.5)

    async def _do_drip(self) -> None:
        if link := self._link():
            link.gap_s = self.luck.choice((0.005, 0.05, 0.3))
            self.tell(f"drip {link.number}: a message each {link.gap_s} s")
            await trio.sleep(self.luck.uniform(0.5, 10))
            link.gap_s = 0.0

    async def _do_mute(self) -> None:
        if link := self._link():
            topics = sorted(link.session.topics)
            if not topics:
                return
            topic = self.luck.choice(topics)
            symbol = topic.rpartition(".")[2]
            what = self.luck.choice(("all", symbol, topic))
            seconds = self.luck.choice((0.3, 4.0, 12.0, 45.0)) * self.luck.uniform(0.7, 1.3)
            self.tell(f"mute {link.number} of {what} for {seconds:.1f} s")
            link.is_mute = lambda name: what == "all" or name.endswith(what)
            link.is_muting = True
            self.venue.nursery.start_soon(self._unmute_later, link, seconds)  # type: ignore[union-attr]
            # What it passed over is noticed with what it brings next, or half a minute later.
            await trio.sleep(seconds + 45 if self.plan.is_gentle else seconds * self.luck.choice((0.0, 0.5, 1.0)))

    async def _unmute_later(self, link: Link, seconds: float) -> None:
        await trio.sleep(seconds)
        self._unmute(link)

    def _unmute(self, link: Link) -> None:
        link.is_mute = lambda topic: False
        link.is_muting = False

    async def _do_skip(self) -> None:
        """One line is not sent one book message."""
        if link := self._link():
            self.tell(f"skip a book message on {link.number}")
            link.drops = lambda topic: topic.startswith("orderbook")
            while self.plan.is_gentle and link.drops is not None and link in self.venue.links:  # noqa: ASYNC110
                await trio.sleep(0.5)

    async def _do_twice(self) -> None:
        if link := self._link():
            kind = self.luck.choice(("orderbook", "publicTrade", "tickers", "allLiquidation"))
            self.tell(f"{kind} twice on {link.number}")
            link.twice = lambda topic: topic.startswith(kind)
            await trio.sleep(1)

    async def _do_garbage(self) -> None:
        if link := self._link():
            frame = self.luck.choice((
                "upstream connect error", '{"topic":"orderbook.50.WLDUSDT","type":"delta","ts":1', "{}", "[]",
                '{"topic":"tickers.NOPEUSDT","type":"delta","ts":1,"data":{}}', '{"topic":"kline.1.WLDUSDT","data":[]}',
            ))  # fmt: skip
            self.tell(f"garbage on {link.number}: {frame}")
            link.inject(frame)

    async def _do_freeze(self) -> None:
        """The recorder's process stops; the venue goes on and what it sends is queued."""
        seconds = self.luck.choice((0.3, 2.0, 6.0, 20.0)) * self.luck.uniform(0.7, 1.3)
        self.tell(f"frozen for {seconds:.1f} s")
        self.venue.catch_up(now_ns() // 1_000_000 + round(seconds * 1000))
        clock: Any = trio.lowlevel.current_clock()
        clock.jump(seconds)
        await trio.lowlevel.checkpoint()

    async def _do_clock(self) -> None:
        """The recorder's wall clock is set, and set right again."""
        seconds = self.luck.choice((-30, 3, 45))
        self.tell(f"wall clock {seconds:+} s")
        self.moved_ns += seconds * 10**9
        await trio.sleep(self.luck.uniform(1, 10))
        self.moved_ns -= seconds * 10**9

    async def _do_relist(self) -> None:
        """A symbol leaves and comes back."""
        symbol = self.plan.symbols[-1]
        seconds = self.luck.choice((0.0, 0.0, 1.0, 10.0))
        self.tell(f"{symbol} leaves for {seconds} s")
        self.venue.delist(symbol)
        await trio.sleep(seconds)
        self.venue.list_symbol(symbol)
        if self.luck.random() < 0.3:
            self.tell(f"{symbol}: its sequence begins again")
            self.venue.restart_sequence(symbol, self.luck.choice((10**6, 10**11)))
        self.tell(f"{symbol} is back")

    async def _do_venue(self, fault: str) -> None:
        self.tell(f"venue: {fault}")
        self.venue.inject(fault)
        await trio.sleep(1)


GENTLE = {"cut": 5, "close": 3, "stall": 4, "half_open": 1, "drip": 2, "skip": 2, "twice": 1, "mute": 1, "resnapshot": 1, "restart_u1": 1}  # fmt: skip
"""By name, how often; a line at a time."""
TROUBLE = {
    "cut": 6, "close": 2, "cut_all": 4, "stall": 4, "stall_and_cut": 3, "half_open": 2, "drip": 2, "mute": 2, "skip": 1,
    "twice": 1, "garbage": 1, "freeze": 2, "clock": 1, "relist": 2, "skip_u": 1, "repeat_u": 1, "restart_u1": 1,
    "resnapshot": 1, "crossed_book": 1, "reject_all:1": 1,
}  # fmt: skip


class _Words(logging.Handler):
    """What the user is told."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.tell(f"log: {record.getMessage()}")


def play(plan: Plan) -> World:
    """Run one seed to its end."""
    world = World(plan)
    words, root = _Words(world), logging.getLogger("wld")
    level, propagates = root.level, root.propagate
    scheduling._r.seed(plan.seed)
    root.addHandler(words)
    root.setLevel(logging.INFO)
    root.propagate = False
    try:
        with (
            mock.patch.object(scheduling, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
            mock.patch("wld.bybit.source.open_rest", world.venue.open_rest),
        ):
            trio.run(world.run, clock=MockClock(autojump_threshold=0))
    finally:
        root.removeHandler(words)
        root.setLevel(level)
        root.propagate = propagates
    return world
