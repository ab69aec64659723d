"""The exchange over a real loopback socket: its protocol, its errors, its faults, its end."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import trio
from starlette.applications import Starlette
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from wld.errors import ConfigError
from wld.exchange import ExchangeAddress, ExchangeConfig, parse_fault, serve_exchange
from wld.exchange.control import MAX_ARGS_CHARACTERS, Session
from wld.exchange.injection import KINDS
from wld.exchange.instruments import spec_for
from wld.exchange.market import Market
from wld.exchange.rest import answer, routes
from wld.exchange.server import WS_PATH

WLD = ["orderbook.50.WLDUSDT", "publicTrade.WLDUSDT", "tickers.WLDUSDT", "allLiquidation.WLDUSDT"]
BOOK = "orderbook.50.WLDUSDT"


@asynccontextmanager
async def exchange(
    *faults: str, symbols: tuple[str, ...] = ("WLDUSDT",), rate: float = 8.0
) -> AsyncIterator[ExchangeAddress]:
    async with trio.open_nursery() as nursery:
        config = ExchangeConfig(symbols=symbols, faults=faults, rate=rate)
        address: ExchangeAddress = await nursery.start(serve_exchange, config)
        with trio.fail_after(30):
            yield address
        nursery.cancel_scope.cancel()


class Peer:
    """A client that keeps what it received, sorted into data and answers."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self.socket = socket
        self.data: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.raw: list[str] = []

    async def send(self, request: dict[str, Any] | str) -> None:
        await self.socket.send_message(request if isinstance(request, str) else json.dumps(request))

    async def subscribe(self, *topics: str, req_id: str = "r1") -> dict[str, Any]:
        await self.send({"op": "subscribe", "req_id": req_id, "args": list(topics)})
        return await self.answer(req_id)

    async def read(self) -> dict[str, Any]:
        frame = await self.socket.get_message()
        message: dict[str, Any] = json.loads(frame)
        if "topic" in message:
            self.data.append(message)
            self.raw.append(frame)
        else:
            self.answers.append(message)
        return message

    async def answer(self, req_id: str | None = None) -> dict[str, Any]:
        while True:
            message = await self.read()
            if "topic" not in message and (req_id is None or message["req_id"] == req_id):
                return message

    async def until(self, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        for message in self.data:
            if done(message):
                return message
        while True:
            message = await self.read()
            if "topic" in message and done(message):
                return message

    async def listen(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            while True:
                await self.read()

    async def take(self, count: int, topic: str = BOOK) -> list[dict[str, Any]]:
        """The first `count` data messages of a topic that came since the last look, waiting for them."""
        while True:
            found = [message for message in self.data if message["topic"] == topic]
            if len(found) >= count:
                return found
            await self.read()

    async def to_the_end(self) -> ConnectionClosed:
        """Read until the exchange ends the connection."""
        while True:
            try:
                await self.read()
            except ConnectionClosed as end:
                return end

    def updates(self, topic: str = BOOK) -> list[int]:
        return [message["data"]["u"] for message in self.data if message["topic"] == topic]


@asynccontextmanager
async def peer(address: ExchangeAddress) -> AsyncIterator[Peer]:
    """Connected, and cut without a goodbye: what the exchange does with that is part of every test."""
    async with await trio.open_tcp_stream(address.host, address.port) as stream, trio.open_nursery() as nursery:
        yield Peer(await wrap_client_stream(nursery, stream, f"{address.host}:{address.port}", WS_PATH))
        nursery.cancel_scope.cancel()


async def accepted(address: ExchangeAddress) -> None:
    """Until the exchange counts a client: its own answer may come a moment before."""
    while not address.exchange.clients:  # noqa: ASYNC110
        await trio.sleep(0.005)


# The control protocol, pure.


def session() -> Session:
    return Session("c1", lambda topic: topic in {*WLD, "tickers.OPUSDT"})


def ask(subject: Session, op: str, *args: str, **more: Any) -> dict[str, Any]:
    return subject.answer(json.dumps({"op": op, "args": list(args), **more})).body


def test_one_ack_per_request_with_its_req_id() -> None:
    assert ask(session(), "subscribe", *WLD, req_id="s1") == {
        "success": True,
        "ret_msg": "",
        "conn_id": "c1",
        "req_id": "s1",
        "op": "subscribe",
    }


def test_pong_keeps_op_ping_and_echoes_req_id_or_empty() -> None:
    assert session().answer('{"op":"ping"}').body == {
        "success": True,
        "ret_msg": "pong",
        "conn_id": "c1",
        "req_id": "",
        "op": "ping",
    }
    assert session().answer('{"op":"ping","req_id":"p"}').body["req_id"] == "p"


@pytest.mark.parametrize("bad", ["orderbook.500.WLDUSDT", "liquidation.WLDUSDT", "tickers.wldusdt", "order"])
def test_one_bad_topic_rejects_the_whole_request(bad: str) -> None:
    subject = session()
    body = ask(subject, "subscribe", WLD[0], bad, "tickers.NOPE", req_id="e1")
    assert (body["success"], body["ret_msg"]) == (False, f"error:handler not found,topic:{bad}")
    assert (body["req_id"], body["op"]) == ("e1", "subscribe")
    assert not subject.topics


def test_already_subscribed_leaves_the_new_topics_of_the_request_out() -> None:
    subject = session()
    ask(subject, "subscribe", WLD[0])
    body = ask(subject, "subscribe", WLD[1], WLD[0])
    assert (body["success"], body["ret_msg"]) == (False, f"error:already subscribed,topic:{WLD[0]}")
    assert list(subject.topics) == [WLD[0]]


def test_unsubscribe_is_acknowledged_and_allows_a_new_subscribe() -> None:
    subject = session()
    ask(subject, "subscribe", *WLD)
    reply = subject.answer(json.dumps({"op": "unsubscribe", "args": [WLD[0]], "req_id": "u"}))
    assert (reply.body["success"], reply.body["op"], reply.removed) == (True, "unsubscribe", (WLD[0],))
    assert ask(subject, "subscribe", WLD[0])["success"]


def test_unknown_op() -> None:
    assert ask(session(), "dance", req_id="x")["ret_msg"] == "error:invalid op"
    assert session().answer("{}").body["ret_msg"] == "error:invalid op"


@pytest.mark.parametrize("text", ["hello", "[1]", "", "12", "null", "[" * 100_000, "\x00"])
def test_what_is_no_json_object_is_answered_in_the_venues_words(text: str) -> None:
    body = session().answer(text).body
    assert body["success"] is False
    assert body["ret_msg"].startswith("Failed to decode incoming data:readObjectStart: expect { or n, but found ")
    if text == "hello":
        assert "but found h, " in body["ret_msg"]


@pytest.mark.parametrize("args", [None, "tickers.WLDUSDT", [], [1], {}])
def test_args_that_are_no_list_of_topics_are_an_error(args: Any) -> None:
    body = session().answer(json.dumps({"op": "subscribe", "args": args})).body
    assert (body["success"], body["ret_msg"]) == (False, "error:invalid args")


def test_args_are_limited_to_21000_characters_per_connection() -> None:
    topics = [f"tickers.{n:05d}USDT" for n in range(2_000)]
    subject = Session("c1", set(topics).__contains__)
    fits = MAX_ARGS_CHARACTERS // len(topics[0])
    assert ask(subject, "subscribe", *topics[:fits])["success"]
    assert ask(subject, "subscribe", *topics[fits:])["ret_msg"] == "args size >21000"
    assert len(subject.topics) == fits


# The control protocol, over the wire.


async def test_all_four_topics_flow_and_the_book_starts_with_a_snapshot() -> None:
    async with exchange(symbols=("WLDUSDT",), rate=200.0) as address, peer(address) as client:
        assert (await client.subscribe(*WLD))["success"]
        for topic in WLD:
            await client.until(lambda message, topic=topic: message["topic"] == topic)
        books = await client.take(3)
        assert [message["type"] for message in books[:2]] == ["snapshot", "delta"]
        tickers = [message for message in client.data if message["topic"] == "tickers.WLDUSDT"]
        assert tickers[0]["type"] == "snapshot"
        updates = client.updates()
        assert updates == list(range(updates[0], updates[0] + len(updates)))


async def test_a_rejected_request_leaves_a_live_silent_socket() -> None:
    async with exchange() as address, peer(address) as client:
        answer = await client.subscribe(BOOK, "orderbook.500.WLDUSDT")
        assert answer["ret_msg"] == "error:handler not found,topic:orderbook.500.WLDUSDT"
        await client.listen(0.15)
        assert client.data == []
        await client.send({"op": "ping", "req_id": "p"})
        assert (await client.answer("p"))["ret_msg"] == "pong"


async def test_garbage_from_a_client_is_answered_and_the_socket_stays_open() -> None:
    async with exchange() as address, peer(address) as client:
        await client.send("hello")
        assert (await client.answer())["ret_msg"].startswith("Failed to decode incoming data")
        await client.socket.send_message(b"\xff\xfe")
        assert (await client.answer())["success"] is False
        assert (await client.subscribe(BOOK))["success"]


async def test_two_clients_share_frames_and_a_late_one_joins_seamlessly() -> None:
    async with exchange() as address, peer(address) as first, peer(address) as second:
        await first.subscribe(BOOK)
        await first.take(3)
        await second.subscribe(BOOK)
        await second.take(4)
        await first.until(lambda message: message["data"]["u"] >= second.updates()[3])
        assert second.updates() == list(range(second.updates()[0], second.updates()[0] + len(second.updates())))
        joined = first.updates().index(second.updates()[0])
        assert first.raw[joined + 1 :][:3] == second.raw[1:4]
        assert first.answers[0]["conn_id"] != second.answers[0]["conn_id"]


async def test_unsubscribed_topic_falls_silent_and_comes_back_with_a_snapshot() -> None:
    async with exchange() as address, peer(address) as client:
        await client.subscribe(BOOK)
        await client.take(2)
        await client.send({"op": "unsubscribe", "req_id": "u", "args": [BOOK]})
        assert (await client.answer("u"))["success"]
        client.data.clear()
        await client.listen(0.15)
        assert client.data == []
        await client.subscribe(BOOK, req_id="again")
        assert [message["type"] for message in await client.take(2)][:2] == ["snapshot", "delta"]
        assert client.updates() == list(range(client.updates()[0], client.updates()[0] + len(client.updates())))


async def test_sent_log_holds_every_data_frame_in_order() -> None:
    async with exchange() as address, peer(address) as client:
        address.exchange.sent_log = []
        await client.subscribe(*WLD)
        await client.take(10)
        assert address.exchange.sent_log[: len(client.raw)] == client.raw


async def test_slow_client_is_disconnected_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wld.exchange.server.QUEUE_FRAMES", 5)
    async with exchange() as address, peer(address) as slow:
        await slow.subscribe(BOOK)
        address.exchange.inject("stall:60")
        async with peer(address) as good:
            await good.subscribe(BOOK)
            await slow.to_the_end()
            await good.until(lambda message: message["type"] == "delta")


async def test_other_paths_and_methods_are_refused() -> None:
    async with exchange() as address, httpx.AsyncClient() as http:
        assert (await http.get(f"{address.rest_url}/v5/market/nope")).status_code == 404
        assert (await http.post(f"{address.rest_url}/v5/market/time")).status_code == 405


async def test_ends_promptly_with_live_stalled_and_half_open_sockets() -> None:
    started = 0.0
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_exchange, ExchangeConfig(rate=50.0))
        async with peer(address) as stalled:
            await stalled.subscribe(BOOK)
            address.exchange.inject("stall:60")
            async with peer(address) as dead, peer(address) as live:
                await dead.subscribe(BOOK)
                for client in address.exchange.clients.values():
                    if client.session.conn_id == dead.answers[0]["conn_id"]:
                        client.wire.half_open()
                await live.subscribe(*WLD)
                await live.take(3)
                started = time.monotonic()
                nursery.cancel_scope.cancel()
    assert time.monotonic() - started < 8.0  # below the 10 s that a send may take


async def test_ends_promptly_while_a_client_does_not_read() -> None:
    started = 0.0
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_exchange, ExchangeConfig())
        stream = await trio.open_tcp_stream("127.0.0.1", address.port)
        await stream.send_all(
            b"GET /v5/public/linear HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert b"101" in await stream.receive_some(4096)
        with trio.fail_after(30):
            await accepted(address)
        address.exchange.inject("garbage:big")
        await trio.sleep(0.05)
        started = time.monotonic()
        nursery.cancel_scope.cancel()
    await stream.aclose()
    assert time.monotonic() - started < 8.0  # below the 10 s that a send may take


async def test_a_taken_port_is_one_clear_line() -> None:
    async with exchange() as address:
        with pytest.raises(ConfigError, match=r"port: cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
            await serve_exchange(ExchangeConfig(port=address.port))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (ExchangeConfig(symbols=()), "symbols: expected at least one"),
        (ExchangeConfig(symbols=("wld",)), "symbols: 'wld'"),
        (ExchangeConfig(rate=0), "rate: "),
        (ExchangeConfig(faults=("dorp",)), "faults: unknown fault 'dorp'"),
    ],
)
async def test_bad_configuration_is_one_line_before_listening(config: ExchangeConfig, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as error:
        await serve_exchange(config)
    assert "\n" not in str(error.value)


# REST.


async def get(http: httpx.AsyncClient, address: ExchangeAddress, path: str, **query: Any) -> dict[str, Any]:
    response = await http.get(f"{address.rest_url}/v5/market/{path}", params={"category": "linear", **query})
    assert response.status_code == 200
    body: dict[str, Any] = response.json()
    assert list(body) == ["retCode", "retMsg", "result", "retExtInfo", "time"]
    return body


async def test_time_and_envelope() -> None:
    async with exchange() as address, httpx.AsyncClient() as http:
        body = await get(http, address, "time")
        assert (body["retCode"], body["retMsg"]) == (0, "OK")
        assert body["result"]["timeSecond"] == str(body["time"] // 1000)
        assert abs(body["time"] - time.time() * 1000) < 5_000


class Listing:
    """A market of 541 symbols, as far as the listing endpoints look at it: nothing trades."""

    def __init__(self) -> None:
        names = [f"{a}{b}{n}USDT" for a in "ABCDEF" for b in "XYZ" for n in range(30)]
        self.symbols = sorted([*names, "WLDUSDT"])

    def symbol(self, name: str) -> Any:
        return SimpleNamespace(spec=spec_for(name))


def listing(path: str, **query: str) -> dict[str, Any]:
    market: Any = Listing()
    return answer(market, f"/v5/market/{path}", {"category": "linear", **query}, 0)["result"]


def test_instruments_pages_are_alphabetical_and_500_long() -> None:
    first = listing("instruments-info")
    names = [row["symbol"] for row in first["list"]]
    assert len(names) == 500
    assert names == sorted(names)
    assert "WLDUSDT" not in names
    rest = listing("instruments-info", cursor=first["nextPageCursor"])
    assert len(rest["list"]) == 41
    assert rest["nextPageCursor"] == ""
    assert rest["list"][-1]["symbol"] == "WLDUSDT"
    assert len(listing("instruments-info", limit="1000")["list"]) == 541


def test_margin_tiers_come_15_symbols_a_page() -> None:
    seen: list[str] = []
    cursor, pages = "", 0
    while pages == 0 or cursor:
        page = listing("risk-limit", cursor=cursor)
        names = list(dict.fromkeys(row["symbol"] for row in page["list"]))
        assert len(names) <= 15
        seen += names
        cursor, pages = page["nextPageCursor"], pages + 1
    assert seen == Listing().symbols
    assert pages == 37


async def test_instrument_of_one_symbol_and_of_an_unknown_one() -> None:
    async with exchange() as address, httpx.AsyncClient() as http:
        row = (await get(http, address, "instruments-info", symbol="WLDUSDT"))["result"]["list"][0]
        assert row["priceFilter"]["tickSize"] == "0.0001"
        assert row["lotSizeFilter"]["qtyStep"] == "0.1"
        assert row["leverageFilter"]["maxLeverage"] == "75.00"
        assert (await get(http, address, "instruments-info", symbol="X"))["result"]["list"] == []


async def test_recent_trades_are_the_websockets_trades_newest_first() -> None:
    async with exchange(rate=50.0) as address, httpx.AsyncClient() as http, peer(address) as client:
        await client.subscribe("publicTrade.WLDUSDT")
        await client.take(8, "publicTrade.WLDUSDT")
        rows = (await get(http, address, "recent-trade", symbol="WLDUSDT", limit=1000))["result"]["list"]
        by_id = {row["execId"]: row for row in rows}
        told = [trade for message in client.data for trade in message["data"]]
        assert told
        for trade in told[-50:]:
            row = by_id[trade["i"]]
            assert (row["price"], row["size"], row["side"]) == (trade["p"], trade["v"], trade["S"])
            assert (row["time"], row["seq"]) == (str(trade["T"]), str(trade["seq"]))
        assert [row["time"] for row in rows] == sorted((row["time"] for row in rows), reverse=True)
        assert len((await get(http, address, "recent-trade", symbol="WLDUSDT", limit=3))["result"]["list"]) == 3


async def test_rest_book_is_the_1000_level_topic_at_its_update_id() -> None:
    async with exchange() as address, httpx.AsyncClient() as http, peer(address) as client:
        await client.subscribe("orderbook.1000.WLDUSDT")
        body = (await get(http, address, "orderbook", symbol="WLDUSDT", limit=1000))["result"]
        await client.until(lambda message: message["data"]["u"] >= body["u"])
        bids: dict[float, float] = {}
        for message in client.data:
            if message["data"]["u"] > body["u"]:
                break
            if message["type"] == "snapshot":
                bids = {}
            for price, size in message["data"]["b"]:
                bids[float(price)] = float(size)
                if size == "0":
                    del bids[float(price)]
        assert {float(price): float(size) for price, size in body["b"]} == bids
        assert len(body["b"]) == 1000
        assert len((await get(http, address, "orderbook", symbol="WLDUSDT"))["result"]["b"]) == 25


async def test_open_interest_history_and_tickers() -> None:
    async with exchange(symbols=("WLDUSDT", "OPUSDT")) as address, httpx.AsyncClient() as http:
        rows = (await get(http, address, "open-interest", symbol="WLDUSDT", intervalTime="5min"))["result"]["list"]
        stamps = [int(row["timestamp"]) for row in rows]
        assert len(rows) == 50
        assert stamps == sorted(stamps, reverse=True)
        assert all(float(r["openInterest"]) == pytest.approx(2 * float(r["singleOpenInterest"])) for r in rows)
        tickers = (await get(http, address, "tickers"))["result"]["list"]
        assert [row["symbol"] for row in tickers] == ["OPUSDT", "WLDUSDT"]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("instruments-info", {"category": "futures"}),
        ("instruments-info", {"limit": 1001}),
        ("instruments-info", {"cursor": "nonsense"}),
        ("recent-trade", {}),
        ("recent-trade", {"symbol": "NOPE"}),
        ("recent-trade", {"symbol": "WLDUSDT", "limit": "x"}),
        ("open-interest", {"symbol": "WLDUSDT", "intervalTime": "7min"}),
        ("orderbook", {"symbol": "WLDUSDT", "limit": 0}),
    ],
)
async def test_bad_parameters_are_ret_code_10001_with_http_200(path: str, query: dict[str, Any]) -> None:
    async with exchange() as address, httpx.AsyncClient() as http:
        body = await get(http, address, path, **query)
        assert body["retCode"] == 10001
        assert body["result"] == {}


async def test_more_than_600_requests_in_five_seconds_are_refused_for_ten_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over the application itself, with a clock of its own."""
    now = [0]
    monkeypatch.setattr("wld.exchange.rest.time", SimpleNamespace(monotonic_ns=lambda: now[0] * 1_000_000))
    app = Starlette(routes=routes(Market([spec_for("WLDUSDT")], 7, 1_790_000_000_000), lambda: 1, lambda: None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://exchange") as http:

        async def ask() -> int:
            return (await http.get("/v5/market/time")).status_code

        assert [await ask() for _ in range(602)] == [200] * 600 + [403] * 2
        now[0] += 599_000
        assert await ask() == 403
        now[0] += 2_000
        assert await ask() == 200


async def test_a_connection_without_requests_and_data_is_cut_after_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wld.exchange.server.IDLE_S", 0.15)
    monkeypatch.setattr("wld.exchange.server.IDLE_SCAN_S", 0.03)
    async with exchange() as address, peer(address) as idle, peer(address) as pinging, peer(address) as hearing:
        await hearing.subscribe(BOOK)
        async with trio.open_nursery() as nursery:

            async def ping() -> None:
                while True:
                    await pinging.send({"op": "ping"})
                    await trio.sleep(0.02)

            nursery.start_soon(ping)
            assert (await idle.to_the_end()).reason.code == 1001
            nursery.cancel_scope.cancel()
        await hearing.take(5)
        assert len(address.exchange.clients) == 2


# Faults.


@pytest.mark.parametrize("name", KINDS)
def test_every_fault_has_a_written_form(name: str) -> None:
    arg = ":OPUSDT" if name in ("list", "delist") else ""
    assert parse_fault(f"{name}{arg}@2.5").at_s == 2.5
    assert parse_fault(f"every:{name}{arg}@30").every


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dorp@5", "faults: unknown fault 'dorp' in 'dorp@5'; accepted: drop, stall, half_open"),
        ("drop@x", "expected seconds after @, got 'x'"),
        ("drop@-1", "expected seconds after @"),
        ("drop@nan", "expected seconds after @"),
        ("drop:hard", "expected one of reset, clean, got 'hard'"),
        ("stall:long", "expected a number after stall:"),
        ("skip_u:3", "skip_u takes no argument"),
        ("every:drop", "every: needs @seconds"),
        ("list", "expected a symbol"),
        ("rest_down:200", "HTTP status"),
        ("", "unknown fault ''"),
    ],
)
def test_a_fault_that_cannot_be_read_is_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_fault(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


async def test_drop_at_seconds_after_the_first_subscribe() -> None:
    async with exchange("drop@0.2") as address, peer(address) as client:
        await client.subscribe(BOOK)
        end = await client.to_the_end()
        assert end.reason is None or end.reason.code == 1006
        async with peer(address) as again:
            await again.subscribe(BOOK)
            await again.take(3)


async def test_clean_drop_sends_a_close_frame() -> None:
    async with exchange() as address, peer(address) as client:
        await client.subscribe(BOOK)
        address.exchange.inject("drop:clean")
        assert (await client.to_the_end()).reason.code == 1001


async def test_every_repeats_a_fault() -> None:
    async with exchange("every:drop@0.2") as address:
        for _ in range(3):
            async with peer(address) as client:
                with suppress(ConnectionClosed):
                    await client.send({"op": "subscribe", "args": [BOOK]})
                await client.to_the_end()


async def test_stall_holds_back_and_then_delivers_everything() -> None:
    async with exchange() as address, peer(address) as client:
        await client.subscribe(BOOK)
        await client.take(2)
        address.exchange.inject("stall:0.3")
        await client.listen(0.05)
        client.data.clear()
        await client.listen(0.1)
        assert client.data == []
        await client.take(12)
        updates = client.updates()
        assert updates == list(range(updates[0], updates[0] + len(updates)))


async def test_a_stall_within_a_stall_leaves_nobody_waiting() -> None:
    async with exchange() as address, peer(address) as client:
        await client.subscribe(BOOK)
        await client.take(2)
        address.exchange.inject("stall:0.1")
        await client.listen(0.05)  # a message waits for the end of the first
        address.exchange.inject("stall:0.1")
        with trio.fail_after(5):
            await client.take(12)


async def test_half_open_is_silent_for_ever_but_new_connections_work() -> None:
    async with exchange() as address, peer(address) as client:
        await client.subscribe(BOOK)
        address.exchange.inject("half_open")
        await client.listen(0.05)
        client.data.clear()
        await client.send({"op": "ping"})
        await client.listen(0.2)
        assert client.data == []
        assert len(client.answers) == 1
        async with peer(address) as fresh:
            assert (await fresh.subscribe(BOOK))["success"]


async def test_delayed_pong() -> None:
    async with exchange("delayed_pong:0.2") as address, peer(address) as client:
        await client.send({"op": "ping", "req_id": "p"})
        await client.listen(0.1)
        assert client.answers == []
        assert (await client.answer("p"))["ret_msg"] == "pong"


async def test_skip_u_loses_exactly_one_update() -> None:
    async with exchange() as address, peer(address) as client:
        await client.subscribe(BOOK)
        await client.take(2)
        address.exchange.inject("skip_u")
        await client.take(10)
        updates = client.updates()
        steps = [b - a for a, b in pairwise(updates)]
        assert steps.count(2) == 1
        assert set(steps) == {1, 2}


async def test_repeat_u_sends_one_update_twice() -> None:
    async with exchange() as address, peer(address) as client:
        await client.subscribe(BOOK)
        await client.take(2)
        address.exchange.inject("repeat_u")
        await client.take(10)
        updates = client.updates()
        steps = [b - a for a, b in pairwise(updates)]
        assert steps.count(0) == 1
        assert set(steps) == {0, 1}


async def test_restart_u1() -> None:
    async with exchange() as address, peer(address) as client:
        await client.subscribe(BOOK)
        address.exchange.inject("restart_u1")
        message = await client.until(lambda message: message["data"]["u"] == 1)
        assert message["type"] == "snapshot"
        assert (await client.until(lambda message: message["data"]["u"] == 2))["type"] == "delta"


async def test_crossed_book_crosses_once_and_heals_with_the_next_delta() -> None:
    async with exchange(rate=4.0) as address, peer(address) as client:
        await client.subscribe(BOOK)
        await client.take(2)
        address.exchange.inject("crossed_book")
        await client.take(12)
        bids: dict[float, str] = {}
        asks: dict[float, str] = {}
        crossed = []
        for message in client.data:
            for side, rows in ((bids, message["data"]["b"]), (asks, message["data"]["a"])):
                for price, size in rows:
                    side[float(price)] = size
                    if size == "0":
                        del side[float(price)]
            crossed.append(max(bids) >= min(asks))
        assert crossed.count(True) == 1
        assert not crossed[-1]
        assert client.updates() == list(range(client.updates()[0], client.updates()[0] + len(client.updates())))


async def test_garbage_is_text_broken_utf8_and_binary() -> None:
    async with exchange() as address:
        stream = await trio.open_tcp_stream("127.0.0.1", address.port)
        await stream.send_all(
            b"GET /v5/public/linear HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        seen = await stream.receive_some(4096)
        await accepted(address)
        address.exchange.inject("garbage")
        while bytes(range(64)) not in seen:
            seen += await stream.receive_some(65_536)
        assert b"upstream connect error" in seen
        assert b"\xff\xfe\xc3" in seen
        address.exchange.inject("garbage:big")
        total = 0
        while total < 10_000_000:
            total += len(await stream.receive_some(1 << 20))
        await stream.aclose()


async def test_reject_all_rejects_and_counts() -> None:
    async with exchange("reject_all:2") as address, peer(address) as client:
        for n in range(2):
            answer = await client.subscribe(*WLD, req_id=f"n{n}")
            assert answer["ret_msg"] == f"error:handler not found,topic:{WLD[0]}"
        assert (await client.subscribe(*WLD, req_id="third"))["success"]


async def test_slow_handshake() -> None:
    async with exchange("slow_handshake:0.3") as address:
        begun = trio.current_time()
        async with peer(address):
            assert trio.current_time() - begun >= 0.3


async def test_rest_down_and_clear() -> None:
    async with exchange("rest_down") as address, httpx.AsyncClient() as http:
        assert (await http.get(f"{address.rest_url}/v5/market/time")).status_code == 503
        address.exchange.inject("clear")
        assert (await get(http, address, "time"))["retCode"] == 0


async def test_symbols_are_listed_and_delisted_while_running() -> None:
    async with exchange() as address, peer(address) as client, httpx.AsyncClient() as http:
        assert not (await client.subscribe("tickers.NEWUSDT", req_id="a"))["success"]
        address.exchange.inject("list:NEWUSDT")
        assert (await client.subscribe("orderbook.50.NEWUSDT", req_id="b"))["success"]
        await client.until(lambda message: message["type"] == "delta")
        rows = (await get(http, address, "instruments-info"))["result"]["list"]
        assert [row["symbol"] for row in rows] == ["NEWUSDT", "WLDUSDT"]
        address.exchange.inject("delist:NEWUSDT")
        await client.listen(0.05)
        client.data.clear()
        await client.listen(0.15)
        assert client.data == []
        assert not (await client.subscribe("orderbook.50.NEWUSDT", req_id="c"))["success"]
        with pytest.raises(ConfigError, match="OPUSDT is not listed"):
            address.exchange.inject("delist:OPUSDT")
