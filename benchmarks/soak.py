"""A compressed day: hours of simulated market at speed, random faults, and everything accounted for at the end.

    python benchmarks/soak.py --seconds 600            # as many market hours as fit
    python benchmarks/soak.py --seconds 40 --quick     # what .ci/run --full runs

The market runs as fast as two lines, the arbiter and the recorder take it; sockets, proxies, REST and disk are real.
Prints the figures and exits 1 when anything sent is neither on the tape nor inside a Gap, or when memory, handles or
tasks grew.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import trio
from wld_recorder import Recorder, RecorderConfig

import wld
from wld.bybit.source import BybitSource
from wld.bybit.transport import make_connect
from wld.config import SourceConfig
from wld.exchange import ExchangeConfig, FaultProxy, serve_exchange, serve_fault_proxy
from wld.exchange.accounting import Balance, balance
from wld.exchange.server import Exchange
from wld.ring import Subscription
from wld.service import Service, SinkEntry

SYMBOLS = ("WLDUSDT",)
STEP_MS = 200
MOST_QUEUED = 2_000
"""Frames that wait for a client before the market holds still: well below what a client is cut off at."""
PATH = "/v5/public/linear"
CONFIG = SourceConfig(
    symbols=SYMBOLS, connections=2, connection_stagger=0.2, connection_max_age=7.0, connection_hold=5.0,
    ping_interval=1.0, pong_timeout=3.0, backoff_initial=0.05, backoff_max=0.5, first_data_timeout=4.0,
)  # fmt: skip
EXCHANGE_FAULTS = ("skip_u", "repeat_u", "restart_u1", "resnapshot", "crossed_book", "garbage:text", "garbage:binary",
                   "rest_down:503@0.1", "clear@1", "drop:clean", "delayed_pong:2")  # fmt: skip
PROXY_FAULTS = ("reset", "stall", "half_open", "drip", "reset_both")


class Spool:
    """A sent log on disk, so that what is measured is the program and not the log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w")

    def append(self, frame: str) -> None:
        self._file.write(frame + "\n")

    def __iter__(self) -> Iterator[str]:
        self._file.flush()
        with self._path.open() as file:
            for line in file:
                yield line.rstrip("\n")


class Sample:
    """What must stay flat."""

    def __init__(self, proxies: list[FaultProxy]) -> None:
        dead = [pair for proxy in proxies for pair in proxy._pairs if pair.dead]  # the proxy keeps those for ever
        kept = sum(stream.socket.fileno() >= 0 for pair in dead for stream in (pair.client, pair.target))
        status = Path("/proc/self/status").read_text()
        self.memory_mb = int(status.split("VmRSS:")[1].split()[0]) / 1024
        self.handles = len(os.listdir("/proc/self/fd")) - kept
        self.tasks = trio.lowlevel.current_statistics().tasks_living - 3 * len(dead)


class View:
    """A sink beside the recorder that crashes now and then."""

    def __init__(self, luck: random.Random) -> None:
        self._luck = luck

    async def run(self, batches: Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        async for _ in batches:
            if self._luck.random() < 0.0002:
                raise RuntimeError("crashed on purpose")


class Soak:
    """One run."""

    def __init__(self, seconds: float, seed: int, folder: Path) -> None:
        self._seconds = seconds
        self._luck = random.Random(seed)
        self._folder = folder
        self.faults: Counter[str] = Counter()
        self.samples: list[Sample] = []
        self.market_hours = 0.0
        self.status: int | None = None
        self.figures: dict[str, int] = {}
        self._is_over = False

    async def run(self) -> Balance:
        """Flow and faults for the time, then quiet, then the balance."""
        async with trio.open_nursery() as nursery:
            address = await nursery.start(serve_exchange, ExchangeConfig(SYMBOLS))
            exchange = address.exchange
            sent = exchange.sent_log = Spool(self._folder / "sent.jsonl")  # type: ignore[assignment]
            proxies = [await nursery.start(serve_fault_proxy, "127.0.0.1", address.port) for _ in range(2)]
            connect = make_connect(CONFIG)

            def through(url: str) -> Any:
                proxy = min(proxies, key=lambda p: p.connections)
                return connect(f"ws://127.0.0.1:{proxy.port}{PATH}")

            source = BybitSource(CONFIG, urls=(address.ws_url, address.rest_url), connect=through)
            entries: list[SinkEntry] = []
            service = Service(source, entries, drain_timeout=60)
            context = wld.SinkContext(
                self._folder / "tapes", SYMBOLS, "soak", "sim", "live", service.ring.statistics, lambda *_: None
            )
            config = RecorderConfig(rotate_minutes=1, flush_interval=0.5)
            entries.append(SinkEntry("recorder", partial(Recorder, config, context), critical=True))
            entries.append(SinkEntry("view", partial(View, self._luck)))
            begun = exchange.market.now_ms
            async with trio.open_nursery() as running:
                running.start_soon(self._serve, service)
                running.start_soon(self._race, exchange)
                running.start_soon(self._trouble, exchange, proxies)
                running.start_soon(self._sample, proxies)
                await trio.sleep(self._seconds)
                self._is_over = True
                await trio.sleep(2)
                for proxy in proxies:
                    proxy.restore()
                exchange.inject("clear")
                await self._settle(exchange, source)
                self.market_hours = (exchange.market.now_ms - begun) / 3_600_000
                self.figures = source.figures()
                service.stop()
            nursery.cancel_scope.cancel()
        return balance(sent, wld.open_tape(self._folder / "tapes"))

    async def _serve(self, service: Service) -> None:
        self.status = await service.run()

    async def _race(self, exchange: Exchange) -> None:
        """Drive the market ahead of the wall clock, as fast as its clients take it."""
        market = exchange.market
        while not self._is_over:
            await trio.lowlevel.checkpoint()
            # The quickest client sets the pace; one that is stalled for long is cut off, as in life.
            queued = [c.frames.statistics().current_buffer_used for c in exchange.clients.values()]
            if min(queued, default=0) < MOST_QUEUED:
                for message in market.advance(market.now_ms + STEP_MS):
                    exchange._misbehaviour.publish(message)
            else:
                await trio.sleep(0.005)

    async def _trouble(self, exchange: Exchange, proxies: list[FaultProxy]) -> None:
        while not self._is_over:
            await trio.sleep(self._luck.uniform(0.3, 1.5))
            fault = self._luck.choice(PROXY_FAULTS if self._luck.random() < 0.5 else EXCHANGE_FAULTS)
            self.faults[fault.partition(":")[0].partition("@")[0]] += 1
            proxy = self._luck.choice(proxies)
            if fault == "reset":
                proxy.reset_all()
            elif fault == "reset_both":
                for each in proxies:
                    each.reset_all()
            elif fault == "stall":
                proxy.stall(self._luck.uniform(0.2, 4))
            elif fault == "half_open":
                proxy.half_open()
            elif fault == "drip":
                proxy.drip(50_000)
                await trio.sleep(0.5)
                proxy.drip(None)
            else:
                exchange.inject(fault)

    async def _sample(self, proxies: list[FaultProxy]) -> None:
        while not self._is_over:
            self.samples.append(Sample(proxies))
            await trio.sleep(self._seconds / 60)

    async def _settle(self, exchange: Exchange, source: BybitSource) -> None:
        """Both lines up, and everything that was sent has come."""
        with trio.move_on_after(20):
            while sum(line.is_open and line.protocol.has_data for g in source._groups for line in g.lines) < 2:  # noqa: ASYNC110
                await trio.sleep(0.1)
        with trio.move_on_after(20):
            while any(c.frames.statistics().current_buffer_used for c in exchange.clients.values()):  # noqa: ASYNC110
                await trio.sleep(0.1)
        await trio.sleep(2)

    def growth(self) -> dict[str, tuple[float, float]]:
        """(typical of the second quarter, typical of the last) of each figure; starting up is left out."""
        quarter = max(1, len(self.samples) // 4)
        early, late = self.samples[quarter : 2 * quarter], self.samples[-quarter:]
        return {
            name: (middle([getattr(s, name) for s in early]), middle([getattr(s, name) for s in late]))
            for name in ("memory_mb", "handles", "tasks")
        }


def middle(values: list[float]) -> float:
    """The median."""
    return sorted(values)[len(values) // 2]


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="wall time of the flow")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="too short to judge memory to the megabyte")
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="wld-soak-") as folder:
        soak = Soak(options.seconds, options.seed, Path(folder))
        result = trio.run(soak.run)
        report = wld.open_tape(Path(folder) / "tapes").summary()
    growth = soak.growth()
    allowed = {"memory_mb": 60.0 if options.quick else 25.0, "handles": 8.0, "tasks": 12.0}
    print(
        f"market       {soak.market_hours:.1f} h in {options.seconds:g} s, {len(SYMBOLS)} symbols, seed {options.seed}"
    )
    print(f"faults       {sum(soak.faults.values())}: {', '.join(f'{k} {n}' for k, n in sorted(soak.faults.items()))}")
    print(f"balance      {result}")
    print(f"source       {soak.figures}")
    print(f"tape         {report.counts}")
    wrong = [] if result.is_exact else ["not everything is accounted for"]
    if soak.status != 0:
        wrong.append(f"status {soak.status}")
    for name, (early, late) in growth.items():
        print(f"{name:<12} {early:.1f} -> {late:.1f}")
        if late - early > allowed[name]:
            wrong.append(f"{name} grew")
    print(f"verdict      {'; '.join(wrong) or 'flat, and exact'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
