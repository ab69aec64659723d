"""Owns the lake's loop: batches to columns each second, files at an interval, hours to one file; in a worker thread."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import trio
from msgspec import Meta, Struct

from wld import Batch, ConfigError, SinkContext, Subscription

if TYPE_CHECKING:
    from wld_parquet.lake import Lake

_log = logging.getLogger("wld.parquet")

Dataset = Literal["trades", "depth", "liquidations", "tickers", "gaps", "repairs", "instruments"]
DATASETS: tuple[Dataset, ...] = ("trades", "depth", "liquidations", "tickers", "gaps", "repairs", "instruments")
TAKE_INTERVAL_S = 1.0
TAKE_EVENTS = 20_000
WAITING_EVENTS = 50_000
"""What the sink holds as batches before it leaves them in the ring."""
MOST_ROWS = 8_000_000
"""Rows in memory while the disk refuses; beyond it the sink gives up and is started again."""
COMPACT_BUDGET_S = 0.3
"""Of each second, while hours wait to be made one file: batches are taken in between."""
LAST_COMPACT_BUDGET_S = 2.0
DRAIN_TIMEOUT_S = 30.0
HOUR_NS = 3_600_000_000_000

Seconds = Annotated[float, Meta(gt=0)]


class ParquetConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[sinks.parquet]`."""

    directory: str | None = None
    """None: `lake` in the run's data directory."""
    datasets: tuple[Literal["trades", "depth", "liquidations", "tickers", "gaps", "repairs", "instruments"], ...] = (
        DATASETS
    )
    """What is kept."""
    roll_interval: Seconds = 60.0
    """Seconds from event to file at most: what a kill of the process may cost the lake (not the tape)."""
    roll_rows: Annotated[int, Meta(ge=1_000)] = 1_000_000
    """Write before the interval ends once so many rows wait."""
    compact: bool = True
    """Make one file of each hour that is over."""
    numbers: Literal["decimal", "int64", "float"] = "decimal"
    """Prices and sizes as exact decimals, as 1e-8 integers, or as floats."""


class ParquetSink:
    """Keeps a lake beside the tape; the tape is the record, and `wld export` makes the same files of it."""

    def __init__(self, config: ParquetConfig, context: SinkContext) -> None:
        if not config.datasets:
            raise ConfigError(f"sinks.parquet.datasets: expected at least one of {', '.join(DATASETS)}")
        self._config = config
        self._context = context
        self._waiting: list[Batch] = []
        self._count = 0
        self._latest = 0
        self._enough = trio.Event()
        self._room = trio.Event()
        self._refused: str | None = None

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Write until the batches end, then what is left.

        Raises:
            ConfigError: the folder is another process's, or cannot be written.
            OSError: the disk refused for so long that too many rows wait.
        """
        lake = await trio.to_thread.run_sync(self._open)
        try:
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._work, lake)
                async for batch in batches:
                    self._waiting.append(batch)
                    self._count += len(batch)
                    if self._count >= TAKE_EVENTS:
                        self._enough.set()
                    while self._count >= WAITING_EVENTS:
                        # The disk is behind: what comes waits in the ring, whose bounded channel says what it loses.
                        self._room = trio.Event()
                        await self._room.wait()
                nursery.cancel_scope.cancel()
        finally:
            with trio.move_on_after(DRAIN_TIMEOUT_S, shield=True) as limit:
                await trio.to_thread.run_sync(self._finish, lake, self._waiting, abandon_on_cancel=True)
            if limit.cancelled_caught:
                _log.error(
                    "parquet: the disk did not finish in %g s; %d rows are lost", DRAIN_TIMEOUT_S, lake.rows_waiting
                )
        self._report(lake)

    def _open(self) -> Lake:
        from wld_parquet.lake import Lake  # the extra's library, which takes a while to load

        config = self._config
        folder = Path(config.directory) if config.directory else self._context.data_dir / "lake"
        return Lake(folder, config.datasets, config.numbers)

    async def _work(self, lake: Lake) -> None:
        """Runs until cancelled."""
        roll_at = trio.current_time() + self._config.roll_interval
        while True:
            with trio.move_on_after(TAKE_INTERVAL_S):
                await self._enough.wait()
            self._enough = trio.Event()
            is_due = trio.current_time() >= roll_at
            # Not abandoned on cancel: the lake belongs to one thread at a time.
            taken, self._waiting = self._waiting, []
            await trio.to_thread.run_sync(self._take, lake, taken, is_due, COMPACT_BUDGET_S)
            self._count -= sum(map(len, taken))
            self._room.set()
            if is_due:
                roll_at = trio.current_time() + self._config.roll_interval
            self._report(lake)

    def _take(self, lake: Lake, taken: list[Batch], is_due: bool, budget_s: float) -> None:
        if taken:
            lake.add(taken)
            self._latest = max(self._latest, taken[-1].last_receive_time)
        try:
            if is_due or lake.rows_waiting >= self._config.roll_rows:
                lake.roll()
            if self._config.compact:
                lake.compact(before=self._latest // HOUR_NS, budget_s=budget_s)
        except OSError as error:
            if lake.rows_waiting > MOST_ROWS:
                raise
            if self._refused is None:
                _log.error("parquet: %s cannot be written: %s; trying again", lake.folder, error.strerror or error)
            self._refused = str(error)
        else:
            if self._refused is not None:
                _log.warning("parquet: %s takes files again", lake.folder)
            self._refused = None

    def _finish(self, lake: Lake, taken: list[Batch]) -> None:
        try:
            self._take(lake, taken, True, LAST_COMPACT_BUDGET_S)
            if self._refused is not None and lake.rows_waiting:
                _log.error("parquet: %d rows are lost: %s", lake.rows_waiting, self._refused)
        finally:
            lake.close()

    def _report(self, lake: Lake) -> None:
        self._context.status(
            "parquet",
            {
                "rows": lake.rows,
                "files": lake.files,
                "bytes": lake.bytes,
                "waiting": lake.rows_waiting,
                "error": self._refused,
            },
        )
