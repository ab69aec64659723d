"""Owns the recorder's loop: collect batches, hand them to a worker thread each flush interval, seal at the end."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio
from msgspec import Struct

from wld import Batch, ConfigError, Gathered, SinkContext, Subscription, TapeError, TapeWriter, parse_keep

_log = logging.getLogger("wld.recorder")

FLUSH_EVENTS = 20_000
"""Flush before the interval ends once so many wait: some 50 MB of rows at the worst."""
WAITING_EVENTS = 50_000
"""What the recorder holds before it leaves batches in the ring."""
BREATH_S = 0.002
"""A pause between the pieces of a flush, in which the event loop has the interpreter for itself: a flush in one piece
delays what comes meanwhile by as long as it lasts."""
FEW_EVENTS = 500
"""Fewer are written in pieces of well under a millisecond: a pause, two wake-ups of a thread, costs more than it helps."""
CALM_EVENTS = 10_000
"""With more than so many to write, what counts is that they are written: no pauses."""
GATHER_S, GATHER_EVENTS = 0.05, 8
"""What comes within so long, or so much of it, is taken from the ring at once: a flush takes what is there anyway. More at
once would save little more and make what comes meanwhile wait: p99 at 5,000 a second."""
AT_ONCE = 512
"""Events taken without giving way to others; a batch more at most."""
DRAIN_TIMEOUT_S = 30.0
"""The last flush and sync after a cancellation; a disk slower than this leaves its journal for the next start."""
RETRY_S = 1.0
SEAL_RETRY_S = 60.0
SLOWEST_FLUSH_S = 3600.0


class RecorderConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[sinks.recorder]`; intervals in seconds."""

    directory: str | None = None
    """None: the run's data directory."""
    rotate_minutes: int = 60
    """A new segment begins at each multiple of so many minutes, UTC."""
    flush_interval: float = 1.0
    """At most so much is lost to a kill of the process."""
    sync_interval: float = 5.0
    """At most so much is lost to a power cut."""
    depth: str = "delta"
    """`delta` keeps what the venue sent; `snapshot` writes the full book on each update."""
    on_error: str = "stop"
    """When the disk refuses: `stop` the run with status 1, or `retry` until it takes again; at the end of a run, for
    `drain_timeout`."""
    keep: str | None = None
    """How much of the folder to keep, `30d` or `50GB`: older tapes are deleted, with a log line each. None: all."""


class Recorder:
    """Takes every batch to a `TapeWriter`; nothing on the event loop waits for the disk."""

    def __init__(self, config: RecorderConfig, context: SinkContext) -> None:
        for key, value, accepted in (
            ("depth", config.depth, ("delta", "snapshot")),
            ("on_error", config.on_error, ("stop", "retry")),
        ):
            if value not in accepted:
                raise ConfigError(f'sinks.recorder.{key}: expected one of {", ".join(accepted)}, got "{value}"')
        if config.rotate_minutes < 1:
            raise ConfigError(f"sinks.recorder.rotate_minutes: expected at least 1, got {config.rotate_minutes}")
        if not 0 < config.flush_interval <= SLOWEST_FLUSH_S:
            raise ConfigError(f"sinks.recorder.flush_interval: expected 0 to 3600 s, got {config.flush_interval}")
        if config.sync_interval < 0:
            raise ConfigError(f"sinks.recorder.sync_interval: expected 0 or more s, got {config.sync_interval}")
        try:
            self._keep = None if config.keep is None else parse_keep(config.keep)
        except ValueError as error:
            raise ConfigError(f"sinks.recorder.keep: {error}") from None
        self._config = config
        self._context = context
        self._waiting = Gathered()
        self._count = 0
        self._next_number = 0
        """Of the ring: what comes next has it."""
        self._unsafe_from: int | None = None
        """Of the ring: the first that is not known to have been written."""
        self._taken: list[Gathered] = []
        """What the worker thread works on; only that thread touches it while it runs."""
        self._enough = trio.Event()
        self._room = trio.Event()
        self._is_calm = True
        self._is_over = False
        self._refused: str | None = None
        self._seal_refused = False
        self._seal_again = 0.0
        """Trio's clock: a refused seal is not tried before."""
        self._retain_refused = False

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Record until the batches end, then seal.

        Raises:
            TapeError: the folder is held by another recorder or cannot be written, or the disk refused (with
                `on_error = "retry"`: until the sink was cancelled); what had been flushed stays readable.
        """
        writer = await trio.to_thread.run_sync(self._open)
        try:
            task_status.started()
            await self._consume(writer, batches)
            if self._config.on_error == "retry":
                await self._write_the_rest(writer)
        finally:
            while (batch := batches.take()) is not None:  # of a run that is cut short
                self._add(batch)
            # A disk that hangs must not hang the drain: the thread is left behind and the journal recovered later.
            with trio.move_on_after(DRAIN_TIMEOUT_S, shield=True) as limit:
                await trio.to_thread.run_sync(self._finish, writer, abandon_on_cancel=True)
            if limit.cancelled_caught:
                raise TapeError(
                    f"the disk did not finish in {DRAIN_TIMEOUT_S:g} s; the journal stays for the next start{self._loss()}"
                )
        self._report(writer)

    def _open(self) -> TapeWriter:
        config, context = self._config, self._context
        folder = Path(config.directory) if config.directory else context.data_dir
        if context.clock == "recorded" and _is_read_from(context.source, folder):
            raise ConfigError(
                f"sinks.recorder: {folder} is what is being replayed; choose another --data-dir, or its events are there twice"
            )
        writer = TapeWriter(
            folder,
            source=context.source,
            clock=context.clock,
            rotate_minutes=config.rotate_minutes,
            sync_interval_s=config.sync_interval,
            depth=config.depth,
            wld_version=context.wld_version,
            seal_at_rotation=False,
            pause=self._breathe,
        )
        try:
            for left in writer.recover():
                _log.warning("recovered %s: %d torn bytes, sealed as %s", left.journal, left.torn_bytes, left.sealed)
            self._retain(writer)
        except BaseException:
            writer.close(seal=False)
            raise
        return writer

    async def _consume(self, writer: TapeWriter, batches: Subscription) -> None:
        failure: list[TapeError] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_each_interval, writer, batches, nursery, failure)
            batches.let_gather(GATHER_S, GATHER_EVENTS)
            async for batch in batches:
                self._add(batch)
                self._take(batches)
                while self._count >= WAITING_EVENTS:
                    # The disk is behind: leave the rest to the ring, whose bounded channel says what it loses. Ends
                    # with the next write that succeeds, or with the nursery.
                    self._room = trio.Event()
                    await self._room.wait()
            nursery.cancel_scope.cancel()
        if failure:
            raise failure[0]

    def _add(self, batch: Batch) -> None:
        self._waiting.add(batch)
        self._count += len(batch)
        self._next_number = batch.first_number + len(batch)
        if self._unsafe_from is None:
            self._unsafe_from = batch.first_number
        if self._count >= FLUSH_EVENTS:
            self._enough.set()

    def _take(self, batches: Subscription) -> None:
        """What waits in the ring, as far as there is room."""
        most = min(WAITING_EVENTS, self._count + AT_ONCE)
        while self._count < most and (batch := batches.take()) is not None:
            self._add(batch)

    async def _write_each_interval(
        self, writer: TapeWriter, batches: Subscription, nursery: trio.Nursery, failure: list[TapeError]
    ) -> None:
        """Flush each interval, or sooner when enough waits; runs until cancelled."""
        async with trio.open_nursery() as sealing:
            while True:
                with trio.move_on_after(self._config.flush_interval):
                    await self._enough.wait()
                self._enough = trio.Event()
                self._take(batches)
                try:
                    await self._write(writer)
                except TapeError as error:
                    if self._config.on_error == "stop":
                        failure.append(error)
                        nursery.cancel_scope.cancel()
                        return
                    await self._wait_for_the_disk(writer, error)
                    continue
                self._note_written(writer)
                if writer.pending and not sealing.child_tasks and trio.current_time() >= self._seal_again:
                    sealing.start_soon(self._seal, writer)

    async def _wait_for_the_disk(self, writer: TapeWriter, error: TapeError) -> None:
        if self._refused is None:
            _log.error("%s; trying again each second", error)
        self._refused = str(error)
        self._report(writer)
        await trio.sleep(RETRY_S)

    def _note_written(self, writer: TapeWriter) -> None:
        if self._refused:
            _log.warning("the disk takes writes again")
        self._refused = None
        self._report(writer)

    async def _write_the_rest(self, writer: TapeWriter) -> None:
        """Write what is left when the batches have ended; no limit but the end of the drain, which cancels this."""
        while True:
            try:
                await self._write(writer)
            except TapeError as error:
                await self._wait_for_the_disk(writer, error)
            else:
                self._note_written(writer)
                return

    async def _write(self, writer: TapeWriter) -> None:
        self._hand_over()
        try:
            # Not abandoned on cancel: the writer belongs to one thread at a time.
            await trio.to_thread.run_sync(self._write_taken, writer)
        finally:
            self._count = sum(map(len, self._taken)) + len(self._waiting)
        self._room.set()

    def _hand_over(self) -> None:
        if len(self._waiting):
            self._taken.append(self._waiting)
            self._waiting = Gathered()

    def _breathe(self) -> None:
        if self._is_calm:
            with suppress(OSError):  # libfaketime's, at a step of the clock: no reason to end a recording
                time.sleep(BREATH_S)

    def _write_taken(self, writer: TapeWriter) -> None:
        self._is_calm = not self._is_over and FEW_EVENTS <= sum(map(len, self._taken)) <= CALM_EVENTS
        last = self._taken[-1].next_number - 1 if self._taken else None
        while self._taken:
            writer.append(self._taken[0])  # given again after an error it goes on where it stopped
            self._taken.pop(0)
        writer.flush()
        if last is not None:
            self._unsafe_from = last + 1
            self._context.stored("recorder", last)
        if self._context.clock == "live":
            writer.tick(time.time_ns())

    async def _seal(self, writer: TapeWriter) -> None:
        try:
            await trio.to_thread.run_sync(partial(writer.seal_pending, apart=True))
        except TapeError as error:
            # The journal is whole and stays. Sealing is work: not each second on a disk that stays full.
            if not self._seal_refused:
                _log.error("%s; trying again each %g s", error, SEAL_RETRY_S)
            self._seal_refused = True
            self._seal_again = trio.current_time() + SEAL_RETRY_S
        else:
            self._seal_refused = False
            while writer.notes:
                _log.error("%s", writer.notes.pop(0))
            await trio.to_thread.run_sync(self._retain, writer)

    def _retain(self, writer: TapeWriter) -> None:
        """Give up tapes beyond `keep`; a refusal is logged once and costs nothing else."""
        now = time.time_ns() if self._context.clock == "live" else writer.last_time
        if self._keep is None or now is None:
            return
        try:
            for gone in writer.retain(self._keep, now):
                _log.warning("deleted %s, %d bytes: %s", gone.path, gone.bytes, gone.reason)
            self._retain_refused = False
        except TapeError as error:
            if not self._retain_refused:
                _log.error("%s", error)
            self._retain_refused = True

    def _finish(self, writer: TapeWriter) -> None:
        self._is_over = True
        try:
            try:
                self._hand_over()
                self._write_taken(writer)
            finally:
                writer.close()
        except TapeError as error:
            raise TapeError(f"{error}{self._loss()}") from None
        self._retain(writer)

    def _loss(self) -> str:
        """What of all that came was not written, in words; nothing where all was."""
        lost = self._next_number - (self._unsafe_from or 0)
        return f"; the last {lost} events, or nearly as many, are not on the tape" if lost else ""

    def _report(self, writer: TapeWriter) -> None:
        self._context.status(
            "recorder",
            {
                "tape": str(writer.path) if writer.path else (writer.files[-1] if writer.files else None),
                "events": writer.events,
                "bytes": writer.bytes,
                "segments": len(writer.files),
                "waiting": self._count,
                "error": self._refused,
            },
        )


def _is_read_from(source: str, folder: Path) -> bool:
    """Whether a replayed source (paths with commas between) lies in the folder to record to."""
    target = folder.resolve()
    return any(target in (path, path.parent) for path in (Path(part.strip()).resolve() for part in source.split(",")))
