"""The examples run as their first lines say."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.pictures import simulated
from wld import Batch, TapeWriter

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_a_chart_of_real_liquidations_against_projected_zones(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    hours = 2.0 if os.environ.get("WLD_PICTURES") else 0.2
    number = 0
    with TapeWriter(tmp_path / "tape", source="sim", clock="recorded") as writer:
        for _, events in islice(simulated(hours, 7, "WLDUSDT"), None):
            if events:
                writer.append(Batch(events, number))
                number += len(events)
    chart = tmp_path / "chart.png"
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "liquidations_and_zones.py"), str(tmp_path / "tape"), "WLDUSDT", str(chart)],
        capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "0 gaps" in done.stdout
    assert chart.read_bytes().startswith(b"\x89PNG")
    if keep := os.environ.get("WLD_PICTURES"):
        (Path(keep) / "liquidations-and-zones.png").write_bytes(chart.read_bytes())
