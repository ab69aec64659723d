"""The market as a specification: what its messages and its ground truth guarantee, without sockets or clocks."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wld.errors import ConfigError
from wld.exchange.flow import Fill
from wld.exchange.instruments import KNOWN, spec_for
from wld.exchange.limitbook import HalfBook
from wld.exchange.market import Market
from wld.exchange.positions import Ledger, bankruptcy_price, trigger_price
from wld.exchange.publication import Message, Statistics, funding_text, trade_messages

START = 1_790_000_000_000
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def open_market(*symbols: str, seed: int = 7, rate: float = 1.0) -> Market:
    return Market([spec_for(symbol) for symbol in symbols or ("WLDUSDT",)], seed, START, rate)


def run(market: Market, seconds: float) -> list[Message]:
    return market.advance(market.now_ms + int(seconds * 1000))


def by_topic(messages: list[Message]) -> dict[str, list[dict[str, Any]]]:
    topics: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for message in messages:
        topics[message.topic].append(message.body)
    return topics


@pytest.fixture(scope="module")
def busy() -> tuple[Market, list[Message]]:
    """Forty seconds of a wild market, shared by the tests that only look."""
    market = open_market("WLDUSDT", "BTCUSDT", "1000PEPEUSDT", seed=3, rate=20.0)
    return market, run(market, 40)


class ClientBook:
    """A strict client: applies messages by the venue's rules and refuses whatever breaks them."""

    def __init__(self) -> None:
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.update_id: int | None = None

    def apply(self, body: dict[str, Any]) -> None:
        book = body["data"]
        if body["type"] == "snapshot":
            self.bids, self.asks = {}, {}
        else:
            assert self.update_id is not None
            assert book["u"] == self.update_id + 1
        self.update_id = book["u"]
        for side, rows in ((self.bids, book["b"]), (self.asks, book["a"])):
            for price, size in rows:
                if size == "0":
                    del side[price]  # the venue never deletes a price that the client has not got
                else:
                    side[price] = size

    def rows(self, depth: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        bids = sorted(self.bids.items(), key=lambda row: -float(row[0]))
        asks = sorted(self.asks.items(), key=lambda row: float(row[0]))
        assert len(bids) <= depth
        assert len(asks) <= depth
        return bids, asks


def market_rows(market: Market, symbol: str, depth: int) -> tuple[list[tuple[str, str]], ...]:
    spec, book = market.symbol(symbol).spec, market.symbol(symbol).flow.book
    sides = []
    for half in (book.bids, book.asks):
        keys = reversed(half.keys[-depth:])
        sides.append([(spec.price_text(k * half.sign), spec.size_text(half.sizes[k])) for k in keys])
    return tuple(sides)


# Reproducibility.


def test_same_seed_and_times_give_identical_messages() -> None:
    first = run(open_market("WLDUSDT", "BTCUSDT", seed=3), 4)
    second = run(open_market("WLDUSDT", "BTCUSDT", seed=3), 4)
    assert json.dumps(first) == json.dumps(second)
    assert len(first) > 100


def test_messages_do_not_depend_on_how_time_is_cut() -> None:
    whole = run(open_market(), 3)
    market, rng, pieces = open_market(), random.Random(1), []
    while market.now_ms < START + 3_000:
        pieces += market.advance(min(START + 3_000, market.now_ms + rng.randrange(1, 70)))
    assert pieces == whole


def test_another_seed_gives_another_market() -> None:
    assert run(open_market(seed=1), 2) != run(open_market(seed=2), 2)


def test_time_going_backwards_does_nothing() -> None:
    market = open_market()
    run(market, 1)
    assert market.advance(START) == []


def test_what_is_heard_does_not_change_the_trading() -> None:
    loud, quiet = open_market(), open_market()
    quiet.wanted = set()
    run(loud, 5)
    assert run(quiet, 5) == []
    assert quiet.symbol("WLDUSDT").fills == loud.symbol("WLDUSDT").fills


# The book.


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    symbol=st.sampled_from([*KNOWN, "ZZZUSDT", "A2USDT"]),
    rate=st.sampled_from([0.2, 1.0, 8.0, 60.0]),
)
def test_book_never_crosses_and_keeps_50_levels(seed: int, symbol: str, rate: float) -> None:
    market = open_market(symbol, seed=seed, rate=rate)
    book = market.symbol(symbol).flow.book
    for _ in range(60):
        market.advance(market.now_ms + 50)
        assert book.bids.best < book.asks.best
        assert min(len(book.bids.keys), len(book.asks.keys)) >= 50
        for half in (book.bids, book.asks):
            assert half.keys == sorted(half.sizes)
            assert min(half.sizes.values()) > 0
        assert book.bids.keys[0] > 0


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), depth=st.sampled_from([50, 200, 1000]), rate=st.sampled_from([1.0, 20.0]))
def test_client_rebuilds_the_book_from_the_messages(seed: int, depth: int, rate: float) -> None:
    market = open_market("XRPUSDT", seed=seed, rate=rate)
    topic = f"orderbook.{depth}.XRPUSDT"
    market.watch(topic)
    client = ClientBook()
    snapshot = market.snapshot(topic)
    assert snapshot is not None
    client.apply(snapshot)
    for _ in range(8):
        for message in market.advance(market.now_ms + 200):
            if message.topic == topic:
                client.apply(message.body)
        assert client.rows(depth) == market_rows(market, "XRPUSDT", depth)


def test_late_subscriber_continues_at_u_plus_one() -> None:
    market = open_market()
    market.wanted = set()
    run(market, 1)
    for depth in (50, 200, 1000):
        topic = f"orderbook.{depth}.WLDUSDT"
        late = ClientBook()
        snapshot = market.snapshot(topic)
        assert snapshot is not None
        late.apply(snapshot)
        market.wanted.add(topic)
        deltas = by_topic(run(market, 3))[topic]
        assert len(deltas) >= 5
        for body in deltas:
            late.apply(body)
        assert late.rows(depth)


def test_second_subscriber_joins_between_two_deltas() -> None:
    market = open_market()
    run(market, 0.5)
    first = market.snapshot("orderbook.50.WLDUSDT")
    second = market.snapshot("orderbook.50.WLDUSDT")
    assert first == second


def test_levels_in_messages_are_best_first(busy: tuple[Market, list[Message]]) -> None:
    for message in busy[1]:
        if message.topic.startswith("orderbook.50"):
            bids = [float(row[0]) for row in message.body["data"]["b"]]
            asks = [float(row[0]) for row in message.body["data"]["a"]]
            assert bids == sorted(bids, reverse=True)
            assert asks == sorted(asks)
            assert bids or asks


def test_sequence_is_shared_beyond_39_bits_and_rises(busy: tuple[Market, list[Message]]) -> None:
    last = 0
    for symbol in ("WLDUSDT", "BTCUSDT"):
        rising = [m.body["data"]["seq"] for m in busy[1] if m.topic == f"orderbook.50.{symbol}"]
        assert rising == sorted(set(rising))
        assert rising[0] > 2**39
        last = max(last, rising[-1])
    trades = [row["seq"] for m in busy[1] if m.topic.startswith("publicTrade") for row in m.body["data"]]
    assert max(trades) <= last + 10_000


def test_engine_time_is_at_top_level_and_not_after_push_time(busy: tuple[Market, list[Message]]) -> None:
    for message in busy[1]:
        if message.topic.startswith("orderbook"):
            body = message.body
            assert 0 <= body["ts"] - body["cts"] <= 30
            assert "cts" not in body["data"]


def test_depth_one_is_snapshots_only_and_repeats_u_after_three_seconds() -> None:
    market = open_market(rate=0.002)
    market.watch("orderbook.1.WLDUSDT")
    bodies = by_topic(run(market, 60))["orderbook.1.WLDUSDT"]
    assert {body["type"] for body in bodies} == {"snapshot"}
    repeats = [(a, b) for a, b in pairwise(bodies) if a["data"]["u"] == b["data"]["u"]]
    assert repeats
    for a, b in repeats:
        assert b["ts"] - a["ts"] == 3_000
        assert a["data"] == b["data"]
    for body in bodies:
        assert len(body["data"]["b"]) == len(body["data"]["a"]) == 1


@pytest.mark.parametrize(("depth", "cadence"), [(50, 20), (200, 100), (1000, 200)])
def test_books_are_pushed_on_their_cadence(depth: int, cadence: int) -> None:
    market = open_market(rate=20.0)
    market.watch(f"orderbook.{depth}.WLDUSDT")
    times = [body["ts"] for body in by_topic(run(market, 4))[f"orderbook.{depth}.WLDUSDT"]]
    assert all(time % cadence == 0 for time in times)
    assert min(b - a for a, b in pairwise(times)) == cadence


def test_restart_is_a_snapshot_of_update_id_one_then_two() -> None:
    market = open_market()
    run(market, 1)
    for book in market.books():
        book.restart()
    bodies = by_topic(run(market, 2))["orderbook.50.WLDUSDT"]
    assert [(body["type"], body["data"]["u"]) for body in bodies[:3]] == [
        ("snapshot", 1),
        ("delta", 2),
        ("delta", 3),
    ]


def test_snapshot_in_mid_stream_continues_the_update_id() -> None:
    market = open_market()
    before = by_topic(run(market, 1))["orderbook.50.WLDUSDT"][-1]["data"]["u"]
    for book in market.books():
        book.resend()
    body = by_topic(run(market, 1))["orderbook.50.WLDUSDT"][0]
    assert (body["type"], body["data"]["u"]) == ("snapshot", before + 1)


def test_half_book_leaves_a_floor_and_respects_a_limit() -> None:
    asks = HalfBook(-1)
    for ticks in (101, 102, 103, 104):
        asks.set(ticks, 10)
    assert asks.take(15, leave=0, limit=101) == [(101, 10)]
    assert asks.take(15, leave=1) == [(102, 10), (103, 5)]
    assert asks.take(99, leave=1) == [(103, 5)]
    assert asks.best == 104


# Trades.


def test_fills_of_one_taker_order_share_time_and_sequence(busy: tuple[Market, list[Message]]) -> None:
    orders: dict[int, set[tuple[int, str]]] = defaultdict(set)
    rows = [row for m in busy[1] if m.topic == "publicTrade.WLDUSDT" for row in m.body["data"]]
    for row in rows:
        orders[row["seq"]].add((row["T"], row["S"]))
    assert all(len(kinds) == 1 for kinds in orders.values())
    assert len(rows) > len(orders) > 100
    assert [row["T"] for row in rows] == sorted(row["T"] for row in rows)


def test_trades_are_typed_and_identified_as_the_venue_does(busy: tuple[Market, list[Message]]) -> None:
    seen: set[str] = set()
    price = None
    for message in busy[1]:
        if message.topic != "publicTrade.BTCUSDT":
            continue
        assert message.body["type"] == "snapshot"
        for row in message.body["data"]:
            assert list(row) == ["T", "s", "S", "v", "p", "L", "i", "BT", "RPI", "seq"]
            assert row["T"] <= message.body["ts"]
            assert UUID.fullmatch(row["i"])
            assert row["i"] not in seen
            seen.add(row["i"])
            assert re.fullmatch(r"\d+\.\d0", row["p"])
            assert re.fullmatch(r"\d+\.\d{3}", row["v"])
            if price is not None:
                expected = {1: "PlusTick", -1: "MinusTick"}.get((float(row["p"]) > price) - (float(row["p"]) < price))
                assert row["L"] == expected or (expected is None and row["L"].startswith("Zero"))
            price = float(row["p"])


def test_more_than_1024_trades_are_split_and_keep_their_sequence() -> None:
    fills = [Fill(START, True, 8_000, 1, 800_000_000_001, str(n), "PlusTick", False, False) for n in range(2_500)]
    messages = trade_messages(spec_for("WLDUSDT"), fills, START)
    assert [len(message.body["data"]) for message in messages] == [1024, 1024, 452]
    assert [row["i"] for m in messages for row in m.body["data"]] == [str(n) for n in range(2_500)]


def test_order_flow_is_clustered() -> None:
    market = open_market(seed=11)
    times = []
    for message in run(market, 300):
        if message.topic.startswith("publicTrade"):
            times += {row["seq"]: row["T"] for row in message.body["data"]}.values()
    counts = [0] * 300
    for time in times:
        counts[min(299, (time - START) // 1000)] += 1
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)
    assert variance > 1.5 * mean  # a Poisson stream has 1.0


# Tickers.


def merged(bodies: list[dict[str, Any]], first: dict[str, Any]) -> dict[str, str]:
    fields = dict(first["data"])
    for body in bodies:
        fields.update(body["data"])
    return fields


def test_ticker_deltas_merge_to_the_full_state() -> None:
    market = open_market()
    first = market.snapshot("tickers.WLDUSDT")
    assert first is not None
    bodies = by_topic(run(market, 20))["tickers.WLDUSDT"]
    last = market.snapshot("tickers.WLDUSDT")
    assert last is not None
    assert merged(bodies, first) == last["data"]
    assert all(body["type"] == "delta" and body["ts"] % 100 == 0 for body in bodies)
    assert all(len(body["data"]) < len(first["data"]) for body in bodies)


def test_ticker_quotes_travel_in_pairs_and_empty_strings_are_sent() -> None:
    market = open_market()
    first = market.snapshot("tickers.WLDUSDT")
    assert first is not None
    assert [first["data"][name] for name in ("preOpenPrice", "preQty", "curPreListingPhase")] == [""] * 3
    for body in by_topic(run(market, 20))["tickers.WLDUSDT"]:
        for side in ("bid1", "ask1"):
            assert (f"{side}Price" in body["data"]) == (f"{side}Size" in body["data"])


def test_ticker_quotes_equal_the_book() -> None:
    market = open_market()
    run(market, 5)
    market.wanted = set()
    ticker = market.snapshot("tickers.WLDUSDT")
    assert ticker is not None
    bids, asks = market_rows(market, "WLDUSDT", 1)
    fields = ticker["data"]
    assert (fields["bid1Price"], fields["bid1Size"]) == bids[0]
    assert (fields["ask1Price"], fields["ask1Size"]) == asks[0]


def test_next_funding_moves_on_by_eight_hours() -> None:
    market = open_market(rate=0.01)
    assert market.symbol("WLDUSDT").next_funding_ms % 28_800_000 == 0
    due = market.symbol("WLDUSDT").next_funding_ms
    market.skip_to(due)
    run(market, 0.2)
    assert market.symbol("WLDUSDT").next_funding_ms == due + 28_800_000


@pytest.mark.parametrize(
    ("ppb", "text"), [(100_000, "0.0001"), (-123_450, "-0.00012345"), (0, "0"), (-5, "0"), (10_000_000, "0.01")]
)
def test_funding_rate_is_printed_as_the_venue_prints_it(ppb: int, text: str) -> None:
    assert funding_text(ppb) == text


def test_volume_and_turnover_count_every_trade() -> None:
    market = open_market()
    stats = market.symbol("WLDUSDT").stats
    volume, turnover = stats.volume, stats.turnover
    run(market, 30)
    fills = market.symbol("WLDUSDT").fills
    assert len(fills) < 1_000
    assert stats.volume - volume == sum(fill.size for fill in fills)
    assert stats.turnover - turnover == sum(fill.size * fill.price for fill in fills)


def test_statistics_forget_what_is_older_than_a_day() -> None:
    stats = Statistics(START, [(100, 110, 90, 7)] * 288)
    assert (stats.volume, stats.high, stats.low, stats.price_before(24)) == (7 * 288, 110, 90, 100)
    stats.add(Fill(START, True, 120, 5, 1, "", "", False, False))
    assert (stats.high, stats.volume) == (120, 7 * 288 + 5)
    assert stats.roll(START + 288 * 300_000)
    assert stats.volume == 5
    assert stats.roll(START + 600 * 300_000)
    assert (stats.volume, stats.turnover, stats.price_before(1)) == (0, 0, 120)


# Positions and liquidations.


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), symbol=st.sampled_from([*KNOWN]), rate=st.sampled_from([1.0, 30.0]))
def test_open_interest_is_the_sum_of_the_positions(seed: int, symbol: str, rate: float) -> None:
    market = open_market(symbol, seed=seed, rate=rate)
    for _ in range(5):
        run(market, 0.3)
        ledger = market.symbol(symbol).flow.ledger
        makers = ledger.maker_inventories
        longs = sum(p.size for p in ledger.positions if p.is_long) + sum(max(0, lots) for lots in makers)
        shorts = sum(p.size for p in ledger.positions if not p.is_long) + sum(max(0, -lots) for lots in makers)
        assert longs == shorts == ledger.single_open_interest
        assert all(position.size > 0 for position in ledger.positions)


def test_ticker_interest_is_both_sides_and_single_exactly_half() -> None:
    market = open_market("BTCUSDT")
    run(market, 5)
    market.wanted = set()
    body = market.snapshot("tickers.BTCUSDT")
    assert body is not None
    fields, symbol = body["data"], market.symbol("BTCUSDT")
    single = symbol.flow.ledger.single_open_interest
    assert fields["singleOpenInterest"] == symbol.spec.size_text(single)
    assert fields["openInterest"] == symbol.spec.size_text(2 * single)
    value = float(fields["openInterest"]) * float(fields["markPrice"])
    assert float(fields["openInterestValue"]) == pytest.approx(value, abs=0.02)


def test_liquidations_happen_only_where_mark_reached_the_trigger(busy: tuple[Market, list[Message]]) -> None:
    records = [record for name in busy[0].symbols for record in busy[0].symbol(name).liquidations]
    assert len(records) >= 10
    for record in records:
        if record.is_long:
            assert record.mark <= record.trigger
            assert record.bankruptcy <= record.trigger
        else:
            assert record.mark >= record.trigger
            assert record.bankruptcy >= record.trigger


def test_no_position_survives_its_trigger(busy: tuple[Market, list[Message]]) -> None:
    market = busy[0]
    for name in market.symbols:
        flow = market.symbol(name).flow
        waiting = [p for p in flow.ledger.positions if (flow.mark_price <= p.trigger) == p.is_long]
        assert all(
            flow.mark_price > p.trigger if p.is_long else flow.mark_price < p.trigger for p in flow.ledger.positions
        ), waiting


def test_every_liquidation_is_told_once_on_the_500_ms_grid(busy: tuple[Market, list[Message]]) -> None:
    market, messages = busy
    for name in market.symbols:
        symbol = market.symbol(name)
        bodies = by_topic(messages)[f"allLiquidation.{name}"]
        rows = [row for body in bodies for row in body["data"]]
        told = symbol.liquidations[: len(symbol.liquidations) - len(symbol.unsent)]
        assert rows == [
            {
                "T": record.time_ms,
                "s": name,
                "S": "Buy" if record.is_long else "Sell",
                "v": symbol.spec.size_text(record.size),
                "p": symbol.spec.price_text(record.bankruptcy),
            }
            for record in told
        ]
        assert len({body["ts"] % 500 for body in bodies}) <= 1
        assert all(0 <= body["ts"] - row["T"] <= 500 for body in bodies for row in body["data"])


def test_a_liquidated_long_is_sold_into_the_market(busy: tuple[Market, list[Message]]) -> None:
    market, messages = busy
    symbol = market.symbol("WLDUSDT")
    prints: dict[tuple[int, str], int] = defaultdict(int)
    for message in messages:
        if message.topic == "publicTrade.WLDUSDT":
            for row in message.body["data"]:
                prints[row["T"], row["S"]] += round(float(row["v"]) * 10)
    for record in symbol.liquidations:
        assert prints[record.time_ms, "Sell" if record.is_long else "Buy"] >= record.size


@given(
    entry=st.integers(1_000, 10**7),
    size=st.integers(1, 10**7),
    leverage=st.integers(2, 100),
    ppm=st.integers(1_000, 4_900),
)
def test_trigger_and_bankruptcy_are_the_venues_formulas(entry: int, size: int, leverage: int, ppm: int) -> None:
    rate = ppm / 1e6
    cost = entry * size
    long = entry * (1 - 1 / leverage) / (1 - rate)
    short = entry * (1 + 1 / leverage) / (1 + rate)
    assert abs(trigger_price(True, cost, size, leverage, ppm) - long) <= 1
    assert abs(trigger_price(False, cost, size, leverage, ppm) - short) <= 1
    assert abs(bankruptcy_price(True, cost, size, leverage) - entry * (1 - 1 / leverage)) <= 1
    assert abs(bankruptcy_price(False, cost, size, leverage) - entry * (1 + 1 / leverage)) <= 1


def test_trigger_example_of_the_fact_sheet() -> None:
    """10x at a maintenance rate of 1 %: 0.9091 of the entry."""
    assert trigger_price(True, 10_000, 1, 10, 10_000) == 9_090
    assert bankruptcy_price(True, 10_000, 1, 10) == 9_000


def test_a_position_that_mark_would_liquidate_at_once_gets_less_leverage() -> None:
    ledger = Ledger(random.Random(1), 100, 5_000)
    for _ in range(200):
        position = ledger.open(True, 10, 10 * 10_000, 9_400, START)
        assert position.trigger < 9_400
        assert position.leverage <= 16


def test_leverage_is_spread_from_three_to_the_maximum() -> None:
    market = open_market()
    leverages = [p.leverage for p in market.symbol("WLDUSDT").flow.ledger.positions]
    assert min(leverages) <= 5
    assert 33 <= max(leverages) <= 75
    assert len(set(leverages)) >= 8


# Listing.


def test_a_symbol_listed_at_runtime_trades_and_leaves_the_others_alone() -> None:
    alone, joined = open_market(), open_market()
    run(alone, 1)
    run(joined, 1)
    joined.list_symbol(spec_for("NEWUSDT"))
    run(alone, 3)
    topics = by_topic(run(joined, 3))
    assert topics["orderbook.50.NEWUSDT"]
    fills = [(f.time_ms, f.price, f.size) for f in joined.symbol("WLDUSDT").fills]
    assert fills == [(f.time_ms, f.price, f.size) for f in alone.symbol("WLDUSDT").fills]


def test_a_delisted_symbol_is_unknown_and_silent() -> None:
    market = open_market("WLDUSDT", "OPUSDT")
    run(market, 1)
    market.delist("OPUSDT")
    assert not market.knows("tickers.OPUSDT")
    assert not any(topic.endswith("OPUSDT") for topic in by_topic(run(market, 2)))


@pytest.mark.parametrize(
    "topic",
    ["orderbook.50.WLDUSDT", "orderbook.1.WLDUSDT", "publicTrade.WLDUSDT", "tickers.WLDUSDT", "allLiquidation.WLDUSDT"],
)
def test_known_topics(topic: str) -> None:
    assert open_market().knows(topic)


@pytest.mark.parametrize(
    "topic",
    [
        "orderbook.500.WLDUSDT",
        "orderbook.50.wldusdt",
        "orderbook.50.NOPEUSDT",
        "orderbook.050.WLDUSDT",
        "orderbook.WLDUSDT",
        "liquidation.WLDUSDT",
        "tickers.",
        "tickers",
        "order",
        "",
    ],
)
def test_unknown_topics(topic: str) -> None:
    assert not open_market().knows(topic)


@pytest.mark.parametrize("symbol", ["wldusdt", "", "WLD USDT", "Ω", "A" * 31, "-"])
def test_names_that_are_no_symbols_are_refused(symbol: str) -> None:
    with pytest.raises(ConfigError, match="symbols: "):
        spec_for(symbol)


@pytest.mark.parametrize("rate", [0.0, -1.0, 1_001.0, float("nan")])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="rate: "):
        open_market(rate=rate)


def test_a_symbol_listed_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="WLDUSDT is listed twice"):
        open_market("WLDUSDT", "WLDUSDT")


# Instruments.


@pytest.mark.parametrize("symbol", [*KNOWN, "FOOUSDT", "BARPERP"])
def test_instruments_are_consistent_with_what_is_printed(symbol: str) -> None:
    spec = spec_for(symbol)
    row = spec.instrument_row()
    market = open_market(symbol)
    for message in run(market, 3):
        if message.topic.startswith("orderbook"):
            tick, step = row["priceFilter"]["tickSize"], row["lotSizeFilter"]["qtyStep"]
            for price, size in [*message.body["data"]["b"], *message.body["data"]["a"]]:
                assert len(price.partition(".")[2]) == len(tick.partition(".")[2])
                assert size == "0" or len(size.partition(".")[2]) == len(step.partition(".")[2])
    assert row["symbol"] == symbol
    assert row["fundingInterval"] == 480


@pytest.mark.parametrize("symbol", [*KNOWN, "FOOUSDT"])
def test_tiers_rise_and_never_let_a_position_start_liquidated(symbol: str) -> None:
    tiers = spec_for(symbol).tiers
    assert tiers[0].max_leverage == spec_for(symbol).max_leverage
    for tier in tiers:
        assert tier.maintenance_ppm * tier.max_leverage < 1_000_000
    for low, high in pairwise(tiers):
        assert low.limit < high.limit
        assert low.max_leverage > high.max_leverage
        at_border = [low.limit * t.maintenance_ppm * 100 // 1_000_000 - t.deduction for t in (low, high)]
        assert abs(at_border[0] - at_border[1]) <= len(tiers)
