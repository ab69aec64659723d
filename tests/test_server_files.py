"""The unit and the Dockerfile say what docs/howto-server.md promises."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "examples" / "systemd" / "wld-recorder.service"
DOCKERFILE = ROOT / "examples" / "docker" / "Dockerfile"


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/wld/bin/wld", sys.executable))
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False)
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert complaints == []


def test_the_unit_is_told_when_it_is_ready_and_watched_and_never_root() -> None:
    keys = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#")
    assert (keys["Type"], keys["DynamicUser"], keys["RestartPreventExitStatus"]) == ("notify", "yes", "2")
    assert int(keys["WatchdogSec"]) > 0
    assert (keys["ProtectSystem"], keys["NoNewPrivileges"]) == ("strict", "yes")


def test_the_container_is_not_root_and_writes_its_volume_only() -> None:
    text = DOCKERFILE.read_text()
    steps = [line.split(None, 1) for line in re.sub(r"\\\n\s*", " ", text).splitlines() if line and line[0] not in "# "]
    last = dict(steps)
    assert last["USER"].isdigit()
    assert int(last["USER"]) > 0
    assert (last["VOLUME"], last["STOPSIGNAL"]) == ("/tapes", "SIGTERM")
    assert '"health"' in last["HEALTHCHECK"]
    assert "--read-only" in text
    assert not [rest for name, rest in steps if name == "ADD"]
    assert {rest.split()[0] for name, rest in steps if name == "FROM"} == {"${BASE}"}
    base = dict(rest.split("=", 1) for name, rest in steps if name == "ARG")["BASE"]
    assert ":" in base
    assert ":latest" not in base
    for name, rest in steps:
        if name == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
