"""What it costs to take tapes elsewhere: each export, merge, verify and plain iteration, on one seeded recording.

    python benchmarks/tape_out.py [MINUTES]

Prints CPU time, rows a second and bytes; everything in one run, in a temporary folder.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

import wld
from wld.bybit.decoder import MarketDecoder
from wld.exchange.instruments import spec_for
from wld.exchange.market import Market
from wld.tape.export import FORMATS, export
from wld.tape.merge import merge
from wld.tape.verify import verify

START_MS = 1_764_000_000_000
SYMBOLS = ("WLDUSDT", "BTCUSDT")


def record(folder: Path, minutes: int) -> int:
    """A simulated market of two symbols through the real decoder onto a tape; returns its events."""
    market = Market([spec_for(symbol) for symbol in SYMBOLS], 7, START_MS, 3.0)
    decoder = MarketDecoder(accept_any=True)
    count = 0
    with wld.TapeWriter(folder, source="benchmark") as writer:
        topics = [f"{kind}.{symbol}" for symbol in SYMBOLS for kind in ("orderbook.50", "tickers")]
        frames = [body for topic in topics if (body := market.snapshot(topic)) is not None]
        now = START_MS
        for _ in range(minutes * 60):
            now += 1_000
            frames += [message.body for message in market.advance(now)]
            events = [e for body in frames for e in decoder.decode(msgspec.json.encode(body).decode(), now * 1_000_000)]
            frames = []
            writer.append(events)
            count += len(events)
    return count


def main() -> None:
    """Measure and print."""
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as place:
        a, b = Path(place, "a"), Path(place, "b")
        events = record(a, minutes)
        record(b, minutes)
        print(f"{events:,} events, {_bytes(a):,} bytes: {wld.open_tape(a).summary().counts}")

        def measure(name: str, work: Callable[[], int], out: Path | None = None) -> None:
            begun = time.process_time()
            rows = work()
            spent = time.process_time() - begun
            size = f"{_bytes(out):>14,} bytes" if out is not None else ""
            print(f"{name:<12} {rows:>10,} rows {spent:>7.2f} s CPU {rows / spent:>12,.0f} rows/s {size}")

        measure("iterate", lambda: sum(1 for _ in wld.open_tape(a)))
        measure("verify", lambda: sum(file.events for file in verify(a).files))
        for name in FORMATS:
            out = Path(place, name)
            measure(name, lambda name=name, out=out: sum(export([str(a)], out, name).rows.values()), out)  # type: ignore[misc]
        out = Path(place, "merged")
        measure("merge", lambda: merge([str(a), str(b)], out).summary.events, out)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
