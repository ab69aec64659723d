"""Owns `wld plot`'s picture: a tape's price, heat, real liquidations, open interest and gaps. Needs matplotlib."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from wld import ConfigError, PositionSide, TapeDamaged, Trade, WldError, open_tape
from wld_heatmap.assessment import symbols_of
from wld_heatmap.column import Column
from wld_heatmap.config import HeatmapConfig
from wld_heatmap.history import HeatMap
from wld_heatmap.memory import KINDS, chunks

WIDTHS_S = (1, 2, 5, 10, 15, 20, 30, 60)
MOST_COLUMNS = 1_600

_THEMES: dict[str, dict[str, Any]] = {
    "dark": {
        "back": "#0e1117", "text": "#d5d9e0", "grid": "#3a404c", "mark": "#ffffff", "price": "#8fa3bf",
        "long": "#ff6b6b", "short": "#4ade80", "gap": "#9aa3b2", "edge": "#0e1117",
        "ramp": ("#0e1117", "#2a1a4a", "#5b2a86", "#a13a84", "#e2605e", "#fba55c", "#fdf3a8"),
    },
    "light": {
        "back": "#ffffff", "text": "#1f2430", "grid": "#c9ced6", "mark": "#111111", "price": "#5f6f86",
        "long": "#b3122b", "short": "#0b7a3b", "gap": "#6b7280", "edge": "#ffffff",
        "ramp": ("#ffffff", "#e3edf7", "#b9d3ea", "#f7c68f", "#ee8a4a", "#c2402e", "#6b0f1a"),
    },
}  # fmt: skip


def plot(
    paths: Iterable[str], output: Path, *, symbol: str | None = None, theme: str = "dark",
    pixels: tuple[int, int] = (1600, 900), reach: float | None = None, config: HeatmapConfig | None = None,
) -> str:  # fmt: skip
    """Draw one symbol of a tape to a file; returns a line that says what is on it.

    Raises:
        ConfigError: matplotlib is not installed.
        WldError: there is nothing to draw, or the file cannot be written.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        raise ConfigError("plot: needs matplotlib: pip install 'wld[plot]'") from None
    mpl.use("Agg")
    chosen: list[Any] = list(paths)
    name = symbols_of(chosen, None if symbol is None else [symbol])[:1]
    if not name:
        raise WldError("plot: no symbol on these tapes")
    heatmap, prices, note = _watch(chosen, name[0], config or HeatmapConfig())
    columns = list(heatmap.columns)
    if len(columns) < 2:
        raise WldError(f"plot: {name[0]}: less than two columns of mark price on these tapes; nothing to draw")
    try:
        _draw(heatmap, columns, prices, output, _THEMES[theme], pixels, reach)
    except OSError as error:
        raise WldError(f"plot: {output} cannot be written: {error.strerror}") from error
    hours = (columns[-1].end - columns[0].start) / 3.6e12
    gaps = sum(column.has_gap for column in columns)
    return (
        f"{name[0]}, {hours:.1f} h in {len(columns)} columns, {len(heatmap.liquidations)} liquidations, "
        f"{gaps} columns with a gap{note}"
    )


def _watch(paths: list[Any], symbol: str, config: HeatmapConfig) -> tuple[HeatMap, list[tuple[int, int]], str]:
    """Replay the tape; columns as narrow as the picture can show. Returns (map, (time, last price) a second, note)."""
    summary_first, summary_last = _span(paths, symbol)
    seconds = max(1, (summary_last - summary_first) // 1_000_000_000)
    width = next((w for w in WIDTHS_S if seconds / w <= MOST_COLUMNS), WIDTHS_S[-1])
    config = msgspec.structs.replace(config, column_seconds=width, fine_hours=seconds / 3600 + 1, history_hours=1.0)
    heatmap = HeatMap(symbol, config)
    heatmap.liquidations = deque()  # all of them
    prices: list[tuple[int, int]] = []
    note = ""
    try:
        for chunk in chunks(open_tape(paths, symbols=[symbol]).only(KINDS)):
            heatmap.apply(chunk)
            for event in chunk:
                if isinstance(event, Trade) and not event.is_block_trade and not event.is_backfilled:
                    if prices and event.receive_time - prices[-1][0] < width * 500_000_000:
                        prices[-1] = (prices[-1][0], event.price)
                    else:
                        prices.append((event.receive_time, event.price))
    except TapeDamaged as error:
        note = f"; {error}"
    heatmap.finish()
    return heatmap, prices, note


def _span(paths: list[Any], symbol: str) -> tuple[int, int]:
    try:
        summary = open_tape(paths, symbols=[symbol]).summary()
    except TapeDamaged:
        return 0, 24 * 3600 * 1_000_000_000
    return summary.first_time or 0, summary.last_time or 0


def _day(time: int) -> datetime:
    return datetime.fromtimestamp(time / 1e9, UTC)


def _draw(
    heatmap: HeatMap, columns: Sequence[Column], prices: list[tuple[int, int]], output: Path, look: dict[str, Any],
    pixels: tuple[int, int], reach: float | None,
) -> None:  # fmt: skip
    from matplotlib import dates
    from matplotlib.colors import LinearSegmentedColormap, LogNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    mdates: Any = dates
    dots = 100
    figure = Figure(figsize=(pixels[0] / dots, pixels[1] / dots), dpi=dots, facecolor=look["back"])
    grid = figure.add_gridspec(
        2, 3, height_ratios=(5, 1), width_ratios=(40, 5, 0.6), hspace=0.06, wspace=0.03, left=0.06, right=0.93,
        top=0.93, bottom=0.07,
    )  # fmt: skip
    main = figure.add_subplot(grid[0, 0])
    profile = figure.add_subplot(grid[0, 1], sharey=main)
    bar = figure.add_subplot(grid[0, 2])
    lower = figure.add_subplot(grid[1, 0], sharex=main)
    for axes in (main, profile, bar, lower):
        axes.set_facecolor(look["back"])
        axes.tick_params(colors=look["text"], labelsize=9)
        for spine in axes.spines.values():
            spine.set_color(look["grid"])

    low, high = _window(columns, heatmap, reach)
    image, times = _image(columns, low, high)
    positive = image[image > 0]
    scale = LogNorm(
        max(1.0, float(np.quantile(positive, 0.5))) if len(positive) else 1.0,
        max(10.0, float(np.quantile(positive, 0.995))) if len(positive) else 10.0,
    )
    ramp = LinearSegmentedColormap.from_list("heat", look["ramp"]).with_extremes(bad=look["ramp"][0])
    edges = np.array([heatmap.price_of(b - 0.5) for b in range(low, high + 1)]) / 1e8
    stamps = mdates.date2num([_day(t) for t in times])
    mesh = main.pcolormesh(stamps, edges, np.ma.masked_less_equal(image, 0.0), norm=scale, cmap=ramp, rasterized=True)
    bar_ = figure.colorbar(mesh, cax=bar, format=FuncFormatter(lambda x, _: _short(x)))
    bar_.ax.yaxis.set_major_locator(LogLocator(10, (1.0, 2.0, 5.0)))
    bar_.ax.yaxis.set_minor_formatter(NullFormatter())
    bar_.set_label("USDT that would be liquidated, a bin (estimate)", color=look["text"], fontsize=9)
    bar.tick_params(colors=look["text"], labelsize=8)

    if prices:
        at = mdates.date2num([_day(t) for t, _ in prices])
        main.plot(at, [p / 1e8 for _, p in prices], color=look["price"], linewidth=0.7, label="last price")
    _mark(main, columns, look, mdates)
    _liquidations(main, heatmap, look, mdates)
    _gaps((main, lower), columns, look, mdates)
    main.set_ylim(edges[0], edges[-1])
    main.set_xlim(stamps[0], stamps[-1])
    main.tick_params(labelbottom=False)
    main.grid(color=look["grid"], linewidth=0.3, alpha=0.5)
    main.set_ylabel("price, USDT", color=look["text"], fontsize=9)
    legend = main.legend(loc="upper left", fontsize=8, framealpha=0.75, facecolor=look["back"], edgecolor=look["grid"])
    for text in legend.get_texts():
        text.set_color(look["text"])
    title = f"{heatmap.symbol}   {_day(columns[0].start):%Y-%m-%d %H:%M} to {_day(columns[-1].end):%Y-%m-%d %H:%M} UTC"
    health = heatmap.health
    if health.lift is not None and health.placebo is not None:
        title += f"   lift@10 {health.lift:.1f} (placebo {health.placebo:.1f}), {health.verdict}"
    else:
        report = heatmap.refresh()
        title += f"   {report.verdict}: " + (report.reason if not report.scores else _lift(report))
    main.set_title(title, color=look["text"], fontsize=11, loc="left")

    last = columns[-1]
    row = image[:, -1]
    centres = (edges[:-1] + edges[1:]) / 2
    mark = (last.mark_close or 0) / 1e8
    profile.barh(
        centres, row, height=np.diff(edges), color=np.where(centres < mark, look["long"], look["short"]), alpha=0.8
    )
    profile.tick_params(labelleft=False, labelbottom=False, left=False, bottom=False)
    profile.set_title("now", color=look["text"], fontsize=9)
    labelled: list[float] = []
    for zone in sorted(heatmap.zones(3), key=lambda zone: -zone.notional):
        room = all(abs(zone.price / 1e8 - other) > 0.055 * (edges[-1] - edges[0]) for other in labelled)
        if edges[0] < zone.price / 1e8 < edges[-1] and room:
            labelled.append(zone.price / 1e8)
            side = "L" if zone.side is PositionSide.LONG else "S"
            profile.text(
                0.98, zone.price / 1e8, f"{side} {_short(zone.notional)}\n{zone.tiers}", color=look["text"],
                fontsize=7, ha="right", va="center", transform=profile.get_yaxis_transform(),
                bbox={"facecolor": look["back"], "edgecolor": "none", "alpha": 0.75, "pad": 1.0},
            )  # fmt: skip

    interest = [(c.end, c.open_interest) for c in columns if c.open_interest]
    if interest:
        at = mdates.date2num([_day(t) for t, _ in interest])
        values = [v for _, v in interest]
        lower.plot(at, values, color=look["price"], linewidth=1.0)
        lower.fill_between(at, values, min(values), color=look["price"], alpha=0.25, linewidth=0)
    lower.yaxis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))
    lower.set_ylabel("OI, coins\n(one side)", color=look["text"], fontsize=8)
    lower.grid(color=look["grid"], linewidth=0.3, alpha=0.5)
    locator = mdates.AutoDateLocator(minticks=4, maxticks=12)
    lower.xaxis.set_major_locator(locator)
    lower.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))
    figure.savefig(output, facecolor=look["back"])


def _lift(report: Any) -> str:
    return f"lift@10 {report.score('model').lift.value:.1f}, placebo {report.placebo.value:.1f}"


def _window(columns: Sequence[Column], heatmap: HeatMap, reach: float | None) -> tuple[int, int]:
    """Bins to show: the mark price's whole path, and what is asked for (or fits it) on either side."""
    lows = [c.mark_low for c in columns if c.mark_low]
    highs = [c.mark_high for c in columns if c.mark_high]
    if not lows or not highs:
        raise WldError(f"plot: {heatmap.symbol}: no mark price on these tapes; nothing to draw")
    low, high = heatmap.bin_of(min(lows)), heatmap.bin_of(max(highs))
    if reach is None:
        extra = max(round(0.02 / heatmap.bin_width), round(0.6 * (high - low)))
    else:
        extra = round(reach / heatmap.bin_width)
    return low - extra, high + extra


def _image(columns: Sequence[Column], low: int, high: int) -> tuple[Any, list[int]]:
    image = np.zeros((high - low, len(columns)))
    for i, column in enumerate(columns):
        raw = column.raw
        start = column.low_bin - low
        a, b = max(0, start), min(high - low, start + len(raw))
        if a < b:
            image[a:b, i] = raw[a - start : b - start]
    return image, [columns[0].start, *(column.end for column in columns)]


def _mark(axes: Any, columns: Sequence[Column], look: dict[str, Any], mdates: Any) -> None:
    times, values = [], []
    for column in columns:
        times.append(mdates.date2num(_day(column.end)))
        known = column.mark_close is not None and not column.has_gap
        values.append((column.mark_close or 0) / 1e8 if known else np.nan)
    axes.plot(times, values, color=look["edge"], linewidth=2.8, alpha=0.7)
    axes.plot(times, values, color=look["mark"], linewidth=1.2, label="mark price")


def _liquidations(axes: Any, heatmap: HeatMap, look: dict[str, Any], mdates: Any) -> None:
    marks = list(heatmap.liquidations)
    most = max((m.notional for m in marks), default=1.0)
    for side, key, shape, label in (
        (PositionSide.LONG, "long", "v", "real liquidation, long"),
        (PositionSide.SHORT, "short", "^", "real liquidation, short"),
    ):
        of_side = [m for m in marks if m.position_side is side]
        if of_side:
            axes.scatter(
                mdates.date2num([_day(m.time) for m in of_side]), [m.trigger_price / 1e8 for m in of_side],
                s=[6 + 150 * (m.notional / most) for m in of_side], marker=shape, color=look[key],
                edgecolors=look["edge"], linewidths=0.3, alpha=0.85, zorder=4, label=f"{label} ({len(of_side)})",
            )  # fmt: skip


def _gaps(many: Sequence[Any], columns: Sequence[Column], look: dict[str, Any], mdates: Any) -> None:
    spans: list[list[int]] = []
    for column in columns:
        if column.has_gap:
            if spans and spans[-1][1] == column.start:
                spans[-1][1] = column.end
            else:
                spans.append([column.start, column.end])
    for start, end in spans:
        for axes in many:
            axes.axvspan(
                mdates.date2num(_day(start)), mdates.date2num(_day(end)), facecolor="none", edgecolor=look["gap"],
                hatch="////", linewidth=0.4, zorder=3, label="gap in the feed" if start == spans[0][0] else None,
            )  # fmt: skip


def _short(value: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
