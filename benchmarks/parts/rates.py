"""The whole program at real rates: share of a core, latency, 500 symbols, bursts, and the long run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import wld
from benchmarks import bare, check, messages
from benchmarks.bench import ROOT, Bench, Table, spread, steady
from benchmarks.messages import Mix
from wld import Batch, TapeWriter
from wld.bybit.protocol import BybitProtocol
from wld.bybit.subscriptions import ARGS_LIMIT, topics_for
from wld.config import TOPICS

WAITS = (0.0, 0.001, 0.005, 0.02)
WIDE = Mix(symbols=500)
LONG_RATE = 20_000
ROUND_SECONDS = 20


def paced(bench: Bench) -> Table:
    """Share of one core at real rates, TLS, each message its own segment and record, recorder on; and of readers that do
    nothing else, beside it, without a wait and with the longest."""
    rows = []
    for rate in (100, 1000, 5000, 20_000):
        line = [f"{rate:,}"]
        count = int(
            rate * (12 if rate == 100 else 4) * max(0.75, bench.scale)
        )  # what happens each second must weigh little
        for wait in WAITS:
            result = bench.run(
                count=count, server={"rate": float(rate)}, settings={"source.wait": wait}, linger=0.3, sample=0.5
            )
            line.append(f"{_of_a_core(result, rate):.1%}")
        for kind in bare.KINDS:
            line.append(", ".join(f"{_bare(bench, kind, count, rate, wait):.1%}" for wait in (WAITS[0], WAITS[-1])))
        rows.append(line)
    waits = f"{WAITS[0] * 1000:g} and {WAITS[-1] * 1000:g} ms"
    return [
        "messages/s", *(f"wait {wait * 1000:g} ms" for wait in WAITS), *(f"a bare {k}, {waits}" for k in bare.KINDS)
    ], rows  # fmt: skip


def _bare(bench: Bench, kind: str, count: int, rate: float, wait: float) -> float:
    """The same of a reader that does nothing else."""
    path, total = bench.stream(count)
    with bench.serve(path, 4, rate=float(rate)) as server:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.bare", kind, server.url, "4", str(total), str(bench.authority), str(wait)],
            cwd=ROOT, text=True, capture_output=True, check=True, timeout=200,
        )  # fmt: skip
    return float(done.stdout)


def _of_a_core(result: dict[str, Any], rate: float) -> float:
    """CPU seconds a second, after the first third, in which libraries are still loaded and the venue's REST is tried."""
    return steady(result["samples"], 1 / 3) * rate / 1e6


def latency(bench: Bench) -> Table:
    """From the sender's clock before send() to a sink, TLS, 5,000 messages a second, recorder writing and flushing."""
    rows = []
    for wait in (*WAITS[:2], 0.002, *WAITS[2:]):
        rate = 5000.0
        delays, sending, result = _delays(bench, rate, 10 * bench.scale + 2, settings={"source.wait": wait})
        p50, p99, p999 = np.percentile(delays, (50, 99, 99.9))
        rows.append(
            [
                f"{wait * 1000:g} ms", f"{p50:.2f}", f"{p99:.2f}", f"{p999:.2f}", f"{delays.max():.1f}",
                f"{_of_a_core(result, rate):.1%}", f"{np.percentile(sending, 50) * 1000:.0f}",
            ]
        )  # fmt: skip
    return ["source.wait", "p50, ms", "p99, ms", "p99.9, ms", "most, ms", "of a core", "of it inside send(), us"], rows


def sealing(bench: Bench) -> Table:
    """The same with no wait while an hour of 500 messages a second is sealed beside it, and before and after."""
    count, rate = bench.count(1_800_000), 5000.0
    found: dict[str, list[Any]] = {"not sealing": [], "sealing": []}
    took = []
    for repeat in range(min(3, bench.repeats)):
        journal = _an_hour(bench.folder / f"hour{repeat}", count)
        delays, sent, result = _timed(
            bench, rate, 20 * bench.scale + 4, settings={"source.wait": 0.0}, seals=str(journal)
        )
        begun, ended = result["sealing"]
        during = (sent >= begun) & (sent < ended)
        took.append((ended - begun) / 1e9)
        found["sealing"].append(delays[during])
        found["not sealing"].append(delays[~during & (sent > sent[0] + (sent[-1] - sent[0]) // 5)])
    rows = []
    for what, runs in found.items():
        quantiles = np.array([np.percentile(run, (50, 99, 99.9, 100)) for run in runs])
        rows.append([what, str(sum(map(len, runs))), *(spread(column) for column in quantiles.T)])
    rows[1][0] += f" {count:,} messages for {spread(took, 1, ' s')}"
    return ["meanwhile", "messages", "p50, ms", "p99, ms", "p99.9, ms", "most, ms"], rows


def _an_hour(folder: Path, count: int) -> Path:
    """A journal of so many messages as the recorder leaves it, a flush each second of 500."""
    content = list(messages.stream(min(count, 100_000)))
    protocol = BybitProtocol(topics_for(messages.Mix().names(), TOPICS, 50))
    protocol.open(messages.START_MS * 10**6)
    reads = [
        protocol.receive_read(content[at : at + 250], messages.START_MS * 10**6 + at)
        for at in range(0, len(content), 250)
    ]
    writer = TapeWriter(folder, source="benchmark", clock="recorded", rotate_minutes=10**7, sync_interval_s=3600.0)
    number = 0
    for at in range(count // 250):
        batch = Batch(reads[at % len(reads)], number)
        number += len(batch)
        writer.append(batch)
        if at % 2:
            writer.flush()
    return Path(writer.close(seal=False).files[0])


def _delays(bench: Bench, rate: float, seconds: float, **client: Any) -> tuple[Any, Any, dict[str, Any]]:
    """(send to sink of each message, time inside send() of each; ms; the result), the first fifth left out."""
    delays, _, result = _timed(bench, rate, seconds, **client)
    inside = np.frombuffer((bench.folder / "times").read_bytes(), np.int64).reshape(-1, 2) / 1e6
    first = len(delays) // 5
    return delays[first:], inside[first:, 1] - inside[first:, 0], result


def _timed(bench: Bench, rate: float, seconds: float, **client: Any) -> tuple[Any, Any, dict[str, Any]]:
    """(send to sink of each message, ms; when each was sent, monotonic ns; the result)."""
    times, arrivals = bench.folder / "times", bench.folder / "arrivals"
    result = bench.run(
        count=int(rate * seconds), server={"rate": rate, "times": str(times)}, arrivals=str(arrivals), **client
    )
    sent = np.frombuffer(times.read_bytes(), np.int64).reshape(-1, 2)
    pairs = np.frombuffer(arrivals.read_bytes(), np.int64).reshape(-1, 2)
    last_event = np.cumsum([events_in(content) for content in messages.read(Path(result["path"]))])
    where = np.searchsorted(pairs[:, 0], last_event)
    known = where < len(pairs)
    return (pairs[where[known], 1] - sent[known, 0]) / 1e6, sent[known, 0], result


def events_in(content: bytes) -> int:
    """How many events a message becomes."""
    return content.count(b'"i":"') if content[10:11] == b"p" else 1


def breadth(bench: Bench) -> Table:
    """500 symbols, all topics: bursts of 60,000 a second for two seconds, then (`--long`) 20,000 a second."""
    burst = [(1.0, 5_000.0), (2.0, 60_000.0), (1e9, 5_000.0)]
    result = bench.run(count=135_000, mix=WIDE, server={"bursts": burst}, settings={"source.wait": 0.005}, keep=True)
    check.compare(wld.open_tape(result["dir"]), messages.read(Path(result["path"])))
    rows = [_line("bursts of 60,000/s for 2 s", result, 1)]
    if bench.minutes:
        rounds = max(1, round(bench.minutes * 60 / ROUND_SECONDS))
        result = bench.run(
            count=LONG_RATE * ROUND_SECONDS, rounds=rounds, mix=WIDE, server={"rate": float(LONG_RATE)},
            settings={"source.wait": 0.005, "sinks.recorder.rotate_minutes": 1}, keep=True, sample=1.0,
            timeout=bench.minutes * 60 + 900,
        )  # fmt: skip
        rows.append(_line(f"20,000/s for {bench.minutes:g} min, a new tape each minute", result, rounds))
    head = ["500 symbols", "events on the tape", "of those sent", "dropped", "gaps", "connections, longest args",
            "most waiting in the ring", "of a core", "memory, MB", "memory grows"]  # fmt: skip
    return head, rows


def _line(name: str, result: dict[str, Any], rounds: int) -> list[str]:
    summary = wld.open_tape(result["dir"]).summary()
    events = sum(summary.counts.values())
    sent = sum(map(events_in, messages.read(Path(result["path"])))) * rounds
    gaps = [gap for gap in summary.gaps if gap.reason is not wld.GapReason.SHUTDOWN]
    shutil.rmtree(result["dir"])
    samples = result["samples"]
    return [
        name, f"{events - len(summary.gaps):,}", f"{(events - len(summary.gaps)) / sent:.4%}", str(result["dropped"]),
        str(len(gaps)), f"{len(result['server'].get('args', []))}, {max(result['server'].get('args', [0])):,} of {ARGS_LIMIT:,}",
        f"{result['peak']:,} events", f"{result['cpu'] / result['wall']:.0%}", growing(samples), slope(samples),
    ]  # fmt: skip


def growing(samples: list[list[float]]) -> str:
    """Memory at ten moments, evenly; in shorter runs the least and the most."""
    rss = [sample[3] for sample in samples]
    if samples[-1][0] < 30:
        return f"{rss[0]:.0f} to {max(rss):.0f}"
    return ", ".join(f"{rss[min(len(rss) - 1, len(rss) * i // 9)]:.0f}" for i in range(10))


def slope(samples: list[list[float]]) -> str:
    """MB a minute by least squares, of the first and of the second half."""
    if samples[-1][0] < 30:
        return ""
    half = len(samples) // 2
    found = []
    for part in (samples[:half], samples[half:]):
        at = np.array(part)
        found.append(f"{np.polyfit(at[:, 0] / 60, at[:, 3], 1)[0]:+.1f}")
    return f"{found[0]}, then {found[1]} MB/min"
