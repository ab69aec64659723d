"""Owns a recording as a market: recorded events in, messages of the venue's V5 protocol and REST results out.

Pure: knows no clock and no socket. Shapes as in `publication` and `rest`; numbers are printed in their shortest exact
form, since the venue's trailing zeros are not on the tape.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any

from wld.book import OrderBook
from wld.errors import BookInvalid
from wld.events import (
    AggressorSide,
    BookDelta,
    BookSnapshot,
    Event,
    Instrument,
    Level,
    Liquidation,
    PositionSide,
    Ticker,
    Trade,
)
from wld.exchange.publication import MAX_TRADES, Body, Message
from wld.exchange.rest import ApiError, Endpoint, Query, check_category, limit_of, page_of, time_result
from wld.units import format_fixed

RECENT_TRADES = 1_000
_RISK_PAGE = 15
_BUCKET_MS = 300_000
_DAY_BUCKETS = 288
_TEXT_CACHE = 100_000
_SIDE = {AggressorSide.BUY: "Buy", AggressorSide.SELL: "Sell"}
_POSITION = {PositionSide.LONG: "Buy", PositionSide.SHORT: "Sell"}


def _milliseconds(time_ns: int) -> str:
    return str(time_ns // 1_000_000)


TICKER_FIELDS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("tick_direction", "tickDirection", lambda direction: str(direction.value)),
    ("price_change_24h", "price24hPcnt", format_fixed),
    ("last_price", "lastPrice", format_fixed),
    ("previous_price_24h", "prevPrice24h", format_fixed),
    ("high_price_24h", "highPrice24h", format_fixed),
    ("low_price_24h", "lowPrice24h", format_fixed),
    ("previous_price_1h", "prevPrice1h", format_fixed),
    ("mark_price", "markPrice", format_fixed),
    ("index_price", "indexPrice", format_fixed),
    ("open_interest", "openInterest", format_fixed),
    ("open_interest_value", "openInterestValue", format_fixed),
    ("single_open_interest", "singleOpenInterest", format_fixed),
    ("single_open_interest_value", "singleOpenInterestValue", format_fixed),
    ("turnover_24h", "turnover24h", format_fixed),
    ("volume_24h", "volume24h", format_fixed),
    ("next_funding_time", "nextFundingTime", _milliseconds),
    ("funding_rate", "fundingRate", format_fixed),
    ("funding_interval_hour", "fundingIntervalHour", str),
    ("funding_cap", "fundingCap", format_fixed),
    ("bid_price", "bid1Price", format_fixed),
    ("bid_size", "bid1Size", format_fixed),
    ("ask_price", "ask1Price", format_fixed),
    ("ask_size", "ask1Size", format_fixed),
    ("delivery_time", "deliveryTime", str),
    ("basis", "basis", format_fixed),
    ("basis_rate", "basisRate", format_fixed),
    ("basis_rate_year", "basisRateYear", format_fixed),
    ("delivery_fee_rate", "deliveryFeeRate", format_fixed),
    ("predicted_delivery_price", "predictedDeliveryPrice", format_fixed),
    ("pre_open_price", "preOpenPrice", format_fixed),
    ("pre_size", "preQty", format_fixed),
    ("pre_listing_phase", "curPreListingPhase", str),
)
"""Field of `Ticker`, the venue's name, how it is printed."""
_PAIRS = {"bid_price": "bid_size", "bid_size": "bid_price", "ask_price": "ask_size", "ask_size": "ask_price"}


class RecordedMarket:
    """What a recording shows at its present moment, for any number of listeners.

    `depths` says which symbols there are and which book depths each has. Times may be shifted (a later lap of the same
    recording), and trade ids are then others, so that no client takes them for what it has seen.
    """

    def __init__(self, depths: Mapping[str, Iterable[int]], instruments: Mapping[str, Instrument]) -> None:
        self._depths = {symbol: set(found) for symbol, found in depths.items()}
        self.instruments = dict(instruments)
        """As the venue would tell them now."""
        self.now_ns = 0
        """The recorded receive time that has been reached."""
        self.lap = 0
        self._shift_ns = 0
        self._books: dict[tuple[str, int], OrderBook] = {}
        self._last_book: dict[tuple[str, int], BookSnapshot | BookDelta] = {}
        self._tickers: dict[str, Ticker] = {}
        self._trades: dict[str, deque[Trade]] = {}
        self._interest: dict[str, deque[tuple[int, int, int | None]]] = {}
        self._texts: dict[int, str] = {}

    def next_lap(self, shift_ns: int) -> None:
        """The recording begins again, its times later by so much in all; books wait for their first snapshot."""
        self.lap += 1
        self._shift_ns = shift_ns
        self._books.clear()

    # Topics.

    @property
    def symbols(self) -> list[str]:
        """Alphabetically."""
        return sorted(self._depths)

    def depths(self, symbol: str) -> list[int]:
        """The recorded book depths of a symbol, ascending."""
        return sorted(self._depths[symbol])

    def knows(self, topic: str) -> bool:
        """Whether a client may subscribe to this topic."""
        kind, _, rest = topic.partition(".")
        if kind == "orderbook":
            depth, _, symbol = rest.partition(".")
            return depth.isdecimal() and int(depth) in self._depths.get(symbol, ())
        return kind in ("publicTrade", "tickers", "allLiquidation") and rest in self._depths

    def snapshot(self, topic: str) -> Body | None:
        """What a new listener of a known topic is sent first; None where nothing was recorded yet."""
        kind, _, rest = topic.partition(".")
        if kind == "tickers":
            ticker = self._tickers.get(rest)
            return None if ticker is None else self._ticker_body(ticker, None)
        if kind != "orderbook":
            return None
        depth, _, symbol = rest.partition(".")
        return self.book(symbol, int(depth))

    def book(self, symbol: str, depth: int, limit: int | None = None) -> Body | None:
        """The book as a snapshot message at its present update id; None while it is not known."""
        book = self._books.get((symbol, depth))
        if book is None or not book.is_valid:
            return None
        last = self._last_book[symbol, depth]
        return self._book_body("snapshot", last, book.bids(limit), book.asks(limit))

    # Events in, messages out.

    def advance(self, events: Iterable[Event], is_heard: Callable[[str], bool]) -> list[Message]:
        """Take recorded events; the messages of heard topics, in their order.

        Trades, and liquidations, that came in one message go out in one message.
        """
        messages: list[Message] = []
        for _, group in groupby(events, _message_of):
            run = list(group)
            event = run[0]
            self.now_ns = max(self.now_ns, event.receive_time + self._shift_ns)
            if isinstance(event, Trade):
                self._add_trades(run, messages, is_heard)
            elif isinstance(event, BookSnapshot | BookDelta):
                self._add_book(event, messages, is_heard)
            elif isinstance(event, Ticker):
                self._add_ticker(event, messages, is_heard)
            elif isinstance(event, Liquidation):
                self._add_liquidations(run, messages, is_heard)
            elif isinstance(event, Instrument):
                self.instruments[event.symbol] = event
        return messages

    def _depths_of(self, symbol: str) -> set[int]:
        return self._depths.setdefault(symbol, set())

    def _ms(self, time_ns: int) -> int:
        return (time_ns + self._shift_ns) // 1_000_000

    def _sent_ms(self, event: Trade | Liquidation | Ticker | BookSnapshot | BookDelta) -> int:
        return self._ms(event.receive_time if event.sent_time is None else event.sent_time)

    def _trade_id(self, trade_id: str) -> str:
        if not self.lap or not trade_id:
            return trade_id
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.lap}/{trade_id}"))

    def _add_trades(self, trades: list[Any], messages: list[Message], is_heard: Callable[[str], bool]) -> None:
        first: Trade = trades[0]
        self._depths_of(first.symbol)
        recent = self._trades.setdefault(first.symbol, deque(maxlen=RECENT_TRADES))
        recent.extend(trades)
        topic = f"publicTrade.{first.symbol}"
        if not is_heard(topic):
            return
        rows = [self._trade_row(trade) for trade in trades]
        for at in range(0, len(rows), MAX_TRADES):
            body = {"topic": topic, "type": "snapshot", "ts": self._sent_ms(first), "data": rows[at : at + MAX_TRADES]}
            messages.append(Message(topic, body))

    def _trade_row(self, trade: Trade) -> dict[str, Any]:
        row: dict[str, Any] = {
            "T": self._ms(trade.event_time),
            "s": trade.symbol,
            "S": _SIDE[trade.aggressor_side],
            "v": format_fixed(trade.size),
            "p": self._text(trade.price),
        }
        if trade.tick_direction is not None:
            row["L"] = trade.tick_direction.value
        row["i"] = self._trade_id(trade.trade_id)
        row["BT"] = trade.is_block_trade
        if trade.is_rpi is not None:
            row["RPI"] = trade.is_rpi
        if trade.sequence is not None:
            row["seq"] = trade.sequence
        return row

    def _add_liquidations(self, run: list[Any], messages: list[Message], is_heard: Callable[[str], bool]) -> None:
        first: Liquidation = run[0]
        self._depths_of(first.symbol)
        topic = f"allLiquidation.{first.symbol}"
        if not is_heard(topic):
            return
        rows = [
            {
                "T": self._ms(item.event_time),
                "s": item.symbol,
                "S": _POSITION[item.position_side],
                "v": format_fixed(item.size),
                "p": format_fixed(item.bankruptcy_price),
            }
            for item in run
        ]
        messages.append(Message(topic, {"topic": topic, "type": "snapshot", "ts": self._sent_ms(first), "data": rows}))

    def _add_book(
        self, event: BookSnapshot | BookDelta, messages: list[Message], is_heard: Callable[[str], bool]
    ) -> None:
        key = (event.symbol, event.depth)
        self._depths_of(event.symbol).add(event.depth)
        book = self._books.get(key)
        if book is None:
            book = self._books[key] = OrderBook(event.symbol)
        try:
            book.apply(event)
        except BookInvalid:
            return  # a hole in the recording: nobody could use this delta; the next snapshot mends it
        self._last_book[key] = event
        topic = f"orderbook.{event.depth}.{event.symbol}"
        if is_heard(topic):
            kind = "snapshot" if isinstance(event, BookSnapshot) else "delta"
            messages.append(Message(topic, self._book_body(kind, event, event.bids, event.asks)))

    def _book_body(
        self, kind: str, event: BookSnapshot | BookDelta, bids: Iterable[Level], asks: Iterable[Level]
    ) -> Body:
        text = self._text
        data: dict[str, Any] = {
            "s": event.symbol,
            "b": [[text(price), format_fixed(size)] for price, size in bids],
            "a": [[text(price), format_fixed(size)] for price, size in asks],
            "u": event.update_id,
        }
        if event.sequence is not None:
            data["seq"] = event.sequence
        topic = f"orderbook.{event.depth}.{event.symbol}"
        body: Body = {"topic": topic, "type": kind, "ts": self._sent_ms(event), "data": data}
        if event.event_time is not None:
            body["cts"] = self._ms(event.event_time)
        return body

    def _text(self, price: int) -> str:
        text = self._texts.get(price)
        if text is None:
            if len(self._texts) >= _TEXT_CACHE:
                self._texts.clear()
            text = self._texts[price] = format_fixed(price)
        return text

    def _add_ticker(self, event: Ticker, messages: list[Message], is_heard: Callable[[str], bool]) -> None:
        self._depths_of(event.symbol)
        before = self._tickers.get(event.symbol)
        self._tickers[event.symbol] = event
        if event.open_interest is not None:
            history = self._interest.setdefault(event.symbol, deque(maxlen=_DAY_BUCKETS))
            at = self._ms(event.receive_time) // _BUCKET_MS * _BUCKET_MS
            if not history or history[-1][0] < at:
                history.append((at, event.open_interest, event.single_open_interest))
        topic = f"tickers.{event.symbol}"
        if is_heard(topic):
            messages.append(Message(topic, self._ticker_body(event, before)))

    def _ticker_body(self, event: Ticker, before: Ticker | None) -> Body:
        """A delta against what listeners hold; a snapshot where there is nothing before, or a field is gone."""
        changed: set[str] = set()
        if before is not None:
            for name, _, _ in TICKER_FIELDS:
                old, new = getattr(before, name), getattr(event, name)
                if old != new:
                    if new is None:
                        before = None
                        break
                    changed.add(name)
                    if name in _PAIRS:
                        changed.add(_PAIRS[name])
        fields: dict[str, str] = {"symbol": event.symbol}
        for name, wire_name, convert in TICKER_FIELDS:
            value = getattr(event, name)
            if value is not None and (before is None or name in changed):
                fields[wire_name] = (
                    str(self._ms(value)) if self._shift_ns and name == "next_funding_time" else convert(value)
                )
        topic = f"tickers.{event.symbol}"
        body: Body = {
            "topic": topic,
            "type": "snapshot" if before is None else "delta",
            "data": fields,
            "ts": self._sent_ms(event),
        }
        if event.sequence is not None:
            body["cs"] = event.sequence
        return body

    # For REST.

    def ticker(self, symbol: str) -> Body | None:
        """The ticker as a snapshot message; None before the first."""
        return self.snapshot(f"tickers.{symbol}")

    def recent_trades(self, symbol: str) -> list[dict[str, Any]]:
        """The last 1,000 trades, newest first, as REST shows them."""
        rows: list[dict[str, Any]] = []
        for trade in reversed(self._trades.get(symbol, ())):
            row: dict[str, Any] = {
                "execId": self._trade_id(trade.trade_id),
                "symbol": symbol,
                "price": format_fixed(trade.price),
                "size": format_fixed(trade.size),
                "side": _SIDE[trade.aggressor_side],
                "time": str(self._ms(trade.event_time)),
                "isBlockTrade": trade.is_block_trade,
                "isRPITrade": bool(trade.is_rpi),
            }
            if trade.sequence is not None:
                row["seq"] = str(trade.sequence)
            rows.append(row)
        return rows

    def interest(self, symbol: str) -> list[tuple[int, int, int | None]]:
        """(ms, open interest, single side) at each five minutes, newest first."""
        return list(reversed(self._interest.get(symbol, ())))


def _message_of(event: Event) -> Any:
    """The same for neighbours that came in one message."""
    if isinstance(event, Trade | Liquidation):
        return type(event), event.symbol, event.sent_time, event.receive_time
    return id(event)


# REST: the endpoints of the simulated exchange, answered from the recording.


def _known(market: RecordedMarket, query: Query) -> str:
    name = query.get("symbol", "")
    if not name or name not in market.symbols:
        raise ApiError(10001, f"params error: symbol invalid {name.lower()}".rstrip())
    return name


def _instruments(market: RecordedMarket, query: Query, now_ms: int) -> dict[str, Any]:
    check_category(query)
    if query.get("symbol"):
        names, cursor = [name for name in market.symbols if name == query["symbol"]], ""
    else:
        names, cursor = page_of(market.symbols, query, limit_of(query, 500, 1000))
    rows = [instrument_row(name, market.instruments.get(name)) for name in names]
    if query.get("status"):
        rows = [row for row in rows if row["status"] == query["status"]]
    return {"category": "linear", "list": rows, "nextPageCursor": cursor}


def instrument_row(symbol: str, known: Instrument | None) -> dict[str, Any]:
    """An entry of instruments-info with what the recording tells; what it does not tell is left out."""
    row: dict[str, Any] = {"symbol": symbol, "contractType": "LinearPerpetual", "status": "Trading"}
    for quote in ("USDT", "PERP"):
        if symbol.endswith(quote):
            row |= {"baseCoin": symbol.removesuffix(quote), "quoteCoin": "USDC" if quote == "PERP" else quote}
    if known is None:
        return row
    row["contractType"] = known.contract_type or row["contractType"]
    row["status"] = known.status or row["status"]
    if known.launch_time is not None:
        row["launchTime"] = _milliseconds(known.launch_time)
    if known.funding_interval is not None:
        row["fundingInterval"] = known.funding_interval
    for group, names in _FILTERS.items():
        values = {wire_name: getattr(known, name) for wire_name, name in names}
        row[group] = {wire_name: format_fixed(value) for wire_name, value in values.items() if value is not None}
    return row


_FILTERS: dict[str, tuple[tuple[str, str], ...]] = {
    "leverageFilter": (("maxLeverage", "max_leverage"),),
    "priceFilter": (("tickSize", "tick_size"),),
    "lotSizeFilter": (
        ("qtyStep", "lot_size"),
        ("minOrderQty", "min_size"),
        ("maxOrderQty", "max_size"),
        ("minNotionalValue", "min_notional"),
    ),
}


def _risk(market: RecordedMarket, query: Query, now_ms: int) -> dict[str, Any]:
    check_category(query)
    if query.get("symbol"):
        names, cursor = [_known(market, query)], ""
    else:
        names, cursor = page_of(market.symbols, query, _RISK_PAGE)
    rows = [
        {
            "id": n,
            "symbol": name,
            "riskLimitValue": format_fixed(tier.limit),
            "maintenanceMargin": format_fixed(tier.maintenance_margin),
            "initialMargin": format_fixed(tier.initial_margin),
            "isLowestRisk": int(n == 1),
            "maxLeverage": format_fixed(tier.max_leverage),
            "mmDeduction": "" if tier.maintenance_deduction is None else format_fixed(tier.maintenance_deduction),
        }
        for name in names
        if name in market.instruments
        for n, tier in enumerate(market.instruments[name].margin_tiers, 1)
    ]
    return {"category": "linear", "list": rows, "nextPageCursor": cursor}


def _recent(market: RecordedMarket, query: Query, now_ms: int) -> dict[str, Any]:
    check_category(query)
    rows = market.recent_trades(_known(market, query))
    return {"category": "linear", "list": rows[: limit_of(query, 500, 1000)]}


def _book(market: RecordedMarket, query: Query, now_ms: int) -> dict[str, Any]:
    check_category(query)
    symbol, limit = _known(market, query), limit_of(query, 25, 1000)
    for depth in reversed(market.depths(symbol)):
        body = market.book(symbol, depth, limit)
        if body is not None:
            return {**body["data"], "ts": body["ts"], "cts": body.get("cts", body["ts"])}
    return {"s": symbol, "b": [], "a": [], "ts": now_ms, "u": 0, "seq": 0, "cts": now_ms}


def _tickers(market: RecordedMarket, query: Query, now_ms: int) -> dict[str, Any]:
    check_category(query)
    names = [_known(market, query)] if query.get("symbol") else market.symbols
    bodies = [market.ticker(name) for name in names]
    return {"category": "linear", "list": [body["data"] for body in bodies if body is not None]}


_INTERVALS = {"5min": 5, "15min": 15, "30min": 30, "1h": 60, "4h": 240, "1d": 1440}


def _interest(market: RecordedMarket, query: Query, now_ms: int) -> dict[str, Any]:
    check_category(query)
    symbol = _known(market, query)
    interval = _INTERVALS.get(query.get("intervalTime", ""))
    if interval is None:
        raise ApiError(10001, "params error: Interval invalid")
    rows: list[dict[str, str]] = []
    for at, both, single in market.interest(symbol):
        if at % (interval * 60_000) == 0:
            row = {"openInterest": format_fixed(both), "timestamp": str(at)}
            if single is not None:
                row["singleOpenInterest"] = format_fixed(single)
            rows.append(row)
    return {"symbol": symbol, "category": "linear", "list": rows[: limit_of(query, 50, 200)], "nextPageCursor": ""}


ENDPOINTS: dict[str, Endpoint] = {
    "/v5/market/time": time_result,
    "/v5/market/instruments-info": _instruments,
    "/v5/market/risk-limit": _risk,
    "/v5/market/recent-trade": _recent,
    "/v5/market/orderbook": _book,
    "/v5/market/tickers": _tickers,
    "/v5/market/open-interest": _interest,
}
