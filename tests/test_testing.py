"""What a plugin author relies on in `wld.testing`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec import Struct

import wld
from wld import testing
from wld.service import Service, SinkEntry


class CountConfig(Struct, frozen=True, forbid_unknown_fields=True):
    step: int = 1


class Count:
    """Adds `step` per trade and says so."""

    def __init__(self, config: CountConfig, context: wld.SinkContext) -> None:
        self.config, self.context, self.total = config, context, 0
        self.batches: list[int] = []

    async def run(self, batches: wld.Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        async for batch in batches:
            self.batches.append(len(batch))
            self.total += self.config.step * len(batch.trades)
        self.context.status("count", {"total": self.total})


SPEC = wld.SinkSpec("count", CountConfig, Count)


def test_the_public_names() -> None:
    assert testing.__all__ == [
        "TIME", "ListSource", "SinkRun", "make_book_delta", "make_book_snapshot", "make_context", "make_gap",
        "make_instrument", "make_liquidation", "make_repair", "make_ticker", "make_trade", "run_sink",
    ]  # fmt: skip
    assert all(getattr(testing, name).__doc__ for name in testing.__all__)


def test_events_are_whole_and_take_decimal_texts() -> None:
    trade = testing.make_trade("BTCUSDT", price="0.29", size=5, aggressor_side="sell", is_rpi=True, time=7)
    assert (trade.symbol, trade.price, trade.size) == ("BTCUSDT", 29_000_000, 5)
    assert (trade.aggressor_side, trade.is_rpi, trade.receive_time) == (wld.AggressorSide.SELL, True, 7)
    assert testing.make_trade().trade_id != testing.make_trade().trade_id
    ticker = testing.make_ticker(mark_price="2.5", open_interest=None, delivery_time="2026-01-01T00:00:00Z")
    assert (ticker.mark_price, ticker.open_interest) == (250_000_000, None)


def test_a_made_delta_continues_a_made_snapshot() -> None:
    book = wld.OrderBook("WLDUSDT")
    book.apply(testing.make_book_snapshot())
    book.apply(testing.make_book_delta())
    assert book.bids()[0] == (199_000_000, 120 * wld.SCALE)


def test_every_kind_can_be_made_and_put_on_a_tape(tmp_path: Path) -> None:
    events: list[wld.Event] = [
        testing.make_trade(), testing.make_book_snapshot(), testing.make_book_delta(), testing.make_liquidation(),
        testing.make_ticker(), testing.make_gap("overrun", missed=3), testing.make_repair(), testing.make_instrument(),
    ]  # fmt: skip
    with wld.TapeWriter(tmp_path, source="test", clock="recorded") as writer:
        writer.append(events)
    assert list(wld.open_tape(tmp_path)) == events


def test_a_sink_runs_from_a_plain_function() -> None:
    run = testing.run_sink(SPEC, [testing.make_trade(), testing.make_gap(), testing.make_trade()], {"step": 5})
    assert isinstance(run.sink, Count)
    assert run.sink.total == 10
    assert run.status == {"total": 10}


async def test_a_sink_runs_in_an_async_test() -> None:
    run = await testing.run_sink(SPEC, [testing.make_trade()], CountConfig(step=2), source="here")
    assert isinstance(run.sink, Count)
    assert (run.sink.total, run.sink.context.source) == (2, "here")


def test_batches_may_be_given_as_they_are() -> None:
    trades = [testing.make_trade() for _ in range(5)]
    run = testing.run_sink(SPEC, [trades[:1], trades[1:]])
    assert isinstance(run.sink, Count)
    assert run.sink.batches == [1, 4]
    run = testing.run_sink(SPEC, trades, batch_size=2)
    assert isinstance(run.sink, Count)
    assert run.sink.batches == [2, 2, 1]


def test_a_wrong_key_is_told_as_in_a_real_run() -> None:
    with pytest.raises(wld.ConfigError, match=r'sinks\.count\.stpe: unknown key; did you mean "step"'):
        testing.run_sink(SPEC, [], {"stpe": 1})


def test_what_the_sink_raises_comes_out_as_it_is() -> None:
    class Broken:
        async def run(self, batches: wld.Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            task_status.started()
            async for _ in batches:
                raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        testing.run_sink(Broken(), [testing.make_trade()])


def test_a_sink_that_never_says_started_is_told_so() -> None:
    class Silent:
        async def run(self, batches: wld.Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            async for _ in batches:
                pass

    with pytest.raises(AssertionError, match="started"):
        testing.run_sink(Silent(), [testing.make_trade()])


async def test_a_sink_that_goes_on_after_its_batches_is_told_so(autojump_clock: Any) -> None:
    class Endless:
        async def run(self, batches: wld.Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            task_status.started()
            await trio.sleep_forever()

    with pytest.raises(AssertionError, match="must end"):
        await testing.run_sink(Endless(), [])


async def test_a_list_is_a_source() -> None:
    sink = Count(CountConfig(), testing.make_context())
    source = testing.ListSource([testing.make_trade() for _ in range(7)], batch_size=3)
    assert await Service(source, [SinkEntry("count", lambda: sink)]).run() == 0
    assert (sink.total, sink.batches) == (7, [3, 3, 1])
