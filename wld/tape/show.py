"""Owns what `wld inspect`, `verify` and `recover` print; finds nothing out itself."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from wld.config import expect_one_of
from wld.errors import ConfigError
from wld.events import KINDS, Gap
from wld.tape import export as exporting
from wld.tape import layout, recovery
from wld.tape import merge as merging
from wld.tape.progress import Bar, interruptible
from wld.tape.reader import TapeSummary, open_tape
from wld.tape.segment import Segment
from wld.tape.verdict import NOT_RECORDED, TopicVerdict
from wld.tape.verify import VerifyReport
from wld.tape.verify import verify as check

Out = Callable[[str], object]
_WIDTH = 110
_MOST_GAPS = 20


def _when(time_ns: int | None) -> str:
    if time_ns is None:
        return "-"
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{time_ns // 1_000_000 % 1000:03d}Z"


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def _print(table: Table, out: Out, width: int = _WIDTH) -> None:
    text = StringIO()
    Console(file=text, width=width, force_terminal=sys.stdout.isatty()).print(table)
    out("\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines()))


def gap_line(gap: Gap) -> str:
    """One gap for a person: when, why, what, how much."""
    what = " ".join(part for part in (gap.topic, gap.symbol) if part) or "all topics"
    missed = "unknown count" if gap.missed is None else f"{gap.missed} missed"
    span = ""
    if gap.first_time is not None and gap.last_time is not None:
        span = f", {(gap.last_time - gap.first_time) / 1e9:.3f} s"
    return f"{_when(gap.receive_time)} {gap.reason.value}: {what}, {missed}{span}"


def inspect(paths: Sequence[str], *, as_json: bool, out: Out) -> int:
    """Print what tapes hold, every byte checked; status 0, or 1 where something is damaged. Raises: TapeError."""
    tapes: list[str | os.PathLike[str]] = [Path(p) for p in paths]
    summary = open_tape(tapes).summary(raise_damaged=False)
    raw_bytes, torn_bytes = 0, 0
    damages: list[str] = []
    with Bar("inspect") as bar:
        segments = open_tape(tapes).segments
        bar.total(sum(segment.size for segment in segments))
        for segment in segments:
            raw_bytes += _check_bytes(segment)
            torn_bytes += 0 if segment.torn_at is None else segment.size - segment.torn_at
            damages += map(str, segment.damages)
            bar.advance(segment.size)
    if as_json:
        reasons = dict(Counter(gap.reason.value for gap in summary.gaps))
        per_event = summary.bytes / summary.events if summary.events else None
        body = {
            **msgspec.to_builtins(summary), "gap_reasons": reasons, "bytes_per_event": per_event,
            "raw_bytes": raw_bytes, "torn_bytes": torn_bytes, "damages": damages, "intact": not damages,
        }  # fmt: skip
        out(json.dumps(body))
    else:
        _inspect_text(summary, raw_bytes, torn_bytes, damages, out)
    return 1 if damages else 0


def _check_bytes(segment: Segment) -> int:
    """Check every byte of a file; returns what its events would take as plain columns."""
    raw = 0

    def note(block: layout.Block) -> bool:
        nonlocal raw
        if block.kind in layout.EVENT_KINDS:
            raw += block.raw_length
        return False

    for _ in segment.blocks(note, check_all=True):
        pass
    return raw


def _inspect_text(summary: TapeSummary, raw_bytes: int, torn_bytes: int, damages: Sequence[str], out: Out) -> None:
    span = 0.0
    if summary.first_time is not None and summary.last_time is not None:
        span = (summary.last_time - summary.first_time) / 1e9
    files = summary.files
    hidden = len(files) - 2 * _FEW_FILES
    for i, file in enumerate(files):
        if hidden <= 1 or i < _FEW_FILES or i >= len(files) - _FEW_FILES:
            out(f"{file.path}  {_size(file.bytes)}  {file.state}  {file.events:,} events")
        elif i == _FEW_FILES:
            out(f"… and {hidden} more files")
    out(f"{_when(summary.first_time)} to {_when(summary.last_time)} ({_length(span)})")
    rate = f", {summary.events / span:,.1f} a second" if span else ""
    out(f"{summary.events:,} events{rate}")
    if summary.events:
        share = f", {100 * summary.bytes / raw_bytes:.1f} % of plain columns" if raw_bytes else ""
        out(f"{_size(summary.bytes)}, {summary.bytes / summary.events:.1f} bytes an event{share}")
    header = summary.header
    if header:
        out(
            f"recorded by wld {header.get('wld', '?')} from {header.get('source', '?')}, {header.get('clock', '?')} clock"
        )
    _print_counts(summary, span, out)
    if summary.gaps:
        counts = Counter(gap.reason.value for gap in summary.gaps)
        out("gaps by reason: " + ", ".join(f"{count} {reason}" for reason, count in counts.most_common()))
        closed = {repair.gap_id for repair in summary.repairs if repair.remaining == 0}
        if closed:
            out(f"{len(closed)} of them repaired")
    _print_gaps(summary.gaps, out)
    if torn_bytes:
        out(f"{torn_bytes} bytes after the last whole block of an open file")
    for damage in damages:
        out(f"DAMAGED {damage}")
    places = f"damaged in {len(damages)} place{'s' * (len(damages) > 1)}"
    out("intact: every checksum is right" if not damages else f"{places}; what is whole is counted above")


_FEW_FILES = 3
_MOST_SYMBOLS = 30
_KINDS_BY_WEIGHT = ("trade", "book_delta", "ticker", "liquidation", "book_snapshot", "gap", "repair", "instrument")


def _print_counts(summary: TapeSummary, span: float, out: Out) -> None:
    """Events by symbol and kind; on a narrow terminal the least telling columns are left out, which is said."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
    symbols = sorted(summary.by_symbol.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    shown = [*symbols[:_MOST_SYMBOLS], ("all", summary.counts)] if len(symbols) > 1 else symbols
    kinds = [kind for kind in KINDS if summary.counts.get(kind)]
    left_out: list[str] = []
    while True:
        cells = [["symbol", *(kind.replace("_", " ") for kind in kinds), "all", "a second"]]
        for symbol, counts in shown:
            total = sum(counts.values())
            rate = f"{total / span:,.1f}" if span else "-"
            cells.append([symbol or "(none)", *(f"{counts.get(kind, 0):,}" for kind in kinds), f"{total:,}", rate])
        if not kinds or sum(max(map(len, column)) + 3 for column in zip(*cells, strict=True)) + 1 <= width:
            break
        least = max(kinds, key=_KINDS_BY_WEIGHT.index)
        kinds.remove(least)
        left_out.append(least.replace("_", " "))
    table = Table(box=box.ROUNDED if sys.stdout.isatty() else None, pad_edge=sys.stdout.isatty())
    for i, name in enumerate(cells[0]):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for row in cells[1:]:
        table.add_row(*row)
    _print(table, out, width)
    if len(symbols) > _MOST_SYMBOLS:
        out(f"… and {len(symbols) - _MOST_SYMBOLS} more symbols (--json lists all)")
    if left_out:
        out(f"left out for width: {', '.join(left_out)} (--json has all)")


def _length(seconds: float) -> str:
    """A duration for a person: `19.9 s`, `2 h 03 min`, `5 d 07 h`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min {int(seconds % 60):02d} s"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24:02d} h"


def _print_gaps(gaps: Sequence[Gap], out: Out) -> None:
    out(f"{len(gaps) or 'no'} gap{'' if len(gaps) == 1 else 's'}")
    for gap in gaps[:_MOST_GAPS]:
        out(f"  {gap_line(gap)}")
    if len(gaps) > _MOST_GAPS:
        out(f"  … and {len(gaps) - _MOST_GAPS} more (--json lists all)")


def verify(paths: Sequence[str], *, complete: bool, as_json: bool, out: Out) -> int:
    """Print whether tapes are intact; status 0, or 1 where damaged (with `complete`, where anything is missing)."""
    tapes: list[str | os.PathLike[str]] = [Path(p) for p in paths]
    with Bar("verify") as bar:
        bar.total(sum(segment.size for segment in open_tape(tapes).segments))
        report = check(tapes, bar.advance)
    status = 0 if (report.is_complete if complete else report.is_intact) else 1
    if as_json:
        body = msgspec.to_builtins(report)
        for topic, plain in zip(report.topics, body["topics"], strict=True):
            plain |= {"gaps": topic.gaps, "complete": topic.is_complete}
        out(json.dumps({**body, "intact": report.is_intact, "complete": report.is_complete}))
        return status
    _verify_text(report, out)
    return status


def _verify_text(report: VerifyReport, out: Out) -> None:
    for file in report.files:
        torn = f", {file.torn_bytes} bytes after the last whole block" if file.torn_bytes else ""
        out(
            f"{file.path}  {file.state}  {_size(file.bytes)}  {file.events} events  "
            f"{_when(file.first_time)} to {_when(file.last_time)}{torn}"
        )
    for begin, end in report.not_recorded:
        out(f"not recorded: {_when(begin)} to {_when(end)} ({(end - begin) / 1e9:.3f} s between recordings)")
    for damage in report.damages:
        out(f"DAMAGED {damage}")
    _print_gaps(report.gaps, out)
    if report.repaired:
        out(f"{len(report.repaired)} repaired")
    print_verdicts(report.topics, out)
    verdict = "intact" if report.is_intact else f"damaged in {len(report.damages)} places"
    out(f"{verdict}; {'complete' if report.is_complete else 'not complete'}")


def print_verdicts(topics: Sequence[TopicVerdict], out: Out) -> None:
    """Per symbol and topic: complete from when to when, or the holes; a symbol without any takes two lines."""
    for symbol, found in groupby(topics, lambda topic: topic.symbol):
        of_symbol = list(found)
        first = of_symbol[0]
        span = f"from {_when(first.first_time)} to {_when(first.last_time)}"
        pauses = [hole for hole in first.holes if hole.reason == NOT_RECORDED]
        if pauses:
            lost = sum(hole.last_time - hole.first_time for hole in pauses) / 1e9
            times = f"{len(pauses)} time{'s' if len(pauses) > 1 else ''}"
            span += f", not recorded {times} in between ({lost:.3f} s)"
        if all(topic.is_complete for topic in of_symbol):
            out(f"{symbol}: complete {span}")
            out("  " + ", ".join(f"{topic.topic} {_events(topic)}" for topic in of_symbol) + "; no gaps")
            continue
        out(f"{symbol}: {span}")
        for topic in of_symbol:
            if topic.is_complete:
                out(f"  {topic.topic}: complete, {_events(topic)}, no gaps")
                continue
            gaps = f"{topic.gaps} gap{'s' if topic.gaps > 1 else ''}"
            out(
                f"  {topic.topic}: NOT COMPLETE, {_events(topic)}, {gaps}, {_percent(topic.covered)} of the time covered"
            )
            holes = [hole for hole in topic.holes if hole.reason != NOT_RECORDED]
            for hole in holes[:_MOST_GAPS]:
                missed = "unknown count" if hole.missed is None else f"{hole.missed} missed"
                length = (hole.last_time - hole.first_time) / 1e9
                out(f"    {_when(hole.first_time)} to {_when(hole.last_time)} ({length:.3f} s) {hole.reason}: {missed}")
            if len(holes) > _MOST_GAPS:
                out(f"    … and {len(holes) - _MOST_GAPS} more (--json lists all)")


def _events(topic: TopicVerdict) -> str:
    repaired = f" ({topic.repaired} gaps repaired)" if topic.repaired else ""
    return f"{topic.events:,} event{'' if topic.events == 1 else 's'}{repaired}"


def _percent(share: float) -> str:
    """Rounded down, so that only what is whole reads 100 %."""
    return f"{math.floor(share * 1_000_000) / 10_000:.4f} %"


def recover(paths: Sequence[str], *, out: Out) -> int:
    """Seal left-over journals and say what became of them; status 0. Raises: TapeError."""
    for path in paths:
        done = recovery.recover(path)
        for one in done:
            torn = f", {one.torn_bytes} torn bytes left in the original" if one.torn_bytes else ""
            out(f"{one.sealed or 'nothing whole to seal'}{torn}; original kept as {one.journal}")
            for damage in one.damages:
                out(f"  damaged: {damage}")
        if not done:
            out(f"{path}: no journal left over")
    return 0


def export(
    paths: Sequence[str],
    format: str,
    out: str,
    *,
    as_json: bool,
    say: Out,
    symbols: str | None = None,
    start: str | None = None,
    end: str | None = None,
    datasets: str | None = None,
    numbers: str | None = None,
    map_units: Callable[..., Any] | None = None,
) -> int:
    """Export, with a progress bar on a terminal; status 0, or 1 where parts of the tapes were damaged.

    Raises:
        ConfigError: a wrong flag, an existing target, or a library that is not installed.
        TapeError: no tape, or the disk refused.
    """
    expect_one_of("--format", format, exporting.FORMATS)
    if numbers is not None:
        expect_one_of("--numbers", numbers, exporting.NUMBERS)
    begin, before = _moment("--start", start), _moment("--end", end)
    if begin is not None and before is not None and before <= begin:
        raise ConfigError(f"--end: expected a time after --start ({start}), got {end!r}")
    tapes: list[str | os.PathLike[str]] = [Path(path) for path in paths]
    with interruptible(out), Bar(f"export {format}") as bar:
        segments = open_tape(tapes).segments
        chosen = _names(datasets)
        bar.total(exporting.work(format, segments, chosen))
        summary = exporting.export(
            paths,
            out,
            format,
            symbols=_names(symbols),
            start=begin,
            end=before,
            datasets=chosen,
            numbers=numbers or "decimal",
            map_units=map_units,
            progress=bar.advance,
        )
    if as_json:
        say(json.dumps(msgspec.to_builtins(summary)))
    else:
        for damage in summary.damages:
            say(f"DAMAGED {damage}")
        counts = ", ".join(f"{count:,} {name}" for name, count in summary.rows.items() if count)
        say(f"{summary.out}: {counts}; {summary.files} file{'s' * (summary.files != 1)}, {_size(summary.bytes)}")
    return 1 if summary.damages else 0


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def _moment(flag: str, text: str | None) -> int | None:
    """ns since the epoch of an ISO 8601 text (UTC where it names no zone) or of digits. Raises: ConfigError."""
    if text is None:
        return None
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{flag}: expected such as 2026-11-24, 2026-11-24T07:30 or ns, got {text!r}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def merge(paths: Sequence[str], out: str, *, as_json: bool, say: Out) -> int:
    """Merge, with a progress bar on a terminal, and say what was filled and what is left; status 1 where a tape of
    them was damaged.

    Raises:
        ConfigError: fewer than two recordings, or an existing target.
        TapeError: no tape, or the disk refused.
    """
    with interruptible(out), Bar("merge") as bar:
        bar.total(sum(segment.size for path in paths for segment in open_tape(path).segments))
        result = merging.merge(paths, out, bar.advance)
    if as_json:
        say(json.dumps(msgspec.to_builtins(result)))
        return 1 if result.damages else 0
    for damage in result.damages:
        say(f"DAMAGED {damage}")
    summary = result.summary
    say(f"{result.out}: {summary.events:,} events, {_size(result.bytes)}; {summary.both:,} in both")
    say(f"only in the first {summary.filled[0]:,}, filled from the other{'s' * (len(paths) > 2)} {summary.filled[1]:,}")
    say(f"{summary.gaps_closed} gaps closed, {summary.gaps_left} left")
    if summary.divergent:
        say(f"WARNING {summary.divergent} book updates differ between the recordings; the first's were kept")
    say(f"wld verify {result.out} gives the verdict per symbol and topic")
    return 1 if result.damages else 0
