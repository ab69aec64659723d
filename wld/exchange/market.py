"""Owns the simulated market as a whole: which symbols trade, how time moves them, and which messages fall
due.

Pure and seeded: `advance` takes the time in ms and returns messages; the same seed and the same listings give
the same messages, however the time between is cut up. Does not own sockets, clocks or subscriptions (server).
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from wld.errors import ConfigError
from wld.exchange.flow import Fill, LiquidationRecord, SymbolFlow
from wld.exchange.instruments import SymbolSpec
from wld.exchange.publication import (
    BOOK_CADENCE_MS,
    Body,
    BookTopic,
    Message,
    Statistics,
    TickerTopic,
    liquidation_message,
    ticker_fields,
    trade_messages,
)

STEP_MS = 10
_TICKER_MS = 100
_LIQUIDATION_MS = 500
_FUNDING_MS = 5_000
_RECENT = 1_000
_SEEDED_POSITIONS = 900
_IN_TROUBLE = 30
_FIRST_SEQUENCE = 800_000_000_000
_DAY_BUCKETS = 288
_BUCKET_MS = 300_000


@dataclass
class SymbolMarket:
    """One listed symbol: how it trades, and what it has published.

    Attributes:
        fills: the last 1,000 prints, oldest first.
        liquidations: every liquidation since the listing, with the truth the venue does not tell.
        open_interest: (ms, single side in lots), every five minutes, oldest first.
    """

    spec: SymbolSpec
    flow: SymbolFlow
    stats: Statistics
    ticker: TickerTopic
    phase_ms: int
    next_funding_ms: int
    books: dict[int, BookTopic] = field(default_factory=dict)
    fills: deque[Fill] = field(default_factory=lambda: deque(maxlen=_RECENT))
    liquidations: list[LiquidationRecord] = field(default_factory=list)
    unsent: list[LiquidationRecord] = field(default_factory=list)
    open_interest: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_DAY_BUCKETS))


class Market:
    """The whole simulated market.

    `wanted` limits the work to topics that somebody hears: None means every symbol's trades, ticker,
    liquidations and 50-level book, plus any depth asked for with `watch`; a set means exactly its topics.
    Trading itself never depends on it.
    """

    def __init__(self, symbols: Sequence[SymbolSpec], seed: int, start_ms: int, rate: float = 1.0) -> None:
        """Open the market at `start_ms` (ms since the Unix epoch); `rate` speeds up all flow.

        Raises:
            ConfigError: a rate that is not above 0 and at most 1,000, or a symbol listed twice.
        """
        if not 0 < rate <= 1_000:
            raise ConfigError(f"rate: expected a number above 0 and at most 1000, got {rate!r}")
        self.wanted: set[str] | None = None
        self.is_still = False
        """Whether time passes without trading: `advance` brings nothing then, snapshots are to be had all the same."""
        self.now_ms = start_ms - start_ms % STEP_MS
        self._seed = seed
        self._rate = rate
        self._sequence = _FIRST_SEQUENCE + random.Random(seed).randrange(10**9)
        self._luck = random.Random(f"{seed}/sequence")
        self._symbols: dict[str, SymbolMarket] = {}
        self._listings: Counter[str] = Counter()
        for spec in symbols:
            self.list_symbol(spec)

    @property
    def symbols(self) -> list[str]:
        """Listed symbols, alphabetically."""
        return sorted(self._symbols)

    def symbol(self, name: str) -> SymbolMarket:
        """The ground truth of one symbol. Raises: KeyError when it is not listed."""
        return self._symbols[name]

    def _next_sequence(self) -> int:
        self._sequence += 1 + int(self._luck.random() * 40)
        return self._sequence

    # Listing.

    def list_symbol(self, spec: SymbolSpec) -> None:
        """Start trading a symbol now. Raises: ConfigError when it is listed already."""
        if spec.symbol in self._symbols:
            raise ConfigError(f"symbols: {spec.symbol} is listed twice")
        # A symbol that comes back after it was delisted is another one: no trade id comes twice.
        again = self._listings[spec.symbol]
        self._listings[spec.symbol] += 1
        rng = random.Random(f"{self._seed}/{spec.symbol}" + (f"/{again}" if again else ""))
        now = self.now_ms
        flow = SymbolFlow(spec, rng, now, self._rate, self._next_sequence)
        day = _day_before(spec, rng)
        _seed_positions(flow, day, rng, now)
        stats = Statistics(now, day)
        period = spec.funding_hours * 3_600_000
        next_funding = now - now % period + period
        ticker = TickerTopic(spec.symbol, ticker_fields(flow, stats, next_funding), flow.sequence)
        market = SymbolMarket(
            spec, flow, stats, ticker, rng.randrange(_LIQUIDATION_MS // STEP_MS) * STEP_MS, next_funding
        )
        market.books[50] = BookTopic(flow, 50, rng.randrange(1_000_000, 100_000_000))
        single = flow.ledger.single_open_interest
        for n in range(_DAY_BUCKETS, 0, -1):
            wave = 1 + rng.gauss(0.0, 0.01)
            market.open_interest.append((now - now % _BUCKET_MS - n * _BUCKET_MS, int(single * wave)))
        self._symbols[spec.symbol] = market

    def delist(self, symbol: str) -> None:
        """Stop trading a symbol: its topics fall silent and are unknown from now on. Raises: KeyError."""
        del self._symbols[symbol]

    # Topics.

    def knows(self, topic: str) -> bool:
        """Whether a client may subscribe to this topic."""
        kind, _, rest = topic.partition(".")
        if kind == "orderbook":
            depth, _, symbol = rest.partition(".")
            return depth in _DEPTH_NAMES and symbol in self._symbols
        return kind in ("publicTrade", "tickers", "allLiquidation") and rest in self._symbols

    def watch(self, topic: str) -> None:
        """Keep a book depth beside the 50 levels that are always kept. Raises: KeyError: an unknown topic."""
        _, depth, symbol = topic.split(".")
        self._book(self._symbols[symbol], int(depth))

    def _book(self, market: SymbolMarket, depth: int) -> BookTopic:
        if depth not in BOOK_CADENCE_MS:
            raise KeyError(depth)
        if depth not in market.books:
            market.books[depth] = BookTopic(market.flow, depth, 1_000_000 + depth * 1_000)
        return market.books[depth]

    def snapshot(self, topic: str) -> Body | None:
        """What a new subscriber of a known topic is sent first; None for trades and liquidations.

        While others listen, it is the state that they hold, so that the next delta continues it for all.
        """
        kind, _, rest = topic.partition(".")
        heard = self.wanted is None or topic in self.wanted
        if kind == "tickers":
            market = self._symbols[rest]
            if not heard:
                self._push_ticker(market, self.now_ms)
            return market.ticker.snapshot(self.now_ms)
        if kind != "orderbook":
            return None
        depth, _, symbol = rest.partition(".")
        book = self._book(self._symbols[symbol], int(depth))
        if not heard:
            book.refresh(self.now_ms)
        return book.snapshot(self.now_ms)

    def books(self) -> list[BookTopic]:
        """Every book topic that is kept, for faults."""
        return [book for market in self._symbols.values() for book in market.books.values()]

    # Time.

    def advance(self, to_ms: int) -> list[Message]:
        """Let the market run up to `to_ms` and return what fell due, in order of sending.

        Time moves on a grid of 10 ms; a part of a step waits for the rest. Going backwards does nothing.
        """
        messages: list[Message] = []
        if self.is_still:
            self.skip_to(to_ms)
        while self.now_ms + STEP_MS <= to_ms:
            self.now_ms += STEP_MS
            self._step(self.now_ms, messages)
        return messages

    def skip_to(self, to_ms: int) -> None:
        """Let time pass without trading, as on a suspended host; statistics and funding catch up."""
        self.now_ms = max(self.now_ms, to_ms - to_ms % STEP_MS)

    def _step(self, now: int, messages: list[Message]) -> None:
        due = [depth for depth, cadence in BOOK_CADENCE_MS.items() if now % cadence == 0]
        ticker_due = now % _TICKER_MS == 0
        wanted = self.wanted
        for market in self._symbols.values():
            flow = market.flow
            if flow.next_event_ms <= now:
                flow.step(now)
            if ticker_due:
                self._slow(market, now)
            symbol = market.spec.symbol
            if flow.fills:
                self._publish_fills(market, now, messages)
            for depth in due:
                book = market.books.get(depth)
                if book is not None and (wanted is None or book.topic in wanted):
                    body = book.push(now)
                    if body is not None:
                        messages.append(Message(book.topic, body))
            if ticker_due and (wanted is None or market.ticker.topic in wanted):
                body = self._push_ticker(market, now)
                if body is not None:
                    messages.append(Message(market.ticker.topic, body))
            if market.unsent and (now + market.phase_ms) % _LIQUIDATION_MS == 0:
                if wanted is None or f"allLiquidation.{symbol}" in wanted:
                    messages.append(liquidation_message(market.spec, market.unsent, now))
                market.unsent = []

    def _slow(self, market: SymbolMarket, now: int) -> None:
        """What happens every 100 ms: mark price and liquidations; rarer still, funding and statistics."""
        flow = market.flow
        flow.update_prices(now)
        if flow.liquidations:
            market.liquidations += flow.liquidations
            market.unsent += flow.liquidations
            flow.liquidations = []
        if now % _FUNDING_MS == 0:
            flow.update_funding()
        while now >= market.next_funding_ms:
            market.next_funding_ms += market.spec.funding_hours * 3_600_000
        if market.stats.roll(now):
            market.open_interest.append((now - now % _BUCKET_MS, flow.ledger.single_open_interest))

    def _publish_fills(self, market: SymbolMarket, now: int, messages: list[Message]) -> None:
        fills = market.flow.fills
        market.flow.fills = []
        market.fills.extend(fills)
        for fill in fills:
            market.stats.add(fill)
        if self.wanted is None or f"publicTrade.{market.spec.symbol}" in self.wanted:
            messages += trade_messages(market.spec, fills, now)

    def _push_ticker(self, market: SymbolMarket, now: int) -> dict[str, Any] | None:
        fields = ticker_fields(market.flow, market.stats, market.next_funding_ms)
        return market.ticker.push(fields, market.flow.sequence, now)


_DEPTH_NAMES = frozenset(str(depth) for depth in BOOK_CADENCE_MS)


def _day_before(spec: SymbolSpec, rng: random.Random) -> list[tuple[int, int, int, int]]:
    """A made-up day that ends at the start price: (close, high, low, volume) per 5 min, oldest first."""
    sigma = spec.volatility / 1e6 * 17.3  # five minutes of it
    price = float(spec.start_price)
    closes = []
    for _ in range(_DAY_BUCKETS):
        closes.append(max(1, round(price)))
        price *= 1 + rng.gauss(0.0, sigma)
    closes.reverse()
    rows = []
    previous = closes[0]
    for close in closes:
        wick = max(1, round(close * sigma * 0.5 * rng.random()))
        volume = int(spec.order_lots * 600 * spec.activity * rng.lognormvariate(0.0, 0.5))
        rows.append((close, max(previous, close) + wick, max(1, min(previous, close) - wick), volume))
        previous = close
    return rows


def _seed_positions(flow: SymbolFlow, day: list[tuple[int, int, int, int]], rng: random.Random, now: int) -> None:
    """Positions opened during the day before that survived it until now."""
    high, low = flow.mark_price, flow.mark_price
    reach = [(high, low)]
    for row in reversed(day):
        high, low = max(high, row[1]), min(low, row[2])
        reach.append((high, low))
    reach.reverse()
    for _ in range(int(_SEEDED_POSITIONS * min(1.5, max(0.3, flow.spec.activity)))):
        bucket = rng.randrange(len(day))
        worst_high, worst_low = reach[bucket + 1]
        is_long = rng.random() < 0.5
        opened = now - (len(day) - bucket) * _BUCKET_MS + rng.randrange(_BUCKET_MS)
        flow.seed_position(is_long, day[bucket][0], opened, worst_low if is_long else worst_high)
    for _ in range(_IN_TROUBLE):
        distance = 0.0004 + rng.random() * 0.008
        flow.seed_trouble(rng.random() < 0.5, distance, now - rng.randrange(24 * 3_600_000))
