"""Owns the numbers: counts events by kind and symbol, lags in buckets, gaps by reason. Pure; no clock, no registry.

Batches are counted by their columns where they have them, so that no event object is made for a metric.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from wld import (
    ABSENT,
    Batch,
    BookDelta,
    BookSnapshot,
    Event,
    Gap,
    Instrument,
    Liquidation,
    Repair,
    Ticker,
    Trade,
)

BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds of the lag histograms; a lag below zero (clocks that disagree) is in the first."""
_EDGES_NS = np.array([round(bound * 1e9) for bound in BUCKETS_S], np.int64)
KINDS: Mapping[type[Any], str] = {
    Trade: "trade", BookSnapshot: "book_snapshot", BookDelta: "book_delta", Liquidation: "liquidation",
    Ticker: "ticker", Gap: "gap", Repair: "repair", Instrument: "instrument",
}  # fmt: skip


class Lags:
    """One histogram: counts by bucket, the last beyond all bounds, and the sum in ns."""

    def __init__(self) -> None:
        self.counts = np.zeros(len(BUCKETS_S) + 1, np.int64)
        self.sum = 0

    def add(self, lags: Any) -> None:
        """Take an int64 array of ns."""
        if len(lags):
            self.counts += np.bincount(np.searchsorted(_EDGES_NS, lags), minlength=len(self.counts))
            self.sum += int(lags.sum())


class Account:
    """What has passed since the start."""

    def __init__(self) -> None:
        self.events: Counter[tuple[str, str]] = Counter()
        """By (kind, symbol); the symbol of a gap that concerns all is empty."""
        self.gaps: Counter[str] = Counter()
        """By reason."""
        self.missed: Counter[str] = Counter()
        """Events known to be missing, by the reason of their gap."""
        self.recovered = 0
        self.lags: dict[str, Lags] = {"trade": Lags(), "book": Lags(), "liquidation": Lags()}
        """From the matching engine's time to the receive time, by kind."""
        self.last_time: dict[str, int] = {}
        """Receive time of the latest event, ns, by symbol."""

    def copy(self) -> Account:
        """As it stands, to be read at leisure while the original goes on."""
        twin = Account()
        twin.events, twin.gaps, twin.missed = self.events.copy(), self.gaps.copy(), self.missed.copy()
        twin.recovered, twin.last_time = self.recovered, self.last_time.copy()
        for kind, lags in self.lags.items():
            twin.lags[kind].counts, twin.lags[kind].sum = lags.counts.copy(), lags.sum
        return twin

    def count(self, batch: Batch) -> None:
        """Take a batch."""
        tables = batch.tables
        rows: Iterator[Event] = iter(batch) if tables is None else (event for _, event in tables.rows)
        if tables is not None:
            self._columns("trade", "trade", tables, tables.trades)
            self._columns("book_delta", "book", tables, tables.books)
            self._columns("liquidation", "liquidation", tables, tables.liquidations)
            self._columns("ticker", None, tables, tables.tickers)
        for event in rows:
            self._row(event)

    def _columns(self, kind: str, lag: str | None, tables: Any, columns: Any) -> None:
        if columns is None:
            return
        index = np.asarray(columns["symbol"])
        for number, count in enumerate(np.bincount(index, minlength=len(tables.symbols)).tolist()):
            if count:
                symbol = tables.symbols[number]
                self.events[kind, symbol] += count
                self.last_time[symbol] = tables.receive_time
        if kind == "book_delta" and "is_snapshot" in columns:
            for number in index[np.asarray(columns["is_snapshot"]) != 0].tolist():
                self.events["book_delta", tables.symbols[number]] -= 1
                self.events["book_snapshot", tables.symbols[number]] += 1
        if lag is not None:
            times = np.asarray(columns["event_time"])
            self.lags[lag].add(tables.receive_time - times[times != ABSENT])

    def _row(self, event: Event) -> None:
        symbol = getattr(event, "symbol", None) or ""
        self.events[KINDS[type(event)], symbol] += 1
        if isinstance(event, Gap):
            self.gaps[event.reason.value] += 1
            self.missed[event.reason.value] += event.missed or 0
        elif isinstance(event, Repair):
            self.recovered += event.recovered
        else:
            self.last_time[symbol] = event.receive_time
            if isinstance(event, Trade):
                self._lag("trade", event.receive_time, event.event_time)
            elif isinstance(event, BookSnapshot | BookDelta):
                self._lag("book", event.receive_time, event.event_time)
            elif isinstance(event, Liquidation):
                self._lag("liquidation", event.receive_time, event.event_time)

    def _lag(self, kind: str, receive_time: int, event_time: int | None) -> None:
        if event_time is not None:
            self.lags[kind].add(np.array([receive_time - event_time], np.int64))
