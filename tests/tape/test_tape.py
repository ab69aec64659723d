"""Writer and reader together: everything comes back, whatever happens to the file in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wld
from wld.tape.recovery import recover
from wld.tape.verify import verify

from .strategies import EVENTS

HOUR = 3_600_000_000_000
T0 = 1_700_000_000_000_000_000 // HOUR * HOUR
ID = "20f43950-d8dd-5b31-9112-a178eb6023af"


def trade(i: int, receive_time: int | None = None, symbol: str = "WLDUSDT") -> wld.Trade:
    time = T0 + i * 1_000_000 if receive_time is None else receive_time
    return wld.Trade(symbol, 2 * wld.SCALE + i, i + 1, wld.AggressorSide.SELL, ID, event_time=time, receive_time=time)


def mixed(count: int) -> list[wld.Event]:
    events: list[wld.Event] = []
    for i in range(count):
        time = T0 + i * 1_000_000
        events.append(trade(i))
        if i == 0:
            events.append(wld.BookSnapshot("WLDUSDT", ((10, 1),), ((11, 1),), 7, i, time, time, time))
        else:
            events.append(wld.BookDelta("WLDUSDT", ((10, i),), (), 7 + i, i, time, time, time))
        if i % 5 == 0:
            events.append(wld.Ticker("WLDUSDT", turnover_24h=2**80 + i, last_price=-1, receive_time=time))
            events.append(wld.Liquidation("WLDUSDT", wld.PositionSide.LONG, 5, 6, time, time, time))
            events.append(wld.Gap(i, wld.GapReason.SILENCE, "publicTrade", None, None, time, time, time))
    return events


def write(folder: Path, events: list[wld.Event], *, seal: bool = True, flush_every: int = 10) -> Path:
    writer = wld.TapeWriter(folder, source="test")
    for i in range(0, len(events), flush_every):
        writer.append(wld.Batch(events[i : i + flush_every], i))
        writer.flush()
    summary = writer.close(seal=seal)
    return Path(summary.files[-1])


def read_until_damage(path: Path) -> tuple[list[wld.Event], str | None]:
    events: list[wld.Event] = []
    try:
        events.extend(wld.open_tape(path))
    except wld.TapeError as error:
        return events, str(error)
    return events, None


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=40), st.integers(1, 9), st.booleans())
def test_any_events_come_back_equal_and_in_order(events: list[wld.Event], flush_every: int, seal: bool) -> None:
    # Arbitrary receive times would rotate into many segments; the hour is pinned, everything else is free.
    with tempfile.TemporaryDirectory() as folder:
        writer = wld.TapeWriter(folder, source="test", rotate_minutes=10**9)
        for i in range(0, len(events), flush_every):
            writer.append(wld.Batch(events[i : i + flush_every], i))
            writer.flush()
        writer.close(seal=seal)
        assert list(wld.open_tape(folder)) == events
        assert verify(folder).is_intact


def test_segments_change_exactly_on_the_hour(tmp_path: Path) -> None:
    events: list[wld.Event] = [trade(0, T0 + HOUR - 1), trade(1, T0 + HOUR), trade(2, T0 + 2 * HOUR)]
    with wld.TapeWriter(tmp_path, source="test") as writer:
        writer.append(wld.Batch(events))
    names = sorted(p.name for p in tmp_path.glob("*.bin"))
    assert names == [f"market_data_20231114_{h}.bin" for h in ("2259", "2300")] + ["market_data_20231115_0000.bin"]
    assert list(wld.open_tape(tmp_path)) == events


def test_a_receive_time_beyond_any_calendar_still_gets_a_file(tmp_path: Path) -> None:
    events: list[wld.Event] = [wld.Ticker("X", receive_time=2**90)]
    assert list(wld.open_tape(write(tmp_path, events))) == events


def test_a_tick_of_the_clock_seals_a_quiet_segment(tmp_path: Path) -> None:
    with wld.TapeWriter(tmp_path, source="test") as writer:
        writer.append([trade(0)])
        writer.tick(T0 + HOUR - 1)
        assert writer.path is not None
        writer.tick(T0 + HOUR)
        assert [p.suffix for p in tmp_path.glob("market*")] == [".bin"]


def test_a_taken_name_gets_a_number_and_is_not_touched(tmp_path: Path) -> None:
    taken = tmp_path / "market_data_20231114_2200.bin"
    taken.write_bytes(b"mine")
    path = write(tmp_path, [trade(0)])
    assert path.name == "market_data_20231114_2200_2.bin"
    assert taken.read_bytes() == b"mine"


def test_a_name_taken_while_recording_is_not_overwritten_by_the_seal(tmp_path: Path) -> None:
    writer = wld.TapeWriter(tmp_path, source="test")
    writer.append([trade(0)])
    taken = tmp_path / "market_data_20231114_2200.bin"
    taken.write_bytes(b"mine")
    summary = writer.close()
    assert Path(summary.files[0]).name == "market_data_20231114_2200_2.bin"
    assert taken.read_bytes() == b"mine"


def test_two_runs_in_one_minute_follow_each_other(tmp_path: Path) -> None:
    write(tmp_path, [trade(0)])
    write(tmp_path, [trade(1)])
    assert list(wld.open_tape(tmp_path)) == [trade(0), trade(1)]
    assert len(verify(tmp_path).not_recorded) == 1


def test_a_second_writer_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with wld.TapeWriter(tmp_path, source="test"), pytest.raises(wld.TapeLocked, match=str(os.getpid())):
        wld.TapeWriter(tmp_path, source="test")
    wld.TapeWriter(tmp_path, source="test").close()


def test_a_left_over_journal_is_sealed_once_and_its_bytes_stay(tmp_path: Path) -> None:
    events = mixed(10)
    journal = write(tmp_path, events, seal=False)
    content = journal.read_bytes()
    journal.write_bytes(content + b"torn")
    (left,) = recover(tmp_path)
    assert left.torn_bytes == 4
    assert Path(left.journal).read_bytes() == content + b"torn"
    assert list(wld.open_tape(tmp_path)) == events
    assert recover(tmp_path) == []
    assert verify(tmp_path).is_intact


def test_a_kill_between_seal_and_rename_does_not_double_events(tmp_path: Path) -> None:
    events = mixed(3)
    journal = write(tmp_path, events, seal=False)
    from wld.tape.seal import seal

    seal(journal)
    assert list(wld.open_tape(tmp_path)) == events
    recover(tmp_path)
    assert list(wld.open_tape(tmp_path)) == events
    assert len(list(tmp_path.glob("*.bin"))) == 1


def test_a_killed_recorder_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    script = (
        "import sys, wld\n"
        "w = wld.TapeWriter(sys.argv[1], source='x')\n"
        "w.append(list(wld.open_tape(sys.argv[2])))\nw.flush()\n"
        "print('flushed', flush=True)\nsys.stdin.read()\n"
    )
    given_tape = write(tmp_path / "given", mixed(20))
    tmp_path = tmp_path / "killed"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), str(given_tape)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"flushed\n"
        child.send_signal(signal.SIGKILL)
    with wld.TapeWriter(tmp_path, source="x") as writer:
        assert len(writer.recover()) == 1
    assert list(wld.open_tape(tmp_path)) == mixed(20)


def test_a_full_disk_is_said_and_the_next_flush_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = mixed(10)
    writer = wld.TapeWriter(tmp_path, source="test")
    writer.append(events[:5])
    writer.flush()
    real = os.pwritev
    left = [30]

    def full(fd: int, parts: list[bytes], at: int) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        done = real(fd, [b"".join(parts)[: left[0]]], at)
        left[0] -= done
        return done

    monkeypatch.setattr(os, "pwritev", full)
    writer.append(events[5:])
    with pytest.raises(wld.TapeError, match="No space left"):
        writer.flush()
    assert list(wld.open_tape(tmp_path)) == events[:5]
    monkeypatch.undo()
    writer.close()
    assert list(wld.open_tape(tmp_path)) == events


def test_a_batch_interrupted_by_the_disk_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = wld.Batch([trade(0), trade(1, T0 + HOUR), trade(2, T0 + 2 * HOUR)])
    writer = wld.TapeWriter(tmp_path, source="test")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", full)
        with pytest.raises(wld.TapeError):
            writer.append(batch)
    writer.append(batch)
    writer.close()
    assert list(wld.open_tape(tmp_path)) == list(batch)


@pytest.mark.parametrize("seal", [True, False])
def test_columns_equal_those_of_the_batch(tmp_path: Path, seal: bool) -> None:
    events = mixed(40)
    tape = wld.open_tape(write(tmp_path, events, seal=seal))
    batch = wld.Batch(events)
    assert tape.symbols == batch.symbols
    for name in ("trades", "depth", "liquidations", "tickers", "gaps"):
        got = getattr(tape, name)()
        assert got.dtype == getattr(batch, name).dtype
        np.testing.assert_array_equal(got, getattr(batch, name))


def test_a_range_and_a_symbol_choose(tmp_path: Path) -> None:
    events: list[wld.Event] = [trade(i, symbol="AB"[i % 2]) for i in range(100)]
    path = write(tmp_path, events)
    assert list(wld.open_tape(path, symbols=["B"])) == events[1::2]
    tape = wld.open_tape(path, start=T0 + 10_000_000, end=T0 + 20_000_000)
    assert list(tape) == events[10:20]
    assert tape.trades()["number"].tolist() == sorted(range(10, 20), key=lambda i: i)


@pytest.mark.parametrize("seal", [True, False])
def test_the_book_at_any_instant_is_the_book_that_was_live_then(tmp_path: Path, seal: bool) -> None:
    rng = np.random.default_rng(1)
    live = wld.OrderBook("X")
    events: list[wld.Event] = []
    states = []
    for i in range(300):
        time = T0 + i * 20_000_000_000
        bids = tuple((int(p), int(s)) for p, s in zip(rng.integers(1, 50, 3), rng.integers(0, 3, 3), strict=True))
        if i % 130 == 0:
            events.append(wld.BookSnapshot("X", tuple(b for b in bids if b[1]), ((60, 1),), 1, None, time, time, time))
        else:
            events.append(wld.BookDelta("X", bids, (), live.update_id + 1, None, time, time, time))
        live.apply(events[-1])  # type: ignore[arg-type]
        states.append((time, live.bids(), live.asks(), live.update_id))
    write(tmp_path, events, seal=seal)
    tape = wld.open_tape(tmp_path)
    assert not tape.book_at(T0 - 1, "X").is_valid
    for time, bids, asks, update_id in states[::7]:
        book = tape.book_at(time, "X")
        assert (book.bids(), book.asks(), book.update_id, book.is_valid) == (bids, asks, update_id, True)


def test_full_snapshots_on_request(tmp_path: Path) -> None:
    with wld.TapeWriter(tmp_path, source="test", depth="snapshot") as writer:
        writer.append(mixed(3))
    tape = wld.open_tape(tmp_path)
    books = [e for e in tape if isinstance(e, wld.BookSnapshot)]
    assert [b.bids for b in books] == [((10, 1),), ((10, 1),), ((10, 2),)]
    assert tape.summary().header["book_deltas"] is False


def test_the_summary_counts(tmp_path: Path) -> None:
    events = mixed(10)
    summary = wld.open_tape(write(tmp_path, events)).summary()
    assert summary.counts == {
        "trade": 10, "book_snapshot": 1, "book_delta": 9, "ticker": 2, "liquidation": 2, "gap": 2,
    }  # fmt: skip
    assert summary.events == len(events)
    assert (summary.first_time, summary.last_time) == (T0, T0 + 9_000_000)
    assert len(summary.gaps) == 2


def test_later_versions_and_other_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"\x89WLD\r\n\x1a\x02" + bytes(200))
    with pytest.raises(wld.TapeVersion, match="format version 2"):
        wld.open_tape(path)
    path.write_bytes(b"hello, world, this is no tape")
    with pytest.raises(wld.TapeError, match="not a wld tape"):
        wld.open_tape(path)
    with pytest.raises(wld.TapeError, match="no such file"):
        wld.open_tape(tmp_path / "nowhere")


def test_following_sees_each_event_once_across_flush_rotation_and_seal(tmp_path: Path) -> None:
    events: list[wld.Event] = [trade(i, T0 + i * HOUR // 4) for i in range(12)]
    tape = iter(wld.open_tape(tmp_path, follow=True))
    with wld.TapeWriter(tmp_path, source="test") as writer:
        for event in events[:-1]:
            writer.append([event])
            writer.flush()
            assert next(tape) == event
        writer.append(events[-1:])
    assert next(tape) == events[-1]


def of_many_symbols(count: int) -> list[wld.Event]:
    events: list[wld.Event] = []
    for i in range(count):
        symbol, time = f"S{i % 7}USDT", T0 + i * 1_000_000
        events.append(trade(i, symbol=symbol))
        events.append(wld.BookSnapshot(symbol, ((10, i),), ((11, 1),), i, i, time, time, time))
        events.append(wld.Ticker(symbol, last_price=i, receive_time=time))
        events.append(wld.Liquidation(symbol, wld.PositionSide.LONG, 5, 6, time, time, time))
        events.append(wld.Gap(i, wld.GapReason.SILENCE, "tickers", symbol, None, time, time, time))
    return events


@pytest.mark.parametrize("seal", [True, False])
def test_symbols_share_journal_blocks_and_come_apart_again(tmp_path: Path, seal: bool) -> None:
    events = of_many_symbols(50)
    path = write(tmp_path, events, seal=seal, flush_every=1000)
    assert list(wld.open_tape(path)) == events
    tape = wld.open_tape(path, symbols=["S3USDT"], start=T0 + 20_000_000)
    wanted = [e for e in events if getattr(e, "symbol", "") == "S3USDT" and e.receive_time >= T0 + 20_000_000]
    assert list(tape) == wanted
    assert tape.symbols == ("S3USDT",)
    for name in ("trades", "depth", "liquidations", "tickers", "gaps"):
        got, expected = getattr(tape, name)(), getattr(wld.Batch(wanted), name)
        for field in got.dtype.names:
            if field != "number":
                np.testing.assert_array_equal(got[field], expected[field], err_msg=f"{name}.{field}")
    book = tape.book_at(T0 + 40_000_000, "S3USDT")
    assert book.bids() == [(10, 38)]
    summary = wld.open_tape(path).summary()
    assert summary.events == len(events)
    assert summary.by_symbol["S3USDT"] == {
        "trade": 7, "book_snapshot": 7, "ticker": 7, "liquidation": 7, "gap": 7,
    }  # fmt: skip


def test_a_flush_of_many_symbols_is_a_block_a_kind_and_a_second_behind_a_gap(tmp_path: Path) -> None:
    from wld.tape import layout
    from wld.tape.segment import Segment

    path = write(tmp_path, of_many_symbols(500), seal=False, flush_every=100_000)
    kinds = [block.kind for block, _ in Segment(path).blocks(lambda _: True)]
    first = [layout.TRADE, layout.BOOK, layout.TICKER, layout.LIQUIDATION]
    assert kinds == [layout.HEADER, *first, layout.GAP, *first]  # what follows the first Gap begins behind it


def test_only_some_kinds(tmp_path: Path) -> None:
    events = mixed(50)
    with wld.TapeWriter(tmp_path, source="test") as writer:
        writer.append(events)
    tape = wld.open_tape(tmp_path).only(["trade", "book_snapshot"])
    assert list(tape) == [e for e in events if isinstance(e, wld.Trade | wld.BookSnapshot)]
    with pytest.raises(wld.TapeError, match="got trades"):
        wld.open_tape(tmp_path).only(["trades"])
