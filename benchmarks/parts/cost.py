"""What a message costs from the socket to the tape: the whole program, its views, and other mixes than the reference."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path
from typing import Any

import wld
from benchmarks import check, messages
from benchmarks.bench import Bench, Table, ratio, spread
from benchmarks.messages import Mix

MIXES: dict[str, Mix] = {
    "the reference": Mix(),
    "sizes that hardly repeat": Mix(unique=True),
    "sizes of 19 digits": Mix(long=True),
    "mostly trades": Mix(books=0.2, trades=0.7),
    "many trades a message": Mix(fills=12),
    "books only": Mix(books=1.0, trades=0.0, tickers=0.0),
    "tickers only": Mix(books=0.0, trades=0.0, tickers=1.0),
    "a cascade: half liquidations": Mix(books=0.3, trades=0.15, tickers=0.05),
    "one level a delta": Mix(levels=1),
    "50 levels a delta": Mix(levels=50),
    "8 symbols": Mix(symbols=8),
    "8 symbols, snapshots in mid-stream (5 % of book messages)": Mix(symbols=8, snapshots=0.05),
    "tickers only, volumes beyond 64 bits": Mix(books=0.0, trades=0.0, tickers=1.0, wide=True),
    "tickers only, with texts": Mix(books=0.0, trades=0.0, tickers=1.0, texts=True),
    "half liquidations, two of a push time": Mix(books=0.3, trades=0.15, tickers=0.05, together=True),
    "20 symbols of long names": Mix(symbols=20, name="10000000ELONGATED{:02d}USDT"),
}


def end_to_end(bench: Bench) -> Table:
    """Frame to tape: CPU a message, recorder on, one process; every event of one run compared with decimal."""
    count = bench.count(100_000)
    kinds: dict[str, dict[str, Any]] = {
        "native, columns": {"rounds": 2},
        "native, columns, sizes that hardly repeat": {"rounds": 2, "mix": MIXES["sizes that hardly repeat"]},
        "native, rows": {"rows_only": True},
        "trio-websocket": {"settings": {"source.transport": "trio-websocket"}},
    }
    fewer = {"trio-websocket": 3}  # it is that much slower
    most = {"native, rows": 2, "trio-websocket": 1}
    found: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    checked: dict[str, str] = {}
    for repeat in range(bench.repeats):
        for name, options in kinds.items():
            for tls in (False, True):
                if repeat < most.get(name, bench.repeats):
                    found.setdefault((name, tls), []).append(
                        bench.run(count=count // fewer.get(name, 1), tls=tls, **options)
                    )
    for name, options in kinds.items():
        result = bench.run(count=count // 4, keep=True, **{**options, "rounds": 1})
        events = check.compare(wld.open_tape(result["dir"]), messages.read(Path(result["path"])))
        checked[name] = f"{events:,} equal"
        shutil.rmtree(result["dir"])
    rows = []
    base = [r["us"] for r in found["native, columns", True]]
    for name in kinds:
        plain, tls_ = found[name, False], found[name, True]
        us = [r["us"] for r in tls_]
        server = statistics.median(r["server"]["cpu"] / r["server"]["messages"] * 1e6 for r in tls_)
        rows.append(
            [
                name, spread(r["us"] for r in plain), spread(us), spread(r["whole_us"] for r in tls_), ratio(us, base),
                f"{1e6 / statistics.median(us):,.0f}",
                f"{tls_[0]['messages'] / tls_[0]['batches']:.0f}", spread(r["seal_cpu"] / r["messages"] * 1e6 for r in tls_),
                checked[name], f"{server:.2f}",
            ]
        )  # fmt: skip
    bench.figures["frame to tape"] = statistics.median(r["us"] for r in found["native, columns", False])
    head = ["", "plain, us", "TLS, us", "with the start", "TLS against the first", "messages/s a core, TLS", "messages a read",
            "sealing, us a message", "events compared with decimal", "the server's own, us"]  # fmt: skip
    return head, rows


def mixes(bench: Bench) -> Table:
    """The same over TLS on other messages than the reference's."""
    count = bench.count(50_000)
    found: dict[str, list[dict[str, Any]]] = {}
    for _ in range(min(2, bench.repeats)):
        for name, mix in MIXES.items():
            found.setdefault(name, []).append(bench.run(count=count, rounds=2, mix=mix))
    rows = []
    base = [r["us"] for r in found["the reference"]]
    for name, results in found.items():
        us = [r["us"] for r in results]
        size = Path(results[0]["path"]).stat().st_size / (results[0]["messages"] / 2)
        by_columns = results[0]["columnar"] / results[0]["batches"]
        seal = spread(r["seal_cpu"] / r["messages"] * 1e6 for r in results)
        rows.append([name, f"{size:.0f}", f"{by_columns:.0%}", spread(us), ratio(us, base), seal])
    return ["messages", "bytes each", "reads by columns", "us a message", "against the reference", "sealing, us"], rows


def views(bench: Bench) -> Table:
    """Frame to tape over TLS with the heat map and telemetry drawn on a pseudo-terminal of 200 x 50, 5 frames a second.

    Both ways take turns and are counted alike, from a tenth of the messages on; the start is told apart.
    """
    count = bench.count(200_000)
    both: dict[str, Any] = {
        "sinks": ("recorder", "heatmap", "telemetry"), "is_drawn": True, "settings": {"screen.fps": 5},
    }  # fmt: skip
    kinds: dict[str, dict[str, Any]] = {"recorder": {}, "recorder and both views": both}
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for _ in range(min(3, bench.repeats)):
        for symbols in (1, 20):
            for name, options in kinds.items():
                result = bench.run(count=count, rounds=2, mix=Mix(symbols=symbols), **options)
                found.setdefault((symbols, name), []).append(result)
    rows = []
    for (symbols, name), results in found.items():
        us, base = [r["us"] for r in results], [r["us"] for r in found[symbols, "recorder"]]
        extra = spread(a - b for a, b in zip(us, base, strict=True))
        start = spread(r["start_cpu"] for r in results)
        dropped, frames = sum(r["dropped"] for r in results), str(results[0].get("frames", 0))
        rows.append([str(symbols), name, spread(us), ratio(us, base), extra, start, frames, str(dropped)])
    head = [
        "symbols",
        "TLS",
        "us a message",
        "against the recorder",
        "us more",
        "start, s of CPU once",
        "frames",
        "dropped",
    ]
    return head, rows
