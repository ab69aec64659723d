"""Owns what all lines of a source share: where they connect, the venue's limits, clock and luck, what is counted and told.

Does not own a line (`wld.bybit.connection`), nor which lines there are (`wld.bybit.group`, `wld.bybit.source`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count

import trio

from wld.bybit.auditor import Auditor
from wld.bybit.backoff import ConnectionBudget
from wld.bybit.complaints import Complaints
from wld.bybit.repair import Repairer
from wld.bybit.transport import Connect
from wld.clock import ReceiveClock
from wld.config import SourceConfig

TICK_S = 0.25
"""Lines and groups look at what is due so often."""


class Statistics:
    """What the status line says of the source."""

    def __init__(self) -> None:
        self.connects = 0
        self.messages = 0
        self.counters: Counter[str] = Counter()


class Shared:
    """One for each source."""

    def __init__(
        self,
        config: SourceConfig,
        url: str,
        connect: Connect,
        clock: ReceiveClock,
        luck: Callable[[], float],
        complaints: Complaints,
    ) -> None:
        self.config = config
        self.url = url
        self.connect = connect
        self.clock = clock
        self.luck = luck
        self.complaints = complaints
        self.budget = ConnectionBudget()
        self.next_gap_id = count(1).__next__
        self.statistics = Statistics()
        self.refresh = trio.Event()
        """Set where the list of instruments may have changed."""
        self.repairer: Repairer | None = None
        self.auditor: Auditor | None = None


def first_of(group: BaseExceptionGroup[Exception]) -> Exception:
    """The first plain exception inside nested groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)
    return error
