"""Owns the finding that lines were mute altogether: a pause in all that comes, across which a book lost messages. Pure.

A pause by itself may be a quiet market, and a book that skips may have lost messages alone. Both together say that
nothing came through, of whatever topic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from wld.bybit.topics import LastTrade
from wld.events import Gap, GapReason

PAUSE_NS = 250_000_000
"""A shorter pause is none."""
MISSED = 3
"""A book that lost fewer messages than this says nothing of others."""
PAUSES = 8
"""The latest are remembered."""


class Mute(NamedTuple):
    """Nothing came in between; receive times in ns."""

    first_time: int
    last_time: int
    last_trades: dict[str, LastTrade | None]
    """The newest trade before it, by topic."""


class Mutes:
    """The pauses of the lines that carry the same topics."""

    def __init__(self) -> None:
        self._pauses: deque[Mute] = deque(maxlen=PAUSES)

    def note(self, last: int, now: int, last_trades: Callable[[], dict[str, LastTrade | None]]) -> None:
        """Something comes on a line; data came `last` on any of them. Call it before what comes is taken in."""
        if now - last >= PAUSE_NS:
            self._pauses.append(Mute(last, now, last_trades()))

    def told_by(self, gap: Gap) -> Mute | None:
        """The pause of which a book's Gap shows that the lines were mute; each is given once."""
        if (
            gap.reason not in (GapReason.UPDATE_ID, GapReason.SILENCE)
            or gap.first_time is None
            or gap.last_time is None
        ):
            return None
        if gap.missed is not None and gap.missed < MISSED:
            return None
        within = [m for m in self._pauses if gap.first_time <= m.first_time and m.last_time <= gap.last_time]
        if not within:
            return None
        longest = max(within, key=lambda mute: mute.last_time - mute.first_time)
        self._pauses.clear()
        return longest
