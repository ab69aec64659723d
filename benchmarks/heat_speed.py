"""What the heat model costs, in CPU time of one process: python benchmarks/heat_speed.py

A made-up stream of 200 trades, 10 tickers and a liquidation now and then each second, as batches of events and as the
columns of one read. Budgets: 2 ms a second of data, 3 ms a column, 30 MB for a ledger and a day of columns.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from math import exp

import numpy as np
from wld_heatmap.history import HeatMap
from wld_heatmap.judgement import judge
from wld_heatmap.memory import pack_state

import wld
from wld.tables import TICKER_NUMBERS, Tables

SECOND = 1_000_000_000
T0 = 1_699_999_200 * SECOND
SYMBOL = "WLDUSDT"
SECONDS = 1_200
READS = 50
"""Socket reads a second."""


def read(luck: np.random.Generator, second: int, part: int, price: float) -> Tables:
    """One read's columns: 4 trades, every fifth a ticker."""
    count = 4
    at = T0 + second * SECOND + part * (SECOND // READS)
    prices = np.rint(price * np.exp(luck.normal(0, 0.0002, count)) * 1e4).astype(np.int64) * 10_000
    zeros = np.full(count, wld.ABSENT)
    trades = {
        "number": np.arange(count), "symbol": np.zeros(count, np.int64), "price": prices,
        "size": luck.integers(1, 10**12, count), "event_time": np.full(count, at), "sent_time": zeros,
        "sequence": zeros, "flags": luck.integers(0, 2, count), "trade_id": [""] * count,
    }  # fmt: skip
    tickers = None
    if part % 5 == 0:
        values = np.full((1, len(TICKER_NUMBERS)), wld.ABSENT)
        values[0, TICKER_NUMBERS.index("mark_price")] = round(price * 1e8)
        values[0, TICKER_NUMBERS.index("single_open_interest")] = 10**16
        one = np.zeros(1, np.int64)
        tickers = {"number": one + count, "symbol": one, "tick_direction": one, "values": values}
    return Tables(count + (tickers is not None), (SYMBOL,), at, trades=trades, tickers=tickers)


def stream() -> list[wld.Batch]:
    """All reads."""
    luck = np.random.default_rng(1)
    price, batches = 1.0, []
    for second in range(SECONDS):
        price *= exp(float(luck.normal(0, 0.0006)))
        batches += [wld.Batch(read(luck, second, part, price)) for part in range(READS)]
        if second % 20 == 0:
            at = T0 + second * SECOND + SECOND - 1
            is_long = bool(luck.integers(0, 2))
            side = wld.PositionSide.LONG if is_long else wld.PositionSide.SHORT
            bankruptcy = round(price * (0.99 if is_long else 1.01) * 1e8)
            batches.append(wld.Batch([wld.Liquidation(SYMBOL, side, 10**11, bankruptcy, at, receive_time=at)]))
    return batches


def timed(work: Callable[[], object]) -> float:
    """CPU seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def feed(batches: list[wld.Batch], **options: bool) -> HeatMap:
    """Through one HeatMap."""
    heatmap = HeatMap(SYMBOL, **options)
    for batch in batches:
        heatmap.apply(batch)
    heatmap.finish()
    return heatmap


def main() -> None:
    """Print the table."""
    columns = stream()
    rows = [wld.Batch(list(batch)) for batch in columns]
    trades = sum(len(batch) for batch in columns)
    print(
        f"{SECONDS} s of data, {trades:,} trades and tickers, Python {sys.version.split()[0]}, numpy {np.__version__}"
    )
    for name, batches in (("columns", columns), ("events", rows)):
        cpu = timed(lambda batches=batches: feed(batches))  # type: ignore[misc]
        print(f"{name:<44} {1000 * cpu / SECONDS:6.2f} ms a second of data (model, score, columns)")
    heatmap = feed(columns)
    now = heatmap.model.now
    cost = timed(lambda: [heatmap.open_column(now) for _ in range(200)]) / 200
    print(f"{'one column (tiers, boost, 16-bit logarithms)':<44} {1000 * cost:6.2f} ms")
    column = heatmap.columns[-1]
    print(f"{'decoding a column':<44} {1000 * timed(lambda: [column.heat() for _ in range(1000)]) / 1000:6.3f} ms")
    print(f"{'three zones a side':<44} {1000 * timed(lambda: [heatmap.zones(3) for _ in range(200)]) / 200:6.2f} ms")
    from wld_heatmap.radar import Radar

    radar = Radar()
    radar.maps[SYMBOL] = heatmap
    packed = pack_state(radar)
    print(
        f"{'packing the state (on the loop)':<44} {1000 * timed(lambda: pack_state(radar)):6.2f} ms, {len(packed):,} bytes"
    )
    sample = heatmap.sample()
    print(
        f"{'judging what was scored (in a thread)':<44} {1000 * timed(lambda: judge(sample, resamples=200, permutations=50)):6.2f} ms"
    )
    held = sum(
        c.codes.nbytes + c.codes_high.nbytes + (c.codes_boosted.nbytes if c.codes_boosted is not None else 0)
        for c in heatmap.columns
    )
    each = held / len(heatmap.columns)
    full = heatmap.columns.maxlen + heatmap.minute_columns.maxlen  # type: ignore[attr-defined]
    ledger = heatmap.model.ledger
    assert ledger is not None
    print(
        f"{'a column':<44} {each / 1000:6.1f} kB; {full:,} kept: {full * each / 1e6:.1f} MB; ledger {ledger.mass.nbytes / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
