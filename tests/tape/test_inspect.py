"""What `wld inspect` tells a person and a program."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyte
import pytest

import wld
from tests.exchange.test_serve import recording
from wld.tape import show


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    events = recording(seconds=2)
    when = events[-1].receive_time
    for i, reason in enumerate((wld.GapReason.DISCONNECT, wld.GapReason.SILENCE, wld.GapReason.SILENCE), 1):
        events.append(wld.Gap(i, reason, topic="publicTrade", symbol="AAAUSDT", receive_time=when))
    events.append(wld.Repair(1, 3, 0, receive_time=when))
    with wld.TapeWriter(tmp_path / "tape", source="sim") as writer:
        writer.append(events)
    return tmp_path / "tape"


def told(tape: Path, *, as_json: bool = False, status: int = 0) -> str:
    lines: list[str] = []
    assert show.inspect([str(tape)], as_json=as_json, out=lines.append) == status
    return "\n".join(lines)


def test_a_person_sees_span_kinds_rates_gaps_sizes_and_integrity(tape: Path) -> None:
    text = told(tape)
    summary = wld.open_tape(tape).summary()
    assert "2025-11-24 16:00:00.000Z to 2025-11-24 16:00:01.950Z (1.9 s)" in text
    assert f"{summary.events:,} events, " in text
    assert "bytes an event" in text
    assert "% of plain columns" in text
    assert "recorded by wld" in text
    assert "gaps by reason: 2 silence, 1 disconnect" in text
    assert "1 of them repaired" in text
    assert "intact: every checksum is right" in text
    row = next(line.split() for line in text.splitlines() if line.startswith("AAAUSDT"))
    assert int(row[1]) == summary.by_symbol["AAAUSDT"]["trade"]
    assert "\x1b" not in text  # into a pipe: no colours, no frames
    assert "│" not in text


def test_a_program_gets_the_same_as_json(tape: Path) -> None:
    body = json.loads(told(tape, as_json=True))
    assert body["gap_reasons"] == {"disconnect": 1, "silence": 2}
    assert body["intact"] is True
    assert body["events"] == sum(body["counts"].values())
    assert body["raw_bytes"] > body["bytes"]
    assert body["bytes_per_event"] == body["bytes"] / body["events"]


def test_damage_is_placed_and_what_is_whole_still_counted(tape: Path) -> None:
    (path,) = tape.glob("*.bin")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    text = told(tape, status=1)
    assert "DAMAGED" in text
    assert "damaged in 1 place; what is whole is counted above" in text
    body = json.loads(told(tape, as_json=True, status=1))
    assert body["intact"] is False
    assert body["events"] > 0


def on_a_terminal(columns: int, *arguments: str) -> list[str]:
    """The screen after the program ran on a terminal of that width."""
    parent, child = pty.openpty()
    command = f"stty cols {columns} rows 60; exec {sys.executable} -m wld " + " ".join(arguments)
    environment = {**os.environ, "TERM": "xterm", "LANG": "C.UTF-8"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(["sh", "-c", command], stdin=child, stdout=child, stderr=child, env=environment)
    os.close(child)
    received = b""
    while True:
        try:
            chunk = os.read(parent, 65536)
        except OSError:
            break
        if not chunk:
            break
        received += chunk
    os.close(parent)
    assert process.wait(30) == 0
    screen: Any = pyte.Screen(columns, 60)
    pyte.ByteStream(screen).feed(received)
    return [line.rstrip() for line in screen.display if line.strip()]


@pytest.mark.parametrize("columns", [120, 50])
def test_a_terminal_of_any_width_gets_a_whole_table(tape: Path, columns: int) -> None:
    lines = on_a_terminal(columns, "inspect", str(tape))
    frames = [line for line in lines if line.startswith(("╭", "├", "╰"))]
    assert len(frames) == 3
    assert len({len(line) for line in frames}) == 1
    assert any(line.startswith("│ AAAUSDT") for line in lines)
    assert any("left out for width: " in line for line in lines) == (columns == 50)
    assert lines[-1] == "intact: every checksum is right"
