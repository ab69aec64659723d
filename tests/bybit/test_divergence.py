"""Several lines that do not agree: it is told, and the stream set right."""

from __future__ import annotations

import json

from tests.bybit import frames
from tests.bybit.frames import MS
from tests.bybit.several import BOOK, TICKER, TRADES, two_lines
from wld.events import BookSnapshot, GapReason, Ticker


def test_a_trade_that_one_line_lost_without_knowing_comes_late_rather_than_never() -> None:
    lines, first, second = two_lines()
    lines.publish(lines.venue.trade(1), but=first)
    lines.publish(lines.venue.trade(1))
    lines.deliver(first)
    lines.deliver(second)
    assert sorted(lines.names(TRADES)) == lines.venue.published[TRADES]
    assert lines.arbiter.counters["divergence_alone"] == 1


def test_tickers_that_one_line_lost_without_knowing_are_one_gap_and_turn_nothing_back() -> None:
    lines, first, second = two_lines()
    for is_lost in (False, True, True, False):
        lines.venue.time += 100
        lines.publish(lines.venue.ticker(), but=first if is_lost else None)
        lines.deliver(first)
    lines.venue.time += 100
    lines.deliver(second)
    published = lines.venue.published[TICKER]
    assert lines.names(TICKER)[1:] == [*published[:-3], published[-1], None]  # behind the first snapshot
    (gap,) = lines.gaps()
    assert (gap.reason, gap.topic, gap.missed) == (GapReason.UPDATE_ID, "tickers", None)
    assert (gap.first_time, gap.last_time) == (lines.now - 400 * MS, lines.now - 100 * MS)
    assert lines.arbiter.counters["divergence_alone"] == 1
    lines.settle()
    assert lines.gaps() == [gap]


def test_a_ticker_of_a_line_whose_push_times_are_wrong_does_not_go_out_a_second_time() -> None:
    lines, first, second = two_lines()
    for _ in range(3):
        lines.venue.time += 100
        frame = lines.venue.ticker()
        lines.queues[first].append(frame)
        body = json.loads(frame)
        lines.queues[second].append(json.dumps({**body, "ts": body["ts"] - 3_600_000}))
    lines.deliver(first)
    lines.deliver(second)
    assert lines.names(TICKER)[1:] == lines.venue.published[TICKER]


def test_trades_on_one_line_only_for_long_are_told_and_that_line_subscribes_anew() -> None:
    lines, _, second = two_lines()
    lines.pass_time(1)
    lines.publish(lines.venue.trade(1), but=second)
    for _ in range(35):
        lines.publish(lines.venue.ticker())
        lines.deliver_all()
        lines.pass_time(1_000)
    assert lines.resyncs == [(second, TRADES)]
    assert lines.arbiter.counters["divergence_alone"] == 1
    assert "line 2 lacks 1" in lines.arbiter.take_notes()[-1][1]


def test_the_same_update_id_with_other_content_is_told_and_settled_by_a_snapshot() -> None:
    lines, first, second = two_lines()
    frame = lines.venue.book()
    lines.queues[first].append(frame)
    lines.queues[second].append(frame.replace('"0.', '"0.8'))
    lines.deliver(first)
    lines.deliver(second, 1)
    assert lines.arbiter.counters["divergence_content"] == 1
    snapshots = sum(isinstance(e, BookSnapshot) for e in lines.out)
    lines.deliver(second)
    assert sum(isinstance(e, BookSnapshot) for e in lines.out) == snapshots + 1
    lines.settle()
    assert not lines.gaps()


def test_tickers_that_differ_in_one_push_are_told_and_the_lines_subscribed_anew_one_after_the_other() -> None:
    lines, first, second = two_lines()
    change = lines.venue._stamp(TICKER, frames.ticker(cs=lines.venue.cross + 1, fundingRate="0.0007"))
    lines.venue.cross += 1
    lines.queues[first].append(change)  # the other never hears of it
    lines.deliver(first)
    for turn in (first, second):
        lines.venue.time += 100
        lines.publish(lines.venue.ticker())
        lines.deliver(second)
        lines.deliver(first)
        assert lines.resyncs == [(turn, TICKER)]
        lines.resyncs.clear()
        snapshot = frames.ticker("snapshot", cs=lines.venue.quote, lastPrice="1.5", fundingRate="0.0007")
        lines.queues[turn].extend([lines.venue._stamp(TICKER, snapshot), None])
        lines.deliver(turn)
    assert lines.arbiter.counters["divergence_content"] >= 2
    assert "the lines do not agree" in lines.arbiter.take_notes()[0][1]
    told = lines.arbiter.counters["divergence_content"]
    for _ in range(3):
        lines.venue.time += 100
        lines.publish(lines.venue.ticker())
        lines.deliver_all()
    assert lines.resyncs == []
    assert lines.arbiter.counters["divergence_content"] == told
    assert all(e.funding_rate == 70_000 for e in lines.out[-3:] if isinstance(e, Ticker))


def test_books_that_differ_at_one_update_id_are_told() -> None:
    lines, _, second = two_lines()
    lines.arbiter.audit(lines.decoders)
    assert not lines.arbiter.counters["divergence_book"]
    book = lines.decoders[second].book(BOOK)
    assert book is not None
    book[1].remove(max(book[1]))
    lines.arbiter.audit(lines.decoders)
    assert lines.arbiter.counters["divergence_book"] == 1


def test_a_fresh_line_whose_first_book_differs_is_told_and_the_stream_set_right() -> None:
    lines, *_ = two_lines()
    lines.venue.bids[910] = 77  # what the two never heard of
    third = lines.connect()
    lines.deliver(third)
    assert lines.arbiter.counters["divergence_book"] == 1
    *_, last = lines.out
    assert isinstance(last, BookSnapshot)
    assert (91_000_000, 77 * 100_000_000) in last.bids
    lines.settle()
    assert not lines.gaps()
