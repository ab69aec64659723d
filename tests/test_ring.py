from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from wld.errors import SinkOverrun
from wld.events import AggressorSide, Event, Gap, GapReason, Trade
from wld.ring import SPARSE_NS, Overflow, Ring, Subscription


def trade(number: int, receive_time: int | None = None) -> Trade:
    received = number if receive_time is None else receive_time
    return Trade("WLDUSDT", 1, number, AggressorSide.BUY, str(number), event_time=number, receive_time=received)


async def taken(subscription: Subscription) -> list[Event]:
    return [event async for batch in subscription for event in batch]


async def test_every_sink_gets_every_event_in_order() -> None:
    ring = Ring()
    ends = [ring.subscribe(name) for name in "ab"]
    with ring:
        ring.publish([trade(0), trade(1)])
        ring.publish([trade(2)])
    for end in ends:
        assert await taken(end) == [trade(0), trade(1), trade(2)]


async def test_slow_sink_loses_oldest_and_is_told_where() -> None:
    ring = Ring()
    slow, quick = ring.subscribe("slow", capacity=2), ring.subscribe("quick", capacity=100)
    with ring:
        for number in range(5):
            ring.publish([trade(number)])
    gap, *rest = await taken(slow)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.missed) == (GapReason.OVERRUN, 3)
    assert rest == [trade(3), trade(4)]
    assert await taken(quick) == [trade(n) for n in range(5)]
    by_name = {s.name: s for s in ring.statistics().sinks}
    assert (by_name["slow"].dropped, by_name["quick"].dropped) == (3, 0)


async def test_a_batch_larger_than_the_capacity_is_still_taken() -> None:
    ring = Ring()
    end = ring.subscribe("s", capacity=2)
    with ring:
        ring.publish([trade(n) for n in range(10)])
    assert len(await taken(end)) == 10


async def test_fail_tells_the_publisher() -> None:
    ring = Ring()
    ring.subscribe("audit", capacity=1, overflow=Overflow.FAIL)
    ring.publish([trade(0)])
    with pytest.raises(SinkOverrun, match="audit"):
        ring.publish([trade(1)])


async def test_publish_wait_waits_for_room(autojump_clock: trio.testing.MockClock) -> None:
    ring = Ring()
    end = ring.subscribe("s", capacity=2)
    seen: list[Event] = []

    async def consume() -> None:
        async for batch in end:
            await trio.sleep(10)
            seen.extend(batch)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        with ring:
            for number in range(20):
                await ring.publish_wait([trade(number)])
    assert seen == [trade(n) for n in range(20)]


async def test_publish_wait_does_not_wait_for_a_detached_sink(autojump_clock: trio.testing.MockClock) -> None:
    ring = Ring()
    end = ring.subscribe("s", capacity=1)
    await ring.publish_wait([trade(0)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ring.publish_wait, [trade(1)])
        await trio.sleep(5)
        ring.detach(end)


async def test_a_sink_that_comes_later_sees_no_gap_for_what_was_before() -> None:
    ring = Ring()
    ring.publish([trade(0)])
    end = ring.subscribe("late")
    with ring:
        ring.publish([trade(1)])
    assert await taken(end) == [trade(1)]


@settings(deadline=None, max_examples=100)
@given(
    capacity=st.integers(1, 6),
    company=st.integers(1, 8),
    bursts=st.lists(st.lists(st.integers(0, 4), max_size=4), max_size=12),
)
async def test_events_and_gaps_account_for_every_published_event(
    capacity: int, company: int, bursts: list[list[int]]
) -> None:
    ring = Ring()
    end = ring.subscribe("s", capacity=capacity)
    if company > 1:
        end.let_gather(60.0, company)
    seen: list[Event] = []

    async def consume() -> None:
        async for batch in end:
            seen.extend(batch)

    published = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        with ring:
            for burst in bursts:
                for size in burst:
                    ring.publish([trade(published + i) for i in range(size)])
                    published += size
                await trio.lowlevel.checkpoint()
    position = 0
    for event in seen:
        if isinstance(event, Gap):
            assert event.missed
            position += event.missed
        else:
            assert event == trade(position)
            position += 1
    assert position == published or not any(s.delivered for s in ring.statistics().sinks)


async def gathering(
    ring: Ring, nursery: trio.Nursery, *, seconds: float, events: int
) -> tuple[Subscription, list[int]]:
    """A sink that lets so much gather, and how many events it has taken at each wake-up."""
    end, sizes = ring.subscribe("s"), list[int]()
    end.let_gather(seconds, events)

    async def sink() -> None:
        async for batch in end:
            size = len(batch)
            while (more := end.take()) is not None:
                size += len(more)
            sizes.append(size)

    nursery.start_soon(sink)
    await trio.testing.wait_all_tasks_blocked()
    return end, sizes


def sparse(number: int) -> Trade:
    """A trade that comes long behind the one before."""
    return trade(number, receive_time=number * 2 * SPARSE_NS)


async def test_a_sink_that_lets_gather_is_woken_for_company_alone() -> None:
    ring = Ring()
    async with trio.open_nursery() as nursery:
        end, sizes = await gathering(ring, nursery, seconds=1.0, events=3)
        for number, woken in enumerate([[], [], [3], [3], [3], [3, 3]], start=1):
            ring.publish([sparse(number)])
            await trio.testing.wait_all_tasks_blocked()
            assert sizes == woken
        ring.publish([sparse(7)])
        late = sparse(7 + 1_000_000_000 // (2 * SPARSE_NS))  # the first has waited long enough
        ring.publish([late])
        await trio.testing.wait_all_tasks_blocked()
        assert sizes == [3, 3, 2]
        ring.publish([sparse(1000)])
        ring.close()  # the end comes as ever
        await trio.testing.wait_all_tasks_blocked()
        assert sizes == [3, 3, 2, 1]
        assert end.statistics().depth == 0


async def test_what_comes_close_behind_the_last_does_not_gather() -> None:
    ring = Ring()
    async with trio.open_nursery() as nursery:
        _, sizes = await gathering(ring, nursery, seconds=1.0, events=100)
        ring.publish([sparse(1)])
        await trio.testing.wait_all_tasks_blocked()
        assert sizes == []
        for _ in range(3):
            ring.publish([sparse(1)])
            await trio.testing.wait_all_tasks_blocked()
        ring.publish([sparse(2)])
        await trio.testing.wait_all_tasks_blocked()
        assert sizes == [2, 1, 1]
        ring.close()


async def test_a_sink_keeps_up_where_several_batches_are_published_in_each_turn() -> None:
    ring = Ring()
    end = ring.subscribe("s")
    seen = 0
    others = 0

    async def sink() -> None:
        nonlocal seen
        async for batch in end:
            seen += len(batch)

    async def other() -> None:
        nonlocal others
        while seen < 300:
            others += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink)
        nursery.start_soon(other)
        with ring:
            for turn in range(100):
                for number in range(3):
                    ring.publish([trade(3 * turn + number)])
                await trio.lowlevel.checkpoint()
            assert end.statistics().peak <= 9
    assert seen == 300
    assert others >= 90  # the others had their turns


async def test_what_gathers_can_be_taken_at_any_time() -> None:
    ring = Ring()
    async with trio.open_nursery() as nursery:
        end, sizes = await gathering(ring, nursery, seconds=1.0, events=100)
        assert end.take() is None
        ring.publish([sparse(1)])
        ring.publish([sparse(2)])
        assert [list(batch) for batch in (end.take(), end.take()) if batch] == [[sparse(1)], [sparse(2)]]
        ring.close()
    assert sizes == []


async def test_a_small_end_is_woken_before_it_is_full_and_a_source_that_waits_for_room_gets_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ring = Ring()
    end = ring.subscribe("s", capacity=4)
    end.let_gather(60.0, 1000)
    got: list[Event] = []

    async def sink() -> None:
        async for batch in end:
            got.extend(batch)

    with trio.fail_after(0.5):  # not after the second in which a source looks again
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink)
            with ring:
                for number in range(0, 30, 3):
                    await ring.publish_wait([trade(number + i) for i in range(3)])
    assert got == [trade(n) for n in range(30)]
