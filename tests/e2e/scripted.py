"""A scripted venue, and an oracle: plain trio-websocket and plain `decimal`, nothing of wld's own exchange or decoder.

A test plays the venue by hand, frame by frame; the oracle says which events each frame must leave on the tape.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

import wld
from wld import engine
from wld.config import Setting, load
from wld.service import Service

E8 = Decimal(10) ** 8
END = "the-end"
DEFAULTS = {"source__rest_url": "http://127.0.0.1:1"}
"""Nobody answers there: a scripted venue has no REST."""


class Connection:
    """One client of the scripted venue: what it asked, and what it is sent."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self.socket = socket
        self.pings = 0
        self.is_mute = False
        self._send, self._requests = trio.open_memory_channel[dict[str, Any]](1000)

    async def run(self) -> None:
        try:
            while True:
                request = json.loads(await self.socket.get_message())
                if request["op"] == "ping":
                    self.pings += 1
                    await self.send({"success": True, "ret_msg": "pong", "conn_id": "c", "req_id": "", "op": "ping"})
                else:
                    self._send.send_nowait(request)
        except ConnectionClosed:
            pass

    async def request(self) -> dict[str, Any]:
        """The next subscribe or unsubscribe."""
        return await self._requests.receive()

    async def send(self, frame: dict[str, Any] | str | bytes) -> None:
        if not self.is_mute:
            await self.socket.send_message(json.dumps(frame) if isinstance(frame, dict) else frame)

    async def send_raw(self, opcode: int, payload: bytes) -> None:
        """A frame that a proper WebSocket library refuses to send (RFC 6455, section 5.2)."""
        assert len(payload) < 126
        await self.socket._stream.send_all(bytes((0x80 | opcode, len(payload))) + payload)

    async def answer(self, request: dict[str, Any], *, success: bool = True, text: str = "", **more: Any) -> None:
        body = {"success": success, "ret_msg": text, "conn_id": "c", "req_id": request["req_id"], "op": request["op"]}
        await self.send({**body, **more})

    async def accept(self) -> list[str]:
        """Acknowledge the next subscribe; returns its topics."""
        request = await self.request()
        await self.answer(request)
        args: list[str] = request["args"]
        return args


class Venue:
    """The port, and who came."""

    def __init__(self, port: int) -> None:
        self.url = f"ws://127.0.0.1:{port}/v5/public/linear?from=test"
        self.paths: list[str] = []
        self._send, self._connections = trio.open_memory_channel[Connection](100)

    async def connection(self) -> Connection:
        """The next client, once it is connected."""
        return await self._connections.receive()

    async def serve(self, request: WebSocketRequest) -> None:
        self.paths.append(request.path)
        connection = Connection(await request.accept())
        self._send.send_nowait(connection)
        await connection.run()


@asynccontextmanager
async def open_venue() -> AsyncIterator[Venue]:
    async with trio.open_nursery() as nursery:
        venue: list[Venue] = []
        serve = partial(
            serve_websocket, lambda request: venue[0].serve(request), "127.0.0.1", 0, None, disconnect_timeout=0.1
        )
        server = await nursery.start(serve)
        venue.append(Venue(server.port))
        with trio.fail_after(30):
            yield venue[0]
        nursery.cancel_scope.cancel()


class Recording:
    """A recorder at work inside this process."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.folder = folder
        self.service = service
        self.events: list[wld.Event] = []
        """What is on the tape, once it is closed."""

    @property
    def counters(self) -> Any:
        """Of the source: bad input by kind."""
        return Counter(self.service._source.figures())  # type: ignore[attr-defined]

    async def until_end(self) -> None:
        """Until the trade that `end` makes has passed the ring."""
        await self.until(lambda event: isinstance(event, wld.Trade) and event.trade_id == END)

    async def until(self, done: Callable[[wld.Event], bool]) -> None:
        async for batch in self._subscription:
            if any(done(event) for event in batch):
                return

    def watch(self) -> None:
        self._subscription = self.service.ring.subscribe("test", capacity=1_000_000)


@asynccontextmanager
async def recording(folder: Path, url: str, **keys: Any) -> AsyncIterator[Recording]:
    """Record WLDUSDT from a URL into a folder; after the block the tape is closed and read."""
    settings = [
        Setting("source.name", url, "--source"),
        Setting("data_dir", str(folder), "--data-dir"),
        Setting("source.backoff_initial", 0.01, "--set"),
        *(Setting(key.replace("__", "."), value, "--set") for key, value in {**DEFAULTS, **keys}.items()),
    ]
    service = engine.assemble(load(None, settings, ["recorder"]))
    record = Recording(folder, service)
    record.watch()
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        yield record
        service.stop()
    assert service.failures == []
    record.events = list(wld.open_tape(folder))


# Frames.

T0 = 1_790_000_000_123
SYMBOL = "WLDUSDT"
BOOK, TRADES, TICKERS, LIQUIDATIONS = (
    f"{name}.{SYMBOL}" for name in ("orderbook.50", "publicTrade", "tickers", "allLiquidation")
)
ALL = [BOOK, TRADES, TICKERS, LIQUIDATIONS]


def book(
    u: int, bids: Any = (), asks: Any = (), *, kind: str = "delta", topic: str = BOOK, **more: Any
) -> dict[str, Any]:
    data = {"s": topic.rpartition(".")[2], "b": list(bids), "a": list(asks), "u": u, "seq": 800_000_000_000 + u}
    return {"topic": topic, "type": kind, "ts": T0 + u % 1000, "data": {**data, **more}, "cts": T0 + u % 1000 - 3}


def snapshot(u: int, **keys: Any) -> dict[str, Any]:
    return book(u, [["1.0", "5"], ["0.9", "7"]], [["1.1", "6"], ["1.2", "8"]], kind="snapshot", **keys)


def trade(i: int | str, price: str = "1.05", size: str = "2", **more: Any) -> dict[str, Any]:
    name = i if isinstance(i, str) else f"6052ed84-95df-5f17-887b-{i:012x}"
    n = i if isinstance(i, int) else 0
    item = {"T": T0 + n, "s": SYMBOL, "S": "Buy", "v": size, "p": price, "L": "PlusTick", "i": name, "BT": False}
    return {**item, "RPI": False, "seq": 800_000_000_000 + n, **more}


def trades(*items: dict[str, Any]) -> dict[str, Any]:
    return {"topic": TRADES, "type": "snapshot", "ts": T0 + 5, "data": list(items)}


def liquidations(*items: tuple[str, str, str]) -> dict[str, Any]:
    rows = [{"T": T0 + n, "s": SYMBOL, "S": s, "v": v, "p": p} for n, (s, v, p) in enumerate(items)]
    return {"topic": LIQUIDATIONS, "type": "snapshot", "ts": T0 + 400, "data": rows}


def ticker(kind: str = "delta", **fields: str) -> dict[str, Any]:
    return {"topic": TICKERS, "type": kind, "data": {"symbol": SYMBOL, **fields}, "cs": 25_420_000_000_000, "ts": T0}


def end() -> dict[str, Any]:
    return trades(trade(END))


# The oracle.

FIELDS = {
    "lastPrice": "last_price", "markPrice": "mark_price", "indexPrice": "index_price", "openInterest": "open_interest",
    "openInterestValue": "open_interest_value", "singleOpenInterest": "single_open_interest",
    "singleOpenInterestValue": "single_open_interest_value", "fundingRate": "funding_rate", "fundingCap": "funding_cap",
    "bid1Price": "bid_price", "bid1Size": "bid_size", "ask1Price": "ask_price", "ask1Size": "ask_size",
    "price24hPcnt": "price_change_24h", "prevPrice24h": "previous_price_24h", "prevPrice1h": "previous_price_1h",
    "highPrice24h": "high_price_24h", "lowPrice24h": "low_price_24h", "turnover24h": "turnover_24h",
    "volume24h": "volume_24h", "preOpenPrice": "pre_open_price", "preQty": "pre_size",
}  # fmt: skip


def exact(text: str) -> int:
    value = Decimal(text) * E8
    assert value == int(value)
    return int(value)


def levels(rows: list[list[str]]) -> list[list[int]]:
    return [[exact(price), exact(size)] for price, size in rows]


class Oracle:
    """Turns the frames that were sent into what must be on the tape, receive times left out."""

    def __init__(self) -> None:
        self.expected: list[dict[str, Any]] = []
        self._ticker: dict[str, Any] = {}
        self._labels: dict[int, str] = {}

    def sent(self, frame: dict[str, Any]) -> dict[str, Any]:
        """Note a good frame; returns it, to be sent."""
        kind = frame["topic"].rpartition(".")[0]
        if kind.startswith("orderbook"):
            self._book(frame, int(kind.partition(".")[2]))
        elif kind == "tickers":
            self._tick(frame)
        else:
            self._items(frame, kind)
        return frame

    def gap(
        self,
        reason: str,
        topic: str | None = None,
        symbol: str | None = None,
        missed: int | None = None,
        *,
        label: str = "",
    ) -> None:
        """Note that something is lost here; `label` names the frame where the check fails."""
        gap = {"type": "gap", "reason": reason, "topic": topic, "symbol": symbol, "missed": missed}
        self._labels[len(self.expected)] = label
        self.expected.append(gap)

    def _book(self, frame: dict[str, Any], depth: int) -> None:
        inner = frame["data"]
        self.expected.append({
            "type": "book_snapshot" if frame["type"] == "snapshot" else "book_delta", "symbol": inner["s"],
            "bids": levels(inner["b"]), "asks": levels(inner["a"]), "update_id": inner["u"], "sequence": inner["seq"],
            "event_time": frame["cts"] * 10**6, "sent_time": frame["ts"] * 10**6, "depth": depth,
        })  # fmt: skip

    def _items(self, frame: dict[str, Any], kind: str) -> None:
        for item in frame["data"]:
            own = {
                "symbol": item["s"], "size": exact(item["v"]), "event_time": item["T"] * 10**6,
                "sent_time": frame["ts"] * 10**6,
            }  # fmt: skip
            if kind == "allLiquidation":
                side = {"Buy": "long", "Sell": "short"}[item["S"]]
                own |= {"type": "liquidation", "position_side": side, "bankruptcy_price": exact(item["p"])}
            else:
                own |= {
                    "type": "trade", "price": exact(item["p"]), "aggressor_side": item["S"].lower(),
                    "trade_id": item["i"], "tick_direction": item["L"], "sequence": item["seq"],
                    "is_block_trade": item["BT"], "is_rpi": item["RPI"], "is_backfilled": False,
                }  # fmt: skip
            self.expected.append(own)

    def _tick(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "snapshot":
            self._ticker = {}
        for key, text in frame["data"].items():
            if text == "" or key == "symbol":
                continue
            if key in FIELDS:
                self._ticker[FIELDS[key]] = exact(text)
            elif key == "nextFundingTime":
                self._ticker["next_funding_time"] = int(text) * 10**6
            elif key == "fundingIntervalHour":
                self._ticker["funding_interval_hour"] = int(text)
            elif key == "tickDirection":
                self._ticker["tick_direction"] = text
        times = {"sequence": frame["cs"], "sent_time": frame["ts"] * 10**6}
        self.expected.append({"type": "ticker", "symbol": frame["data"]["symbol"], **self._ticker, **times})

    def check(self, events: list[wld.Event]) -> None:
        """One by one, in order; the trade of `end` and Instruments left out."""
        found = [seen(event) for event in events]
        found = [f for f in found if f["type"] != "instrument" and f.get("trade_id") != END]
        for number, (have, want) in enumerate(zip(found, self.expected, strict=False)):
            where = f"event {number} {self._labels.get(number, '')}"
            assert {key: have.get(key) for key in want} == want, where
            extra = {key for key in have.keys() - want.keys() if have[key] is not None}
            assert extra <= {"gap_id", "first_time", "last_time", "receive_time"}, where
        assert len(found) == len(self.expected)


def seen(event: wld.Event) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(event))  # type: ignore[no-any-return]
