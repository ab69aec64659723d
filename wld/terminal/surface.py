"""Owns what sinks see of a screen, drawn or plain: panels, the pane, the event tape."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wld.terminal.cells import Canvas, Line
from wld.terminal.facts import Facts
from wld.terminal.panels import Brief, Click, Key, Lines, Pane, Panel, PanelSet, View


class Surface:
    """The side of a screen that sinks see; `hookspecs.Screen` is its contract."""

    is_visual = False

    def __init__(self, *, symbols: Sequence[str], clock: str, wall: Callable[[], int] = time.time_ns) -> None:
        self.facts = Facts(symbols)
        self.panels = PanelSet()
        self._clock = clock
        self._wall = wall
        self.view = View(self.facts, symbols[0] if symbols else "", clock)

    def panel(
        self,
        name: str,
        *,
        title: str = "",
        order: int = 50,
        weight: int = 50,
        lines: Lines | None = None,
        brief: Brief | None = None,
    ) -> Panel:
        """Add a panel: drawn by `lines` and `brief`, or shown as posted to it."""
        return self.panels.add(Panel(name, title, order=order, weight=weight, lines=lines, brief=brief))

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
        """Take the main pane."""
        self.panels.pane = Pane(name, draw=draw, key=key, help=help, footer=footer, picture=picture)
        return self.panels.pane

    def note(self, time: int, line: Line, symbol: str | None = None) -> None:
        """Put a line on the event tape."""
        self.facts.note(time, line, symbol)

    def has(self, name: str) -> bool:
        """Whether a panel or pane of this name is on the screen."""
        return self.panels.has(name)

    def _now(self) -> int:
        if self._clock == "recorded":
            return self.facts.receive_time or 0
        return self._wall()

    def _choose_symbol(self) -> None:
        if not self.view.symbol and self.facts.symbols:
            self.view.symbol = self.facts.symbols[0]
