"""CPU time of the tape: appending, sealing, reading; each beside a yardstick of the same run.

    python benchmarks/tape_speed.py [--trades 3000000]

The yardstick is `sum(range(10**6))`, so that figures of busy machines can be compared; the best of some runs counts.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tape_mix

import wld
from wld.batch import TRADE_DTYPE
from wld.bybit.columns import ColumnDecoder
from wld.bybit.decoder import MarketDecoder
from wld.process import tune
from wld.tape import rows, table
from wld.tape.seal import BlockFile, seal
from wld.tape.segment import find_segments

HOUR = 3_600_000_000_000
T0 = 1_790_000_000_000_000_000 // HOUR * HOUR


def best(run: Callable[[], Any], times: int, clock: Callable[[], float] = time.process_time) -> float:
    """The least seconds of some runs."""
    least = float("inf")
    for _ in range(times):
        begun = clock()
        run()
        least = min(least, clock() - begun)
    return least


def append(events: list[wld.Event], times: int) -> float:
    """Microseconds of CPU an event: batches of 200 events, a flush each 5,000, the last one synced."""
    batches = [wld.Batch(events[i : i + 200], i) for i in range(0, len(events), 200)]

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            writer = wld.TapeWriter(folder, source="benchmark", rotate_minutes=10**7)
            for i, batch in enumerate(batches):
                writer.append(batch)
                if i % 25 == 24:
                    writer.flush()
            writer.flush()
            writer.close(seal=False)

    return best(run, times) / len(events) * 1e6


def append_columns(lines: list[tape_mix.Line], times: int) -> tuple[float, int]:
    """The same of batches that hold columns, 200 messages each; and how many events they are."""
    market = MarketDecoder(accept_any=True)
    decoder = ColumnDecoder(market, market.decode)
    batches: list[wld.Batch] = []
    number = 0
    for i in range(0, len(lines), 200):
        part = lines[i : i + 200]
        batch = wld.Batch(decoder.decode([message for _, message in part], part[-1][0]), number)
        number += len(batch)
        batches.append(batch)

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            writer = wld.TapeWriter(folder, source="benchmark", rotate_minutes=10**7)
            for i, batch in enumerate(batches):
                writer.append(batch)
                if i % 25 == 24:
                    writer.flush()
            writer.flush()
            writer.close(seal=False)

    return best(run, times) / number * 1e6, number


def sealing(events: list[wld.Event], times: int) -> tuple[float, list[float], list[float]]:
    """(seconds of CPU, lateness of another thread with nothing going on, lateness while it goes on)."""
    with tempfile.TemporaryDirectory() as folder:
        writer = wld.TapeWriter(folder, source="benchmark", rotate_minutes=10**7)
        for i in range(0, len(events), 5000):
            writer.append(wld.Batch(events[i : i + 5000], i))
            writer.flush()
        journal = Path(writer.close(seal=False).files[0])
        took = best(lambda: seal(journal).path.unlink(), times)
        idle = lateness(threading.Thread(target=time.sleep, args=(1,)))
        return took, idle, lateness(threading.Thread(target=seal, args=(journal,)))


def lateness(worker: threading.Thread) -> list[float]:
    """How late a thread that wakes each millisecond is while the worker lives, ms."""
    late: list[float] = []
    worker.start()
    while worker.is_alive():
        begun = time.perf_counter()
        time.sleep(0.001)
        late.append((time.perf_counter() - begun) * 1e3 - 1)
    return late


def make_trades(path: Path, count: int) -> None:
    """A sealed tape of one symbol's trades: prices walk, sizes are lognormal, ids are random."""
    rng = np.random.default_rng(1)
    trades = np.zeros(count, TRADE_DTYPE)
    trades["number"] = np.cumsum(rng.integers(1, 4, count))
    times = T0 + np.cumsum(rng.exponential(20, count)).astype(np.int64) * 1_000_000
    trades["event_time"] = times
    trades["sent_time"] = times + rng.integers(0, 4, count) * 1_000_000
    trades["receive_time"] = np.maximum.accumulate(trades["sent_time"] + rng.integers(1_000_000, 4_000_000, count))
    trades["price"] = (24_000 + np.cumsum(rng.integers(-1, 2, count))) * 10_000
    trades["size"] = (rng.lognormal(6, 1.5, count) * 10).astype(np.int64) * 10**7 + 10**7
    trades["is_buy"] = rng.random(count) < 0.5
    trades["tick_direction"] = rng.integers(0, 4, count)
    trades["sequence"] = trades["number"] * 13
    trades["trade_id"] = np.frombuffer(rng.bytes(16 * count), "V16")
    file = BlockFile(path, {"format": 1, "segment": "benchmark", "run": "benchmark"})
    for i in range(0, count, 262_144):
        file.put(rows.encode_tables([table.from_trades(trades[i : i + 262_144], ["WLDUSDT"])], pack=True))
    file.finish()
    file.close()


def reading(count: int, times: int) -> None:
    """Trades into numpy, and what a minute out of a day touches."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "market_data_20260921_1300.bin"
        make_trades(path, count)
        for names in (["event_time", "price", "size", "is_buy"], None):
            read = lambda names=names: wld.open_tape(path).trades(columns=names)  # noqa: E731
            cpu, wall = best(read, times), best(read, times, time.perf_counter)
            what = "all columns" if names is None else ", ".join(names)
            print(
                f"trades into numpy, {what}: {count / cpu / 1e6:.1f} million/s of CPU, {count / wall / 1e6:.1f} by the clock"
            )
        buffer = np.random.default_rng(1).integers(0, 2**60, count)
        copied = best(lambda: buffer.copy(), times)
        print(f"  (copying one int64 column of them: {count / copied / 1e6:.0f} million/s)")
        iterate = best(lambda: sum(1 for _ in wld.open_tape(path, end=T0 + 20 * count // 10 * 1_000_000)), 1)
        print(f"events by iteration: {count / 10 / iterate / 1e6:.2f} million/s of CPU")
        middle = T0 + 10 * count * 1_000_000
        tape = wld.open_tape(path, start=middle, end=middle + 60_000_000_000)
        before = _bytes_read()
        rows_of_minute = len(tape.trades())
        print(f"a minute: {rows_of_minute} trades, {_bytes_read() - before} of {path.stat().st_size} bytes read")
        assert len(find_segments(path)) == 1


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=180_000, help="of the reference mix: an hour at 50 a second")
    parser.add_argument("--trades", type=int, default=3_000_000)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    tune()  # as the engine does
    yardstick = best(lambda: sum(range(10**6)), 9)
    print(f"yardstick: {yardstick * 1e3:.1f} ms")
    lines = list(tape_mix.reference_mix(options.messages))
    events = tape_mix.decode(lines)
    gc.collect()
    gc.freeze()  # a recorder does not hold 200,000 events for the collector to walk
    levels = sum(len(e.bids) + len(e.asks) for e in events if isinstance(e, wld.BookDelta | wld.BookSnapshot))
    print(f"reference mix: {len(lines)} messages, {len(events)} events, {levels} levels")
    print(f"append, events: {append(events, options.times):.2f} us of CPU an event")
    cost, count = append_columns(lines, options.times)
    print(f"append, columns: {cost:.2f} us of CPU an event ({count} events)")
    took, idle, late = sealing(events, options.times)
    print(f"sealing them: {took:.2f} s of CPU")
    for what, figures in (("nothing else goes on", idle), ("a journal is sealed", late)):
        median, most = np.percentile(figures, [50, 99])
        print(f"a thread that wakes each ms while {what}: {median:.2f} ms late in the median, {most:.1f} at 99 %")
    reading(options.trades, options.times)


if __name__ == "__main__":
    main()
