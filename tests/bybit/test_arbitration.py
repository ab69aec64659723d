"""Several lines, one stream: what a reader of the stream may rely on, whatever happens to the lines."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.bybit import frames
from tests.bybit.frames import MS, T0
from wld.bybit import merging
from wld.bybit.arbitration import Arbiter
from wld.bybit.decoder import MarketDecoder
from wld.bybit.items import topic_of
from wld.events import BookDelta, BookSnapshot, Event, Gap, GapReason, Liquidation, Ticker, Trade
from wld.units import parse_fixed64

BOOK, TRADES, TICKER, LIQUIDATIONS = TOPICS = (
    "orderbook.50.WLDUSDT", "publicTrade.WLDUSDT", "tickers.WLDUSDT", "allLiquidation.WLDUSDT",
)  # fmt: skip
START = T0 * MS


class Venue:
    """What the exchange publishes: every line that is subscribed gets it, in order."""

    def __init__(self) -> None:
        self.update_id = 100
        self.cross = 1_000
        self.trades = 0
        self.quote = self.book_cross = self.cross
        self.time = 0
        self.bid = 910
        self.bids = {900: 5}
        self.published: dict[str, list[Any]] = {topic: [] for topic in TOPICS}

    def _stamp(self, topic: str, frame: str, **more: Any) -> str:
        body = json.loads(frame)
        body["ts"] = T0 + self.time
        body.update(more)
        return json.dumps(body)

    def book(self) -> str:
        self.update_id += 1
        self.cross += 3
        self.bid = 900 + (self.bid + 7) % 20
        self.bids[self.bid] = self.update_id
        self.book_cross = self.cross
        self.published[BOOK].append((self.update_id, self.cross))
        row = [(f"0.{self.bid}", str(self.update_id))]
        return self._stamp(BOOK, frames.book(self.update_id, row, sequence=self.cross))

    def whole_book(self) -> str:
        bids = [(f"0.{price}", str(size)) for price, size in sorted(self.bids.items(), reverse=True)]
        frame = frames.book(self.update_id, bids, [("1.1", "6")], kind="snapshot", sequence=self.book_cross)
        return self._stamp(BOOK, frame)

    def restart(self) -> str:
        self.update_id = 1
        self.cross += 3
        self.book_cross = self.cross
        self.published[BOOK].append((1, self.cross))
        return self.whole_book()

    def trade(self, count: int) -> str:
        items = []
        for _ in range(count):
            self.trades += 1
            self.cross += 1
            self.published[TRADES].append(frames.trade(self.trades)["i"])
            items.append(frames.trade(self.trades, seq=self.cross, T=T0 + self.time))
        return self._stamp(TRADES, frames.trades(*items))

    def ticker(self) -> str:
        self.cross += 1
        self.quote = self.cross
        self.published[TICKER].append(self.cross)
        frame = frames.ticker(cs=self.cross, lastPrice=f"1.{self.cross}")
        return self._stamp(TICKER, frame)

    def liquidations(self, count: int) -> str:
        item = {"T": T0 + self.time, "s": "WLDUSDT", "S": "Buy", "v": "43", "p": "0.11793"}
        self.published[LIQUIDATIONS] += [self.time] * count
        return self._stamp(LIQUIDATIONS, frames.liquidation(*[item] * count))

    def snapshots(self) -> list[str]:
        """What a new line is sent first."""
        return [
            self.whole_book(),
            self._stamp(TICKER, frames.ticker("snapshot", cs=self.quote, lastPrice=f"1.{self.quote}")),
        ]


class Lines:
    """Lines between a venue and an arbiter: a queue each; what is in it is delivered when the test says so.

    In a queue are frames, None for a confirmation, and a number for a pong: when its ping left. A line of `lags` is sent
    its frames so many ms late, but its pongs at once: as by a server of the venue that is behind the others.
    """

    def __init__(self, hold_s: float = 10.0) -> None:
        self.venue = Venue()
        self.arbiter = Arbiter(TOPICS, hold_s=hold_s)
        self.queues: dict[int, deque[str | int | None]] = {}
        self.lags: dict[int, int] = {}
        self.late: dict[int, deque[tuple[int, str]]] = {}
        self.decoders: dict[int, MarketDecoder] = {}
        self.out: list[Event] = []
        self.numbers = 0
        self.resyncs: list[tuple[int, str]] = []

    @property
    def now(self) -> int:
        return START + self.venue.time * MS

    def pass_time(self, ms: int) -> None:
        for _ in range(ms // 10):
            self.venue.time += 10
            for line in self.late:
                self._send_what_is_due(line)
        self.venue.time += ms % 10
        self.out += self.arbiter.tick(self.now)

    def _send_what_is_due(self, line: int) -> None:
        late = self.late.get(line)
        while late and late[0][0] <= self.venue.time:
            self.queues[line].append(late.popleft()[1])

    def ping(self, line: int) -> None:
        """Ask on a line; the venue answers at once."""
        self._send_what_is_due(line)
        self.queues[line].append(self.now)

    def probe(self) -> list[int]:
        """Ask where the arbiter wants to be answered, and deliver that."""
        asked = self.arbiter.take_probes()
        for line in asked:
            self.ping(line)
            self.deliver(line)
        return asked

    def connect(self, lag: int = 0) -> int:
        self.numbers += 1
        line = self.numbers
        self.decoders[line] = MarketDecoder()
        for topic in TOPICS:
            self.decoders[line].expect(topic)
        self.queues[line] = deque([*self.venue.snapshots(), None])
        if lag:
            self.lags[line], self.late[line] = lag, deque()
        self.arbiter.connected(line, self.now)
        return line

    def publish(self, frame: str, *, but: int | None = None) -> None:
        for line in self.queues:
            if line != but:
                self.send(line, frame)

    def send(self, line: int, frame: str) -> None:
        if line in self.lags:
            self.late[line].append((self.venue.time + self.lags[line], frame))
        else:
            self.queues[line].append(frame)

    def deliver(self, line: int, count: int | None = None) -> None:
        queue = self.queues[line]
        for _ in range(len(queue) if count is None else min(count, len(queue))):
            frame = queue.popleft()
            if frame is None:
                self.out += self.arbiter.subscribed(line, TOPICS, self.now)
            elif isinstance(frame, int):
                self.out += self.arbiter.answered(line, frame, self.now)
            else:
                self.out += self.arbiter.receive(line, self.decoders[line].decode(frame, self.now), self.now)
            for resync_line, topic in self.arbiter.take_resyncs():
                self.resyncs.append((resync_line, topic))
                if topic == BOOK and resync_line in self.queues:
                    self.queues[resync_line].extend(self.venue.snapshots()[:1])

    def deliver_all(self) -> None:
        for line in list(self.queues):
            self.deliver(line)

    def kill(self, line: int, reason: GapReason = GapReason.DISCONNECT) -> None:
        del self.queues[line], self.decoders[line]
        self.lags.pop(line, None)
        self.late.pop(line, None)
        self.out += self.arbiter.disconnected(line, reason, self.now)

    def settle(self) -> None:
        """Everything arrives, and enough is sent after it that each line is known to cover every topic."""
        self.deliver_all()
        for _ in range(3):
            self.pass_time(200)
            self.publish(self.venue.ticker())
            self.publish(self.venue.book())
            if self.late:
                self.pass_time(max(self.lags.values()))
            self.deliver_all()

    def gaps(self) -> list[Gap]:
        return [e for e in self.out if isinstance(e, Gap)]

    def names(self, topic: str) -> list[Any]:
        """The topic's output by what names each event; a Gap of the topic is None."""
        out: list[Any] = []
        for event in self.out:
            if isinstance(event, Gap):
                own = f"{event.topic}.{event.symbol}" if event.topic else None
                if own in (None, topic):
                    out.append(None)
            elif topic_of(event) == topic:
                out.append(_name(event))
        return out


def _name(event: Event) -> Any:
    if isinstance(event, Trade):
        return event.trade_id
    if isinstance(event, BookSnapshot | BookDelta):
        return event.update_id, event.sequence
    if isinstance(event, Ticker):
        return event.sequence
    assert isinstance(event, Liquidation)
    return event.event_time // MS - T0


def two_lines(hold_s: float = 10.0) -> tuple[Lines, int, int]:
    lines = Lines(hold_s)
    first, second = lines.connect(), lines.connect()
    lines.settle()
    return lines, first, second


def everything(lines: Lines) -> None:
    lines.venue.time += 1
    for frame in (
        lines.venue.book(), lines.venue.trade(2), lines.venue.ticker(), lines.venue.liquidations(2), lines.venue.book(),
    ):  # fmt: skip
        lines.publish(frame)


def complete(lines: Lines) -> bool:
    """Every topic came out whole, in order, once, without a Gap."""
    published = lines.venue.published
    first_book, first_ticker = lines.names(BOOK)[0], lines.names(TICKER)[0]
    return (
        lines.names(BOOK) == [first_book, *[u for u in published[BOOK] if u != first_book]]
        and lines.names(TRADES) == published[TRADES]
        and lines.names(LIQUIDATIONS) == published[LIQUIDATIONS]
        and list(dict.fromkeys(lines.names(TICKER))) == [first_ticker, *published[TICKER]]
        and not lines.gaps()
    )


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
    assert _name(snapshot) == lines.venue.published[BOOK][-1]


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


def test_a_trade_that_one_line_lost_without_knowing_comes_late_rather_than_never() -> None:
    lines, first, second = two_lines()
    lines.publish(lines.venue.trade(1), but=first)
    lines.publish(lines.venue.trade(1))
    lines.deliver(first)
    lines.deliver(second)
    assert sorted(lines.names(TRADES)) == lines.venue.published[TRADES]
    assert lines.arbiter.counters["divergence_alone"] == 1


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


def told(lines: Lines) -> list[Any]:
    """The trades by number, and Gaps, in order."""
    return ["gap" if isinstance(e, Gap) else int(e.trade_id[-12:], 16) for e in lines.out if isinstance(e, Trade | Gap)]


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


@pytest.mark.parametrize("kind", ["one line", "several"])
def test_what_rest_brought_of_a_topic_that_is_refused_meanwhile_is_known(kind: str) -> None:
    memory = Arbiter([TRADES]) if kind == "several" else MarketDecoder()
    if isinstance(memory, MarketDecoder):
        memory.expect(TRADES)
        memory.forget(TRADES)
    else:
        memory.remove_topics([TRADES])
    memory.add_trade(TRADES, "a", START)
    assert memory.knows_trade(TRADES, "a")


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


def garbage_in_place_of_a_trade(lines: Lines, line: int) -> None:
    lines.venue.time += 7
    lines.publish(lines.venue.trade(1), but=line)
    lines.send(line, "{garbage")


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


class AnyFate(RuleBasedStateMachine):
    """Whatever happens to up to three lines: nothing twice, nothing out of order, nothing missing without a Gap."""

    careful = False

    def __init__(self) -> None:
        super().__init__()
        self.lines = Lines(hold_s=3)
        self.is_impaired = False

    @initialize()
    def begin(self) -> None:
        self.lines.connect()
        self.lines.settle()

    def pick(self, which: int) -> int | None:
        numbers = sorted(self.lines.queues)
        return numbers[which % len(numbers)] if numbers else None

    @rule(kind=st.sampled_from(["book", "trade", "ticker", "liquidations", "restart"]), count=st.integers(1, 3))
    def publish(self, kind: str, count: int) -> None:
        lines = self.lines
        lines.venue.time += 7
        if kind in ("trade", "liquidations"):
            lines.publish(getattr(lines.venue, kind)(count))
        else:
            lines.publish(getattr(lines.venue, kind)())

    @rule(which=st.integers(0, 2), count=st.integers(1, 6))
    def deliver(self, which: int, count: int) -> None:
        line = self.pick(which)
        if line is not None:
            self.lines.deliver(line, count)

    @rule(ms=st.sampled_from([10, 300]))
    def pass_time(self, ms: int) -> None:
        self.lines.pass_time(ms)

    @rule(which=st.integers(0, 2))
    def ping(self, which: int) -> None:
        line = self.pick(which)
        if line is not None:
            self.lines.ping(line)

    @precondition(lambda self: len(self.lines.queues) < 3)
    @rule(lag=st.sampled_from([0, 0, 100, 240]))
    def connect(self, lag: int) -> None:
        self.lines.connect(lag)

    @rule(which=st.integers(0, 2))
    def kill(self, which: int) -> None:
        line = self.pick(which)
        if self.careful and self.is_impaired:
            self.lines.settle()
            self.is_impaired = False
        if line is not None and (not self.careful or self.lines.arbiter.covers_without(line)):
            self.lines.kill(line)

    @precondition(lambda self: not self.careful)
    @rule(which=st.integers(0, 2))
    def garbage_in_place_of_a_trade(self, which: int) -> None:
        line = self.pick(which)
        self.lines.venue.time += 7
        if line is not None:
            self.lines.publish(self.lines.venue.trade(1), but=line)
            self.lines.send(line, "{garbage")

    @rule(which=st.integers(0, 2))
    def skip(self, which: int) -> None:
        line = self.pick(which)
        self.lines.venue.time += 7
        if self.careful and self.is_impaired:
            self.lines.settle()
        if line is not None and (not self.careful or self.lines.arbiter.covers_without(line)):
            self.is_impaired = True
            self.lines.publish(self.lines.venue.book(), but=line)
            self.lines.publish(self.lines.venue.book())

    @invariant()
    def nothing_goes_backwards(self) -> None:
        times = [e.receive_time for e in self.lines.out]
        assert times == sorted(times)

    def teardown(self) -> None:
        lines = self.lines
        if not lines.queues:
            lines.connect()
        lines.settle()
        lines.pass_time(4_000)
        lines.settle()
        lines.out += lines.arbiter.finish(lines.now)
        for topic in TOPICS:
            accounted(lines.venue.published[topic], lines.names(topic), is_book=topic == BOOK)
        if self.careful:
            assert not lines.gaps()
            if not lines.arbiter.counters["late"]:
                assert complete(lines), [(lines.venue.published[t], lines.names(t)) for t in TOPICS]


def accounted(published: list[Any], names: list[Any], *, is_book: bool) -> None:
    """The output is the published sequence, runs of it replaced by Gaps and by nothing else.

    What lies in a Gap may come after it all the same, once: another line had it.
    """
    at = 0
    has_gap = False
    begun = False
    in_gap: list[Any] = []
    known = set(published)
    for name in names:
        if name is None:
            has_gap = True
            continue
        if name not in known or (begun and at and published[at - 1] == name and name not in published[at:]):
            continue  # a snapshot of what was published before the recording, or of what was the last
        if name in in_gap and not is_book:
            in_gap.remove(name)
            continue
        place = published.index(name, at)
        assert place == at or has_gap or not begun, (published[at : place + 1], names)
        in_gap += published[at:place]
        at = place + 1
        has_gap = False
        begun = True
    assert at == len(published) or has_gap or not begun, (published[at:], names)


class CarefulFate(AnyFate):
    """As long as a line that covers everything is left, nothing is missing and nothing is called missing."""

    careful = True


class CrowdedFate(AnyFate):
    """The same with so many topics held that they are not all looked at after each message."""

    def __init__(self) -> None:
        super().__init__()
        self.few, merging.FEW_HOLD = merging.FEW_HOLD, 0

    def teardown(self) -> None:
        merging.FEW_HOLD = self.few
        super().teardown()


AnyFateTest = AnyFate.TestCase
AnyFateTest.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
CarefulFateTest = CarefulFate.TestCase
CarefulFateTest.settings = AnyFateTest.settings
CrowdedFateTest = CrowdedFate.TestCase
CrowdedFateTest.settings = AnyFateTest.settings


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
