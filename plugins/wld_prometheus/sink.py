"""Owns the exposition: an account of the run, read by Prometheus over HTTP from a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import trio
from msgspec import Meta, Struct

from wld import ConfigError, GapReason, SinkContext, Subscription
from wld_prometheus.account import BUCKETS_S, Account

_log = logging.getLogger("wld.prometheus")

CLOSE_TIMEOUT_S = 2.0
SIZE_MAX_AGE_S = 10.0
"""The folder of the tapes is measured at most so often."""


class PrometheusConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[sinks.prometheus]`."""

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback lets others on the network read the metrics."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 9464
    """0: any free one, named in the log. Part i of the symbols (`--workers`, `--shard`) takes the port i - 1 above."""


class PrometheusSink:
    """Counts every batch and serves `/metrics`; a scrape never waits for the loop, nor the loop for a scrape."""

    def __init__(self, config: PrometheusConfig, context: SinkContext) -> None:
        self._config = config
        self._context = context
        self._account = Account()
        self._lock = threading.Lock()
        self._started = time.time()
        self._size: tuple[float, dict[str, tuple[int, int]]] = (-SIZE_MAX_AGE_S, {})

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until the batches end.

        Raises:
            ConfigError: the address cannot be bound.
        """
        config = self._config
        server, thread = await trio.to_thread.run_sync(self._serve)
        try:
            url = f"http://{config.host}:{server.server_port}/metrics"
            _log.info("metrics at %s", url)
            self._context.status("prometheus", {"url": url})
            task_status.started()
            async for batch in batches:
                with self._lock:
                    self._account.count(batch)
        finally:
            with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                await trio.to_thread.run_sync(_close, server, thread, abandon_on_cancel=True)

    def _serve(self) -> tuple[Any, threading.Thread]:
        from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        config, shard = self._config, self._context.shard
        port = config.port + (shard[0] - 1 if shard and config.port else 0)
        try:
            return start_http_server(port, config.host, registry)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"sinks.prometheus.port: {config.host}:{port} cannot be bound: {reason}") from None

    def collect(self) -> Iterable[Any]:
        """The metric families as they stand; called by the server's thread for each scrape."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        now = time.time()
        context = self._context
        info = InfoMetricFamily("wld", "Version and source of the run.")
        info.add_metric([], {"version": context.wld_version, "source": context.source})
        started = GaugeMetricFamily("wld_start_time_seconds", "When the run began, seconds since the Unix epoch.")
        started.add_metric([], self._started)
        families: list[Any] = [info, started]
        with self._lock:
            account = self._account.copy()
        events = CounterMetricFamily("wld_events", "Events received.", labels=["kind", "symbol"])
        for (kind, symbol), count in account.events.items():
            events.add_metric([kind, symbol], count)
        gaps = CounterMetricFamily("wld_gaps", "Holes in the stream, by reason.", labels=["reason"])
        missed = CounterMetricFamily(
            "wld_gap_missed_events", "Events known to be missing, by the reason of their gap.", labels=["reason"]
        )
        for reason in GapReason:
            gaps.add_metric([reason.value], account.gaps[reason.value])
            missed.add_metric([reason.value], account.missed[reason.value])
        recovered = CounterMetricFamily("wld_recovered_events", "Events that a repair brought back.")
        recovered.add_metric([], account.recovered)
        reconnects = CounterMetricFamily("wld_reconnects", "Connections to the venue that were lost and renewed.")
        reconnects.add_metric([], account.gaps["disconnect"])
        lag = HistogramMetricFamily(
            "wld_lag_seconds", "From the matching engine's time to the receive time.", labels=["kind"]
        )
        for kind, lags in account.lags.items():
            total = 0
            buckets = []
            for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), lags.counts.tolist(), strict=True):
                total += count
                buckets.append((bound, total))
            lag.add_metric([kind], buckets, lags.sum / 1e9)
        last = GaugeMetricFamily(
            "wld_last_event_timestamp_seconds", "Receive time of the latest event.", labels=["symbol"]
        )
        age = GaugeMetricFamily("wld_last_event_age_seconds", "Since the latest event of any symbol.")
        for symbol, received in account.last_time.items():
            last.add_metric([symbol], received / 1e9)
        if account.last_time and context.clock == "live":
            age.add_metric([], now - max(account.last_time.values()) / 1e9)
        families += [events, gaps, missed, recovered, reconnects, lag, last, age]
        return families + self._ring() + self._tapes() + self._figures()

    def _ring(self) -> list[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        statistics = self._context.statistics()
        published = CounterMetricFamily("wld_ring_published_events", "Events numbered by the ring.")
        published.add_metric([], statistics.published)
        depth = GaugeMetricFamily("wld_ring_depth_events", "Events that wait for a sink.", labels=["sink"])
        peak = GaugeMetricFamily("wld_ring_peak_events", "The most that ever waited.", labels=["sink"])
        capacity = GaugeMetricFamily("wld_ring_capacity_events", "Events that may wait for a sink.", labels=["sink"])
        dropped = CounterMetricFamily("wld_ring_dropped_events", "Events that a slow sink lost.", labels=["sink"])
        for sink in statistics.sinks:
            depth.add_metric([sink.name], sink.depth)
            peak.add_metric([sink.name], sink.peak)
            capacity.add_metric([sink.name], sink.capacity)
            dropped.add_metric([sink.name], sink.dropped)
        return [published, depth, peak, capacity, dropped]

    def _tapes(self) -> list[Any]:
        from prometheus_client.core import GaugeMetricFamily

        now = time.monotonic()
        if now - self._size[0] >= SIZE_MAX_AGE_S:
            self._size = (now, _measure(self._context.data_dir))
        size = GaugeMetricFamily("wld_tape_bytes", "Size of the tapes in the data directory.", labels=["state"])
        files = GaugeMetricFamily("wld_tape_files", "Segments in the data directory.", labels=["state"])
        for state, (count, length) in self._size[1].items():
            files.add_metric([state], count)
            size.add_metric([state], length)
        return [size, files]

    def _figures(self) -> list[Any]:
        """What sinks and source say of themselves, as far as it is numbers."""
        from prometheus_client.core import GaugeMetricFamily

        figure = GaugeMetricFamily(
            "wld_report", "What a part of the run reports of itself.", labels=["reporter", "figure"]
        )
        for reporter, figures in list(self._context.reports().items()):
            for name, value in figures.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    figure.add_metric([reporter, name], value)
        return [figure]


def _measure(folder: Path) -> dict[str, tuple[int, int]]:
    """(files, bytes) of the sealed segments and of the open ones."""
    found = {"sealed": (0, 0), "open": (0, 0)}
    try:
        for path in folder.iterdir():
            state = {".bin": "sealed", ".open": "open"}.get(path.suffix)
            if state is not None:
                count, size = found[state]
                found[state] = (count + 1, size + path.stat().st_size)
    except OSError:
        pass  # not there yet, or a segment that was sealed meanwhile
    return found


def _close(server: Any, thread: threading.Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()
