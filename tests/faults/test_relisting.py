"""A symbol that leaves the venue and comes back: followed anew with all its topics, and the time between is a Gap."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import trio

import wld
from tests.faults.rig import Rig, recording
from tests.faults.rows import words
from tests.faults.table import Row, check

SYMBOL = "OPUSDT"
TOPICS = {f"{topic}.{SYMBOL}" for topic in ("orderbook.50", "publicTrade", "tickers", "allLiquidation")}


def heard(rig: Rig) -> list[set[str]]:
    """The symbol's topics that each connection is subscribed to."""
    return [TOPICS & set(client.session.topics) for client in rig.exchange.clients.values()]


async def relisted(rig: Rig, lines: int, *, at_once: bool) -> None:
    """Off the list until the recorder knows, on it again, and until all is heard again; `at_once`: before it knows."""
    rig.exchange.inject(f"delist:{SYMBOL}")
    if at_once:
        rig.exchange.inject(f"list:{SYMBOL}")
    with trio.fail_after(20):
        while not at_once and not any(line.protocol.rejected for g in rig.source._groups for line in g.lines):  # noqa: ASYNC110
            await trio.sleep(0.02)
    if not at_once:
        rig.exchange.inject(f"list:{SYMBOL}")
    with trio.fail_after(30):
        while heard(rig) != [TOPICS] * lines:  # noqa: ASYNC110
            await trio.sleep(0.05)
    await trio.sleep(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 2])
@pytest.mark.parametrize("at_once", [False, True])
async def test_a_symbol_comes_back(
    at_once: bool, lines: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wld.bybit.subscriptions.REFUSED_INITIAL_S", 0.5)
    caplog.set_level(logging.WARNING, "wld")
    # A market that rests for a sixth of it is asked, and what it sends meanwhile costs a Gap of its own: not this one.
    options: dict[str, Any] = {"connections": lines, "proxies": lines, "silence_timeout": 2.0}
    async with recording(tmp_path / "tapes", symbols=("WLDUSDT", SYMBOL), **options) as rig:
        await rig.until_connected(lines)
        await rig.flow(60)
        await relisted(rig, lines, at_once=at_once)
        await rig.flow(80)
    result = rig.balance()
    assert result.is_exact, str(result)
    assert rig.status == 0
    assert {g.symbol for g in rig.gaps} == {SYMBOL}
    assert {g.topic for g in rig.gaps} >= {"publicTrade", "allLiquidation", "orderbook.50"}
    back = max(g.receive_time for g in rig.gaps)
    assert any(isinstance(e, wld.Trade) and e.symbol == SYMBOL and e.receive_time > back for e in rig.events)
    happened = "one of two symbols delisted, and listed again " + ("at once" if at_once else "seconds later")
    name = ("two lines: " if lines > 1 else "") + "relisted" + (" at once" if at_once else "")
    tape = "Gaps of its topics, `rejected_topic` or `silence`; repaired as far as REST goes"
    first = words(caplog)[0].replace("orderbook.N", "tickers")  # whichever was silent first
    check(Row(name, happened, tape, (first,), result))
