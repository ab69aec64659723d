"""What the radar shows: columns, zones, liquidations with their verdict."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from wld_heatmap.config import HeatmapConfig
from wld_heatmap.history import HeatMap
from wld_heatmap.radar import Radar

import wld
from tests.columns import as_read
from wld import PositionSide

from .demo import SECOND, SYMBOL, T0, demo_map, market


@pytest.fixture(scope="module")
def watched() -> HeatMap:
    return demo_map(30.0, gap_at=15.0)


def test_columns_are_back_to_back_and_ten_seconds_wide(watched: HeatMap) -> None:
    columns = list(watched.columns)
    assert len(columns) > 150
    for before, after in itertools.pairwise(columns):
        assert before.end == after.start
    narrow = [c for c in columns if c.end - c.start == 10 * SECOND]
    assert len(narrow) > 0.9 * len(columns)
    assert any(column.has_gap for column in columns)


def test_longs_stand_below_the_mark_price_and_shorts_above(watched: HeatMap) -> None:
    column = watched.columns[-1]
    assert column.mark_bin is not None
    assert watched.bin_of(column.mark_close or 0) == column.mark_bin
    at = column.mark_bin - column.low_bin
    longs, shorts = column.heat(side=PositionSide.LONG), column.heat(side=PositionSide.SHORT)
    assert longs[:at].sum() > 0
    assert longs[at:].sum() == 0
    assert shorts[at + 1 :].sum() > 0
    assert shorts[: at + 1].sum() == 0
    np.testing.assert_allclose(longs + shorts, column.boosted, rtol=1e-3, atol=1)


def test_tier_filters_add_up_to_all(watched: HeatMap) -> None:
    column = watched.columns[-1]
    both = column.heat(tiers="high", boosted=False) + column.heat(tiers="low", boosted=False)
    np.testing.assert_allclose(both, column.raw, rtol=1e-3, atol=1)


def test_heat_is_stored_to_a_twentieth_of_a_percent(watched: HeatMap) -> None:
    column = watched.open_column(watched.model.now)
    assert column is not None
    exact = watched.model.field().sum(axis=0)
    at = column.low_bin - watched.model.ledger.base  # type: ignore[union-attr]
    np.testing.assert_allclose(column.raw, exact[at : at + len(column.raw)], rtol=1e-3, atol=1e-3)


def test_zones_name_side_distance_and_leverage(watched: HeatMap) -> None:
    zones = watched.zones(3)
    assert {zone.side for zone in zones} == {PositionSide.LONG, PositionSide.SHORT}
    for zone in zones:
        assert (zone.distance < 0) == (zone.side is PositionSide.LONG)
        assert zone.low <= zone.price <= zone.high
        assert zone.notional > 0
        assert "x" in zone.tiers


def test_a_cold_start_says_what_it_does_not_know() -> None:
    heatmap = HeatMap(SYMBOL)
    assert not heatmap.is_ready
    assert heatmap.health.verdict == "unproven"
    assert heatmap.health.notes == ("no data yet",)
    assert "assumed" in heatmap.health.margin
    assert any("cold start" in note for note in demo_map(3.0).health.notes)


@pytest.mark.parametrize("few", [0, 200])
def test_a_batch_of_columns_gives_the_same_heat_as_its_events(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wld.reads.FEW", few)
    rows, columns = Radar(), Radar()
    for _, group in itertools.groupby(market(6, gap_at=3.0), key=lambda e: e.receive_time // SECOND):
        second = list(group)
        last = second[-1].receive_time
        other = [msgspec.structs.replace(e, symbol="BTCUSDT") for e in second if isinstance(e, wld.Trade | wld.Ticker)]
        second = [msgspec.structs.replace(e, receive_time=last) for e in [*second, *other]]
        rows.apply(second)
        columns.apply(as_read(second, (SYMBOL, "BTCUSDT")))
    assert set(rows.maps) == set(columns.maps) == {SYMBOL, "BTCUSDT"}
    for symbol, one in rows.maps.items():
        two = columns.maps[symbol]
        one.finish()
        two.finish()
        np.testing.assert_array_equal(one.model.ledger.mass, two.model.ledger.mass)  # type: ignore[union-attr]
        assert list(one.liquidations) == list(two.liquidations)
        assert one.model.mark == two.model.mark
        assert [c.mark_high for c in one.columns] == [c.mark_high for c in two.columns]
        assert [c.has_gap for c in one.columns] == [c.has_gap for c in two.columns]


def test_block_trades_and_backfill_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wld.reads.FEW", 0)
    events = [e for e in market(1) if not isinstance(e, wld.Instrument)]
    last = events[-1].receive_time
    flagged = [
        msgspec.structs.replace(
            e, receive_time=last, is_block_trade=i % 2 == 0, is_backfilled=i % 3 == 0
        ) if isinstance(e, wld.Trade) else msgspec.structs.replace(e, receive_time=last)
        for i, e in enumerate(events)
    ]  # fmt: skip
    both = Radar(), Radar()
    both[0].apply(flagged)
    both[1].apply(as_read(flagged, (SYMBOL,)))
    steps = [radar.maps[SYMBOL].model.step for radar in both]
    assert steps[0] is not None
    assert steps[1] is not None
    assert steps[0].late
    assert steps[0] == steps[1]


def test_a_symbol_switch_is_a_ledger_each() -> None:
    radar = Radar(symbols=["WLDUSDT", "BTCUSDT"])
    radar.apply(
        [*market(2), *(msgspec.structs.replace(e, symbol="XRPUSDT") for e in market(2) if hasattr(e, "symbol"))]
    )
    assert set(radar.maps) == {"WLDUSDT", "BTCUSDT"}
    assert not radar.maps["BTCUSDT"].is_ready


def test_a_silent_feed_is_drawn_as_a_hole() -> None:
    heatmap = HeatMap(SYMBOL)
    heatmap.apply(market(2))
    heatmap.advance(T0 + 5 * 60 * SECOND)
    silent = [c for c in heatmap.columns if c.start >= T0 + 130 * SECOND]
    assert len(silent) >= 15
    assert all(c.has_gap and c.mark_close is None for c in silent)
    assert not any(c.has_gap for c in heatmap.columns if c.end <= T0 + 120 * SECOND)


def test_minutes_outlive_the_fine_columns() -> None:
    heatmap = HeatMap(SYMBOL, HeatmapConfig(fine_hours=0.05, history_hours=0.2))
    heatmap.apply(market(20))
    assert len(heatmap.columns) == 18
    assert len(heatmap.minute_columns) == 12
    assert {c.end - c.start for c in heatmap.minute_columns} == {60 * SECOND}


def test_many_symbols_share_the_memory_of_a_few() -> None:
    radar = Radar(symbols=[f"C{i}USDT" for i in range(100)])
    lengths = {(m.columns.maxlen, m.minute_columns.maxlen) for m in radar.maps.values()}  # type: ignore[attr-defined]
    assert lengths == {(180, 135)}
    few = Radar(symbols=["AUSDT", "BUSDT"])
    assert few.maps["AUSDT"].columns.maxlen == 1080  # type: ignore[attr-defined]


def test_a_liquidation_is_scored_drawn_learned_from_and_then_boosts(monkeypatch: pytest.MonkeyPatch) -> None:
    heatmap = HeatMap(SYMBOL, warm_up=0)
    order: list[str] = []
    scored, learned, lifted = heatmap.scorer.step, heatmap.model.learn_from, heatmap.model._lift

    def note(name: str, real: Any) -> Any:
        def call(*given: Any) -> Any:
            if name == "boosted" or (given[1] if name == "scored" else given[0]):
                drawn = len(heatmap.liquidations)
                order.append(f"{name} with {drawn} drawn, boost {heatmap.model.boost() is not None}")
            return real(*given)

        return call

    monkeypatch.setattr(heatmap.scorer, "step", note("scored", scored))
    monkeypatch.setattr(heatmap.model, "learn_from", note("learned", learned))
    monkeypatch.setattr(heatmap.model, "_lift", note("boosted", lifted))
    for event in market(30):
        heatmap.apply([event])
        if order:
            break
    assert order == [
        "scored with 0 drawn, boost False", "learned with 1 drawn, boost False", "boosted with 1 drawn, boost False",
    ]  # fmt: skip


def test_a_tick_as_coarse_as_the_price_is_survived() -> None:
    heatmap = HeatMap(SYMBOL)
    coarse = wld.Instrument(SYMBOL, tick_size=1, max_leverage=50 * wld.SCALE, receive_time=T0)
    prices = (2, 3, 1, 2, 5, 4)
    events = [
        wld.Trade(SYMBOL, p, wld.SCALE, wld.AggressorSide.BUY, "x", event_time=T0, receive_time=T0 + i * SECOND)
        for i, p in enumerate(prices)
    ]
    marks = [wld.Ticker(SYMBOL, mark_price=p, receive_time=T0 + i * SECOND) for i, p in enumerate(prices)]
    heatmap.apply([coarse, *sorted([*events, *marks], key=lambda e: e.receive_time)])
    heatmap.finish()
    assert heatmap.is_ready
    assert np.isfinite(heatmap.model.field()).all()


_A_DAY = """
import gc, itertools, os, sys
sys.path.insert(0, sys.argv[1])
from tests.columns import as_read
from tests.heatmap.demo import SECOND, SYMBOL, T0, market
from wld_heatmap import HeatMap

def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

heatmap, before = HeatMap(SYMBOL), resident()
for hour, group in itertools.groupby(market(26 * 60), key=lambda e: (e.receive_time - T0) // (3600 * SECOND)):
    heatmap.apply(group)
    if hour in (4, 25):
        print(resident() - before)
print(len(heatmap.columns), len(heatmap.minute_columns))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_a_day_of_market_at_speed_stays_within_bounds() -> None:
    """26 hours of a market that trades and liquidates all the time, in a process of its own."""
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", _A_DAY, str(root)], capture_output=True, text=True, check=True)
    early, late, fine, minutes = map(int, run.stdout.split())
    assert (fine, minutes) == (3 * 360, 24 * 60)
    # The budget: 30 MB for ledger and columns; beside it the score, and the interpreter's own slack.
    assert late < 48e6, (early, late)
