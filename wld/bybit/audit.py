"""Owns the audit of trades: those that the venue lists against those that went out, and where what is missing belongs. Pure.

Does not own asking the venue, nor the proof that nothing is on its way any more (`wld.bybit.auditor`), nor the memory of
what went out (`TradeMemory`).
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wld.batch import Batch
from wld.bybit.items import FAR_NS
from wld.bybit.topics import LastTrade
from wld.events import AggressorSide, Event, Trade
from wld.tables import BUY

MS = 1_000_000
"""ns in a millisecond"""
YOUNG_NS = 3_000_000_000
"""A listed trade younger than this, and newer than all that went out, may be on its way still: it is looked at next time."""
STEP = 1.5
"""No trade's price is so many times that of those beside it in the list."""
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MARKS = 128
"""Remembered of a topic; beyond, every other one is forgotten."""


class Listed(NamedTuple):
    """A trade as the venue lists it."""

    trade_id: str
    event_time: int
    """ns, matching engine."""
    item: dict[str, Any]


def usable(item: Any, symbol: str, latest: int) -> Listed | None:
    """An entry of a list; None where it cannot be used: it must be of the symbol, and not later than `latest` (ns)."""
    if not isinstance(item, dict) or item.get("symbol") != symbol:
        return None
    trade_id, time_ms = item.get("execId"), str(item.get("time") or "")
    if not isinstance(trade_id, str) or not 0 < len(trade_id) <= 128:
        return None
    if not (time_ms.isascii() and time_ms.isdecimal() and len(time_ms) < 16 and int(time_ms) * MS <= latest):
        return None
    return Listed(trade_id, int(time_ms) * MS, item)


def in_order(usable: Iterable[Listed | None]) -> list[Listed]:
    """The usable entries of a list, oldest first, each id once.

    The venue lists the newest first; trades of one millisecond stay in its order, all else is put in order by time.
    """
    seen: dict[str, Listed] = {}
    for trade in usable:
        if trade is not None:
            seen.setdefault(trade.trade_id, trade)
    listed = list(seen.values())
    listed.reverse()
    listed.sort(key=lambda trade: trade.event_time)
    return listed


class Account:
    """How far one topic's trades are accounted for."""

    __slots__ = ("after", "audited_at", "counted", "holes", "is_anchored", "seen", "settled")

    def __init__(self) -> None:
        self.settled: int | None = None
        """All trades up to this event time (ns) are; None: where to begin is yet to be seen."""
        self.is_anchored = False
        """A trade was, so that a list that reaches back has it."""
        self.after: LastTrade | None = None
        """Where it begins anew, the newest trade before the Gap: up to the first trade behind that the Gap speaks."""
        self.seen: int | None = None
        """Event time (ns) of a trade that went out since: it is due from there on, where the list begins later still."""
        self.holes = 0
        """So many Gaps spoke of the topic: what was asked before the last is of no use."""
        self.audited_at: float | None = None
        """When all that was due was last found accounted for, Trio's time."""
        self.counted = 0
        """So many trades had gone out on the topic when it was last audited."""

    def begin_again(self, last: LastTrade | None) -> None:
        """A Gap speaks of this topic; `last` is the newest trade before it."""
        self.settled, self.after, self.is_anchored, self.seen = None, last, False, None
        self.holes += 1

    def note(self, last: LastTrade) -> None:
        """A trade went out last."""
        if self.settled is None and self.seen is None and last[1] > (self.after[1] if self.after else -1):
            self.seen = last[1]


class Comparison(NamedTuple):
    """What a list says of a topic."""

    due: list[Listed]
    """Listed behind what was settled, oldest first; those too young left out."""
    suspects: list[Listed]
    """Of those, what did not go out."""
    settled: int | None
    """For the account, once the suspects are dealt with."""
    last: Listed | None
    """The latest that was settled; None: the list does not reach back so far, or nothing was."""
    unlisted: tuple[int, int] | None = None
    """Between these event times (ns), from what was settled to where the list begins, it says nothing."""
    is_anchored: bool = False
    """For the account."""


def compare(
    listed: Sequence[Listed],
    known: Collection[str],
    account: Account,
    *,
    forgotten: int,
    young: int,
    now: int | None,
    is_full: bool = False,
) -> Comparison:
    """The trades of a list (`in_order`) that should have gone out and did not.

    `known` holds the ids of the list that went out. Newer than `forgotten`, none that went out is forgotten; one newer than
    `young` may be on its way, unless one behind it has come. `is_full`: the venue may have had more to list. Where nothing of the list went out so far, everything is due
    from the venue's `now` on; None: not known. All event times, ns.

    Nothing is a suspect before the first trade that went out, after the last Gap: where the recording begins, and
    where a Gap ends.
    """
    settled, is_anchored = account.settled, account.is_anchored
    if settled is None:
        behind = account.after[1] if account.after else -1
        begun = (t.event_time for t in listed if t.trade_id in known and t.event_time > behind)
        settled = min((time for time in (next(begun, None), account.seen) if time is not None), default=None)
        if settled is None:
            return Comparison([], [], None if now is None else max(now, behind), None)
        is_anchored = True
    begin = bisect_right(listed, settled, key=lambda t: t.event_time)
    due = list(listed[begin:])
    while due and due[-1].event_time > young and due[-1].trade_id not in known:
        due.pop()
    suspects = [t for t in due if t.trade_id not in known and t.event_time > forgotten]
    reaches_back = begin > 0 or not listed or not (is_full or is_anchored)
    unlisted = None if reaches_back else (settled, listed[0].event_time)
    # Of the last millisecond there may be more: it is looked at again.
    settled = max(settled, due[-1].event_time - 1) if due else settled
    return Comparison(due, suspects, settled, listed[begin - 1] if begin else None, unlisted, is_anchored or bool(due))


class Missed(NamedTuple):
    """Trades side by side that did not go out."""

    trades: list[Listed]
    before: Listed | None
    """The one before them; None: the list does not say."""
    after: Listed | None
    """The one after them; None: there is none yet."""


def holes(comparison: Comparison, missing: Collection[str]) -> list[Missed]:
    """The missing trades as holes between those that went out, oldest first."""
    found: list[Missed] = []
    run: list[Listed] = []
    before = comparison.last
    for trade in comparison.due:
        if trade.trade_id in missing:
            run.append(trade)
            continue
        if run:
            found.append(Missed(run, before, trade))
            run = []
        before = trade
    if run:
        found.append(Missed(run, before, None))
    return found


def doubtful(comparison: Comparison, suspects: Iterable[Trade], read: Callable[[Listed], Trade | None]) -> list[str]:
    """The ids of suspects that can be no trades of the symbol, going by those beside them that went out.

    One is where all of those have UUIDs for ids (Bybit V5 documentation, recent-trade page), and it has not; where its price
    is beyond theirs by more than `STEP`; and where its sequence is on the wrong side of theirs, more than `FAR_NS` away.
    """
    suspected = {trade.trade_id for trade in comparison.suspects}
    beside = [t for t in (comparison.last, *comparison.due) if t is not None and t.trade_id not in suspected]
    have_uuids = bool(beside) and all(UUID.fullmatch(t.trade_id) for t in beside)
    times = [t.event_time for t in beside]
    seen: dict[int, Trade | None] = {}

    def neighbour(place: int) -> Trade | None:
        if place not in seen:
            seen[place] = read(beside[place]) if 0 <= place < len(beside) else None
        return seen[place]

    found: list[str] = []
    for trade in suspects:
        place = bisect_right(times, trade.event_time)
        before, after = neighbour(place - 1), neighbour(place)
        if (have_uuids and not UUID.fullmatch(trade.trade_id)) or _is_odd(trade, before, after):
            found.append(trade.trade_id)
    return found


def _is_odd(trade: Trade, before: Trade | None, after: Trade | None) -> bool:
    prices = [one.price for one in (before, after) if one is not None]
    if prices and not min(prices) / STEP <= trade.price <= max(prices) * STEP:
        return True
    sequences = [
        one.sequence if one and abs(one.event_time - trade.event_time) > FAR_NS else None for one in (before, after)
    ]
    first, last = sequences
    if trade.sequence is None or (first is not None and last is not None and first > last):
        return False  # the symbol was listed anew, and is counted from elsewhere
    return (first is not None and trade.sequence < first) or (last is not None and trade.sequence > last)


Content = tuple[int, int, bool]
"""Price and size (1e-8), and whether the aggressor bought."""


def contents(events: Iterable[Event]) -> Iterator[tuple[str, Content]]:
    """The trades of what was published, by id; columns as they are."""
    rows = events
    if isinstance(events, Batch) and (tables := events.tables) is not None:
        rows = [event for _, event in tables.rows]
        if (trades := tables.trades) is not None:
            is_buy = (trades["flags"] & BUY != 0).tolist()
            content = zip(trades["price"].tolist(), trades["size"].tolist(), is_buy, strict=True)
            yield from zip(trades["trade_id"], content, strict=True)
    for event in rows:
        if isinstance(event, Trade) and event.trade_id:
            yield event.trade_id, (event.price, event.size, event.aggressor_side is AggressorSide.BUY)


def differing(listed: Iterable[Trade], came: Mapping[str, Content]) -> list[str]:
    """The ids under which a list has another price, size or side than came over the stream."""
    return [
        trade.trade_id
        for trade in listed
        if came[trade.trade_id] != (trade.price, trade.size, trade.aggressor_side is AggressorSide.BUY)
    ]


class Marks:
    """When trades of a topic came, looked up now and then: pairs of event time and receive time, the older the fewer.

    All of its memory is there from the first on.
    """

    __slots__ = ("_count", "_event_times", "_receive_times")

    def __init__(self) -> None:
        self._event_times = array("q", bytes(8 * MARKS))
        self._receive_times = array("q", bytes(8 * MARKS))
        self._count = 0

    def note(self, event_time: int, receive_time: int) -> None:
        """The trade that came last, and when."""
        if self._count and event_time <= self._event_times[self._count - 1]:
            return
        if self._count == MARKS:
            self._thin_out(self._event_times)
            self._thin_out(self._receive_times)
            self._count -= MARKS // 4
        self._event_times[self._count], self._receive_times[self._count] = event_time, receive_time
        self._count += 1

    @staticmethod
    def _thin_out(times: array[int]) -> None:
        """Forget every other one of the older half."""
        kept = times[1 : MARKS // 2 : 2] + times[MARKS // 2 :]
        times[: len(kept)] = kept

    def before(self, event_time: int) -> int | None:
        """When the trade of that time came, or the latest one looked up before it."""
        place = bisect_right(self._event_times, event_time, 0, self._count)
        return self._receive_times[place - 1] if place else None

    def after(self, event_time: int) -> int | None:
        """When the trade of that time came, or the first one looked up after it."""
        place = bisect_left(self._event_times, event_time, 0, self._count)
        return self._receive_times[place] if place < self._count else None
