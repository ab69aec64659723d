"""Owns colour: themes, the ladder of what terminals can show, and the escape codes of each style; draws nothing.

A cell's style is one integer: `foreground | background << 8 | attributes << 16`, where a colour is an index into the
palette (0 is the terminal's own). Heat takes indices 1..64 (and 65..128 dimmed), named colours the ones after.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt
from msgspec import Struct

LEVELS = 64
"""Steps of heat: 0 is none, 63 the strongest."""
HEAT = 1
"""Palette index of heat level 0."""
DIMMED = HEAT + LEVELS
"""Palette index of heat level 0 in a column that is seeded, not observed."""
NAMED = DIMMED + LEVELS
BOLD, DIM, UNDERLINE, REVERSE = 1, 2, 4, 8
_ATTRIBUTES = ((BOLD, "1"), (DIM, "2"), (UNDERLINE, "4"), (REVERSE, "7"))


class Rung(IntEnum):
    """What the terminal can show, by its number of colours."""

    MONO = 0
    SIXTEEN = 16
    CUBE = 256
    TRUE = 1 << 24


class Color(IntEnum):
    """Named colours of a theme, as palette indices."""

    DEFAULT = 0
    FAINT = NAMED
    """Legible on either background, and less than text."""
    LONG = NAMED + 1
    SHORT = NAMED + 2
    MARK = NAMED + 3
    """The path of the mark price."""
    RANGE = NAMED + 4
    """High to low of the mark price within a column."""
    ACCENT = NAMED + 5
    WARN = NAMED + 6
    TITLE = NAMED + 7
    TITLE_BACK = NAMED + 8
    ALARM = NAMED + 9
    ALARM_BACK = NAMED + 10
    GRID = NAMED + 11
    INK = NAMED + 12
    """Text on the heat pane."""
    CURSOR = NAMED + 13
    BADGE_BACK = NAMED + 14


class Role(IntEnum):
    """What a piece of text means; the palette gives it a style."""

    TEXT = 0
    FAINT = 1
    STRONG = 2
    LONG = 3
    SHORT = 4
    ACCENT = 5
    WARN = 6
    TITLE = 7
    TITLE_STRONG = 8
    TITLE_LONG = 9
    TITLE_SHORT = 10
    ALARM = 11
    BADGE = 12
    KEY = 13
    BORDER = 14
    HEADING = 15
    INK = 16
    INK_STRONG = 17
    MARK = 18
    TITLE_FAINT = 19


def style(foreground: int = 0, background: int = 0, attributes: int = 0) -> int:
    """One integer of the three."""
    return int(foreground) | int(background) << 8 | attributes << 16


class Theme(Struct, frozen=True):
    """Anchors of the heat ramp, from none to strongest, and the named colours, as RGB."""

    name: str
    is_light: bool
    heat: tuple[tuple[int, int, int], ...]
    cube: tuple[int, ...]
    """The heat ramp in the 256-colour palette, picked by hand for rising (light theme: falling) lightness."""
    sixteen: tuple[int, int, int, int, int]
    """Five of the 16 colours from background to strongest; the shade glyphs step between neighbours."""
    named: dict[Color, tuple[tuple[int, int, int], int]]
    """RGB, and the colour of 16 that comes nearest in meaning."""
    page: tuple[int, int, int]
    """What a picture puts where the terminal's own background would be."""
    text: tuple[int, int, int]


def _rgb(text: str) -> tuple[int, int, int]:
    return int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16)


def _ramp(text: str) -> tuple[tuple[int, int, int], ...]:
    return tuple(_rgb(part) for part in text.split())


def _named(text: str) -> dict[Color, tuple[tuple[int, int, int], int]]:
    """`NAME RGB SIXTEEN` for each colour, commas between."""
    return {Color[name.upper()]: (_rgb(rgb), int(near)) for name, rgb, near in map(str.split, text.split(","))}


_DARK = _named(
    "faint 848b98 7, mark ffffff 15, range 59606f 8, accent 6cb6ff 14, warn f0b03f 11, title dfe3ea 15, "
    "title_back 232838 4, alarm ffffff 15, alarm_back c4262e 1, grid 3b4152 8, ink d5d9e2 15, cursor ff7ad9 13, "
    "badge_back 8a5a00 3"
)
_LIGHT = _named(
    "faint 666d78 8, long 0b7a3b 2, short c4222e 1, mark 000000 0, range a3a9b3 7, accent 0a57b5 4, warn 945c00 3, "
    "title 12161f 0, title_back dbe2ee 7, alarm ffffff 15, alarm_back c4262e 1, grid c3c8d2 7, ink 23272f 0, "
    "cursor b0128a 5, badge_back ffd27a 3"
)


def _dark(long: str, short: str) -> dict[Color, tuple[tuple[int, int, int], int]]:
    return {**_DARK, **_named(f"long {long} 10, short {short} 9")}


# The anchors of viridis, inferno and cividis are those of matplotlib (CC0), darkened at the cold end so that none is
# the pane's own background; the 256-colour ramps were picked by hand against CIE L* (the tests hold the order).
THEMES: dict[str, Theme] = {
    theme.name: theme
    for theme in (
        Theme(
            "dark", False,
            _ramp("0b0b14 251047 46196a 443a83 365c8d 277f8e 1fa187 4ac16d a0da39 fde725 fffbc8"),
            (233, 17, 53, 54, 24, 60, 30, 36, 42, 113, 149, 184, 220, 228),
            (0, 4, 6, 10, 11), _dark("3fd07c", "ff6b6b"), _rgb("0b0d12"), _rgb("d3d7df"),
        ),
        Theme(
            "inferno", False,
            _ramp("08070d 1b0c41 4a0c6b 781c6d a52c60 cf4446 ed6925 fb9b06 f7d13d fcffa4"),
            (232, 233, 18, 53, 54, 89, 125, 161, 166, 202, 208, 214, 221, 229),
            (0, 5, 9, 11, 15), _dark("4fe08c", "ff8f8f"), _rgb("0c0b0f"), _rgb("d8d4d0"),
        ),
        Theme(
            "cividis", False,
            _ramp("070b14 00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 e1cc55 fee838"),
            (233, 17, 18, 237, 24, 60, 242, 243, 102, 137, 143, 179, 185, 221),
            (0, 4, 8, 7, 11), _dark("56b4e9", "ff9e3d"), _rgb("0a0d13"), _rgb("d3d7df"),
        ),
        Theme(
            "mono", False,
            _ramp("0a0a0a 242424 4a4a4a 787878 a8a8a8 d8d8d8 ffffff"),
            (232, 233, 235, 236, 238, 240, 242, 244, 247, 249, 251, 253, 255, 231),
            (0, 8, 7, 15, 15), _dark("ffffff", "b0b0b0"), _rgb("0a0a0a"), _rgb("d8d8d8"),
        ),
        Theme(
            "light", True,
            _ramp("fbfcfa e6f3d8 c5e6c6 92d3c3 5bbac6 3499c1 2774b0 28509a 23307c 140f4d"),
            (231, 194, 152, 116, 79, 73, 67, 31, 61, 25, 55, 54, 18, 17),
            (15, 14, 6, 4, 0), _LIGHT, _rgb("ffffff"), _rgb("1c2128"),
        ),
    )
}  # fmt: skip

_ROLES: dict[Role, tuple[int, int, int]] = {
    Role.TEXT: (0, 0, 0),
    Role.FAINT: (Color.FAINT, 0, 0),
    Role.STRONG: (0, 0, BOLD),
    Role.LONG: (Color.LONG, 0, 0),
    Role.SHORT: (Color.SHORT, 0, 0),
    Role.ACCENT: (Color.ACCENT, 0, 0),
    Role.WARN: (Color.WARN, 0, 0),
    Role.TITLE: (Color.TITLE, Color.TITLE_BACK, 0),
    Role.TITLE_STRONG: (Color.TITLE, Color.TITLE_BACK, BOLD),
    Role.TITLE_LONG: (Color.LONG, Color.TITLE_BACK, BOLD),
    Role.TITLE_SHORT: (Color.SHORT, Color.TITLE_BACK, BOLD),
    Role.ALARM: (Color.ALARM, Color.ALARM_BACK, BOLD),
    Role.BADGE: (Color.TITLE, Color.BADGE_BACK, BOLD),
    Role.KEY: (Color.ACCENT, 0, BOLD),
    Role.BORDER: (Color.GRID, 0, 0),
    Role.HEADING: (Color.FAINT, 0, BOLD),
    Role.INK: (Color.INK, HEAT, 0),
    Role.INK_STRONG: (Color.INK, HEAT, BOLD),
    Role.MARK: (Color.MARK, HEAT, BOLD),
    Role.TITLE_FAINT: (Color.FAINT, Color.TITLE_BACK, 0),
}
_REVERSED = {Role.TITLE, Role.TITLE_STRONG, Role.TITLE_LONG, Role.TITLE_SHORT, Role.ALARM, Role.BADGE, Role.TITLE_FAINT}


def lightness(red: float, green: float, blue: float) -> float:
    """CIE L* (0..100) of an sRGB colour (0..255), by CIE 15 with the sRGB transfer of IEC 61966-2-1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red / 255, green / 255, blue / 255)]
    y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * y ** (1 / 3) - 16 if y > 216 / 24389 else y * 24389 / 27


def cube_rgb(index: int) -> tuple[int, int, int]:
    """RGB of one of xterm's colours 16..255."""
    if index >= 232:
        grey = 8 + 10 * (index - 232)
        return grey, grey, grey
    index -= 16
    steps = (0, 95, 135, 175, 215, 255)
    return steps[index // 36], steps[index // 6 % 6], steps[index % 6]


SIXTEEN_RGB: tuple[tuple[int, int, int], ...] = (
    (0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229),
    (127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0), (92, 92, 255), (255, 0, 255), (0, 255, 255),
    (255, 255, 255),
)  # fmt: skip
"""xterm's defaults; a user's terminal may paint them otherwise."""


def heat_ramp(theme: Theme) -> list[tuple[int, int, int]]:
    """The theme's `LEVELS` colours, straight lines between its anchors."""
    anchors = np.array(theme.heat, float)
    at = np.linspace(0, len(anchors) - 1, LEVELS)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, i]) for i in range(3)]
    return [(round(r), round(g), round(b)) for r, g, b in zip(*channels, strict=True)]


def _nearest_cube(rgb: tuple[int, int, int]) -> int:
    return min(range(16, 256), key=lambda i: sum((a - b) ** 2 for a, b in zip(cube_rgb(i), rgb, strict=True)))


class Palette:
    """One theme on one rung: the codes that switch to a colour, the style of each role, and RGB for pictures."""

    def __init__(self, theme: Theme, rung: Rung, *, is_ascii: bool = False) -> None:
        self.theme = theme
        self.rung = rung
        self.is_ascii = is_ascii
        """Whether only ASCII may reach the terminal."""
        colors: list[tuple[int, int, int] | None] = [None] * 256
        ramp = heat_ramp(theme)
        page = theme.heat[0]
        for level, rgb in enumerate(ramp):
            colors[HEAT + level] = rgb
            # Seeded heat keeps the hue at 45 %: clearly less than what was observed.
            colors[DIMMED + level] = _mix(page, rgb, 0.45)
        for name, (rgb, _) in theme.named.items():
            colors[name] = rgb
        self.rgb = colors
        self._foreground = [self._code(i, 38) for i in range(256)]
        self._background = [self._code(i, 48) for i in range(256)]
        self.roles: list[int] = [0] * len(Role)
        for role, (foreground, background, attributes) in _ROLES.items():
            if rung is Rung.MONO:
                attributes = attributes | (REVERSE if role in _REVERSED else 0)
                foreground = background = 0
            self.roles[role] = style(foreground, background, attributes)

    @property
    def is_half_block(self) -> bool:
        """Whether one cell shows two heat levels, upper and lower."""
        return not self.is_ascii and self.rung >= Rung.CUBE

    def _code(self, index: int, base: int) -> str:
        if index == 0:
            return str(base + 1)
        rgb = self.rgb[index]
        if rgb is None or self.rung is Rung.MONO:
            return str(base + 1)
        if self.rung is Rung.TRUE:
            return f"{base};2;{rgb[0]};{rgb[1]};{rgb[2]}"
        if self.rung is Rung.CUBE:
            return f"{base};5;{self.cube_index(index)}"
        sixteen = self.sixteen_index(index)
        low = base - 8
        return str(low + sixteen) if sixteen < 8 else str(low + 52 + sixteen)

    def cube_index(self, index: int) -> int:
        """The colour of 256 for a palette index."""
        rgb = self.rgb[index]
        if HEAT <= index < DIMMED:
            cube = self.theme.cube
            return cube[min(len(cube) - 1, (index - HEAT) * len(cube) // LEVELS)]
        if DIMMED <= index < NAMED:
            cube = self.theme.cube
            return cube[min(len(cube) - 1, (index - DIMMED) * len(cube) // LEVELS // 2)]
        return _nearest_cube(rgb or (0, 0, 0))

    def sixteen_index(self, index: int) -> int:
        """The colour of 16 for a palette index."""
        if HEAT <= index < NAMED:
            level = (index - HEAT) % LEVELS
            return self.theme.sixteen[min(4, level * 5 // LEVELS)]
        return self.theme.named[Color(index)][1]

    def codes(self, style: int, previous: int | None) -> str:
        """The shortest escape sequence from one style to another; from anything where `previous` is None."""
        if style == previous:
            return ""
        foreground, background, attributes = style & 255, style >> 8 & 255, style >> 16
        parts: list[str] = []
        if previous is None or attributes != previous >> 16:
            parts.append("0")
            parts.extend(code for bit, code in _ATTRIBUTES if attributes & bit)
            if foreground:
                parts.append(self._foreground[foreground])
            if background:
                parts.append(self._background[background])
        else:
            if foreground != previous & 255:
                parts.append(self._foreground[foreground])
            if background != previous >> 8 & 255:
                parts.append(self._background[background])
        return f"\x1b[{';'.join(parts)}m"

    def color_of(self, index: int, *, is_background: bool) -> tuple[int, int, int]:
        """RGB that a picture shows for a palette index on this rung."""
        if index == 0 or self.rung is Rung.MONO:
            return self.theme.page if is_background else self.theme.text
        if self.rung is Rung.CUBE:
            return cube_rgb(self.cube_index(index))
        if self.rung is Rung.SIXTEEN:
            return SIXTEEN_RGB[self.sixteen_index(index)]
        return self.rgb[index] or self.theme.text


def _mix(a: tuple[int, int, int], b: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    r, g, bl = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return r, g, bl


HeatCells = tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]
_SHADES = np.array([ord(c) for c in " ░▒▓█"], np.uint32)
_RAMP = np.array([ord(c) for c in " .:-=+*#%@"], np.uint32)
_HALF = ord("▀")
_FULL_SPACE = ord(" ")


def heat_cells(palette: Palette, pixels: npt.NDArray[np.uint8]) -> HeatCells:
    """Glyphs and styles of a pane of colour pixels.

    `pixels` holds palette indices: twice as many rows as cells where `palette.is_half_block`, else one row a cell.
    Named colours (a mark path) keep their colour; on the rungs without colour pixels the caller overlays glyphs.
    """
    if palette.is_half_block:
        upper = pixels[0::2].astype(np.uint32)
        lower = pixels[1::2].astype(np.uint32)
        same = upper == lower
        halves = np.where(same, _FULL_SPACE, _HALF).astype(np.uint32)
        return halves, np.where(same, lower << 8, upper | lower << 8).astype(np.uint32)
    index = pixels.astype(np.int32)
    level = np.clip(np.where(index >= DIMMED, index - DIMMED, index - HEAT), 0, LEVELS - 1)
    level = np.where(index >= NAMED, 0, level)
    if palette.rung >= Rung.CUBE:  # ASCII with colours: the background carries the heat
        blank = np.full_like(index, _FULL_SPACE).astype(np.uint32)
        return blank, (index << 8).astype(np.uint32)
    if palette.rung is Rung.MONO:
        return _RAMP[level * len(_RAMP) // LEVELS].astype(np.uint32), np.zeros(pixels.shape, np.uint32)
    # 16 colours: 4 pairs of neighbours x 4 shades, each step a little more of the next colour.
    step = level * 16 // (LEVELS - 1)
    pair = np.clip((step - 1) // 4, 0, 3)
    inside = np.where(step == 0, 0, (step - 1) % 4 + 1)
    if palette.is_ascii:
        shades = _RAMP[level * len(_RAMP) // LEVELS]
        lower_color, upper_color = np.zeros_like(pair), np.minimum(pair + 1, 4)
    else:
        shades = _SHADES[inside]
        lower_color, upper_color = pair, pair + 1
    # A palette index whose 16-colour code is entry k of the theme's five.
    entry = np.array([HEAT + (LEVELS * k + 4) // 5 for k in range(5)], np.uint32)
    return shades.astype(np.uint32), (entry[upper_color] | entry[lower_color] << 8).astype(np.uint32)
