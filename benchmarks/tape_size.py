"""Bytes a message of the tape and of what else people keep market data in, on the same events, nothing left out.

    python benchmarks/tape_size.py [--messages 100000] [--capture FILE.jsonl]

Parquet needs the extra `parquet` (pyarrow): the best of every encoding and of zstd levels, chosen column by column.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tape_mix
import zstandard
from rich.console import Console
from rich.table import Table as Grid

import wld
from wld.tape import layout, table
from wld.tape.collector import Collector
from wld.tape.seal import seal
from wld.tape.segment import Segment

Sizes = dict[str, int]


def json_sizes(lines: list[tape_mix.Line]) -> Sizes:
    """With the receive time before each message, as hftbacktest's collector writes it, and without it."""
    stamped = b"".join(b"%d %s\n" % line for line in lines)
    bare = b"".join(message + b"\n" for _, message in lines)
    return {
        "JSON lines": len(stamped),
        "JSON lines, gzip -6": len(gzip.compress(stamped, 6)),
        "JSON lines, zstd -3": len(zstandard.compress(stamped, 3)),
        "JSON lines, zstd -3, no receive time": len(zstandard.compress(bare, 3)),
    }


def tape_sizes(events: list[wld.Event]) -> Sizes:
    """The journal, the sealed tape, and of it the blocks with events alone."""
    with tempfile.TemporaryDirectory() as folder:
        writer = wld.TapeWriter(folder, source="benchmark", rotate_minutes=10**9)
        for start in range(0, len(events), 5000):
            writer.append(wld.Batch(events[start : start + 5000], start))
            writer.flush()
        journal = Path(writer.close(seal=False).files[0])
        begun = time.process_time()
        sealed = seal(journal).path
        took = time.process_time() - begun
        assert list(wld.open_tape(sealed)) == events
        fixed = blocks = 0
        for block, _ in Segment(sealed).blocks(lambda _: True, check_all=True):
            if block.kind in layout.EVENT_KINDS:
                blocks += block.end - block.offset
            elif block.kind != layout.CHECKPOINT:
                fixed += block.end - block.offset
        print(f"sealing {len(events)} events took {took:.2f} s of CPU; header, index and footer are {fixed} bytes")
        return {
            "tape, journal": journal.stat().st_size,
            "tape, sealed": sealed.stat().st_size,
            "tape, sealed, its blocks alone": blocks,
        }


def struct_sizes(events: list[wld.Event]) -> Sizes:
    """The predecessor's flat C structs: a prefix of 2 bytes; ids, sequences, receive times and deltas are not in it."""
    sizes = {wld.Trade: 27, wld.BookSnapshot: 1610, wld.BookDelta: 1610, wld.Liquidation: 27, wld.Ticker: 34}
    total = sum(sizes.get(type(event), 0) for event in events)
    packed = bytearray()
    book = wld.OrderBook("")
    for event in events:
        if isinstance(event, wld.Trade):
            packed += struct.pack(
                "<HqqqB", 1, event.event_time, event.price, event.size, event.aggressor_side.value == "buy"
            )
        elif isinstance(event, wld.BookSnapshot | wld.BookDelta):
            book.apply(event)
            flat = [
                x
                for side in (book.bids(50), book.asks(50))
                for level in (*side, *((0, 0),) * (50 - len(side)))
                for x in level
            ]
            packed += struct.pack("<Hq200q", 2, event.event_time or 0, *flat)
        elif isinstance(event, wld.Liquidation):
            packed += struct.pack("<HqqqB", 3, event.event_time, event.bankruptcy_price, event.size, 0)
        elif isinstance(event, wld.Ticker):
            packed += struct.pack(
                "<Hqqqq",
                4,
                event.event_time or 0,
                event.open_interest or 0,
                event.funding_rate or 0,
                event.mark_price or 0,
            )
    assert len(packed) == total
    return {"flat C structs": total, "flat C structs, zstd -3": len(zstandard.compress(bytes(packed), 3))}


def parquet_sizes(events: list[wld.Event]) -> Sizes:
    """One file a kind, one row a level of books, every field; the smallest encoding of each column."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return {}
    collector = Collector()
    collector.add_rows(events, 0)
    default = best = 0
    for whole in collector.tables():
        if whole.kind in table.RARE:
            continue
        columns: dict[str, Any] = {}
        levels = None
        if whole.kind == layout.BOOK:
            levels = np.repeat(np.arange(len(whole)), whole.ints("bid_count") + whole.ints("ask_count"))
        for name, column in whole.columns.items():
            if name == "trade_id":
                columns[name] = pa.array([bytes(x) for x in column.tolist()], pa.binary(16))
            elif isinstance(column, list):
                texts = all(isinstance(x, str) or x is None for x in column)
                columns[name] = pa.array(column, pa.string() if texts else pa.decimal128(38))
            else:
                values = column if levels is None or name in table.LEVEL_COLUMNS else column[levels]
                columns[name] = pa.array(values, pa.int64(), mask=values == wld.ABSENT)
        if levels is not None:  # a row a level: the side, instead of the counts
            counts = np.stack([whole.ints("bid_count"), whole.ints("ask_count")], 1).reshape(-1)
            columns["is_bid"] = pa.array(np.repeat(np.tile([True, False], len(whole)), counts))
            del columns["bid_count"], columns["ask_count"]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink, compression="zstd", version="2.6")
        default += sink.getvalue().size
        best += best_parquet(pa, pq, columns)
    return {"Parquet, zstd": default, "Parquet, best encoding of each column, zstd": best}


def best_parquet(pa: Any, pq: Any, columns: dict[str, Any]) -> int:
    """One file with the smallest of dictionary, plain, delta and byte-split columns, at zstd levels 3, 9 and 19."""

    def size(names: Iterable[str], encodings: dict[str, str], dictionary: list[str], level: int) -> int:
        sink = pa.BufferOutputStream()
        pq.write_table(
            pa.table({name: columns[name] for name in names}), sink, compression="zstd", compression_level=level,
            use_dictionary=dictionary, column_encoding=encodings or None, version="2.6", data_page_version="2.0",
            row_group_size=1 << 20,
        )  # fmt: skip
        return int(sink.getvalue().size)

    encodings: dict[str, str] = {}
    dictionary: list[str] = []
    for name, column in columns.items():
        kinds = ["PLAIN"]
        if column.type == pa.int64():
            kinds += ["DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"]
        elif column.type == pa.binary(16):
            kinds += ["BYTE_STREAM_SPLIT"]
        tried = {kind: size([name], {name: kind}, [], 3) for kind in kinds}
        kind = min(tried, key=tried.__getitem__)
        if size([name], {}, [name], 3) <= tried[kind]:
            dictionary.append(name)
        else:
            encodings[name] = kind
    return min(size(columns, encodings, dictionary, level) for level in (3, 9, 19))


def compare(title: str, lines: list[tape_mix.Line], console: Console) -> None:
    """One table: bytes a message, and the ratio to zstd -3 JSON lines and to the best Parquet."""
    events = tape_mix.decode(lines)
    assert not any(isinstance(event, wld.Gap) for event in events)
    measures: list[Callable[[], Sizes]] = [
        lambda: json_sizes(lines), lambda: parquet_sizes(events), lambda: struct_sizes(events), lambda: tape_sizes(events),
    ]  # fmt: skip
    sizes = dict(itertools.chain.from_iterable(measure().items() for measure in measures))
    to_json = sizes["JSON lines, zstd -3"]
    to_parquet = sizes.get("Parquet, best encoding of each column, zstd")
    grid = Grid(
        "format",
        "bytes",
        "bytes a message",
        "of JSON zstd -3",
        "of the best Parquet",
        title=f"{title}: {len(lines)} messages, {len(events)} events",
    )
    for name, size in sizes.items():
        share = "" if to_parquet is None else f"{size / to_parquet:.1%}"
        grid.add_row(name, str(size), f"{size / len(lines):.2f}", f"{size / to_json:.1%}", share)
    console.print(grid)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=1800, help="of the simulated exchange")
    found = sorted(Path(__file__).parents[2].glob("shared/captures/*/*XRPUSDT*.jsonl"))
    parser.add_argument("--capture", type=Path, default=found[0] if found else None)
    options = parser.parse_args()
    console = Console(width=120, no_color=not os.isatty(1))
    compare("reference mix, seed 7", list(tape_mix.reference_mix(options.messages)), console)
    compare("simulated exchange, seed 7", list(tape_mix.exchange_mix(options.seconds)), console)
    if options.capture:
        compare(f"capture {options.capture.name}", list(tape_mix.capture(options.capture)), console)


if __name__ == "__main__":
    main()
