"""The heatmap sink on a screen without a terminal, as the tests of its view want it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from wld_heatmap import Heatmap, HeatmapConfig
from wld_heatmap.view import HeatPane

from tests.heatmap.demo import SECOND, SYMBOL, T0
from wld.terminal.frame import FrameState, draw_frame, frame_text
from wld.terminal.palette import THEMES, Palette, Rung
from wld.terminal.surface import Surface

MINUTES = 90
NOW = T0 + (MINUTES * 60 + 5) * SECOND
DARK = Palette(THEMES["dark"], Rung.TRUE)


class Scene:
    """The heatmap sink on a screen without a terminal."""

    def __init__(self, heatmap) -> None:
        self.surface = Surface(symbols=[SYMBOL], clock="live")
        context: Any = SimpleNamespace(
            screen=self.surface, symbols=(SYMBOL,), clock="live", status=lambda name, figures: None
        )
        self.sink = Heatmap(HeatmapConfig(), context)
        self.sink.radar.maps[SYMBOL] = heatmap
        self.heat: HeatPane = self.sink.pane
        self.view = self.surface.view
        self.view.now = NOW

    def frame(self, height: int = 40, width: int = 120, palette: Palette = DARK):
        while True:
            self.view.wants_redraw = False
            frame = draw_frame(height, width, palette, self.surface.panels, self.view, FrameState())
            if not self.view.wants_redraw:
                return frame

    def text(self, *size: int, palette: Palette = DARK) -> str:
        return frame_text(self.frame(*size, palette=palette))

    def key(self, *keys: str) -> None:
        for key in keys:
            assert self.heat.key(key, self.view), key
