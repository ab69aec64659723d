"""Owns how far the sinks that keep events for good are safe, in ring numbers; a plain account, no I/O."""

from __future__ import annotations

from collections.abc import Iterable


class Positions:
    """What each keeping sink last said; a source that can deliver again goes on after the lowest."""

    def __init__(self, names: Iterable[str]) -> None:
        self._numbers = dict.fromkeys(names, -1)

    def report(self, name: str, number: int) -> None:
        """Sink `name` has everything up to ring number `number` in safety. May be called from a worker thread."""
        if name in self._numbers:
            self._numbers[name] = max(number, self._numbers[name])

    def lowest(self) -> int | None:
        """The ring number up to which all of them are safe, -1 before the first word; None without such a sink."""
        return min(self._numbers.values(), default=None)
