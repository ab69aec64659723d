"""Owns what sinks hand to the screen: panels of lines, one main pane, and the view they are drawn for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from wld.terminal.cells import Canvas, Line
from wld.terminal.facts import Facts
from wld.terminal.palette import Palette

Key = str
"""One printable character, or a name: `left right up down home end pageup pagedown tab backtab enter escape`."""


class Click:
    """A click or a turn of the wheel: cells from the top left of the pane."""

    def __init__(self, button: str, row: int, column: int) -> None:
        self.button = button
        """`left`, `wheel_up` or `wheel_down`."""
        self.row = row
        self.column = column


class View:
    """What is being looked at; sinks draw for it and may read, not change it."""

    def __init__(self, facts: Facts, symbol: str, clock: str) -> None:
        self.facts = facts
        self.symbol = symbol
        self.clock = clock
        """`live` or `recorded`, as `SinkContext.clock`."""
        self.now = 0
        """ns since the Unix epoch; stands still while frozen."""
        self.is_frozen = False
        self.wants_redraw = False
        """Set by whoever drew only part of its picture, to be asked again at once."""
        self.self_figures: Mapping[str, Any] = {}
        """Of the screen itself: fps, bytes a frame, dropped frames, CPU share, RSS, loop lag."""


Lines = Callable[[View, int, int], Sequence[Line]]
"""(view, width, height) -> at most `height` lines of at most `width` cells."""
Brief = Callable[[View, int], Sequence[Line]]
"""(view, width) -> one or two lines that say the most important, for small terminals."""


class Panel:
    """One titled group beside the main pane. `lines` draws it, or `post` sets what it shows."""

    def __init__(
        self, name: str, title: str = "", *, order: int = 50, lines: Lines | None = None, brief: Brief | None = None,
        weight: int = 50,
    ) -> None:  # fmt: skip
        self.name = name
        self.title = title or name
        self.order = order
        """Where it stands: lower is higher up."""
        self.weight = weight
        """Which stays when there is no room for all: the heaviest."""
        self.is_shown = True
        self.error: str | None = None
        self._lines = lines
        self._brief = brief
        self._posted: Sequence[Line] = ()
        self._posted_brief: Sequence[Line] = ()

    def post(self, lines: Sequence[Line], *, brief: Sequence[Line] = ()) -> None:
        """Show these lines from the next frame on; `brief` is what a small terminal shows."""
        self._posted = list(lines)
        self._posted_brief = list(brief)

    def lines(self, view: View, width: int, height: int) -> Sequence[Line]:
        """What it shows now."""
        return self._lines(view, width, height) if self._lines else self._posted[:height]

    def brief(self, view: View, width: int) -> Sequence[Line]:
        """The short form; empty where it has none."""
        return self._brief(view, width) if self._brief else self._posted_brief


class Pane(Struct, eq=False):
    """The main picture: it draws itself on a canvas and takes keys."""

    name: str
    draw: Callable[[Canvas, View], None]
    key: Callable[[Key | Click, View], bool] | None = None
    help: Sequence[tuple[str, str]] = ()
    """(keys, what they do) for the help overlay."""
    footer: Sequence[tuple[str, str]] = ()
    """(keys, one word) for the line of keys."""
    picture: Callable[[View], Mapping[str, Any]] | None = None
    """What a screenshot's JSON says of the pane."""
    error: str | None = None


class PanelSet:
    """All panels and the pane, by name; a sink that starts again takes its old place."""

    def __init__(self) -> None:
        self._panels: dict[str, Panel] = {}
        self.pane: Pane | None = None
        """The main picture; the last sink that asks has it."""

    def add(self, panel: Panel) -> Panel:
        """Add it, or put it in the place of the one of its name; hidden stays hidden."""
        if panel.name in self._panels:
            panel.is_shown = self._panels[panel.name].is_shown
        self._panels[panel.name] = panel
        return panel

    def ordered(self) -> list[Panel]:
        """Every panel, top to bottom."""
        return sorted(self._panels.values(), key=lambda panel: panel.order)

    def has(self, name: str) -> bool:
        """Whether a panel or the pane of this name exists."""
        return name in self._panels or (self.pane is not None and self.pane.name == name)


__all__ = ["Brief", "Canvas", "Click", "Key", "Line", "Lines", "Palette", "Pane", "Panel", "PanelSet", "View"]
