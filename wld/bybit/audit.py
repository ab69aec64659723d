"""Owns the audit of trades: those that the venue lists against those that went out, and where what is missing belongs. Pure.

Does not own asking the venue, nor the proof that nothing is on its way any more (`wld.bybit.auditor`), nor the memory of
what went out (`TradeMemory`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wld.batch import Batch
from wld.bybit.topics import LastTrade
from wld.events import AggressorSide, Event, Trade
from wld.tables import BUY

MS = 1_000_000
"""ns in a millisecond"""
YOUNG_NS = 3_000_000_000
"""A listed trade younger than this, and newer than all that went out, may be on its way still: it is looked at next time."""
MARKS = 128
"""Remembered of a topic; beyond, every other one is forgotten."""


class Listed(NamedTuple):
    """A trade as the venue lists it."""

    trade_id: str
    event_time: int
    """ns, matching engine."""
    item: dict[str, Any]


def read_list(items: Iterable[Any], symbol: str, latest: int) -> list[Listed]:
    """What can be used of a list, oldest first, each id once: of the symbol, and not later than `latest` (ns).

    The venue lists the newest first; trades of one millisecond stay in its order, all else is put in order by time.
    """
    seen: dict[str, Listed] = {}
    for item in items:
        if not isinstance(item, dict) or item.get("symbol") != symbol:
            continue
        trade_id, time_ms = item.get("execId"), str(item.get("time") or "")
        if not isinstance(trade_id, str) or not 0 < len(trade_id) <= 128:
            continue
        if not (time_ms.isascii() and time_ms.isdecimal() and len(time_ms) < 16 and int(time_ms) * MS <= latest):
            continue
        seen.setdefault(trade_id, Listed(trade_id, int(time_ms) * MS, item))
    listed = list(seen.values())
    listed.reverse()
    listed.sort(key=lambda trade: trade.event_time)
    return listed


class Account:
    """How far one topic's trades are accounted for."""

    __slots__ = ("after", "audited_at", "due", "holes", "settled")

    def __init__(self) -> None:
        self.settled: int | None = None
        """All trades up to this event time (ns) are; None: where to begin is yet to be seen."""
        self.after: LastTrade | None = None
        """Where it begins anew, the newest trade before the Gap: up to the first trade behind that the Gap speaks."""
        self.holes = 0
        """So many Gaps spoke of the topic: what was asked before the last is of no use."""
        self.audited_at: float | None = None
        """When all that was due was last found accounted for, Trio's time."""
        self.due = 0
        """Trades that were due the last time."""

    def begin_again(self, last: LastTrade | None) -> None:
        """A Gap speaks of this topic; `last` is the newest trade before it."""
        self.settled, self.after = None, last
        self.holes += 1


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


def compare(
    listed: Sequence[Listed], known: Collection[str], account: Account, *, forgotten: int, young: int, now: int | None
) -> Comparison:
    """The trades of a list (`read_list`) that should have gone out and did not.

    `known` holds the ids of the list that went out. Newer than `forgotten`, none that went out is forgotten; one newer than
    `young` may be on its way, unless one behind it has come. Where nothing of the list went out so far, everything is due
    from the venue's `now` on; None: not known. All event times, ns.

    Nothing is a suspect before the first trade that went out, after the last Gap: where the recording begins, and
    where a Gap ends.
    """
    settled = account.settled
    if settled is None:
        behind = account.after[1] if account.after else -1
        begun = (t.event_time for t in listed if t.trade_id in known and t.event_time > behind)
        settled = next(begun, None)
        if settled is None:
            return Comparison([], [], None if now is None else max(now, behind), None)
    begin = bisect_right(listed, settled, key=lambda t: t.event_time)
    due = list(listed[begin:])
    while due and due[-1].event_time > young and due[-1].trade_id not in known:
        due.pop()
    suspects = [t for t in due if t.trade_id not in known and t.event_time > forgotten]
    # Of the last millisecond there may be more: it is looked at again.
    settled = max(settled, due[-1].event_time - 1) if due else settled
    return Comparison(due, suspects, settled, listed[begin - 1] if begin else None)


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
