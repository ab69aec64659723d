"""After a Gap: which trades a reply of the venue adds, and what the limits on requests allow."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import wld
from tests.faults.rig import recording
from wld.bybit.backfill import Backfill
from wld.bybit.backoff import RequestGate
from wld.bybit.following import Hole
from wld.bybit.repair import Repairer, missed_trades
from wld.bybit.rest import BybitRest, RecentTrades, to_trade
from wld.clock import ReceiveClock
from wld.errors import RetryableSourceError
from wld.events import AggressorSide, Trade


def trade(number: int) -> Trade:
    return Trade("WLDUSDT", 1, 1, AggressorSide.BUY, f"t{number}", event_time=1_000 + number)


def newest_first(*numbers: int) -> list[Trade]:
    return [trade(n) for n in sorted(numbers, reverse=True)]


def names(trades: list[Trade]) -> list[str]:
    return [t.trade_id for t in trades]


def test_what_lies_between_the_last_known_trade_and_the_first_after_is_missed() -> None:
    known = {"t1", "t2", "t6", "t7"}
    found = missed_trades(newest_first(*range(1, 8)), ("t2", 1_002), 0, known)
    assert names(found.trades) == ["t3", "t4", "t5"]
    assert found.reaches_back


def test_trades_that_the_stream_has_yet_to_bring_are_left_to_it() -> None:
    known = {"t2", "t6"}
    found = missed_trades(newest_first(*range(1, 9)), ("t2", 1_002), 0, known)
    assert names(found.trades) == ["t3", "t4", "t5"]


def test_a_reply_that_does_not_reach_back_says_so() -> None:
    found = missed_trades(newest_first(*range(5, 9)), ("t2", 1_002), 0, {"t8"}, limit=4)
    assert names(found.trades) == ["t5", "t6", "t7"]
    assert not found.reaches_back


def test_a_list_out_of_order_and_twice_gives_the_same() -> None:
    known, reply = {"t1", "t2", "t6"}, newest_first(*range(1, 7))
    found = missed_trades([*reversed(reply), *reply], ("t2", 1_002), 0, known)
    assert names(found.trades) == ["t3", "t4", "t5"]
    assert found.reaches_back


def at(time: int, *names: str) -> list[Trade]:
    """Trades of one millisecond, newest first."""
    return [Trade("WLDUSDT", 1, 1, AggressorSide.BUY, name, event_time=time) for name in names]


@pytest.mark.parametrize(
    ("reply", "missed", "is_whole"),
    [
        ([], [], False),
        (at(9, "x"), ["x"], False),  # short, and begins behind the last known trade
        (at(9, "x") + at(5, "w"), ["w", "x"], False),  # its millisecond, but which of the two came first?
        (at(9, "x") + at(5, "w", "last", "v"), ["w", "x"], True),
        (at(9, "x") + at(5, "w") + at(4, "u"), ["w", "x"], True),
        (at(5, "last"), [], True),
        (at(4, "u"), [], True),
    ],
)
def test_a_short_list_is_whole_only_where_it_reaches_the_last_known_trade(
    reply: list[Trade], missed: list[str], is_whole: bool
) -> None:
    found = missed_trades(reply, ("last", 5), 0, set())
    assert (names(found.trades), found.reaches_back) == (missed, is_whole)


@pytest.mark.parametrize("reply", [[], at(9, "x"), at(9, "x") + at(2, "w")])
def test_where_no_trade_was_ever_seen_there_is_nothing_to_prove(reply: list[Trade]) -> None:
    found = missed_trades(reply, None, 5, set())
    assert names(found.trades) == (["x"] if reply else [])
    assert found.reaches_back


def test_without_a_known_trade_the_start_of_the_recording_is_the_bound() -> None:
    found = missed_trades(newest_first(1, 2, 3, 4), None, 1_003, set(), limit=4)
    assert names(found.trades) == ["t3", "t4"]
    assert found.reaches_back


@settings(deadline=None)
@given(before=st.integers(1, 20), missing=st.integers(0, 20), after=st.integers(1, 20), limit=st.integers(1, 70))
def test_whatever_is_missed_comes_back_in_order_once_or_is_said_to_be_incomplete(
    before: int, missing: int, after: int, limit: int
) -> None:
    total = before + missing + after
    known = {f"t{n}" for n in range(total) if not before <= n < before + missing}
    reply = newest_first(*range(total))[:limit]
    found = missed_trades(reply, (f"t{before - 1}", 1_000 + before - 1), 0, known, limit)
    wanted = [f"t{n}" for n in range(before, before + missing)]
    assert names(found.trades) == wanted[max(0, len(wanted) - max(0, limit - after)) :] or not found.trades
    if found.reaches_back:
        assert names(found.trades) == wanted


def test_a_trade_of_the_list_reads_as_the_stream_would_show_it() -> None:
    item = {
        "execId": "6052ed84-95df-5f17-887b-000000000001", "symbol": "WLDUSDT", "price": "1.0342", "size": "0.1",
        "side": "Sell", "time": "1790000000000", "isBlockTrade": False, "isRPITrade": True, "seq": "800000000001",
    }  # fmt: skip
    event = to_trade(item, "WLDUSDT", 7)
    assert event is not None
    assert (event.price, event.size, event.aggressor_side, event.sequence, event.is_rpi, event.receive_time) == (
        103_420_000, 10_000_000, AggressorSide.SELL, 800_000_000_001, True, 7,
    )  # fmt: skip
    for wrong in ({"price": "x"}, {"side": "buy"}, {"time": ""}, {"execId": 5}, {"symbol": "OPUSDT"}):
        assert to_trade({**item, **wrong}, "WLDUSDT", 7) is None


def rest(gate: RequestGate, *answers: httpx.Response) -> tuple[BybitRest, list[httpx.Request]]:
    """A REST client whose venue gives these answers."""
    asked: list[httpx.Request] = []
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return left.pop(0)

    client = httpx.AsyncClient(base_url="http://venue", transport=httpx.MockTransport(answer))
    return BybitRest(client, gate), asked


def good(result: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, content=json.dumps({"retCode": 0, "result": result}))


async def test_an_entry_that_cannot_be_read_is_counted() -> None:
    api, _ = rest(RequestGate(), good({"list": [{"execId": 5}, "?"]}))
    assert await api.recent_trades("WLDUSDT", 7) == ([], 2)


async def test_after_403_the_venue_is_left_alone_for_ten_minutes(autojump_clock: trio.testing.MockClock) -> None:
    api, asked = rest(RequestGate(), httpx.Response(403), good({"timeNano": "5"}))
    with pytest.raises(RetryableSourceError, match="403"):
        await api.server_time()
    await trio.sleep(599)
    with pytest.raises(RetryableSourceError, match=r"not asked for another 1 s, after HTTP 403"):
        await api.server_time()
    assert len(asked) == 1
    await trio.sleep(2)
    assert await api.server_time() == 5


async def test_after_429_the_venue_is_asked_again_when_it_says(autojump_clock: trio.testing.MockClock) -> None:
    api, asked = rest(RequestGate(), httpx.Response(429, headers={"Retry-After": "7"}), good({"timeNano": "5"}))
    with pytest.raises(RetryableSourceError, match="429"):
        await api.server_time()
    with pytest.raises(RetryableSourceError, match="not asked"):
        await api.server_time()
    await trio.sleep(7)
    assert await api.server_time() == 5
    assert len(asked) == 2


async def test_requests_are_spread_over_time(autojump_clock: trio.testing.MockClock) -> None:
    api, asked = rest(RequestGate(limit=3, window_s=5), *[good({"timeNano": "5"})] * 7)
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(7):
            nursery.start_soon(api.server_time)
    assert len(asked) == 7
    assert trio.current_time() - begun == pytest.approx(10)


async def test_a_symbol_that_cannot_be_fetched_leaves_the_others_repaired_and_the_gap_open(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Venue:
        async def recent_trades(self, symbol: str, receive_time: int) -> RecentTrades:
            if symbol == "OPUSDT":
                raise RetryableSourceError("GET …: HTTP 500")
            return RecentTrades(newest_first(1, 2, 3), 0)

    class Memory:
        known = {"t1"}

        def known_trades(self, topic: str, trade_ids: Sequence[str]) -> set[str]:
            return set(trade_ids) & self.known

        def add_trade(self, topic: str, trade_id: str, event_time: int) -> None:
            self.known = self.known | {trade_id}

    out: list[wld.Event] = []
    venue: Any = Venue()
    repairer = Repairer(
        Backfill(lambda: nullcontext(venue), RequestGate(), ReceiveClock(), out.extend, luck=lambda: 0.0)
    )
    gap = wld.Gap(4, wld.GapReason.DISCONNECT)
    last = {"publicTrade.OPUSDT": ("o1", 1), "publicTrade.WLDUSDT": ("t1", 1_001)}
    repairer.add([Hole(gap, last)], Memory())
    with trio.move_on_after(300):
        await repairer.run()
    *trades, repair = out
    assert [t.trade_id for t in trades if isinstance(t, Trade)] == ["t2", "t3"]
    assert isinstance(repair, wld.Repair)
    assert (repair.gap_id, repair.recovered, repair.remaining) == (4, 2, None)


async def test_a_gap_is_repaired_with_the_trades_it_cost(tmp_path: Path) -> None:
    async with recording(tmp_path, rate=40) as rig:
        await rig.until_connected()
        await rig.flow(40)
        before = list(rig.exchange.market.symbol("WLDUSDT").fills)
        rig.proxies[0].refuse(True)
        rig.proxies[0].reset_all()
        await rig.exchange_time(0.6)
        rig.proxies[0].restore()
        await rig.until_connected()
        await rig.until_event(wld.Repair)
        known = list(rig.exchange.market.symbol("WLDUSDT").fills)
    (gap,) = rig.gaps
    events = rig.events
    (repair,) = [e for e in events if isinstance(e, wld.Repair)]
    backfilled = [e for e in events if isinstance(e, wld.Trade) and e.is_backfilled]
    assert (repair.gap_id, repair.remaining, repair.recovered) == (gap.gap_id, 0, len(backfilled))
    assert backfilled
    assert events.index(repair) == events.index(backfilled[-1]) + 1
    assert [e.event_time for e in backfilled] == sorted(e.event_time for e in backfilled)
    assert all(e.receive_time == backfilled[0].receive_time > gap.receive_time for e in backfilled)
    recorded = [e.trade_id for e in events if isinstance(e, wld.Trade)]
    assert len(recorded) == len(set(recorded))
    assert {f.trade_id for f in known} - {f.trade_id for f in before} <= set(recorded)
    ticker = next(e for e in events[events.index(gap) :] if isinstance(e, wld.Ticker))
    assert ticker.open_interest is not None
    assert ticker.funding_rate is not None


async def test_tries_that_fail_grow_apart_however_well_the_connection_before_them_went(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "wld.bybit.source")
    waits: list[float] = []
    async with recording(tmp_path, backoff_initial=0.02, backoff_max=60.0) as rig:
        await rig.until_connected()
        await rig.flow(20)
        rig.proxies[0].refuse(True)
        rig.proxies[0].reset_all()
        while len(waits) < 5:
            await trio.sleep(0.01)
            waits = [r.args[1] for r in caplog.records if "reconnecting" in r.msg and isinstance(r.args, tuple)]
    assert waits == sorted(waits)  # each is drawn between half and all of a time that doubles
    assert waits[-1] >= 8 * 0.02
