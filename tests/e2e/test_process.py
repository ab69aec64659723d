"""The real program: real signals, a real WebSocket, real files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wld

CAPTURES = Path(__file__).parents[3] / "shared" / "captures"


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "wld", "--sinks", "recorder", "--data-dir", "tapes", *arguments],
        cwd=cwd,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def wait_for_journal(folder: Path, size: int = 4096) -> Path:
    """Until the recorder has written something: the only real wait, bounded."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for journal in folder.glob("tapes/*.bin.open"):
            if journal.stat().st_size >= size:
                return journal
        os.sched_yield()
        signal.sigtimedwait([], 0.05)
    raise AssertionError("no journal")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_seals_and_ends_with_status_0(number: signal.Signals, tmp_path: Path) -> None:
    process = start("--source", "sim", cwd=tmp_path)
    wait_for_journal(tmp_path)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert not list(tmp_path.glob("tapes/*.open"))
    tape = wld.open_tape(tmp_path / "tapes")
    kinds = tape.summary().counts
    assert kinds["book_snapshot"] >= 1
    assert kinds["instrument"] == 1
    assert kinds.get("gap", 0) == 0


def test_kill_9_loses_nothing_that_was_flushed_and_the_next_start_recovers_it(tmp_path: Path) -> None:
    process = start("--source", "sim", cwd=tmp_path)
    journal = wait_for_journal(tmp_path)
    process.kill()
    process.communicate(timeout=20)
    before = list(wld.open_tape(journal))
    assert before
    again = start("--source", "sim", "--duration", "1s", cwd=tmp_path)
    _, errors = again.communicate(timeout=30)
    assert again.returncode == 0, errors
    assert not list(tmp_path.glob("tapes/*.bin.open"))
    assert len(list(tmp_path.glob("tapes/*.recovered"))) == 1
    everything = list(wld.open_tape(tmp_path / "tapes"))
    assert everything[: len(before)] == before
    verified = subprocess.run([sys.executable, "-m", "wld", "verify", "tapes"], cwd=tmp_path, check=False)
    assert verified.returncode == 0


def test_a_second_recorder_in_the_same_folder_is_refused_with_status_2(tmp_path: Path) -> None:
    first = start("--source", "sim", cwd=tmp_path)
    wait_for_journal(tmp_path)
    second = start("--source", "sim", cwd=tmp_path)
    _, errors = second.communicate(timeout=20)
    assert second.returncode == 2, errors
    assert str(first.pid) in errors
    first.terminate()
    first.communicate(timeout=20)
    assert first.returncode == 0


def test_a_folder_that_cannot_be_written_is_one_line_and_a_status(tmp_path: Path) -> None:
    (tmp_path / "tapes").write_text("a file where the folder goes")
    process = start("--source", "-", cwd=tmp_path)
    _, errors = process.communicate(timeout=20)
    assert process.returncode in (1, 2)
    assert "tapes" in errors
    assert "Traceback" not in errors


def record(text: bytes, folder: Path) -> list[wld.Event]:
    done = subprocess.run(
        [sys.executable, "-m", "wld", "--source", "-", "--sinks", "recorder", "--data-dir", str(folder)],
        input=text,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(wld.open_tape(folder)) if list(folder.glob("*.bin")) else []


def capture(name: str) -> bytes:
    path = CAPTURES / name
    if not path.exists():
        pytest.skip(f"no real captures at {path}")
    return path.read_bytes()


def test_the_real_xrp_stream_has_no_hole_and_never_crosses(tmp_path: Path) -> None:
    text = capture("nautilus_trader/2024-12-01_XRPUSDT_ob500.first50.jsonl")
    events = record(text, tmp_path / "t")
    assert len(events) == 50
    book = wld.OrderBook("XRPUSDT")
    for i, event in enumerate(events):
        assert isinstance(event, wld.BookSnapshot | wld.BookDelta)
        assert (event.update_id, event.depth) == (20254869 + i, 500)
        book.apply(event)
        assert not book.is_crossed
        assert len(book.bids()) <= 500
    for line, event in zip(text.splitlines(), events, strict=True):
        sent = json.loads(line)
        assert isinstance(event, wld.BookSnapshot | wld.BookDelta)
        assert event.bids == tuple((wld.parse_fixed(p), wld.parse_fixed(s)) for p, s in sent["data"]["b"])
        assert event.asks == tuple((wld.parse_fixed(p), wld.parse_fixed(s)) for p, s in sent["data"]["a"])
        assert event.event_time == sent["cts"] * 1_000_000


def test_each_real_liquidation_lies_on_the_right_side_of_its_mark_price(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in capture("hyperdata-terminal/allLiquidation_frames.jsonl").splitlines()]
    text = b"\n".join(json.dumps(line["frame"]).encode() for line in lines)
    marks = [line["mark_price_at_receipt"] for line in lines for _ in line["frame"]["data"]]
    events = record(text, tmp_path / "t")
    assert len(events) == len(marks) > 24
    for event, mark in zip(events, marks, strict=True):
        assert isinstance(event, wld.Liquidation)
        below = event.bankruptcy_price < mark * 1e8
        assert below == (event.position_side is wld.PositionSide.LONG)


def test_real_control_and_error_frames_are_no_events(tmp_path: Path) -> None:
    events = record(capture("single_frames/control_and_errors.jsonl"), tmp_path / "t")
    assert [type(e) for e in events] == [wld.BookDelta, wld.Ticker, wld.BookSnapshot]


def test_real_collector_lines_keep_their_receive_time(tmp_path: Path) -> None:
    events = record(capture("hftbacktest/bybit_docstring_lines.txt"), tmp_path / "t")
    assert [e.receive_time for e in events] == [1758841137168651303, 1758841138293664629]


def test_real_messages_of_several_years_go_through(tmp_path: Path) -> None:
    events = record(capture("tardis-node/bybit_v5_messages.jsonl"), tmp_path / "t")
    assert not [e for e in events if isinstance(e, wld.Gap)]
    assert sum(isinstance(e, wld.Trade) for e in events) == 10
    assert sum(isinstance(e, wld.Ticker) for e in events) == 7
