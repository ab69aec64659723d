"""The picture of the heat: true to the columns, still once they are closed, the same on every rung, and it obeys keys."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from wld_heatmap import Heatmap, HeatmapConfig, Radar
from wld_heatmap.view import HELP, WIDTHS, HeatView, mark_glyph

import wld
from tests.terminal.emulator import Emulator
from wld.terminal.cells import Canvas, Grid, compose
from wld.terminal.frame import FrameState, draw_frame, frame_text
from wld.terminal.palette import DIMMED, HEAT, NAMED, THEMES, Color, Palette, Rung
from wld.terminal.panels import Click
from wld.terminal.surface import Surface

from .demo import SECOND, SYMBOL, T0, demo_map

MINUTES = 90
NOW = T0 + (MINUTES * 60 + 5) * SECOND
DARK = Palette(THEMES["dark"], Rung.TRUE)


@pytest.fixture(scope="module")
def heatmap():
    return demo_map(MINUTES, gap_at=70)


class Scene:
    """The heatmap sink on a screen without a terminal."""

    def __init__(self, heatmap) -> None:
        self.surface = Surface(symbols=[SYMBOL], clock="live")
        context: Any = SimpleNamespace(
            screen=self.surface, symbols=(SYMBOL,), clock="live", status=lambda name, figures: None
        )
        self.sink = Heatmap(HeatmapConfig(), context)
        self.sink.radar.maps[SYMBOL] = heatmap
        self.heat: HeatView = self.sink.view
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


@pytest.fixture
def scene(heatmap) -> Scene:
    return Scene(heatmap)


@pytest.mark.parametrize("size", [(24, 80), (40, 120), (50, 200), (100, 300), (15, 60), (20, 99)])
@pytest.mark.parametrize("rung", list(Rung))
def test_every_size_and_rung_has_prices_mark_time_and_a_legend_in_usdt(size, rung, scene: Scene) -> None:
    palette = Palette(THEMES["dark"], rung)
    text = scene.text(*size, palette=palette)
    assert "mark" in text
    assert "now" in text
    assert "USDT" in text or "$" in text
    assert len(text.splitlines()) <= size[0]
    assert max(map(len, text.splitlines())) <= size[1]


@pytest.mark.parametrize("rung", list(Rung))
@pytest.mark.parametrize("is_ascii", [False, True])
def test_a_frame_looks_the_same_by_repaint_and_by_diff_from_another(rung, is_ascii, scene: Scene) -> None:
    palette = Palette(THEMES["inferno"], rung, is_ascii=is_ascii)
    first = scene.frame(30, 100, palette)
    scene.view.now += 60 * SECOND
    second = scene.frame(30, 100, palette)
    assert second.shifts  # the pane moved by whole columns, and says so
    by_diff, by_repaint = Emulator(30, 100), Emulator(30, 100)
    by_diff.feed("\x1b[?7l" + compose(first.grid, None, palette))
    by_diff.feed(compose(second.grid, first.grid, palette, second.shifts))
    by_repaint.feed("\x1b[?7l" + compose(second.grid, None, palette))
    assert by_diff.cells() == by_repaint.cells()
    if is_ascii:
        assert compose(second.grid, None, palette).isascii()


def test_closed_columns_never_change_whatever_comes_after(scene: Scene) -> None:
    scene.frame()
    before = scene.heat._shown
    assert before is not None
    scene.view.now += 120 * SECOND
    scene.frame()
    after = scene.heat._shown
    assert after is not None
    shift = after.last - before.last
    assert shift == 120 * SECOND // before.width
    # All but those still open then: the last and, within two seconds' grace, the one before.
    np.testing.assert_array_equal(before.heat[:, shift:-2], after.heat[:, : -shift - 2])


def test_a_pixel_is_the_sum_of_its_bins(heatmap, scene: Scene) -> None:
    scene.key("]")  # a minute a column: no averaging, the last belief of each
    scene.frame()
    shown = scene.heat._shown
    assert shown is not None
    slot = shown.last - 3
    end = (slot + 1) * shown.width
    column = next(c for c in heatmap.columns if c.end == end)
    heat = column.heat()
    for pixel in (shown.bottom + 5, shown.bottom + 40):
        low = pixel * shown.bins - column.low_bin
        expected = heat[max(0, low) : max(0, low + shown.bins)].sum()
        assert shown.heat[pixel - shown.bottom, slot - shown.first] == pytest.approx(float(expected), rel=1e-5)


def test_longs_stand_below_the_mark_price_and_the_filter_leaves_one_side(scene: Scene) -> None:
    scene.key("s")
    assert "LONGS only" in scene.text()
    shown = scene.heat._shown
    assert shown is not None
    cell = shown.cells[-4]
    assert cell is not None
    assert cell.mark_close is not None
    above = shown.heat[cell.mark_close - shown.bottom + 1 :, -4]
    assert not above.any()
    scene.key("s")
    assert "SHORTS only" in scene.text()
    below = scene.heat._shown.heat[: cell.mark_close - shown.bottom, -4]  # type: ignore[union-attr]
    assert not below.any()


def test_a_gap_is_hatched_and_seeded_columns_are_dimmed(heatmap, scene: Scene) -> None:
    assert "╱" in scene.text()
    columns = heatmap._fine
    saved = list(columns)
    try:
        for i, column in enumerate(saved):
            columns[i] = wld_replace(column, is_seed=True)
        fresh = Scene(heatmap)
        frame = fresh.frame()
        top, left, height, _ = frame.pane_at
        back = frame.grid.styles[top : top + height - 2, left + 9 : left + 40] >> 8 & 255
        assert ((back >= DIMMED) & (back < NAMED)).any()
    finally:
        for i, column in enumerate(saved):
            columns[i] = column


def wld_replace(column, **changes):
    from msgspec.structs import replace

    return replace(column, **changes)


def test_every_key_of_the_help_does_something_and_says_so_in_a_badge(scene: Scene) -> None:
    plain = scene.text()
    for keys, badge in (
        (["left"], "BACK"), (["s"], "LONGS only"), (["L"], "25x and more"), (["b"], "RAW"), (["up"], "PANNED"),
        (["+"], "zoom 1.2x"), (["c"], "linear"), (["G"], "gamma 1.4"), (["]"], "2m col"),
    ):  # fmt: skip
        other = Scene(scene.sink.radar.maps[SYMBOL])
        other.frame()
        other.key(*keys)
        text = other.text()
        assert badge in text, keys
        assert badge not in plain or badge.endswith("col")
    assert len(HELP) >= 10


def test_width_zoom_and_scroll_stay_within_their_limits(scene: Scene) -> None:
    scene.frame()
    for key in ["]"] * 20 + ["+"] * 40 + ["left"] * 200 + ["home"]:
        scene.key(key)
    scene.text()
    for key in ["["] * 20 + ["-"] * 80 + ["right"] * 400 + ["end", "0", "backspace"]:
        scene.key(key)
        scene.text() if key in ("end", "0") else None
    assert scene.heat.settings.scroll == 0
    assert scene.heat._shown is not None
    assert scene.heat._shown.width // SECOND in WIDTHS


def test_the_cursor_tells_price_time_and_usdt(scene: Scene) -> None:
    scene.frame()
    scene.key("i", "up", "up", "left")
    text = scene.text()
    assert "USDT p" in text
    scene.heat.key(Click("left", 10, 40), scene.view)
    assert scene.heat.settings.cursor is not None
    scene.key("escape")
    assert scene.heat.settings.cursor is None


def test_the_strongest_zones_of_each_side_are_labelled(scene: Scene) -> None:
    text = scene.text(50, 200)
    names = [name for name, _ in scene.heat.named_zones(scene.view)]
    assert names[0] == "L1" or names[0] == "S1"
    assert {"L1", "S1"} <= set(names)
    for name in names:
        assert name in text
    assert "within 2%" in text


def test_liquidations_are_marked_as_hit_or_miss(heatmap, scene: Scene) -> None:
    assert len(heatmap.liquidations) > 10
    text = scene.text(50, 200)
    assert any(glyph in text for glyph in "•●◆◦○◇×")
    plain = scene.text(50, 200, palette=Palette(THEMES["dark"], Rung.MONO, is_ascii=True))
    assert plain.isascii()
    mark = heatmap.liquidations[-1]
    hit = wld_replace(mark, is_hit=True, percentile=97.0)
    miss = wld_replace(mark, is_hit=False, percentile=10.0)
    unknown = wld_replace(mark, is_hit=False, percentile=None)
    assert [mark_glyph(m, 0.9, is_plain=False) for m in (hit, miss, unknown)] == ["●", "○", "×"]
    letter = "L" if mark.position_side is wld.PositionSide.LONG else "S"
    assert [mark_glyph(m, 0.9, is_plain=True) for m in (hit, miss, unknown)] == [letter, letter.lower(), "x"]


def test_new_liquidations_go_on_the_event_tape_once(scene: Scene) -> None:
    scene.sink.tell()
    count = len(scene.surface.facts.notes)
    assert count == min(50, len(scene.sink.radar.maps[SYMBOL].liquidations))
    scene.sink.tell()
    assert len(scene.surface.facts.notes) == count


def test_a_fresh_start_shows_heat_within_seconds() -> None:
    from .demo import market

    radar = Radar(HeatmapConfig(), [SYMBOL])
    heat = HeatView(radar)
    view = Surface(symbols=[SYMBOL], clock="live").view
    start = None
    for event in market(1.0):
        radar.apply([event])
        start = start or event.receive_time
        now = event.receive_time + SECOND
        radar.advance(now)
        heat.snap(now)
        view.now = now
        if now - start > 8 * SECOND:
            break
    grid = Grid(24, 80)
    heat.draw(Canvas(grid, DARK), view)
    shown = heat._shown
    assert shown is not None
    assert shown.width == SECOND
    assert (shown.heat.max(axis=0) > 1.0).sum() >= 4  # columns with heat
    styles = grid.styles[:, 8:60] >> 8 & 255
    assert ((styles > HEAT) & (styles < DIMMED)).any()


def test_scrolled_back_it_shows_the_past_and_the_profile_still_shows_now(scene: Scene) -> None:
    scene.frame()
    now = scene.heat._shown.last  # type: ignore[union-attr]
    scene.key("pageup")
    text = scene.text()
    assert scene.heat._shown.last < now  # type: ignore[union-attr]
    assert "█" in text
    assert "BACK" in text


def test_panels_say_what_the_model_is_worth_and_what_it_does_not_know(scene: Scene) -> None:
    text = scene.text(50, 200)
    assert "HEAT MODEL" in text
    assert any(word in text for word in ("unproven", "validated", "not better"))
    assert "of OI" in text


def test_before_a_mark_price_it_says_that_it_waits() -> None:
    heat = HeatView(Radar(HeatmapConfig(), [SYMBOL]))
    view = Surface(symbols=[SYMBOL], clock="live").view
    grid = Grid(10, 60)
    heat.draw(Canvas(grid, DARK), view)
    assert any("waiting for a mark price" in row for row in grid.text())


def test_the_path_of_the_mark_price_is_drawn(scene: Scene) -> None:
    frame = scene.frame()
    fronts, backs = frame.grid.styles & 255, frame.grid.styles >> 8 & 255
    assert ((fronts == Color.MARK) | (backs == Color.MARK)).sum() > 20
