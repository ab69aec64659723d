"""Columns are rows: whatever comes, in whatever pieces, both decoders give the same events and end in the same state."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wld.bybit.book_columns
import wld.bybit.columns
import wld.bybit.ticker_columns
from tests.bybit import frames
from tests.bybit.frames import S
from wld.batch import Batch
from wld.bybit.levels import KnownLevels
from wld.bybit.protocol import BybitProtocol
from wld.bybit.subscriptions import topics_for
from wld.bybit.topics import MOST_GONE, STRICT_DEPTH, Sides
from wld.bybit.websocket import BinaryMessage, Message
from wld.config import TOPICS
from wld.events import BookDelta, BookSnapshot, Event, Gap, GapReason, Ticker, Trade

SYMBOLS = ("WLDUSDT", "1000PEPEUSDT", "BTC-27NOV26", "AUSDT")


@pytest.fixture(autouse=True, params=[1, 10**9], ids=["usual deltas at once", "one by one"])
def small_reads_too(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wld.bybit.columns, "COLUMNS_FROM", 1)
    monkeypatch.setattr(wld.bybit.columns, "DELTAS_FROM", request.param)
    monkeypatch.setattr(wld.bybit.ticker_columns, "_MANY", request.param)
    monkeypatch.setattr(wld.bybit.book_columns, "FEW", request.param - 1)


class Pair:
    """The same stream through rows and through columns."""

    def __init__(self, *topics: str) -> None:
        topics = topics or tuple(topics_for(SYMBOLS, TOPICS, 50))
        self.rows, self.columns = BybitProtocol(topics), BybitProtocol(topics)
        self.rows.open(0)
        self.columns.open(0)
        self.numbers = 0
        self.batches: list[Batch] = []

    def read(self, messages: list[Message], now: int) -> list[Event]:
        expected = [event for message in messages for event in self.rows.receive(message, now)]
        got = self.columns.receive_read(messages, now)
        if isinstance(got, Batch):
            self.batches.append(got)
        assert list(got) == expected
        self.check_views(Batch(got), Batch(expected))
        self.check_state()
        return expected

    def check_views(self, got: Batch, expected: Batch) -> None:
        assert len(got) == len(expected)
        for name in ("trades", "depth", "liquidations", "tickers", "gaps"):
            mine, theirs = getattr(got, name), getattr(expected, name)
            if "symbol" in mine.dtype.names and name != "gaps":
                symbols = np.array(got.symbols), np.array(expected.symbols)
                assert (not len(mine)) or (symbols[0][mine["symbol"]] == symbols[1][theirs["symbol"]]).all()
                mine, theirs = mine.copy(), theirs.copy()
                mine["symbol"] = theirs["symbol"] = 0
            assert (mine == theirs).all(), name
        if len(got):
            assert got.first_receive_time == expected[0].receive_time
            assert got.last_receive_time == max(e.receive_time for e in expected)

    def check_state(self) -> None:
        mine, theirs = self.columns.decoder, self.rows.decoder
        assert mine.counters == theirs.counters
        assert mine.last_data_time == theirs.last_data_time
        assert self.columns.take_notes() == self.rows.take_notes()
        assert mine.take_restarts() == theirs.take_restarts()
        assert self.columns.has_data == self.rows.has_data
        for name, topic in theirs.topics.items():
            other = mine.topics[name]
            other_ticker = dict(other.ticker)
            if other.ticker_columns is not None:
                kept = other.ticker_columns, other.ticker_extra
                other.take_ticker_back()
                other_ticker = dict(other.ticker)
                other.ticker_columns, other.ticker_extra = kept
            assert other_ticker == topic.ticker
            for field in (
                "last_update",
                "sequence",
                "awaiting",
                "last_time",
                "dropped",
                "silent_since",
                "recent",
                "older",
                "last_trade",
                "push",
                "push_times",
                "pushes",
            ):
                assert getattr(other, field) == getattr(topic, field), (name, field)
            assert (other.sides.bids, other.sides.asks) == (topic.sides.bids, topic.sides.asks)
            assert other.sides.best_bid >= max(other.sides.bids, default=-1)
            assert other.sides.best_ask <= min(other.sides.asks, default=1 << 63)

    def lose(self) -> None:
        for protocol in (self.rows, self.columns):
            protocol.lost(GapReason.DISCONNECT)
            protocol.open(0)

    def silence(self, topic: str) -> None:
        for protocol in (self.rows, self.columns):
            protocol.decoder.note_silence(topic)


class Exchange:
    """A stream of messages with all that can be wrong with one; the same for the same luck."""

    def __init__(self, luck: random.Random, trouble: float, symbols: tuple[str, ...] = SYMBOLS) -> None:
        self.luck = luck
        self.symbols = symbols
        self.trouble = trouble
        self.update: dict[str, int] = {}
        self.trade = 0
        self.ids: list[int] = []

    def number(self, low: int = 1, high: int = 60) -> str:
        luck = self.luck
        if luck.random() < self.trouble * 0.02:
            return luck.choice(["", "x", "1e5", "-1", "1.123456789", "99999999999999", "1.0\\u0030", "0x1", ".", "٣"])
        if luck.random() < 0.1:
            return luck.choice(["1234567890.5", "123456789", "4000000000.12345678", "0.00000001", "12345678.12345678"])
        value = luck.randint(low, high)
        return f"{value // 10}.{value % 10}"

    def size(self, gone: float = 0.3) -> str:
        return "0" if self.luck.random() < gone else self.number(1, 10**6)

    def levels(self, low: int, high: int, gone: float) -> list[Any]:
        luck = self.luck
        found: list[Any] = [[self.number(low, high), self.size(gone)] for _ in range(luck.choice([0, 0, 1, 2, 3, 8]))]
        if luck.random() < self.trouble * 0.02:
            found.append(luck.choice([["1"], ["1", "2", "3"], [], 5, None, ["1", 2], {"1": "2"}, [["1", "2"]], "1"]))
        return found

    def book(self, symbol: str) -> dict[str, Any]:
        luck = self.luck
        kind = "delta"
        update = self.update.get(symbol, 0) + 1
        if symbol not in self.update or luck.random() < 0.06:
            kind, update = "snapshot", luck.choice([update, 1, *[luck.randint(2, 1000) for _ in range(4)]])
        elif luck.random() < self.trouble * 0.05:
            update += luck.choice([1, 2, -1, -5, 10**20])
        self.update[symbol] = update if update < 10**10 else self.update[symbol]
        middle = luck.randint(20, 40) if luck.random() < 0.3 else 30
        gone = 0.3 if kind == "delta" or luck.random() < 0.1 else 0.0
        data = {"s": symbol, "b": self.levels(1, middle, gone), "a": self.levels(middle + 1, 60, gone), "u": update}
        if luck.random() < 0.9:
            data["seq"] = 10**11 + update - (luck.random() < self.trouble * 0.03) * 10**6
        return self.outer(f"orderbook.50.{symbol}", kind, data, cts=frames.T0 - 1)

    def outer(self, topic: str, kind: str, data: Any, **more: Any) -> dict[str, Any]:
        luck = self.luck
        message = {"topic": topic, "type": kind, "ts": frames.T0, "data": data, **more}
        if luck.random() < self.trouble * 0.03:
            message[luck.choice(["ts", "cts", "cs", "type", "topic", "data", "success", "op"])] = luck.choice(
                [None, -1, 2**70, "x", [], 5]
            )
        if luck.random() < 0.05:
            message["extra"] = {"deep": ["er", '"', {}]}
        return message

    def trades(self, symbol: str) -> dict[str, Any]:
        luck = self.luck
        items = []
        for _ in range(luck.choice([1, 1, 2, 5])):
            self.trade += 1
            i = (
                self.trade
                if luck.random() >= self.trouble * 0.03 or self.trade < 3
                else luck.randint(1, self.trade - 1)
            )
            item = frames.trade(i, s=symbol, p=self.number(), v=self.number(), S=luck.choice(["Buy", "Sell"]))
            if luck.random() < 0.2:
                for key in luck.sample(["L", "RPI", "seq", "BT"], 2):
                    item.pop(key)
            if luck.random() < self.trouble * 0.03:
                item[luck.choice(list(item))] = luck.choice(["", "x", None, -1, True, 2**64, "a" * 200, "WLDUSDT"])
            items.append(item)
        return self.outer(f"publicTrade.{symbol}", "snapshot", items)

    def ticker(self, symbol: str) -> dict[str, Any]:
        luck = self.luck
        names = ["lastPrice", "markPrice", "openInterest", "fundingRate", "turnover24h", "bid1Size", "basis"]
        data: dict[str, Any] = {"symbol": symbol} | {name: self.number() for name in luck.sample(names, 3)}
        if luck.random() < 0.3:
            data |= {"fundingRate": "-0.000125", "nextFundingTime": "1790000000000", "fundingIntervalHour": "8"}
        if luck.random() < 0.3:
            data["tickDirection"] = luck.choice(["PlusTick", "ZeroMinusTick", ""])
        if luck.random() < 0.3:
            data[luck.choice(["turnover24h", "bid1Size"])] = luck.choice(
                ["92233720368.54775807", "123456789012.5", "9" * 20]
            )
        if luck.random() < 0.1:
            data |= {
                "deliveryTime": luck.choice(["2026-11-27T08:00:00Z", ""]),
                "curPreListingPhase": "Finished",
                "new": [1],
            }
        if luck.random() < self.trouble * 0.05:
            data |= luck.choice(
                [{"turnover24h": "9" * 47}, {"deliveryTime": "x" * 65}, {"lastPrice": 5}, {"symbol": "X"}, {"basis": "9" * 14},
                 {"nextFundingTime": "soon"}, {"tickDirection": "Up"}, {"curPreListingPhase": []}, {"basis": "1\u0662"}, {"symbol": ""},
                 {"turnover24h": "-9223372036854775808"}, {"bid1Size": '1"2'}, {"volume24h": None}, {"markPrice": "-92233720368.54775808"}]
            )  # fmt: skip
        return self.outer(
            f"tickers.{symbol}",
            luck.choice(["snapshot", "delta", "delta"]),
            data,
            cs=luck.randint(1, 99),
            ts=frames.T0 + (self.trouble > 0) * luck.choice([0, 0, 0, -5, 5]),
        )

    def liquidation(self, symbol: str) -> dict[str, Any]:
        luck = self.luck
        items = [
            {"T": frames.T0, "s": symbol, "S": luck.choice(["Buy", "Sell"]), "v": self.number(), "p": self.number()}
            for _ in range(luck.choice([1, 1, 3]))
        ]
        if luck.random() < self.trouble * 0.03:
            items[-1][luck.choice(list(items[-1]))] = luck.choice(["", "x", None, -1])
        ts = frames.T0 + luck.choice([0, 1, luck.randint(2, 10_000)])  # one in three or so may be a repetition
        return self.outer(f"allLiquidation.{symbol}", "snapshot", items, ts=ts)

    def message(self) -> Message:
        luck = self.luck
        if luck.random() < self.trouble * 0.02:
            return luck.choice(
                [b"", b"{}", b"[]", b"{", b"null", b'{"topic":"orderbook.50.NOPE"}', BinaryMessage(b"\x00"), b"\xff" * 20,
                 b'{"op":"pong"}', b'{"success":true,"ret_msg":"","op":"subscribe"}', b'{"topic":"orderbook.50.WLDUSDT"}',
                 b'{"topic":"publicTrade.WLDUSDT","type":"snapshot","ts":1,"data":[]}', b'{"a":"b"} ']
            )  # fmt: skip
        make = luck.choice([self.book] * 6 + [self.trades] * 2 + [self.ticker, self.liquidation])
        message = make(luck.choice(self.symbols))
        style = luck.random()
        if style < 0.1:
            keys = list(message)
            luck.shuffle(keys)
            message = {key: message[key] for key in keys}
        if style < 0.2:
            text = json.dumps(message, ensure_ascii=False)
        elif style < 0.25:
            text = json.dumps(message, indent=1, ensure_ascii=False)
        else:
            text = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
        return text if style > 0.9 else text.encode()


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.2, 1.0]), st.sampled_from([1, 3, 10, 40, 150]))
@settings(deadline=None, max_examples=60)
def test_columns_equal_rows_for_any_stream_in_any_pieces(seed: int, trouble: float, size: int) -> None:
    luck = random.Random(seed)
    exchange, pair = Exchange(luck, trouble), Pair()
    for now in range(1, 12):
        pair.read([exchange.message() for _ in range(luck.randint(1, size))], now * S)
        if luck.random() < trouble * 0.1:
            pair.lose()
            exchange.update.clear()
        if luck.random() < trouble * 0.1:
            pair.silence(luck.choice([t for t in pair.rows.topics if t.startswith(("orderbook", "tickers"))]))


def test_the_two_ways_may_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    luck = random.Random(3)
    exchange, pair = Exchange(luck, 0.1), Pair()
    for now in range(1, 200):
        monkeypatch.setattr(wld.bybit.columns, "COLUMNS_FROM", luck.choice([1, 1, 1000]))
        monkeypatch.setattr(wld.bybit.book_columns, "FEW", luck.choice([0, 1000]))
        pair.read([exchange.message() for _ in range(luck.choice([1, 5, 30]))], now * S)
    assert pair.columns._columns.reads > 20


def plain(pair: Pair, count: int = 30) -> None:
    pair.read([frames.snapshot(10).encode()], 1 * S)
    pair.read([frames.book(11 + i, [("1.0", str(i + 1))]).encode() for i in range(count)], 2 * S)
    assert pair.batches[-1].tables is not None


def test_a_plain_read_becomes_columns_without_any_row() -> None:
    pair = Pair()
    plain(pair)
    tables = pair.batches[-1].tables
    assert tables is not None
    assert (tables.count, tables.rows) == (30, [])
    assert tables.books is not None
    assert tables.books["update_id"].tolist() == list(range(11, 41))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda m: json.dumps(m), id="spaces"),
        pytest.param(lambda m: json.dumps(m, indent=2), id="lines"),
        pytest.param(lambda m: json.dumps(dict(reversed(m.items())), separators=(",", ":")), id="topic last"),
        pytest.param(lambda m: json.dumps({"ts": m["ts"], **m}, separators=(",", ":")), id="ts first"),
        pytest.param(lambda m: json.dumps({**m, "new": [{"x": '"'}]}, separators=(",", ":")), id="unknown fields"),
    ],
)
def test_other_ways_to_write_json_stay_fast(make: Callable[[dict[str, Any]], str]) -> None:
    pair = Pair()
    plain(pair)
    messages = [json.loads(frames.book(41 + i, [("1.0", "2"), ("0.9", "0")], [("1.3", "1")])) for i in range(20)]
    messages += [json.loads(frames.trades(frames.trade(i))) for i in range(5)]
    pair.read([make(message).encode() for message in messages], 3 * S)
    tables = pair.batches[-1].tables
    assert tables is not None
    assert (tables.count, tables.rows) == (25, [])


def test_one_odd_topic_does_not_cost_the_others_their_columns() -> None:
    pair = Pair()
    plain(pair)
    good = [frames.book(41 + i, [("1.0", "2")]).encode() for i in range(20)]
    odd = [frames.trades(frames.trade(1, p="x"), frames.trade(2)).encode()]
    events = pair.read([*good[:10], *odd, *good[10:]], 3 * S)
    tables = pair.batches[-1].tables
    assert tables is not None
    assert [number for number, _ in tables.rows] == [10, 11]
    assert [type(e) for e in events[9:13]] == [BookDelta, Gap, Trade, BookDelta]


def test_a_skipped_update_id_in_mid_read_is_the_same_gap_in_the_same_place() -> None:
    pair = Pair()
    plain(pair)
    events = pair.read([frames.book(u).encode() for u in (41, 42, 44, 45)], 3 * S)
    assert [type(e) for e in events] == [BookDelta, BookDelta, Gap]


def test_a_book_that_crosses_in_mid_read_is_the_same_gap_and_touches_nothing_else() -> None:
    pair = Pair()
    plain(pair)
    crossing = [frames.book(41, [("1.05", "1")]), frames.book(42, [("1.15", "3")]), frames.book(43)]
    others = [frames.trades(frames.trade(i)) for i in range(5)]
    events = pair.read([m.encode() for m in [*others[:3], *crossing, *others[3:]]], 3 * S)
    gaps = [e for e in events if isinstance(e, Gap)]
    assert [(g.reason, g.missed) for g in gaps] == [(GapReason.CROSSED_BOOK, 1)]


def test_a_level_that_goes_and_comes_back_in_one_read_is_not_forgotten() -> None:
    pair = Pair()
    plain(pair)
    moves = [[("1.0", "0")], [("1.0", "3")], [("1.0", "0"), ("1.0", "4")], [("1.0", "0")]]
    pair.read([frames.book(41 + i, m).encode() for i, m in enumerate(moves)], 3 * S)
    pair.read([frames.book(45, [], [("0.95", "1")]).encode(), frames.book(46, [("0.96", "1")]).encode()], 4 * S)


def book(update_id: int, kind: str, bids: list[Any], asks: list[Any], symbol: str = "WLDUSDT") -> bytes:
    data = {"s": symbol, "b": bids, "a": asks, "u": update_id, "seq": 10**12 + update_id}
    message = {"topic": f"orderbook.50.{symbol}", "type": kind, "ts": 5, "data": data, "cts": 4}
    return json.dumps(message, separators=(",", ":")).encode()


def test_snapshots_in_mid_stream_stay_columns_and_begin_the_book_anew() -> None:
    pair = Pair()
    plain(pair)
    other = "AUSDT"
    low, high = [["1.0", "5"], ["0.9", "7"]], [["1.1", "5"], ["1.4", "1"]]
    pair.read(
        [
            book(41, "delta", [["1.0", "2"], ["0.8", "1"]], []),
            book(9000, "snapshot", low, high, other),  # the first of its topic
            book(500, "snapshot", [["2.0", "1"]], [["2.5", "1"], ["2.1", "3"]]),  # far from what was before
            book(501, "delta", [["2.0", "0"], ["2.05", "1"]], [["1.1", "0"]]),
            book(9001, "delta", [["1.05", "1"]], [], other),
            book(30, "snapshot", low, high),  # update ids may go back
            book(40, "snapshot", low, []),
            book(41, "delta", [["0.9", "0"]], [["1.01", "1"]]),
        ],
        3 * S,
    )
    tables = pair.batches[-1].tables
    assert tables is not None
    assert tables.rows == []
    assert tables.books is not None
    assert tables.books["is_snapshot"].tolist() == [0, 1, 1, 0, 0, 1, 1, 0]
    pair.read([book(42, "delta", [["0.9", "1"]], [["1.0", "0"]]), book(9002, "delta", [], [], other)], 4 * S)
    assert pair.batches[-1].tables is not None
    assert pair.batches[-1].tables.rows == []


@pytest.mark.parametrize(
    ("update_id", "bids", "asks"),
    [
        pytest.param(1, [["1.0", "1"]], [["1.1", "1"]], id="a restart"),
        pytest.param(60, [["1.0", "1"], ["1.0", "0"]], [["1.1", "1"]], id="a level of no size"),
        pytest.param(60, [["1.2", "1"]], [["1.1", "1"]], id="crossed"),
        pytest.param(60, [], [], id="empty"),
        pytest.param(60, [["2000000", "1"]], [["2000001", "1"]], id="prices beyond the cache's"),
    ],
)
def test_odd_snapshots_mean_what_they_mean_by_rows(update_id: int, bids: list[Any], asks: list[Any]) -> None:
    pair = Pair()
    plain(pair)
    after = [book(update_id + i, "delta", [["0.5", str(i)]], [["1.3", "0"]]) for i in range(1, 4)]
    pair.read([book(41, "delta", [["0.7", "1"]], []), book(update_id, "snapshot", bids, asks), *after], 3 * S)
    for now in range(4, 8):
        pair.read([book(update_id + now, "delta", [["1.05", str(now % 2)]], []), book(41, "delta", [], [])], now * S)


def test_a_snapshot_tells_what_was_lost_before_it() -> None:
    pair = Pair()
    plain(pair)
    pair.silence("orderbook.50.WLDUSDT")
    events = pair.read([book(90, "snapshot", [["1.0", "1"]], []), book(91, "delta", [], [])], 3 * S)
    # Of its symbol's trades and liquidations nothing can tell: a Gap of each.
    assert [type(event) for event in events] == [Gap, BookSnapshot, Gap, Gap, BookDelta]
    events = pair.read([book(93, "delta", [], []), book(94, "delta", [], []), book(95, "snapshot", [], [])], 4 * S)
    assert [type(event) for event in events] == [Gap, Gap, BookSnapshot]


def test_1024_trades_and_a_second_delivery() -> None:
    pair = Pair()
    full = frames.trades(*(frames.trade(i) for i in range(1024))).encode()
    assert len(pair.read([full], 1 * S)) == 1024
    assert pair.batches[-1].tables is not None
    assert pair.read([full], 2 * S) == []


@pytest.mark.parametrize("symbols", [SYMBOLS[:1], SYMBOLS])
def test_the_same_ids_are_remembered_in_the_same_blocks(symbols: tuple[str, ...]) -> None:
    luck, pair, number = random.Random(1), Pair(), count(1)
    for now in range(1, 8):
        messages = []
        for _ in range(150):
            symbol = luck.choice(symbols)
            items = [
                frames.trade(next(number), s=symbol, T=luck.randint(1, 10**6)) for _ in range(luck.choice([0, 1, 2, 7]))
            ]
            messages.append(frames.trades(*items).replace("publicTrade.WLDUSDT", f"publicTrade.{symbol}").encode())
        pair.read(list(messages), now * S)
        assert pair.batches[-1].tables is not None
        assert pair.batches[-1].tables.rows == []
    assert any(len(topic.older) > 500 for topic in pair.columns.decoder.topics.values())


def test_liquidations_of_one_push_time_are_columns_and_a_second_delivery_is_dropped() -> None:
    pair = Pair()
    plain(pair)

    def liquidation(price: str, ts: int = 7) -> bytes:
        item = {"T": 5, "s": "WLDUSDT", "S": "Buy", "v": "1", "p": price}
        return json.dumps(
            {"topic": "allLiquidation.WLDUSDT", "type": "snapshot", "ts": ts, "data": [item, item]}
        ).encode()

    assert len(pair.read([liquidation("1.0"), liquidation("1.1"), liquidation("1.0", 8)], 3 * S)) == 6
    assert pair.batches[-1].tables is not None
    assert pair.batches[-1].tables.rows == []
    assert len(pair.read([liquidation("1.2"), liquidation("1.3", 8), liquidation("1.4")], 4 * S)) == 6
    assert pair.batches[-1].tables is not None
    assert pair.batches[-1].tables.rows == []
    assert (
        len(pair.read([liquidation("1.1"), liquidation("1.3"), liquidation("1.3"), liquidation("1.4", 9)], 5 * S)) == 4
    )


def test_a_ticker_that_is_delivered_twice_is_dropped_in_a_read_and_across_reads() -> None:
    pair = Pair()
    plain(pair)
    ticks = [frames.ticker(cs=10 + i, lastPrice=f"1.0{i}").encode() for i in range(3)]
    first = pair.read([ticks[0], ticks[1], ticks[1], ticks[2]], 3 * S)
    second = pair.read([ticks[2], frames.ticker(cs=12, lastPrice="1.5").encode()], 4 * S)
    prices = [event.last_price for event in first + second if isinstance(event, Ticker)]
    assert prices == [100_000_000, 101_000_000, 102_000_000, 150_000_000]


def test_an_id_that_is_no_uuid_keeps_its_text() -> None:
    pair = Pair()
    (event,) = pair.read([frames.trades({**frames.trade(1), "i": "2100000000007"}).encode()], 1 * S)
    assert isinstance(event, Trade)
    assert event.trade_id == "2100000000007"


def test_numbers_beyond_64_bits_and_texts_are_columns_until_they_are_replaced() -> None:
    pair = Pair()
    sequence = count(10)

    def ticker(kind: str = "delta", **fields: str) -> str:
        return frames.ticker(kind, next(sequence), **fields)

    large, text = "123456789012345.5", "2026-11-27T08:00:00Z"

    def read(*messages: str) -> list[Any]:
        tickers = pair.read([message.encode() for message in messages], 1 * S)
        tables = pair.batches[-1].tables
        assert tables is not None
        assert tables.rows == []
        return [(e.turnover_24h, e.delivery_time) for e in tickers if isinstance(e, Ticker)]

    wide = 12345678901234550000000
    assert read(
        ticker("snapshot", turnover24h=large, lastPrice="1"), ticker(lastPrice="2"),
        ticker(turnover24h="5"), ticker(turnover24h=large, deliveryTime=text),
    ) == [(wide, None), (wide, None), (500000000, None), (wide, text)]  # fmt: skip
    assert read(ticker(lastPrice="3"), ticker(turnover24h="", deliveryTime="")) == [(wide, text)] * 2
    assert read(ticker(turnover24h="7"), ticker("snapshot", lastPrice="3")) == [
        (700000000, text), (None, None),
    ]  # fmt: skip
    assert read(ticker(lastPrice="3")) == [(None, None)]


def test_a_number_beyond_every_size_costs_its_message_alone() -> None:
    pair = Pair()
    events = pair.read(
        [frames.ticker("snapshot", lastPrice="1").encode(), frames.ticker(cs=6, turnover24h="9" * 47).encode()], 1 * S
    )
    assert [type(event) for event in events] == [Ticker, Gap]


def test_depth_1_goes_by_rows() -> None:
    assert STRICT_DEPTH == 50
    pair = Pair("orderbook.1.WLDUSDT")
    pair.read([frames.snapshot(7, depth=1).encode(), frames.book(8, [("1.0", "2")], depth=1).encode()] * 3, 1 * S)


def test_real_messages() -> None:
    path = Path(__file__).parents[3] / "shared/captures/nautilus_trader/2024-12-01_XRPUSDT_ob500.first50.jsonl"
    if not path.exists():
        pytest.skip(f"no real captures at {path}")
    lines: list[Message] = list(path.read_bytes().splitlines())
    for size in (1, 7, 50):
        pair = Pair("orderbook.500.XRPUSDT")
        for i in range(0, 50, size):
            assert len(pair.read(lines[i : i + size], (i + 1) * S)) == len(lines[i : i + size])
        assert all(batch.tables is not None and not batch.tables.rows for batch in pair.batches)
        assert pair.batches


def test_removals_are_not_kept_for_a_cache_that_no_read_asks_any_more() -> None:
    """Small reads go by rows: what they remove is told to the columns' cache only while that costs less than learning anew."""
    sides, cells = Sides([(100, 1)], [(200, 1)]), KnownLevels()
    cells._adopt(sides)
    for price in range(101, 101 + 10 * MOST_GONE):
        sides.apply(((price % 150, 1),), ())
        sides.apply(((price % 150, 0),), ())
        assert len(sides.gone) <= MOST_GONE + 1
    assert sides.owner is None
    assert sides.gone == []


def test_what_the_prices_of_a_book_take_is_bounded_however_long_it_lives() -> None:
    """A set keeps a place for what went until it is laid out anew: 4 KB a side of 50 levels, of 2 at the start."""
    luck = random.Random(1)
    sides = Sides([(price, 1) for price in range(50)], [(price, 1) for price in range(100, 150)])
    most = 0
    for _ in range(5_000):
        gone, come = luck.choice(sorted(sides.bids)), luck.randrange(10**6)
        sides.apply(((gone, 0), (come, 1)), ())
        most = max(most, sys.getsizeof(sides.bids))
    assert len(sides.bids) in (49, 50)
    assert most < 5_000
