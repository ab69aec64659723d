"""One fixed frame on every rung, byte for byte: whoever changes what terminals are sent sees it here.

After a wanted change: `WLD_GOLDEN=write pytest tests/terminal/test_golden.py`, look at the files with `cat`, commit them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.terminal.test_frame import facts_with, view_of
from wld.terminal.cells import Canvas, compose
from wld.terminal.frame import FrameState, draw_frame
from wld.terminal.palette import BOLD, DIMMED, HEAT, LEVELS, THEMES, Color, Palette, Role, Rung
from wld.terminal.panels import Pane, Panel, PanelSet, View
from wld.terminal.pictures import ansi, svg

GOLDEN = Path(__file__).parent / "golden"
CASES = {
    "truecolor-dark": ("dark", Rung.TRUE, False),
    "truecolor-light": ("light", Rung.TRUE, False),
    "256-cividis": ("cividis", Rung.CUBE, False),
    "16-inferno": ("inferno", Rung.SIXTEEN, False),
    "mono": ("dark", Rung.MONO, False),
    "ascii-truecolor": ("dark", Rung.TRUE, True),
    "ascii-mono": ("dark", Rung.MONO, True),
}


def draw_ramp(canvas: Canvas, view: View) -> None:
    """Every level from cold to hot, observed above and seeded below, with a mark path and two markers on it."""
    canvas.fill(Role.INK)
    rows = (canvas.height - 2) * (2 if canvas.palette.is_half_block else 1)
    levels = np.linspace(0, LEVELS - 1, canvas.width - 10).astype(np.uint8)
    pixels = np.repeat(levels[None, :] + np.uint8(HEAT), rows, axis=0)
    pixels[rows // 2 :] += np.uint8(DIMMED - HEAT)
    pixels[0] = Color.MARK
    canvas.put_pixels(1, 8, pixels)
    canvas.put_over(2, 12, "●", Color.LONG, BOLD)
    canvas.put_over(2, 30, "○", Color.SHORT, BOLD)
    canvas.put(1, 0, "1.0342", Role.MARK)
    canvas.put(canvas.height - 1, 1, "est. USDT", Role.INK)


def frame_of(theme: str, rung: Rung, is_ascii: bool):
    panels = PanelSet()
    panels.pane = Pane("ramp", draw=draw_ramp, footer=(("x", "made up"),))
    one = Panel(
        "one", "ONE",
        lines=lambda view, width, height: [(("long", Role.LONG), (" short", Role.SHORT))],
        brief=lambda view, width: ["one ▁▂▃▄▅▆▇█"],
    )  # fmt: skip
    panels.add(one)
    palette = Palette(THEMES[theme], rung, is_ascii=is_ascii)
    return draw_frame(16, 64, palette, panels, view_of(facts_with()), FrameState()), palette


@pytest.mark.parametrize("name", CASES)
def test_a_frame_is_sent_as_it_always_was(name: str) -> None:
    frame, palette = frame_of(*CASES[name])
    sent = ansi(frame.grid, palette)
    path = GOLDEN / f"{name}.ans"
    if os.environ.get("WLD_GOLDEN") == "write":
        path.write_text(sent, encoding="utf-8")
    assert sent == path.read_text(encoding="utf-8")
    if palette.is_ascii:
        assert sent.isascii()
        assert compose(frame.grid, None, palette).isascii()


@pytest.mark.parametrize("name", CASES)
def test_a_picture_of_the_frame_is_well_formed_and_holds_its_text(name: str) -> None:
    import xml.etree.ElementTree as xml

    frame, palette = frame_of(*CASES[name])
    root = xml.fromstring(svg(frame.grid, palette, title="a <made-up> & title"))
    text = "".join(root.itertext())
    assert "a <made-up> & title" in text
    for part in ("WLDUSDT", "mark", "1.0340", "OI", "88.21M"):
        assert part in text
