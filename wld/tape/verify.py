"""Owns the question whether tapes are intact and complete: every byte checked, every gap listed. Reads only."""

from __future__ import annotations

from itertools import pairwise

from msgspec import Struct

from wld.errors import TapeDamaged, TapeError
from wld.events import Gap, Repair
from wld.tape import layout, rows
from wld.tape.segment import Damage, Paths, Segment, find_segments


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

    @property
    def is_intact(self) -> bool:
        """Whether every byte is as it was written."""
        return not self.damages

    @property
    def is_complete(self) -> bool:
        """Whether it is intact and no hole in the feed is left."""
        return self.is_intact and not self.gaps


def verify(paths: Paths) -> VerifyReport:
    """Check every block of every file. Raises: TapeError only where a path is no tape."""
    files: list[FileReport] = []
    damages: list[Damage] = []
    gaps: list[Gap] = []
    repairs: dict[int, Repair] = {}
    for segment in find_segments(paths):
        files.append(_check(segment, gaps, repairs))
        damages += segment.damages
    open_gaps = [g for g in gaps if g.gap_id not in repairs or repairs[g.gap_id].remaining != 0]
    between = [
        (before.last_time, after.first_time)
        for before, after in pairwise(files)
        if before.last_time is not None and after.first_time is not None and after.run != before.run
    ]
    return VerifyReport(
        tuple(files),
        tuple(damages),
        tuple(open_gaps),
        tuple(g for g in gaps if g not in open_gaps),
        tuple(between),
    )


def _check(segment: Segment, gaps: list[Gap], repairs: dict[int, Repair]) -> FileReport:
    events = 0
    first: int | None = None
    last: int | None = None
    number = -1
    for block, payload in segment.blocks(lambda _: True, check_all=True):
        if block.kind not in layout.EVENT_KINDS:
            continue
        try:
            numbered = rows.decode(block, payload)
        except (TapeDamaged, TapeError) as error:
            segment.damage(block.offset, block.end - block.offset, str(error))
            continue
        if block.first_number < number:
            segment.damage(block.offset, block.end - block.offset, "block out of ring order")
        number = block.first_number
        events += block.count
        first = block.first_time if first is None else min(first, block.first_time)
        last = block.last_time if last is None else max(last, block.last_time)
        for _, event in numbered:
            if isinstance(event, Gap):
                gaps.append(event)
            elif isinstance(event, Repair):
                repairs[event.gap_id] = event
    torn = 0 if segment.torn_at is None else segment.size - segment.torn_at
    state = "sealed" if not segment.is_journal else "torn" if torn else "open"
    return FileReport(
        str(segment.path), state, segment.size, events, first, last, torn, str(segment.header.get("run", ""))
    )
