"""Owns what the radar shows of one symbol: immutable columns of heat, real liquidations, zones, health.

Pure: time is an argument (ns since the Unix epoch). Puts model and score together in their order: a real liquidation
is scored, then drawn, then learned from, then boosts. Does not own how anything looks (view).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct, structs

from wld import (
    ABSENT,
    AggressorSide,
    Batch,
    Event,
    Gap,
    Instrument,
    Liquidation,
    PositionSide,
    Ticker,
    Trade,
)
from wld.tables import BACKFILLED, BLOCK_TRADE, BUY, TICKER_PLACE, Tables
from wld_heatmap.config import HeatmapConfig, check
from wld_heatmap.evaluation import LEAD_S, WARM_UP_NS, Interval, Report, Sample, Scorer, judge
from wld_heatmap.ledger import LONG, SHORT, Floats
from wld_heatmap.model import MINUTE_NS, STEP_NS, HeatModel, Step

Heat = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint16]

GRACE_NS = 2 * STEP_NS
"""`advance` leaves the last two seconds open, so that events still under way count where they belong."""
HIGH_LEVERAGE = 25.0
"""Tiers from here up are "high" in the tier filter."""
FULL_SYMBOLS = 12
"""With more symbols than about so many, each keeps fewer columns."""
LIQUIDATIONS_KEPT = 5_000
_CODES_PER_E = 2_000.0
_DECODED = np.expm1(np.arange(1 << 16) / _CODES_PER_E).astype(np.float32)

FEW = 40
"""Prints in one read below which summing them one by one is quicker than with numpy."""
_MARK, _SINGLE, _BOTH = (TICKER_PLACE[n] for n in ("mark_price", "single_open_interest", "open_interest"))
_TAKEN = (Trade, Ticker, Liquidation, Instrument)

TierFilter = Literal["all", "high", "low"]


def _encode(heat: Floats) -> Codes:
    """Heat as 16-bit logarithms: 0.05 % steps, from 0 to 1e14 USDT."""
    return np.minimum(np.rint(np.log1p(heat) * _CODES_PER_E), 65_535.0).astype(np.uint16)


class Column(Struct, frozen=True):
    """What the model believed at the end of a stretch of time; never changed once closed.

    Heat arrays run from `low_bin` upwards, one value a bin, USDT estimated to be liquidated there; zero beyond. Longs
    stand below the mark price, shorts above: `mark_close` divides them.
    """

    start: int
    """ns since the Unix epoch, receive time."""
    end: int
    low_bin: int
    mark_open: int | None
    """1e-8 quote units; None where none came, as in a hole."""
    mark_high: int | None
    mark_low: int | None
    mark_close: int | None
    mark_bin: int | None
    """The bin of `mark_close`."""
    is_seed: bool
    """Made from history on disk, not watched live."""
    has_gap: bool
    """Something of it was lost, or nothing came at all."""
    codes: Codes
    """Raw heat as stored; `raw` decodes it."""
    codes_high: Codes
    """The part of raw heat at leverages of 25x and more."""
    codes_boosted: Codes | None
    """Boosted heat where it is not raw heat, from `boosted_at` upwards; None where it is raw heat."""
    boosted_at: int = 0
    """Index into the column."""
    open_interest: float | None = None
    """One side, base coin."""

    @property
    def raw(self) -> Heat:
        """Heat without the lift by real liquidations."""
        return _DECODED[self.codes]

    @property
    def boosted(self) -> Heat:
        """Heat with it."""
        out = self.raw
        if self.codes_boosted is not None:
            out[self.boosted_at : self.boosted_at + len(self.codes_boosted)] = _DECODED[self.codes_boosted]
        return out

    def heat(self, *, boosted: bool = True, side: PositionSide | None = None, tiers: TierFilter = "all") -> Heat:
        """A filtered copy: `side` None for both; `tiers` high from 25x up, low below."""
        out = (self.boosted if boosted else self.raw).copy()
        if tiers != "all":
            raw = self.raw
            part = np.divide(_DECODED[self.codes_high], raw, out=np.zeros_like(raw), where=raw > 0)
            out *= part if tiers == "high" else np.maximum(0.0, 1.0 - part)
        if side is not None and self.mark_bin is not None:
            at = min(max(0, self.mark_bin - self.low_bin), len(out))
            if side is PositionSide.LONG:
                out[at:] = 0.0
            else:
                out[: at + 1] = 0.0
        return out


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
        self._report_size = -1

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
        """Take a batch, or any events in order; those of other symbols are passed over.

        A batch that holds columns is summed without making its events.
        """
        tables = events.tables if isinstance(events, Batch) else None
        if tables is not None:
            if self.symbol in tables.symbols or tables.rows:
                self._apply_tables(tables)
            return
        for event in events:
            if (isinstance(event, _TAKEN) and event.symbol == self.symbol) or type(event) is Gap:
                self._take(event)

    def _apply_tables(self, tables: Tables) -> None:
        time = tables.receive_time
        later = []
        for _, event in tables.rows:
            if (isinstance(event, _TAKEN) and event.symbol == self.symbol) or type(event) is Gap:
                if event.receive_time <= time:
                    self._take(event)
                else:
                    later.append(event)
        if self.symbol in tables.symbols:
            self._take_columns(tables, tables.symbols.index(self.symbol))
        for event in later:
            self._take(event)

    def _take_columns(self, tables: Tables, symbol: int) -> None:
        """One read of the socket: everything in it came at once, so it is one step's."""
        model = self.model
        step = None
        if tables.tickers is not None:
            values = tables.tickers["values"]
            for i, which in enumerate(tables.tickers["symbol"].tolist()):
                if which != symbol:
                    continue
                step = step or self._step_at(tables.receive_time)
                price, single, both = int(values[i, _MARK]), int(values[i, _SINGLE]), int(values[i, _BOTH])
                if price != ABSENT:
                    model.mark_price(step, price)
                if single != ABSENT:
                    step.open_interest = single
                elif both != ABSENT:
                    step.open_interest = both // 2
        if tables.trades is not None:
            step = self._take_trades(tables.trades, symbol, tables.receive_time, step)
        if tables.liquidations is not None:
            rows = tables.liquidations
            names = ("symbol", "event_time", "is_long", "size", "bankruptcy_price")
            for which, t, is_long, v, p in zip(*(rows[name].tolist() for name in names), strict=True):
                if which == symbol:
                    step = step or self._step_at(tables.receive_time)
                    step.liquidations.append((t, bool(is_long), v, p))

    def _take_trades(self, trades: dict[str, Any], symbol: int, time: int, step: Step | None) -> Step | None:
        model, flags = self.model, trades["flags"]
        if len(flags) < FEW or (flags & BACKFILLED).any():
            names = ("symbol", "price", "size", "flags", "event_time")
            for which, price, size, flag, at in zip(*(trades[name].tolist() for name in names), strict=True):
                if which == symbol and not flag & BLOCK_TRADE:
                    step = step or self._step_at(time)
                    model.trade(step, price, size, bool(flag & BUY), at, bool(flag & BACKFILLED))
            return step
        keep = ((flags & BLOCK_TRADE) == 0) & (trades["symbol"] == symbol)
        if keep.any():
            step = step or self._step_at(time)
            model.trade_columns(step, trades["price"][keep], trades["size"][keep], (flags[keep] & BUY) != 0)
        return step

    def _take(self, event: Any) -> None:
        step = self._step_at(event.receive_time)
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

    def _step_at(self, time: int) -> Step:
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
            self._step_at(now - GRACE_NS)

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
        codes = _encode(both[low:high])
        boosted, at = None, 0
        if factor is not None:
            boosted = _encode((raw * factor).sum(axis=0)[low:high])
            differs = np.flatnonzero(boosted != codes)
            at = int(differs[0]) if len(differs) else 0
            boosted = boosted[at : int(differs[-1]) + 1].copy() if len(differs) else None
        mark: list[int] | list[None] = part.mark or [None] * 4
        return Column(
            start, end, model.ledger.base + low,
            mark[0], mark[1], mark[2], mark[3],
            None if model.mark is None else model.bin_of(model.mark),
            self.is_seeding, part.has_gap or part.is_empty,
            codes, _encode(of_high * model.prices[low:high]), boosted, at, model.open_interest,
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


_READ = {
    "trades": ("price", "size", "flags", "event_time"),
    "liquidations": ("is_long", "size", "bankruptcy_price", "event_time"),
    "tickers": ("values",),
}
"""The columns that a HeatMap reads."""


def _apart(tables: Tables) -> dict[str, Tables]:
    """What a HeatMap reads of each symbol that came, apart: many symbols cost no more than their rows."""
    parts: dict[str, Tables] = {}

    def part(symbol: str) -> Tables:
        found = parts.get(symbol)
        if found is None:
            rows = [(n, e) for n, e in tables.rows if type(e) is Gap or getattr(e, "symbol", None) == symbol]
            found = parts[symbol] = Tables(tables.count, (symbol,), tables.receive_time, rows=rows)
        return found

    for _, event in tables.rows:
        if isinstance(event, _TAKEN):
            part(event.symbol)
    for kind, names in _READ.items():
        columns = getattr(tables, kind)
        if columns is None:
            continue
        order = np.argsort(columns["symbol"], kind="stable")
        sorted_ = {name: columns[name][order] for name in names}
        here, starts = np.unique(columns["symbol"][order], return_index=True)
        for i, start, end in zip(here.tolist(), starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
            one = {name: column[start:end] for name, column in sorted_.items()}
            setattr(part(tables.symbols[i]), kind, {**one, "symbol": np.zeros(end - start, np.int64)})
    return parts


def _only_rows(tables: Tables) -> Tables:
    return Tables(tables.count, (), tables.receive_time, rows=tables.rows)


class Radar:
    """One HeatMap for each symbol that the stream speaks of."""

    def __init__(
        self, config: HeatmapConfig | None = None, symbols: Iterable[str] | None = None, **options: Any
    ) -> None:
        self.config = check(config or HeatmapConfig())
        self.maps: dict[str, HeatMap] = {}
        self.is_seeding = False
        """Set while history is replayed."""
        self._wanted = None if symbols is None else tuple(symbols)
        self._options = options
        self._share = 1.0
        for symbol in self._wanted or ():
            self.maps[symbol] = HeatMap(symbol, self.config, **options)
            self._share_columns()

    def apply(self, events: Iterable[Event]) -> None:
        """Take a batch of any symbols."""
        tables = events.tables if isinstance(events, Batch) else None
        if tables is not None:
            parts = _apart(tables)
            for symbol in parts:
                self.map_of(symbol)
            gaps = any(type(event) is Gap for _, event in tables.rows)
            for symbol in self.maps if gaps else self.maps.keys() & parts.keys():
                self.maps[symbol].apply(Batch(parts.get(symbol) or _only_rows(tables)))
            return
        for event in events:
            if isinstance(event, _TAKEN):
                heatmap = self.map_of(event.symbol)
                if heatmap is not None:
                    heatmap._take(event)
            elif type(event) is Gap:
                for heatmap in self.maps.values():
                    heatmap._take(event)

    def map_of(self, symbol: str) -> HeatMap | None:
        """The symbol's HeatMap, made when it is new; None where it is not among the wanted."""
        heatmap = self.maps.get(symbol)
        if heatmap is None and self._wanted is None:
            heatmap = self.maps[symbol] = HeatMap(symbol, self.config, **self._options)
            heatmap.is_seeding = self.is_seeding
            self._share_columns()
        return heatmap

    def _share_columns(self) -> None:
        """Many symbols share the memory of a few: some 25 MB each for `FULL_SYMBOLS` of them, in all."""
        count = len(self.maps)
        if count > FULL_SYMBOLS and count.bit_count() == 1:  # at 16, 32, 64 …
            self._share = FULL_SYMBOLS / (2 * count)
            for heatmap in self.maps.values():
                heatmap.keep(self._share)
        elif self._share < 1.0:
            next(reversed(self.maps.values())).keep(self._share)

    def advance(self, now: int) -> None:
        """Let time pass for every symbol."""
        for heatmap in self.maps.values():
            heatmap.advance(now)

    def finish(self) -> None:
        """The end of the input, for every symbol."""
        for heatmap in self.maps.values():
            heatmap.finish()
