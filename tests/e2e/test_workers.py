"""`--workers`: the real program, several real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import wld

pytestmark = pytest.mark.slow


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "wld",
        "--source",
        "sim",
        "--sinks",
        "recorder",
        "--symbols",
        "WLDUSDT,BTCUSDT,ETHUSDT",
    ]
    return subprocess.Popen(
        [*command, "--data-dir", str(folder), "--workers", "2", *arguments],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def journals(folder: Path) -> list[Path]:
    return [j for j in folder.glob("shard-*/*.bin.open") if j.stat().st_size > 4096]


def pids(folder: Path) -> list[int]:
    return [int(lock.read_text()) for lock in sorted(folder.glob("shard-*/.wld.lock"))]


def test_two_workers_record_all_symbols_into_one_tape_and_a_signal_ends_them_with_0(tmp_path: Path) -> None:
    process = start(tmp_path, "--log-format", "json")
    wait_until(lambda: len(journals(tmp_path)) == 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    tape = wld.open_tape(tmp_path)
    assert set(tape.summary().by_symbol) >= {"WLDUSDT", "BTCUSDT", "ETHUSDT"}
    assert [p.parent.name for p in sorted(tmp_path.glob("*/*.bin"))] == ["shard-1-of-2", "shard-2-of-2"]
    times = [event.receive_time for event in tape]
    assert times == sorted(times)
    lines = [json.loads(line) for line in errors.splitlines()]
    assert {line.get("worker") for line in lines} == {None, "1/2", "2/2"}
    assert sum("stopping 2 workers" in line["message"] for line in lines) == 1


def test_a_worker_that_dies_stops_the_others_which_drain(tmp_path: Path) -> None:
    process = start(tmp_path)
    wait_until(lambda: len(journals(tmp_path)) == 2)
    os.kill(pids(tmp_path)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "worker 1/2 was killed by SIGKILL; stopping the others" in errors
    assert list(tmp_path.glob("shard-2-of-2/*.bin"))
    assert list(tmp_path.glob("shard-1-of-2/*.bin.open"))


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path)
    wait_until(lambda: len(journals(tmp_path)) == 2)
    process.kill()
    process.wait()
    wait_until(lambda: not list(tmp_path.glob("shard-*/*.bin.open")))
    process.communicate(timeout=20)


def test_a_duration_ends_all_with_0(tmp_path: Path) -> None:
    process = start(tmp_path, "--duration", "1s")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_a_wrong_key_is_one_line_and_status_2(tmp_path: Path) -> None:
    process = start(tmp_path, "--set", "sinks.recorder.rotate=5")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert len(errors.strip().splitlines()) == 1


def test_workers_outlive_the_thread_that_started_them(tmp_path: Path) -> None:
    """Trio starts processes from a thread that ends after 10 s without work."""
    process = start(tmp_path, "--duration", "13s")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "SIGTERM" not in errors
    times = [event.receive_time for event in wld.open_tape(tmp_path)]
    assert times[-1] - times[0] > 11e9
