"""Owns the predecessor's flat C structs: one file a symbol, records in ring order, packed, little-endian.

Each record is a prefix of 2 bytes, the record's type and a zero, and a struct of fixed size:

    type 1  trade        25 bytes  int64 time, int64 price, int64 size, uint8 side (1 buy, 0 sell: the taker)
    type 2  snapshot   1608 bytes  int64 time, 50 bids and 50 asks of (int64 price, int64 size), best first, zeros beyond
    type 3  liquidation  25 bytes  int64 time, int64 price, int64 size, uint8 side (1: a long was liquidated)
    type 4  ticker       32 bytes  int64 time, int64 open interest, int64 funding rate, int64 mark price

Times are event times in ms since the Unix epoch (of tickers, which have none, the push time); numbers are 1e-8. As the
predecessor did, a ticker field that was never sent is 0, and every book update writes the whole top 50. What does not
fit a struct (ids, receive times, gaps) is not in it: this export is for old readers, the tape for everything else.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from wld.book import OrderBook
from wld.errors import BookInvalid, TapeDamaged, TapeError
from wld.events import AggressorSide, BookDelta, BookSnapshot, Level, Liquidation, PositionSide, Ticker, Trade
from wld.tape.export import Progress, Unit, UnitResult
from wld.tape.export.fields import file_name
from wld.tape.reader import open_tape
from wld.units import INT64_MAX, INT64_MIN

DATASETS = ("trades", "depth", "liquidations", "tickers")
UNIT = "tape"
TRADE = struct.Struct("<BBqqqB")
SNAPSHOT = struct.Struct("<BBq200q")
LIQUIDATION = TRADE
TICKER = struct.Struct("<BBqqqq")
TRADE_TYPE, SNAPSHOT_TYPE, LIQUIDATION_TYPE, TICKER_TYPE = 1, 2, 3, 4
LEVELS = 50
_MOST_OPEN = 200
_STEP = 4096
_MS = 1_000_000


def run_unit(unit: Unit, progress: Progress) -> UnitResult:
    """Write a whole tape: books go on from one segment to the next."""
    rows = dict.fromkeys(unit.datasets, 0)
    damages: list[str] = []
    books: dict[tuple[str, int], OrderBook] = {}
    files: dict[str, BinaryIO] = {}
    begun: set[str] = set()
    folder = Path(unit.folder)

    def write(symbol: str, record: bytes) -> None:
        file = files.get(symbol)
        if file is None:
            if len(files) >= _MOST_OPEN:
                files.pop(next(iter(files))).close()
            mode = "ab" if symbol in begun else "wb"  # a unit may run twice: begin afresh
            begun.add(symbol)
            file = files[symbol] = cast(BinaryIO, (folder / f"{file_name(symbol)}.bin").open(mode))
        file.write(record)

    try:
        for path in unit.paths:
            tape = open_tape(path, unit.symbols, unit.start, unit.end)
            try:
                for event in tape:
                    if isinstance(event, BookSnapshot | BookDelta):
                        key = (event.symbol, event.depth)
                        book = books.get(key)
                        if book is None:
                            book = books[key] = OrderBook(event.symbol)
                        try:
                            book.apply(event)
                        except BookInvalid:
                            continue
                        if "depth" in rows:
                            write(event.symbol, snapshot(event, book))
                            rows["depth"] += 1
                    elif isinstance(event, Trade) and "trades" in rows:
                        is_buy = event.aggressor_side is AggressorSide.BUY
                        values = (event.event_time // _MS, event.price, event.size, is_buy)
                        write(event.symbol, _pack(TRADE, TRADE_TYPE, event.symbol, values))
                        rows["trades"] += 1
                    elif isinstance(event, Liquidation) and "liquidations" in rows:
                        is_long = event.position_side is PositionSide.LONG
                        values = (event.event_time // _MS, event.bankruptcy_price, event.size, is_long)
                        write(event.symbol, _pack(LIQUIDATION, LIQUIDATION_TYPE, event.symbol, values))
                        rows["liquidations"] += 1
                    elif isinstance(event, Ticker) and "tickers" in rows:
                        time = event.receive_time if event.sent_time is None else event.sent_time
                        state = (event.open_interest or 0, event.funding_rate or 0, event.mark_price or 0)
                        write(event.symbol, _pack(TICKER, TICKER_TYPE, event.symbol, (time // _MS, *state)))
                        rows["tickers"] += 1
            except TapeDamaged as error:
                damages.append(str(error))
            progress(sum(segment.size for segment in tape.segments))
    finally:
        for file in files.values():
            file.close()
    return UnitResult(rows, tuple(damages))


def snapshot(event: BookSnapshot | BookDelta, book: OrderBook) -> bytes:
    """The record of a book after an event."""
    time = next(t for t in (event.event_time, event.sent_time, event.receive_time) if t is not None)
    levels = [*_side(book.bids(LEVELS)), *_side(book.asks(LEVELS))]
    return _pack(SNAPSHOT, SNAPSHOT_TYPE, event.symbol, (time // _MS, *levels))


def _side(levels: Sequence[Level]) -> list[int]:
    flat = list(chain.from_iterable(levels))
    return flat + [0] * (2 * LEVELS - len(flat))


def _pack(form: struct.Struct, kind: int, symbol: str, values: Sequence[int]) -> bytes:
    try:
        return form.pack(kind, 0, *values)
    except struct.error:
        wide = next(value for value in values if not INT64_MIN <= value <= INT64_MAX)
        raise TapeError(
            f"{symbol}: {wide} at 1e-8 does not fit the 64 bits of a struct; export csv or parquet"
        ) from None


def combine(folder: Path, units: Sequence[Unit]) -> None:
    """Nothing to join."""
