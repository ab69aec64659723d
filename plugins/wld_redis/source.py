"""Owns the reading loop: one or several streams merged by time onto the ring, and where to go on after a stop."""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

import msgspec
import trio
from msgspec import Struct

import wld
from wld import Event, PackError, Ring, SourceContext, SourceError
from wld_redis.address import Address, describe, failures, load, make_client, own_name, parse
from wld_redis.stream import Entry, Position, Reading, Track

_log = logging.getLogger("wld.redis")

PAGE_ENTRIES = 32
"""Entries of one stream in one read: a few MB at most."""
BLOCK_MS = 1_000
POLL_S = 0.05
"""Between two looks at a cluster, whose streams cannot be waited for together."""
SAVE_INTERVAL_S = 0.5
PATIENCE_S = 1.0
"""How long a full sink is waited for; then it loses like any slow sink, and for a while nobody waits for it."""
IMPATIENCE_S = 60.0
RETRY_INITIAL_S = 0.25
RETRY_MAX_S = 5.0
LAST_SAVE_S = 2.0
MERGE_SLACK_NS = 10_000_000_000
"""How far the receive times of several publishers' neighbouring entries may be apart."""
JOIN_AGE_MS = 300_000
"""A checkpoint so much older than the newest is of a publisher that is gone."""
HELD_SLACK_NS = 60_000_000_000
"""Streams of several hosts are merged to within their blocks and clocks; beyond this no repetition comes."""


class _Taken(Struct):
    """An entry that went onto the ring, until it is known to be safe."""

    number: int
    """Ring number of its last event."""
    stream: str
    position: Position


class RedisSource:
    """Publishes what the streams hold, each from where this consumer stopped.

    Sinks that are briefly full are waited for, since Redis keeps what comes meanwhile; a stream that was trimmed past
    this reader is a Gap that says how many events are missing.
    """

    def __init__(self, url: str, context: SourceContext) -> None:
        address = parse(url, "source.name")
        if address.consumer is None and context.stored() is not None:
            address = _named(address, own_name(context.data_dir))
        self._address = address
        self._context = context
        self._symbols = frozenset(context.symbols or ())
        self._readings: dict[str, Reading] = {}
        self._begin: dict[str, bytes] = {}
        self._pages: dict[str, deque[tuple[bytes, Entry]]] = {s: deque() for s in address.streams}
        self._taken: deque[_Taken] = deque()
        self._safe: dict[str, Position] = {}
        self._saved: dict[str, Position] = {}
        self._held: Counter[Event] = Counter()
        self._held_until = 0
        self._impatient_until = -1.0
        self._error: str | None = None

    async def run(self, ring: Ring, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read until cancelled.

        Raises:
            SourceError: the keys hold something else than streams of wld.
        """
        await trio.to_thread.run_sync(load)
        task_status.started()
        try:
            await self._run(ring)
        except* SourceError as group:
            raise _alone(group) from None
        finally:
            # A client of its own: the one in use is cancelled with the run.
            with trio.move_on_after(LAST_SAVE_S, shield=True):
                try:
                    async with make_client(self._address) as client:
                        await self._save(client)
                except* failures():
                    _log.warning("redis: where this consumer stopped could not be kept; the next start compares")

    async def _run(self, ring: Ring) -> None:
        delay = RETRY_INITIAL_S
        while True:
            try:
                async with make_client(self._address) as client:
                    await self._find_positions(client)
                    if self._error is not None:
                        _log.warning("redis: %s answers again", self._address.url)
                        self._error = None
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._save_each_interval, client)
                        await self._read(client, ring)
            except* failures() as group:
                self._say(group)
            await trio.sleep(delay)
            delay = min(delay * 2, RETRY_MAX_S) if self._error else RETRY_INITIAL_S

    async def _find_positions(self, client: Any) -> None:
        """Where each stream is taken up; a stream already being read goes on where it is."""
        since: list[int] = []
        for stream in self._address.streams:
            if stream in self._readings and self._readings[stream].position is not None:
                continue
            saved = await self._load(client, stream)
            if saved is not None:
                self._readings[stream] = Reading(stream, saved)
                self._begin[stream] = saved.id
                _log.info("redis: %s goes on after entry %s", stream, saved.id.decode())
                self._safe[stream] = self._saved[stream] = saved
                since.append(saved.time - MERGE_SLACK_NS)
                continue
            self._readings[stream] = Reading(stream)
            begin = b"0"
            if self._address.start == "now":
                begin = _join_at((await client.hgetall(f"{stream}:checkpoint")).values()) or begin
            self._begin[stream] = begin
        if since:
            await trio.to_thread.run_sync(self._look_at_tape, min(since))

    def _look_at_tape(self, since: int) -> None:
        """Events that an earlier run stored after it last said where it stood: they are not taken twice."""
        if self._context.stored() is None or not self._context.data_dir.is_dir():
            return
        try:
            for event in wld.open_tape(self._context.data_dir, start=since):
                self._held[event] += 1
                self._held_until = max(self._held_until, event.receive_time)
        except wld.TapeError as error:
            _log.debug("redis: nothing to compare with in %s: %s", self._context.data_dir, error)

    async def _read(self, client: Any, ring: Ring) -> None:
        """Entries in order of time over all streams; runs until cancelled or the connection fails."""
        streams = self._address.streams
        for page in self._pages.values():
            page.clear()
        while True:
            behind = await self._fill(client)
            # A stream with more to come limits how far the others may run ahead, once its page is used up. Until then its
            # next entry is known; and the publishers of one stream do not add their entries in the order of time.
            limit = min((self._pages[s][-1][1].time for s in behind), default=math.inf)
            while True:
                ready = [s for s in streams if self._pages[s]]
                if not ready:
                    break
                stream = min(ready, key=lambda s: self._pages[s][0][1].time)
                if self._pages[stream][0][1].time > limit and not all(self._pages[s] for s in behind):
                    break
                await self._take(client, ring, stream, *self._pages[stream].popleft())

    async def _fill(self, client: Any) -> list[str]:
        """Read on where a page is used up; returns the streams that have more than their page."""
        wanted = {s: self._next_id(s) for s in self._address.streams if not self._pages[s]}
        behind = [s for s in self._address.streams if s not in wanted and len(self._pages[s]) > 1]
        answer: dict[Any, Any] = {}
        if self._address.is_cluster:
            for stream, after in wanted.items():
                answer.update(await client.xread({stream: after}, count=PAGE_ENTRIES) or {})
            if not answer and not any(self._pages.values()):
                await trio.sleep(POLL_S)
        else:
            block = None if any(self._pages.values()) else BLOCK_MS
            answer = await client.xread(wanted, count=PAGE_ENTRIES, block=block) or {} if wanted else {}
        for name, entries in answer.items():
            stream = name.decode() if isinstance(name, bytes) else name
            for entry_id, fields, *_ in entries:
                try:
                    self._pages[stream].append((entry_id, Entry.of(fields)))
                except ValueError as error:
                    raise SourceError(f"redis: {stream} {entry_id.decode()}: {error}") from None
            if len(entries) == PAGE_ENTRIES:
                behind.append(stream)
        return behind

    def _next_id(self, stream: str) -> bytes:
        position = self._readings[stream].position
        return position.id if position is not None else self._begin[stream]

    async def _take(self, client: Any, ring: Ring, stream: str, entry_id: bytes, entry: Entry) -> None:
        reading = self._readings[stream]
        try:
            # A checkpoint from before the tape's end would take its books back in time.
            taken = reading.take(entry_id, entry, restores=entry.time > self._held_until)
            events = [event for event in taken if self._is_wanted(event)]
        except PackError as error:
            raise SourceError(f"redis: {stream} {entry_id.decode()}: {error}") from None
        if stream not in self._safe and events:
            # Kept before anything is stored: a run that is killed at once finds what it had, and does not repeat it.
            earliest = min(event.receive_time for event in events)
            self._safe[stream] = Position(_before(entry_id), earliest - 1, {})
            await self._save(client)
        assert reading.position is not None
        number = -1
        if events:
            number = await self._publish(ring, events)
        elif self._taken:
            number = self._taken[-1].number
        self._taken.append(_Taken(number, stream, reading.position))

    def _is_wanted(self, event: Event) -> bool:
        symbol = getattr(event, "symbol", None)
        if self._symbols and symbol is not None and symbol not in self._symbols:
            return False
        if self._held:
            if self._held[event] > 0:
                self._held[event] -= 1
                return False
            if event.receive_time > self._held_until + HELD_SLACK_NS:
                self._held.clear()
        return True

    async def _publish(self, ring: Ring, events: list[Event]) -> int:
        """Onto the ring, waiting a moment for a full sink; returns the ring number of the last event."""
        batch = None
        if trio.current_time() >= self._impatient_until:
            with trio.move_on_after(PATIENCE_S) as patience:
                batch = await ring.publish_wait(events)
            if patience.cancelled_caught:
                self._impatient_until = trio.current_time() + IMPATIENCE_S
        if batch is None:
            batch = ring.publish(events)
        return batch.first_number + len(batch) - 1 if batch is not None else -1

    async def _save_each_interval(self, client: Any) -> None:
        """Runs until cancelled."""
        while True:
            await trio.sleep(SAVE_INTERVAL_S)
            await self._save(client)

    async def _save(self, client: Any) -> None:
        """Keep, under the consumer's name, up to where everything is safe."""
        stored = self._context.stored()
        while self._taken and (stored is None or self._taken[0].number <= stored):
            taken = self._taken.popleft()
            self._safe[taken.stream] = taken.position
        if self._address.consumer is None:
            return
        for stream, position in self._safe.items():
            if self._saved.get(stream) != position:
                tracks = msgspec.json.encode(position.tracks)
                fields: dict[str, Any] = {"id": position.id, "time": position.time, "tracks": tracks}
                await client.hset(self._key(stream), fields)
                self._saved[stream] = position

    async def _load(self, client: Any, stream: str) -> Position | None:
        if self._address.consumer is None:
            return None
        fields = await client.hgetall(self._key(stream))
        if not fields:
            return None
        try:
            tracks = msgspec.json.decode(fields[b"tracks"], type=dict[str, Track])
            return Position(fields[b"id"], int(fields[b"time"]), tracks)
        except (KeyError, ValueError, msgspec.MsgspecError):
            raise SourceError(f"redis: {self._key(stream)}: not a position of wld; delete the key") from None

    def _key(self, stream: str) -> str:
        return f"{stream}:consumer:{self._address.consumer}"

    def _say(self, error: BaseException) -> None:
        if trio.current_effective_deadline() == -math.inf:
            return  # the connection ended because the run does
        text = describe(error)
        if self._error is None:
            _log.error("redis: %s: %s; trying again", self._address.url, text)
        self._error = text


def _alone(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _named(address: Address, consumer: str) -> Address:
    from msgspec.structs import replace

    return replace(address, consumer=consumer)


def _join_at(checkpoints: Iterable[bytes]) -> bytes | None:
    """Where to begin so that the latest checkpoint of every living publisher is read; None without any."""
    ids = sorted(checkpoints, key=_place)
    living = [entry_id for entry_id in ids if _place(entry_id)[0] >= _place(ids[-1])[0] - JOIN_AGE_MS]
    return _before(living[0]) if living else None


def _place(entry_id: bytes) -> tuple[int, int]:
    time, _, sequence = entry_id.partition(b"-")
    return int(time), int(sequence)


def _before(entry_id: bytes) -> bytes:
    """The id just below, so that reading after it begins with the entry itself."""
    time, _, sequence = entry_id.partition(b"-")
    if int(sequence):
        return b"%s-%d" % (time, int(sequence) - 1)
    return b"%d-%d" % (int(time) - 1, (1 << 64) - 1)
