"""Owns THE plugin contract: what a sink is, and the one hook by which a package offers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pluggy
import trio
from msgspec import Struct

from wld.ring import DEFAULT_CAPACITY, Overflow, RingStatistics, Subscription

GROUP = "wld.sinks"
"""Entry-point group; entry-point name = sink name = config table; its value is a module holding the hookimpl."""

_hookspec = pluggy.HookspecMarker("wld")
hookimpl = pluggy.HookimplMarker("wld")
"""Marks a plugin's implementation of `wld_sink`."""


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


@_hookspec
def wld_sink() -> SinkSpec:  # type: ignore[empty-body]
    """Return your SinkSpec. Called once, synchronously, before the event loop starts."""
