"""Owns what `wld inspect`, `verify` and `recover` print; finds nothing out itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from wld.events import KINDS, Gap
from wld.tape import recovery
from wld.tape.reader import TapeSummary, open_tape
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


def _print(table: Table, out: Out) -> None:
    text = StringIO()
    Console(file=text, width=_WIDTH).print(table)
    out(text.getvalue().rstrip())


def gap_line(gap: Gap) -> str:
    """One gap for a person: when, why, what, how much."""
    what = " ".join(part for part in (gap.topic, gap.symbol) if part) or "all topics"
    missed = "unknown count" if gap.missed is None else f"{gap.missed} missed"
    span = ""
    if gap.first_time is not None and gap.last_time is not None:
        span = f", {(gap.last_time - gap.first_time) / 1e9:.3f} s"
    return f"{_when(gap.receive_time)} {gap.reason.value}: {what}, {missed}{span}"


def inspect(paths: Sequence[str], *, as_json: bool, out: Out) -> int:
    """Print what tapes hold; status 0. Raises: TapeError, TapeDamaged."""
    summary = open_tape([Path(p) for p in paths]).summary()
    if as_json:
        out(json.dumps(msgspec.to_builtins(summary)))
        return 0
    _inspect_table(summary, out)
    return 0


def _inspect_table(summary: TapeSummary, out: Out) -> None:
    span = 0.0
    if summary.first_time is not None and summary.last_time is not None:
        span = (summary.last_time - summary.first_time) / 1e9
    for file in summary.files:
        out(f"{file.path}  {_size(file.bytes)}  {file.state}  {file.events} events")
    per_event = f", {summary.bytes / summary.events:.1f} bytes an event" if summary.events else ""
    out(f"{_when(summary.first_time)} to {_when(summary.last_time)} ({span:.1f} s){per_event}")
    kinds = [kind for kind in KINDS if summary.counts.get(kind)]
    table = Table("symbol", *kinds, "all", "a second")
    rows = sorted(summary.by_symbol.items())
    for symbol, counts in [*rows, ("all", summary.counts)]:
        total = sum(counts.values())
        rate = f"{total / span:.1f}" if span else "-"
        table.add_row(symbol or "(all)", *(str(counts.get(kind, 0)) for kind in kinds), str(total), rate)
    _print(table, out)
    _print_gaps(summary.gaps, out)


def _print_gaps(gaps: Sequence[Gap], out: Out) -> None:
    out(f"{len(gaps) or 'no'} gap{'' if len(gaps) == 1 else 's'}")
    for gap in gaps[:_MOST_GAPS]:
        out(f"  {gap_line(gap)}")
    if len(gaps) > _MOST_GAPS:
        out(f"  … and {len(gaps) - _MOST_GAPS} more (--json lists all)")


def verify(paths: Sequence[str], *, complete: bool, as_json: bool, out: Out) -> int:
    """Print whether tapes are intact; status 0, or 1 where damaged (with `complete`, where anything is missing)."""
    report = check([Path(p) for p in paths])
    status = 0 if (report.is_complete if complete else report.is_intact) else 1
    if as_json:
        body = msgspec.to_builtins(report)
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
        out(f"not recorded: {_when(begin)} to {_when(end)} ({(end - begin) / 1e9:.3f} s between files)")
    for damage in report.damages:
        out(f"DAMAGED {damage}")
    _print_gaps(report.gaps, out)
    if report.repaired:
        out(f"{len(report.repaired)} repaired")
    verdict = "intact" if report.is_intact else f"damaged in {len(report.damages)} places"
    out(f"{verdict}; {'complete' if report.is_complete else 'not complete'}")


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
