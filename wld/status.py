"""Owns the one status line a minute: events by kind, rates, lag, gaps, drops, ring depth, what sinks report."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import trio

from wld.batch import Batch
from wld.events import KINDS, Event, Gap, Trade, kind_of
from wld.ring import Ring, Subscription
from wld.units import ABSENT

log = logging.getLogger("wld.status")

MOST_LAGS = 100_000
"""Lags kept for the percentiles of one interval."""


class Status:
    """Counts what passes the ring through a subscription of its own, and says so at an interval."""

    def __init__(self, ring: Ring, interval_s: float) -> None:
        self._ring = ring
        self._interval = interval_s
        self._counts: Counter[str] = Counter()
        self._total: Counter[str] = Counter()
        self._lags: list[int] = []
        self._sinks: dict[str, Mapping[str, Any]] = {}
        self.last_receive_time: int | None = None
        """Of the latest event, ns since the Unix epoch."""
        self.last_gap_time: int | None = None

    def report(self, name: str, figures: Mapping[str, Any]) -> None:
        """What a sink says of itself; the latest is shown."""
        self._sinks[name] = dict(figures)

    def reports(self) -> Mapping[str, Mapping[str, Any]]:
        """What each sink last said."""
        return self._sinks

    @property
    def totals(self) -> Mapping[str, int]:
        """Events by kind since the start, the current interval left out until it ends."""
        return self._total

    @property
    def events(self) -> int:
        """Events since the start."""
        return sum(self._total[kind] + self._counts[kind] for kind in KINDS)

    @property
    def gaps(self) -> dict[str, int]:
        """Gaps since the start, by reason."""
        both = self._total + self._counts
        return {kind[4:]: n for kind, n in both.items() if kind.startswith("gap:")}

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """The sink side: count batches until they end."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._speak)
            async for batch in batches:
                self._count(batch)
            nursery.cancel_scope.cancel()
        self._total.update(self._counts)

    def _count(self, batch: Batch) -> None:
        self.last_receive_time = batch.last_receive_time
        tables, rows = batch.tables, cast(Iterable[Event], batch)
        if tables is not None:
            rows = (event for _, event in tables.rows)
            counts = self._counts
            for kind, columns in (("liquidation", tables.liquidations), ("ticker", tables.tickers)):
                if columns is not None:
                    counts[kind] += len(columns["number"])
            if tables.books is not None:
                counts["book_delta"] += len(tables.books["number"])  # snapshots come as rows
            if tables.trades is not None:
                sent = tables.trades["sent_time"]
                counts["trade"] += len(sent)
                self._lags += (tables.receive_time - sent[sent != ABSENT]).tolist()
        for event in rows:
            kind = kind_of(event)
            self._counts[kind] += 1
            if isinstance(event, Gap):
                self._counts[f"gap:{event.reason.value}"] += 1
                self.last_gap_time = event.receive_time
            elif isinstance(event, Trade) and event.sent_time is not None:
                self._lags.append(event.receive_time - event.sent_time)
        if len(self._lags) > MOST_LAGS:
            del self._lags[:-MOST_LAGS]

    async def _speak(self) -> None:
        while True:
            await trio.sleep(self._interval)
            log.info("%s", self.line())
            self._total.update(self._counts)
            self._counts.clear()
            self._lags.clear()

    def line(self) -> str:
        """The line as it stands now."""
        kinds = " ".join(f"{kind}={self._counts[kind]}" for kind in KINDS if self._counts[kind])
        rate = sum(self._counts[kind] for kind in KINDS) / self._interval
        lag = "lag p50=- p99=-"
        if self._lags:
            p50, p99 = np.percentile(np.array(self._lags), (50, 99)) / 1e6
            lag = f"lag p50={p50:.0f}ms p99={p99:.0f}ms"
        statistics = self._ring.statistics()
        drops = sum(s.dropped for s in statistics.sinks)
        depth = max((s.depth for s in statistics.sinks), default=0)
        gaps = {k[4:]: n for k, n in self._counts.items() if k.startswith("gap:")}
        text = f"{kinds or 'no events'} | {rate:.1f}/s | {lag} | gaps={sum(gaps.values())}"
        if gaps:
            text += " (" + " ".join(f"{k}={n}" for k, n in sorted(gaps.items())) + ")"
        text += f" drops={drops} ring={depth}"
        for name, figures in self._sinks.items():
            text += f" | {name} " + " ".join(f"{k}={v}" for k, v in figures.items())
        return text
