"""What nobody tells: messages of which not even the topic can be read, and subscriptions that the venue ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.bybit import frames
from tests.bybit.frames import S
from tests.bybit.test_traps import TOPICS, args, decode, decoder, opened
from wld.bybit.decoder import MarketDecoder
from wld.bybit.messages import MOST_BAD
from wld.bybit.protocol import BybitProtocol
from wld.events import BookDelta, BookSnapshot, Event, Gap, GapReason, Liquidation, Trade

BOOK, TRADES, TICKER, LIQUIDATIONS = TOPICS
UNDECODABLE, SILENCE, REJECTED = GapReason.UNDECODABLE, GapReason.SILENCE, GapReason.REJECTED_TOPIC


def scopes(events: list[Event]) -> list[tuple[GapReason, str | None, str | None]]:
    return [(e.reason, e.topic, e.symbol) for e in events if isinstance(e, Gap)]


def renamed(frame: str, topic: str) -> str:
    return json.dumps({**json.loads(frame), "topic": topic})


# Messages of no topic of ours.


@pytest.mark.parametrize(
    "topic",
    ["publicTrade.WLDUSDS", "publicTrade.WDLUSDT", "publicTrbde.WLDUSDT", "publicTrade:WLDUSDT", "kline.1.WLDUSDS", ""],
)
def test_a_garbled_topic_may_be_any_of_its_symbol(topic: str) -> None:
    events = decode(decoder(), frames.trades(frames.trade(1)), renamed(frames.trades(frames.trade(2)), topic))
    assert scopes(events) == [(UNDECODABLE, None, "WLDUSDT")]


def test_a_topic_and_a_symbol_in_small_letters_may_be_ours() -> None:
    garbled = frames.trades(frames.trade(2)).replace("WLDUSDT", "wldusdt")
    assert scopes(decode(decoder(), frames.trades(frames.trade(1)), garbled)) == [(UNDECODABLE, None, "WLDUSDT")]


def test_where_not_even_the_symbol_can_be_read_it_may_be_any_topic_at_all() -> None:
    assert scopes(decode(decoder(), '{"topic":"publicTradeWLDUSDT","data":[]}')) == [(UNDECODABLE, None, None)]


@pytest.mark.parametrize(
    ("topic", "data"),
    [
        ("kline.1.WLDUSDT", [{"open": "1"}]),
        ("liquidation.WLDUSDT", {"symbol": "WLDUSDT", "price": "1"}),
        ("publicTrade.BTCUSDT", [{"s": "BTCUSDT"}]),
        ("orderBookL2_25.BTCUSD", [{"price": "1"}]),
    ],
)
def test_what_was_never_asked_for_is_passed_over(topic: str, data: Any) -> None:
    assert decode(decoder(), json.dumps({"topic": topic, "data": data})) == []


def test_a_message_on_the_topic_of_another_symbol_is_a_gap_of_both() -> None:
    market = decoder(*TOPICS, "publicTrade.OPUSDT")
    events = decode(market, renamed(frames.trades(frames.trade(1), frames.trade(2)), "publicTrade.OPUSDT"))
    assert scopes(events) == [(UNDECODABLE, "publicTrade", "OPUSDT"), (UNDECODABLE, "publicTrade", "WLDUSDT")]
    assert [e.missed for e in events if isinstance(e, Gap)] == [2, None]


def test_rubbish_side_by_side_is_one_gap_and_data_between_makes_two() -> None:
    market = decoder()
    rubbish = ["{garbage", b"\xff", '{"neither":1}', "[]"] * 50
    assert scopes(decode(market, *rubbish)) == [(UNDECODABLE, None, None)]
    events = decode(market, frames.trades(frames.trade(1)), *rubbish, frames.trades(frames.trade(2)), *rubbish)
    assert [type(e) for e in events] == [Trade, Gap, Trade, Gap]
    assert sum(market.counters.values()) == 600


def test_data_of_a_topic_that_was_taken_off_is_on_its_way_still() -> None:
    market = decoder()
    market.forget(TRADES)
    assert decode(market, frames.trades(frames.trade(1))) == []
    assert market.revenants == {TRADES}


def test_a_topic_followed_again_knows_what_went_out() -> None:
    market = decoder()
    decode(market, frames.trades(frames.trade(1)))
    market.forget(TRADES)
    market.expect(TRADES)
    assert decode(market, frames.trades(frames.trade(1))) == []


def test_of_a_message_full_of_bad_items_no_more_are_looked_at_than_a_message_has() -> None:
    bad = [{"S": "No"}] * 20_000
    market = decoder()
    (gap,) = decode(market, frames.trades(*bad, frames.trade(1)))
    assert isinstance(gap, Gap)
    assert gap.missed == 20_001
    events = decode(market, frames.trades(*bad[: MOST_BAD - 1], frames.trade(1)))
    assert [type(e) for e in events] == [Gap, Trade]


# Subscriptions that the venue ended.


def live(**config: Any) -> BybitProtocol:
    """All four topics confirmed, each with a first message where it has one at once."""
    protocol, (request,) = opened(silence_timeout=30, **config)
    protocol.decoder.holes = []
    protocol.receive(frames.ack(request), 1 * S)
    for frame in (frames.snapshot(10), frames.ticker("snapshot", cs=5), frames.trades(frames.trade(1))):
        protocol.receive(frame, 1 * S)
    return protocol


def requests(sent: list[str], op: str = "subscribe") -> dict[str, str]:
    return {args(request)[0]: request for request in sent if json.loads(request)["op"] == op}


def test_a_book_that_fell_silent_and_lost_something_puts_its_symbols_trades_and_liquidations_in_doubt() -> None:
    protocol = live()
    asked = requests(protocol.tick(32 * S))
    protocol.receive(frames.ack(asked[BOOK]), 33 * S)
    events = protocol.receive(frames.snapshot(20), 33 * S)
    assert [type(e) for e in events] == [Gap, BookSnapshot, Gap, Gap]
    assert scopes(events) == [
        (SILENCE, "orderbook.50", "WLDUSDT"), (SILENCE, "publicTrade", "WLDUSDT"), (SILENCE, "allLiquidation", "WLDUSDT"),
    ]  # fmt: skip
    assert {(e.first_time, e.last_time) for e in events if isinstance(e, Gap)} == {(1 * S, 33 * S)}
    holes = protocol.decoder.holes
    assert holes is not None
    assert [list(hole.last_trades) for hole in holes] == [[TRADES]]
    sent = protocol.tick(33 * S)
    assert set(requests(sent)) == {TRADES, LIQUIDATIONS}
    assert requests(sent, "unsubscribe") == {}  # between the two a trade could be lost
    for topic, request in requests(sent).items():
        assert protocol.receive(frames.refusal(request, f"error:already subscribed,topic:{topic}"), 34 * S) == []
    assert protocol.take_confirmed()[-2:] == [TRADES, LIQUIDATIONS]


def test_a_book_that_was_merely_quiet_puts_nothing_in_doubt() -> None:
    protocol = live()
    asked = requests(protocol.tick(32 * S))
    protocol.receive(frames.ack(asked[BOOK]), 33 * S)
    assert [type(e) for e in protocol.receive(frames.snapshot(10), 33 * S)] == [BookSnapshot]
    assert protocol.tick(33 * S) == []


def refused(protocol: BybitProtocol, topic: str, request: str, at: int) -> list[Event]:
    return protocol.receive(frames.refusal(request, f"error:handler not found,topic:{topic}"), at * S)


@pytest.mark.parametrize("was_dead", [True, False])
def test_where_one_topic_is_refused_the_others_of_its_symbol_are_looked_after(was_dead: bool) -> None:
    protocol = live()
    asked = requests(protocol.tick(32 * S))
    assert scopes(refused(protocol, BOOK, asked[BOOK], 33)) == [(REJECTED, "orderbook.50", "WLDUSDT")]
    probe = requests(protocol.tick(33 * S))[TRADES]
    text = "error:already subscribed,topic:" + TRADES
    events = protocol.receive(frames.ack(probe) if was_dead else frames.refusal(probe, text), 34 * S)
    assert scopes(events) == ([(SILENCE, "publicTrade", "WLDUSDT")] if was_dead else [])


def test_a_refused_topic_that_is_served_again_has_a_gap_with_both_ends_and_brings_back_the_others() -> None:
    protocol = live()
    asked = requests(protocol.tick(32 * S))
    first = [refused(protocol, BOOK, asked[BOOK], 33), refused(protocol, TICKER, asked[TICKER], 33)]
    assert [scopes(events) for events in first] == [
        [(REJECTED, "orderbook.50", "WLDUSDT")],
        [(REJECTED, "tickers", "WLDUSDT")],
    ]
    for topic, request in requests(protocol.tick(33 * S)).items():
        assert scopes(refused(protocol, topic, request, 34)) == [(REJECTED, *_parts(topic))]
    assert protocol.topics == ()
    asked = requests(protocol.tick(38 * S))
    events = protocol.receive(frames.ack(asked[BOOK]), 60 * S)
    (gap,) = [e for e in events if isinstance(e, Gap)]
    assert (gap.reason, gap.topic, gap.first_time, gap.last_time) == (REJECTED, "orderbook.50", 33 * S, 60 * S)
    protocol.receive(frames.ack(asked[TICKER]), 60 * S)
    again = requests(protocol.tick(60 * S))
    assert set(again) == {TRADES, LIQUIDATIONS}  # though their own turn has not come
    events = protocol.receive(frames.ack(again[TRADES]), 61 * S)
    assert scopes(events) == [(REJECTED, "publicTrade", "WLDUSDT")]
    holes = protocol.decoder.holes
    assert holes is not None
    ((_, last),) = [h for h in holes if h.gap.topic == "publicTrade"]
    assert last[TRADES] is not None  # what was recorded before is known still


def _parts(topic: str) -> tuple[str, str]:
    head, _, symbol = topic.rpartition(".")
    return head, symbol


def test_a_symbol_listed_otherwise_than_before_is_looked_after() -> None:
    protocol = live()
    protocol.doubt("WLDUSDT", 5 * S)
    sent = protocol.tick(5 * S)
    assert set(requests(sent)) == set(TOPICS)
    assert set(requests(sent, "unsubscribe")) == {BOOK, TICKER}  # their snapshots show what that costs
    assert scopes(protocol.receive(frames.ack(requests(sent)[LIQUIDATIONS]), 6 * S)) == [
        (SILENCE, "allLiquidation", "WLDUSDT")
    ]
    assert scopes(protocol.receive(frames.snapshot(11), 6 * S)[:1]) == [(SILENCE, "orderbook.50", "WLDUSDT")]


def test_a_symbol_taken_off_and_followed_again_has_a_gap_between() -> None:
    protocol = live()
    protocol.remove_topics(TOPICS, 5 * S)
    assert protocol.has_followed("WLDUSDT")
    (request,) = protocol.add_topics(TOPICS, 9 * S)
    events = protocol.receive(frames.ack(request), 10 * S)
    assert scopes(events) == [(REJECTED, *_parts(topic)) for topic in TOPICS]
    assert {(e.first_time, e.last_time) for e in events if isinstance(e, Gap)} == {(5 * S, 10 * S)}
    assert protocol.tick(10 * S) == []
    assert protocol.receive(frames.trades(frames.trade(1)), 11 * S) == []


def test_decoders_of_several_lines_leave_it_to_the_arbiter_what_stands_side_by_side() -> None:
    market = MarketDecoder(each_alone=True)
    assert len(decode(market, "{", "{")) == 2


def test_a_delta_before_the_snapshot_that_ends_a_silence_tells_by_itself_whether_anything_was_lost() -> None:
    protocol = live()
    protocol.tick(32 * S)
    (delta,) = protocol.receive(frames.book(11), 33 * S)
    assert isinstance(delta, BookDelta)
    assert [type(e) for e in protocol.receive(frames.snapshot(11), 34 * S)] == [BookSnapshot]
    assert protocol.tick(34 * S) == []

    protocol = live()
    protocol.tick(32 * S)
    events = protocol.receive(frames.book(20), 33 * S)
    assert scopes(events) == [
        (GapReason.UPDATE_ID, "orderbook.50", "WLDUSDT"), (SILENCE, "publicTrade", "WLDUSDT"), (SILENCE, "allLiquidation", "WLDUSDT"),
    ]  # fmt: skip
    assert [type(e) for e in protocol.receive(frames.snapshot(20), 34 * S)] == [BookSnapshot]


def test_a_ticker_delta_before_the_snapshot_that_ends_a_silence_cannot_tell() -> None:
    protocol = live()
    protocol.tick(32 * S)
    events = protocol.receive(frames.ticker(cs=7, lastPrice="1.5"), 33 * S)
    assert scopes(events) == [(SILENCE, "tickers", "WLDUSDT")]
    assert scopes(protocol.receive(frames.ticker("snapshot", cs=7, lastPrice="1.5"), 34 * S)) == []


@pytest.mark.parametrize("size", [1, 30])
def test_what_comes_before_the_answer_to_a_silence_has_its_gap_before_it(size: int) -> None:
    protocol = live()
    protocol.tick(32 * S)
    read = [frames.trades(frames.trade(10 + i)) for i in range(size)]
    read += [frames.liquidation({"T": frames.T0, "s": "WLDUSDT", "S": "Buy", "v": "1", "p": "1.0"}), frames.book(20)]
    events = list(protocol.receive_read([frame.encode() for frame in read], 33 * S))
    assert [type(e) for e in events] == [Gap, *[Trade] * size, Gap, Liquidation, Gap]
    assert scopes(events) == [
        (SILENCE, "publicTrade", "WLDUSDT"), (SILENCE, "allLiquidation", "WLDUSDT"), (GapReason.UPDATE_ID, "orderbook.50", "WLDUSDT"),
    ]  # fmt: skip
    assert {(e.first_time, e.last_time) for e in events if isinstance(e, Gap)} == {(1 * S, 33 * S)}
    assert scopes(protocol.receive(frames.trades(frames.trade(50)), 34 * S)) == []


def test_what_comes_after_the_answer_that_nothing_was_lost_has_none() -> None:
    protocol = live()
    protocol.tick(32 * S)
    protocol.receive(frames.snapshot(10), 33 * S)
    protocol.receive(frames.ticker("snapshot", cs=5), 33 * S)
    assert scopes(protocol.receive(frames.trades(frames.trade(2)), 33 * S)) == []


def test_a_topic_with_more_patience_is_asked_along_with_one_that_fell_silent() -> None:
    protocol = live()
    protocol.tick(32 * S)
    for frame in (frames.snapshot(10), frames.ticker("snapshot", cs=5)):
        protocol.receive(frame, 33 * S)
    protocol.receive(frames.book(11), 34 * S)
    protocol._topics[BOOK].quiet_s = 30
    protocol._topics[BOOK].confirmed = protocol._topics[TICKER].confirmed = True
    assert set(requests(protocol.tick(64 * S))) == {BOOK, TICKER}


def pong(ping: str) -> str:
    return frames.ack(ping, ret_msg="pong", op="ping")


def paused(protocol: BybitProtocol, at: float) -> list[str]:
    protocol.look_for_pause(int(at * S), protocol.decoder.last_data_time)
    return protocol.tick(int(at * S))


def test_a_connection_without_data_is_pinged_and_where_only_the_pong_comes_its_topics_are_asked() -> None:
    protocol = live()
    assert paused(protocol, 5.9) == []
    (ping,) = paused(protocol, 6)
    assert json.loads(ping)["op"] == "ping"
    assert paused(protocol, 7) == []  # a line that stalls brings no pong: what it holds back is still to come
    protocol.receive(pong(ping), 7 * S)
    assert {topic for r in paused(protocol, 7) if json.loads(r)["op"] == "subscribe" for topic in args(r)} == {
        BOOK,
        TICKER,
    }
    events = protocol.receive(frames.trades(frames.trade(2)), 8 * S)
    assert [type(e) for e in events] == [Gap, Trade]
    events = protocol.receive(frames.book(20), 8 * S)
    assert scopes(events) == [
        (GapReason.UPDATE_ID, "orderbook.50", "WLDUSDT"), (SILENCE, "allLiquidation", "WLDUSDT"),
    ]  # fmt: skip


def test_a_pause_of_which_the_pong_comes_after_more_data_is_none() -> None:
    protocol = live()
    (ping,) = paused(protocol, 6)
    protocol.receive(frames.book(11), 7 * S)
    protocol.receive(pong(ping), 7 * S)
    assert paused(protocol, 7) == []
