"""Owns `wld evaluate` and `wld plot`: arguments, progress, tables. The scoring is evaluation's, the drawing plotting's."""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from wld import ConfigError, WldError
from wld_heatmap.config import HeatmapConfig, check

if TYPE_CHECKING:
    from wld_heatmap.assessment import Assessment

DEFAULT_FILE = "wld.toml"
TABLE = "sinks.heatmap"


def read_config(file: str | None, settings: tuple[str, ...] = ()) -> HeatmapConfig:
    """`[sinks.heatmap]` of the file (`wld.toml` where there is one), then `KEY=VALUE` settings over it.

    Raises:
        ConfigError: the file, a key or a value, in one line that says which and what is accepted.
    """
    known = {f.encode_name for f in msgspec.structs.fields(HeatmapConfig)}
    table: dict[str, Any] = {}
    where = file or (DEFAULT_FILE if Path(DEFAULT_FILE).exists() else None)
    if where is not None:
        try:
            sinks = tomllib.loads(Path(where).read_text("utf-8")).get("sinks", {})
        except OSError as error:
            raise ConfigError(f"{where}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}: not valid TOML: {error}") from None
        own = sinks.get("heatmap", {}) if isinstance(sinks, dict) else {}
        # Keys that every sink takes are the engine's business.
        table.update({key: value for key, value in own.items() if key in known})
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: expected KEY=VALUE, such as learn=true")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text
        table[key.strip().removeprefix(f"{TABLE}.")] = value
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f'did you mean "{close[0]}"?' if close else f"accepted: {', '.join(sorted(known))}"
            raise ConfigError(f"{TABLE}.{key}: unknown key; {hint}")
    try:
        return check(msgspec.convert(table, HeatmapConfig))
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at ")
        key = at.strip("`").removeprefix("$")
        raise ConfigError(f"{TABLE}{key}: {message[0].lower()}{message[1:]}") from None


def _symbols(text: str | None) -> tuple[str, ...] | None:
    return None if text is None or text == "all" else tuple(s.strip() for s in text.split(",") if s.strip())


@click.command(
    epilog="\b\nExamples:\n  wld evaluate data/history\n  wld evaluate data/history --lead 60 --set learn=false"
)
@click.argument("paths", nargs=-1, required=True)
@click.option("--symbols", help="Such as WLDUSDT,BTCUSDT (default: all on the tape).")
@click.option(
    "--lead", "leads", multiple=True, type=click.IntRange(1, 86_400), default=(1, 300, 3600), show_default=True,
    metavar="SECONDS", help="Freeze heat so long before a bucket is crossed; may be given again.",
)  # fmt: skip
@click.option("--config", "config_file", help=f"TOML file whose [{TABLE}] is used (default {DEFAULT_FILE}).")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=f"Any key of [{TABLE}].")
@click.option("--engine", default="local", show_default=True, help="local, or dask (a running cluster).")
@click.option("--scheduler", default=None, help="Of the Dask cluster, such as tcp://127.0.0.1:8786.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def evaluate(
    paths: tuple[str, ...], symbols: str | None, leads: tuple[int, ...], config_file: str | None,
    settings: tuple[str, ...], engine: str, scheduler: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Score the heat model on tapes: lift, bits against every baseline, placebo, calibration; with intervals.

    Nothing is fitted on what it is scored on: heat is frozen before the mark price reaches a bucket. Status 0: scored
    (whatever the verdict), 1: a tape is damaged or missing (what is whole is still scored), 2: a wrong argument.
    """
    from rich.console import Console
    from rich.progress import Progress

    from wld.engines import open_engine
    from wld_heatmap import assessment

    config = read_config(config_file, settings)
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 132)
    err = Console(stderr=True)
    quiet = as_json or not sys.stderr.isatty()
    with open_engine(engine, scheduler) as map_units, Progress(console=err, transient=True, disable=quiet) as progress:
        if map_units is not None:  # workers stand in folders of their own
            paths = tuple(map(os.path.abspath, paths))
        count = 0 if quiet or map_units else assessment.count_events(paths, _symbols(symbols))
        bar = progress.add_task("reading", total=count or None)
        results = assessment.assess(
            paths, _symbols(symbols), config, tuple(dict.fromkeys(leads)),
            progress=None if map_units else lambda read: progress.advance(bar, read),
            map_=map_units or map,
        )  # fmt: skip
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_for_programs(a) for a in results]), indent=2).decode())
    else:
        for result in results:
            _print(out, result)
    problems = [p for result in results for p in result.problems]
    if problems:
        raise WldError(problems[0])
    return 0


def _for_programs(result: Assessment) -> dict[str, Any]:
    return {name: getattr(result, name) for name in result.__struct_fields__ if name != "samples"}


def _print(out: Any, result: Assessment) -> None:
    from rich.table import Table

    from wld_heatmap.baselines import MEANING

    first = result.reports[0]
    out.print(f"[bold]{result.symbol}[/]  {result.span_hours:.1f} h, {result.trades:,} trades, {result.margin}")
    for report in result.reports:
        lead = f"{report.lead} s" if report.lead < 120 else f"{report.lead // 60} min"
        out.print(
            f"\nHeat frozen {lead} before: {report.events:,} liquidations in {report.hours} h, {report.buckets:,} "
            f"buckets swept, {100 * report.matched:.0f}% matched ({100 * report.snapped:.0f}% to the nearest)"
        )
        if not report.scores:
            out.print(f"  [bold]{report.verdict}[/]: {report.reason}")
            continue
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for name in ("", "lift@10", "95 %", "AUC", "D2", "heat less it: bits", "95 %", "heat less it: lift", "95 %"):
            table.add_column(name, justify="right" if name else "left", no_wrap=True)
        against = {c.name: c for c in report.comparisons}
        for score in report.scores:
            row = [score.name, f"{score.lift.value:.2f}", _range(score.lift), f"{score.auc:.3f}", f"{score.d2:+.3f}"]
            other = against.get(score.name)
            if other is not None:
                row += [
                    f"{other.bits.value:+.2f}",
                    _range(other.bits, "+.2f"),
                    f"{other.lift.value:+.2f}",
                    _range(other.lift, "+.2f"),
                ]
            table.add_row(*row)
        out.print(table)
        if report.over_placebo is not None and report.placebo is not None and report.boost is not None:
            out.print(
                f"  placebo {report.placebo.value:.2f} (permuted within the hour), mirrored {report.mirrored:.2f}, "
                f"lift over placebo {report.over_placebo.value:.2f} {_range(report.over_placebo)}"
            )
            out.print(f"  boosted less raw: bits {_signed(report.boost.bits)}, lift {_signed(report.boost.lift)}")
        out.print(f"  [bold]{report.verdict}[/]: {report.reason}")
    if first.calibration:
        table = Table(title="Calibration, USDT a bucket, coldest tenth first", title_justify="left", box=None,
                      title_style="", header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)  # fmt: skip
        table.add_column("")
        for i in range(len(first.calibration)):
            table.add_column(str(i + 1), justify="right")
        table.add_row("predicted", *(f"{d.predicted:,.0f}" for d in first.calibration))
        table.add_row("realised", *(f"{d.realised:,.0f}" for d in first.calibration))
        out.print()
        out.print(table)
        if first.calibration_slope is not None:
            out.print(f"  slope of log realised over log predicted {first.calibration_slope:.2f} (1: calibrated)")
    tiers = ", ".join(f"{x:g}x {100 * w:.0f}% (n {n:.0f})" for x, w, n in result.tiers)
    out.print(f"\nLeverage weights: {tiers}")
    for note in result.notes:
        out.print(f"Note: {note}")
    out.print("[dim]" + "; ".join(f"{name}: {text}" for name, text in MEANING.items()) + "[/]\n")


def _range(interval: Any, form: str = ".2f") -> str:
    return f"\\[{interval.low:{form}}, {interval.high:{form}}]"


def _signed(interval: Any) -> str:
    return f"{interval.value:+.2f} \\[{interval.low:+.2f}, {interval.high:+.2f}]"


@click.command(epilog="\b\nExamples:\n  wld plot data/history --out heat.png --symbol BTCUSDT")
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    "--output",
    "output",
    default="heat.png",
    show_default=True,
    help="A .png, .svg or .pdf file to write.",
)
@click.option("--symbol", help="Which one (default: the tape's first).")
@click.option("--theme", type=click.Choice(("dark", "light")), default="dark", show_default=True)
@click.option("--size", default="1600x900", show_default=True, help="Pixels.")
@click.option("--range", "reach", type=click.FloatRange(0.1, 40), help="Show this many percent around the mark price.")
@click.option("--config", "config_file", help=f"TOML file whose [{TABLE}] is used (default {DEFAULT_FILE}).")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=f"Any key of [{TABLE}].")
def plot(
    paths: tuple[str, ...], output: str, symbol: str | None, theme: str, size: str, reach: float | None,
    config_file: str | None, settings: tuple[str, ...],
) -> int:  # fmt: skip
    """Draw a tape: price and mark path, estimated zones over time, real liquidations, open interest, gaps hatched.

    Every column shows what the model believed then. Needs matplotlib: pip install 'wld[plot]'.
    """
    width, _, height = size.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and 200 <= int(width) <= 20_000 and 200 <= int(height) <= 20_000):
        raise click.UsageError(f"--size: expected WIDTHxHEIGHT in pixels, such as 1600x900, got {size!r}")
    if Path(output).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.UsageError(f"--output: expected a file name ending in .png, .svg or .pdf, got {output!r}")
    from wld_heatmap import plotting

    config = read_config(config_file, settings)
    drawn = plotting.plot(
        paths, Path(output), symbol=symbol, theme=theme, pixels=(int(width), int(height)),
        reach=None if reach is None else reach / 100, config=config,
    )  # fmt: skip
    click.echo(f"{output}: {drawn}")
    return 0
