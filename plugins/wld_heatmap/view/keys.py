"""Owns the keys of the pane: what each changes in the settings. Pure."""

from __future__ import annotations

from wld.terminal import Click, Key
from wld_heatmap.view.layout import Shown
from wld_heatmap.view.selection import GAMMAS, SCALES, SIDES, TIERS, WIDTHS, Settings
from wld_heatmap.view.timeline import SECOND

HELP: tuple[tuple[str, str], ...] = (
    ("left right, h l", "scroll time; End: back to now"),
    ("[ ]", "narrower, wider columns (Backspace: automatic)"),
    ("+ -", "zoom price"),
    ("up down, k j", "pan price; 0: centre on mark, default zoom"),
    ("g G", "gamma down, up"),
    ("c", "scale: log, linear, percentile"),
    ("s", "side: both, longs, shorts"),
    ("L", "leverage: all, 25x and more, below 25x"),
    ("b", "boost by real liquidations on, off"),
    ("i", "inspect with a cursor (arrows move it)"),
)
FOOTER: tuple[tuple[str, str], ...] = (
    ("←→", "time"), ("[]", "width"), ("+-", "zoom"), ("↑↓", "price"), ("0", "centre"), ("s", "side"),
    ("L", "tier"), ("b", "boost"), ("g", "gamma"), ("i", "inspect"),
)  # fmt: skip


def press(key: Key | Click, settings: Settings, shown: Shown | None) -> bool:
    """Change what a key or a click on `shown` asks for; False where it means nothing here."""
    if isinstance(key, Click):
        return _click(key, settings, shown)
    rows, columns = (shown.layout.rows, shown.layout.columns) if shown else (20, 60)
    if settings.cursor is not None and key in ("left", "right", "up", "down"):
        row, column = settings.cursor
        row += {"up": -1, "down": 1}.get(key, 0)
        column += {"left": -1, "right": 1}.get(key, 0)
        settings.cursor = (max(0, min(rows - 1, row)), max(0, min(columns - 1, column)))
        return True
    per_row = shown.layout.per_row if shown else 2
    steps = {
        "left": ("scroll", 5), "h": ("scroll", 5), "right": ("scroll", -5), "l": ("scroll", -5),
        "pageup": ("scroll", columns), "pagedown": ("scroll", -columns), "home": ("scroll", 1 << 40),
        "up": ("pan", 2 * per_row), "k": ("pan", 2 * per_row), "down": ("pan", -2 * per_row),
        "j": ("pan", -2 * per_row), "+": ("zoom", 1), "=": ("zoom", 1), "-": ("zoom", -1), "_": ("zoom", -1),
    }  # fmt: skip
    if key in steps:
        name, step = steps[key]
        value = getattr(settings, name) + step
        if name == "zoom":
            value = max(-8, min(12, value))
        elif name == "scroll":
            value = max(0, value)
        setattr(settings, name, value)
    elif key == "end":
        settings.scroll = 0
    elif key == "0":
        settings.pan = settings.zoom = 0
        settings.centre = None
    elif key in ("[", "]"):
        now = shown.width // SECOND if shown else 10
        at = WIDTHS.index(now) + (1 if key == "]" else -1)
        settings.width = WIDTHS[max(0, min(len(WIDTHS) - 1, at))]
    elif key == "backspace":
        settings.width = None
    elif key in ("g", "G"):
        settings.gamma = max(0, min(len(GAMMAS) - 1, settings.gamma + (1 if key == "G" else -1)))
    elif key == "c":
        settings.scale = (settings.scale + 1) % len(SCALES)
    elif key == "s":
        settings.side = (settings.side + 1) % len(SIDES)
    elif key == "L":
        settings.tiers = (settings.tiers + 1) % len(TIERS)
    elif key == "b":
        settings.is_boosted = not settings.is_boosted
    elif key == "i":
        settings.cursor = None if settings.cursor is not None else (rows // 2, columns - 1)
    elif key == "escape":
        settings.cursor = None
    else:
        return False
    return True


def _click(click: Click, settings: Settings, shown: Shown | None) -> bool:
    if shown is None:
        return False
    if click.button in ("wheel_up", "wheel_down"):
        settings.zoom = max(-8, min(12, settings.zoom + (1 if click.button == "wheel_up" else -1)))
        return True
    column = click.column - shown.layout.left
    if 0 <= column < shown.layout.columns and click.row < shown.layout.rows:
        settings.cursor = (click.row, column)
        return True
    return False
