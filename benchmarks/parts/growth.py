"""Whether a message costs the same as one thing grows: symbols, levels, sinks, the tape, the folder; the docs' plot."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import messages
from benchmarks.bench import ROOT, Bench, Table, steady
from benchmarks.messages import Mix
from benchmarks.page import plot, short
from wld import Batch, TapeWriter
from wld.bybit.protocol import BybitProtocol
from wld.bybit.subscriptions import topics_for
from wld.config import TOPICS

PLOT = ROOT / "docs" / "performance-growth.svg"
HOUR_NS = 3600 * 10**9
HOURS = 100

Points = dict[str, list[tuple[float, float]]]


def growth(bench: Bench) -> Table:
    """Cost a message as one thing grows, TLS, recorder on; what is paid once at the start is left out."""
    count = bench.count(60_000)
    points: Points = {}
    for _ in range(min(2, bench.repeats)):
        for symbols in (1, 10, 100, 500):
            result = bench.run(count=count, rounds=3, mix=Mix(symbols=symbols))
            points.setdefault("symbols", []).append((symbols, result["us"]))
        for levels in (1, 15, 30, 50):
            result = bench.run(count=count, rounds=2, mix=Mix(levels=levels))
            points.setdefault("levels a delta", []).append((levels, result["us"]))
        for watchers in (0, 2, 8):
            result = bench.run(count=count, rounds=2, watchers=watchers)
            points.setdefault("sinks", []).append((watchers + 2, result["us"]))
        result = bench.run(count=count, rounds=10)
        for tenth in range(1, 10):  # the first tenth warms up
            cost = steady(result["samples"], tenth / 10, (tenth + 1) / 10)
            points.setdefault("messages on the tape", []).append(
                (round(result["messages"] * (tenth + 0.5) / 10, -4), cost)
            )
        points.setdefault("tapes in the folder (decode, write, seal)", []).extend(_hours(bench.count(100_000)))
    medians = {
        name: [(x, statistics.median(y for x_, y in found if x_ == x)) for x in sorted({x for x, _ in found})]
        for name, found in points.items()
    }
    if bench.scale == 1:
        PLOT.write_text(plot(medians))
    rows = []
    for name, found in medians.items():
        costs = [y for _, y in found]
        rows.append([name, ", ".join(f"{short(x)}: {y:.2f}" for x, y in found), f"{costs[-1] / costs[0]:.2f}x"])
    return ["as this grows", "us a message", "last against first"], rows


def _hours(count: int) -> list[tuple[float, float]]:
    """CPU us a message with so many hours in the folder: decoded, written and sealed hour by hour, in this process."""
    content = list(messages.stream(count))
    protocol = BybitProtocol(topics_for(messages.Mix().names(), TOPICS, 50))
    protocol.open(messages.START_MS * 10**6)
    a_read, first = 200, messages.START_MS * 10**6 // HOUR_NS * HOUR_NS
    points = []
    with tempfile.TemporaryDirectory() as folder:
        writer = TapeWriter(Path(folder), source="benchmark", clock="recorded")
        begun, number, hour = time.process_time(), 0, 0
        for at in range(0, len(content), a_read):
            if at * HOURS // len(content) > hour:
                hour = at * HOURS // len(content)
                if hour % 10 == 0:
                    points.append((hour, (time.process_time() - begun) / (count / 10) * 1e6))
                    begun = time.process_time()
            batch = Batch(protocol.receive_read(content[at : at + a_read], first + hour * HOUR_NS + at), number)
            number += len(batch)
            writer.append(batch)
        points.append((HOURS, (time.process_time() - begun) / (count / 10) * 1e6))
        writer.close()
    return points[1:]
