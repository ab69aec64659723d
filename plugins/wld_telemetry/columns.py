"""Owns how the columns of many reads reach the states of their symbols, without their events being made. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from wld import ABSENT, BookInvalid, BookSnapshot, OrderBook
from wld.reads import Joined
from wld.tables import BACKFILLED, BUY, TICKER_PLACE, Columns, Ints, book_event
from wld_telemetry.state import BUCKET, MINUTE, Telemetry

READING = {
    "trades": ("price", "size", "flags"),
    "books": (
        "is_snapshot", "depth", "update_id", "sequence", "event_time", "sent_time", "bid_count", "ask_count",
        "level_price", "level_size",
    ),
    "tickers": ("tick_direction", "values"),
    "liquidations": ("is_long", "size", "bankruptcy_price", "event_time", "sent_time"),
}  # fmt: skip
"""The columns that are read."""
_SLOTS = 1 << 13
"""Ticks that a side of a book may be wide: some 80 % of the price of a coarse one, more than any update of 50 levels."""
_LIMB, _BITS_LEFT = 24, 14
_QUOTED = [TICKER_PLACE[name] for name in ("open_interest", "mark_price", "index_price", "last_price")]


def apply_trades(reads: Joined, trades: Columns, states: Mapping[str, Telemetry]) -> None:
    """Sum the flow of each symbol and bucket of time, and note each last price."""
    symbols, flags = trades["symbol"], trades["flags"]
    times = trades["receive_time"] // BUCKET
    buckets = np.unique(times) if (times != times[0]).any() else times[:1]
    groups = 2 * (np.searchsorted(buckets, times) + symbols * len(buckets)) + (flags & BUY == 0)
    amounts, counts = sums_of_products(groups, trades["price"], trades["size"])
    for group in np.flatnonzero(counts[::2] + counts[1::2]).tolist():
        i, bucket = divmod(group, len(buckets))
        both = slice(2 * group, 2 * group + 2)
        states[reads.symbols[i]].add_flow(int(buckets[bucket]) * BUCKET, *amounts[both], *counts[both].tolist())
    for i, row in reads.last(trades, flags & BACKFILLED == 0).items():
        states[reads.symbols[i]].traded(int(trades["price"][row]), int(trades["receive_time"][row]))


def sums_of_products(groups: Ints, first: Ints, second: Ints) -> tuple[list[int], Ints]:
    """(exact sums of `first * second` by group, how many each has), one more than the highest and an even number.

    Of numbers of 24 bits the products of 16,384 can be added up in 63; the rest is left to Python's own.
    """
    most = (int(groups.max()) | 1) + 1
    counts = np.zeros(most, np.int64)
    sums = [0] * most
    for at in range(0, len(groups), 1 << _BITS_LEFT):
        part = slice(at, at + (1 << _BITS_LEFT))
        counts += np.bincount(groups[part], minlength=most)
        for i, a in enumerate(_limbs(first[part])):
            for j, b in enumerate(_limbs(second[part])):
                found = np.zeros(most, np.int64)
                np.add.at(found, groups[part], a * b)
                for group in np.flatnonzero(found).tolist():
                    sums[group] += int(found[group]) << _LIMB * (i + j)
    return sums, counts


def _limbs(values: Ints) -> list[Ints]:
    """Parts of so many bits, the lowest first; the highest has the sign."""
    limbs: list[Ints] = []
    while True:
        above = values >> _LIMB
        if not above.any() or ((above == 0) | (above == -1)).all():
            return [*limbs, values]
        limbs.append(values & (1 << _LIMB) - 1)
        values = above


def apply_tickers(reads: Joined, tickers: Columns, states: Mapping[str, Telemetry]) -> None:
    """Keep each last ticker, and what is noted of every one."""
    symbols, times, values = tickers["symbol"], tickers["receive_time"], tickers["values"]
    quoted = values[:, _QUOTED]
    last = reads.last(tickers)
    is_plain = times[0] // MINUTE == times[-1] // MINUTE and not (quoted == ABSENT).any()
    # Of what is complete and of one minute only the last is kept.
    rows = list(last.values()) if is_plain else list(range(len(symbols)))
    for i, time, numbers in zip(symbols[rows].tolist(), times[rows].tolist(), quoted[rows].tolist(), strict=True):
        states[reads.symbols[i]].quote(time, *(None if value == ABSENT else value for value in numbers))
    kept = values[list(last.values())]
    for (i, row), ticker in zip(last.items(), kept, strict=True):
        states[reads.symbols[i]].keep_ticker(int(tickers["tick_direction"][row]), ticker)


def apply_books(reads: Joined, books: Columns, states: Mapping[str, Telemetry]) -> None:
    """Bring each book that is kept up to its last event."""
    symbols = books["symbol"]
    here = np.flatnonzero(np.bincount(symbols)).tolist()
    kept = {i: book for i in here if (book := states[reads.symbols[i]].book) is not None}
    if not kept:
        return
    last = reads.last(books, books["is_snapshot"] != 0)
    is_taken = np.ones(len(symbols), np.bool_)
    for i in last.keys() & kept.keys():  # whatever came before it is gone
        is_taken[: last[i] + 1] &= symbols[: last[i] + 1] != i
        event = book_event(books, last[i], reads.symbols[i], int(books["receive_time"][last[i]]))
        assert isinstance(event, BookSnapshot)
        kept[i].apply(event)
    depths = np.full(int(symbols.max()) + 1, -1)
    depths[list(kept)] = [-1 if book.depth is None else book.depth for book in kept.values()]
    is_taken &= books["depth"] == depths[symbols]
    rows = np.flatnonzero(is_taken)
    if not len(rows):
        return
    # Each book's deltas together, and of their levels the last word on each price of a side.
    counts = np.column_stack((books["bid_count"], books["ask_count"]))
    sides, prices, sizes = 2 * symbols, books["level_price"], books["level_size"]
    sides = np.column_stack((sides, sides + 1)).ravel()
    if not is_taken.all():
        levels = np.repeat(is_taken, counts.sum(1))
        sides, prices, sizes, counts = sides[np.repeat(is_taken, 2)], prices[levels], sizes[levels], counts[is_taken]
    sides, places = last_words(sides, counts.ravel(), prices)
    prices, sizes = prices[places], sizes[places]
    narrow = np.uint16 if len(reads.symbols) < 1 << 15 else np.int64  # words of 16 bits are sorted by their digits
    rows = rows[np.argsort(symbols[rows].astype(narrow), kind="stable")]
    ids, owners = books["update_id"][rows], symbols[rows]
    starts = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
    found = owners[starts]
    edges = np.searchsorted(sides, np.column_stack((2 * found, 2 * found + 1, 2 * found + 2))).tolist()
    ends = [*starts[1:].tolist(), len(rows)]
    for i, start, end, (low, middle, high) in zip(found.tolist(), starts.tolist(), ends, edges, strict=True):
        latest = rows[end - 1]
        _apply_run(
            kept[i], ids[start:end], (prices[low:middle], sizes[low:middle]), (prices[middle:high], sizes[middle:high]),
            int(books["sequence"][latest]), int(books["receive_time"][latest]),
        )  # fmt: skip


def last_words(sides: Ints, counts: Ints, prices: Ints) -> tuple[Ints, Ints]:
    """Of levels in order, those that say the last word on a price of their side, and now and then some more: (sides,
    rising; places, rising within a price). `sides` and `counts` say whose the next so many `prices` are.

    Each side has a table of slots, a price its place there. Whatever the tick is: without its factors of two it is odd,
    and the low bits of multiples of an odd number are those of no other multiple of it within the table. Prices that
    meet in a slot nevertheless, of a book that is wider or has a coarser tick than others', are all kept but for the last.
    """
    is_present = np.bincount(sides) > 0
    present, table = np.flatnonzero(is_present), (np.cumsum(is_present) - 1) * _SLOTS
    twos = int(np.bitwise_or.reduce(prices)) if len(prices) else 0
    slots = prices >> max(0, (twos & -twos).bit_length() - 1)
    slots &= _SLOTS - 1
    slots += np.repeat(table[sides], counts)
    last = np.full(len(present) * _SLOTS, -1, np.int32)
    last[slots] = np.arange(len(slots), dtype=np.int32)  # of several in one slot the last stays
    rest = np.flatnonzero(prices.take(last.take(slots)) != prices)
    used = np.flatnonzero(last >= 0)
    places, slots = last[used].astype(np.int64), np.concatenate((used, slots[rest]))
    if len(rest):
        places = np.concatenate((places, rest))
        order = np.argsort(slots // _SLOTS, kind="stable")
        places, slots = places[order], slots[order]
    return present[slots // _SLOTS], places


def _apply_run(
    book: OrderBook, ids: Ints, bids: tuple[Ints, Ints], asks: tuple[Ints, Ints], sequence: int, time: int
) -> None:
    with suppress(BookInvalid):  # the gap beside it says so; the next snapshot mends it
        book.apply_run(
            ids, book.depth or 0, bids, asks, sequence=None if sequence == ABSENT else sequence, receive_time=time
        )
