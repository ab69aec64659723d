"""Owns reads kept together: the columns of several reads of the socket as one, for views that look only now and then.

What is looked at five times a second need not be told of each read: what a view does for each symbol and each look is
then done once for hundreds of messages. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from msgspec import Struct

from wld.batch import Batch
from wld.events import Event, Liquidation, Ticker
from wld.tables import Columns, Ints, Tables, liquidations_of

MOST = 8_192
"""Events kept at most: some two megabytes, which the views share, and some milliseconds of work when somebody looks. What
a symbol costs each time is then shared by many of its events: with 2,048 twenty symbols cost 0.9 us a message more."""
FEW = 200
"""Events in all below which they are sooner taken one by one than joined."""

Reading = Mapping[str, tuple[str, ...]]
"""The columns that are read of each kind in `wld.tables.Tables`, besides `number`, `symbol` and `receive_time`."""


class Joined(Struct, gc=False):
    """Several reads as one. Kinds as in `wld.tables.Tables`; each has `receive_time` as a column, and its `number`
    counts from the first read on.
    """

    symbols: tuple[str, ...]
    kinds: dict[str, Columns]
    tickers: list[tuple[int, Ticker]]
    """(number, ticker) of those that fit no column; of a symbol either all are here or none."""

    def present(self) -> dict[str, int]:
        """Symbols that came, in the order of their first event, and its receive time."""
        first: dict[str, tuple[int, int]] = {}

        def see(symbol: str, number: int, time: int) -> None:
            if symbol not in first or number < first[symbol][0]:
                first[symbol] = number, time

        for columns in self.kinds.values():
            symbol = columns["symbol"]
            rows = np.full(len(self.symbols), -1)
            rows[symbol[::-1]] = np.arange(len(symbol))[::-1]  # of several the last that is assigned stays: the first
            for i in np.flatnonzero(rows >= 0).tolist():
                see(self.symbols[i], int(columns["number"][rows[i]]), int(columns["receive_time"][rows[i]]))
        for number, ticker in self.tickers:
            see(ticker.symbol, number, ticker.receive_time)
        return {symbol: first[symbol][1] for symbol in sorted(first, key=first.__getitem__)}

    def liquidations(self) -> list[tuple[int, Liquidation]]:
        """(number, event) of each; they are few."""
        columns = self.kinds.get("liquidations")
        if columns is None:
            return []
        names = [self.symbols[i] for i in columns["symbol"].tolist()]
        events = liquidations_of(columns, names, columns["receive_time"].tolist())
        return list(zip(columns["number"].tolist(), events, strict=True))

    def last(self, columns: Columns, keep: Any = None) -> dict[int, int]:
        """The last row of each symbol, of those that `keep` says."""
        rows = np.arange(len(columns["symbol"])) if keep is None else np.flatnonzero(keep)
        places = np.full(len(self.symbols), -1)
        places[columns["symbol"][rows]] = rows
        here = np.flatnonzero(places >= 0)
        return dict(zip(here.tolist(), places[here].tolist(), strict=True))


class Reads:
    """Keeps batches that hold columns until `flush`, or until many wait; then gives them to `take` joined, or to `each`
    event by event where they are few. Any other batch goes to `each` at once, behind what was kept.
    """

    def __init__(self, reading: Reading, take: Callable[[Joined], None], each: Callable[[Event], None]) -> None:
        self._reading = reading
        self._take = take
        self._each = each
        self._kept: list[Batch] = []
        self._count = 0
        self._has_rows = False
        """Whether any ticker came as a row; then it is minded which did and which did not."""
        self._by_row: set[str] = set()
        self._by_column: set[str] = set()

    def add(self, batch: Batch) -> None:
        """Take a batch."""
        if batch.tables is not None:
            batch = Batch(batch.tables.narrow(), batch.first_number)
        tables = batch.tables
        by_row = None if tables is None else tables.row_tickers()
        if tables is None or by_row is None:
            self.flush()
            for event in batch:
                self._each(event)
            return
        kept = self._kept
        if kept and kept[-1].tables is not None and kept[-1].tables.symbols != tables.symbols:
            self.flush()
        if by_row or self._has_rows:
            self._mind_rows(tables, {ticker.symbol for _, ticker in by_row})
        self._kept.append(batch)
        self._count += tables.count
        if self._count >= MOST:
            self.flush()

    def _mind_rows(self, tables: Tables, by_row: set[str]) -> None:
        """Begin anew where a symbol would have tickers both as rows and in columns: their order could not be told."""
        columns = tables.tickers
        by_column = set() if columns is None else {tables.symbols[i] for i in set(columns["symbol"].tolist())}
        if not self._has_rows or by_row & self._by_column or by_column & self._by_row:
            self.flush()
            self._has_rows = True
        self._by_row |= by_row
        self._by_column |= by_column

    def flush(self) -> None:
        """Give on what is kept."""
        if not self._kept:
            return
        kept, self._kept = self._kept, []
        count, self._count = self._count, 0
        self._by_row, self._by_column = set(), set()
        if count < FEW:
            for batch in kept:
                for event in batch:
                    self._each(event)
        else:
            self._take(join([batch.tables for batch in kept if batch.tables is not None], self._reading))


def join(reads: list[Tables], reading: Reading) -> Joined:
    """Reads of one table of symbols as one."""
    starts = [0]
    for tables in reads:
        starts.append(starts[-1] + tables.count)
    kinds = {}
    for kind, names in reading.items():
        parts = [(i, columns) for i, tables in enumerate(reads) if (columns := getattr(tables, kind)) is not None]
        if not parts:
            continue
        sizes = [len(columns["symbol"]) for _, columns in parts]
        joined: Columns = {name: _together([columns[name] for _, columns in parts]) for name in ("symbol", *names)}
        joined["number"] = _together([columns["number"] for _, columns in parts]) + np.repeat(
            [starts[i] for i, _ in parts], sizes
        )
        joined["receive_time"] = np.repeat([reads[i].receive_time for i, _ in parts], sizes)
        kinds[kind] = joined
    rows = [
        (start + number, event)
        for (start, _), tables in zip(pairwise(starts), reads, strict=True)
        for number, event in tables.rows
        if isinstance(event, Ticker)
    ]
    return Joined(reads[-1].symbols, kinds, rows)


def _together(parts: list[Ints]) -> Ints:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
