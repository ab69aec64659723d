"""What other libraries do with the same messages, each in its own way: their handlers offline, their transports live.

Each function gives None where its library is not installed (`pip install -e '.[bench]'`).
"""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Timed = tuple[float, int]
"""(CPU seconds, messages)."""


def is_installed(name: str) -> bool:
    """Whether a module can be imported, without importing it."""
    return importlib.util.find_spec(name) is not None


def cryptofeed(messages: list[bytes], symbols: tuple[str, ...]) -> Timed:
    """cryptofeed's Bybit handler: books and trades; its tickers and liquidations are left out where it refuses them."""
    from cryptofeed.defines import L2_BOOK, TRADES
    from cryptofeed.exchanges import Bybit
    from cryptofeed.symbols import Symbols

    names = {symbol: f"{symbol[:-4]}-USDT-PERP" for symbol in symbols}
    Symbols.set(
        Bybit.id,
        {std: venue for venue, std in names.items()},
        {"instrument_type": dict.fromkeys(names.values(), "perpetual")},
    )

    async def seen(*_: Any) -> None:
        pass

    feed = Bybit(symbols=list(names.values()), channels=[L2_BOOK, TRADES], callbacks={L2_BOOK: seen, TRADES: seen})
    chosen = [m.decode() for m in messages if m[10:11] in (b"o", b"p")]

    class Connection:
        uuid = "bench"
        address = "wss://stream.bybit.com/v5/public/linear"

    async def run() -> Timed:
        begun = time.process_time()
        for message in chosen:
            await feed.message_handler(message, Connection(), 0.0)
        return time.process_time() - begun, len(chosen)

    return asyncio.run(run())


def ccxt(messages: list[bytes], symbols: tuple[str, ...]) -> Timed:
    """ccxt.pro's Bybit handler behind json.loads, as its client calls it."""
    import ccxt.pro
    from ccxt.async_support.base.ws.client import Client

    async def run() -> Timed:
        exchange = ccxt.pro.bybit({"newUpdates": True})
        markets = []
        for symbol in symbols:
            base = symbol[:-4]
            markets.append(
                exchange.safe_market_structure(
                    {
                        "id": symbol, "symbol": f"{base}/USDT:USDT", "base": base, "quote": "USDT", "settle": "USDT",
                        "type": "swap", "swap": True, "spot": False, "contract": True, "linear": True, "active": True,
                        "precision": {"price": 0.0001, "amount": 0.1},
                    }
                )
            )  # fmt: skip
        exchange.set_markets(markets)
        url = "wss://stream.bybit.com/v5/public/linear"
        client = Client(url, lambda *_: None, lambda *_: None, lambda *_: None, lambda *_: None)
        for symbol in symbols:
            exchange.orderbooks[f"{symbol[:-4]}/USDT:USDT"] = exchange.order_book({})
        done = 0
        begun = time.process_time()
        for message in messages:
            try:
                exchange.handle_message(client, json.loads(message))
                done += 1
            except Exception:
                continue
        took = time.process_time() - begun
        await exchange.close()
        return took, done

    return asyncio.run(run())


def pybit(messages: list[bytes], symbols: tuple[str, ...]) -> Timed:
    """pybit's message handler behind json.loads, as its socket calls it."""
    from pybit._websocket_stream import _V5WebSocketManager

    manager = _V5WebSocketManager.__new__(_V5WebSocketManager)
    manager.data, manager.subscriptions, manager.callback_directory = {}, {}, {}
    manager.private_topics, manager.standard_private_topics = [], []
    manager.symbol_wildcard, manager.symbol_separator = "*", "|"
    for symbol in symbols:
        for topic in ("orderbook.50", "publicTrade", "tickers", "allLiquidation"):
            manager.callback_directory[f"{topic}.{symbol}"] = lambda _: None
    done = 0
    begun = time.process_time()
    for message in messages:
        try:
            manager._handle_incoming_message(json.loads(message))
            done += 1
        except KeyError:
            continue
    return time.process_time() - begun, done


HANDLERS: dict[str, tuple[str, Callable[[list[bytes], tuple[str, ...]], Timed]]] = {
    "cryptofeed handler": ("cryptofeed", cryptofeed),
    "ccxt.pro handler": ("ccxt", ccxt),
    "pybit handler": ("pybit", pybit),
}


# Transports: `python -m benchmarks.peers NAME URL TOPICS MESSAGES CA` counts messages and prints CPU seconds.


async def _websockets(url: str, topics: int, count: int, ca: str) -> float:
    import ssl

    import websockets

    context = ssl.create_default_context(cafile=ca) if url.startswith("wss") else None
    async with websockets.connect(url, ssl=context, compression=None, max_size=None, max_queue=4096) as socket:
        await socket.send(json.dumps({"op": "subscribe", "req_id": "1", "args": ["x"] * topics}))
        await socket.recv()
        begun = time.process_time()
        for _ in range(count):
            await socket.recv(decode=False)
        return time.process_time() - begun


async def _picows(url: str, topics: int, count: int, ca: str) -> float:
    import ssl

    import picows

    finished = asyncio.get_running_loop().create_future()

    class Listener(picows.WSListener):  # type: ignore[misc]
        seen = -1
        begun = 0.0

        def on_ws_connected(self, transport: Any) -> None:
            text = json.dumps({"op": "subscribe", "req_id": "1", "args": ["x"] * topics})
            transport.send(picows.WSMsgType.TEXT, text.encode())

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            frame.get_payload_as_bytes()
            self.seen += 1
            if self.seen == 0:
                self.begun = time.process_time()
            if self.seen == count and not finished.done():
                finished.set_result(time.process_time() - self.begun)

    context = ssl.create_default_context(cafile=ca) if url.startswith("wss") else None
    transport, _ = await picows.ws_connect(Listener, url, ssl_context=context)
    took: float = await finished
    transport.disconnect()
    return took


def _ours(name: str, url: str, topics: int, count: int, ca: str) -> float:
    import ssl

    import trio

    from wld import process
    from wld.bybit.transport import make_connect
    from wld.config import SourceConfig

    process.tune()

    async def run() -> float:
        context = ssl.create_default_context(cafile=ca)
        async with make_connect(SourceConfig(transport=name), context)(url) as stream:
            await stream.send(json.dumps({"op": "subscribe", "req_id": "1", "args": ["x"] * topics}))
            seen = len(await stream.receive()) - 1
            begun = time.process_time()
            while seen < count:
                seen += len(await stream.receive())
            return time.process_time() - begun

    return trio.run(run)


def _sans_io(url: str, topics: int, count: int, ca: str) -> float:
    """websockets' sans-IO core on a Trio stream (trio.SSLStream for TLS): the middle way that was not taken."""
    import ssl

    import trio
    from websockets.client import ClientProtocol
    from websockets.uri import parse_uri

    async def run() -> float:
        uri = parse_uri(url)
        stream: Any = await trio.open_tcp_stream(uri.host, uri.port)
        if uri.secure:
            stream = trio.SSLStream(stream, ssl.create_default_context(cafile=ca), server_hostname=uri.host)
        protocol = ClientProtocol(uri, max_size=None)
        protocol.send_request(protocol.connect())
        seen, begun, asked = -1, 0.0, False
        while seen < count:
            for content in protocol.data_to_send():
                if content:
                    await stream.send_all(content)
            protocol.receive_data(await stream.receive_some(65536))
            events = protocol.events_received()
            if not asked and events:
                asked = True
                protocol.send_text(json.dumps({"op": "subscribe", "req_id": "1", "args": ["x"] * topics}).encode())
                continue
            if seen < 0 and events:
                begun = time.process_time()
            seen += len(events)
        return time.process_time() - begun

    return trio.run(run)


def _websocket_client(url: str, topics: int, count: int, ca: str) -> float:
    """What pybit receives with, and the predecessor's feed did."""
    import websocket

    socket = websocket.create_connection(url, sslopt={"ca_certs": ca})
    socket.send(json.dumps({"op": "subscribe", "req_id": "1", "args": ["x"] * topics}))
    socket.recv()
    begun = time.process_time()
    for _ in range(count):
        socket.recv()
    took = time.process_time() - begun
    socket.close()
    return took


def main() -> None:
    name, url, topics, count, ca = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    if name == "websockets":
        took = asyncio.run(_websockets(url, topics, count, ca))
    elif name == "picows":
        took = asyncio.run(_picows(url, topics, count, ca))
    elif name == "websocket-client":
        took = _websocket_client(url, topics, count, ca)
    elif name == "websockets sans-IO":
        took = _sans_io(url, topics, count, ca)
    else:
        took = _ours(name, url, topics, count, ca)
    print(took)


TRANSPORTS = {
    "native": "wld", "trio-websocket": "wld", "websockets sans-IO": "websockets", "websockets": "websockets",
    "picows": "picows", "websocket-client": "websocket",
}  # fmt: skip
"""By name, and the module that each needs."""
SLOW_TRANSPORTS = ("trio-websocket", "websocket-client")
"""Run once."""


# Formats -----------------------------------------------------------------------------------------------------------


def parquet_of(trades: Any, path: Path) -> tuple[int, float, float]:
    """(bytes, write CPU s, read CPU s) of trades as Parquet with zstd."""
    import pyarrow
    import pyarrow.parquet as parquet

    names = ("price", "size", "is_buy", "event_time", "receive_time", "sequence")
    begun = time.process_time()
    parquet.write_table(pyarrow.table({name: trades[name] for name in names}), path, compression="zstd")
    wrote = time.process_time()
    parquet.read_table(path)
    return path.stat().st_size, wrote - begun, time.process_time() - wrote


def dbn_of(trades: Any) -> tuple[int, float, float]:
    """(bytes, write CPU s, read CPU s) of trades as DBN records, which its Python package makes and decodes."""
    import databento_dbn as dbn

    begun = time.process_time()
    out = io.BytesIO()
    metadata = dbn.Metadata(
        dataset="XNAS.ITCH", start=0, stype_in=dbn.SType.RAW_SYMBOL, stype_out=dbn.SType.INSTRUMENT_ID, schema=dbn.Schema.TRADES, symbols=["X"],
        partial=[], not_found=[], mappings=[],
    )  # fmt: skip
    out.write(metadata.encode())
    for price, size, time_ns, is_buy in zip(
        trades["price"].tolist(),
        trades["size"].tolist(),
        trades["event_time"].tolist(),
        trades["is_buy"].tolist(),
        strict=True,
    ):
        record = dbn.TradeMsg(
            publisher_id=1, instrument_id=1, ts_event=time_ns, price=price * 10, size=size // 10**8 % 2**32,
            action=dbn.Action.TRADE, side=dbn.Side.BID if is_buy else dbn.Side.ASK, depth=0, ts_recv=time_ns,
        )  # fmt: skip
        out.write(bytes(record))
    wrote = time.process_time()
    decoder = dbn.DBNDecoder()
    decoder.write(out.getvalue())
    decoder.decode()
    return out.tell(), wrote - begun, time.process_time() - wrote


if __name__ == "__main__":
    main()
