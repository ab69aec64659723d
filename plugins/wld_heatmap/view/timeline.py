"""Owns a symbol's columns by the time they end, in the widths that are kept: seconds of the view's own, then the map's. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from wld_heatmap.column import Column
from wld_heatmap.history import HeatMap

SECOND = 1_000_000_000
SNAPSHOTS = 600
"""Seconds of one-second columns that are kept: what a fresh start shows before there are wider ones."""
_COVERED = 2_000


class Timeline:
    """Columns of one symbol by the time they end, in the widths that are kept."""

    def __init__(self) -> None:
        self.snapshots: dict[int, Column] = {}
        self.fine: dict[int, Column] = {}
        self.minutes: dict[int, Column] = {}
        self.fine_width = 10 * SECOND
        self._seen_fine = self._seen_minutes = 0
        self.first: int | None = None
        self.last_end = 0
        self._last_snapshot: Column | None = None

    def refresh(self, heatmap: HeatMap) -> None:
        """Take in columns that were closed since the last look."""
        self.fine_width = heatmap.config.column_seconds * SECOND
        self._seen_fine = self._take(heatmap.columns, self.fine, self.fine_width, self._seen_fine)
        self._seen_minutes = self._take(heatmap.minute_columns, self.minutes, 60 * SECOND, self._seen_minutes)
        if self.first is None or (heatmap.minute_columns and heatmap.minute_columns[0].start < self.first):
            starts = [c[0].start for c in (heatmap.columns, heatmap.minute_columns) if c]
            starts += [min(self.snapshots) - SECOND] if self.snapshots else []
            self.first = min(starts) if starts else None

    def _take(self, columns: Sequence[Column], into: dict[int, Column], width: int, seen: int) -> int:
        newest = seen
        for column in reversed(columns):
            if column.end <= seen:
                break
            newest = max(newest, column.end)
            # One column may cover time that the clock jumped over.
            covered = range(column.end, max(column.start, column.end - _COVERED * width), -width)
            for end in covered:
                into[end] = column
        self.last_end = max(self.last_end, newest)
        most = (columns.maxlen if hasattr(columns, "maxlen") else None) or 2_000
        for end in list(into)[: max(0, len(into) - most - _COVERED)]:
            del into[end]
        return newest

    def snap(self, heatmap: HeatMap, now: int) -> None:
        """Keep what the model believes this second."""
        end = now // SECOND * SECOND
        if end in self.snapshots:
            return
        column = heatmap.open_column(now)
        if column is None or column.mark_close is None:
            return
        before = self._last_snapshot.mark_close if self._last_snapshot is not None else None
        way = [column.mark_close, before if before is not None else column.mark_close]
        column = replace(
            column, start=end - SECOND, end=end, mark_open=way[1], mark_high=max(way), mark_low=min(way),
            has_gap=False,
        )  # fmt: skip
        self.snapshots[end] = self._last_snapshot = column
        if self.first is None:
            self.first = end - SECOND
        for old in list(self.snapshots)[: max(0, len(self.snapshots) - SNAPSHOTS)]:
            del self.snapshots[old]

    def between(self, start: int, end: int) -> list[Column]:
        """Columns that end within (start, end], newest first, of the finest width there is; at least one that covers
        the end if any does.
        """
        width = end - start
        if width < self.fine_width:
            found = [self.snapshots[t] for t in range(end, start, -SECOND) if t in self.snapshots]
            if found:
                return found
            covering = self.fine.get(-(-end // self.fine_width) * self.fine_width)
            if covering is None:
                covering = self.minutes.get(-(-end // (60 * SECOND)) * 60 * SECOND)
            return [covering] if covering is not None else []
        for kept, step in ((self.fine, self.fine_width), (self.minutes, 60 * SECOND)):
            if width < step:
                covering = kept.get(-(-end // step) * step)
                if covering is not None:
                    return [covering]
                continue
            found = [kept[t] for t in range(end // step * step, start, -step) if t in kept]
            if found:
                return found
        return []
