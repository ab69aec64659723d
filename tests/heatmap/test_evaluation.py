"""The score: prequential, without look-ahead, the same live and on replay, and hard to please."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from wld_heatmap.baselines import BASELINES
from wld_heatmap.column import Column
from wld_heatmap.config import HeatmapConfig
from wld_heatmap.evaluation import SERIES, Sample
from wld_heatmap.history import HeatMap
from wld_heatmap.judgement import _auc, _deviance_explained, _Ranking, judge
from wld_heatmap.step import HOUR_NS

import wld

from .demo import SECOND, SYMBOL, T0, demo_map, market

SOON = 300 * SECOND
"""A warm-up that a test can wait for."""


def column_bytes(column: Column) -> bytes:
    boosted = b"" if column.codes_boosted is None else column.codes_boosted.tobytes()
    return repr(
        (
            column.start,
            column.end,
            column.low_bin,
            column.mark_open,
            column.mark_high,
            column.mark_low,
            column.mark_close,
        )
    ).encode() + b"".join((column.codes.tobytes(), column.codes_high.tobytes(), boosted))


def test_shuffling_the_future_leaves_past_columns_byte_identical() -> None:
    events = list(market(24))
    cut = T0 + 16 * 60 * SECOND
    past = [e for e in events if e.receive_time < cut]
    future = [e for e in events if e.receive_time >= cut]
    times = [e.receive_time for e in future]
    random.Random(1).shuffle(future)
    shuffled = [msgspec.structs.replace(e, receive_time=t) for e, t in zip(future, times, strict=True)]
    one, two = HeatMap(SYMBOL, warm_up=SOON), HeatMap(SYMBOL, warm_up=SOON)
    one.apply(past + [e for e in events if e.receive_time >= cut])
    two.apply(past + shuffled)
    before = [c for c in one.columns if c.end <= cut]
    after = [c for c in two.columns if c.end <= cut]
    assert len(before) == 96
    assert [column_bytes(c) for c in before] == [column_bytes(c) for c in after]
    assert [column_bytes(c) for c in one.columns] != [column_bytes(c) for c in two.columns]
    # Nor what was scored.
    scored = [sum(t < cut for t in m.scorer.times) for m in (one, two)]
    assert scored[0] == scored[1]
    for name in SERIES:
        heat = [np.array(m.scorer.heat[1, name])[: scored[0]] for m in (one, two)]
        np.testing.assert_array_equal(heat[0], heat[1])


def test_a_closed_column_never_changes() -> None:
    heatmap = HeatMap(SYMBOL)
    events = list(market(20))
    heatmap.apply(events[: len(events) // 2])
    kept = [(column, column_bytes(column)) for column in heatmap.columns]
    heatmap.apply(events[len(events) // 2 :])
    assert [column_bytes(column) for column, _ in kept] == [bytes_ for _, bytes_ in kept]
    assert next(iter(heatmap.columns)) is kept[0][0]


def test_the_live_score_is_the_replayed_score() -> None:
    """Live: batches of a read and a clock. Replay: one iterator."""
    events = list(market(18))
    live, replay = HeatMap(SYMBOL, warm_up=SOON), HeatMap(SYMBOL, warm_up=SOON)
    luck = random.Random(5)
    at = 0
    while at < len(events):
        size = luck.randrange(1, 12)
        batch = events[at : at + size]
        live.apply(wld.Batch(batch, at))
        live.advance(batch[-1].receive_time + luck.randrange(SECOND))
        at += size
    replay.apply(events)
    live.finish()
    replay.finish()
    one, two = live.sample(), replay.sample()
    assert len(one.times) > 20
    for name in ("times", "sides", "notional", "events"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    for name, heat in one.heat.items():
        np.testing.assert_array_equal(heat, two.heat[name])
    assert [column_bytes(c) for c in live.columns] == [column_bytes(c) for c in replay.columns]


def test_heat_is_frozen_before_the_bucket_is_crossed() -> None:
    """A trade in the second of the crossing changes nothing of what is scored there."""
    events = list(market(16))
    heatmap = HeatMap(SYMBOL, warm_up=SOON)
    heatmap.apply(events)
    crossing = heatmap.scorer.times[-1]
    extra = wld.Trade(
        SYMBOL, wld.SCALE, 10**6 * wld.SCALE, wld.AggressorSide.BUY, "x", event_time=crossing - SECOND,
        receive_time=crossing - SECOND,
    )  # fmt: skip
    disturbed = HeatMap(SYMBOL, warm_up=SOON)
    disturbed.apply(sorted([*events, extra], key=lambda e: e.receive_time))
    same = [i for i, t in enumerate(heatmap.scorer.times) if t <= crossing]
    for name in SERIES:
        one = np.array(heatmap.scorer.heat[1, name])[same]
        two = np.array(disturbed.scorer.heat[1, name])[same]
        np.testing.assert_array_equal(one, two)


# The figures, on samples whose answer is known.


def sample(count: int = 4_000, hours: int = 40, seed: int = 2, **heat: Any) -> Sample:
    luck = np.random.default_rng(seed)
    times = T0 + np.sort(luck.integers(0, hours, count)) * HOUR_NS
    truth = luck.lognormal(0, 1.5, count)
    events = luck.poisson(0.1 * truth / truth.mean())
    notional = events * luck.lognormal(5, 1, count)
    fields = {name: np.ones(count) for name in (*SERIES, "mirrored")}
    given = {"truth": truth, "random": luck.lognormal(0, 1.5, count)}
    fields.update({name: given[what] for name, what in heat.items()})
    return Sample(1, times, luck.integers(0, 2, count), notional, events, fields)


def test_random_heat_has_lift_one_and_gains_nothing() -> None:
    report = judge(sample(model="random"), resamples=200)
    score = report.score("model")
    assert score.lift.low < 1.0 < score.lift.high
    assert abs(score.auc - 0.5) < 0.06
    assert score.d2 < 0.05
    assert report.verdict == "not better"
    assert report.over_placebo is not None
    assert report.over_placebo.low < 1 < report.over_placebo.high


def test_true_heat_is_validated_and_calibrated() -> None:
    report = judge(sample(model="truth", boosted="truth"), resamples=200)
    assert report.verdict == "validated"
    assert report.score("model").lift.low > 2
    assert report.against("distance").bits.low > 0.3
    assert report.against("uniform").lift.low > 1
    assert report.calibration_slope == pytest.approx(1.0, abs=0.2)
    assert report.placebo is not None
    assert report.placebo.value == pytest.approx(1.0, abs=0.15)
    assert report.boost is not None
    assert report.boost.bits.value == 0.0


def test_the_same_heat_gains_exactly_nothing_over_itself() -> None:
    report = judge(sample(model="truth", distance="truth"), resamples=100)
    assert report.against("distance").bits.value == 0.0
    assert report.against("distance").lift.value == 0.0
    assert report.verdict == "not better"


def test_blanket_heat_gains_nothing() -> None:
    report = judge(sample(), resamples=100)
    assert report.score("model").lift.value == pytest.approx(1.0, abs=0.02)
    assert report.score("model").auc == pytest.approx(0.5)


def test_the_placebo_takes_out_what_only_the_hour_explains() -> None:
    """Heat that only knows which hour is busy has lift, and no lift over placebo."""
    plain = sample(model="truth")
    busy = np.unique(plain.times)[::4]
    is_busy = np.isin(plain.times, busy)
    heat = dict(plain.heat, model=np.where(is_busy, 5.0, 1.0) + np.random.default_rng(1).random(len(is_busy)) * 0.1)
    notional = np.where(is_busy, 10.0, 1.0) * (np.random.default_rng(2).random(len(is_busy)) < 0.1)
    report = judge(
        msgspec.structs.replace(plain, heat=heat, notional=notional, events=(notional > 0).astype(np.int64)),
        resamples=100,
    )
    assert report.score("model").lift.value > 2
    assert report.over_placebo is not None
    assert report.over_placebo.low < 1.1


@pytest.mark.parametrize(("events", "hours"), [(29, 20), (300, 9)])
def test_nothing_is_claimed_below_thirty_events_in_ten_hours(events: int, hours: int) -> None:
    few = sample(hours=hours, model="truth")
    keep = np.zeros(len(few.events), np.int64)
    keep[np.random.default_rng(1).choice(len(keep), events, replace=False)] = 1
    report = judge(msgspec.structs.replace(few, events=keep, notional=keep * 100.0))
    assert report.verdict == "unproven"
    assert "not enough" in report.reason
    assert report.scores == ()


def test_liquidations_that_met_no_swept_bucket_lower_every_lift_alike() -> None:
    whole = sample(model="truth")
    lost = msgspec.structs.replace(whole, unmatched_events=100, unmatched_notional=float(whole.notional.sum()))
    one, two = judge(whole, resamples=50), judge(lost, resamples=50)
    assert two.score("model").lift.value == pytest.approx(one.score("model").lift.value / 2)
    assert two.score("uniform").lift.value == pytest.approx(one.score("uniform").lift.value / 2)
    assert two.matched < 1


def test_a_tie_at_the_edge_of_the_top_counts_in_proportion() -> None:
    heat, notional = np.array([5.0] * 20 + [0.0] * 80), np.array([1.0] * 20 + [0.0] * 80)
    # The hottest tenth is half of the tied twenty.
    assert _Ranking(heat, notional).lift(np.ones(100)) == pytest.approx(5.0)
    assert _Ranking(heat, notional).top_share()[:20].sum() == pytest.approx(10.0)


def test_auc_and_deviance_by_hand() -> None:
    assert _auc(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, True, False, False])) == 1.0
    assert _auc(np.array([1.0, 1.0]), np.array([True, False])) == 0.5
    truth = np.array([1.0, 2.0, 3.0, 10.0])
    assert _deviance_explained(truth, truth) > 0.95
    assert _deviance_explained(np.ones(4), truth) == pytest.approx(0.0)


def test_the_same_sample_and_seed_give_the_same_report() -> None:
    assert judge(sample(model="truth"), resamples=50) == judge(sample(model="truth"), resamples=50)


# The scorer on a market.


@pytest.fixture(scope="module")
def watched() -> HeatMap:
    """A hole at minute 15 of 25."""
    return demo_map(25, warm_up=SOON, gap_at=15.0)


def test_every_liquidation_is_scored_or_counted_as_unmatched() -> None:
    heatmap = demo_map(20, warm_up=SOON)
    warm = [m for m in heatmap.liquidations if m.time >= T0 + SOON + SECOND]
    counted = sum(heatmap.scorer.events) + heatmap.scorer.unmatched_events
    assert abs(counted - len(warm)) <= 20  # those of the minute around the end of the warm-up
    assert heatmap.scorer.unmatched_events < 0.05 * len(warm)


def test_nothing_is_scored_in_the_warm_up_of_a_cold_start(watched: HeatMap) -> None:
    assert min(watched.scorer.times) >= T0 + SOON
    assert HeatMap(SYMBOL).scorer.warm_up == 600 * SECOND


def test_buckets_around_a_hole_are_not_scored(watched: HeatMap) -> None:
    hole = T0 + 15 * 60 * SECOND
    around = [t for t in watched.scorer.times if hole <= t <= hole + 149 * SECOND]
    assert around == []


def test_longer_leads_are_scored_beside_the_first() -> None:
    heatmap = HeatMap(SYMBOL, leads=(1, 300), keep_columns=False, warm_up=SOON)
    heatmap.apply(market(20))
    one, five = heatmap.scorer.sample(1), heatmap.scorer.sample(300)
    assert len(one.times) == len(five.times) > 20
    assert not np.array_equal(one.heat["model"], five.heat["model"])
    np.testing.assert_array_equal(one.notional, five.notional)


@pytest.mark.slow
def test_on_a_day_of_a_made_up_market_the_heat_beats_every_baseline() -> None:
    heatmap = HeatMap(SYMBOL, HeatmapConfig(), keep_columns=False)
    heatmap.apply(market(16 * 60, seed=11))
    heatmap.finish()
    report = judge(heatmap.sample(), resamples=300)
    assert report.verdict == "validated"
    for name in BASELINES[:4]:
        assert report.against(name).bits.low > 0, name
        assert report.against(name).lift.low > 0, name
