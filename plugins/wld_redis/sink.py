"""Owns the publishing loop: gather batches to blocks, pack them in a worker thread, add them to a bounded stream.

Nothing here is waited for by the recorder: while Redis is away the sink stops taking, its own subscription loses the
oldest, and the Gap that says so is published in its place.
"""

from __future__ import annotations

import logging
import math
import uuid
from typing import Annotated, Any

import trio
from msgspec import Meta, Struct

from wld import Batch, ConfigError, SinkContext, Subscription
from wld_redis.address import describe, failures, load, make_client, own_name, parse
from wld_redis.stream import CHECKPOINT, EVENTS, Entry, Publication

_log = logging.getLogger("wld.redis")

WAITING_EVENTS = 20_000
"""What the sink holds itself before it leaves batches in the ring."""
RETRY_INITIAL_S = 0.25
RETRY_MAX_S = 5.0
Positive = Annotated[float, Meta(gt=0)]


class RedisConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[sinks.redis]`; intervals in seconds."""

    url: str = "redis://127.0.0.1:6379/0"
    """`redis://` or `rediss://`, with `?stream=NAME`, and `cluster=true` for a Redis Cluster."""
    interval: Annotated[float, Meta(ge=0.001, le=60)] = 0.1
    """Events gather for so long, or until `block_events` have come: one entry holds them."""
    block_events: Annotated[int, Meta(ge=1, le=20_000)] = 2_000
    """Events of one entry at most."""
    max_entries: Annotated[int, Meta(ge=10)] = 36_000
    """The stream's length; older entries go. At the default interval an hour."""
    checkpoint_interval: Positive = 30.0
    """How often books, tickers and instruments are written whole for readers that join."""


class RedisSink:
    """Publishes everything it is given, in order. Several may publish to one stream: shards, workers, hosts."""

    def __init__(self, config: RedisConfig, context: SinkContext) -> None:
        self._address = parse(config.url, "sinks.redis.url")
        if len(self._address.streams) > 1 or self._address.consumer:
            raise ConfigError("sinks.redis.url: expected one stream= and no consumer= in the URL of a publisher")
        self._config = config
        self._context = context
        self._stream = self._address.streams[0]
        self._publisher = own_name(context.data_dir).encode()
        self._waiting: list[Batch] = []
        self._count = 0
        self._enough = trio.Event()
        self._room = trio.Event()
        self._ended = False
        self._entries = 0
        self._events = 0
        self._bytes = 0
        self._error: str | None = None

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Publish until the batches end and the last entry is in Redis.

        Ready before the server is: one that is away is waited for, and what it misses waits in the ring.
        """
        await trio.to_thread.run_sync(load)
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._publish)
                async for batch in batches:
                    self._waiting.append(batch)
                    self._count += len(batch)
                    if self._count >= self._config.block_events:
                        self._enough.set()
                    while self._count >= WAITING_EVENTS:
                        # Redis is away or behind. Ends with the next entry that it takes, or with the run.
                        self._room = trio.Event()
                        await self._room.wait()
                self._ended = True
                self._enough.set()
        except BaseException:
            if self._count:
                _log.error("redis: %d events were not published: %s", self._count, self._error or "cut off")
            raise

    async def _publish(self) -> None:
        """Entry after entry until the batches have ended and nothing waits."""
        config = self._config
        publication = Publication(self._publisher, uuid.uuid4().hex[:8].encode())
        checkpoint_at = trio.current_time()
        queue: list[Entry] = []
        delay = RETRY_INITIAL_S
        while True:
            try:
                async with make_client(self._address) as client:
                    while True:
                        while queue:
                            await self._add(client, queue[0])
                            self._taken(queue.pop(0))
                            delay = RETRY_INITIAL_S
                        if self._ended and not self._waiting:
                            await self._add(client, publication.end())
                            self._report()
                            return
                        with trio.move_on_after(config.interval):
                            await self._enough.wait()
                        if not self._ended:
                            self._enough = trio.Event()
                        taken, self._waiting = self._waiting, []
                        with_checkpoint = trio.current_time() >= checkpoint_at
                        # Packing and book-keeping run beside the loop, so that no receive stamp waits for them.
                        queue += await trio.to_thread.run_sync(self._pack, publication, taken, with_checkpoint)
                        if with_checkpoint and queue:
                            checkpoint_at = trio.current_time() + config.checkpoint_interval
                        self._report()
            except* failures() as group:
                self._say(group.exceptions[0])
            self._report()
            await trio.sleep(delay)
            delay = min(delay * 2, RETRY_MAX_S)

    def _pack(self, publication: Publication, taken: list[Batch], with_checkpoint: bool) -> list[Entry]:
        events = [event for batch in taken for event in batch]
        size = self._config.block_events
        entries = [publication.publish(events[i : i + size]) for i in range(0, len(events), size)]
        if with_checkpoint and entries:
            entries.append(publication.checkpoint())
        return entries

    async def _add(self, client: Any, entry: Entry) -> None:
        import coredis

        entry_id = await client.xadd(
            self._stream,
            entry.fields(),
            trim_strategy=coredis.PureToken.MAXLEN,
            trim_operator=coredis.PureToken.APPROXIMATELY,
            threshold=self._config.max_entries,
        )
        if entry.kind == CHECKPOINT:
            await client.hset(f"{self._stream}:checkpoint", {self._publisher: entry_id})
        if self._error is not None:
            _log.warning("redis: %s takes entries again", self._address.url)
            self._error = None
        self._entries += 1
        self._bytes += len(entry.data)

    def _taken(self, entry: Entry) -> None:
        if entry.kind == EVENTS:
            self._events += entry.count
            self._count -= entry.count
            self._room.set()

    def _say(self, error: BaseException) -> None:
        if trio.current_effective_deadline() == -math.inf:
            return  # cut off: the connection ended because the run does
        text = describe(error)
        if self._error is None:
            _log.error("redis: %s: %s; trying again", self._address.url, text)
        self._error = text

    def _report(self) -> None:
        self._context.status(
            "redis",
            {
                "stream": self._stream,
                "entries": self._entries,
                "events": self._events,
                "bytes": self._bytes,
                "waiting": self._count,
                "error": self._error,
            },
        )
