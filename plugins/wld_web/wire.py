"""Owns what the page is told: columns, liquidations, zones and figures as JSON values. Pure; computes no market number."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

from wld_heatmap import Column, HeatMap, LiquidationMark, Zone

from wld import SCALE
from wld.terminal import Line, Note, Role, numbers
from wld.terminal.palette import THEMES, Color, heat_ramp

HISTORY_COLUMNS = 300
"""Columns of one answer: some 300 KB at the widest."""


def themes() -> dict[str, Any]:
    """The terminal's themes as RGB: the heat ramp from none to strongest, and the named colours the page draws with."""
    return {
        name: {
            "light": theme.is_light,
            "ramp": heat_ramp(theme),
            "background": theme.heat[0],
            "text": theme.text,
            "mark": theme.named[Color.MARK][0],
            "gap": theme.named[Color.FAINT][0],
            "long": theme.named[Color.LONG][0],
            "short": theme.named[Color.SHORT][0],
        }
        for name, theme in THEMES.items()
    }


def _floats(heat: Any) -> str:
    return base64.b64encode(heat.astype("<f4").tobytes()).decode()


def column_of(column: Column, price: int | None = None) -> dict[str, Any] | None:
    """A column: heat as base64 of little-endian float32, USDT a bin from `low` up; mark prices in quote units.

    `price` (1e-8) stands in where the column saw no mark price; None where none is known: there is nothing to draw
    against.
    """
    mark = (column.mark_open, column.mark_high, column.mark_low, column.mark_close)
    seen = [price if own is None else own for own in mark]
    if any(own is None for own in seen):
        return None
    return {
        "start": column.start,
        "end": column.end,
        "low": column.low_bin,
        "raw": _floats(column.raw),
        "boosted": None if column.codes_boosted is None else _floats(column.boosted),
        "mark": [own / SCALE for own in seen if own is not None],
        "seed": column.is_seed,
        "gap": column.has_gap,
    }


def columns_of(columns: Iterable[Column]) -> list[dict[str, Any]]:
    """Those of them that can be drawn; where one saw no mark price, the last one known stands in."""
    told: list[dict[str, Any]] = []
    price: int | None = None
    for column in columns:
        wire = column_of(column, price)
        if wire is not None:
            told.append(wire)
        price = price if column.mark_close is None else column.mark_close
    return told


def liquidation_of(mark: LiquidationMark) -> dict[str, Any]:
    """A real liquidation at its mapped trigger price."""
    return {
        "time": mark.time,
        "side": mark.position_side.value,
        "price": mark.trigger_price / SCALE,
        "notional": mark.notional,
        "percentile": mark.percentile,
        "hit": mark.is_hit,
    }


def line_of(line: Line) -> list[tuple[str, str]]:
    """(text, role) of each piece."""
    spans = ((line, Role.TEXT),) if isinstance(line, str) else line
    return [(text, Role(role).name.lower()) for text, role in spans]


def group_of(title: str, lines: Iterable[Line]) -> dict[str, Any]:
    """A panel: its title and its lines."""
    return {"title": title, "lines": [line_of(line) for line in lines]}


def note_of(note: Note) -> list[tuple[str, str]]:
    """A line of the event tape behind its time."""
    return [(f"[{numbers.clock(note.time)}] ", "faint"), *line_of(note.line)]


def zone_of(name: str, zone: Zone) -> dict[str, Any]:
    """A labelled zone."""
    return {
        "name": name,
        "side": zone.side.value,
        "price": zone.price / SCALE,
        "notional": numbers.amount(zone.notional),
        "distance": numbers.percent(zone.distance, 1),
        "tiers": zone.tiers,
    }


def grid_of(heatmap: HeatMap, digits: int) -> dict[str, Any]:
    """How bins map to prices: bin b begins at `reference * exp(b * step)` quote units."""
    return {"reference": 1 / SCALE, "step": heatmap.bin_width, "digits": digits}


def history(heatmap: HeatMap, before: int | None, count: int) -> tuple[list[dict[str, Any]], bool]:
    """(at most `count` columns that end by `before`, oldest first; whether older ones are left).

    Fine columns while there are any, then those of a minute.
    """
    count = max(1, min(count, HISTORY_COLUMNS))
    fine: Sequence[Column] = heatmap.columns
    minutes: Sequence[Column] = heatmap.minute_columns
    first_fine = fine[0].start if fine else None
    wanted = [c for c in fine if before is None or c.end <= before]
    older = [c for c in minutes if (first_fine is None or c.end <= first_fine) and (before is None or c.end <= before)]
    chosen = (older + wanted)[-count:]
    return columns_of(chosen), len(older) + len(wanted) > len(chosen)
