"""Owns reading tapes: events in order, numpy columns, the book at an instant. Does not write."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from msgspec import Struct

from wld import batch as dtypes
from wld.batch import Columns
from wld.book import OrderBook
from wld.errors import BookInvalid, TapeDamaged, TapeError, TapeVersion
from wld.events import KINDS, Event, Gap, Repair, kind_of
from wld.tape import layout, rows, table
from wld.tape.arrays import needs, table_array
from wld.tape.columns import Parts
from wld.tape.follow import follow as follow_events
from wld.tape.layout import Block
from wld.tape.seal import is_event, ordered
from wld.tape.segment import SHARD_FOLDERS, Paths, Segment, find_segments, raise_damages
from wld.tape.table import Table
from wld.units import INT64_MAX, SCALE

Scale = Literal["fixed", "float"]
_FIXED_POINT = frozenset(
    name
    for name in (*dtypes.TICKER_NUMBERS, "price", "size", "bankruptcy_price")
    if name
    not in (
        "next_funding_time",
        "funding_interval_hour",
        "sequence",
        "event_time",
        "sent_time",
        "receive_time",
    )
)


class FileSummary(Struct, frozen=True):
    """One file of a tape."""

    path: str
    bytes: int
    state: str
    """`sealed`, or `open` for a journal."""
    first_time: int | None
    last_time: int | None
    events: int


class TapeSummary(Struct, frozen=True):
    """What a tape holds; times are receive times in ns."""

    counts: dict[str, int]
    """Events by kind, in the words of `wld.events`."""
    by_symbol: dict[str, dict[str, int]]
    """Symbol, then kind, to events."""
    events: int
    first_time: int | None
    last_time: int | None
    bytes: int
    gaps: tuple[Gap, ...]
    repairs: tuple[Repair, ...]
    files: tuple[FileSummary, ...]
    header: dict[str, Any]
    """Of the first file."""


class Tape:
    """Recorded events. Iterating reads from the start each time; `start <= receive time < end`, ns.

    Gaps and Repairs of all symbols (`symbol` None) pass a filter of symbols.

    Raises:
        TapeDamaged: from any reading method, after every whole block was read or used.
    """

    def __init__(
        self, segments: list[Segment], symbols: Iterable[str] | None, start: int | None, end: int | None
    ) -> None:
        self.segments = segments
        self._wanted_symbols = None if symbols is None else frozenset(symbols)
        self.start = start
        self.end = end
        self._symbols: tuple[str, ...] | None = None
        self._begins: dict[str, dict[Segment, int]] = {}
        self._follow: Paths | None = None
        self._wanted_kinds: frozenset[str] | None = None
        self._block_kinds: frozenset[int] | None = None

    def only(self, kinds: Iterable[str]) -> Self:
        """This tape, its events limited to some kinds (`trade`, `ticker`, …); blocks of others are not decoded.

        Raises:
            TapeError: there is no such kind.
        """
        self._wanted_kinds = frozenset(kinds)
        unknown = self._wanted_kinds - set(KINDS)
        if unknown:
            raise TapeError(f"kinds: expected any of {', '.join(KINDS)}, got {', '.join(sorted(unknown))}")
        names = {"book" if kind.startswith("book") else kind for kind in self._wanted_kinds}
        self._block_kinds = frozenset(kind for kind, name in layout.KIND_NAMES.items() if name in names)
        return self

    def _wants(self, block: Block) -> bool:
        return (
            is_event(block)
            and (self._block_kinds is None or block.kind in self._block_kinds)
            and (
                self._wanted_symbols is None
                or block.symbol in self._wanted_symbols
                or bool(block.flags & layout.MANY_SYMBOLS)
                or self._is_general(block)
            )
            and (self.start is None or block.last_time >= self.start)
            and (self.end is None or block.first_time < self.end)
        )

    @staticmethod
    def _is_general(block: Block) -> bool:
        return block.symbol == "" and block.kind in (layout.GAP, layout.REPAIR)

    def _keeps(self, event: Any) -> bool:
        if self._wanted_symbols is not None:
            symbol = getattr(event, "symbol", None)
            if symbol is not None and symbol not in self._wanted_symbols:
                return False
        if self._wanted_kinds is not None and kind_of(event) not in self._wanted_kinds:
            return False
        time = event.receive_time
        return (self.start is None or time >= self.start) and (self.end is None or time < self.end)

    def __iter__(self) -> Iterator[Event]:
        for _, event in self.numbered():
            yield event

    def numbered(self) -> Iterator[tuple[int, Event]]:
        """As iterating, each event with its ring number; shards of one recording are merged by receive time."""
        bounded = any(x is not None for x in (self.start, self.end, self._wanted_symbols, self._wanted_kinds))
        if self._follow is not None:
            for item in follow_events(self._follow, self._wants):
                if not bounded or self._keeps(item[1]):
                    yield item
            return
        by_shard: dict[Path | None, list[Segment]] = {}
        for segment in self.segments:
            folder = segment.path.parent
            by_shard.setdefault(folder if folder.match(SHARD_FOLDERS) else None, []).append(segment)
        shards = [self._numbered(segments) for segments in by_shard.values()]
        # Each shard numbers its own events; between them only receive time gives an order.
        items = shards[0] if len(shards) == 1 else heapq.merge(*shards, key=lambda item: item[1].receive_time)
        for item in items:
            if not bounded or self._keeps(item[1]):
                yield item
        raise_damages(self.segments)

    def _numbered(self, segments: Sequence[Segment]) -> Iterator[tuple[int, Event]]:
        for segment in segments:
            yield from ordered(segment, segment.blocks(self._wants))

    @property
    def symbols(self) -> tuple[str, ...]:
        """The table that the `symbol` columns index, in order of first appearance."""
        if self._symbols is None:
            seen: dict[str, None] = {}

            def note(block: Block) -> bool:
                if block.kind in (layout.GAP, layout.REPAIR) or not self._wants(block):
                    return False
                if block.flags & layout.MANY_SYMBOLS:
                    return True
                seen[block.symbol] = None
                return False

            for segment in self.segments:
                for block, payload in segment.blocks(note):
                    with contextlib.suppress(TapeDamaged):  # said by whoever reads the events
                        seen.update(dict.fromkeys(rows.block_symbols(block, payload)))
            if self._wanted_symbols is not None:
                seen = {symbol: None for symbol in seen if symbol in self._wanted_symbols}
            self._symbols = tuple(seen)
        return self._symbols

    def trades(self, scale: Scale = "fixed", columns: Sequence[str] | None = None) -> Columns:
        """`TRADE_DTYPE`, or those fields of it that `columns` names, which alone are decoded.

        With `scale="float"` fixed-point columns are floats and absent is nan.
        """
        return self._array("trades", scale, columns)

    def depth(self, scale: Scale = "fixed", columns: Sequence[str] | None = None) -> Columns:
        """`DEPTH_DTYPE`, one row a level; see `trades`."""
        return self._array("depth", scale, columns)

    def liquidations(self, scale: Scale = "fixed", columns: Sequence[str] | None = None) -> Columns:
        """`LIQUIDATION_DTYPE`; see `trades`."""
        return self._array("liquidations", scale, columns)

    def tickers(self, scale: Scale = "fixed", columns: Sequence[str] | None = None) -> Columns:
        """`TICKER_DTYPE`; see `trades`."""
        return self._array("tickers", scale, columns)

    def gaps(self) -> Columns:
        """`GAP_DTYPE`."""
        return self._array("gaps", "fixed", None)

    def chunks(self, kind: str, scale: Scale = "fixed", columns: Sequence[str] | None = None) -> Iterator[Columns]:
        """The same arrays a piece at a time, in ring order within each file, for tapes larger than memory.

        `kind` is `trades`, `depth`, `liquidations`, `tickers` or `gaps`; a piece is a block or some that overlap.

        Raises:
            ValueError: no such kind or column.
        """
        code, dtype = _dtype(kind, columns)
        yield from self._chunks(code, dtype, scale)
        raise_damages(self.segments)

    def _chunks(self, kind: int, dtype: np.dtype[Any], scale: Scale) -> Iterator[Columns]:
        """As `chunks`; damages are noted, not raised."""
        place = {symbol: i for i, symbol in enumerate(self.symbols)}
        full = _with_number(dtype)
        for segment in self.segments:
            waiting: list[tuple[Columns, int]] = []
            for block, part in self._tables(segment, lambda b: b.kind == kind, kind, full.names or ()):
                if waiting and block.first_number > max(last for _, last in waiting):
                    yield _merged([array for array, _ in waiting], dtype, scale)
                    waiting = []
                with self._noting(segment, block):
                    waiting.append((table_array(part, place, full), block.last_number))
            if waiting:
                yield _merged([array for array, _ in waiting], dtype, scale)

    def _array(self, kind: str, scale: Scale, columns: Sequence[str] | None) -> Columns:
        code, dtype = _dtype(kind, columns)
        arrays = self._in_place(code, dtype) if code != layout.BOOK else None
        if arrays is None:
            arrays = list(self._chunks(code, dtype, scale))
        elif scale == "float":
            arrays = [_as_floats(array) for array in arrays]
        raise_damages(self.segments)
        if len(arrays) == 1:
            return arrays[0]
        return np.concatenate(arrays) if arrays else _as_floats(np.zeros(0, dtype)) if scale == "float" else np.zeros(
            0, dtype
        )  # fmt: skip

    def _in_place(self, kind: int, dtype: np.dtype[Any]) -> list[Columns] | None:
        """All rows in one array, each block written where it belongs; None where blocks overlap in ring order."""
        found: list[tuple[Segment, list[Block]]] = []
        for segment in self.segments:
            blocks = segment.headers(lambda b: b.kind == kind and self._wants(b))
            if any(after.first_number <= before.last_number for before, after in pairwise(blocks)):
                return None
            found.append((segment, blocks))
        total = sum(block.count for _, blocks in found for block in blocks)
        place = {symbol: i for i, symbol in enumerate(self.symbols)}
        out = np.empty(total, dtype)
        at = 0
        for segment, blocks in found:
            if segment.has_footer and not any(any(self._choice(block)) for block in blocks) and kind != layout.GAP:
                at = self._fill(segment, blocks, place, out, at)
                continue
            for block, part in self._tables(segment, lambda b: b.kind == kind, kind, dtype.names or ()):
                upto = at + len(part)
                if upto > total:  # a journal that grew in between
                    break
                with self._noting(segment, block):
                    table_array(part, place, dtype, out[at:upto])
                    at = upto
        return [out[:at]]

    def _fill(self, segment: Segment, blocks: list[Block], place: Mapping[str, int], out: Columns, at: int) -> int:
        """Whole blocks of a sealed file into `out` from row `at` on; the row after the last."""
        ends = np.cumsum([block.count for block in blocks]) + at
        good = [False] * len(blocks)
        names = out.dtype.names or ()
        only = needs(blocks[0].kind, names) if blocks else frozenset()

        def use(i: int, block: Block, payload: bytes | Parts) -> None:
            with self._noting(segment, block):
                part = rows.decode_table(block, payload, only)
                table_array(part, place, out.dtype, out[ends[i] - block.count : ends[i]])
                good[i] = True

        if blocks:
            segment.each_part(blocks, rows.stored(blocks[0].kind, only), use)
        for block, end, is_good in zip(blocks, ends.tolist(), good, strict=True):
            if is_good:
                start = end - block.count
                if start != at:  # a hurt block left a hole
                    out[at : at + block.count] = out[start:end]
                at += block.count
        return at

    def _tables(
        self, segment: Segment, which: Callable[[Block], bool], kind: int = 0, names: tuple[str, ...] | None = None
    ) -> Iterator[tuple[Block, Table]]:
        """The wanted events of blocks as tables, with what the fields `names` need; hurt blocks are noted."""

        def only(block: Block) -> frozenset[str]:
            _, start, end = self._choice(block)
            wanted = needs(kind, names or ())
            return wanted if start is None and end is None else wanted | {"receive_time"}

        def wanted(block: Block) -> bool:
            return which(block) and self._wants(block)

        if names is None or kind == layout.GAP:
            found: Iterator[tuple[Block, bytes | Parts]] = segment.blocks(wanted)
        else:
            found = segment.parts(wanted, lambda block: rows.stored(kind, only(block)))
        for block, payload in found:
            with self._noting(segment, block):
                part = rows.decode_table(block, payload, None if names is None else only(block))
                part = table.choose(part, *self._choice(block))
                if len(part):
                    yield block, part

    @contextlib.contextmanager
    def _noting(self, segment: Segment, block: Block) -> Iterator[None]:
        try:
            yield
        except TapeError as error:
            segment.damage(block.offset, block.end - block.offset, str(error))

    def _choice(self, block: Block) -> tuple[frozenset[str] | None, int | None, int | None]:
        """What of a block's events is wanted, None where its header says that all of them are."""
        return (
            self._wanted_symbols if block.flags & layout.MANY_SYMBOLS else None,
            self.start if self.start is not None and block.first_time < self.start else None,
            self.end if self.end is not None and block.last_time >= self.end else None,
        )

    def book_at(self, time_ns: int, symbol: str, depth: int | None = None) -> OrderBook:
        """The book as it stood at a receive time, that instant included.

        `depth` chooses among recorded depths; without it the deepest. Not valid where no snapshot came before. Asked
        again for another time, it does not look into every file again.
        """
        found = OrderBook(symbol)
        for i in range(len(self.segments) - 1, -1, -1):
            if self._first_book(self.segments[i], symbol) > time_ns:
                continue
            for number in self._starts(self.segments[i], time_ns, symbol):
                books = self._replay(i, number, time_ns, symbol)
                wanted = max(books, default=None) if depth is None else depth
                if wanted is not None and wanted in books and not found.update_id:
                    found = books[wanted]
                if found.update_id:
                    break
            if found.update_id:
                break
        raise_damages(self.segments)
        return found

    def _first_book(self, segment: Segment, symbol: str) -> int:
        """The earliest receive time of the symbol's books there; beyond any where it has none. Read once."""
        begins = self._begins.setdefault(symbol, {})
        if segment not in begins:
            begins[segment] = min((b.first_time for b in segment.headers(_is_book_of(symbol))), default=INT64_MAX)
        return begins[segment]

    def _starts(self, segment: Segment, time_ns: int, symbol: str) -> list[int]:
        """Ring numbers to replay from: the last that a checkpoint or a snapshot's block gives, then the first."""
        blocks = [b for b in segment.headers(_is_book_of(symbol)) if b.first_time <= time_ns]
        marks = [b.first_number for b in blocks if b.kind == layout.CHECKPOINT or b.snapshots]
        return [max(marks), blocks[0].first_number] if marks else [b.first_number for b in blocks[:1]]

    def _replay(self, i: int, start: int, time_ns: int, symbol: str) -> dict[int, OrderBook]:
        """Every depth's book at that time, from segment `i` and ring number `start` on."""
        books: dict[int, OrderBook] = {}
        first = self.segments[i]
        marks = first.blocks(lambda b: b.kind == layout.CHECKPOINT and b.symbol == symbol and b.first_number == start)
        for _, state in ordered(first, marks):
            books.setdefault(state.depth, OrderBook(symbol)).apply(state)
        for segment in self.segments[i:]:
            least = start if segment is first else None
            if self._first_book(segment, symbol) > time_ns:
                continue

            def wanted(block: Block, least: int | None = least) -> bool:
                return (
                    block.kind == layout.BOOK
                    and (block.symbol == symbol or bool(block.flags & layout.MANY_SYMBOLS))
                    and block.first_time <= time_ns
                    and (least is None or block.last_number >= least)
                )

            for number, event in ordered(segment, segment.blocks(wanted)):
                if event.symbol == symbol and event.receive_time <= time_ns and (least is None or number >= least):
                    with contextlib.suppress(BookInvalid):
                        books.setdefault(event.depth, OrderBook(symbol)).apply(event)
        return books

    def summary(self, *, raise_damaged: bool = True) -> TapeSummary:
        """Counts by kind and symbol, first and last times, bytes, gaps; from block headers where they suffice.

        Without `raise_damaged`, of what is whole; `segments` know what is not.
        """
        by_symbol: dict[str, dict[str, int]] = {}
        files: list[FileSummary] = []
        gaps: list[Gap] = []
        repairs: list[Repair] = []
        for segment in self.segments:
            spans: list[tuple[int, int]] = []
            events = 0
            for block in segment.headers(self._wants):
                spans.append((block.first_time, block.last_time))
                if not block.flags & layout.MANY_SYMBOLS:
                    events += block.count
                    _count(by_symbol, block.kind, block.symbol, block.count, block.snapshots)
            for _, part in self._tables(segment, lambda b: bool(b.flags & layout.MANY_SYMBOLS)):
                for one in table.by_symbol(part):
                    snapshots = np.count_nonzero(one.ints("is_snapshot")) if one.kind == layout.BOOK else 0
                    events += len(one)
                    _count(by_symbol, one.kind, one.symbols[0], len(one), int(snapshots))
            holes = segment.blocks(lambda b: b.kind in (layout.GAP, layout.REPAIR) and self._wants(b))
            for _, event in ordered(segment, holes):
                if self._keeps(event):
                    (gaps if isinstance(event, Gap) else repairs).append(event)
            files.append(
                FileSummary(
                    str(segment.path), segment.size, "open" if segment.is_journal else "sealed",
                    min((first for first, _ in spans), default=None), max((last for _, last in spans), default=None),
                    events,
                )
            )  # fmt: skip
        counts: dict[str, int] = {}
        for of_symbol in by_symbol.values():
            for kind, count in of_symbol.items():
                counts[kind] = counts.get(kind, 0) + count
        starts = [file.first_time for file in files if file.first_time is not None]
        ends = [file.last_time for file in files if file.last_time is not None]
        if raise_damaged:
            raise_damages(self.segments)
        return TapeSummary(
            counts, by_symbol, sum(file.events for file in files), min(starts, default=None),
            max(ends, default=None), sum(file.bytes for file in files), tuple(gaps), tuple(repairs), tuple(files),
            self.segments[0].header if self.segments else {},
        )  # fmt: skip


def _count(by_symbol: dict[str, dict[str, int]], kind: int, symbol: str, count: int, snapshots: int) -> None:
    kinds = {layout.KIND_NAMES[kind]: count}
    if kind == layout.BOOK:
        kinds = {"book_snapshot": snapshots, "book_delta": count - snapshots}
    for name, events in kinds.items():
        if events:
            of_symbol = by_symbol.setdefault(symbol, {})
            of_symbol[name] = of_symbol.get(name, 0) + events


_DTYPES: dict[str, tuple[int, np.dtype[Any]]] = {
    "trades": (layout.TRADE, dtypes.TRADE_DTYPE),
    "depth": (layout.BOOK, dtypes.DEPTH_DTYPE),
    "liquidations": (layout.LIQUIDATION, dtypes.LIQUIDATION_DTYPE),
    "tickers": (layout.TICKER, dtypes.TICKER_DTYPE),
    "gaps": (layout.GAP, dtypes.GAP_DTYPE),
}


def _dtype(kind: str, columns: Sequence[str] | None) -> tuple[int, np.dtype[Any]]:
    """(block kind, dtype of those fields)."""
    if kind not in _DTYPES:
        raise ValueError(f"kind: expected one of {', '.join(_DTYPES)}, got {kind!r}")
    code, dtype = _DTYPES[kind]
    if columns is None:
        return code, dtype
    unknown = [name for name in columns if name not in (dtype.names or ())]
    if unknown or not columns:
        raise ValueError(f"columns: expected some of {', '.join(dtype.names or ())}, got {unknown or 'none'}")
    return code, np.dtype([(name, dtype[name]) for name in dict.fromkeys(columns)])


def _with_number(dtype: np.dtype[Any]) -> np.dtype[Any]:
    names = dtype.names or ()
    if "number" in names:
        return dtype
    return np.dtype([("number", "<i8"), *((name, dtype[name]) for name in names)])


def _merged(arrays: list[Columns], dtype: np.dtype[Any], scale: Scale) -> Columns:
    """Arrays whose ring numbers may overlap as one in ring order, with the fields of `dtype`."""
    joined = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    if len(arrays) > 1 and (np.diff(joined["number"]) < 0).any():
        joined = joined[np.argsort(joined["number"], kind="stable")]
    if joined.dtype != dtype:
        fields = np.empty(len(joined), dtype)
        for name in dtype.names or ():
            fields[name] = joined[name]
        joined = fields
    return _as_floats(joined) if scale == "float" else joined


def _is_book_of(symbol: str) -> Callable[[Block], bool]:
    return lambda block: (
        block.kind in (layout.BOOK, layout.CHECKPOINT)
        and (block.symbol == symbol or bool(block.flags & layout.MANY_SYMBOLS))
    )


def _as_floats(table: Columns) -> Columns:
    dtype = table.dtype
    names = dtype.names or ()
    out = np.empty(
        len(table),
        np.dtype([(n, "<f8" if n in _FIXED_POINT else dtype[n]) for n in names if not n.endswith("_high")]),
    )
    for name in out.dtype.names or ():
        column = table[name]
        if name not in _FIXED_POINT:
            out[name] = column
            continue
        value = column.astype(np.float64)
        if f"{name}_high" in names:
            # value = high * 2**64 + unsigned low; high is -1 for a negative value that fits.
            high = table[f"{name}_high"].astype(np.float64) + (column < 0)
            value = np.where(table[f"{name}_high"] == -1, np.where(column < 0, value, value - 2.0**64), value)
            wide = (table[f"{name}_high"] > 0) | (table[f"{name}_high"] < -1)
            value = np.where(wide, high * 2.0**64 + column.astype(np.float64), value)
        out[name] = np.where(column == np.iinfo(np.int64).min, np.nan, value / SCALE)
    return out


def open_tape(
    paths: Paths, symbols: Iterable[str] | None = None, start: int | None = None, end: int | None = None,
    follow: bool = False,
) -> Tape:  # fmt: skip
    """A tape of a file, a folder, or a list of them; `start` and `end` bound receive times (ns, end excluded).

    With `follow`, iterating goes on with what is being recorded and waits for more without end; the other methods
    give what stood there when it was opened.

    Raises:
        TapeError: no such path, no tape in it, not a tape.
        TapeVersion: a format version this wld does not know.
    """
    if not follow:
        return Tape(find_segments(paths), symbols, start, end)
    try:
        segments = find_segments(paths)
    except TapeVersion:
        raise
    except TapeError:
        segments = []  # the recording has not begun
    tape = Tape(segments, symbols, start, end)
    tape._follow = paths
    return tape
