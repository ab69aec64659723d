"""The whole program against a blaster, in a process of its own: CPU, latency, losses. `python -m benchmarks.client SPEC`."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import msgspec
import trio

from wld import Subscription, process
from wld.bybit.subscriptions import split_topics, topics_for
from wld.config import Setting, load
from wld.engine import assemble
from wld.service import SinkEntry
from wld.tape.apart import seal_apart
from wld.tape.choices import Choices


class Spec(msgspec.Struct):
    url: str
    symbols: list[str]
    messages: int
    """After so many the run is over."""
    data_dir: str
    sinks: tuple[str, ...] = ("recorder",)
    settings: dict[str, Any] = {}
    arrivals: str | None = None
    """File for (events so far, monotonic ns) of each batch at a sink."""
    seals: str | None = None
    """A journal that is sealed once a third of the messages is there, as the recorder seals an hour's."""
    rows_only: bool = False
    watchers: int = 0
    """More sinks that count events."""
    linger: float = 1.2
    """Seconds without a message after which nothing more is expected: longer than the recorder waits to flush."""
    sample: float = 0.05
    """Seconds between two looks at the program."""
    terminal: int | None = None
    """An open terminal to draw on, which somebody else reads."""


class Probe:
    """A sink that notes when each batch came."""

    def __init__(self, notes: array[int] | None, *, lets_gather: bool = False) -> None:
        self.notes = notes
        self.lets_gather = lets_gather
        self.events = 0
        self.batches = 0
        self.columnar = 0

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        task_status.started()
        if self.lets_gather:
            batches.let_gather(1.0, 1000)
        async for batch in batches:
            self.events += len(batch)
            self.batches += 1
            self.columnar += batch.tables is not None
            if self.notes is not None:
                self.notes.extend((self.events, time.monotonic_ns()))


def _rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    spec = msgspec.json.decode(sys.argv[1], type=Spec)
    if spec.rows_only:
        import wld.bybit.columns

        wld.bybit.columns.COLUMNS_FROM = 1 << 60
    out = os.dup(1)
    if spec.terminal is not None:
        os.dup2(spec.terminal, 0)
        os.dup2(spec.terminal, 1)
    process.tune()
    process.settle()
    settings = {
        "source.name": spec.url, "source.symbols": spec.symbols, "data_dir": spec.data_dir,
        "source.backoff_initial": 0.05, "source.first_data_timeout": 120.0, "source.silence_timeout": 3600.0,
        "source.rest_url": "http://127.0.0.1:9", **spec.settings,
    }  # fmt: skip
    config = load(None, [Setting(key, value, "benchmark") for key, value in settings.items()], list(spec.sinks))
    service = assemble(config)
    notes: array[int] | None = array("q") if spec.arrivals else None
    # One that only counts is not to cost: the program alone is measured.
    probes = [Probe(notes, lets_gather=notes is None), *(Probe(None) for _ in range(spec.watchers))]
    for i, probe in enumerate(probes):
        entry = SinkEntry(f"probe{i}", lambda probe=probe: probe, capacity=10**9)  # type: ignore[misc]
        service._sinks.append(entry)  # type: ignore[attr-defined]
    source: Any = service._source
    result: dict[str, Any] = {}
    samples: list[tuple[float, float, float, float]] = []
    topics = topics_for(config.source.symbols or (), config.source.topics, config.source.depth)
    answers = sum(-(-len(group) // config.source.subscribe_batch) for group in split_topics(topics))
    rss = _rss_mb()

    async def watch() -> None:
        # A benchmark polls: nothing in the program under test knows that it is watched.
        while source.statistics.messages < answers:  # noqa: ASYNC110
            await trio.sleep(0.002)
        cpu = result["start_cpu"] = time.process_time()
        while source.statistics.messages <= answers:  # noqa: ASYNC110
            await trio.sleep(0.002)
        begun, first = time.monotonic(), answers
        last = moved = 0.0
        while source.statistics.messages < spec.messages + answers and time.monotonic() - (moved or begun) < 20:
            if source.statistics.messages != last:
                last, moved = source.statistics.messages, time.monotonic()
            samples.append((moved - begun, last - first, time.process_time() - cpu, _rss_mb()))
            await trio.sleep(spec.sample)
        wall = time.monotonic() - begun
        last = -1.0
        while last != source.statistics.messages:
            last = source.statistics.messages
            await trio.sleep(spec.linger)
        while any(s.depth for s in service.ring.statistics().sinks if s.name in spec.sinks):  # noqa: ASYNC110
            await trio.sleep(0.02)
        samples.append((wall, source.statistics.messages - first, time.process_time() - cpu, _rss_mb()))
        result.update(
            cpu=time.process_time() - cpu,
            wall=wall,
            messages=source.statistics.messages - first,
            batches=probes[0].batches,
            columnar=probes[0].columnar,
            dropped=sum(s.dropped for s in service.ring.statistics().sinks),
            peak=max(s.peak for s in service.ring.statistics().sinks),
            rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            rss_before_mb=rss,
            capacity_mb=max(
                (s.capacity_bytes for s in service.ring.statistics().sinks if s.capacity < 10**9), default=0
            )
            / 1e6,
            connects=source.statistics.connects,
            samples=samples,
        )
        cpu = time.process_time()
        service.stop()
        result["stopping"] = cpu

    async def seal_meanwhile(journal: Path) -> None:
        while source.statistics.messages < spec.messages // 3:  # noqa: ASYNC110
            await trio.sleep(0.02)
        begun = time.monotonic_ns()
        await trio.to_thread.run_sync(seal_apart, journal, {}, Choices())
        result["sealing"] = begun, time.monotonic_ns()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            if spec.seals:
                nursery.start_soon(seal_meanwhile, Path(spec.seals))
            await service.run()

    trio.run(run)
    result["seal_cpu"] = time.process_time() - result.pop("stopping")
    result["events"] = probes[0].events
    result["failures"] = [str(f) for f in service.failures]
    if spec.arrivals and notes is not None:
        with open(spec.arrivals, "wb") as file:
            file.write(notes.tobytes())
    if service.screen is not None:
        result["frames"] = getattr(service.screen, "frames", 0)
    os.write(out, f"{json.dumps(result)}\n".encode())


if __name__ == "__main__":
    main()
