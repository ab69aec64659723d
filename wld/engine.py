"""Owns the assembly: from a checked Config to a supervised source, a ring and the enabled sinks.

Does not own how they are supervised (service), which source a name means (sources) or how sinks are found (plugins).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio

import wld
from wld import plugins
from wld.config import Config, sink_settings, suggest
from wld.errors import ConfigError, PluginError
from wld.hookspecs import SinkContext, Source, SourceContext
from wld.positions import Positions
from wld.service import Service, SinkEntry
from wld.sources import clock_of, make_source
from wld.status import Status


def assemble(config: Config, source: Source | None = None) -> Service:
    """Everything that `config` asks for, not yet running; `source` stands in for the configured one.

    Raises:
        ConfigError: no sink enabled, one that cannot be loaded, a wrong key of a sink, or an unknown source.
    """
    installed = {entry.name for entry in plugins.installed()}
    if not config.enabled:
        names = ", ".join(sorted(installed)) or "none"
        raise PluginError(f"no sink enabled; name one with --sinks; installed: {names}")
    specs = plugins.load_sinks(config.enabled)
    for name in config.sinks:
        if name not in installed:
            raise ConfigError(
                f"{config.origin(f'sinks.{name}')}: no installed sink has this name{suggest(name, installed)}"
            )
    settings = {name: sink_settings(config, name, spec.config_type) for name, spec in specs.items()}
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
    service = Service(source, entries, drain_timeout=config.drain_timeout, duration=config.duration)
    status = Status(service.ring, config.status_interval)
    context = SinkContext(
        data_dir=Path(config.data_dir),
        symbols=symbols,
        wld_version=wld.__version__,
        source=config.source.name,
        clock=clock_of(config.source),
        statistics=service.ring.statistics,
        status=status.report,
        stored=positions.report,
    )
    for name, spec in specs.items():
        entries.append(
            SinkEntry(
                name,
                partial(plugins.create_sink, spec, settings[name], context),
                critical=spec.critical,
                capacity=config.ring.capacity or spec.capacity,
                overflow=spec.overflow,
            )
        )
    entries.append(SinkEntry("status", lambda: status, capacity=1_000_000))
    return service


def run(config: Config) -> int:
    """Run to the end; returns the exit status. Raises: ConfigError where a setting proved wrong."""
    service = assemble(config)
    result = trio.run(service.run)
    for failure in service.failures:
        if isinstance(failure, ConfigError):
            raise failure
    return result
