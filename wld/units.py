"""Owns fixed point and time units: 1e-8 integers and nanoseconds. No floats enter or leave."""

from __future__ import annotations

from wld.errors import UnitError

PLACES = 8
SCALE = 10**PLACES
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
ABSENT = INT64_MIN
"""What numpy columns hold where an event has None."""
_TENS: tuple[int, ...] = tuple(10**n for n in range(PLACES + 1))
_MAX_TEXT = 48  # more than any number the venue sends; bounds the work on hostile input


def parse_fixed(text: str) -> int:
    """Decimal string to 1e-8 integer, exactly: `"0.29"` is 29000000.

    Accepts an optional `-`, ASCII digits, and at most one point with digits on both sides. Digits beyond the
    eighth place are accepted only where they are zero, since they change nothing.

    Raises:
        UnitError: anything else, or a value that is not exact in 1e-8.
    """
    whole, point, fraction = text.partition(".")
    digits = whole[1:] if whole[:1] == "-" else whole
    if len(text) > _MAX_TEXT or not digits or not (digits + fraction).isdecimal() or not text.isascii():
        raise UnitError(f"not a decimal number: {text[:_MAX_TEXT]!r}")
    if point and not fraction:
        raise UnitError(f"not a decimal number: {text!r}")
    if len(fraction) > PLACES:
        if fraction[PLACES:].strip("0"):
            raise UnitError(f"more than {PLACES} decimal places: {text!r}")
        fraction = fraction[:PLACES]
    return int(whole + fraction) * _TENS[PLACES - len(fraction)]


def parse_fixed64(text: str) -> int:
    """As `parse_fixed`, for values stored in 64 bits. Raises: UnitError also where the value does not fit."""
    value = parse_fixed(text)
    if not INT64_MIN < value <= INT64_MAX:
        raise UnitError(f"does not fit 64 bits at 1e-8: {text!r}")
    return value


def format_fixed(value: int) -> str:
    """1e-8 integer to the shortest decimal string that parses back to it."""
    whole, fraction = divmod(abs(value), SCALE)
    text = f"{whole}.{fraction:08d}".rstrip("0").rstrip(".")
    return f"-{text}" if value < 0 else text


def ms_to_ns(milliseconds: int) -> int:
    """Milliseconds to nanoseconds, both since the Unix epoch.

    Raises:
        UnitError: negative, or beyond the year 2262 (does not fit 64 bits).
    """
    if not 0 <= milliseconds <= INT64_MAX // 1_000_000:
        raise UnitError(f"not a time in ms: {milliseconds}")
    return milliseconds * 1_000_000
