"""Subscriptions that the venue ends, or begins anew, on some lines and without a word."""

from __future__ import annotations

import pytest

from tests.bybit import frames
from tests.bybit.several import (
    BOOK,
    LIQUIDATIONS,
    TICKER,
    TOPICS,
    TRADES,
    Lines,
    accounted,
    complete,
    everything,
    told,
    two_lines,
)
from wld.events import BookDelta, Gap, GapReason, Ticker
from wld.units import parse_fixed64


def doubtful(lines: Lines, line: int, topic: str, since: int, reason: GapReason = GapReason.SILENCE) -> None:
    """What a line's decoder says of a topic that it carried not for a while, but does again."""
    prefix, _, symbol = topic.rpartition(".")
    gap = Gap(0, reason, prefix, symbol, first_time=since, last_time=lines.now, receive_time=lines.now)
    lines.out += lines.arbiter.receive(line, [gap], lines.now)
    lines.out += lines.arbiter.subscribed(line, [topic], lines.now)


@pytest.mark.parametrize("reason", [GapReason.SILENCE, GapReason.REJECTED_TOPIC])
@pytest.mark.parametrize("topic", TOPICS[1:])
def test_a_topic_that_the_venue_ended_on_both_lines_is_one_gap_where_the_first_knew(
    topic: str, reason: GapReason
) -> None:
    lines, first, second = two_lines()
    lines.arbiter.holes = []
    lines.publish(lines.venue.trade(1))
    lines.deliver_all()
    since = lines.now
    lines.pass_time(40_000)
    doubtful(lines, second, topic, since, reason)
    lines.publish(lines.venue.trade(1), but=first)
    lines.publish(lines.venue.ticker(), but=first)
    lines.deliver(second)
    doubtful(lines, first, topic, since, reason)
    (gap,) = lines.gaps()
    assert (f"{gap.topic}.{gap.symbol}", gap.reason, gap.first_time) == (topic, reason, since)
    assert told(lines) == ([1, "gap", 2] if topic == TRADES else told(lines))
    assert [hole.gap for hole in lines.arbiter.holes] == ([gap] if topic == TRADES else [])
    everything(lines)
    lines.settle()
    everything(lines)
    lines.deliver_all()
    assert lines.names(TRADES)[-4:] == lines.venue.published[TRADES][-4:]
    assert len(lines.gaps()) == 1


@pytest.mark.parametrize("topic", [TICKER, TRADES])
def test_a_line_that_passed_what_another_brought_of_a_topic_does_not_cover_it(topic: str) -> None:
    lines, mute, other = two_lines()
    publish = lines.venue.ticker if topic == TICKER else lambda: lines.venue.trade(1)
    for _ in range(3):  # the venue ended the topic on one line, and goes on with the rest
        lines.pass_time(200)
        lines.publish(publish(), but=mute)
        lines.publish(lines.venue.book())
        lines.deliver_all()
    lines.pass_time(600)
    lines.publish(lines.venue.book())
    lines.deliver(mute)
    lines.publish(publish(), but=mute)  # on its way when the other line ends
    lines.kill(other)
    lines.connect()
    lines.settle()
    lines.publish(publish(), but=mute)
    lines.deliver_all()
    names = lines.names(topic)
    assert None in names
    accounted(lines.venue.published[topic], names, is_book=False)


def test_a_topic_that_the_venue_ended_on_one_line_costs_nothing() -> None:
    lines, first, second = two_lines()
    since = lines.now
    for _ in range(4):
        everything(lines)
        lines.pass_time(10_000)
        lines.deliver(first)
    doubtful(lines, second, TRADES, since)
    everything(lines)
    lines.deliver(first)
    lines.deliver(second)
    lines.settle()
    assert complete(lines)


def test_a_line_that_vouched_while_it_was_mute_itself_is_told_when_that_comes_out() -> None:
    lines, first, second = two_lines()
    since = lines.now
    lines.pass_time(27_000)
    lines.publish(lines.venue.book(), but=second)
    lines.deliver(first)
    muted = lines.now
    lines.pass_time(3_000)
    doubtful(lines, second, TRADES, since)
    found_out = lines.now
    assert lines.gaps() == []
    lines.pass_time(300)
    lines.ping(first)
    lines.deliver_all()  # a pong proves nothing of a topic
    lines.publish(lines.venue.trade(1), but=first)
    lines.deliver_all()
    lines.pass_time(30_000)
    doubtful(lines, first, TRADES, muted)
    (gap,) = lines.gaps()
    assert (gap.topic, gap.first_time, gap.last_time) == ("publicTrade", muted, found_out)


def test_a_line_dismissed_by_the_doubt_of_another_waits_for_it_again() -> None:
    """As after a freeze of our process: both ask anew, and the one that leads from the Gap on has a backlog."""
    lines, behind, ahead = two_lines()
    since = lines.now
    lines.pass_time(40_000)
    lines.publish(lines.venue.book())
    lines.deliver_all()
    doubtful(lines, ahead, TRADES, since)  # the other vouches
    for _ in range(2):
        lines.publish(lines.venue.ticker())
        lines.pass_time(500)
    lines.publish(lines.venue.trade(1))
    lines.deliver(ahead)  # keeps its trade until the other reaches it
    lines.deliver(behind, 1)
    doubtful(lines, behind, TRADES, since)  # so nobody covered the topic
    lines.deliver(behind, 1)
    lines.pass_time(1_000)
    lines.publish(lines.venue.trade(1))
    lines.deliver(ahead)
    lines.deliver(behind)
    lines.settle()
    everything(lines)
    lines.deliver_all()
    assert lines.names(TRADES) == [None, *lines.venue.published[TRADES]]
    assert len(lines.gaps()) == 1


def test_a_ticker_that_came_back_to_a_former_state_does_not_place_a_new_line() -> None:
    lines, first, _ = two_lines()
    lines.kill(2)
    prices = ["2.1", "2.2", "2.1"]  # pushed at one sequence: no trade, no book between
    for price in prices:
        lines.pass_time(100)
        lines.publish(lines.venue._stamp(TICKER, frames.ticker(cs=lines.venue.quote, lastPrice=price)))
    lines.deliver(first, 2)
    second = lines.connect()
    snapshot = frames.ticker("snapshot", cs=lines.venue.quote, lastPrice=prices[-1])
    lines.queues[second][1] = lines.venue._stamp(TICKER, snapshot)
    lines.pass_time(50)
    lines.publish(lines.venue.ticker())
    lines.deliver(second)
    lines.settle()
    states = [event.last_price for event in lines.out if isinstance(event, Ticker)]
    begun = states.index(parse_fixed64(prices[0]))
    assert states[begun : begun + 3] == [parse_fixed64(price) for price in prices]
    assert lines.gaps() == []


def test_a_book_that_comes_back_before_the_venue_says_so_keeps_its_snapshot() -> None:
    lines, first, second = two_lines()
    prefix, _, symbol = BOOK.rpartition(".")
    since = lines.now
    refused = Gap(0, GapReason.REJECTED_TOPIC, prefix, symbol, first_time=since, receive_time=since)
    lines.out += lines.arbiter.receive(second, [refused], lines.now)
    lines.pass_time(1_000)
    lines.publish(lines.venue.book(), but=second)
    lines.deliver(first)
    lines.publish(lines.venue.book(), but=second)
    lines.queues[second].append(lines.venue.whole_book())
    lines.deliver(second)
    doubtful(lines, second, BOOK, since, GapReason.REJECTED_TOPIC)
    everything(lines)
    lines.deliver(second)
    lines.kill(first)
    lines.settle()
    assert complete(lines)


def test_what_only_a_line_that_is_gone_had_is_a_gap() -> None:
    """The venue ended the tickers on one line and nobody knew; the other had some, kept them for it, and died."""
    lines, mute, other = two_lines()
    lines.kill(other)
    for _ in range(2):
        lines.pass_time(100)
        lines.publish(lines.venue.ticker(), but=mute)
    other = lines.connect()
    lines.deliver(other)
    lines.publish(lines.venue.ticker(), but=mute)
    lines.deliver(other)
    lines.kill(other)
    lines.pass_time(1_000)
    lines.publish(lines.venue.book())
    lines.deliver(mute)
    lines.connect()
    for _ in range(3):
        lines.pass_time(300)
        lines.publish(lines.venue.book())
        lines.publish(lines.venue.ticker(), but=mute)
        lines.deliver_all()
    assert None in lines.names(TICKER)
    accounted(lines.venue.published[TICKER], lines.names(TICKER), is_book=False)


def test_a_book_listed_anew_with_a_lower_sequence_is_told_by_the_line_that_begins_with_it() -> None:
    """The venue ended the subscription without a word: what came until another line began, nobody brought."""
    lines, _, other = two_lines()
    since = next(e.receive_time for e in reversed(lines.out) if isinstance(e, BookDelta))
    lines.kill(other)
    lines.pass_time(20_000)
    lines.venue.cross -= 900
    lines.venue.update_id = 5_000
    lines.venue.book()
    lines.deliver(lines.connect())
    (gap,) = lines.gaps()
    assert (gap.reason, gap.topic, gap.missed, gap.first_time) == (GapReason.SILENCE, "orderbook.50", None, since)
    assert lines.names(BOOK)[-2:] == [None, lines.venue.published[BOOK][-1]]


def test_a_ticker_that_a_new_line_begins_with_tells_that_the_others_were_mute() -> None:
    """The venue ended a symbol's subscriptions on both lines without a word; a line that is opened anew has them again."""
    lines, mute, other = two_lines()
    published = lines.venue.published
    lines.publish(lines.venue.trade(1))
    lines.deliver_all()
    lines.kill(other)
    lines.pass_time(200)
    for frame in (lines.venue.trade(1), lines.venue.ticker(), lines.venue.liquidations(1)):
        lines.publish(frame, but=mute)
    lines.pass_time(200)
    lines.deliver(lines.connect())
    for _ in range(3):
        lines.pass_time(300)
        lines.publish(lines.venue.book())
        lines.publish(lines.venue.trade(1), but=mute)
        lines.publish(lines.venue.ticker(), but=mute)
        lines.deliver_all()
    assert sorted(gap.topic or "" for gap in lines.gaps()) == ["allLiquidation", "publicTrade", "tickers"]
    assert lines.names(TRADES) == [published[TRADES][0], None, *published[TRADES][2:]]
    accounted(published[TICKER], lines.names(TICKER), is_book=False)
    assert {topic for line, topic in lines.resyncs if line == mute} == {TRADES, TICKER, LIQUIDATIONS}


def test_what_a_lines_ticker_tells_goes_before_the_trades_it_holds() -> None:
    lines, mute, other = two_lines()
    lines.kill(other)
    lines.publish(lines.venue.trade(1), but=mute)
    lines.publish(lines.venue.ticker(), but=mute)
    fresh = lines.connect()
    lines.deliver(fresh)
    lines.publish(lines.venue.trade(1), but=mute)
    lines.deliver(fresh)  # held
    lines.pass_time(400)
    lines.publish(lines.venue.book())
    lines.deliver(mute)
    lines.publish(lines.venue.trade(1), but=mute)
    lines.deliver(fresh)
    assert lines.names(TRADES) == [None, *lines.venue.published[TRADES][1:]]


def test_no_line_is_rotated_while_the_other_lacks_what_it_brought() -> None:
    lines, _, second = two_lines()
    lines.pass_time(10)
    assert lines.arbiter.is_settled(second)
    lines.publish(lines.venue.trade(1), but=second)
    lines.pass_time(300)
    lines.publish(lines.venue.book())
    lines.deliver_all()
    assert not lines.arbiter.is_settled(second)


def test_all_lines_but_the_new_one_must_have_passed_its_ticker_before_it_goes_out_behind_a_gap() -> None:
    """Of three, one may be behind rather than mute, and in a market without data only pongs say how far they are."""
    lines, mute, behind = two_lines()
    lines.publish(lines.venue.ticker(), but=mute)
    fresh = lines.connect()
    lines.deliver(fresh)
    lines.pass_time(400)
    lines.ping(mute)
    lines.ping(behind)
    lines.deliver(mute)
    lines.pass_time(100)
    assert lines.names(TICKER)[-1] != lines.venue.published[TICKER][-1]
    lines.deliver(behind)
    lines.deliver_all()
    assert complete(lines)
    lines.publish(lines.venue.ticker(), but=fresh)  # the first is subscribed to it no more
    lines.kill(behind)
    lines.queues[mute].clear()
    last = lines.connect()
    lines.deliver(last)
    lines.pass_time(400)
    for line in (mute, fresh):
        lines.ping(line)
        lines.deliver(line)
        lines.pass_time(100)
    lines.deliver_all()
    assert lines.names(TICKER)[-2:] == [None, lines.venue.published[TICKER][-1]]


def test_trades_of_a_symbol_listed_anew_with_lower_sequences_are_not_taken_for_those_of_a_gap() -> None:
    lines, first, second = two_lines()
    lines.kill(first)
    lines.kill(second)
    first = lines.connect()
    lines.settle()
    lines.publish(lines.venue.trade(1))  # the first after the Gap
    lines.deliver_all()
    lines.connect()
    lines.pass_time(2_000)
    lines.settle()
    lines.kill(first)
    lines.venue.cross = 10
    for _ in range(3):
        lines.publish(lines.venue.trade(1))
        lines.deliver_all()
    assert lines.names(TRADES)[-4:] == lines.venue.published[TRADES]


def test_tickers_of_a_symbol_listed_anew_with_lower_sequences_go_on_behind_a_gap() -> None:
    lines, mute, other = two_lines()
    lines.kill(other)
    lines.venue.cross = 10
    lines.venue.ticker()
    lines.pass_time(20_000)
    lines.deliver(lines.connect())
    for _ in range(3):
        lines.publish(lines.venue.ticker(), but=mute)
        lines.deliver_all()
    assert lines.names(TICKER)[-5:] == [None, *lines.venue.published[TICKER][-4:]]


def test_tickers_from_before_a_new_listing_with_lower_sequences_do_not_come_behind_those_of_the_new_one() -> None:
    lines, stalled, other = two_lines()
    backlog = [lines.venue.ticker() for _ in range(3)]
    lines.kill(other)
    lines.venue.cross = 10
    lines.venue.ticker()
    lines.pass_time(20_000)
    for frame in backlog:
        lines.send(stalled, frame)  # pushed 20 s ago, and not come yet
    fresh = lines.connect()
    lines.deliver(fresh)
    lines.deliver(stalled)
    for _ in range(3):
        lines.pass_time(100)
        lines.send(fresh, lines.venue.ticker())
        lines.deliver(fresh)
    assert lines.names(TICKER)[-5:] == [None, *lines.venue.published[TICKER][-4:]]


def test_a_minute_after_a_new_listing_the_venues_clock_may_be_set_back() -> None:
    lines, old, other = two_lines()
    lines.kill(other)
    lines.venue.cross = 10
    lines.venue.ticker()
    lines.pass_time(20_000)
    line = lines.connect()
    lines.deliver(line)
    lines.kill(old)
    lines.pass_time(61_000)
    lines.publish(lines.venue.ticker())
    lines.deliver(line)
    lines.kill(line)
    now = lines.venue.time
    lines.venue.time = 10_000
    line = lines.connect()
    lines.publish(lines.venue.ticker())
    lines.venue.time = now
    lines.deliver(line)
    assert lines.names(TICKER)[-3:] == [12, None, 13]
