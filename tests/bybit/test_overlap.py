"""What proves that a new line overlaps the old one: data, or a pong; and what proves nothing."""

from __future__ import annotations

import json
from collections import deque

import pytest

from tests.bybit import frames
from tests.bybit.several import BOOK, TICKER, TOPICS, TRADES, Lines, accounted, complete, everything, two_lines
from wld.events import Ticker

QUIET_MS = 20_000


def one_after_another(lines: Lines, first: int) -> None:
    """With nothing published, each line ends seconds after the next one was confirmed and the last one pinged."""
    for _ in range(3):
        lines.pass_time(QUIET_MS)
        second = lines.connect()
        lines.deliver(second)
        lines.pass_time(300)
        assert lines.probe() == [first]
        lines.pass_time(2_000)
        lines.kill(first)
        first = second


def test_in_a_market_without_any_data_a_pong_proves_that_lines_overlap() -> None:
    lines = Lines()
    first = lines.connect()
    lines.settle()
    one_after_another(lines, first)
    everything(lines)
    lines.deliver_all()
    assert complete(lines)


def test_a_pong_that_is_not_waited_for_proves_nothing() -> None:
    lines = Lines()
    first = lines.connect()
    lines.settle()
    lines.pass_time(QUIET_MS)
    lines.ping(first)  # answered before the next line is confirmed
    second = lines.connect()
    lines.deliver(second)
    lines.deliver(first)
    lines.pass_time(300)
    lines.kill(first)
    assert {g.topic for g in lines.gaps()} == {"publicTrade", "allLiquidation"}


def test_a_pong_that_the_venue_sends_ahead_of_what_waits_proves_nothing() -> None:
    lines = Lines()
    first = lines.connect(lag=5_000)
    lines.settle()
    lines.publish(lines.venue.trade(1))
    lines.pass_time(100)
    second = lines.connect()
    for _ in range(3):
        lines.pass_time(200)
        lines.publish(lines.venue.book())
        lines.deliver(second)
    lines.ping(first)
    lines.deliver(first)
    lines.kill(first)  # the trade went with it
    lines.settle()
    assert None in lines.names(TRADES)


def test_a_pong_on_the_line_behind_lets_out_what_a_quiet_ticker_holds() -> None:
    lines = Lines()
    lines.connect()
    lines.settle()
    lines.pass_time(QUIET_MS)
    second = lines.connect()
    snapshot = frames.ticker("snapshot", cs=lines.venue.quote, lastPrice="1.5", fundingRate="0.0001")
    lines.queues[second] = deque([lines.venue.whole_book(), lines.venue._stamp(TICKER, snapshot), None])
    lines.deliver(second)
    lines.pass_time(300)
    lines.probe()
    lines.pass_time(10_000)
    assert not lines.gaps()
    assert isinstance(lines.out[-1], Ticker)


def test_probes_are_few_and_end_with_their_need() -> None:
    lines, first, second = two_lines()
    lines.pass_time(QUIET_MS)
    assert lines.probe() == []
    third = lines.connect()
    lines.deliver(third)
    assert lines.probe() == []  # the venue has had no time yet
    lines.pass_time(300)
    assert sorted(lines.arbiter.take_probes()) == [first, second]
    assert lines.arbiter.take_probes() == []
    lines.pass_time(2_000)
    assert sorted(lines.probe()) == [first, second]
    lines.pass_time(2_000)
    assert lines.probe() == []


@pytest.mark.parametrize("ts", [1, 4_102_444_800_000])
def test_one_wrong_time_of_the_venue_proves_nothing(ts: int) -> None:
    lines, first, second = two_lines()
    wrong = json.loads(lines.venue.ticker())
    lines.queues[first].append(json.dumps({**wrong, "ts": ts}))
    lines.queues[second].append(json.dumps(wrong))
    lines.deliver_all()
    lines.kill(second)
    third = lines.connect()
    lines.queues[third].append(json.dumps({**wrong, "ts": ts}))
    lines.deliver(third)
    everything(lines)
    lines.kill(first)  # with all of it on the way
    assert None in lines.names(TRADES) or not lines.arbiter.finish(lines.now)
    lines.deliver_all()
    for _ in range(3):
        lines.settle()
        everything(lines)
        lines.deliver_all()
        fresh = lines.connect()
        lines.settle()
        lines.kill(third)
        third = fresh
        everything(lines)
        lines.deliver_all()
    for topic in TOPICS:
        accounted(lines.venue.published[topic], lines.names(topic), is_book=topic == BOOK)
    assert len(lines.gaps()) <= len(TOPICS)
