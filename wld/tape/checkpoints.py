"""Owns the book's state along a tape: what a checkpoint block holds, computed column-wise. Pure.

Says the same as `OrderBook.apply` event by event; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld.tape import layout, rows
from wld.tape.choices import Choices
from wld.tape.integers import IntColumn
from wld.tape.layout import Draft
from wld.tape.levels import places
from wld.tape.table import Table
from wld.units import ABSENT

CHECKPOINT_NS = 60_000_000_000
_SECOND_NS = 1_000_000_000
STRICT_DEPTH = 50
"""From this depth on a delta must carry the next update id (`OrderBook.apply`)."""


class BookState(Struct):
    """One book: levels by price, ascending."""

    bids: tuple[IntColumn, IntColumn]
    """(prices, sizes)."""
    asks: tuple[IntColumn, IntColumn]
    is_valid: bool = False
    update_id: int = 0
    sequence: int = ABSENT
    receive_time: int = 0


Books = dict[tuple[str, int], BookState]
"""(symbol, depth) to the book after the last event seen."""


def empty() -> BookState:
    """A book before its first snapshot."""
    none = np.zeros(0, np.int64)
    return BookState((none, none), (none, none))


def checkpoint(symbol: str, depth: int, book: BookState, number: int) -> Table:
    """The book as it stood before the event of that ring number, as a snapshot."""
    (bid_prices, bid_sizes), (ask_prices, ask_sizes) = book.bids, book.asks
    columns = {
        "number": [number], "is_snapshot": [1], "depth": [depth], "update_id": [book.update_id],
        "sequence": [book.sequence], "receive_time": [book.receive_time], "bid_count": [len(bid_prices)],
        "ask_count": [len(ask_prices)],
    }  # fmt: skip
    table = Table(layout.BOOK, (symbol,), {name: np.array(value, np.int64) for name, value in columns.items()})
    table.columns["level_price"] = np.concatenate([bid_prices[::-1], ask_prices])
    table.columns["level_size"] = np.concatenate([bid_sizes[::-1], ask_sizes])
    return table


def _drafts(books: Sequence[Table]) -> list[Draft]:
    """Blocks that iteration skips."""
    drafts = rows.pack_tables(books, Choices(remembers=False), quick=True)
    for draft in drafts:
        draft.kind, draft.flags = layout.CHECKPOINT, 0
    return drafts


def advance(books: Books, tables: Sequence[Table], *, is_start: bool = False) -> list[Draft]:
    """Take the books through the events of tables of one symbol each, in ring order: a checkpoint at the first event of
    each minute and after a snapshot in mid-stream (one a second), and before the first where it is the start of a
    segment."""
    return _drafts([due for table in tables for due in _due(books, table, is_start)])


def _due(books: Books, table: Table, is_start: bool) -> list[Table]:
    due: list[Table] = []
    depths = table.columns["depth"]
    if isinstance(depths, list) or any(
        isinstance(table.columns.get(name), list)
        for name in ("update_id", "sequence", "receive_time", "level_price", "level_size")
    ):
        # Wider than 64 bits: the books of this symbol are unknown until a snapshot shows them.
        for key, book in books.items():
            if key[0] == table.symbols[0]:
                book.is_valid = False
        return due
    several = bool((depths != depths[0]).any())
    for depth in np.unique(depths).tolist() if several else depths[:1].tolist():
        part = _Part(table, np.flatnonzero(depths == depth) if several else slice(None))
        key = (table.symbols[0], depth)
        due += _advance(books.setdefault(key, empty()), key, part, is_start)
    return due


class _Part:
    """The events of one book: rows of a table and where their levels lie."""

    def __init__(self, table: Table, mine: npt.NDArray[np.int64] | slice) -> None:
        bids, asks = table.ints("bid_count"), table.ints("ask_count")
        ends = np.cumsum(bids + asks)
        self.numbers = table.numbers[mine]
        self.is_snapshot = table.ints("is_snapshot")[mine] != 0
        self.update_id = table.ints("update_id")[mine]
        self.sequence = table.ints("sequence")[mine]
        self.receive_time = table.ints("receive_time")[mine]
        self.bids, self.asks = bids[mine], asks[mine]
        self.starts = (ends - bids - asks)[mine]
        self.prices = np.asarray(table.columns["level_price"])
        self.sizes = np.asarray(table.columns["level_size"])

    def levels(self, start: int, end: int, *, bids: bool) -> tuple[IntColumn, IntColumn, npt.NDArray[np.bool_]]:
        """(prices, sizes, whether a snapshot's) of a side of rows `start` to `end`, in order."""
        counts = (self.bids if bids else self.asks)[start:end]
        first = self.starts[start:end] if bids else self.starts[start:end] + self.bids[start:end]
        ends = np.cumsum(counts)
        at = np.repeat(first - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)
        return self.prices[at], self.sizes[at], np.repeat(self.is_snapshot[start:end], counts)


def _advance(book: BookState, key: tuple[str, int], part: _Part, is_start: bool) -> list[Table]:
    symbol, depth = key
    count = len(part.numbers)
    broken = np.zeros(count, np.bool_)
    if depth >= STRICT_DEPTH:
        expected = np.empty(count, np.int64)
        expected[0] = layout.clamp(book.update_id + 1)
        expected[1:] = part.update_id[:-1] + 1
        broken = ~part.is_snapshot & (part.update_id != expected)
    minutes = part.receive_time // CHECKPOINT_NS
    due = np.zeros(count, np.bool_)
    due[0] = is_start or book.receive_time // CHECKPOINT_NS != minutes[0]
    due[1:] = minutes[1:] != minutes[:-1]
    after = np.flatnonzero(part.is_snapshot[1:-1] & ~part.is_snapshot[:-2]) + 2
    seconds = part.receive_time[after] // _SECOND_NS
    due[after[np.append(True, seconds[1:] != seconds[:-1])[: len(after)]]] = True
    made: list[Table] = []
    at = 0
    for row in [*np.flatnonzero(due).tolist(), count]:
        if row > at:
            _apply(book, part, at, row, broken)
        at = row
        if row < count and book.is_valid and not part.is_snapshot[row]:
            made.append(checkpoint(symbol, depth, book, int(part.numbers[row])))
    return made


def _apply(book: BookState, part: _Part, start: int, end: int, broken: npt.NDArray[np.bool_]) -> None:
    """Rows `start` to `end`."""
    snapshots = np.flatnonzero(part.is_snapshot[start:end])
    fresh = bool(len(snapshots))
    if fresh:
        start += int(snapshots[-1])
    book.is_valid = (fresh or book.is_valid) and not broken[start:end].any()
    for bids in (True, False):
        prices, sizes, keep = part.levels(start, end, bids=bids)
        if not fresh:
            held = book.bids if bids else book.asks
            prices, sizes = np.concatenate([held[0], prices]), np.concatenate([held[1], sizes])
            keep = np.concatenate([np.ones(len(held[0]), np.bool_), keep])
        order = last_of_each(prices)
        order = order[(sizes[order] != 0) | keep[order]]
        side = prices[order], sizes[order]
        if bids:
            book.bids = side
        else:
            book.asks = side
    book.update_id = int(part.update_id[end - 1])
    book.sequence = int(part.sequence[end - 1])
    book.receive_time = int(part.receive_time[end - 1])


def last_of_each(prices: IntColumn) -> npt.NDArray[np.int64]:
    """The last place of each price, by rising price."""
    keys = places(prices)
    span = int(keys.max()) + 1 if len(keys) else 0
    if span <= _MOST_PLACES:
        last = np.full(span, -1, np.int64)
        last[keys.view(np.int64)] = np.arange(len(keys))  # of one key's places numpy keeps the last
        return last[last >= 0]
    order = np.argsort(prices, kind="stable")
    there = prices[order]
    is_last = np.ones(len(order), np.bool_)
    np.not_equal(there[1:], there[:-1], out=is_last[:-1])
    return order[is_last]


_MOST_PLACES = 1 << 20


def taken_over(books: Books, number: int, without: set[str]) -> list[Draft]:
    """A checkpoint, at the start of a segment, of every book of the one before, `without` those that follow anyway."""
    return _drafts(
        [
            checkpoint(symbol, depth, book, number)
            for (symbol, depth), book in books.items()
            if book.is_valid and symbol not in without
        ]
    )
