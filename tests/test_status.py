"""What a run says of itself: one status line a minute, as text or JSON, and otherwise only warnings."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio.testing

import wld
from tests.columns import as_read
from wld import engine
from wld.config import Setting, load
from wld.logs import JsonFormatter, TextFormatter
from wld.ring import Ring
from wld.status import Lags, Status
from wld.testing import make_book_delta, make_book_snapshot, make_gap, make_ticker, make_trade

MS = 1_000_000


async def counted(events: Sequence[wld.Event], **more: Any) -> Status:
    """A Status that has seen these events."""
    ring = Ring()
    status = Status(ring, 60.0, **more)
    with ring:
        subscription = ring.subscribe("status")
        other = ring.subscribe("view", capacity=1)
        ring.publish(events)
        ring.publish([make_trade()])
    await status.run(subscription)
    assert other
    return status


async def test_the_line_says_events_rates_lag_gaps_drops_ring_depth_source_and_tape() -> None:
    times = [100 * MS + n * MS for n in range(100)]
    trades: list[wld.Event] = [make_trade(sent_time=1, receive_time=1 + time) for time in times]
    gap = make_gap(reason="update_id")
    status = await counted([*trades, make_book_delta(), make_ticker(), gap], source_figures=lambda: {"json": 3})
    status.report("recorder", {"tape": "x.bin.open", "bytes": 4096, "error": None})
    text = status.line()
    assert re.match(r"trade=101 \([\d.]+/s\) book_delta=1 \([\d.]+/s\) ticker=1 \([\d.]+/s\) gap=1 ", text)
    assert "| lag p50=149ms p99=198ms |" in text
    assert re.search(r"\| gaps=1 \(update_id=1\) drops=103 \(view=103\) ring=\d+ \|", text)
    assert "| source json=3 |" in text
    assert text.endswith("| recorder tape=x.bin.open bytes=4096")
    assert "\n" not in text


async def test_columns_are_counted_as_rows_are() -> None:
    events = [make_trade(), make_book_snapshot(), make_book_delta(), make_book_delta(), make_ticker()]
    counts = [(await counted(batch)).totals for batch in (events, as_read(events, ("WLDUSDT",)))]
    assert counts[0] == counts[1]
    assert counts[0]["book_snapshot"] == 1


async def test_a_quiet_minute_says_so() -> None:
    status = Status(Ring(), 60.0)
    assert status.line() == "no events | lag p50=- p99=- | gaps=0 drops=0 ring=0"


async def test_it_speaks_once_an_interval_and_starts_over(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "wld.status")
    ring = Ring()
    status = Status(ring, 60.0)
    with ring:
        subscription = ring.subscribe("status")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(status.run, subscription)
            ring.publish([make_trade()])
            await trio.sleep(150)
            nursery.cancel_scope.cancel()
    assert [line.startswith(start) for line, start in zip(caplog.messages, ("trade=1 ", "no events "), strict=True)]
    assert status.totals["trade"] == 1


def logged(formatter: logging.Formatter, **extra: Any) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger("wld.test_of_logs")
    logger.addHandler(handler)
    try:
        raise ValueError("fünf")
    except ValueError:
        logger.warning("it is %s", "ö\n2", exc_info=bool(extra.pop("failed", False)), extra=extra)
    finally:
        logger.removeHandler(handler)
    return stream.getvalue()


def test_text_lines_are_in_utc_with_level_and_message() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ WARNING it is ö\n2\n", logged(TextFormatter()))


def test_json_lines_are_one_object_each_with_figures_and_the_error() -> None:
    text = logged(JsonFormatter(), failed=True, figures={"events": {"trade": 5}, "path": Path("x")})
    assert text.count("\n") == 1
    line = json.loads(text)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert "ValueError: fünf" in line.pop("error")
    assert line == {
        "level": "warning",
        "logger": "wld.test_of_logs",
        "message": "it is ö\n2",
        "figures": {"events": {"trade": 5}, "path": "x"},
    }


FLUSH = ("--set", "sinks.recorder.flush_interval=0.1")


def run(cwd: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "wld", "--source", "sim", "--sinks", "recorder", "--duration", "1s", *arguments]
    done = subprocess.run(command, cwd=cwd, env=dict(os.environ), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr


def test_a_run_without_trouble_is_silent(tmp_path: Path) -> None:
    assert run(tmp_path) == ""


def test_status_lines_of_a_real_run_as_json_into_a_file(tmp_path: Path) -> None:
    said = run(tmp_path, "--log-format", "json", "--log-file", "wld.log", "--set", "status_interval=0.4", *FLUSH)
    assert said == ""
    lines = [json.loads(line) for line in (tmp_path / "wld.log").read_text().splitlines()]
    assert lines
    figures = lines[-1]["figures"]
    assert set(figures) == {
        "events", "rates", "lag_p50_ms", "lag_p99_ms", "gaps", "drops", "ring_depth", "source", "sinks",
    }  # fmt: skip
    assert figures["source"]["connects"] == 1
    assert figures["sinks"]["recorder"]["bytes"] >= 0


def test_sinks_of_any_package_are_heard_at_the_chosen_level() -> None:
    """Nothing in the engine knows the recorder's name; a sink's package is where its `create` comes from."""
    logger = logging.getLogger("wld_recorder")
    before = logger.level
    try:
        engine.assemble(
            load(None, [Setting("source.name", "sim", ""), Setting("log_level", "debug", "")], ["recorder"])
        )
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize("steps", [(3,), (4, 1), (2, 7), (9, 4, 13), (20,)])
def test_percentiles_are_of_the_latest_lags_and_take_no_more_memory(steps: tuple[int, ...]) -> None:
    lags, every = Lags(4), []
    size = lags._ring.nbytes
    for step in steps:
        new = [1_000_000 * (len(every) + n) for n in range(step)]
        lags.add(new)
        every += new
    assert lags.percentiles(0, 100) == (every[-4:][0] / 1e6, every[-1] / 1e6)
    assert lags._ring.nbytes == size
    lags.clear()
    assert lags.percentiles(50) == (None,)
