"""A compressed day: hours of simulated market at speed, every fault at random, and everything accounted for at the end.

    python benchmarks/soak.py --seconds 600            # as many market hours as fit
    python benchmarks/soak.py --seconds 40 --quick     # what .ci/run --full runs
    python benchmarks/soak.py --steady --seconds 600   # no faults: 100 symbols in real time; 900 or more judge memory

The engine is the program itself in a process of its own (`soak_engine`), so what is measured is the engine alone; the
market, its faults and the proxies are here. Market and engine share a clock that runs 40 times as fast as real time, so
that segments turn and are sealed all the time. Sockets, REST, signals and disk are real.
Prints the figures and exits 1 when anything sent is neither on the tape nor inside a Gap, or when memory, handles or
tasks grew.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio
from msgspec import Struct
from soak_program import (
    FILLING,
    GROWTH,
    NOISE,
    SEGMENT_S,
    STEP_S,
    Engine,
    excess,
    growing,
    growth,
    held,
    rest,
    trend,
    until,
)

import wld
from wld.exchange import ExchangeConfig, FaultProxy, serve_exchange, serve_fault_proxy
from wld.exchange.accounting import Balance, balance
from wld.exchange.server import Exchange
from wld.tape.recovery import recover
from wld.tape.segment import Segment

SPEED = 40
"""Of the market and of the engine's clock: a day in 36 minutes, a segment of ten minutes each 15 seconds."""
HOLD_S = 5
STEP_MS = 200
MOST_QUEUED = 2_000
"""Frames that wait for a client before the market holds still: well below what a client is cut off at."""
PATH = "/v5/public/linear"
SETTINGS = {
    # Told by the engine's clock, which runs fast.
    "source.connection_hold": HOLD_S * SPEED, "source.first_data_timeout": 4 * SPEED, "source.silence_timeout": 60 * SPEED,
    # Told by real time.
    "source.connection_stagger": 0.2, "source.connection_max_age": 7, "source.ping_interval": 1, "source.pong_timeout": 3,
    "source.backoff_initial": 0.05, "source.backoff_max": 0.5, "source.connect_timeout": 3,
    "source.max_message_bytes": 1 << 20,
    "sinks.recorder.rotate_minutes": 10, "sinks.recorder.flush_interval": 0.5, "sinks.recorder.keep": "3MB",
    "sinks.recorder.on_error": "retry",
}  # fmt: skip
EXCHANGE_FAULTS = (
    "drop:reset", "drop:clean", "stall:0.5", "stall:4", "half_open", "delayed_pong:4", "skip_u", "repeat_u", "restart_u1",
    "resnapshot", "crossed_book", "garbage:text", "garbage:utf8", "garbage:binary", "garbage:all", "garbage:big",
    "reject_all:1", "slow_handshake:1", "rest_down:503", "rest_down:429", "rest_down:403", "relist",
)  # fmt: skip
LASTING = ("delayed_pong", "slow_handshake", "rest_down")
PROXY_FAULTS = ("reset", "reset_both", "stall", "stall_long", "half_open", "drip", "refuse")
HOST_FAULTS = ("stopped", "disk_full", "disk_slow", "no_handles", "clock_forward", "clock_back", "no_names")
ENDS = ("SIGKILL", "SIGTERM", "SIGTERM_twice")


class Leg(Struct, frozen=True):
    """One part of the soak: an engine in one configuration, from its start to its end."""

    name: str
    share: float
    """Of the whole time."""
    connections: int
    transport: str = "native"
    symbols: tuple[str, ...] = ("WLDUSDT", "OPUSDT", "ARBUSDT")
    rate: float = 0.3
    """Of the market's flow: below 1, more hours and fewer messages."""
    is_killed: bool = False
    """Ended and started again, over and over; then nothing is said of growth."""
    is_steady: bool = False
    """No faults, and the market at the pace of real time."""


MANY = tuple(f"S{n:03}USDT" for n in range(100))
LEGS = (
    Leg("two lines", 0.45, 2),
    Leg("one line", 0.2, 1),
    Leg("killed", 0.15, 2, is_killed=True),
    Leg("trio-websocket", 0.1, 2, "trio-websocket"),
    Leg("many symbols", 0.1, 2, symbols=MANY),
)
STEADY = Leg("steady", 1.0, 1, symbols=MANY, rate=0.6, is_steady=True)


class Spool:
    """A sent log on disk."""

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


class Front:
    """Where the engine connects: each connection goes through the fault proxy that has the fewest."""

    def __init__(self, proxies: Sequence[FaultProxy]) -> None:
        self.proxies = proxies
        self.port = 0

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, self._forward, listeners))
            task_status.started()

    async def _forward(self, client: trio.SocketStream) -> None:
        await min(self.proxies, key=lambda proxy: proxy.connections).serve(client)


class Soak:
    """One leg."""

    def __init__(self, leg: Leg, seconds: float, seed: int, folder: Path) -> None:
        self.leg = leg
        self.seconds = seconds
        self._luck = random.Random(f"{seed}/{leg.name}")
        self._seed = seed
        self._folder = folder
        self._tapes = folder / "tapes"
        self._kept = folder / "kept"
        """A second name of every sealed tape, which retention does not know."""
        self._runs: dict[str, list[Path]] = {}
        self.faults: Counter[str] = Counter()
        self.deleted = 0
        """How many tapes retention gave up."""
        self.market_hours = 0.0
        self._are_lines_up = False
        self._is_over = False
        self._has_all = False
        """Whether the engine was ended only when all that was sent had come."""
        self._busy: set[str] = set()
        self.engine: Engine

    @property
    def sealed(self) -> int:
        """How many tapes were sealed."""
        return sum(map(len, self._runs.values()))

    async def run(self) -> Balance:
        """Flow and faults for the time, then quiet, then the balance."""
        self._kept.mkdir(parents=True)
        async with trio.open_nursery() as nursery:
            config = ExchangeConfig(self.leg.symbols, seed=self._seed, rate=self.leg.rate)
            address = await nursery.start(serve_exchange, config)
            exchange: Exchange = address.exchange
            sent = exchange.sent_log = Spool(self._folder / "sent.jsonl")  # type: ignore[assignment]
            proxies = [await nursery.start(serve_fault_proxy, "127.0.0.1", address.port) for _ in range(2)]
            front = Front(proxies)
            await nursery.start(front.serve)
            settings: dict[str, Any] = {
                **SETTINGS, "source.connections": self.leg.connections, "source.transport": self.leg.transport,
                "source.rest_url": f"http://localhost:{address.port}",
            }  # fmt: skip
            if len(self.leg.symbols) > 10:
                settings["sinks.recorder.keep"] = "30MB"  # its tapes take 2 each
            if self.leg.is_steady:  # the times of those who use it: a busy machine is no fault
                settings = {name: value for name, value in settings.items() if name not in SETTINGS}
                settings["sinks.recorder.rotate_minutes"] = SEGMENT_S // 60
            self.engine = Engine(self._folder, [
                "--sinks", "recorder", "--symbols", ",".join(self.leg.symbols), "--data-dir", str(self._tapes),
                "--source", f"ws://localhost:{front.port}{PATH}", "--log-level", "warning", "--set", "drain_timeout=60",
                *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
            ], 1 if self.leg.is_steady else SPEED)  # fmt: skip
            async with trio.open_nursery() as running:
                running.start_soon(self._race, exchange)
                await self.engine.start(running)
                await until(lambda: self.engine.lines >= self.leg.connections, 10)
                self._are_lines_up = True
                begun = exchange.market.now_ms
                keeping = trio.CancelScope()
                running.start_soon(self._keep_tapes, keeping)
                if not self.leg.is_steady:
                    running.start_soon(self._trouble, exchange, proxies, running)
                await rest(self.seconds)
                self._is_over = True
                await until(lambda: not self._busy, 300)
                for proxy in proxies:
                    proxy.restore()
                exchange.inject("clear")
                if self.leg.is_steady:
                    exchange.market.is_still = True  # nothing is on its way when the engine is told to end
                await self._settle()
                self.market_hours = (exchange.market.now_ms - begun) / 3_600_000
                await self.engine.end(signal.SIGTERM)
                keeping.cancel()
            recover(
                self._tapes
            )  # as the next start would, should it have been stopped for longer than a drain may last
            self._keep_now()
            self.deleted = self.sealed - len(list(self._tapes.glob("*.bin")))
            nursery.cancel_scope.cancel()
        return balance(sent, self._events())

    # -- the flow

    async def _race(self, exchange: Exchange) -> None:
        """Drive the market ahead of the wall clock; behind its own pace where its clients do not take it."""
        market = exchange.market
        if self.leg.is_steady:
            return  # the exchange keeps time by itself
        while not self._are_lines_up:
            await trio.sleep(STEP_MS / 1000)
            for message in market.advance(market.now_ms + STEP_MS):
                exchange._misbehaviour.publish(message)
        seen, due = trio.current_time(), float(market.now_ms)
        while not self._is_over:
            await trio.lowlevel.checkpoint()
            now = trio.current_time()
            due += min(now - seen, STEP_S) * 1000 * SPEED  # time that it was stopped for does not count
            seen = now
            # The quickest client sets the pace; one that is stalled for long is cut off, as in life.
            queued = [c.frames.statistics().current_buffer_used for c in exchange.clients.values()]
            if min(queued, default=0) < MOST_QUEUED and market.now_ms + STEP_MS <= due:
                for message in market.advance(market.now_ms + STEP_MS):
                    exchange._misbehaviour.publish(message)
            else:
                await trio.sleep(0.002)

    async def _settle(self) -> None:
        """Every line up, and everything that was sent has come, however slow the engine is."""
        await until(lambda: self.engine.lines >= self.leg.connections, 30)
        self._has_all = await self.engine.take_all()
        await rest(HOLD_S + 1)
        # Nor is a line just being opened anew: what it begins with would be on its way.
        gauges = self.engine.gauges
        await until(lambda: gauges[-1]["source"]["connects"] == gauges[-3]["source"]["connects"], 30)

    # -- the faults

    async def _trouble(self, exchange: Exchange, proxies: list[FaultProxy], nursery: trio.Nursery) -> None:
        await rest(1)
        while not self._is_over:
            await rest(self._luck.uniform(0.5, 3.5))
            if self._is_over:
                return
            kinds = [PROXY_FAULTS, EXCHANGE_FAULTS, HOST_FAULTS] + [ENDS] * self.leg.is_killed
            fault = self._luck.choice(self._luck.choices(kinds, (4, 4, 1, 1)[: len(kinds)])[0])
            self.faults[fault] += 1
            if fault in PROXY_FAULTS:
                nursery.start_soon(self._network, fault, proxies)
            elif fault in HOST_FAULTS:
                self._busy.add(fault)
                await self._host(fault, proxies)
                self._busy.discard(fault)
            elif fault in ENDS:
                await self._end(fault, nursery)
            elif fault == "relist":
                nursery.start_soon(self._relist, exchange, self._luck.choice(self.leg.symbols[1:] or self.leg.symbols))
            else:
                exchange.inject(fault)
                if fault.startswith(LASTING):
                    exchange.inject(f"clear@{self._luck.uniform(0.5, 6):.1f}")

    async def _network(self, fault: str, proxies: list[FaultProxy]) -> None:
        proxy = self._luck.choice(proxies)
        if fault == "reset":
            proxy.reset_all()
        elif fault == "reset_both":
            for each in proxies:
                each.reset_all()
        elif fault == "stall":
            proxy.stall(self._luck.uniform(0.2, 2))
        elif fault == "stall_long":
            proxy.stall(self._luck.uniform(3, 6))
        elif fault == "half_open":
            proxy.half_open()
        elif fault == "drip":
            proxy.drip(self._luck.choice((5_000, 50_000, 500_000)))
            await rest(self._luck.uniform(0.2, 2))
            proxy.drip(None)
        else:
            for each in proxies[: self._luck.randint(1, 2)]:
                each.refuse(True)
                each.reset_all()
            await rest(self._luck.uniform(0.2, 2))
            for each in proxies:
                each.refuse(False)

    async def _relist(self, exchange: Exchange, symbol: str) -> None:
        """A symbol goes, and comes back."""
        if symbol not in exchange.market.symbols:
            return
        self._busy.add(symbol)
        exchange.inject(f"delist:{symbol}")
        await rest(self._luck.uniform(0.2, 3))
        exchange.inject(f"list:{symbol}")
        self._busy.discard(symbol)

    async def _host(self, fault: str, proxies: list[FaultProxy]) -> None:
        """What befalls the engine's host; one at a time."""
        engine, luck = self.engine, self._luck
        now = time.monotonic_ns()
        if fault == "stopped":
            engine.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
            await rest(luck.choice((0.3, 2, 6)))
            engine.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
        elif fault == "disk_full":
            await self._limit(resource.RLIMIT_FSIZE, 0, luck.uniform(0.5, 4))
        elif fault == "disk_slow":
            engine.set(slow_disk_until=now + int(luck.uniform(1, 6) * 1e9))
        elif fault == "no_handles":
            for proxy in proxies:
                proxy.reset_all()
            await self._limit(resource.RLIMIT_NOFILE, 3, luck.uniform(0.3, 2))
        elif fault == "no_names":
            engine.set(names_fail_until=now + int(luck.uniform(0.3, 3) * 1e9))
            for proxy in proxies:
                proxy.reset_all()
        else:
            # Put right again before this life ends: what a clock does between two lives is another matter.
            seconds = luck.choice((1, 45, 900)) * (1 if fault == "clock_forward" else -1)
            engine.move_clock(seconds)
            await rest(luck.uniform(0.5, 3))
            engine.move_clock(-seconds)

    async def _limit(self, kind: int, soft: int, seconds: float) -> None:
        before = resource.prlimit(self.engine.pid, kind)
        resource.prlimit(self.engine.pid, kind, (soft, before[1]))
        await rest(seconds)
        resource.prlimit(self.engine.pid, kind, before)

    async def _end(self, fault: str, nursery: trio.Nursery) -> None:
        self._busy.add(fault)
        if fault == "SIGKILL":
            await self.engine.end(signal.SIGKILL)
        else:
            await self.engine.end(*[signal.SIGTERM] * (2 if fault == "SIGTERM_twice" else 1))
        await rest(self._luck.uniform(0, 2))
        await self.engine.start(nursery)
        self._busy.discard(fault)

    # -- the tapes

    async def _keep_tapes(self, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                self._keep_now()
                await trio.sleep(0.3)

    def _keep_now(self) -> None:
        for path in sorted(self._tapes.glob("market_data_*.bin")):
            twin = self._kept / path.name
            if not twin.exists():
                os.link(path, twin)
                self._runs.setdefault(Segment(twin).header["run"], []).append(twin)

    def _events(self) -> Iterator[wld.Event]:
        """Of every run; what came after a run's last event was nobody's to record: a Gap stands there."""
        for n, paths in enumerate(self._runs.values()):
            if n:
                yield wld.Gap(0, wld.GapReason.SHUTDOWN)
            yield from wld.open_tape(paths)

    # -- the verdict

    def wrong(self, result: Balance, *, is_short: bool) -> list[str]:
        """What is not as it must be."""
        engine = self.engine
        wrong = [] if result.is_exact else ["not everything is accounted for"]
        if not self._has_all:
            wrong.append("the engine was ended while messages may have been on their way to it")
        if any(engine.statuses):
            wrong.append(f"statuses {engine.statuses}")
        crashes = sum(text.endswith("detached: RuntimeError: crashed on purpose") for text in engine.words)
        if sum(text.startswith("Traceback") for text in engine.words) > crashes:
            wrong.append("a traceback that nobody asked for: see words.log with --folder")
        if self.leg.is_steady:
            wrong += growing(engine.gauges)
        if not self.leg.is_killed:
            grown = growth(engine.gauges)
            for name, more in excess(grown).items():
                if more > (2 * GROWTH[name] if is_short else 0):
                    wrong.append(f"{name} grew")
            for name in FILLING:
                if grown[name][1] > engine.gauges[-1][f"most_{name}"]:
                    wrong.append(f"more {name} than there may be")
        return wrong


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="wall time of the flow, all legs together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="three legs, too short to judge memory to the megabyte")
    parser.add_argument("--steady", action="store_true", help="instead of the legs: no faults, in real time")
    parser.add_argument("--legs", help="only these, by name with commas between")
    parser.add_argument("--gauges", type=Path, help="write every gauge to this file, a JSON object a line")
    parser.add_argument("--folder", type=Path, help="leave what was sent and the tapes here, to be looked at")
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    legs = [leg for leg in LEGS if options.legs is None or leg.name in options.legs.split(",")]
    if options.quick:
        legs = legs[:3]
    if options.steady:
        legs = [STEADY]
    is_wrong = False
    for leg in legs:
        seconds = options.seconds * leg.share / sum(each.share for each in legs)
        with tempfile.TemporaryDirectory(prefix="wld-soak-") as folder:
            soak = Soak(leg, seconds, options.seed, (options.folder or Path(folder)) / leg.name.replace(" ", "-"))
            result = trio.run(soak.run)
        if options.gauges is not None:
            with options.gauges.open("a") as file:
                file.writelines(json.dumps({"leg": leg.name, **gauge}) + "\n" for gauge in soak.engine.gauges)
        wrong = soak.wrong(result, is_short=options.quick)
        is_wrong |= bool(wrong)
        faults = ", ".join(f"{k} {n}" for k, n in sorted(soak.faults.items()))
        print(f"== {leg.name}: {leg.connections} connections, {leg.transport}, {len(leg.symbols)} symbols")
        print(f"market       {soak.market_hours:.1f} h in {seconds:.0f} s, seed {options.seed}")
        print(f"faults       {soak.faults.total()}: {faults}")
        if held.times:
            print(f"held up      {held.times} times, {held.seconds:.0f} s: this process was stopped from outside")
        print(f"lives        {len(soak._runs)}, sealed {soak.sealed} tapes, deleted {soak.deleted} by retention")
        print(f"balance      {result}")
        print(f"source       {soak.engine.gauges[-1]['source']}")
        for name, (early, late) in growth(soak.engine.gauges).items():
            most = f", at most {soak.engine.gauges[-1][f'most_{name}']}" if name in FILLING else ""
            print(f"{name:<12} {early:.1f} -> {late:.1f}{most}")
        if leg.is_steady:
            rate = soak.engine.gauges[-1]["source"]["messages"] / seconds
            for name, noise in NOISE.items():
                if (moved := trend(soak.engine.gauges, name)) is not None:
                    print(
                        f"{name:<12} {moved.first:,.1f}, then {moved.grown:+,.2f} in {moved.minutes:.0f} minutes after the"
                        f" warm-up ({moved.a_minute:+,.3f} +- {moved.error:,.3f} a minute); up to {noise:,g} is no growth"
                    )
            print(f"flow         {rate:.0f} messages a second")
        verdict = "exact" if leg.is_killed else "flat, and exact"
        print(f"verdict      {'; '.join(wrong) or verdict}", flush=True)
    return 1 if is_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
