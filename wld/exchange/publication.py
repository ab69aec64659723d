"""Owns what the venue tells about one symbol: books by depth, ticker, trades and liquidations, in the V5
shapes.

Pure: turns the state of a `SymbolFlow` into message bodies. Does not own when they are due (market) nor who
hears them (server). Shapes and rules: fact sheet, section 3.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from wld.exchange.flow import Fill, LiquidationRecord, SymbolFlow
from wld.exchange.instruments import SymbolSpec, decimal_text

MAX_TRADES = 1024
BOOK_CADENCE_MS = {1: 10, 50: 20, 200: 100, 1000: 200}
"""Served depths and how often each is pushed, ms. Depth 500 was retired by the venue on 2025-09-11."""
REPEAT_MS = 3_000
_BUCKET_MS = 300_000
_DAY_BUCKETS = 288
_HOUR_BUCKETS = 12
_TEXT_CACHE = 20_000

Body = dict[str, Any]


class Message(NamedTuple):
    """One data message: its topic, and the object to encode as JSON."""

    topic: str
    body: Body


class BookTopic:
    """One depth of one symbol's book: its own update id, and what its listeners hold."""

    def __init__(self, flow: SymbolFlow, depth: int, first_update_id: int) -> None:
        self.topic = f"orderbook.{depth}.{flow.spec.symbol}"
        self.update_id = first_update_id
        self._depth = depth
        self._flow = flow
        self._bids = flow.book.bids.top(depth)
        self._asks = flow.book.asks.top(depth)
        self._sequence = flow.sequence
        self._changed_ms = flow.changed_ms
        self._sent_ms = flow.changed_ms
        self._texts: dict[int, str] = {}
        self._restart = False
        self._resend = False

    def restart(self) -> None:
        """The next message is a snapshot with update id 1, as after a restart of the venue's service."""
        self._restart = True

    def resend(self) -> None:
        """The next message is a snapshot in mid-stream, as when the venue repairs its own feed."""
        self._resend = True

    def snapshot(self, now_ms: int) -> Body:
        """What a new listener gets: the book as the other listeners hold it, at its update id."""
        bids = self._rows(self._bids, reversed(self._bids), 1)
        asks = self._rows(self._asks, reversed(self._asks), -1)
        return self._body("snapshot", now_ms, bids, asks)

    def refresh(self, now_ms: int) -> None:
        """Catch up after nobody listened; the snapshot that follows carries the next update id."""
        self.push(now_ms)

    def push(self, now_ms: int) -> Body | None:
        """The message due now, or None: a delta (depth 1: a snapshot) when something changed."""
        flow = self._flow
        if flow.sequence == self._sequence and not (self._restart or self._resend):
            if self._depth == 1 and now_ms - self._sent_ms >= REPEAT_MS:
                self._sent_ms = now_ms
                return self.snapshot(now_ms)
            return None
        bids, asks = flow.book.bids.top(self._depth), flow.book.asks.top(self._depth)
        old_bids, old_asks = self._bids, self._asks
        if bids == old_bids and asks == old_asks and not (self._restart or self._resend):
            return None
        self._bids, self._asks = bids, asks
        self._sequence = flow.sequence
        self._changed_ms = flow.changed_ms
        self._sent_ms = now_ms
        self.update_id = 1 if self._restart else self.update_id + 1
        if self._restart or self._resend or self._depth == 1:
            self._restart = self._resend = False
            return self.snapshot(now_ms)
        return self._body("delta", now_ms, self._changes(old_bids, bids, 1), self._changes(old_asks, asks, -1))

    def _changes(self, old: dict[int, int], new: dict[int, int], sign: int) -> list[list[str]]:
        if old == new:
            return []
        changed = {key for key, _ in old.items() ^ new.items()}
        return self._rows(new, sorted(changed, reverse=True), sign)

    def _rows(self, sizes: dict[int, int], keys: Any, sign: int) -> list[list[str]]:
        """Levels as the venue prints them, best first; a size that is absent is "0"."""
        texts = self._texts
        spec = self._flow.spec
        rows: list[list[str]] = []
        for key in keys:
            ticks = key * sign
            price = texts.get(ticks)
            if price is None:
                if len(texts) > _TEXT_CACHE:
                    texts.clear()
                price = texts[ticks] = spec.price_text(ticks)
            size = sizes.get(key)
            rows.append([price, spec.size_text(size) if size else "0"])
        return rows

    def _body(self, kind: str, now_ms: int, bids: list[list[str]], asks: list[list[str]]) -> Body:
        book = {
            "s": self._flow.spec.symbol,
            "b": bids,
            "a": asks,
            "u": self.update_id,
            "seq": self._sequence,
        }
        cts = min(self._changed_ms, now_ms)
        if self._depth == 1:
            return {"topic": self.topic, "ts": now_ms, "type": kind, "data": book, "cts": cts}
        return {"topic": self.topic, "type": kind, "ts": now_ms, "data": book, "cts": cts}


class Statistics:
    """Rolling 24 h and 1 h statistics in buckets of five minutes: prices in ticks, volume in lots."""

    def __init__(self, start_ms: int, closes: list[tuple[int, int, int, int]]) -> None:
        """`closes` is the day before the start, oldest first: (close, high, low, volume) per bucket."""
        self._until = start_ms + _BUCKET_MS
        self._rows: deque[list[int]] = deque(maxlen=_DAY_BUCKETS)
        self._volume = self._turnover = 0
        for close, high, low, volume in closes[-_DAY_BUCKETS:]:
            self._rows.append([close, high, low, volume, volume * (high + low) // 2])
            self._volume += volume
            self._turnover += volume * (high + low) // 2
        close = self._rows[-1][0]
        self._now = [close, close, close, 0, 0]
        self._extremes()

    def _extremes(self) -> None:
        self._high = max(row[1] for row in self._rows)
        self._low = min(row[2] for row in self._rows)

    def add(self, fill: Fill) -> None:
        """Count one print."""
        row = self._now
        price, size = fill.price, fill.size
        row[0] = price
        row[1] = max(row[1], price)
        row[2] = min(row[2], price)
        row[3] += size
        row[4] += price * size

    def roll(self, now_ms: int) -> bool:
        """Start the next bucket when it is time; True when it was."""
        if now_ms < self._until:
            return False
        while now_ms >= self._until:
            if len(self._rows) == _DAY_BUCKETS:
                gone = self._rows[0]
                self._volume -= gone[3]
                self._turnover -= gone[4]
            self._rows.append(self._now)
            self._volume += self._now[3]
            self._turnover += self._now[4]
            close = self._now[0]
            self._now = [close, close, close, 0, 0]
            self._until += _BUCKET_MS
        self._extremes()
        return True

    @property
    def high(self) -> int:
        """Highest print of 24 h, ticks."""
        return max(self._high, self._now[1])

    @property
    def low(self) -> int:
        """Lowest print of 24 h, ticks."""
        return min(self._low, self._now[2])

    @property
    def volume(self) -> int:
        """Lots of 24 h."""
        return self._volume + self._now[3]

    @property
    def turnover(self) -> int:
        """Ticks x lots of 24 h."""
        return self._turnover + self._now[4]

    def price_before(self, hours: int) -> int:
        """The price 1 or 24 hours ago, ticks."""
        return self._rows[-_HOUR_BUCKETS if hours == 1 else 0][0]


def ticker_fields(flow: SymbolFlow, stats: Statistics, next_funding_ms: int) -> dict[str, str]:
    """Every field of a perpetual's ticker, as the snapshot carries them."""
    spec, book = flow.spec, flow.book
    price, size = spec.price_text, spec.size_text
    single = flow.ledger.single_open_interest
    mark = flow.mark_price
    bid, ask = book.bids.best, book.asks.best
    day = stats.price_before(24)
    change = (flow.last_price - day) * 1_000_000 // day
    return {
        "symbol": spec.symbol,
        "tickDirection": flow.last_direction,
        "price24hPcnt": decimal_text(change, 6),
        "lastPrice": price(flow.last_price),
        "prevPrice24h": price(day),
        "highPrice24h": price(stats.high),
        "lowPrice24h": price(stats.low),
        "prevPrice1h": price(stats.price_before(1)),
        "markPrice": price(mark),
        "indexPrice": price(round(flow.index_price)),
        "openInterest": size(2 * single),
        "openInterestValue": spec.value_text(2 * single * mark, 2),
        "singleOpenInterest": size(single),
        "singleOpenInterestValue": spec.value_text(single * mark, 2),
        "turnover24h": spec.value_text(stats.turnover, 4),
        "volume24h": decimal_text(stats.volume * spec.lot_units * 10 ** (4 - spec.size_decimals), 4),
        "nextFundingTime": str(next_funding_ms),
        "fundingRate": funding_text(flow.funding_ppb),
        "fundingIntervalHour": str(spec.funding_hours),
        "fundingCap": "0.01",
        "bid1Price": price(bid),
        "bid1Size": size(book.bids.size(bid)),
        "ask1Price": price(ask),
        "ask1Size": size(book.asks.size(ask)),
        "preOpenPrice": "",
        "preQty": "",
        "curPreListingPhase": "",
    }


def funding_text(ppb: int) -> str:
    """A funding rate in 1e-9 as the venue prints it: a fraction, eight decimals at most."""
    text = decimal_text(abs(ppb) // 10, 8).rstrip("0").rstrip(".")
    return f"-{text}" if ppb < 0 and text != "0" else text


_PAIRS = (("bid1Price", "bid1Size"), ("ask1Price", "ask1Size"))


class TickerTopic:
    """One symbol's ticker: a snapshot for a new listener, then only what changed."""

    def __init__(self, symbol: str, fields: dict[str, str], sequence: int) -> None:
        self.topic = f"tickers.{symbol}"
        self.fields = fields
        self._sequence = sequence

    def snapshot(self, now_ms: int) -> Body:
        """All fields as the other listeners hold them after merging."""
        return self._body("snapshot", dict(self.fields), now_ms)

    def push(self, fields: dict[str, str], sequence: int, now_ms: int) -> Body | None:
        """The delta due now, or None. The two members of a best quote always travel together."""
        old = self.fields
        if fields == old:
            return None
        changed = {name: text for name, text in fields.items() if old[name] != text}
        for pair in _PAIRS:
            if pair[0] in changed or pair[1] in changed:
                for name in pair:
                    changed.pop(name, None)
                for name in pair:
                    changed[name] = fields[name]
        self.fields = fields
        self._sequence = sequence
        return self._body("delta", {"symbol": fields["symbol"], **changed}, now_ms)

    def _body(self, kind: str, data: dict[str, str], now_ms: int) -> Body:
        return {"topic": self.topic, "type": kind, "data": data, "cs": self._sequence, "ts": now_ms}


def trade_messages(spec: SymbolSpec, fills: list[Fill], now_ms: int) -> list[Message]:
    """Prints as messages of at most 1,024 trades each, in the order of matching."""
    topic = f"publicTrade.{spec.symbol}"
    rows = [
        {
            "T": fill.time_ms,
            "s": spec.symbol,
            "S": "Buy" if fill.is_buy else "Sell",
            "v": spec.size_text(fill.size),
            "p": spec.price_text(fill.price),
            "L": fill.direction,
            "i": fill.trade_id,
            "BT": fill.is_block,
            "RPI": fill.is_rpi,
            "seq": fill.sequence,
        }
        for fill in fills
    ]
    return [
        Message(topic, {"topic": topic, "type": "snapshot", "ts": now_ms, "data": rows[at : at + MAX_TRADES]})
        for at in range(0, len(rows), MAX_TRADES)
    ]


def liquidation_message(spec: SymbolSpec, records: list[LiquidationRecord], now_ms: int) -> Message:
    """A 500 ms batch of liquidations; S is the side of the position, p its bankruptcy price."""
    topic = f"allLiquidation.{spec.symbol}"
    rows = [
        {
            "T": record.time_ms,
            "s": spec.symbol,
            "S": "Buy" if record.is_long else "Sell",
            "v": spec.size_text(record.size),
            "p": spec.price_text(record.bankruptcy),
        }
        for record in records
    ]
    return Message(topic, {"topic": topic, "type": "snapshot", "ts": now_ms, "data": rows})
