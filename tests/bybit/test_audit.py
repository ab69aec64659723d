"""The audit of trades: what REST lists against what went out. Exactly what is missing is found, and nothing else claimed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

import wld
from tests.bybit import frames
from wld.bybit import auditor
from wld.bybit.audit import Account, Listed, Marks, compare, contents, doubtful, holes, in_order, usable
from wld.bybit.auditor import Auditor
from wld.bybit.backfill import Backfill
from wld.bybit.backoff import RequestGate
from wld.bybit.following import Hole
from wld.bybit.mutes import PAUSE_NS, Mutes
from wld.bybit.protocol import BybitProtocol
from wld.bybit.rest import PIECE, TRADES_LIMIT, BybitRest, to_trade
from wld.bybit.trade_ids import REMEMBERED, OlderIds
from wld.clock import ReceiveClock

MS = 1_000_000
S = 1_000 * MS
NEVER = 1 << 62
TOPIC = "publicTrade.WLDUSDT"


def item(number: int, time_ms: int | None = None, **changes: Any) -> dict[str, Any]:
    """A trade as REST lists it."""
    return {
        "execId": f"t{number}", "symbol": "WLDUSDT", "price": "1.5", "size": "2", "side": "Buy",
        "time": str(1_000 + number if time_ms is None else time_ms), "isBlockTrade": False, "seq": str(number), **changes,
    }  # fmt: skip


def names(trades: Any) -> list[str]:
    return [trade.trade_id for trade in trades]


def read_list(items: Iterable[Any], symbol: str, latest: int) -> list[Listed]:
    return in_order(usable(item, symbol, latest) for item in items)


def listed(*items: dict[str, Any]) -> list[Listed]:
    """Given oldest first, as the venue lists them newest first."""
    return read_list(reversed(items), "WLDUSDT", NEVER)


def audit(
    account: Account, page: list[Listed], known: set[str], *, forgotten: int = -1, young: int = NEVER
) -> list[str]:
    """The ids that an audit finds missing; the account goes on."""
    found = compare(page, known, account, forgotten=forgotten, young=young, now=None)
    account.settled = found.settled
    return names(found.suspects)


# -- the list


def test_a_list_is_put_in_order_each_id_once_and_what_is_no_trade_of_the_symbol_left_out() -> None:
    items = [
        item(3), item(1), item(3, 9), item(2), "?", None, {}, item(4, symbol="OPUSDT"), item(5, execId=7), item(6, execId=""),
        item(7, time="x"), item(8, time="²"), item(9, 10**13), item(10, execId="x" * 129),
    ]  # fmt: skip
    assert names(read_list(items, "WLDUSDT", 2_000 * MS)) == ["t1", "t2", "t3"]


def test_trades_of_one_millisecond_keep_the_venues_order() -> None:
    assert names(listed(item(2, 5), item(1, 5), item(3, 5))) == ["t2", "t1", "t3"]


# -- the comparison


@settings(deadline=None)
@given(st.data())
def test_whatever_is_dropped_is_found_and_nothing_else_however_the_list_is_cut(data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=60))
    times, now = [], 1_000
    for step in steps:
        now += step
        times.append(now)
    trades = [item(n, time) for n, time in enumerate(times)]
    dropped = {f"t{n}" for n in data.draw(st.sets(st.integers(1, len(trades) - 1)))}
    known = {f"t{n}" for n in range(len(trades))} - dropped
    account, found = Account(), set[str]()
    limit = data.draw(st.integers(2, 80))
    begun = times[0]
    page: list[dict[str, Any]] = []
    seen = set[str]()
    for end in [*sorted(data.draw(st.sets(st.integers(1, len(trades)), max_size=6))), len(trades)]:
        page = trades[max(0, end - limit) : end]
        arrived = known & {f"t{n}" for n in range(end)}
        shuffled = data.draw(st.permutations(page)) if data.draw(st.booleans()) else page[::-1]
        missing = audit(account, read_list([*shuffled, *shuffled[:2]], "WLDUSDT", NEVER), arrived | found)
        assert set(missing) <= dropped
        found |= set(missing)
        if account.settled is not None:
            seen |= {t["execId"] for t in page}
    # Of the first millisecond nothing is said: what went out of it may be where the recording begins.
    assert {d for d in dropped & seen if limit >= len(trades) and times[int(d[1:])] > begun} <= found


@settings(deadline=None)
@given(total=st.integers(1, 60), first=st.integers(0, 59), cut=st.integers(1, 70), late=st.integers(0, 20))
def test_where_nothing_is_dropped_nothing_is_claimed(total: int, first: int, cut: int, late: int) -> None:
    """Whatever was listed before the recording, however the list is cut, and however far REST is behind the stream."""
    trades = [item(n, 1_000 + n // 2) for n in range(total)]
    known = {f"t{n}" for n in range(min(first, total - 1), total)}
    account = Account()
    for end in range(1, total + 1):
        shown = max(0, end - late)
        assert audit(account, listed(*trades[max(0, shown - cut) : shown]), known) == []


def test_what_was_listed_before_the_first_delivered_trade_is_no_loss() -> None:
    account = Account()
    assert audit(account, listed(item(1), item(2), item(3), item(4)), {"t3", "t4"}) == []
    assert audit(account, listed(item(2), item(3), item(4), item(5), item(6)), {"t3", "t4", "t6"}) == ["t5"]


def test_a_gap_speaks_of_all_up_to_the_first_trade_behind_it() -> None:
    account = Account()
    account.settled = 0
    account.begin_again(("t2", 1_002 * MS))
    page = listed(*(item(n) for n in range(1, 8)))
    assert audit(account, page, {"t1", "t2", "t5", "t7"}) == ["t6"]


def test_where_the_list_begins_anew_behind_a_gap_what_went_out_in_between_tells_from_where_all_is_due() -> None:
    account = Account()
    account.begin_again(("t2", 1_002 * MS))
    account.note(("t2", 1_002 * MS))
    account.note(("t4", 1_004 * MS))
    account.note(("t5", 1_005 * MS))
    found = compare(listed(item(7), item(8)), {"t8"}, account, forgotten=-1, young=NEVER, now=None)
    assert (names(found.suspects), found.unlisted) == (["t7"], (1_004 * MS, 1_007 * MS))
    found = compare(
        listed(*(item(n) for n in range(1, 7))), {"t1", "t2", "t3", "t5"}, account, forgotten=-1, young=NEVER, now=None
    )
    assert names(found.suspects) == ["t4", "t6"]


def test_where_nothing_came_since_all_is_due_from_the_venues_time_on() -> None:
    account = Account()
    first = compare(listed(item(1), item(2)), (), account, forgotten=-1, young=NEVER, now=1_010 * MS)
    assert (first.suspects, first.settled) == ([], 1_010 * MS)
    account.settled = first.settled
    assert audit(account, listed(item(1), item(2), item(11)), set()) == ["t11"]


def test_the_youngest_trades_are_left_to_the_stream_until_they_are_old() -> None:
    account = Account()
    page = listed(*(item(n) for n in range(1, 6)))
    assert audit(account, page, {"t1", "t2"}, young=1_003 * MS) == ["t3"]
    assert audit(account, page, {"t1", "t2", "t3", "t4"}) == ["t5"]


def test_a_young_trade_is_due_once_a_later_one_has_come() -> None:
    assert audit(Account(), listed(item(1), item(2), item(3)), {"t1", "t3"}, young=0) == ["t2"]


def test_what_may_have_been_forgotten_is_no_loss() -> None:
    assert audit(Account(), listed(*(item(n) for n in range(1, 5))), {"t1", "t4"}, forgotten=1_002 * MS) == ["t3"]


def test_more_trades_of_the_last_millisecond_are_seen_the_next_time() -> None:
    account = Account()
    assert audit(account, listed(item(1, 4), item(2, 5)), {"t1", "t2"}) == []
    assert audit(account, listed(item(1, 4), item(2, 5), item(3, 5)), {"t1", "t2"}) == ["t3"]


def test_an_older_list_takes_nothing_back() -> None:
    account = Account()
    audit(account, listed(item(1), item(2), item(3)), {"t1", "t2", "t3"})
    settled = account.settled
    assert audit(account, listed(item(1)), {"t1", "t2", "t3"}) == []
    assert account.settled == settled


def test_holes_lie_between_the_trades_that_went_out() -> None:
    account = Account()
    account.settled = 1_001 * MS
    page = listed(*(item(n) for n in range(1, 9)))
    missing = {"t2", "t4", "t5", "t8"}
    known = {trade.trade_id for trade in page} - missing
    found = holes(compare(page, known, account, forgotten=-1, young=NEVER, now=None), missing)
    assert [(names(hole.trades), hole.before, hole.after) for hole in found] == [
        (["t2"], page[0], page[2]),
        (["t4", "t5"], page[2], page[5]),
        (["t8"], page[6], None),
    ]


def test_a_list_that_does_not_reach_back_leaves_open_how_much_is_missing() -> None:
    account = Account()
    account.settled = 1_001 * MS
    page = listed(item(4), item(5))
    (hole,) = holes(compare(page, {"t5"}, account, forgotten=-1, young=NEVER, now=None), {"t4"})
    assert (hole.before, hole.after) == (None, page[1])


@pytest.mark.parametrize(
    ("page", "is_full", "unlisted"),
    [
        ([item(2), item(3), item(4)], True, None),
        ([item(7), item(8)], True, (1_003 * MS - 1, 1_007 * MS)),
        ([item(7), item(8)], False, (1_003 * MS - 1, 1_007 * MS)),  # a trade that it should have is gone from the list
        ([], False, None),
    ],
)
def test_a_list_that_does_not_reach_back_says_of_which_stretch_nothing_is_proven(
    page: list[dict[str, Any]], is_full: bool, unlisted: tuple[int, int] | None
) -> None:
    account = Account()
    known = {trade["execId"] for trade in page} | {"t1", "t2", "t3"}
    first = compare(listed(item(1), item(2), item(3)), known, account, forgotten=-1, young=NEVER, now=None)
    account.settled, account.is_anchored = first.settled, first.is_anchored
    found = compare(listed(*page), known, account, forgotten=-1, young=NEVER, now=None, is_full=is_full)
    assert (found.suspects, found.unlisted) == ([], unlisted)


def test_a_short_list_is_all_there_is_of_a_symbol_that_was_never_traded_before() -> None:
    account = Account()
    account.settled = 1_002 * MS  # the venue's time when nothing was listed
    found = compare(listed(item(7)), {"t7"}, account, forgotten=-1, young=NEVER, now=None)
    assert found.unlisted is None


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


ODD: list[tuple[dict[str, Any], bool]] = [
    ({}, False),
    ({"execId": "x4"}, True),
    ({"execId": uuid(4).upper().replace("8000", "800G")}, True),
    ({"price": "2.2"}, False),
    ({"price": "2.3"}, True),
    ({"price": "0.9"}, True),
    ({"seq": "9"}, False),  # within a second sequences and times may be in another order
    ({"seq": "0", "time": "3_000"}, False),
    ({"seq": "2", "time": "5000"}, True),
    ({"seq": "11", "time": "5000"}, True),
    ({"seq": "", "time": "5000"}, False),
]


@pytest.mark.parametrize(("changes", "is_odd"), ODD)
def test_a_listed_trade_that_can_be_none_of_the_symbol_is_found_out(changes: dict[str, Any], is_odd: bool) -> None:
    account = Account()
    account.settled = 0
    times = {3: 3_000, 4: 3_001, 5: 7_000}
    page = [
        item(n, times.get(n, n), **{"execId": uuid(n), "seq": str(2 * n), **(changes if n == 4 else {})})
        for n in range(1, 6)
    ]
    found = compare(listed(*page), {uuid(n) for n in (1, 2, 3, 5)}, account, forgotten=-1, young=NEVER, now=None)
    suspects = [trade for t in found.suspects if (trade := to_trade(t.item, "WLDUSDT", 0))]
    assert len(doubtful(found, suspects, lambda t: to_trade(t.item, "WLDUSDT", 0))) == is_odd


def test_where_a_symbol_is_listed_anew_lower_sequences_prove_nothing() -> None:
    account = Account()
    account.settled = 0
    page = listed(item(1, 1_000, seq="900"), item(2, 5_000, seq="1"), item(3, 9_000, seq="2"))
    found = compare(page, {"t1", "t3"}, account, forgotten=-1, young=NEVER, now=None)
    (suspect,) = (to_trade(t.item, "WLDUSDT", 0) for t in found.suspects)
    assert suspect is not None
    assert doubtful(found, [suspect], lambda t: to_trade(t.item, "WLDUSDT", 0)) == []


# -- what it leans on


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=40))
def test_no_trade_newer_than_forgotten_is_forgotten(sizes: list[int]) -> None:
    older, number = OlderIds(), 0
    for size in sizes:
        ids = [f"t{n}" for n in range(number, number + size)]
        number += size
        older.hand_over(ids, number - 1)
    assert all(f"t{n}" in older for n in range(max(0, older.forgotten + 1), number))
    assert number - 1 - older.forgotten >= min(number, REMEMBERED - 800)
    assert older.forgotten == -1 or number > REMEMBERED - 400


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=400), st.integers(0, 2_000))
def test_marks_lie_around_what_is_asked_for(steps: list[tuple[int, int]], wanted: int) -> None:
    marks, event_time, receive_time = Marks(), 0, 10_000
    came: list[tuple[int, int]] = []
    for event_step, receive_step in steps:
        event_time, receive_time = event_time + event_step, receive_time + receive_step
        came.append((event_time, receive_time))
        marks.note(event_time, receive_time)
    before, after = marks.before(wanted), marks.after(wanted)
    assert before is None or any(time <= wanted and received >= before for time, received in came)
    assert after is None or any(time >= wanted and received <= after for time, received in came)


def gap(missed: int | None, first: int, last: int, reason: wld.GapReason = wld.GapReason.UPDATE_ID) -> wld.Gap:
    return wld.Gap(1, reason, "orderbook.50", "WLDUSDT", missed=missed, first_time=first, last_time=last)


@pytest.mark.parametrize(
    ("told", "is_mute"),
    [
        (gap(3, 90, PAUSE_NS + 200), True),
        (gap(None, 100, PAUSE_NS + 100), True),
        (gap(2, 90, PAUSE_NS + 200), False),  # messages of that book alone
        (gap(9, 101, PAUSE_NS + 200), False),  # the book was there after the pause began
        (gap(9, 90, PAUSE_NS), False),
        (gap(9, 90, PAUSE_NS + 200, wld.GapReason.SILENCE), True),
        (gap(9, 90, PAUSE_NS + 200, wld.GapReason.CROSSED_BOOK), False),
    ],
)
def test_a_pause_across_which_a_book_lost_messages_was_a_mute_line(told: wld.Gap, is_mute: bool) -> None:
    mutes = Mutes()
    mutes.note(100, 100 + PAUSE_NS - 1, dict)
    mutes.note(100, 100 + PAUSE_NS, lambda: {TOPIC: ("t1", 5)})
    mute = mutes.told_by(told)
    assert (mute is not None) == is_mute
    if mute is not None:
        assert mute == (100, 100 + PAUSE_NS, {TOPIC: ("t1", 5)})
        assert mutes.told_by(told) is None


# -- when


class Feed:
    """A stream that knows of some trades, and lines that answer pings, or not."""

    def __init__(self, clock: ReceiveClock) -> None:
        self.clock = clock
        self.known = {"t1", "t2"}
        self.memory = self
        self.answers = True
        self.probed = 0
        self.unsettled = False
        self.count = 2
        self.published: list[wld.Event] = []

    def trade_topics(self) -> list[str]:
        return [TOPIC]

    @contextmanager
    def keep(self) -> Iterator[list[list[wld.Event]]]:
        yield [self.published]

    def probe(self) -> None:
        self.probed = self.clock.now()

    def answered(self) -> int:
        return self.probed if self.answers else 0

    def known_trades(self, topic: str, trade_ids: Sequence[str]) -> set[str]:
        return set(trade_ids) & self.known

    def trades_so_far(self, topic: str) -> int:
        return self.count

    def add_trade(self, topic: str, trade_id: str, event_time: int) -> None:
        self.known.add(trade_id)

    def last_trade(self, topic: str) -> tuple[str, int]:
        return "t2", 1_002 * MS

    def received(self, topic: str, trade_id: str) -> int | None:
        return {"t2": 1_950 * MS}.get(trade_id)

    def last_time(self, topic: str) -> int:
        return 2_000 * MS

    def forgotten(self, topic: str) -> int:
        return -1

    def is_unsettled(self, topic: str) -> bool:
        return self.unsettled


class Venue:
    """REST that gives these answers, the last for ever."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.left = list(answers)
        self.asked: list[float] = []
        self.gate = RequestGate()
        self.client = httpx.AsyncClient(base_url="http://venue", transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(trio.current_time())
        given = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if isinstance(given, Exception):
            raise given
        return httpx.Response(given.status_code, content=given.content, headers=given.headers)

    def open(self) -> Any:
        return nullcontext(BybitRest(self.client, self.gate))


def page(*items: Any) -> httpx.Response:
    return httpx.Response(200, content=json.dumps({"retCode": 0, "result": {"list": items[::-1]}}))


MISSED = page(item(1), item(2), item(3), item(4, 9_000))


async def run(
    venue: Venue, seconds: float, *, feed: Feed | None = None, sign: bool = False
) -> tuple[list[wld.Event], Auditor]:
    clock = ReceiveClock()
    feed = feed or Feed(clock)
    feed.clock = clock
    out: list[wld.Event] = []
    audits = Auditor(
        Backfill(venue.open, venue.gate, clock, out.extend, luck=lambda: 0.0),
        lambda: [feed],
        interval_s=60.0,
        next_gap_id=iter(range(7, 99)).__next__,
    )
    if sign:
        audits.suspect(feed, "WLDUSDT")
        audits.suspect(feed, "WLDUSDT")
    with trio.move_on_after(seconds):
        await audits.run()
    return out, audits


async def test_a_trade_that_the_stream_did_not_bring_is_a_gap_the_trade_and_a_repair(
    autojump_clock: trio.testing.MockClock,
) -> None:
    feed = Feed(ReceiveClock())
    out, audits = await run(Venue(MISSED), 150, feed=feed)
    found, trade, repair = out
    assert isinstance(found, wld.Gap)
    assert (found.gap_id, found.reason, found.topic, found.symbol) == (
        7,
        wld.GapReason.SILENCE,
        "publicTrade",
        "WLDUSDT",
    )
    assert (found.missed, found.first_time) == (1, 1_950 * MS)
    assert isinstance(trade, wld.Trade)
    assert (trade.trade_id, trade.is_backfilled, trade.price) == ("t3", True, 150_000_000)
    assert isinstance(repair, wld.Repair)
    assert (repair.gap_id, repair.recovered, repair.remaining) == (7, 1, 0)
    assert "t3" in feed.known
    assert audits.missed == 1
    assert audits.figures()["audit_missed"] == 1
    assert 10 <= audits.figures()["audit_age"] <= 25


async def test_a_sign_of_loss_is_looked_into_at_once_and_not_more_often_than_is_fit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    venue = Venue(MISSED)
    out, _ = await run(venue, 9, sign=True)
    assert len(venue.asked) == 2  # for the sign, and at the end
    assert len(out) == 3


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401), httpx.Response(500), httpx.Response(200, content=b"<html>"), httpx.ConnectTimeout("slow"),
        httpx.Response(200, content=b'{"retCode": 10006, "retMsg": "too many"}'),
        httpx.Response(200, content=b'{"retCode": 0, "result": {"list": 5}}'),
    ],
)  # fmt: skip
async def test_where_rest_fails_nothing_is_claimed_and_it_is_asked_ever_more_rarely(
    answer: httpx.Response | Exception, autojump_clock: trio.testing.MockClock
) -> None:
    venue = Venue(*[answer] * 5, MISSED)
    out, _ = await run(venue, 250)
    assert out == []
    waits = [b - a for a, b in zip(venue.asked, venue.asked[1:], strict=False)]
    assert all(wait >= 50 for wait in waits)
    venue = Venue(answer, MISSED)
    assert len((await run(venue, 250))[0]) == 3


@pytest.mark.parametrize(("status", "least"), [(403, 600), (429, 60)])
async def test_a_venue_that_refuses_is_left_alone(
    status: int, least: float, autojump_clock: trio.testing.MockClock
) -> None:
    venue = Venue(httpx.Response(status), MISSED)
    out, _ = await run(venue, 800)
    assert venue.asked[1] - venue.asked[0] >= least
    assert len(out) == 3


async def test_nothing_is_claimed_while_a_line_may_still_bring_it(autojump_clock: trio.testing.MockClock) -> None:
    feed = Feed(ReceiveClock())
    feed.answers = False
    assert (await run(Venue(MISSED), 300, feed=feed))[0] == []
    feed.answers, feed.unsettled = True, True
    assert (await run(Venue(MISSED), 300, feed=feed))[0] == []


async def test_a_trade_that_comes_while_the_proof_is_waited_for_is_no_loss(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Late(Feed):
        def probe(self) -> None:
            super().probe()
            self.known.add("t3")

    assert (await run(Venue(MISSED), 300, feed=Late(ReceiveClock())))[0] == []


async def test_a_gap_meanwhile_takes_the_matter_over(autojump_clock: trio.testing.MockClock) -> None:
    class Broken(Feed):
        def probe(self) -> None:
            super().probe()
            note(Hole(wld.Gap(1, wld.GapReason.DISCONNECT), {TOPIC: ("t2", 1_002 * MS)}))

    feed, venue = Broken(ReceiveClock()), Venue(MISSED)
    out: list[wld.Event] = []
    audits = Auditor(
        Backfill(venue.open, venue.gate, feed.clock, out.extend, luck=lambda: 0.0),
        lambda: [feed],
        interval_s=60.0,
        next_gap_id=int,
    )
    note = audits.note
    with trio.move_on_after(300):
        await audits.run()
    assert out == []


async def test_rest_that_lacks_what_the_stream_brought_is_not_believed(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    others = page(item(21, 1_000), item(22, 1_001), item(23, 1_004), item(24, 9_000))
    assert (await run(Venue(others), 130))[0] == []
    assert "REST does not list trade t2, which the stream brought" in caplog.text


async def test_trades_that_cannot_be_read_are_missing_all_the_same(autojump_clock: trio.testing.MockClock) -> None:
    out, _ = await run(Venue(page(item(1), item(2), item(3, price="x"), item(4, 9_000))), 100)
    found, repair = out
    assert isinstance(found, wld.Gap)
    assert isinstance(repair, wld.Repair)
    assert (found.missed, repair.recovered, repair.remaining) == (1, 0, None)


@pytest.mark.parametrize("changes", [{"price": "1.6"}, {"size": "3"}, {"side": "Sell"}])
async def test_a_trade_that_rest_lists_otherwise_is_told(
    changes: dict[str, str], autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed(ReceiveClock())
    same = wld.Trade("WLDUSDT", 150_000_000, 200_000_000, wld.AggressorSide.BUY, "t2", event_time=1_002 * MS)
    feed.published = [same, structs.replace(same, trade_id="elsewhere")]
    out, audits = await run(Venue(page(item(1), item(2), item(3, 9_000))), 150, feed=feed)
    assert not audits.differing
    out, audits = await run(Venue(page(item(1), item(2, **changes), item(3, 9_000))), 60, feed=feed)
    assert audits.figures()["audit_differs"] == 1
    assert "REST lists trade t2 with another price, size or side than the stream brought" in caplog.text
    assert out == []


@pytest.mark.parametrize("count", [1, 40])
def test_what_was_published_shows_the_same_trades_in_rows_and_columns(count: int) -> None:
    protocol = BybitProtocol([TOPIC])
    messages = [frames.trades(frames.trade(n)) for n in range(count)]
    events = protocol.receive_read([message.encode() for message in messages], 5)
    one_by_one = [event for message in messages for event in BybitProtocol([TOPIC]).receive(message, 5)]
    assert dict(contents(events)) == dict(contents(one_by_one))
    assert len(dict(contents(events))) == count


async def test_trades_beyond_what_rest_lists_are_told_as_not_proven(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed(ReceiveClock())
    feed.known |= {f"t{n}" for n in range(3_000)}
    pages = [page(*(item(n) for n in range(end - TRADES_LIMIT, end))) for end in (1_002, 1_500, 2_900)]
    out, audits = await run(Venue(pages[0], *[pages[1]] * 2, pages[2]), 300, feed=feed)
    assert out == []
    assert audits.figures()["audit_unlisted"] == 1
    assert (
        "REST lists only the latest trades of those since the last audit: nothing proves 0.4 s of them" in caplog.text
    )


async def test_a_made_up_trade_among_real_ones_is_left_out_and_told(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    mixed = page(item(1), item(2), item(3), item(33, 1_003, price="20"), item(4, 9_000))
    feed = Feed(ReceiveClock())
    feed.known.add("t4")
    out, audits = await run(Venue(mixed), 150, feed=feed)
    assert [event.trade_id for event in out if isinstance(event, wld.Trade)] == ["t3"]
    assert audits.figures()["audit_doubtful"] == 1
    assert "REST lists 1 trades that by id, price or sequence can be none of it: left out, as t33" in caplog.text


async def test_the_loop_turns_while_a_full_list_is_read(autojump_clock: trio.testing.MockClock) -> None:
    turns = [0]

    async def other() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            turns[0] += 1

    rest = BybitRest(Venue(page(*(item(n) for n in range(TRADES_LIMIT)))).client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await trio.lowlevel.checkpoint()
        turns[0] = 0
        assert len((await rest.recent_trades("WLDUSDT", 0)).trades) == TRADES_LIMIT
        assert turns[0] >= 2 * TRADES_LIMIT // PIECE  # decoded, then read
        nursery.cancel_scope.cancel()


class Busy(Feed):
    """Symbols of which so many trades come each second."""

    def __init__(self, *rates: int) -> None:
        super().__init__(ReceiveClock())
        self.rates = rates

    def trade_topics(self) -> list[str]:
        return [f"publicTrade.S{n}USDT" for n in range(len(self.rates))]

    def trades_so_far(self, topic: str) -> int:
        return int(self.rates[int(topic[13:-4])] * trio.current_time())


async def test_a_symbol_that_trades_more_than_rest_lists_in_a_minute_is_audited_sooner(
    autojump_clock: trio.testing.MockClock,
) -> None:
    venue = Venue(page())
    await run(venue, 300, feed=Busy(0, 0, 100))
    asked = [a for a in venue.asked if a > 60]
    assert max(b - a for a, b in itertools.pairwise(asked)) <= auditor.EARLY / 100 + auditor.TICK_S


async def test_busy_symbols_are_within_the_venues_limits_and_leave_none_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    venue = Venue(page())
    await run(venue, 130, feed=Busy(*[300] * 40, *[0] * 460))
    asked = [at for at in venue.asked if at < 130]
    most = max(sum(a <= b < a + 5 for b in asked) for a in asked)
    assert 5 * auditor.EARLY_AT_ONCE < most < 60  # the venue allows 600, `RequestGate` 100
    assert len(venue.asked) - len(asked) <= auditor.MOST_LAST


async def test_many_symbols_are_spread_evenly(autojump_clock: trio.testing.MockClock) -> None:
    class Many(Feed):
        def trade_topics(self) -> list[str]:
            return [f"publicTrade.S{n}USDT" for n in range(300)]

    venue = Venue(page())
    await run(venue, 700, feed=Many(ReceiveClock()))
    assert 600 <= len([at for at in venue.asked if at < 700]) <= 700
    assert auditor.SPACING_S == 1.0


async def test_the_first_audit_does_not_wait_for_its_turn(autojump_clock: trio.testing.MockClock) -> None:
    venue = Venue(page())
    await run(venue, 50)
    assert 5 <= venue.asked[0] <= 15


async def test_what_vanished_in_the_last_seconds_of_a_run_is_told_at_its_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    feed = Feed(ReceiveClock())
    feed.known.add("t4")
    feed.answers = False  # no line is there to answer a ping
    out, audits = await run(Venue(page(*(item(n) for n in range(1, 7)))), 5, feed=feed)
    found, trade, repair = out
    assert isinstance(found, wld.Gap)
    assert isinstance(trade, wld.Trade)
    assert isinstance(repair, wld.Repair)
    assert (found.missed, trade.trade_id, repair.remaining) == (
        1,
        "t3",
        0,
    )  # t5 and t6 may have been sent after the end
    assert audits.missed == 1


async def test_a_venue_that_does_not_answer_holds_the_end_of_a_run_up_for_two_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError

    venue = Venue(page())
    venue.client = httpx.AsyncClient(base_url="http://venue", transport=httpx.MockTransport(never))
    out, _ = await run(venue, 5)
    assert trio.current_time() == pytest.approx(7)
    assert out == []


async def test_receive_times_do_not_go_back_from_one_hole_to_the_next(autojump_clock: trio.testing.MockClock) -> None:
    feed = Feed(ReceiveClock())
    feed.known |= {f"t{n}" for n in range(2, 40, 2)}
    out, _ = await run(Venue(page(*(item(n) for n in range(1, 40)))), 30, feed=feed)
    assert len([event for event in out if isinstance(event, wld.Gap)]) > 10
    assert [event.receive_time for event in out] == sorted(event.receive_time for event in out)


async def test_a_request_that_failed_shortly_before_the_end_is_made_again_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    feed = Feed(ReceiveClock())
    feed.known.add("t4")
    page_of_all = page(*(item(n) for n in range(1, 7)))
    out, _ = await run(Venue(httpx.Response(500), page_of_all), 14, feed=feed)
    assert [event.trade_id for event in out if isinstance(event, wld.Trade)] == ["t3"]
