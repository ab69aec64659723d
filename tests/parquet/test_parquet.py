"""The lake: exact, whole at every moment, read by DuckDB and polars while it grows, and never written twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import wld
from wld import testing

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
from wld_parquet import wld_sink  # noqa: E402
from wld_parquet.lake import HOUR_NS, WORK_NAME, Lake  # noqa: E402
from wld_parquet.sink import DATASETS  # noqa: E402

HOUR = testing.TIME // HOUR_NS * HOUR_NS
"""2023-11-14 22:00 UTC."""


def rows(lake: Path, query: str) -> list[Any]:
    """What DuckDB says; `{}` is the glob of a dataset."""
    duckdb = pytest.importorskip("duckdb")
    for dataset in DATASETS:
        query = query.replace(
            f"{{{dataset}}}", f"read_parquet('{lake}/{dataset}/**/*.parquet', hive_partitioning=true)"
        )
    found: list[Any] = duckdb.sql(query).fetchall()
    return found


def files(lake: Path) -> list[str]:
    return sorted(str(path.relative_to(lake)) for path in lake.rglob("*.parquet"))


def trades(count: int, first: int = HOUR, step: int = 1_000_000, **fields: Any) -> list[wld.Event]:
    return [testing.make_trade(size=n + 1, time=first + n * step, **fields) for n in range(count)]


EVERYTHING: list[wld.Event] = [
    testing.make_trade(price="0.29", size="12.5", is_rpi=True), testing.make_trade("BTCUSDT", price="87000.1"),
    testing.make_book_snapshot(), testing.make_book_delta(), testing.make_book_delta(bids=(), asks=(), update_id=3),
    testing.make_liquidation(), testing.make_ticker(turnover_24h=2**70, delivery_time="2026-01-01T00:00:00Z"),
    testing.make_gap("overrun", missed=3), testing.make_gap(symbol="WLDUSDT", topic="publicTrade"),
    testing.make_repair(), testing.make_instrument(),
]  # fmt: skip


def test_every_kind_has_its_dataset_partitioned_by_symbol_and_day(tmp_path: Path) -> None:
    testing.run_sink(wld_sink(), EVERYTHING, {"directory": str(tmp_path)})
    folders = {str(Path(name).parent) for name in files(tmp_path)}
    day = "day=2023-11-14"
    assert folders == {
        f"trades/symbol=WLDUSDT/{day}", f"trades/symbol=BTCUSDT/{day}", f"depth/symbol=WLDUSDT/{day}",
        f"liquidations/symbol=WLDUSDT/{day}", f"tickers/symbol=WLDUSDT/{day}", f"gaps/{day}", f"repairs/{day}",
        f"instruments/symbol=WLDUSDT/{day}",
    }  # fmt: skip
    assert not list((tmp_path / WORK_NAME).iterdir())


def test_numbers_are_exact_and_times_keep_their_nanoseconds(tmp_path: Path) -> None:
    events = [testing.make_trade(price="0.29", size="12.00000001", time=testing.TIME + 7)]
    testing.run_sink(wld_sink(), events, {"directory": str(tmp_path)})
    [(symbol, price, size, side, receive_time, day)] = rows(
        tmp_path,
        "SELECT symbol, price, size, aggressor_side, epoch_ns(receive_time), day::varchar FROM {trades}",
    )
    assert (symbol, price, size, side) == ("WLDUSDT", Decimal("0.29"), Decimal("12.00000001"), "buy")
    assert (receive_time, day) == (testing.TIME + 7, "2023-11-14")


def test_numbers_may_be_floats_or_integers_instead(tmp_path: Path) -> None:
    for numbers, price in (("float", 0.29), ("int64", 29_000_000)):
        lake = tmp_path / numbers
        testing.run_sink(wld_sink(), [testing.make_trade(price="0.29")], {"directory": str(lake), "numbers": numbers})
        assert rows(lake, "SELECT price FROM {trades}") == [(price,)]


def test_a_number_without_room_in_its_decimal_does_not_stop_the_lake(tmp_path: Path) -> None:
    events = [testing.make_trade(size=2**62)]
    testing.run_sink(wld_sink(), events, {"directory": str(tmp_path)})
    [(size,)] = rows(tmp_path, "SELECT size FROM {trades}")
    assert float(size) == pytest.approx(2**62 / 1e8)


@pytest.mark.parametrize("symbol", ["../../../escaped", "A/B", "..", "a=b c", "Ü" * 300])
def test_no_symbol_leads_out_of_its_folder(symbol: str, tmp_path: Path) -> None:
    lake = tmp_path / "deep" / "er" / "lake"
    for _ in range(2):
        testing.run_sink(wld_sink(), [testing.make_trade(symbol)], {"directory": str(lake)})
    testing.run_sink(wld_sink(), [testing.make_trade(symbol, time=testing.TIME + HOUR_NS)], {"directory": str(lake)})
    assert len(files(lake)) == 2
    assert {path.parent.parent.parent.name for path in tmp_path.rglob("*.parquet")} == {"trades"}
    assert rows(lake, "SELECT count(*) FROM {trades}") == [(3,)]


def test_only_the_datasets_that_are_asked_for(tmp_path: Path) -> None:
    testing.run_sink(wld_sink(), EVERYTHING, {"directory": str(tmp_path), "datasets": ["trades", "gaps"]})
    assert {name.split("/")[0] for name in files(tmp_path)} == {"trades", "gaps"}


def test_the_lake_lies_in_the_data_directory_unless_told_otherwise(tmp_path: Path) -> None:
    testing.run_sink(wld_sink(), trades(1), data_dir=tmp_path)
    assert files(tmp_path / "lake")


def test_an_hour_that_is_over_becomes_one_file_and_no_row_changes(tmp_path: Path) -> None:
    lake = Lake(tmp_path, ("trades",), "decimal")
    for minute in range(5):
        lake.add([wld.Batch(trades(10, HOUR + minute * 60_000_000_000), minute * 10)])
        lake.roll()
    lake.add([wld.Batch(trades(3, HOUR + HOUR_NS), 50)])
    lake.roll()
    before = rows(tmp_path, "SELECT number, price, size, trade_id FROM {trades} ORDER BY number")
    assert len(files(tmp_path)) == 6
    assert lake.compact(before=(HOUR + HOUR_NS) // HOUR_NS) == 4
    names = [Path(name).name for name in files(tmp_path)]
    assert [name[:16] for name in names] == ["hour-20231114T22", "part-20231114T23"]
    assert rows(tmp_path, "SELECT number, price, size, trade_id FROM {trades} ORDER BY number") == before
    assert not list((tmp_path / WORK_NAME).iterdir())
    # The same hour again, after a restart: the hour's file takes the new rows in.
    lake.close()
    lake = Lake(tmp_path, ("trades",), "decimal")
    lake.add([wld.Batch(trades(2, HOUR + 59 * 60_000_000_000), 60)])
    lake.roll()
    assert lake.compact(before=(HOUR + HOUR_NS) // HOUR_NS) == 1
    assert len(rows(tmp_path, "SELECT number FROM {trades}")) == 55
    lake.close()


def test_small_files_of_an_earlier_run_are_found_and_made_one(tmp_path: Path) -> None:
    for run in range(3):
        testing.run_sink(wld_sink(), trades(5, HOUR + run * 1_000_000_000), {"directory": str(tmp_path)})
    assert len(files(tmp_path)) == 3
    testing.run_sink(wld_sink(), trades(1, HOUR + HOUR_NS), {"directory": str(tmp_path)})
    assert [Path(name).name[:5] for name in files(tmp_path)] == ["hour-", "part-"]
    assert rows(tmp_path, "SELECT count(*) FROM {trades}") == [(16,)]


def test_what_a_crash_left_half_made_is_removed_and_nothing_else(tmp_path: Path) -> None:
    testing.run_sink(wld_sink(), trades(5), {"directory": str(tmp_path)})
    before = files(tmp_path)
    (tmp_path / WORK_NAME / "part-x.parquet").write_bytes(b"half")
    (tmp_path / WORK_NAME / "day-x").mkdir()
    Lake(tmp_path, ("trades",), "decimal").close()
    assert files(tmp_path) == before
    assert not list((tmp_path / WORK_NAME).iterdir())


def test_one_writer_a_lake(tmp_path: Path) -> None:
    lake = Lake(tmp_path, ("trades",), "decimal")
    with pytest.raises(wld.ConfigError, match=r"sinks\.parquet\.directory: another process writes into"):
        testing.run_sink(wld_sink(), [], {"directory": str(tmp_path)})
    lake.close()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(wld.ConfigError, match=r"sinks\.parquet\.directory: .*file cannot be written"):
        testing.run_sink(wld_sink(), [], {"directory": str(tmp_path / "file")})


def test_a_disk_that_refuses_for_a_while_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(tmp_path, ("trades",), "decimal")
    lake.add([wld.Batch(trades(5))])

    def refuse(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("wld_parquet.lake._sync", refuse)
        with pytest.raises(OSError, match="No space"):
            lake.roll()
    assert lake.rows_waiting == 5
    assert files(tmp_path) == [f"{WORK_NAME}/{Path(name).name}" for name in files(tmp_path)]
    lake.roll()
    assert rows(tmp_path, "SELECT count(*) FROM {trades}") == [(5,)]
    lake.close()


class Recording:
    """A real run that writes a tape and a lake; files each half second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = folder / "data" / "history" / "lake"
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "wld", "--source", "sim", "--sinks", "recorder,parquet", "--set",
                "source.sim_rate=20", "--set", "sinks.parquet.roll_interval=0.5",
            ],
            cwd=folder, stderr=subprocess.PIPE,
        )  # fmt: skip

    def until(self, condition: Any) -> None:
        end = time.monotonic() + 40
        while not condition():
            assert time.monotonic() < end
            assert self.process.poll() is None
            time.sleep(0.1)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == (0 if number is signal.SIGTERM else -number), errors.decode()


def test_duckdb_and_polars_read_it_while_it_grows_and_it_equals_the_tape(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    recording = Recording(tmp_path)
    try:
        recording.until(lambda: list(recording.lake.glob("trades/*/*/*.parquet")))
        seen: list[int] = []
        while len(set(seen)) < 3:
            assert len(seen) < 300
            seen.append(rows(recording.lake, "SELECT count(*) FROM {trades}")[0][0])
            time.sleep(0.1)
        assert seen == sorted(seen)
        scan = polars.scan_parquet(recording.lake / "trades", hive_partitioning=True)
        assert scan.select(polars.len()).collect().item() >= seen[-1]
        assert set(scan.collect_schema().names()) >= {"symbol", "day", "price", "receive_time"}
    finally:
        recording.stop()
    tape = wld.open_tape(tmp_path / "data" / "history")
    for dataset, columns in (("trades", tape.trades()), ("depth", tape.depth()), ("tickers", tape.tickers())):
        numbers = rows(recording.lake, f"SELECT number FROM {{{dataset}}} ORDER BY number")
        assert [number for (number,) in numbers] == sorted(columns["number"].tolist())
    sizes = rows(recording.lake, "SELECT size FROM {trades} ORDER BY number")
    assert [int(size * wld.SCALE) for (size,) in sizes] == tape.trades()["size"].tolist()


@pytest.mark.slow
def test_a_kill_leaves_whole_files_and_the_next_run_goes_on(tmp_path: Path) -> None:
    first = Recording(tmp_path)
    first.until(lambda: len(list(first.lake.glob("trades/*/*/*.parquet"))) >= 2)
    os.kill(first.process.pid, signal.SIGSTOP)
    before = rows(first.lake, "SELECT count(*) FROM {trades}")[0][0]
    first.stop(signal.SIGKILL)
    assert rows(first.lake, "SELECT count(*) FROM {trades}")[0][0] == before
    second = Recording(tmp_path)
    second.until(lambda: rows(second.lake, "SELECT count(*) FROM {trades}")[0][0] > before)
    second.stop()
    for path in second.lake.rglob("*.parquet"):
        pq.ParquetFile(path).read()


def test_reading_goes_on_while_hours_are_compacted(tmp_path: Path) -> None:
    """A reader that lists anew never sees a row twice or miss one."""
    lake = Lake(tmp_path, ("trades",), "decimal")
    total = 0
    for hour in range(3):
        for part in range(4):
            lake.add([wld.Batch(trades(5, HOUR + hour * HOUR_NS + part * 1_000_000_000), total)])
            lake.roll()
            total += 5
    for hour in range(1, 4):
        lake.compact(before=HOUR // HOUR_NS + hour)
        assert rows(tmp_path, "SELECT count(*), count(DISTINCT number) FROM {trades}") == [(total, total)]
    assert len(files(tmp_path)) == 3
    lake.close()
