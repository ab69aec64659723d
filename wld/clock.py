"""Owns receive time: the wall clock anchored to the monotonic clock, so that stamps never go backwards."""

from __future__ import annotations

import time
from collections.abc import Callable

JUMP_NS = 500_000_000
"""A wall clock this far from the anchored one has been set by somebody; that is worth a log line."""


class ReceiveClock:
    """Nanoseconds since the Unix epoch that never go backwards.

    A wall clock that drifts is followed; one that jumps forward is followed at once; one that jumps back is waited
    for: until real time has caught up, stamps advance with the monotonic clock.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, steady: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall = wall
        self._steady = steady
        self._anchor = wall() - steady()
        self._told = 0
        """How far the wall clock was from ours when a jump was last reported, ns."""
        self.jumps: list[int] = []
        """Sizes of the jumps seen since the last look, ns; the owner logs and clears them."""

    def now(self) -> int:
        """The stamp of this instant."""
        return self._steady() + self._anchor

    def check(self) -> None:
        """Compare the clocks; call it now and then. A forward jump moves the anchor; a backward one is reported once."""
        offset = self._wall() - self._steady() - self._anchor
        if abs(offset) < JUMP_NS:
            self._told = 0
        elif abs(offset - self._told) >= JUMP_NS:
            self.jumps.append(offset)
            self._told = offset
        if offset > 0:
            self._anchor += offset
            self._told = 0
