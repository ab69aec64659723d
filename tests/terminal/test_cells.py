"""Drawing clips, and a diff leaves a terminal exactly as a full repaint would."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.terminal.emulator import Emulator
from wld.terminal.cells import Canvas, Grid, Shift, compose, printable
from wld.terminal.palette import HEAT, THEMES, Color, Palette, Role, Rung, style

PALETTE = Palette(THEMES["dark"], Rung.TRUE)
GLYPHS = [ord(c) for c in " a▀█●│"]
STYLES = [0, style(Color.LONG), style(HEAT + 3, HEAT + 40), style(0, HEAT + 3), style(0, 0, 1), style(Color.MARK, 0, 8)]


def random_grid(rng: np.random.Generator, height: int, width: int) -> Grid:
    grid = Grid(height, width)
    grid.glyphs[:] = rng.choice(GLYPHS, (height, width))
    grid.styles[:] = rng.choice(STYLES, (height, width))
    return grid


def shown(*outputs: str, height: int, width: int) -> list:
    emulator = Emulator(height, width)
    emulator.feed("\x1b[?7l")
    for output in outputs:
        emulator.feed(output)
    return emulator.cells()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 30), st.sampled_from(list(Rung)))
def test_a_diff_shows_what_a_full_repaint_shows(seed: int, height: int, width: int, rung: Rung) -> None:
    rng = np.random.default_rng(seed)
    palette = Palette(THEMES["dark"], rung)
    first = random_grid(rng, height, width)
    second = first.copy()
    changed = rng.random((height, width)) < 0.3
    other = random_grid(rng, height, width)
    second.glyphs[changed] = other.glyphs[changed]
    second.styles[changed] = other.styles[changed]
    by_diff = shown(compose(first, None, palette), compose(second, first, palette), height=height, width=width)
    assert by_diff == shown(compose(second, None, palette), height=height, width=width)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(8, 40), st.integers(1, 3))
def test_a_shifted_rectangle_shows_what_a_full_repaint_shows(seed: int, height: int, width: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    first = random_grid(rng, height, width)
    second = first.copy()
    left, right = 2, width - 2
    second.glyphs[:, left : right - count] = first.glyphs[:, left + count : right]
    second.styles[:, left : right - count] = first.styles[:, left + count : right]
    second.glyphs[:, right - count : right] = ord("n")
    shift = Shift(0, height, left, right, count)
    output = compose(second, first, PALETTE, [shift])
    by_diff = shown(compose(first, None, PALETTE), output, height=height, width=width)
    assert by_diff == shown(compose(second, None, PALETTE), height=height, width=width)


def test_a_shift_costs_less_than_repainting_the_pane() -> None:
    rng = np.random.default_rng(1)
    first = random_grid(rng, 40, 120)
    second = first.copy()
    second.glyphs[:, 0:99] = first.glyphs[:, 1:100]
    second.styles[:, 0:99] = first.styles[:, 1:100]
    plain = compose(second, first, PALETTE)
    shifted = compose(second, first, PALETTE, [Shift(0, 40, 0, 100, 1)])
    assert len(shifted) * 10 < len(plain)


def test_nothing_changed_writes_nothing() -> None:
    grid = random_grid(np.random.default_rng(2), 5, 9)
    assert compose(grid, grid.copy(), PALETTE) == ""


def test_another_size_clears_once_and_repaints() -> None:
    output = compose(Grid(3, 10), Grid(2, 10), PALETTE)
    assert output.count("\x1b[2J") == 1


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.integers(-5, 8), st.integers(-20, 40), st.booleans())
def test_text_never_leaves_its_rectangle(text: str, row: int, column: int, is_ascii: bool) -> None:
    grid = Grid(8, 30)
    canvas = Canvas(grid, Palette(THEMES["dark"], Rung.TRUE, is_ascii=is_ascii)).part(2, 5, 3, 10)
    canvas.put(row, column, text, Role.STRONG)
    canvas.put_over(row, column, text, Color.LONG)
    outside = np.ones((8, 30), bool)
    outside[2:5, 5:15] = False
    assert (grid.glyphs[outside] == ord(" ")).all()
    assert (grid.styles[outside] == 0).all()


@given(st.text(max_size=50))
def test_whatever_a_venue_sends_becomes_one_cell_a_character(text: str) -> None:
    for is_ascii in (False, True):
        safe = printable(text, is_ascii=is_ascii)
        assert len(safe) == len(text)
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", safe)
        if is_ascii:
            assert safe.isascii()


def test_text_over_heat_keeps_the_heat_behind_it() -> None:
    grid = Grid(1, 4)
    canvas = Canvas(grid, PALETTE)
    canvas.put_pixels(0, 0, np.full((2, 4), HEAT + 9, np.uint8))
    canvas.put_over(0, 1, "●", Color.LONG)
    assert int(grid.styles[0, 1]) == style(Color.LONG, HEAT + 9)


def test_cells_of_a_grid_read_back_as_text() -> None:
    grid = Grid(2, 6)
    Canvas(grid, PALETTE).put_line(0, 1, (("ab", Role.TEXT), ("│", Role.FAINT)))
    assert grid.text() == [" ab│  ", "      "]


@pytest.mark.parametrize("text", ["▀", "●", "│", "±"])
def test_ascii_has_a_stand_in_for_every_glyph(text: str) -> None:
    assert printable(text, is_ascii=True) in "#H|~"
