"""Owns what the title bar and the event line say: the latest ticker of each symbol, the pulse of the feed, the latest
events. Pure; the screen feeds it batches and the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from wld.events import BookDelta, BookSnapshot, Event, Gap, Instrument, Liquidation, Repair, Ticker, Trade
from wld.terminal import numbers
from wld.terminal.cells import Line, printable
from wld.terminal.palette import Role

STALE_NS = 5_000_000_000
"""Without any message for this long the feed is called stale: tickers alone come several times a second."""
SYMBOL_STALE_NS = 30_000_000_000
"""A quiet symbol of a live feed may be silent longer."""
TOPICS = ("publicTrade", "orderbook", "tickers", "allLiquidation")
_LAGS = 256
_EVENTS = 500


class Note(NamedTuple):
    """One line of the event tape."""

    time: int
    """ns since the Unix epoch."""
    symbol: str | None
    line: Line


class SymbolFacts:
    """The latest of one symbol. Prices and rates 1e-8; times ns, of the receive clock."""

    __slots__ = (
        "change", "funding_interval", "funding_rate", "index_price", "last_price", "mark_price", "next_funding_time",
        "open_interest", "receive_time", "seen", "tick_size", "ticker", "ticker_time", "trade_time",
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
        self.ticker: Ticker | None = None
        self.receive_time = 0
        self.ticker_time: int | None = None
        self.trade_time: int | None = None
        self.seen: dict[str, int] = {}
        """Receive time of the last message of each topic."""


class Facts:
    """Everything the screen itself knows of the market."""

    def __init__(self, symbols: Iterable[str] = ()) -> None:
        self._symbols: dict[str, SymbolFacts] = {symbol: SymbolFacts() for symbol in symbols}
        self.receive_time: int | None = None
        """Of the last message of any symbol, ns."""
        self.counts: dict[str, int] = dict.fromkeys(TOPICS, 0)
        """Messages by topic since the start."""
        self.gaps = 0
        self.version = 0
        """Rises with every batch: a frame is worth drawing when it did."""
        self.notes: deque[Note] = deque(maxlen=_EVENTS)
        self._lags: deque[int] = deque(maxlen=_LAGS)

    @property
    def symbols(self) -> list[str]:
        """Symbols, those that were asked for first."""
        return list(self._symbols)

    def of(self, symbol: str) -> SymbolFacts:
        """The facts of a symbol; empty ones for one not seen yet."""
        facts = self._symbols.get(symbol)
        return SymbolFacts() if facts is None else facts

    def note(self, time: int, line: Line, symbol: str | None = None) -> None:
        """Put a line on the event tape."""
        self.notes.append(Note(time, symbol, line))
        self.version += 1

    def lag_ms(self) -> float | None:
        """Median of the latest delays from the venue's push to here; its clock may differ from ours."""
        if not self._lags:
            return None
        return sorted(self._lags)[len(self._lags) // 2] / 1e6

    def apply(self, events: Iterable[Event]) -> None:
        """Take a batch of events."""
        self.version += 1
        for event in events:
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

    def _facts(self, symbol: str) -> SymbolFacts:
        facts = self._symbols.get(symbol)
        if facts is None:
            facts = self._symbols[symbol] = SymbolFacts()
        return facts

    def _touch(self, event: BookDelta | BookSnapshot | Trade | Ticker | Liquidation, topic: str) -> SymbolFacts:
        facts = self._facts(event.symbol)
        received = event.receive_time
        facts.receive_time = facts.seen[topic] = self.receive_time = received
        self.counts[topic] += 1
        is_late = isinstance(event, Trade) and event.is_backfilled
        if event.sent_time is not None and not is_late:
            self._lags.append(received - event.sent_time)
        return facts

    def _ticker(self, event: Ticker) -> None:
        facts = self._touch(event, "tickers")
        facts.ticker = event
        facts.ticker_time = event.receive_time
        if event.last_price is not None:
            facts.last_price = event.last_price
        facts.mark_price = event.mark_price
        facts.index_price = event.index_price
        facts.change = event.price_change_24h
        facts.funding_rate = event.funding_rate
        facts.next_funding_time = event.next_funding_time
        facts.funding_interval = event.funding_interval_hour
        facts.open_interest = event.open_interest

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


def status_line(facts: Facts, symbol: str, now: int, *, clock: str) -> str:
    """One plain line of the same facts, for a pipe or a log."""
    one = facts.of(symbol)
    state, _ = facts.state(symbol, now, clock=clock)
    funding = None if one.funding_rate is None else one.funding_rate / 1e8
    interest = None if one.open_interest is None else one.open_interest / 1e8
    until = None if one.next_funding_time is None else one.next_funding_time - now
    return printable(
        f"{numbers.clock(now)}Z {symbol} {numbers.price(one.last_price, one.tick_size)} "
        f"{numbers.percent(None if one.change is None else one.change / 1e8)} | "
        f"mark {numbers.price(one.mark_price, one.tick_size)} | "
        f"fund {numbers.percent(funding, 4)} in {numbers.countdown(until)} | OI {numbers.amount_long(interest)} | {state}",
        is_ascii=True,
    )
