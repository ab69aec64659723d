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
_QUOTED = [TICKER_PLACE[name] for name in ("open_interest", "mark_price", "index_price", "last_price")]


def apply_trades(reads: Joined, trades: Columns, states: Mapping[str, Telemetry]) -> None:
    """Sum the flow of each symbol and bucket of time, and note each last price."""
    flags = trades["flags"]
    sums: dict[tuple[int, int], list[int]] = {}
    for i, price, size, is_buy, time in zip(
        trades["symbol"].tolist(), trades["price"].tolist(), trades["size"].tolist(), (flags & BUY).tolist(),
        (trades["receive_time"] // BUCKET).tolist(), strict=True,
    ):  # fmt: skip
        found = sums.get((i, time))
        if found is None:
            found = sums[i, time] = [0, 0, 0, 0]
        if is_buy:
            found[0] += price * size
            found[2] += 1
        else:
            found[1] += price * size
            found[3] += 1
    for (i, time), amounts in sums.items():
        states[reads.symbols[i]].add_flow(time * BUCKET, *amounts)
    for i, row in reads.last(trades, flags & BACKFILLED == 0).items():
        states[reads.symbols[i]].traded(int(trades["price"][row]), int(trades["receive_time"][row]))


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
    # Each book's deltas together, and of their levels the bids, then the asks; the order among them stays.
    counts = np.column_stack((books["bid_count"], books["ask_count"]))
    sides = np.repeat(np.column_stack((2 * symbols, 2 * symbols + 1)), counts.ravel())
    levels = np.flatnonzero(np.repeat(is_taken, counts.sum(1)))
    narrow = np.uint16 if len(reads.symbols) < 1 << 15 else np.int64  # words of 16 bits are sorted by their digits
    levels = levels[np.argsort(sides[levels].astype(narrow), kind="stable")]
    rows = rows[np.argsort(symbols[rows].astype(narrow), kind="stable")]
    ids, prices, sizes = books["update_id"][rows], books["level_price"][levels], books["level_size"][levels]
    owners = symbols[rows]
    starts = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
    found = owners[starts]
    edges = np.searchsorted(sides[levels], np.column_stack((2 * found, 2 * found + 1, 2 * found + 2))).tolist()
    ends = [*starts[1:].tolist(), len(rows)]
    for i, start, end, (low, middle, high) in zip(found.tolist(), starts.tolist(), ends, edges, strict=True):
        latest = rows[end - 1]
        _apply_run(
            kept[i], ids[start:end], (prices[low:middle], sizes[low:middle]), (prices[middle:high], sizes[middle:high]),
            int(books["sequence"][latest]), int(books["receive_time"][latest]),
        )  # fmt: skip


def _apply_run(
    book: OrderBook, ids: Ints, bids: tuple[Ints, Ints], asks: tuple[Ints, Ints], sequence: int, time: int
) -> None:
    with suppress(BookInvalid):  # the gap beside it says so; the next snapshot mends it
        book.apply_run(
            ids, book.depth or 0, bids, asks, sequence=None if sequence == ABSENT else sequence, receive_time=time
        )
