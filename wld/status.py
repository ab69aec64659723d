"""Owns the one status line a minute: events by kind, rates, lag, gaps, drops, ring depth, what sinks report."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numpy as np
import trio

from wld.batch import Batch
from wld.events import KINDS, Event, Gap, Trade, kind_of
from wld.ring import Ring, Subscription
from wld.units import ABSENT

log = logging.getLogger("wld.status")

MOST_LAGS = 100_000
"""The latest lags of an interval, kept for its percentiles: 0.8 MB, from the start."""
GATHER_S, GATHER_EVENTS = 0.5, 32
"""So much is counted at once, or what came in so long; whoever asks for figures sets it off as well."""


class Lags:
    """The latest so many lags, ns, in a ring whose memory is the same empty and full."""

    def __init__(self, most: int = MOST_LAGS) -> None:
        self._ring = np.full(most, 0, np.int64)
        self._taken = 0

    def add(self, lags: Any) -> None:
        """Take some, oldest first."""
        most = len(self._ring)
        lags = lags[-most:]
        start = self._taken % most
        self._ring[start : start + len(lags)] = lags[: most - start]
        self._ring[: max(0, start + len(lags) - most)] = lags[most - start :]
        self._taken += len(lags)

    def clear(self) -> None:
        """Forget all."""
        self._taken = 0

    def percentiles(self, *which: float) -> tuple[float | None, ...]:
        """Of what is kept, ms; None of nothing."""
        if not self._taken:
            return (None,) * len(which)
        return tuple((np.percentile(self._ring[: self._taken], which) / 1e6).tolist())


class Status:
    """Counts what passes the ring through a subscription of its own, and says so at an interval."""

    def __init__(self, ring: Ring, interval_s: float, source_figures: Callable[[], Mapping[str, int]] = dict) -> None:
        self._ring = ring
        self._interval = interval_s
        self._source_figures = source_figures
        self._since = time.monotonic()
        self._counts: Counter[str] = Counter()
        self._total: Counter[str] = Counter()
        self._lags = Lags()
        self._sinks: dict[str, Mapping[str, Any]] = {}
        self._batches: Subscription | None = None
        self._last_receive_time: int | None = None
        self._last_gap_time: int | None = None

    def report(self, name: str, figures: Mapping[str, Any]) -> None:
        """What a sink says of itself; the latest is shown."""
        self._sinks[name] = dict(figures)

    def reports(self) -> Mapping[str, Mapping[str, Any]]:
        """What each sink last said."""
        return self._sinks

    @property
    def last_receive_time(self) -> int | None:
        """Of the latest event, ns since the Unix epoch."""
        self._take()
        return self._last_receive_time

    @property
    def last_gap_time(self) -> int | None:
        """Receive time of the latest Gap, ns since the Unix epoch."""
        self._take()
        return self._last_gap_time

    @property
    def totals(self) -> Mapping[str, int]:
        """Events by kind since the start, the current interval left out until it ends."""
        return self._total

    @property
    def events(self) -> int:
        """Events since the start."""
        self._take()
        return sum(self._total[kind] + self._counts[kind] for kind in KINDS)

    @property
    def gaps(self) -> dict[str, int]:
        """Gaps since the start, by reason."""
        self._take()
        both = self._total + self._counts
        return {kind[4:]: n for kind, n in both.items() if kind.startswith("gap:")}

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """The sink side: count batches until they end."""
        batches.let_gather(GATHER_S, GATHER_EVENTS)
        self._batches = batches
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._speak)
            async for batch in batches:
                self._count(batch)
                self._take()
            nursery.cancel_scope.cancel()
        self._total.update(self._counts)

    def _take(self) -> None:
        """Count what waits in the ring: whoever asks for figures gets those of this moment."""
        while self._batches is not None and (batch := self._batches.take()) is not None:
            self._count(batch)

    def _count(self, batch: Batch) -> None:
        self._last_receive_time = batch.last_receive_time
        tables, rows = batch.tables, cast(Iterable[Event], batch)
        if tables is not None:
            rows = (event for _, event in tables.rows)
            counts = self._counts
            for kind, columns in (("liquidation", tables.liquidations), ("ticker", tables.tickers)):
                if columns is not None:
                    counts[kind] += len(columns["number"])
            if tables.books is not None:
                snapshots = int(tables.books["is_snapshot"].sum())
                deltas = len(tables.books["number"]) - snapshots
                counts.update({kind: n for kind, n in (("book_snapshot", snapshots), ("book_delta", deltas)) if n})
            if tables.trades is not None:
                sent = tables.trades["sent_time"]
                counts["trade"] += len(sent)
                self._lags.add(tables.receive_time - sent[sent != ABSENT])
        lags: list[int] = []
        for event in rows:
            kind = kind_of(event)
            self._counts[kind] += 1
            if isinstance(event, Gap):
                self._counts[f"gap:{event.reason.value}"] += 1
                self._last_gap_time = event.receive_time
            elif isinstance(event, Trade) and event.sent_time is not None:
                lags.append(event.receive_time - event.sent_time)
        if lags:
            self._lags.add(lags)

    async def _speak(self) -> None:
        while True:
            await trio.sleep(self._interval)
            figures = self.figures()
            log.info("%s", line(figures), extra={"figures": figures})
            self._total.update(self._counts)
            self._counts.clear()
            self._lags.clear()
            self._since = time.monotonic()

    def figures(self) -> dict[str, Any]:
        """Everything that the line says, of the interval so far; times in ms, rates a second."""
        self._take()
        seconds = max(1e-9, time.monotonic() - self._since)
        statistics = self._ring.statistics()
        p50, p99 = self._lags.percentiles(50, 99)
        return {
            "events": {kind: self._counts[kind] for kind in KINDS if self._counts[kind]},
            "rates": {kind: round(self._counts[kind] / seconds, 1) for kind in KINDS if self._counts[kind]},
            "lag_p50_ms": None if p50 is None else round(p50, 1),
            "lag_p99_ms": None if p99 is None else round(p99, 1),
            "gaps": {kind[4:]: n for kind, n in sorted(self._counts.items()) if kind.startswith("gap:")},
            "drops": {sink.name: sink.dropped for sink in statistics.sinks if sink.dropped},
            "ring_depth": max((sink.depth for sink in statistics.sinks), default=0),
            "source": dict(self._source_figures()),
            "sinks": {name: dict(figures) for name, figures in self._sinks.items()},
        }

    def line(self) -> str:
        """The line as it stands now."""
        return line(self.figures())


def line(figures: Mapping[str, Any]) -> str:
    """The figures on one line: events by kind with their rates, lag, gaps, drops, ring depth, source, sinks."""
    rates = figures["rates"]
    kinds = " ".join(f"{kind}={count} ({rates[kind]}/s)" for kind, count in figures["events"].items())
    p50, p99 = ("-" if figures[name] is None else f"{figures[name]:.0f}ms" for name in ("lag_p50_ms", "lag_p99_ms"))
    gaps, drops = figures["gaps"], figures["drops"]
    parts = [
        kinds or "no events",
        f"lag p50={p50} p99={p99}",
        f"gaps={sum(gaps.values())}{_named(gaps)} drops={sum(drops.values())}{_named(drops)} ring={figures['ring_depth']}",
    ]
    for name, own in (("source", figures["source"]), *figures["sinks"].items()):
        shown = " ".join(f"{key}={value}" for key, value in own.items() if value is not None)
        if shown:
            parts.append(f"{name} {shown}")
    return " | ".join(parts)


def _named(counts: Mapping[str, int]) -> str:
    return f" ({' '.join(f'{name}={count}' for name, count in counts.items())})" if counts else ""
