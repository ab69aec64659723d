"""Owns the memory of trade ids that went out long ago: small, whatever the number of symbols. Pure.

A trade's id (36 characters) takes 160 bytes in a set. The latest of a topic are kept in one, by whoever uses this; older
ones are here as hashes of 64 bits, in sorted blocks. What is asked for is nearly always newer than all of them, and that
one comparison answers it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable

import numpy as np

BLOCK_IDS = 300
"""Handed over together: as many as a set of 512 places takes (CPython lets three fifths be used)."""
REMEMBERED = 2_048
"""At least so many are remembered: two messages of the largest size, twice what REST lists."""


class OlderIds:
    """Ids of trades, the latest `REMEMBERED` of those handed over and at most a block more; 8 bytes each.

    Two ids with the same hash would be taken for one: among so many, one in 10^16.
    """

    __slots__ = ("_blocks", "_size", "until")

    def __init__(self) -> None:
        self._blocks: deque[array[int]] = deque()
        self._size = 0
        self.until = -1
        """No trade here is newer: event time, ns."""

    def __len__(self) -> int:
        return self._size

    def take(self, ids: Collection[str], until: int) -> None:
        """Remember ids of trades that are not newer than `until`."""
        self.until = max(self.until, until)
        block = array("q", map(hash, ids))
        np.frombuffer(block, np.int64).sort()
        self._blocks.append(block)
        self._size += len(ids)
        while self._size - len(self._blocks[0]) >= REMEMBERED:
            self._size -= len(self._blocks.popleft())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OlderIds) and (self.until, self._blocks) == (other.until, other._blocks)

    def __contains__(self, trade_id: str) -> bool:
        name = hash(trade_id)
        for block in self._blocks:
            place = bisect_left(block, name)
            if place < len(block) and block[place] == name:
                return True
        return False

    def meets(self, ids: Iterable[str], since: int) -> bool:
        """Whether any of these is here; none of them is a trade older than `since` (event time, ns)."""
        return since <= self.until and any(trade_id in self for trade_id in ids)
