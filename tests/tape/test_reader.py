"""Reading columns: only what is asked for is read, in pieces where that is wanted, whatever stands in the blocks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wld
from wld.batch import TRADE_DTYPE
from wld.tape import rows, table
from wld.tape.follow import follow
from wld.tape.seal import BlockFile
from wld.tape.segment import Segment

from .strategies import EVENTS
from .test_tape import HOUR, T0, mixed, of_many_symbols, trade, write

MINUTE = 60_000_000_000


def long_tape(path: Path, count: int = 400_000) -> np.ndarray:
    """Trades ten a second, with random ids, in blocks of 65,536."""
    rng = np.random.default_rng(1)
    trades = np.zeros(count, TRADE_DTYPE)
    trades["number"] = np.arange(count)
    trades["receive_time"] = trades["event_time"] = T0 + trades["number"] * 100_000_000
    trades["price"] = (24_000 + np.cumsum(rng.integers(-1, 2, count))) * 10_000
    trades["size"] = rng.integers(1, 10**6, count) * 10**7
    trades["is_buy"] = rng.random(count) < 0.5
    trades["trade_id"] = np.frombuffer(rng.bytes(16 * count), "V16")
    file = BlockFile(path, {"format": 1, "segment": "s", "run": "r"})
    file.put(rows.encode_tables([table.from_trades(trades, ["X"])], pack=True))
    file.finish()
    file.close()
    return trades


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    path = tmp_path_factory.mktemp("day") / "market_data_20231114_2200.bin"
    return path, long_tape(path)


class CountedReads:
    """What `os.pread` was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        self.places: list[tuple[int, int]] = []
        real = os.pread

        def counted(fd: int, length: int, offset: int) -> bytes:
            content = real(fd, length, offset)
            self.bytes += len(content)
            self.places.append((offset, offset + len(content)))
            return content

        monkeypatch.setattr(os, "pread", counted)


def test_a_minute_out_of_a_day_reads_only_its_blocks(
    day: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, trades = day
    start = T0 + 5 * HOUR
    expected = trades[(trades["receive_time"] >= start) & (trades["receive_time"] < start + MINUTE)]
    blocks = [b for b, _ in Segment(path).blocks(lambda _: True, check_all=True)]
    mine = [b for b in blocks if b.count and b.last_time >= start and b.first_time < start + MINUTE and b.kind == 2]
    rest = [b for b in blocks if b.kind == 2 and b not in mine]
    assert len(mine) == 1
    reads = CountedReads(monkeypatch)
    tape = wld.open_tape(path, start=start, end=start + MINUTE)
    got = tape.trades()
    assert len(got) == 600
    np.testing.assert_array_equal(got, expected)
    assert reads.bytes < mine[0].end - mine[0].offset + 20_000
    for block in rest:
        assert not any(a < block.end and b > block.payload_offset for a, b in reads.places)
    reads.bytes = 0
    assert len(list(tape)) == 600
    assert reads.bytes < mine[0].end - mine[0].offset + 20_000


def test_a_few_columns_read_only_their_bytes(day: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    path, trades = day
    reads = CountedReads(monkeypatch)
    names = ["event_time", "price", "size", "is_buy"]
    got = wld.open_tape(path).trades(columns=names)
    assert got.dtype.names == tuple(names)
    for name in names:
        np.testing.assert_array_equal(got[name], trades[name])
    assert reads.bytes < path.stat().st_size / 4  # the ids are most of it
    floats = wld.open_tape(path).trades(scale="float", columns=["price"])
    np.testing.assert_allclose(floats["price"], trades["price"] / 1e8)


def test_a_hurt_column_costs_its_block_only_where_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "market_data_20231114_2200.bin"
    trades = long_tape(path, 200_000)
    content = bytearray(path.read_bytes())
    second = [b for b, _ in Segment(path).blocks(lambda b: b.kind == 2)][1]
    content[second.end - 100] ^= 1  # in the ids, the last column
    path.write_bytes(content)
    sizes = wld.open_tape(path).trades(columns=["size"])["size"]
    np.testing.assert_array_equal(sizes, trades["size"])
    with pytest.raises(wld.TapeDamaged, match=rf"offset {second.offset}: .*column trade_id"):
        wld.open_tape(path).trades()
    tape = wld.open_tape(path)
    got: list[int] = []
    pieces = tape.chunks("trades")
    with pytest.raises(wld.TapeDamaged):
        got.extend(number for chunk in pieces for number in chunk["number"].tolist())
    assert got == [*range(65_536), *range(131_072, 200_000)]


def test_wrong_columns_and_kinds_are_named(day: tuple[Path, np.ndarray]) -> None:
    tape = wld.open_tape(day[0])
    with pytest.raises(ValueError, match=r"columns: expected some of number, symbol, price.*got .'prize'"):
        tape.trades(columns=["prize"])
    with pytest.raises(ValueError, match="kind: expected one of trades, depth"):
        next(tape.chunks("trade"))


@pytest.mark.parametrize("seal", [True, False])
@pytest.mark.parametrize("events", [mixed(60), of_many_symbols(60)], ids=["one symbol", "many"])
def test_pieces_together_are_the_whole(tmp_path: Path, events: list[wld.Event], seal: bool) -> None:
    tape = wld.open_tape(write(tmp_path, events, seal=seal, flush_every=40))
    for kind in ("trades", "depth", "liquidations", "tickers", "gaps"):
        whole = getattr(tape, kind)()
        pieces = list(tape.chunks(kind))
        np.testing.assert_array_equal(np.concatenate(pieces), whole)
        assert (np.diff(whole["number"]) >= 0).all()
        if kind != "gaps":
            names = ["receive_time", "symbol"]
            part = np.concatenate(list(tape.chunks(kind, columns=names)))
            assert part.dtype.names == tuple(names)
            np.testing.assert_array_equal(part["receive_time"], whole["receive_time"])


@settings(deadline=None, max_examples=40)
@given(st.lists(EVENTS, min_size=1, max_size=20), st.booleans())
def test_every_field_alone_is_that_field_of_all(events: list[wld.Event], seal: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        writer = wld.TapeWriter(folder, source="test", rotate_minutes=10**9)
        writer.append(wld.Batch(events))
        writer.close(seal=seal)
        for kind in ("trades", "depth", "liquidations"):
            tape = wld.open_tape(folder)
            try:
                whole = getattr(tape, kind)()
            except wld.TapeDamaged:  # wider than the columns are
                continue
            for name in whole.dtype.names:
                part = getattr(wld.open_tape(folder), kind)(columns=[name])
                np.testing.assert_array_equal(part[name], whole[name])


def take(iterator: Any, count: int) -> list[wld.Event]:
    return [next(iterator)[1] for _ in range(count)]


def test_following_waits_for_a_flush_to_be_whole_and_goes_on_into_later_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wld.tape.follow.POLL_S", 0)
    events: list[wld.Event] = [trade(i, T0 + i * HOUR // 5) for i in range(20)]
    tail = follow(tmp_path, lambda block: block.count > 0 and block.kind == 2)
    writer = wld.TapeWriter(tmp_path, source="test")
    for start in range(0, 20, 4):
        writer.append(events[start : start + 4])
        writer.flush()
        assert take(tail, 4) == events[start : start + 4]
        if start == 8:  # stopped and started again: another run, another segment
            writer.close()
            writer = wld.TapeWriter(tmp_path, source="test")
    writer.close()
    late = wld.TapeWriter(tmp_path, source="test")
    late.append([trade(99, T0 + 9 * HOUR)])
    late.close()
    assert take(tail, 1) == [trade(99, T0 + 9 * HOUR)]


def test_following_does_not_open_what_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wld.tape.follow.POLL_S", 0)
    events: list[wld.Event] = [trade(i, T0 + i * HOUR) for i in range(6)]
    with wld.TapeWriter(tmp_path, source="test") as writer:
        writer.append(events)
    tail = follow(tmp_path, lambda block: block.kind == 2)
    assert take(tail, 6) == events
    opened: list[str] = []
    real = Segment.__init__

    def noting(self: Segment, path: Path, **options: Any) -> None:
        opened.append(path.name)
        real(self, path, **options)

    monkeypatch.setattr(Segment, "__init__", noting)
    again = wld.TapeWriter(tmp_path, source="test")
    again.append([trade(7, T0 + 7 * HOUR)])
    again.flush()
    assert take(tail, 1) == [trade(7, T0 + 7 * HOUR)]
    assert opened.count("market_data_20231114_2200.bin") <= 2
    again.close()


def test_books_of_months_look_into_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [T0 + i * HOUR for i in range(40)]
    events: list[wld.Event] = [
        wld.BookSnapshot("X", ((i + 1, 1),), ((99, 1),), i, i, t, t, t) for i, t in enumerate(times)
    ]
    with wld.TapeWriter(tmp_path, source="test") as writer:
        writer.append(events)
    tape = wld.open_tape(tmp_path)
    assert tape.book_at(times[0], "X").bids() == [(1, 1)]
    looked: list[Path] = []
    real = Segment.blocks

    def noting(self: Segment, *arguments: Any, **options: Any) -> Any:
        looked.append(self.path)
        return real(self, *arguments, **options)

    monkeypatch.setattr(Segment, "blocks", noting)
    for i in (3, 20, 39):
        assert tape.book_at(times[i], "X").bids() == [(i + 1, 1)]
    assert len(looked) <= 3 * 4
