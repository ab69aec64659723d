"""Owns when trades are audited over REST, and what is made of one that no line brought: a Gap, the trade, a Repair.

Nothing is claimed that is not proven. What is missing from the stream is on no line's way any more: each answered a ping that
left after the venue listed it. Where REST fails, it is asked again later; where it contradicts the stream, it is told.

Does not own the comparison (`wld.bybit.audit`), nor how trades from REST go out (`wld.bybit.backfill`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import trio

from wld.bybit.audit import (
    YOUNG_NS,
    Account,
    Comparison,
    Content,
    Listed,
    Marks,
    compare,
    contents,
    differing,
    doubtful,
    holes,
    in_order,
    usable,
)  # fmt: skip
from wld.bybit.backfill import Backfill, TradeMemory
from wld.bybit.backoff import Backoff
from wld.bybit.complaints import Complaints
from wld.bybit.following import Hole
from wld.bybit.rest import TRADES_LIMIT, BybitRest, TradeList, in_pieces, to_trade
from wld.bybit.topics import LastTrade
from wld.errors import RetryableSourceError
from wld.events import Event, Gap, GapReason, Trade

log = logging.getLogger(__name__)

TICK_S = 0.5
SPACING_S = 1.0
"""Seconds between two regular requests at least: a hundredth of what the venue allows."""
AT_ONCE = 8
"""Audits under way at most."""
EARLY_AT_ONCE = 4
"""Audits out of turn that begin in one tick at most: a fifteenth of what the venue allows."""
EARLY = 400
"""So many trades of a topic are not left to its turn: the venue lists 1,000, and until they are compared more will come."""
SIGN_WAIT_S = 4.0
"""After a loss was seen: what was lost is no longer young by then."""
SIGN_AGAIN_S = 30.0
"""A symbol is audited for losses that were seen no more often than this."""
KEEP_S = 1.0
"""What is published in so long before the venue is asked is compared in price, size and side; out of turn nobody waits."""
SETTLE_S = 1.0
"""Between the venue's list and the ping that proves that no line is behind it."""
PROOF_S = 20.0
"""An answer to the ping is waited for so long."""
PROBE_S, POLL_S = 2.0, 0.1
"""It is pinged so often, and looked at."""
FIRST_S = 10.0
"""The first audit of a run comes no later."""
LAST_S = 2.0
"""The last audit, at the end of a run, may take so long."""
MOST_LAST = 100
"""Symbols that it asks for at most: a sixth of the requests that the venue allows in five seconds."""
FEWEST = 100
"""Trades asked for at least, and more than twice as many as went out since the last time."""
NEAR_NS = 60_000_000_000
"""A venue's time further from ours than this is not taken for its clock."""


class Memory(TradeMemory, Protocol):
    """What a stream knows of its trades."""

    def last_trade(self, topic: str) -> LastTrade | None:
        """The trade that came last."""
        ...

    def last_time(self, topic: str) -> int | None:
        """When something last came on a topic, ns."""
        ...

    def trades_so_far(self, topic: str) -> int:
        """How many trades went out on a topic."""
        ...

    def received(self, topic: str, trade_id: str) -> int | None:
        """When a trade came, ns; None: it is not among the latest."""
        ...

    def forgotten(self, topic: str) -> int:
        """No trade that went out and is not remembered any more is newer: event time, ns."""
        ...

    def is_unsettled(self, topic: str) -> bool:
        """Whether a Gap of the topic may be about to be told."""
        ...


class Feed(Protocol):
    """The lines that carry the same topics, as an audit sees them."""

    @property
    def memory(self) -> Memory:
        """What went out."""
        ...

    def trade_topics(self) -> list[str]:
        """Topics of trades that are subscribed on an open line."""
        ...

    def keep(self) -> AbstractContextManager[Iterable[Iterable[Event]]]:
        """What is published from now on, some of it, to the end of the block."""
        ...

    def probe(self) -> None:
        """Ping on every open line soon."""
        ...

    def answered(self) -> int:
        """When the latest ping left that was answered, on the open line for which that is longest ago, ns; 0: none is open."""
        ...


class Auditor:
    """Audits each topic of trades in its turn, and soon: after a loss that was seen, and after `EARLY` trades."""

    def __init__(
        self,
        backfill: Backfill,
        feeds: Callable[[], Sequence[Feed]],
        *,
        interval_s: float,
        next_gap_id: Callable[[], int],
    ) -> None:
        self._backfill = backfill
        self._feeds = feeds
        self._interval_s = interval_s
        self._next_gap_id = next_gap_id
        self._accounts: dict[str, Account] = {}
        self._marks: dict[str, Marks] = {}
        self._signs: dict[str, tuple[float, Feed]] = {}
        self._signed: dict[str, float] = {}
        self._early: dict[str, Feed] = {}
        self._round: deque[tuple[Feed, str]] = deque()
        self._followed: list[tuple[Feed, str]] = []
        """Topics of trades that were subscribed on an open line of late."""
        self._step_s = interval_s
        self._next = 0.0
        self._not_before = 0.0
        self._backoff = Backoff(10.0, 600.0)
        self._busy: set[str] = set()
        self._complaints = Complaints(log)
        self._since = backfill.clock.now()
        self.missed = 0
        """Trades that no line brought, so far."""
        self.differing = 0
        """Trades that REST lists otherwise than the stream brought them."""
        self.unlisted = 0
        """Stretches of trades that nothing proves: REST lists them no more."""
        self.doubtful = 0
        """Trades that REST lists and that can be none of the symbol: left out."""

    def note(self, hole: Hole) -> None:
        """A Gap speaks of trades: it is repaired by itself, and the audit begins anew behind it."""
        for topic, last in hole.last_trades.items():
            self._account(topic).begin_again(last)

    def suspect(self, feed: Feed, symbol: str) -> None:
        """A line lost something of a symbol: audit its trades soon."""
        topic, now = f"publicTrade.{symbol}", trio.current_time()
        if topic not in self._signs:
            due = max(now + SIGN_WAIT_S, self._signed.get(topic, -SIGN_AGAIN_S) + SIGN_AGAIN_S)
            self._signs[topic] = due, feed

    def figures(self) -> dict[str, int]:
        """For the status line: trades missed; seconds since every topic's trades up to then were accounted for."""
        topics = [topic for feed in self._feeds() for topic in feed.trade_topics()]
        ends = [self._account(topic).audited_at for topic in topics]
        known = [end for end in ends if end is not None]
        age = {"audit_age": int(trio.current_time() - min(known))} if known and len(known) == len(ends) else {}
        trouble = {
            "audit_missed": self.missed,
            "audit_differs": self.differing,
            "audit_unlisted": self.unlisted,
            "audit_doubtful": self.doubtful,
        }
        return {**age, **{name: count for name, count in trouble.items() if count}}

    def _account(self, topic: str) -> Account:
        return self._accounts.setdefault(topic, Account())

    # -- when

    async def run(self) -> None:
        """Audit until cancelled, and then once more."""
        await trio.sleep(min(TICK_S, self._interval_s))
        async with self._backfill.open_api() as rest:
            try:
                async with trio.open_nursery() as nursery:
                    await self._audit_in_turn(rest, nursery)
            finally:
                with trio.move_on_after(LAST_S, shield=True):
                    await self._audit_at_the_end(rest)

    async def _audit_in_turn(self, rest: BybitRest, nursery: trio.Nursery) -> None:
        self._next = trio.current_time() + min(self._begin_round(), FIRST_S)
        while True:
            await self._look_at_times()
            while (found := self._find_due(trio.current_time())) is not None:
                feed, topic, keep_s = found
                self._busy.add(topic)
                nursery.start_soon(self._audit, rest, feed, topic, keep_s)
            await trio.sleep(min(TICK_S, self._interval_s))

    def _begin_round(self) -> float:
        """The topics of the next round; seconds from one to the next."""
        self._round = deque((feed, topic) for feed in self._feeds() for topic in feed.trade_topics())
        count = max(1, len(self._round))
        self._step_s = max(self._interval_s, count * SPACING_S) / count
        return self._step_s

    def _find_due(self, now: float) -> tuple[Feed, str, float] | None:
        """What to audit, and for how long to keep what comes before the venue is asked."""
        if now < self._not_before or self._backfill.gate.closed_for(now) or len(self._busy) >= AT_ONCE:
            return None
        for topic, (due, feed) in self._signs.items():
            if now >= due and topic not in self._busy:
                del self._signs[topic]
                self._signed[topic] = now
                return feed, topic, KEEP_S
        for topic, feed in self._early.items():
            if topic not in self._busy:  # it may have begun for another reason
                del self._early[topic]
                return feed, topic, 0.0
        if now < self._next:
            return None
        if not self._round:
            self._begin_round()
        self._next = now + self._step_s
        while self._round:
            feed, topic = self._round.popleft()
            if topic not in self._busy:
                return feed, topic, KEEP_S
        return None

    async def _look_at_times(self) -> None:
        """When each topic's last trade came, and which have had so many that they are due out of turn."""

        def look(one: tuple[Feed, str]) -> int:
            feed, topic = one
            self._look_at_time(feed.memory, topic)
            return feed.memory.trades_so_far(topic) - self._account(topic).counted

        self._followed = [(feed, topic) for feed in self._feeds() for topic in feed.trade_topics()]
        counts = zip(await in_pieces(look, self._followed), self._followed, strict=True)
        waiting = [one for one in counts if one[0] >= EARLY and one[1][1] not in self._busy]
        waiting.sort(key=lambda one: -one[0])
        self._early = {topic: feed for _, (feed, topic) in waiting[:EARLY_AT_ONCE]}

    def _look_at_time(self, memory: Memory, topic: str) -> None:
        last, time = memory.last_trade(topic), memory.last_time(topic)
        if last is not None and time is not None:
            marks = self._marks.get(topic)
            if marks is None:
                marks = self._marks[topic] = Marks()
            marks.note(last[1], time)
            self._account(topic).note(last)

    # -- one topic

    async def _audit(self, rest: BybitRest, feed: Feed, topic: str, keep_s: float) -> None:
        try:
            await self._audit_topic(rest, feed, topic, keep_s)
            self._backoff.reset()
        except RetryableSourceError as error:
            self._complaints.tell("audit", f"trades cannot be audited, recording goes on without: {error}")
            self._not_before = trio.current_time() + self._backoff.next_delay(self._backfill.luck())
        finally:
            self._busy.discard(topic)

    async def _audit_topic(self, rest: BybitRest, feed: Feed, topic: str, keep_s: float) -> None:
        memory, account = feed.memory, self._account(topic)
        if topic not in feed.trade_topics() or memory.is_unsettled(topic):
            return
        before, asked_holes = memory.last_trade(topic), account.holes
        if before is None and memory.last_time(topic) is not None:
            return  # trades without ids: nothing can be said of them
        with feed.keep() as kept:
            await trio.sleep(keep_s)
            comparison = await self._compare_enough(rest, memory, topic, before)
            if comparison is not None:
                await self._look_for_differences(topic, comparison, list(kept))
        if comparison is None:
            return
        trades = await self._read(topic, comparison.suspects)
        if comparison.suspects and not await self._is_proven(feed):
            return
        if account.holes != asked_holes or memory.is_unsettled(topic):
            return
        self._tell_findings(memory, topic, comparison, trades)
        account.settled, account.is_anchored = comparison.settled, comparison.is_anchored
        account.audited_at = trio.current_time()

    async def _audit_at_the_end(self, rest: BybitRest) -> None:
        """Nothing comes any more: what is listed between trades that went out is missing for good, without any further proof.

        What was audited longest ago is first; many symbols may not all be in time.
        """
        if self._backfill.gate.closed_for(trio.current_time()):
            return  # a failure alone does not keep from a last try
        at_once = trio.CapacityLimiter(AT_ONCE)
        async with trio.open_nursery() as nursery:
            waiting = sorted(self._followed, key=lambda one: self._account(one[1]).audited_at or 0.0)
            for feed, topic in waiting[:MOST_LAST]:
                nursery.start_soon(self._audit_last, rest, feed, topic, at_once)
                await trio.lowlevel.checkpoint()

    async def _audit_last(self, rest: BybitRest, feed: Feed, topic: str, at_once: trio.CapacityLimiter) -> None:
        memory = feed.memory
        before = memory.last_trade(topic)
        if before is None or memory.is_unsettled(topic):
            return
        try:
            async with at_once:
                comparison = await self._compare_enough(rest, memory, topic, before)
        except RetryableSourceError as error:
            self._complaints.tell("audit", f"the last trades cannot be audited: {error}")
            return
        if comparison is not None:
            known = memory.known_trades(topic, [trade.trade_id for trade in comparison.due])
            while comparison.due and comparison.due[-1].trade_id not in known:
                comparison.due.pop()  # perhaps of after the end
            due = {trade.trade_id for trade in comparison.due}
            suspects = [trade for trade in comparison.suspects if trade.trade_id in due]
            trades = await self._read(topic, suspects)
            self._tell_findings(memory, topic, comparison._replace(suspects=suspects), trades)

    @staticmethod
    async def _read(topic: str, suspects: Sequence[Listed]) -> dict[str, Trade]:
        """Those that can be read, by id."""
        symbol = topic.rpartition(".")[2]
        read = await in_pieces(lambda suspect: to_trade(suspect.item, symbol, 0), suspects)
        return {trade.trade_id: trade for trade in read if trade is not None}

    def _tell_findings(self, memory: Memory, topic: str, comparison: Comparison, trades: Mapping[str, Trade]) -> None:
        """Tell those of the suspects that did not come meanwhile. Nothing is awaited, so that no Gap of the topic comes between."""
        if comparison.unlisted is not None:
            self.unlisted += 1
            first, last = comparison.unlisted
            self._complaints.tell(
                "unlisted",
                f"{topic}: REST lists only the latest trades of those since the last audit:"
                f" nothing proves {(last - first) / 1e9:.1f} s of them",
            )
        forgotten = memory.forgotten(topic)
        known = memory.known_trades(topic, [trade.trade_id for trade in comparison.suspects])
        missing = {
            trade.trade_id
            for trade in comparison.suspects
            if trade.event_time > forgotten and trade.trade_id not in known
        }
        missing -= self._look_for_doubtful(topic, comparison, [trades[i] for i in missing if i in trades])
        if missing:
            self._tell(memory, topic, comparison, missing, trades)

    async def _compare_enough(
        self, rest: BybitRest, memory: Memory, topic: str, before: LastTrade | None
    ) -> Comparison | None:
        """As `_compare`, with as short a list as will do."""
        account, count = self._account(topic), memory.trades_so_far(topic)
        new, account.counted = max(0, count - account.counted), count
        limit = TRADES_LIMIT if account.settled is None else min(TRADES_LIMIT, FEWEST + 2 * new)
        comparison = await self._compare(rest, memory, topic, before, limit)
        if comparison is not None and comparison.unlisted is not None and limit < TRADES_LIMIT:
            comparison = await self._compare(rest, memory, topic, before, TRADES_LIMIT)
        return comparison

    async def _compare(
        self, rest: BybitRest, memory: Memory, topic: str, before: LastTrade | None, limit: int
    ) -> Comparison | None:
        """What the venue lists against what went out; None where it contradicts what was brought before it was asked."""
        symbol = topic.rpartition(".")[2]
        answer: TradeList = await rest.listed_trades(symbol, limit)
        now = self._backfill.clock.now()
        venue_now = answer.time if answer.time is not None and abs(answer.time - now) <= NEAR_NS else None
        latest = max(now, before[1] if before else 0) + NEAR_NS
        listed = in_order(await in_pieces(lambda item: usable(item, symbol, latest), answer.items))
        is_within = before is not None and listed and listed[0].event_time < before[1] < listed[-1].event_time
        if before is not None and is_within and all(trade.trade_id != before[0] for trade in listed):
            self._complaints.tell(
                "lies", f"{topic}: REST does not list trade {before[0]}, which the stream brought; no audit"
            )
            return None
        known = memory.known_trades(topic, [trade.trade_id for trade in listed])
        young = (venue_now or (listed[-1].event_time if listed else now)) - YOUNG_NS
        return compare(
            listed,
            known,
            self._account(topic),
            forgotten=memory.forgotten(topic),
            young=young,
            now=None if venue_now is None else max(venue_now, now),
            is_full=len(answer.items) >= limit,
        )

    async def _look_for_differences(self, topic: str, comparison: Comparison, kept: Sequence[Iterable[Event]]) -> None:
        """A sample: the trades that came over the stream while the venue was asked are to be what it lists."""
        symbol, by_id = topic.rpartition(".")[2], {trade.trade_id: trade for trade in comparison.due}
        came: dict[str, Content] = {}
        for events in kept:
            came.update((trade_id, content) for trade_id, content in contents(events) if trade_id in by_id)
            await trio.lowlevel.checkpoint()
        read = await in_pieces(lambda trade_id: to_trade(by_id[trade_id].item, symbol, 0), list(came))
        wrong = differing([trade for trade in read if trade is not None], came)
        if wrong:
            self.differing += len(wrong)
            self._complaints.tell(
                "differs",
                f"{topic}: REST lists trade {wrong[0]} with another price, size or side than the stream brought",
            )

    def _look_for_doubtful(self, topic: str, comparison: Comparison, missing: Sequence[Trade]) -> set[str]:
        symbol = topic.rpartition(".")[2]
        found = doubtful(comparison, missing, lambda listed: to_trade(listed.item, symbol, 0))
        if found:
            self.doubtful += len(found)
            self._complaints.tell(
                "doubtful",
                f"{topic}: REST lists {len(found)} trades that by id, price or sequence can be none of it: left out, as {found[0]}",
            )
        return set(found)

    async def _is_proven(self, feed: Feed) -> bool:
        """Wait until every open line has brought all that the venue had sent by now."""
        await trio.sleep(SETTLE_S)
        since = self._backfill.clock.now()
        with trio.move_on_after(PROOF_S):
            while True:
                feed.probe()
                with trio.move_on_after(PROBE_S):
                    while feed.answered() < since:  # noqa: ASYNC110
                        await trio.sleep(POLL_S)
                    return True
        self._complaints.tell(
            "audit", "trades are missing, but no line answers: they may be on their way; looked at again"
        )
        return False

    def _tell(
        self, memory: Memory, topic: str, comparison: Comparison, missing: set[str], read: Mapping[str, Trade]
    ) -> None:
        symbol, now, account = topic.rpartition(".")[2], self._backfill.clock.now(), self._account(topic)
        self._look_at_time(memory, topic)
        marks = self._marks.get(topic) or Marks()
        events: list[Event] = []
        for hole in holes(comparison, missing):
            now = self._backfill.clock.now()  # of each: those of its trades are later, and no time goes back
            trades = [read[trade.trade_id] for trade in hole.trades if trade.trade_id in read]
            first, last = marks.before(account.settled or 0), now
            if hole.before is not None:
                first = memory.received(topic, hole.before.trade_id) or marks.before(hole.before.event_time)
            if first is None:
                first = self._since  # a trade of the first second, before any was looked up
            if hole.after is not None:
                last = memory.received(topic, hole.after.trade_id) or marks.after(hole.after.event_time) or now
            gap = Gap(
                self._next_gap_id(), GapReason.SILENCE, "publicTrade", symbol,
                missed=len(hole.trades) if hole.before is not None else None,
                first_time=first, last_time=last, receive_time=now,
            )  # fmt: skip
            is_whole = hole.before is not None and len(trades) == len(hole.trades)
            for listed in hole.trades:  # told once, also where it cannot be read
                memory.add_trade(topic, listed.trade_id, listed.event_time)
            events += [
                gap,
                *self._backfill.take(memory, topic, trades),
                self._backfill.repair(gap, len(trades), is_whole=is_whole),
            ]
        self.missed += len(missing)
        self._backfill.publish(events)
        self._complaints.tell(
            "missed", f"{topic}: REST lists {len(missing)} trades that the stream did not bring; recorded as backfilled"
        )
