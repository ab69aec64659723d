"""Owns the fan-out: one bounded queue per sink, a Batch an item; knows neither sources nor sinks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from types import TracebackType
from typing import Protocol, Self

import trio
from msgspec import Struct

from wld.batch import Batch
from wld.errors import SinkOverrun
from wld.events import Event, Gap, GapReason

BYTES_PER_EVENT = 2_500
"""Estimate of a row event in memory: a 15-level delta is some 40 Python objects."""
DEFAULT_CAPACITY = 65_536
"""Events: a minute of one busy symbol, about 160 MB by `BYTES_PER_EVENT` at the very worst."""
SPARSE_NS = 5_000_000
"""Batches further apart than this may gather. Where they follow each other sooner, sinks that gather doubled p99."""
AT_A_TURN = 8
"""Batches that a sink takes at most between two checkpoints: several connections may publish in one turn of the loop."""
OVERRUN_GAP_ID_BASE = 1 << 48
"""Overrun gaps are numbered from here, apart from the stream's own gaps."""


class Publisher(Protocol):
    """What a source sees of the ring."""

    def publish(self, events: Iterable[Event]) -> object:
        """Publish events as one batch, without waiting."""
        ...

    async def publish_wait(self, events: Iterable[Event]) -> object:
        """Publish when every sink has room: for recorded input only."""
        ...


class Overflow(Enum):
    """What a full queue does: lose its oldest batch, or fail the publisher (tests and audits)."""

    DROP_OLDEST = "drop_oldest"
    FAIL = "fail"


class SubscriptionStatistics(Struct, frozen=True):
    """One sink's end of the ring."""

    name: str
    depth: int
    """Events waiting now."""
    peak: int
    """The most that ever waited."""
    capacity: int
    delivered: int
    dropped: int
    """Events lost to overrun; each loss is also a Gap in the sink's own stream."""

    @property
    def capacity_bytes(self) -> int:
        """An estimate of the memory a full queue holds."""
        return self.capacity * BYTES_PER_EVENT


class RingStatistics(Struct, frozen=True):
    """The ring as a whole."""

    published: int
    """Events numbered so far; the next one gets this number."""
    sinks: tuple[SubscriptionStatistics, ...]


class Subscription:
    """One sink's end: iterate it for batches in publish order; an overrun is a Gap in place, for this sink only.

    Holds at most `capacity` events, except that one batch larger than it is still taken when nothing else waits.
    """

    def __init__(self, name: str, capacity: int, overflow: Overflow, next_number: int) -> None:
        self.name = name
        self.capacity = capacity
        self._overflow = overflow
        self._next = next_number
        self._last_receive_time: int | None = None
        self._waiting: deque[Batch] = deque()
        self._depth = 0
        self._peak = 0
        self._delivered = 0
        self._dropped = 0
        self._overruns = 0
        self._patience = 0
        """ns between the first of what waits and what wakes the sink."""
        self._company = 1
        """So many events wake it at once."""
        self._offered = 0
        """Receive time of the latest batch, ns; kept where they gather."""
        self._is_due = False
        """What waits is for the sink to take."""
        self._is_over = False
        self._in_turn = 0
        """More batches that the sink may take before it lets others run."""
        self._parked: list[trio.lowlevel.Task] = []
        self._room = trio.Event()

    def let_gather(self, seconds: float, events: int) -> None:
        """From now on the sink is woken for company: once so many events wait, or one comes so long after the first.

        For a sink that need not see each event at once: at a low rate waking it costs more than what it does then.
        Batches that come within `SPARSE_NS` of each other wake it as they come: the latency of the other sinks is worth
        more there. It is not woken where nothing more comes; `take` gives what waits at any time, and the end comes as ever.
        """
        self._patience = int(seconds * 1e9)
        self._company = max(1, min(events, self.capacity // 2))

    def take(self) -> Batch | None:
        """The next batch if one waits, without waiting."""
        return self._hand_over() if self._waiting else None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        if self._in_turn and self._is_due and self._waiting:
            self._in_turn -= 1
            return self._hand_over()
        if self._is_due and self._waiting:
            await trio.lowlevel.checkpoint()
        while not (self._is_due and self._waiting):
            if self._is_over:
                raise StopAsyncIteration
            await self._park()
        self._in_turn = AT_A_TURN - 1
        return self._hand_over()

    async def _park(self) -> None:
        """Until there is something to take; a trio.Event for each wait costs three times as much."""
        task = trio.lowlevel.current_task()
        self._parked.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._parked.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _hand_over(self) -> Batch:
        batch = self._waiting.popleft()
        if not self._waiting:
            self._is_due = self._is_over
        count, first = len(batch), batch.first_number
        self._depth -= count
        self._room.set()
        missed = first - self._next
        self._next = first + count
        self._delivered += count
        if missed:
            batch = batch.after(self._overrun_gap(missed, batch))
        self._last_receive_time = batch.last_receive_time
        return batch

    def _overrun_gap(self, missed: int, batch: Batch) -> Gap:
        self._overruns += 1
        after = batch.first_receive_time
        return Gap(
            gap_id=OVERRUN_GAP_ID_BASE + self._overruns,
            reason=GapReason.OVERRUN,
            missed=missed,
            first_time=self._last_receive_time,
            last_time=after,
            receive_time=after,
        )

    def _offer(self, batch: Batch, count: int) -> None:
        if self._is_over:
            return
        while self._depth and self._depth + count > self.capacity:
            if self._overflow is Overflow.FAIL:
                raise SinkOverrun(
                    f"sink {self.name}: fell behind by {self._depth} events, its capacity is {self.capacity}"
                )
            lost = self._waiting.popleft()
            self._depth -= len(lost)
            self._dropped += len(lost)
        self._waiting.append(batch)
        self._depth += count
        if self._depth > self._peak:
            self._peak = self._depth
        before, self._offered = self._offered, batch.last_receive_time if self._patience else 0
        if self._is_due:
            return
        if (
            self._depth >= self._company
            or batch.first_receive_time - before < SPARSE_NS
            or batch.last_receive_time - self._waiting[0].first_receive_time >= self._patience
        ):
            self._wake()

    def _wake(self) -> None:
        self._is_due = True
        for task in self._parked:
            trio.lowlevel.reschedule(task)
        self._parked.clear()

    def _end(self, *, forget: bool = False) -> None:
        """Nothing more comes; `forget`: nor is what waits wanted."""
        if forget:
            self._waiting.clear()
        self._is_over = True
        self._wake()

    def statistics(self) -> SubscriptionStatistics:
        """A snapshot of the counters."""
        return SubscriptionStatistics(self.name, self._depth, self._peak, self.capacity, self._delivered, self._dropped)


class Ring:
    """Numbers each event and offers it to every subscription.

    `publish` is synchronous and never waits. Leaving the `with` block ends every subscription: sinks take what is
    left and their iteration ends.
    """

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self._cursor = 0
        self._closed = False

    @property
    def published(self) -> int:
        """Events numbered so far."""
        return self._cursor

    def subscribe(
        self, name: str, *, capacity: int = DEFAULT_CAPACITY, overflow: Overflow = Overflow.DROP_OLDEST
    ) -> Subscription:
        """A new end that sees everything published from now on. `capacity` counts events."""
        subscription = Subscription(name, capacity, overflow, self._cursor)
        if self._closed:
            subscription._end()
        self._subscriptions.append(subscription)
        return subscription

    def end(self, subscription: Subscription) -> None:
        """Publish nothing more to one subscription: its sink takes what is left and its iteration ends."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        subscription._end()

    def detach(self, subscription: Subscription) -> None:
        """Take out a finished sink's end; what waits in it is gone."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        subscription._end(forget=True)

    def publish(self, events: Iterable[Event]) -> Batch | None:
        """Publish events as one Batch; None for no events.

        Raises:
            SinkOverrun: only where a subscription was made with `Overflow.FAIL`.
        """
        batch = Batch(events, self._cursor)
        count = len(batch)
        if not count:
            return None
        self._cursor += count
        for subscription in self._subscriptions:
            subscription._offer(batch, count)
        return batch

    async def publish_wait(self, events: Iterable[Event]) -> Batch | None:
        """As `publish`, first waiting for room in every subscription: for recorded input, never for a live feed."""
        batch = Batch(events, self._cursor)
        for subscription in tuple(self._subscriptions):
            while subscription._depth and subscription._depth + len(batch) > subscription.capacity:
                if subscription not in self._subscriptions:
                    break
                subscription._wake()
                subscription._room = trio.Event()
                # A sink that never reads again is detached by its supervisor; look again each second.
                with trio.move_on_after(1):
                    await subscription._room.wait()
        await trio.lowlevel.checkpoint()
        return self.publish(batch)

    def statistics(self) -> RingStatistics:
        """A snapshot of the counters of the ring and of every subscription."""
        return RingStatistics(self._cursor, tuple(s.statistics() for s in self._subscriptions))

    def close(self) -> None:
        """End every subscription; what was published is still delivered."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
