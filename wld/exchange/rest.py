"""Owns the REST half of the simulated exchange: the public market endpoints over the live market.

Does not own the listening socket (server) nor the numbers (market). Shapes and limits: fact sheet, section 4.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wld.exchange.market import Market, SymbolMarket

RATE_LIMIT = 600
RATE_WINDOW_MS = 5_000
"""At most 600 requests in 5 s from one address; beyond that, HTTP 403."""
BAN_MS = 600_000
"""For how long an address that asked too much is refused."""
_RISK_PAGE = 15
_INTERVALS = {"5min": 5, "15min": 15, "30min": 30, "1h": 60, "4h": 240, "1d": 1440}

Query = Mapping[str, str]


class ApiError(Exception):
    """A request that the venue answers with a retCode; HTTP stays 200."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def check_category(query: Query) -> None:
    """Raises: ApiError where the category is not linear."""
    if query.get("category") != "linear":
        raise ApiError(10001, "params error: Category is invalid")


def limit_of(query: Query, default: int, most: int) -> int:
    """The `limit` asked for. Raises: ApiError."""
    text = query.get("limit", "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise ApiError(10001, "params error: limit invalid")
    return int(text)


def _symbol(market: Market, query: Query) -> SymbolMarket:
    name = query.get("symbol", "")
    if not name:
        raise ApiError(10001, "params error: symbol invalid")
    try:
        return market.symbol(name)
    except KeyError:
        raise ApiError(10001, f"params error: symbol invalid {name.lower()}") from None


def page_of(symbols: list[str], query: Query, size: int) -> tuple[list[str], str]:
    """One page of names after the cursor, and the next cursor ("" at the end)."""
    cursor = query.get("cursor", "")
    start = 0
    if cursor:
        kind, _, name = cursor.partition("=")
        if kind != "first" or not name:
            raise ApiError(10001, "params error: cursor invalid")
        start = next((n for n, symbol in enumerate(symbols) if symbol >= name), len(symbols))
    page = symbols[start : start + size]
    following = symbols[start + size : start + size + 1]
    return page, f"first={following[0]}" if following else ""


def time_result(market: Market, query: Query, now_ms: int) -> dict[str, Any]:
    """`/v5/market/time`."""
    return {"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 1_000_000)}


def instruments_result(market: Market, query: Query, now_ms: int) -> dict[str, Any]:
    """`/v5/market/instruments-info`: alphabetical, 500 a page unless asked otherwise."""
    check_category(query)
    if query.get("symbol"):
        try:
            names, cursor = [market.symbol(query["symbol"]).spec.symbol], ""
        except KeyError:
            names, cursor = [], ""
    else:
        size = limit_of(query, 500, 1000)
        base = query.get("baseCoin")
        wanted = [name for name in market.symbols if base in (None, "", market.symbol(name).spec.base)]
        names, cursor = page_of(wanted, query, size)
    if query.get("status") not in (None, "", "Trading"):
        names, cursor = [], ""
    rows = [market.symbol(name).spec.instrument_row() for name in names]
    return {"category": "linear", "list": rows, "nextPageCursor": cursor}


def risk_result(market: Market, query: Query, now_ms: int) -> dict[str, Any]:
    """`/v5/market/risk-limit`: all tiers of one symbol, or of 15 symbols a page."""
    check_category(query)
    if query.get("symbol"):
        names, cursor = [_symbol(market, query).spec.symbol], ""
    else:
        names, cursor = page_of(market.symbols, query, _RISK_PAGE)
    rows = [row for name in names for row in market.symbol(name).spec.risk_rows()]
    return {"category": "linear", "list": rows, "nextPageCursor": cursor}


def trades_result(market: Market, query: Query, now_ms: int) -> dict[str, Any]:
    """`/v5/market/recent-trade`: newest first; execId is the trade id of the WebSocket."""
    check_category(query)
    symbol = _symbol(market, query)
    limit = limit_of(query, 500, 1000)
    spec = symbol.spec
    rows = [
        {
            "execId": fill.trade_id,
            "symbol": spec.symbol,
            "price": spec.price_text(fill.price),
            "size": spec.size_text(fill.size),
            "side": "Buy" if fill.is_buy else "Sell",
            "time": str(fill.time_ms),
            "isBlockTrade": fill.is_block,
            "isRPITrade": fill.is_rpi,
            "seq": str(fill.sequence),
        }
        for fill in reversed(symbol.fills)
    ]
    return {"category": "linear", "list": rows[:limit]}


def book_result(market: Market, query: Query, now_ms: int) -> dict[str, Any]:
    """`/v5/market/orderbook`: the state of the 1,000-level topic, numbers without trailing zeros."""
    check_category(query)
    symbol = _symbol(market, query)
    limit = limit_of(query, 25, 1000)
    body = market.snapshot(f"orderbook.1000.{symbol.spec.symbol}")
    assert body is not None
    book = body["data"]
    return {
        "s": symbol.spec.symbol,
        "b": [[plain(price), plain(size)] for price, size in book["b"][:limit]],
        "a": [[plain(price), plain(size)] for price, size in book["a"][:limit]],
        "ts": body["ts"],
        "u": book["u"],
        "seq": book["seq"],
        "cts": body["cts"],
    }


def tickers_result(market: Market, query: Query, now_ms: int) -> dict[str, Any]:
    """`/v5/market/tickers`: the names and numbers of the WebSocket."""
    check_category(query)
    names = [_symbol(market, query).spec.symbol] if query.get("symbol") else market.symbols
    rows = []
    for name in names:
        body = market.snapshot(f"tickers.{name}")
        assert body is not None
        row = dict(body["data"])
        row.update(deliveryTime="0", deliveryFeeRate="", basis="", basisRate="", predictedDeliveryPrice="")
        rows.append(row)
    return {"category": "linear", "list": rows}


def interest_result(market: Market, query: Query, now_ms: int) -> dict[str, Any]:
    """`/v5/market/open-interest`: both sides and single, newest first."""
    check_category(query)
    symbol = _symbol(market, query)
    interval = _INTERVALS.get(query.get("intervalTime", ""))
    if interval is None:
        raise ApiError(10001, "params error: Interval invalid")
    limit = limit_of(query, 50, 200)
    spec = symbol.spec
    rows = [
        {
            "openInterest": spec.size_text(2 * lots),
            "singleOpenInterest": spec.size_text(lots),
            "timestamp": str(at),
        }
        for at, lots in reversed(symbol.open_interest)
        if at % (interval * 60_000) == 0
    ]
    return {"symbol": spec.symbol, "category": "linear", "list": rows[:limit], "nextPageCursor": ""}


Endpoint = Callable[[Any, Query, int], dict[str, Any]]
"""The market behind, the query, the time in ms, to the `result`. Raises: ApiError."""
ENDPOINTS: dict[str, Endpoint] = {
    "/v5/market/time": time_result,
    "/v5/market/instruments-info": instruments_result,
    "/v5/market/risk-limit": risk_result,
    "/v5/market/recent-trade": trades_result,
    "/v5/market/orderbook": book_result,
    "/v5/market/tickers": tickers_result,
    "/v5/market/open-interest": interest_result,
}


def answer(
    market: Any, path: str, query: Query, now_ms: int, endpoints: Mapping[str, Endpoint] = ENDPOINTS
) -> dict[str, Any]:
    """The whole envelope for one request, errors included."""
    try:
        code, message, result = 0, "OK", endpoints[path](market, query, now_ms)
    except ApiError as error:
        code, message, result = error.code, error.message, {}
    return {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": now_ms}


def routes(
    market: Any,
    now_ms: Callable[[], int],
    refused: Callable[[], int | None],
    endpoints: Mapping[str, Endpoint] = ENDPOINTS,
) -> list[Route]:
    """The endpoints as starlette routes; `refused` gives an HTTP status while REST is down, else None.

    The rate limit runs on this host's clock, whatever time the market shows.
    """
    requests: dict[str, deque[int]] = {}
    banned_until: dict[str, int] = {}

    def endpoint(path: str) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            status = refused()
            if status is not None:
                return Response(status_code=status)
            now = time.monotonic_ns() // 1_000_000
            host = request.client.host if request.client else ""
            recent = requests.setdefault(host, deque())
            while recent and recent[0] <= now - RATE_WINDOW_MS:
                recent.popleft()
            if len(recent) >= RATE_LIMIT:
                banned_until[host] = now + BAN_MS
            if now < banned_until.get(host, 0):
                return Response("access too frequent", status_code=403)
            recent.append(now)
            body = msgspec.json.encode(answer(market, path, request.query_params, now_ms(), endpoints))
            return Response(body, media_type="application/json")

        return serve

    return [Route(path, endpoint(path), methods=["GET"]) for path in endpoints]


def plain(text: str) -> str:
    """A decimal without trailing zeros."""
    return text.rstrip("0").rstrip(".") if "." in text else text
