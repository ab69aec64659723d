"""A venue played by hand against the recorder: what was sent is on the tape, one by one, and nothing else."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

import wld
from tests.e2e import scripted
from tests.e2e.scripted import (
    ALL,
    BOOK,
    LIQUIDATIONS,
    TICKERS,
    TRADES,
    Connection,
    Oracle,
    Recording,
    book,
    liquidations,
    open_venue,
    recording,
    snapshot,
    ticker,
    trade,
    trades,
)
from wld.config import TRANSPORTS


async def play(connection: Connection, oracle: Oracle, *frames: dict[str, Any]) -> None:
    for frame in frames:
        await connection.send(oracle.sent(frame))


async def finish(connection: Connection, record: Recording) -> None:
    await connection.send(scripted.end())
    await record.until_end()


NASTY = [
    "0.29", "0.1", "0.00000001", "1.00000001", "92233720368.54775807", "92233720368", "0.000000010000", "123456.70000000",
    "000.5", "4.35", "1.005", "0.07", "2.675", "1234567.89012345", "9007199254740993", "79228162514.26433759", "3",
]  # fmt: skip


async def test_nasty_numbers_come_back_exactly(tmp_path: Path) -> None:
    oracle = Oracle()
    fits = [text for text in NASTY if float(text) < 9.2e10]
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        assert await client.accept() == ALL
        asks = sorted(fits, key=float)
        await play(
            client,
            oracle,
            book(1_000, [], [[p, s] for p, s in zip(asks, fits, strict=True)], kind="snapshot"),
            trades(*(trade(n, p, s) for n, (p, s) in enumerate(zip(fits, reversed(fits), strict=True)))),
            liquidations(*(("Buy" if n % 2 else "Sell", s, p) for n, (p, s) in enumerate(zip(fits, fits[::-1], strict=True)))),
            ticker("snapshot", volume24h="123456789012345678.12345678", turnover24h="99999999999999999999.99999999",
                   openInterest=NASTY[14], fundingRate="-0.00012345", price24hPcnt="-0.99999999", lastPrice="0.29"),
            ticker(fundingRate="0", openInterestValue="92233720368547758.08", markPrice="92233720368.54775807"),
        )  # fmt: skip
        await finish(client, record)
    oracle.check(record.events)
    assert oracle.expected[1]["price"] == 29_000_000


async def test_the_url_is_used_verbatim_and_a_dead_rest_only_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        await play(client, oracle, snapshot(5), book(6))
        await finish(client, record)
        with trio.fail_after(10):
            while "instruments cannot be read" not in caplog.text:  # noqa: ASYNC110
                await trio.sleep(0.01)
    assert venue.paths == ["/v5/public/linear?from=test"]
    oracle.check(record.events)
    assert "recording goes on without" in caplog.text


# Traps, over the wire.


async def test_whole_request_rejection_costs_one_topic_only(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url, source__depth=500) as record:
        client = await venue.connection()
        request = await client.request()
        bad = "orderbook.500.WLDUSDT"
        await client.answer(request, success=False, text=f"error:handler not found,topic:{bad}")
        oracle.gap("rejected_topic", "orderbook.500", "WLDUSDT")
        again = await client.request()
        assert again["args"] == [topic for topic in request["args"] if topic != bad]
        assert again["req_id"] != request["req_id"]
        await client.answer(again)
        await play(client, oracle, trades(trade(1)), ticker("snapshot", lastPrice="1"))
        await finish(client, record)
    oracle.check(record.events)


async def test_already_subscribed_is_success_for_that_topic(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        request = await client.request()
        await client.answer(request, success=False, text=f"error:already subscribed,topic:{TRADES}")
        again = await client.request()
        assert again["args"] == [BOOK, TICKERS, LIQUIDATIONS]
        await client.answer(again)
        await play(client, oracle, trades(trade(1)), snapshot(9), liquidations(("Buy", "1", "0.9")))
        await finish(client, record)
    oracle.check(record.events)


async def test_data_before_the_ack_pongs_and_strange_answers_are_no_trouble(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url, source__ping_interval=0.02) as record:
        client = await venue.connection()
        request = await client.request()
        await play(client, oracle, snapshot(9), trades(trade(1)))
        await client.answer(request)
        await client.answer(request)
        await client.send({"success": False, "ret_msg": "error:invalid op", "conn_id": "c", "req_id": "zz", "op": "x"})
        await client.send({"args": ["1672916271846"], "op": "pong"})
        while client.pings < 2:  # noqa: ASYNC110
            await trio.sleep(0.005)
        await play(client, oracle, book(10, [["1.01", "3"]]))
        await finish(client, record)
    oracle.check(record.events)


async def test_a_hole_in_the_book_is_a_gap_a_resync_and_then_the_book_again(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        await play(client, oracle, snapshot(10), book(11, [["1.0", "4"]]))
        await client.send(book(14, [["1.0", "3"]]))
        oracle.gap("update_id", "orderbook.50", "WLDUSDT", 2)
        away, back = await client.request(), await client.request()
        assert (away["op"], away["args"], back["op"], back["args"]) == ("unsubscribe", [BOOK], "subscribe", [BOOK])
        await client.send(book(15))
        oracle.gap("update_id", "orderbook.50", "WLDUSDT", 1)
        await client.answer(away)
        await client.answer(back)
        await play(client, oracle, snapshot(40), book(41))
        await finish(client, record)
    oracle.check(record.events)


async def test_snapshots_restarts_repeats_and_stale_deltas(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        await play(client, oracle, snapshot(500), book(501), book(502, [["1.0", "0"]], [["1.3", "2"]]))
        await client.send(book(502, [["1.0", "0"]], [["1.3", "2"]]))
        await play(client, oracle, snapshot(300), book(301), snapshot(1), book(2), book(3))
        await client.send(book(2))
        await play(client, oracle, book(4, [["0.95", "0"]]))
        await finish(client, record)
    oracle.check(record.events)
    assert record.counters["stale_delta"] == 2


async def test_a_delta_of_update_id_1_is_the_new_book(tmp_path: Path) -> None:
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        await client.send(snapshot(500))
        await client.send(book(1, [["2.0", "1"]], [["2.1", "1"]]))
        await client.send(book(2, [["2.05", "1"]]))
        await finish(client, record)
    first, second, third, _ = record.events
    assert [type(e) for e in (first, second, third)] == [wld.BookSnapshot, wld.BookSnapshot, wld.BookDelta]


async def test_depth_1_snapshots_with_the_same_update_id_are_all_kept(tmp_path: Path) -> None:
    oracle = Oracle()
    topic = "orderbook.1.WLDUSDT"
    async with open_venue() as venue, recording(tmp_path, venue.url, source__depth=1) as record:
        client = await venue.connection()
        assert (await client.accept())[0] == topic
        quotes = {"bids": [["1.0", "5"]], "asks": [["1.1", "6"]], "kind": "snapshot", "topic": topic}
        await play(client, oracle, book(7, **quotes), book(7, **quotes), book(5, **quotes))
        await finish(client, record)
    oracle.check(record.events)


async def test_a_crossed_book_is_a_gap_and_a_resync(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        await play(client, oracle, snapshot(10))
        await client.send(book(11, [["1.15", "3"]]))
        oracle.gap("crossed_book", "orderbook.50", "WLDUSDT", 1)
        away, back = await client.request(), await client.request()
        await client.answer(away)
        await client.answer(back)
        await play(client, oracle, snapshot(30), book(31))
        await finish(client, record)
    oracle.check(record.events)


async def test_trades_are_deduplicated_by_id_also_after_a_reconnect(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        await play(client, oracle, trades(trade(1), trade(2)))
        await client.send(trades(trade(2), trade(1)))
        await client.socket.aclose()
        client = await venue.connection()
        assert await client.accept() == ALL
        oracle.gap("disconnect")
        await client.send(trades(trade(2), trade(3)))
        oracle.sent(trades(trade(3)))
        await finish(client, record)
    oracle.check(record.events)


async def test_1024_trades_of_one_order_in_one_message(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        many = [trade(n, seq=8 * 10**11, T=scripted.T0) for n in range(1, 1_101)]
        await play(client, oracle, trades(*many[:1024]), trades(*many[1024:]))
        await finish(client, record)
    oracle.check(record.events)


async def test_numbers_beyond_32_and_53_bits(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        big = 2**62 + 1
        await play(
            client,
            oracle,
            snapshot(2**53 + 1, seq=big),
            book(2**53 + 2, seq=big + 2),
            trades(trade(1, seq=2**63 - 1)),
            {**ticker("snapshot", lastPrice="1"), "cs": 2**63 - 1},
        )
        await finish(client, record)
    oracle.check(record.events)


async def test_ticker_fields_are_merged_and_absent_is_not_zero(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        await play(
            client,
            oracle,
            ticker(
                "snapshot",
                lastPrice="1.1",
                fundingRate="",
                preOpenPrice="",
                nextFundingTime="",
                tickDirection="PlusTick",
            ),
            ticker(bid1Price="1.0", bid1Size="0"),
            ticker(lastPrice="", fundingRate="0.0001", nextFundingTime="1790028800000", fundingIntervalHour="8"),
            ticker(),
            ticker("snapshot", lastPrice="1.2"),
        )
        await finish(client, record)
    oracle.check(record.events)
    assert "funding_rate" not in oracle.expected[0]
    assert "bid_size" not in oracle.expected[-1]


async def test_other_topics_and_unknown_fields_are_passed_over(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        await client.send({"topic": "kline.1.WLDUSDT", "type": "snapshot", "ts": 1, "data": [{"open": "1"}]})
        await client.send({"topic": "orderbook.50.BTCUSDT", "type": "delta", "ts": 1, "data": {}})
        await client.send({"topic": "liquidation.WLDUSDT", "type": "snapshot", "ts": 1, "data": {"price": "1"}})
        frame = {"fresh": [1, {"a": None}], **trades(trade(1, fresh={"x": 1}))}
        await play(client, oracle, frame)
        await finish(client, record)
        assert record.counters["unknown_topic"] == 3
    oracle.check(record.events)


async def test_no_first_data_after_an_ack_is_asked_for_again(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url, source__first_data_timeout=0.05) as record:
        client = await venue.connection()
        await client.accept()
        asked = []
        for _ in range(4):
            request = await client.request()
            asked.append((request["op"], request["args"]))
            await client.answer(request)
        assert sorted(asked) == [
            ("subscribe", [BOOK]), ("subscribe", [TICKERS]), ("unsubscribe", [BOOK]), ("unsubscribe", [TICKERS]),
        ]  # fmt: skip
        await play(client, oracle, snapshot(9), ticker("snapshot", lastPrice="1"))
        await finish(client, record)
    oracle.check(record.events)


async def test_a_silent_connection_is_given_up_and_everything_subscribed_again(tmp_path: Path) -> None:
    oracle = Oracle()
    keys = {"source__ping_interval": 0.05, "source__pong_timeout": 0.05}
    async with open_venue() as venue, recording(tmp_path, venue.url, **keys) as record:
        client = await venue.connection()
        await client.accept()
        await play(client, oracle, snapshot(9))
        client.is_mute = True
        client = await venue.connection()
        assert await client.accept() == ALL
        oracle.gap("silence")
        await play(client, oracle, snapshot(30))
        await finish(client, record)
    oracle.check(record.events)


# Bad input.

BAD: list[tuple[str, str | bytes, str]] = [
    ("broken JSON", '{"topic":"publicTrade.WLDUSDT",', "json"),
    ("no JSON", "upstream connect error", "json"),
    ("an array", "[1,2]", "envelope"),
    ("null", "null", "envelope"),
    ("an empty object", "{}", "envelope"),
    ("an empty text", "", "json"),
    ("a topic that is no text", '{"topic":7}', "envelope"),
    ("too deep", '{"topic":"tickers.WLDUSDT","data":' + "[" * 100_000, "json"),
    ("a lone surrogate", '{"topic":"\\ud800"}', "json"),
    ("binary", b"\x00\x01\x02", "binary"),
    ("10 MB of nothing", '{"topic":"' + "x" * 10_000_000, "json"),
]


async def test_a_frame_that_cannot_be_read_is_counted_and_a_gap_for_all(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        await play(client, oracle, snapshot(10))
        for n, (label, frame, _) in enumerate(BAD):
            await client.send(frame)
            oracle.gap("undecodable", label=label)
            await play(client, oracle, book(11 + n))
        await finish(client, record)
        kinds = Counter(kind for _, _, kind in BAD)
        assert {kind: record.counters[kind] for kind in kinds} == kinds
    oracle.check(record.events)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_text_that_is_not_utf_8_is_counted_and_a_gap(transport: str, tmp_path: Path) -> None:
    """The WebSocket standard wants the connection ended for it; the next one goes on at once."""
    async with open_venue() as venue, recording(tmp_path, venue.url, source__transport=transport) as record:
        client = await venue.connection()
        await client.accept()
        await client.send(snapshot(10))
        await client.send_raw(0x1, b'{"topic":"\xff\xfe\xc3("}')
        client = await venue.connection()
        await client.accept()
        await client.send(snapshot(12))
        await finish(client, record)
        assert record.counters["utf8"] == 1
    first, gap, second, _ = record.events
    assert isinstance(gap, wld.Gap)
    assert (type(first), type(second)) == (wld.BookSnapshot, wld.BookSnapshot)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_message_beyond_the_limit_is_counted_and_a_gap(transport: str, tmp_path: Path) -> None:
    keys = {"source__transport": transport, "source__max_message_bytes": 300_000}
    async with open_venue() as venue, recording(tmp_path, venue.url, **keys) as record:
        client = await venue.connection()
        await client.accept()
        await client.send(snapshot(10))
        with suppress(ConnectionClosed):  # it may be refused before it is sent whole
            await client.send("x" * 300_001)
        client = await venue.connection()
        await client.accept()
        await client.send(snapshot(12))
        await finish(client, record)
        assert record.counters["oversize"] == 1
    assert [type(event) for event in record.events][:3] == [wld.BookSnapshot, wld.Gap, wld.BookSnapshot]


def without(frame: dict[str, Any], key: str) -> dict[str, Any]:
    """A frame whose data (or each item of it) lacks a field."""
    inner = frame["data"]
    rows = inner if isinstance(inner, list) else [inner]
    for row in rows:
        del row[key]
    return frame


ODD: list[tuple[str, dict[str, Any], str, int | None]] = [
    ("a trade without price", without(trades(trade(1)), "p"), "fields", 1),
    ("a trade without id", without(trades(trade(1)), "i"), "fields", 1),
    ("a trade without side", without(trades(trade(1)), "S"), "fields", 1),
    ("a trade of another symbol", trades(trade(1, s="BTCUSDT")), "fields", 1),
    ("a book of another symbol", book(11, [["1.0", "9"]], s="BTCUSDT"), "fields", None),
    ("a ticker of another symbol", ticker(symbol="BTCUSDT", lastPrice="5"), "fields", None),
    ("a price as a number", trades(trade(1, p=1.05)), "fields", 1),
    ("a time as a text", trades(trade(1, T="1790000000000")), "fields", 1),
    ("a side in lower case", trades(trade(1, S="buy")), "fields", 1),
    ("a flag as a text", trades(trade(1, BT="false")), "fields", 1),
    ("an item that is null", {**trades(), "data": [None]}, "fields", 1),
    ("data that is an object", {**trades(), "data": {}}, "fields", None),
    ("data that is missing", {"topic": TRADES, "type": "snapshot", "ts": 1}, "fields", None),
    ("a size beyond 64 bits", trades(trade(1, size="92233720368.54775808")), "number", 1),
    ("a price of nine places", trades(trade(1, price="1.000000001")), "number", 1),
    ("a price with an exponent", trades(trade(1, price="1e5")), "number", 1),
    ("a price that is not a number", trades(trade(1, price="NaN")), "number", 1),
    ("an endless price", trades(trade(1, price="Infinity")), "number", 1),
    ("a negative size", trades(trade(1, size="-1")), "number", 1),
    ("an empty price", trades(trade(1, price="")), "number", 1),
    ("digits of another script", trades(trade(1, price="١٢")), "number", 1),
    ("underscores", trades(trade(1, price="1_000")), "number", 1),
    ("a price of 5,000 digits", trades(trade(1, price="9" * 5000)), "number", 1),
    ("a time beyond the year 2262", trades(trade(1, T=2**62)), "number", 1),
    ("a negative time", trades(trade(1, T=-1)), "number", 1),
    ("a sequence of 70 bits", trades(trade(1, seq=2**70)), "number", 1),
    ("a liquidation without price", without(liquidations(("Buy", "1", "1")), "p"), "fields", 1),
    ("a liquidation of no side", liquidations(("Buy", "1", "1"), ("Both", "1", "1")), "fields", 1),
    ("a ticker that is a list", {**ticker(), "data": []}, "fields", None),
    ("a ticker's number", ticker(lastPrice=5), "fields", None),  # type: ignore[arg-type]
    ("a ticker without symbol", without(ticker(lastPrice="5"), "symbol"), "fields", None),
    ("a ticker's word", ticker(lastPrice="five"), "number", None),
    ("a ticker of no type", {**ticker(lastPrice="5"), "type": "update"}, "fields", None),
    ("a book without u", without(book(11), "u"), "fields", None),
    ("a book without bids", without(book(11), "b"), "fields", None),
    ("a level of three", book(11, [["1.0", "1", "1"]]), "fields", None),
    ("a level of one", book(11, [["1.0"]]), "fields", None),
    ("a level of numbers", book(11, [[1.0, 1]]), "fields", None),
    ("a negative level", book(11, [["-1.0", "1"]]), "number", None),
    ("a level that does not fit", book(11, [["1.0", "99999999999999"]]), "number", None),
    ("an update id as text", {**book(11), "data": {**book(11)["data"], "u": "11"}}, "fields", None),
    ("an update id of 70 bits", book(2**70), "number", None),
    ("a book of no type", {**book(11), "type": "update"}, "fields", None),
    ("a push time as text", {**book(11), "ts": "1790000000000"}, "envelope", None),
]  # fmt: skip


async def test_a_message_that_cannot_be_used_is_counted_and_a_gap_of_its_topic(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        await play(client, oracle, snapshot(10), ticker("snapshot", lastPrice="1"))
        for n, (label, frame, kind, missed) in enumerate(ODD):
            if label == "a liquidation of no side":
                oracle.sent({**frame, "data": frame["data"][:1]})
            await client.send(frame)
            topic = frame["topic"].rpartition(".")[0]
            if kind == "envelope":
                oracle.gap("undecodable", label=label)
            else:
                oracle.gap("undecodable", topic, "WLDUSDT", missed, label=label)
            await play(client, oracle, book(11 + n), trades(trade(100 + n)), ticker(lastPrice=f"{n}"))
        await finish(client, record)
        kinds = Counter(kind for _, _, kind, _ in ODD)
        assert {kind: record.counters[kind] for kind in kinds} == kinds
    oracle.check(record.events)


async def test_one_bad_trade_among_good_ones_costs_itself_only(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        await client.send(trades(trade(1), trade(2, price="x"), trade(3)))
        oracle.sent(trades(trade(1)))
        oracle.gap("undecodable", "publicTrade", "WLDUSDT", 1)
        oracle.sent(trades(trade(3)))
        await finish(client, record)
    oracle.check(record.events)


async def test_a_lost_delta_that_could_not_be_read_shows_in_the_next_update_id(tmp_path: Path) -> None:
    oracle = Oracle()
    async with open_venue() as venue, recording(tmp_path, venue.url) as record:
        client = await venue.connection()
        await client.accept()
        await play(client, oracle, snapshot(10))
        await client.send('{"topic":"orderbook.50.WLDUSDT","data":')
        oracle.gap("undecodable")
        await client.send(book(12))
        oracle.gap("update_id", "orderbook.50", "WLDUSDT", 1)
        for _ in range(2):
            await client.answer(await client.request())
        oracle.gap("update_id", "orderbook.50", "WLDUSDT", 1)
        await play(client, oracle, snapshot(20))
        await finish(client, record)
    assert [type(e) for e in record.events][:2] == [wld.BookSnapshot, wld.Gap]


async def test_each_kind_of_bad_input_is_logged_once_a_minute_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with open_venue() as venue, recording(tmp_path, venue.url) as record:
            client = await venue.connection()
            await client.accept()
            for _ in range(50):
                await client.send("{broken")
                await client.send(b"\x00")
                await client.send(trades(trade(1, price="x")))
            await finish(client, record)
            assert [record.counters[kind] for kind in ("json", "binary", "number")] == [50, 50, 50]
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("wld.bybit") and "REST" not in r.getMessage()]
    for kind in ("json", "binary", "number"):
        assert len([line for line in lines if line.startswith(f"{kind}:")]) == 1
    # Two of the three may have been of any topic and stand side by side: one Gap.
    assert sum(isinstance(event, wld.Gap) for event in record.events) == 100
