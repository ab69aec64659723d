"""Owns the CSV export: `SYMBOL_DATASET.csv`, exact decimals as text, times as ns; absent is an empty cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wld.tape.export import Unit, join_pieces, piece
from wld.tape.export.fields import DATASETS as KINDS
from wld.tape.export.fields import Field, Meaning, fields_of, file_name
from wld.tape.table import Table
from wld.units import ABSENT, SCALE, format_fixed

DATASETS = tuple(KINDS)
UNIT = "dataset"


class Writer:
    """Appends each symbol's rows to its piece of the file."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._begun: set[str] = set()

    def add(self, dataset: str, symbol: str, part: Table) -> int:
        """Write one symbol's table."""
        fields = fields_of(part)
        name = f"{file_name(symbol) or 'all'}_{dataset}.csv"
        columns = [_texts(field, self._unit.numbers) for field in fields]
        text = "\n".join(map(",".join, zip(*columns, strict=True)))
        mode = "ab"
        if name not in self._begun:
            self._begun.add(name)
            mode = "wb"  # a unit may run twice: what a dead worker wrote is not kept
            text = ",".join(field.name for field in fields) + "\n" + text
        with piece(self._unit, name).open(mode) as file:  # not kept open: symbols may outnumber the handles
            file.write((text + "\n").encode())
        return len(columns[0])

    def settled(self, number: int) -> None:
        """Order across datasets is of no concern here."""

    def close(self) -> None:
        """Everything is written."""


def combine(folder: Path, units: Sequence[Unit]) -> None:
    """One file of all pieces, the head line once."""
    pieces = folder / "pieces"
    if pieces.exists():
        seen: set[str] = set()
        for path in sorted(pieces.iterdir()):
            name = path.name.rpartition(".")[0]
            if name in seen:
                _drop_first_line(path)
            seen.add(name)
    join_pieces(folder)


def _drop_first_line(path: Path) -> None:
    shorter = path.with_name(path.name + "-")
    with path.open("rb") as source, shorter.open("wb") as target:
        source.readline()
        while chunk := source.read(1 << 20):
            target.write(chunk)
    shorter.rename(path)


def _texts(field: Field, numbers: str) -> Any:
    values, meaning = field.values, field.meaning
    if meaning is Meaning.TEXT:
        return ["" if text is None else _quoted(text) for text in values]
    if meaning in (Meaning.FIXED, Meaning.WIDE) and numbers != "int64":
        convert = format_fixed if numbers == "decimal" else lambda value: repr(value / SCALE)
        return _converted(values, convert)
    if meaning is Meaning.WORD:
        return _converted(values, lambda code: field.words[code])
    if isinstance(values, list):
        return ["" if value is None else str(value) for value in values]
    if (values == ABSENT).any():
        return ["" if value == ABSENT else str(value) for value in values.tolist()]
    return list(map(str, values.tolist()))


def _converted(values: Any, convert: Any) -> list[str]:
    """Each distinct value is converted once."""
    if isinstance(values, list):
        return ["" if value is None else convert(value) for value in values]
    distinct, places = np.unique(values, return_inverse=True)
    texts = np.array(["" if value == ABSENT else convert(value) for value in distinct.tolist()], object)
    found: list[str] = texts[places].tolist()
    return found


def _quoted(text: str) -> str:
    if not any(letter in text for letter in ',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'
