"""Owns how the columns of one read reach the states of their symbols, without its events being made. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from wld import ABSENT, BookInvalid, BookSnapshot, Liquidation, OrderBook
from wld.tables import TICKER_PLACE, Tables
from wld_telemetry.state import Telemetry

_QUOTED = [TICKER_PLACE[name] for name in ("open_interest", "mark_price", "index_price", "last_price")]


def apply_tables(tables: Tables, states: Mapping[str, Telemetry]) -> list[Liquidation] | None:
    """Give each state what `Telemetry.apply` would have given it, event by event; the liquidations among them.

    None, and nothing is applied, where it has to go event by event: a gap or the like, and the first sight of a symbol
    (the first ones to come keep books).
    """
    by_row = tables.row_tickers()
    found = {i: states.get(tables.symbols[i]) for i in tables.present()}
    if by_row is None or None in found.values() or any(ticker.symbol not in states for _, ticker in by_row):
        return None
    known = {i: state for i, state in found.items() if state is not None}
    for state in known.values():
        state.begin(tables.receive_time)
    _apply_trades(tables, known)
    _apply_books(tables, known)
    _apply_tickers(tables, known)
    for _, ticker in by_row:
        states[ticker.symbol].apply(ticker)
    liquidations = tables.liquidation_events()
    for event in liquidations:
        states[event.symbol].apply(event)
    return liquidations


def _apply_trades(tables: Tables, states: Mapping[int, Telemetry]) -> None:
    trades = tables.trades
    if trades is None:
        return
    runs: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for i, *trade in zip(*(trades[name].tolist() for name in ("symbol", "price", "size", "flags")), strict=True):
        runs[i].append(tuple(trade))
    for i, run in runs.items():
        states[i].apply_trades(run, tables.receive_time)


def _apply_tickers(tables: Tables, states: Mapping[int, Telemetry]) -> None:
    tickers = tables.tickers
    if tickers is None:
        return
    symbols, values = tickers["symbol"].tolist(), tickers["values"]
    for i, quoted in zip(symbols, values[:, _QUOTED].tolist(), strict=True):
        states[i].quote(tables.receive_time, *(None if value == ABSENT else value for value in quoted))
    for i, row in {i: row for row, i in enumerate(symbols)}.items():
        states[i].keep_ticker(int(tickers["tick_direction"][row]), values[row].copy())


def _apply_books(tables: Tables, states: Mapping[int, Telemetry]) -> None:
    books = tables.books
    if books is None:
        return
    symbols = books["symbol"]
    kept = {i: book for i in set(symbols.tolist()) if (book := states[i].book) is not None}
    if not kept:
        return
    last = {int(symbols[row]): int(row) for row in np.flatnonzero(books["is_snapshot"])}
    is_taken = np.ones(len(symbols), np.bool_)
    for i in last.keys() & kept.keys():  # whatever came before it is gone
        is_taken[: last[i] + 1] &= symbols[: last[i] + 1] != i
        _apply_snapshot(kept[i], tables, last[i])
    depths = np.full(int(symbols.max()) + 1, -1)
    depths[list(kept)] = [-1 if book.depth is None else book.depth for book in kept.values()]
    is_taken &= books["depth"] == depths[symbols]
    if not is_taken.any():
        return
    # Each book's deltas together, and of their levels the bids, then the asks; the order among them stays.
    counts = np.column_stack((books["bid_count"], books["ask_count"]))
    sides = np.repeat(np.column_stack((2 * symbols, 2 * symbols + 1)), counts.ravel())
    levels = np.flatnonzero(np.repeat(is_taken, counts.sum(1)))
    narrow = np.uint16 if len(tables.symbols) < 1 << 15 else np.int64  # words of 16 bits are sorted by their digits
    levels = levels[np.argsort(sides[levels].astype(narrow), kind="stable")]
    rows = np.flatnonzero(is_taken)
    rows = rows[np.argsort(symbols[rows], kind="stable")]
    ids, prices, sizes = books["update_id"][rows], books["level_price"][levels], books["level_size"][levels]
    here, starts = np.unique(symbols[rows], return_index=True)
    edges = np.searchsorted(sides[levels], np.column_stack((2 * here, 2 * here + 1, 2 * here + 2))).tolist()
    ends = [*starts[1:].tolist(), len(rows)]
    for i, start, end, (low, middle, high) in zip(here.tolist(), starts.tolist(), ends, edges, strict=True):
        sequence = int(books["sequence"][rows[end - 1]])
        book = kept[i]
        with suppress(BookInvalid):  # the gap beside it says so; the next snapshot mends it
            book.apply_run(
                ids[start:end], book.depth or 0,
                (prices[low:middle], sizes[low:middle]), (prices[middle:high], sizes[middle:high]),
                sequence=None if sequence == ABSENT else sequence, receive_time=tables.receive_time,
            )  # fmt: skip


def _apply_snapshot(book: OrderBook, tables: Tables, row: int) -> None:
    event = tables.book_event(row)
    assert isinstance(event, BookSnapshot)
    book.apply(event)
