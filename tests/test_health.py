"""What a supervisor is told of a run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from wld.health import FILE, Health, HealthError, _write, folders, judge, line, read

S = 1_000_000_000
NOW = 1_790_000_000 * S
WELL = Health(
    pid=1, state="running", started_time=NOW - 7_200 * S, written_time=NOW - 3 * S, last_event_time=NOW - S, events=5,
    disk_free=10**12,
)  # fmt: skip


def changed(**fields: object) -> Health:
    return Health(**{**{name: getattr(WELL, name) for name in WELL.__struct_fields__}, **fields})  # type: ignore[arg-type]


def test_a_run_that_is_well_is_one_line() -> None:
    assert judge(WELL, NOW, is_alive=True) == []
    assert line(WELL, NOW) == ("running for 2 h, pid 1, 5 events, last 1 s ago, gaps 0, drops 0, 1000.0 GB free")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"written_time": NOW - 31 * S}, "not heard of for 31 s"),
        ({"last_event_time": NOW - 300 * S}, "no event for 5 min"),
        ({"last_event_time": None}, "no event for 2 h"),
        ({"state": "stopping"}, "stopping"),
        ({"state": "stopped"}, "stopped 3 s ago"),
        ({"state": "failed"}, "failed 3 s ago"),
        ({"disk_free": 5_000_000}, "disk: 5 MB left"),
        ({"sinks": {"recorder": {"error": "no space left"}}}, "sink recorder: no space left"),
    ],
)
def test_what_is_wrong_is_said(fields: dict[str, object], said: str) -> None:
    (wrong,) = judge(changed(**fields), NOW, is_alive=True)
    assert said in wrong


def test_a_process_that_vanished_is_told_from_one_that_stopped() -> None:
    (wrong,) = judge(WELL, NOW, is_alive=False)
    assert "is gone" in wrong


def test_the_last_run_in_a_folder_is_asked_and_of_several_workers_each(tmp_path: Path) -> None:
    assert folders(tmp_path) == [tmp_path]
    workers = [tmp_path / f"shard-{i}-of-2" for i in (1, 2)]
    for age, place in ((30, tmp_path), (20, tmp_path / "shard-1-of-3"), (10, workers[0])):
        place.mkdir(exist_ok=True)
        (place / FILE).write_bytes(b"{}")
        os.utime(place / FILE, ns=(NOW - age * S,) * 2)
    workers[1].mkdir()
    assert folders(tmp_path) == workers


def test_one_worker_of_two_that_is_gone_is_not_well(tmp_path: Path) -> None:
    for i, pid in ((1, os.getpid()), (2, 2**22 + 1)):
        place = tmp_path / f"shard-{i}-of-2"
        place.mkdir()
        now = time.time_ns()
        health = changed(pid=pid, started_time=now, written_time=now, last_event_time=now)
        (place / FILE).write_bytes(msgspec.json.encode(health))
    asked = subprocess.run(
        [sys.executable, "-m", "wld", "health", "--data-dir", str(tmp_path)], capture_output=True, text=True, timeout=30
    )
    assert asked.returncode == 1
    first, second = asked.stdout.splitlines()
    assert first.startswith("shard-1-of-2: running")
    assert "shard-2-of-2: process 4194305 is gone" in second


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff" * 10, b"x" * 2_000_000])
def test_a_file_that_is_none_of_ours_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(HealthError, match="not a health file"):
        read(tmp_path)


def test_a_disk_without_room_for_another_file_takes_what_is_said_in_its_place(tmp_path: Path) -> None:
    _write(tmp_path, Health(1, "running", 5, 6))
    (tmp_path / f"{FILE}.tmp").mkdir()  # as good as a full disk: no temporary file can be made
    sinks = {"recorder": {"error": "No space left on device " * 300}}
    _write(tmp_path, Health(1, "running", 5, 7, sinks=sinks))
    assert (read(tmp_path).written_time, read(tmp_path).sinks) == (7, sinks)
    _write(tmp_path, Health(1, "failed", 5, 8))
    assert read(tmp_path).state == "failed"


def test_a_folder_without_a_recorder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HealthError, match="no recorder has run here"):
        read(tmp_path)


def ask(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wld", "health", "--data-dir", str(folder), *flags],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_a_real_recorder_tells_its_manager_and_whoever_asks(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        environment = {
            **os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000",
        }  # fmt: skip
        environment.pop("WATCHDOG_PID", None)
        process = subprocess.Popen(
            [sys.executable, "-m", "wld", "--sinks", "recorder", "--source", "sim", "--data-dir", str(tmp_path)],
            env=environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            heard = [manager.recv(4096).decode()]
            assert heard[0].startswith("READY=1")
            while not any("WATCHDOG=1" in m for m in heard) or not any("running for" in m for m in heard):
                heard.append(manager.recv(4096).decode())
            assert not any(" 0.0 GB free" in m for m in heard)
            answer = ask(tmp_path)
            assert (answer.returncode, answer.stdout.split()[0]) == (0, "running"), answer
            figures = json.loads(ask(tmp_path, "--json").stdout)
            assert (figures["is_well"], figures["pid"]) == (True, process.pid)
            process.send_signal(signal.SIGTERM)
            while not any("STOPPING=1" in m for m in heard):
                heard.append(manager.recv(4096).decode())
            _, errors = process.communicate(timeout=30)
            assert process.returncode == 0, errors
        finally:
            process.kill()
            process.communicate()
    answer = ask(tmp_path)
    assert answer.returncode == 1
    assert "stopped" in answer.stdout


@pytest.mark.slow
def test_a_killed_recorder_is_not_well(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "wld", "--sinks", "recorder", "--source", "sim", "--data-dir", str(tmp_path)],
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 30
    while not (tmp_path / FILE).exists() and time.monotonic() < end:
        signal.sigtimedwait([], 0.05)
    process.kill()
    process.wait()
    answer = ask(tmp_path)
    assert answer.returncode == 1
    assert "is gone" in answer.stdout


def test_a_run_that_only_draws_writes_no_file(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "wld", "--sinks", "telemetry", "--source", "sim", "--duration", "1s"],
        cwd=tmp_path, capture_output=True, timeout=60, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert list(tmp_path.rglob("*")) == []
