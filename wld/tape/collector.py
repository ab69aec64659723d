"""Owns how events become tables: gathered by kind with their ring numbers, or as the columns that reads hold. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

import numpy as np

from wld.batch import TICKER_NUMBERS
from wld.events import Event
from wld.tables import Tables
from wld.tape import layout
from wld.tape.flat import FLATS, Flat
from wld.tape.integers import Column, IntColumn
from wld.tape.table import KIND_OF, LEVEL_COLUMNS, RARE, Numbered, Table, concat, from_events, in_order, listed, put_ids
from wld.units import ABSENT

ROWS_AT_ONCE = 64
"""Events with numbers that do not fit that become columns at once: some 0.4 ms in which the event loop has to wait. One call
of numpy on all of a second's events would hold it up for 20."""

_Add = Callable[[int, Any], bool]


class Collector:
    """Sorts events by kind, with their ring numbers, until they become tables."""

    def __init__(self) -> None:
        self._flats: dict[type[Flat], Flat] = {}
        self._full: list[Flat] = []
        """Nothing more is added to them."""
        self._add: dict[type[Any], _Add] = {}
        self._rows: dict[int, tuple[list[int], list[Any]]] = {}
        """By kind what is rare, and what does not fit."""
        self._tables: list[Table] = []
        self._reads: list[tuple[Tables, int]] = []
        self._loose = 0
        self.count = 0

    def add_columns(self, read: Tables, number: int) -> int:
        """Take a read's columns, its events numbered from `number` on; the number after the last."""
        self._reads.append((read, number))
        if read.rows:
            self.add_numbered([(number + place, event) for place, event in read.rows])
        self.count += read.count - len(read.rows)
        return number + read.count

    def add_rows(self, events: Iterable[Event], number: int) -> int:
        """Take events with ring numbers from `number` on; the number after the last."""
        before = self.count
        self.add_numbered(enumerate(events, number))
        return number + self.count - before

    def _gather(self) -> None:
        self._loose = 0
        for kind, (numbers, events) in self._rows.items():
            if len(numbers) >= ROWS_AT_ONCE // 2 and kind not in RARE:
                self._tables.append(from_events(kind, numbers, events))
                numbers.clear()
                events.clear()

    def _start(self, kind: type[Any]) -> _Add:
        flat = FLATS.get(kind)
        if flat is None:
            self._add[kind] = add = self._add_loose
        else:
            self._add[kind] = add = self._flats.setdefault(flat, flat()).add
        return add

    def _add_loose(self, number: int, event: Any) -> bool:
        numbers, events = self._rows.setdefault(KIND_OF[type(event)], ([], []))
        numbers.append(number)
        events.append(event)
        self._loose += 1
        return True

    def take(self, other: Collector) -> None:
        """Take all that another one has, and leave it empty."""
        self._full += (*other._full, *other._flats.values())
        self._tables += other._tables
        self._reads += other._reads
        for kind, (numbers, events) in other._rows.items():
            own_numbers, own_events = self._rows.setdefault(kind, ([], []))
            own_numbers += numbers
            own_events += events
        self._loose += other._loose
        self.count += other.count
        other.clear()

    def add_numbered(self, numbered: Iterable[Numbered]) -> None:
        """Take events with their numbers."""
        adds = self._add
        taken = 0
        for number, event in numbered:
            try:
                add = adds[type(event)]
            except KeyError:
                add = self._start(type(event))
            if not add(number, event):
                self._add_loose(number, event)
            taken += 1
        self.count += taken
        if self._loose >= ROWS_AT_ONCE:
            self._gather()

    def add_table(self, table: Table) -> None:
        """Take events that are columns already."""
        if len(table):
            self._tables.append(table)
            self.count += len(table)

    @property
    def parts(self) -> Sequence[Table]:
        """What was taken as columns, as it came."""
        return self._tables

    def events_of(self, kind: int) -> Sequence[Any]:
        """The events of a rare kind."""
        return self._rows.get(kind, ((), ()))[1]

    def first_number_of(self, kind: int) -> int | None:
        """The lowest ring number of a rare kind's events; None where there are none."""
        return min(self._rows.get(kind, ((), ()))[0], default=None)

    def tables(self) -> Iterator[Table]:
        """Everything taken, one table a kind, each by ring number; each made when it is asked for."""
        return _joined(self._by_kind())

    def drain(self) -> Iterator[Table]:
        """As `tables`, and forgotten: what a table was made of is let go before the next is made."""
        by_kind = self._by_kind()
        self.clear()
        return _joined(by_kind)

    def _by_kind(self) -> dict[int, list[Table]]:
        by_kind: dict[int, list[Table]] = {}
        loose = [from_events(kind, *rows) for kind, rows in self._rows.items() if rows[0]]
        flats = [flat.table() for flat in (*self._full, *self._flats.values()) if len(flat)]
        for table in (*self._tables, *loose, *flats, *from_reads(self._reads)):
            by_kind.setdefault(table.kind, []).append(table)
        return by_kind

    def clear(self) -> None:
        """Forget everything."""
        self._flats.clear()
        self._full.clear()
        self._rows.clear()
        self._add.clear()
        self._tables.clear()
        self._reads.clear()
        self._loose = 0
        self.count = 0


def _joined(by_kind: dict[int, list[Table]]) -> Iterator[Table]:
    for kind in list(by_kind):
        yield in_order(concat(by_kind.pop(kind)))


# From the columns of reads -----------------------------------------------------------------------------------------


def from_reads(reads: Sequence[tuple[Tables, int]]) -> list[Table]:
    """What reads hold as columns, each with its first ring number: a table a kind, every column joined once."""
    found: list[Table] = []
    for name, kind in _READ_KINDS.items():
        having = [(part, read, number) for read, number in reads if (part := getattr(read, name)) is not None]
        if not having:
            continue
        fields = tuple(field for field in having[0][0] if field != "extra")
        by_read = map(itemgetter(*fields), [part for part, _, _ in having])
        pieces = dict(zip(fields, zip(*by_read, strict=True), strict=True))
        lengths = [len(piece) for piece in pieces["number"]]
        count = sum(lengths)
        columns: dict[str, Column] = {}
        for field, parts in pieces.items():
            if field == "trade_id":
                put_ids(columns, list(chain.from_iterable(parts)))
            elif field == "values":
                numbers = np.ascontiguousarray(np.concatenate(parts).T)
                columns |= {field: row for field, row in zip(TICKER_NUMBERS, numbers, strict=True) if _is_some(row)}
            else:
                column = _join_ints(parts, sum(map(len, parts)) if field in LEVEL_COLUMNS else count)
                if (field != "tick_direction" or column.any()) and (field not in _MAY_BE_ABSENT or _is_some(column)):
                    columns[field] = column
        if kind == layout.TICKER:
            _put_extra(columns, [part.get("extra", {}) for part, _, _ in having], lengths)
        columns["number"] = columns["number"] + np.repeat([number for _, _, number in having], lengths)
        if kind != layout.TICKER:
            columns["receive_time"] = np.repeat([read.receive_time for _, read, _ in having], lengths)
        found.append(Table(kind, _join_symbols(columns, [read for _, read, _ in having], lengths), columns))
    return found


def _put_extra(
    columns: dict[str, Column], extras: Sequence[Mapping[int, Mapping[str, Any]]], lengths: Sequence[int]
) -> None:
    """What tickers have beside their columns: those columns become lists."""
    wide: dict[str, list[Any]] = {}
    start = 0
    for extra, length in zip(extras, lengths, strict=True):
        for row, fields in extra.items():
            for name, value in fields.items():
                if name not in wide:
                    column = columns.get(name)
                    wide[name] = [None] * sum(lengths) if column is None else listed(column)
                wide[name][start + row] = value
        start += length
    columns |= wide


def _join_ints(parts: Any, count: int) -> IntColumn:
    """Columns as one of `count` rows; bytes are joined at a third of what numpy takes for short ones."""
    try:
        joined = b"".join(parts)
    except TypeError:  # one that does not lie in a piece
        return np.concatenate(parts)
    return np.frombuffer(joined, np.int64) if len(joined) == 8 * count else np.concatenate(parts)


_READ_KINDS = {
    "trades": layout.TRADE, "books": layout.BOOK, "liquidations": layout.LIQUIDATION, "tickers": layout.TICKER,
}  # fmt: skip
_MAY_BE_ABSENT = frozenset(("sequence", "event_time", "sent_time"))


def _is_some(column: IntColumn) -> bool:
    return bool(column[0] != ABSENT or (column != ABSENT).any())


def _join_symbols(columns: dict[str, Column], reads: Sequence[Tables], lengths: Sequence[int]) -> tuple[str, ...]:
    """One table of the symbols that came, and `symbol` counting into it (left out where there is one)."""
    column = np.asarray(columns.pop("symbol"), np.int64)
    names = reads[0].symbols
    if any(read.symbols is not names for read in reads):
        place: dict[str, int] = {}
        moved: list[IntColumn] = []
        start = 0
        for symbols, same in groupby(zip(reads, lengths, strict=True), lambda pair: pair[0].symbols):
            known = np.array([place.setdefault(symbol, len(place)) for symbol in symbols], np.int64)
            end = start + sum(length for _, length in same)
            moved.append(known[column[start:end]])
            start = end
        names = tuple(place)
        column = np.concatenate(moved)
    used = np.flatnonzero(np.bincount(column, minlength=len(names)))
    if len(used) == len(names) > 1:
        columns["symbol"] = column
    elif len(used) > 1:
        fresh = np.zeros(len(names), np.int64)
        fresh[used] = np.arange(len(used))
        columns["symbol"] = fresh[column]
    return tuple(names[i] for i in used.tolist())
