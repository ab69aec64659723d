"""Owns the public way from batches to Parquet: the same columns, types and files as `wld export --format parquet`.

For sinks and notebooks. Needs the extra `parquet`; importing it without pyarrow is a ConfigError that names the extra.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld.batch import Batch
from wld.errors import TapeError
from wld.tape.collector import Collector
from wld.tape.export import parquet as arrow
from wld.tape.export.fields import DATASETS as _KINDS
from wld.tape.export.fields import fields_of, receive_times
from wld.tape.export.fields import file_name as file_name
from wld.tape.table import by_symbol

DATASETS: tuple[str, ...] = tuple(_KINDS)
"""`trades depth liquidations tickers gaps repairs instruments`."""
UNPARTITIONED = ("gaps", "repairs")
"""Datasets that keep `symbol` as a column, because it may be None: all of them."""
_NAMES = {kind: name for name, kind in _KINDS.items()}


class Frame(Struct):
    """The rows of one dataset and one symbol, in ring order."""

    dataset: str
    symbol: str
    """Empty in a dataset that keeps it as a column."""
    receive_times: npt.NDArray[np.int64]
    """Of each row, ns since the Unix epoch, this host."""
    table: Any
    """A pyarrow.Table: prices and sizes decimal(18, 8), times timestamp[ns, UTC], words as dictionaries."""


def frames_of(
    batches: Iterable[Batch], datasets: Iterable[str] = DATASETS, *, numbers: str = "decimal"
) -> Iterator[Frame]:
    """The events of some batches as Arrow tables.

    `numbers` is `decimal`, `int64` (1e-8) or `float`. A number that has no room in its decimal makes that frame's
    numbers floats: seventeen digits of it are right.
    """
    collector = Collector()
    for batch in batches:
        if batch.tables is not None:
            collector.add_columns(batch.tables, batch.first_number)
        else:
            collector.add_rows(batch, batch.first_number)
    wanted = frozenset(datasets)
    for part in collector.tables():
        dataset = _NAMES[part.kind]
        if dataset not in wanted or not len(part):
            continue
        for of_symbol in [part] if dataset in UNPARTITIONED else by_symbol(part):
            symbol = "" if dataset in UNPARTITIONED else of_symbol.symbols[0]
            fields = fields_of(of_symbol)
            try:
                table = arrow.to_arrow(fields, numbers, f"{symbol} {dataset}")
            except TapeError:
                table = arrow.to_arrow(fields, "float", f"{symbol} {dataset}")
            if symbol and "symbol" in table.column_names:
                table = table.drop_columns(["symbol"])
            yield Frame(dataset, symbol, receive_times(fields), table)


def write_table(table: Any, path: Path) -> None:
    """One file: delta encodings for integers, times and decimals, dictionaries for words, zstd."""
    arrow.write(table, path)
