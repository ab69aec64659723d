"""Owns the choice of a source by the name the user gave; each source itself lives below."""

from __future__ import annotations

import glob
import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from wld import plugins
from wld.bybit.lines import LineSource
from wld.bybit.source import BybitSource
from wld.config import DEFAULT_SYMBOLS, SourceConfig, nearest, parse_speed
from wld.errors import ConfigError, SourceError
from wld.hookspecs import SOURCE_GROUP, Source, SourceContext
from wld.ring import Publisher

if TYPE_CHECKING:
    from wld.exchange import ExchangeAddress

log = logging.getLogger(__name__)


def make_source(config: SourceConfig, context: SourceContext | None = None, *, has_screen: bool = False) -> Source:
    """The source of `source.name`; `context` is for one that a plugin offers.

    Tapes replay at `source.speed`; without it at the recorded pace for a screen, else as fast as the sinks take it.

    Raises:
        ConfigError: naming what is accepted.
    """
    name = config.name
    if name == "bybit" or name.startswith(("ws://", "wss://")):
        _check_url(name)
        return BybitSource(config)
    if name == "sim":
        return SimSource(config)
    if name == "-":
        return LineSource(sys.stdin.buffer, config.symbols)
    if (scheme := _scheme(name)) and context is not None:
        return plugins.load_source(scheme).create(name, context)
    paths = find_paths(name)
    if paths:
        from wld.tape.replay import ReplaySource

        speed = parse_speed(config.speed) if config.speed is not None else 1.0 if has_screen else math.inf
        return ReplaySource(paths, config.symbols, speed)
    offered = [e.name for e in plugins.installed(SOURCE_GROUP)]
    schemes = "".join(f"{scheme}://, " for scheme in offered)
    raise ConfigError(
        f"source.name: expected bybit, sim, an existing path, a {schemes}ws:// or wss:// URL, or -, got {name!r}"
        f"{nearest(name.partition('://')[0], ('bybit', 'sim', 'ws', 'wss', *offered))}"
    )


def _check_url(name: str) -> None:
    """Raises: ConfigError for a ws:// or wss:// URL that names no host, or a port that there is not."""
    try:
        parts = urlsplit(name)
        is_whole = "://" not in name or (bool(parts.hostname) and (parts.port is None or parts.port > 0))
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ConfigError(f"source.name: expected a URL such as ws://127.0.0.1:8765/v5/public/linear, got {name!r}")


def _scheme(name: str) -> str | None:
    """The scheme of a URL that some plugin serves; None where none does."""
    scheme, separator, _ = name.partition("://")
    return scheme if separator and any(e.name == scheme for e in plugins.installed(SOURCE_GROUP)) else None


def find_paths(name: str) -> list[Path]:
    """A file or folder, several with commas between, or a pattern with `*`; empty where any is missing."""
    if Path(name).exists():
        return [Path(name)]
    found: list[Path] = []
    for part in filter(None, (part.strip() for part in name.split(","))):
        matched = [Path(p) for p in sorted(glob.glob(part))] if "*" in part else [Path(part)]
        if not matched or not all(path.exists() for path in matched):
            return []
        found += matched
    return found


def clock_of(config: SourceConfig) -> str:
    """`live` where this host stamps receive times, `recorded` where the input carries them."""
    if (scheme := _scheme(config.name)) and scheme not in ("ws", "wss"):
        return plugins.load_source(scheme).clock
    return "live" if config.name in ("bybit", "sim") or config.name.startswith(("ws://", "wss://")) else "recorded"


class SimSource:
    """The simulated exchange on a loopback port inside this process, and the Bybit source connected to it."""

    def __init__(self, config: SourceConfig) -> None:
        """Raises: ConfigError for a fault or a symbol that the exchange does not know."""
        from wld.exchange import KNOWN_SYMBOLS, ExchangeConfig, check  # a live run loads no HTTP server

        listed = tuple(KNOWN_SYMBOLS) if config.symbols == ("all",) else config.symbols or DEFAULT_SYMBOLS
        self._config = config
        self._exchange = ExchangeConfig(
            symbols=listed, seed=config.sim_seed, rate=config.sim_rate, faults=config.sim_faults
        )
        check(self._exchange)
        self._bybit: BybitSource | None = None

    def figures(self) -> dict[str, int]:
        """Of the Bybit source inside; nothing before it started."""
        return self._bybit.figures() if self._bybit else {}

    async def run(self, ring: Publisher, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run both until cancelled. Raises: FatalSourceError as the Bybit source does."""
        from wld.exchange import serve_exchange

        # The exchange goes last: a run that ends asks its REST once more for missing trades.
        exchange = trio.CancelScope()

        async def serve(*, task_status: trio.TaskStatus[ExchangeAddress]) -> None:
            with exchange:
                await serve_exchange(self._exchange, task_status=task_status)

        try:
            async with trio.open_nursery() as nursery:
                try:
                    address = await nursery.start(serve)
                    exchange.shield = True  # not before: one that is cancelled while it starts has to end by itself
                    log.debug("simulated exchange at %s, seed %d", address.ws_url, self._config.sim_seed)
                    self._bybit = BybitSource(self._config, urls=(address.ws_url, address.rest_url))
                    await self._bybit.run(ring, task_status=task_status)
                finally:
                    exchange.cancel()
        except* SourceError as group:
            raise group.exceptions[0] from None
