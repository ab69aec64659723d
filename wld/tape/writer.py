"""Owns the recording: one folder's lock, the open journal, rotation on the hour. Blocking calls, one thread at a time."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain, islice, pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from msgspec import Struct

from wld.batch import Batch
from wld.book import OrderBook
from wld.errors import BookInvalid, TapeError
from wld.events import BookDelta, BookSnapshot, Event, Instrument
from wld.tape import layout, rows
from wld.tape.apart import seal_apart
from wld.tape.checkpoints import Books
from wld.tape.choices import Choices
from wld.tape.collector import Collector
from wld.tape.gathered import Gathered, gather
from wld.tape.lock import lock_folder
from wld.tape.recovery import Recovered, recover, set_aside
from wld.tape.retention import Keep, Removed, retain
from wld.tape.seal import BlockFile, Sealed, seal, sync_folder
from wld.tape.segment import JOURNAL_SUFFIX, RECOVERED_SUFFIX, SEALED_SUFFIX, Segment, sealed_twin
from wld.tape.table import Table, cut
from wld.units import SCALE

_MINUTE_NS = 60_000_000_000
BUFFER_EVENTS = 65_536
"""`append` flushes by itself beyond so many; a flush is also one group of blocks."""


class WriterSummary(Struct, frozen=True):
    """What a writer did."""

    events: int
    bytes: int
    """Stored in journals; sealed files are smaller."""
    files: tuple[str, ...]
    """Sealed files in order, then any journal left open."""


class TapeWriter:
    """Writes events to segments in a folder; use it as a context manager or call `close`.

    Guaranteed: what `flush` returned for survives a kill of the process, what `sync` returned for survives power
    loss. Segments change exactly where receive time enters a new `rotate_minutes` interval since the epoch. Ring
    numbers are kept where they rise, else continued from the last. `pause` is called between the pieces of a flush, so
    that a writer in a thread of its own can let others have the interpreter.

    Raises:
        TapeLocked: another writer holds the folder.
        TapeError: the folder cannot be written.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        *,
        source: str,
        clock: str = "live",
        rotate_minutes: int = 60,
        sync_interval_s: float = 5.0,
        depth: str = "delta",
        wld_version: str = "0.1.0",
        seal_at_rotation: bool = True,
        pause: Callable[[], None] | None = None,
    ) -> None:
        if depth not in ("delta", "snapshot"):
            raise TapeError(f'depth: expected "delta" or "snapshot", got "{depth}"')
        if rotate_minutes < 1:
            raise TapeError(f"rotate_minutes: expected at least 1, got {rotate_minutes}")
        self.data_dir = Path(data_dir)
        self.depth = depth
        self.events = 0
        self.bytes = 0
        self.files: list[str] = []
        self.notes: list[str] = []
        """What a person should hear of; whoever tells it empties the list."""
        self.pending: list[Path] = []
        """Finished journals that wait for `seal_pending`."""
        self._about = {"run": uuid.uuid4().hex, "source": source, "clock": clock, "wld": wld_version}
        self._interval = rotate_minutes * _MINUTE_NS
        self._sync_interval_s = sync_interval_s
        self._synced_at = time.monotonic()
        self._seal_at_rotation = seal_at_rotation
        self._pause = pause
        self._journal: BlockFile | None = None
        self._slot: int | None = None
        self._next_number = 0
        self._interrupted: object = None
        self._left: Iterator[Gathered] = iter(())
        """Of the batch that was interrupted."""
        self._buffer = Collector()
        self._instruments: dict[str, Instrument] = {}
        self._books: dict[tuple[str, int], OrderBook] = {}
        self._sealed_books: Books = {}
        self._choices = Choices()
        self._lock: int | None = lock_folder(self.data_dir)

    def recover(self) -> list[Recovered]:
        """Seal what an earlier recorder left open; call it before the first `append`."""
        return recover(self.data_dir, holds_lock=True)

    @property
    def last_time(self) -> int | None:
        """A receive time not long before the latest event's, ns: the start of the open interval; None before one."""
        return None if self._slot is None else self._slot * self._interval

    @property
    def path(self) -> Path | None:
        """The open journal."""
        return self._journal.path if self._journal else None

    def append(self, batch: Batch | Gathered | Iterable[Event]) -> None:
        """Take events into the buffer, rotating where receive time enters a new interval.

        Raises:
            TapeError: a flush or rotation on the way failed; the buffer is kept, and the same batch given again
                goes on where it stopped.
        """
        if isinstance(batch, Gathered):
            self._take(batch)
            return
        left = self._left if batch is self._interrupted else self._pieces(batch)
        self._interrupted, self._left = None, iter(())
        for piece in left:
            try:
                self._take(piece)
            except TapeError:
                self._interrupted, self._left = batch, chain((piece,), left)
                raise

    def _pieces(self, batch: Batch | Iterable[Event]) -> Iterator[Gathered]:
        """What is to be appended; each piece is numbered when the one before has been taken."""
        if isinstance(batch, Batch):
            yield gather(batch, self._next_number)
            return
        events = iter(batch)
        while some := tuple(islice(events, BUFFER_EVENTS)):
            yield gather(Batch(some), self._next_number)

    def _take(self, gathered: Gathered) -> None:
        if len(gathered) and not gathered.rest and self._open_segment_of(gathered):
            if self._buffer.count and self._buffer.count + len(gathered) > BUFFER_EVENTS:
                self.flush()  # where the disk refuses, the events stay with the caller
            self._buffer.take(gathered.collector)
            self._next_number = gathered.next_number
            return
        gathered.take_apart()
        while gathered.rest:
            number, event = gathered.rest[0]
            self._append_one(event, max(number, self._next_number))
            gathered.rest.popleft()
            self._flush_if_full()

    def _open_segment_of(self, gathered: Gathered) -> bool:
        """Open the one segment that takes all of it as it is; False where there is none."""
        if self.depth != "delta" or gathered.first_number < self._next_number:
            return False
        first, last = (t // self._interval for t in (gathered.first_receive_time, gathered.last_receive_time))
        if first == last and (self._slot is None or first > self._slot):
            self._rotate(first)
        if self._slot is None or last > self._slot:
            return False
        if self._journal is None:
            self._open_journal(gathered.first_receive_time)
        return True

    def _append_one(self, event: Event, number: int) -> None:
        slot = event.receive_time // self._interval
        if self._slot is None or slot > self._slot:
            self._rotate(slot)
        if self._journal is None:
            self._open_journal(event.receive_time)
        if self.depth == "snapshot" and isinstance(event, BookDelta | BookSnapshot):
            event = self._as_snapshot(event)
        self._next_number = self._buffer.add_rows((event,), number)

    def _flush_if_full(self) -> None:
        if self._buffer.count >= BUFFER_EVENTS:
            self.flush()

    def _as_snapshot(self, event: BookSnapshot | BookDelta) -> BookSnapshot | BookDelta:
        book = self._books.setdefault((event.symbol, event.depth), OrderBook(event.symbol))
        try:
            book.apply(event)
        except BookInvalid:
            return event
        return BookSnapshot(
            event.symbol, tuple(book.bids(event.depth)), tuple(book.asks(event.depth)), event.update_id,
            event.sequence, event.event_time, event.sent_time, event.receive_time, event.depth,
        )  # fmt: skip

    def flush(self) -> None:
        """Hand everything buffered to the operating system; sync where `sync_interval_s` has passed.

        Raises:
            TapeError: the disk refused; nothing half-written stays and the buffer is kept for the next try.
        """
        if self._buffer.count:
            if self._journal is None:
                raise TapeError(f"{self.data_dir}: closed")
            for instrument in self._buffer.events_of(layout.INSTRUMENT):
                self._instruments[instrument.symbol] = instrument
            drafts = rows.encode_tables(self._in_pieces(self._buffer.tables()), pack=False)
            before = self._journal.end
            try:
                self._journal.put(drafts)
            except OSError as error:
                raise _failed(self._journal.path, error) from error
            self.bytes += self._journal.end - before
            self.events += self._buffer.count
            self._buffer.clear()
        if time.monotonic() - self._synced_at >= self._sync_interval_s:
            self.sync()

    def _in_pieces(self, tables: Iterator[Table]) -> Iterator[Table]:
        """Tables cut so that whatever blocks a kill leaves of a flush tell the truth.

        Blocks are written by first ring number. What follows a Gap begins behind it, so it is never there without the
        Gap; each Repair begins behind the trades that it speaks of.
        """
        gap = self._buffer.first_number_of(layout.GAP)
        for table in tables:
            if self._pause:
                self._pause()
            if table.kind == layout.REPAIR:
                cuts = list(range(1, len(table)))
            else:
                cuts = [] if gap is None else [int(np.searchsorted(table.numbers, gap))]
            for start, end in pairwise((0, *cuts, len(table))):
                if start < end:
                    yield cut(table, start, end)
            if self._pause:
                self._pause()

    def sync(self) -> None:
        """Put what was flushed onto the disk. Raises: TapeError."""
        self._synced_at = time.monotonic()
        if self._journal is not None:
            try:
                self._journal.sync()
            except OSError as error:
                raise _failed(self._journal.path, error) from error

    def tick(self, now_ns: int) -> None:
        """Rotate if the clock has entered a new interval with no event to say so. Raises: TapeError."""
        if self._slot is not None and now_ns // self._interval > self._slot:
            self._rotate(now_ns // self._interval)

    def _rotate(self, slot: int) -> None:
        self._finish_journal()
        self._slot = slot
        if self._seal_at_rotation:
            self.seal_pending()

    def _finish_journal(self) -> None:
        if self._journal is None:
            return
        self.flush()
        self.sync()
        self._journal.close()
        self.pending.append(self._journal.path)
        self._journal = None

    def seal_pending(self, *, apart: bool = False) -> None:
        """Seal finished journals; may run in another thread than `append`, and `apart` from this process, which then
        only waits. Raises: TapeError."""
        while self.pending:
            journal = self.pending[0]
            # A twin is there where the journal could not be deleted the last time.
            twin = sealed_twin(Segment(journal))
            how = seal_apart if apart else seal
            sealed = Sealed(twin, ()) if twin else how(journal, self._sealed_books, self._choices)
            if sealed.damages:
                kept = set_aside(journal)
                self.notes.append(
                    f"{kept}: {len(sealed.damages)} damaged places are not in {sealed.path}: {sealed.damages[0]}"
                )
            else:
                try:
                    journal.unlink()
                    sync_folder(self.data_dir)
                except OSError as error:
                    raise _failed(journal, error) from error
            self.files.append(str(sealed.path))
            self.pending.pop(0)

    def retain(self, keep: Keep, now_ns: int) -> list[Removed]:
        """Delete the oldest tapes of the folder beyond `keep`, never the open journal; see `wld.tape.retention`.

        May run in another thread than `append`. Raises: TapeError.
        """
        return retain(self.data_dir, keep, now_ns)

    def _open_journal(self, first_time: int) -> None:
        minute = datetime.fromtimestamp(layout.clamp(max(first_time, 0)) // _MINUTE_NS * 60, UTC)
        header: dict[str, Any] = {
            "format": layout.FORMAT_VERSION,
            "segment": uuid.uuid4().hex,
            **self._about,
            "scale": SCALE,
            "book_deltas": self.depth == "delta",
            "start_time": first_time,
        }
        for n in range(1, 10_000):
            base = f"market_data_{minute:%Y%m%d_%H%M}" + (f"_{n}" if n > 1 else "")
            path = self.data_dir / f"{base}{JOURNAL_SUFFIX}"
            if _is_taken(self.data_dir, base):
                continue
            metas = [
                layout.json_draft(layout.META, {"instrument": msgspec.to_builtins(i)}, symbol=i.symbol)
                for i in self._instruments.values()
            ]
            try:
                self._journal = BlockFile(path, header, metas, has_index=False)
                sync_folder(self.data_dir)
            except FileExistsError:
                continue
            except OSError as error:
                raise _failed(path, error) from error
            return
        raise TapeError(f"{self.data_dir}: no free name for {minute:%Y%m%d_%H%M}")

    def close(self, seal: bool = True) -> WriterSummary:
        """Flush, seal and release the folder; with `seal=False` the journal stays for the next start.

        Raises:
            TapeError: the journal could not be finished; the folder is released all the same.
        """
        try:
            self._finish_journal()
            if seal:
                self.seal_pending()
        finally:
            if self._journal is not None:
                self._journal.close()
                self._journal = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None
        left = [str(path) for path in self.pending]
        return WriterSummary(self.events, self.bytes, (*self.files, *left))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_taken(folder: Path, base: str) -> bool:
    return any(
        (folder / f"{base}{suffix}").exists()
        for suffix in (SEALED_SUFFIX, JOURNAL_SUFFIX, JOURNAL_SUFFIX + RECOVERED_SUFFIX)
    )


def _failed(path: Path, error: OSError) -> TapeError:
    return TapeError(f"{path}: cannot be written: {error.strerror or error}")
