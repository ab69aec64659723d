"""Owns exports: which part of which tape goes where, in units that may run anywhere.

Does not own the formats: each is a module of its name here with a `Writer` for one unit of work and a `combine` for
what has to be joined at the end. A unit is pure and picklable, so that another `map` may run them elsewhere.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from wld.config import expect_one_of, nearest
from wld.errors import ConfigError, TapeDamaged, TapeError
from wld.tape import table
from wld.tape.export.fields import DATASETS
from wld.tape.publish import partial_folder, publish
from wld.tape.reader import open_tape
from wld.tape.segment import Segment
from wld.tape.table import Table

FORMATS = ("parquet", "csv", "hftbacktest", "structs")
NUMBERS = ("decimal", "int64", "float")


class Unit(Struct, frozen=True):
    """One piece of work: some datasets of one segment, or of a whole tape where a format needs its order."""

    format: str
    paths: tuple[str, ...]
    place: int
    """Of the segment among all, for names that sort."""
    datasets: tuple[str, ...]
    symbols: tuple[str, ...] | None
    start: int | None
    end: int | None
    folder: str
    """Where to write: a folder of its own kind under the temporary one."""
    numbers: str
    bytes: int
    """Of the tapes to read, for progress."""


class UnitResult(Struct, frozen=True):
    """What a unit did."""

    rows: dict[str, int]
    """Dataset to rows written."""
    damages: tuple[str, ...]


class ExportSummary(Struct, frozen=True):
    """What an export wrote."""

    out: str
    format: str
    rows: dict[str, int]
    files: int
    bytes: int
    damages: tuple[str, ...]
    """Places of the tapes that could not be read; everything else is there."""


class Writer(Protocol):
    """Writes a unit's tables, one symbol each, in ring order within a dataset."""

    def add(self, dataset: str, symbol: str, part: Table) -> int:
        """Take a table; returns its rows."""
        ...

    def settled(self, number: int) -> None:
        """Everything before this ring number has been given."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


Progress = Callable[[int], object]


def export(
    paths: Sequence[str],
    out: str | os.PathLike[str],
    format: str,
    *,
    symbols: Iterable[str] | None = None,
    start: int | None = None,
    end: int | None = None,
    datasets: Sequence[str] | None = None,
    numbers: str = "decimal",
    map_units: Callable[[Callable[[Unit], UnitResult], list[Unit]], Iterable[UnitResult]] | None = None,
    progress: Progress = lambda _: None,
) -> ExportSummary:
    """Write tapes in another format into a new folder `out`, which appears whole or not at all.

    `start` and `end` bound receive times (ns, end excluded). `map_units` runs units elsewhere (as `map` would);
    `progress` is told the bytes of tape that are done.

    Raises:
        ConfigError: `out` exists, or the format's library is not installed (the error names the extra).
        TapeError: no tape, or the disk refused; nothing is left behind.
    """
    target = Path(out)
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target}: exists; an export never overwrites: choose another --out, or remove it")
    module = _format(format)
    chosen = tuple(datasets or module.DATASETS)
    for name in chosen:
        if name not in module.DATASETS:
            hint = nearest(name, module.DATASETS)
            raise ConfigError(f"--datasets: {format} has {', '.join(module.DATASETS)}; not {name}{hint}")
    wanted = None if symbols is None else tuple(symbols)
    if wanted is not None:
        there = open_tape([Path(path) for path in paths]).symbols
        missing = [symbol for symbol in wanted if symbol not in there]
        if missing:
            shown = ", ".join(there[:10]) + (", …" if len(there) > 10 else "")
            hint = nearest(missing[0], there)
            raise ConfigError(f"--symbols: {missing[0]} is not on the tape; there are: {shown}{hint}")
    with partial_folder(target) as folder:
        try:
            units = plan(paths, format, chosen, wanted, start, end, str(folder), numbers)
            if map_units is None:
                results = [run_unit(unit, progress) for unit in units]
            else:
                results = list(map_units(run_unit, units))
            module.combine(folder, units)
            if not any(count for result in results for count in result.rows.values()):
                raise TapeError(f"{', '.join(paths)}: nothing there to export")
            files, size = publish(folder, target)
        except OSError as error:
            raise TapeError(
                f"{target}: cannot be written: {error.strerror or error}; nothing was left there"
            ) from error
    rows: dict[str, int] = dict.fromkeys(chosen, 0)
    for result in results:
        for name, count in result.rows.items():
            rows[name] += count
    damages = tuple(dict.fromkeys(damage for result in results for damage in result.damages))
    return ExportSummary(str(target), format, rows, files, size, damages)


def plan(
    paths: Sequence[str],
    format: str,
    datasets: Sequence[str],
    symbols: Iterable[str] | None,
    start: int | None,
    end: int | None,
    folder: str,
    numbers: str,
) -> list[Unit]:
    """The units of an export, in the order of their segments. Raises: TapeError."""
    chosen = None if symbols is None else tuple(symbols)
    segments = open_tape([Path(path) for path in paths], chosen, start, end).segments
    together = _format(format).UNIT
    if together == "tape":
        size = sum(segment.size for segment in segments)
        files = tuple(str(segment.path) for segment in segments)
        return [Unit(format, files, 0, tuple(datasets), chosen, start, end, folder, numbers, size)]
    apart = [tuple(datasets)] if together == "segment" else [(name,) for name in datasets]
    return [
        Unit(format, (str(segment.path),), place, names, chosen, start, end, folder, numbers, segment.size)
        for place, segment in enumerate(segments)
        for names in apart
    ]


def work(format: str, segments: Sequence[Segment], datasets: Sequence[str] | None) -> int:
    """The bytes of tape that an export reads, as `progress` will be told."""
    module = _format(format)
    passes = len(datasets or module.DATASETS) if module.UNIT == "dataset" else 1
    return passes * sum(segment.size for segment in segments)


def run_unit(unit: Unit, progress: Progress = lambda _: None) -> UnitResult:
    """Write one unit; damaged blocks are noted and stepped over. Raises: OSError where the disk refuses."""
    module = _format(unit.format)
    if module.UNIT == "tape":
        result: UnitResult = module.run_unit(unit, progress)
        return result
    writer: Writer = module.Writer(unit)
    rows: dict[str, int] = dict.fromkeys(unit.datasets, 0)
    kinds = {DATASETS[name]: name for name in unit.datasets}
    damages: list[str] = []
    tape = open_tape(unit.paths[0], unit.symbols, unit.start, unit.end)
    (segment,) = tape.segments
    done = 0
    for block, part in tape._tables(segment, lambda block: block.kind in kinds):
        writer.settled(block.first_number)
        for of_symbol in table.by_symbol(part) if len(part) else ():
            try:
                rows[kinds[block.kind]] += writer.add(kinds[block.kind], of_symbol.symbols[0], of_symbol)
            except TapeDamaged as error:
                damages.append(f"{segment.path}: offset {block.offset}: {error}")
        length = block.end - block.offset
        done += length
        progress(length)
    writer.close()
    progress(max(segment.size - done, 0))
    return UnitResult(rows, (*map(str, segment.damages), *damages))


def _format(name: str) -> Any:
    expect_one_of("--format", name, FORMATS)
    return importlib.import_module(f"wld.tape.export.{name}")


def piece(unit: Unit, name: str) -> Path:
    """Where a unit writes its part of a file that `join_pieces` puts together."""
    folder = Path(unit.folder) / "pieces"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.{unit.place:06d}"


def join_pieces(folder: Path) -> None:
    """Every file from its pieces, in the order of their segments."""
    pieces = folder / "pieces"
    if not pieces.exists():
        return
    for path in sorted(pieces.iterdir()):
        final = folder / path.name.rpartition(".")[0]
        if not final.exists():
            os.rename(path, final)
            continue
        with path.open("rb") as source, final.open("ab") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        path.unlink()
    pieces.rmdir()
