"""`wld --source - --sinks recorder < FILE`, from the shell."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import wld
from tests.bybit import frames

CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
FILES = {
    "nautilus_trader/2024-12-01_XRPUSDT_ob500.first50.jsonl": 50,
    "hyperdata-terminal/allLiquidation_frames.jsonl": 29,
    "tardis-node/bybit_v5_messages.jsonl": None,
    "hftbacktest/bybit_docstring_lines.txt": 2,
    "single_frames/allLiquidation.jsonl": 4,
    "single_frames/control_and_errors.jsonl": 3,
}
HOUR = 3_600_000


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=60)


def wld_from(file: Path, *more: str) -> str:
    return " ".join([f"'{sys.executable}' -m wld --source - --sinks recorder --data-dir tapes", *more, f"< '{file}'"])


@pytest.mark.parametrize(("name", "count"), FILES.items(), ids=[Path(name).name for name in FILES])
def test_every_real_capture_goes_through_and_ends_with_status_0(name: str, count: int | None, tmp_path: Path) -> None:
    path = CAPTURES / name
    if not path.exists():
        pytest.skip(f"no real captures at {path}")
    text = path.read_text()
    if '"frame"' in text:
        text = "\n".join(json.dumps(json.loads(line)["frame"]) for line in text.splitlines())
    (tmp_path / "input").write_text(text)
    done = shell(wld_from(tmp_path / "input"), tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Traceback" not in done.stderr
    events = list(wld.open_tape(tmp_path / "tapes"))
    assert not [event for event in events if isinstance(event, wld.Gap)]
    if count is not None:
        assert len(events) == count
    times = [event.receive_time for event in events]
    assert times == sorted(times)
    verified = shell(f"'{sys.executable}' -m wld verify tapes", tmp_path)
    assert verified.returncode == 0, verified.stdout
    assert not list((tmp_path / "tapes").glob("*.open"))


def test_segments_are_named_and_rotated_by_recorded_time(tmp_path: Path) -> None:
    start = int(datetime(2025, 3, 30, 23, 59, 59, tzinfo=UTC).timestamp() * 1000)
    lines = [
        f"{(start + offset) * 1_000_000} {frames.trades(frames.trade(n))}"
        for n, offset in enumerate((0, 999, 1_000, 1_001, HOUR + 1_000, 3 * HOUR))
    ]
    (tmp_path / "input").write_text("\n".join(lines))
    done = shell(wld_from(tmp_path / "input"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    names = {path.name: len(list(wld.open_tape(path))) for path in sorted((tmp_path / "tapes").glob("*.bin"))}
    assert names == {
        "market_data_20250330_2359.bin": 2,
        "market_data_20250331_0000.bin": 2,
        "market_data_20250331_0100.bin": 1,
        "market_data_20250331_0259.bin": 1,
    }


def test_the_predecessors_lines_become_a_tape_named_by_their_time(tmp_path: Path) -> None:
    stamp = int(datetime(2024, 6, 1, 12, 30, 5, tzinfo=UTC).timestamp() * 1000)
    (tmp_path / "input").write_text(
        f"TRADE|{stamp}|WLDUSDT|Buy|0.29|10.5\nDEPTH|{stamp + 20}|WLDUSDT|1.0:5,0.9:7|1.1:6\n"
        f"LIQ|{stamp + 500}|WLDUSDT|Sell|1.25|3\nTICKER|{stamp + 600}|WLDUSDT|0|0.0001|1.0342\n"
    )
    done = shell(wld_from(tmp_path / "input"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = (tmp_path / "tapes").glob("*.bin")
    assert path.name == "market_data_20240601_1230.bin"
    kinds = [type(event) for event in wld.open_tape(path)]
    assert kinds == [wld.Trade, wld.BookSnapshot, wld.Liquidation, wld.Ticker]


def test_the_same_input_twice_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "input").write_text(frames.snapshot(7))
    for _ in range(2):
        assert shell(wld_from(tmp_path / "input"), tmp_path).returncode == 0
    first, second = sorted((tmp_path / "tapes").glob("*.bin"))
    assert second.name == first.name.replace(".bin", "_2.bin")
    assert len(list(wld.open_tape(first))) == len(list(wld.open_tape(second))) == 1


def test_a_signal_while_the_pipe_is_quiet_drains_with_status_0(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wld", "--source", "-", "--sinks", "recorder", "--data-dir", "tapes"]
    command += ["--set", "sinks.recorder.flush_interval=0.05"]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(frames.snapshot(7).encode() + b"\n")
    process.stdin.flush()
    signal.sigtimedwait([], 0)
    for _ in range(600):
        if any(path.stat().st_size > 0 for path in (tmp_path / "tapes").glob("*.open")):
            break
        signal.sigtimedwait([], 0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert len(list(wld.open_tape(tmp_path / "tapes"))) == 1
