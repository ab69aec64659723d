"""Owns reconnect timing: capped exponential delays with jitter, and the venue's limit on new connections. Pure."""

from __future__ import annotations

from collections import deque

CONNECTIONS_PER_WINDOW = 400
"""Below the venue's 500 new connections in 5 minutes per IP, leaving room for other programs on the host."""
WINDOW_S = 300.0


class Backoff:
    """Delays between attempts. `luck` in [0, 1) comes from the caller, who owns randomness."""

    def __init__(self, initial_s: float, maximum_s: float, factor: float = 2.0) -> None:
        self._initial = initial_s
        self._maximum = maximum_s
        self._factor = factor
        self._failures = 0

    def next_delay(self, luck: float) -> float:
        """Seconds to wait before the next attempt: half fixed, half jitter, never above the maximum."""
        exponent = min(self._failures, 64)
        self._failures += 1
        ceiling = min(self._maximum, self._initial * self._factor**exponent)
        return ceiling * (0.5 + 0.5 * luck)

    def reset(self) -> None:
        """The connection proved good (it delivered data): start over."""
        self._failures = 0


class ConnectionBudget:
    """Counts connection attempts against the venue's limit; shared by all connections of the process."""

    def __init__(self, limit: int = CONNECTIONS_PER_WINDOW, window_s: float = WINDOW_S) -> None:
        self._limit = limit
        self._window = window_s
        self._attempts: deque[float] = deque()

    def wait_for(self, now: float) -> float:
        """Seconds until an attempt is allowed; 0 for now. `now` in seconds of any steady clock."""
        while self._attempts and self._attempts[0] <= now - self._window:
            self._attempts.popleft()
        if len(self._attempts) < self._limit:
            return 0.0
        return max(0.0, self._attempts[-self._limit] + self._window - now)

    def spend(self, now: float) -> None:
        """Note an attempt."""
        self._attempts.append(now)
