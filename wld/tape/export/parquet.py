"""Owns the Parquet export: `DATASET/symbol=…/day=…/part-….parquet`, exact numbers, delta encodings, zstd.

Opens in one line in DuckDB, polars and pandas; docs/howto-read-export.md shows each. Needs the extra `parquet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from wld.errors import ConfigError, TapeError
from wld.tape.export import Unit
from wld.tape.export.fields import DATASETS as KINDS
from wld.tape.export.fields import Field, Meaning, fields_of, file_name, receive_times
from wld.tape.table import Table
from wld.units import ABSENT, PLACES, SCALE

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    raise ConfigError("--format parquet needs pyarrow: pip install 'wld[parquet]'") from None

DATASETS = tuple(KINDS)
UNIT = "dataset"
ROW_GROUP = 1 << 19
"""Rows of one file: large enough to compress, small enough to hold while writing."""
MOST_ROWS = 1 << 21
"""Rows of all symbols together that wait for their files."""
DAY_NS = 86_400_000_000_000
_DIGITS = 18
"""What a decimal stored as a 64-bit integer may have; a price or size of 10 billion is beyond it."""
_LIMIT = 10**_DIGITS
_WIDE_DIGITS = 38


class Writer:
    """Buffers each symbol's day and writes a file of its own for every full row group."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._waiting: dict[tuple[str, str, int], list[Any]] = {}
        self._rows: dict[tuple[str, str, int], int] = {}
        self._files = 0

    def add(self, dataset: str, symbol: str, part: Table) -> int:
        """Take one symbol's table."""
        fields = fields_of(part)
        frame = to_arrow(fields, self._unit.numbers, f"{symbol} {dataset}")
        days = receive_times(fields) // DAY_NS
        edges = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
        for start, end in pairwise(edges):
            key = (dataset, symbol, int(days[start]))
            self._waiting.setdefault(key, []).append(frame.slice(start, end - start))
            self._rows[key] = self._rows.get(key, 0) + end - start
            if self._rows[key] >= ROW_GROUP:
                self._write(key)
        while sum(self._rows.values()) > MOST_ROWS:
            self._write(max(self._rows, key=self._rows.__getitem__))
        return len(days)

    def settled(self, number: int) -> None:
        """Order across datasets is of no concern here."""

    def close(self) -> None:
        """Write what waits."""
        for key in list(self._waiting):
            self._write(key)

    def _write(self, key: tuple[str, str, int]) -> None:
        dataset, symbol, day = key
        frame = pa.concat_tables(self._waiting.pop(key))
        del self._rows[key]
        folder = Path(self._unit.folder) / dataset
        if dataset not in ("gaps", "repairs"):  # theirs may be None: it stays a column
            folder /= f"symbol={file_name(symbol)}"
            if "symbol" in frame.column_names:
                frame = frame.drop_columns(["symbol"])
        folder /= f"day={np.datetime64(day, 'D')}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"part-{self._unit.place:06d}-{self._files:04d}.parquet"
        self._files += 1
        write(frame, path)


def write(frame: Any, path: Path) -> None:
    """One Parquet file: delta encodings for integers, times and decimals, dictionaries for words, zstd throughout."""
    delta: dict[str, str] = {}
    dictionary: list[str] = []
    for column in frame.schema:
        kind = column.type
        if (
            pa.types.is_int64(kind)
            or pa.types.is_timestamp(kind)
            or (pa.types.is_decimal(kind) and kind.precision <= _DIGITS)
        ):
            delta[column.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_floating(kind):
            delta[column.name] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_dictionary(kind) or pa.types.is_decimal(kind):
            dictionary.append(column.name)
    pq.write_table(
        frame,
        path,
        compression="zstd",
        compression_level=3,
        use_dictionary=dictionary or False,
        column_encoding=delta or None,
        row_group_size=ROW_GROUP,
        store_decimal_as_integer=True,
        version="2.6",
    )


def combine(folder: Path, units: Sequence[Unit]) -> None:
    """Nothing to join: every file is whole. A dataset without rows is an empty folder, which readers would refuse."""


def to_arrow(fields: Sequence[Field], numbers: str, what: str) -> Any:
    """Columns as an Arrow table; absent is null. Raises: TapeError where a number does not fit its type."""
    arrays = [_array(field, numbers, what) for field in fields]
    return pa.table(dict(zip([field.name for field in fields], arrays, strict=True)))


def _array(field: Field, numbers: str, what: str) -> Any:
    values, meaning = field.values, field.meaning
    if meaning is Meaning.TEXT:
        return pa.array(values, pa.string())
    if meaning is Meaning.WIDE or (meaning is Meaning.FIXED and numbers == "decimal"):
        wide = meaning is Meaning.WIDE
        if wide and numbers == "float":
            return _floats(values)
        return _decimals(values, _WIDE_DIGITS if wide else _DIGITS, f"{what} {field.name}")
    if meaning is Meaning.FIXED and numbers == "float":
        return _floats(values)
    if isinstance(values, list):
        try:
            values = np.array([ABSENT if value is None else value for value in values], np.int64)
        except OverflowError:
            raise TapeError(f"{what} {field.name}: a value does not fit 64 bits; export csv keeps it") from None
    mask = values == ABSENT
    if meaning is Meaning.FLAG:
        return pa.array(values == 1, pa.bool_(), mask=mask)
    if meaning is Meaning.WORD:
        codes = pa.array(np.where(mask, 0, values).astype(np.int8), pa.int8(), mask=mask)
        return pa.DictionaryArray.from_arrays(codes, pa.array(field.words, pa.string()))
    plain = pa.array(values, pa.int64(), mask=mask)
    return plain.view(pa.timestamp("ns", "UTC")) if meaning is Meaning.TIME else plain


def _floats(values: Any) -> Any:
    if isinstance(values, list):
        return pa.array([None if value is None else value / SCALE for value in values], pa.float64())
    return pa.array(values / SCALE, pa.float64(), mask=values == ABSENT)


def _decimals(values: Any, digits: int, what: str) -> Any:
    """1e-8 integers as decimals of 8 places, straight into 128-bit words where they are int64."""
    kind = pa.decimal128(digits, PLACES)
    if isinstance(values, list):
        limit = 10**digits
        if any(value is not None and abs(value) >= limit for value in values):
            raise _too_large(what, digits)
        return pa.array([None if value is None else Decimal(value).scaleb(-PLACES) for value in values], kind)
    mask = values == ABSENT
    if digits == _DIGITS and ((np.abs(values) >= _LIMIT) & ~mask).any():
        raise _too_large(what, digits)
    words = np.empty((len(values), 2), np.int64)
    words[:, 0] = np.where(mask, 0, values)
    words[:, 1] = words[:, 0] >> 63
    valid = None
    if mask.any():
        valid = pa.py_buffer(np.packbits(~mask, bitorder="little").tobytes())
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(words.tobytes())])


def _too_large(what: str, digits: int) -> TapeError:
    return TapeError(f"{what}: a number has more than {digits} digits at 1e-8; export with --numbers int64, or csv")
