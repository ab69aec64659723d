"""Events of one read of the socket as the columns that the decoder would have made of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

import wld
from wld.tables import BACKFILLED, BLOCK_TRADE, BUY, DIRECTION_SHIFT, DIRECTIONS, TICKER_NUMBERS, Tables

_COLUMNED = (wld.Trade, wld.Ticker, wld.Liquidation, wld.BookSnapshot, wld.BookDelta)


def _ints(values: Iterable[int | None]) -> Any:
    return np.array([wld.ABSENT if value is None else value for value in values], np.int64)


def _extra(ticker: wld.Ticker) -> dict[str, Any]:
    """What no column of numbers holds."""
    numbers = {name: value for name in TICKER_NUMBERS if abs(value := getattr(ticker, name) or 0) >= 1 << 63}
    texts = {name: value for name in ("delivery_time", "pre_listing_phase") if (value := getattr(ticker, name))}
    return {**numbers, **texts}


def _columns(events: Sequence[tuple[int, Any]], symbols: tuple[str, ...], **fields: Any) -> dict[str, Any] | None:
    if not events:
        return None
    named = {name: _ints(take(e) for _, e in events) for name, take in fields.items()}
    return {"number": _ints(i for i, _ in events), "symbol": _ints(symbols.index(e.symbol) for _, e in events)} | named


def as_read(events: Sequence[wld.Event], symbols: tuple[str, ...]) -> wld.Batch:
    """The same events as one read: what fits no column as rows, the rest in columns."""
    fitting = [(i, e) for i, e in enumerate(events) if isinstance(e, _COLUMNED)]

    def of(*kinds: type) -> list[tuple[int, Any]]:
        return [(i, e) for i, e in fitting if isinstance(e, kinds)]

    def time_of(e: Any) -> Any:
        return e.event_time

    def sent_of(e: Any) -> Any:
        return e.sent_time

    trades, books, tickers = of(wld.Trade), of(wld.BookSnapshot, wld.BookDelta), of(wld.Ticker)
    trade_columns = _columns(
        trades, symbols, price=lambda e: e.price, size=lambda e: e.size, event_time=time_of, sent_time=sent_of,
        sequence=lambda e: e.sequence,
        flags=lambda e: BUY * (e.aggressor_side is wld.AggressorSide.BUY) | BLOCK_TRADE * e.is_block_trade
        | BACKFILLED * e.is_backfilled | DIRECTIONS.index(e.tick_direction) << DIRECTION_SHIFT,
    )  # fmt: skip
    if trade_columns is not None:
        trade_columns["trade_id"] = [e.trade_id for _, e in trades]
    book_columns = _columns(
        books, symbols, is_snapshot=lambda e: isinstance(e, wld.BookSnapshot), depth=lambda e: e.depth,
        update_id=lambda e: e.update_id, sequence=lambda e: e.sequence, event_time=time_of, sent_time=sent_of,
        bid_count=lambda e: len(e.bids), ask_count=lambda e: len(e.asks),
    )  # fmt: skip
    if book_columns is not None:
        levels = [level for _, e in books for level in (*e.bids, *e.asks)]
        book_columns["level_price"] = _ints(price for price, _ in levels)
        book_columns["level_size"] = _ints(size for _, size in levels)
    ticker_columns = _columns(tickers, symbols, tick_direction=lambda e: DIRECTIONS.index(e.tick_direction))
    if ticker_columns is not None:
        extra = {i: found for i, (_, e) in enumerate(tickers) if (found := _extra(e))}
        ticker_columns["values"] = np.array(
            [
                _ints(None if name in extra.get(i, ()) else getattr(e, name) for name in TICKER_NUMBERS)
                for i, (_, e) in enumerate(tickers)
            ]
        )
        if extra:
            ticker_columns["extra"] = extra
    liquidations = _columns(
        of(wld.Liquidation), symbols, is_long=lambda e: e.position_side is wld.PositionSide.LONG,
        size=lambda e: e.size, bankruptcy_price=lambda e: e.bankruptcy_price, event_time=time_of, sent_time=sent_of,
    )  # fmt: skip
    numbers = {i for i, _ in fitting}
    return wld.Batch(
        Tables(
            len(events), symbols, events[-1].receive_time, trade_columns, book_columns, liquidations, ticker_columns,
            [(i, e) for i, e in enumerate(events) if i not in numbers],
        )
    )  # fmt: skip
