"""Owns scoring the model on tapes: one picklable unit a symbol, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from wld import TapeDamaged, TapeError, Trade, open_tape
from wld_heatmap.config import HeatmapConfig
from wld_heatmap.evaluation import Sample
from wld_heatmap.history import HeatMap
from wld_heatmap.judgement import Report, judge
from wld_heatmap.memory import KINDS, chunks

HOUR_S = 3600


class Assessment(Struct, frozen=True):
    """One symbol's score on tapes."""

    symbol: str
    span_hours: float
    trades: int
    margin: str
    coverage: tuple[float, float] | None
    """Long and short share of open interest that the ledger knew at the end."""
    tiers: tuple[tuple[float, float, float], ...]
    """(leverage, weight, liquidations attributed to it)."""
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    """What of the tapes could not be read."""
    reports: tuple[Report, ...]
    """One a lead, in the order asked for."""
    samples: tuple[Sample, ...]
    """The swept buckets behind each report."""


def assess_symbol(
    paths: Iterable[str], symbol: str, config: HeatmapConfig | None = None, leads: tuple[int, ...] = (1,),
    progress: Callable[[int], None] | None = None,
) -> Assessment:  # fmt: skip
    """Replay one symbol through the model and judge it: the unit that may run anywhere.

    Raises:
        TapeError: there is no tape.
    """
    heatmap = HeatMap(symbol, config, leads=leads, keep_columns=False)
    tape = open_tape(list(paths), symbols=[symbol]).only(KINDS)
    problems = []
    trades, first, last = 0, None, None
    try:
        for chunk in chunks(tape):
            heatmap.apply(chunk)
            trades += sum(isinstance(event, Trade) for event in chunk)
            first = chunk[0].receive_time if first is None else first
            last = chunk[-1].receive_time
            if progress is not None:
                progress(len(chunk))
    except TapeDamaged as error:
        problems.append(str(error))
    heatmap.finish()
    samples = tuple(heatmap.scorer.sample(lead) for lead in leads)
    health = heatmap.health
    return Assessment(
        symbol, ((last or 0) - (first or 0)) / 1e9 / HOUR_S, trades, health.margin, heatmap.model.coverage(),
        health.tiers, health.notes, tuple(problems), tuple(judge(sample) for sample in samples), samples,
    )  # fmt: skip


def symbols_of(paths: Iterable[str], wanted: Iterable[str] | None) -> list[str]:
    """Which symbols to score. Raises: TapeError: a wanted one is not on the tapes."""
    there = open_tape(list(paths)).symbols
    if wanted is None:
        return list(there)
    for symbol in wanted:
        if symbol not in there:
            raise TapeError(f"{symbol}: not on these tapes; they hold {', '.join(there) or 'nothing'}")
    return list(wanted)


def count_events(paths: Iterable[str], wanted: Iterable[str] | None) -> int:
    """How many events will be read, for a progress bar."""
    try:
        by_symbol = open_tape(list(paths)).summary().by_symbol
    except TapeDamaged:
        return 0
    chosen = set(by_symbol if wanted is None else wanted)
    return sum(
        count for symbol, kinds in by_symbol.items() if symbol in chosen
        for kind, count in kinds.items() if kind in KINDS
    )  # fmt: skip


def assess(
    paths: Iterable[str], symbols: Iterable[str] | None = None, config: HeatmapConfig | None = None,
    leads: tuple[int, ...] = (1,), *, progress: Callable[[int], None] | None = None,
    map_: Callable[..., Iterable[Any]] = map,
) -> list[Assessment]:  # fmt: skip
    """Score each symbol of the tapes; `map_` may spread them over processes or machines.

    Raises:
        TapeError: there is no tape, or a symbol is not on it.
    """
    chosen = [str(Path(path).absolute()) for path in paths]  # a worker elsewhere stands in another folder
    unit = partial(_unit, chosen, config, leads, progress)
    return list(map_(unit, symbols_of(chosen, symbols)))


def _unit(
    paths: list[str], config: HeatmapConfig | None, leads: tuple[int, ...],
    progress: Callable[[int], None] | None, symbol: str,
) -> Assessment:  # fmt: skip
    return assess_symbol(paths, symbol, config, leads, progress)
