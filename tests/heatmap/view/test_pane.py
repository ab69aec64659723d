"""The picture of the heat: true to the columns, still once they are closed, the same on every rung."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace
from wld_heatmap import HeatmapConfig, Radar
from wld_heatmap.view import HeatPane, Selection

from tests.heatmap.demo import SECOND, SYMBOL, market
from tests.heatmap.view.scene import DARK, Scene
from tests.terminal.emulator import Emulator
from wld.terminal.cells import Canvas, Grid, compose
from wld.terminal.palette import DIMMED, HEAT, NAMED, THEMES, Color, Palette, Rung
from wld.terminal.surface import Surface


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
            columns[i] = replace(column, is_seed=True)
        fresh = Scene(heatmap)
        frame = fresh.frame()
        top, left, height, _ = frame.pane_at
        back = frame.grid.styles[top : top + height - 2, left + 9 : left + 40] >> 8 & 255
        assert ((back >= DIMMED) & (back < NAMED)).any()
    finally:
        for i, column in enumerate(saved):
            columns[i] = column


def test_a_fresh_start_shows_heat_within_seconds() -> None:
    radar = Radar(HeatmapConfig(), [SYMBOL])
    heat = HeatPane(Selection(radar))
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


def test_before_a_mark_price_it_says_that_it_waits() -> None:
    heat = HeatPane(Selection(Radar(HeatmapConfig(), [SYMBOL])))
    view = Surface(symbols=[SYMBOL], clock="live").view
    grid = Grid(10, 60)
    heat.draw(Canvas(grid, DARK), view)
    assert any("waiting for a mark price" in row for row in grid.text())


def test_the_path_of_the_mark_price_is_drawn(scene: Scene) -> None:
    frame = scene.frame()
    fronts, backs = frame.grid.styles & 255, frame.grid.styles >> 8 & 255
    assert ((fronts == Color.MARK) | (backs == Color.MARK)).sum() > 20
