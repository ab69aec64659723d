"""A small made-up market for tests of the heatmap and of whoever draws it: deterministic, no network, no files."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from math import exp
from typing import Any

from wld_heatmap.config import HeatmapConfig
from wld_heatmap.history import HeatMap

import wld

SECOND = 1_000_000_000
T0 = 1_700_000_000_000_000_000 // (3600 * SECOND) * 3600 * SECOND
SYMBOL = "WLDUSDT"
MARGIN = 0.01
INSTRUMENT = wld.Instrument(
    SYMBOL, tick_size=10_000, lot_size=10_000_000, max_leverage=50 * wld.SCALE,
    margin_tiers=(wld.MarginTier(10**15, wld.SCALE // 100, wld.SCALE // 50, 50 * wld.SCALE),), receive_time=T0,
)  # fmt: skip


def market(
    minutes: float, seed: int = 7, volatility: float = 0.0006, gap_at: float | None = None
) -> Iterator[wld.Event]:
    """Trades, tickers (mark price, open interest) and liquidations of positions really opened, second by second.

    At minute `gap_at` the feed is lost for 90 s.
    """
    luck = random.Random(seed)
    yield INSTRUMENT
    price, interest = 1.0, 3_000_000.0
    longs: list[tuple[float, int, float, float]] = []
    shorts: list[tuple[float, int, float, float]] = []
    number = 0
    for second in range(int(minutes * 60)):
        now = T0 + second * SECOND
        price *= exp(luck.gauss(0.0, volatility) - 0.002 * (price - 1.0) * volatility)
        if gap_at is not None and gap_at * 60 <= second < gap_at * 60 + 90:
            if second == int(gap_at * 60) + 89:
                first = now - 90 * SECOND
                yield wld.Gap(1, wld.GapReason.DISCONNECT, first_time=first, last_time=now, receive_time=now)
            continue
        for _ in range(luck.randrange(4)):
            number += 1
            is_buy = luck.random() < 0.5
            sign = 1 if is_buy else -1
            size = round(luck.lognormvariate(6.5, 1.0), 1)
            if luck.random() < 0.55:
                leverage = luck.choice((5, 10, 10, 20, 25, 25, 50, 50))
                trigger = price * (1 - sign / leverage) / (1 - sign * MARGIN)
                bankruptcy = price * (1 - sign / leverage)
                heapq.heappush(longs if is_buy else shorts, (-sign * trigger, number, size, bankruptcy))
                interest += size
            side = wld.AggressorSide.BUY if is_buy else wld.AggressorSide.SELL
            yield wld.Trade(SYMBOL, e8(price), e8(size), side, str(number), event_time=now, receive_time=now)
        yield wld.Ticker(
            SYMBOL, last_price=e8(price), mark_price=e8(price), single_open_interest=e8(interest),
            open_interest=2 * e8(interest), event_time=now, receive_time=now + SECOND // 2,
        )  # fmt: skip
        for heap, position in ((longs, wld.PositionSide.LONG), (shorts, wld.PositionSide.SHORT)):
            while heap and (price <= -heap[0][0] if heap is longs else price >= heap[0][0]):
                _, which, size, bankruptcy = heapq.heappop(heap)
                interest -= size
                at = now + SECOND // 2 + which % 1000
                yield wld.Liquidation(SYMBOL, position, e8(size), e8(bankruptcy), event_time=at, receive_time=at)


def e8(value: float) -> int:
    """To 1e-8 units."""
    return round(value * wld.SCALE)


def demo_map(
    minutes: float = 120.0, seed: int = 7, config: HeatmapConfig | None = None, warm_up: int = 600 * SECOND,
    **options: Any,
) -> HeatMap:  # fmt: skip
    """A HeatMap that watched the made-up market for some minutes (120 take two or three seconds)."""
    heatmap = HeatMap(SYMBOL, config, warm_up=warm_up)
    heatmap.apply(market(minutes, seed, **options))
    heatmap.advance(T0 + int(minutes * 60 + 10) * SECOND)
    heatmap.refresh()
    return heatmap
