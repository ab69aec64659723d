"""The 18 traps of the venue's protocol, each by a test named after it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.bybit import frames
from tests.bybit.frames import MS, S
from wld.bybit.backoff import Backoff, ConnectionBudget, RequestGate
from wld.bybit.decoder import MarketDecoder
from wld.bybit.protocol import BybitProtocol
from wld.bybit.rest import BybitRest, to_instrument, to_margin_tier
from wld.bybit.subscriptions import ProtocolConfig, split_topics, topics_for
from wld.bybit.websocket import BinaryMessage
from wld.errors import FatalSourceError, RetryableSourceError
from wld.events import (
    BookDelta,
    BookSnapshot,
    Event,
    Gap,
    GapReason,
    Liquidation,
    PositionSide,
    Ticker,
    Trade,
)
from wld.ring import Ring
from wld.status import Status
from wld.units import parse_fixed

TOPICS = ("orderbook.50.WLDUSDT", "publicTrade.WLDUSDT", "tickers.WLDUSDT", "allLiquidation.WLDUSDT")


def decoder(*topics: str) -> MarketDecoder:
    market = MarketDecoder()
    for topic in topics or TOPICS:
        market.expect(topic)
    return market


def decode(market: MarketDecoder, *sent: str | bytes) -> list[Event]:
    return [event for i, frame in enumerate(sent) for event in market.decode(frame, (i + 1) * S)]


def args(request: str) -> list[str]:
    taken: list[str] = json.loads(request)["args"]
    return taken


def opened(*topics: str, **config: Any) -> tuple[BybitProtocol, list[str]]:
    protocol = BybitProtocol(topics or TOPICS, ProtocolConfig(**config))
    return protocol, protocol.open(0)


# 1
def test_trap_01_one_bad_topic_rejects_the_whole_request_and_the_rest_is_subscribed_again() -> None:
    protocol, (request,) = opened()
    events = protocol.receive(frames.refusal(request, "error:handler not found,topic:allLiquidation.WLDUSDT"), 1 * S)
    assert [e.reason for e in events if isinstance(e, Gap)] == [GapReason.REJECTED_TOPIC]
    assert isinstance(events[0], Gap)
    assert (events[0].topic, events[0].symbol) == ("allLiquidation", "WLDUSDT")
    (again,) = protocol.tick(1 * S)
    assert args(again) == list(TOPICS[:3])


def test_trap_01_an_acknowledged_topic_without_data_is_subscribed_again_then_the_connection_given_up() -> None:
    protocol, (request,) = opened("orderbook.50.WLDUSDT", first_data_timeout=10, attempts=2)
    protocol.receive(frames.ack(request), 1 * S)
    assert protocol.tick(10 * S) == []
    unsubscribe, again = protocol.tick(11 * S)
    assert json.loads(unsubscribe)["op"] == "unsubscribe"
    protocol.receive(frames.ack(again), 12 * S)
    with pytest.raises(RetryableSourceError, match="no data came"):
        protocol.tick(22 * S)


def test_trap_01_a_refused_topic_is_asked_for_again_ever_more_rarely_with_one_gap_and_one_note() -> None:
    protocol, (request,) = opened("orderbook.50.WLDUSDT", "publicTrade.WLDUSDT")
    protocol.receive(frames.snapshot(10), 1 * S)
    refusal = "error:handler not found,topic:orderbook.50.WLDUSDT"
    assert len(protocol.receive(frames.refusal(request, refusal), 1 * S)) == 1
    protocol.receive(frames.ack(protocol.tick(1 * S)[0]), 1 * S)
    now, waits = 1, []
    while len(waits) < 4:
        asked = [r for r in protocol.tick(now * S) if args(r) == ["orderbook.50.WLDUSDT"]]
        if asked:
            waits.append(now)
            assert protocol.receive(frames.refusal(asked[0], refusal), now * S) == []
        now += 1
    assert waits == [6, 16, 36, 76]
    assert [kind for kind, _ in protocol.take_notes()].count("rejected_topic") == 1
    (asked_at_last,) = [r for r in protocol.tick(156 * S) if args(r) == ["orderbook.50.WLDUSDT"]]
    protocol.receive(frames.ack(asked_at_last), 157 * S)
    assert [type(e) for e in protocol.receive(frames.snapshot(90), 158 * S)] == [BookSnapshot]
    assert "orderbook.50.WLDUSDT" in protocol.topics


def test_every_topic_refused_at_the_start_is_fatal() -> None:
    protocol, (request,) = opened("tickers.NOPEUSDT")
    with pytest.raises(FatalSourceError, match=r"tickers\.NOPEUSDT"):
        protocol.receive(frames.refusal(request, "error:handler not found,topic:tickers.NOPEUSDT"), 1 * S)


@pytest.mark.parametrize(
    "text", ["Too many visits!", "error:request too frequent", "exceeds the API rate limit (10006)"]
)
def test_a_request_refused_for_the_rate_of_requests_is_sent_again_as_it_was_and_ever_later(text: str) -> None:
    protocol, (request,) = opened()
    at = 0.0
    for wait in (1, 2, 4):
        assert protocol.receive(frames.refusal(request, text), int(at * S)) == []
        assert protocol.tick(int((at + wait - 0.1) * S)) == []
        at += wait
        (again,) = protocol.tick(int(at * S))
        assert args(again) == args(request)
        request = again
    protocol.receive(frames.ack(request), int(at * S))
    assert protocol.take_confirmed() == list(TOPICS)


# 2
def test_trap_02_already_subscribed_counts_as_success_and_the_rest_is_sent_again() -> None:
    protocol, (request,) = opened()
    events = protocol.receive(frames.refusal(request, "error:already subscribed,topic:tickers.WLDUSDT"), 1 * S)
    assert events == []
    (again,) = protocol.tick(1 * S)
    assert args(again) == [t for t in TOPICS if t != "tickers.WLDUSDT"]
    assert "tickers.WLDUSDT" in protocol.topics


# 3
def test_trap_03_an_ack_confirms_its_own_request_only() -> None:
    protocol, (first, second) = opened(subscribe_batch=2, answer_timeout=5)
    protocol.receive(frames.ack(second), 1 * S)
    again = protocol.tick(5 * S)
    assert [args(r) for r in again] == [args(first)]


# 4
@pytest.mark.parametrize(
    "pong",
    [
        '{"success":true,"ret_msg":"pong","conn_id":"c","req_id":"","op":"ping"}',
        '{"success":true,"ret_msg":"pong","conn_id":"c","req_id":"p1","op":"ping"}',
        '{"args":["1672916271846"],"op":"pong"}',
    ],
)
def test_trap_04_a_pong_is_neither_data_nor_an_ack(pong: str) -> None:
    protocol, (request,) = opened(answer_timeout=5)
    assert protocol.receive(pong, 1 * S) == []
    assert [args(r) for r in protocol.tick(5 * S)] == [args(request)]
    assert protocol.take_notes()[0][0] == "unanswered"


# 5
def test_trap_05_a_new_connection_subscribes_everything_again_and_shows_one_gap() -> None:
    protocol, before = opened()
    protocol.receive(frames.snapshot(10), 1 * S)
    protocol.lost(GapReason.DISCONNECT)
    assert [args(r) for r in protocol.open(5 * S)] == [args(r) for r in before]
    events = protocol.receive(frames.snapshot(90), 6 * S)
    assert isinstance(events[0], Gap)
    assert (events[0].reason, events[0].topic, events[0].symbol) == (GapReason.DISCONNECT, None, None)
    assert (events[0].first_time, events[0].last_time) == (1 * S, 6 * S)
    assert isinstance(events[1], BookSnapshot)
    assert not any(isinstance(e, Gap) for e in protocol.receive(frames.book(91), 7 * S))


def test_trap_05_a_connection_that_never_comes_back_is_a_gap_at_the_end() -> None:
    protocol, _ = opened()
    protocol.receive(frames.snapshot(10), 1 * S)
    protocol.lost(GapReason.DISCONNECT)
    (gap,) = protocol.decoder.finish(9 * S)
    assert isinstance(gap, Gap)
    assert (gap.first_time, gap.last_time) == (1 * S, None)


# 6
def test_trap_06_subscribes_go_in_small_requests() -> None:
    topics = topics_for([f"S{i}USDT" for i in range(12)], ("orderbook", "publicTrade"), 50)
    protocol = BybitProtocol(topics)
    sizes = [len(args(r)) for r in protocol.open(0)]
    assert sizes == [10, 10, 4]


def test_trap_06_too_many_args_is_answered_with_half_as_many() -> None:
    protocol, (request,) = opened()
    answer = json.dumps({"success": False, "ret_msg": "args size >10", "conn_id": "c", "op": "subscribe"})
    protocol.receive(answer, 1 * S)
    assert [len(args(r)) for r in protocol.tick(1 * S)] == [2, 2]
    assert len(args(request)) == 4


def test_trap_06_one_connection_carries_at_most_21000_characters_of_topics() -> None:
    topics = topics_for([f"SYMBOL{i}USDT" for i in range(600)], ("orderbook", "publicTrade", "tickers"), 50)
    groups = split_topics(topics)
    assert [t for g in groups for t in g] == topics
    assert max(len(json.dumps(g, separators=(",", ":"))) for g in groups) <= 21_000


# 7
def test_trap_07_a_ticker_delta_changes_only_what_it_carries() -> None:
    market = decoder()
    full, part = decode(
        market,
        frames.ticker("snapshot", lastPrice="1.03", openInterest="100.5", fundingRate="0.0001"),
        frames.ticker(lastPrice="1.04"),
    )
    assert isinstance(full, Ticker)
    assert isinstance(part, Ticker)
    assert (part.last_price, part.open_interest, part.funding_rate) == (104_000_000, 10_050_000_000, 10_000)
    assert part.mark_price is None


def test_trap_07_a_ticker_message_that_is_delivered_twice_is_recorded_once() -> None:
    market = decoder()
    snapshot = frames.ticker("snapshot", cs=4, lastPrice="1.03")
    same, other = frames.ticker(cs=5, lastPrice="1.04"), frames.ticker(cs=5, markPrice="1.04")
    assert [len(decode(market, frame)) for frame in (snapshot, snapshot, same, same, other, other)] == [
        1,
        0,
        1,
        0,
        1,
        0,
    ]
    assert market.counters["duplicate_ticker"] == 3


def _tickers(count: int) -> list[str]:
    changes = (frames.ticker(cs=5 + i, ts=frames.T0 + 100 * i, lastPrice=f"1.{i:03}") for i in range(1, count))
    return [frames.ticker("snapshot", markPrice="1"), *changes]


@pytest.mark.parametrize("count", [4, 200])
def test_a_ticker_that_comes_again_behind_later_ones_is_recorded_once_and_turns_nothing_back(count: int) -> None:
    market, sent = decoder(), _tickers(count)
    assert len(decode(market, *sent)) == count
    assert decode(market, *sent[1:-1]) == []
    (last,) = decode(market, frames.ticker(cs=900, ts=frames.T0 + 90_000, fundingRate="0.0001"))
    assert isinstance(last, Ticker)
    assert last.last_price == parse_fixed(f"1.{count - 1:03}")


def test_a_replay_on_a_new_connection_brings_no_old_ticker_back() -> None:
    market, sent = decoder(), _tickers(5)
    decode(market, *sent)
    market.connection_lost(GapReason.DISCONNECT)
    decode(market, frames.ticker("snapshot", cs=90, ts=frames.T0 + 9_000, lastPrice="2"))
    assert decode(market, *sent[1:]) == []


def test_a_ticker_that_comes_late_and_for_the_first_time_is_a_gap_and_its_topic_is_asked_for_again() -> None:
    market, sent = decoder(), _tickers(5)
    *_, gap, last = decode(market, *sent[:2], sent[3], sent[2], sent[4])
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.topic, gap.missed) == (GapReason.UPDATE_ID, "tickers", 1)
    assert (gap.first_time, gap.last_time) == (2 * S, 4 * S)  # from the ticker before it on
    assert isinstance(last, Ticker)
    assert market.take_resyncs() == [("tickers.WLDUSDT", GapReason.UPDATE_ID)]


def test_tickers_whose_push_time_jumps_back_are_not_late() -> None:
    market = decoder()
    sent = [frames.ticker("snapshot"), *(frames.ticker(cs=6 + i, ts=frames.T0 - 60_000 + i) for i in range(3))]
    assert [type(e) for e in decode(market, *sent)] == [Ticker] * 4


def test_trap_07_an_empty_string_is_absent_and_never_zero() -> None:
    market = decoder()
    first, second = decode(
        market,
        frames.ticker("snapshot", lastPrice="29026.00", nextFundingTime="", fundingRate="", preQty=""),
        frames.ticker(lastPrice=""),
    )
    assert isinstance(first, Ticker)
    assert isinstance(second, Ticker)
    assert (first.funding_rate, first.next_funding_time, first.pre_size) == (None, None, None)
    assert second.last_price == 2_902_600_000_000


# 8
def test_trap_08_a_quiet_trade_topic_is_not_dead() -> None:
    protocol, (request,) = opened("publicTrade.WLDUSDT", "allLiquidation.WLDUSDT")
    protocol.receive(frames.ack(request), 1 * S)
    protocol.receive(frames.trades(frames.trade(1)), 2 * S)
    assert protocol.tick(3600 * S) == []


def test_trap_08_a_silent_book_is_asked_again_and_is_no_gap_when_nothing_was_missed() -> None:
    protocol, (request,) = opened("orderbook.50.WLDUSDT", silence_timeout=30)
    protocol.receive(frames.ack(request), 1 * S)
    protocol.receive(frames.snapshot(10), 1 * S)
    assert protocol.tick(30 * S) == []
    unsubscribe, subscribe = protocol.tick(31 * S)
    assert (json.loads(unsubscribe)["op"], json.loads(subscribe)["op"]) == ("unsubscribe", "subscribe")
    assert [type(e) for e in protocol.receive(frames.snapshot(10), 32 * S)] == [BookSnapshot]


def test_trap_08_a_clock_that_is_set_forward_makes_no_topic_silent() -> None:
    protocol, (request,) = opened("orderbook.50.WLDUSDT", silence_timeout=30)
    protocol.receive(frames.ack(request), 1 * S)
    protocol.receive(frames.snapshot(10), 1 * S)
    protocol.clock_set(3_600 * S, 3_602 * S)
    assert protocol.tick(3_603 * S) == []
    assert len(protocol.tick(3_632 * S)) == 2


def test_trap_08_a_silent_book_that_went_on_elsewhere_is_a_gap() -> None:
    protocol, (request,) = opened("orderbook.50.WLDUSDT", silence_timeout=30)
    protocol.receive(frames.ack(request), 1 * S)
    protocol.receive(frames.snapshot(10), 1 * S)
    protocol.tick(31 * S)
    gap, book = protocol.receive(frames.snapshot(25), 32 * S)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.missed, gap.first_time, gap.last_time) == (GapReason.SILENCE, 15, 1 * S, 32 * S)
    assert isinstance(book, BookSnapshot)


# 9
@pytest.mark.parametrize(("wire", "side"), [("Buy", PositionSide.LONG), ("Sell", PositionSide.SHORT)])
def test_trap_09_a_liquidation_buy_means_a_long_was_liquidated(wire: str, side: PositionSide) -> None:
    item = {"T": frames.T0, "s": "WLDUSDT", "S": wire, "v": "43", "p": "0.11793"}
    (event,) = decode(decoder(), frames.liquidation(item))
    assert event == Liquidation("WLDUSDT", side, 4_300_000_000, 11_793_000, frames.T0 * MS, frames.T0 * MS, 1 * S)


def test_trap_09_a_liquidation_message_that_is_delivered_twice_is_recorded_once() -> None:
    item = {"T": frames.T0, "s": "WLDUSDT", "S": "Buy", "v": "43", "p": "0.11793"}
    first, second = (json.dumps({**json.loads(frames.liquidation(item)), "ts": frames.T0 + ms}) for ms in (0, 500))
    market = decoder()
    assert [len(decode(market, frame)) for frame in (first, second, first, second)] == [1, 1, 0, 0]
    assert market.counters["duplicate_liquidation"] == 2


def test_trap_09_identical_liquidations_in_one_frame_are_all_kept() -> None:
    item = {"T": frames.T0, "s": "WLDUSDT", "S": "Buy", "v": "43", "p": "0.11793"}
    assert len(decode(decoder(), frames.liquidation(item, item, item))) == 3


# 10
def test_trap_10_depth_1_repeats_its_update_id_and_that_is_no_fault() -> None:
    market = decoder("orderbook.1.WLDUSDT")
    events = decode(market, *[frames.snapshot(7, depth=1)] * 3, frames.snapshot(5, depth=1))
    assert [type(e) for e in events] == [BookSnapshot] * 4


# 11
def test_trap_11_a_skipped_update_id_is_a_gap_and_a_resync_of_that_topic() -> None:
    protocol, _ = opened()
    protocol.receive(frames.snapshot(10), 1 * S)
    protocol.receive(frames.book(11, [("1.0", "1")]), 2 * S)
    (gap,) = protocol.receive(frames.book(14, [("1.0", "2")]), 3 * S)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.missed, gap.topic, gap.symbol) == (
        GapReason.UPDATE_ID, 2, "orderbook.50", "WLDUSDT",
    )  # fmt: skip
    assert (gap.first_time, gap.last_time) == (2 * S, 3 * S)
    unsubscribe, subscribe = protocol.tick(3 * S)
    assert args(unsubscribe) == args(subscribe) == ["orderbook.50.WLDUSDT"]
    assert protocol.receive(frames.book(15), 4 * S) == []
    second, snapshot = protocol.receive(frames.snapshot(20), 5 * S)
    assert isinstance(second, Gap)
    assert (second.missed, second.first_time, second.last_time) == (1, 3 * S, 5 * S)
    assert isinstance(snapshot, BookSnapshot)
    assert [type(e) for e in protocol.receive(frames.book(21), 6 * S)] == [BookDelta]


def test_trap_11_a_snapshot_in_mid_stream_replaces_whatever_its_update_id() -> None:
    market = decoder()
    events = decode(market, frames.snapshot(100), frames.snapshot(40, sequence=1), frames.book(41))
    assert [type(e) for e in events] == [BookSnapshot, BookSnapshot, BookDelta]


def test_trap_11_update_id_1_is_a_restart_and_no_gap() -> None:
    market = decoder()
    events = decode(market, frames.snapshot(900), frames.snapshot(1), frames.book(2))
    assert [type(e) for e in events] == [BookSnapshot, BookSnapshot, BookDelta]
    assert market.take_restarts() == ["WLDUSDT"]


def test_trap_11_resyncs_of_one_topic_grow_apart() -> None:
    protocol, _ = opened("orderbook.50.WLDUSDT")
    protocol.receive(frames.snapshot(10), 1 * S)
    protocol.receive(frames.book(12), 2 * S)
    assert len(protocol.tick(2 * S)) == 2
    protocol.receive(frames.snapshot(20), 2 * S)
    protocol.receive(frames.book(22), 2 * S)
    assert protocol.tick(2 * S) == []
    assert len(protocol.tick(3 * S)) == 2


# 12
def test_trap_12_a_trade_delivered_twice_is_recorded_once() -> None:
    market = decoder()
    events = decode(market, frames.trades(frames.trade(1), frames.trade(2)), frames.trades(frames.trade(2)))
    assert len(events) == 2
    assert market.counters["duplicate_trade"] == 1


# 13
def test_trap_13_sequences_beyond_32_and_53_bits_are_exact() -> None:
    big = 2**62 + 1
    market = decoder()
    events = decode(market, frames.snapshot(2**53 + 1, sequence=big), frames.trades(frames.trade(1, seq=big)))
    assert isinstance(events[0], BookSnapshot)
    assert isinstance(events[1], Trade)
    assert (events[0].update_id, events[0].sequence, events[1].sequence) == (2**53 + 1, big, big)


# 14
async def test_trap_14_every_page_of_instruments_and_of_margin_tiers_is_read() -> None:
    """Pages by the venue's sizes: 1,000 instruments at most, 15 symbols of tiers."""
    symbols = [f"S{n:04d}USDT" for n in range(1_010)]
    asked: Counter[str] = Counter()

    def serve(request: httpx.Request) -> httpx.Response:
        asked[request.url.path] += 1
        start = int(request.url.params.get("cursor") or 0)
        size = 15 if "risk" in request.url.path else int(request.url.params.get("limit", 500))
        page = symbols[start : start + size]
        tier = {"riskLimitValue": "1", "maintenanceMargin": "0.1", "initialMargin": "0.2", "maxLeverage": "5"}
        rows = [{"symbol": symbol, **tier} for symbol in page]
        following = str(start + size) if start + size < len(symbols) else ""
        result = {"category": "linear", "list": rows, "nextPageCursor": following}
        return httpx.Response(200, json={"retCode": 0, "retMsg": "OK", "result": result, "time": 1})

    async with httpx.AsyncClient(base_url="http://venue", transport=httpx.MockTransport(serve)) as client:
        read = await BybitRest(client).instruments(None, 5)
    assert [instrument.symbol for instrument in read] == symbols
    assert all(len(instrument.margin_tiers) == 1 for instrument in read)
    assert asked == {"/v5/market/instruments-info": 2, "/v5/market/risk-limit": 68}


async def test_trap_14_a_symbol_beyond_the_first_page_is_asked_for_by_name() -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        assert request.url.params["symbol"] == "WLDUSDT"
        result = {"list": [{"symbol": "WLDUSDT"}], "nextPageCursor": ""}
        return httpx.Response(200, json={"retCode": 0, "retMsg": "OK", "result": result, "time": 1})

    async with httpx.AsyncClient(base_url="http://venue", transport=httpx.MockTransport(serve)) as client:
        (instrument,) = await BybitRest(client).instruments(["WLDUSDT"], 5)
    assert instrument.symbol == "WLDUSDT"


# 15
def test_trap_15_a_margin_written_as_text_or_number_reads_the_same() -> None:
    tier = {"riskLimitValue": "200000", "initialMargin": "0.02", "maxLeverage": "50.00", "mmDeduction": ""}
    text = to_margin_tier({**tier, "maintenanceMargin": "0.01"})
    number = to_margin_tier({**tier, "maintenanceMargin": 0.01})
    assert text is not None
    assert text == number
    assert (text.maintenance_margin, text.maintenance_deduction) == (1_000_000, None)
    assert to_instrument({"symbol": "X"}, [], 0).tick_size is None


# 16
def test_trap_16_an_older_protocol_is_unknown_and_not_mistaken() -> None:
    market = decoder()
    old = '{"topic":"orderBookL2_25.BTCUSD","type":"snapshot","data":[{"price":"1"}],"cross_seq":1}'
    assert decode(market, old) == []
    assert market.counters["unknown_topic"] == 1


# 17
async def test_trap_17_a_slow_sink_does_not_hold_up_the_reading_and_how_far_behind_we_are_is_measured() -> None:
    """Reading publishes without waiting; lag is receive time less the venue's push time."""
    ring = Ring()
    slow, status = ring.subscribe("slow", capacity=10), Status(ring, 60.0)
    protocol, _ = opened("publicTrade.WLDUSDT")
    with ring:
        seen = ring.subscribe("status")
        for i in range(100):
            ring.publish(protocol.receive(frames.trades(frames.trade(i)), frames.T0 * MS + 250 * MS))
    assert slow.statistics().depth <= 10
    assert slow.statistics().dropped == 90
    await status.run(seen)
    assert (status.figures()["events"], status.figures()["lag_p99_ms"]) == ({"trade": 100}, 250.0)


def test_trap_17_a_message_of_1024_trades_is_whole() -> None:
    frame = frames.trades(*(frames.trade(i) for i in range(1024)))
    events = decode(decoder(), frame)
    assert [e.trade_id for e in events if isinstance(e, Trade)] == [frames.trade(i)["i"] for i in range(1024)]


# 18
def test_trap_18_reconnects_stay_within_500_connections_in_five_minutes() -> None:
    budget, backoff, now, attempts = ConnectionBudget(), Backoff(0.001, 0.001), 0.0, []
    while now < 900:
        if (wait := budget.wait_for(now)) > 0:
            now += wait
            continue
        budget.spend(now)
        attempts.append(now)
        now += backoff.next_delay(0.0)
    for first in attempts[::97]:
        assert sum(first <= at < first + 300 for at in attempts) <= 500


async def test_trap_18_a_403_says_to_pause_for_ten_minutes() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(403, text="access too frequent"))
    gate = RequestGate()
    async with httpx.AsyncClient(base_url="http://venue", transport=transport) as client:
        rest = BybitRest(client, gate)
        with pytest.raises(RetryableSourceError, match="HTTP 403"):
            await rest.server_time()
        with pytest.raises(RetryableSourceError, match=r"not asked for another (599|600) s"):
            await rest.server_time()


# and so on
def test_a_stale_delta_is_dropped_by_its_sequence() -> None:
    market = decoder()
    events = decode(
        market, frames.snapshot(10, sequence=500), frames.book(10, sequence=500), frames.book(9, sequence=400)
    )
    assert len(events) == 1
    assert market.counters["stale_delta"] == 2


def test_a_crossed_book_is_a_gap_and_a_resync() -> None:
    market = decoder()
    events = decode(market, frames.snapshot(10), frames.book(11, [("1.15", "3")]))
    assert isinstance(events[1], Gap)
    assert (events[1].reason, events[1].missed) == (GapReason.CROSSED_BOOK, 1)
    assert market.take_resyncs() == [("orderbook.50.WLDUSDT", GapReason.CROSSED_BOOK)]


def test_an_empty_delta_is_an_event_too() -> None:
    events = decode(decoder(), frames.snapshot(10), frames.book(11), frames.book(12))
    assert [type(e) for e in events] == [BookSnapshot, BookDelta, BookDelta]


def test_data_may_come_before_its_ack() -> None:
    protocol, (request,) = opened("orderbook.50.WLDUSDT")
    assert len(protocol.receive(frames.snapshot(10), 1 * S)) == 1
    assert protocol.receive(frames.ack(request), 2 * S) == []
    assert protocol.tick(20 * S) == []


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ("{broken", "json"),
        ("[]", "envelope"),
        ("{}", "envelope"),
        (BinaryMessage(b"\x00\xff"), "binary"),
        (b'{"topic":"\xff"}', "utf8"),
        ('{"topic":5}', "envelope"),
        ('{"topic":"publicTrade.WLDUSDT","type":"snapshot","ts":1}', "fields"),
        ('{"topic":"tickers.WLDUSDT","type":"delta","data":{"symbol":"WLDUSDT","lastPrice":5}}', "fields"),
        ('{"topic":"tickers.WLDUSDT","type":"delta","data":{"symbol":"WLDUSDT","lastPrice":"1e5"}}', "number"),
        (frames.book(11, [("99999999999999", "1")]), "number"),
        (frames.book(11, [("1.000000001", "1")]), "number"),
        (frames.book(11, [("-1", "1")]), "number"),
        ('{"data":' + "[" * 100_000, "json"),
    ],
)
def test_bad_input_is_counted_by_kind_and_leaves_a_gap(frame: str | bytes, kind: str) -> None:
    market = decoder()
    decode(market, frames.snapshot(10))
    events = market.decode(frame, 5 * S)
    assert [e.reason for e in events if isinstance(e, Gap)] == [GapReason.UNDECODABLE]
    assert market.counters[kind] == 1
    assert [type(e) for e in market.decode(frames.book(11), 6 * S)] == [BookDelta]


def test_one_bad_trade_does_not_cost_the_others() -> None:
    market = decoder()
    events = decode(market, frames.trades(frames.trade(1), frames.trade(2, p="x"), frames.trade(3)))
    assert [type(e) for e in events] == [Trade, Gap, Trade]
    assert isinstance(events[1], Gap)
    assert events[1].missed == 1


def test_bad_trades_side_by_side_are_one_gap_that_counts_them() -> None:
    """Else a message of 140 KB is 20,000 Gaps, each an event of every sink."""
    market = decoder()
    bad = [frames.trade(n, p="x") for n in range(10, 30)]
    events = decode(market, frames.trades(frames.trade(1), *bad, frames.trade(3), frames.trade(4, p="")))
    assert [type(e) for e in events] == [Trade, Gap, Trade, Gap]
    assert [e.missed for e in events if isinstance(e, Gap)] == [20, 1]
    assert market.counters["number"] == 21


def test_receive_times_never_go_backwards() -> None:
    market = decoder()
    market.decode(frames.snapshot(10), 5 * S)
    (event,) = market.decode(frames.book(11), 4 * S)
    assert event.receive_time == 5 * S
