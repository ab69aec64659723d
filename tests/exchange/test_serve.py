"""Recorded tapes in the exchange's own protocol: what a client receives is what was recorded."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import trio
from trio_websocket import ConnectionClosed, open_websocket_url

import wld
from wld.bybit.decoder import MarketDecoder
from wld.exchange.recorded import RecordedMarket
from wld.exchange.serve import ServeAddress, ServeConfig, serve_tapes

T0 = 1_764_000_000_000_000_000
MS = 1_000_000
UNIT = 100_000_000
TOPICS = ("orderbook.50", "publicTrade", "tickers", "allLiquidation")
SYMBOLS = ("AAAUSDT", "BBBUSDT")


def recording(seconds: int = 4, seed: int = 1) -> list[wld.Event]:
    """Two symbols as the venue sends them: books by deltas, several trades and liquidations a message, tickers."""
    rng = np.random.default_rng(seed)
    events: list[wld.Event] = []
    books = {symbol: wld.OrderBook(symbol) for symbol in SYMBOLS}
    tickers = {s: wld.Ticker(s, last_price=UNIT, open_interest=7 * UNIT, funding_interval_hour=8) for s in SYMBOLS}
    sequence = 1000
    for step in range(seconds * 20):
        at = T0 + step * 50 * MS
        for symbol, book in books.items():
            sequence += 3
            times: dict[str, Any] = {"event_time": at - 20 * MS, "sent_time": at - 10 * MS, "receive_time": at}
            if step == 0:
                events.append(wld.Instrument(symbol, tick_size=10_000, lot_size=UNIT, receive_time=at))
                bids = tuple((UNIT - 10_000 * i, UNIT * i) for i in range(1, 51))
                asks = tuple((UNIT + 10_000 * i, UNIT * i) for i in range(1, 51))
                event: Any = wld.BookSnapshot(symbol, bids, asks, 77, sequence, **times)
            else:
                level = int(rng.integers(1, 51))
                change = ((UNIT - 10_000 * level, int(rng.integers(1, 9)) * UNIT),)
                bids, asks = (change, ()) if step % 2 else ((), ((UNIT + 10_000 * level, UNIT * level),))
                event = wld.BookDelta(symbol, bids, asks, book.update_id + 1, sequence, **times)
            book.apply(event)
            events.append(event)
            for i in range(int(rng.integers(0, 4))):
                side = wld.AggressorSide.BUY if rng.integers(2) else wld.AggressorSide.SELL
                name = str(__import__("uuid").UUID(bytes=rng.bytes(16)))
                direction = wld.TickDirection.ZERO_PLUS
                events.append(
                    wld.Trade(symbol, UNIT + i, UNIT, side, name, direction, sequence, False, False, False, **times)
                )
            if step % 7 == 3:
                side_of = wld.PositionSide.LONG
                events += [wld.Liquidation(symbol, side_of, 3 * UNIT, UNIT, **times)] * 2
            if step % 2 == 0:
                changes = {"last_price": UNIT + step, "sequence": sequence, "sent_time": at, "receive_time": at}
                tickers[symbol] = msgspec.structs.replace(tickers[symbol], **changes)
                events.append(tickers[symbol])
    return events


def write(folder: Path, events: list[wld.Event]) -> Path:
    with wld.TapeWriter(folder, source="test") as writer:
        writer.append(events)
    return folder


def plain(events: list[wld.Event]) -> dict[Any, list[wld.Event]]:
    """By kind of topic and symbol, without the time of reception and without what no feed carries."""
    found: dict[Any, list[wld.Event]] = {}
    for event in events:
        if isinstance(event, wld.Gap | wld.Repair | wld.Instrument):
            continue
        kind = "book" if isinstance(event, wld.BookSnapshot | wld.BookDelta) else type(event).__name__
        found.setdefault((kind, event.symbol), []).append(msgspec.structs.replace(event, receive_time=0))
    return found


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return write(tmp_path / "tape", recording())


async def follow(address: ServeAddress, topics: list[str], frames: list[str]) -> None:
    """Subscribe and keep every frame until the exchange closes."""
    async with open_websocket_url(address.ws_url, disconnect_timeout=5) as socket:
        await socket.send_message(json.dumps({"op": "subscribe", "args": topics, "req_id": "r"}))
        with trio.fail_after(30):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    frames.append(await socket.get_message())


def decode(frames: list[str]) -> list[wld.Event]:
    decoder = MarketDecoder()
    events: list[wld.Event] = []
    for symbol in SYMBOLS:
        for topic in TOPICS:
            decoder.expect(f"{topic}.{symbol}")
    for frame in frames:
        events += decoder.decode(frame, T0)
    assert not decoder.take_resyncs()
    return events


# trio-websocket's client leaves its socket to the collector when the server closed first.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_client_from_the_start_receives_every_recorded_event(tape: Path) -> None:
    frames: list[str] = []
    topics = [f"{topic}.{symbol}" for symbol in SYMBOLS for topic in TOPICS]
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_tapes, ServeConfig((tape,), speed=float("inf")))
        await follow(address, topics, frames)
    assert json.loads(frames[0])["success"] is True
    events = decode(frames)
    assert plain(events) == plain(list(wld.open_tape(tape)))
    kinds = [json.loads(frame).get("type") for frame in frames if "tickers.AAA" in frame]
    assert kinds[0] == "snapshot"
    assert set(kinds[1:]) == {"delta"}
    sizes = [len(json.loads(frame)["data"]) for frame in frames if "allLiquidation" in frame]
    assert set(sizes) == {2}  # what came in one message is one message again


async def test_a_later_client_first_gets_the_book_and_ticker_of_that_moment(tape: Path) -> None:
    market = RecordedMarket({symbol: {50} for symbol in SYMBOLS}, {})
    events = list(wld.open_tape(tape))
    half = len(events) // 2
    market.advance(events[:half], lambda _: False)
    now = events[half - 1].receive_time
    body = market.snapshot("orderbook.50.AAAUSDT")
    ticker = market.snapshot("tickers.AAAUSDT")
    assert body is not None
    assert ticker is not None
    book = wld.open_tape(tape).book_at(now, "AAAUSDT")
    assert body["data"]["u"] == book.update_id
    assert [(wld.parse_fixed(p), wld.parse_fixed(s)) for p, s in body["data"]["b"]] == book.bids()
    frames = [msgspec.json.encode(body).decode(), msgspec.json.encode(ticker).decode()]
    for message in market.advance(events[half:], lambda topic: topic.endswith("AAAUSDT")):
        frames.append(msgspec.json.encode(message.body).decode())
    seen = plain(decode(frames))
    rest = plain(events[half:])
    for key in (("Trade", "AAAUSDT"), ("Liquidation", "AAAUSDT")):
        assert seen[key] == rest[key]
    for key in (("book", "AAAUSDT"), ("Ticker", "AAAUSDT")):
        assert seen[key][1:] == rest[key]  # the deltas continue the snapshot


async def test_unknown_topics_and_depths_that_were_not_recorded_are_refused(tape: Path) -> None:
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_tapes, ServeConfig((tape,), symbols=("AAAUSDT",)))
        async with open_websocket_url(address.ws_url) as socket:
            for topic in ("orderbook.200.AAAUSDT", "publicTrade.BBBUSDT"):
                await socket.send_message(json.dumps({"op": "subscribe", "args": [topic]}))
                answer = json.loads(await socket.get_message())
                assert answer["success"] is False
                assert topic in answer["ret_msg"]
            await socket.send_message(json.dumps({"op": "ping"}))
            assert json.loads(await socket.get_message())["ret_msg"] == "pong"
        nursery.cancel_scope.cancel()


async def test_rest_answers_from_the_recording_with_its_own_time(tape: Path) -> None:
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_tapes, ServeConfig((tape,), speed=float("inf"), loop=False))
        async with httpx.AsyncClient(base_url=address.rest_url) as client:

            async def get(path: str, **query: Any) -> Any:
                answer = (await client.get(f"/v5/market/{path}", params={"category": "linear", **query})).json()
                assert answer["retCode"] == 0, answer
                return answer["result"]

            assert int((await get("time"))["timeNano"]) == T0
            (row,) = (await get("instruments-info", symbol="AAAUSDT"))["list"]
            assert (row["priceFilter"]["tickSize"], row["lotSizeFilter"]["qtyStep"]) == ("0.0001", "1")
            assert len((await get("instruments-info"))["list"]) == 2
            assert (await get("risk-limit", symbol="AAAUSDT"))["list"] == []
            events = list(wld.open_tape(tape))
            address.venue.market.advance(events, lambda _: False)
            last = events[-1].receive_time
            assert int((await get("time"))["timeNano"]) == last
            book = await get("orderbook", symbol="AAAUSDT", limit=5)
            truth = wld.open_tape(tape).book_at(last, "AAAUSDT")
            assert book["u"] == truth.update_id
            assert [(wld.parse_fixed(p), wld.parse_fixed(s)) for p, s in book["b"]] == truth.bids(5)
            trades = [e for e in events if isinstance(e, wld.Trade) and e.symbol == "AAAUSDT"]
            recent = (await get("recent-trade", symbol="AAAUSDT", limit=1000))["list"]
            assert [row["execId"] for row in recent] == [trade.trade_id for trade in reversed(trades)]
            assert (await get("tickers", symbol="BBBUSDT"))["list"][0]["openInterest"] == "7"
            assert (await client.get("/v5/market/orderbook", params={"category": "spot"})).json()["retCode"] == 10001
        nursery.cancel_scope.cancel()


async def test_a_loop_goes_on_with_later_times_and_other_trade_ids(tmp_path: Path) -> None:
    tape = write(tmp_path, recording(seconds=1))
    decoder = MarketDecoder(accept_any=True)
    seen: list[wld.Event] = []
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_tapes, ServeConfig((tape,), speed=float("inf"), loop=True))
        async with open_websocket_url(address.ws_url) as socket:
            topics = ["publicTrade.AAAUSDT", "orderbook.50.AAAUSDT"]
            await socket.send_message(json.dumps({"op": "subscribe", "args": topics}))
            with trio.fail_after(20):
                while address.venue.laps < 3:
                    seen += decoder.decode(await socket.get_message(), T0)
        nursery.cancel_scope.cancel()
    assert decoder.counters["duplicate_trade"] == 0
    assert not decoder.take_resyncs()
    trades = [e for e in seen if isinstance(e, wld.Trade)]
    assert len({t.trade_id for t in trades}) == len(trades)
    times = [t.event_time for t in trades]
    assert times == sorted(times)
    assert not any(isinstance(e, wld.Gap) for e in seen)


def test_a_delta_behind_a_hole_waits_for_the_next_snapshot() -> None:
    market = RecordedMarket({"AAAUSDT": {50}}, {})

    def sent(*events: wld.Event) -> list[str]:
        return [message.body["type"] for message in market.advance(events, lambda _: True)]

    levels = ((UNIT, UNIT),)
    assert sent(wld.BookDelta("AAAUSDT", levels, (), 5)) == []
    assert sent(wld.BookSnapshot("AAAUSDT", levels, (), 6), wld.BookDelta("AAAUSDT", levels, (), 7)) == [
        "snapshot",
        "delta",
    ]
    assert sent(wld.BookDelta("AAAUSDT", levels, (), 9)) == []
    assert market.snapshot("orderbook.50.AAAUSDT") is None
    assert sent(wld.BookSnapshot("AAAUSDT", levels, (), 12)) == ["snapshot"]


def test_a_ticker_field_that_is_gone_makes_a_snapshot() -> None:
    market = RecordedMarket({"AAAUSDT": {50}}, {})
    bodies = [
        message.body
        for event in (
            wld.Ticker("AAAUSDT", last_price=UNIT, bid_price=UNIT, bid_size=UNIT),
            wld.Ticker("AAAUSDT", last_price=UNIT, bid_price=UNIT, bid_size=2 * UNIT),
            wld.Ticker("AAAUSDT", bid_price=UNIT, bid_size=2 * UNIT),
        )
        for message in market.advance([event], lambda _: True)
    ]
    assert [body["type"] for body in bodies] == ["snapshot", "delta", "snapshot"]
    assert bodies[1]["data"] == {"symbol": "AAAUSDT", "bid1Price": "1", "bid1Size": "2"}  # a quote travels as a pair


class Served:
    """The real program on a free port."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wld", "serve", *arguments, "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[1]

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


PYBIT = """
import json, os, sys, threading
from pybit import unified_trading
unified_trading.PUBLIC_WSS = sys.argv[1].replace("linear", "{CHANNEL_TYPE}")
books, trades, enough = [], [], threading.Event()
def on_book(message):
    books.append(json.dumps(message["data"]))  # pybit goes on with the same object
    if len(books) >= 40: enough.set()
client = unified_trading.WebSocket(testnet=False, channel_type="linear")
client.orderbook_stream(50, "AAAUSDT", on_book)
client.trade_stream("AAAUSDT", lambda message: trades.extend(row["i"] for row in message["data"]))
enough.wait(25)
print(json.dumps([[json.loads(book) for book in books[:40]], trades]), flush=True)
os._exit(0)
"""


def test_pybit_follows_a_recording_with_its_book_consistent(tape: Path) -> None:
    """The venue's own client, unmodified but for the address; its book is the recorded one at every update id."""
    with Served(str(tape), "--speed", "4", "--loop") as served:
        done = subprocess.run(
            [sys.executable, "-c", PYBIT, served.url], capture_output=True, text=True, timeout=40, check=True
        )
    books, trades = json.loads(done.stdout)
    recorded = list(wld.open_tape(tape))
    assert trades
    assert set(trades) & {trade.trade_id for trade in recorded if isinstance(trade, wld.Trade)}
    updates = [book["u"] for book in books]
    assert updates == list(range(updates[0], updates[0] + 40))
    truth = wld.OrderBook("AAAUSDT")
    states: dict[int, Any] = {}
    for event in recorded:
        if isinstance(event, wld.BookSnapshot | wld.BookDelta) and event.symbol == "AAAUSDT":
            truth.apply(event)
            states[event.update_id] = (truth.bids(), truth.asks())
    for book in books:
        bids = sorted(((wld.parse_fixed(p), wld.parse_fixed(s)) for p, s in book["b"]), reverse=True)
        asks = sorted((wld.parse_fixed(p), wld.parse_fixed(s)) for p, s in book["a"])
        assert (bids, asks) == states[book["u"]]


def test_wld_records_from_a_served_tape_what_is_on_the_tape(tape: Path, tmp_path: Path) -> None:
    with Served(str(tape), "--speed", "max") as served:
        command = [sys.executable, "-m", "wld", "--source", served.url, "--sinks", "recorder"]
        recorder = subprocess.Popen(
            [*command, "--data-dir", str(tmp_path / "b"), "--symbols", ",".join(SYMBOLS)],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, errors = served.process.communicate(timeout=30)
            assert served.process.returncode == 0, errors
        finally:
            recorder.terminate()
            _, log = recorder.communicate(timeout=20)
    assert recorder.returncode == 0, log
    again = list(wld.open_tape(tmp_path / "b"))
    assert plain(again) == plain(list(wld.open_tape(tape)))
    gaps = [e.reason for e in again if isinstance(e, wld.Gap)]
    assert gaps in ([], [wld.GapReason.DISCONNECT])  # the exchange closed at the end of the tape
    assert {e.symbol for e in again if isinstance(e, wld.Instrument)} == set(SYMBOLS)


def test_a_signal_ends_a_served_recording_with_status_0(tape: Path) -> None:
    with Served(str(tape), "--loop") as served:
        served.process.terminate()
        _, errors = served.process.communicate(timeout=10)
        assert served.process.returncode == 0
        assert "Traceback" not in errors


def test_the_program_says_in_one_line_what_it_cannot_serve(tmp_path: Path, tape: Path) -> None:
    for arguments, words in (
        (["nowhere"], "no such file or folder"),
        ([str(tape), "--speed", "quick"], "--speed: expected a number above 0"),
        ([str(tape), "--symbols", "ZZZ"], "holds no symbol to serve"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "wld", "serve", *arguments], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode in (1, 2)
        assert words in done.stderr
        assert "Traceback" not in done.stderr
