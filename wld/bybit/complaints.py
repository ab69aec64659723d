"""Owns how often trouble is told: each kind once a minute, with the number of those kept back. Does not count kinds."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable

AGAIN_S = 60.0
"""A kind of trouble is logged once in this time."""


class Complaints:
    """One source's log of trouble."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._told: dict[str, float] = {}
        self._kept_back: Counter[str] = Counter()

    def tell(self, kind: str, sentence: str) -> None:
        """Log a sentence, unless its kind was logged within the last minute."""
        now = self._clock()
        if kind in self._told and now - self._told[kind] < AGAIN_S:
            self._kept_back[kind] += 1
            return
        self._told[kind] = now
        more = self._kept_back.pop(kind, 0)
        self._log.warning("%s%s", sentence, f" (and {more} more of this kind)" if more else "")

    def tell_all(self, notes: Iterable[tuple[str, str]]) -> None:
        """The same for several (kind, sentence)."""
        for kind, sentence in notes:
            self.tell(kind, sentence)
