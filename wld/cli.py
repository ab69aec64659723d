"""Owns commands and flags only; each maps onto one function elsewhere."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
import trio
from click.core import ParameterSource

import wld
from wld import completion, engine, logs, plugins
from wld import config as configuration
from wld import help as words
from wld.config import Config, Setting
from wld.errors import ConfigError, Interrupted, WldError
from wld.hookspecs import COMMAND_GROUP
from wld.service import describe, wait_for_signal

log = logging.getLogger("wld")

DEFAULT_FILE = "wld.toml"


STDOUT_CLOSED = 128 + signal.SIGPIPE


def main() -> NoReturn:
    """Run the command and end with its status.

    An error of the user is one line and 2, a failure one line and 1, an interrupt 130; where whoever reads standard
    output has gone away the end is quiet and 141, as that of any program in a pipe.
    """
    try:
        status = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            sys.exit(_say(describe(error), 1))
        if not _is_of_stdout(error):
            raise
        is_unread = isinstance(error, BrokenPipeError)
        status = _leave_stdout(STDOUT_CLOSED if is_unread else _say(f"standard output: {error.strerror}", 1))
    sys.exit(status)


def _leave_stdout(status: int) -> int:
    """What is still in its buffer goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return status


def _run() -> int:
    stdout = sys.stdout
    try:
        result: int | None = cli.main(standalone_mode=False)
        return result or 0
    except SystemExit as exit_:
        # A closed pipe: click puts another object for it, rich raises out of the error.
        if sys.stdout is not stdout or isinstance(exit_.__context__, BrokenPipeError):
            return _leave_stdout(STDOUT_CLOSED)
        raise
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.exceptions.Abort:
        return 128 + signal.SIGINT
    except click.UsageError as error:
        hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        return _say(f"{' '.join(error.format_message().split())}{hint}", 2)
    except (WldError, BaseExceptionGroup) as error:
        first = _first_of(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(first, ConfigError):
            return _say(str(first), 2)
        if isinstance(first, Interrupted):
            return _say(str(first), 128 + first.number)
        if isinstance(first, WldError):
            return _say(str(first), 1)
        raise first from None


def _is_of_stdout(error: OSError) -> bool:
    """Whether it is standard output that fails so: then it does again. A closed pipe is nothing else."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError as again:
        return again.errno == error.errno
    return isinstance(error, BrokenPipeError)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of a group of nothing but what has an answer here, the first; else the group itself, a defect to be seen."""
    _, others = group.split((WldError, KeyboardInterrupt, OSError))
    error: BaseException = group
    while others is None and isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _say(text: str, status: int) -> int:
    click.echo(f"wld: {text}", err=True)
    return status


def _env(name: str) -> str:
    return f"WLD_{name}"


FLAG_KEYS = {
    "source": "source.name", "speed": "source.speed", "symbols": "source.symbols", "data_dir": "data_dir", "duration": "duration",
    "workers": "workers", "shard": "source.shard",
    "log_level": "log_level", "log_format": "log_format", "log_file": "log_file",
    "theme": "screen.theme", "color": "screen.color", "ascii": "screen.ascii",
}  # fmt: skip
"""Flags that are keys of the configuration, by the flag's name in Python."""


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of a run; each also as WLD_… in the environment."""
    options = [
        click.option("--sinks", envvar=_env("SINKS"), help="Sinks to run, such as recorder."),
        click.option("--config", "config_file", envvar=_env("CONFIG"), help=f"TOML file (default {DEFAULT_FILE})."),
        click.option("--source", envvar=_env("SOURCE"), help="bybit, sim, a PATH, a ws(s):// or redis:// URL, or -."),
        click.option("--speed", envvar=_env("SPEED"), help="Of a replay: 1, 10x or max."),
        click.option("--symbols", envvar=_env("SYMBOLS"), help="Such as WLDUSDT,BTCUSDT, or all."),
        click.option("--data-dir", envvar=_env("DATA_DIR"), help="Folder of the tapes (default data/history)."),
        click.option("--duration", envvar=_env("DURATION"), help="Stop after this time, such as 30s."),
        click.option("--workers", type=int, envvar=_env("WORKERS"), help="Share the symbols over N processes."),
        click.option(
            "--shard", envvar=_env("SHARD"), hidden=True, help="Only part I/N of the symbols (what each worker does)."
        ),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the file."),
        click.option("--log-level", envvar=_env("LOG_LEVEL"), help="debug, info, warning or error."),
        click.option("--log-format", envvar=_env("LOG_FORMAT"), help="text or json."),
        click.option("--log-file", envvar=_env("LOG_FILE"), help="Log to this file only."),
        click.option("--theme", envvar=_env("THEME"), help="dark, inferno, cividis, mono or light."),
        click.option("--color", envvar=_env("COLOR"), help="24, 256, 16 or none; else what the terminal can."),
        click.option("--ascii/--no-ascii", default=None, envvar=_env("ASCII"), help="Draw with ASCII only."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _refuse_misspelt_variables() -> None:
    """Raises: ConfigError for a WLD_… variable that is nearly one of ours; what is far from all is somebody else's."""
    ours = {_env(name.upper()) for name in (*FLAG_KEYS, "sinks", "config", "set")}
    for name in os.environ:
        if name.startswith("WLD_") and name not in ours and (hint := configuration.nearest(name, ours, 0.85)):
            raise ConfigError(f"{name}: unknown variable{hint}")


def load_config(context: click.Context) -> Config:
    """The file, under the environment, under the flags of a run. Raises: ConfigError."""
    _refuse_misspelt_variables()
    flags: dict[str, Any] = context.params
    file = flags["config_file"]
    if file is None and Path(DEFAULT_FILE).exists():
        file = DEFAULT_FILE
    given = {ParameterSource.COMMANDLINE: "--{}", ParameterSource.ENVIRONMENT: "WLD_{}"}
    layers: dict[str, list[Setting]] = {"WLD_{}": [], "--{}": []}
    for name, key in FLAG_KEYS.items():
        form = given.get(context.get_parameter_source(name) or ParameterSource.DEFAULT)
        if form and flags[name] is not None:
            flag = name.replace("_", "-") if form == "--{}" else name.upper()
            layers[form].append(Setting(key, flags[name], form.format(flag)))
    variable = [text.strip() for text in os.environ.get(_env("SET"), "").split(";") if text.strip()]
    settings = [
        *(configuration.parse_set(text, _env("SET")) for text in variable),
        *layers["WLD_{}"],
        *(configuration.parse_set(text) for text in flags["settings"]),
        *layers["--{}"],
    ]
    sinks = flags["sinks"]
    chosen = None if sinks is None else [name.strip() for name in sinks.split(",") if name.strip()]
    return configuration.load(Path(file) if file else None, settings, chosen)


class Commands(click.Group):
    """Our own commands, then those of installed plugins, which are imported only when invoked."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *(entry.name for entry in plugins.installed(COMMAND_GROUP))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = self.commands.get(cmd_name)
        if own is not None or not any(e.name == cmd_name for e in plugins.installed(COMMAND_GROUP)):
            return own
        command: click.Command = plugins.load_command(cmd_name)
        return command

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        offered = [e.name for e in plugins.installed(COMMAND_GROUP)]
        formatter.write(words.first_screen([name for name in offered if name not in self.commands]))


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@run_options
@click.version_option(wld.__version__, prog_name="wld")
@click.pass_context
def cli(context: click.Context, /, **_: Any) -> int:
    """Record crypto perpetuals exactly, or watch them. Without a command: run."""
    if context.invoked_subcommand is not None:
        return 0
    config = load_config(context)
    logs.set_up(config.log_level, config.log_format, config.log_file, worker=config.source.shard)
    if config.workers > 1 and config.source.shard is None:
        return engine.run_workers(config, sys.argv[1:])
    return engine.run(config)


@cli.command(short_help="Serve the simulated exchange: WebSocket and REST.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes any free port.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--symbols", default="WLDUSDT", show_default=True)
@click.option("--seed", default=7, show_default=True)
@click.option("--rate", default=1.0, show_default=True, help="1 is a normal day; 10 is ten times the flow.")
@click.option("--faults", default="", help="Such as drop@5,skip_u@8; a wrong name lists what there is.")
def sim(port: int, host: str, symbols: str, seed: int, rate: float, faults: str) -> int:
    """Serve the simulated exchange: Bybit V5's WebSocket and REST on one port."""
    from wld.exchange.server import ExchangeConfig, serve_exchange

    logs.set_up("info", "text", None)
    config = ExchangeConfig(
        symbols=tuple(s.strip() for s in symbols.split(",") if s.strip()),
        seed=seed,
        rate=rate,
        faults=tuple(f.strip() for f in faults.split(",") if f.strip()),
        host=host,
        port=port,
    )

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            address = await nursery.start(serve_exchange, config)
            click.echo(f"WebSocket {address.ws_url}\nREST      {address.rest_url}")
            click.echo(f"try: wld --sinks recorder --source {address.ws_url}")
            await wait_for_signal()
            nursery.cancel_scope.cancel()

    trio.run(serve)
    return 0


@cli.command("serve", short_help="Serve recorded tapes in the exchange's own protocol.")
@click.argument("paths", nargs=-1, required=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes any free port.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--symbols", default=None, help="Such as WLDUSDT,BTCUSDT (default: all recorded).")
@click.option("--speed", default="1", show_default=True, help="1, 10x, or max: as fast as the slowest client takes it.")
@click.option("--loop", is_flag=True, help="Begin again at the end, with later times and other trade ids.")
def serve_tapes(paths: tuple[str, ...], port: int, host: str, symbols: str | None, speed: str, loop: bool) -> int:
    """Serve recorded tapes in the exchange's own protocol, from the first subscribe to their end."""
    from wld.exchange import serve

    logs.set_up("info", "text", None)
    try:
        pace = configuration.parse_speed(speed)
    except ValueError as error:
        raise ConfigError(f"--speed: {error}") from None
    chosen = None if symbols is None else tuple(s.strip() for s in symbols.split(",") if s.strip())
    config = serve.ServeConfig(tuple(map(Path, paths)), chosen, pace, loop, host, port)

    async def run_server() -> None:
        async with trio.open_nursery() as outer:
            outer.start_soon(stop_on_signal, outer.cancel_scope)
            async with trio.open_nursery() as nursery:
                address = await nursery.start(serve.serve_tapes, config)
                market = address.venue.market
                click.echo(f"WebSocket {address.ws_url}\nREST      {address.rest_url}")
                for symbol in market.symbols[:20]:
                    depths = " ".join(f"orderbook.{depth}.{symbol}" for depth in market.depths(symbol))
                    click.echo(f"topics    {depths} publicTrade.{symbol} tickers.{symbol} allLiquidation.{symbol}")
                if len(market.symbols) > 20:
                    click.echo(f"          … and those of {len(market.symbols) - 20} more symbols")
                click.echo("The recording starts with the first subscribe.")
            outer.cancel_scope.cancel()

    async def stop_on_signal(scope: trio.CancelScope) -> None:
        await wait_for_signal()
        scope.cancel()

    try:
        trio.run(run_server)
    except* WldError as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
    return 0


@cli.command(short_help="Make one recording of several of the same feed.")
@click.argument("paths", nargs=-1, required=True)
@click.option("--out", "-o", required=True, help="A new folder; it appears whole or not at all.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def merge(paths: tuple[str, ...], out: str, as_json: bool) -> int:
    """Make one recording of several of the same feed: each one's holes are filled from the others."""
    from wld.tape import show

    return show.merge(paths, out, as_json=as_json, say=click.echo)


@cli.command(short_help="Write tapes as Parquet, CSV, npz or C structs.")
@click.argument("paths", nargs=-1, required=True)
@click.option("--format", "form", required=True, help="parquet, csv, hftbacktest or structs.")
@click.option("--out", "-o", required=True, help="A new folder; it appears whole or not at all.")
@click.option("--symbols", default=None, help="Such as WLDUSDT,BTCUSDT (default: all recorded).")
@click.option("--start", default=None, help="Receive time from: 2026-11-24, 2026-11-24T07:30, or ns since the epoch.")
@click.option("--end", default=None, help="Receive time before.")
@click.option("--datasets", default=None, help="Such as trades,depth (default: all that the format has).")
@click.option("--numbers", default="decimal", show_default=True, help="decimal, int64 (at 1e-8) or float.")
@click.option("--engine", default="local", show_default=True, help="local, or dask: on a cluster that is there.")
@click.option("--scheduler", default=None, help="Of the Dask cluster, such as tcp://127.0.0.1:8786.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def export(
    paths: tuple[str, ...], form: str, out: str, engine: str, scheduler: str | None, as_json: bool, **flags: Any
) -> int:
    """Write tapes as Parquet, CSV, hftbacktest's npz or flat C structs."""
    from wld.engines import open_engine
    from wld.tape import show

    with open_engine(engine, scheduler) as map_units:
        if map_units is not None:  # workers stand in folders of their own
            paths, out = tuple(map(os.path.abspath, paths)), os.path.abspath(out)
        return show.export(paths, form, out, as_json=as_json, say=click.echo, map_units=map_units, **flags)


@cli.command(short_help="Say what tapes hold.")
@click.argument("paths", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def inspect(paths: tuple[str, ...], as_json: bool) -> int:
    """Say what tapes hold: span, symbols, events by kind, gaps, sizes, integrity."""
    from wld.tape import show

    return show.inspect(paths, as_json=as_json, out=click.echo)


@cli.command(short_help="Prove tapes: status 0 intact, 1 damaged.")
@click.argument("paths", nargs=-1, required=True)
@click.option("--complete", is_flag=True, help="Holes in the feed are status 1 too.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def verify(paths: tuple[str, ...], complete: bool, as_json: bool) -> int:
    """Prove tapes: status 0 intact, 1 damaged (with the places)."""
    from wld.tape import show

    return show.verify(paths, complete=complete, as_json=as_json, out=click.echo)


@cli.command(short_help="Seal what a crash left open.")
@click.argument("paths", nargs=-1, required=True)
def recover(paths: tuple[str, ...]) -> int:
    """Seal what a crash left open; the original bytes stay beside it."""
    from wld.tape import show

    return show.recover(paths, out=click.echo)


class Plugins(click.Group):
    """`new`, and the name of any plugin: its lines alone."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.commands.get(cmd_name) or click.Command(
            cmd_name, callback=lambda: _show_plugins(cmd_name), help=f"Say what {cmd_name} is and takes."
        )


def _show_plugins(name: str | None = None, *, as_json: bool = False) -> int:
    from wld import plugin_info

    infos = plugin_info.describe(name)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(infos), indent=2))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo("\n".join(plugin_info.render(infos, width)))
    return 0


@cli.group(
    "plugins",
    cls=Plugins,
    invoke_without_command=True,
    short_help="List installed plugins and their keys; or write one.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def list_plugins(context: click.Context, as_json: bool) -> int:
    """List installed plugins: distribution, version, keys, and what is missing to load one. `wld plugins NAME`: one."""
    return 0 if context.invoked_subcommand is not None else _show_plugins(as_json=as_json)


@list_plugins.command("new")
@click.argument("name")
@click.option("--directory", default=".", show_default=True, help="Where the folder wld-NAME is made.")
def new_plugin(name: str, directory: str) -> int:
    """Write a working, tested sink of your own to wld-NAME."""
    from wld.skeleton import write_skeleton

    folder = write_skeleton(name, Path(directory))
    click.echo(
        f"{folder} is written. Next:\n"
        f"  pip install -e '{folder}[test]' && pytest {folder}\n"
        f"  wld --source sim --sinks {name} --duration 10s"
    )
    return 0


@cli.command(short_help="Say whether a recorder is well: status 0 or 1.")
@click.option("--data-dir", help="Folder of the recorder's tapes (default: the configured one).")
@click.option("--max-age", default="30s", show_default=True, help="The longest silence of the recorder itself.")
@click.option("--max-event-age", default="2m", show_default=True, help="The longest time without an event.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def health(context: click.Context, data_dir: str | None, max_age: str, max_event_age: str, as_json: bool) -> int:
    """Say whether the recorder of a folder is well: status 0, or 1 and why not. Of several workers, each."""
    from wld import health as own

    ages: dict[str, float] = {}
    for flag, text in (("--max-age", max_age), ("--max-event-age", max_event_age)):
        try:
            ages[flag] = configuration.parse_duration(text)
        except ValueError as error:
            raise ConfigError(f"{flag}: {error}") from None
    folder = Path(data_dir or load_config(context.find_root()).data_dir)
    is_well = True
    for place in own.folders(folder):
        found = own.read(place)
        now = time.time_ns()
        wrong = own.judge(
            found, now, is_alive=own.is_process(found.pid), max_age_s=ages["--max-age"],
            max_event_age_s=ages["--max-event-age"],
        )  # fmt: skip
        is_well &= not wrong
        shown = "" if place == folder else f"{place.name}: "
        if as_json:
            click.echo(json.dumps({"is_well": not wrong, "wrong": wrong, **msgspec.to_builtins(found)}))
        elif wrong:
            click.echo(f"{place}: {'; '.join(wrong)}")
        else:
            click.echo(shown + own.line(found, now))
    return 0 if is_well else 1


@cli.command(short_help="Say whether this host is fit, and what to do.")
@click.pass_context
def doctor(context: click.Context) -> int:
    """Say whether this host is fit: clock, disk, terminal, reachability; each with what to do."""
    from wld.doctor import examine

    findings = trio.run(examine, load_config(context.find_root()))
    for finding in findings:
        advice = f"  -> {finding.advice}" if finding.advice else ""
        click.echo(f"{finding.state:<5} {finding.name:<13} {finding.found}{advice}")
    return 1 if any(f.state == "fail" for f in findings) else 0


words.give_examples(cli)
completion.teach(cli)
