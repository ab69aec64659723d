"""Owns what the radar shows of one symbol: immutable columns of heat, real liquidations, zones, health.

Pure: time is an argument (ns since the Unix epoch). Puts model and score together in their order: a real liquidation
is scored, then drawn, then learned from, then boosts. Does not own how anything looks (view).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from msgspec import Struct, structs

from wld import (
    AggressorSide,
    Event,
    Gap,
    Instrument,
    Liquidation,
    PositionSide,
    Ticker,
    Trade,
)
from wld_heatmap.column import Column, TierFilter, encode
from wld_heatmap.config import HeatmapConfig, check
from wld_heatmap.evaluation import LEAD_S, WARM_UP_NS, Sample, Scorer
from wld_heatmap.judgement import Interval, Report, judge
from wld_heatmap.ledger import LONG, SHORT, Floats
from wld_heatmap.model import HeatModel
from wld_heatmap.step import MINUTE_NS, STEP_NS, Step

GRACE_NS = 2 * STEP_NS
"""`advance` leaves the last two seconds open, so that events still under way count where they belong."""
HIGH_LEVERAGE = 25.0
"""Tiers from here up are "high" in the tier filter."""
LIQUIDATIONS_KEPT = 5_000

TAKEN = (Trade, Ticker, Liquidation, Instrument)


class LiquidationMark(Struct, frozen=True):
    """A real liquidation as it is drawn."""

    time: int
    """ns, matching engine."""
    position_side: PositionSide
    size: float
    """Base coin."""
    notional: float
    """USDT at the bankruptcy price."""
    trigger_price: int
    """1e-8 quote units, mapped from the bankruptcy price."""
    percentile: float | None
    """Share of swept buckets with less heat than stood here just before, 0 to 100; None: unknown."""
    is_hit: bool
    """Whether that is in the hottest tenth."""


class Zone(Struct, frozen=True):
    """A stretch of neighbouring hot bins; prices 1e-8 quote units."""

    side: PositionSide
    low: int
    high: int
    price: int
    """Of its hottest bin."""
    notional: float
    """USDT, the whole stretch."""
    distance: float
    """From the mark price to `price`, a signed fraction."""
    tiers: str
    """The leverages that make most of it, such as `50x/25x`."""


class Health(Struct, frozen=True):
    """What is known about the model's worth, and what it does not know."""

    report: Report | None
    """None until `refresh` was called."""
    events: int
    hours: int
    verdict: str
    """`unproven`, `validated` or `not better`."""
    lift: float | None
    lift_low: float | None
    lift_high: float | None
    placebo: float | None
    bits: float | None
    """Bits per liquidation against distance-only."""
    bits_low: float | None
    bits_high: float | None
    coverage_long: float | None
    """Share of one side's open interest that the ledger knows, long; None while open interest is unknown."""
    coverage_short: float | None
    tiers: tuple[tuple[float, float, float], ...]
    """(leverage, weight, liquidations attributed to it)."""
    w: float
    """Open fraction; 0.5 where it is not measured."""
    is_w_measured: bool
    known_since: int | None
    """ns; positions opened before are not on the map."""
    margin: str
    """The margin rules in use, and whether they are assumed."""
    notes: tuple[str, ...]
    """What it does not know, one line each."""


class HeatMap:
    """One symbol's heat. `apply` events in their order, `advance` with the clock; read the rest."""

    def __init__(
        self, symbol: str, config: HeatmapConfig | None = None, *, leads: tuple[int, ...] = (LEAD_S,),
        keep_columns: bool = True, warm_up: int = WARM_UP_NS,
    ) -> None:  # fmt: skip
        self.symbol = symbol
        self.config = check(config or HeatmapConfig())
        self.model = HeatModel(self.config)
        self.scorer = Scorer(leads, warm_up)
        self.liquidations: deque[LiquidationMark] = deque(maxlen=LIQUIDATIONS_KEPT)
        self.version = 0
        """Counts closed columns: nothing that is drawn from columns changed while it stands still."""
        self.is_seeding = False
        """Set while history is replayed: columns made meanwhile are marked as seed."""
        self.restored_at: int | None = None
        """ns of the state it was restored from."""
        self._keep_columns = keep_columns
        self._fine: deque[Column] = deque()
        self._minutes: deque[Column] = deque()
        self.keep(1.0)
        self._column_ns = self.config.column_seconds * STEP_NS
        self._part = _Part()
        self._minute_part = _Part()
        self._report: Report | None = None

    def keep(self, share: float) -> None:
        """Keep this share of the configured columns from now on, at least half an hour of each width."""
        fine = max(
            1800 // self.config.column_seconds, int(share * self.config.fine_hours * 3600 / self.config.column_seconds)
        )
        minutes = max(30, int(share * self.config.history_hours * 60))
        if share >= 1.0:
            fine = max(1, int(self.config.fine_hours * 3600 / self.config.column_seconds))
            minutes = max(1, int(self.config.history_hours * 60))
        if (self._fine.maxlen, self._minutes.maxlen) != (fine, minutes):
            self._fine, self._minutes = deque(self._fine, fine), deque(self._minutes, minutes)

    # Input.

    def apply(self, events: Iterable[Event]) -> None:
        """Take any events in order; those of other symbols are passed over. For batches in columns see `Radar`."""
        for event in events:
            if type(event) is Gap or (isinstance(event, TAKEN) and event.symbol == self.symbol):
                self.take(event)

    def take(self, event: Any) -> None:
        """Take one event of this symbol, or a gap of any."""
        step = self.step_at(event.receive_time)
        if type(event) is Trade:
            if not event.is_block_trade:
                self.model.trade(
                    step, event.price, event.size, event.aggressor_side is AggressorSide.BUY, event.event_time,
                    event.is_backfilled,
                )  # fmt: skip
        elif type(event) is Ticker:
            if event.mark_price is not None:
                self.model.mark_price(step, event.mark_price)
            interest = event.single_open_interest
            if interest is None and event.open_interest is not None:
                interest = event.open_interest // 2
            if interest is not None:
                step.open_interest = interest
        elif type(event) is Liquidation:
            is_long = event.position_side is PositionSide.LONG
            step.liquidations.append((event.event_time, is_long, event.size, event.bankruptcy_price))
        elif type(event) is Instrument:
            self.model.instrument(event)
        elif type(event) is Gap:
            self._gap(step, event)

    def _gap(self, step: Step, gap: Gap) -> None:
        if gap.symbol not in (None, self.symbol) or gap.topic == "orderbook":
            return
        step.has_gap = True
        step.gap_in_mark |= gap.topic in (None, "tickers")
        step.gap_in_trades |= gap.topic in (None, "publicTrade")

    def step_at(self, time: int) -> Step:
        """The open step, for what came at `time` ns; an earlier one is closed."""
        step = self.model.step
        if step is not None and time < step.start + STEP_NS:
            return step
        if step is not None:
            self._close(step)
            self._age(time)
        step = self.model.step = Step(time // STEP_NS * STEP_NS)
        return step

    def advance(self, now: int) -> None:
        """Let time pass up to `now` (ns); whatever ended more than two seconds ago is closed."""
        step = self.model.step
        if step is not None and step.start + STEP_NS <= now - GRACE_NS:
            self.step_at(now - GRACE_NS)

    def finish(self) -> None:
        """Close the open step: the end of the input."""
        if self.model.step is not None:
            self._close(self.model.step)
            self.model.step = None

    # One second.

    def _close(self, step: Step) -> None:
        model, scorer = self.model, self.scorer
        end = step.start + STEP_NS
        if step.is_empty:
            return
        model.sweep(step)
        forced = model.forced(step)
        verdicts = scorer.step(step, forced, model)
        for event, verdict in zip(forced, verdicts, strict=True):
            side = PositionSide.LONG if event.is_long else PositionSide.SHORT
            self.liquidations.append(
                LiquidationMark(
                    event.time, side, event.size, event.notional, round(event.trigger_price), verdict.percentile,
                    verdict.is_hit,
                )
            )  # fmt: skip
        model.learn_from(forced, end)
        model.flow(step)
        model.age(model.now or step.start, end)
        model.now = end
        scorer.freeze(step, forced, model)
        self._part.add(step, model)
        self._minute_part.add(step, model)
        self._columns_until(end)

    def _age(self, time: int) -> None:
        """Empty time between two steps: the ledger fades, columns are drawn, at the same instants however it is cut."""
        model = self.model
        until = time // STEP_NS * STEP_NS
        if model.now < until:
            model.flush()
        if until - model.now > 24 * 60 * MINUTE_NS:
            model.age(model.now, until)
            model.now = until
            self._columns_until(until)
        width, drawn = self._column_ns, 0
        while model.now < until:
            drawn += 1
            if drawn > 360:
                width = MINUTE_NS  # an hour of nothing was drawn; the rest more coarsely
            at = min(until, (model.now // width + 1) * width)
            model.age(model.now, at)
            model.now = at
            self._columns_until(at)

    def _columns_until(self, end: int) -> None:
        if not self._keep_columns or self.model.ledger is None:
            return
        for part, width, kept in (
            (self._part, self._column_ns, self._fine),
            (self._minute_part, MINUTE_NS, self._minutes),
        ):
            slot = end // width
            if part.slot is None:
                part.slot = slot
            if slot > part.slot:
                kept.append(self._column(part, part.slot * width, slot * width))
                part.reset(slot)
                if width == self._column_ns:
                    self.version += 1

    def _column(self, part: _Part, start: int, end: int) -> Column:
        model = self.model
        assert model.ledger is not None
        raw = model.field()
        factor = model.boost()
        both = raw.sum(axis=0)
        held = np.flatnonzero(both > 0.5)
        low, high = (int(held[0]), int(held[-1]) + 1) if len(held) else (0, 0)
        is_high = model.leverages >= HIGH_LEVERAGE
        of_high = np.einsum("t,stb->b", model.weights * is_high, model.ledger.mass[:, :, low:high])
        codes = encode(both[low:high])
        boosted, at = None, 0
        if factor is not None:
            boosted = encode((raw * factor).sum(axis=0)[low:high])
            differs = np.flatnonzero(boosted != codes)
            at = int(differs[0]) if len(differs) else 0
            boosted = boosted[at : int(differs[-1]) + 1].copy() if len(differs) else None
        mark: list[int] | list[None] = part.mark or [None] * 4
        return Column(
            start, end, model.ledger.base + low,
            mark[0], mark[1], mark[2], mark[3],
            None if model.mark is None else model.bin_of(model.mark),
            self.is_seeding, part.has_gap or part.is_empty,
            codes, encode(of_high * model.prices[low:high]), boosted, at, model.open_interest,
        )  # fmt: skip

    # What the view reads.

    def bin_of(self, price_e8: int) -> int:
        """The bin of a price (1e-8 quote units); bins never move. Only once `is_ready`."""
        return self.model.bin_of(price_e8)

    def price_of(self, bin_: float) -> float:
        """The price (1e-8 quote units) in the middle of a bin. Only once `is_ready`."""
        assert self.model.grid is not None
        return self.model.grid.price_of(bin_)

    @property
    def bin_width(self) -> float:
        """Fraction of price that a bin is wide. Only once `is_ready`."""
        assert self.model.grid is not None
        return self.model.grid.width

    @property
    def is_ready(self) -> bool:
        """Whether a price is known."""
        return self.model.grid is not None and self.model.mark is not None

    @property
    def mark_price(self) -> int | None:
        """1e-8 quote units; the last trade's where the feed has no mark price."""
        return self.model.mark

    @property
    def columns(self) -> Sequence[Column]:
        """Closed columns of `column_seconds`, oldest first; `fine_hours` of them."""
        return self._fine

    def liquidations_since(self, last: LiquidationMark | None) -> list[LiquidationMark]:
        """Those after that one, oldest first; all that are kept where it is None or no longer among them."""
        fresh: list[LiquidationMark] = []
        for mark in reversed(self.liquidations):
            if mark is last:
                break
            fresh.append(mark)
        fresh.reverse()
        return fresh

    @property
    def minute_columns(self) -> Sequence[Column]:
        """Closed columns of a minute, oldest first; `history_hours` of them."""
        return self._minutes

    def open_column(self, now: int) -> Column | None:
        """The column that is still open, as it would close now; None while nothing is known."""
        if self.model.ledger is None or self._part.slot is None:
            return None
        start = self._part.slot * self._column_ns
        column = self._column(self._part, start, max(now, self.model.now))
        if column.mark_close is None and self.model.mark is not None:
            # It has only begun: the price stands where it stood, and nothing is missing yet.
            mark = self.model.mark
            column = structs.replace(
                column, mark_open=mark, mark_high=mark, mark_low=mark, mark_close=mark, has_gap=self._part.has_gap
            )
        return column

    def zones(
        self, count: int = 3, *, side: PositionSide | None = None, tiers: TierFilter = "all", boosted: bool = False
    ) -> list[Zone]:
        """The strongest zones of each side, at most `count` a side, strongest first."""
        model = self.model
        if model.ledger is None or model.mark is None:
            return []
        chosen = self._tier_mask(tiers)
        heat = np.einsum("t,stb->sb", model.weights * chosen, model.ledger.mass) * model.prices
        factor = model.boost() if boosted else None
        if factor is not None:
            heat = heat * factor
        found = []
        for which, position_side in ((LONG, PositionSide.LONG), (SHORT, PositionSide.SHORT)):
            if side in (None, position_side):
                found += [self._zone(which, position_side, *peak) for peak in _peaks(heat[which], count)]
        return found

    def _tier_mask(self, tiers: TierFilter) -> Floats:
        is_high = (self.model.leverages >= HIGH_LEVERAGE).astype(np.float64)
        return np.ones_like(is_high) if tiers == "all" else is_high if tiers == "high" else 1.0 - is_high

    def _zone(self, which: int, side: PositionSide, low: int, high: int, top: int, notional: float) -> Zone:
        model = self.model
        assert model.ledger is not None
        assert model.mark is not None
        base = model.ledger.base
        part = model.weights * model.ledger.mass[which, :, low : high + 1].sum(axis=1)
        order = np.argsort(-part)
        names = [f"{model.leverages[i]:g}x" for i in order[:2] if part[i] > 0.2 * part.sum()]
        price = self.price_of(base + top)
        return Zone(
            side, round(self.price_of(base + low - 0.5)), round(self.price_of(base + high + 0.5)), round(price),
            notional, price / model.mark - 1.0, "/".join(names),
        )  # fmt: skip

    def within(self, fraction: float, *, tiers: TierFilter = "all") -> tuple[float, float]:
        """USDT of (longs below, shorts above) within a fraction of the mark price."""
        model = self.model
        if model.ledger is None or model.mark is None or model.grid is None:
            return 0.0, 0.0
        heat = np.einsum("t,stb->sb", model.weights * self._tier_mask(tiers), model.ledger.mass) * model.prices
        at = model.bin_of(model.mark) - model.ledger.base
        reach = round(fraction / model.grid.width)
        return float(heat[LONG, max(0, at - reach) : at + 1].sum()), float(heat[SHORT, at : at + reach + 1].sum())

    # Health.

    def refresh(self, report: Report | None = None) -> Report:
        """Judge what was scored so far (some ms; `judge(heatmap.scorer.sample())` may be made in a thread and given)."""
        if report is None:
            report = judge(self.scorer.sample(), resamples=200, permutations=50)
        self._report = report
        return report

    def sample(self) -> Sample:
        """What was scored so far, for `judge`."""
        return self.scorer.sample()

    @property
    def health(self) -> Health:
        """As of the last `refresh`; counts are current."""
        model, report = self.model, self._report
        coverage = model.coverage()
        rules = model.rules
        score = report.score("model") if report and report.scores else None
        bits = report.against("distance").bits if report and report.comparisons else None
        margin = f"MMR {100 * rules.maintenance_margin:.3g}% max {rules.max_leverage:g}x"
        return Health(
            report, report.events if report else 0, report.hours if report else 0,
            report.verdict if report else "unproven",
            *_three(score.lift if score else None),
            report.placebo.value if report and report.placebo else None,
            *_three(bits),
            coverage and coverage[0], coverage and coverage[1],
            tuple(zip(model.leverages.tolist(), model.weights.tolist(), model.counts.tolist(), strict=True)),
            model.w, self.config.open_fraction, model.first_time,
            f"{margin} (assumed)" if rules.is_assumed else margin,
            tuple(self._notes(coverage)),
        )  # fmt: skip

    def _notes(self, coverage: tuple[float, float] | None) -> Iterator[str]:
        model = self.model
        if model.first_time is None:
            yield "no data yet"
            return
        if self.restored_at is not None:
            yield "restored from a state file: where the mark price went meanwhile is not known"
        if coverage is None:
            yield "open interest unknown: closes are not taken off"
        elif max(coverage) < 0.2:
            known = 100 * max(coverage)
            yield f"cold start: knows {known:.0f}% of open interest; older positions are not on the map"
        if model.rules.is_assumed:
            yield "margin rules assumed, not told by the venue"
        if model.mark is not None and not model.mark_time:
            yield "no mark price in the feed: the last trade stands in"


def _three(interval: Interval | None) -> tuple[float | None, float | None, float | None]:
    return (interval.value, interval.low, interval.high) if interval else (None, None, None)


class _Part:
    """A column in the making."""

    def __init__(self) -> None:
        self.slot: int | None = None
        self.mark: list[int] = []
        self.has_gap = False
        self.is_empty = True
        """Nothing at all came: the feed is silent or dead."""

    def reset(self, slot: int) -> None:
        self.slot = slot
        self.mark = []
        self.has_gap = False
        self.is_empty = True

    def add(self, step: Step, model: HeatModel) -> None:
        self.has_gap |= step.has_gap
        self.is_empty = False
        mark = step.mark or ([model.mark] * 4 if model.mark is not None else [])
        if not mark:
            return
        if self.mark:
            self.mark = [self.mark[0], max(self.mark[1], mark[1]), min(self.mark[2], mark[2]), mark[3]]
        else:
            self.mark = list(mark)


def _peaks(row: Floats, count: int) -> list[tuple[int, int, int, float]]:
    """(low, high, top, sum) of the strongest stretches: a top and its neighbours down to half its height."""
    smooth = np.convolve(row, np.full(3, 1 / 3), mode="same")
    left = smooth.copy()
    found = []
    for _ in range(count):
        top = int(np.argmax(left))
        height = left[top]
        if height <= 0:
            break
        low = high = top
        while low > 0 and top - low < 20 and left[low - 1] >= height / 2:
            low -= 1
        while high < len(row) - 1 and high - top < 20 and left[high + 1] >= height / 2:
            high += 1
        found.append((low, high, top, float(row[low : high + 1].sum())))
        left[max(0, low - 4) : high + 5] = 0.0
    return found
