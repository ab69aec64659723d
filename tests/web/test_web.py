"""The web sink through its own server: the page, what it asks for, and that its numbers are the model's."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import trio
from trio_websocket import open_websocket_url
from wld_heatmap import HeatMap
from wld_web import Web, WebConfig
from wld_web.server import make_app

from wld import ConfigError, Event, PositionSide
from wld.ring import Ring
from wld.testing import TIME, make_context, make_instrument, make_liquidation, make_ticker, make_trade

SECOND = 1_000_000_000


def market(symbol: str = "WLDUSDT", seconds: int = 90) -> list[Event]:
    """A market of one symbol: trades both ways, a mark price that wanders, one real liquidation."""
    events: list[Event] = [make_instrument(symbol, time=TIME)]
    for second in range(seconds):
        at = TIME + second * SECOND
        mark = f"{1 + 0.0005 * (second % 20):.4f}"
        events.append(make_ticker(symbol, time=at, mark_price=mark, open_interest="1000000"))
        side: Any = "buy" if second % 3 else "sell"
        events.append(make_trade(symbol, time=at, price=mark, size="500", aggressor_side=side))
    events.append(
        make_liquidation(symbol, time=TIME + seconds * SECOND, size="120", bankruptcy_price="0.98",
                         position_side=PositionSide.LONG)
    )  # fmt: skip
    events.append(make_ticker(symbol, time=TIME + (seconds + 20) * SECOND, mark_price="1.0001"))
    return events


@asynccontextmanager
async def serving(*symbols: str, first: Sequence[Event] = ()) -> AsyncIterator[tuple[Web, str]]:
    """A web sink that has seen `first` and then a market of each symbol, and its address."""
    ring = Ring()
    sink = Web(WebConfig(port=0), make_context(clock="recorded", symbols=symbols or ("WLDUSDT",)))
    async with trio.open_nursery() as nursery:
        subscription = ring.subscribe("web")
        await nursery.start(sink.run, subscription)
        ring.publish(first)
        for symbol in symbols or ("WLDUSDT",):
            ring.publish(market(symbol))
        with trio.fail_after(5):
            while sink.view("WLDUSDT").now < TIME + 100 * SECOND:  # noqa: ASYNC110
                await trio.sleep(0.01)
        yield sink, f"127.0.0.1:{sink.port}"
        ring.close()
        nursery.cancel_scope.deadline = trio.current_time() + 5


async def test_the_page_and_its_files_come_from_here_and_may_load_nothing_else() -> None:
    async with serving() as (_, address), httpx.AsyncClient(base_url=f"http://{address}") as client:
        for path, kind in (("/", "text/html"), ("/app.js", "javascript"), ("/style.css", "text/css")):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert kind in answer.headers["content-type"]
            assert answer.headers["content-security-policy"].startswith("default-src 'self'")
            assert "http://" not in answer.text
            assert "https://" not in answer.text
        assert (await client.get("/nothing")).status_code == 404


async def test_columns_are_the_models_own_numbers() -> None:
    own = HeatMap("WLDUSDT")
    own.apply(market())
    async with serving() as (_, address), httpx.AsyncClient(base_url=f"http://{address}") as client:
        told = (await client.get("/api/history", params={"symbol": "WLDUSDT"})).json()
        drawn = list(own.columns)
        assert len(told["columns"]) == len(drawn) > 5
        price = 0
        for wire, column in zip(told["columns"], drawn, strict=True):
            assert (wire["start"], wire["end"], wire["low"]) == (column.start, column.end, column.low_bin)
            heat = np.frombuffer(base64.b64decode(wire["raw"]), "<f4")
            assert np.array_equal(heat, column.raw)
            price = price if column.mark_close is None else column.mark_close
            assert wire["mark"][3] == price / 1e8
        assert [m["side"] for m in told["liquidations"]] == ["long"]


async def test_history_gives_what_ends_before_and_says_whether_more_is_left() -> None:
    async with serving() as (_, address), httpx.AsyncClient(base_url=f"http://{address}") as client:
        whole = (await client.get("/api/history", params={"symbol": "WLDUSDT"})).json()
        assert whole["more"] is False
        before = whole["columns"][3]["start"]
        part = (await client.get("/api/history", params={"symbol": "WLDUSDT", "before": before, "count": 2})).json()
        assert [c["start"] for c in part["columns"]] == [c["start"] for c in whole["columns"][1:3]]
        assert part["more"] is True


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [({"symbol": "NONE"}, 404, "symbol"), ({"symbol": "WLDUSDT", "before": "x"}, 400, "before"), ({}, 404, "symbol")],
)
async def test_wrong_questions_get_one_line(query: dict[str, str], status: int, word: str) -> None:
    async with serving() as (_, address), httpx.AsyncClient(base_url=f"http://{address}") as client:
        answer = await client.get("/api/history", params=query)
        assert answer.status_code == status
        assert word in answer.text
        assert answer.text.count("\n") == 1


async def test_a_socket_is_told_the_state_then_each_second_what_changed() -> None:
    async with serving("WLDUSDT", "BTCUSDT") as (sink, address):
        async with open_websocket_url(f"ws://{address}/ws?symbol=BTCUSDT", message_queue_size=8) as socket:
            with trio.fail_after(5):
                hello = json.loads(await socket.get_message())
                tick = json.loads(await socket.get_message())
            assert sink.pages == 1
        assert hello["symbol"] == "BTCUSDT"
        assert hello["columns"]
        assert tick["header"]["mark"].startswith("1.0001")
        assert tick["closed"] == []
        assert tick["open"]["start"] == hello["columns"][-1]["end"]
        titles = [group["title"] for group in tick["groups"]]
        assert "POSITIONING" in titles
        assert titles[-2:] == ["HEAT MODEL", "FEED"]
        assert "LONG" in "".join(text for line in tick["tape"] for text, _ in line)
        with trio.fail_after(5):
            while sink.pages:  # noqa: ASYNC110
                await trio.sleep(0.05)


async def test_a_page_of_another_site_is_refused() -> None:
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    }  # fmt: skip
    async with serving() as (_, address), httpx.AsyncClient(base_url=f"http://{address}") as client:
        there = {**upgrade, "Origin": "http://elsewhere.example"}
        assert (await client.get("/ws?symbol=WLDUSDT", headers=there)).status_code == 403
        assert (await client.get("/ws?symbol=NONE", headers=upgrade)).status_code == 403


async def test_a_taken_port_is_one_line_that_names_the_key() -> None:
    async with serving() as (sink, _):
        other = Web(WebConfig(port=sink.port or 0), make_context())
        with pytest.raises(ConfigError, match=r"^sinks.web: 127.0.0.1:\d+ cannot be had: .*; set sinks.web.port$"):
            await other.run(Ring().subscribe("web"))


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sinks.web.port: expected 0 to 65535, got 70000"):
        Web(WebConfig(port=70_000), make_context())


def test_the_application_is_plain_asgi() -> None:
    assert {route.path for route in make_app(Web(WebConfig(), make_context())).routes} >= {"/", "/ws", "/api/meta"}  # type: ignore[attr-defined]
