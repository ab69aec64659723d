"""Owns the step from journal to sealed file: long packed blocks, index, footer, atomic rename without overwriting."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from wld import process
from wld.errors import TapeDamaged, TapeError
from wld.tape import layout, rows
from wld.tape.checkpoints import Books, advance, taken_over
from wld.tape.choices import Choices
from wld.tape.collector import Collector
from wld.tape.columns import Bytes
from wld.tape.layout import Block, Draft
from wld.tape.segment import JOURNAL_SUFFIX, RECOVERED_SUFFIX, SEALED_SUFFIX, Damage, Segment
from wld.tape.table import Numbered, Table, by_symbol, cut, to_events

GROUP_EVENTS = 262_144
GROUP_LEVELS = 4_194_304
"""What is held in memory while sealing, as columns. Of 500 symbols (2.5 million levels) that was 150 MB at its peak, some
60 bytes a level, so at most some 250 MB; a reader that merges kinds holds as much."""
LARGE = 64 << 20
"""Bytes of a table that are worth giving memory back for: what is given back has to be fetched again, page by page, and
for tables of 21 and 34 MB that was a sixth and an eighth of sealing them."""
WINDOW = 16_384
"""Ring numbers whose events a reader makes at a time."""


class _Cursor:
    """A table that is being read: rows below `at` are done."""

    def __init__(self, block: Block, whole: Table) -> None:
        self.block = block
        self.table = whole
        self.numbers = whole.numbers
        self.at = 0


def ordered(segment: Segment, blocks: Iterator[tuple[Block, bytes]]) -> Iterator[Numbered]:
    """The events of blocks in ring order: blocks stand by first ring number, so what lies before it is complete.

    Events are made a few thousand at a time, however long the blocks are. A block whose payload cannot be read is a
    damage of the segment and is stepped over.
    """
    active: list[_Cursor] = []
    for block, payload in in_order(segment, blocks):
        yield from _below(segment, active, block.first_number)
        try:
            active.append(_Cursor(block, rows.decode_table(block, payload)))
        except TapeDamaged as error:
            segment.damage(block.offset, block.end - block.offset, str(error))
    yield from _below(segment, active, None)


def in_order(segment: Segment, blocks: Iterator[tuple[Block, bytes]]) -> Iterator[tuple[Block, bytes]]:
    """Blocks by rising first ring number; one that steps back is not of this file, and a damage of the segment."""
    number: int | None = None
    for block, payload in blocks:
        if number is not None and block.first_number < number:
            segment.damage(block.offset, block.end - block.offset, OUT_OF_ORDER)
            continue
        number = block.first_number
        yield block, payload


OUT_OF_ORDER = "block out of ring order"


def _below(segment: Segment, active: list[_Cursor], limit: int | None) -> Iterator[Numbered]:
    """The events of tables below a ring number, by windows of it."""
    while active:
        start = min(int(cursor.numbers[cursor.at]) for cursor in active)
        if limit is not None and start >= limit:
            return
        end = start + WINDOW if limit is None else min(limit, start + WINDOW)
        window: list[Numbered] = []
        sources = 0
        for cursor in active:
            upto = cursor.at + int(np.searchsorted(cursor.numbers[cursor.at :], end))
            if upto > cursor.at:
                sources += 1
                try:
                    window += to_events(cut(cursor.table, cursor.at, upto))
                except TapeDamaged as error:
                    segment.damage(cursor.block.offset, cursor.block.end - cursor.block.offset, str(error))
                    upto = len(cursor.numbers)
                cursor.at = upto
        if sources > 1:
            window.sort(key=_number)
        yield from window
        active[:] = [cursor for cursor in active if cursor.at < len(cursor.numbers)]


def _number(item: Numbered) -> int:
    return item[0]


def is_event(block: Block) -> bool:
    """Whether the block holds events of the stream."""
    return block.kind in layout.EVENT_KINDS


class BlockFile:
    """A file being written block by block; knows its end and, where it `has_index`, what that will say."""

    def __init__(
        self, path: Path, header: dict[str, Any], metas: Sequence[Draft] = (), *, has_index: bool = True
    ) -> None:
        self.path = path
        self.end = 0
        self.checksum = 0
        """CRC-32 of all that was written."""
        self.written: list[Draft] = []
        self.offsets: list[int] = []
        self._has_index = has_index
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        self._fd = os.open(path, flags, 0o644)
        try:
            self._write([layout.FILE_START])
            self.put([layout.json_draft(layout.HEADER, header), *metas])
        except BaseException:
            os.close(self._fd)
            path.unlink(missing_ok=True)
            raise

    def put(self, drafts: list[Draft]) -> None:
        """Write blocks, all or none of them."""
        parts: list[Bytes] = []
        offsets: list[int] = []
        at = self.end
        for draft in drafts:
            offsets.append(at)
            head = layout.encode_header(draft, at)
            parts += (head, *draft.parts)
            at += len(head) + draft.length
        self._write(parts)
        if self._has_index:
            for draft in drafts:
                draft.parts = []
            self.written += drafts
            self.offsets += offsets

    def _write(self, parts: list[Bytes]) -> None:
        if not os.fstat(self._fd).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "it was deleted while it was written", str(self.path))
        at = self.end
        checksum = self.checksum
        if self._has_index:
            for part in parts:
                checksum = zlib.crc32(part, checksum)
        try:
            while parts:
                done = os.pwritev(self._fd, parts[:_PARTS_AT_ONCE], at)
                at += done
                parts = _after(parts, done)
        except OSError:
            # Half a block must not stay before the next try.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.end)
            raise
        self.end, self.checksum = at, checksum

    def finish(self) -> None:
        """Append the index and the footer."""
        index = layout.index_draft(self.written, self.offsets)
        offset = self.end
        self.put([index, Draft(layout.FOOTER, layout.ROWS, "", 0, [offset.to_bytes(8, "little")], 8)])

    def sync(self) -> None:
        """Everything written is on the disk."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file as it stands."""
        os.close(self._fd)


_PARTS_AT_ONCE = 1000
"""IOV_MAX is 1,024 on Linux and macOS."""


def _after(parts: list[Bytes], done: int) -> list[Bytes]:
    """What is left of the parts behind so many bytes."""
    for i, part in enumerate(parts):
        if done < len(part):
            return [memoryview(part)[done:], *parts[i + 1 :]]
        done -= len(part)
    return []


def sync_folder(folder: Path) -> None:
    """Renames and new names in the folder are on the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Sealed(Struct, frozen=True):
    """What a journal became."""

    path: Path
    damages: tuple[Damage, ...]
    """Places of the journal that could not be read; what was there is not in the sealed file."""


def seal(journal: Path, books: Books | None = None, choices: Choices | None = None) -> Sealed:
    """Write the journal's events as a sealed file beside it; the journal stays.

    Every whole block is kept; torn bytes at its end are not. The sealed file is read back before it gets its name.
    Never overwrites: a taken name gets `_2`. `books` are those at the end of the run's segment before, and are carried
    on to the end of this one; `choices` likewise.

    Raises:
        TapeError: it cannot be read or written; then no sealed file is left.
    """
    segment = Segment(journal)
    carried: Books = {} if books is None else copy.deepcopy(books)
    folder = journal.parent
    base = journal.name.removesuffix(RECOVERED_SUFFIX).removesuffix(JOURNAL_SUFFIX).removesuffix(SEALED_SUFFIX)
    working = folder / f"{base}{SEALING_SUFFIX}"
    if working.is_dir():
        working = folder / f"{base}.{uuid.uuid4().hex}{SEALING_SUFFIX}"
    try:
        working.unlink(missing_ok=True)
        target = BlockFile(working, {**segment.header, "format": layout.FORMAT_VERSION})
        try:
            _copy(segment, target, carried, choices or Choices())
            target.finish()
            target.sync()
        finally:
            target.close()
        _read_back(target)
        sealed = _publish(working, folder, base)
        sync_folder(folder)
    except (OSError, TapeError) as error:
        with contextlib.suppress(OSError):
            working.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else error
        raise TapeError(f"{journal}: cannot be sealed: {reason}; the journal stays readable") from None
    if books is not None:
        books.clear()
        books.update(carried)
    return Sealed(sealed, tuple(segment.damages))


SEALING_SUFFIX = ".sealing"
_READ_BYTES = 1 << 20


def _read_back(target: BlockFile) -> None:
    """Raises: TapeError where the disk gives back anything else than was written."""
    checksum = 0
    with target.path.open("rb", buffering=0) as file:
        while piece := file.read(_READ_BYTES):
            checksum = zlib.crc32(piece, checksum)
        if file.tell() != target.end or checksum != target.checksum:
            raise TapeError("it reads back damaged")


def _copy(segment: Segment, target: BlockFile, books: Books, choices: Choices) -> None:
    metas = [
        Draft(block.kind, block.codec, block.symbol, block.count, [payload], block.raw_length)
        for block, payload in segment.blocks(lambda b: b.kind == layout.META)
    ]
    target.put(metas)
    keeps_deltas = bool(segment.header.get("book_deltas", True))
    window = Collector()
    levels = 0
    last_number = -1
    is_first = True
    for block, payload in in_order(segment, segment.blocks(is_event)):
        if (window.count >= GROUP_EVENTS or levels >= GROUP_LEVELS) and block.first_number > last_number:
            _put_window(target, window, books, keeps_deltas, is_first, choices)
            is_first = False
            levels = 0
        last_number = max(last_number, block.last_number)
        try:
            part = rows.decode_table(block, payload)
        except TapeDamaged as error:
            segment.damage(block.offset, block.end - block.offset, str(error))
            continue
        window.add_table(part)
        levels += len(part.columns.get("level_price", ()))
    _put_window(target, window, books, keeps_deltas, is_first, choices)


def _put_window(
    target: BlockFile, window: Collector, books: Books, keeps_deltas: bool, is_first: bool, choices: Choices
) -> None:
    """What is complete up to here: a block for each kind and symbol, and the checkpoints that are due."""
    drafts: list[Draft] = []
    if is_first and keeps_deltas and window.count:
        moving = {symbol for part in window.parts if part.kind == layout.BOOK for symbol in part.symbols}
        drafts += taken_over(books, min(int(part.numbers.min()) for part in window.parts), moving)
    for whole in window.drain():
        # A window's columns are there once, or twice while they are joined and sorted, and what that frees is no good
        # for the large pieces that follow.
        kind, is_large = whole.kind, _held(whole) >= LARGE
        if is_large:
            process.give_freed_back()
        parts = by_symbol(whole)
        del whole
        if is_large:
            process.give_freed_back()
        drafts += rows.pack_tables(parts, choices)
        if kind == layout.BOOK and keeps_deltas:
            drafts += advance(books, parts, is_start=is_first)
    drafts.sort(key=lambda draft: draft.first_number)
    if drafts:
        drafts[-1].flags |= layout.GROUP_END
    target.put(drafts)


def _held(table: Table) -> int:
    """Bytes of a table's arrays."""
    return sum(column.nbytes for column in table.columns.values() if not isinstance(column, list))


def _publish(working: Path, folder: Path, base: str) -> Path:
    """Give the file its name where that is free, else the next free number; `link` refuses to overwrite."""
    for n in range(1, 10_000):
        name = folder / f"{base}{SEALED_SUFFIX}" if n == 1 else folder / f"{_without_number(base)}_{n}{SEALED_SUFFIX}"
        try:
            os.link(working, name)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK) or name.exists():
                raise
            os.rename(working, name)  # a file system without hard links; the folder's lock is held
            return name
        working.unlink()
        return name
    raise FileExistsError(errno.EEXIST, "no free name", str(folder / base))


def _without_number(base: str) -> str:
    head, _, tail = base.rpartition("_")
    return head if len(tail) < 4 and tail.isdigit() and head.count("_") >= 2 else base
