"""Owns a run of the venue: which groups of lines there are, the list of instruments, repair and audit beside them.

Does not own a group's stream (`wld.bybit.group`), nor a connection (`wld.bybit.connection`); decides no protocol.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable
from functools import partial

import trio
from msgspec import structs

from wld.bybit.auditor import Auditor
from wld.bybit.backfill import Backfill
from wld.bybit.backoff import Backoff, RequestGate
from wld.bybit.complaints import Complaints
from wld.bybit.group import Group
from wld.bybit.repair import Repairer
from wld.bybit.rest import MAINNET, TESTNET, open_rest
from wld.bybit.shared import Shared, first_of
from wld.bybit.subscriptions import split_topics, topics_for
from wld.bybit.transport import Connect, make_connect
from wld.bybit.trust import ssl_context
from wld.clock import ReceiveClock
from wld.config import DEFAULT_SYMBOLS, SourceConfig
from wld.errors import FatalSourceError, RetryableSourceError
from wld.events import Event, Instrument
from wld.ring import Publisher
from wld.shards import parse_shard, shard_symbols

log = logging.getLogger(__name__)

MAINNET_WS = "wss://stream.bybit.com/v5/public/linear"
TESTNET_WS = "wss://stream-testnet.bybit.com/v5/public/linear"
REST_RETRY_S = 10.0
REFRESH_WAIT_S = 1.0
LISTED = ("Trading", "PreLaunch", "")


def endpoints(config: SourceConfig) -> tuple[str, str]:
    """(WebSocket URL, REST base) of a source: the live venue, its testnet, or a compatible URL used verbatim."""
    if config.name.startswith(("ws://", "wss://")):
        scheme, _, rest = config.name.partition("://")
        host = rest.partition("/")[0].partition("?")[0]
        return config.name, config.rest_url or f"{'https' if scheme == 'wss' else 'http'}://{host}"
    ws, base = (TESTNET_WS, TESTNET) if config.testnet else (MAINNET_WS, MAINNET)
    return ws, config.rest_url or base


class BybitSource:
    """Runs until cancelled; retries what can be retried for ever.

    Topics are spread over as many connections as the venue's limit on their names asks for; with
    `source.connections` above 1 each of them is carried by so many, arbitrated.
    """

    def __init__(
        self,
        config: SourceConfig,
        *,
        urls: tuple[str, str] | None = None,
        connect: Connect | None = None,
        clock: ReceiveClock | None = None,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        url, self._rest_url = urls or endpoints(config)
        self._trust = ssl_context(config.ca_file)
        connect = connect or make_connect(config, self._trust)
        self._clock = clock or ReceiveClock()
        self._luck = luck
        self._complaints = Complaints(log)
        self._shared = Shared(config, url, connect, self._clock, luck, self._complaints)
        self._gate = RequestGate()
        self._instruments: dict[str, Instrument] = {}
        self._unlisted: set[str] = set()
        self._groups: list[Group] = []
        self.statistics = self._shared.statistics

    @property
    def _all(self) -> bool:
        return self._config.symbols == ("all",)

    async def run(self, ring: Publisher, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish the venue's events until cancelled.

        Raises:
            FatalSourceError: the venue refused every topic, or `all` was asked for and nothing is listed.
        """
        symbols = self._config.symbols or DEFAULT_SYMBOLS
        try:
            async with trio.open_nursery() as nursery:
                if self._config.repair:
                    open_api = partial(open_rest, self._rest_url, self._gate, self._trust)
                    backfill = Backfill(open_api, self._gate, self._clock, ring.publish, luck=self._luck)
                    self._shared.repairer = Repairer(backfill)
                    nursery.start_soon(self._shared.repairer.run)
                    if self._config.audit and "publicTrade" in self._config.topics:
                        self._shared.auditor = Auditor(
                            backfill,
                            lambda: self._groups,
                            interval_s=self._config.audit,
                            next_gap_id=self._shared.next_gap_id,
                        )
                        nursery.start_soon(self._shared.auditor.run)
                if self._all:
                    symbols = await self._list_symbols(ring)
                for group in split_topics(topics_for(symbols, self._config.topics, self._config.depth)):
                    self._start_group(nursery, group, ring)
                nursery.start_soon(self._keep_instruments, ring, nursery)
                nursery.start_soon(self._watch_clock)
                task_status.started()
        except* FatalSourceError as group:
            raise first_of(group) from None
        finally:
            now = self._clock.now()
            for lines in self._groups:
                ring.publish(lines.finish(now))

    def figures(self) -> dict[str, int]:
        """What the status line says: connects, messages, and trouble by kind where there was any."""
        trouble = Counter(self.statistics.counters)
        decoded: Counter[str] = Counter()
        for group in self._groups:
            for line in group.lines:
                decoded.update(line.protocol.decoder.counters)
            if group.arbiter is not None:
                decoded.update({k: n for k, n in group.arbiter.counters.items() if k not in ("duplicate", "released")})
        trouble |= decoded  # a decoder's kind is noted as well: once is enough
        lines = [line for group in self._groups for line in group.lines]
        up = {"lines": sum(line.is_open for line in lines)} if self._config.connections > 1 else {}
        audit = self._shared.auditor.figures() if self._shared.auditor is not None else {}
        return {"connects": self.statistics.connects, "messages": self.statistics.messages, **up, **audit, **trouble}

    def _start_group(self, nursery: trio.Nursery, topics: list[str], ring: Publisher) -> None:
        group = Group(self._shared, topics, ring)
        self._groups.append(group)
        nursery.start_soon(group.run)

    # -- instruments

    async def _list_symbols(self, ring: Publisher) -> tuple[str, ...]:
        backoff = Backoff(self._config.backoff_initial, self._config.backoff_max)
        while True:
            try:
                await self._read_instruments(ring)
                break
            except RetryableSourceError as error:
                delay = backoff.next_delay(self._luck())
                self._complaints.tell("list", f"symbols all needs the instrument list: {error}; trying on")
                await trio.sleep(delay)
        symbols = tuple(s for s, i in self._instruments.items() if (i.status or "") in LISTED)
        if not symbols:
            raise FatalSourceError(f"{self._rest_url}: lists no instrument to follow")
        log.info("following all %d listed symbols", len(symbols))
        return symbols

    async def _read_instruments(self, ring: Publisher) -> None:
        symbols = None if self._all else self._config.symbols or DEFAULT_SYMBOLS
        async with open_rest(self._rest_url, self._gate, self._trust) as rest:
            instruments = await rest.instruments(symbols, self._clock.now())
        if self._all and self._config.shard is not None:
            shard = parse_shard(self._config.shard)
            mine = set(shard_symbols([i.symbol for i in instruments], shard, is_listed=True))
            instruments = [i for i in instruments if i.symbol in mine]
        changed: list[Event] = []
        for instrument in instruments:
            known = self._instruments.get(instrument.symbol)
            if known is not None and (known.status != instrument.status or instrument.symbol in self._unlisted):
                self._doubt(instrument.symbol)
            if known is None or structs.replace(known, receive_time=instrument.receive_time) != instrument:
                if known is not None:
                    log.info("%s: the instrument changed", instrument.symbol)
                changed.append(instrument)
                self._instruments[instrument.symbol] = instrument
        if self._all:
            listed = {i.symbol for i in instruments}
            for symbol in set(self._instruments) - listed:
                del self._instruments[symbol]
        elif symbols is not None:
            self._unlisted = set(symbols) - {i.symbol for i in instruments}
            if self._unlisted:
                log.warning("the venue lists no instrument %s", ", ".join(sorted(self._unlisted)))
        now = self._clock.now()
        ring.publish([structs.replace(i, receive_time=now) for i in changed if isinstance(i, Instrument)])

    def _doubt(self, symbol: str) -> None:
        """A symbol is listed otherwise than before: what the venue did to its subscriptions, it does not tell."""
        for group in self._groups:
            for line in group.lines:
                line.protocol.doubt(symbol, self._clock.now())

    async def _keep_instruments(self, ring: Publisher, nursery: trio.Nursery) -> None:
        """At start, hourly, and after a book restarted: read instruments; with `all`, follow the list.

        While they cannot be read, the tries are spaced by a backoff of its own, up to an hour.
        """
        interval = self._config.instrument_interval
        backoff = Backoff(min(REST_RETRY_S, interval), interval)
        wait = interval if self._all else 0.0
        while True:
            with trio.move_on_after(wait):
                await self._shared.refresh.wait()
                await trio.sleep(REFRESH_WAIT_S)  # several books restart together; one reading serves all
            self._shared.refresh = trio.Event()
            try:
                await self._read_instruments(ring)
            except RetryableSourceError as error:
                self._complaints.tell("rest", f"instruments cannot be read, recording goes on without: {error}")
                wait = backoff.next_delay(self._luck())
                continue
            backoff.reset()
            wait = interval
            if self._all:
                await self._follow_list(nursery, ring)

    async def _follow_list(self, nursery: trio.Nursery, ring: Publisher) -> None:
        wanted = {s for s, i in self._instruments.items() if (i.status or "") in LISTED}
        current = {t.rpartition(".")[2] for group in self._groups for t in group.topics}
        gone = current - wanted
        if gone:
            log.info("delisted, no longer followed: %s", ", ".join(sorted(gone)))
            for group in self._groups:
                await group.change(remove=[t for t in group.topics if t.rpartition(".")[2] in gone])
        new = sorted(wanted - current)
        if new:
            log.info("newly listed, now followed: %s", ", ".join(new))
            for symbol in new:
                await self._follow(symbol, nursery, ring)

    async def _follow(self, symbol: str, nursery: trio.Nursery, ring: Publisher) -> None:
        """Where it was before, if anywhere: there is known what was recorded of it."""
        topics = topics_for([symbol], self._config.topics, self._config.depth)
        before = [group for group in self._groups if group.lines[0].protocol.has_followed(symbol)]
        for group in (*before, self._groups[-1]):
            if len(split_topics([*group.topics, *topics])) == 1:
                await group.change(add=topics)
                return
        self._start_group(nursery, topics, ring)

    async def _watch_clock(self) -> None:
        while True:
            await trio.sleep(1)
            self._clock.check()
            for jump in self._clock.jumps:
                log.warning("the wall clock jumped by %+.3f s; receive times stay in order", jump / 1e9)
                if jump > 0:
                    for group in self._groups:
                        group.clock_set(jump)
            self._clock.jumps.clear()
