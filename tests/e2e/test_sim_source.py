"""The exchange inside a run ends after what follows it."""

from __future__ import annotations

import logging

import pytest
import trio

from wld.bybit import auditor
from wld.config import SourceConfig
from wld.ring import Ring
from wld.sources import SimSource


async def test_the_exchange_still_answers_when_the_run_asks_for_its_last_trades(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(auditor, "TICK_S", 0.01)
    asked = []
    compare = auditor.Auditor._compare_enough
    monkeypatch.setattr(auditor.Auditor, "_compare_enough", lambda *args: asked.append(args[3]) or compare(*args))
    source = SimSource(SourceConfig(name="sim", sim_rate=50.0))
    with caplog.at_level(logging.WARNING):
        async with trio.open_nursery() as nursery:
            await nursery.start(source.run, Ring())
            with trio.fail_after(10):
                while source.figures()["messages"] < 20:  # noqa: ASYNC110 - a run has no event for it
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert asked
    assert not caplog.records


@pytest.mark.parametrize("turns", range(0, 60, 4))
async def test_a_run_that_ends_while_the_exchange_starts_ends(turns: int) -> None:
    source = SimSource(SourceConfig(name="sim"))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.run, Ring())
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
