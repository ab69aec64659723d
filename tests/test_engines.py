"""Long work elsewhere: the same files from a real Dask cluster as from this process, also when a worker is killed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.dask_cluster import open_cluster
from wld import Batch, TapeWriter
from wld.engines import open_engine
from wld.errors import ConfigError, WldError
from wld.tape import export as exporting
from wld.testing import TIME, make_book_delta, make_book_snapshot, make_ticker, make_trade

HOUR = 3_600_000_000_000


def recording(folder: Path, *, segments: int = 4) -> Path:
    """A tape of several segments and two symbols."""
    folder.mkdir()
    with TapeWriter(folder, source="test", clock="recorded") as writer:
        for hour in range(segments):
            events: list[Any] = []
            for symbol in ("WLDUSDT", "BTCUSDT"):
                at = TIME + hour * HOUR
                events.append(make_book_snapshot(symbol, time=at, update_id=1 + 1000 * hour))
                for i in range(200):
                    events.append(make_book_delta(symbol, time=at + i, update_id=2 + i + 1000 * hour))
                    events.append(make_trade(symbol, time=at + i, price=f"1.{i:04d}"))
                    events.append(make_ticker(symbol, time=at + i, mark_price=f"1.{i:04d}"))
            events.sort(key=lambda event: event.receive_time)
            writer.append(Batch(events, hour * 10_000))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_local_is_the_callers_own_loop() -> None:
    with open_engine("local") as map_units:
        assert map_units is None


@pytest.mark.parametrize(
    ("engine", "scheduler", "text"),
    [
        ("spark", None, "--engine: expected one of local, dask, got 'spark'"),
        ("dask", None, "--engine dask: needs --scheduler, such as tcp://127.0.0.1:8786"),
        ("local", "tcp://127.0.0.1:1", "--scheduler: is for --engine dask"),
    ],
)
def test_a_wrong_engine_is_one_line(engine: str, scheduler: str | None, text: str) -> None:
    with pytest.raises(ConfigError) as caught, open_engine(engine, scheduler):
        pass
    assert str(caught.value) == text


@pytest.mark.parametrize("form", ["csv", "structs", "hftbacktest"])
def test_a_unit_that_ran_half_and_runs_again_leaves_nothing_twice(tmp_path: Path, form: str) -> None:
    """A worker that dies leaves pieces behind; the unit's second run begins them afresh."""
    tape = recording(tmp_path / "tape")

    def twice(work: Callable[[Any], Any], units: Sequence[Any]) -> Iterable[Any]:
        for unit in units:
            work(unit)
        return [work(unit) for unit in units]

    exporting.export([str(tape)], tmp_path / "once", form)
    exporting.export([str(tape)], tmp_path / "twice", form, map_units=twice)
    assert contents(tmp_path / "twice") == contents(tmp_path / "once")


@pytest.mark.slow
def test_no_scheduler_there_is_one_line() -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    expected = pytest.raises(WldError, match=r"^--scheduler tcp://127.0.0.1:1: no Dask scheduler answers there")
    with expected, open_engine("dask", "tcp://127.0.0.1:1"):
        pass


@pytest.mark.slow
def test_export_on_a_cluster_gives_the_same_files(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    tape = recording(tmp_path / "tape")
    with open_cluster(tmp_path, 3) as cluster:
        for form in ("csv", "parquet"):
            exporting.export([str(tape)], tmp_path / f"here-{form}", form)
            with open_engine("dask", cluster.address) as map_units:
                exporting.export([str(tape)], tmp_path / f"there-{form}", form, map_units=map_units)
            assert contents(tmp_path / f"there-{form}") == contents(tmp_path / f"here-{form}")


def _slow_unit(unit: tuple[str, int]) -> int:
    """Says that it began, then takes its time: module level, so that it travels."""
    folder, number = unit
    (Path(folder) / f"{number}.{os.getpid()}").touch()
    time.sleep(0.4)
    return number * number


@pytest.mark.slow
def test_a_killed_worker_costs_nothing(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    marks = tmp_path / "marks"
    marks.mkdir()
    with open_cluster(tmp_path, 3) as cluster:
        victim = cluster.workers[0]

        def kill_when_busy() -> None:
            while not any(path.name.endswith(f".{victim.pid}") for path in marks.iterdir()):
                time.sleep(0.02)
            victim.kill()

        killer = threading.Thread(target=kill_when_busy, daemon=True)
        killer.start()
        with open_engine("dask", cluster.address) as map_units:
            assert map_units is not None
            results = list(map_units(_slow_unit, [(str(marks), n) for n in range(15)]))
        killer.join(5)
        assert results == [n * n for n in range(15)]
        assert victim.wait(5) != 0


@pytest.mark.slow
def test_an_error_of_a_unit_reaches_the_user(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    with open_cluster(tmp_path, 1) as cluster, open_engine("dask", cluster.address) as map_units:
        assert map_units is not None
        with pytest.raises(WldError, match="nothing here"):
            map_units(_refuse, ["nothing here"])


def _refuse(unit: str) -> None:
    raise WldError(unit)
