"""Owns one symbol's resting orders as levels: who is best, what a taker meets, what the top N looks like.

Does not own why levels come and go (flow), nor how the book is told to clients (publication).
"""

from __future__ import annotations

from bisect import bisect_left, insort


class HalfBook:
    """One side. Keys are `sign * ticks` ascending, so the best level is the last key on both sides.

    `sign` is +1 for bids and -1 for asks; sizes are in lots and always positive.
    """

    __slots__ = ("keys", "sign", "sizes")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.sizes: dict[int, int] = {}

    @property
    def best(self) -> int:
        """Best price in ticks. Raises: IndexError on an empty side, which the flow never leaves."""
        return self.keys[-1] * self.sign

    def set(self, ticks: int, lots: int) -> None:
        """Put a level to an absolute size; 0 removes it."""
        key = ticks * self.sign
        if lots > 0:
            if key not in self.sizes:
                insort(self.keys, key)
            self.sizes[key] = lots
        elif self.sizes.pop(key, 0):
            del self.keys[bisect_left(self.keys, key)]

    def size(self, ticks: int) -> int:
        """Lots resting at that price; 0 where there is no level."""
        return self.sizes.get(ticks * self.sign, 0)

    def take(self, lots: int, leave: int, limit: int | None = None) -> list[tuple[int, int]]:
        """Match a taker order against this side, best level first.

        Never takes the last `leave` levels, nor a price worse than `limit` ticks. Returns (ticks, lots) per
        level touched; their sum is at most `lots`.
        """
        fills: list[tuple[int, int]] = []
        keys, sizes, sign = self.keys, self.sizes, self.sign
        floor = None if limit is None else limit * sign
        while lots > 0 and len(keys) > leave:
            key = keys[-1]
            if floor is not None and key < floor:
                break
            resting = sizes[key]
            if resting > lots:
                sizes[key] = resting - lots
                fills.append((key * sign, lots))
                break
            keys.pop()
            del sizes[key]
            fills.append((key * sign, resting))
            lots -= resting
        return fills

    def top(self, depth: int) -> dict[int, int]:
        """The best `depth` levels as {key: lots}, worst first."""
        sizes = self.sizes
        return {key: sizes[key] for key in self.keys[-depth:]}

    def trim(self, depth: int) -> None:
        """Forget the levels beyond the best `depth`."""
        surplus = len(self.keys) - depth
        if surplus > 0:
            for key in self.keys[:surplus]:
                del self.sizes[key]
            del self.keys[:surplus]


class LimitBook:
    """Both sides of one symbol."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids = HalfBook(1)
        self.asks = HalfBook(-1)

    @property
    def mid2(self) -> int:
        """Twice the mid price, in ticks."""
        return self.bids.best + self.asks.best
