"""Owns the export for hftbacktest: `SYMBOL_YYYYMMDD.npz`, an array `data` of its event type, ordered as it demands.

Event type, flags and the meaning of both clocks: hftbacktest 2.4, `types.py`, `data/validation.py` and its page "Data".
Rows valid at the exchange must rise by `exch_ts`, rows valid locally by `local_ts`; where the order in which messages
arrived is not the order of the exchange's clock, a row becomes two. A snapshot is a clear of each side, then its levels.
A feed that arrives before it was sent (two clocks) is moved by the least that makes no latency negative, which is what
`correct_local_timestamp` does.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wld.tape import layout, table
from wld.tape.export import Unit, join_pieces, piece
from wld.tape.export.fields import file_name
from wld.tape.reader import Tape, open_tape
from wld.tape.table import Table
from wld.units import ABSENT, SCALE

log = logging.getLogger(__name__)

DATASETS = ("trades", "depth")
UNIT = "segment"
EVENT_DTYPE = np.dtype(
    [
        ("ev", "<u8"), ("exch_ts", "<i8"), ("local_ts", "<i8"), ("px", "<f8"), ("qty", "<f8"), ("order_id", "<u8"),
        ("ival", "<i8"), ("fval", "<f8"),
    ]
)  # fmt: skip
DEPTH, TRADE, CLEAR, SNAPSHOT = 1, 2, 3, 4
EXCHANGE, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
_KIND = 0xFF
HOLD_NS = 60_000_000_000
"""An event may arrive so much later than its time at the exchange and still find its place there."""
CHUNK_ROWS = 1 << 18
_BUFFERED = 1 << 18
_DAY_NS = 86_400_000_000_000

Rows = npt.NDArray[np.void]


class Writer:
    """Turns trades and books into rows, by symbol and day, in ring order; `combine` orders them for both clocks."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._begun: set[str] = set()
        self._waiting: dict[str, list[tuple[npt.NDArray[np.int64], Rows]]] = {}
        self._count = 0
        self._depths: dict[str, int] = {}

    def add(self, dataset: str, symbol: str, part: Table) -> int:
        """Take one symbol's table; of several recorded depths the deepest counts."""
        if dataset == "depth":
            depths = part.ints("depth")
            deepest = self._depths[symbol] = max(self._depths.get(symbol, 0), int(depths.max()))
            if (depths != deepest).any():
                part = table.take(part, np.flatnonzero(depths == deepest))
        numbers, rows = (_book_rows if dataset == "depth" else _trade_rows)(part)
        self._waiting.setdefault(symbol, []).append((numbers, rows))
        self._count += len(rows)
        return len(rows)

    def settled(self, number: int) -> None:
        """Rows before this ring number can be written."""
        if self._count >= _BUFFERED:
            self._write(number)

    def close(self) -> None:
        """Write the rest."""
        self._write(None)

    def _write(self, before: int | None) -> None:
        self._count = 0
        for symbol, parts in self._waiting.items():
            numbers = np.concatenate([part[0] for part in parts])
            rows = np.concatenate([part[1] for part in parts])
            order = np.argsort(numbers, kind="stable")
            numbers, rows = numbers[order], rows[order]
            cut = len(rows) if before is None else int(np.searchsorted(numbers, before))
            days = rows["local_ts"][:cut] // _DAY_NS
            for day in np.unique(days).tolist():
                name = f"{file_name(symbol)}_{str(np.datetime64(day, 'D')).replace('-', '')}.rows"
                mode = "ab" if name in self._begun else "wb"  # a unit may run twice: begin afresh
                self._begun.add(name)
                with piece(self._unit, name).open(mode) as file:
                    file.write(rows[:cut][days == day].tobytes())
            self._waiting[symbol] = [(numbers[cut:], rows[cut:])] if cut < len(rows) else []
            self._count += len(rows) - cut
        self._waiting = {symbol: parts for symbol, parts in self._waiting.items() if parts}


def _exchange_time(part: Table) -> npt.NDArray[np.int64]:
    """The matching engine's time; where it was not sent the push's, else the receive time."""
    time = part.ints("event_time")
    for name in ("sent_time", "receive_time"):
        time = np.where(time == ABSENT, part.ints(name), time)
    return time


def _trade_rows(part: Table) -> tuple[npt.NDArray[np.int64], Rows]:
    rows = np.zeros(len(part), EVENT_DTYPE)
    is_buy = part.ints("flags") & table.BUY
    rows["ev"] = TRADE | np.where(is_buy, BUY, SELL)
    rows["exch_ts"], rows["local_ts"] = _exchange_time(part), part.ints("receive_time")
    rows["px"], rows["qty"] = part.ints("price") / SCALE, part.ints("size") / SCALE
    return part.numbers, rows


def _book_rows(part: Table) -> tuple[npt.NDArray[np.int64], Rows]:
    bids, asks = part.ints("bid_count"), part.ints("ask_count")
    clear = (part.ints("is_snapshot") != 0).astype(np.int64)
    lines = bids + asks + 2 * clear
    starts = np.cumsum(lines) - lines
    event = np.repeat(np.arange(len(part)), lines)
    within = np.arange(int(lines.sum())) - starts[event]
    head, bid_count = clear[event], bids[event]
    is_clear = (head == 1) & ((within == 0) | (within == 1 + bid_count))
    is_bid = within < head + bid_count
    rows = np.zeros(len(event), EVENT_DTYPE)
    side = np.where(is_bid, BUY, SELL)
    rows["ev"] = np.where(is_clear, CLEAR, np.where(head == 1, SNAPSHOT, DEPTH)) | side
    rows["exch_ts"], rows["local_ts"] = _exchange_time(part)[event], part.ints("receive_time")[event]
    rows["px"][~is_clear] = part.ints("level_price") / SCALE
    rows["qty"][~is_clear] = part.ints("level_size") / SCALE
    return part.numbers[event], rows


def combine(folder: Path, units: Sequence[Unit]) -> None:
    """Each symbol's day as an npz, in both orders."""
    join_pieces(folder)
    tape = open_tape([Path(path) for path in dict.fromkeys(path for unit in units for path in unit.paths)])
    for raw in sorted(folder.glob("*.rows")):
        _finish(raw, tape)
        raw.unlink()


def _finish(raw: Path, tape: Tape) -> None:
    rows: Any = np.memmap(raw, EVENT_DTYPE, "r")
    least = min(int((chunk["local_ts"] - chunk["exch_ts"]).min()) for chunk in _chunks(rows))
    moved = max(0, -least)
    if moved:
        log.info("%s: receive times moved by %d ns, by which the clocks differ at least", raw.stem, moved)
    ordered = raw.with_suffix(".ordered")
    order, clears = _Order(), _Clears()
    with ordered.open("wb") as file:
        first = _opening(raw, rows, tape)
        for chunk in (first, *_chunks(rows)) if len(first) else _chunks(rows):
            chunk = chunk.copy()
            clears.fill(chunk)
            chunk["local_ts"] += moved
            file.write(order.feed(chunk).tobytes())
        file.write(order.feed(rows[:0].copy(), is_last=True).tobytes())
    count = ordered.stat().st_size // EVENT_DTYPE.itemsize
    with (
        zipfile.ZipFile(raw.with_suffix(".npz"), "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive,
        archive.open("data.npy", "w", force_zip64=True) as entry,
    ):
        head = {"descr": EVENT_DTYPE.descr, "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(entry, head)  # all that its reader takes
        with ordered.open("rb") as source:
            while content := source.read(CHUNK_ROWS * EVENT_DTYPE.itemsize):
                entry.write(content)
    ordered.unlink()


def _chunks(rows: Any) -> Iterator[Any]:
    for start in range(0, len(rows), CHUNK_ROWS):
        yield rows[start : start + CHUNK_ROWS]


def _opening(raw: Path, rows: Any, tape: Tape) -> Rows:
    """The book as the day found it, where the day does not begin with a snapshot of its own."""
    kinds = rows["ev"][:CHUNK_ROWS] & _KIND
    books = np.flatnonzero(kinds != TRADE)
    empty = np.zeros(0, EVENT_DTYPE)
    if not len(books) or kinds[books[0]] == CLEAR:
        return empty
    named = raw.stem.rpartition("_")[0]
    symbol = next((s for s in tape.symbols if file_name(s) == named), named)
    first = int(rows["local_ts"][0])
    book = tape.book_at(first - 1, symbol)
    if not book.is_valid:
        return empty
    bids, asks = book.bids(), book.asks()
    levels = np.array([*bids, *asks], np.int64).reshape(-1, 2)
    columns: dict[str, Any] = {
        "number": np.zeros(1, np.int64), "is_snapshot": np.ones(1, np.int64),
        "bid_count": np.array([len(bids)]), "ask_count": np.array([len(asks)]),
        "level_price": levels[:, 0], "level_size": levels[:, 1],
        "event_time": np.array([min(first, int(rows["exch_ts"][0]))]), "receive_time": np.array([first]),
    }  # fmt: skip
    return _book_rows(Table(layout.BOOK, (symbol,), columns))[1]


class _Clears:
    """Gives each clear the price up to which the book before it can have levels."""

    def __init__(self) -> None:
        self._low = np.inf
        self._high = 0.0

    def fill(self, chunk: Rows) -> None:
        """Set `px` of the clears of a chunk in place."""
        kinds, is_buy = chunk["ev"] & _KIND, (chunk["ev"] & BUY) != 0
        is_level = (kinds == DEPTH) | (kinds == SNAPSHOT)
        price = chunk["px"]
        at = 0
        for place in np.flatnonzero(kinds == CLEAR).tolist():
            self._see(price[at:place], is_level[at:place], is_buy[at:place])
            at = place
            following = price[place + 1] if place + 1 < len(price) else 0.0  # where no book stood before
            if is_buy[place]:
                price[place] = self._low if np.isfinite(self._low) else following
                self._low = np.inf
            else:
                price[place] = self._high or following
                self._high = 0.0
        self._see(price[at:], is_level[at:], is_buy[at:])

    def _see(self, price: Any, is_level: Any, is_buy: Any) -> None:
        bids, asks = price[is_level & is_buy], price[is_level & ~is_buy]
        if len(bids):
            self._low = min(self._low, float(bids.min()))
        if len(asks):
            self._high = max(self._high, float(asks.max()))


class _Order:
    """Orders rows for both clocks, chunk by chunk: rows come in local order and leave with their flags.

    A row whose exchange time is before that of a row which arrived earlier is given twice: valid at the exchange where
    it belongs, valid locally where it arrived. Held back are the last `HOLD_NS`; what is later than that is local only.
    """

    def __init__(self) -> None:
        self._rows = np.zeros(0, EVENT_DTYPE)
        self._is_done = np.zeros(0, bool)
        self._reached = np.iinfo(np.int64).min

    def feed(self, chunk: Rows, *, is_last: bool = False) -> Rows:
        """Take rows; returns those that nothing can come before any more."""
        rows = np.concatenate([self._rows, chunk])
        is_done = np.concatenate([self._is_done, np.zeros(len(chunk), bool)])
        if not len(rows):
            return rows
        np.maximum.accumulate(rows["local_ts"], out=rows["local_ts"])
        exchange, local = rows["exch_ts"], rows["local_ts"]
        cut = len(rows) if is_last else int(np.searchsorted(local, local[-1] - HOLD_NS))
        least = np.iinfo(np.int64).min
        before = np.empty(len(rows), np.int64)
        before[0] = self._reached
        running = np.maximum.accumulate(np.where(is_done, least, exchange))
        before[1:] = np.maximum(running[:-1], self._reached)
        is_main = ~is_done & (exchange >= before)
        late = np.flatnonzero(~is_done & ~is_main & (exchange >= self._reached))
        main = np.flatnonzero(is_main)
        late = late[np.argsort(exchange[late], kind="stable")]
        places = main[np.searchsorted(exchange[main], exchange[late], side="right")] if len(late) else late
        ready = places < cut
        late, places = late[ready], places[ready]
        is_done[late] = True
        out = np.concatenate([rows[late], rows[:cut]])
        flags = np.concatenate([np.full(len(late), EXCHANGE), np.where(is_main[:cut], EXCHANGE | LOCAL, LOCAL)])
        out["ev"] |= flags.astype(np.uint64)
        keys = np.concatenate([places * 2, np.arange(cut) * 2 + 1])
        out = out[np.argsort(keys, kind="stable")]
        if len(out):
            at_exchange = out["exch_ts"][(out["ev"] & np.uint64(EXCHANGE)) != 0]
            if len(at_exchange):
                self._reached = max(self._reached, int(at_exchange[-1]))
        self._rows, self._is_done = rows[cut:], is_done[cut:]
        return out
