"""Owns the verdict on what a tape holds: per symbol and topic, complete from when to when, or the exact holes. Pure.

Does not read files: `wld.tape.verify` shows it every block. A hole is an open Gap (no Repair closed it), a book whose
update ids skip with no Gap to say so, or time between two recordings. A Repair brings back trades: of a Gap in all
topics the other topics keep their hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld.events import Gap, GapReason, Repair
from wld.tape import layout
from wld.tape.table import Table
from wld.units import ABSENT, INT64_MAX, INT64_MIN

STRICT_DEPTH = 50
"""From this book depth on, update ids grow by exactly 1."""
NOT_RECORDED = "not_recorded"
UNEXPLAINED = "unexplained"
_TOPIC = {layout.TRADE: "publicTrade", layout.LIQUIDATION: "allLiquidation", layout.TICKER: "tickers"}

Ints = npt.NDArray[np.int64]


class Hole(Struct, frozen=True):
    """Something missing in one topic; receive times in ns around it."""

    reason: str
    """Of the Gap; `not_recorded` between recordings; `unexplained` where update ids skip without a Gap."""
    first_time: int
    last_time: int
    missed: int | None = None
    """Messages; None: unknown."""


class TopicVerdict(Struct, frozen=True):
    """One symbol's topic. `first_time` and `last_time` are of the symbol: a quiet topic is complete all the same."""

    symbol: str
    topic: str
    """The venue's name without the symbol."""
    events: int
    first_time: int
    last_time: int
    holes: tuple[Hole, ...]
    repaired: int
    """Gaps that a Repair closed."""
    covered: float
    """Share of the time from first to last that lies in no hole, 0 to 1."""

    @property
    def gaps(self) -> int:
        """Holes in the feed; time between recordings is none."""
        return sum(hole.reason != NOT_RECORDED for hole in self.holes)

    @property
    def is_complete(self) -> bool:
        """Whether the feed has no hole."""
        return not self.gaps


class _State:
    __slots__ = ("events", "first", "last", "last_id", "last_number", "last_time", "run")

    def __init__(self) -> None:
        self.events = 0
        self.first: int | None = None
        self.last: int | None = None
        self.run = ""
        self.last_id = self.last_number = self.last_time = 0


class _Skip(Struct, frozen=True):
    """Update ids that skip between two ring numbers of one run."""

    run: str
    after: int
    before: int
    hole: Hole


class Ledger:
    """What every topic received and lost; show it each block of a recording in order, then ask for the verdict."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], _State] = {}
        self._skips: dict[tuple[str, str], list[_Skip]] = {}
        self._gaps: list[tuple[str, int, Gap]] = []
        self._repairs: dict[tuple[str, int], Repair] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        self._runs: dict[str, set[str]] = {}
        """Symbol to the runs that hold events of it."""

    def see(self, part: Table, run: str) -> None:
        """The events of a block; `run` is the same for all files of one recorder's run."""
        if not len(part):
            return
        first, last = part.times()
        begun, ended = self._spans.get(run, (first, last))
        self._spans[run] = (min(begun, first), max(ended, last))
        if part.kind == layout.GAP:
            self._gaps += [
                (run, number, gap)
                for number, gap in zip(part.numbers.tolist(), part.columns["event"], strict=True)
                if isinstance(gap, Gap)
            ]
        elif part.kind == layout.REPAIR:
            for repair in part.columns["event"]:
                if isinstance(repair, Repair):
                    self._repairs[run, repair.gap_id] = repair
        elif part.kind in _TOPIC:
            times = _ints(part, "receive_time")
            for symbol, rows in _by_value(part.symbol_indices()):
                self._count(part.symbols[symbol], _TOPIC[part.kind], times[rows], run)
        elif part.kind == layout.BOOK:
            self._see_books(part, run)

    def _count(self, symbol: str, topic: str, times: Ints, run: str) -> _State:
        self._runs.setdefault(symbol, set()).add(run)
        state = self._states.setdefault((symbol, topic), _State())
        state.events += len(times)
        first, last = int(times.min()), int(times.max())
        state.first = first if state.first is None else min(state.first, first)
        state.last = last if state.last is None else max(state.last, last)
        return state

    def _see_books(self, part: Table, run: str) -> None:
        times, depths = _ints(part, "receive_time"), _ints(part, "depth")
        ids, numbers = _ints(part, "update_id"), part.numbers
        is_snapshot = _ints(part, "is_snapshot") != 0
        for symbol, of_symbol in _by_value(part.symbol_indices()):
            for depth, within in _by_value(depths[of_symbol]):
                rows = of_symbol[within]
                name = part.symbols[symbol]
                topic = f"orderbook.{depth}"
                state = self._count(name, topic, times[rows], run)
                if depth >= STRICT_DEPTH:
                    self._check_ids(name, topic, state, run, ids[rows], is_snapshot[rows], numbers[rows], times[rows])
                state.run, state.last_id = run, int(ids[rows[-1]])
                state.last_number, state.last_time = int(numbers[rows[-1]]), int(times[rows[-1]])

    def _check_ids(
        self,
        symbol: str,
        topic: str,
        state: _State,
        run: str,
        ids: Ints,
        is_snapshot: npt.NDArray[np.bool_],
        numbers: Ints,
        times: Ints,
    ) -> None:
        expected = np.empty(len(ids), np.int64)
        expected[1:] = ids[:-1] + 1
        expected[0] = layout.clamp(state.last_id + 1) if state.run == run else ids[0]
        for i in np.flatnonzero(~is_snapshot & (ids != expected)).tolist():
            before = (int(numbers[i - 1]), int(times[i - 1])) if i else (state.last_number, state.last_time)
            skipped = int(ids[i]) - int(expected[i])
            hole = Hole(UNEXPLAINED, before[1], int(times[i]), skipped if skipped > 0 else None)
            self._skips.setdefault((symbol, topic), []).append(_Skip(run, before[0], int(numbers[i]), hole))

    # The verdict.

    def open_gaps(self) -> list[Gap]:
        """Gaps that no Repair closed."""
        return [gap for run, _, gap in self._gaps if not self._is_closed(run, gap)]

    def repaired_gaps(self) -> list[Gap]:
        """Gaps that a Repair closed."""
        return [gap for run, _, gap in self._gaps if self._is_closed(run, gap)]

    def _is_closed(self, run: str, gap: Gap) -> bool:
        repair = self._repairs.get((run, gap.gap_id))
        return repair is not None and repair.remaining == 0

    def _comes_back(self, run: str, refused: Gap) -> bool:
        """Whether a refused topic had anything afterwards, if only a Gap that ends where the venue served it again."""
        state = self._states.get((refused.symbol or "", refused.topic or ""))
        return (state is not None and state.last is not None and state.last > refused.receive_time) or any(
            gap.reason is refused.reason
            and (gap.topic, gap.symbol) == (refused.topic, refused.symbol)
            and gap.last_time is not None
            and gap.gap_id > refused.gap_id
            for other, _, gap in self._gaps
            if other == run
        )

    def not_recorded(self) -> list[tuple[int, int]]:
        """(last time before, first after) between recordings, where neither ran."""
        merged: list[list[int]] = []
        for first, last in sorted(self._spans.values()):
            if merged and first <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], last)
            else:
                merged.append([first, last])
        return [(before[1], after[0]) for before, after in pairwise(merged)]

    def verdicts(self) -> list[TopicVerdict]:
        """One for each symbol and topic that had events, or a Gap of its own; by symbol, then topic."""
        keys = set(self._states)
        keys |= {(gap.symbol, gap.topic) for _, _, gap in self._gaps if gap.symbol and gap.topic}
        spans: dict[str, tuple[int, int]] = {}
        for (symbol, _), state in self._states.items():
            if state.first is not None and state.last is not None:
                first, last = spans.get(symbol, (state.first, state.last))
                spans[symbol] = (min(first, state.first), max(last, state.last))
        whole = (
            min((first for first, _ in self._spans.values()), default=0),
            max((last for _, last in self._spans.values()), default=0),
        )
        pauses = [Hole(NOT_RECORDED, first, last) for first, last in self.not_recorded()]
        return [self._verdict(symbol, topic, spans.get(symbol, whole), pauses) for symbol, topic in sorted(keys)]

    def _verdict(self, symbol: str, topic: str, span: tuple[int, int], pauses: Sequence[Hole]) -> TopicVerdict:
        holes: list[Hole] = []
        repaired = 0
        own: list[tuple[str, int]] = []
        for run, number, gap in self._gaps:
            if gap.topic not in (None, topic) or gap.symbol not in (None, symbol):
                continue
            if gap.symbol is None and symbol in self._runs and run not in self._runs[symbol]:
                continue  # of a worker that records other symbols
            if gap.topic is None and gap.reason is GapReason.UNDECODABLE and _is_strict(topic):
                skips = self._skips.get((symbol, topic), ())
                if not any(run == skip.run and skip.after < number < skip.before for skip in skips):
                    continue  # the update ids go on across it: it was not of this topic
            own.append((run, number))
            if self._is_closed(run, gap) and (topic == _TOPIC[layout.TRADE] or gap.topic is not None):
                repaired += 1
                continue
            repair = self._repairs.get((run, gap.gap_id))
            first = gap.receive_time if gap.first_time is None else gap.first_time
            last = gap.receive_time if gap.last_time is None else gap.last_time
            if gap.reason is GapReason.REJECTED_TOPIC and gap.last_time is None and not self._comes_back(run, gap):
                last = max(last, span[1])
            missed = gap.missed if repair is None or not repair.remaining else repair.remaining
            if gap.symbol is not None or (span[0] <= last and first <= span[1]):
                holes.append(Hole(gap.reason.value, min(first, last), max(first, last), missed))
        for skip in self._skips.get((symbol, topic), ()):
            if not any(run == skip.run and skip.after < number < skip.before for run, number in own):
                holes.append(skip.hole)
        holes += [hole for hole in pauses if span[0] <= hole.first_time and hole.last_time <= span[1]]
        holes.sort(key=lambda hole: (hole.first_time, hole.last_time))
        state = self._states.get((symbol, topic))
        covered = _covered(span, holes) if state is not None else 0.0
        return TopicVerdict(symbol, topic, state.events if state else 0, *span, tuple(holes), repaired, covered)


def _is_strict(topic: str) -> bool:
    head, _, depth = topic.partition(".")
    return head == "orderbook" and depth.isdecimal() and int(depth) >= STRICT_DEPTH


def _covered(span: tuple[int, int], holes: Iterable[Hole]) -> float:
    lost, reached = 0, span[0]
    for hole in holes:
        first, last = max(hole.first_time, reached), min(hole.last_time, span[1])
        if last > first:
            lost += last - first
        reached = max(reached, last)
    length = span[1] - span[0]
    return 1 - lost / length if length else 1.0


def _ints(part: Table, name: str) -> Ints:
    """A column as int64; what does not fit is clamped, which only a made-up tape needs."""
    column: Any = part.columns.get(name)
    if isinstance(column, list):
        clamped = [ABSENT if value is None else max(INT64_MIN, min(INT64_MAX, value)) for value in column]
        return np.array(clamped, np.int64)
    return part.ints(name)


def _by_value(values: Ints) -> list[tuple[int, Ints]]:
    """(value, the rows that have it, in order)."""
    if not len(values):
        return []
    if (values == values[0]).all():
        return [(int(values[0]), np.arange(len(values)))]
    order = np.argsort(values, kind="stable")
    edges = np.flatnonzero(np.diff(values[order])) + 1
    return [(int(values[rows[0]]), rows) for rows in np.split(order, edges)]
