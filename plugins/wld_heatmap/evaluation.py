"""Owns the honest score: which buckets the mark price swept, what was believed of them before, what was liquidated.

Pure. Prequential only: a bucket is scored against heat frozen before the mark price got there, by the same code live
and on replay. Does not own the model, what it is compared with (baselines) nor the verdict on a sample (judgement).

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

from wld_heatmap.baselines import BASELINES, Baselines
from wld_heatmap.ledger import LONG, SHORT, Floats, shifted
from wld_heatmap.model import RECENT_NS, HeatModel
from wld_heatmap.step import MINUTE_NS, STEP_NS, Forced, Step

Indices = npt.NDArray[np.int64]

REARM = 0.005
"""A bucket counts again once the mark price was this far (fraction) beyond it: nearer than that no position opened
since could have its trigger there (1/L less the maintenance margin, at the highest leverages)."""
LEAD_S = 1
"""Heat is frozen at least so long before the step in which the bucket is crossed."""
TOP = 0.10
WARM_UP_NS = 10 * MINUTE_NS
"""Buckets crossed so soon after a cold start are not scored: nothing could be known of them."""
MAX_BUCKETS = 60_000
"""The live score forgets the oldest beyond so many (weeks of one symbol)."""

SERIES = ("model", "boosted", *BASELINES)


class _Frozen(Struct, frozen=True):
    time: int
    base: int
    fields: dict[str, Floats]


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
