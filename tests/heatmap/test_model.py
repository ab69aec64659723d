"""The model: where positions would be liquidated, what opens, closes, is swept, is learned. Formulae from the venue."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wld_heatmap.config import HeatmapConfig
from wld_heatmap.history import HeatMap
from wld_heatmap.ledger import (
    LONG,
    SHORT,
    Grid,
    Ledger,
    leverage_tiers,
    make_kernel,
    rules_of,
    trigger_of_bankruptcy,
    trigger_ratio,
)

import wld

from .demo import INSTRUMENT, SECOND, SYMBOL, T0, e8

MMR = 0.01


def trade(
    at: float, price: float, size: float, side: str = "buy", *, symbol: str = SYMBOL, event_at: float | None = None,
    **about: Any,
) -> wld.Trade:  # fmt: skip
    time = T0 + int(at * SECOND)
    event_time = time if event_at is None else T0 + int(event_at * SECOND)
    return wld.Trade(
        symbol, e8(price), e8(size), wld.AggressorSide(side), "x", event_time=event_time, receive_time=time, **about
    )


def mark(at: float, price: float, interest: float | None = None) -> wld.Ticker:
    held = None if interest is None else e8(interest)
    return wld.Ticker(SYMBOL, mark_price=e8(price), single_open_interest=held, receive_time=T0 + int(at * SECOND))


def liquidation(at: float, side: str, size: float, bankruptcy: float) -> wld.Liquidation:
    time = T0 + int(at * SECOND)
    return wld.Liquidation(SYMBOL, wld.PositionSide(side), e8(size), e8(bankruptcy), time, receive_time=time)


def watch(*events: wld.Event, seconds: float = 10.0, instrument: bool = True, **config: Any) -> HeatMap:
    heatmap = HeatMap(SYMBOL, HeatmapConfig(**config))
    heatmap.apply([*([INSTRUMENT] if instrument else []), *events])
    heatmap.advance(T0 + int((seconds + 3) * SECOND))
    return heatmap


def sides(heatmap: HeatMap) -> tuple[float, float]:
    field = heatmap.model.field()
    return float(field[LONG].sum()), float(field[SHORT].sum())


# Formulae.


@pytest.mark.parametrize(("is_long", "expected"), [(True, 0.9 / 0.99), (False, 1.1 / 1.01)])
def test_trigger_at_mark_value_is_the_venues_new_formula(is_long: bool, expected: float) -> None:
    # The fact sheet's example: 10x, MMR 1 %: a long at 0.9091 of its entry.
    assert trigger_ratio(is_long, 10, MMR) == pytest.approx(expected)


@pytest.mark.parametrize(("is_long", "expected"), [(True, 0.91), (False, 1.09)])
def test_trigger_at_entry_value_is_the_older_formula(is_long: bool, expected: float) -> None:
    assert trigger_ratio(is_long, 10, MMR, "entry") == pytest.approx(expected)


def test_mm_deduction_brings_the_trigger_nearer_to_bankruptcy_as_continuity_demands() -> None:
    # Equity = mark value x MMR - deduction; at the ceiling of a tier both tiers give one trigger.
    low, high, ceiling = 0.01, 0.02, 200_000.0
    mark_value = ceiling
    deduction = mark_value * (high - low)
    entry_value = mark_value * (1 - low) / (1 - 1 / 20)
    one = trigger_ratio(True, 20, low)
    # Deduction enters as a fraction of entry value and lowers what a long must keep.
    two = (1 - 1 / 20 - deduction / entry_value) / (1 - high)
    assert one == pytest.approx(two)
    assert trigger_ratio(True, 20, high, deduction=deduction / entry_value) == pytest.approx(two)


@given(st.booleans(), st.floats(2, 100), st.floats(0.001, 0.009), st.floats(0.001, 1e5))
@settings(deadline=None, max_examples=50)
def test_bankruptcy_maps_back_to_the_trigger(is_long: bool, leverage: float, margin: float, entry: float) -> None:
    bankruptcy = entry * (1 - 1 / leverage if is_long else 1 + 1 / leverage)
    trigger = entry * trigger_ratio(is_long, leverage, margin)
    assert trigger_of_bankruptcy(is_long, bankruptcy, margin) == pytest.approx(trigger, rel=1e-9)


@given(st.integers(1, 10**16), st.floats(0.0001, 0.01))
@settings(deadline=None, max_examples=100)
def test_a_price_lies_in_its_bin(price: int, width: float) -> None:
    grid = Grid(width)
    bin_ = grid.bin_of(price)
    assert grid.price_of(bin_ - 0.5) <= price * (1 + 1e-9)
    assert price <= grid.price_of(bin_ + 0.5) * (1 + 1e-9)
    assert grid.bins_of(np.array([price]))[0] == bin_


# Rules of the venue.


def test_no_tier_above_the_instruments_maximum_leverage() -> None:
    leverages, weights = leverage_tiers(HeatmapConfig(), 50.0)
    assert leverages.max() == 50.0
    assert weights.sum() == pytest.approx(1.0)
    leverages, weights = leverage_tiers(HeatmapConfig(), 12.5)
    # Who would want more takes the most there is.
    assert leverages.tolist() == [3.0, 5.0, 8.0, 10.0, 12.5]
    assert weights[-1] > weights[0]
    assert leverage_tiers(HeatmapConfig(), 2.0)[0].tolist() == [2.0]


def test_margin_tiers_come_from_the_instrument_and_the_fallback_says_so() -> None:
    rules = rules_of(INSTRUMENT, HeatmapConfig())
    assert (rules.maintenance_margin, rules.max_leverage, rules.is_assumed) == (0.01, 50.0, False)
    assumed = rules_of(None, HeatmapConfig())
    assert (assumed.maintenance_margin, assumed.max_leverage, assumed.is_assumed) == (0.01, 50.0, True)
    only_leverage = rules_of(wld.Instrument(SYMBOL, max_leverage=100 * wld.SCALE), HeatmapConfig())
    assert only_leverage.max_leverage == 100.0
    assert only_leverage.maintenance_margin == 0.005


def test_a_position_of_a_higher_tier_has_its_tiers_margin_and_leverage() -> None:
    tiers = (
        wld.MarginTier(e8(10_000), e8(0.01), e8(0.02), e8(50)),
        wld.MarginTier(e8(1_000_000), e8(0.05), e8(0.1), e8(10), e8(400)),
    )
    instrument = wld.Instrument(SYMBOL, max_leverage=e8(50), margin_tiers=tiers, receive_time=T0)
    small = watch(instrument, mark(0, 1.0), trade(1, 1.0, 5_000), instrument=False)
    large = watch(instrument, mark(0, 1.0), trade(1, 1.0, 500_000), instrument=False)
    # At 10x at most and 5 % of maintenance margin the large one stands 5 % away, give or take.
    assert small.within(0.03)[0] / sides(small)[0] > 0.1
    assert large.within(0.03)[0] / sides(large)[0] < 0.06


def test_a_kernel_spreads_exactly_one_unit_on_the_sides_own_side() -> None:
    config, rules = HeatmapConfig(), rules_of(INSTRUMENT, HeatmapConfig())
    leverages, _ = leverage_tiers(config, 50.0)
    for is_long in (True, False):
        kernel = make_kernel(config, 0.0005, is_long, tuple(leverages.tolist()), rules)
        total = kernel.spread.sum(axis=1)
        assert (total <= 1 + 1e-9).all()
        assert (total[leverages >= 5] > 0.95).all()
        last = kernel.first + kernel.spread.shape[1] - 1
        assert (last <= 0) if is_long else (kernel.first >= 0)


# What opens.


def test_taker_buys_alone_put_heat_below_the_mark_only() -> None:
    heatmap = watch(mark(0, 1.0), *(trade(i, 1.0, 1_000, "buy") for i in range(8)))
    longs, shorts = sides(heatmap)
    assert longs > 0
    assert shorts == 0
    column = heatmap.columns[-1]
    assert column.mark_bin is not None
    assert column.raw[column.mark_bin - column.low_bin :].sum() == 0


def test_taker_sells_alone_put_heat_above_the_mark_only() -> None:
    heatmap = watch(mark(0, 1.0), *(trade(i, 1.0, 1_000, "sell") for i in range(8)))
    longs, shorts = sides(heatmap)
    assert longs == 0
    assert shorts > 0
    column = heatmap.columns[-1]
    assert column.mark_bin is not None
    assert column.raw[: column.mark_bin - column.low_bin + 1].sum() == 0


def test_without_a_mark_price_the_last_trade_stands_in_and_is_said() -> None:
    heatmap = watch(*(trade(i, 1.0, 1_000, "buy") for i in range(8)))
    assert sides(heatmap)[0] > 0
    assert sides(heatmap)[1] == 0
    assert any("last trade stands in" in note for note in heatmap.health.notes)


def test_block_trades_and_other_symbols_open_nothing() -> None:
    heatmap = watch(mark(0, 1.0), trade(1, 1.0, 1_000, is_block_trade=True), trade(2, 1.0, 1_000, symbol="BTCUSDT"))
    assert sides(heatmap) == (0.0, 0.0)


def test_half_of_the_volume_opens_while_w_is_unknown() -> None:
    heatmap = watch(mark(0, 1.0), trade(1, 1.0, 1_000))
    assert heatmap.model.ledger is not None
    assert heatmap.model.ledger.total(LONG, heatmap.model.weights) == pytest.approx(500, rel=0.05)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 1000)), min_size=1, max_size=60),
)
@settings(deadline=None, max_examples=100)
def test_opens_are_volume_plus_change_of_open_interest(fills: list[tuple[bool, bool, int]]) -> None:
    """The identity: each contract has a buyer (opens long or closes short) and a seller (opens short or closes long)."""
    opens = volume = longs = 0
    for buyer_opens, seller_opens, size in fills:
        volume += size
        opens += size * (buyer_opens + seller_opens)
        longs += size * buyer_opens - size * (not seller_opens)
    assert opens == volume + longs


def test_w_is_measured_from_one_sides_open_interest() -> None:
    # 1,000 traded, open interest of one side up by 600: opens = 1,600 of 2,000.
    events = [mark(0, 1.0, 10_000), trade(2, 1.0, 1_000), *(mark(i, 1.0, 10_600) for i in range(3, 30))]
    heatmap = watch(*events, seconds=30, open_fraction=True, open_interest_window=10.0)
    assert heatmap.model.w == pytest.approx(0.8)
    assert heatmap.model.ledger is not None
    assert heatmap.model.ledger.total(LONG, heatmap.model.weights) == pytest.approx(800, rel=0.05)


def test_open_interest_of_both_sides_is_halved() -> None:
    ticker = wld.Ticker(SYMBOL, mark_price=e8(1.0), open_interest=e8(5_000), receive_time=T0)
    assert watch(ticker).model.open_interest == 2_500.0
    both = wld.Ticker(
        SYMBOL, mark_price=e8(1.0), open_interest=e8(5_000), single_open_interest=e8(2_400), receive_time=T0
    )
    assert watch(both).model.open_interest == 2_400.0


def test_no_side_holds_more_than_the_open_interest_of_one_side() -> None:
    heatmap = watch(mark(0, 1.0, 300), *(trade(i, 1.0, 1_000) for i in range(1, 6)))
    assert heatmap.model.coverage() is not None
    assert heatmap.model.coverage()[0] == pytest.approx(1.0, abs=0.01)  # type: ignore[index]


def test_sells_close_longs_in_proportion() -> None:
    opened = watch(mark(0, 1.0, 10_000), trade(1, 1.0, 2_000), seconds=12)
    closed = watch(mark(0, 1.0, 10_000), trade(1, 1.0, 2_000), trade(4, 1.0, 2_000, "sell"), seconds=12)
    # close_share x (1 - w) x 2,000 of 10,000 held.
    assert sides(closed)[0] / sides(opened)[0] == pytest.approx(1 - 0.5 * 0.5 * 0.2, rel=1e-6)


def test_the_trade_of_a_liquidation_opens_nothing() -> None:
    quiet = watch(mark(0, 1.0), seconds=8)
    assert quiet.model.ledger is not None
    forced = watch(
        mark(0, 1.0), trade(2, 1.0, 700, "sell"), liquidation(2.4, "long", 700, 0.99), mark(3, 1.0), seconds=8
    )
    assert sides(forced) == (0.0, 0.0)
    late = watch(mark(0, 1.0), trade(2, 1.0, 700, "sell"), liquidation(3.2, "long", 700, 0.99), mark(4, 1.0), seconds=8)
    assert sides(late) == (0.0, 0.0)


def test_ledgers_fade_the_sooner_the_higher_the_leverage() -> None:
    events = [mark(0, 1.0), trade(1, 1.0, 1_000)]
    soon, later = watch(*events), watch(*events, seconds=4 * 3600 + 60)
    before = soon.model.ledger.mass[LONG].sum(axis=1)  # type: ignore[union-attr]
    after = later.model.ledger.mass[LONG].sum(axis=1)  # type: ignore[union-attr]
    left = dict(zip(soon.model.leverages.tolist(), after / before, strict=True))
    assert left[50.0] == pytest.approx(0.5, abs=0.01)
    assert left[5.0] == pytest.approx(2 ** (-4 / 48), abs=0.01)


# What the mark price consumes.


def test_a_sweep_clears_exactly_what_the_mark_price_reached() -> None:
    heatmap = watch(
        mark(0, 1.0), trade(1, 1.0, 10_000), trade(1, 1.0, 10_000, "sell"), mark(5, 0.96), mark(6, 1.0), mark(7, 1.01)
    )
    untouched = watch(mark(0, 1.0), trade(1, 1.0, 10_000), trade(1, 1.0, 10_000, "sell"))
    swept, whole = heatmap.model.field(), untouched.model.field()
    base = heatmap.model.ledger.base  # type: ignore[union-attr]
    low, high = heatmap.bin_of(e8(0.96)) - base, heatmap.bin_of(e8(1.01)) - base
    assert whole[LONG, low:].sum() > 0
    assert swept[LONG, low:].sum() == 0
    np.testing.assert_array_equal(swept[LONG, :low], whole[LONG, :low])
    assert swept[SHORT, : high + 1].sum() == 0
    np.testing.assert_array_equal(swept[SHORT, high + 1 :], whole[SHORT, high + 1 :])


def test_the_mark_price_sweeps_not_the_last_trade() -> None:
    heatmap = watch(mark(0, 1.0), trade(1, 1.0, 10_000), mark(5, 1.0), trade(5, 0.9, 1))
    assert heatmap.within(0.05)[0] > 0


def test_the_extremes_between_two_seconds_count() -> None:
    heatmap = watch(mark(0, 1.0), trade(1, 1.0, 10_000), mark(5.1, 1.0), mark(5.2, 0.95), mark(5.3, 1.0))
    assert heatmap.within(0.045)[0] == 0


def test_after_a_hole_the_whole_way_is_swept_and_the_column_says_so() -> None:
    gap = wld.Gap(
        1, wld.GapReason.DISCONNECT, first_time=T0 + 4 * SECOND, last_time=T0 + 60 * SECOND,
        receive_time=T0 + 60 * SECOND,
    )  # fmt: skip
    heatmap = watch(mark(0, 1.0), trade(1, 1.0, 10_000), gap, mark(60, 0.95), seconds=80)
    assert heatmap.model.field()[LONG].sum() > 0
    low = heatmap.bin_of(e8(0.95)) - heatmap.model.ledger.base  # type: ignore[union-attr]
    assert heatmap.model.field()[LONG, low:].sum() == 0
    assert any(column.has_gap for column in heatmap.columns)


def test_backfilled_trades_count_from_their_own_minute() -> None:
    """Entries of the hole whose trigger the mark price crossed since are gone; the others are there."""
    late = trade(200, 1.0, 10_000, event_at=30, is_backfilled=True)
    fresh = trade(200, 1.0, 10_000)
    crossed = [mark(0, 1.0), mark(100, 0.96), mark(150, 1.0), mark(199, 1.0)]
    backfilled, live = watch(*crossed, late, seconds=220), watch(*crossed, fresh, seconds=220)
    assert backfilled.within(0.039)[0] == 0
    assert live.within(0.039)[0] > 0
    assert backfilled.within(0.2)[0] > 0


# Real liquidations.


def test_bankruptcy_is_mapped_to_the_trigger_before_anything_else() -> None:
    heatmap = watch(mark(0, 1.0), mark(3, 0.98), liquidation(3.3, "long", 10, 0.98 * 0.99))
    assert heatmap.liquidations[0].trigger_price == e8(0.98)


def test_a_liquidation_takes_nothing_off_bins_that_the_mark_price_has_not_reached() -> None:
    before = watch(mark(0, 1.0), trade(1, 1.0, 10_000), mark(5, 0.985))
    after = watch(mark(0, 1.0), trade(1, 1.0, 10_000), mark(5, 0.985), liquidation(5.5, "long", 1e6, 0.985 * 0.99))
    np.testing.assert_array_equal(before.model.field(), after.model.field())


def test_the_boost_is_bounded_short_one_sided_and_apart_from_raw_heat() -> None:
    events = [
        mark(0, 1.0), trade(1, 1.0, 10_000), trade(1, 1.0, 10_000, "sell"), mark(5, 0.985),
        liquidation(5.5, "long", 50, 0.985 * 0.99),
    ]  # fmt: skip
    heatmap = watch(*events, seconds=8)
    factor = heatmap.model.boost()
    assert factor is not None
    assert factor.min() >= 1.0
    assert 1.5 < factor.max() <= 3.0
    assert factor[SHORT].max() == 1.0
    lifted = np.flatnonzero(factor[LONG] > 1.0)
    base = heatmap.model.ledger.base  # type: ignore[union-attr]
    at = heatmap.bin_of(e8(0.985)) - base
    reach = math.ceil(0.005 / heatmap.bin_width)
    assert at - reach - 1 <= lifted.min()
    assert lifted.max() <= at + 1
    column = heatmap.open_column(heatmap.model.now)
    assert column is not None
    assert column.boosted.sum() > column.raw.sum()
    assert watch(*events, seconds=8, boost=False).model.boost() is None
    half = watch(*events, seconds=6 + 90)
    assert half.model.boost().max() - 1 == pytest.approx((factor.max() - 1) / 2, rel=0.05)  # type: ignore[union-attr]
    assert watch(*events, seconds=1200).model.boost() is None
    np.testing.assert_array_equal(heatmap.model.field(), watch(*events, seconds=8, boost=False).model.field())


def test_learning_recovers_a_planted_leverage() -> None:
    """Everybody trades at 20x; the weights start out flat."""
    flat = {"tier_leverages": (5.0, 10.0, 20.0, 50.0), "tier_weights": (1.0, 1.0, 1.0, 1.0)}
    heatmap = HeatMap(SYMBOL, HeatmapConfig(learn=True, **flat), keep_columns=False)  # type: ignore[arg-type]
    heatmap.apply([INSTRUMENT])
    price, at = 1.0, 0.0
    luck = np.random.default_rng(3)
    book: list[tuple[float, float]] = []
    for _ in range(6 * 3600 // 20):
        price *= math.exp(luck.normal(0, 0.004))
        at += 20
        heatmap.apply([trade(at, price, 1_000), mark(at + 0.5, price, 1e6)])
        book.append((price * trigger_ratio(True, 20, MMR), price * (1 - 1 / 20)))
        for due in [entry for entry in book if entry[0] >= price]:
            book.remove(due)
            heatmap.apply([liquidation(at + 0.6, "long", 1_000, due[1])])
    weights = dict(zip(heatmap.model.leverages.tolist(), heatmap.model.weights.tolist(), strict=True))
    assert max(weights, key=weights.__getitem__) == 20.0
    assert weights[20.0] > 0.4


# However the stream is cut.


@given(st.lists(st.integers(1, 400), min_size=1, max_size=8), st.integers(0, 3))
@settings(deadline=None, max_examples=10)
def test_the_ledger_does_not_depend_on_how_the_stream_is_cut(cuts: list[int], seed: int) -> None:
    from .demo import market

    events = list(market(4, seed))
    whole, pieces = HeatMap(SYMBOL), HeatMap(SYMBOL)
    whole.apply(events)
    left = iter(events)
    for size in itertools.cycle(cuts):
        part = list(itertools.islice(left, size))
        if not part:
            break
        pieces.apply(wld.Batch(part))
        pieces.advance(part[-1].receive_time)
    for heatmap in (whole, pieces):
        heatmap.finish()
    np.testing.assert_array_equal(whole.model.ledger.mass, pieces.model.ledger.mass)  # type: ignore[union-attr]
    assert list(whole.liquidations) == list(pieces.liquidations)


def test_a_grid_of_a_coarse_tick_is_at_least_a_tick_wide() -> None:
    coarse = wld.Instrument(SYMBOL, tick_size=e8(0.01), max_leverage=e8(50), receive_time=T0)
    heatmap = watch(coarse, mark(0, 1.0), instrument=False)
    assert heatmap.bin_width == pytest.approx(0.01)


def test_a_ledger_follows_the_price_and_forgets_what_is_out_of_reach() -> None:
    ledger = Ledger(1, 100, 0)
    ledger.mass[:] = 1.0
    assert ledger.centre_on(5) == 0
    moved = ledger.centre_on(30)
    assert moved == 30
    assert ledger.base == -20
    assert ledger.mass[0, 0, :70].sum() == 70
    assert ledger.mass[0, 0, 70:].sum() == 0
    ledger.centre_on(10_000)
    assert ledger.mass.sum() == 0
