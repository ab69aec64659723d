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
from wld.tape.integers import Bits, IntColumn
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
        self.is_all = isinstance(mine, slice)
        self.numbers = table.numbers[mine]
        self.is_snapshot = table.ints("is_snapshot")[mine] != 0
        self.update_id = table.ints("update_id")[mine]
        self.sequence = table.ints("sequence")[mine]
        self.receive_time = table.ints("receive_time")[mine]
        self.bids, self.asks = bids[mine], asks[mine]
        self.starts = (ends - bids - asks)[mine]
        self.prices = np.asarray(table.columns["level_price"])
        self.sizes = np.asarray(table.columns["level_size"])

    def levels(self, start: int, end: int) -> tuple[slice | npt.NDArray[np.int64], IntColumn]:
        """(where the levels of rows `start` to `end` lie, how many each bid side and each ask side has)."""
        counts = np.empty(2 * (end - start), np.int64)
        counts[::2], counts[1::2] = self.bids[start:end], self.asks[start:end]
        if self.is_all:
            return slice(int(self.starts[start]), int(self.starts[start]) + int(counts.sum())), counts
        lengths = counts[::2] + counts[1::2]
        at = np.repeat(self.starts[start:end] - np.cumsum(lengths) + lengths, lengths)
        at += np.arange(len(at))
        return at, counts


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
    at, counts = part.levels(start, end)
    prices, sizes = part.prices[at], part.sizes[at]
    is_bid = np.repeat(np.tile(np.array([True, False]), end - start), counts)
    of_snapshot = int(counts[0] + counts[1]) if fresh else 0  # only the first row can be one
    if not fresh:
        held = book.bids, book.asks
        of_snapshot = len(held[0][0]) + len(held[1][0])
        prices, sizes = (np.concatenate([held[0][i], held[1][i], new]) for i, new in enumerate((prices, sizes)))
        is_bid = np.concatenate([np.ones(len(held[0][0]), np.bool_), np.zeros(len(held[1][0]), np.bool_), is_bid])
    order = last_of_each(prices, is_bid)
    order = order[(sizes[order] != 0) | (order < of_snapshot)]
    bids, asks = order[is_bid[order]], order[~is_bid[order]]
    book.bids, book.asks = (prices[bids], sizes[bids]), (prices[asks], sizes[asks])
    book.update_id = int(part.update_id[end - 1])
    book.sequence = int(part.sequence[end - 1])
    book.receive_time = int(part.receive_time[end - 1])


def last_of_each(prices: IntColumn, is_bid: Bits) -> npt.NDArray[np.int64]:
    """The last place of each price of each side, by rising price."""
    keys = places(prices)
    span = 2 * int(keys.max()) + 2 if len(keys) else 0
    if span <= min(_MOST_PLACES, _PLACES_A_LEVEL * len(keys)):
        last = np.full(span, -1, np.int64)
        last[(keys << np.uint64(1) | is_bid).view(np.int64)] = np.arange(len(keys))  # of one key's numpy keeps the last
        return last[last >= 0]
    order = np.lexsort((is_bid, prices))
    is_last = np.ones(len(order), np.bool_)
    there, side = prices[order], is_bid[order]
    is_last[:-1] = (there[1:] != there[:-1]) | (side[1:] != side[:-1])
    return order[is_last]


_MOST_PLACES = 1 << 20
_PLACES_A_LEVEL = 64
"""Above it, sorting the prices is faster than a place for each that there could be."""


def taken_over(books: Books, number: int, without: set[str]) -> list[Draft]:
    """A checkpoint, at the start of a segment, of every book of the one before, `without` those that follow anyway."""
    return _drafts(
        [
            checkpoint(symbol, depth, book, number)
            for (symbol, depth), book in books.items()
            if book.is_valid and symbol not in without
        ]
    )
