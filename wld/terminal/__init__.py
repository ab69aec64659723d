"""The screen: it owns the terminal, sinks own panels. These names are what sinks import; none of them loads blessed."""

from wld.terminal.cells import Canvas, Line, Span
from wld.terminal.facts import Facts, Note
from wld.terminal.palette import Color, Palette, Role
from wld.terminal.panels import Click, Key, Pane, Panel, View

__all__ = [
    "Canvas",
    "Click",
    "Color",
    "Facts",
    "Key",
    "Line",
    "Note",
    "Palette",
    "Pane",
    "Panel",
    "Role",
    "Span",
    "View",
]
