"""What the radar shows: columns, zones, liquidations with their verdict."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from wld_heatmap.history import HeatMap

from wld import PositionSide

from .demo import SECOND, SYMBOL, demo_map


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
