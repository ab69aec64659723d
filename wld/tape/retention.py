"""Owns which old tapes a folder gives up when it is told to keep only so much. Off unless asked for."""

from __future__ import annotations

import os
import re
from pathlib import Path

from msgspec import Struct

from wld.errors import TapeError
from wld.tape.segment import JOURNAL_SUFFIX, RECOVERED_SUFFIX, SEALED_SUFFIX, Segment, segment_order

_SECOND = 1_000_000_000
_AGES = {"m": 60 * _SECOND, "h": 3600 * _SECOND, "d": 86_400 * _SECOND, "w": 7 * 86_400 * _SECOND}
_SIZES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_KEEP = re.compile(r"^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$")
_OURS = re.compile(r"^market_data_\d{8}_\d{4}(_\d+)?\.bin((\.open)?(\.\d+)?\.recovered)?$")


class Keep(Struct, frozen=True):
    """How much to keep: one of the two."""

    text: str
    age_ns: int | None = None
    size: int | None = None
    """Bytes."""


class Removed(Struct, frozen=True):
    """A file that was deleted, and why."""

    path: str
    bytes: int
    reason: str


def parse_keep(text: str) -> Keep:
    """`30d`, `12h`, `2w`, or `50GB`, `500MB`, `1TiB`. Raises: ValueError saying what is accepted."""
    match = _KEEP.match(text.strip())
    if match:
        amount, unit = float(match[1]), match[2]
        if amount > 0 and unit.lower() in _AGES:
            return Keep(text, age_ns=int(amount * _AGES[unit.lower()]))
        if amount > 0 and unit.upper() in _SIZES:
            return Keep(text, size=int(amount * _SIZES[unit.upper()]))
    raise ValueError(f'expected an age such as "30d" or "12h", or a size such as "50GB", got "{text}"')


def retain(folder: Path, keep: Keep, now_ns: int) -> list[Removed]:
    """Delete the oldest finished tapes beyond `keep`; an age counts from a tape's last receive time to `now_ns`.

    Only tapes by name and by content are deleted, sealed ones and recovered originals: never a journal that is open
    or waits to be sealed, though its bytes count towards a size.

    Raises:
        TapeError: the folder cannot be read or a file not deleted; what was deleted before stays so.
    """
    removed: list[Removed] = []
    try:
        sizes = {path: path.stat().st_size for path in folder.iterdir() if _is_counted(path.name)}
        total = sum(sizes.values())
        for path in sorted((p for p in sizes if _OURS.match(p.name)), key=_age_order):
            last = _last_time(path)
            if last is None:
                continue
            reason = None
            if keep.age_ns is not None and last < now_ns - keep.age_ns:
                reason = f"its last event is older than {keep.text}"
            elif keep.size is not None and total > keep.size:
                reason = f"the folder holds {total} bytes, more than {keep.text}"
            if reason is not None:
                os.unlink(path)
                total -= sizes[path]
                removed.append(Removed(str(path), sizes[path], reason))
    except OSError as error:
        raise TapeError(f"{error.filename or folder}: cannot be given up: {error.strerror}") from None
    return removed


def _is_counted(name: str) -> bool:
    return name.startswith("market_data_") and name.endswith((SEALED_SUFFIX, JOURNAL_SUFFIX, RECOVERED_SUFFIX))


def _age_order(path: Path) -> tuple[str, int, str]:
    name = path.name.removesuffix(RECOVERED_SUFFIX)
    base, number, _ = segment_order(Path(re.sub(r"\.open\.\d+$", ".open", name)))
    return base, number, path.name


def _last_time(path: Path) -> int | None:
    """The latest receive time; None for a file that is no tape, or holds no event and no time."""
    try:
        segment = Segment(path)
        times = [block.last_time for block in segment.headers(lambda block: block.count > 0 and block.last_time > 0)]
    except TapeError:
        return None
    start = segment.header.get("start_time")
    return max(times, default=start if isinstance(start, int) else None)
