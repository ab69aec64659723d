"""The redis sink and source against a real Redis server."""

from __future__ import annotations

import itertools
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
from wld_redis import RedisConfig, RedisSink, RedisSource
from wld_redis.address import make_client, parse

import wld
from tests.redis.server import Server, needs_redis
from wld import testing
from wld.service import Service, SinkEntry

pytestmark = [
    needs_redis,
    # coredis leaves in-memory channels of a cancelled client to the garbage collector.
    pytest.mark.filterwarnings("ignore:Exception ignored in.*MemoryObject:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


def trades(first: int, count: int, symbol: str = "WLDUSDT") -> list[wld.Event]:
    return [
        testing.make_trade(symbol, size=n + 1, trade_id=f"{symbol}{n}", time=testing.TIME + n)
        for n in range(first, first + count)
    ]


async def publish(server: Server, events: Sequence[wld.Event], stream: str = "wld", **config: Any) -> testing.SinkRun:
    spec = wld.SinkSpec("redis", RedisConfig, RedisSink)
    settings = {"url": f"{server.url}?stream={stream}", "interval": 0.01, **config}
    return await testing.run_sink(spec, events, settings, data_dir=Path("there"))


class Collector:
    """A sink that stops the run once it has seen enough; it may keep an account as a recorder does."""

    def __init__(self, enough: Callable[[list[wld.Event]], bool]) -> None:
        self.enough = enough
        self.seen: list[wld.Event] = []
        self.number = -1
        self.has_enough = False
        self.stop: Callable[[], None] = lambda: None

    async def run(self, batches: wld.Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        async for batch in batches:
            if self.has_enough:  # of the same turn as the last: the run is ending
                continue
            self.seen += batch
            self.number = batch.first_number + len(batch) - 1
            if self.enough(self.seen):
                self.has_enough = True
                self.stop()


async def read(
    server: Server,
    count: int,
    query: str = "from=oldest",
    *,
    enough: Callable[[list[wld.Event]], bool] | None = None,
    beside: Callable[[], Any] | None = None,
    symbols: tuple[str, ...] | None = None,
) -> list[wld.Event]:
    collector = Collector(enough or (lambda seen: len(seen) >= count))
    context = wld.SourceContext(data_dir=Path("none"), symbols=symbols, sinks=("collector",), stored=lambda: None)
    service = Service(
        RedisSource(f"{server.url}?{query}", context),
        [SinkEntry("collector", lambda: collector)],
        beside=[beside] if beside else (),
    )
    collector.stop = service.stop
    with trio.fail_after(30):
        assert await service.run() == 0
    return collector.seen


async def test_what_one_publishes_the_other_reads_in_blocks(server: Server) -> None:
    events = [
        testing.make_book_snapshot(time=testing.TIME - 1),
        *trades(0, 500),
        testing.make_ticker(turnover_24h=2**70),
    ]
    run = await publish(server, events, block_events=100)
    assert (run.status["events"], run.status["error"]) == (502, None)
    assert run.status["entries"] < 12
    assert await read(server, 502) == events


async def test_a_consumer_goes_on_where_it_stopped(server: Server) -> None:
    await publish(server, trades(0, 10))
    assert await read(server, 10, "from=oldest&consumer=a") == trades(0, 10)
    await publish(server, trades(10, 5))
    gap, *later = await read(server, 6, "from=oldest&consumer=a")
    assert later == trades(10, 5)
    assert isinstance(gap, wld.Gap)
    assert gap.reason is wld.GapReason.SHUTDOWN
    # Another name begins by itself.
    assert len(await read(server, 16, "from=oldest&consumer=b")) == 16


async def test_a_reader_that_joins_begins_at_the_last_checkpoint(server: Server) -> None:
    events = [testing.make_instrument(), testing.make_book_snapshot(), testing.make_book_delta(update_id=2)]
    await publish(server, [*events, *trades(0, 3)])

    async def go_on() -> None:
        await trio.sleep(0.1)
        await publish(server, trades(7, 1))

    def has_trade(seen: list[wld.Event]) -> bool:
        return any(isinstance(event, wld.Trade) for event in seen)

    seen = await read(server, 0, "", enough=has_trade, beside=go_on)
    assert [type(e) for e in seen] == [wld.Instrument, wld.BookSnapshot, wld.Gap, wld.Trade]


async def test_the_stream_is_bounded_and_a_reader_left_behind_is_told_how_much_it_missed(server: Server) -> None:
    await publish(server, trades(0, 10))
    await read(server, 10, "from=oldest&consumer=slow")
    await publish(server, trades(10, 1))
    await read(server, 2, "from=oldest&consumer=slow")
    many = [[trade] for trade in trades(20, 400)]
    await publish(server, many, block_events=1, max_entries=50)  # type: ignore[arg-type]
    async with make_client(parse(server.url, "url")) as client:
        assert 50 <= await client.xlen("wld") <= 200
    seen = await read(server, 0, "consumer=slow", enough=lambda seen: any(getattr(e, "size", 0) == 420 for e in seen))
    gap = seen[0]
    assert isinstance(gap, wld.Gap)
    assert (gap.reason, gap.missed) == (wld.GapReason.OVERRUN, None)
    assert seen[1:] == trades(420 - len(seen) + 1, len(seen) - 1)


async def test_several_streams_are_merged_by_time(server: Server) -> None:
    for stream, symbol, first in (("b", "BTCUSDT", 0), ("a", "WLDUSDT", 500)):
        await publish(server, trades(first, 1000, symbol), stream, block_events=10)
    seen = await read(server, 2000, "stream=a,b&from=oldest")
    assert [e for e in seen if e.symbol == "BTCUSDT"] == trades(0, 1000, "BTCUSDT")  # type: ignore[union-attr]
    assert [e for e in seen if e.symbol == "WLDUSDT"] == trades(500, 1000)  # type: ignore[union-attr]
    times = [event.receive_time for event in seen]
    assert max(before - after for before, after in itertools.pairwise(times)) <= 10  # a block


async def test_a_page_whose_last_entries_are_older_than_its_first_is_taken_all_the_same(server: Server) -> None:
    """Publishers that share a stream and were both held up by Redis add their backlogs one after the other."""
    for symbol, first in (("BTCUSDT", 1000), ("WLDUSDT", 0)):
        await publish(server, trades(first, 400, symbol), block_events=10)
    seen = await read(server, 801)
    assert [e for e in seen if isinstance(e, wld.Trade)] == [*trades(1000, 400, "BTCUSDT"), *trades(0, 400)]


async def test_symbols_are_chosen_by_the_reader(server: Server) -> None:
    await publish(server, [*trades(0, 5), *trades(5, 5, "BTCUSDT"), testing.make_gap()])
    seen = await read(server, 6, symbols=("BTCUSDT",))
    assert [type(e) for e in seen] == [wld.Trade] * 5 + [wld.Gap]


async def test_a_server_that_dies_is_waited_for_and_nothing_is_lost(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    class Slowly:
        async def run(self, ring: wld.Ring, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            task_status.started()
            for n in range(200):
                ring.publish(trades(n, 1))
                await trio.sleep(0.005)
                if n == 60:
                    await trio.to_thread.run_sync(server.stop)
                if n == 120:
                    await trio.to_thread.run_sync(server.start)

    sink = RedisSink(RedisConfig(url=server.url, interval=0.02), testing.make_context())
    service = Service(Slowly(), [SinkEntry("redis", lambda: sink)], drain_timeout=20)
    reading: list[wld.Event] = []

    async def reader() -> None:
        reading.extend(await read(server, 200, "from=oldest"))

    with caplog.at_level(logging.WARNING):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            assert await service.run() == 0
    assert reading == trades(0, 200)
    assert "takes entries again" in caplog.text


async def test_without_a_server_the_run_begins_and_ends_and_the_loss_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = RedisSink(RedisConfig(url="redis://127.0.0.1:1/0"), testing.make_context())
    service = Service(testing.ListSource(trades(0, 5)), [SinkEntry("redis", lambda: sink)], drain_timeout=0.5)
    with trio.fail_after(10):
        assert await service.run() == 0
    assert "redis: 5 events were not published" in caplog.text


async def test_a_server_that_stalls_costs_this_sink_only(server: Server) -> None:
    other = Collector(lambda seen: False)
    sink = RedisSink(RedisConfig(url=server.url, interval=0.01), testing.make_context())
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:

        class Endless:
            async def run(self, ring: wld.Ring, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
                task_status.started()
                for n in range(300):
                    ring.publish(trades(n * 100, 100))
                    await trio.lowlevel.checkpoint()

        entries = [SinkEntry("redis", lambda: sink, capacity=1000), SinkEntry("other", lambda: other)]
        service = Service(Endless(), entries, drain_timeout=0.3)
        with trio.fail_after(10):
            await service.run()
        assert len(other.seen) == 30_000
    finally:
        server.process.send_signal(signal.SIGCONT)


async def test_a_key_that_is_no_stream_of_wld_ends_the_reading_with_its_name(server: Server) -> None:
    async with make_client(parse(server.url, "url")) as client:
        await client.xadd("wld", {"x": "y"})
    context = wld.SourceContext(data_dir=Path("none"), symbols=None, sinks=(), stored=lambda: None)
    service = Service(RedisSource(f"{server.url}?from=oldest", context), [])
    with trio.fail_after(10):
        assert await service.run() == 1
    [failure] = service.failures
    assert "not an entry of wld" in str(getattr(failure, "exceptions", [failure])[0])


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://localhost", "expected redis://HOST:PORT/DB or rediss://…, got 'http://localhost'"),
        ("redis://:6379", "expected redis://HOST:PORT/DB"),
        ("redis://user:secret@", "expected redis://HOST:PORT/DB or rediss://…, got 'redis://'"),  # not a secret
        ("redis://h/x", "expected a number of a database"),
        ("redis://h/0?strem=a", "expected only stream, consumer, from, cluster, ca_file after the ?, got 'strem'"),
        ("redis://h/0?from=then", "expected from=now or from=oldest, got 'then'"),
        ("redis://h:port/0", "expected redis://HOST:PORT/DB"),
    ],
)
def test_a_wrong_url_is_one_line_without_the_password(url: str, line: str) -> None:
    with pytest.raises(wld.ConfigError) as error:
        parse(url, "source.name")
    assert str(error.value).startswith(f"source.name: {line}")
    assert "secret" not in str(error.value)


def test_a_publisher_has_one_stream() -> None:
    with pytest.raises(wld.ConfigError, match="one stream="):
        RedisSink(RedisConfig(url="redis://h/0?stream=a,b"), testing.make_context())
