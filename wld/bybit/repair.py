"""Owns repair: after a Gap, trades that were missed are fetched over REST and published as backfilled, then a Repair.

Does not own how they go out (`wld.bybit.backfill`). Books need no repair: a topic's own snapshot resyncs it; open interest
and funding at the end of a Gap are in the ticker's snapshot. Liquidations are served nowhere.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Sequence
from typing import NamedTuple

import trio

from wld.bybit.backfill import Backfill, TradeMemory
from wld.bybit.backoff import Backoff
from wld.bybit.complaints import Complaints
from wld.bybit.following import Hole
from wld.bybit.rest import TRADES_LIMIT, RecentTrades
from wld.bybit.topics import LastTrade
from wld.errors import RetryableSourceError
from wld.events import Trade

log = logging.getLogger(__name__)

SETTLE_S = 1.0
"""Wait after a Gap, so that the venue's list and the stream behind the Gap overlap."""
ATTEMPTS = 5
WAITING = 64
"""Gaps that wait for repair; beyond, the oldest stays unrepaired and the log says so."""


class Found(NamedTuple):
    """What a reply holds of a hole."""

    trades: list[Trade]
    """Missed, oldest first."""
    reaches_back: bool
    """Whether the reply goes back to what is known, so that nothing before it can be missing."""


def missed_trades(
    reply: Sequence[Trade],
    last: LastTrade | None,
    since: int,
    known: Collection[str],
    limit: int = TRADES_LIMIT,
) -> Found:
    """The trades of a hole in the venue's list, each once. Pure.

    The venue lists the newest first; those of one millisecond stay in its order, all else is put in order by time.

    `known` holds the ids of those that went out. `last` is the newest trade known before the hole. That nothing is
    missing between it and the list is proven by the list alone: the trade is in it, or one of an earlier millisecond is.
    Of the same millisecond is not enough, nor that the list is short: the venue may have cut it, or begun it anew.

    Without `last`, no trade of the symbol has ever been seen, and `since` is where the recording began (ns): a list
    that reaches back beyond it holds all there was, and so does a short one as far as anybody knows.

    Trades newer than the first known one are left to the stream, which brings them.
    """
    missed: dict[str, Trade] = {}
    is_behind = False
    reaches_back = last is None and len(reply) < limit
    for trade in sorted(reply, key=lambda trade: -trade.event_time):
        if last is not None:
            if trade.trade_id == last[0] or trade.event_time < last[1]:
                reaches_back = True
                break
        elif trade.event_time < since:
            reaches_back = True
            break
        if trade.trade_id in known:
            if not is_behind:
                missed.clear()  # newer than what the stream has shown since: still on its way
            is_behind = True
        else:
            missed.setdefault(trade.trade_id, trade)
    return Found(list(missed.values())[::-1], reaches_back)


class Repairer:
    """Repairs holes one after the other, beside the stream."""

    def __init__(self, backfill: Backfill, *, settle_s: float = SETTLE_S) -> None:
        self._backfill = backfill
        self._settle_s = settle_s
        self._since = backfill.clock.now()
        self._waiting: deque[tuple[Hole, TradeMemory]] = deque()
        self._complaints = Complaints(log)
        self._arrival = trio.Event()

    def add(self, holes: Sequence[Hole], memory: TradeMemory) -> None:
        """Take on holes as they are seen; returns at once."""
        for hole in holes:
            if not hole.last_trades:
                continue
            if len(self._waiting) >= WAITING:
                lost, _ = self._waiting.popleft()
                self._complaints.tell("waiting", f"gap {lost.gap.gap_id} is not repaired: too many wait")
            self._waiting.append((hole, memory))
        self._arrival.set()

    async def run(self) -> None:
        """Repair until cancelled."""
        while True:
            await self._arrival.wait()  # no limit: there may be no hole for ever
            self._arrival = trio.Event()
            await trio.sleep(self._settle_s)
            while self._waiting:
                await self._repair(*self._waiting.popleft())

    async def _repair(self, hole: Hole, memory: TradeMemory) -> None:
        recovered = 0
        is_whole = True
        for topic, last in hole.last_trades.items():
            symbol = topic.rpartition(".")[2]
            reply = await self._fetch(symbol, hole.gap.gap_id)
            if reply is None:
                is_whole = False  # the other symbols' trades are worth having all the same
                continue
            known = memory.known_trades(topic, [trade.trade_id for trade in reply.trades])
            found = missed_trades(reply.trades, last, self._since, known)
            self._backfill.publish(self._backfill.take(memory, topic, found.trades))
            recovered += len(found.trades)
            if reply.unreadable or not found.reaches_back:
                is_whole = False
                listed = len(reply.trades) + reply.unreadable
                why = f"hold {reply.unreadable} that cannot be read" if reply.unreadable else "do not reach back to it"
                self._complaints.tell(
                    "reach",
                    f"gap {hole.gap.gap_id}: the venue's last {listed} trades of {symbol} {why};"
                    " how many are missing is unknown",
                )
        self._backfill.publish([self._backfill.repair(hole.gap, recovered, is_whole=is_whole)])
        log.info("gap %d: %d missed trades fetched%s", hole.gap.gap_id, recovered, "" if is_whole else ", not all")

    async def _fetch(self, symbol: str, gap_id: int) -> RecentTrades | None:
        backoff = Backoff(1.0, 30.0)
        for _ in range(ATTEMPTS):
            await trio.sleep(self._backfill.gate.closed_for(trio.current_time()))
            try:
                async with self._backfill.open_api() as rest:
                    return await rest.recent_trades(symbol, self._backfill.clock.now())
            except RetryableSourceError as error:
                failure = error
                await trio.sleep(backoff.next_delay(self._backfill.luck()))
        self._complaints.tell("fetch", f"gap {gap_id}: the trades of {symbol} cannot be fetched: {failure}")
        return None
