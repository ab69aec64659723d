"""Owns the model of one symbol: what opens and closes, what the mark price consumes, what liquidations teach.

Pure: no clock, no I/O; time is an argument (ns since the Unix epoch, receive time). Does not own scoring (evaluation)
nor the picture (history).

Input is summed over a step of one second and taken in when the step closes, so that the outcome does not depend on
how the stream was cut into batches: live and replay agree to the last bit.
"""

from __future__ import annotations

from collections import deque
from math import log

import numpy as np
import numpy.typing as npt

from wld import SCALE, Instrument
from wld_heatmap.config import HeatmapConfig
from wld_heatmap.ledger import (
    LONG,
    SHORT,
    Floats,
    Grid,
    Kernel,
    Ledger,
    Rules,
    leverage_tiers,
    make_kernel,
    rules_of,
    shifted,
    trigger_of_bankruptcy,
)
from wld_heatmap.recent import Recent
from wld_heatmap.step import HOUR_NS, MINUTE_NS, STEP_NS, Flow, Forced, Step

RECENT_NS = 60 * STEP_NS
"""How long after the mark price crossed a bin a liquidation may be reported for it."""
FORCED_STEPS = 5
"""How long a reported liquidation looks for its own trade in the flow."""
MARK_AGE_NS = 60 * STEP_NS
"""A mark price older than this is replaced by the last trade."""
WIDEST_BIN = 0.02
"""However coarse the tick is against the price."""
MEMORY_NS = 72 * HOUR_NS


class HeatModel:
    """See the module. Fill the open `step`, then `close` it; every reading is as of the last close."""

    def __init__(self, config: HeatmapConfig) -> None:
        self.config = config
        self.rules: Rules = rules_of(None, config)
        self.grid: Grid | None = None
        self.ledger: Ledger | None = None
        self.step: Step | None = None
        self.now = 0
        """End of the last closed step."""
        self.mark: int | None = None
        """1e-8 quote units; the last trade where the feed has no mark price."""
        self.mark_time = 0
        self.open_interest: float | None = None
        """One side, base coin."""
        self.first_time: int | None = None
        self.w = 0.5
        self.weights: Floats = np.zeros(0)
        self.prior: Floats = np.zeros(0)
        self.leverages: Floats = np.zeros(0)
        self.evidence: Floats = np.zeros(0)
        self.exposure: Floats = np.zeros(0)
        self.counts: Floats = np.zeros(0)
        """Liquidations attributed to each tier so far."""
        self.forced_count = 0
        self.snapped_count = 0
        self.swept = (0, 0)
        """Bins of the lowest and highest mark price of the last step, once there is a mark."""
        self._kernels: dict[tuple[int, int], Kernel] = {}
        self._bins: dict[int, int] = {}
        self._prices: Floats | None = None
        self._prices_base = 0
        self._field: Floats | None = None
        self._pending: Flow = {}
        self._debts: list[list[float]] = [[], []]
        self._debt_ages: list[list[int]] = [[], []]
        self.sizes = Recent(200)
        """Of the last real liquidations, base coin."""
        self.notionals = Recent(200)
        self._boost: Floats | None = None
        self._recent: deque[tuple[int, int, int]] = deque()
        self._minutes: deque[tuple[int, int, int]] = deque()
        self._risk: npt.NDArray[np.float32] | None = None
        self._window_start = 0
        self._window_interest: float | None = None
        self._window_volume = 0.0
        self._window_forced = 0.0
        self._window_flow: Flow = {}
        self._window_range: tuple[int, int] | None = None
        self._window_closing = [0.0, 0.0]
        self._gap_until = 0
        self._hole = False
        self._next_learn: int | None = None
        self._set_tiers()

    # What the instrument allows.

    def instrument(self, instrument: Instrument) -> None:
        """Take the venue's margin rules; what is on the ledger at other leverages than before is dropped."""
        rules = rules_of(instrument, self.config)
        if rules != self.rules:
            self.rules = rules
            self._set_tiers()

    def restore(self, sizes: list[float], notionals: list[float]) -> None:
        """After ledger, tiers and figures were put back from a state: bring the rest in line with them."""
        assert self.ledger is not None
        self.sizes.extend(sizes)
        self.notionals.extend(notionals)
        self._risk = np.zeros(self.ledger.mass.shape, np.float32)
        most = float(self.leverages[-1])
        known = leverage_tiers(self.config, most)
        self.prior = known[1] if len(known[1]) == len(self.leverages) else self.weights.copy()
        self._bins.clear()
        self._kernels.clear()
        self._field = self._boost = None
        self.step = None
        # What happened while nobody watched is a hole.
        self._hole = True

    def _set_tiers(self) -> None:
        before, weights_before = self.leverages, self.weights
        self.leverages, self.prior = leverage_tiers(self.config, self.rules.max_leverage)
        self.weights = self.prior.copy()
        self._kernels.clear()
        self._field = None
        if np.array_equal(before, self.leverages):
            self.weights = weights_before
            return
        count = len(self.leverages)
        kept = {i: int(np.flatnonzero(before == x)[0]) for i, x in enumerate(self.leverages) if x in before}
        self.evidence, self.exposure, self.counts = np.zeros(count), np.zeros(count), np.zeros(count)
        if self.ledger is not None:
            mass = np.zeros((2, count, self.ledger.count))
            for new, old in kept.items():
                mass[:, new] = self.ledger.mass[:, old]
            self.ledger.mass = mass
            self._risk = np.zeros(mass.shape, np.float32)

    def kernel(self, side: int, tier: int) -> Kernel:
        """Where entries of a side and margin tier would be liquidated."""
        key = (side, tier)
        if key not in self._kernels:
            assert self.grid is not None
            self._kernels[key] = make_kernel(
                self.config, self.grid.width, side == LONG, tuple(self.leverages.tolist()), self.rules, tier
            )
        return self._kernels[key]

    # The open step.

    def bin_of(self, price: int) -> int:
        """The bin of a price, 1e-8 quote units; the first price that comes sets the grid."""
        bin_ = self._bins.get(price)
        if bin_ is None:
            if self.grid is None:
                self._set_grid(price)
            assert self.grid is not None
            if len(self._bins) > 20_000:
                self._bins.clear()
            bin_ = self._bins[price] = self.grid.bin_of(price)
        return bin_

    def _set_grid(self, price: int) -> None:
        self.grid = Grid(min(WIDEST_BIN, max(self.config.bin_width, (self.rules.tick or 0) / price)))
        reach = -log(1.0 - self.config.range_fraction)
        self.ledger = Ledger(len(self.leverages), int(2.5 * reach / self.grid.width), self.grid.bin_of(price))
        self._risk = np.zeros(self.ledger.mass.shape, np.float32)

    def trade(self, step: Step, price: int, size: int, is_buy: bool, event_time: int, is_backfilled: bool) -> None:
        """Count one print; its own value decides the margin tier. Zero and negative prices are ignored."""
        if price <= 0 or size <= 0:
            return
        bin_ = self.bin_of(price)
        tier = 0
        if len(self.rules.tiers) > 1 and price * size > self.rules.tiers[0][0] * 1e16:
            tier = self.rules.tier_of(price * size / 1e16)
        if is_backfilled:
            late = (event_time // MINUTE_NS, is_buy, tier, bin_)
            step.late[late] = step.late.get(late, 0) + size
        else:
            key = (is_buy, tier, bin_)
            step.flow[key] = step.flow.get(key, 0) + size
            step.last_price = price
        if step.low_price is None or price < step.low_price:
            step.low_price = price
        if step.high_price is None or price > step.high_price:
            step.high_price = price

    def trade_sums(self, step: Step, sums: list[list[int]], last_price: int) -> None:
        """Count prints that are neither block trades nor backfilled, summed: (price, 2 * tier + taker buys?, size), by
        rising price, none of it zero.
        """
        flow = step.flow
        for price, kind, size in sums:
            key = (kind & 1 != 0, kind >> 1, self.bin_of(price))
            flow[key] = flow.get(key, 0) + size
        low, high = sums[0][0], sums[-1][0]
        step.last_price = last_price
        step.low_price = low if step.low_price is None else min(step.low_price, low)
        step.high_price = high if step.high_price is None else max(step.high_price, high)

    def mark_price(self, step: Step, price: int) -> None:
        """A mark price came."""
        if price > 0:
            self.mark_prices(step, price, price, price, price)

    @staticmethod
    def mark_prices(step: Step, first: int, high: int, low: int, last: int) -> None:
        """Several came; all above 0."""
        mark = step.mark
        step.mark = [mark[0], max(mark[1], high), min(mark[2], low), last] if mark else [first, high, low, last]

    # Closing it, part by part; the caller keeps the order.

    def sweep(self, step: Step) -> None:
        """The mark price moved: note what stood in its way, then empty it."""
        end = step.start + STEP_NS
        if self._hole:
            step.has_gap = step.gap_in_mark = step.gap_in_trades = True
            self._hole = False
        if self.first_time is None:
            self.first_time = step.start
        mark = step.mark
        if not mark and step.last_price and (self.mark is None or step.start - self.mark_time > MARK_AGE_NS):
            assert step.low_price
            assert step.high_price
            mark = [step.last_price, step.high_price, step.low_price, step.last_price]
        elif mark:
            self.mark_time = end
        if step.gap_in_mark:
            self._gap_until = end + 2 * MINUTE_NS
        if not mark:
            return
        self.bin_of(mark[3])
        ledger, grid = self.ledger, self.grid
        assert ledger is not None
        assert grid is not None
        low, high = mark[2], mark[1]
        if self.mark is not None:
            low, high = min(low, self.mark), max(high, self.mark)
        if step.late and end <= self._gap_until and step.low_price and step.high_price:
            # The mark price of the hole is not known; the trades that came back say how far it may have gone.
            low, high = min(low, step.low_price), max(high, step.high_price)
        self.mark = mark[3]
        moved = ledger.centre_on(self.bin_of(self.mark))
        if moved:
            assert self._risk is not None
            self._risk = shifted(self._risk, moved)
            if self._boost is not None:
                self._boost = shifted(self._boost, moved)
            self._field = None
        low_bin, high_bin = self.bin_of(low), self.bin_of(high)
        self.swept = (low_bin, high_bin)
        self._recent.append((end, low_bin, high_bin))
        while self._recent and self._recent[0][0] <= end - RECENT_NS:
            self._recent.popleft()
        minute = end // MINUTE_NS
        if self._minutes and self._minutes[-1][0] == minute:
            _, old_low, old_high = self._minutes[-1]
            self._minutes[-1] = (minute, min(old_low, low_bin), max(old_high, high_bin))
        else:
            self._minutes.append((minute, low_bin, high_bin))
            while self._minutes[0][0] < minute - 60:
                self._minutes.popleft()
        if self._window_range is None:
            self._window_range = (low_bin, high_bin)
        else:
            self._window_range = (min(self._window_range[0], low_bin), max(self._window_range[1], high_bin))
        if not self.config.sweep:
            return
        self._consume(low_bin, high_bin)

    def _consume(self, low_bin: int, high_bin: int) -> None:
        ledger = self.ledger
        assert ledger is not None
        assert self._risk is not None
        for side, slice_ in (
            (LONG, slice(max(0, low_bin - ledger.base), None)),
            (SHORT, slice(None, max(0, high_bin - ledger.base + 1))),
        ):
            mass = ledger.mass[side, :, slice_]
            held = mass.any(axis=0)
            if held.any():
                self._risk[side, :, slice_][:, held] = mass[:, held]
                if self.config.learn:
                    self.exposure += mass.sum(axis=1)
                mass[:] = 0.0
                self._field = None

    def forced(self, step: Step) -> list[Forced]:
        """The step's real liquidations, bankruptcy price mapped to trigger, in order of event time."""
        events = []
        lowest = min((low for _, low, _ in self._recent), default=None)
        highest = max((high for _, _, high in self._recent), default=None)
        for time, is_long, size, bankruptcy in sorted(step.liquidations):
            if bankruptcy <= 0 or size <= 0:
                continue
            notional = bankruptcy * size / 1e16
            margin = self.rules.tiers[self.rules.tier_of(notional)][1]
            trigger = trigger_of_bankruptcy(is_long, bankruptcy, margin)
            bin_ = mapped = self.bin_of(round(trigger))
            if lowest is not None and highest is not None:
                bin_ = min(max(bin_, lowest), highest)
            snapped = abs(bin_ - mapped) > 1
            self.snapped_count += snapped
            self.forced_count += 1
            events.append(Forced(time, is_long, size / SCALE, notional, bankruptcy, trigger, bin_, snapped))
        return events

    def learn_from(self, events: list[Forced], now: int) -> None:
        """After they were scored and drawn: off the ledger, into the evidence, and a short lift just ahead."""
        ledger = self.ledger
        if ledger is None:
            return
        assert self._risk is not None
        blames: dict[tuple[int, int], Floats | None] = {}  # nothing before its end changes who stood where
        emptied: set[tuple[int, int]] = set()
        lifts: dict[tuple[int, int], float] = {}
        for event in events:
            side = LONG if event.is_long else SHORT
            at = event.bin - ledger.base
            if 0 <= at < ledger.count:
                place = side, at
                # Where the mark price went it is gone already; a neighbour that it has not reached is not touched.
                held = 0.0 if place in emptied else float(self.weights @ ledger.mass[side, :, at])
                if held > 0:
                    ledger.mass[side, :, at] *= max(0.0, 1.0 - event.size / held)
                    self._field = None
                else:
                    emptied.add(place)
                if place not in blames:
                    blame = self.weights * self._risk[side, :, max(0, at - 1) : at + 2].sum(axis=1)
                    blames[place] = blame / blame.sum() if blame.sum() > 0 else None
                if (share := blames[place]) is not None:
                    self.counts += share
                    cap = 10.0 * self.sizes.quantile(0.5) if self.sizes else event.size
                    self.evidence += share * min(event.size, cap)
            self.sizes.append(event.size)
            self.notionals.append(event.notional)
            if self.config.boost:
                strength = (self.config.boost_cap - 1.0) * min(1.0, event.notional / self.notionals.quantile(0.95))
                lifts[side, at] = max(strength, lifts.get((side, at), 0.0))
            self._debts[side].append(event.size)
            self._debt_ages[side].append(0)
        for (side, at), strength in lifts.items():
            self._lift(side, at, strength)
        if self.config.learn:
            self._reweigh(now)

    def _lift(self, side: int, at: int, strength: float) -> None:
        """A liquidated long sells: prices travel down, towards the next longs; a short's buys travel up."""
        assert self.ledger is not None
        assert self.grid is not None
        reach = max(1, round(self.config.boost_reach / self.grid.width))
        low, high = (at - reach, at + 1) if side == LONG else (at, at + reach + 1)
        low, high = max(0, low), max(0, high)
        if self._boost is None:
            self._boost = np.zeros((2, self.ledger.count))
        np.maximum(self._boost[side, low:high], strength, out=self._boost[side, low:high])

    def _fade_boost(self, seconds: float) -> None:
        if self._boost is not None:
            self._boost = self._boost * 2.0 ** (-seconds / self.config.boost_half_life)
            if self._boost.max() < 0.01:
                self._boost = None

    def _reweigh(self, now: int) -> None:
        interval = int(self.config.learn_interval * STEP_NS)
        if self._next_learn is None:
            self._next_learn = now // interval * interval + interval
        if now < self._next_learn:
            return
        self._next_learn = now // interval * interval + interval
        if not self.sizes:
            return
        strength = self.config.learn_prior_events * self.sizes.quantile(0.5)
        expected = float(self.prior @ self.exposure)
        if expected > 0:
            # Only part of what stood there was still open; that share is the scale, the tiers are relative to it.
            scale = self.evidence.sum() / expected
            weights = (self.evidence + strength * self.prior) / (scale * self.exposure + strength)
            self.weights = weights / weights.sum()
            self._field = None
        self.evidence *= self.config.learn_memory
        self.exposure *= self.config.learn_memory

    def flow(self, step: Step) -> None:
        """Take in what was traded one step before, forced flow removed, then close, correct and cap."""
        flow, self._pending = self._pending, step.flow
        if step.gap_in_trades:
            self._window_interest = None
        if step.open_interest is not None:
            self.open_interest = step.open_interest / SCALE
        if self.ledger is None:
            return
        if flow and self.config.remove_forced_flow:
            flow = self._without_forced(flow)
        if flow:
            self._open_and_close(flow, self.w, 1.0)
            if self.config.open_fraction:
                for key, size in flow.items():
                    self._window_flow[key] = self._window_flow.get(key, 0) + size
                    self._window_volume += size / SCALE
        if self.config.open_fraction:
            self._measure_w(step)
        if step.late:
            self._take_late(step)
        if flow or step.late:
            if self.config.sweep and self.mark is not None:
                self.ledger.clear(*self.swept)
            self._cap()
            self._field = None

    def flush(self) -> None:
        """A second went by in which nothing came: what was traded before it is taken in."""
        if self._pending:
            self.flow(Step(self.now))

    def _without_forced(self, flow: Flow) -> Flow:
        """A liquidated long was sold by the venue, a short bought: that size opened nothing."""
        for side in (LONG, SHORT):
            debts, ages = self._debts[side], self._debt_ages[side]
            owed = sum(debts)
            if owed <= 0:
                continue
            is_buy = side == SHORT
            there = sum(size for key, size in flow.items() if key[0] == is_buy) / SCALE
            taken = min(owed, there)
            if taken > 0:
                keep = 1.0 - taken / there
                flow = {key: int(size * keep) if key[0] == is_buy else size for key, size in flow.items()}
                self._window_forced += taken
            left, rest_debts, rest_ages = taken, [], []
            for debt, age in zip(debts, ages, strict=True):
                used = min(debt, left)
                left -= used
                if debt - used > 0 and age < FORCED_STEPS:
                    rest_debts.append(debt - used)
                    rest_ages.append(age + 1)
            self._debts[side], self._debt_ages[side] = rest_debts, rest_ages
        return flow

    def _open_and_close(self, flow: Flow, w: float, sign: float) -> None:
        ledger = self.ledger
        assert ledger is not None
        taken = [0.0, 0.0]
        kappa = self.config.maker_share
        for (is_buy, tier, bin_), size in sorted(flow.items()):
            opened = w * size / SCALE
            side = LONG if is_buy else SHORT
            ledger.deposit(side, bin_, opened, self.kernel(side, tier))
            if kappa:
                ledger.deposit(1 - side, bin_, kappa * opened, self.kernel(1 - side, tier))
            taken[side] += size / SCALE
        if self.config.close_share and self.open_interest:
            for side in (LONG, SHORT):
                # Sells close longs, buys close shorts; positions that the ledger has not seen take their part of it.
                closing = self.config.close_share * (1.0 - w) * (taken[1 - side] + kappa * taken[side])
                if closing > 0:
                    held = max(ledger.total(side, self.weights), self.open_interest)
                    ledger.mass[side] *= max(0.0, 1.0 - closing / held)

    def _measure_w(self, step: Step) -> None:
        end = step.start + STEP_NS
        interest = self.open_interest
        if interest is None:
            return
        if self._window_interest is None:
            self._reset_window(end, interest)
            return
        if end - self._window_start < self.config.open_interest_window * STEP_NS or step.open_interest is None:
            return
        volume = self._window_volume
        if volume > 0:
            used = self.w
            change = interest - self._window_interest + self._window_forced
            self.w = min(1.0, max(0.0, (volume + change) / (2.0 * volume)))
            self._correct(self.w - used)
        self._reset_window(end, interest)

    def _correct(self, by: float) -> None:
        """The window is over and its w known: bring what it opened to the exact share."""
        ledger = self.ledger
        assert ledger is not None
        extra = Ledger(len(self.leverages), ledger.count, 0)
        extra.base = ledger.base
        for (is_buy, tier, bin_), size in sorted(self._window_flow.items()):
            side = LONG if is_buy else SHORT
            extra.deposit(side, bin_, by * size / SCALE, self.kernel(side, tier))
            if self.config.maker_share:
                extra.deposit(1 - side, bin_, by * self.config.maker_share * size / SCALE, self.kernel(1 - side, tier))
        if self._window_range is not None and self.config.sweep:
            extra.clear(*self._window_range)
        ledger.mass = np.maximum(ledger.mass + extra.mass, 0.0)
        self._field = None

    def _reset_window(self, end: int, interest: float) -> None:
        self._window_start = end
        self._window_interest = interest
        self._window_volume = self._window_forced = 0.0
        self._window_flow = {}
        self._window_range = None

    def _take_late(self, step: Step) -> None:
        """Backfilled trades count from their own minute: what the mark price crossed since then is gone."""
        ledger = self.ledger
        assert ledger is not None
        by_minute: dict[int, Flow] = {}
        for (minute, is_buy, tier, bin_), size in step.late.items():
            by_minute.setdefault(minute, {})[is_buy, tier, bin_] = size
        now = step.start // MINUTE_NS
        reach = [(minute, low, high) for minute, low, high in self._minutes]
        for minute, flow in sorted(by_minute.items()):
            if minute < now - 60:
                continue  # older than what is known of the mark price
            extra = Ledger(len(self.leverages), ledger.count, 0)
            extra.base = ledger.base
            for (is_buy, tier, bin_), size in sorted(flow.items()):
                side = LONG if is_buy else SHORT
                extra.deposit(side, bin_, self.w * size / SCALE, self.kernel(side, tier))
            since = [(low, high) for m, low, high in reach if m >= minute]
            if since and self.config.sweep:
                extra.clear(min(low for low, _ in since), max(high for _, high in since))
            ledger.mass += extra.mass

    def _cap(self) -> None:
        """No side holds more than the open interest of one side."""
        if not self.open_interest:
            return
        assert self.ledger is not None
        for side in (LONG, SHORT):
            held = self.ledger.total(side, self.weights)
            if held > self.open_interest:
                self.ledger.mass[side] *= self.open_interest / held

    def age(self, before: int, now: int) -> None:
        """Let the boost fade by seconds and the ledger by whole minutes, so that it does not matter how time was cut."""
        self._fade_boost((now - before) / STEP_NS)
        minutes = now // MINUTE_NS - before // MINUTE_NS
        if minutes <= 0 or self.ledger is None:
            return
        if minutes * MINUTE_NS > MEMORY_NS:
            self.ledger.mass[:] = 0.0
        hours = np.array([self._half_life(leverage) for leverage in self.leverages])
        factor = 2.0 ** (-1.0 / (60.0 * hours))
        for _ in range(min(minutes, 60)):
            self.ledger.mass *= factor[None, :, None]
        if minutes > 60:
            self.ledger.mass *= (factor ** (minutes - 60))[None, :, None]
        self._field = None

    def _half_life(self, leverage: float) -> float:
        for most, hours in self.config.half_life_hours:
            if leverage <= most:
                return hours
        return self.config.half_life_hours[-1][1]

    # Readings.

    @property
    def prices(self) -> Floats:
        """Middle price of every bin of the ledger, quote units."""
        assert self.ledger is not None
        assert self.grid is not None
        if self._prices is None or self._prices_base != self.ledger.base:
            bins = np.arange(self.ledger.base, self.ledger.base + self.ledger.count)
            self._prices = np.exp((bins + 0.5) * self.grid.width) / SCALE
            self._prices_base = self.ledger.base
        return self._prices

    def field(self) -> Floats:
        """`[side, i]` USDT (quote units at the bin's own price) that would be liquidated; do not write to it."""
        assert self.ledger is not None
        if self._field is None:
            self._field = self.ledger.field(self.weights) * self.prices
        return self._field

    def boost(self) -> Floats | None:
        """`[side, i]` factor from recent real liquidations, 1 to `boost_cap`; None where there is none."""
        return None if self._boost is None else 1.0 + self._boost

    def coverage(self) -> tuple[float, float] | None:
        """Long and short mass over the open interest of one side; None while that is unknown."""
        if not self.open_interest or self.ledger is None:
            return None
        return (
            self.ledger.total(LONG, self.weights) / self.open_interest,
            self.ledger.total(SHORT, self.weights) / self.open_interest,
        )
