"""Owns Tables: the events of one socket read as columns, and their way back to events. Pure.

Does not own how a Batch shows them (`wld.batch`) or how a tape stores them (`wld.tape.table`, the same columns).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct, structs

from wld.events import (
    AggressorSide,
    BookDelta,
    BookSnapshot,
    Event,
    Liquidation,
    PositionSide,
    TickDirection,
    Ticker,
    Trade,
)
from wld.units import ABSENT

Ints = npt.NDArray[np.int64]
Columns = dict[str, Any]
"""int64 arrays by field, `ABSENT` where the event has None; `number` counts from the start of the batch."""

TICK_DIRECTIONS: tuple[str, ...] = ("PlusTick", "ZeroPlusTick", "MinusTick", "ZeroMinusTick")
TICKER_NUMBERS: tuple[str, ...] = (
    "last_price", "mark_price", "index_price", "open_interest", "open_interest_value", "single_open_interest",
    "single_open_interest_value", "funding_rate", "next_funding_time", "funding_interval_hour", "funding_cap",
    "bid_price", "bid_size", "ask_price", "ask_size", "price_change_24h", "previous_price_24h", "previous_price_1h",
    "high_price_24h", "low_price_24h", "turnover_24h", "volume_24h", "basis", "basis_rate", "basis_rate_year",
    "delivery_fee_rate", "predicted_delivery_price", "pre_open_price", "pre_size", "sequence", "event_time",
    "sent_time", "receive_time",
)  # fmt: skip
TICKER_PLACE = {name: i for i, name in enumerate(TICKER_NUMBERS)}

BUY, BLOCK_TRADE, BACKFILLED, RPI_KNOWN, RPI = 1, 2, 4, 8, 16
"""Bits of a trade's `flags`; from `DIRECTION_SHIFT` the tick direction, 0 absent, else one more than its place."""
DIRECTION_SHIFT = 5
DIRECTIONS: tuple[TickDirection | None, ...] = (None, *(TickDirection(word) for word in TICK_DIRECTIONS))


class Tables(Struct, gc=False):
    """One read's events. A kind that did not come is None; whatever no column can hold is in `rows`.

    Every event in a column has the read's `receive_time`.
    """

    count: int
    """Events altogether; their numbers are 0 to count - 1."""
    symbols: tuple[str, ...]
    """What the `symbol` columns index; may hold more than came."""
    receive_time: int
    trades: Columns | None = None
    """`number symbol price size event_time sent_time sequence flags`, and `trade_id`, a list of texts."""
    books: Columns | None = None
    """`number symbol is_snapshot depth update_id sequence event_time sent_time bid_count ask_count`, a row an event;
    `level_price level_size`, each event's bids, then its asks."""
    liquidations: Columns | None = None
    """`number symbol is_long size bankruptcy_price event_time sent_time`."""
    tickers: Columns | None = None
    """`number symbol tick_direction` (0 absent), and `values`: a row an event, a column each of `TICKER_NUMBERS`. Where
    there are any, `extra`: by row, texts and numbers beyond 64 bits by name; in `values` they are absent."""
    rows: list[tuple[int, Event]] = []
    """(number, event), rising."""

    def after(self, event: Event) -> Tables:
        """The same behind one more event."""

        def moved(columns: Columns | None) -> Columns | None:
            return None if columns is None else {**columns, "number": columns["number"] + 1}

        return Tables(
            self.count + 1, self.symbols, self.receive_time, moved(self.trades), moved(self.books),
            moved(self.liquidations), moved(self.tickers), [(0, event), *((n + 1, e) for n, e in self.rows)],
        )  # fmt: skip

    @property
    def first_receive_time(self) -> int:
        """Of the first event."""
        return self.rows[0][1].receive_time if self.rows and self.rows[0][0] == 0 else self.receive_time

    @property
    def last_receive_time(self) -> int:
        """The latest of all."""
        return max((self.receive_time, *(event.receive_time for _, event in self.rows)))

    def narrow(self) -> Tables:
        """The same, the tickers that have something in `extra` among the rows."""
        tickers = self.tickers
        if tickers is None or "extra" not in tickers:
            return self
        wide = sorted(tickers["extra"])
        one = {name: column[wide] for name, column in tickers.items() if name != "extra"}
        one["extra"] = dict(enumerate(tickers["extra"][row] for row in wide))
        events = _tickers(one, [self.symbols[i] for i in one["symbol"].tolist()], self.receive_time)
        rows = [*self.rows, *zip(one["number"].tolist(), events, strict=True)]
        keep = np.ones(len(tickers["number"]), np.bool_)
        keep[wide] = False
        plain = {name: column[keep] for name, column in tickers.items() if name != "extra"} if keep.any() else None
        return structs.replace(self, tickers=plain, rows=sorted(rows, key=itemgetter(0)))

    def row_tickers(self) -> list[tuple[int, Ticker]] | None:
        """`rows`, where they are nothing but tickers that came with this read, of symbols without any in the columns
        (numbers of a very large market do not fit a column); None where there is more: such a read is best iterated.
        """
        found = [(n, e) for n, e in self.rows if isinstance(e, Ticker) and e.receive_time == self.receive_time]
        if len(found) != len(self.rows):
            return None
        if found and self.tickers is not None:
            columnar = {self.symbols[i] for i in set(self.tickers["symbol"].tolist())}
            if any(ticker.symbol in columnar for _, ticker in found):
                return None
        return found

    def liquidation_events(self) -> list[Liquidation]:
        """The column's liquidations as events; they are few."""
        if self.liquidations is None:
            return []
        names = [self.symbols[i] for i in self.liquidations["symbol"].tolist()]
        return _liquidations(self.liquidations, names, self.receive_time)

    def events(self) -> tuple[Event, ...]:
        """Everything as events, in order."""
        out: list[Any] = [None] * self.count
        for number, event in self.rows:
            out[number] = event
        for columns, make in (
            (self.trades, _trades),
            (self.books, _books),
            (self.liquidations, _liquidations),
            (self.tickers, _tickers),
        ):
            if columns is not None:
                symbols = [self.symbols[i] for i in columns["symbol"].tolist()]
                for number, event in zip(
                    columns["number"].tolist(), make(columns, symbols, self.receive_time), strict=True
                ):
                    out[number] = event
        return tuple(out)


def listed(column: Ints) -> list[Any]:
    """A column as a list, None where absent."""
    values: list[Any] = column.tolist()
    return [None if value == ABSENT else value for value in values] if ABSENT in values else values


def _trades(columns: Columns, symbols: Sequence[str], receive_time: int) -> list[Trade]:
    buy, sell = AggressorSide.BUY, AggressorSide.SELL
    return [
        Trade(
            symbol, price, size, buy if flags & BUY else sell, trade_id, DIRECTIONS[flags >> DIRECTION_SHIFT], sequence,
            bool(flags & BLOCK_TRADE), bool(flags & RPI) if flags & RPI_KNOWN else None, bool(flags & BACKFILLED),
            event_time, sent_time, receive_time,
        )
        for symbol, price, size, flags, trade_id, sequence, event_time, sent_time in zip(
            symbols, columns["price"].tolist(), columns["size"].tolist(), columns["flags"].tolist(),
            columns["trade_id"], listed(columns["sequence"]), columns["event_time"].tolist(),
            listed(columns["sent_time"]), strict=True,
        )
    ]  # fmt: skip


def _books(columns: Columns, symbols: Sequence[str], receive_time: int) -> list[BookSnapshot | BookDelta]:
    levels = list(zip(columns["level_price"].tolist(), columns["level_size"].tolist(), strict=True))
    out: list[BookSnapshot | BookDelta] = []
    at = 0
    for symbol, is_snapshot, bids, asks, update_id, sequence, event_time, sent_time, depth in zip(
        symbols, columns["is_snapshot"].tolist(), columns["bid_count"].tolist(), columns["ask_count"].tolist(),
        columns["update_id"].tolist(), listed(columns["sequence"]), listed(columns["event_time"]),
        listed(columns["sent_time"]), columns["depth"].tolist(), strict=True,
    ):  # fmt: skip
        middle, end = at + bids, at + bids + asks
        out.append(
            (BookSnapshot if is_snapshot else BookDelta)(
                symbol, tuple(levels[at:middle]), tuple(levels[middle:end]), update_id, sequence, event_time, sent_time,
                receive_time, depth,
            )
        )  # fmt: skip
        at = end
    return out


def book_event(books: Columns, row: int, symbol: str, receive_time: int) -> BookSnapshot | BookDelta:
    """One row of the `books` columns as an event."""
    counts = books["bid_count"] + books["ask_count"]
    start = int(counts[:row].sum())
    levels = slice(start, start + int(counts[row]))
    one = {name: column[levels if name.startswith("level_") else slice(row, row + 1)] for name, column in books.items()}
    return _books(one, [symbol], receive_time)[0]


def liquidations_of(columns: Columns, symbols: Sequence[str], times: Iterable[int]) -> list[Liquidation]:
    """The events of the `liquidations` columns, with the receive time of each."""
    long, short = PositionSide.LONG, PositionSide.SHORT
    return [
        Liquidation(symbol, long if is_long else short, size, price, event_time, sent_time, receive_time)
        for symbol, is_long, size, price, event_time, sent_time, receive_time in zip(
            symbols, columns["is_long"].tolist(), columns["size"].tolist(), columns["bankruptcy_price"].tolist(),
            columns["event_time"].tolist(), listed(columns["sent_time"]), times, strict=True,
        )
    ]  # fmt: skip


def _liquidations(columns: Columns, symbols: Sequence[str], receive_time: int) -> list[Liquidation]:
    return liquidations_of(columns, symbols, [receive_time] * len(symbols))


def _tickers(columns: Columns, symbols: Sequence[str], receive_time: int) -> list[Ticker]:
    directions, rows = columns["tick_direction"].tolist(), columns["values"].tolist()
    extra = columns.get("extra", {})
    return [ticker_of(*row, extra.get(i)) for i, row in enumerate(zip(symbols, directions, rows, strict=True))]


def ticker_of(
    symbol: str, tick_direction: int, values: Sequence[int], extra: Mapping[str, Any] | None = None
) -> Ticker:
    """The event of one row of the `tickers` columns."""
    present: dict[str, Any] = {n: value for n, value in zip(TICKER_NUMBERS, values, strict=True) if value != ABSENT}
    return Ticker(symbol, tick_direction=DIRECTIONS[tick_direction], **present, **(extra or {}))
