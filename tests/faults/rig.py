"""The simulated exchange behind fault proxies, the real source over real sockets, and the recorder: one rig."""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import trustme
from msgspec import structs
from wld_recorder import Recorder, RecorderConfig

import wld
from tests.faults.secure import Front, serve_front
from wld.bybit.source import BybitSource
from wld.bybit.transport import FrameStream, make_connect
from wld.bybit.trust import ssl_context
from wld.clock import ReceiveClock
from wld.config import SourceConfig
from wld.exchange import ExchangeConfig, FaultProxy, serve_exchange, serve_fault_proxy
from wld.exchange.accounting import Balance, balance
from wld.exchange.server import Exchange
from wld.service import Service, SinkEntry

QUICK = SourceConfig(
    ping_interval=0.4, pong_timeout=1.5, backoff_initial=0.04, backoff_max=0.2, connection_stagger=0.05,
    connection_hold=3.0, first_data_timeout=2.0, connect_timeout=2.0, silence_timeout=5.0,
)  # fmt: skip
"""The times of a live run, shortened so that a test takes seconds."""
SYMBOLS = ("WLDUSDT",)
HOST = "venue.test"
"""Resolved by `Resolver` below."""


class Resolver(trio.abc.HostnameResolver):
    """Knows one name, unless told to fail."""

    def __init__(self) -> None:
        self.fails = False

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        await trio.lowlevel.checkpoint()
        if self.fails:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


RESOLVER = Resolver()


class Rig:
    """A running recorder and everything around it."""

    def __init__(self, exchange: Exchange, proxies: list[FaultProxy], source: BybitSource, folder: Path) -> None:
        self.exchange = exchange
        self.proxies = proxies
        self.source = source
        self.folder = folder
        self.fronts: list[Front] = []
        """TLS before the proxies, where there is."""
        self.service: Service
        self.recorder: dict[str, Any] = {}
        self.status: int | None = None

    @property
    def events(self) -> list[wld.Event]:
        return list(wld.open_tape(self.folder))

    @property
    def gaps(self) -> list[wld.Gap]:
        return [e for e in self.events if isinstance(e, wld.Gap)]

    @property
    def sent(self) -> int:
        return len(self.exchange.sent_log or ())

    async def until_connected(self, lines: int = 1) -> None:
        """Every line stands and its data flows."""
        with trio.fail_after(10):
            while True:
                arbiters = [g.arbiter for g in self.source._groups]
                own = [line for g in self.source._groups for line in g.lines]
                flowing = [line for line in own if line.is_open and line.protocol.has_data]
                settled = all(a is None or all(a.is_settled(line.number) for line in own) for a in arbiters)
                if len(flowing) >= lines and arbiters and settled:
                    return
                await trio.sleep(0.02)

    async def cut(self, proxy: FaultProxy) -> None:
        """Cut the connections through a proxy, and wait until what they carried is carried twice again."""
        before = self.source.statistics.connects
        proxy.reset_all()
        with trio.fail_after(10):
            while self.source.statistics.connects == before:  # noqa: ASYNC110
                await trio.sleep(0.01)
        await self.until_connected(2)

    async def flow(self, frames: int) -> None:
        """Until so many more data frames were sent."""
        wanted = self.sent + frames
        with trio.fail_after(20):
            while self.sent < wanted:  # noqa: ASYNC110
                await trio.sleep(0.01)

    async def until_event(self, kind: type[Any], count: int = 1) -> None:
        """Until so many events of a kind are on the tape."""
        with trio.fail_after(20):
            while sum(isinstance(e, kind) for e in self.events) < count:  # noqa: ASYNC110
                await trio.sleep(0.1)

    async def exchange_time(self, seconds: float) -> None:
        """Let the exchange go on for so long."""
        await trio.sleep(seconds)

    def stand_still(self) -> None:
        """The market does nothing more: what is left is snapshots and pongs."""
        self.exchange.market.is_still = True

    async def quiesce(self) -> None:
        """The market stands still, and what the exchange said of it has arrived."""
        self.stand_still()
        for client in list(self.exchange.clients.values()):  # one may leave meanwhile
            with trio.move_on_after(2):
                while client.frames.statistics().current_buffer_used:  # noqa: ASYNC110
                    await trio.sleep(0.01)
        before = -1
        while self.source.statistics.messages != before:
            before = self.source.statistics.messages
            await trio.sleep(0.1)

    def balance(self) -> Balance:
        """What became of everything that was sent."""
        result = balance(self.exchange.sent_log or (), self.events)
        if not result.is_exact:  # what a failure needs to be understood
            for event in self.events:
                print(type(event).__name__, getattr(event, "update_id", getattr(event, "trade_id", event)))
            print("\n".join(f[:180] for f in self.exchange.sent_log or ()))
        return result

    def balance_to_the_end(self) -> Balance:
        """The same for a recorder that ended while the exchange went on: what came later was nobody's to record."""
        end = wld.Gap(0, wld.GapReason.SHUTDOWN)
        return balance(self.exchange.sent_log or (), [*self.events, end])


def spread(config: SourceConfig, doors: Sequence[FaultProxy | Front], path: str) -> Any:
    """Connections of a source, each through the proxy (or the TLS before one) that has the fewest of them."""
    connect = make_connect(config, ssl_context(config.ca_file))
    scheme = "ws" if config.ca_file is None else "wss"
    carried: Counter[int] = Counter()

    @asynccontextmanager
    async def through(url: str) -> AsyncIterator[FrameStream]:
        port = min((door.port for door in doors), key=carried.__getitem__)
        carried[port] += 1
        try:
            async with connect(f"{scheme}://{HOST}:{port}{path}") as stream:
                yield stream
        finally:
            carried[port] -= 1

    return through


@asynccontextmanager
async def recording(
    folder: Path,
    *,
    symbols: tuple[str, ...] = SYMBOLS,
    rate: float = 20.0,
    faults: tuple[str, ...] = (),
    proxies: int = 1,
    sinks: tuple[SinkEntry, ...] = (),
    recorder: RecorderConfig | None = None,
    clock: ReceiveClock | None = None,
    drain_timeout: float = 10.0,
    proxy: type[FaultProxy] = FaultProxy,
    authority: trustme.CA | None = None,
    **source: Any,
) -> AsyncIterator[Rig]:
    """Run it all; at the end of the block the exchange falls silent and the recorder drains."""
    trio.socket.set_custom_hostname_resolver(RESOLVER)
    RESOLVER.fails = False
    config = structs.replace(QUICK, symbols=symbols, **source)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_exchange, ExchangeConfig(symbols, rate=rate, faults=faults))
        address.exchange.sent_log = []
        gates = [await nursery.start(serve_fault_proxy, "127.0.0.1", address.port, proxy) for _ in range(proxies)]
        fronts = []
        if authority is not None:
            fronts = [await nursery.start(serve_front, authority, HOST, gate.port) for gate in gates]
        urls = (f"ws://127.0.0.1:{gates[0].port}/v5/public/linear", address.rest_url)
        bybit = BybitSource(
            config, urls=urls, connect=spread(config, fronts or gates, "/v5/public/linear"), clock=clock
        )
        rig = Rig(address.exchange, gates, bybit, folder)
        rig.fronts = fronts

        def create() -> Recorder:
            context = wld.SinkContext(
                folder, symbols, "0.1.0", "sim", "live", service.ring.statistics,
                lambda name, figures: rig.recorder.update(figures),
            )  # fmt: skip
            return Recorder(recorder or RecorderConfig(flush_interval=0.05), context)

        service = rig.service = Service(
            bybit, [SinkEntry("recorder", create, critical=True), *sinks], drain_timeout=drain_timeout
        )
        done = trio.Event()

        async def run() -> None:
            rig.status = await service.run()
            done.set()

        nursery.start_soon(run)
        try:
            yield rig
            await rig.quiesce()
        except BaseException:
            logging.getLogger("wld.tests").exception("the block failed")
            raise
        finally:
            service.stop()
            with trio.move_on_after(20, shield=True):
                await done.wait()
            nursery.cancel_scope.cancel()
