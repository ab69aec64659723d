"""Exports: exact, whole or not there at all, and read by the tools they are for."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import struct
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wld
from tests.exchange.test_serve import recording
from wld.tape import show
from wld.tape.export import export, hftbacktest, parquet
from wld.tape.export.hftbacktest import EVENT_DTYPE, EXCHANGE, LOCAL, _Order
from wld.testing import make_trade

T0 = 1_764_000_000_000_000_000
DAY = "2025-11-24"
READERS = os.environ.get("WLD_READERS_PYTHON", sys.executable)
"""An interpreter with duckdb, polars, pandas and hftbacktest."""


def write(folder: Path, events: list[wld.Event], **arguments: Any) -> Path:
    with wld.TapeWriter(folder, source="test", **arguments) as writer:
        writer.append(events)
    return folder


@pytest.fixture
def events() -> list[wld.Event]:
    found = recording(seconds=3)
    found.insert(40, wld.Gap(1, wld.GapReason.DISCONNECT, first_time=T0, receive_time=found[39].receive_time))
    found.insert(41, wld.Repair(1, 2, 0, receive_time=found[39].receive_time))
    return found


@pytest.fixture
def tape(tmp_path: Path, events: list[wld.Event]) -> Path:
    return write(tmp_path / "tape", events)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wld", "export", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def of(events: list[wld.Event], kind: Any, symbol: str = "AAAUSDT") -> list[Any]:
    return [event for event in events if isinstance(event, kind) and event.symbol == symbol]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of a dataset without its times, which Python's datetime cannot hold."""
    frame = pq.read_table(folder)
    return frame.drop_columns([name for name in frame.column_names if name.endswith("_time")]).to_pylist()


def fixed(value: Decimal | None) -> int | None:
    return None if value is None else int(value.scaleb(8))


def test_parquet_is_partitioned_by_symbol_and_day_and_exact(
    tape: Path, tmp_path: Path, events: list[wld.Event]
) -> None:
    summary = export([str(tape)], tmp_path / "out", "parquet")
    assert summary.rows["trades"] == len([e for e in events if isinstance(e, wld.Trade)])
    (path,) = (tmp_path / "out/trades/symbol=AAAUSDT" / f"day={DAY}").glob("*.parquet")
    file = pq.ParquetFile(path)
    assert file.metadata.row_group(0).column(1).compression == "ZSTD"
    encodings = {file.metadata.row_group(0).column(i).path_in_schema: file.metadata.row_group(0).column(i).encodings
                 for i in range(file.metadata.num_columns)}  # fmt: skip
    assert "DELTA_BINARY_PACKED" in encodings["price"]
    assert "DELTA_BINARY_PACKED" in encodings["receive_time"]
    rows = rows_of(path)
    for row, trade in zip(rows, of(events, wld.Trade), strict=True):
        assert (fixed(row["price"]), fixed(row["size"]), row["aggressor_side"]) == (
            trade.price, trade.size, trade.aggressor_side.value,
        )  # fmt: skip
        assert (row["trade_id"], row["sequence"], row["is_rpi"]) == (trade.trade_id, trade.sequence, trade.is_rpi)
    for name in ("event_time", "receive_time"):
        times = file.read().column(name).cast("int64").to_pylist()
        assert times == [getattr(trade, name) for trade in of(events, wld.Trade)]
    depth = rows_of(tmp_path / "out/depth/symbol=AAAUSDT")
    levels = [
        (event.update_id, side, price, size)
        for event in of(events, wld.BookSnapshot | wld.BookDelta)
        for side, found in (("bid", event.bids), ("ask", event.asks))
        for price, size in found
    ]
    assert [(r["update_id"], r["side"], fixed(r["price"]), fixed(r["size"])) for r in depth] == levels
    (gap,) = rows_of(tmp_path / "out/gaps")
    assert (gap["reason"], gap["symbol"], gap["missed"]) == ("disconnect", None, None)
    assert len(pq.read_table(tmp_path / "out/instruments/symbol=BBBUSDT")) == 1


def test_parquet_holds_a_bounded_number_of_rows_however_long_the_tape(
    tape: Path, tmp_path: Path, events: list[wld.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    class Watched(parquet.Writer):
        def add(self, dataset: str, symbol: str, part: Any) -> int:
            count = super().add(dataset, symbol, part)
            held.append(sum(self._rows.values()))
            return count

    monkeypatch.setattr(parquet, "ROW_GROUP", 40)
    monkeypatch.setattr(parquet, "MOST_ROWS", 50)
    monkeypatch.setattr(parquet, "Writer", Watched)
    with wld.TapeWriter(tmp_path / "small", source="test") as writer:
        for i in range(0, len(events), 25):  # an open journal of many small blocks
            writer.append(events[i : i + 25])
            writer.flush()
        export([str(tmp_path / "small")], tmp_path / "out", "parquet")
    assert max(held) <= 50
    files = list((tmp_path / "out/trades/symbol=AAAUSDT").rglob("*.parquet"))
    assert len(files) > 1
    names = sorted((row["number"], row["trade_id"]) for row in rows_of(tmp_path / "out/trades/symbol=AAAUSDT"))
    assert [name for _, name in names] == [trade.trade_id for trade in of(events, wld.Trade)]


def test_what_is_wide_or_absent_stays_so(tmp_path: Path) -> None:
    wide = 123_456_789_012_345_678_901_234
    events: list[wld.Event] = [
        wld.Ticker("AAAUSDT", volume_24h=wide, last_price=-5, receive_time=T0),
        wld.Ticker("AAAUSDT", tick_direction=wld.TickDirection.MINUS, pre_listing_phase='a,"b"', receive_time=T0 + 1),
        wld.Trade("AAAUSDT", 1, 1, wld.AggressorSide.SELL, "no uuid", receive_time=T0 + 2),
        wld.BookDelta("AAAUSDT", (), (), 9, receive_time=T0 + 3),
    ]
    tape = write(tmp_path / "tape", events)
    export([str(tape)], tmp_path / "p", "parquet")
    first, second = rows_of(tmp_path / "p/tickers")
    assert (fixed(first["volume_24h"]), fixed(first["last_price"]), first["mark_price"]) == (wide, -5, None)
    assert (second["volume_24h"], second["tick_direction"], second["pre_listing_phase"]) == (None, "MinusTick", 'a,"b"')
    assert rows_of(tmp_path / "p/trades")[0]["trade_id"] == "no uuid"
    (empty,) = rows_of(tmp_path / "p/depth")
    assert (empty["update_id"], empty["side"], empty["price"]) == (9, None, None)
    export([str(tape)], tmp_path / "c", "csv")
    with (tmp_path / "c/AAAUSDT_tickers.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert wld.parse_fixed(cells[0]["volume_24h"]) == wide
    assert cells[1]["pre_listing_phase"] == 'a,"b"'
    assert cells[1]["volume_24h"] == ""


def test_a_number_too_large_for_a_decimal_is_an_error_that_says_what_keeps_it(tmp_path: Path) -> None:
    tape = write(tmp_path / "tape", [wld.Trade("A", 10**18, 1, wld.AggressorSide.BUY, "", receive_time=T0)])
    with pytest.raises(wld.TapeError, match="A trades price: a number has more than 18 digits"):
        export([str(tape)], tmp_path / "out", "parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["tape"]
    export([str(tape)], tmp_path / "out", "parquet", numbers="int64")
    assert pq.read_table(tmp_path / "out/trades").column("price").to_pylist() == [10**18]


def test_csv_reads_back_exactly_across_segments(tmp_path: Path, events: list[wld.Event]) -> None:
    tape = write(tmp_path / "tape", events)
    late = [wld.Trade("AAAUSDT", 29_000_000, 7, wld.AggressorSide.BUY, "x", receive_time=T0 + 7200 * 10**9)]
    write(tape, list(late))
    export([str(tape)], tmp_path / "out", "csv")
    with (tmp_path / "out/AAAUSDT_trades.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    trades = [*of(events, wld.Trade), *late]
    assert rows[-1]["price"] == "0.29"
    assert [
        (wld.parse_fixed(row["price"]), wld.parse_fixed(row["size"]), row["aggressor_side"], row["trade_id"],
         int(row["event_time"]), int(row["receive_time"]))
        for row in rows
    ] == [
        (t.price, t.size, t.aggressor_side.value, t.trade_id, t.event_time, t.receive_time) for t in trades
    ]  # fmt: skip


def test_structs_are_the_predecessors_records_byte_by_byte(tape: Path, tmp_path: Path, events: list[wld.Event]) -> None:
    export([str(tape)], tmp_path / "out", "structs")
    content = (tmp_path / "out/AAAUSDT.bin").read_bytes()
    sizes = {1: 25, 2: 1608, 3: 25, 4: 32}
    records: list[tuple[int, bytes]] = []
    at = 0
    while at < len(content):
        kind, zero = content[at], content[at + 1]
        assert zero == 0
        records.append((kind, content[at + 2 : at + 2 + sizes[kind]]))
        at += 2 + sizes[kind]
    assert at == len(content)
    trades = [struct.unpack("<qqqB", record) for kind, record in records if kind == 1]
    assert trades == [
        (t.event_time // 1_000_000, t.price, t.size, t.aggressor_side is wld.AggressorSide.BUY)
        for t in of(events, wld.Trade)
    ]
    liquidations = [struct.unpack("<qqqB", record) for kind, record in records if kind == 3]
    assert liquidations == [
        (e.event_time // 1_000_000, e.bankruptcy_price, e.size, 1) for e in of(events, wld.Liquidation)
    ]
    tickers = [struct.unpack("<qqqq", record) for kind, record in records if kind == 4]
    assert tickers == [(e.sent_time // 1_000_000, e.open_interest, 0, 0) for e in of(events, wld.Ticker)]
    book = wld.OrderBook("AAAUSDT")
    for record, event in zip(
        (record for kind, record in records if kind == 2),
        of(events, wld.BookSnapshot | wld.BookDelta),
        strict=True,
    ):
        book.apply(event)
        time, *numbers = struct.unpack("<q200q", record)
        assert time == event.event_time // 1_000_000
        levels = [*book.bids(50), *book.asks(50)]
        assert numbers == [number for level in levels for number in level]


def rebuilt(data: Any, flag: int) -> dict[str, dict[float, float]]:
    """The book that hftbacktest's rules give from the rows valid at one of the two places."""
    sides: dict[str, dict[float, float]] = {"bid": {}, "ask": {}}
    for row in data[(data["ev"] & flag) != 0]:
        kind, is_buy = int(row["ev"]) & 0xFF, bool(int(row["ev"]) & (1 << 29))
        side = sides["bid" if is_buy else "ask"]
        price, size = float(row["px"]), float(row["qty"])
        if kind == 3:
            for level in [level for level in side if (level >= price if is_buy else level <= price)]:
                del side[level]
        elif kind in (1, 4):
            side[price] = size
            if not size:
                del side[price]
    return sides


def test_hftbacktest_rows_rebuild_the_book_and_rise_by_both_clocks(
    tape: Path, tmp_path: Path, events: list[wld.Event]
) -> None:
    export([str(tape)], tmp_path / "out", "hftbacktest")
    data = np.load(tmp_path / f"out/AAAUSDT_{DAY.replace('-', '')}.npz")["data"]
    assert data.dtype == EVENT_DTYPE
    for flag, clock in ((EXCHANGE, "exch_ts"), (LOCAL, "local_ts")):
        assert (np.diff(data[clock][(data["ev"] & flag) != 0]) >= 0).all()
        book = wld.open_tape(tape).book_at(events[-1].receive_time, "AAAUSDT")
        sides = rebuilt(data, flag)
        assert sorted(sides["bid"].items(), reverse=True) == [(p / 1e8, s / 1e8) for p, s in book.bids()]
        assert sorted(sides["ask"].items()) == [(p / 1e8, s / 1e8) for p, s in book.asks()]
    trades = data[(data["ev"] & 0xFF) == 2]
    assert len(trades) == len(of(events, wld.Trade))


def test_hftbacktest_gets_the_book_of_the_day_before_and_a_snapshot_that_clears_it(tmp_path: Path) -> None:
    midnight = (T0 // 86_400_000_000_000 + 1) * 86_400_000_000_000
    unit = 100_000_000

    def book(at: int, kind: Any, update_id: int, bid: int) -> wld.Event:
        return kind("AAAUSDT", ((bid * unit, unit),), ((50 * unit, unit),), update_id, event_time=at, receive_time=at)

    events = [
        book(midnight - 10**9, wld.BookSnapshot, 5, 10), book(midnight - 5 * 10**8, wld.BookDelta, 6, 9),
        book(midnight + 1, wld.BookDelta, 7, 11), book(midnight + 2, wld.BookSnapshot, 20, 12),
    ]  # fmt: skip
    export([str(write(tmp_path / "tape", events))], tmp_path / "out", "hftbacktest")
    first, second = (np.load(path)["data"] for path in sorted((tmp_path / "out").glob("*.npz")))
    assert sorted(rebuilt(first, LOCAL)["bid"]) == [9.0, 10.0]
    assert sorted(rebuilt(second[second["local_ts"] < midnight + 2], LOCAL)["bid"]) == [9.0, 10.0, 11.0]
    assert sorted(rebuilt(second, LOCAL)["bid"]) == [12.0]


def test_a_feed_that_arrives_before_it_was_sent_is_moved_as_a_whole(tmp_path: Path) -> None:
    trades: list[wld.Event] = [
        wld.Trade("A", 1, 1, wld.AggressorSide.BUY, "", event_time=T0 + lead, receive_time=T0 + i)
        for i, lead in enumerate((5, 70, 6))
    ]
    export([str(write(tmp_path / "tape", trades))], tmp_path / "out", "hftbacktest")
    (path,) = (tmp_path / "out").glob("*.npz")
    data = np.load(path)["data"]
    assert int((data["local_ts"] - data["exch_ts"]).min()) == 0


@settings(deadline=None, max_examples=200)
@given(
    delays=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), min_size=1, max_size=40),
    pieces=st.integers(1, 7),
    hold=st.sampled_from([5, 60, 10_000]),
)
def test_rows_are_given_to_each_clock_once_and_in_its_order(
    delays: list[tuple[int, int]], pieces: int, hold: int
) -> None:
    rows = np.zeros(len(delays), EVENT_DTYPE)
    rows["local_ts"] = np.cumsum([step for step, _ in delays])
    rows["exch_ts"] = rows["local_ts"] - [delay for _, delay in delays]
    rows["order_id"] = np.arange(len(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hftbacktest, "HOLD_NS", hold)
        order = _Order()
        out = [order.feed(chunk.copy()) for chunk in np.array_split(rows, pieces)]
        out.append(order.feed(rows[:0].copy(), is_last=True))
    data = np.concatenate(out)
    exchange, local = (data[(data["ev"] & flag) != 0] for flag in (EXCHANGE, LOCAL))
    assert local["order_id"].tolist() == list(range(len(rows)))
    assert (np.diff(exchange["exch_ts"]) >= 0).all()
    assert len(set(exchange["order_id"].tolist())) == len(exchange)
    if hold > 60:
        assert sorted(exchange["order_id"].tolist()) == list(range(len(rows)))


def test_symbols_times_and_datasets_choose(tape: Path, tmp_path: Path, events: list[wld.Event]) -> None:
    done = run(
        str(tape), "--format", "csv", "-o", str(tmp_path / "out"), "--symbols", "AAAUSDT", "--datasets", "trades",
        "--start", str(T0 + 10**9), "--end", str(T0 + 2 * 10**9), "--numbers", "int64", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = [t for t in of(events, wld.Trade) if T0 + 10**9 <= t.receive_time < T0 + 2 * 10**9]
    assert json.loads(done.stdout)["rows"] == {"trades": len(expected)}
    (path,) = (tmp_path / "out").iterdir()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["price"]) for row in rows] == [t.price for t in expected]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "xml"], "--format: expected one of parquet, csv, hftbacktest, structs, got 'xml'"),
        (["--format", "csv", "--numbers", "roman"], "--numbers: expected one of decimal, int64, float"),
        (["--format", "csv", "--start", "yesterday"], "--start: expected such as 2026-11-24"),
        (["--format", "structs", "--datasets", "gaps"], "structs has trades, depth, liquidations, tickers; not gaps"),
        (["--format", "csv", "--symbols", "ZZZ"], "--symbols: ZZZ is not on the tape; there are: AAAUSDT, BBBUSDT"),
        (["--format", "csv", "--start", "2030-01-01"], "nothing there to export"),
    ],
)
def test_wrong_flags_are_one_line_and_leave_nothing(
    tape: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = run(str(tape), "-o", str(tmp_path / "out"), *arguments)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tape"]


def test_an_existing_target_is_never_touched(tape: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").touch()
    done = run(str(tape), "--format", "csv", "-o", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "exists; an export never overwrites" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]


def test_a_full_disk_leaves_nothing_half_written(tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for format, place in (("csv", "wld.tape.export.csv.piece"), ("parquet", "wld.tape.export.parquet.write"),
                          ("hftbacktest", "wld.tape.export.hftbacktest._finish")):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            with pytest.raises(wld.TapeError, match="cannot be written: No space left on device; nothing was left"):
                export([str(tape)], tmp_path / "out", format)
        assert [path.name for path in tmp_path.iterdir()] == ["tape"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_export_leaves_nothing_under_its_name(tmp_path: Path, number: signal.Signals) -> None:
    trades: list[wld.Event] = [
        wld.Trade("A", i, i + 1, wld.AggressorSide.BUY, str(i), event_time=T0, receive_time=T0 + i)
        for i in range(200_000)
    ]
    tape, out = write(tmp_path / "tape", trades), tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "wld", "export", str(tape), "--format", "csv", "-o", str(out)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not list(tmp_path.glob(".out.partial-*/pieces/*")) and process.poll() is None:
        signal.sigtimedwait([], 0.001)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert not out.exists()
    assert "Traceback" not in errors
    assert ("interrupted; nothing was left there" in errors) == (number is not signal.SIGKILL)
    left = list(tmp_path.glob(".out.partial-*"))
    assert bool(left) == (number is signal.SIGKILL)
    export([str(tape)], out, "csv", datasets=["gaps", "trades"])  # the next one clears the rubbish away
    assert not list(tmp_path.glob(".out.partial-*"))
    assert (out / "A_trades.csv").read_bytes().count(b"\n") == 200_001


def test_damage_costs_its_block_and_is_said(tape: Path, tmp_path: Path) -> None:
    (path,) = tape.glob("*.bin")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    lines: list[str] = []
    assert show.export([str(tape)], "csv", str(tmp_path / "out"), as_json=False, say=lines.append) == 1
    assert lines[0].startswith("DAMAGED ")
    assert (tmp_path / "out").is_dir()


def test_units_may_run_elsewhere_and_the_result_is_the_same(tape: Path, tmp_path: Path) -> None:
    import pickle

    def elsewhere(work: Any, units: list[Any]) -> list[Any]:
        done = [pickle.loads(pickle.dumps(work))(pickle.loads(pickle.dumps(unit))) for unit in reversed(units)]
        return [pickle.loads(pickle.dumps(result)) for result in reversed(done)]

    for format in ("csv", "hftbacktest", "structs"):
        here, there = tmp_path / f"here-{format}", tmp_path / f"there-{format}"
        export([str(tape)], here, format)
        export([str(tape)], there, format, map_units=elsewhere)
        for path in here.iterdir():
            assert format == "hftbacktest" or path.read_bytes() == (there / path.name).read_bytes()
        assert {p.name for p in here.iterdir()} == {p.name for p in there.iterdir()}


def readers(*arguments: str) -> Any:
    done = subprocess.run(
        [READERS, str(Path(__file__).with_name("outside_readers.py")), *arguments],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip(f"not installed for {READERS}: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_duckdb_polars_and_pandas_open_parquet_in_one_line(tape: Path, tmp_path: Path, events: list[wld.Event]) -> None:
    summary = export([str(tape)], tmp_path / "out", "parquet")
    found = readers("parquet", str(tmp_path / "out"))
    for name in ("trades", "depth", "liquidations", "tickers", "gaps", "instruments"):
        assert found[name] == [summary.rows[name]] * 3
    total = Decimal(sum(t.price for t in of(events, wld.Trade))).scaleb(-8)
    assert [Decimal(text) for text in found["sums"]] == [total] * 3


@pytest.mark.slow
def test_hftbacktest_validates_and_runs_over_its_export(tape: Path, tmp_path: Path, events: list[wld.Event]) -> None:
    export([str(tape)], tmp_path / "out", "hftbacktest")
    (path,) = (tmp_path / "out").glob("AAAUSDT_*.npz")
    found = readers("hftbacktest", str(path), "0.0001", "1")
    assert len(found["seen"]) > 20
    assert all(bid < ask for bid, ask in found["seen"])
    book = wld.open_tape(tape).book_at(events[-1].receive_time, "AAAUSDT")
    assert book.best_bid is not None
    assert book.best_ask is not None
    assert found["seen"][-1] == [book.best_bid[0] / 1e8, book.best_ask[0] / 1e8]


@pytest.mark.parametrize("form", ["parquet", "csv", "structs", "hftbacktest"])
@pytest.mark.parametrize("symbol", ["../../../OUT", "/OUT", "..", "A/B", "x" * 300])
def test_no_symbol_of_a_stranger_leads_out_of_the_folder(tmp_path: Path, form: str, symbol: str) -> None:
    tape = write(tmp_path / "tape", [make_trade(symbol)])
    out = tmp_path / "deep" / "er" / "out"
    export([str(tape)], out, form)
    written = [path for path in tmp_path.rglob("*") if path.is_file() and tape not in path.parents]
    assert written
    assert all(out in path.resolve().parents for path in written)
