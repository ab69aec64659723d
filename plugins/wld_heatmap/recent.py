"""Owns the last values of something, kept in order of size beside their order of coming: their quantiles cost nothing."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator


class Recent:
    """The last `most` values."""

    def __init__(self, most: int) -> None:
        self._values: deque[float] = deque()
        self._ordered: list[float] = []
        self._most = most

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[float]:
        """As they came."""
        return iter(self._values)

    def append(self, value: float) -> None:
        """Take one more; beyond `most` the oldest is gone."""
        if len(self._values) == self._most:
            del self._ordered[bisect_left(self._ordered, self._values.popleft())]
        self._values.append(value)
        insort(self._ordered, value)

    def extend(self, values: Iterable[float]) -> None:
        """Take several, in their order."""
        for value in values:
            self.append(value)

    def quantile(self, share: float) -> float:
        """The value below which this share of them lies, between neighbours in proportion; there must be one."""
        at = share * (len(self._ordered) - 1)
        low = int(at)
        high = min(low + 1, len(self._ordered) - 1)
        return self._ordered[low] + (self._ordered[high] - self._ordered[low]) * (at - low)
