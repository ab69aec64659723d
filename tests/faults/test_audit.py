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

TRADES = "publicTrade."
Endpoint = Callable[[Any, Any, int], dict[str, Any]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of an audit, shortened as those of the rig are."""
    for name, seconds in {"SPACING_S": 0.5, "SIGN_WAIT_S": 0.6, "SIGN_AGAIN_S": 1.0, "SETTLE_S": 0.2}.items():
        monkeypatch.setattr(f"wld.bybit.auditor.{name}", seconds)
    monkeypatch.setattr("wld.bybit.auditor.YOUNG_NS", 500_000_000)


async def until_missed(rig: Rig, count: int = 1) -> None:
    """Until the audit has found so many trades."""
    with trio.fail_after(15):
        while rig.source._auditor is None or rig.source._auditor.missed < count:  # noqa: ASYNC110
            await trio.sleep(0.05)


def trades_of(frame: Frame) -> int:
    return frame.text.count('"i":"')


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
    # To the trade, where it is among the latest; else to what was looked up each half second.
    assert 0 <= older[-1].receive_time - gap.first_time <= 10**9
    assert 0 <= gap.last_time - newer[0].receive_time <= 10**9
