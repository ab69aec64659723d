"""Run by an interpreter that has the readers installed: opens exports as their users do; prints JSON, or raises.

outside_readers.py parquet FOLDER | hftbacktest FILE TICK LOT
"""

from __future__ import annotations

import json
import sys
from typing import Any


def parquet(folder: str) -> Any:
    """Each dataset in one line each of DuckDB, polars and pandas."""
    import duckdb
    import pandas as pd
    import polars as pl

    found: dict[str, Any] = {}
    for name in ("trades", "depth", "liquidations", "tickers", "gaps", "instruments"):
        found[name] = [
            duckdb.sql(f"SELECT count(*) FROM '{folder}/{name}/**/*.parquet'").fetchall()[0][0],
            len(pl.read_parquet(f"{folder}/{name}/")),
            len(pd.read_parquet(f"{folder}/{name}")),
        ]
    query = f"SELECT CAST(sum(price) AS VARCHAR) FROM '{folder}/trades/**/*.parquet' WHERE symbol = 'AAAUSDT'"
    prices = pl.read_parquet(f"{folder}/trades/").filter(pl.col("symbol") == "AAAUSDT")["price"].to_list()
    frame = pd.read_parquet(f"{folder}/trades")
    found["sums"] = [
        duckdb.sql(query).fetchall()[0][0],
        str(sum(prices)),
        str(frame[frame.symbol == "AAAUSDT"].price.sum()),
    ]
    return found


def hftbacktest(path: str, tick: str, lot: str) -> Any:
    """Its own validation, then a backtest loop over the whole file; the best prices seen every 100 ms."""
    import numpy as np
    from hftbacktest import BacktestAsset, HashMapMarketDepthBacktest
    from hftbacktest.data.validation import validate_event_order
    from hftbacktest.types import event_dtype

    data = np.load(path)["data"]
    assert data.dtype == event_dtype, data.dtype
    validate_event_order(data)
    asset = BacktestAsset().data([path]).linear_asset(1.0).constant_order_latency(1_000_000, 1_000_000)
    asset = asset.risk_adverse_queue_model().no_partial_fill_exchange().trading_value_fee_model(0.0002, 0.0007)
    backtest = HashMapMarketDepthBacktest([asset.tick_size(float(tick)).lot_size(float(lot))])
    seen = []
    while backtest.elapse(100_000_000) == 0:
        depth = backtest.depth(0)
        seen.append([depth.best_bid, depth.best_ask])
    backtest.close()
    return {"rows": len(data), "seen": seen}


if __name__ == "__main__":
    print(json.dumps({"parquet": parquet, "hftbacktest": hftbacktest}[sys.argv[1]](*sys.argv[2:])))
