"""Owns THE plugin contract: what a sink or a source is, and the hooks by which a package offers one.

What stands here is stable as `docs/reference-plugin-contract.md` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pluggy
import trio
from msgspec import Struct

from wld.ring import DEFAULT_CAPACITY, Overflow, Ring, RingStatistics, Subscription

if TYPE_CHECKING:  # a headless run loads none of it
    from wld.terminal import Canvas, Click, Key, Line, Pane, Panel, View

GROUP = "wld.sinks"
"""Entry-point group; entry-point name = sink name = config table; its value is a module holding the hookimpl."""

SOURCE_GROUP = "wld.sources"
"""Entry-point group; entry-point name = scheme of the URLs it serves (`--source NAME://…`)."""
COMMAND_GROUP = "wld.commands"
"""Entry-point group of command-line commands; name = command, value = a click command, loaded when invoked."""

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


class Screen(Protocol):
    """The terminal, for sinks that draw. It owns the tty, paints at a fixed rate and takes the keys; a sink adds panels
    in `create` and from then on posts to them or is asked to draw.

    What does not fit is clipped; text is whatever takes one cell a character. Without a terminal (a pipe) the same
    screen says one plain line every ten seconds and draws nothing.
    """

    @property
    def is_visual(self) -> bool:
        """Whether anything is drawn."""
        ...

    def panel(
        self,
        name: str,
        *,
        title: str = "",
        order: int = 50,
        weight: int = 50,
        lines: Callable[[View, int, int], Sequence[Line]] | None = None,
        brief: Callable[[View, int], Sequence[Line]] | None = None,
    ) -> Panel:
        """Add a titled group of lines, or replace the one of that name.

        Without `lines` it shows what is given to its `post(lines, brief=…)`. `order`: lower stands higher up;
        `weight`: the heaviest stay where there is no room for all. A line is a text, or a sequence of (text, Role).
        """
        ...

    def pane(
        self,
        name: str,
        *,
        draw: Callable[[Canvas, View], None],
        key: Callable[[Key | Click, View], bool] | None = None,
        help: Sequence[tuple[str, str]] = (),
        footer: Sequence[tuple[str, str]] = (),
        picture: Callable[[View], Mapping[str, Any]] | None = None,
    ) -> Pane:
        """Take the main pane; the last one that asks has it. `key` gets the keys that the screen does not use."""
        ...

    def note(self, time: int, line: Line, symbol: str | None = None) -> None:
        """Put a line on the event tape; `time` ns since the Unix epoch, `symbol` None: shown with every symbol."""
        ...

    def has(self, name: str) -> bool:
        """Whether a panel or the pane of this name is there."""
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
    screen: Screen | None = None
    """None in a headless run: no enabled sink has `needs_screen`."""
    reports: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
    """What each sink last said through `status`, by its name."""
    shard: tuple[int, int] | None = None
    """(i, n) where this process follows part i of n of the symbols (`--shard`, `--workers`), 1 to n; else None."""


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
    """Whether the run opens the screen for it; see `SinkContext.screen`."""
    stores: bool = False
    """Whether it keeps events for good and says so through `SinkContext.stored`; others are safe at delivery."""
    requires: tuple[str, ...] = ()
    """Modules that must be importable, beyond what the distribution always brings. Import them in `run`, in a worker
    thread: a big library takes most of a second. Where one is missing the start is refused with the extra that brings
    it, and `wld plugins` still lists the keys."""


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
