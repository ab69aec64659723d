"""Owns the verdict on a sample of swept buckets: lift, bits, calibration, and what of it may be chance. Pure.

The same sample and seed give the same report. Does not own how the sample came about (evaluation).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld_heatmap.baselines import BASELINES
from wld_heatmap.evaluation import SERIES, TOP, Indices, Sample
from wld_heatmap.ledger import Floats
from wld_heatmap.step import HOUR_NS

EVEN = 0.05
"""Share of every predictor's probability that is spread evenly, so that a miss costs much but not all."""
MIN_EVENTS, MIN_HOURS = 30, 10
"""Below either, nothing is claimed: unproven."""


class Interval(Struct, frozen=True):
    """An estimate and its 95 % interval (block bootstrap by hour)."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


class PredictorScore(Struct, frozen=True):
    """One predictor by itself."""

    name: str
    lift: Interval
    """Share of liquidated notional in the hottest tenth of swept buckets, over 0.10."""
    auc: float
    """Chance that a bucket with a liquidation was hotter than one without."""
    d2: float
    """Poisson deviance explained, one scale fitted; below 0: worse than a constant."""


class Comparison(Struct, frozen=True):
    """The model less one baseline, paired by bucket and hour."""

    name: str
    bits: Interval
    """Mean log2 of the probability given to the bucket where a liquidation happened, model over baseline."""
    lift: Interval
    """Difference of lift."""


class Decile(Struct, frozen=True):
    """One tenth of the swept buckets by heat: what was predicted and what came, USDT a bucket."""

    predicted: float
    realised: float
    buckets: int
    events: int


class Report(Struct, frozen=True):
    """The score of one symbol at one lead."""

    lead: int
    buckets: int
    events: int
    hours: int
    """Distinct hours with a liquidation."""
    notional: float
    matched: float
    """Share of liquidations that met a swept bucket."""
    snapped: float
    verdict: str
    """`unproven` (too few), `validated`, or `not better`."""
    reason: str
    scores: tuple[PredictorScore, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    """Raw heat less each baseline."""
    boost: Comparison | None = None
    """Boosted heat less raw heat."""
    placebo: Interval | None = None
    """Lift of raw heat permuted within the hour, and the range of 200 permutations."""
    mirrored: float | None = None
    """Lift of the field mirrored about the mark price."""
    over_placebo: Interval | None = None
    """Lift over placebo: the headline."""
    calibration: tuple[Decile, ...] = ()
    calibration_slope: float | None = None
    """Slope of log realised over log predicted; 1 is calibrated."""

    def score(self, name: str) -> PredictorScore:
        """One predictor's. Raises: KeyError."""
        return {s.name: s for s in self.scores}[name]

    def against(self, name: str) -> Comparison:
        """The model against one baseline. Raises: KeyError."""
        return {c.name: c for c in self.comparisons}[name]


def judge(sample: Sample, *, resamples: int = 1000, permutations: int = 200, seed: int = 1) -> Report:
    """The score of a sample; the same sample and seed give the same report."""
    events = int(sample.events.sum())
    hour = sample.times // HOUR_NS
    hours = len(np.unique(hour[sample.events > 0]))
    all_events = events + sample.unmatched_events
    notional = float(sample.notional.sum())
    about = (
        sample.lead, len(sample.times), events, hours, notional, events / all_events if all_events else 0.0,
        sample.snapped_events / all_events if all_events else 0.0,
    )  # fmt: skip
    if events < MIN_EVENTS or hours < MIN_HOURS:
        reason = f"{events} liquidations in {hours} h, not enough: {MIN_EVENTS} in {MIN_HOURS} h are needed"
        return Report(*about, "unproven", reason)
    luck = np.random.default_rng(seed)
    _, block = np.unique(hour, return_inverse=True)
    blocks = int(block.max()) + 1
    draws = luck.multinomial(blocks, np.full(blocks, 1.0 / blocks), size=resamples).astype(np.float64)
    lost = sample.unmatched_notional / notional
    lifts: dict[str, tuple[float, Floats]] = {}
    for name in SERIES:
        ranking = _Ranking(sample.heat[name], sample.notional)
        lifts[name] = (
            ranking.lift(np.ones(len(block))) / (1 + lost),
            np.array([ranking.lift(draw[block]) for draw in draws]) / (1 + lost),
        )
    scores = tuple(
        PredictorScore(
            name, _interval(*lifts[name]), _auc(sample.heat[name], sample.events > 0),
            _deviance_explained(sample.heat[name], sample.notional),
        )
        for name in SERIES
    )  # fmt: skip
    logs = {name: _log_probability(sample.heat[name], block, sample.sides) for name in SERIES}

    def compare(name: str, left: str, right: str) -> Comparison:
        gain = (logs[left] - logs[right]) * sample.events
        per_block = np.bincount(block, gain, blocks)
        count = np.bincount(block, sample.events, blocks)
        bits = _interval(per_block.sum() / count.sum(), (draws @ per_block) / np.maximum(draws @ count, 1e-9))
        lift = _interval(lifts[left][0] - lifts[right][0], lifts[left][1] - lifts[right][1])
        return Comparison(name, bits, lift)

    comparisons = tuple(compare(name, "model", name) for name in BASELINES)
    ranking = _Ranking(sample.heat["model"], sample.notional)
    top = ranking.top_share()
    permuted = []
    for _ in range(permutations):
        order = np.lexsort((luck.random(len(block)), block))
        # `order` lists each block's members in random order; give their notional to the members in fixed order.
        mixed = np.empty_like(sample.notional)
        mixed[np.argsort(block, kind="stable")] = sample.notional[order]
        permuted.append(float(top @ mixed) / notional / TOP / (1 + lost))
    placebo = Interval(float(np.mean(permuted)), *(float(q) for q in np.quantile(permuted, (0.025, 0.975))))
    expected = _placebo(top, sample.notional, block, blocks)
    ratio = np.array([_ratio(draw, expected) for draw in draws])
    over = _interval(lifts["model"][0] / max(placebo.value, 1e-9), ratio)
    calibration, slope = _calibration(sample)
    mirrored = _Ranking(sample.heat["mirrored"], sample.notional).lift(np.ones(len(block))) / (1 + lost)
    distance = next(c for c in comparisons if c.name == "distance")
    if over.low > 1 and distance.bits.low > 0:
        verdict, reason = "validated", "lift over placebo and bits against distance are above chance at 95 %"
    else:
        verdict, reason = "not better", "lift over placebo or bits against distance may be chance"
    return Report(
        *about, verdict, reason, scores, comparisons, compare("boosted", "boosted", "model"), placebo, mirrored, over,
        calibration, slope,
    )  # fmt: skip


class _Ranking:
    """Buckets by falling heat, ties together, ready for weights."""

    def __init__(self, heat: Floats, notional: Floats) -> None:
        self.order = np.argsort(-heat, kind="stable")
        ranked = heat[self.order]
        self.starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        self.notional = notional[self.order]

    def lift(self, weights: Floats) -> float:
        """Share of notional in the hottest tenth (a tie at the edge counts in proportion), over a tenth."""
        w = weights[self.order]
        count = np.r_[0.0, np.cumsum(np.add.reduceat(w, self.starts))]
        value = np.r_[0.0, np.cumsum(np.add.reduceat(w * self.notional, self.starts))]
        if value[-1] <= 0:
            return 1.0
        return float(np.interp(TOP * count[-1], count, value) / value[-1] / TOP)

    def top_share(self) -> Floats:
        """How much of each bucket, in its original place, is in the hottest tenth."""
        n = len(self.order)
        sizes = np.diff(np.r_[self.starts, n])
        inside = np.clip((TOP * n - self.starts) / sizes, 0.0, 1.0)
        out = np.empty(n)
        out[self.order] = np.repeat(inside, sizes)
        return out


def _placebo(top: Floats, notional: Floats, block: Indices, blocks: int) -> Floats:
    """Per block: (notional in the hottest tenth, what a permutation within the block would put there on average)."""
    size = np.bincount(block, minlength=blocks)
    total = np.bincount(block, notional, blocks)
    return np.stack([np.bincount(block, top * notional, blocks), np.bincount(block, top, blocks) / size * total])


def _ratio(draw: Floats, expected: Floats) -> float:
    real, chance = expected @ draw
    return float(real / chance) if chance > 0 else 1.0


def _interval(value: float, resampled: Floats) -> Interval:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Interval(float(value), float(low), float(high))


def _log_probability(heat: Floats, block: Indices, sides: Indices) -> Floats:
    """log2 of the probability given to each bucket among those of its hour and side."""
    group = block * 2 + sides
    groups = int(group.max()) + 1
    count = np.bincount(group, minlength=groups)[group]
    total = np.bincount(group, heat, groups)[group]
    share = np.where(total > 0, heat / np.where(total > 0, total, 1.0), 1.0 / count)
    return np.asarray(np.log2((1.0 - EVEN) * share + EVEN / count))


def _auc(heat: Floats, is_event: npt.NDArray[np.bool_]) -> float:
    positive = int(is_event.sum())
    negative = len(heat) - positive
    if not positive or not negative:
        return 0.5
    _, inverse, counts = np.unique(heat, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2.0
    return float((ranks[inverse][is_event].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _deviance_explained(heat: Floats, notional: Floats) -> float:
    mean = notional.mean()
    relative = heat / heat.mean() if heat.mean() > 0 else np.ones(len(heat))
    expected = mean * ((1.0 - EVEN) * relative + EVEN)

    def deviance(mu: Floats) -> float:
        ratio = np.where(notional > 0, notional / mu, 1.0)
        return float(2.0 * (notional * np.log(ratio) - (notional - mu)).sum())

    null = deviance(np.full(len(heat), mean))
    return 1.0 - deviance(expected) / null if null > 0 else 0.0


def _calibration(sample: Sample) -> tuple[tuple[Decile, ...], float | None]:
    heat = sample.heat["model"]
    rows = []
    for part in np.array_split(np.argsort(heat, kind="stable"), 10):
        if len(part):
            rows.append(
                Decile(
                    float(heat[part].mean()), float(sample.notional[part].mean()), len(part),
                    int(sample.events[part].sum()),
                )
            )  # fmt: skip
    points = [(np.log(d.predicted), np.log(d.realised)) for d in rows if d.predicted > 0 and d.realised > 0]
    x, y = np.array([p for p, _ in points]), np.array([r for _, r in points])
    slope = float(np.polyfit(x, y, 1)[0]) if len(set(x.tolist())) >= 3 else None
    return tuple(rows), slope
