"""Owns what plugin authors test with: events at hand, a source made of a list, and a way to run one sink on events.

Needs no network, no clock and no installed entry point; knows no sink. Works from a plain function, and in an async
test under pytest-trio:

    run = run_sink(wld_sink(), [make_trade(price="2.5"), make_trade(price="2.6")], {"threshold": 2})
    run = await run_sink(wld_sink(), [make_trade()])
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio
from msgspec import Struct

import wld
from wld.batch import Batch
from wld.config import convert
from wld.events import (
    AggressorSide,
    BookDelta,
    BookSnapshot,
    Event,
    Gap,
    GapReason,
    Instrument,
    Liquidation,
    PositionSide,
    Repair,
    Ticker,
    Trade,
)
from wld.hookspecs import Sink, SinkContext, SinkSpec
from wld.ring import Ring, RingStatistics
from wld.units import parse_fixed

__all__ = [
    "TIME",
    "ListSource",
    "SinkRun",
    "make_book_delta",
    "make_book_snapshot",
    "make_context",
    "make_gap",
    "make_instrument",
    "make_liquidation",
    "make_repair",
    "make_ticker",
    "make_trade",
    "run_sink",
]

TIME = 1_700_000_000_000_000_000
"""The default time of every event made here: ns since the Unix epoch, 2023-11-14 22:13:20 UTC."""
TIMEOUT_S = 10.0
"""A sink still running so long after its batches ended has not understood that they end."""

Number = int | str
"""A 1e-8 integer, or a decimal text: `250_000_000` and `"2.5"` are the same price."""
Levels = Iterable[tuple[Number, Number]]


def _fixed(value: Number) -> int:
    return parse_fixed(value) if isinstance(value, str) else value


def _levels(levels: Levels) -> tuple[tuple[int, int], ...]:
    return tuple((_fixed(price), _fixed(size)) for price, size in levels)


_trades_made = 0


def make_trade(
    symbol: str = "WLDUSDT",
    *,
    price: Number = "2",
    size: Number = "10",
    aggressor_side: AggressorSide | str = AggressorSide.BUY,
    time: int = TIME,
    trade_id: str | None = None,
    **fields: Any,
) -> Trade:
    """A trade. `time` (ns) sets all its times; any other field of `wld.Trade` is a keyword; ids are unique."""
    global _trades_made
    _trades_made += 1
    fields = {"event_time": time, "sent_time": time, "receive_time": time} | fields
    trade_id = trade_id or f"00000000-0000-4000-8000-{_trades_made:012x}"
    return Trade(symbol, _fixed(price), _fixed(size), AggressorSide(aggressor_side), trade_id, **fields)


def make_book_snapshot(
    symbol: str = "WLDUSDT",
    *,
    bids: Levels = (("1.99", "100"), ("1.98", "200")),
    asks: Levels = (("2.01", "100"), ("2.02", "200")),
    update_id: int = 1,
    time: int = TIME,
    **fields: Any,
) -> BookSnapshot:
    """A whole book; levels are (price, size), bids descending, asks ascending."""
    fields = {"event_time": time, "sent_time": time, "receive_time": time} | fields
    return BookSnapshot(symbol, _levels(bids), _levels(asks), update_id, **fields)


def make_book_delta(
    symbol: str = "WLDUSDT",
    *,
    bids: Levels = (("1.99", "120"),),
    asks: Levels = (),
    update_id: int = 2,
    time: int = TIME,
    **fields: Any,
) -> BookDelta:
    """Changed levels; size 0 removes one. `update_id` continues the snapshot of `make_book_snapshot()`."""
    fields = {"event_time": time, "sent_time": time, "receive_time": time} | fields
    return BookDelta(symbol, _levels(bids), _levels(asks), update_id, **fields)


def make_liquidation(
    symbol: str = "WLDUSDT",
    *,
    position_side: PositionSide | str = PositionSide.LONG,
    size: Number = "10",
    bankruptcy_price: Number = "1.9",
    time: int = TIME,
    **fields: Any,
) -> Liquidation:
    """A position closed by the venue; the side is the position's, not the order's."""
    fields = {"event_time": time, "sent_time": time, "receive_time": time} | fields
    return Liquidation(symbol, PositionSide(position_side), _fixed(size), _fixed(bankruptcy_price), **fields)


def make_ticker(symbol: str = "WLDUSDT", *, time: int = TIME, **fields: Any) -> Ticker:
    """A ticker with last, mark and index price 2 and an open interest; a field given as None is absent.

    Decimal texts are taken for every number except times, `sequence` and `funding_interval_hour`.
    """
    defaults: dict[str, Any] = {
        "last_price": "2", "mark_price": "2", "index_price": "2", "open_interest": "1000000", "funding_rate": "0.0001",
        "event_time": time, "sent_time": time, "receive_time": time,
    }  # fmt: skip
    texts = ("delivery_time", "pre_listing_phase")
    given: dict[str, Any] = {
        name: parse_fixed(value) if isinstance(value, str) and name not in texts else value
        for name, value in (defaults | fields).items()
    }
    return Ticker(symbol, **given)


def make_gap(
    reason: GapReason | str = GapReason.DISCONNECT, *, gap_id: int = 1, time: int = TIME, **fields: Any
) -> Gap:
    """A hole in the stream that ended at `time` and began a second before it."""
    fields = {"first_time": time - 1_000_000_000, "last_time": time, "receive_time": time} | fields
    return Gap(gap_id, GapReason(reason), **fields)


def make_repair(gap_id: int = 1, *, recovered: int = 1, time: int = TIME, **fields: Any) -> Repair:
    """What was brought back of an earlier gap."""
    return Repair(gap_id, recovered, **({"remaining": 0, "receive_time": time} | fields))


def make_instrument(
    symbol: str = "WLDUSDT", *, tick_size: Number = "0.0001", lot_size: Number = "0.1", time: int = TIME, **fields: Any
) -> Instrument:
    """What the venue says a symbol is."""
    fields = {"receive_time": time} | fields
    return Instrument(symbol, tick_size=_fixed(tick_size), lot_size=_fixed(lot_size), **fields)


class ListSource:
    """A source that publishes a list of events, `batch_size` at a time, waits for its sinks, and ends."""

    def __init__(self, events: Iterable[Event], *, batch_size: int = 100) -> None:
        self._events = list(events)
        self._batch_size = batch_size

    async def run(self, ring: Ring, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish everything, in order."""
        task_status.started()
        for i in range(0, len(self._events), self._batch_size):
            await ring.publish_wait(self._events[i : i + self._batch_size])


def make_context(data_dir: Path | str = ".", **fields: Any) -> SinkContext:
    """What the engine would hand to a sink; any field of `wld.SinkContext` is a keyword."""
    defaults: dict[str, Any] = {
        "symbols": None,
        "wld_version": wld.__version__,
        "source": "list",
        "clock": "recorded",
        "statistics": lambda: RingStatistics(0, ()),
        "status": lambda name, figures: None,
    }
    return SinkContext(data_dir=Path(data_dir), **(defaults | fields))


class SinkRun:
    """One run of a sink, finished; in async code it is finished once awaited."""

    sink: Sink
    """The sink itself, for a look at what it kept."""
    status: dict[str, Any]
    """The figures the sink reported last; empty without any."""

    def __init__(self, sink: Sink | SinkSpec, batches: list[list[Event]], config: Any, context: dict[str, Any]) -> None:
        self._made = sink
        self._batches = batches
        self._config = config
        self._context = context
        self.status = {}

    def __await__(self) -> Generator[Any, Any, SinkRun]:
        return self._run().__await__()

    async def _run(self) -> SinkRun:
        fields = dict(self._context)
        with tempfile.TemporaryDirectory() as folder:
            ring = Ring()
            fields.setdefault("data_dir", folder)
            fields.setdefault("statistics", ring.statistics)
            fields.setdefault("status", self._report)
            made = self._made
            self.sink = (
                made.create(self._settings(made), make_context(**fields)) if isinstance(made, SinkSpec) else made
            )
            subscription = ring.subscribe(getattr(made, "name", "sink"), capacity=1 << 40)
            with ring:
                for batch in self._batches:
                    ring.publish(batch)
            try:
                with trio.fail_after(TIMEOUT_S):
                    async with trio.open_nursery() as nursery:
                        try:
                            await nursery.start(self._consume, subscription)
                        except RuntimeError as error:
                            if "without calling" in str(error):
                                raise AssertionError("run() ended without calling task_status.started()") from None
                            raise
            except* trio.TooSlowError:
                raise AssertionError(
                    f"run() has not returned {TIMEOUT_S:g} s after its batches ended; the loop over them must end"
                ) from None
            except* Exception as group:
                _raise_alone(group)
        return self

    async def _consume(self, subscription: Any, *, task_status: trio.TaskStatus[None]) -> None:
        await self.sink.run(subscription, task_status=task_status)

    def _settings(self, spec: SinkSpec) -> Any:
        if isinstance(self._config, Struct):
            return self._config
        return convert(self._config or {}, spec.config_type, f"sinks.{spec.name}")

    def _report(self, name: str, figures: Mapping[str, Any]) -> None:
        self.status = dict(figures)


def _raise_alone(error: BaseException) -> None:
    """Raise the one error inside a group as itself, so that `pytest.raises` sees what the sink raised."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    raise error


def run_sink(
    sink: Sink | SinkSpec,
    events: Iterable[Event] | Sequence[Sequence[Event]],
    config: Mapping[str, Any] | Struct | None = None,
    *,
    batch_size: int = 100,
    **context: Any,
) -> SinkRun:
    """Run one sink on events to its end, as the engine would, and hand back the run.

    `sink` is a SinkSpec, made with `config` (its table as in wld.toml, checked as there), or a ready sink. `events`
    travel `batch_size` at a time; a list of lists is taken as the batches themselves. `context` are fields of
    `wld.SinkContext`, such as `data_dir=tmp_path`; without it the folder is a temporary one.

    Raises:
        ConfigError: `config` is not what the sink's `config_type` accepts.
        AssertionError: the sink breaks the contract: it never says `started()`, or goes on after its batches ended.
        Exception: whatever the sink raised.
    """
    items: list[Any] = list(events)
    if items and isinstance(items[0], list | tuple | Batch):
        batches = [list(batch) for batch in items]
    else:
        batches = [items[i : i + batch_size] for i in range(0, len(items), batch_size)]
    run = SinkRun(sink, batches, config, context)
    if not trio.lowlevel.in_trio_run():
        trio.run(run._run)
    return run
