"""Owns the files of a lake: who may write, how a file appears, how an hour's small files become one. Blocking calls.

Guaranteed to readers: a file is whole from the moment it has its name, no row is ever there twice, and none that was
there goes away, except that a path listed before a compaction may be gone after it (list again).
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from wld import Batch, ConfigError
from wld.parquet import Frame, file_name, frames_of, write_table

HOUR_NS = 3_600_000_000_000
WORK_NAME = ".work"
"""Where files are made; no reader looks in here, and a start empties it."""
_LOCK_NAME = ".lock"
_EXCHANGE = 2
_AT_FDCWD = -100
_FILE = re.compile(r"(hour|part)-(\d{8}T\d{2})\b.*\.parquet")

Key = tuple[str, str, int]
"""(dataset, symbol as in its folder's name, hours since the Unix epoch)."""


class Lake:
    """One folder of datasets: `DATASET/symbol=S/day=D/….parquet`; the file's name says the hour of its rows.

    Raises:
        ConfigError: another process writes into the folder, or it cannot be made.
    """

    def __init__(self, folder: Path, datasets: tuple[str, ...], numbers: str) -> None:
        self.folder = folder
        self._datasets = datasets
        self._numbers = numbers
        self._work = folder / WORK_NAME
        self._waiting: dict[Key, list[Any]] = {}
        self._run = uuid.uuid4().hex[:8]
        self._written = 0
        self._open_hours: dict[tuple[str, str], set[int]] = {}
        """Hours of a dataset and symbol that have small files."""
        self.rows_waiting = 0
        self.rows = 0
        self.files = 0
        self.bytes = 0
        try:
            self._work.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigError(f"sinks.parquet.directory: {folder} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError(f"sinks.parquet.directory: another process writes into {folder}") from None
        for left in self._work.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        for dataset, symbol, hour in self._small_files():
            self._open_hours.setdefault((dataset, symbol), set()).add(hour)

    def close(self) -> None:
        """Let another process write."""
        os.close(self._lock)

    def add(self, batches: list[Batch]) -> None:
        """Take batches as columns; nothing is written yet."""
        for frame in frames_of(batches, self._datasets, numbers=self._numbers):
            for key, table in _by_hour(frame):
                self._waiting.setdefault(key, []).append(table)
                self.rows_waiting += table.num_rows
                self.rows += table.num_rows

    def roll(self) -> None:
        """Write what waits, one file a dataset, symbol and hour. Raises: OSError; what was not written still waits."""
        import pyarrow as pa

        for key in sorted(self._waiting):
            tables = self._waiting[key]
            dataset, symbol, hour = key
            table = pa.concat_tables(tables, promote_options="permissive")
            name = f"part-{_hour_name(hour)}-{self._run}-{self._written:08d}.parquet"
            folder = self._partition(dataset, symbol, hour)
            folder.mkdir(parents=True, exist_ok=True)
            made = self._work / name
            write_table(table, made)
            _sync(made)
            self.bytes += made.stat().st_size
            made.rename(folder / name)
            self._written += 1
            self.files += 1
            del self._waiting[key]
            self.rows_waiting -= table.num_rows
            self._open_hours.setdefault((dataset, symbol), set()).add(hour)

    def compact(self, *, before: int, budget_s: float = math.inf) -> int:
        """Make one file of each hour that ended before hour `before`, for `budget_s` at a time (the rest waits for the
        next call); returns how many files went. Raises: OSError.
        """
        until = time.monotonic() + budget_s
        gone = 0
        for (dataset, symbol), hours in self._open_hours.items():
            for hour in sorted(h for h in hours if h < before):
                if time.monotonic() >= until:
                    return gone
                gone += self._compact(dataset, symbol, hour)
                hours.discard(hour)
        return gone

    def _compact(self, dataset: str, symbol: str, hour: int) -> int:
        """A twin of the day's folder with that hour in one file takes its place in one step."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self._partition(dataset, symbol, hour)
        files = sorted(folder.glob("*.parquet"))
        small = [path for path in files if (match := _FILE.fullmatch(path.name)) and match[2] == _hour_name(hour)]
        if len(small) < 2:
            return 0
        tables = [pq.ParquetFile(path).read() for path in small]
        table = pa.concat_tables(tables, promote_options="permissive").sort_by("number")
        twin = self._work / f"day-{uuid.uuid4().hex}"
        twin.mkdir()
        for path in files:
            if path not in small:
                os.link(path, twin / path.name)
        made = twin / f"hour-{_hour_name(hour)}-{uuid.uuid4().hex[:8]}.parquet"
        write_table(table, made)
        _sync(made)
        _exchange(twin, folder)
        shutil.rmtree(twin)
        return len(small) - 1

    def _partition(self, dataset: str, symbol: str, hour: int) -> Path:
        folder = self.folder / dataset
        if symbol:
            folder /= f"symbol={symbol}"
        return folder / f"day={np.datetime64(hour // 24, 'D')}"

    def _small_files(self) -> Iterator[Key]:
        for path in self.folder.glob("*/**/part-*.parquet"):
            match = _FILE.fullmatch(path.name)
            if match and WORK_NAME not in path.parts:
                day, hour = match[2].split("T")
                days = int(np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}", "D").astype(int))
                dataset, *rest = path.relative_to(self.folder).parts
                yield dataset, rest[0].partition("=")[2] if len(rest) == 3 else "", days * 24 + int(hour)


def _by_hour(frame: Frame) -> Iterator[tuple[Key, Any]]:
    symbol = file_name(frame.symbol)
    hours = frame.receive_times // HOUR_NS
    edges = [0, *(np.flatnonzero(np.diff(hours)) + 1).tolist(), len(hours)]
    for start, end in pairwise(edges):
        yield (frame.dataset, symbol, int(hours[start])), frame.table.slice(start, end - start)


def _hour_name(hour: int) -> str:
    day = str(np.datetime64(hour // 24, "D")).replace("-", "")
    return f"{day}T{hour % 24:02d}"


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _exchange(made: Path, place: Path) -> None:
    """Let two folders change places in one step where the system can (Linux), in two quick ones where it cannot."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(_AT_FDCWD, os.fsencode(made), _AT_FDCWD, os.fsencode(place), _EXCHANGE) == 0:
            return
    old = made.with_name(f"{made.name}.old")
    place.rename(old)
    made.rename(place)
    old.rename(made)
