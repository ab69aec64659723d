"""Owns the memory of what went out long ago, by name: small, and the same from the first on. Pure.

A trade's id (36 characters) takes 100 bytes in a dictionary. The latest of a topic are kept in one, by whoever uses
this; older ones are here as hashes of 64 bits, in a ring. What is asked for is nearly always newer than all of them, and
that one comparison answers it.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Hashable, Iterable, Sequence

import numpy as np

BLOCK_IDS = 85
"""Handed over together: as many as a dictionary of 128 places takes (CPython lets two thirds be used)."""
REMEMBERED = 2_048
"""So many are remembered: two messages of the largest size, twice what REST lists."""
MOST_REMEMBERED = 16_384
"""So many where few symbols are followed: minutes of a busy one."""
SHARED = 1 << 18
"""The topics of a line remember so many together, 2 MB, where that is more than `REMEMBERED` each."""
PART_IDS = 64
"""A ring knows of so many side by side how new the newest is."""
_NONE = -1
"""The hash of nothing in CPython."""


def remembered(topics: int) -> int:
    """How many ids each of so many topics of trades remembers."""
    return max(REMEMBERED, min(MOST_REMEMBERED, SHARED // max(1, topics) // PART_IDS * PART_IDS))


class Hashes:
    """The latest so many of what was taken in, 8 bytes each, and all of those bytes from the start.

    Two with the same hash would be taken for one: among 2,048, one in 10^16.
    """

    __slots__ = ("_hashes", "_next")

    def __init__(self, size: int) -> None:
        self._hashes = np.full(size, _NONE, np.int64)
        self._next = 0

    def __len__(self) -> int:
        return int(np.count_nonzero(self._hashes != _NONE))

    @property
    def nbytes(self) -> int:
        """What it takes, and ever will."""
        return self._hashes.nbytes

    def add(self, name: Hashable) -> None:
        """Remember one, and forget the oldest."""
        self._hashes[self._next] = hash(name)
        self._next = (self._next + 1) % len(self._hashes)

    def take(self, names: Collection[Hashable]) -> None:
        """Remember these, oldest first, and forget as many."""
        size = len(self._hashes)
        new = np.fromiter(map(hash, names), np.int64, len(names))[-size:]
        end = self._next + len(new)
        self._hashes[self._next : end] = new[: size - self._next]
        if end >= size:
            end -= size
            self._hashes[:end] = new[len(new) - end :]
        self._next = end

    def __contains__(self, name: Hashable) -> bool:
        return bool((self._hashes == hash(name)).any())

    def known(self, names: Sequence[str]) -> set[str]:
        """Those of them that are here: a thousand at once, 0.3 us each."""
        hashes = np.fromiter(map(hash, names), np.int64, len(names))
        return {names[place] for place in np.flatnonzero(np.isin(hashes, self._hashes)).tolist()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashes) and bool((self._hashes == other._hashes).all())

    __hash__ = None  # type: ignore[assignment]


class OlderIds(Hashes):
    """Ids of trades, the latest `size` of those handed over."""

    __slots__ = ("_untils", "forgotten", "taken", "until")

    def __init__(self, size: int = REMEMBERED) -> None:
        super().__init__(size)
        self._untils = array("q", [-1]) * -(-size // PART_IDS)
        """The same for each part of the ring."""
        self.until = -1
        """No trade here is newer: event time, ns."""
        self.forgotten = -1
        """No trade that was here and is not any more is newer."""
        self.taken = 0
        """So many were handed over."""

    def hand_over(self, ids: Collection[str], until: int) -> None:
        """Remember ids of trades, oldest first, that are not newer than `until`."""
        self.until = max(self.until, until)
        self.taken += len(ids)
        parts, end = self._untils, self._next + len(ids)
        if len(ids) > len(self._hashes):
            self.forgotten = self.until
        for part in range(-(-self._next // PART_IDS), -(-end // PART_IDS)):  # entered anew
            self.forgotten = max(self.forgotten, parts[part % len(parts)])
            parts[part % len(parts)] = self.until
        parts[(end - 1) // PART_IDS % len(parts)] = parts[self._next // PART_IDS] = self.until
        self.take(ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OlderIds) and self.until == other.until and super().__eq__(other)

    __hash__ = None

    def meets(self, ids: Iterable[str], since: int) -> bool:
        """Whether any of these is here; none of them is a trade older than `since` (event time, ns)."""
        return since <= self.until and any(trade_id in self for trade_id in ids)
