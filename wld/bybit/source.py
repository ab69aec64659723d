"""Owns the Trio shell of the venue: connect, heartbeat, watch, reconnect, keep the symbol list; decides no protocol."""

from __future__ import annotations

import logging
import math
import random
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count

import trio
from msgspec import structs

from wld.bybit.arbitration import Arbiter
from wld.bybit.auditor import Auditor
from wld.bybit.backoff import Backoff, ConnectionBudget, RequestGate
from wld.bybit.complaints import Complaints
from wld.bybit.decoder import MarketDecoder
from wld.bybit.following import Hole
from wld.bybit.mutes import Mutes
from wld.bybit.protocol import BybitProtocol
from wld.bybit.repair import Repairer
from wld.bybit.rest import MAINNET, TESTNET, open_rest
from wld.bybit.subscriptions import ProtocolConfig, split_topics, topics_for
from wld.bybit.transport import Connect, Frame, FrameStream, make_connect
from wld.bybit.trust import ssl_context
from wld.clock import ReceiveClock
from wld.config import DEFAULT_SYMBOLS, SourceConfig
from wld.errors import FatalSourceError, RetryableSourceError
from wld.events import Event, Gap, GapReason, Instrument
from wld.ring import Publisher
from wld.shards import parse_shard, shard_symbols

log = logging.getLogger(__name__)

MAINNET_WS = "wss://stream.bybit.com/v5/public/linear"
TESTNET_WS = "wss://stream-testnet.bybit.com/v5/public/linear"
SEND_TIMEOUT_S = 10.0
TICK_S = 0.25
KEPT_READS = 256
"""Reads that an audit compares at most."""
AUDIT_S = 5.0
"""How often the books of several lines are compared."""
UNREADABLE = {"1002": "framing", "1007": "utf8", "1009": "oversize"}
"""What a connection is ended for (RFC 6455, section 7.4.1), and the kind that it is counted as."""
REST_RETRY_S = 10.0
REFRESH_WAIT_S = 1.0
LISTED = ("Trading", "PreLaunch", "")


class SourceStatistics:
    """What the status line says of the source."""

    def __init__(self) -> None:
        self.connects = 0
        self.messages = 0
        self.counters: Counter[str] = Counter()


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
        self._url, self._rest_url = urls or endpoints(config)
        self._trust = ssl_context(config.ca_file)
        self._connect = connect or make_connect(config, self._trust)
        self._clock = clock or ReceiveClock()
        self._luck = luck
        self._budget = ConnectionBudget()
        self._gap_ids = count(1)
        self._instruments: dict[str, Instrument] = {}
        self._unlisted: set[str] = set()
        self._groups: list[_Group] = []
        self._refresh = trio.Event()
        self._complaints = Complaints(log)
        self._gate = RequestGate()
        self._repairer: Repairer | None = None
        self._auditor: Auditor | None = None
        self.statistics = SourceStatistics()

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
                    self._repairer = Repairer(open_api, self._gate, self._clock, ring.publish, luck=self._luck)
                    nursery.start_soon(self._repairer.run)
                    if self._config.audit and "publicTrade" in self._config.topics:
                        self._auditor = Auditor(
                            open_api,
                            self._gate,
                            self._clock,
                            ring.publish,
                            lambda: self._groups,
                            interval_s=self._config.audit,
                            next_gap_id=self._gap_ids.__next__,
                            luck=self._luck,
                        )
                        nursery.start_soon(self._auditor.run)
                if self._all:
                    symbols = await self._list_symbols(ring)
                for group in split_topics(topics_for(symbols, self._config.topics, self._config.depth)):
                    self._start_group(nursery, group, ring)
                nursery.start_soon(self._keep_instruments, ring, nursery)
                nursery.start_soon(self._watch_clock)
                task_status.started()
        except* FatalSourceError as group:
            raise _first(group) from None
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
        audit = self._auditor.figures() if self._auditor is not None else {}
        return {"connects": self.statistics.connects, "messages": self.statistics.messages, **up, **audit, **trouble}

    def _start_group(self, nursery: trio.Nursery, topics: list[str], ring: Publisher) -> None:
        group = _Group(self, topics, ring)
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
                await self._refresh.wait()
                await trio.sleep(REFRESH_WAIT_S)  # several books restart together; one reading serves all
            self._refresh = trio.Event()
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


class _Group:
    """The lines that carry the same topics: one, or several and the arbiter that makes one stream of them."""

    def __init__(self, source: BybitSource, topics: list[str], ring: Publisher) -> None:
        config = source._config
        self._source = source
        self._ring = ring
        self.arbiter: Arbiter | None = None
        if config.connections > 1:
            self.arbiter = Arbiter(topics, next_gap_id=source._gap_ids.__next__, hold_s=config.connection_hold)
            self.arbiter.holes = [] if config.repair else None
        self.lines = [_Line(source, topics, self) for _ in range(config.connections)]
        self._numbers = count(1)
        self.mutes = Mutes()
        self._keepers = 0
        self._kept: deque[Sequence[Event]] | None = None
        """What was published last, while an audit compares it."""

    @property
    def topics(self) -> list[str]:
        """What any of the lines carries, or would but for a refusal."""
        return list(dict.fromkeys(t for line in self.lines for t in (*line.protocol.topics, *line.protocol.rejected)))

    async def run(self) -> None:
        """Keep the lines open until cancelled; they start apart, so that they never do the same at once."""
        async with trio.open_nursery() as nursery:
            if self.arbiter is not None:
                nursery.start_soon(self._watch, self.arbiter)
            for place, line in enumerate(self.lines):
                nursery.start_soon(line.run, self._ring, place * self._source._config.connection_stagger)

    def open(self, line: _Line, now: int) -> None:
        """A line's connection opened."""
        line.number = next(self._numbers)
        if self.arbiter is not None:
            self.arbiter.connected(line.number, now)

    def close(self, line: _Line, reason: GapReason, now: int) -> None:
        """A line's connection ended."""
        if self.arbiter is not None:
            self._ring.publish(self.arbiter.disconnected(line.number, reason, now))

    def take(self, arbiter: Arbiter, line: _Line, frames: Iterable[Frame], now: int) -> None:
        """The messages of one read of one line."""
        protocol = line.protocol
        events: list[Event] = []
        for frame in frames:
            events += arbiter.receive(line.number, protocol.receive(frame, now), now)
            if confirmed := protocol.take_confirmed():
                events += arbiter.subscribed(line.number, confirmed, now)
            for ping_time in protocol.take_pongs():
                events += arbiter.answered(line.number, ping_time, now)
        self.publish(events)
        self._resync(arbiter, now)

    def _resync(self, arbiter: Arbiter, now: int) -> None:
        for number, topic in arbiter.take_resyncs():
            for line in self.lines:
                if line.number == number:
                    line.protocol.resync(topic, now)

    async def _watch(self, arbiter: Arbiter) -> None:
        """Give up waiting in time, compare books, rotate what is old; runs until cancelled."""
        source = self._source
        audited = trio.current_time()
        while True:
            await trio.sleep(TICK_S)
            now = source._clock.now()
            self._ring.publish(arbiter.tick(now))
            if trio.current_time() - audited >= AUDIT_S:
                audited = trio.current_time()
                arbiter.audit({line.number: line.protocol.decoder for line in self.lines if line.is_open})
            self._resync(arbiter, now)
            for probed in arbiter.take_probes():
                for line in self.lines:
                    if line.number == probed:
                        line.protocol.probe()
            self.repair()
            for kind, sentence in arbiter.take_notes():
                source._complaints.tell(kind, sentence)
            self._rotate(arbiter)

    def _rotate(self, arbiter: Arbiter) -> None:
        """Open the oldest line anew before it grows old, while the others carry everything."""
        oldest = min(self.lines, key=lambda line: line.opened)
        if trio.current_time() - oldest.opened < self._source._config.connection_max_age:
            return
        others = [line for line in self.lines if line is not oldest]
        if oldest.is_open and all(line.is_open and arbiter.is_settled(line.number) for line in others):
            oldest.rotate()

    async def change(self, *, add: list[str] | None = None, remove: list[str] | None = None) -> None:
        """Follow other topics from now on, on every line."""
        if self.arbiter is not None:
            self.arbiter.add_topics(add or ())
            self.arbiter.remove_topics(remove or ())
        for line in self.lines:
            await line.change(add=add, remove=remove)

    def clock_set(self, forward: int) -> None:
        """Receive times went forward by so many ns at once."""
        if self.arbiter is not None:
            self.arbiter.clock_set(forward)
        for line in self.lines:
            line.protocol.clock_set(forward, self._source._clock.now())

    @property
    def memory(self) -> Arbiter | MarketDecoder:
        """What went out."""
        return self.arbiter or self.lines[0].protocol.decoder

    @property
    def last_data_time(self) -> int | None:
        """When data last came on any of the lines, ns."""
        if self.arbiter is None:
            return self.lines[0].protocol.decoder.last_data_time
        return max((line.protocol.decoder.last_data_time or 0 for line in self.lines), default=0) or None

    def repair(self) -> None:
        """Hand on the holes that are worth asking REST for; of books, look whether what was lost is more than they tell."""
        memory = self.memory
        while memory.signs:
            self._look_for_mute(memory.signs.popleft())
        if memory.holes:
            self._repair(memory.holes)
            memory.holes = []

    def _repair(self, holes: list[Hole]) -> None:
        if self._source._repairer is not None:
            self._source._repairer.add(holes, self.memory)
        if self._source._auditor is not None:
            for hole in holes:
                self._source._auditor.note(hole)

    def note_read(self, now: int) -> None:
        """Something has come on a line and is about to be taken in."""
        last = self.last_data_time
        if last is not None:
            self.mutes.note(last, now, self.memory.last_trades)

    def _look_for_mute(self, gap: Gap) -> None:
        """Tell that all topics carried nothing, where a book's Gap shows it.

        A single line that has asked about that pause tells it by its topics; of several, the others' words may have hid it.
        """
        if self._source._auditor is not None and gap.symbol is not None:
            self._source._auditor.suspect(self, gap.symbol)
        mute = self.mutes.told_by(gap)
        if mute is None or (self.arbiter is None and self.lines[0].protocol.paused > mute.first_time):
            return
        told = Gap(
            self._source._gap_ids.__next__(), GapReason.SILENCE,
            first_time=mute.first_time, last_time=mute.last_time, receive_time=self._source._clock.now(),
        )  # fmt: skip
        self._ring.publish([told])
        self._repair([Hole(told, mute.last_trades)])

    def is_asker(self, line: _Line) -> bool:
        """Whether it is this line that asks what was lost in a pause of them all: the others go on meanwhile."""
        return line is next((one for one in self.lines if one.is_open and one.protocol.has_data), None)

    # -- as an audit sees it

    def trade_topics(self) -> list[str]:
        """Topics of trades that are subscribed on an open line."""
        open_lines = (line for line in self.lines if line.is_open)
        return list(dict.fromkeys(t for line in open_lines for t in line.protocol.confirmed("publicTrade.")))

    @contextmanager
    def keep(self) -> Iterator[Iterable[Sequence[Event]]]:
        """What is published from now on, the latest reads of it, to the end of the block."""
        self._keepers += 1
        if self._kept is None:
            self._kept = deque(maxlen=KEPT_READS)
        kept = self._kept
        try:
            yield kept
        finally:
            self._keepers -= 1
            if not self._keepers:
                self._kept = None

    def publish(self, events: Sequence[Event]) -> None:
        """What a read brought."""
        self._ring.publish(events)
        if self._kept is not None:
            self._kept.append(events)

    def probe(self) -> None:
        """Ping on every open line soon."""
        for line in self.lines:
            line.protocol.probe()

    def answered(self) -> int:
        """When the latest ping left that was answered, on the open line for which that is longest ago, ns; 0: none is open."""
        return min((line.protocol.answered_ping for line in self.lines if line.is_open), default=0)

    def finish(self, now: int) -> list[Event]:
        """The end of the feed."""
        if self.arbiter is not None:
            return self.arbiter.finish(now)
        return self.lines[0].protocol.decoder.finish(now)


class _Line:
    """One connection: its protocol, and the tasks around the socket."""

    def __init__(self, source: BybitSource, topics: list[str], group: _Group) -> None:
        self._source = source
        self._group = group
        self.number = 0
        """Of the connection within its group; each new one has its own."""
        self.opened = math.inf
        """When the connection opened, in Trio's time; inf while there is none."""
        self._scope = trio.CancelScope()
        self._is_rotating = False
        config = source._config
        self.protocol = BybitProtocol(
            topics,
            ProtocolConfig(
                subscribe_batch=config.subscribe_batch,
                first_data_timeout=config.first_data_timeout,
                silence_timeout=config.silence_timeout,
            ),
            MarketDecoder(next_gap_id=source._gap_ids.__next__, each_alone=config.connections > 1),
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

    async def run(self, ring: Publisher, delay: float = 0.0) -> None:
        """Keep the line connected until cancelled; the first connection comes after `delay` seconds."""
        await trio.sleep(delay)
        source, config = self._source, self._source._config
        backoff = Backoff(config.backoff_initial, config.backoff_max)
        while True:
            while (wait := source._budget.wait_for(trio.current_time())) > 0:
                source._complaints.tell(
                    "budget", f"too many new connections; waiting {wait:.0f} s, as the venue's limit asks"
                )
                await trio.sleep(wait)
            source._budget.spend(trio.current_time())
            failure: list[RetryableSourceError] = []
            try:
                with trio.CancelScope() as self._scope:
                    await self._connection(ring)
            except* RetryableSourceError as group:
                failure.append(RetryableSourceError(str(_first(group))))
                if code := re.search(r"\((1002|1007|1009)\b", str(failure[0])):
                    source.statistics.counters[UNREADABLE[code[1]]] += 1
            silent = bool(failure) and "silent" in str(failure[0])
            reason = GapReason.SILENCE if silent else GapReason.DISCONNECT
            self.protocol.lost(reason)
            self._group.close(self, reason, source._clock.now())
            self._note_protocol()
            if self._is_rotating and not failure:
                self._is_rotating = False
                log.info("the connection had stood for %g s: opened anew", config.connection_max_age)
                continue
            self._is_rotating = False
            if self.protocol.has_data:
                backoff.reset()
                self.protocol.has_data = False  # what this connection brought does not speak for the next try
            delay = backoff.next_delay(source._luck())
            log.warning("%s; reconnecting in %.1f s", failure[0], delay)
            await trio.sleep(delay)

    async def _connection(self, ring: Publisher) -> None:
        source = self._source
        self.protocol.has_data = False  # an attempt that fails has shown none, so it waits longer each time
        async with source._connect(source._url) as stream:
            source.statistics.connects += 1
            self._last_frame = trio.current_time()
            self._asked = None
            self.opened = trio.current_time()
            self._group.open(self, source._clock.now())
            first = source.statistics.connects <= len(self._group.lines)  # a run is silent until something happens
            level = logging.DEBUG if first else logging.INFO
            log.log(level, "connected to %s, %d topics", source._url, len(self.protocol.topics))
            try:
                self._stream = stream
                await self._send(self.protocol.open(source._clock.now()))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._heartbeat)
                    nursery.start_soon(self._tick)
                    await self._read(stream, ring)
            finally:
                self._stream = None
                self.opened = math.inf

    async def _read(self, stream: FrameStream, ring: Publisher) -> None:
        source = self._source
        while True:
            # The wait has no limit of its own: _heartbeat ends the connection when nothing comes.
            frames = await stream.receive()
            receive_time = source._clock.now()
            self._last_frame = trio.current_time()
            source.statistics.messages += len(frames)
            self._group.note_read(receive_time)
            arbiter = self._group.arbiter
            if arbiter is None:
                self._group.publish(self.protocol.receive_read(frames, receive_time))
            else:
                self._group.take(arbiter, self, frames, receive_time)
            self._group.repair()
            if self.protocol.decoder.take_restarts():
                source._refresh.set()
            self._note_protocol()
            if self.protocol.is_urgent:
                await self._send(self.protocol.tick(receive_time))

    def _note_protocol(self) -> None:
        for kind, sentence in self.protocol.take_notes():
            if kind == "rejected_topic":
                self._source._refresh.set()  # perhaps delisted
            self._source.statistics.counters[kind] += 1
            self._source._complaints.tell(kind, sentence)

    async def _heartbeat(self) -> None:
        """Ping at the interval that the venue asks for; `_tick` looks whether anything comes back."""
        while True:
            await trio.sleep(self._source._config.ping_interval)
            await self._send([self.protocol.ping(self._source._clock.now())])
            if self._asked is None or self._last_frame >= self._asked:
                self._asked = trio.current_time()

    def _check_alive(self) -> None:
        """Give up a connection on which nothing at all came since a ping. Raises: RetryableSourceError."""
        if self._asked is None or self._last_frame >= self._asked:
            return
        now = trio.current_time()
        if now - self._asked >= self._source._config.pong_timeout:
            idle = now - self._last_frame
            raise RetryableSourceError(f"{self._source._url}: silent for {idle:.0f} s, not even a pong")

    async def _tick(self) -> None:
        interval = min(TICK_S, self._source._config.pong_timeout)
        while True:
            await trio.sleep(interval)
            self._check_alive()
            now = self._source._clock.now()
            if self._group.is_asker(self):
                self.protocol.look_for_pause(now, self._group.last_data_time)
            await self._send(self.protocol.tick(now))
            self._note_protocol()

    async def change(self, *, add: list[str] | None = None, remove: list[str] | None = None) -> None:
        """Follow other topics from now on; where no connection is open, from the next one on."""
        now = self._source._clock.now()
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
                f"{self._source._url}: silent, takes no data for {SEND_TIMEOUT_S:.0f} s"
            ) from None


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """The first plain exception inside nested groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)
    return error
