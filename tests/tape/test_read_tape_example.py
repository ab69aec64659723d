"""examples/read_tape.py, written from data/FORMAT.md without wld, agrees with wld."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import wld

from .test_tape import mixed, write

EXAMPLE = Path(__file__).parents[2] / "examples" / "read_tape.py"


@pytest.mark.parametrize("seal", [True, False])
def test_the_independent_reader_agrees(tmp_path: Path, seal: bool) -> None:
    events = mixed(200)
    path = write(tmp_path, events, seal=seal)
    out = subprocess.run([sys.executable, "-I", EXAMPLE, path, "--trades"], capture_output=True, text=True, check=True)
    assert out.stderr == ""
    assert out.stdout.splitlines() == [
        f"{number} {e.event_time} {e.price} {e.size} {e.aggressor_side.value} {e.trade_id}"
        for number, e in enumerate(events)
        if isinstance(e, wld.Trade)
    ]
