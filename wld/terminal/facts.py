"""Owns what the title bar and the event line say: the latest ticker of each symbol, the pulse of the feed, the latest
events. Pure; the screen feeds it batches and the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld.batch import Batch
from wld.events import BookDelta, BookSnapshot, Event, Gap, Instrument, Liquidation, Repair, Ticker, Trade
from wld.reads import Joined, Reads
from wld.tables import BACKFILLED, TICKER_PLACE, Columns, Ints
from wld.terminal import numbers
from wld.terminal.cells import Line, printable
from wld.terminal.palette import Role
from wld.units import ABSENT, SCALE

STALE_NS = 5_000_000_000
"""Without any message for this long the feed is called stale: tickers alone come several times a second."""
SYMBOL_STALE_NS = 30_000_000_000
"""A quiet symbol of a live feed may be silent longer."""
TOPICS = ("publicTrade", "orderbook", "tickers", "allLiquidation")
_LAGS = 256
_EVENTS = 500
_QUOTED = {
    "mark_price": "mark_price", "index_price": "index_price", "change": "price_change_24h",
    "funding_rate": "funding_rate", "next_funding_time": "next_funding_time",
    "funding_interval": "funding_interval_hour", "open_interest": "open_interest",
}  # fmt: skip
"""What a symbol's facts take over from its latest ticker, None too."""
_LAST, _SENT = TICKER_PLACE["last_price"], TICKER_PLACE["sent_time"]
_READING = {
    "trades": ("price", "sent_time", "flags"), "books": ("sent_time",), "tickers": ("values",),
    "liquidations": ("sent_time",),
}  # fmt: skip
"""The columns that are read, in the order of `TOPICS`."""
Bools = npt.NDArray[np.bool_] | np.bool_


class Note(NamedTuple):
    """One line of the event tape."""

    time: int
    """ns since the Unix epoch."""
    symbol: str | None
    line: Line


class Headline(Struct, frozen=True):
    """What a title says of a symbol, as text: the same in every title."""

    last: str
    change: str
    mark: str
    index: str
    funding: str
    countdown: str
    interest: str


class SymbolFacts:
    """The latest of one symbol. Prices and rates 1e-8; times ns, of the receive clock."""

    __slots__ = (
        "change", "funding_interval", "funding_rate", "index_price", "last_price", "mark_price", "next_funding_time",
        "open_interest", "receive_time", "seen", "tick_size", "ticker_time", "trade_time",
    )  # fmt: skip

    def __init__(self) -> None:
        self.last_price: int | None = None
        self.mark_price: int | None = None
        self.index_price: int | None = None
        self.change: int | None = None
        self.funding_rate: int | None = None
        self.next_funding_time: int | None = None
        self.funding_interval: int | None = None
        """Hours."""
        self.open_interest: int | None = None
        """Both sides, 1e-8 base coin, as the venue's own page shows it."""
        self.tick_size: int | None = None
        self.receive_time = 0
        self.ticker_time: int | None = None
        self.trade_time: int | None = None
        self.seen: dict[str, int] = {}
        """Receive time of the last message of each topic."""

    def headline(self, now: int) -> Headline:
        """It as text at time `now`."""
        return Headline(
            numbers.price(self.last_price, self.tick_size),
            numbers.percent(None if self.change is None else self.change / SCALE),
            numbers.price(self.mark_price, self.tick_size),
            numbers.price(self.index_price, self.tick_size),
            numbers.percent(None if self.funding_rate is None else self.funding_rate / SCALE, 4),
            numbers.countdown(None if self.next_funding_time is None else self.next_funding_time - now),
            numbers.amount_long(None if self.open_interest is None else self.open_interest / SCALE),
        )

    def quote(self, ticker: Ticker | Sequence[int], time: int) -> None:
        """Take over a ticker, or its row of `TICKER_NUMBERS`, but for its last price."""
        self.ticker_time = time
        for fact, name in _QUOTED.items():
            value = getattr(ticker, name) if isinstance(ticker, Ticker) else ticker[TICKER_PLACE[name]]
            setattr(self, fact, None if value == ABSENT else value)


class Facts:
    """Everything the screen itself knows of the market."""

    def __init__(self, symbols: Iterable[str] = ()) -> None:
        self._symbols: dict[str, SymbolFacts] = {symbol: SymbolFacts() for symbol in symbols}
        self._receive_time: int | None = None
        self._counts: dict[str, int] = dict.fromkeys(TOPICS, 0)
        self._reads = Reads(_READING, self._take_joined, self._take)
        self.gaps = 0
        self.version = 0
        """Rises with every batch: a frame is worth drawing when it did."""
        self.notes: deque[Note] = deque(maxlen=_EVENTS)
        self._lags: deque[int] = deque(maxlen=_LAGS)

    @property
    def symbols(self) -> list[str]:
        """Symbols, those that were asked for first."""
        self._reads.flush()
        return list(self._symbols)

    @property
    def receive_time(self) -> int | None:
        """Of the last message of any symbol, ns."""
        self._reads.flush()
        return self._receive_time

    @property
    def counts(self) -> dict[str, int]:
        """Messages by topic since the start."""
        self._reads.flush()
        return self._counts

    def of(self, symbol: str) -> SymbolFacts:
        """The facts of a symbol; empty ones for one not seen yet."""
        self._reads.flush()
        facts = self._symbols.get(symbol)
        return SymbolFacts() if facts is None else facts

    def note(self, time: int, line: Line, symbol: str | None = None) -> None:
        """Put a line on the event tape."""
        self.notes.append(Note(time, symbol, line))
        self.version += 1

    def notes_of(self, symbol: str) -> list[Note]:
        """The event tape of a symbol, oldest first."""
        return [note for note in self.notes if note.symbol in (None, symbol)]

    def lag_ms(self) -> float | None:
        """Median of the latest delays from the venue's push to here; its clock may differ from ours."""
        self._reads.flush()
        if not self._lags:
            return None
        return sorted(self._lags)[len(self._lags) // 2] / 1e6

    def apply(self, events: Iterable[Event]) -> None:
        """Take a batch of events; of one that holds columns none are made unless they are few."""
        self.version += 1
        if isinstance(events, Batch):
            self._reads.add(events)
            return
        self._reads.flush()
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, BookDelta | BookSnapshot):
            self._touch(event, "orderbook")
        elif isinstance(event, Trade):
            facts = self._touch(event, "publicTrade")
            facts.trade_time = event.receive_time
            if not event.is_backfilled:
                facts.last_price = event.price
        elif isinstance(event, Ticker):
            self._ticker(event)
        elif isinstance(event, Liquidation):
            self._touch(event, "allLiquidation")
        elif isinstance(event, Gap):
            self._gap(event)
        elif isinstance(event, Repair):
            left = f", {event.remaining} still missing" if event.remaining else ""
            self.note(event.receive_time, f"repaired: {event.recovered} came back{left}")
        elif isinstance(event, Instrument):
            self._facts(event.symbol).tick_size = event.tick_size

    def _take_joined(self, reads: Joined) -> None:
        for symbol in reads.present():
            self._facts(symbol)
        prices: dict[str, tuple[int, int]] = {}  # (number, price) of the last one
        lags: list[tuple[int, int]] = []  # (number, ns)
        for topic, kind in zip(TOPICS, _READING, strict=True):
            columns = reads.kinds.get(kind)
            if columns is None:
                continue
            times, numbers_ = columns["receive_time"], columns["number"]
            self._counts[topic] += len(times)
            for i, row in reads.last(columns).items():
                ticker = columns["values"][row].tolist() if topic == "tickers" else None
                self._see(reads.symbols[i], topic, int(times[row]), ticker)
            sent, price, is_told = _told(topic, columns)
            if price is not None:
                for i, row in reads.last(columns, is_told & (price != ABSENT)).items():
                    symbol, found = reads.symbols[i], (int(numbers_[row]), int(price[row]))
                    prices[symbol] = max(found, prices.get(symbol, found))
            rows = np.flatnonzero(is_told & (sent != ABSENT))[-_LAGS:]
            lags += zip(numbers_[rows].tolist(), (times[rows] - sent[rows]).tolist(), strict=True)
        for number, ticker in reads.tickers:
            self._counts["tickers"] += 1
            self._see(ticker.symbol, "tickers", ticker.receive_time, ticker)
            if ticker.last_price is not None:
                found = (number, ticker.last_price)
                prices[ticker.symbol] = max(found, prices.get(ticker.symbol, found))
            if ticker.sent_time is not None:
                lags.append((number, ticker.receive_time - ticker.sent_time))
        for symbol, (_, last_price) in prices.items():
            self._symbols[symbol].last_price = last_price
        self._lags.extend(lag for _, lag in sorted(lags)[-_LAGS:])

    def _see(self, symbol: str, topic: str, time: int, ticker: Ticker | Sequence[int] | None) -> None:
        facts = self._symbols[symbol]
        facts.seen[topic] = time
        facts.receive_time = max(facts.receive_time, time)
        self._receive_time = max(self._receive_time or time, time)
        if topic == "publicTrade":
            facts.trade_time = time
        elif ticker is not None:
            facts.quote(ticker, time)

    def _facts(self, symbol: str) -> SymbolFacts:
        facts = self._symbols.get(symbol)
        if facts is None:
            facts = self._symbols[symbol] = SymbolFacts()
        return facts

    def _touch(self, event: BookDelta | BookSnapshot | Trade | Ticker | Liquidation, topic: str) -> SymbolFacts:
        facts = self._facts(event.symbol)
        received = event.receive_time
        facts.receive_time = facts.seen[topic] = self._receive_time = received
        self._counts[topic] += 1
        is_late = isinstance(event, Trade) and event.is_backfilled
        if event.sent_time is not None and not is_late:
            self._lags.append(received - event.sent_time)
        return facts

    def _ticker(self, event: Ticker) -> None:
        facts = self._touch(event, "tickers")
        facts.quote(event, event.receive_time)
        if event.last_price is not None:
            facts.last_price = event.last_price

    def _gap(self, event: Gap) -> None:
        self.gaps += 1
        where = event.topic or "all topics"
        missed = f", {event.missed} missed" if event.missed else ""
        self.note(
            event.receive_time,
            ((f"gap {event.reason.value}", Role.WARN), (f" {where}{missed}", Role.TEXT)),
            event.symbol,
        )

    def state(self, symbol: str, now: int, *, clock: str, ended: bool = False) -> tuple[str, bool]:
        """(what the right end of the title says, whether it is an alarm) at time `now`."""
        if ended:
            return "END of input", False
        if self.receive_time is None:
            return "WAITING for data", False
        if clock == "recorded":
            return f"REPLAY {numbers.clock(now)}", False
        quiet = now - self.receive_time
        if quiet > STALE_NS:
            return f"STALE {numbers.age(quiet)}", True
        received = self.of(symbol).receive_time
        if received and now - received > SYMBOL_STALE_NS:
            return f"STALE {numbers.age(now - received)}", True
        lag = self.lag_ms()
        return ("LIVE" if lag is None else f"LIVE {lag:.0f}ms"), False


def _told(topic: str, columns: Columns) -> tuple[Ints, Ints | None, Bools]:
    """(when each was sent, its price where it has one, whether it tells of now: trades that came late do not)."""
    if topic == "tickers":
        return columns["values"][:, _SENT], columns["values"][:, _LAST], np.True_
    if topic == "publicTrade":
        return columns["sent_time"], columns["price"], columns["flags"] & BACKFILLED == 0
    return columns["sent_time"], None, np.True_


def status_line(facts: Facts, symbol: str, now: int, *, clock: str) -> str:
    """One plain line of the same facts, for a pipe or a log."""
    one = facts.of(symbol).headline(now)
    state, _ = facts.state(symbol, now, clock=clock)
    return printable(
        f"{numbers.clock(now)}Z {symbol} {one.last} {one.change} | mark {one.mark} | "
        f"fund {one.funding} in {one.countdown} | OI {one.interest} | {state}",
        is_ascii=True,
    )
