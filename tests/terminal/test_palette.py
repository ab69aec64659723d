"""Every rung of every theme shows more heat as more lightness (less, on the light theme)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from wld.terminal.palette import (
    DIMMED,
    HEAT,
    LEVELS,
    SIXTEEN_RGB,
    THEMES,
    Color,
    Palette,
    Role,
    Rung,
    cube_rgb,
    heat_cells,
    heat_ramp,
    lightness,
)

themes = pytest.mark.parametrize("theme", THEMES.values(), ids=list(THEMES))


def rising(values: list[float], *, is_light: bool, strictly: bool = True) -> bool:
    pairs = itertools.pairwise([-v for v in values] if is_light else values)
    return all(a < b if strictly else a <= b for a, b in pairs)


def test_lightness_is_cie_l_star() -> None:
    assert lightness(0, 0, 0) == 0
    assert lightness(255, 255, 255) == pytest.approx(100, abs=0.01)
    assert lightness(119, 119, 119) == pytest.approx(50.03, abs=0.05)  # CIE: sRGB 119 is the middle grey


@themes
def test_truecolor_heat_rises_in_lightness_at_each_of_64_steps(theme) -> None:
    ramp = heat_ramp(theme)
    assert len(set(ramp)) == LEVELS
    assert rising([lightness(*rgb) for rgb in ramp], is_light=theme.is_light)


@themes
def test_256_colour_heat_rises_in_lightness_over_at_least_12_distinct_steps(theme) -> None:
    palette = Palette(theme, Rung.CUBE)
    steps = list(dict.fromkeys(palette.cube_index(HEAT + level) for level in range(LEVELS)))
    assert len(steps) >= 12
    assert tuple(steps) == theme.cube
    assert rising([lightness(*cube_rgb(i)) for i in steps], is_light=theme.is_light)


@themes
def test_16_colour_heat_rises_by_colour_and_shade(theme) -> None:
    colors = [lightness(*SIXTEEN_RGB[i]) for i in theme.sixteen]
    assert rising(colors, is_light=theme.is_light, strictly=False)
    palette = Palette(theme, Rung.SIXTEEN)
    levels = np.arange(HEAT, HEAT + LEVELS, dtype=np.uint8)[None, :]
    glyphs, styles = heat_cells(palette, levels)
    coverage = {" ": 0.0, "░": 0.25, "▒": 0.5, "▓": 0.75, "█": 1.0}
    seen = []
    for glyph, style in zip(glyphs[0], styles[0], strict=True):
        share = coverage[chr(glyph)]
        front = lightness(*palette.color_of(int(style) & 255, is_background=False))
        back = lightness(*palette.color_of(int(style) >> 8, is_background=True))
        seen.append(back + (front - back) * share)
    assert rising(seen, is_light=theme.is_light, strictly=False)
    assert len(set(seen)) >= 7


@pytest.mark.parametrize("rung", [Rung.MONO, Rung.SIXTEEN])
def test_without_colours_the_glyph_carries_the_heat(rung: Rung) -> None:
    palette = Palette(THEMES["dark"], rung, is_ascii=True)
    glyphs, _ = heat_cells(palette, np.arange(HEAT, HEAT + LEVELS, dtype=np.uint8)[None, :])
    text = "".join(map(chr, glyphs[0]))
    assert "".join(dict.fromkeys(text)) == " .:-=+*#%@"


def test_half_blocks_show_two_levels_a_cell() -> None:
    palette = Palette(THEMES["dark"], Rung.TRUE)
    pixels = np.array([[HEAT, HEAT + 5], [HEAT + 63, HEAT + 5]], np.uint8)
    glyphs, styles = heat_cells(palette, pixels)
    assert [chr(g) for g in glyphs[0]] == ["▀", " "]
    assert [int(s) for s in styles[0]] == [HEAT | (HEAT + 63) << 8, (HEAT + 5) << 8]


@themes
def test_seeded_heat_is_fainter_than_observed_heat(theme) -> None:
    palette = Palette(theme, Rung.TRUE)
    empty = lightness(*theme.heat[0])
    for level in (20, 40, 63):
        observed = abs(lightness(*palette.color_of(HEAT + level, is_background=True)) - empty)
        seeded = abs(lightness(*palette.color_of(DIMMED + level, is_background=True)) - empty)
        assert seeded < observed


@themes
def test_text_on_the_themes_own_page_has_a_contrast_of_at_least_4_to_1(theme) -> None:
    # WCAG 2: 4.5 for body text; faint text and marks are held to 4.
    def luminance(rgb: tuple[int, int, int]) -> float:
        level = lightness(*rgb)
        return ((level + 16) / 116) ** 3 if level > 8 else level * 27 / 24389

    for color in (Color.FAINT, Color.LONG, Color.SHORT, Color.ACCENT, Color.WARN):
        front, back = luminance(theme.named[color][0]), luminance(theme.page)
        contrast = (max(front, back) + 0.05) / (min(front, back) + 0.05)
        assert contrast >= 4, (theme.name, color)


def test_mono_emits_no_colour_at_all() -> None:
    palette = Palette(THEMES["dark"], Rung.MONO)
    for role in Role:
        code = palette.codes(palette.roles[role], None)
        assert "38;" not in code
        assert "48;" not in code
        assert not [p for p in code[2:-1].split(";") if p and 30 <= int(p) <= 107 and p not in ("39", "49")]


@pytest.mark.parametrize("rung", list(Rung))
@themes
def test_every_style_has_a_code_on_every_rung(theme, rung: Rung) -> None:
    palette = Palette(theme, rung)
    for index in [0, *range(HEAT, max(Color) + 1)]:
        code = palette.codes(index | index << 8, None)
        assert code.startswith("\x1b[0")
        assert code.endswith("m")
        assert palette.color_of(index, is_background=True)
