"""The metrics: counted as they pass, scraped over real HTTP, and all that the dashboard asks for."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

import wld
from wld import testing
from wld.ring import Ring

prometheus_client = pytest.importorskip("prometheus_client")
from wld_prometheus import PrometheusConfig, PrometheusSink, wld_sink  # noqa: E402
from wld_prometheus.account import BUCKETS_S, Account  # noqa: E402

ROOT = Path(__file__).parents[2]


def scrape(url: str) -> dict[str, float]:
    """Samples by name with labels, as Prometheus itself would read them."""
    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def seen_by(events: list[wld.Event]) -> Account:
    account = Account()
    account.count(wld.Batch(events))
    return account


def test_events_are_counted_by_kind_and_symbol_and_gaps_by_reason() -> None:
    account = seen_by(
        [
            testing.make_trade(), testing.make_trade("BTCUSDT"), testing.make_trade(), testing.make_book_snapshot(),
            testing.make_gap("overrun", missed=7), testing.make_gap("disconnect"), testing.make_repair(recovered=3),
        ]
    )  # fmt: skip
    assert account.events["trade", "WLDUSDT"] == 2
    assert account.events["trade", "BTCUSDT"] == 1
    assert account.events["gap", ""] == 2
    assert (account.gaps["overrun"], account.missed["overrun"], account.recovered) == (1, 7, 3)


def test_lags_fall_into_their_buckets() -> None:
    lags_ms = [-5, 0, 1, 1.5, 30, 20_000]
    account = seen_by([testing.make_trade(event_time=testing.TIME - round(ms * 1e6)) for ms in lags_ms])
    counts = dict(zip((*BUCKETS_S, np.inf), account.lags["trade"].counts.tolist(), strict=True))
    assert {bound: n for bound, n in counts.items() if n} == {0.001: 3, 0.002: 1, 0.05: 1, np.inf: 1}
    assert account.lags["trade"].sum == round(sum(lags_ms) * 1e6)


async def test_columns_count_as_rows_do() -> None:
    """The same feed through the columnar decoder and as events."""
    config_events: list[wld.Event] = []
    by_columns, by_rows = Account(), Account()

    class Both:
        async def run(self, batches: wld.Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            task_status.started()
            async for batch in batches:
                by_columns.count(batch)
                by_rows.count(wld.Batch(list(batch)))
                config_events.extend(batch)

    from wld.config import SourceConfig
    from wld.service import Service, SinkEntry
    from wld.sources import make_source

    source = make_source(SourceConfig(name="sim", sim_rate=20))
    service = Service(source, [SinkEntry("both", Both)], duration=1.5)
    assert await service.run() == 0
    assert len(config_events) > 20
    assert by_columns.events == by_rows.events
    for kind in by_columns.lags:
        assert by_columns.lags[kind].sum == by_rows.lags[kind].sum
        assert (by_columns.lags[kind].counts == by_rows.lags[kind].counts).all()


async def test_a_scrape_gives_them_and_the_port_is_free_afterwards(tmp_path: Path) -> None:
    reported: dict[str, Any] = {}

    def status(name: str, figures: Mapping[str, Any]) -> None:
        reported.update(figures)

    (tmp_path / "market_data_20260101_0000.bin").write_bytes(b"x" * 10)
    (tmp_path / "market_data_20260101_0100.bin.open").write_bytes(b"x" * 5)
    ring = Ring()
    context = testing.make_context(
        tmp_path, status=status, statistics=ring.statistics,
        reports=lambda: {"recorder": {"bytes": 12, "tape": "x"}, "source": {"connects": 2}},
    )  # fmt: skip
    sink = PrometheusSink(PrometheusConfig(port=0), context)
    subscription = ring.subscribe("prometheus", capacity=100)
    with ring:
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: sink.run(subscription, task_status=task_status))
            ring.publish([testing.make_trade(), testing.make_gap("overrun", missed=2)])
            await trio.testing.wait_all_tasks_blocked()
            samples = await trio.to_thread.run_sync(scrape, reported["url"])
            ring.close()
    assert samples["wld_events_total{kind=trade,symbol=WLDUSDT}"] == 1
    assert samples["wld_gaps_total{reason=overrun}"] == 1
    assert samples["wld_gaps_total{reason=disconnect}"] == 0
    assert samples["wld_gap_missed_events_total{reason=overrun}"] == 2
    assert samples["wld_ring_published_events_total"] == 2
    assert samples["wld_ring_depth_events{sink=prometheus}"] == 0
    assert samples["wld_ring_capacity_events{sink=prometheus}"] == 100
    assert samples["wld_tape_bytes{state=sealed}"] == 10
    assert samples["wld_tape_bytes{state=open}"] == 5
    assert samples["wld_report{figure=bytes,reporter=recorder}"] == 12
    assert samples["wld_report{figure=connects,reporter=source}"] == 2
    assert samples["wld_lag_seconds_bucket{kind=trade,le=0.001}"] == 1
    assert samples["process_resident_memory_bytes"] > 0
    with socket.create_server(("127.0.0.1", int(re.search(r":(\d+)/", reported["url"])[1]))):  # type: ignore[index]
        pass


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(wld.ConfigError, match=rf"sinks\.prometheus\.port: 127\.0\.0\.1:{port} cannot be bound"):
            testing.run_sink(wld_sink(), [], {"port": port})


def test_each_part_of_the_symbols_has_a_port_of_its_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        if port == 65535:
            pytest.skip("no port above")
        run = testing.run_sink(wld_sink(), [], {"port": port}, shard=(2, 2))
    assert run.status["url"] == f"http://127.0.0.1:{port + 1}/metrics"


def test_a_real_run_is_scraped_and_gives_all_that_the_dashboard_asks_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "wld", "--source", "sim", "--sinks", "recorder,prometheus", "--set",
                "sinks.prometheus.port=0", "--set", "source.sim_rate=10", "--set", "source.sim_faults=drop@1",
            ],
            cwd=tmp_path, stderr=file,
        )  # fmt: skip
    try:
        end = time.monotonic() + 30
        while not (match := re.search(r"metrics at (\S+)", log.read_text())):
            assert time.monotonic() < end
            time.sleep(0.05)
        samples: dict[str, float] = {}
        while (
            samples.get("wld_reconnects_total", 0) < 1 or "wld_events_total{kind=trade,symbol=WLDUSDT}" not in samples
        ):
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
            samples = scrape(match[1])
    finally:
        process.terminate()
        process.wait(30)
    assert process.returncode == 0
    assert samples["wld_ring_dropped_events_total{sink=recorder}"] == 0
    assert samples["wld_tape_files{state=open}"] >= 0
    assert samples["wld_last_event_age_seconds"] < 30
    names = {name.partition("{")[0] for name in samples}
    dashboard = (ROOT / "examples" / "grafana" / "wld.json").read_text()
    asked = set(re.findall(r"\b((?:wld|process)_[a-z_]+)", " ".join(expressions(json.loads(dashboard)))))
    assert asked
    assert asked <= names, asked - names
    page = (ROOT / "docs" / "reference-prometheus.md").read_text()
    documented = set(re.findall(r"^\| `(wld_[a-z_]+)", page, re.MULTILINE))
    plain = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names if name.startswith("wld_")}
    assert documented == {name for name in plain if not name.endswith("_created")}


def expressions(value: Any) -> list[str]:
    """Every PromQL expression in a dashboard."""
    if isinstance(value, dict):
        own = [value["expr"]] if isinstance(value.get("expr"), str) else []
        return own + [found for inner in value.values() for found in expressions(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in expressions(inner)]
    return []
