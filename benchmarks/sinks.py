"""What the shipped sinks cost: packing, the isolated process, Redis both ways, the lake. Prints a table.

    python benchmarks/sinks.py            # needs redis-server and the extras redis and parquet

CPU seconds of this process by `time.process_time` (all threads), events from the simulated exchange, one run each.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from wld_parquet.lake import Lake
from wld_redis import RedisConfig, RedisSink, RedisSource

sys.path.insert(0, str(Path(__file__).parents[1]))
import wld
from tests.redis.server import Server
from wld import testing
from wld.service import Service, SinkEntry

EVENTS = 50_000


def workload(folder: Path) -> list[wld.Event]:
    """Real messages of the simulated exchange, as many as asked for."""
    subprocess.run(
        [sys.executable, "-m", "wld", "--source", "sim", "--sinks", "recorder", "--data-dir", str(folder), "--set",
         "source.sim_rate=50", "--duration", "8s", "--log-level", "error"], check=True,
    )  # fmt: skip
    events = list(wld.open_tape(folder))
    return (events * (EVENTS // len(events) + 1))[:EVENTS]


def line(what: str, seconds: float, extra: str = "") -> None:
    print(f"{what:<46} {seconds / EVENTS * 1e6:7.2f} µs CPU an event   {EVENTS / seconds:>10,.0f} events/s   {extra}")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


async def publish(url: str, events: list[wld.Event]) -> None:
    await testing.run_sink(wld.SinkSpec("redis", RedisConfig, RedisSink), events, {"url": url}, batch_size=20)


async def consume(url: str) -> int:
    class Count:
        seen = 0

        async def run(self, batches: wld.Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            task_status.started()
            async for batch in batches:
                self.seen += len(batch)
                if self.seen >= EVENTS - 100:
                    service.stop()

    count = Count()
    context = wld.SourceContext(data_dir=Path("none"), symbols=None, sinks=(), stored=lambda: None)
    service = Service(RedisSource(f"{url}?from=oldest", context), [SinkEntry("count", lambda: count)])
    await service.run()
    return count.seen


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        events = workload(folder / "tape")
        blocks = [events[i : i + 500] for i in range(0, EVENTS, 500)]
        batches = [events[i : i + 20] for i in range(0, EVENTS, 20)]
        print(f"{EVENTS:,} events\n")
        seconds, packed = timed(lambda: [wld.pack_events(batch) for batch in batches])
        line("pack, 20 a batch (the isolated pipe)", seconds, f"{sum(map(len, packed)) / EVENTS:.0f} bytes an event")
        seconds, packed = timed(lambda: [wld.pack_events(block, level=3) for block in blocks])
        line("pack and compress, 500 a block (Redis)", seconds, f"{sum(map(len, packed)) / EVENTS:.0f} bytes an event")
        seconds, _ = timed(lambda: [list(wld.unpack_events(block)) for block in packed])
        line("unpack, 500 a block", seconds)
        server = Server(folder)
        try:
            seconds, _ = timed(lambda: trio.run(publish, server.url, events))
            line("redis sink, whole", seconds)
            seconds, _ = timed(lambda: trio.run(consume, server.url))
            line("redis source, whole", seconds)
        finally:
            server.stop()
        lake = Lake(folder / "lake", ("trades", "depth", "liquidations", "tickers", "gaps"), "decimal")
        runs = [wld.Batch(block, i * 500) for i, block in enumerate(blocks)]
        seconds, _ = timed(lambda: [lake.add(runs[i : i + 4]) for i in range(0, len(runs), 4)])
        line("lake, taking 2000 at a time", seconds)
        seconds, _ = timed(lake.roll)
        line("lake, writing files", seconds, f"{lake.bytes / EVENTS:.0f} bytes an event, {lake.files} files")
        lake.close()


if __name__ == "__main__":
    main()
