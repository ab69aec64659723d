"""`wld doctor`: what it finds, and that every finding that is not well says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from wld.config import Setting, load
from wld.doctor import Finding, examine
from wld.exchange import ExchangeConfig, serve_exchange


async def findings(folder: Path, url: str = "sim", **keys: str) -> dict[str, Finding]:
    settings = [
        Setting("source.name", url, ""),
        Setting("data_dir", str(folder), ""),
        *(Setting(f"source.{key}", value, "") for key, value in keys.items()),
    ]
    found = await examine(load(None, settings))
    for finding in found:
        assert finding.state in ("ok", "warn", "fail")
        assert finding.state == "ok" or finding.advice, finding
    return {finding.name: finding for finding in found}


async def test_the_venue_is_reached_and_its_clock_compared(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_exchange, ExchangeConfig())
        found = await findings(tmp_path, address.ws_url)
        nursery.cancel_scope.cancel()
    assert found["reachability"].state == "ok"
    assert "WebSocket open in " in found["reachability"].found
    assert found["clock"].state == "ok"
    assert "offset to the venue " in found["clock"].found


async def test_a_clock_that_is_off_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wld.exchange.server._now_ms", lambda: 1_790_000_000_000)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_exchange, ExchangeConfig())
        found = await findings(tmp_path, address.ws_url)
        nursery.cancel_scope.cancel()
    assert found["clock"].state == "warn"
    assert "NTP" in found["clock"].advice


async def test_a_venue_that_is_not_there_fails_with_what_to_do(tmp_path: Path) -> None:
    found = await findings(tmp_path, "ws://127.0.0.1:1/v5/public/linear")
    assert found["reachability"].state == "fail"
    assert "127.0.0.1:1" in found["reachability"].found
    assert "--source sim" in found["reachability"].advice
    assert (found["clock"].state, found["clock"].advice) == ("warn", "see reachability")


async def test_a_server_that_is_no_websocket_fails(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_exchange, ExchangeConfig())
        found = await findings(tmp_path, address.ws_url.replace("linear", "spot"))
        nursery.cancel_scope.cancel()
    assert found["reachability"].state == "fail"


async def test_the_folder_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await findings(tmp_path / "not" / "yet"))["disk"].state == "ok"
    (tmp_path / "file").write_text("")
    assert (await findings(tmp_path / "file" / "x"))["disk"].state == "fail"
    monkeypatch.setattr("wld.doctor.FREE_WARN", 1 << 80)
    assert "free some space" in (await findings(tmp_path))["disk"].advice


@pytest.mark.parametrize(
    ("environment", "size", "state", "advice"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, (120, 40), "ok", ""),
        ({"TERM": "tmux-256color", "TMUX": "/tmp/x"}, (120, 40), "warn", "set -as terminal-features ',*:RGB'"),
        ({"TERM": "xterm-256color"}, (120, 40), "warn", "COLORTERM=truecolor"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, (120, 40), "warn", "set TERM"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, (60, 20), "warn", "at least 80x24"),
    ],
)
async def test_the_terminal_is_judged(
    environment: dict[str, str],
    size: tuple[int, int],
    state: str,
    advice: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal:
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("wld.doctor.sys.stdout", Terminal())
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size(size))
    for name in ("TERM", "TMUX", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = (await findings(tmp_path))["terminal"]
    assert found.state == state
    assert advice in found.advice


def test_the_program_says_a_line_a_finding_and_status_1_where_one_fails(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wld", "--source", "ws://127.0.0.1:1/", "doctor"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["python", "disk", "file", "terminal", "reachability", "clock"]
    assert lines[4].startswith("fail ")
    assert " -> check the network" in lines[4]
    assert list(tmp_path.iterdir()) == []
