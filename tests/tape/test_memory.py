"""What sealing and gathering hold in memory, counted in bytes: their columns once, twice while they are joined and sorted."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import wld
from wld.tape import layout
from wld.tape.collector import Collector
from wld.tape.seal import seal
from wld.tape.table import from_events


def deltas(count: int, levels: int) -> list[wld.Event]:
    """Of many books in turn, each with so many levels that hardly repeat."""
    return [
        wld.BookDelta(
            f"S{n % 40}USDT", tuple((n * 7919 + i, n * 104_729 + i) for i in range(levels)), (), n // 40, n, None, None, n, 50
        )
        for n in range(count)
    ]  # fmt: skip


def test_sealing_many_books_holds_less_than_three_times_their_columns(tmp_path: Path) -> None:
    with wld.TapeWriter(
        tmp_path, source="test", clock="recorded", seal_at_rotation=False, rotate_minutes=10**6
    ) as writer:
        events = deltas(1600, 250)
        for start in range(0, len(events), 100):
            writer.append(wld.Batch(events[start : start + 100], start))
            writer.flush()
        journal, size = writer.path, writer.bytes
        assert journal is not None
        seal(journal).path.unlink()  # what is loaded once is not counted
        tracemalloc.start()
        try:
            seal(journal)
            held = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert size > 6_000_000
    assert held < 2.75 * size


def test_what_is_drained_is_forgotten_as_it_goes() -> None:
    collector = Collector()
    collector.add_table(from_events(layout.BOOK, range(10), deltas(10, 2)))
    trades = [wld.Trade("X", 1, 1, wld.AggressorSide.BUY, "a", event_time=n, receive_time=n) for n in range(10, 20)]
    collector.add_rows(trades, 10)
    whole = list(collector.tables())
    tables = collector.drain()
    assert collector.count == 0
    assert not collector.parts
    assert [(table.kind, table.numbers.tolist()) for table in tables] == [(t.kind, t.numbers.tolist()) for t in whole]
