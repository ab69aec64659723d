"""Owns THE plugin contract: what a sink or a source is, and the hooks by which a package offers one.

What stands here is stable as `docs/reference-plugin-contract.md` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pluggy
import trio
from msgspec import Struct

from wld.ring import DEFAULT_CAPACITY, Overflow, Ring, RingStatistics, Subscription

GROUP = "wld.sinks"
"""Entry-point group; entry-point name = sink name = config table; its value is a module holding the hookimpl."""

SOURCE_GROUP = "wld.sources"
"""Entry-point group; entry-point name = scheme of the URLs it serves (`--source NAME://…`)."""

_hookspec = pluggy.HookspecMarker("wld")
hookimpl = pluggy.HookimplMarker("wld")
"""Marks a plugin's implementation of `wld_sink` or `wld_source`."""


class Sink(Protocol):
    """Takes batches until they end."""

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Open what you need, call `task_status.started()`, consume until the batches end, close, return."""
        ...


class SinkContext(Struct, frozen=True):
    """What the engine hands to every sink."""

    data_dir: Path
    """Where a sink that writes puts its files."""
    symbols: tuple[str, ...] | None
    """The configured symbols; None for all."""
    wld_version: str
    source: str
    """The source as the user named it: `bybit`, `sim`, a URL, a path or `-`."""
    clock: str
    """`live` where receive times are this host's; `recorded` where they come from the input."""
    statistics: Callable[[], RingStatistics]
    status: Callable[[str, Mapping[str, Any]], None]
    """Report a few figures (for the status line and health), under the sink's name."""
    stored: Callable[[str, int], None] = lambda name, number: None
    """A sink whose spec says `stores` tells, under its name, up to which ring number its events are safe; a source
    that can deliver again goes on after that when the program died. Any thread may call it."""


class SinkSpec(Struct, frozen=True):
    """What a plugin offers. `create` builds and does no I/O."""

    name: str
    config_type: type[Struct]
    """A frozen Struct that forbids unknown fields and has a default for every field."""
    create: Callable[[Any, SinkContext], Sink]
    capacity: int = DEFAULT_CAPACITY
    """Events its channel holds."""
    overflow: Overflow = Overflow.DROP_OLDEST
    critical: bool = False
    """Whether its failure ends the run with status 1."""
    needs_screen: bool = False
    stores: bool = False
    """Whether it keeps events for good and says so through `SinkContext.stored`; others are safe at delivery."""
    requires: tuple[str, ...] = ()
    """Modules that must be importable, beyond what the distribution always brings; import them late. Where one is
    missing the start is refused with the extra that brings it, and `wld plugins` still lists the keys."""


class Source(Protocol):
    """Publishes events until cancelled, or until its input ends."""

    async def run(self, ring: Ring, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call `task_status.started()` once it tries to deliver; `ring.publish(events)` never waits, `await
        ring.publish_wait(events)` waits for the sinks (recorded input). Raises: wld.SourceError ends the run."""
        ...


class SourceContext(Struct, frozen=True):
    """What the engine hands to a source."""

    data_dir: Path
    symbols: tuple[str, ...] | None
    """The configured symbols; None for all."""
    sinks: tuple[str, ...]
    """The enabled sinks."""
    stored: Callable[[], int | None]
    """Ring number up to which every sink that `stores` is safe, -1 before the first word; None without such a sink."""
    wld_version: str = ""


class SourceSpec(Struct, frozen=True):
    """What a plugin offers as a source. `create` takes the whole URL, builds and does no I/O.

    `create` may raise `wld.ConfigError` for a URL it cannot read.
    """

    name: str
    """The scheme of its URLs."""
    create: Callable[[str, SourceContext], Source]
    clock: str = "live"
    """`live` where receive times are this host's, `recorded` where they come from the input."""
    requires: tuple[str, ...] = ()


@_hookspec
def wld_sink() -> SinkSpec:  # type: ignore[empty-body]
    """Return your SinkSpec. Called once, synchronously, before the event loop starts."""


@_hookspec
def wld_source() -> SourceSpec:  # type: ignore[empty-body]
    """Return your SourceSpec. Called once, synchronously, when a `--source` of its scheme is asked for."""
