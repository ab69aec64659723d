"""Live beyond one machine, here as several processes: shards of symbols, Redis between, a recorder behind it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import wld
from tests.redis.server import Server, needs_redis

pytestmark = [needs_redis, pytest.mark.slow]


class Process:
    """`wld` with its log in a file; ended with the test whatever happens."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.name = name
        self.log = folder / f"{name}.{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "wld", *arguments], cwd=folder, stdout=log, stderr=subprocess.STDOUT
            )

    def said(self, pattern: str) -> str | None:
        match = re.search(pattern, self.log.read_text())
        return match[1] if match and match.groups() else match and match[0]

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(30) == 0, self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end, f"no {what}"
        time.sleep(0.05)


def events(folder: Path) -> list[wld.Event]:
    return list(wld.open_tape(folder)) if list(folder.glob("*.bin*")) else []


def is_state(event: wld.Event) -> bool:
    """What a checkpoint restores beside the feed: whole books, tickers, instruments."""
    return isinstance(event, wld.Ticker | wld.Instrument) or (
        isinstance(event, wld.BookSnapshot) and event.event_time is None
    )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Callable[..., Process], Server]]:
    server = Server(tmp_path)
    processes: list[Process] = []

    def start(name: str, *arguments: str) -> Process:
        processes.append(Process(tmp_path, name, *arguments))
        return processes[-1]

    yield start, server
    for process in processes:
        if process.process.poll() is None:
            process.kill()
    server.stop()


@pytest.mark.parametrize(
    "streams", [{"WLDUSDT": "wld:1", "BTCUSDT": "wld:2"}, {"WLDUSDT": "wld", "BTCUSDT": "wld"}], ids=["two", "one"]
)
def test_shards_redis_and_a_recorder_with_each_of_them_killed_once(
    streams: dict[str, str], tmp_path: Path, site: tuple[Callable[..., Process], Server]
) -> None:
    start, server = site
    exchange = start("exchange", "sim", "--port", "0", "--symbols", "WLDUSDT,BTCUSDT", "--rate", "5")
    until(lambda: exchange.said(r"WebSocket (ws://\S+)"), "exchange")
    url = exchange.said(r"WebSocket (ws://\S+)")

    def shard(symbol: str) -> Process:
        part = {"WLDUSDT": "1/2", "BTCUSDT": "2/2"}[symbol]
        return start(
            symbol, "--source", str(url), "--symbols", "WLDUSDT,BTCUSDT", "--shard", part, "--sinks", "recorder,redis",
            "--data-dir", symbol, "--set", f"sinks.redis.url={server.url}?stream={streams[symbol]}",
            "--set", "sinks.redis.checkpoint_interval=1",
        )  # fmt: skip

    def consumer() -> Process:
        names = ",".join(dict.fromkeys(streams.values()))
        source = f"{server.url}?stream={names}&from=oldest"
        return start("consumer", "--source", source, "--sinks", "recorder", "--data-dir", "all")

    shards = {symbol: shard(symbol) for symbol in ("WLDUSDT", "BTCUSDT")}
    reader = consumer()
    until(lambda: len(events(tmp_path / "all")) > 100, "events behind Redis")
    reader.kill()
    time.sleep(1)
    reader = consumer()
    before = len(events(tmp_path / "all"))
    until(lambda: len(events(tmp_path / "all")) > before + 100, "events after the consumer was killed")
    shards["BTCUSDT"].kill()
    shards["BTCUSDT"] = shard("BTCUSDT")
    until(lambda: any(isinstance(e, wld.Gap) for e in events(tmp_path / "all")), "gap of the killed shard")
    server.stop()
    time.sleep(1)
    server.start()
    before = len(events(tmp_path / "all"))
    until(lambda: len(events(tmp_path / "all")) > before + 100, "events after Redis was killed")
    for process in shards.values():
        process.stop()
    time.sleep(2)
    reader.stop()

    received = events(tmp_path / "all")
    gaps = [event for event in received if isinstance(event, wld.Gap)]
    assert [(gap.reason.value, gap.missed) for gap in gaps] == [("disconnect", None)]
    feed = Counter(e for e in received if not is_state(e) and not isinstance(e, wld.Gap))
    assert max(feed.values()) == 1, "an event was recorded twice"
    for symbol in shards:
        own = [
            e
            for e in events(next((tmp_path / symbol).glob("shard-*")))
            if not is_state(e) and not isinstance(e, wld.Gap)
        ]
        missing = [e for e in own if e not in feed]
        assert all(any((g.first_time or 0) <= e.receive_time <= (g.last_time or 0) for g in gaps) for e in missing)
        assert len(missing) < len(own) / 2
        if symbol == "WLDUSDT":
            assert missing == []
            assert [e for e in received if getattr(e, "symbol", "") == symbol and not is_state(e)] == own
    books = {symbol: wld.OrderBook(symbol) for symbol in shards}
    for event in received:
        if isinstance(event, wld.BookSnapshot | wld.BookDelta):
            books[event.symbol].apply(event)  # refuses a hole
    assert subprocess.run([sys.executable, "-m", "wld", "verify", "all"], cwd=tmp_path, check=False).returncode == 0
