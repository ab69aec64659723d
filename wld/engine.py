"""Owns the assembly: from a checked Config to a supervised source, a ring and the enabled sinks.

Does not own how they are supervised (service), which source a name means (sources) or how sinks are found (plugins).
"""

from __future__ import annotations

import gc
import logging
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from msgspec import structs

import wld
from wld import logs, plugins, process, workers
from wld.config import DEFAULT_SYMBOLS, Config, ScreenConfig, sink_settings, suggest
from wld.errors import ConfigError, PluginError
from wld.health import Keeper
from wld.hookspecs import SinkContext, Source, SourceContext
from wld.isolation import load_isolated
from wld.positions import Positions
from wld.service import Service, SinkEntry
from wld.shards import parse_shard, shard_folder, shard_symbols
from wld.sources import clock_of, make_source
from wld.status import Status
from wld.watchdog import watch_loop

if TYPE_CHECKING:
    from wld.terminal.plain import PlainScreen
    from wld.terminal.screen import Screen

log = logging.getLogger(__name__)

GIVE_BACK_S = 10.0
COLLECT_EACH = 6
"""Times that memory is given back."""


def assemble(config: Config, source: Source | None = None) -> Service:
    """Everything that `config` asks for, not yet running; `source` stands in for the configured one.

    Raises:
        ConfigError: no sink enabled, one that cannot be loaded, a wrong key of a sink, or an unknown source.
    """
    installed = {entry.name for entry in plugins.installed()}
    if not config.enabled:
        names = ", ".join(sorted(installed)) or "none"
        raise PluginError(f"no sink enabled; name one with --sinks; installed: {names}")
    loaded = plugins.load_sinks(name for name in config.enabled if name not in config.isolated)
    for spec in loaded.values():
        package = getattr(spec.create, "__module__", "").partition(".")[0]
        if package:
            logs.set_level(package, config.log_level)
    for name in config.sinks:
        if name not in installed:
            raise ConfigError(
                f"{config.origin(f'sinks.{name}')}: no installed sink has this name{suggest(name, installed)}"
            )
    settings = {name: sink_settings(config, name, spec.config_type) for name, spec in loaded.items()}
    # Nothing of an isolated sink is imported here.
    specs = {name: loaded.get(name) or load_isolated(name, config) for name in config.enabled}
    entries: list[SinkEntry] = []
    positions = Positions(name for name, spec in specs.items() if spec.stores)
    symbols = None if config.source.symbols == ("all",) else config.source.symbols
    source = source or make_source(
        config.source,
        SourceContext(
            data_dir=Path(config.data_dir),
            symbols=symbols,
            sinks=tuple(specs),
            stored=positions.lowest,
            wld_version=wld.__version__,
        ),
        has_screen=any(spec.needs_screen for spec in specs.values()),
    )
    beside: list[Callable[[], Awaitable[None]]] = []
    service = Service(
        source,
        entries,
        beside=beside,
        drain_timeout=config.drain_timeout,
        duration=config.duration,
        watch=lambda: watch_loop(loaded, lambda: service.ring.published),
    )
    clock = clock_of(config.source)

    def lost(why: str) -> None:
        drawing = [name for name, spec in specs.items() if spec.needs_screen]
        others = [name for name in specs if name not in drawing]
        if others:
            log.warning("%s: the screen ends, going on with %s", why, ", ".join(others))
            status.report("screen", {"terminal": "gone"})
            service.hang_up(["screen", *drawing])
        else:
            log.info("%s; stopping", why)
            service.stop()

    screen = None
    if any(spec.needs_screen for spec in specs.values()):
        # Alone, a screen that fails or that nobody reads ends the run; beside a critical sink it never does.
        alone = not any(spec.critical for spec in specs.values())
        screen = make_screen(config.screen, symbols or (), clock, partial(_say, service if alone else None))
        screen.attach(stop=service.stop, stopping=service.stopping, lost=lost)
        entries.append(SinkEntry("screen", lambda: screen, capacity=1_000_000, critical=alone))
    service.screen = screen
    status = Status(service.ring, config.status_interval, getattr(source, "figures", dict))
    context = SinkContext(
        data_dir=Path(config.data_dir),
        symbols=symbols,
        wld_version=wld.__version__,
        source=re.sub(r"//[^/@]*@", "//", config.source.name),  # it goes onto tapes: no password
        clock=clock,
        statistics=service.ring.statistics,
        status=status.report,
        stored=positions.report,
        screen=screen,
        reports=status.reports,
        shard=parse_shard(config.source.shard) if config.source.shard is not None else None,
    )
    for name, spec in specs.items():
        entries.append(
            SinkEntry(
                name,
                partial(plugins.create_sink, spec, settings.get(name), context),
                critical=spec.critical,
                capacity=config.ring.capacity or spec.capacity,
                overflow=spec.overflow,
            )
        )
    entries.append(SinkEntry("status", lambda: status, capacity=1_000_000))
    is_recording = clock == "live" and any(spec.critical for spec in specs.values())
    figures = getattr(source, "figures", dict)
    keeper = Keeper(Path(config.data_dir) if is_recording else None, service, status, figures)
    beside += [keeper.run, _give_memory_back]
    return service


async def _give_memory_back() -> None:
    """What bursts and sealing took and freed goes back to the system now and then; runs until cancelled.

    Clients of REST leave cycles behind, 400 objects each time, which Python would collect by itself once they are a
    quarter of all there is: once a minute instead. What stands after the first minute, topics and books, stays: it is
    not looked at again, or each of these would take 6 ms of 500 symbols.
    """
    heap = process.Heap()
    for turn in count(1):
        await trio.sleep(GIVE_BACK_S)
        if turn == COLLECT_EACH:
            process.settle()
        elif turn % COLLECT_EACH == 0:
            gc.collect()
        await trio.to_thread.run_sync(heap.give_back)


def make_screen(
    config: ScreenConfig, symbols: Sequence[str], clock: str, write: Callable[[str], None]
) -> Screen | PlainScreen:
    """The terminal as a screen, or plain lines where standard output is none; nothing is touched yet."""
    from wld.terminal.tty import is_visual  # a headless run loads nothing of the terminal

    if is_visual():
        from wld.terminal.screen import Screen

        return Screen(config, symbols=symbols, clock=clock, log_to_memory=os.isatty(2))
    from wld.terminal.plain import PlainScreen

    return PlainScreen(symbols=symbols, clock=clock, write=write)


def _say(service: Service | None, text: str) -> None:
    """A plain line; once its reader has gone away, `service` has nothing more to do. Raises: OSError."""
    try:
        os.write(1, f"{text}\n".encode("ascii", "replace"))
    except BrokenPipeError as error:
        if service is not None:
            service.failures.append(error)
            service.stop()
        raise


def run_workers(config: Config, arguments: Sequence[str]) -> int:
    """Run this command as `config.workers` processes, each with a part of the symbols; their exit status.

    Raises:
        ConfigError: fewer symbols than workers, a source that is not live, or a sink that draws.
    """
    where = config.origin("workers")
    if clock_of(config.source) != "live":
        raise ConfigError(f"{where}: expected 1, because {config.source.name} is recorded input")
    symbols = config.source.symbols or DEFAULT_SYMBOLS
    if symbols != ("all",) and len(symbols) < config.workers:
        raise ConfigError(f"{where}: expected at most the number of symbols ({len(symbols)}), got {config.workers}")
    service = assemble(take_shard(config, (1, config.workers)))  # what is wrong is said once, not by every worker
    if service.screen is not None:
        raise ConfigError(f"{where}: expected 1, because a sink draws on the screen")
    return workers.run_workers(arguments, config.workers)


def take_shard(config: Config, shard: tuple[int, int]) -> Config:
    """The configuration of one part: its symbols, in a folder of its own. Of `all`, the source takes its part."""
    source, symbols = config.source, config.source.symbols or DEFAULT_SYMBOLS
    if symbols != ("all",):
        part = shard_symbols(symbols, shard, is_listed=False)
        if not part:
            where = config.origin("source.shard")
            raise ConfigError(f"{where}: part {shard[0]} of {shard[1]} of {len(symbols)} symbols is empty")
        source = structs.replace(source, symbols=part)
    return structs.replace(config, source=source, data_dir=str(Path(config.data_dir) / shard_folder(shard)))


def run(config: Config) -> int:
    """Run to the end; returns the exit status.

    Raises:
        ConfigError: a setting proved wrong.
        BrokenPipeError: whoever read the plain lines of a run that only shows has gone away.
    """
    process.tune()
    parent = workers.parent_of_this_worker()
    if parent is not None:
        process.end_with(parent)
    if config.source.shard is not None:
        config = take_shard(config, parse_shard(config.source.shard))
    service = assemble(config)
    service.take_signals()
    screen = service.screen
    if screen is not None:
        screen.open()
    process.settle()
    try:
        result = trio.run(service.run)
    finally:
        is_taken = screen is None or screen.close()
    if not is_taken:
        os._exit(result)  # the terminal takes no byte more; an orderly end would wait for it
    for failure in service.failures:
        if isinstance(failure, ConfigError | BrokenPipeError):
            raise failure
    return result
