"""Owns what repair and audit have in common: the way to REST, and how trades from there go out: marked, known, under a Repair.

Does not own which trades are missing (`wld.bybit.repair`, `wld.bybit.audit`), nor the knowledge of which went out
(decoder or arbiter: `TradeMemory`), nor the venue's limits on requests (`wld.bybit.backoff.RequestGate`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from msgspec import structs

from wld.bybit.backoff import RequestGate
from wld.bybit.rest import BybitRest
from wld.clock import ReceiveClock
from wld.events import Event, Gap, Repair, Trade


class TradeMemory(Protocol):
    """What a stream knows of the trades that went out."""

    def known_trades(self, topic: str, trade_ids: Sequence[str]) -> set[str]:
        """Which of these trades went out on the topic, as far as is remembered."""
        ...

    def add_trade(self, topic: str, trade_id: str, event_time: int) -> None:
        """Let the trade, of that time in ns, pass for known, should it still come over the stream."""
        ...


class Backfill:
    """One for each source."""

    def __init__(
        self,
        open_api: Callable[[], AbstractAsyncContextManager[BybitRest]],
        gate: RequestGate,
        clock: ReceiveClock,
        publish: Callable[[list[Event]], object],
        *,
        luck: Callable[[], float],
    ) -> None:
        self.open_api = open_api
        self.gate = gate
        self.clock = clock
        self.publish = publish
        self.luck = luck

    def take(self, memory: TradeMemory, topic: str, trades: Iterable[Trade]) -> list[Event]:
        """Trades of the venue's list as they go out; from now on they pass for known."""
        now = self.clock.now()
        taken: list[Event] = []
        for trade in trades:
            memory.add_trade(topic, trade.trade_id, trade.event_time)
            taken.append(structs.replace(trade, is_backfilled=True, receive_time=now))
        return taken

    def repair(self, gap: Gap, recovered: int, *, is_whole: bool) -> Repair:
        """What follows a Gap's trades; whole: no other trade is missing."""
        remaining = 0 if is_whole else None
        return Repair(gap.gap_id, recovered, remaining, gap.first_time, gap.last_time, receive_time=self.clock.now())
