"""What vanishes on a living connection: trades are told by REST, the rest by a pause across which a book lost messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import wld
from tests.faults.rig import Rig
from tests.faults.rows import Act, run
from tests.faults.stranger import Frame, Stranger
from wld.exchange import rest

TRADES = "publicTrade."


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of an audit, shortened as those of the rig are."""
    for name, seconds in {
        "SPACING_S": 0.5,
        "SIGN_WAIT_S": 0.6,
        "SIGN_AGAIN_S": 1.0,
        "SETTLE_S": 0.2,
        "KEEP_S": 0.2,
    }.items():
        monkeypatch.setattr(f"wld.bybit.auditor.{name}", seconds)
    monkeypatch.setattr("wld.bybit.auditor.YOUNG_NS", 500_000_000)


async def until_missed(rig: Rig, count: int = 1) -> None:
    """Until the audit has found so many trades."""
    with trio.fail_after(15):
        while rig.source._shared.auditor is None or rig.source._shared.auditor.missed < count:  # noqa: ASYNC110
            await trio.sleep(0.05)


def vanishing(count: int) -> tuple[Act, list[int]]:
    """So many messages of trades are never delivered, on any line; how many trades each held is noted."""
    gone: list[int] = []

    async def act(rig: Rig) -> None:
        texts: dict[str, None] = {}

        def change(frame: Frame) -> list[bytes]:
            if frame.is_of(TRADES) and (frame.text in texts or len(texts) < count):
                texts[frame.text] = None
                return []
            return [frame.raw]

        for proxy in rig.proxies:
            assert isinstance(proxy, Stranger)
            proxy.change = change
        with trio.fail_after(10):
            while len(texts) < count:  # noqa: ASYNC110
                await trio.sleep(0.02)
        await rig.exchange_time(0.3)
        gone.extend(text.count('"i":"') for text in texts)
        for proxy in rig.proxies:
            proxy.restore()
        await until_missed(rig, sum(gone))

    return act, gone


@pytest.mark.parametrize("lines", [1, 2])
async def test_a_trade_frame_vanishes(lines: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    act, gone = vanishing(1)
    name = "a trade frame vanishes" if lines == 1 else "two lines: a trade frame vanishes on both"
    rig = await run(
        name, "a message of trades is never delivered, on a connection that goes on", tmp_path, caplog, act,
        told_only=1, proxy=Stranger, audit=0.5, connections=lines,
    )  # fmt: skip
    (gap,) = rig.gaps
    assert (gap.reason, gap.topic, gap.missed) == (wld.GapReason.SILENCE, "publicTrade", gone[0])
    at = rig.events.index(gap)
    backfilled = rig.events[at + 1 : at + 1 + gone[0]]
    assert all(isinstance(event, wld.Trade) and event.is_backfilled for event in backfilled)
    repair = rig.events[at + 1 + gone[0]]
    assert isinstance(repair, wld.Repair)
    assert (repair.gap_id, repair.recovered, repair.remaining) == (gap.gap_id, gone[0], 0)
    trades = [event for event in rig.events if isinstance(event, wld.Trade) and not event.is_backfilled]
    first = backfilled[0]
    assert isinstance(first, wld.Trade)
    older = [t for t in trades if t.event_time < first.event_time]
    newer = [t for t in trades if t.event_time > first.event_time]
    assert gap.first_time is not None
    assert gap.last_time is not None
    # To the trade, where it is among the latest; else to what was looked up now and then.
    assert gap.first_time <= older[-1].receive_time
    assert gap.last_time >= newer[0].receive_time


def all_vanish(seconds: float, *lines: int) -> Act:
    """No frame of data is delivered for a while on some of the lines; all else, pongs too, is."""

    async def act(rig: Rig) -> None:
        for place in lines:
            proxy = rig.proxies[place]
            assert isinstance(proxy, Stranger)
            proxy.change = lambda frame: [] if frame.topic else [frame.raw]
        await rig.exchange_time(seconds)
        for proxy in rig.proxies:
            proxy.restore()

    return act


BEYOND = "no frame of data is delivered for 2.5 s, and pongs show that none is on its way"
MUTES: list[tuple[str, str, Act, int]] = [
    ("all frames vanish", "no frame of data is delivered for 3 s, a tenth as long as a topic may be silent", all_vanish(3, 0), 1),
    ("two lines: all frames vanish on one", "the same, on one of them", all_vanish(3, 0), 2),
    ("two lines: all frames vanish on both", "the same, on both", all_vanish(3, 0, 1), 2),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "happened", "act", "lines"), MUTES, ids=[row[0] for row in MUTES])
async def test_all_frames_vanish(
    name: str, happened: str, act: Act, lines: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await run(
        name, happened, tmp_path, caplog, act,
        told_only=1, proxy=Stranger, audit=0.5, silence_timeout=30.0, connections=lines, pong_timeout=5.0,
    )  # fmt: skip
    everything = [gap for gap in rig.gaps if gap.topic is None]
    assert len(everything) == (name != "two lines: all frames vanish on one")
    if everything:
        (gap,) = everything
        assert gap.first_time is not None
        assert gap.last_time is not None
        assert 2.5e9 < gap.last_time - gap.first_time < 4.5e9


Items = list[dict[str, Any]]


def lagging() -> Callable[[Items], Items]:
    """The list of trades as it was two seconds ago."""
    shown: list[tuple[float, Items]] = []

    def change(items: Items) -> Items:
        shown.append((trio.current_time(), items))
        old = [one for at, one in shown if at <= trio.current_time() - 2]
        return old[-1] if old else []

    return change


def others(items: Items) -> Items:
    """Trades that never were, at the times of those that were."""
    return [{**item, "execId": f"x{item['execId'][1:]}"} for item in items]


def lying() -> Callable[[Items], Items]:
    """By turns: other trades, the list upside down and twice, without times, of another symbol, and text."""
    answers: list[Callable[[Items], Any]] = [
        others,
        lambda items: [*reversed(items), *items],
        lambda items: [{**item, "time": ""} for item in items],
        lambda items: [{**item, "symbol": "OPUSDT"} for item in items],
        lambda items: "none",
    ]
    asked = [0]

    def change(items: Items) -> Any:
        asked[0] += 1
        return answers[asked[0] % len(answers)](items)

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "happened", "make"),
    [
        ("REST lags", "nothing is lost; the list of trades is that of two seconds ago", lagging),
        ("REST lies", "nothing is lost; lists of trades that never were, upside down, unreadable, or of others", lying),
    ],
)
async def test_what_rest_says_wrong_is_no_gap(
    name: str, happened: str, make: Callable[[], Callable[[Items], Items]], tmp_path: Path,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    change, asked = make(), [0]

    def list_trades(market: Any, query: Any, now_ms: int) -> dict[str, Any]:
        result = rest.trades_result(market, query, now_ms)
        asked[0] += 1
        return {**result, "list": change(result["list"])}

    monkeypatch.setitem(rest.ENDPOINTS, "/v5/market/recent-trade", list_trades)
    monkeypatch.setattr("wld.bybit.backoff.Backoff.next_delay", lambda self, luck: 0.1)

    async def act(rig: Rig) -> None:
        with trio.fail_after(15):
            while asked[0] < 8:  # noqa: ASYNC110
                await trio.sleep(0.1)

    rig = await run(name, happened, tmp_path, caplog, act, told_only=0, audit=0.5)
    assert rig.gaps == []


@pytest.mark.slow
async def test_in_a_longer_pause_of_two_lines_one_of_them_asks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await run(
        "two lines: both mute, shortly", BEYOND, tmp_path, caplog, all_vanish(2.5, 0, 1),
        told_only=0, proxy=Stranger, audit=0.5, silence_timeout=5.0, connections=2, pong_timeout=5.0,
    )  # fmt: skip
    told = {(gap.topic or "").partition(".")[0] for gap in rig.gaps}
    assert None in {gap.topic for gap in rig.gaps} or {"orderbook", "tickers", "publicTrade", "allLiquidation"} <= told
