"""Owns the honest score: which buckets the mark price swept, what was believed of them before, what was liquidated.

Pure. Prequential only: a bucket is scored against heat frozen before the mark price got there, by the same code live
and on replay. Does not own the model nor how the score is shown.

Unit of analysis: a swept bucket, that is a bin that the mark price crosses for the first time since it had been away
from it by `REARM`. Conditioning on crossed buckets takes "price went there" out of the score; what is left is whether
the heat says where positions stood. Its outcome is the real notional liquidated there within a minute.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld_heatmap.ledger import LONG, SHORT, Floats, leverage_tiers, shifted
from wld_heatmap.model import HOUR_NS, MINUTE_NS, RECENT_NS, STEP_NS, Forced, HeatModel, Step

Indices = npt.NDArray[np.int64]

REARM = 0.005
"""A bucket counts again once the mark price was this far (fraction) beyond it: nearer than that no position opened
since could have its trigger there (1/L less the maintenance margin, at the highest leverages)."""
LEAD_S = 1
"""Heat is frozen at least so long before the step in which the bucket is crossed."""
TOP = 0.10
EVEN = 0.05
"""Share of every predictor's probability that is spread evenly, so that a miss costs much but not all."""
MIN_EVENTS, MIN_HOURS = 30, 10
"""Below either, nothing is claimed: unproven."""
WARM_UP_NS = 10 * MINUTE_NS
"""Buckets crossed so soon after a cold start are not scored: nothing could be known of them."""
MAX_BUCKETS = 60_000
"""The live score forgets the oldest beyond so many (weeks of one symbol)."""

BASELINES = ("distance", "recency", "uniform", "predecessor", "untouched")
MEANING = {
    "model": "raw heat",
    "boosted": "raw heat with the short lift by real liquidations",
    "distance": "leverage tiers around the volume-weighted price of 24 h, no flow",
    "recency": "real liquidations of the last hour, smoothed over 25 bp",
    "uniform": "every bucket alike",
    "predecessor": "every taker trade at 25x (4 %), nothing ever removed",
    "untouched": "volume traded since the mark price last crossed the bucket",
}
SERIES = ("model", "boosted", *BASELINES)


_BLUR = np.exp(-0.5 * (np.arange(-15, 16) / 5.0) ** 2)
_BLUR /= _BLUR.sum()


class _Frozen(Struct, frozen=True):
    time: int
    base: int
    fields: dict[str, Floats]


class Baselines:
    """What the model must beat, from the same input; every field is `[side, i]` over the ledger's bins."""

    def __init__(self) -> None:
        self._base: int | None = None
        self._count = 0
        self._predecessor: Floats = np.zeros((2, 0))
        self._crossed_at: Floats = np.zeros((2, 0))
        self._volume = 0.0
        self._minutes: deque[tuple[int, float, float]] = deque()
        self._value = 0.0
        self._size = 0.0
        self._events: deque[tuple[int, int, int, float]] = deque()
        self._distance: Floats | None = None
        self._recency: Floats | None = None
        self._minute = -1
        self._uniform: Floats = np.ones((2, 0))

    def update(self, step: Step, events: list[Forced], model: HeatModel) -> None:
        """Take in one closed step."""
        ledger, grid = model.ledger, model.grid
        if ledger is None or grid is None:
            return
        self._align(ledger.base, ledger.count)
        end = step.start + STEP_NS
        minute = end // MINUTE_NS
        value = size = 0.0
        jump = round(np.log(25 / 24) / grid.width), round(np.log(26 / 25) / grid.width)
        if step.flow:
            self._predecessor = self._predecessor.copy()
        for (is_buy, _, bin_), units in sorted(step.flow.items()):
            at = bin_ - ledger.base
            lots = units / 1e8
            size += lots
            traded = lots * grid.price_of(bin_) / 1e8
            value += traded
            at = at - jump[0] if is_buy else at + jump[1]
            if 0 <= at < ledger.count:
                self._predecessor[LONG if is_buy else SHORT, at] += traded
        self._volume += value
        if value:
            if self._minutes and self._minutes[-1][0] == minute:
                _, old_value, old_size = self._minutes[-1]
                self._minutes[-1] = (minute, old_value + value, old_size + size)
            else:
                self._minutes.append((minute, value, size))
            self._value += value
            self._size += size
        if model.mark is not None:
            low, high = model.swept
            self._crossed_at[LONG, max(0, low - ledger.base) :] = self._volume
            self._crossed_at[SHORT, : max(0, high - ledger.base + 1)] = self._volume
        for event in events:
            self._events.append((end, LONG if event.is_long else SHORT, event.bin, event.notional))
        if events:
            self._recency = None
        if minute != self._minute:
            self._minute = minute
            while self._minutes and self._minutes[0][0] < minute - 24 * 60:
                _, old_value, old_size = self._minutes.popleft()
                self._value -= old_value
                self._size -= old_size
            while self._events and self._events[0][0] < end - HOUR_NS:
                self._events.popleft()
            self._distance = self._recency = None

    def _align(self, base: int, count: int) -> None:
        if self._base is None:
            self._predecessor = np.zeros((2, count))
            self._crossed_at = np.zeros((2, count))
            self._uniform = np.ones((2, count))
        elif self._base != base:
            self._predecessor = shifted(self._predecessor, base - self._base)
            self._crossed_at = shifted(self._crossed_at, base - self._base)
            self._distance = self._recency = None
        self._base, self._count = base, count

    def fields(self, model: HeatModel) -> dict[str, Floats]:
        """Every baseline's belief now; arrays are replaced, never changed, so they may be kept."""
        if self._distance is None:
            self._distance = self._make_distance(model)
        if self._recency is None:
            self._recency = self._make_recency()
        return {
            "distance": self._distance,
            "recency": self._recency,
            "uniform": self._uniform,
            "predecessor": self._predecessor,
            "untouched": self._volume - self._crossed_at,
        }

    def _make_distance(self, model: HeatModel) -> Floats:
        out = np.zeros((2, self._count))
        if self._size <= 0 or model.grid is None or self._base is None:
            return out
        centre = model.grid.bin_of(self._value / self._size * 1e8)
        _, weights = leverage_tiers(model.config, model.rules.max_leverage)
        for side in (LONG, SHORT):
            kernel = model.kernel(side, 0)
            row = weights @ kernel.spread
            start = centre + kernel.first - self._base
            low, high = max(0, start), min(self._count, start + len(row))
            if low < high:
                out[side, low:high] = row[low - start : high - start]
        return out

    def _make_recency(self) -> Floats:
        out = np.zeros((2, self._count))
        assert self._base is not None
        for _, side, bin_, notional in self._events:
            at = bin_ - self._base
            if 0 <= at < self._count:
                out[side, at] += notional
        for side in (LONG, SHORT):
            held = np.flatnonzero(out[side])
            if len(held):
                low, high = max(0, int(held[0]) - 15), int(held[-1]) + 16
                near = out[side, low:high]
                near[:] = np.convolve(near, _BLUR)[15 : 15 + len(near)]  # mode "same" is longer at the grid's edge
        return out


class Verdict(Struct, frozen=True):
    """One real liquidation against the field frozen before it."""

    percentile: float | None
    """Share of the buckets swept so far with less heat, 0 to 100; None where it met no swept bucket."""
    is_hit: bool


class Scorer:
    """Collects swept buckets and their outcomes; `leads` (seconds before the crossing) are scored apart."""

    def __init__(self, leads: tuple[int, ...] = (LEAD_S,), warm_up: int = WARM_UP_NS) -> None:
        self.leads = leads
        self.warm_up = warm_up
        """ns after the first step before which nothing is scored."""
        self.baselines = Baselines()
        self.times = array("q")
        self.sides = array("b")
        self.bins = array("q")
        self.notional = array("d")
        self.events = array("q")
        self.heat: dict[tuple[int, str], array[float]] = {
            (lead, name): array("d") for lead in leads for name in (*SERIES, "mirrored")
        }
        self.unmatched_events = 0
        self.unmatched_notional = 0.0
        self.snapped_events = 0
        self._frozen: deque[_Frozen] = deque(maxlen=2)
        self._kept: dict[int, deque[_Frozen]] = {lead: deque() for lead in leads if lead > LEAD_S}
        self._armed: npt.NDArray[np.bool_] | None = None
        self._base = 0
        self._pending: dict[tuple[int, int], tuple[int, int]] = {}
        self._gap_until = 0
        self._start: int | None = None

    def __len__(self) -> int:
        return len(self.times)

    def step(self, step: Step, events: list[Forced], model: HeatModel) -> list[Verdict]:
        """Score one step; call it after the model's sweep and before anything else of the step reaches the model."""
        end = step.start + STEP_NS
        if self._start is None:
            self._start = step.start
        if step.has_gap:
            # What was liquidated in the hole is not known: no claim about buckets around it.
            self._gap_until = end + RECENT_NS
            self._forget_pending()
        if model.ledger is not None and model.mark is not None:
            self._sweep(step, model, end)
        return [self._outcome(event, end) for event in events]

    def _sweep(self, step: Step, model: HeatModel, end: int) -> None:
        ledger, grid = model.ledger, model.grid
        assert ledger is not None
        assert grid is not None
        if self._armed is None:
            self._armed = np.zeros((2, ledger.count), bool)
        elif self._base != ledger.base:
            self._armed = shifted(self._armed, ledger.base - self._base)
        self._base = ledger.base
        low, high = model.swept[0] - ledger.base, model.swept[1] - ledger.base
        armed = self._armed
        scored = end >= self._gap_until and self._start is not None and end >= self._start + self.warm_up
        expired = [key for key, (_, time) in self._pending.items() if time < end - RECENT_NS]
        for key in expired:
            del self._pending[key]
        for side, slice_ in ((LONG, slice(max(0, low), None)), (SHORT, slice(0, max(0, high + 1)))):
            hit = np.flatnonzero(armed[side, slice_])
            if len(hit):
                hit += slice_.start
                armed[side, slice_] = False
                if scored:
                    self._record(side, hit, model, end)
        rearm = max(2, round(REARM / grid.width))
        armed[LONG, : max(0, low - rearm)] = True
        armed[SHORT, max(0, high + rearm + 1) :] = True

    def _record(self, side: int, hit: Indices, model: HeatModel, end: int) -> None:
        states = {lead: self._state(lead, end) for lead in self.leads}
        if any(state is None for state in states.values()):
            return
        at = len(self.times)
        bins = hit + self._base
        self.times.extend([end] * len(hit))
        self.sides.extend([side] * len(hit))
        self.bins.extend(bins.tolist())
        self.notional.extend([0.0] * len(hit))
        self.events.extend([0] * len(hit))
        for lead, state in states.items():
            assert state is not None
            for name in SERIES:
                self.heat[lead, name].extend(_at(state.fields[name][side], bins - state.base).tolist())
            centre = int(state.fields["centre"][0, 0])
            mirrored = _at(state.fields["model"][1 - side], 2 * centre - bins - state.base)
            self.heat[lead, "mirrored"].extend(mirrored.tolist())
        for i, bin_ in enumerate(bins.tolist()):
            self._pending[side, bin_] = (at + i, end)
        if len(self.times) > MAX_BUCKETS:
            self._drop_oldest(MAX_BUCKETS // 10)

    def _state(self, lead: int, end: int) -> _Frozen | None:
        if lead <= LEAD_S:
            return self._frozen[0] if len(self._frozen) == 2 else None
        found = None
        for state in self._kept[lead]:
            if state.time <= end - lead * STEP_NS:
                found = state
        return found

    def _outcome(self, event: Forced, end: int) -> Verdict:
        side = LONG if event.is_long else SHORT
        found = None
        for bin_ in (event.bin, event.bin - 1, event.bin + 1):
            found = self._pending.get((side, bin_))
            if found is not None:
                break
        if found is None or event.is_snapped:
            self.snapped_events += 1
        if found is None:
            near = [(abs(bin_ - event.bin), -time, i) for (s, bin_), (i, time) in self._pending.items() if s == side]
            if near:
                found = (min(near)[2], end)
        if found is None:
            if self._start is not None and end >= max(self._start + self.warm_up, self._gap_until):
                self.unmatched_events += 1
                self.unmatched_notional += event.notional
            return Verdict(None, False)
        index = found[0]
        self.notional[index] += event.notional
        self.events[index] += 1
        known = np.frombuffer(self.heat[self.leads[0], "model"], np.float64)[-5_000:]
        heat = self.heat[self.leads[0], "model"][index]
        percentile = 100.0 * float((known < heat).mean())
        return Verdict(percentile, percentile >= 100.0 * (1.0 - TOP))

    def freeze(self, step: Step, events: list[Forced], model: HeatModel) -> None:
        """Keep what is believed at the end of a step; call it last."""
        self.baselines.update(step, events, model)
        if model.ledger is None or model.grid is None or model.mark is None:
            return
        end = step.start + STEP_NS
        raw = model.field()
        factor = model.boost()
        fields = self.baselines.fields(model)
        fields["model"] = raw
        fields["boosted"] = raw if factor is None else raw * factor
        fields["centre"] = np.array([[float(model.grid.bin_of(model.mark))]])
        state = _Frozen(end, model.ledger.base, fields)
        self._frozen.append(state)
        for lead, kept in self._kept.items():
            every = min(10, lead) * STEP_NS if lead <= 600 else MINUTE_NS
            if end % every == 0 or not kept:
                kept.append(_Frozen(end, state.base, {k: np.asarray(v, np.float32) for k, v in fields.items()}))
                while len(kept) > 1 and kept[1].time <= end - lead * STEP_NS:
                    kept.popleft()

    def _forget_pending(self) -> None:
        gone = sorted({index for index, _ in self._pending.values()}, reverse=True)
        self._pending.clear()
        for index in gone:
            for column in self._columns():
                del column[index]

    def _columns(self) -> list[Any]:
        return [self.times, self.sides, self.bins, self.notional, self.events, *self.heat.values()]

    def _drop_oldest(self, count: int) -> None:
        for column in self._columns():
            del column[:count]
        self._pending = {key: (i - count, time) for key, (i, time) in self._pending.items() if i >= count}

    def sample(self, lead: int | None = None) -> Sample:
        """A copy of everything scored so far, for `judge` (which may run in a thread)."""
        lead = self.leads[0] if lead is None else lead
        return Sample(
            lead,
            np.array(self.times, np.int64),
            np.array(self.sides, np.int64),
            np.array(self.notional, np.float64),
            np.array(self.events, np.int64),
            {name: np.array(self.heat[lead, name], np.float64) for name in (*SERIES, "mirrored")},
            self.unmatched_events,
            self.unmatched_notional,
            self.snapped_events,
        )


def _at(row: Floats, index: Indices) -> Floats:
    inside = (index >= 0) & (index < len(row))
    return np.where(inside, row[np.clip(index, 0, len(row) - 1)], 0.0)


class Sample(Struct, frozen=True):
    """Swept buckets in order of time: when, which side, real notional and liquidations there, heat by predictor."""

    lead: int
    times: Indices
    sides: Indices
    notional: Floats
    events: Indices
    heat: dict[str, Floats]
    unmatched_events: int = 0
    """Liquidations that met no swept bucket; their notional counts against every predictor's lift alike."""
    unmatched_notional: float = 0.0
    snapped_events: int = 0
    """Liquidations taken to the nearest swept bucket, because their own was not."""


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
