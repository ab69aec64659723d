"""Owns `wld merge`: recordings of one feed by several recorders, made into one with each one's holes filled from the
others.

Does not own what is the same and what goes where (merger), nor which holes are left (holes).
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median_low

import msgspec

from wld.errors import ConfigError, TapeDamaged, TapeError
from wld.events import Event, Gap, Repair
from wld.tape import layout
from wld.tape.lock import LOCK_NAME
from wld.tape.merge.holes import FAR, Hole, Side, left_over
from wld.tape.merge.merger import Merger, MergeSummary
from wld.tape.merge.reading import venue_time
from wld.tape.publish import partial_folder, publish
from wld.tape.reader import open_tape
from wld.tape.seal import ordered
from wld.tape.segment import SHARD_FOLDERS, Segment
from wld.tape.writer import TapeWriter

_SAMPLE = 2_000
"""Events from which a run's clock is compared with the venue's."""
_BATCH = 10_000
_SHARDS = "shards"
_GAP_IDS = 1 << 40
"""Between the gap ids of two shards."""
Progress = Callable[[int], object]


class MergeResult(msgspec.Struct, frozen=True):
    """What a merge wrote."""

    out: str
    summary: MergeSummary
    bytes: int
    damages: tuple[str, ...]


class _Recording:
    """One recorder's tape: its segments by run, each run's clock against the venue's, and its holes."""

    def __init__(self, path: str, damages: list[str], progress: Progress) -> None:
        self._damages = damages
        self._progress = progress
        self.segments = open_tape(path).segments
        self.header = self.segments[0].header
        self._offsets: dict[str, int] = {}
        self._spans: dict[str, list[int]] = {}
        for segment in self.segments:
            self._measure(segment)
        self.side = self._side()

    def _measure(self, segment: Segment) -> None:
        """Which times a segment spans; its run's offset: receive time less the venue's."""
        run = _run_of(segment)
        times: list[int] = []

        def note(block: layout.Block) -> bool:
            if block.kind in layout.EVENT_KINDS:
                times.extend((block.first_time, block.last_time))
            return False

        for _ in segment.blocks(note):
            pass
        if not times:
            return
        span = self._spans.setdefault(run, [min(times), max(times)])
        span[0], span[1] = min(span[0], *times), max(span[1], *times)
        if run not in self._offsets:
            sample = [
                event.receive_time - sent
                for event in islice(_whole_events(segment, []), _SAMPLE)
                if (sent := venue_time(event)) is not None
            ]
            if sample:
                self._offsets[run] = median_low(sample)

    def _side(self) -> Side:
        gaps: list[Hole] = []
        keys: list[tuple[str, int]] = []
        closed: set[tuple[str, int]] = set()
        for run, event in self._in_order(_holes_of):
            offset = self._offsets.get(run, 0)
            if isinstance(event, Repair) and event.remaining == 0:
                closed.add((run, event.gap_id))
            elif isinstance(event, Gap):
                first = event.receive_time if event.first_time is None else event.first_time
                last = event.receive_time if event.last_time is None else event.last_time
                gaps.append(Hole(min(first, last) - offset, max(first, last) - offset, event, len(gaps)))
                keys.append((run, event.gap_id))
        pauses: list[Hole] = []
        before = -FAR
        for place, (run, (first, last)) in enumerate(self._spans.items()):
            offset = self._offsets.get(run, 0)
            if first - offset > before:
                pauses.append(Hole(before, first - offset, None, place))
            before = max(before, last - offset)
        pauses.append(Hole(before, FAR, None, len(self._spans)))
        # Only trades can be fetched: of a hole in all topics the rest stays one.
        is_closed = [
            key in closed and hole.gap is not None and hole.gap.topic is not None
            for key, hole in zip(keys, gaps, strict=True)
        ]
        return Side(gaps, is_closed, pauses)

    def events(self) -> Iterator[tuple[str, Event]]:
        """(run, event) in ring order."""

        def whole(segment: Segment) -> Iterator[Event]:
            yield from _whole_events(segment, self._damages)
            self._progress(segment.size)

        return self._in_order(whole)

    def _in_order(self, read: Callable[[Segment], Iterator[Event]]) -> Iterator[tuple[str, Event]]:
        """(run, event): segment after segment; of shards, what each holds by receive time, gap ids apart."""
        shards: dict[Path | None, list[Segment]] = {}
        for segment in self.segments:
            folder = segment.path.parent
            shards.setdefault(folder if folder.match(SHARD_FOLDERS) else None, []).append(segment)
        if list(shards) == [None]:
            for segment in self.segments:
                run = _run_of(segment)
                for event in read(segment):
                    yield run, event
            return
        streams = [_one_shard(n, segments, read) for n, segments in enumerate(shards.values())]
        for event in heapq.merge(*streams, key=lambda event: event.receive_time):
            yield _SHARDS, event


def _one_shard(n: int, segments: Sequence[Segment], read: Callable[[Segment], Iterator[Event]]) -> Iterator[Event]:
    for segment in segments:
        for event in read(segment):
            if isinstance(event, Gap | Repair):
                event = msgspec.structs.replace(event, gap_id=event.gap_id + n * _GAP_IDS)
            yield event


def _run_of(segment: Segment) -> str:
    if segment.path.parent.match(SHARD_FOLDERS):
        return _SHARDS  # workers start and end together; each has a run of its own
    return str(segment.header.get("run", segment.path))


def _holes_of(segment: Segment) -> Iterator[Event]:
    for _, event in ordered(segment, segment.blocks(lambda block: block.kind in (layout.GAP, layout.REPAIR))):
        yield event


def _whole_events(segment: Segment, damages: list[str]) -> Iterator[Event]:
    try:
        yield from open_tape(segment.path)
    except TapeDamaged as error:
        damages.append(str(error))


def merge(paths: Sequence[str], out: str | os.PathLike[str], progress: Progress = lambda _: None) -> MergeResult:
    """Merge two recordings or more into a new folder, which appears whole or not at all.

    Receive times are those of the recorder an event came from, raised where needed so that they never go back.

    Raises:
        ConfigError: fewer than two recordings, or `out` exists.
        TapeError: no tape, or the disk refused; nothing is left behind.
    """
    target = Path(out)
    if len(paths) < 2:
        raise ConfigError("merge: expected at least two recordings")
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target}: exists; a merge never overwrites: choose another --out, or remove it")
    damages: list[str] = []
    with partial_folder(target) as folder:
        try:
            first, total = paths[0], MergeSummary()
            for n, second in enumerate(paths[1:]):
                place = folder if n == len(paths) - 2 else folder / f"step-{n}"
                summary = _merge_two(first, second, place, damages, progress)
                total = _add(total, summary)
                first = str(place)
            for path in folder.glob("step-*"):
                for file in path.iterdir():
                    file.unlink()
                path.rmdir()
            (folder / LOCK_NAME).unlink(missing_ok=True)
            _, size = publish(folder, target)
        except OSError as error:
            raise TapeError(
                f"{target}: cannot be written: {error.strerror or error}; nothing was left there"
            ) from error
    return MergeResult(str(target), total, size, tuple(dict.fromkeys(damages)))


def _add(total: MergeSummary, summary: MergeSummary) -> MergeSummary:
    return MergeSummary(
        summary.events,
        (summary.filled[0], total.filled[1] + summary.filled[1]),
        summary.both,
        total.divergent + summary.divergent,
        total.gaps_closed + summary.gaps_closed,
        summary.gaps_left,
    )


def _merge_two(first: str, second: str, folder: Path, damages: list[str], progress: Progress) -> MergeSummary:
    a, b = (_Recording(path, damages, progress) for path in (first, second))
    merger = Merger(a.events(), b.events(), left_over(a.side, b.side))
    resumes = _resumptions(a.side, b.side)
    header = a.header
    writer = _writer(folder, header)
    try:
        batch: list[Event] = []
        latest: int | None = None
        for time, event in merger:
            if resumes and time >= resumes[0]:
                while resumes and time >= resumes[0]:
                    resumes.pop(0)
                if latest is not None:
                    writer.append(batch)
                    batch = []
                    writer.close()
                    writer = _writer(folder, header)  # another run: the time between is not recorded
            if latest is not None and event.receive_time < latest:
                event = msgspec.structs.replace(event, receive_time=latest)
            latest = event.receive_time
            batch.append(event)
            if len(batch) >= _BATCH:
                writer.append(batch)
                batch = []
        writer.append(batch)
    finally:
        writer.close()
    return merger.summary


def _writer(folder: Path, header: dict[str, object]) -> TapeWriter:
    return TapeWriter(
        folder,
        source=str(header.get("source", "merge")),
        clock=str(header.get("clock", "live")),
        sync_interval_s=3600.0,
    )


def _resumptions(a: Side, b: Side) -> list[int]:
    """The venue's times at which, after neither recorded, one of them does again."""
    found: list[int] = []
    for mine in a.pauses:
        for theirs in b.pauses:
            first, last = max(mine.first, theirs.first), min(mine.last, theirs.last)
            if -FAR < first < last < FAR:
                found.append(last)
    return sorted(found)
