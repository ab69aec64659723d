"""Owns the question whether tapes are intact and complete: every byte checked, every gap listed. Reads only."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from wld.errors import TapeDamaged, TapeError
from wld.events import Gap
from wld.tape import layout, rows, table
from wld.tape.layout import Block
from wld.tape.segment import Damage, Paths, Segment, find_segments
from wld.tape.verdict import Ledger, TopicVerdict


class FileReport(Struct, frozen=True):
    """One file."""

    path: str
    state: str
    """`sealed`; `open` for a journal; `torn` for a journal with bytes after its last whole block."""
    bytes: int
    events: int
    first_time: int | None
    last_time: int | None
    torn_bytes: int
    run: str
    """The same for all files that one recorder wrote."""


class VerifyReport(Struct, frozen=True):
    """What `verify` found."""

    files: tuple[FileReport, ...]
    damages: tuple[Damage, ...]
    gaps: tuple[Gap, ...]
    """Holes in the feed that no Repair closed."""
    repaired: tuple[Gap, ...]
    not_recorded: tuple[tuple[int, int], ...]
    """(last receive time before, first after) between files of different runs, ns."""
    topics: tuple[TopicVerdict, ...] = ()
    """The verdict per symbol and topic."""

    @property
    def is_intact(self) -> bool:
        """Whether every byte is as it was written."""
        return not self.damages

    @property
    def is_complete(self) -> bool:
        """Whether it is intact and no hole in the feed is left."""
        return self.is_intact and not self.gaps and all(topic.is_complete for topic in self.topics)


def verify(paths: Paths, progress: Callable[[int], object] = lambda _: None) -> VerifyReport:
    """Check every block of every file; `progress` is told the bytes of each that is done.

    Raises:
        TapeError: only where a path is no tape.
    """
    files: list[FileReport] = []
    damages: list[Damage] = []
    ledger = Ledger()
    for segment in find_segments(paths):
        files.append(_check(segment, ledger))
        damages += segment.damages
        progress(segment.size)
    return VerifyReport(
        tuple(files),
        tuple(damages),
        tuple(ledger.open_gaps()),
        tuple(ledger.repaired_gaps()),
        tuple(ledger.not_recorded()),
        tuple(ledger.verdicts()),
    )


def _check(segment: Segment, ledger: Ledger) -> FileReport:
    run = str(segment.header.get("run", segment.path))
    events = 0
    first: int | None = None
    last: int | None = None
    number = -1
    seen: list[Block] = []
    for block, payload in segment.blocks(lambda _: True, check_all=True):
        seen.append(block)
        if block.kind not in layout.EVENT_KINDS:
            continue
        try:
            part = rows.decode_table(block, payload)
            table.to_events(part)
        except (TapeDamaged, TapeError) as error:
            segment.damage(block.offset, block.end - block.offset, str(error))
            continue
        if block.first_number < number:
            segment.damage(block.offset, block.end - block.offset, "block out of ring order")
        number = block.first_number
        events += block.count
        first = block.first_time if first is None else min(first, block.first_time)
        last = block.last_time if last is None else max(last, block.last_time)
        ledger.see(part, run)
    if not segment.is_journal and not segment.damages:
        _check_index(segment, seen)
    torn = 0 if segment.torn_at is None else segment.size - segment.torn_at
    state = "sealed" if not segment.is_journal else "torn" if torn else "open"
    return FileReport(str(segment.path), state, segment.size, events, first, last, torn, run)


def _check_index(segment: Segment, seen: list[Block]) -> None:
    """Readers go by the index: one that does not say what stands there would hide events."""
    index = segment.index()
    listed = [block for block in seen if block.kind not in (layout.INDEX, layout.FOOTER)]
    if index is None or [block.indexed for block in index] != [block.indexed for block in listed]:
        segment.damage(0, segment.size, "the index is not of these blocks")
