"""Several lines, one stream: what a reader of it may rely on while lines open, stall, lose something and end."""

from __future__ import annotations

from collections import deque

import pytest

from tests.bybit import frames
from tests.bybit.frames import MS, T0
from tests.bybit.several import (
    BOOK,
    LIQUIDATIONS,
    START,
    TICKER,
    TRADES,
    Lines,
    accounted,
    complete,
    everything,
    garbage_in_place_of_a_trade,
    name_of,
    told,
    two_lines,
)
from wld.bybit.arbitration import Arbiter
from wld.bybit.decoder import MarketDecoder
from wld.events import BookSnapshot, Gap, GapReason, Liquidation


def test_two_healthy_lines_say_everything_once() -> None:
    lines, first, second = two_lines()
    for _ in range(3):
        everything(lines)
        lines.deliver(second)
        lines.deliver(first)
    assert complete(lines)
    assert lines.arbiter.counters["duplicate"] > 0


def test_identical_liquidations_of_one_message_are_all_kept_and_none_is_doubled() -> None:
    lines, first, second = two_lines()
    lines.publish(lines.venue.liquidations(3))
    lines.deliver(first)
    lines.deliver(second)
    assert len(lines.names(LIQUIDATIONS)) == 3


@pytest.mark.parametrize("victim", [0, 1])
def test_a_line_that_is_killed_costs_nothing(victim: int) -> None:
    lines, *both = two_lines()
    everything(lines)
    lines.deliver(both[1 - victim], 2)
    lines.kill(both[victim])
    everything(lines)
    lines.deliver_all()
    lines.connect()
    lines.settle()
    everything(lines)
    lines.deliver_all()
    assert complete(lines)


def test_a_line_that_stalls_costs_nothing_and_is_caught_up_with_silently() -> None:
    lines, first, second = two_lines()
    for _ in range(50):
        everything(lines)
        lines.deliver(first)
        lines.pass_time(500)
    lines.deliver(second)
    everything(lines)
    lines.deliver(second)
    lines.deliver(first)
    assert complete(lines)


def test_a_line_that_skips_an_update_is_filled_by_the_other() -> None:
    lines, first, second = two_lines()
    lines.publish(lines.venue.book(), but=first)
    lines.publish(lines.venue.book())
    lines.deliver(first)
    lines.deliver(second)
    lines.settle()
    assert complete(lines)


def test_both_down_at_once_is_one_exact_gap() -> None:
    lines, first, second = two_lines()
    everything(lines)
    lines.deliver_all()
    last = lines.out[-1].receive_time
    lines.pass_time(100)
    lines.kill(first)
    lines.kill(second)
    lines.pass_time(900)
    everything(lines)
    lines.connect()
    lines.pass_time(50)
    lines.connect()
    lines.settle()
    everything(lines)
    lines.deliver_all()
    (gap,) = lines.gaps()
    assert (gap.reason, gap.topic, gap.symbol, gap.missed) == (GapReason.DISCONNECT, None, None, None)
    assert (gap.first_time, gap.last_time) == (last, last + 1051 * MS)
    at = lines.out.index(gap)
    assert isinstance(lines.out[at + 1], BookSnapshot)


def test_what_a_line_has_held_for_a_second_goes_out_at_the_end_behind_a_gap() -> None:
    lines, _, second = two_lines()
    lines.kill(second)
    for _ in range(2):
        lines.venue.book()  # the first line is not sent them: the venue forgot the topic there
    lines.deliver(lines.connect())
    lines.pass_time(900)
    assert lines.arbiter.finish(lines.now) == []  # it may be about to bring them
    lines.pass_time(100)
    gap, snapshot = lines.arbiter.finish(lines.now)
    assert isinstance(gap, Gap)
    assert (gap.topic, gap.missed) == ("orderbook.50", 1)
    assert isinstance(snapshot, BookSnapshot)
    assert name_of(snapshot) == lines.venue.published[BOOK][-1]


def test_the_last_line_left_that_never_comes_back_is_a_gap_at_the_end() -> None:
    lines, first, second = two_lines()
    lines.kill(first)
    lines.kill(second)
    (gap,) = lines.arbiter.finish(lines.now)
    assert isinstance(gap, Gap)
    assert gap.last_time is None


def test_a_fresh_line_ahead_of_a_stalled_one_waits_for_it() -> None:
    lines, first, second = two_lines()
    for _ in range(5):
        everything(lines)
    lines.kill(second)
    third = lines.connect()
    lines.deliver(third)
    everything(lines)
    lines.deliver(third)
    assert not lines.gaps()
    lines.deliver(first)
    lines.settle()
    everything(lines)
    lines.deliver_all()
    assert complete(lines)


def test_a_fresh_line_waits_for_a_stalled_one_no_longer_than_told() -> None:
    lines, first, second = two_lines(hold_s=5)
    for _ in range(5):
        everything(lines)
    lines.kill(second)
    third = lines.connect()
    lines.deliver(third)
    lines.pass_time(4_900)
    assert not lines.gaps()
    lines.pass_time(200)
    assert len(lines.gaps()) == 1
    everything(lines)
    lines.deliver(first)  # what it brings now lies inside the Gap, or came already
    lines.deliver(third)
    lines.settle()
    assert len(lines.gaps()) == 1
    trades = lines.names(TRADES)
    assert sorted(t for t in trades if t) == [t for t in trades if t]


def test_a_restart_of_the_venues_book_comes_through_once() -> None:
    lines, first, second = two_lines()
    everything(lines)
    lines.publish(lines.venue.restart())
    everything(lines)
    lines.deliver(first)
    lines.deliver(second)
    everything(lines)
    lines.deliver(second)
    lines.deliver(first)
    assert complete(lines)
    assert sum(isinstance(e, BookSnapshot) for e in lines.out) == 2


def test_a_snapshot_in_mid_stream_comes_through_once_and_is_no_gap() -> None:
    lines, first, second = two_lines()
    venue = lines.venue
    venue.update_id += 40
    venue.published[BOOK].append((venue.update_id, venue.book_cross))
    lines.publish(venue.snapshots()[0])
    lines.publish(venue.book())
    lines.deliver(second)
    lines.deliver(first)
    assert complete(lines)


def test_garbage_on_one_line_is_no_gap() -> None:
    lines, first, second = two_lines()
    for _ in range(3):
        everything(lines)
        lines.queues[first].append("{garbage")
        everything(lines)
        lines.deliver(first)
        lines.deliver(second)
    lines.settle()
    everything(lines)
    lines.deliver_all()
    assert complete(lines)


def test_garbage_on_the_only_line_is_one_gap_in_its_place() -> None:
    lines = Lines()
    line = lines.connect()
    everything(lines)
    lines.queues[line].append("{garbage")
    everything(lines)
    lines.deliver_all()
    (gap,) = lines.gaps()
    assert (gap.reason, gap.topic) == (GapReason.UNDECODABLE, None)


def test_both_lines_losing_the_same_update_is_one_gap_with_its_count() -> None:
    lines, first, second = two_lines()
    venue = lines.venue
    venue.update_id += 2  # lost at the venue: no line ever gets them
    lines.publish(venue.book())
    lines.publish(venue.book())
    lines.deliver_all()
    assert lines.gaps() == []
    for line in (first, second):
        lines.queues[line].append(venue.snapshots()[0])
    lines.deliver_all()
    (gap,) = lines.gaps()
    assert (gap.reason, gap.topic, gap.missed) == (GapReason.UPDATE_ID, "orderbook.50", 3)


def test_an_update_lost_on_the_last_line_left_is_a_gap_of_that_topic_only() -> None:
    lines, first, second = two_lines()
    lines.kill(second)
    lines.publish(lines.venue.book(), but=first)
    everything(lines)
    lines.deliver(first)
    lines.queues[first].append(lines.venue.snapshots()[0])
    lines.deliver(first)
    (gap,) = lines.gaps()
    assert (gap.topic, gap.missed) == ("orderbook.50", 2)  # the third came with the snapshot that mends it


def test_a_topic_refused_on_every_line_is_one_gap() -> None:
    lines = Lines()
    gap = Gap(1, GapReason.REJECTED_TOPIC, "tickers", "WLDUSDT")
    for _ in range(2):
        line = lines.connect()
        lines.out += lines.arbiter.receive(line, [gap], lines.now)
    assert [g.reason for g in lines.gaps()] == [GapReason.REJECTED_TOPIC]


def test_nothing_rotates_while_it_would_leave_a_topic_bare() -> None:
    lines = Lines()
    first = lines.connect()
    lines.settle()
    assert not lines.arbiter.covers_without(first)
    second = lines.connect()
    assert not lines.arbiter.covers_without(first)
    lines.settle()
    everything(lines)
    lines.deliver_all()
    assert lines.arbiter.covers_without(first)
    assert lines.arbiter.covers_without(second)


def reopened(lines: Lines) -> tuple[int, int]:
    """Both lines ended; two new ones, of which the later one begins 3 s after the other."""
    one, two = lines.connect(), lines.connect()
    lines.publish(lines.venue.trade(1))
    lines.settle()
    lines.kill(one)
    lines.kill(two)
    lines.publish(lines.venue.trade(1))
    lines.pass_time(1_000)
    earlier = lines.connect()
    lines.queues[earlier].remove(None)  # it is confirmed late
    lines.pass_time(1_000)
    lines.publish(lines.venue.trade(1))  # 3
    lines.queues[earlier].append(None)
    lines.pass_time(1_000)
    lines.publish(lines.venue.trade(1))  # 4
    lines.pass_time(1_000)
    later = lines.connect()
    lines.publish(lines.venue.book())
    lines.pass_time(1_000)
    lines.publish(lines.venue.trade(1))  # 5
    return earlier, later


def test_a_line_that_leads_by_its_confirmation_waits_for_one_that_began_before_it() -> None:
    lines = Lines()
    earlier, later = reopened(lines)
    lines.deliver(earlier, 1)  # ends the hole
    lines.deliver(later, 4)  # confirmed first, and far ahead
    lines.deliver(earlier, 2)  # brings 3
    assert told(lines)[-1] == 3
    lines.deliver(later)  # 5 waits
    assert told(lines)[-1] == 3
    lines.deliver(earlier)
    lines.settle()
    assert told(lines) == [1, "gap", 3, 4, 5]
    assert lines.arbiter.counters["divergence_alone"] == 0


def test_what_an_earlier_line_brings_behind_the_first_of_a_later_one_lies_in_the_hole() -> None:
    lines = Lines()
    earlier, later = reopened(lines)
    lines.deliver(earlier, 1)
    lines.deliver(later)  # 5 goes out: nobody has shown anything older
    lines.deliver(earlier)
    lines.settle()
    assert told(lines) == [1, "gap", 5]
    assert lines.arbiter.counters["divergence_alone"] == 0


def test_a_recording_begins_with_what_came_first() -> None:
    lines = Lines()
    earlier = lines.connect()
    lines.publish(lines.venue.trade(1))
    lines.pass_time(1_000)
    later = lines.connect()
    lines.publish(lines.venue.trade(1))
    lines.deliver(later)
    lines.deliver(earlier)
    lines.settle()
    assert told(lines) == [2]


def test_a_gap_of_a_quiet_topic_begins_where_the_one_before_it_ended() -> None:
    lines = Lines()
    line = lines.connect()
    lines.settle()
    for _ in range(2):
        other = lines.connect()
        lines.deliver(other)  # confirmed, and nothing shows yet that the first was as far by then
        lines.pass_time(2_000)
        lines.publish(lines.venue.book(), but=line)
        lines.deliver(other)
        lines.kill(line)
        lines.settle()
        line = other
    first, second = (gap for gap in lines.gaps() if gap.topic == "allLiquidation")
    assert first.last_time == second.first_time


def test_of_two_liquidation_messages_of_one_millisecond_behind_a_gap_each_lost_on_a_line_both_are_kept() -> None:
    """Messages of one time are legal, and which of them was sent first, nobody can say."""
    lines, first, second = two_lines()
    lines.publish(lines.venue.liquidations(1))
    lines.deliver_all()
    lines.kill(first)
    lines.kill(second)
    lines.pass_time(1_000)
    one, other = lines.connect(), lines.connect()
    lines.publish(lines.venue.book())
    lines.venue.time += 500
    lines.publish(lines.venue.liquidations(2), but=other)
    item = {"T": T0 + lines.venue.time, "s": "WLDUSDT", "S": "Sell", "v": "1", "p": "0.2"}
    lines.publish(lines.venue._stamp(LIQUIDATIONS, frames.liquidation(item)), but=one)
    lines.deliver(one)
    lines.deliver(other)
    sides = [e.position_side.value for e in lines.out if isinstance(e, Liquidation)]
    assert sides == ["long", "long", "long", "short"]
    lines.send(one, lines.venue._stamp(LIQUIDATIONS, frames.liquidation(item)))
    lines.deliver(one)  # late, and once
    assert len([e for e in lines.out if isinstance(e, Liquidation)]) == 4


@pytest.mark.parametrize("kind", ["one line", "several"])
def test_what_rest_brought_of_a_topic_that_is_refused_meanwhile_is_known(kind: str) -> None:
    memory = Arbiter([TRADES]) if kind == "several" else MarketDecoder()
    if isinstance(memory, MarketDecoder):
        memory.expect(TRADES)
        memory.forget(TRADES)
    else:
        memory.remove_topics([TRADES])
    memory.add_trade(TRADES, "a", START)
    assert memory.known_trades(TRADES, ["a", "b"]) == {"a"}


def test_the_trades_that_went_out_are_counted() -> None:
    lines, first, _ = two_lines()
    for _ in range(50):
        lines.publish(lines.venue.trade(60))
        lines.deliver_all()
    assert lines.arbiter.trades_so_far(TRADES) == lines.decoders[first].trades_so_far(TRADES) == 3_000


def test_rubbish_on_the_only_line_is_one_gap_and_its_trades_are_asked_for() -> None:
    lines = Lines()
    lines.arbiter.holes = []
    line = lines.connect()
    everything(lines)
    lines.queues[line].extend(["{garbage"] * 50)
    everything(lines)
    lines.queues[line].extend(["{garbage"] * 50)
    lines.deliver_all()
    assert [(g.reason, g.topic) for g in lines.gaps()] == [(GapReason.UNDECODABLE, None)] * 2
    assert [list(hole.last_trades) for hole in lines.arbiter.holes] == [[TRADES]] * 2


def test_a_slower_line_that_brings_what_was_sent_since_the_recording_began_is_told() -> None:
    lines = Lines()
    slower = lines.connect()
    lines.pass_time(100)
    quicker = lines.connect()
    lines.deliver(quicker, 1)  # the book: the recording begins
    begun = lines.now
    lines.pass_time(50)
    for _ in range(2):
        lines.publish(lines.venue.ticker(), but=quicker)
        lines.pass_time(50)
    lines.queues[quicker][0] = lines.venue.snapshots()[1]
    lines.deliver(quicker)
    lines.deliver(slower)
    (gap,) = lines.gaps()
    assert (gap.reason, gap.topic, gap.first_time, gap.last_time) == (GapReason.SILENCE, "tickers", begun, lines.now)
    everything(lines)
    lines.deliver_all()
    assert len(lines.gaps()) == 1


def lost_with_two_late_lines_to_follow() -> tuple[Lines, int, int, int]:
    """No line has brought anything since all were lost; the first and the last are sent what is published 100 ms late."""
    lines = Lines()
    lost = lines.connect()
    lines.settle()
    first = lines.connect(lag=100)
    lines.kill(lost)
    return lines, first, lines.connect(), lines.connect(lag=100)


def test_a_line_that_lost_its_place_brings_what_the_one_that_went_on_behind_a_gap_loses_later() -> None:
    """Each of two lines loses another trade, and a third line's snapshot has shown a later time before."""
    lines, first, prompt, second = lost_with_two_late_lines_to_follow()
    for line in (first, prompt, second):
        garbage_in_place_of_a_trade(lines, line)
    lines.kill(prompt)
    lines.connect()
    lines.venue.time += 7
    lines.publish(lines.venue.book(), but=first)
    lines.publish(lines.venue.book())
    lines.settle()
    assert lines.names(TRADES) == [None, None, *lines.venue.published[TRADES]]


def test_a_trade_between_two_after_a_gap_is_not_taken_for_one_inside_it() -> None:
    lines, first, prompt, _ = lost_with_two_late_lines_to_follow()
    for line in (first, prompt, prompt, prompt):
        garbage_in_place_of_a_trade(lines, line)
    lines.kill(prompt)
    lines.connect()
    lines.settle()
    assert lines.names(TRADES) == [None, None, *lines.venue.published[TRADES]]


def test_rubbish_on_a_line_that_is_behind_what_a_lost_one_brought_lets_nothing_go_out_twice() -> None:
    lines, first, second = two_lines()
    lines.kill(first)
    lines.kill(second)
    behind, quick = lines.connect(), lines.connect()
    garbage_in_place_of_a_trade(lines, behind)
    for frame in (lines.venue.ticker(), lines.venue.ticker(), lines.venue.liquidations(1)):
        lines.venue.time += 7
        lines.publish(frame)
    lines.deliver(quick)
    lines.kill(quick)
    lines.settle()
    published = lines.venue.published
    assert lines.names(LIQUIDATIONS).count(published[LIQUIDATIONS][0]) == 1
    accounted(published[TICKER], lines.names(TICKER), is_book=False)
    assert [name for name in lines.names(TRADES) if name] == published[TRADES]


@pytest.mark.parametrize(("begins_at", "is_told"), [(100, True), (5_000_000, False)])
def test_an_update_id_proves_nothing_where_the_book_may_have_restarted_and_come_so_far(
    begins_at: int, is_told: bool
) -> None:
    lines = Lines()
    lines.venue.update_id = begins_at
    first = lines.connect()
    lines.settle()
    second = lines.connect()
    lines.queues[second] = deque([None])  # confirmed; the book's snapshot is still to come
    lines.deliver(second)
    everything(lines)
    lines.pass_time(500)
    lines.ping(first)
    lines.deliver_all()
    lines.kill(first)
    lines.pass_time(5_000)
    lines.venue.book()  # one update, or as many as there were before, from 1 on
    lines.queues[second].append(lines.venue.whole_book())
    lines.deliver(second)
    assert [(g.reason, g.topic, g.missed) for g in lines.gaps() if g.topic == "orderbook.50"] == (
        [(GapReason.DISCONNECT, "orderbook.50", None)] if is_told else []
    )
