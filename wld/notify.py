"""Owns the service manager's protocol: datagrams to the socket that `NOTIFY_SOCKET` names (sd_notify(3)).

Where the variable is absent nothing is sent, so that the same program runs anywhere.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

import trio

SHARE = 0.5
"""Of the watchdog's interval: how often it hears from us, as sd_watchdog_enabled(3) advises."""
FULL_QUEUE_S = 0.2


class Notifier:
    """Speaks to the service manager. A message that cannot be sent is dropped: it is never worth a run."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self.watchdog_s = watchdog_s
        """The longest silence that the manager accepts; None: it does not watch."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """As `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` say."""
        text = environment.get("WATCHDOG_USEC", "")
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog_s = int(text) / 1e6 if text.isdecimal() and int(text) > 0 and is_ours else None
        return cls(environment.get("NOTIFY_SOCKET") or None, watchdog_s)

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return self._address is not None

    def send(self, *assignments: str) -> None:
        """Send `KEY=VALUE` lines as one datagram; where the manager's queue is full, wait 0.2 s at most."""
        if self._address is None:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(FULL_QUEUE_S)
            sender.sendto("\n".join(assignments).encode(), self._address)

    async def feed_watchdog(self) -> None:
        """Tell the watchdog that the event loop turns, until cancelled; returns at once where nobody watches."""
        if self._address is None or self.watchdog_s is None:
            return
        while True:
            self.send("WATCHDOG=1")
            await trio.sleep(self.watchdog_s * SHARE)
