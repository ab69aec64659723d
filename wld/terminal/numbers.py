"""Owns how numbers look on the screen: prices, amounts, percentages, ages, sparklines, bars. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wld.units import SCALE

NONE = "--"
_SPARKS = "▁▂▃▄▅▆▇█"


def price(value: int | float | None, tick: int | None = None) -> str:
    """A price in 1e-8 quote units with the tick's decimals, or enough digits for its size without one."""
    if value is None:
        return NONE
    return f"{value / SCALE:.{decimals(value, tick)}f}"


def decimals(value: int | float, tick: int | None = None) -> int:
    """Decimals that a price needs: those of its tick, else five significant digits."""
    if tick:
        places = 8
        while places and tick % 10 == 0:
            tick //= 10
            places -= 1
        return places
    magnitude = abs(value) / SCALE
    if magnitude <= 0:
        return 4
    return min(8, max(1, 4 - math.floor(math.log10(magnitude))))


def amount(value: float | None) -> str:
    """Four characters or so: `88.2M`, `412k`, `9.1k`, `15`."""
    if value is None or math.isnan(value):
        return NONE
    sign, size = ("-" if value < 0 else ""), abs(value)
    for limit, unit, divisor in ((1e12, "T", 1e12), (1e9, "B", 1e9), (1e6, "M", 1e6), (1e3, "k", 1e3)):
        if size >= limit * 0.9995:
            scaled = size / divisor
            return f"{sign}{scaled:.0f}{unit}" if scaled >= 99.95 else f"{sign}{scaled:.1f}{unit}"
    return f"{sign}{size:.0f}" if size >= 9.95 or size == 0 else f"{sign}{size:.1f}"


def amount_long(value: float | None) -> str:
    """As `amount` with two decimals: `88.21M`."""
    if value is None or math.isnan(value):
        return NONE
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.2f}{unit}"
    return f"{value:.0f}"


def signed(value: float | None) -> str:
    """`amount` with its sign always."""
    if value is None or math.isnan(value):
        return NONE
    return amount(value) if value < 0 else f"+{amount(value)}"


def percent(value: float | None, places: int = 2) -> str:
    """A fraction as a signed percentage: 0.0231 is `+2.31%`."""
    return NONE if value is None or math.isnan(value) else f"{value * 100:+.{places}f}%"


def age(nanoseconds: int | None) -> str:
    """`0s`, `14s`, `3m`, `2h`, `5d`."""
    if nanoseconds is None:
        return NONE
    seconds = max(0, nanoseconds) / 1e9
    for limit, unit, divisor in ((100, "s", 1), (6000, "m", 60), (360_000, "h", 3600)):
        if seconds < limit:
            return f"{seconds / divisor:.0f}{unit}"
    return f"{seconds / 86400:.0f}d"


def countdown(nanoseconds: int | None) -> str:
    """`03:12:44`; `--` when it is over or unknown."""
    if nanoseconds is None or nanoseconds < 0:
        return NONE
    seconds = nanoseconds // 1_000_000_000
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def clock(nanoseconds: int, *, seconds: bool = True) -> str:
    """UTC time of day of a time in ns since the Unix epoch."""
    of_day = nanoseconds // 1_000_000_000 % 86_400
    text = f"{of_day // 3600:02d}:{of_day // 60 % 60:02d}"
    return f"{text}:{of_day % 60:02d}" if seconds else text


def spark(values: Sequence[float], width: int) -> str:
    """The last `width` values as a line of eight heights, between their own minimum and maximum."""
    shown = [v for v in values[-width:] if not math.isnan(v)]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    if high <= low:
        return _SPARKS[3] * len(shown)
    return "".join(_SPARKS[min(7, int((v - low) / (high - low) * 8))] for v in shown)


def bar(share: float, width: int, *, full: str = "█", rest: str = "░") -> str:
    """A bar of `width` cells of which `share` (0..1) is full."""
    filled = min(width, max(0, round((0 if math.isnan(share) else share) * width)))
    return full * filled + rest * (width - filled)
