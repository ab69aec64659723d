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


FORBIDDEN_S = 600.0
"""After HTTP 403 ("access too frequent", or a region that is not served) no request for ten minutes, as the venue
asks (Bybit V5 documentation, rate limit page)."""
TOO_MANY_S = 60.0
"""After HTTP 429 without a Retry-After."""
REQUESTS_PER_WINDOW = 100
REQUEST_WINDOW_S = 5.0
"""A sixth of the venue's 600 requests in 5 s per IP, leaving room for other programs on the host."""


class RequestGate:
    """The limits on REST requests, shared by all callers of a process. Seconds of any steady clock."""

    def __init__(self, limit: int = REQUESTS_PER_WINDOW, window_s: float = REQUEST_WINDOW_S) -> None:
        self._requests = ConnectionBudget(limit, window_s)
        self._closed_until = 0.0
        self.reason = ""

    def closed_for(self, now: float) -> float:
        """Seconds until the venue may be asked again after it refused; 0: it may."""
        return max(0.0, self._closed_until - now)

    def wait_for(self, now: float) -> float:
        """Seconds until a request is within the limit; 0 for now."""
        return self._requests.wait_for(now)

    def spend(self, now: float) -> None:
        """Note a request."""
        self._requests.spend(now)

    def refused(self, status: int, retry_after_s: float | None, now: float) -> None:
        """The venue answered 403 or 429: be quiet for as long as it asks."""
        pause = FORBIDDEN_S if status == 403 else max(1.0, retry_after_s or TOO_MANY_S)
        if now + pause > self._closed_until:
            self._closed_until = now + pause
            self.reason = f"HTTP {status}"


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
